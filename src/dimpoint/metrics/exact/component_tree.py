"""The component tree of probability maps: how objects appear, grow and merge as the threshold falls to 0.

Pixels join one by one, brightest first. Each belongs to the hill (regional maximum) that steepest ascent
leads to; hills only meet where a joining pixel has brighter neighbours on several of them. So the sequential
part, a union-find over those saddles, touches a small part of the pixels; the rest is array arithmetic.

The union-find is by size and remembers when each hill was absorbed by which, so its trees are at most
log2(hills) deep, and "which object does this pixel join?" is a short climb, done for all pixels at once.
(Component trees by union-find: Najman and Couprie, IEEE TIP 15(11), 2006.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.metrics.components import Map
from dimpoint.metrics.exact.levels import falling

Ints = npt.NDArray[np.int64]
Ranks = npt.NDArray[np.int32]
Levels = npt.NDArray[np.floating[Any]]

NEVER = np.iinfo(np.int32).max  # the joining time of what never happens


@dataclass(frozen=True, eq=False)
class ComponentTree:
    """The tree of the pixels above 0 of some frames. Pixels are named by rank: 0 joins first.

    n pixels; per pixel, by rank: level (n,) its probability; frame (n,); cell (n,) its flat index in all the
    frames one behind the other; hill (n,) the rank of the maximum that it belongs to. Per hill, at the rank
    of its maximum: into (n,) the hill that absorbs it; when (n,) the rank of the pixel at which that happens,
    or NEVER; root (n,) the hill that holds it in the end.
    """

    level: Levels
    frame: Ranks
    cell: Ints
    hill: Ranks
    into: Ranks
    when: Ranks
    root: Ranks

    @property
    def births(self) -> Levels:
        """Below these levels one more object is there, each."""
        levels: Levels = self.level[self.hill == np.arange(len(self.hill))]
        return levels

    @property
    def merges(self) -> Levels:
        """Below these levels one object less is there, each."""
        levels: Levels = self.level[self.when[self.when != NEVER]]
        return levels


@dataclass(frozen=True, eq=False)
class Growth:
    """How the number of objects of some frames changes, pixel by pixel, as the threshold falls to 0.

    Per pixel above 0, in any order: level (n,) its probability, frame (n,), cell (n,) its flat index in all
    the frames one behind the other, change (n,) objects that appear less those that it joins to others.
    """

    level: Levels
    frame: Ranks
    cell: npt.NDArray[np.integer[Any]]
    change: npt.NDArray[np.int8]

    @classmethod
    def of(cls, tree: ComponentTree) -> Growth:
        """The growth that a tree describes."""
        change = (tree.hill == np.arange(len(tree.hill), dtype=np.int32)).astype(np.int8)
        np.subtract.at(change, tree.when[tree.when != NEVER], 1)
        return cls(tree.level, tree.frame, tree.cell, change)


def component_tree(probs: Sequence[Map]) -> ComponentTree:
    """The tree of checked probability maps of any sizes."""
    pixels = _ActivePixels.of(probs)
    order = falling(pixels.level)
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    links = [(rank[a], rank[b]) for a, b in pixels.neighbours()]
    hill = _hills(len(rank), links)
    into, when, root = _absorb(hill, links)
    return ComponentTree(
        level=pixels.level[order],
        frame=pixels.frame[order],
        cell=pixels.cell[order],
        hill=hill,
        into=into,
        when=when,
        root=root,
    )


@dataclass(frozen=True, eq=False)
class _ActivePixels:
    """Pixels above 0, frame after frame in raster order.

    cell: as in `ComponentTree`. place: where each lies on one long canvas of `places` that has an empty
    column right of each frame and an empty row above and below. stride: of its frame on the canvas.
    """

    level: Levels
    frame: Ranks
    cell: Ints
    place: Ints
    stride: Ints
    places: int

    @classmethod
    def of(cls, probs: Sequence[Map]) -> _ActivePixels:
        found = [np.flatnonzero(prob > 0) for prob in probs]
        counts = [len(flat) for flat in found]
        height, width = np.array([prob.shape for prob in probs], np.int64).reshape(-1, 2).T
        sizes, spaces = height * width, (height + 2) * (width + 1) + 1
        row = np.concatenate([flat // prob.shape[1] for flat, prob in zip(found, probs, strict=True)])
        flat, stride = np.concatenate(found), np.repeat(width + 1, counts)
        return cls(
            level=np.concatenate([prob.ravel()[pick] for prob, pick in zip(probs, found, strict=True)]),
            frame=np.repeat(np.arange(len(probs), dtype=np.int32), counts),
            cell=np.repeat(np.cumsum(sizes) - sizes, counts) + flat,
            place=np.repeat(np.cumsum(spaces) - spaces, counts) + flat + row + stride + 1,
            stride=stride,
            places=int(spaces.sum()),
        )

    def neighbours(self) -> list[tuple[Ranks, Ranks]]:
        """8-connected pairs, as indices of pixels: one pair of arrays for each of four directions."""
        number = np.zeros(self.places, np.int32)
        number[self.place] = np.arange(1, len(self.place) + 1, dtype=np.int32)
        below = self.place + self.stride
        pairs = []
        for place in (self.place + 1, below - 1, below, below + 1):
            other = number[place]
            here = np.flatnonzero(other).astype(np.int32)
            pairs.append((here, other[here] - np.int32(1)))
        return pairs


def _hills(count: int, links: list[tuple[Ranks, Ranks]]) -> Ranks:
    """The maximum (by rank) that steepest ascent reaches from each pixel."""
    up = np.arange(count, dtype=np.int32)
    for a, b in links:
        up[a] = np.minimum(up[a], b)
        up[b] = np.minimum(up[b], a)
    climbing = np.flatnonzero(up != np.arange(count, dtype=np.int32))
    while len(climbing):
        higher = up[up[climbing]]
        moved = higher != up[climbing]
        up[climbing] = higher
        climbing = climbing[moved]
    return up


def _absorb(hill: Ranks, links: list[tuple[Ranks, Ranks]]) -> tuple[Ranks, Ranks, Ranks]:
    """Join the hills over their saddles, highest first: (into, when, root), each by the maximum's rank."""
    into = np.arange(len(hill), dtype=np.int32)
    when = np.full(len(hill), NEVER, np.int32)
    saddle, one, other = _saddles(hill, links)
    hills, compact = numbered(np.concatenate([one, other]), len(hill))
    merges = _union(saddle.tolist(), compact[: len(one)].tolist(), compact[len(one) :].tolist(), len(hills))
    if merges:
        time, kept, gone = np.array(merges, np.int64).T
        into[hills[gone]] = hills[kept]
        when[hills[gone]] = time
    return into, when, _roots(into)


def _saddles(hill: Ranks, links: list[tuple[Ranks, Ranks]]) -> tuple[Ranks, Ranks, Ranks]:
    """(rank of the later pixel, hill, hill) of neighbouring pairs on two hills, highest first.

    Of all pairs on the same two hills the highest matters; the others are left out, but for a few.
    """
    rank, one, other = [], [], []
    for a, b in links:
        hill_a, hill_b = hill[a], hill[b]
        apart = np.flatnonzero(hill_a != hill_b)
        rank.append(np.maximum(a[apart], b[apart]))
        one.append(hill_a[apart])
        other.append(hill_b[apart])
    ranks, ones, others = np.concatenate(rank), np.concatenate(one), np.concatenate(other)
    order = np.argsort(ranks)
    low, high = np.minimum(ones, others)[order], np.maximum(ones, others)[order]
    first = _first_of_each(low.astype(np.uint64) << np.uint64(32) | high.astype(np.uint64))
    return ranks[order[first]], low[first], high[first]


def _first_of_each(keys: npt.NDArray[np.uint64]) -> Ints:
    """Indices of the entries, rising, without those whose key was there before, but for a few.

    Without sorting: each key goes to a slot by its hash, and the first in a slot removes its repeats.
    """
    bits = len(keys).bit_length() + 1
    slot = (keys * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - bits)
    entry = np.arange(len(keys))
    first = np.empty(1 << bits, np.int64)
    first[slot[::-1]] = entry[::-1]
    winner = first[slot]
    return np.flatnonzero((winner == entry) | (keys[winner] != keys))


def _union(times: list[int], ones: list[int], others: list[int], count: int) -> list[tuple[int, int, int]]:
    """Union by size over saddles in order of time: (time, hill kept, hill absorbed) of each merge."""
    above = list(range(count))
    size = [1] * count
    merges = []
    for time, a, b in zip(times, ones, others, strict=True):
        while above[a] != a:
            above[a] = a = above[above[a]]
        while above[b] != b:
            above[b] = b = above[above[b]]
        if a == b:
            continue
        if size[a] < size[b]:
            a, b = b, a
        above[b] = a
        size[a] += size[b]
        merges.append((time, a, b))
    return merges


def numbered(values: Ranks | Ints, count: int) -> tuple[Ints, Ints]:
    """The distinct values, rising, and each value's place among them; all are in 0..count - 1."""
    there = np.zeros(count, np.bool_)
    there[values] = True
    place = np.cumsum(there) - 1
    return np.flatnonzero(there), place[values]


def _roots(into: Ranks) -> Ranks:
    """Where following `into` ends."""
    root = into.copy()
    moving = np.flatnonzero(root != np.arange(len(root), dtype=np.int32))
    while len(moving):
        further = root[root[moving]]
        moved = further != root[moving]
        root[moving] = further
        moving = moving[moved]
    return root
