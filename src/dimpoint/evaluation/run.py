"""Evaluate predictions frame by frame: found, missed and false objects, and all counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.datasets.dataset import combined_hash, hash_array
from dimpoint.datasets.reading import reader_notes
from dimpoint.errors import ConfigError, DataError
from dimpoint.evaluation.doubts import Doubts
from dimpoint.evaluation.predictions import PredictedPoints, Predictor
from dimpoint.evaluation.subject import (
    Memory,
    Observed,
    duplicate_notes,
    in_order,
    observe,
    without_spared,
    workers_for,
)
from dimpoint.evaluation.truth import Points, TruthFrame
from dimpoint.metrics.accumulate import Evaluator, FrameObjects, MapMetrics
from dimpoint.metrics.breakdown import TargetTable, with_match
from dimpoint.metrics.components import Components, Map, above
from dimpoint.metrics.curves import Curve, curve_of_samples, point_curve
from dimpoint.metrics.points import PointCounts, ScoredFrame
from dimpoint.metrics.protocols import Protocol, get_protocol, protocol_names

ALL = "all"
POOLED = "all together"
_PICTURE_BYTES = 2**28  # memory for frames with errors, kept for the pictures of a report


@dataclass(frozen=True, eq=False)
class FrameResult:
    """The result of one frame under the first protocol.

    Parameters
    ----------
    frame : TruthFrame
        The frame.
    shape : tuple of int
        Height and width.
    truth_xy : (T, 2) float64
        x, y of the targets, pixels.
    pred_xy, scores : (N, 2) and (N,) float64
        Predictions above the threshold.
    pairs : (K, 2) int64
        Index of the prediction and of the target.
    false, missed : int64 arrays
        Indices of false predictions and of missed targets.
    counts : dict of str to PointCounts
        Counts of points by protocol.
    table : TargetTable
        Properties of the targets, for breakdowns.
    scored : ScoredFrame
        All predictions, at any threshold.
    pixels : (H, W) array, optional
        The frame itself, kept for some frames with errors.
    """

    frame: TruthFrame
    shape: tuple[int, int]
    truth_xy: Points
    pred_xy: Points
    scores: npt.NDArray[np.float64]
    pairs: npt.NDArray[np.int64]
    false: npt.NDArray[np.int64]
    missed: npt.NDArray[np.int64]
    counts: dict[str, PointCounts]
    table: TargetTable
    scored: ScoredFrame
    pixels: npt.NDArray[Any] | None = None

    def read_pixels(self) -> npt.NDArray[Any] | None:
        """The frame, (H, W), or None if there is only its label."""
        return self.frame.read_pixels() if self.pixels is None else self.pixels


@dataclass(frozen=True, eq=False)
class SetResult:
    """The result of one data set, or of all together; frames are ordered by key.

    Parameters
    ----------
    name : str
        Name of the data set.
    frames : tuple of FrameResult
        Results of the frames.
    curve : Curve
        Counts at all thresholds.
    maps : MapMetrics or None
        Metrics of probability maps; None for points.
    threshold : float or None
        Scores or pixels above it count; None: all points count.
    memory : dict
        Results that were computed before.
    """

    name: str
    frames: tuple[FrameResult, ...]
    curve: Curve
    maps: MapMetrics | None
    threshold: float | None
    memory: dict[str, Any] = field(default_factory=dict, repr=False)

    def counts(self, protocol: str) -> Sequence[PointCounts]:
        """The counts of each frame under a protocol; DataError if it was not evaluated."""
        if self.maps is not None and self.threshold is not None:
            return self.maps.targets(protocol, self.threshold)
        if any(protocol not in frame.counts for frame in self.frames):
            raise DataError(f"protocol '{protocol}' was not evaluated")
        return [frame.counts[protocol] for frame in self.frames]

    def total(self, protocol: str) -> PointCounts:
        """The summed counts under a protocol."""
        counts = self.counts(protocol)
        return type(counts[0]).total(counts)

    def labels_sha256(self) -> str:
        """SHA-256 (hex) of the frames' names and sizes and the true positions: what was evaluated against."""
        return combined_hash(
            (frame.frame.key, str(frame.shape), hash_array(frame.truth_xy)) for frame in self.frames
        )


@dataclass(frozen=True, eq=False)
class Result:
    """The result of `evaluate`.

    Parameters
    ----------
    predictor : Predictor
        What was evaluated.
    protocols : tuple of str
        The protocols; the first is that of the frames' results.
    sets : tuple of SetResult
        One for each data set.
    pooled : SetResult
        All frames together.
    notes : tuple of str
        Notes that matter for reading the numbers.
    """

    predictor: Predictor
    protocols: tuple[str, ...]
    sets: tuple[SetResult, ...]
    pooled: SetResult
    notes: tuple[str, ...] = field(default=())


def chosen_protocols(
    names: str | Sequence[str], predictors: Sequence[Predictor], frames: Sequence[TruthFrame]
) -> tuple[str, ...]:
    """Resolve protocol names; `all` means those that each of the predictors supports.

    Raises
    ------
    ConfigError
        If there is none, one is unknown, or one needs maps where there are only points.
    """
    given = [names] if isinstance(names, str) else list(names)
    if not given:
        raise ConfigError("no protocol is given; `dimpoint protocols` lists them")
    pointing = [each for each in predictors if counts_points(each, frames)]
    every = [name for name in protocol_names() if not pointing or get_protocol(name).match_points is not None]
    wanted = [name for each in given for name in (every if each == ALL else (get_protocol(each).name,))]
    for name in wanted:
        if get_protocol(name).match_points is None and pointing:
            missing = "predicts points" if pointing[0].kind == "points" else "is compared with point labels"
            raise ConfigError(
                f"--protocol {name} counts pixels and overlaps, but {pointing[0].name} {missing}: points are "
                f"evaluated with --protocol {', '.join(every)}; the others need probability maps or masks, "
                "and true masks"
            )
    return tuple(dict.fromkeys(wanted))


def counts_points(predictor: Predictor, frames: Sequence[TruthFrame]) -> bool:
    """Whether only points can be compared: points are predicted, or a frame has no mask."""
    return predictor.kind == "points" or not all(frame.has_mask for frame in frames)


def evaluate(
    predictor: Predictor,
    frames: Sequence[TruthFrame],
    protocols: str | Sequence[str] = ("spire",),
    progress: Callable[[], None] = lambda: None,
    memory: Memory | None = None,
) -> Result:
    """Predict and count every frame.

    Parameters
    ----------
    predictor : Predictor
        A model, or predictions on disk.
    frames : sequence of TruthFrame
        The labelled frames.
    protocols : str or sequence of str, default ("spire",)
        How predictions are matched with targets.
    progress : callable, optional
        Called after each frame.
    memory : Memory, optional
        Keeps frames and predictions for the next call.

    Returns
    -------
    Result

    Raises
    ------
    ConfigError
        If a protocol cannot be used.
    DataError, FrameError
        The first error of a frame, mask or prediction.
    """
    chosen = chosen_protocols(protocols, [predictor], frames)
    rules = [get_protocol(name) for name in chosen]
    by_mask = not counts_points(predictor, frames)
    results: dict[str, list[FrameResult]] = {}
    maps: dict[str, Evaluator] = {}
    digests: list[tuple[TruthFrame, bytes | None]] = []
    notes: list[str] = []
    read: list[tuple[str, tuple[str, ...]]] = []
    see = observe if memory is None else memory.observe
    room = _PICTURE_BYTES
    doubts = Doubts(predictor.threshold)
    for seen in in_order(lambda f: see(predictor, f, by_mask), frames, workers_for(predictor, len(frames))):
        evaluator = None
        if by_mask:
            assert predictor.threshold is not None
            evaluator = maps.setdefault(seen.frame.data_set, Evaluator((predictor.threshold,), chosen))
        result = _frame_result(seen, rules, predictor.threshold, evaluator, room)
        if predictor.meta is None:  # a model reads and writes what it should
            doubts.add(result, seen.predicted)
        room -= 0 if result.pixels is None else result.pixels.nbytes
        results.setdefault(seen.frame.data_set, []).append(result)
        digests.append((seen.frame, seen.digest))
        notes += seen.notes
        read.append((seen.frame.key, seen.read))
        progress()
    sets = tuple(
        _set_result(name, part, maps.get(name), predictor, rules[0]) for name, part in results.items()
    )
    pooled = _pooled(sets, maps, chosen, predictor)
    every = (*reader_notes(read), *notes, *duplicate_notes(digests), *doubts.notes())
    return Result(predictor, chosen, sets, pooled, every)


def _frame_result(
    seen: Observed,
    rules: Sequence[Protocol],
    threshold: float | None,
    evaluator: Evaluator | None,
    room: int,
) -> FrameResult:
    """The frame under the first protocol; room: bytes left for its picture."""
    predicted = seen.predicted
    if evaluator is not None:
        assert seen.mask is not None
        assert seen.objects is not None
        assert not isinstance(predicted, PredictedPoints)
        frame, known = seen.frame, (seen.objects, seen.known)
        found = evaluator.update(predicted, seen.mask, frame.key, seen.pixels, frame.data_set, known)
        return _of_map(seen, predicted, found, room)
    if not isinstance(predicted, PredictedPoints):
        assert threshold is not None
        predicted = points_of_map(predicted, threshold)
        if len(seen.frame.ignore):
            predicted = without_spared(predicted, seen.truth_xy, seen.frame)
    return _of_points(seen, predicted, rules, threshold, room)


def _picture(seen: Observed, false: Any, missed: Any, room: int) -> npt.NDArray[Any] | None:
    wanted = seen.pixels is not None and (len(false) or len(missed)) and seen.pixels.nbytes <= room
    return seen.pixels if wanted else None


def points_of_map(prob: Map, threshold: float) -> PredictedPoints:
    """The objects of a probability map above a threshold, in raster order: centroids and peak values."""
    return _with_peaks(prob, Components.of(above(prob, threshold)))


def _with_peaks(prob: Map, objects: Components) -> PredictedPoints:
    peaks = np.zeros(len(objects))
    np.maximum.at(peaks, objects.labels, prob.ravel()[objects.pixels].astype(np.float64))
    return PredictedPoints(objects.centroids, peaks)


def _of_map(seen: Observed, prob: Map, found: FrameObjects, room: int) -> FrameResult:
    points = _with_peaks(prob, found.pred)
    missed = np.setdiff1d(np.arange(len(found.truth)), found.match.pairs[:, 1])
    return FrameResult(
        frame=seen.frame,
        shape=seen.shape,
        truth_xy=seen.truth_xy,
        pred_xy=points.xy,
        scores=points.scores,
        pairs=found.match.pairs,
        false=found.match.false,
        missed=missed,
        counts={},  # in the evaluator
        table=found.table,
        scored=ScoredFrame(points.xy, points.scores, seen.truth_xy),
        pixels=_picture(seen, found.match.false, missed, room),
    )


def _of_points(
    seen: Observed,
    predicted: PredictedPoints,
    rules: Sequence[Protocol],
    threshold: float | None,
    room: int,
) -> FrameResult:
    kept = np.ones(len(predicted.scores), np.bool_) if threshold is None else predicted.scores > threshold
    xy, scores = predicted.xy[kept], predicted.scores[kept]
    matches = [
        rule.match_points(xy, scores, seen.truth_xy) for rule in rules if rule.match_points is not None
    ]
    match = matches[0]
    return FrameResult(
        frame=seen.frame,
        shape=seen.shape,
        truth_xy=seen.truth_xy,
        pred_xy=xy,
        scores=scores,
        pairs=match.pairs,
        false=match.false,
        missed=match.missed,
        counts={
            rule.name: PointCounts.of_frame(each, seen.shape)
            for rule, each in zip(rules, matches, strict=True)
        },
        table=with_match(seen.known, match),
        scored=ScoredFrame(predicted.xy, predicted.scores, seen.truth_xy),
        pixels=_picture(seen, match.false, match.missed, room),
    )


def _set_result(
    name: str,
    frames: Sequence[FrameResult],
    maps: Evaluator | None,
    predictor: Predictor,
    rule: Protocol,
) -> SetResult:
    """rule: the protocol whose curve is drawn."""
    ordered = tuple(sorted(frames, key=lambda each: each.frame.key))
    if maps is not None:
        result = maps.result()
        if rule.curve == "own":
            curve = curve_of_samples(result.sampled[rule.name], rule)
        else:
            curve = result.target_curve
        return SetResult(name, ordered, curve, result, predictor.threshold)
    pixels = sum(frame.shape[0] * frame.shape[1] for frame in frames)
    curve = point_curve([frame.scored for frame in ordered], rule, pixels, predictor.floor)
    return SetResult(name, ordered, curve, None, predictor.threshold)


def _pooled(
    sets: Sequence[SetResult], maps: Mapping[str, Evaluator], protocols: Sequence[str], predictor: Predictor
) -> SetResult:
    if len(sets) == 1:
        return sets[0]
    together = None
    if predictor.threshold is not None and maps:
        together = Evaluator((predictor.threshold,), protocols)
        for evaluator in maps.values():
            together.merge(evaluator)
    frames = [frame for part in sets for frame in part.frames]
    return _set_result(POOLED, frames, together, predictor, get_protocol(protocols[0]))
