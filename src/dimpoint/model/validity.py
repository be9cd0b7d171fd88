"""Pixels that are not measurements: finding them, and interpolating over them.

Borders and corners filled by a stabiliser, telemetry rows, no-data values, dead columns, NaN. They would
change the intensity range of a deep frame, and their edges resemble targets. The rules apply to deep frames
(uint16, float32); in 8-bit frames, whose range is fixed, only pixels that a reader or the caller names are
invalid.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

_SAMPLE = 16384  # pixels from which the 5th and 95th percentiles are estimated
# Least distance of fill values from these percentiles, relative to the distance between them:
_NEAR = 0.5  # for whole lines,
_FAR = 1.0  # for other regions at the border,
_FARTHEST = 3.0  # for regions inside the frame, and bright ones
_LEAST = 4  # least pixels of a dark region at the border,
_LEAST_INSIDE = 2  # and elsewhere; lone pixels do not change the range
_LEAST_BRIGHT = 0.005  # least fraction of the frame of a bright region; a smaller one may be a target
_ISLAND = 200  # pixels; a region around something this small is a background with a target
_EDGE_ROWS = 16  # most rows or columns of telemetry
_EDGE_SHARE = 0.25  # least fraction of a telemetry row that lies far outside
_GROWTH = 2  # pixels; interpolation mixes this many with invalid ones
_MOST_VALUES = 3  # different fill values at each end
_AROUND = np.ones((3, 3), np.uint8)


def valid_pixels(
    frame: npt.NDArray[Any], known: Mask | None = None, *, black_hot: bool = False
) -> Mask | None:
    """Find the pixels of a frame that are measurements.

    In deep frames these pixels are invalid, if they lie far outside the distribution of the others:

    - rows and columns at the border that hold noise-like data or mostly one value (telemetry),
    - pixels of one extreme value that are connected with the border or fill a line (padding),
    - farther outside, regions of one extreme value anywhere (no data).

    Regions of the highest value (with `black_hot` of the lowest) must be large, because a target may be
    saturated. A region with a small spot inside is a background, and stays valid.

    Parameters
    ----------
    frame : (H, W) array
        uint8, uint16 or float32; NaN and infinite pixels are invalid.
    known : (H, W) bool array, optional
        False where a pixel is known to be invalid.
    black_hot : bool
        Whether targets are dark. Default: False.

    Returns
    -------
    (H, W) bool array or None
        None if all pixels are valid.
    """
    valid = np.ones(frame.shape, np.bool_) if known is None else known.copy()
    if frame.dtype == np.float32:
        valid &= np.isfinite(frame)
    if frame.dtype != np.uint8 and valid.any():
        _leave_out(frame, valid, black_hot)
    return None if valid.all() or not valid.any() else valid


def filled(frame: npt.NDArray[Any], valid: Mask | None) -> npt.NDArray[Any]:
    """Interpolate a frame over its invalid pixels, from the nearest measurements.

    Parameters
    ----------
    frame : (H, W) array
        uint8, uint16 or float32.
    valid : (H, W) bool array or None
        Pixels that are measurements; None: all.

    Returns
    -------
    (H, W) array
        Of the same type.
    """
    if valid is None or valid.all() or not valid.any():
        return frame
    counts = np.where(valid, frame, 0).astype(np.float32)
    smooth = _pulled(counts, valid.astype(np.float32))
    if frame.dtype != np.float32:
        smooth = np.rint(smooth)
    low, high = frame[valid].min(), frame[valid].max()
    out: npt.NDArray[Any] = np.where(valid, frame, smooth.clip(low, high).astype(frame.dtype))
    return out


def _pulled(counts: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Fill where the weights are 0 from half the resolution, which is filled likewise."""
    height, width = counts.shape
    if weights.min() > 0 or height * width == 1:
        return counts
    size = ((width + 1) // 2, (height + 1) // 2)
    below, right = height % 2, width % 2
    pair = (counts * weights, weights)
    even = [cv2.copyMakeBorder(one, 0, below, 0, right, cv2.BORDER_REPLICATE) for one in pair]
    total, share = (np.asarray(cv2.resize(one, size, interpolation=cv2.INTER_AREA)) for one in even)
    known = share > 0
    coarse = np.divide(total, share, out=np.zeros_like(total), where=known)
    coarse = _pulled(coarse, known.astype(np.float32))
    fine = cv2.resize(coarse, (size[0] * 2, size[1] * 2), interpolation=cv2.INTER_LINEAR)[:height, :width]
    return np.where(weights > 0, counts, fine).astype(np.float32)


def _leave_out(frame: npt.NDArray[Any], valid: Mask, black_hot: bool) -> None:
    """Set `valid` to False for padding, no-data regions and telemetry."""
    bulk = _bulk(frame, valid)
    if bulk is None:
        return
    low, high = bulk
    spread = high - low
    found = np.zeros(frame.shape, np.bool_)
    for _ in range(_MOST_VALUES):
        rest = valid & ~found
        counts = frame if rest.all() else frame[rest]
        if not counts.size:
            break
        least, most = float(counts.min()), float(counts.max())
        dark, bright = (low - least) / spread, (most - high) / spread
        more = np.zeros(frame.shape, np.bool_)
        if dark > _NEAR:
            more |= _padding(rest & (frame == least), dark, bright=black_hot)
        if bright > _NEAR:
            more |= _padding(rest & (frame == most), bright, bright=not black_hot)
        if not more.any():
            break
        found |= more
    if found.any():
        valid &= ~_grown(frame, found, low - _FAR * spread, high + _FARTHEST * spread)
    for turned, mask in ((frame, valid), (frame.T, valid.T)):
        for order in (1, -1):
            _leave_out_telemetry(turned[::order], mask[::order], low, high)


def _bulk(frame: npt.NDArray[Any], valid: Mask) -> tuple[float, float] | None:
    """The 5th and 95th percentiles of the measurements, without the most frequent fill value at each end."""
    step = max(1, int(np.sqrt(frame.size / _SAMPLE)))
    counts = frame[::step, ::step][valid[::step, ::step]].astype(np.float64)
    for _ in range(_MOST_VALUES):
        if not counts.size:
            return None
        ends = counts.min(), counts.max()
        inner = counts[(counts != ends[0]) & (counts != ends[1])]
        low, high = np.percentile(inner, (5, 95)) if inner.size else (0.0, 0.0)
        fill = [end for end in ends if np.mean(counts == end) > 0.02]
        if not fill or high <= low:
            break
        counts = counts[~np.isin(counts, fill)]
    return (float(low), float(high)) if high > low else None


def _leave_out_telemetry(frame: npt.NDArray[Any], valid: Mask, low: float, high: float) -> None:
    """Invalidate rows from the first one inwards while they hold data instead of an image."""
    spread = high - low
    most = min(_EDGE_ROWS, frame.shape[0] // 4)
    rows = next((row for row in range(most) if not _is_data(frame[row], valid[row], low, spread)), most)
    if rows < most:
        valid[:rows] = False


def _is_data(row: npt.NDArray[Any], valid: Mask, low: float, spread: float) -> bool:
    """Whether part of a row lies far outside, and the row is rough, as data are, or mostly one value."""
    counts = row[valid].astype(np.float64)
    if counts.size < 2:
        return True  # already invalid
    outside = (counts < low - _FAR * spread) | (counts > low + (1 + _FARTHEST) * spread)
    if outside.mean() < _EDGE_SHARE:
        return False
    _, numbers = np.unique(counts, return_counts=True)
    rough = np.abs(np.diff(counts)).mean() > _NEAR * spread
    return bool(rough or numbers.max() >= 0.5 * counts.size)


def _padding(same: Mask, distance: float, *, bright: bool) -> Mask:
    """The regions of one value that are padding or no data; see `valid_pixels`."""
    if np.count_nonzero(same) < _LEAST_INSIDE:
        return np.zeros(same.shape, np.bool_)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(same.view(np.uint8), connectivity=8)
    out = np.zeros(same.shape, np.bool_)
    height, width = same.shape
    lines = _full_lines(same)
    for number in range(1, count):
        left, top, across, down, area = (int(value) for value in stats[number])
        region = labels[top : top + down, left : left + across] == number
        at_border = left == 0 or top == 0 or left + across == width or top + down == height
        has_line = bool((region & lines[top : top + down, left : left + across]).any())
        needed = _NEAR if has_line else _FAR if at_border and not bright else _FARTHEST
        least = _LEAST_BRIGHT * same.size if bright else _LEAST if at_border else _LEAST_INSIDE
        if distance > needed and (has_line or area >= least) and not _has_island(region):
            out[top : top + down, left : left + across] |= region
    return out


def _full_lines(same: Mask) -> Mask:
    """The pixels of rows and columns that have the value from end to end."""
    lines: Mask = np.zeros(same.shape, np.bool_)
    lines[same.all(axis=1)] = True
    lines[:, same.all(axis=0)] = True
    return lines


def _has_island(region: Mask) -> bool:
    """Whether a region completely surrounds something small."""
    outside = np.pad(~region, 1, constant_values=False).view(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(outside, connectivity=4)
    height, width = region.shape
    for left, top, across, down, area in stats[1:count].tolist():
        inside = left > 1 and top > 1 and left + across < width + 1 and top + down < height + 1
        if inside and area <= _ISLAND:
            return True
    return False


def _grown(frame: npt.NDArray[Any], found: Mask, low: float, high: float) -> Mask:
    """Add pixels outside low..high that were mixed with the fill value by interpolation.

    They are close to the regions found, or connected with them along the border: a small rotation leaves a
    wedge there that is less than a pixel high.
    """
    close = np.asarray(cv2.dilate(found.view(np.uint8), _AROUND, iterations=_GROWTH)).view(np.bool_)
    close[[0, -1]] = close[:, [0, -1]] = True
    mixed = found | (close & ((frame < low) | (frame > high)))
    _, labels = cv2.connectedComponents(mixed.view(np.uint8), connectivity=8)
    touched = np.unique(labels[found])
    grown: Mask = np.isin(labels, touched)
    return grown
