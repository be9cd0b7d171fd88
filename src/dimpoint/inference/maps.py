"""Frames, network inputs and maps: tiles of a big frame, and which pixels of one are which of the other.

A big frame is cut into tiles of one size that overlap, each with a core of its own. The cores cover the frame
once. Around its core a tile holds at least the margin, or reaches the frame's end; with a margin as wide as
the network's receptive field, a core's response is the response of the whole frame.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.inference.decode import Peaks
from dimpoint.inference.detections import Detections
from dimpoint.model.validity import Mask

_LEAST_MARGINS = 4  # a tile is at least this many margins long, or the overlap would eat the work
_BESIDE = 2.0  # pixels beside a fitted frame from which a detection is moved onto it
_AROUND = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class Span:
    """Along one axis: pixels start..stop are read, of which core_start..core_stop are kept."""

    start: int
    stop: int
    core_start: int
    core_stop: int


@dataclass(frozen=True)
class Tile:
    rows: Span
    columns: Span


def plan_tiles(height: int, width: int, *, pixels: int, margin: int, multiple: int) -> list[Tile]:
    """Tiles of a (height, width) input, itself a multiple in both, row by row, all of one size.

    pixels: the most that a tile should hold; a margin too wide for that takes precedence. margin: pixels
    that a core keeps from every tile edge inside the frame. Starts and sizes are multiples of `multiple`.
    """
    margin = _round_up(margin, multiple)
    if height * width <= pixels:
        tile_height, tile_width = height, width
    else:
        least = _LEAST_MARGINS * margin + multiple
        square = max(least, _round_down(math.isqrt(pixels), multiple))
        tile_height = min(height, square)
        tile_width = min(width, max(least, _round_down(pixels // tile_height, multiple)))
        tile_height = min(height, max(tile_height, _round_down(pixels // tile_width, multiple)))
    columns = list(_spans(width, tile_width, margin, multiple))
    return [Tile(rows, span) for rows in _spans(height, tile_height, margin, multiple) for span in columns]


def _spans(length: int, tile: int, margin: int, multiple: int) -> Iterator[Span]:
    """Equal tiles spread evenly over the length; the cores meet in the middle of each overlap."""
    if tile >= length:
        yield Span(0, length, 0, length)
        return
    count = math.ceil((length - 2 * margin) / (tile - 2 * margin))
    starts = [_round_down(i * (length - tile) // (count - 1), multiple) for i in range(count)]
    seams = [
        _round_down((start + tile + following) // 2, multiple)
        for start, following in itertools.pairwise(starts)
    ]
    for start, core_start, core_stop in zip(starts, [0, *seams], [*seams, length], strict=True):
        yield Span(start, start + tile, core_start, core_stop)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _round_down(value: int, multiple: int) -> int:
    return value // multiple * multiple


def core(span: Span, stride: int, origin: int = 0) -> slice:
    """The map pixels of a span's core, counted from the input pixel `origin`."""
    return slice((span.core_start - origin) // stride, (span.core_stop - origin) // stride)


def source(span: Span, scale: int, size: int) -> slice:
    """The frame pixels that a span of the input is made of, and two more around.

    A magnified pixel lies between two of the frame's, and whether those are hot their neighbours say.
    """
    return slice(max(span.start // scale - 2, 0), min(-(-span.stop // scale) + 2, size))


def upsampled(
    native: npt.NDArray[np.float32], scale: int, stride: int, shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """The map of a frame as it is, sampled where the pixels of the `scale` times magnified one's map lie."""
    shift = (1 / scale - 1) / (2 * stride)
    onto = np.array([[1 / scale, 0, shift], [0, 1 / scale, shift]])
    how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    size = (shape[1], shape[0])
    warped = cv2.warpAffine(native, onto, size, flags=how, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, np.float32)


def sigmoid(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    from scipy.special import expit

    probabilities: npt.NDArray[np.float32] = expit(logits)
    return probabilities


def on_valid_pixels(found: Detections, valid: Mask) -> Detections:
    """Those that do not lie on an invalid pixel, nor beside one, where the frame ends for the network."""
    inside = np.asarray(cv2.erode(valid.view(np.uint8), _AROUND)).view(np.bool_)
    columns, rows = np.round(found.xy).astype(int).T
    kept = inside[rows, columns]
    areas = None if found.areas is None else found.areas[kept]
    return replace(found, xy=found.xy[kept], scores=found.scores[kept], areas=areas)


def in_frame(peaks: Peaks, shape: tuple[int, ...], stride: int, scale: int, model: str) -> Detections:
    """Map pixels -> pixels of the original frame; magnified pixels are halves around the same centre."""
    height, width = shape
    xy = (peaks.xy * stride + 0.5) / scale - 0.5
    xy = np.clip(xy, 0, np.array([width - 1, height - 1]))
    areas = None if peaks.areas is None else peaks.areas * np.float32((stride / scale) ** 2)
    scores = np.clip(peaks.scores, 0, 1)
    return Detections(xy.astype(np.float32), scores, areas, width=width, height=height, model=model)


def from_fit(
    peaks: Peaks, shape: tuple[int, ...], stride: int, fitted: npt.NDArray[np.float64], model: str
) -> Detections:
    """The same for a frame that was fitted into another size; what lies beside the frame is left out."""
    height, width = shape
    last = np.array([width - 1, height - 1])
    spread = np.array([fitted[0, 0], fitted[1, 1]])
    xy = (peaks.xy * stride - fitted[:, 2]) / spread
    kept = ((xy > -_BESIDE) & (xy < last + _BESIDE)).all(axis=1)
    areas = None if peaks.areas is None else peaks.areas[kept] * np.float32(stride**2 / spread.prod())
    xy = np.clip(xy[kept], 0, last).astype(np.float32)
    scores = np.clip(peaks.scores[kept], 0, 1)
    return Detections(xy, scores, areas, width=width, height=height, model=model)
