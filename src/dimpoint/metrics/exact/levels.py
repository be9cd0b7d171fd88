"""Step functions of the threshold, summed over frames: exact, or in bounded memory on a very fine grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.errors import DataError
from dimpoint.metrics.exact import compiled

Floats = npt.NDArray[np.float64]
Levels = npt.NDArray[np.floating[Any]]
Numbers = npt.NDArray[Any]

LIMIT = 2**20  # distinct levels that are kept as they are
GRID = 2**18  # steps of the threshold in 0..1 when there are more


def rising(levels: Levels) -> npt.NDArray[np.integer[Any]]:
    """The order of levels in 0..1 from low to high, equal ones as they come."""
    if levels.dtype != np.float32:
        return np.argsort(levels, kind="stable")
    return _order(levels.view(np.uint32))


def falling(levels: Levels) -> npt.NDArray[np.integer[Any]]:
    """The order of levels in 0..1 from high to low, equal ones as they come."""
    if levels.dtype != np.float32:
        return np.argsort(-levels, kind="stable")
    return _order(~levels.view(np.uint32))


def _order(bits: npt.NDArray[np.uint32]) -> npt.NDArray[np.integer[Any]]:
    """The order of floats that are not negative is that of their bits; sorting whole numbers is fast."""
    if compiled.worthwhile(len(bits)):
        return compiled.order_of(bits)
    keys = bits.astype(np.uint64) << np.uint64(32) | np.arange(len(bits), dtype=np.uint64)
    keys.sort()
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)


class LevelSums:
    """Sums of step functions: the value at threshold t is the sum of the weights of all levels above t.

    A pixel of probability p weighs in for p > t, that is at thresholds below p. Up to `limit` distinct levels
    everything is exact. With more, each level is rounded up to a multiple of 2**-18, so values at thresholds
    that are such multiples stay exact and memory is bounded; `exact` is then False. The result does not
    depend on order or grouping of the frames. `limit` None keeps every level.
    """

    def __init__(self, columns: int, dtype: npt.DTypeLike = np.int64, limit: int | None = LIMIT) -> None:
        self.limit = limit
        self.exact = True
        self._levels: Levels = np.empty(0, np.float32)
        self._weights = np.empty((columns, 0), dtype)
        self._waiting: list[tuple[Levels, Numbers | Sequence[Numbers]]] = []
        self._count = 0

    def add(self, levels: Levels, weights: Numbers | Sequence[Numbers]) -> None:
        """Add levels (N,), in 0..1, with their weights: for each column (N,)."""
        if [len(row) for row in weights] != [len(levels)] * len(self._weights):
            raise DataError(f"weights {[len(row) for row in weights]} do not fit {len(levels)} levels")
        self._waiting.append((levels, weights))
        self._count += len(levels)
        if self.limit is not None and self._count > self.limit:
            self._settle()

    def merge(self, other: LevelSums) -> None:
        """Add the sums of another part."""
        other._settle()
        self.exact = self.exact and other.exact
        self.add(other._levels, other._weights)

    def steps(self) -> tuple[Floats, Numbers]:
        """The thresholds at which the value changes, from 0 up (K,), and the values there (columns, K).

        A value holds up to the next threshold; the last is 0 throughout.
        """
        self._settle()
        below = np.zeros((len(self._weights), len(self._levels) + 1), self._weights.dtype)
        np.cumsum(self._weights, axis=1, out=below[:, 1:])
        return np.append(0.0, self._levels.astype(np.float64)), below[:, -1:] - below

    def at(self, thresholds: npt.ArrayLike) -> Numbers:
        """The values at any thresholds in 0..1 (K,): (columns, K)."""
        levels, values = self.steps()
        found: Numbers = values[:, np.searchsorted(levels, thresholds, side="right") - 1]
        return found

    def at_rising(self, thresholds: Floats) -> Numbers:
        """The same for many rising thresholds, faster."""
        levels, values = self.steps()
        starts = np.searchsorted(thresholds, levels, side="left")
        return np.repeat(values, np.diff(starts, append=len(thresholds)), axis=1)

    def _settle(self) -> None:
        if not self._waiting:
            return
        if self.exact:
            self._combine()
            self.exact = self.limit is None or len(self._levels) <= self.limit
        if not self.exact:
            self._onto_grid()
        self._count = 0

    def _onto_grid(self) -> None:
        """Bring everything together on the grid, which needs no sorting; the levels 0 count for nothing."""
        parts = [(self._levels, self._weights), *self._waiting]
        self._waiting = []
        there = np.zeros(GRID + 1, np.bool_)
        sums = np.zeros((len(self._weights), GRID + 1), self._weights.dtype)
        for levels, weights in parts:
            places = np.ceil(levels * GRID).astype(np.int64)
            there[places] = True
            for row, given in zip(sums, weights, strict=True):
                row += np.bincount(places, given, GRID + 1).astype(row.dtype)
        there[0] = False
        kept = np.flatnonzero(there)
        kind = np.result_type(*(levels for levels, _ in parts))
        self._levels, self._weights = (kept / GRID).astype(kind), sums[:, kept]

    def _combine(self) -> None:
        """Bring everything together, one entry for each distinct level."""
        levels = np.concatenate([self._levels, *(levels for levels, _ in self._waiting)])
        parts = [*(weights for _, weights in self._waiting)]
        if self._weights.shape[1]:
            parts.insert(0, self._weights)
        self._waiting = []
        order = rising(levels)
        levels = levels[order]
        new = np.empty(len(levels), np.bool_)
        new[:1] = levels[:1] != 0  # level 0 has none below it
        np.not_equal(levels[1:], levels[:-1], out=new[1:])
        starts = np.flatnonzero(new)
        self._levels = levels[starts]
        sums = np.empty((len(self._weights), len(starts)), self._weights.dtype)
        for row in range(len(sums) if len(starts) else 0):
            weights = np.concatenate([part[row] for part in parts])[order]
            np.add.reduceat(weights, starts, dtype=sums.dtype, out=sums[row])
        self._weights = sums
