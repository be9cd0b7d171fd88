"""Copy-paste augmentation: targets of real frames, cut out by their points and pasted into other frames.

A target is the region connected with the brightest pixel near its point. It is stored as contrast against
its surroundings, so that it can be pasted onto a brighter or darker place. Own design, after the copy-paste
augmentation of instance segmentation (arXiv 2012.07177), which cuts along masks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

_REACH = 15  # pixels, half the side of the window around a target
_SURROUNDINGS = 7.0  # pixels; background is measured farther from the point than this
_NEAR = 2  # pixels; the target's brightest pixel lies within this of the point
_LEAST_PEAK = 0.02  # unit range; a fainter target cannot be separated from its surroundings
_PART_OF_PEAK = 0.3  # a target's pixels exceed this fraction of its peak,
_PART_IN_NOISE = 0.6  # or in noise up to this fraction,
_NOISE = 2.5  # so that they exceed this many standard deviations
_OFF = 2.0  # pixels, largest distance of the point from the centroid of its region
_RIM = 0.5  # weight in the pixels around a target, for a soft edge

_GAIN = (-0.5, 0.3)  # range of the logarithm of the brightness factor
_APART = 20.0  # pixels, least distance of a copy from other targets
_PLACES = 10  # places tried for a copy
_LEAST_CONTRAST = 0.03  # of a copy, unit range
_LEAST_SCR = 1.5  # of a copy: contrast over the standard deviation of its surroundings
_LEAST_CHANGE = 0.02  # mean change of a copy's pixels, unit range
_SATURATED = 0.7  # fraction of copies that are clipped at 1, as by a saturated sensor


@dataclass(frozen=True, eq=False)
class TargetCut:
    """A target that was cut out of a frame.

    Parameters
    ----------
    contrast : (h, w) float32 array
        Value above the surroundings, in unit range.
    weight : (h, w) float32 array
        1 on the target, less on its rim, 0 elsewhere.
    point : tuple of float
        x, y of its label, in pixels of the cut.
    """

    contrast: Array
    weight: Array
    point: tuple[float, float]


def cut_targets(frame: Array, points: npt.NDArray[np.floating]) -> list[TargetCut]:
    """Cut out the targets that are isolated from clutter, borders and other targets.

    Parameters
    ----------
    frame : (H, W) float32 array
        In unit range.
    points : (N, 2) array
        x, y of the targets, in pixels.

    Returns
    -------
    list of TargetCut
    """
    cuts = (_cut(frame, point, np.delete(points, index, 0)) for index, point in enumerate(points))
    return [cut for cut in cuts if cut is not None]


def set_targets(
    frame: Array,
    points: npt.NDArray[np.floating],
    cuts: Sequence[TargetCut],
    rng: np.random.Generator,
    count: int,
) -> tuple[Array, npt.NDArray[np.float32]]:
    """Paste random cuts into a copy of a frame.

    Cuts are mirrored and scaled in brightness at random. Fewer than `count` are pasted where there is no
    room, or where they could not be seen.

    Parameters
    ----------
    frame : (H, W) float32 array
        In unit range.
    points : (N, 2) array
        x, y of the targets that the frame has, in pixels.
    cuts : sequence of TargetCut
        Choices.
    rng : numpy.random.Generator
        Source of randomness.
    count : int
        Most cuts to paste.

    Returns
    -------
    frame : (H, W) float32 array
        The new frame.
    points : (M, 2) float32 array
        Its targets, old ones first.
    """
    out = frame.copy()
    taken = [(float(x), float(y)) for x, y in points]
    for _ in range(count):
        cut = _varied(cuts[int(rng.integers(len(cuts)))], rng)
        room = np.subtract(out.shape, cut.weight.shape)
        if (room < 1).any():
            continue
        for _ in range(_PLACES):
            row, column = (int(rng.integers(left)) for left in room)
            x, y = column + cut.point[0], row + cut.point[1]
            if any(math.hypot(x - other[0], y - other[1]) < _APART for other in taken):
                continue
            if _set(out, cut, row, column, saturate=bool(rng.random() < _SATURATED)):
                taken.append((x, y))
                break
    return out, np.array(taken, np.float32).reshape(-1, 2)


def _cut(frame: Array, point: npt.NDArray[np.floating], others: npt.NDArray[np.floating]) -> TargetCut | None:
    height, width = frame.shape
    centre = np.round(point).astype(int)
    if not (0 <= centre[0] < width and 0 <= centre[1] < height):
        return None
    if len(others) and (np.abs(others - point).max(axis=1) < 2 * _REACH).any():
        return None
    left, top = np.maximum(centre - _REACH, 0).tolist()
    window = frame[top : centre[1] + _REACH + 1, left : centre[0] + _REACH + 1]
    x, y = float(point[0]) - left, float(point[1]) - top
    rows, columns = np.indices(window.shape)
    around = window[np.hypot(columns - x, rows - y) > _SURROUNDINGS]
    if not around.size:
        return None
    background = float(np.median(around))
    noise = 1.4826 * float(np.median(np.abs(around - background)))
    close = np.maximum(abs(columns - (centre[0] - left)), abs(rows - (centre[1] - top))) <= _NEAR
    brightest = divmod(int(np.where(close, window, -np.inf).argmax()), window.shape[1])
    peak = float(window[brightest]) - background
    if peak < _LEAST_PEAK:
        return None
    least = max(_PART_OF_PEAK * peak, min(_NOISE * noise, _PART_IN_NOISE * peak))
    _, labels = cv2.connectedComponents((window > background + least).astype(np.uint8), connectivity=8)
    own = labels == labels[brightest]
    if own[:2].any() or own[-2:].any() or own[:, :2].any() or own[:, -2:].any():
        return None  # touches the border of the window: clutter, or cut off by the frame
    down, across = np.nonzero(own)
    if math.hypot(float(across.mean()) - x, float(down.mean()) - y) > _OFF:
        return None  # not the labelled target
    rim = cv2.dilate(own.astype(np.uint8), np.ones((3, 3), np.uint8))
    weight = np.where(own, 1.0, _RIM * rim).astype(np.float32)
    column, row, wide, high = cv2.boundingRect(rim)
    part = slice(row, row + high), slice(column, column + wide)
    contrast = (window - np.float32(background))[part]
    return TargetCut(contrast, weight[part], (x - column, y - row))


def _varied(cut: TargetCut, rng: np.random.Generator) -> TargetCut:
    contrast, weight, (x, y) = cut.contrast, cut.weight, cut.point
    if rng.random() < 0.5:
        contrast, weight, x = contrast[:, ::-1], weight[:, ::-1], contrast.shape[1] - 1 - x
    return TargetCut(contrast * np.float32(math.exp(rng.uniform(*_GAIN))), weight, (x, y))


def _set(frame: Array, cut: TargetCut, row: int, column: int, *, saturate: bool) -> bool:
    """Paste the cut with its corner at (row, column), in place; False where it would not be visible."""
    height, width = cut.weight.shape
    place = frame[row : row + height, column : column + width]
    level = np.median(place)
    new = cut.weight * (level + cut.contrast) + (1 - cut.weight) * place
    if saturate:
        new = np.minimum(new, np.maximum(place, 1.0))
    own = cut.weight >= 1
    stands_out = float((new - level)[own].max())
    if stands_out < max(_LEAST_SCR * float(place.std()), _LEAST_CONTRAST):
        return False
    if float(np.abs(new - place)[own].mean()) < _LEAST_CHANGE:
        return False
    place[:] = new
    return True
