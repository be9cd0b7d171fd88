"""How recall is paid for with false alarms, over all thresholds, and thresholds chosen on such a curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from dimpoint.errors import ConfigError, DataError
from dimpoint.metrics.curves import SAMPLED, SampledCounts, TargetCurve
from dimpoint.metrics.points import PointSweep, ScoredFrame, ratios
from dimpoint.metrics.protocols import Protocol

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Goal = Literal["false-alarms-per-frame", "fa", "pd", "f1"]

_DIGITS = 7  # of a chosen threshold at most


@dataclass(frozen=True, eq=False)
class Curve:
    """Counts of protocol `protocol` for all thresholds, from "nothing is found" down.

    Row k holds for every threshold t with low[k] <= t < high[k], where scores above t count. tp, fp: (K,)
    objects; false_area: what `fa_unit` says, false objects or the pixels of false objects.
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

    @property
    def recall(self) -> Floats:
        return ratios(self.tp, self.targets)

    @property
    def precision(self) -> Floats:
        found = self.tp + self.fp
        return ratios(self.tp, found)

    @property
    def f1(self) -> Floats:
        whole = self.tp + self.fp + self.targets
        return ratios(2 * self.tp, whole)

    @property
    def false_per_frame(self) -> Floats:
        return ratios(self.fp, self.frames)

    @property
    def fa(self) -> Floats:
        """False objects, or pixels of them, per pixel looked at."""
        return ratios(self.false_area, self.pixels)

    def reliability(self, bins: int = 10) -> tuple[Floats, Floats, Ints]:
        """Of equal bins of the score that hold objects: mean score, part that are targets, number of objects.

        For scored points, whose objects stay the same at all thresholds.
        """
        right, wrong = np.diff(self.tp), np.diff(self.fp)
        scores, count = self.high[1:], right + wrong
        of = np.minimum((scores * bins).astype(np.int64), bins - 1)
        sums = [np.bincount(of, weights=w, minlength=bins) for w in (scores * count, right, count)]
        filled = sums[2] > 0
        total, hits, number = (each[filled] for each in sums)
        return total / number, hits / number, number.astype(np.int64)

    def choose(self, goal: Goal, value: float = 0.0) -> int:
        """The row that serves a goal; `threshold` then gives its threshold.

        f1: the highest F1. pd: the highest threshold with at least this recall. false-alarms-per-frame, fa:
        the lowest threshold at which, and above which, there are no more than this. Raises ConfigError for
        a value that is no rate, DataError for a recall that no threshold reaches.
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
        return int(beyond[0]) - 1 if len(beyond) else len(rate) - 1

    def threshold(self, row: int, goal: Goal = "f1") -> float:
        """A threshold of row `row` with few digits: low where false alarms are limited, so that what they
        allow is found; high where recall is demanded; in the middle for F1."""
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


def curve_of_points(sweep: PointSweep, floor: float | None) -> Curve:
    """The curve of scored points under protocol `spire`.

    floor: all points of a higher score are known; None if what is given is all that there is.
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


_MOST_SAMPLES = 200  # thresholds of a curve of points that is not exact


def point_curve(frames: Sequence[ScoredFrame], rule: Protocol, pixels: int, floor: float | None) -> Curve:
    """The curve of scored points under a protocol: exact by its `sweep`, else sampled at 200 scores.

    pixels: of all frames together. floor: as in `curve_of_points`.
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
    """The curve of maps under a protocol without an exact one, at 100 thresholds."""
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


def curve_of_maps(curve: TargetCurve) -> Curve:
    """The curve of probability maps; protocol `basicirstd`."""
    levels = curve.thresholds
    return Curve(
        protocol="basicirstd",
        fa_unit="pixels",
        low=levels,
        high=np.append(np.nextafter(max(1.0, levels[0]), 2), levels[:-1]),
        tp=curve.tp,
        fp=curve.fp,
        false_area=curve.false_pixels,
        targets=curve.targets,
        frames=curve.frames,
        pixels=curve.pixels,
    )
