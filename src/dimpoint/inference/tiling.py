"""How a big frame is cut: tiles of one size that overlap, each with a core of its own.

The cores cover the frame once. Around its core a tile holds at least the margin, or reaches the frame's
end; with a margin as wide as the network looks, a core's response is the response of the whole frame.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

_LEAST_MARGINS = 4  # a tile is at least this many margins long, or the overlap would eat the work


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
