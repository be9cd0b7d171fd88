"""Probabilities in a few windows of a large frame, without predicting the rest of it.

The network sees a tile around each window; the intensity range is that of the whole frame. Networks with a
wide receptive field or with means over their input give other probabilities in a tile than in the whole
frame, the more the smaller the tile (`benchmarks/growth_windows.py`), so frames of up to `WHOLE` tiles are
predicted whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dimpoint.inference.detector import Detector
from dimpoint.inference.maps import Span, Tile, measured, network_input, run_network
from dimpoint.model.input_rule import round_up
from dimpoint.sources.frames import as_array

Window = tuple[slice, slice]  # rows and columns of a frame

WHOLE = 4  # tiles; a frame of this area or less is predicted whole
_SHARE = 0.5  # of the frame's area: with more in tiles, the whole frame is predicted
_TOGETHER = 2**19  # pixels of tiles that run together


def plan_windows(
    shape: tuple[int, ...], windows: Sequence[Window], side: int, multiple: int
) -> list[tuple[Tile, list[Window]]] | None:
    """The tiles that hold all windows, and the windows of each.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the frame.
    windows : sequence of pairs of slices
        Rows and columns, inside the frame.
    side : int
        Side of a tile, pixels; twice the longest window, if that is more.
    multiple : int
        Starts and sizes of tiles are multiples of this.

    Returns
    -------
    list of (Tile, list of Window) or None
        None: predict the whole frame, because it has at most `WHOLE` tiles' area, or the tiles have more than
        half of its area.
    """
    height, width = shape
    longest = max((axis.stop - axis.start for window in windows for axis in window), default=0)
    side = round_up(max(side, 2 * longest), multiple)
    if height * width <= WHOLE * side**2:
        return None
    padded = (round_up(height, multiple), round_up(width, multiple))
    planned: list[tuple[Tile, list[Window]]] = []
    left = list(windows)
    while left:
        tile = Tile(*(_around(axis, side, end, multiple) for axis, end in zip(left[0], padded, strict=True)))
        inside = left[:1] + [
            window
            for window in left[1:]
            if all(
                _holds(span, axis, end, side // 4)
                for span, axis, end in zip((tile.rows, tile.columns), window, padded, strict=True)
            )
        ]
        planned.append((tile, inside))
        left = [window for window in left if not any(window is other for other in inside)]
    area = sum((t.rows.stop - t.rows.start) * (t.columns.stop - t.columns.start) for t, _ in planned)
    return None if area > _SHARE * height * width else planned


def probability_at(
    detector: Detector, frame: npt.NDArray[np.generic], windows: Sequence[Window], side: int
) -> npt.NDArray[np.float32]:
    """The probability of a target in windows of a frame.

    Parameters
    ----------
    detector : Detector
        A segmentation network, see `Detector.probability_map`.
    frame : (H, W) array
        Counts.
    windows : sequence of pairs of slices
        Rows and columns, inside the frame.
    side : int
        Side of the square that the network sees around a window, pixels.

    Returns
    -------
    (H, W) float32 array
        In 0..1. Outside the windows it is 0, or the prediction of the whole frame.

    Raises
    ------
    FrameError, ConfigError
        As `Detector.probability_map`.
    """
    meta, pixels = detector.meta, as_array(frame)
    plain = meta.kind == "probability" and meta.stride == 1 and meta.input.fit is None
    tiles = None
    if plain and meta.input.scales_of(pixels.shape) == (1,):
        tiles = plan_windows(pixels.shape, windows, side, meta.multiple)
    if tiles is None:
        return detector.probability_map(frame)
    known = measured(pixels, meta.input.intensity, black_hot=detector.polarity == "black-hot")
    result = np.zeros(known.shape, np.float32)
    count = max(1, _TOGETHER // side**2)
    for first in range(0, len(tiles), count):
        together = tiles[first : first + count]
        inputs = [network_input(meta.input, known, tile, 1, meta.mean[0]) for tile, _ in together]
        outputs = run_network(detector.backend, np.stack(inputs)).clip(0, 1)
        for output, (tile, inside) in zip(outputs, together, strict=True):
            for rows, columns in inside:
                top, left = tile.rows.start, tile.columns.start
                result[rows, columns] = output[
                    rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
                ]
    return result if known.valid is None else result * known.valid


def _around(axis: slice, side: int, end: int, multiple: int) -> Span:
    """A span of `side` pixels around the middle of a window, inside 0 to `end`."""
    start = ((axis.start + axis.stop - side) // 2 + multiple // 2) // multiple * multiple
    start = max(min(start, end - side), 0)
    stop = min(start + side, end)
    return Span(start, stop, start, stop)


def _holds(span: Span, axis: slice, end: int, margin: int) -> bool:
    """Whether a window lies in a span, at least `margin` from its ends or at the frame's own ends."""
    first = span.start if span.start == 0 else span.start + margin
    last = span.stop if span.stop == end else span.stop - margin
    return bool(first <= axis.start and axis.stop <= last)
