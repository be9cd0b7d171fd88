"""Display gain of deep frames: the counts that become 0 and 1, as in a camera's 8-bit output.

The shipped models were trained on 8-bit frames, whose gain and offset a camera chose. Deeper frames (uint16,
float32) get such a gain here. All quantities are differences of counts or lie between two counts, so that
gain and offset of the encoding have no effect.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.model.validity import Mask

ROWS_AT_ONCE = 512  # bounds the memory over a 10,000 x 10,000 frame

# Means over the training parts of NUAA-SIRST, NUDT-SIRST and IRSTD-1K (8-bit counts over 255).
MIDDLE = 0.43  # the middle of the 1st and 99th percentiles
SPAN = 0.45  # distance of these percentiles
RANGE = 0.70  # distance of the least and largest count

WIDEST = 25.0  # largest range, in distances of the percentiles, so that a saturated spot does not dominate
LEVELS = 256  # of an 8-bit frame
FEW_LEVELS = 8  # fewer levels do not determine the step
LEAST_RANGE = 0.1  # least range of an 8-bit frame's counts, over 255
LEAST_STEP = 2.0  # integer counts; every raw frame has a step of 1
_SAMPLE = 4096  # pixels that are checked first


def display_limits(
    frame: npt.NDArray[Any],
    percentiles: tuple[float, float],
    valid: Mask | None = None,
    *,
    min_span: float = 0.0,
    recover: bool = True,
) -> tuple[float, float]:
    """The counts that become 0 and 1.

    Parameters
    ----------
    frame : (H, W) array
        uint16 or float32, or uint8 treated as if it were deep.
    percentiles : tuple of float
        Its 1st and 99th percentiles, counts.
    valid : (H, W) bool array, optional
        Pixels that are measurements. Default: all.
    min_span : float
        The percentiles are taken to be at least this far apart, counts. Default: 0.
    recover : bool
        Use the gain of an 8-bit frame that is stored in a deeper type. Default: True.

    Returns
    -------
    zero, one : float
    """
    low, high = extremes(frame, valid)
    span, reach = percentiles[1] - percentiles[0], high - low
    distance = reach / RANGE  # the only measure where the percentiles are equal
    if span > 0:
        distance = float(np.sqrt(min(reach, WIDEST * span) / RANGE * span / SPAN))
    distance = max(distance, min_span / SPAN)
    middle = (percentiles[0] + percentiles[1]) / 2
    step = step_of_8_bit(frame, percentiles, valid) if recover else None
    if step is None:
        zero = middle - MIDDLE * distance
        return zero, zero + distance
    distance = 255 * step
    return _zero_within(middle - MIDDLE * distance, distance, *_range(frame, valid))


def _zero_within(zero: float, distance: float, low: float, high: float) -> tuple[float, float]:
    """Limits shifted so that all counts lie between them, as those of an 8-bit frame do."""
    zero = min(max(zero, high - distance), low)
    return zero, zero + distance


def extremes(frame: npt.NDArray[Any], valid: Mask | None = None) -> tuple[float, float]:
    """The least and the largest count that two neighbouring valid pixels reach, which excludes lone pixels.

    Parameters
    ----------
    frame : (H, W) array
        Counts.
    valid : (H, W) bool array, optional
        Pixels that are measurements. Default: all.

    Returns
    -------
    low, high : float
        The plain least and largest count if there are no such neighbours.
    """
    lows, highs = [], []
    for part, mask in _strips(frame, valid):
        for axis in (0, 1):
            one, other = _neighbours(part, axis)
            if mask is not None:
                both = np.logical_and(*_neighbours(mask, axis))
                one, other = one[both], other[both]
            if one.size:
                lows.append(np.maximum(one, other).min())
                highs.append(np.minimum(one, other).max())
    low, high = (min(lows), max(highs)) if lows else (0, 0)
    if low >= high:  # only lone pixels, or a constant frame
        return _range(frame, valid)
    return float(low), float(high)


def step_of_8_bit(
    frame: npt.NDArray[Any], percentiles: tuple[float, float], valid: Mask | None = None
) -> float | None:
    """The gain of an 8-bit frame that is stored in a deeper type.

    Parameters
    ----------
    frame : (H, W) array
        uint16 or float32.
    percentiles : tuple of float
        Its 1st and 99th percentiles, counts.
    valid : (H, W) bool array, optional
        Pixels that are measurements. Default: all.

    Returns
    -------
    float or None
        Counts between levels, if there are at most 256 levels at multiples of a common step, and they cover
        as wide a range as in an 8-bit frame. Integer steps are at least 2, because raw frames have steps of
        1. None for other frames.
    """
    flat = frame if valid is None else frame[valid]
    sample = flat.ravel()[:: max(1, flat.size // _SAMPLE)]
    if len(np.unique(sample)) > LEVELS:
        return None
    levels = _levels(flat)
    if levels is None or len(levels) < FEW_LEVELS:
        return None
    step = _step(levels, integers=frame.dtype != np.float32)
    if step is None:
        return None
    steps = (levels[-1] - levels[0]) / step
    return step if LEAST_RANGE * 255 <= steps <= 255.5 else None


def _step(levels: npt.NDArray[np.float64], *, integers: bool) -> float | None:
    """The common step of sorted levels, fitted to all of them, or None.

    Levels may be rounded: to integers, or to the precision of float32.
    """
    gaps = np.diff(levels)
    step = float(gaps.min())
    if integers:
        divisor = float(np.gcd.reduce(gaps.astype(np.int64)))
        if divisor >= LEAST_STEP:
            return divisor
        if step < 2 * LEAST_STEP - 1:  # with rounding by half a count, any levels would fit
            return None
    step = float(gaps[gaps < 1.5 * step].mean())
    for _ in range(2):
        numbers = np.concatenate([[0.0], np.cumsum(np.round(gaps / step))])
        step, first = (float(value) for value in np.polyfit(numbers, levels, 1))
    off = float(np.abs(levels - first - step * numbers).max())
    rounding = 0.75 if integers else 4 * float(np.spacing(np.float32(np.abs(levels).max())))
    return step if off <= min(rounding, step / 5) else None


def _levels(counts: npt.NDArray[Any]) -> npt.NDArray[np.float64] | None:
    """The distinct counts, sorted; None if there are more than 256."""
    found = np.zeros(0, counts.dtype)
    for part, _ in _strips(np.atleast_2d(counts) if counts.ndim == 2 else counts.reshape(1, -1), None):
        found = np.union1d(found, part)
        if len(found) > LEVELS:
            return None
    return found.astype(np.float64)


def _range(frame: npt.NDArray[Any], valid: Mask | None) -> tuple[float, float]:
    counts = frame if valid is None else frame[valid]
    return float(counts.min()), float(counts.max())


def _strips(frame: npt.NDArray[Any], valid: Mask | None) -> Iterator[tuple[npt.NDArray[Any], Mask | None]]:
    """Strips of rows of a frame and its mask, each with the first row of the next."""
    for top in range(0, frame.shape[0], ROWS_AT_ONCE):
        rows = slice(top, top + ROWS_AT_ONCE + 1)
        yield frame[rows], None if valid is None else valid[rows]


def _neighbours(array: npt.NDArray[Any], axis: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    return (array[:-1], array[1:]) if axis == 0 else (array[:, :-1], array[:, 1:])
