"""Points from the boxes that trackers are labelled with.

A box of a few pixels is often loose, and its centre is off the target. The point is the centroid of the
brightest connected region in the box. The rest of the box stays unlabelled: an ignore region.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.errors import DataError

Boxes = npt.NDArray[np.float64]

_COLUMNS = ("x", "y", "width", "height")
_SURROUNDINGS = 8  # pixels around a box in which noise is measured
_LEAST_NOISE = 2.5  # smallest ratio of the smoothed peak to the noise of single pixels
_LEAST_PEAK = 0.012  # smallest peak, as a fraction of the range (uint8: 255, else that of the frame)
_PART_OF_PEAK = 0.5  # pixels above this fraction of the peak belong to the spot
_SMOOTH = 0.7  # sigma, pixels: suppresses single noisy pixels
_SPREAD = 4.0  # sigma, pixels: wider structures are background


@dataclass(frozen=True, eq=False)
class BoxLabels:
    """Labels made from the boxes of one frame.

    Parameters
    ----------
    points : (N, 2) float32
        x, y of the spots, pixels.
    ignore : (M, 4) float32
        Left, top, right, bottom of every box that overlaps the frame.
    without_spot : int
        Number of boxes without a spot, or larger than asked for.
    outside : int
        Number of boxes that do not overlap the frame.
    """

    points: npt.NDArray[np.float32]
    ignore: npt.NDArray[np.float32]
    without_spot: int
    outside: int


Point = tuple[float, float, str]  # x, y, label
Box = tuple[float, float, float, float, str]  # left, top, right, bottom pixel, label


@dataclass
class Labels:
    """The labels of one image by one tool.

    regions: boxes in which targets are unknown. size: (height, width) of the image by the label file. place,
    of: of a video's frame its number among the frames, and how many there are; 0: unknown.
    """

    name: str
    points: list[Point] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    regions: list[Box] = field(default_factory=list)
    size: tuple[int, int] | None = None
    place: int | None = None
    of: int = 0


def recorded_size(height: Any, width: Any) -> tuple[int, int] | None:
    """(height, width) as a label file gives them; None if one is missing or 0."""
    size = int(float(height or 0)), int(float(width or 0))
    return size if all(size) else None


def pixel_box(corners: Sequence[tuple[float, float]]) -> tuple[float, float, float, float]:
    """The outermost pixels (left, top, right, bottom) of an outline, given by its corners on pixels' edges.

    The corners count from the outer corner of the top-left pixel, the pixels from its centre. A side shorter
    than a pixel becomes its middle.
    """
    (left, right), (top, bottom) = (_pixels_between(values) for values in zip(*corners, strict=True))
    return left, top, right, bottom


def _pixels_between(edges: Sequence[float]) -> tuple[float, float]:
    inset = min(0.5, (max(edges) - min(edges)) / 2)
    return min(edges) + inset - 0.5, max(edges) - inset - 0.5


def read_boxes(path: Path, key: str = "frame") -> dict[str, Boxes]:
    """Read boxes from a CSV file with the columns `x`, `y`, `width` and `height` and a column of frame names.

    Parameters
    ----------
    path : Path
        The file; x and y are the upper left corner, in pixels.
    key : str, default "frame"
        The column with the frame's name.

    Returns
    -------
    dict of str to (N, 4) float64
        Left, top, right, bottom of each frame's boxes.

    Raises
    ------
    DataError
        If a column is missing, a value is not a finite number, or a size is negative.
    """
    found: dict[str, list[list[float]]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            missing = [name for name in (key, *_COLUMNS) if name not in (rows.fieldnames or ())]
            if missing:
                raise DataError(f"{path}: no column '{missing[0]}'; expected {key}, {', '.join(_COLUMNS)}")
            for row in rows:
                x, y, width, height = (_number(row[name], path, rows.line_num, name) for name in _COLUMNS)
                if width < 0 or height < 0:
                    raise DataError(
                        f"{path}, line {rows.line_num}: the box has the negative size {width:g}x{height:g}"
                    )
                found.setdefault(str(row[key]), []).append([x, y, x + width, y + height])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable CSV file ({error})") from None
    return {name: np.array(boxes) for name, boxes in found.items()}


def label_boxes(frame: npt.NDArray[Any], boxes: npt.NDArray[Any], largest: float = 25.0) -> BoxLabels:
    """Make points and ignore regions from the boxes of one frame.

    Parameters
    ----------
    frame : (H, W) array
        The frame.
    boxes : (N, 4) array
        Left, top, right, bottom, pixels; parts outside the frame are clipped.
    largest : float, default 25
        A box with a longer side, in pixels, becomes an ignore region without a point.

    Returns
    -------
    BoxLabels

    Examples
    --------
    >>> import numpy as np
    >>> from dimpoint.datasets.boxes import label_boxes
    >>> frame = np.zeros((40, 40), np.uint8)
    >>> frame[20, 21] = 200
    >>> label_boxes(frame, [[15, 15, 26, 26]]).points.tolist()
    [[21.0, 20.0]]
    """
    height, width = frame.shape
    inside = np.asarray(boxes, np.float64).reshape(-1, 4).clip(0, [width - 1, height - 1] * 2)
    meets = (np.asarray(boxes).reshape(-1, 4)[:, :2] <= (width - 1, height - 1)).all(axis=1) & (
        np.asarray(boxes).reshape(-1, 4)[:, 2:] >= 0
    ).all(axis=1)
    small = (inside[:, 2:] - inside[:, :2]).max(axis=1, initial=0) <= largest
    spots = [spot_in_box(frame, box) for box in inside[meets & small]]
    points = np.array([spot for spot in spots if spot is not None], np.float32).reshape(-1, 2)
    kept = inside[meets].astype(np.float32)
    return BoxLabels(points, kept, int(meets.sum()) - len(points), int((~meets).sum()))


def spot_in_box(frame: npt.NDArray[Any], box: npt.NDArray[Any]) -> tuple[float, float] | None:
    """Find the spot with the highest contrast in a box.

    Parameters
    ----------
    frame : (H, W) array
        The frame.
    box : (4,) array
        Left, top, right, bottom, pixels.

    Returns
    -------
    tuple of float, or None
        Centroid x, y. None if nothing exceeds the noise around the box, or the spot extends beyond the box.
    """
    left, top = (math.floor(value) for value in box[:2])
    right, bottom = (math.ceil(value) + 1 for value in box[2:])
    rows = slice(max(top - _SURROUNDINGS, 0), bottom + _SURROUNDINGS)
    columns = slice(max(left - _SURROUNDINGS, 0), right + _SURROUNDINGS)
    window = frame[rows, columns].astype(np.float32)
    row, column = max(top, 0) - rows.start, max(left, 0) - columns.start
    inside = np.zeros(window.shape, np.uint8)
    inside[row : bottom - rows.start, column : right - columns.start] = 1
    if min(window.shape) < 2 or not inside.any():
        return None
    near = cv2.dilate(inside, np.ones((3, 3), np.uint8)).astype(np.bool_)
    smooth = _blurred(window, _SMOOTH)
    stands_out = smooth - _blurred(window, _SPREAD)
    peak_at = int(np.where(inside > 0, stands_out, -np.inf).argmax())
    contrast = smooth - np.float32(np.median(window[near]))
    peak = float(contrast.ravel()[peak_at])
    noise = 1.4826 * float(np.median(np.abs(np.diff(window, axis=1)))) / math.sqrt(2)
    if min(peak, 2 * float(stands_out.ravel()[peak_at])) < max(
        _LEAST_NOISE * noise, _LEAST_PEAK * _range(frame)
    ):
        return None
    _, labels = cv2.connectedComponents((contrast > _PART_OF_PEAK * peak).astype(np.uint8), connectivity=8)
    own = np.asarray(labels) == np.asarray(labels).ravel()[peak_at]
    if (own & ~near).any():
        return None
    down, across = np.nonzero(own)
    weights = contrast[down, across]
    x, y = np.average(across, weights=weights), np.average(down, weights=weights)
    return float(x) + columns.start, float(y) + rows.start


def _blurred(pixels: npt.NDArray[np.float32], sigma: float) -> npt.NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma), np.float32)


def _range(frame: npt.NDArray[Any]) -> float:
    if np.issubdtype(frame.dtype, np.integer) and frame.dtype == np.uint8:
        return 255.0
    low, high = np.percentile(frame, (1, 99))
    return float(high - low)


def _number(text: str | None, path: Path, line: int, column: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{path}, line {line}: {column} must be a number of pixels, got {text!r}")
    return value
