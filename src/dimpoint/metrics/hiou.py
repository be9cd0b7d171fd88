"""hIoU and where it is lost: the error split of the `opdc` protocol.

hIoU = segmentation IoU (mean IoU of the matched pairs) times localisation IoU, tp / (tp + fp + fn). Each
factor falls short of 1 by three or four kinds of error, which add up to 1 with it.

Segmentation, per matched pair, parts of the union: `merging`, predicted pixels on other targets;
`interference`, predicted pixels on background; `perception`, true pixels that are not predicted.

Localisation, parts of tp + fp + fn. A pair fits if its IoU is >= 0.5 or its centroids are nearer than 3 px.
`interference`: predicted objects that fit no target. `perception`: targets that fit no predicted object.
`multiple_to_single`: further predicted objects that fit, but whose target was taken. `single_to_multiple`:
further targets that fit, but whose predicted object was taken.

After Pang et al., "Rethinking Evaluation of Infrared Small Target Detection", NeurIPS 2025, arXiv 2509.16888,
and their package PyIRSTDMetrics, which adds a phantom object on a frame with an empty side. We do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from dimpoint.metrics.components import Components, centroid_distances
from dimpoint.metrics.counts import Counts, ratio
from dimpoint.metrics.inputs import above, check_pair, check_threshold
from dimpoint.metrics.protocols import NEAR, OVERLAP, opdc_match, overlaps


@dataclass(frozen=True, eq=False)
class ErrorCounts(Counts):
    """What `opdc` matches and misses over some frames.

    tp, fp, fn: objects. *_sum: over the matched pairs, of parts of their unions. The other four: objects.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    iou_sum: float = 0.0
    merging_sum: float = 0.0
    interference_sum: float = 0.0
    perception_sum: float = 0.0
    single_to_multiple: int = 0
    multiple_to_single: int = 0
    interference: int = 0
    perception: int = 0

    @property
    def hiou(self) -> float:
        """seg_iou times loc_iou; 0 if nothing matches but there is something, NaN if there is nothing."""
        return ratio(self.iou_sum, self._objects)

    @property
    def seg_iou(self) -> float:
        return ratio(self.iou_sum, self.tp)

    @property
    def seg_merging(self) -> float:
        return ratio(self.merging_sum, self.tp)

    @property
    def seg_interference(self) -> float:
        return ratio(self.interference_sum, self.tp)

    @property
    def seg_perception(self) -> float:
        return ratio(self.perception_sum, self.tp)

    @property
    def loc_iou(self) -> float:
        return ratio(self.tp, self._objects)

    @property
    def loc_single_to_multiple(self) -> float:
        return ratio(self.single_to_multiple, self._objects)

    @property
    def loc_multiple_to_single(self) -> float:
        return ratio(self.multiple_to_single, self._objects)

    @property
    def loc_interference(self) -> float:
        return ratio(self.interference, self._objects)

    @property
    def loc_perception(self) -> float:
        return ratio(self.perception, self._objects)

    @property
    def _objects(self) -> int:
        return self.tp + self.fp + self.fn

    def to_dict(self) -> dict[str, float]:
        """hIoU, its two factors and their errors by name, for tables and JSON."""
        seg = ("seg_iou", "seg_merging", "seg_interference", "seg_perception")
        loc = ("loc_single_to_multiple", "loc_multiple_to_single", "loc_interference", "loc_perception")
        return {name: getattr(self, name) for name in ("hiou", *seg, "loc_iou", *loc)}


def count_errors(prob: npt.NDArray[Any], mask: npt.NDArray[Any], threshold: float = 0.5) -> ErrorCounts:
    """The counts of one frame: probability map and mask (H, W). Raises DataError as `check_pair` does."""
    values, truth = check_pair(prob, mask)
    found = above(values, check_threshold(threshold))
    return count_component_errors(Components.of(found), Components.of(truth))


def count_component_errors(pred: Components, truth: Components) -> ErrorCounts:
    """The counts of one frame, from its predicted and true objects."""
    shared = overlaps(pred, truth)
    union = truth.areas[:, None] + pred.areas - shared
    distance = centroid_distances(truth, pred)
    fits = (shared / union >= OVERLAP) | (distance < NEAR)
    found, target = opdc_match(distance, shared / union).pairs.T
    whole, both = union[target, found], shared[target, found]
    on_targets = shared.sum(axis=0)[found]
    unmatched_pred, unmatched_truth = len(pred) - len(found), len(truth) - len(target)
    interference = int((~fits.any(axis=0)).sum())
    perception = int((~fits.any(axis=1)).sum())
    return ErrorCounts(
        tp=len(found),
        fp=unmatched_pred,
        fn=unmatched_truth,
        iou_sum=float((both / whole).sum()),
        merging_sum=float(((on_targets - both) / whole).sum()),
        interference_sum=float(((pred.areas[found] - on_targets) / whole).sum()),
        perception_sum=float(((truth.areas[target] - both) / whole).sum()),
        single_to_multiple=unmatched_truth - perception,
        multiple_to_single=unmatched_pred - interference,
        interference=interference,
        perception=perception,
    )
