"""Scores of a network in training on the held-out frames, detected by `Detector` as in use."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np

from dimpoint.inference.detector import Detector
from dimpoint.metrics.components import Components, above
from dimpoint.metrics.curves import curve_of_points
from dimpoint.metrics.pixel import PixelCounts, count_mask_pixels
from dimpoint.metrics.points import PointCounts, PointSweep, ScoredFrame, match_points, spared, sweep
from dimpoint.training.frames import LabelledFrame
from dimpoint.training.recipe import Recipe

LOWEST_THRESHOLD = 0.05  # detections above this are kept; the best threshold is chosen among them

LABELS = {"f1": "F1", "iou": "IoU", "false_per_frame": "false objects a frame"}


class Scores(Protocol):
    """Collects frames and returns their scores by name.

    Attributes
    ----------
    monitor : str
        The score that selects the best checkpoint.
    """

    monitor: str

    def add(self, detector: Detector, frame: LabelledFrame) -> None: ...

    def values(self) -> dict[str, float]: ...


def scores_for(recipe: Recipe) -> Scores:
    """The scores that fit a recipe: `MaskScores`, `PointScores`, or `FalseObjects` in a refit."""
    if recipe.refit:
        return FalseObjects(recipe.decode.threshold)
    if recipe.target.kind == "mask":
        return MaskScores(recipe.decode.threshold, "f1" if recipe.grows else "iou")
    return PointScores(recipe)


def monitored(recipe: Recipe) -> str:
    """Name of the score that selects the best checkpoint: `iou`, `f1`, or `false_per_frame` in a refit."""
    return scores_for(recipe).monitor


def validation_threshold(recipe: Recipe) -> float:
    """The detection threshold used in validation."""
    return LOWEST_THRESHOLD if chooses_threshold(recipe) else recipe.decode.threshold


def chooses_threshold(recipe: Recipe) -> bool:
    """Whether each validation gives the score at the threshold that is best for it; see `PointScores`."""
    return isinstance(scores_for(recipe), PointScores)


class PointScores:
    """F1, precision, recall and localisation error by the protocol `spire`, at the threshold of the best F1.

    Parameters
    ----------
    recipe : Recipe
        Its threshold is used where nothing is found.
    """

    monitor = "f1"

    def __init__(self, recipe: Recipe) -> None:
        self._threshold = recipe.decode.threshold
        self._scored: list[ScoredFrame] = []
        self._pixels = 0

    def add(self, detector: Detector, frame: LabelledFrame) -> None:
        scored, (height, width) = detect_in(frame, detector)
        self._scored.append(scored)
        self._pixels += height * width

    def values(self) -> dict[str, float]:
        curve = sweep(self._scored, pixels=self._pixels)
        if not len(curve.thresholds):
            return {"f1": 0.0, "threshold": self._threshold}
        best = curve.best()
        threshold = threshold_at(curve, best, "pd")
        return {
            "f1": float(curve.f1[best]),
            "precision": float(curve.precision[best]),
            "recall": float(curve.recall[best]),
            "false_per_frame": float(curve.false_per_frame[best]),
            "threshold": threshold,
            "distance": self._distance(threshold),
        }

    def _distance(self, threshold: float) -> float:
        """Mean localisation error of the matched targets, pixels."""
        distances = []
        for frame in self._scored:
            scores = np.asarray(frame.scores)
            kept = scores > threshold
            distances.append(
                match_points(np.asarray(frame.pred_xy)[kept], scores[kept], frame.truth_xy).distances
            )
        every = np.concatenate(distances)
        return float(every.mean()) if len(every) else float("nan")


class MaskScores:
    """IoU and nIoU of pixels, and F1, precision and recall of objects by the protocol `spire`.

    Parameters
    ----------
    threshold : float
        Of the probability map, 0..1.
    monitor : {"iou", "f1"}
        `f1` where the frames have points only. Default: `iou`.
    """

    def __init__(self, threshold: float, monitor: str = "iou") -> None:
        self.monitor = monitor
        self._threshold = threshold
        self._pixels: list[PixelCounts] = []
        self._points: list[PointCounts] = []

    def add(self, detector: Detector, frame: LabelledFrame) -> None:
        found = above(detector.probability_map(frame.counts(), frame.valid), self._threshold)
        if frame.mask is not None:
            self._pixels.append(count_mask_pixels(found, frame.mask))
        objects = Components.of(found)
        centroids = objects.centroids[~spared(objects.centroids, frame.points, frame.sample.ignore)]
        match = match_points(centroids, np.ones(len(centroids)), frame.points)
        self._points.append(PointCounts.of_frame(match, found.shape))

    def values(self) -> dict[str, float]:
        points = PointCounts.total(self._points)
        values: dict[str, float] = {}
        if self._pixels:
            pixels = PixelCounts.total(self._pixels)
            values = {"iou": pixels.iou, "niou": pixels.niou}
        values |= {
            "f1": points.f1,
            "precision": points.precision,
            "recall": points.recall,
            "threshold": self._threshold,
        }
        # Ratios are undefined where nothing is found in frames without targets; the run must continue.
        return {name: float(value) if value == value else 0.0 for name, value in values.items()}


class FalseObjects:
    """False objects per held-out frame without targets: all that a refit can measure.

    Parameters
    ----------
    threshold : float
        Detection threshold, 0..1.
    """

    monitor = "false_per_frame"

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._found: list[int] = []

    def add(self, detector: Detector, frame: LabelledFrame) -> None:
        found = detector(frame.counts(), frame.valid)
        left_out = spared(found.xy, frame.points, frame.sample.ignore)
        self._found.append(int((~left_out).sum()))

    def values(self) -> dict[str, float]:
        return {"false_per_frame": float(np.mean(self._found)), "threshold": self._threshold}


def detect_in(frame: LabelledFrame, detector: Detector) -> tuple[ScoredFrame, tuple[int, int]]:
    """Detections in a frame with its targets, without those in ignore regions; and its height and width."""
    counts = frame.counts()
    found = detector(counts, frame.valid)
    counted = ~spared(found.xy, frame.points, frame.sample.ignore)
    scored = ScoredFrame(found.xy[counted], found.scores[counted], frame.points)
    return scored, (counts.shape[0], counts.shape[1])


def threshold_at(sweep: PointSweep, row: int, goal: Literal["f1", "pd"] = "f1") -> float:
    """A threshold with few digits that gives the counts of row `row` of a sweep above `LOWEST_THRESHOLD`.

    goal: `f1`, midway between the scores that it separates; `pd`, close below the lowest score that it keeps.
    """
    return curve_of_points(sweep, LOWEST_THRESHOLD).threshold(row + 1, goal)


def describe(values: dict[str, float], *, refit: bool = False) -> str:
    """Validation scores as text.

    Examples
    --------
    >>> describe({"f1": 0.912, "threshold": 0.41})
    'best validation F1 0.9120 at threshold 0.410'
    """
    if not values:
        return "refit, nothing held out" if refit else "not validated yet, threshold of the recipe"
    if "f1" not in values:
        return f"refit, {values['false_per_frame']:.2f} false objects for each held-out frame without targets"
    name = "iou" if "iou" in values else "f1"
    return f"best validation {LABELS[name]} {values[name]:.4f} at threshold {values['threshold']:.3f}"
