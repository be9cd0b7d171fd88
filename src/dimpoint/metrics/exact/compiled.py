"""Loops that numba compiles, for dense maps: a sort, and the union-find that joins the pixels of a frame.

The pixels of a frame join one by one, brightest first, in a union-find by area that keeps each object's area,
sums of coordinates and first pixel. Only states whose centroid is near a target are written down, so that the
work per pixel is a sort, a few look-ups and one division. (Najman and Couprie, IEEE TIP 15(11), 2006.)

numba is optional: without it, and for few pixels, `component_tree`, `object_states` and `levels` give the
same counts from array arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

LEAST = 2**16  # pixels above 0; for fewer, loading numba takes longer than it saves
_DIGITS = 11  # bits of a pass of the sort
_COLUMNS = 5  # of a state: branch, area, sum of x, sum of y, first pixel

Arrays = tuple[npt.NDArray[Any], ...]


def worthwhile(pixels: int) -> bool:
    """Whether the loops are to be used for so many pixels above 0."""
    return pixels >= LEAST and find_spec("numba") is not None


def order_of(keys: npt.NDArray[np.uint32]) -> npt.NDArray[np.int32]:
    """The order of keys (N,) from low to high, equal ones as they come."""
    order: npt.NDArray[np.int32] = _loops()[0](keys)
    return order


def join_pixels(
    values: npt.NDArray[Any], width: int, order: npt.NDArray[np.int32], near: npt.NDArray[np.uint8]
) -> Arrays:
    """Let the pixels of a frame join, one by one.

    Parameters
    ----------
    values : (H * W,) float32 or float64
        The map, row by row.
    width : int
        Of the frame, pixels.
    order : (n,) int32
        Indices of the pixels above 0, brightest first.
    near : (H * W,) uint8
        Above 0 where states are written down whose centroid lies in the pixel.

    Returns
    -------
    change : (n,) int8
        Objects that appear at each pixel of `order`, less those that it joins to others.
    kind : (S, 5) int64
        Of the states: branch, below (H + 2) * (W + 2); area, sums of x and y, first pixel.
    high, low : (S,) float64
        A state holds for thresholds low <= t < high.
    """
    change, kind, high, low, count = _loops()[1](values, width, order, near)
    return change, kind[:count], high[:count], low[:count]


def prepare() -> None:
    """Compile, or read what was compiled, before several threads need it."""
    _loops()


@cache
def _loops() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The compiled functions (sort, join), compiled by their first call on a machine, then read from disk."""
    from numba import njit

    try:
        return njit(nogil=True, cache=True)(_sort), njit(nogil=True, cache=True)(_join)
    except RuntimeError:  # no folder in which compiled functions could be kept
        return njit(nogil=True)(_sort), njit(nogil=True)(_join)


def _sort(given):  # type: ignore[no-untyped-def]
    """A stable radix sort in three passes: the order of uint32 keys."""
    count = len(given)
    keys, other_keys = given.copy(), np.empty(count, np.uint32)
    order, other_order = np.empty(count, np.int32), np.empty(count, np.int32)
    for index in range(count):
        order[index] = index
    mask = np.uint32((1 << _DIGITS) - 1)
    for part in range(3):
        shift = np.uint32(part * _DIGITS)
        places = np.zeros((1 << _DIGITS) + 1, np.int64)
        for key in keys:
            places[((key >> shift) & mask) + 1] += 1
        for digit in range(1 << _DIGITS):
            places[digit + 1] += places[digit]
        for index in range(count):
            digit = (keys[index] >> shift) & mask
            place = places[digit]
            places[digit] += 1
            other_keys[place] = keys[index]
            other_order[place] = order[index]
        keys, other_keys = other_keys, keys
        order, other_order = other_order, order
    return order


def _join(values, width, order, near):  # type: ignore[no-untyped-def]
    """The loop of `join_pixels`; gives also how many states there are."""
    height = len(values) // width
    stride = width + 2  # an empty pixel on each side, so that no neighbour needs a check
    above = np.full((height + 2) * stride, -1, np.int32)
    sums = np.empty((len(above), 4), np.int64)  # of an object at its root: area, x, y, first pixel
    open_state = np.full(len(above), -1, np.int64)
    change = np.empty(len(order), np.int8)
    room = 1024
    kind = np.empty((room, _COLUMNS), np.int64)
    high, low = np.empty(room, np.float64), np.zeros(room, np.float64)
    count = 0
    around = np.array([-stride - 1, -stride, -stride + 1, -1, 1, stride - 1, stride, stride + 1], np.int32)
    roots = np.empty(8, np.int32)
    for rank in range(len(order)):
        pixel = order[rank]
        y = pixel // width
        x = pixel - y * width
        place = (y + 1) * stride + x + 1
        met = 0
        root = place
        most = 0
        for step in around:
            other = place + step
            if above[other] < 0:
                continue
            while above[other] != other:
                above[other] = above[above[other]]
                other = above[other]
            known = False
            for index in range(met):
                known = known or roots[index] == other
            if not known:
                roots[met] = other
                met += 1
                if sums[other, 0] > most:
                    most = sums[other, 0]
                    root = other
        above[place] = root
        if met == 0:
            sums[root, 0], sums[root, 1], sums[root, 2], sums[root, 3] = 1, x, y, pixel
            change[rank] = 1
        else:
            change[rank] = 1 - met
            sums[root, 0] += 1
            sums[root, 1] += x
            sums[root, 2] += y
            sums[root, 3] = min(sums[root, 3], pixel)
            for index in range(met):
                other = roots[index]
                if open_state[other] >= 0:
                    low[open_state[other]] = values[pixel]
                    open_state[other] = -1
                if other != root:
                    above[other] = root
                    sums[root, 0] += sums[other, 0]
                    sums[root, 1] += sums[other, 1]
                    sums[root, 2] += sums[other, 2]
                    sums[root, 3] = min(sums[root, 3], sums[other, 3])
        area = sums[root, 0]
        if near[(sums[root, 2] // area) * width + sums[root, 1] // area]:
            if count == room:
                room *= 2
                more_kind, more_high, more_low = (
                    np.empty((room, _COLUMNS), np.int64),
                    np.empty(room, np.float64),
                    np.zeros(room, np.float64),
                )
                more_kind[:count], more_high[:count], more_low[:count] = kind, high, low
                kind, high, low = more_kind, more_high, more_low
            kind[count, 0] = root
            kind[count, 1:] = sums[root]
            high[count] = values[pixel]
            open_state[root] = count
            count += 1
    return change, kind, high, low, count
