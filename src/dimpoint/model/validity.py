"""Pixels that are no measurement: which they are, and what the network sees in their place.

Borders and corners that a stabiliser filled, telemetry rows, no-data values, dead columns, NaN. They would
move the range of a deep frame, and their edges look like targets. The rules are for deep frames (uint16,
float32); of 8-bit frames, whose range is fixed, only what a reader or the caller says is left out.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

_SAMPLE = 16384  # pixels whose 5th and 95th percentiles say where the measurements lie
# How far beyond these percentiles, in parts of their distance, fill values lie at least:
_NEAR = 0.5  # those of whole lines,
_FAR = 1.0  # of other regions at the border,
_FARTHEST = 3.0  # of regions inside the frame, and bright ones
_LEAST = 4  # pixels of a dark region at the border,
_LEAST_INSIDE = 2  # and elsewhere: lone pixels do not move the range
_LEAST_BRIGHT = 0.005  # of the frame, of a bright region: a smaller one may be a target
_ISLAND = 200  # pixels; a region around something this small is a background with a target in it
_EDGE_ROWS = 16  # telemetry lies in this many rows or columns at most
_EDGE_SHARE = 0.25  # of a telemetry row, that lies far out
_GROWTH = 2  # pixels, of what interpolation mixed with invalid ones
_MOST_VALUES = 3  # different fill values at either end
_AROUND = np.ones((3, 3), np.uint8)


def valid_pixels(
    frame: npt.NDArray[Any], known: Mask | None = None, *, black_hot: bool = False
) -> Mask | None:
    """The mask of a frame's measurements, or None if all pixels are.

    frame: (H, W) uint8, uint16 or float32; NaN and infinite pixels are no measurements. known: (H, W), False
    where it is already known that a pixel is none. In deep frames these are found, too, each well outside of
    the distribution of the rest:

    - rows and columns at the border with the noise of data in them, or mostly one value (telemetry),
    - pixels of one extreme value that are connected with the border or fill a line (padding),
    - farther outside, regions of one extreme value anywhere (no data).

    Regions of the highest value (of the lowest, where targets are dark: `black_hot`) count only if they are
    large, because a target may be saturated, and none counts that has a small spot within it, because then it
    is a background.
    """
    valid = np.ones(frame.shape, np.bool_) if known is None else known.copy()
    if frame.dtype == np.float32:
        valid &= np.isfinite(frame)
    if frame.dtype != np.uint8 and valid.any():
        _leave_out(frame, valid, black_hot)
    return None if valid.all() or not valid.any() else valid


def filled(frame: npt.NDArray[Any], valid: Mask | None) -> npt.NDArray[Any]:
    """The frame with smooth values, taken from the nearest measurements, in place of invalid pixels."""
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
    """Fill where the weights are 0, from half the resolution, and that from half of it again."""
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
    """Set `valid` to False where the rules say so."""
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
    """The 5th and 95th percentiles of the measurements, without each end's most frequent fill value."""
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
    """From the first row inwards, as long as rows hold data instead of a picture, and not in too many."""
    spread = high - low
    most = min(_EDGE_ROWS, frame.shape[0] // 4)
    rows = next((row for row in range(most) if not _is_data(frame[row], valid[row], low, spread)), most)
    if rows < most:
        valid[:rows] = False


def _is_data(row: npt.NDArray[Any], valid: Mask, low: float, spread: float) -> bool:
    """Whether a row lies far out in part, and there is rough as data are, or mostly one value."""
    counts = row[valid].astype(np.float64)
    if counts.size < 2:
        return True  # left out already
    outside = (counts < low - _FAR * spread) | (counts > low + (1 + _FARTHEST) * spread)
    if outside.mean() < _EDGE_SHARE:
        return False
    _, numbers = np.unique(counts, return_counts=True)
    rough = np.abs(np.diff(counts)).mean() > _NEAR * spread
    return bool(rough or numbers.max() >= 0.5 * counts.size)


def _padding(same: Mask, distance: float, *, bright: bool) -> Mask:
    """The regions of pixels of `same` value that are padding or no data; see `valid_pixels`."""
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
    """The pixels of rows and columns that are `same` from end to end."""
    lines: Mask = np.zeros(same.shape, np.bool_)
    lines[same.all(axis=1)] = True
    lines[:, same.all(axis=0)] = True
    return lines


def _has_island(region: Mask) -> bool:
    """Whether something small lies wholly within the region."""
    outside = np.pad(~region, 1, constant_values=False).view(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(outside, connectivity=4)
    height, width = region.shape
    for left, top, across, down, area in stats[1:count].tolist():
        inside = left > 1 and top > 1 and left + across < width + 1 and top + down < height + 1
        if inside and area <= _ISLAND:
            return True
    return False


def _grown(frame: npt.NDArray[Any], found: Mask, low: float, high: float) -> Mask:
    """With the pixels outside of low..high that interpolation mixed with the fill value.

    They are close to the regions found, or connected with them along the frame's border: a small turn leaves
    a wedge there that is less than a pixel high.
    """
    close = np.asarray(cv2.dilate(found.view(np.uint8), _AROUND, iterations=_GROWTH)).view(np.bool_)
    close[[0, -1]] = close[:, [0, -1]] = True
    mixed = found | (close & ((frame < low) | (frame > high)))
    _, labels = cv2.connectedComponents(mixed.view(np.uint8), connectivity=8)
    touched = np.unique(labels[found])
    grown: Mask = np.isin(labels, touched)
    return grown
