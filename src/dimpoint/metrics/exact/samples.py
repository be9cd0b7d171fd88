"""hIoU and its error split under the `opdc` protocol.

hIoU = segmentation IoU (mean IoU of the matched pairs) times localisation IoU, tp / (tp + fp + fn). Each
factor falls short of 1 by three or four kinds of error, which add up to 1 with it.

Segmentation, per matched pair, parts of the union: `merging`, predicted pixels on other targets;
`interference`, predicted pixels on background; `perception`, true pixels that are not predicted.

Localisation, parts of tp + fp + fn. A pair fits if its IoU is >= 0.5 or its centroids are nearer than 3 px.
`interference`: predicted objects that fit no target. `perception`: targets that fit no predicted object.
`multiple_to_single`: further predicted objects that fit, but whose target was taken. `single_to_multiple`:
further targets that fit, but whose predicted object was taken.

After Pang et al., "Rethinking Evaluation of Infrared Small Target Detection", NeurIPS 2025, arXiv 2509.16888,
and their package PyIRSTDMetrics, which adds a phantom object on a frame with an empty side; dimpoint does
not.

Bootstrap intervals of HSE use its integrand per frame, sampled at 100 thresholds: the exact integral over all
scores of all frames cannot be repeated for thousands of draws. Their interval is shifted by the difference
between the mean over these thresholds and the exact value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.errors import DataError
from dimpoint.metrics.bootstrap import Difference, Interval, bootstrap
from dimpoint.metrics.components import (
    Components,
    Ints,
    above,
    centroid_distances,
    check_pair,
    check_threshold,
)
from dimpoint.metrics.curves import Batch
from dimpoint.metrics.exact.component_tree import NEVER
from dimpoint.metrics.hse import Hse, HseConfig
from dimpoint.metrics.points import Counts, ratio, ratios
from dimpoint.metrics.protocols import NEAR, OVERLAP, opdc_match, overlaps


@dataclass(frozen=True, eq=False)
class ErrorCounts(Counts):
    """Counts of `opdc` over some frames.

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


def count_component_errors(pred: Components, truth: Components, shared: Ints | None = None) -> ErrorCounts:
    """The counts of one frame, from its predicted and true objects. shared: their `overlaps`, if known."""
    shared = overlaps(pred, truth) if shared is None else shared
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


Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[Any]

LEVELS = (np.arange(100) + 0.5) / 100  # the sampled thresholds


class HseSamples:
    """Samples of F frames, about 4 KB each, in the order in which the frames came in."""

    def __init__(self, config: HseConfig) -> None:
        self.config = config
        self._tables: list[npt.NDArray[np.float32]] = []  # (frames, 5 + radii, levels) each
        self._true: list[Numbers] = []  # (frames, 2) true pixels and targets each

    def add(self, batch: Batch) -> None:
        count = len(batch.probs)
        true = np.array([np.count_nonzero(mask) for mask in batch.masks])
        targets = np.bincount(batch.targets.frame, minlength=count)
        tp, predicted, objects = _pixels_and_objects(batch)
        union = true[:, None] + predicted - tp
        iou = np.divide(tp, union, out=np.zeros_like(tp), where=union > 0)
        found = [_found(batch, radius) for radius in self.config.radii]
        rows = [tp, predicted - tp, iou, union > 0, objects, *found]
        self._tables.append(np.stack(rows, axis=1).astype(np.float32))
        self._true.append(np.stack([true, targets], axis=1))

    def merge(self, other: HseSamples) -> None:
        self._tables += other._tables
        self._true += other._true

    def ordered(self, order: Sequence[int]) -> HseSamples:
        """The same frames in another order."""
        result = HseSamples(self.config)
        if not self._tables:
            return result
        place = np.argsort(order)
        table = np.empty((len(order), *self._tables[0].shape[1:]), np.float32)
        start = 0
        for part in self._tables:  # one copy, not two: this is what takes memory with many frames
            table[place[start : start + len(part)]] = part
            start += len(part)
        result._tables = [table]
        result._true = [np.concatenate(self._true)[list(order)]]
        return result

    def __len__(self) -> int:
        return sum(len(table) for table in self._tables)

    def number(self, weights: Floats) -> Floats:
        """HSE, sampled, of weighted frames: weights (R, F) give (R,)."""
        table = np.concatenate(self._tables)
        true, targets = (weights @ np.concatenate(self._true)).T[:, :, None]
        sums = [weights @ table[:, row].astype(np.float64) for row in range(table.shape[1])]
        tp, fp, iou_sum, iou_frames, objects, *found = sums
        config = self.config
        iou, niou = ratios(tp, fp + true), ratios(iou_sum, iou_frames)
        pixel = config.iou_weight * iou + (1 - config.iou_weight) * niou
        target = np.mean([ratios(2 * hits, objects + targets) for hits in found], axis=0)
        mean: Floats = (config.pixel_weight * pixel + (1 - config.pixel_weight) * target).mean(axis=1)
        return mean

    def interval(self, exact: Hse, **options: Any) -> Interval:
        """The interval of `exact`, the HSE of the same frames; options as `bootstrap` has them."""
        drawn = bootstrap(len(self), self.number, **options)
        shift = exact.hse - drawn.value
        return Interval(exact.hse, drawn.low + shift, drawn.high + shift)

    def difference(self, other: HseSamples, exact: Hse, other_exact: Hse, **options: Any) -> Difference:
        """The paired difference of HSE to another method on the same frames in the same order.

        Raises DataError if the numbers of frames differ.
        """
        if len(self) != len(other):
            raise DataError(f"{len(self)} frames against {len(other)}; a comparison needs the same frames")
        drawn = bootstrap(len(self), lambda weights: self.number(weights) - other.number(weights), **options)
        value = exact.hse - other_exact.hse
        return Difference(value, drawn.low + value - drawn.value, drawn.high + value - drawn.value)


def _pixels_and_objects(batch: Batch) -> tuple[Floats, Floats, Floats]:
    """True pixels found, pixels predicted, objects: each (frames, levels)."""
    tree, count = batch.tree, len(batch.probs)
    hit = np.concatenate([mask.ravel() for mask in batch.masks])[tree.cell]
    summit = tree.hill == np.arange(len(tree.hill))
    merges = tree.when[tree.when != NEVER]
    tp = _steps(count, tree.frame, tree.level, hit)
    predicted = _steps(count, tree.frame, tree.level, np.ones(len(hit)))
    objects = _steps(count, tree.frame, tree.level, summit)
    objects -= _steps(count, tree.frame[merges], tree.level[merges], np.ones(len(merges)))
    return tp, predicted, objects


def _found(batch: Batch, radius: float) -> Floats:
    levels, weights, target = batch.found(radius)
    return _steps(len(batch.probs), batch.targets.frame[target], levels, weights)


def _steps(frames: int, frame: Numbers, level: Numbers, weight: Numbers) -> Floats:
    """(frames, levels): the sum of the weights of each frame's entries above each sampled threshold."""
    above = np.searchsorted(LEVELS, level, side="left")  # how many of the thresholds lie below
    place = frame.astype(np.int64) * (len(LEVELS) + 1) + above
    sums = np.bincount(place, weight, frames * (len(LEVELS) + 1)).reshape(frames, -1).astype(np.float64)
    return np.cumsum(sums[:, :0:-1], axis=1)[:, ::-1]
