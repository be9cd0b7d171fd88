"""Hold predictions against truth, frame by frame: what was found, missed and false, and all counts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.errors import ConfigError, DataError
from dimpoint.evaluation.curve import Curve, curve_of_maps, curve_of_points
from dimpoint.evaluation.predictions import PredictedPoints, Predictor
from dimpoint.evaluation.truth import Points, TruthFrame
from dimpoint.metrics.accumulate import Evaluation, Evaluator
from dimpoint.metrics.breakdown import TargetTable, describe_points, describe_targets, with_match
from dimpoint.metrics.components import Components, Map, above, check_pair
from dimpoint.metrics.points import PointCounts, ScoredFrame, match_points, spared, sweep
from dimpoint.metrics.protocols import PROTOCOLS, get_protocol

ALL = "all"
POOLED = "all together"
POINT_PROTOCOLS = ("spire",)  # the others count pixels, which points do not have


@dataclass(frozen=True, eq=False)
class FrameResult:
    """One frame under the first protocol.

    truth_xy: (T, 2). pred_xy: (N, 2) and scores (N,): what counts at the threshold. pairs: (K, 2) prediction
    and target. false, missed: indices of predictions and of targets. counts: of the frame.
    """

    frame: TruthFrame
    shape: tuple[int, int]
    truth_xy: Points
    pred_xy: Points
    scores: npt.NDArray[np.float64]
    pairs: npt.NDArray[np.int64]
    false: npt.NDArray[np.int64]
    missed: npt.NDArray[np.int64]
    counts: PointCounts
    table: TargetTable
    scored: ScoredFrame


@dataclass(frozen=True, eq=False)
class SetResult:
    """The frames of one data set, or of all together, in the order of their keys.

    maps: everything that probability maps give beyond points; None for points.
    """

    name: str
    frames: tuple[FrameResult, ...]
    curve: Curve
    maps: Evaluation | None
    threshold: float | None

    def counts(self, protocol: str) -> Sequence[PointCounts]:
        """The counts under a protocol, frame by frame; DataError for one that was not evaluated."""
        if self.maps is not None and self.threshold is not None:
            return self.maps.targets(protocol, self.threshold)
        if protocol not in POINT_PROTOCOLS:
            raise DataError(f"protocol '{protocol}' was not evaluated")
        return [frame.counts for frame in self.frames]

    def total(self, protocol: str) -> PointCounts:
        """The counts of all its frames under a protocol."""
        counts = self.counts(protocol)
        return type(counts[0]).total(counts)


@dataclass(frozen=True, eq=False)
class Result:
    """What `evaluate` gives. sets: one for each data set; pooled: all frames together.

    protocols: the first one is that of the frames' results. notes: what a reader of the numbers must know.
    """

    predictor: Predictor
    protocols: tuple[str, ...]
    sets: tuple[SetResult, ...]
    pooled: SetResult
    notes: tuple[str, ...] = field(default=())


def chosen_protocols(
    names: Sequence[str], predictor: Predictor, frames: Sequence[TruthFrame]
) -> tuple[str, ...]:
    """The protocols that are meant, `all` being those that the predictions can serve.

    Raises ConfigError for an unknown one, and for one that counts pixels where there are only points.
    """
    return common_protocols(names, [predictor], frames)


def common_protocols(
    names: Sequence[str], predictors: Sequence[Predictor], frames: Sequence[TruthFrame]
) -> tuple[str, ...]:
    """`chosen_protocols` for several predictors at once: `all` being those that each of them can serve."""
    pointing = [each for each in predictors if counts_points(each, frames)]
    served = POINT_PROTOCOLS if pointing else tuple(PROTOCOLS)
    wanted = [name for given in names for name in (served if given == ALL else (get_protocol(given).name,))]
    for name in wanted:
        if name not in served:
            missing = "predicts points" if pointing[0].kind == "points" else "is held against point labels"
            raise ConfigError(
                f"--protocol {name} counts pixels and overlaps, but {pointing[0].name} {missing}: points are "
                f"evaluated with --protocol {', '.join(served)}; the others need probability maps or masks, "
                "and true masks"
            )
    return tuple(dict.fromkeys(wanted))


def counts_points(predictor: Predictor, frames: Sequence[TruthFrame]) -> bool:
    """Whether only points can be compared: points are predicted, or a frame has no mask."""
    return predictor.kind == "points" or not all(frame.has_mask for frame in frames)


def evaluate(
    predictor: Predictor,
    frames: Sequence[TruthFrame],
    protocols: Sequence[str] = ("spire",),
    progress: Callable[[], None] = lambda: None,
) -> Result:
    """Predict and count every frame; `progress` is called after each.

    Raises ConfigError as `chosen_protocols` does, and the first error of a frame, mask or prediction.
    """
    chosen = chosen_protocols(protocols, predictor, frames)
    as_points = counts_points(predictor, frames)
    results: dict[str, list[FrameResult]] = {}
    maps: dict[str, Evaluator] = {}
    seen = _Duplicates()
    notes: list[str] = []
    for frame in frames:
        evaluator = None
        if not as_points:
            assert predictor.threshold is not None
            evaluator = maps.setdefault(frame.data_set, Evaluator((predictor.threshold,), chosen))
        pixels = frame.read_pixels()
        seen.add(frame, pixels)
        result, said = _frame_result(predictor, frame, pixels, chosen[0], evaluator)
        results.setdefault(frame.data_set, []).append(result)
        notes += said
        progress()
    sets = tuple(_set_result(name, part, maps.get(name), predictor) for name, part in results.items())
    return Result(predictor, chosen, sets, _pooled(sets, maps, chosen, predictor), (*notes, *seen.notes()))


def _frame_result(
    predictor: Predictor,
    frame: TruthFrame,
    pixels: npt.NDArray[Any] | None,
    protocol: str,
    evaluator: Evaluator | None,
) -> tuple[FrameResult, list[str]]:
    """The frame under the first protocol, and the notes on its label."""
    predicted = predictor.predict(frame, pixels)
    size = None if pixels is None else (pixels.shape[0], pixels.shape[1])
    label = frame.read_mask(size) if evaluator is not None or frame.points is None else None
    mask, notes = (None, []) if label is None else label
    if evaluator is not None:
        assert mask is not None
        assert predictor.threshold is not None
        assert not isinstance(predicted, PredictedPoints)
        evaluator.update(predicted, mask, frame.key, pixels, frame.data_set)
        return _of_map(frame, predicted, mask, predictor.threshold, protocol, pixels), notes
    if not isinstance(predicted, PredictedPoints):
        assert predictor.threshold is not None
        predicted = points_of_map(predicted, predictor.threshold)
    objects = None if mask is None else Components.of(mask)
    return _of_points(frame, predicted, objects, predictor.threshold, pixels), notes


def points_of_map(prob: Map, threshold: float) -> PredictedPoints:
    """The objects of a probability map above a threshold, in raster order: centroids and highest values."""
    return _with_peaks(prob, Components.of(above(prob, threshold)))


def _with_peaks(prob: Map, objects: Components) -> PredictedPoints:
    peaks = np.zeros(len(objects))
    np.maximum.at(peaks, objects.labels, prob.ravel()[objects.pixels].astype(np.float64))
    return PredictedPoints(objects.centroids, peaks)


def _of_map(
    frame: TruthFrame,
    prob: Map,
    mask: npt.NDArray[np.bool_],
    threshold: float,
    protocol: str,
    pixels: npt.NDArray[Any] | None,
) -> FrameResult:
    prob, mask = check_pair(prob, mask, str(frame.path))
    pred, truth = Components.of(above(prob, threshold)), Components.of(mask)
    match = get_protocol(protocol).match(pred, truth)
    found = _with_peaks(prob, pred)
    return FrameResult(
        frame=frame,
        shape=truth.shape,
        truth_xy=truth.centroids,
        pred_xy=found.xy,
        scores=found.scores,
        pairs=match.pairs,
        false=match.false,
        missed=np.setdiff1d(np.arange(len(truth)), match.pairs[:, 1]),
        counts=PointCounts(),  # the evaluator has them
        table=with_match(describe_targets(truth, pixels, frame.data_set), match),
        scored=ScoredFrame(found.xy, found.scores, truth.centroids),
    )


def _of_points(
    frame: TruthFrame,
    predicted: PredictedPoints,
    objects: Components | None,
    threshold: float | None,
    pixels: npt.NDArray[Any] | None,
) -> FrameResult:
    truth = frame.true_points(objects)
    if len(frame.ignore):
        counted = ~spared(predicted.xy, truth, frame.ignore)
        predicted = PredictedPoints(predicted.xy[counted], predicted.scores[counted])
    shape = objects.shape if objects is not None else pixels.shape if pixels is not None else frame.shape()
    kept = np.ones(len(predicted.scores), np.bool_) if threshold is None else predicted.scores > threshold
    xy, scores = predicted.xy[kept], predicted.scores[kept]
    match = match_points(xy, scores, truth)
    if objects is not None:
        known = describe_targets(objects, pixels, frame.data_set)
    else:
        known = describe_points(truth, (shape[0], shape[1]), pixels, frame.data_set)
    return FrameResult(
        frame=frame,
        shape=(shape[0], shape[1]),
        truth_xy=truth,
        pred_xy=xy,
        scores=scores,
        pairs=match.pairs,
        false=match.false,
        missed=match.missed,
        counts=PointCounts.of_frame(match, (shape[0], shape[1])),
        table=with_match(known, match),
        scored=ScoredFrame(predicted.xy, predicted.scores, truth),
    )


def _set_result(
    name: str, frames: Sequence[FrameResult], maps: Evaluator | None, predictor: Predictor
) -> SetResult:
    ordered = tuple(sorted(frames, key=lambda each: each.frame.key))
    if maps is not None:
        result = maps.result()
        return SetResult(name, ordered, curve_of_maps(result.target_curve), result, predictor.threshold)
    pixels = sum(frame.shape[0] * frame.shape[1] for frame in frames)
    swept = sweep([frame.scored for frame in ordered], pixels=pixels)
    return SetResult(name, ordered, curve_of_points(swept, predictor.floor), None, predictor.threshold)


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
    return _set_result(POOLED, [frame for part in sets for frame in part.frames], together, predictor)


class _Duplicates:
    """Frames with the same pixels, which count twice."""

    def __init__(self) -> None:
        self._first: dict[bytes, TruthFrame] = {}
        self._pairs: list[tuple[TruthFrame, TruthFrame]] = []

    def add(self, frame: TruthFrame, pixels: npt.NDArray[Any] | None) -> None:
        if pixels is None:
            return
        content = f"{pixels.dtype}{pixels.shape}".encode() + np.ascontiguousarray(pixels).data
        first = self._first.setdefault(hashlib.sha256(content).digest(), frame)
        if first is not frame:
            self._pairs.append((first, frame))

    def notes(self) -> list[str]:
        if not self._pairs:
            return []
        one, other = self._pairs[0]
        count = len(self._pairs)
        return [f"{count} frames have the pixels of another one and count again: {other.key} is {one.key}"]
