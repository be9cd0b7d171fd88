"""Curves over all thresholds (recall against false alarms) of points and maps, and thresholds chosen on them.

For maps, the counts of protocol `basicirstd` at every distinct score (Pd-Fa and free-response curves).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dimpoint.errors import ConfigError, DataError
from dimpoint.metrics.components import Components, Map, above
from dimpoint.metrics.counts import ratios
from dimpoint.metrics.exact.component_tree import Growth
from dimpoint.metrics.exact.levels import LIMIT, LevelSums
from dimpoint.metrics.exact.matching import BASICIRSTD_RADIUS, Batch, batches, greedy_levels
from dimpoint.metrics.points import PointSweep, ScoredFrame
from dimpoint.metrics.protocols import Protocol

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Levels = npt.NDArray[np.floating[Any]]
Goal = Literal["false-alarms-per-frame", "fa", "pd", "f1"]

_DIGITS = 7  # of a chosen threshold at most
_MOST_SAMPLES = 200  # thresholds of a curve of points that is not exact


@dataclass(frozen=True, eq=False)
class Curve:
    """Counts of objects under a protocol at all thresholds, highest first.

    Parameters
    ----------
    protocol : str
        The protocol's name.
    fa_unit : {"objects", "pixels"}
        What Fa counts.
    low, high : (K,) float64
        Falling. Row k holds for thresholds low[k] <= t < high[k]; scores above t count.
    tp, fp : (K,) int64
        Matched and false objects.
    false_area : (K,) int64
        False objects, or their pixels, depending on `fa_unit`.
    targets, frames, pixels : int
        Numbers evaluated.
    exact : bool, default True
        False if scores were rounded up to multiples of 2**-18 to bound the memory.
    """

    protocol: str
    fa_unit: Literal["objects", "pixels"]
    low: Floats
    high: Floats
    tp: Ints
    fp: Ints
    false_area: Ints
    targets: int
    frames: int
    pixels: int
    exact: bool = True

    def at(self, thresholds: npt.ArrayLike) -> Curve:
        """The counts at single thresholds, (T,) in 0..1, which are `low` and `high` of the result.

        Below the end of the curve they are those at its end, which include every given point.
        """
        wanted = np.asarray(thresholds, np.float64)
        row = np.minimum(np.searchsorted(-self.low, -wanted, side="left"), len(self.low) - 1)
        counts = {name: getattr(self, name)[row] for name in ("tp", "fp", "false_area")}
        return replace(self, low=wanted, high=wanted, **counts)

    @property
    def fn(self) -> Ints:
        """Missed targets."""
        return self.targets - self.tp

    @property
    def recall(self) -> Floats:
        """Found targets / all targets, also called Pd."""
        return ratios(self.tp, self.targets)

    @property
    def precision(self) -> Floats:
        """Matched objects / all objects."""
        return ratios(self.tp, self.tp + self.fp)

    @property
    def f1(self) -> Floats:
        """Harmonic mean of precision and recall."""
        return ratios(2 * self.tp, self.tp + self.fp + self.targets)

    @property
    def false_per_frame(self) -> Floats:
        """False objects per frame."""
        return ratios(self.fp, self.frames)

    @property
    def fa(self) -> Floats:
        """False objects, or their pixels, per evaluated pixel."""
        return ratios(self.false_area, self.pixels)

    def reliability(self, bins: int = 10) -> tuple[Floats, Floats, Ints]:
        """Mean score, fraction of targets and number of objects, for each equal bin of the score.

        Empty bins are left out. For scored points, whose objects are the same at all thresholds.
        """
        right, wrong = np.diff(self.tp), np.diff(self.fp)
        scores, count = self.high[1:], right + wrong
        of = np.minimum((scores * bins).astype(np.int64), bins - 1)
        sums = [np.bincount(of, weights=w, minlength=bins) for w in (scores * count, right, count)]
        filled = sums[2] > 0
        total, hits, number = (each[filled] for each in sums)
        return total / number, hits / number, number.astype(np.int64)

    def choose(self, goal: Goal, value: float = 0.0) -> int:
        """Choose the row that meets a goal; `threshold` gives its threshold.

        Parameters
        ----------
        goal : {"f1", "pd", "false-alarms-per-frame", "fa"}
            "f1": the highest F1. "pd": the highest threshold with at least recall `value`. The others: the
            lowest threshold at and above which the false alarms are at most `value`.
        value : float
            The limit; not used for "f1".

        Returns
        -------
        int
            Index of the row.

        Raises
        ------
        ConfigError
            If `value` is out of range.
        DataError
            If no threshold reaches the recall, or keeps to the limit.
        """
        if not np.isfinite(value) or value < 0 or (goal == "pd" and value > 1):
            raise ConfigError(
                f"--{goal} {value}: {'a part in 0..1' if goal == 'pd' else 'a rate >= 0'} is right"
            )
        if goal == "f1":
            return int(np.argmax(np.nan_to_num(self.f1)))
        if goal == "pd":
            reached = np.flatnonzero(self.recall >= value)
            if not len(reached):
                most = float(self.recall.max())
                raise DataError(f"--pd {value:g} is not reached at any threshold; the most is {most:.4g}")
            return int(reached[0])
        rate = self.false_per_frame if goal == "false-alarms-per-frame" else self.fa
        beyond = np.flatnonzero(rate > value)
        if rate[0] > value:
            raise DataError(
                f"--{goal} {value:g} is not met at any threshold; at the highest, {self.low[0]:g}, it is "
                f"{rate[0]:.4g}"
            )
        return int(beyond[0]) - 1 if len(beyond) else len(rate) - 1

    def threshold(self, row: int, goal: Goal = "f1") -> float:
        """A threshold of row `row` with few digits.

        It is at the low end if false alarms are limited, at the high end if a recall is required, and in the
        middle for F1.
        """
        low, high = float(self.low[row]), float(self.high[row])
        for digits in range(3, _DIGITS + 1):
            step = 10.0**-digits
            aim = {"f1": round((low + high) / 2, digits), "pd": (math.ceil(high / step) - 1) * step}.get(
                goal, math.ceil(low / step) * step
            )
            chosen = round(aim, digits)
            if low <= chosen < high:
                return chosen
        return low


class TargetCurveSums:
    """Accumulates the curve of maps under protocol `basicirstd`, batch by batch."""

    def __init__(self, limit: int | None = LIMIT) -> None:
        self.objects = LevelSums(2, limit=limit)  # pixels, objects
        self.matches = LevelSums(2, limit=limit)  # matched objects, their pixels
        self.targets = 0
        self.frames = 0
        self.pixels = 0

    def add(self, batch: Batch) -> None:
        self.objects.add(*object_levels(batch.growth))
        self.matches.add(*greedy_levels(batch.near, batch.near.distance < BASICIRSTD_RADIUS))
        self.targets += len(batch.targets)
        self.frames += len(batch.probs)
        self.pixels += batch.pixels

    def merge(self, other: TargetCurveSums) -> None:
        self.objects.merge(other.objects)
        self.matches.merge(other.matches)
        self.targets += other.targets
        self.frames += other.frames
        self.pixels += other.pixels

    def curve(self) -> Curve:
        thresholds, (pixels, count) = self.objects.steps()  # an object only changes when a pixel joins it
        tp, matched_pixels = self.matches.at_rising(thresholds)
        low = thresholds[::-1]
        false_pixels = (pixels - matched_pixels)[::-1]
        return Curve(
            protocol="basicirstd",
            fa_unit="pixels",
            low=low,
            high=np.append(np.nextafter(max(1.0, low[0]), 2), low[:-1]),
            tp=tp[::-1],
            fp=(count - tp)[::-1],
            false_area=false_pixels,
            targets=self.targets,
            frames=self.frames,
            pixels=self.pixels,
            exact=self.objects.exact and self.matches.exact,
        )


def object_levels(growth: Growth) -> tuple[Levels, tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]]:
    """Levels (N,) and their two weights for `LevelSums`: pixels above a threshold, and their objects."""
    return growth.level, (np.ones(len(growth.level), np.int8), growth.change)


def target_curve(
    frames: Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any]]], limit: int | None = None
) -> Curve:
    """Counts of objects under protocol `basicirstd` at every distinct score.

    Parameters
    ----------
    frames : iterable of (prob, mask)
        Maps (H, W), 0..1, with masks (bool, or uint8 above 127); sizes may differ.
    limit : int, optional
        Distinct scores that are kept exactly; all if left out (`LevelSums`).

    Raises
    ------
    DataError
        For a bad frame, with its number.

    Examples
    --------
    >>> import numpy as np
    >>> from dimpoint.metrics.curves import target_curve
    >>> prob, mask = np.zeros((9, 20)), np.zeros((9, 20), bool)
    >>> mask[4, 4] = True
    >>> prob[4, 5], prob[2, 15] = 0.9, 0.6
    >>> curve = target_curve([(prob, mask)])
    >>> curve.low.tolist(), curve.tp.tolist(), curve.fp.tolist()
    ([0.9, 0.6, 0.0], [0, 1, 1], [0, 0, 1])
    """
    sums = TargetCurveSums(limit)
    for batch in batches(frames):
        sums.add(batch)
    return sums.curve()


SAMPLED = np.arange(100) / 100  # thresholds of `SampledCounts`

Match = Callable[[Components, Components], Any]  # a protocol's matcher


class SampledCounts:
    """Counts at the 100 thresholds `SAMPLED`, for protocols without an exact curve.

    tp, fp, false_pixels: (100,). targets, frames, pixels: totals.
    """

    def __init__(self) -> None:
        self.counts = np.zeros((3, len(SAMPLED)), np.int64)
        self.targets = self.frames = self.pixels = 0

    def add(self, prob: Map, truth: Components, match: Match) -> None:
        """Label and match a frame at every threshold below its highest value."""
        for column, threshold in enumerate(SAMPLED[: np.searchsorted(SAMPLED, prob.max())]):
            pred = Components.of(above(prob, float(threshold)))
            found = match(pred, truth)
            self.counts[:, column] += (len(found.pairs), len(found.false), pred.areas[found.false].sum())
        self.targets += len(truth)
        self.frames += 1
        self.pixels += prob.size

    def merge(self, other: SampledCounts) -> None:
        self.counts += other.counts
        self.targets += other.targets
        self.frames += other.frames
        self.pixels += other.pixels


def curve_of_points(sweep: PointSweep, floor: float | None) -> Curve:
    """The curve of scored points under protocol `spire`.

    floor: all points of a higher score are given; None if no points were left out.
    """
    scores = sweep.thresholds
    lowest = float(scores[-1]) if len(scores) else 1.0
    end = float(np.nextafter(lowest, -1)) if floor is None or floor >= lowest else floor
    return Curve(
        protocol="spire",
        fa_unit="objects",
        low=np.append(scores, end),
        high=np.append(np.maximum(1.0, scores[:1].max(initial=0) + 1e-6), scores),
        tp=np.append(0, sweep.tp),
        fp=np.append(0, sweep.fp),
        false_area=np.append(0, sweep.fp),
        targets=sweep.truths,
        frames=sweep.frames,
        pixels=sweep.pixels,
    )


def point_curve(frames: Sequence[ScoredFrame], rule: Protocol, pixels: int, floor: float | None) -> Curve:
    """The curve of scored points under a protocol: exact with its `sweep`, else sampled at 200 scores.

    pixels: of all frames together. floor: see `curve_of_points`.
    """
    if rule.sweep is not None:
        swept = replace(rule.sweep(frames), pixels=pixels)
    else:
        swept = _sampled_sweep(frames, rule, pixels)
    return replace(curve_of_points(swept, floor), protocol=rule.name)


def _sampled_sweep(frames: Sequence[ScoredFrame], rule: Protocol, pixels: int) -> PointSweep:
    assert rule.match_points is not None
    every = np.unique(np.concatenate([np.zeros(0), *(np.asarray(f.scores, np.float64) for f in frames)]))[
        ::-1
    ]
    if len(every) > _MOST_SAMPLES:
        every = every[np.linspace(0, len(every) - 1, _MOST_SAMPLES).round().astype(np.int64)]
    counts = np.zeros((2, len(every)), np.int64)
    for frame in frames:
        xy, score = np.asarray(frame.pred_xy).reshape(-1, 2), np.asarray(frame.scores)
        for column, lowest in enumerate(every):
            kept = score >= lowest
            match = rule.match_points(xy[kept], score[kept], frame.truth_xy)
            counts[:, column] += (len(match.pairs), len(match.false))
    targets = sum(len(np.asarray(frame.truth_xy).reshape(-1, 2)) for frame in frames)
    return PointSweep(every, counts[0], counts[1], targets, len(frames), pixels)


def curve_of_samples(sampled: SampledCounts, rule: Protocol) -> Curve:
    """The sampled curve of maps under a protocol without an exact one."""
    tp, fp, area = sampled.counts[:, ::-1]
    return Curve(
        protocol=rule.name,
        fa_unit=rule.fa_counts,
        low=SAMPLED[::-1],
        high=np.append(SAMPLED[1:], np.nextafter(1.0, 2))[::-1],
        tp=tp,
        fp=fp,
        false_area=area if rule.fa_counts == "pixels" else fp,
        targets=sampled.targets,
        frames=sampled.frames,
        pixels=sampled.pixels,
    )
