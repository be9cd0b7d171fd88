"""Bootstrap intervals over frames, and paired differences between two methods.

Frames are drawn with replacement, as many as there are, and the number is computed from the summed counts of
the drawn frames. Intervals are percentile intervals. Differences draw the same frames for both methods. One
frame alone gives no interval: its ends are NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from dimpoint.errors import DataError
from dimpoint.metrics.counts import Counts

Floats = npt.NDArray[np.float64]
C = TypeVar("C", bound=Counts)

RESAMPLES = 2000
CONFIDENCE = 0.95
_CHUNK = 2**21  # drawn frames per chunk


@dataclass(frozen=True)
class Interval:
    """A number and its bootstrap interval; NaN if the number is not defined.

    value: the number of all frames. low, high: ends of the interval; NaN for one frame, which has no spread.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """The number of the first method minus that of the second, on the same frames."""

    @property
    def significant(self) -> bool:
        """Whether there is an interval and it excludes 0."""
        return self.low > 0 or self.high < 0


def interval(
    parts: Sequence[C],
    number: Callable[[C], Any],
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a ratio of counts over frames.

    Parameters
    ----------
    parts : sequence of Counts
        The counts of each frame.
    number : callable
        Computes the ratio from summed counts, such as `lambda counts: counts.f1`.
    resamples : int, default 2000
        Number of draws with replacement.
    confidence : float, default 0.95
        Fraction of the draws inside the interval.
    seed : int, default 0
        The same seed gives the same interval.

    Returns
    -------
    Interval

    Raises
    ------
    DataError
        If there are no frames.

    Examples
    --------
    >>> from dimpoint.metrics.bootstrap import interval
    >>> from dimpoint.metrics.points import PointCounts
    >>> frames = [PointCounts(tp=1, frames=1)] * 30 + [PointCounts(fn=1, frames=1)] * 10
    >>> found = interval(frames, lambda counts: counts.recall)
    >>> found.value, round(found.low, 2), round(found.high, 2)
    (0.75, 0.62, 0.88)
    """
    return intervals(parts, [number], resamples=resamples, confidence=confidence, seed=seed)[0]


def intervals(
    parts: Sequence[C],
    numbers: Sequence[Callable[[C], Any]],
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> list[Interval]:
    """`interval` of several numbers, each with the same draws as alone."""
    drawn = _resample(len(parts), lambda weights: _values(_total(parts, weights), numbers), resamples, seed)
    whole = type(parts[0]).total(parts)
    return [
        Interval(float(number(whole)), *_percentiles(row, confidence))
        for number, row in zip(numbers, drawn, strict=True)
    ]


def difference(
    first: Sequence[C],
    second: Sequence[C],
    number: Callable[[C], Any],
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Difference:
    """Paired difference of a ratio of counts between two methods.

    Parameters
    ----------
    first, second : sequence of Counts
        The counts of each frame, for the same frames in the same order.
    number, resamples, confidence, seed
        See `interval`.

    Returns
    -------
    Difference

    Raises
    ------
    DataError
        If the numbers of frames differ or are 0.

    Examples
    --------
    >>> from dimpoint.metrics.bootstrap import difference
    >>> from dimpoint.metrics.points import PointCounts
    >>> hit, miss = PointCounts(tp=1, frames=1), PointCounts(fn=1, frames=1)
    >>> apart = difference([hit] * 40, [hit] * 30 + [miss] * 10, lambda counts: counts.recall)
    >>> apart.value, apart.significant
    (0.25, True)
    """
    options = {"resamples": resamples, "confidence": confidence, "seed": seed}
    return differences(first, second, [number], **options)[0]


def differences(
    first: Sequence[C], second: Sequence[C], numbers: Sequence[Callable[[C], Any]], **options: Any
) -> list[Difference]:
    """`difference` of several numbers with the same draws; options as for `difference`."""
    if len(first) != len(second):
        raise DataError(f"{len(first)} frames against {len(second)}; a comparison needs the same frames")
    resamples, seed = options.get("resamples", RESAMPLES), options.get("seed", 0)

    def differ(weights: Floats) -> Floats:
        apart: Floats = _values(_total(first, weights), numbers) - _values(_total(second, weights), numbers)
        return apart

    drawn = _resample(len(first), differ, resamples, seed)
    wholes = type(first[0]).total(first), type(second[0]).total(second)
    return [
        Difference(
            float(number(wholes[0]) - number(wholes[1])),
            *_percentiles(row, options.get("confidence", CONFIDENCE)),
        )
        for number, row in zip(numbers, drawn, strict=True)
    ]


def _values(counts: C, numbers: Sequence[Callable[[C], Any]]) -> Floats:
    """(numbers, R) of counts that are arrays (R,)."""
    return np.stack([np.asarray(number(counts), np.float64) for number in numbers])


def bootstrap(
    frames: int,
    number: Callable[[Floats], Floats],
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Interval of any number(weights) -> (R,); weights (R, frames) count how often a frame is drawn."""
    value = float(number(np.ones((1, frames)))[0])
    return Interval(value, *_percentiles(_resample(frames, number, resamples, seed), confidence))


def _total(parts: Sequence[C], weights: Floats) -> C:
    return type(parts[0]).resampled(parts, weights)


def _resample(frames: int, number: Callable[[Floats], Floats], resamples: int, seed: int) -> Floats:
    """number(weights) of all draws, along the last axis; NaN for one frame, whose draws are all the same."""
    if frames == 0:
        raise DataError("no frames to draw from")
    if frames == 1:
        return np.nan * number(np.ones((1, 1)))
    return np.concatenate([number(weights) for weights in _weights(frames, resamples, seed)], axis=-1)


def _weights(frames: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each frame is drawn, (R, frames), in chunks with `resamples` rows in total."""
    rng = np.random.default_rng(seed)
    rows = max(_CHUNK // frames, 1)
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = rng.integers(frames, size=(count, frames)) + frames * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * frames).reshape(count, frames).astype(np.float64)


def _percentiles(drawn: Floats, confidence: float) -> tuple[float, float]:
    """The interval of the draws for which the number is defined."""
    if not 0 < confidence < 1:
        raise DataError(f"confidence must be between 0 and 1, got {confidence}")
    defined = drawn[~np.isnan(drawn)]
    if not len(defined):
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)
