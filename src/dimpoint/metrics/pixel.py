"""Pixel metrics: IoU, nIoU, precision, recall and F1; ROC and PR curves; the errors of hIoU.

IoU, precision, recall and F1 pool the pixels of all frames. nIoU is the mean of the frames' own IoU; frames
with neither truth nor prediction have no IoU and are left out. A pixel is predicted if its probability is
above the threshold.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.metrics.components import (
    Components,
    Map,
    Mask,
    above,
    centroid_distances,
    check_pair,
    check_threshold,
)
from dimpoint.metrics.counts import Counts, ratio, ratios
from dimpoint.metrics.exact.levels import LIMIT, LevelSums, rising
from dimpoint.metrics.protocols import NEAR, OVERLAP, opdc_match, overlaps

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PixelCounts(Counts):
    """Pixel counts over some frames at one threshold; they add up with `+`.

    Ratios are properties; a ratio whose denominator is 0 is NaN.

    Parameters
    ----------
    tp, fp, fn, pixels : int
        True-positive, false-positive, false-negative and all pixels.
    frames : int
        Evaluated frames.
    iou_sum : float
        Sum of the frames' own IoU.
    iou_frames : int
        Frames that have an IoU.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    pixels: int = 0
    frames: int = 0
    iou_sum: float = 0.0
    iou_frames: int = 0

    @property
    def iou(self) -> float:
        """Intersection over union of all pixels."""
        return ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def niou(self) -> float:
        """Mean IoU of the frames."""
        return ratio(self.iou_sum, self.iou_frames)

    @property
    def precision(self) -> float:
        """True pixels / predicted pixels."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Predicted true pixels / true pixels."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    def to_dict(self) -> dict[str, float]:
        """Counts and ratios by name."""
        names = ("tp", "fp", "fn", "pixels", "frames", "iou", "niou", "precision", "recall", "f1")
        return {name: getattr(self, name) for name in names}


def count_pixels(prob: npt.NDArray[Any], mask: npt.NDArray[Any], threshold: float = 0.5) -> PixelCounts:
    """Count the pixels of one frame.

    Parameters
    ----------
    prob : (H, W) float
        Probability map, 0..1.
    mask : (H, W) bool or uint8
        True pixels; uint8 counts above 127.
    threshold : float, default 0.5
        Pixels above it are predicted.

    Raises
    ------
    DataError
        For another shape or type, NaN, or values outside 0..1.

    Examples
    --------
    >>> import numpy as np
    >>> from dimpoint.metrics.pixel import count_pixels
    >>> counts = count_pixels(np.array([[0.9, 0.8], [0.1, 0.2]]), np.array([[True, False], [True, False]]))
    >>> counts.tp, counts.fp, counts.fn, round(counts.iou, 3)
    (1, 1, 1, 0.333)
    """
    values, truth = check_pair(prob, mask)
    return count_mask_pixels(above(values, check_threshold(threshold)), truth)


def count_mask_pixels(pred: Mask, truth: Mask) -> PixelCounts:
    """The counts of one frame from its predicted and true masks, (H, W) bool."""
    tp = int(np.count_nonzero(pred & truth))
    predicted, true = int(np.count_nonzero(pred)), int(np.count_nonzero(truth))
    union = predicted + true - tp
    return PixelCounts(
        tp=tp,
        fp=predicted - tp,
        fn=true - tp,
        pixels=truth.size,
        frames=1,
        iou_sum=tp / union if union else 0.0,
        iou_frames=int(union > 0),
    )


@dataclass(frozen=True, eq=False)
class PixelCurve:
    """Pixel counts at every distinct score, highest first.

    Parameters
    ----------
    thresholds : (K,) float64
        Scores, falling to 0. The counts at index k hold for thresholds[k] <= t < thresholds[k - 1].
    tp, fp : (K,) int64
        Pixels.
    iou_sum : (K,) float64
        Sum of the frames' own IoU.
    iou_frames : (K,) int64
        Frames that have an IoU.
    true, pixels : int
        True pixels and all pixels.
    exact : bool, default True
        False if scores were rounded up to multiples of 2**-18 to bound the memory.
    """

    thresholds: Floats
    tp: Ints
    fp: Ints
    iou_sum: Floats
    iou_frames: Ints
    true: int
    pixels: int
    exact: bool = True

    def at(self, thresholds: npt.ArrayLike) -> PixelCurve:
        """The same counts at other thresholds, 0 to 1."""
        wanted = np.asarray(thresholds, np.float64)
        index = np.searchsorted(-self.thresholds, -wanted, side="left")
        names = ("tp", "fp", "iou_sum", "iou_frames")
        return replace(self, thresholds=wanted, **{name: getattr(self, name)[index] for name in names})

    @property
    def iou(self) -> Floats:
        return ratios(self.tp, self.true + self.fp)

    @property
    def niou(self) -> Floats:
        return ratios(self.iou_sum, self.iou_frames)

    @property
    def precision(self) -> Floats:
        return ratios(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> Floats:
        """Fraction of the true pixels that is predicted (true-positive rate)."""
        return ratios(self.tp, self.true)

    @property
    def fpr(self) -> Floats:
        """Fraction of the background pixels that is predicted (false-positive rate)."""
        return ratios(self.fp, self.pixels - self.true)

    @property
    def f1(self) -> Floats:
        return ratios(2 * self.tp, self.tp + self.fp + self.true)

    @property
    def roc_area(self) -> float:
        """Area under recall over false-positive rate (trapezoids), up to "all pixels predicted"."""
        recall, fpr = np.append(self.recall, 1), np.append(self.fpr, 1)
        return float((np.diff(fpr) * (recall[1:] + recall[:-1])).sum() / 2)

    @property
    def pr_area(self) -> float:
        """Average precision without interpolation, up to "all pixels predicted"."""
        tp, predicted = np.append(self.tp, self.true), np.append(self.tp + self.fp, self.pixels)
        steps = np.diff(tp, prepend=0)
        found = np.flatnonzero(steps)
        return ratio(float((steps[found] * tp[found] / predicted[found]).sum()), self.true)


class PixelCurveSums:
    """Accumulates a `PixelCurve` frame by frame."""

    def __init__(self, limit: int | None = LIMIT) -> None:
        self.counts = LevelSums(2, limit=limit)  # tp, fp
        self.images = LevelSums(1, np.float64, limit)  # sum of the frames' IoU
        self.only_predicted = LevelSums(1, limit=limit)  # frames with predictions but no truth
        self.true_frames = 0
        self.true = 0
        self.pixels = 0

    def add(self, prob: Map, mask: Mask) -> None:
        true = int(np.count_nonzero(mask))
        active = np.flatnonzero(prob > 0)
        level, hit = prob.ravel()[active], mask.ravel()[active]
        order = rising(level)
        level, hit = level[order], hit[order].astype(np.int64)
        self.counts.add(level, np.stack([hit, 1 - hit]))
        if true:
            tp = np.cumsum(hit[::-1])
            iou = tp / (true + np.arange(1, len(tp) + 1) - tp)
            self.images.add(level[::-1], np.diff(iou, prepend=0.0)[None])
        else:
            self.only_predicted.add(level[-1:], np.ones((1, len(level[-1:])), np.int64))
        self.true_frames += int(true > 0)
        self.true += true
        self.pixels += mask.size

    def merge(self, other: PixelCurveSums) -> None:
        self.counts.merge(other.counts)
        self.images.merge(other.images)
        self.only_predicted.merge(other.only_predicted)
        self.true_frames += other.true_frames
        self.true += other.true
        self.pixels += other.pixels

    def curve(self) -> PixelCurve:
        thresholds, (tp, fp) = self.counts.steps()
        (iou_sum,), (only_predicted,) = (
            sums.at_rising(thresholds) for sums in (self.images, self.only_predicted)
        )
        return PixelCurve(
            thresholds=thresholds[::-1],
            tp=tp[::-1],
            fp=fp[::-1],
            iou_sum=iou_sum[::-1],
            iou_frames=self.true_frames + only_predicted[::-1],
            true=self.true,
            pixels=self.pixels,
            exact=all(sums.exact for sums in (self.counts, self.images, self.only_predicted)),
        )


def pixel_curve(
    frames: Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any]]], limit: int | None = None
) -> PixelCurve:
    """Pixel counts of frames at every distinct score.

    Parameters
    ----------
    frames : iterable of (prob, mask)
        Maps (H, W), 0..1, with masks, as `count_pixels` takes them; sizes may differ.
    limit : int, optional
        Distinct scores that are kept exactly; all if left out (`LevelSums`).

    Raises
    ------
    DataError
        For a bad frame, with its number.

    Examples
    --------
    >>> import numpy as np
    >>> from dimpoint.metrics.pixel import pixel_curve
    >>> curve = pixel_curve([(np.array([[0.9, 0.4]]), np.array([[True, False]]))])
    >>> curve.thresholds.tolist(), curve.tp.tolist(), curve.fp.tolist(), curve.pr_area
    ([0.9, 0.4, 0.0], [0, 1, 1], [0, 0, 1], 1.0)
    """
    sums = PixelCurveSums(limit)
    for index, (prob, mask) in enumerate(frames):
        sums.add(*check_pair(prob, mask, f"frame {index}"))
    return sums.curve()


@dataclass(frozen=True, eq=False)
class ErrorCounts(Counts):
    """Counts of protocol `opdc` for hIoU and its error split, over some frames.

    tp, fp, fn: objects. The four sums: fractions of the unions of the matched pairs. The last four: objects.
    Definitions: Pang et al., NeurIPS 2025, arXiv 2509.16888.
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
        """seg_iou times loc_iou; 0 if there are objects but no matches, NaN without objects."""
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
        """hIoU, its two factors and their errors by name."""
        seg = ("seg_iou", "seg_merging", "seg_interference", "seg_perception")
        loc = ("loc_single_to_multiple", "loc_multiple_to_single", "loc_interference", "loc_perception")
        return {name: getattr(self, name) for name in ("hiou", *seg, "loc_iou", *loc)}


def count_errors(prob: npt.NDArray[Any], mask: npt.NDArray[Any], threshold: float = 0.5) -> ErrorCounts:
    """The counts of one frame, from a probability map and a mask (H, W); DataError as `check_pair`."""
    values, truth = check_pair(prob, mask)
    found = above(values, check_threshold(threshold))
    return count_component_errors(Components.of(found), Components.of(truth))


def count_component_errors(pred: Components, truth: Components, shared: Ints | None = None) -> ErrorCounts:
    """The counts of one frame, from its objects; shared: their `overlaps`, if known."""
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
