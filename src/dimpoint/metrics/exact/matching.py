"""Which targets are found at which thresholds: one-to-one matching is redone wherever it can change.

`Batch` holds frames with their objects at all thresholds.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.metrics.components import Components, Map, Mask, check_pair
from dimpoint.metrics.exact import compiled
from dimpoint.metrics.exact.component_tree import Growth, component_tree
from dimpoint.metrics.exact.levels import falling
from dimpoint.metrics.exact.object_states import (
    Canvas,
    NearStates,
    ObjectStates,
    Targets,
    near_pairs,
    near_states,
)

Ints = npt.NDArray[np.int64]
Levels = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Run:
    """One object near one target for thresholds low <= t < high: states begin..end (inclusive) of a branch.

    first: the object's first pixel in raster order, the same throughout.
    """

    target: int
    branch: int
    high: float
    low: float
    first: int
    begin: int
    end: int


Match = tuple[Run, float, float]  # a run that is matched for low <= t < high: (run, high, low)


def greedy_levels(near: NearStates, within: npt.NDArray[np.bool_]) -> tuple[Levels, Ints]:
    """Protocol `basicirstd` at all thresholds: levels (N,), weights (2, N): matched objects, their pixels.

    Targets in order each take the first object in raster order that is free and near; `within` (R,) says
    which of the pairs of `near` are near enough.
    """
    matches = [match for group in _groups(_runs(near, within)) for match in _greedy(group)]
    begin, end = np.array([(run.begin, run.end) for run, _, _ in matches], np.int64).reshape(-1, 2).T
    high, low = np.array([span for _, *span in matches], np.float64).reshape(-1, 2).T
    lengths = end - begin + 1
    state = np.arange(lengths.sum()) + np.repeat(begin - np.cumsum(lengths) + lengths, lengths)
    top = np.minimum(near.states.high[state], np.repeat(high, lengths))
    bottom = np.maximum(near.states.low[state], np.repeat(low, lengths))
    there = top > bottom
    area = near.states.area[state[there]]
    one, none = np.ones(len(matches), np.int64), np.zeros(2 * len(area), np.int64)
    return (
        np.concatenate([high, low, top[there], bottom[there]]),
        np.stack([np.concatenate([one, -one, none]), np.concatenate([0 * one, 0 * one, area, -area])]),
    )


def most_levels(near: NearStates, within: npt.NDArray[np.bool_]) -> tuple[Levels, Ints, Ints]:
    """The most targets that can be matched one to one, at all thresholds, as steps (N,): levels, weights, and
    a target of the frame that each belongs to."""
    steps: list[tuple[float, int, int]] = []
    for group in _groups(_runs(near, within)):
        for high, low, alive in _intervals(group):
            found = _most(alive)
            steps += [(high, found, group[0].target), (low, -found, group[0].target)]
    levels, weights, targets = np.array(steps).reshape(-1, 3).T
    return levels, weights.astype(np.int64), targets.astype(np.int64)


def _runs(near: NearStates, within: npt.NDArray[np.bool_]) -> list[Run]:
    """Pairs that follow one another on the same branch, brought together."""
    target, state = near.target[within], near.state[within]
    states = near.states
    branch, first = states.branch[state], states.first[state]
    new = np.ones(len(target), np.bool_)
    new[1:] = (np.diff(target) != 0) | (np.diff(state) != 1) | (np.diff(branch) != 0) | (np.diff(first) != 0)
    new[1:] |= states.low[state[:-1]] != states.high[state[1:]]  # states between them that are not listed
    starts = np.flatnonzero(new)
    ends = np.append(starts[1:], len(target))[: len(starts)] - 1
    columns = (
        target[starts],
        branch[starts],
        states.high[state[starts]].astype(np.float64),
        states.low[state[ends]].astype(np.float64),
        first[starts],
        state[starts],
        state[ends],
    )
    return [Run(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _groups(runs: list[Run]) -> list[list[Run]]:
    """Runs that can compete with one another, directly or through others, by target."""
    groups: dict[int, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.target, []).append(run)
    taken: dict[int, int] = {}  # branch -> the target whose group holds it
    moved: dict[int, int] = {}  # target -> the target whose group its own went into

    def home(target: int) -> int:
        while target in moved:
            target = moved[target]
        return target

    for run in runs:
        mine, other = home(run.target), home(taken.setdefault(run.branch, run.target))
        if mine != other:
            low, high = sorted((mine, other), key=lambda target: len(groups[target]))
            groups[high] += groups.pop(low)
            moved[low] = high
    return [sorted(group, key=lambda run: run.target) for group in groups.values()]


def _intervals(group: list[Run]) -> Iterator[tuple[float, float, list[Run]]]:
    """(high, low, runs that hold) between all neighbouring levels at which a run begins or ends."""
    levels = sorted({level for run in group for level in (run.high, run.low)}, reverse=True)
    for high, low in pairwise(levels):
        alive = [run for run in group if run.low <= low and run.high >= high]
        if alive:
            yield high, low, alive


def _never_together(group: list[Run]) -> bool:
    """Whether at every threshold at most one of the runs holds."""
    falling = sorted(group, key=lambda run: -run.high)
    return all(later.high <= earlier.low for earlier, later in pairwise(falling))


def _greedy(group: list[Run]) -> Iterator[Match]:
    if _never_together(group):
        yield from ((run, run.high, run.low) for run in group)
        return
    for high, low, alive in _intervals(group):
        chosen: dict[int, Run] = {}
        taken: set[int] = set()
        for run in sorted(alive, key=lambda run: (run.target, run.first)):
            if run.target not in chosen and run.branch not in taken:
                chosen[run.target] = run
                taken.add(run.branch)
        yield from ((run, high, low) for run in chosen.values())


def _most(alive: list[Run]) -> int:
    """The size of a maximum matching of targets and objects (augmenting paths)."""
    choices: dict[int, list[int]] = {}
    for run in alive:
        choices.setdefault(run.target, []).append(run.branch)
    holder: dict[int, int] = {}

    def place(target: int, tried: set[int]) -> bool:
        for branch in choices[target]:
            if branch not in tried:
                tried.add(branch)
                if branch not in holder or place(holder[branch], tried):
                    holder[branch] = target
                    return True
        return False

    return sum(place(target, set()) for target in choices)


BASICIRSTD_RADIUS = 3.0  # pixels; a match is nearer than this
BATCH_PIXELS = 2**19  # frames are processed together up to this number of pixels


class Batch:
    """Some checked frames and their objects at all thresholds, computed on demand."""

    def __init__(
        self,
        probs: Sequence[Map],
        masks: Sequence[Mask],
        reach: float = 0.0,
        truths: Sequence[Components] | None = None,
    ) -> None:
        """truths: the components of the masks, where they are known already."""
        self.probs = probs
        self.masks = masks
        self._truths = truths
        self.reach = max(reach, BASICIRSTD_RADIUS)  # pixels, the largest match radius that is asked for
        self._found: dict[float, tuple[Levels, Ints, Ints]] = {}
        self._lock = Lock()

    def prepare(self) -> None:
        """Compute what several threads will need."""
        _ = self._grown, self.targets

    @property
    def pixels(self) -> int:
        return sum(prob.size for prob in self.probs)

    @property
    def growth(self) -> Growth:
        """The number of objects of each frame at all thresholds."""
        return self._grown[0]

    @property
    def near(self) -> NearStates:
        """The states of objects near the targets."""
        return self._grown[1]

    @cached_property
    def _grown(self) -> tuple[Growth, NearStates]:
        shapes = [mask.shape for mask in self.masks]
        if compiled.worthwhile(sum(int(np.count_nonzero(prob)) for prob in self.probs)):
            return _grow(self.probs, shapes, self.targets, self.reach)
        tree = component_tree(self.probs)
        return Growth.of(tree), near_states(tree, shapes, self.targets, self.reach)

    @cached_property
    def targets(self) -> Targets:
        truths = self._truths or [Components.of(mask) for mask in self.masks]
        return Targets.of(list(truths))

    def found(self, radius: float) -> tuple[Levels, Ints, Ints]:
        """`most_levels` for pairs at most `radius` pixels apart."""
        with self._lock:
            if radius not in self._found:
                self._found[radius] = most_levels(self.near, self.near.distance <= radius)
            return self._found[radius]


def _grow(
    probs: Sequence[Map], shapes: Sequence[tuple[int, int]], targets: Targets, reach: float
) -> tuple[Growth, NearStates]:
    """The same as by `component_tree` and `near_states`, by compiled loops and several frames at a time."""
    canvas = Canvas(shapes)
    starts = canvas.starts[:-1]
    near = np.zeros(canvas.starts[-1], np.uint8)
    for windows in canvas.windows(targets, reach + 1):
        near |= windows > 0

    def work(prob: Map, start: int) -> tuple[npt.NDArray[Any], ...]:
        flat = np.ascontiguousarray(prob).ravel()
        there = np.flatnonzero(flat > 0).astype(np.int32)
        order = there[falling(flat[there])]
        joined = compiled.join_pixels(flat, prob.shape[1], order, near[start : start + len(flat)])
        return order, flat[order], *joined

    compiled.prepare()
    with ThreadPoolExecutor(min(os.cpu_count() or 1, len(probs))) as pool:
        orders, levels, changes, kinds, highs, lows = zip(*pool.map(work, probs, starts), strict=True)
    frames = np.arange(len(probs))
    growth = Growth(
        level=np.concatenate(levels),
        frame=np.repeat(frames.astype(np.int32), [len(order) for order in orders]),
        cell=np.concatenate([order + start for order, start in zip(orders, starts, strict=True)]),
        change=np.concatenate(changes),
    )
    counts = [len(high) for high in highs]
    kind, high, low = (np.concatenate(each) for each in (kinds, highs, lows))
    spaces = np.array([(height + 2) * (width + 2) for height, width in shapes])  # branches of a frame
    branch = kind[:, 0] + np.repeat(np.cumsum(spaces) - spaces, counts)
    order = np.argsort(branch, kind="stable")
    order = order[high[order] > low[order]]
    area, sum_x, sum_y, first = kind[order, 1:].T
    states = ObjectStates(
        branch[order], high[order], low[order], area, sum_x, sum_y, first, np.repeat(frames, counts)[order]
    )
    return growth, near_pairs(states, canvas, targets, reach)


def batches(
    frames: Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any]]],
    reach: float = 0.0,
    pixels: int = BATCH_PIXELS,
) -> Iterator[Batch]:
    """Check (probability map, mask) pairs and gather them into batches; DataError for bad ones.

    reach: the largest match radius, pixels. pixels: of a batch, unless it is a single larger frame.
    """
    probs: list[Map] = []
    masks: list[Mask] = []
    size = 0
    for index, (prob, mask) in enumerate(frames):
        checked = check_pair(prob, mask, f"frame {index}")
        if probs and size + prob.size > pixels:
            yield Batch(probs, masks, reach)
            probs, masks, size = [], [], 0
        probs.append(checked[0])
        masks.append(checked[1])
        size += prob.size
    if probs:
        yield Batch(probs, masks, reach)
