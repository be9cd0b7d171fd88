"""Protocol `spire` for points: one-to-one nearest matching within a radius, counts, threshold sweeps.

SPIRE (arXiv 2604.05363) specifies a "ground-truth-driven one-to-one nearest match within 5 px". Here the
true points are processed in the given order; each takes the nearest free prediction whose Euclidean distance
is at most the radius (exactly 5 px counts). Of two equally near predictions the one with the higher score is
taken, then the first one. The remaining predictions are false objects, the remaining true points misses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from dimpoint.errors import DataError
from dimpoint.metrics.counts import Counts, ratio, ratios

RADIUS = 5.0  # pixels; largest distance of a match

_Float = npt.NDArray[np.float64]
_Int = npt.NDArray[np.int64]
Measure = Callable[[_Int, _Int], _Float]


@dataclass(frozen=True, eq=False)
class PointMatch:
    """Matches between the predictions and targets of one frame.

    Parameters
    ----------
    pairs : (K, 2) int64
        Index of the prediction and of the true point, in the order of the true points.
    distances : (K,) float64
        Distance of each pair, pixels.
    false : (F,) int64
        Indices of predictions without a target.
    missed : (M,) int64
        Indices of true points without a prediction.
    """

    pairs: _Int
    distances: _Float
    false: _Int
    missed: _Int


def match_points(
    pred_xy: npt.ArrayLike,
    pred_scores: npt.ArrayLike,
    truth_xy: npt.ArrayLike,
    radius: float = RADIUS,
    measure: Measure | None = None,
) -> PointMatch:
    """Match predicted with true points of one frame; either may be empty.

    Parameters
    ----------
    pred_xy : (N, 2) array
        x, y of the predictions, pixels.
    pred_scores : (N,) array
        Their scores.
    truth_xy : (T, 2) array
        x, y of the targets, pixels.
    radius : float, default 5
        Largest distance of a match, pixels.
    measure : callable, optional
        Distances of pairs, given the indices of their targets and predictions. Default: from the points.

    Raises
    ------
    DataError
        If a shape is wrong or a value is not finite.

    Examples
    --------
    >>> from dimpoint.metrics.points import match_points
    >>> match = match_points([[10, 10], [50, 50]], [0.9, 0.8], [[12, 10]])
    >>> match.pairs.tolist(), match.distances.tolist(), match.false.tolist()
    ([[0, 0]], [2.0], [1])
    """
    pred, scores, truth = _checked(pred_xy, pred_scores, truth_xy)
    taken: set[int] = set()
    found: dict[int, tuple[int, float]] = {}
    for target, prediction, distance in zip(*_candidates(pred, scores, truth, radius, measure), strict=True):
        if target not in found and prediction not in taken:
            found[target] = (prediction, distance)
            taken.add(prediction)
    pairs = np.array([(found[target][0], target) for target in found], np.int64).reshape(-1, 2)
    return PointMatch(
        pairs=pairs,
        distances=np.array([distance for _, distance in found.values()], np.float64),
        false=np.setdiff1d(np.arange(len(pred)), pairs[:, 0]),
        missed=np.setdiff1d(np.arange(len(truth)), pairs[:, 1]),
    )


def spared(pred_xy: npt.ArrayLike, truth_xy: npt.ArrayLike, ignore: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which predictions, (N,) bool, are not counted: those in an ignore region and near no target.

    Parameters
    ----------
    pred_xy : (N, 2) array
        x, y of the predictions, pixels.
    truth_xy : (T, 2) array
        x, y of the targets, pixels.
    ignore : (M, 4) array
        Left, top, right, bottom of the ignore regions, border included.
    """
    here = np.asarray(pred_xy, np.float64).reshape(-1, 1, 2)
    truth = np.asarray(truth_xy, np.float64).reshape(-1, 2)
    regions = np.asarray(ignore, np.float64).reshape(-1, 4)
    inside = np.asarray(((here >= regions[:, :2]) & (here <= regions[:, 2:])).all(axis=2))
    near = np.asarray(np.hypot(*np.moveaxis(here - truth, 2, 0)) <= RADIUS)
    return np.asarray(inside.any(axis=1) & ~near.any(axis=1), np.bool_)


@dataclass(frozen=True, eq=False)
class PointCounts(Counts):
    """Counts of matched, false and missed objects over some frames; they add up with `+`.

    Ratios are properties; a ratio whose denominator is 0 is NaN.

    Parameters
    ----------
    tp, fp, fn : int
        Matched, false and missed objects.
    frames, pixels : int
        Evaluated frames and pixels.
    distance_sum : float
        Sum of the distances, pixels.
    distances : (tp,) float64
        Distance of each matched prediction from its target, pixels.

    Examples
    --------
    >>> from dimpoint.metrics.points import PointCounts
    >>> counts = PointCounts(tp=3, fp=1, frames=2) + PointCounts(fn=1, frames=1)
    >>> counts.precision, counts.recall, counts.false_per_frame
    (0.75, 0.75, 0.3333333333333333)
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    frames: int = 0
    pixels: int = 0
    distance_sum: float = 0.0
    distances: _Float = field(default_factory=lambda: np.empty(0))

    @classmethod
    def of_frame(cls, match: PointMatch, shape: tuple[int, int]) -> PointCounts:
        """The counts of one frame of `shape` (height, width)."""
        return cls(
            tp=len(match.pairs),
            fp=len(match.false),
            fn=len(match.missed),
            frames=1,
            pixels=shape[0] * shape[1],
            distance_sum=float(match.distances.sum()),
            distances=match.distances,
        )

    @property
    def precision(self) -> float:
        """Matched predictions / all predictions."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Found targets / all targets, also called Pd."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def fa_objects(self) -> float:
        """False objects per pixel."""
        return ratio(self.fp, self.pixels)

    @property
    def fa_objects_e6(self) -> float:
        """False objects per million pixels."""
        return 1e6 * self.fa_objects

    @property
    def false_per_frame(self) -> float:
        """False objects per frame."""
        return ratio(self.fp, self.frames)

    @property
    def distance_mean(self) -> float:
        """Mean localisation error of the matched objects, pixels."""
        return ratio(self.distance_sum, self.tp)

    @property
    def distance_median(self) -> float:
        """Median localisation error of the matched objects, pixels."""
        return float(np.median(self.distances)) if len(self.distances) else float("nan")

    @property
    def distance_95(self) -> float:
        """95th percentile of the localisation error, pixels (linear interpolation)."""
        return float(np.quantile(self.distances, 0.95)) if len(self.distances) else float("nan")

    def to_dict(self) -> dict[str, float]:
        """Counts and ratios by name."""
        counts = {name: getattr(self, name) for name in ("tp", "fp", "fn", "frames", "pixels")}
        names = ("precision", "recall", "f1", "fa_objects", "false_per_frame")
        errors = ("distance_mean", "distance_median", "distance_95")
        return counts | {name: getattr(self, name) for name in names + errors}


@dataclass(frozen=True)
class ScoredFrame:
    """Predictions and targets of one frame: pred_xy (N, 2), scores (N,), truth_xy (T, 2)."""

    pred_xy: npt.ArrayLike
    scores: npt.ArrayLike
    truth_xy: npt.ArrayLike


@dataclass(frozen=True, eq=False)
class PointSweep:
    """Counts at every distinct score, highest first; a prediction counts if its score is above the threshold.

    Parameters
    ----------
    thresholds : (K,) float64
        Distinct scores, falling. The counts at index k include all predictions of at least that score and
        hold for thresholds[k + 1] <= t < thresholds[k].
    tp, fp : (K,) int64
        Matched and false objects.
    truths : int
        Number of targets.
    frames, pixels : int
        Evaluated frames and pixels (0 if unknown).
    """

    thresholds: _Float
    tp: _Int
    fp: _Int
    truths: int
    frames: int
    pixels: int = 0

    @property
    def fn(self) -> _Int:
        return self.truths - self.tp

    @property
    def precision(self) -> _Float:
        return self.tp / (self.tp + self.fp)

    @property
    def recall(self) -> _Float:
        return ratios(self.tp, self.truths)

    @property
    def f1(self) -> _Float:
        return 2 * self.tp / (self.tp + self.fp + self.truths)

    @property
    def false_per_frame(self) -> _Float:
        return ratios(self.fp, self.frames)

    @property
    def fa_objects(self) -> _Float:
        """False objects per pixel."""
        return ratios(self.fp, self.pixels)

    def best(self) -> int:
        """Index of the highest F1, of equal ones that with the highest threshold; DataError if empty."""
        if not len(self.thresholds):
            raise DataError("no prediction in any frame: there is no threshold to choose from")
        return int(np.argmax(self.f1))


def sweep(frames: Iterable[ScoredFrame], radius: float = RADIUS, pixels: int = 0) -> PointSweep:
    """Counts at every distinct score, equal to those of `match_points` there.

    As the threshold falls, each new prediction is offered to the targets in order; the first that prefers it
    takes it and releases its former match, which is offered in turn. So each prediction adds exactly one hit
    or one false object, without matching anything anew.

    Parameters
    ----------
    frames : iterable of ScoredFrame
        Predictions and targets.
    radius : float, default 5
        Largest distance of a match, pixels.
    pixels : int, default 0
        Number of pixels of all frames, for `fa_objects`.

    Examples
    --------
    >>> from dimpoint.metrics.points import ScoredFrame, sweep
    >>> curve = sweep([ScoredFrame([[10, 10], [50, 50]], [0.9, 0.8], [[12, 10]])])
    >>> curve.thresholds.tolist(), curve.tp.tolist(), curve.fp.tolist()
    ([0.9, 0.8], [1, 1], [0, 1])
    """
    scores: list[_Float] = []
    hits: list[npt.NDArray[np.bool_]] = []
    truths = count = 0
    for frame in frames:
        pred, frame_scores, truth = _checked(frame.pred_xy, frame.scores, frame.truth_xy)
        scores.append(frame_scores)
        hits.append(_hits(pred, frame_scores, truth, radius))
        truths += len(truth)
        count += 1
    every = np.concatenate([np.empty(0), *scores])
    hit = np.concatenate([np.empty(0, np.bool_), *hits])
    falling = np.argsort(-every, kind="stable")
    every, hit = every[falling], hit[falling]
    last = np.flatnonzero(np.append(every[1:] != every[:-1], np.ones(min(len(every), 1), np.bool_)))
    tp = np.cumsum(hit, dtype=np.int64)[last]
    return PointSweep(every[last], tp, last + 1 - tp, truths, count, pixels)


def _hits(pred: _Float, scores: _Float, truth: _Float, radius: float) -> npt.NDArray[np.bool_]:
    """Whether each prediction, added in falling order of score, brings one more hit, (N,) bool."""
    wishes: dict[int, list[tuple[int, tuple[float, float, int]]]] = {}
    for target, prediction, distance in zip(*_candidates(pred, scores, truth, radius), strict=True):
        rank = (distance, -scores[prediction], prediction)
        wishes.setdefault(prediction, []).append((target, rank))
    match: dict[int, tuple[int, tuple[float, float, int]]] = {}
    hit = np.zeros(len(pred), np.bool_)
    for prediction in sorted(wishes, key=lambda index: (-scores[index], index)):
        hit[prediction] = _offer(prediction, wishes, match)
    return hit


def _offer(
    free: int,
    wishes: dict[int, list[tuple[int, tuple[float, float, int]]]],
    match: dict[int, tuple[int, tuple[float, float, int]]],
) -> bool:
    """Offer a free prediction along the targets; True if a target without a match takes one in the end.

    Targets before the one that released a prediction need no exclusion: they were offered it before.
    """
    while True:
        for target, rank in wishes[free]:
            if target not in match or rank < match[target][1]:
                break
        else:
            return False
        old = match.get(target)
        match[target] = (free, rank)
        if old is None:
            return True
        free = old[0]


def _candidates(
    pred: _Float, scores: _Float, truth: _Float, radius: float, measure: Measure | None = None
) -> tuple[list[int], list[int], list[float]]:
    """Pairs within the radius as (target, prediction, distance) lists, by target, then by its preference."""
    if not len(pred) or not len(truth):
        return [], [], []
    near = cKDTree(truth).sparse_distance_matrix(
        cKDTree(pred), radius * (1 + 1e-9), output_type="ndarray"
    )  # a little wider than the radius: the exact comparison is below
    target, prediction = near["i"].astype(np.int64), near["j"].astype(np.int64)
    apart = pred[prediction] - truth[target]
    distance = np.hypot(*apart.T) if measure is None else measure(target, prediction)
    inside = distance <= radius
    target, prediction, distance = target[inside], prediction[inside], distance[inside]
    order = np.lexsort((prediction, -scores[prediction], distance, target))
    return target[order].tolist(), prediction[order].tolist(), distance[order].tolist()


def _checked(
    pred_xy: npt.ArrayLike, pred_scores: npt.ArrayLike, truth_xy: npt.ArrayLike
) -> tuple[_Float, _Float, _Float]:
    pred = _points(pred_xy, "predicted points")
    truth = _points(truth_xy, "true points")
    scores = np.asarray(pred_scores, np.float64).reshape(-1)
    if len(scores) != len(pred):
        raise DataError(f"{len(pred)} predicted points but {len(scores)} scores; each point needs one score")
    if not np.isfinite(scores).all():
        raise DataError("a score is NaN or infinite; scores must be finite numbers")
    return pred, scores, truth


def _points(values: npt.ArrayLike, what: str) -> _Float:
    points = np.asarray(values, np.float64)
    if points.size == 0:
        return np.empty((0, 2))
    if points.ndim != 2 or points.shape[1] != 2:
        raise DataError(f"{what} must have shape (N, 2), x and y, got {points.shape}")
    if not np.isfinite(points).all():
        raise DataError(f"{what}: a coordinate is NaN or infinite; coordinates must be finite numbers")
    return points
