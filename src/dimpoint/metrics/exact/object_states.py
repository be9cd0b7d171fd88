"""The states of every object near a target while the threshold falls: its centroid, its size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.metrics.components import Components, Floats, Ints, distances
from dimpoint.metrics.exact.component_tree import NEVER, ComponentTree, numbered

SMALL = 16  # pixels; an object of at most this area is looked for by its brightest pixel

Levels = npt.NDArray[np.floating[Any]]
Numbers = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class ObjectStates:
    """S states of objects; a state holds for thresholds t with low <= t < high.

    branch: (S,) which line of growth the state belongs to; the states of a branch lie one behind the other,
    and a branch ends where a larger one absorbs it. high, low: (S,). area, sum_x, sum_y: (S,) int64.
    first: (S,) flat index of the object's first pixel in raster order. frame: (S,).
    """

    branch: Ints
    high: Levels
    low: Levels
    area: Ints
    sum_x: Ints
    sum_y: Ints
    first: Ints
    frame: Ints


@dataclass(frozen=True, eq=False)
class Targets:
    """The T true objects of a batch of frames, frame after frame in raster order."""

    frame: Ints
    area: Ints
    sum_x: Ints
    sum_y: Ints

    @classmethod
    def of(cls, truths: Sequence[Components]) -> Targets:
        return cls(
            frame=np.repeat(np.arange(len(truths)), [len(truth) for truth in truths]),
            area=np.concatenate([truth.areas for truth in truths]),
            sum_x=np.concatenate([truth.sum_x for truth in truths]),
            sum_y=np.concatenate([truth.sum_y for truth in truths]),
        )

    def __len__(self) -> int:
        return len(self.area)


@dataclass(frozen=True, eq=False)
class NearStates:
    """Pairs of a target and a state whose centroids are near: target, state (R,) and distance (R,) pixels,
    sorted by target, then state."""

    states: ObjectStates
    target: Ints
    state: Ints
    distance: Floats


def near_states(
    tree: ComponentTree, shapes: Sequence[tuple[int, int]], targets: Targets, reach: float
) -> NearStates:
    """All pairs of a target and an object's state with centroids at most `reach` pixels apart."""
    canvas = Canvas(shapes)
    return near_pairs(_states(tree, canvas, _members(tree, canvas, targets, reach)), canvas, targets, reach)


def near_pairs(states: ObjectStates, canvas: Canvas, targets: Targets, reach: float) -> NearStates:
    """The pairs of `near_states` among known states, which lie branch after branch as they follow in time."""
    cell = canvas.cell(states.frame, states.sum_x // states.area, states.sum_y // states.area)
    pairs = [np.empty((2, 0), np.int64)]
    for windows in canvas.windows(targets, reach + 1):
        target = windows[cell]
        state = np.flatnonzero(target)
        pairs.append(np.stack([target[state] - np.int64(1), state]))
    target, state = np.concatenate(pairs, axis=1)
    return _within_reach(states, targets, target, state, reach)


def _members(tree: ComponentTree, canvas: Canvas, targets: Targets, reach: float) -> Ints:
    """The pixels, by rank and rising, of the objects of which any state may be near a target."""
    root = tree.root[tree.hill]
    wanted = np.bincount(root, minlength=len(root)) > SMALL
    for windows in canvas.windows(targets, reach + SMALL):
        wanted |= windows[tree.cell] > 0
    return np.flatnonzero(wanted[root])


class Canvas:
    """All frames of a batch as one long array of pixels."""

    def __init__(self, shapes: Sequence[tuple[int, int]]) -> None:
        self.shapes = shapes
        self.widths = np.array([width for _, width in shapes], np.int64)
        self.starts = np.cumsum([0, *(height * width for height, width in shapes)])

    def cell(self, frame: Numbers, x: Numbers, y: Numbers) -> Ints:
        cell: Ints = self.starts[frame] + y * self.widths[frame] + x
        return cell

    def windows(self, targets: Targets, margin: float) -> Iterator[npt.NDArray[np.int32]]:
        """Layers of the canvas on which a square of `margin` pixels around each target holds its number + 1.

        Every target is on one layer; squares that overlap are on different ones.
        """
        grow = int(np.ceil(margin))
        centres = (targets.frame, targets.sum_x // targets.area, targets.sum_y // targets.area)
        left = list(enumerate(zip(*(values.tolist() for values in centres), strict=True), start=1))
        while left:
            layer = np.zeros(self.starts[-1], np.int32)
            later = []
            for number, (frame, x, y) in left:
                picture = layer[self.starts[frame] : self.starts[frame + 1]].reshape(self.shapes[frame])
                window = picture[max(y - grow, 0) : y + grow + 2, max(x - grow, 0) : x + grow + 2]
                if window.any():
                    later.append((number, (frame, x, y)))
                else:
                    window[:] = number
            yield layer
            left = later


def _states(tree: ComponentTree, canvas: Canvas, members: Ints) -> ObjectStates:
    """The states of the objects whose pixels are `members` (ranks, rising)."""
    branch_rank = _branches(tree, members)
    hills, branch = numbered(branch_rank, len(tree.level))
    frame = tree.frame[members]
    first = tree.cell[members] - canvas.starts[frame]
    y, x = np.divmod(first, canvas.widths[frame])
    own = np.stack([np.ones_like(x), x, y, first])
    absorbed = np.flatnonzero(tree.when[hills] != NEVER)
    taker = np.searchsorted(hills, tree.into[hills])
    whole = _totals(own, branch, taker, absorbed, len(hills))
    own = _with_absorbed(
        own, whole, branch, taker, absorbed, np.searchsorted(members, tree.when[hills[absorbed]])
    )
    order = _by_branch(branch)
    branch, time, own = branch[order], members[order], own[:, order]
    starts = np.flatnonzero(np.diff(branch, prepend=-1))
    lengths = np.diff(starts, append=len(branch))
    sums = _running_sums(own[:3], starts, lengths)
    high = tree.level[time]
    low = _until(high, hills, tree, starts, lengths)
    kept = np.flatnonzero(high > low)
    return ObjectStates(
        branch=hills[branch[kept]],
        high=high[kept],
        low=low[kept],
        area=sums[0, kept],
        sum_x=sums[1, kept],
        sum_y=sums[2, kept],
        first=_running_least(own[3], branch)[kept],
        frame=tree.frame[time[kept]].astype(np.int64),
    )


def _branches(tree: ComponentTree, members: Ints) -> Ints:
    """The hill whose line of growth each pixel joins: what its own hill has become by then."""
    branch = tree.hill[members].astype(np.int64)
    climbing = np.arange(len(members))
    while len(climbing):
        climbing = climbing[tree.when[branch[climbing]] <= members[climbing]]
        branch[climbing] = tree.into[branch[climbing]]
    return branch


def _totals(own: Ints, branch: Ints, taker: Ints, absorbed: Ints, count: int) -> Ints:
    """Per branch, with all that it absorbed: area, sums of x and y, first pixel (4, count)."""
    whole = np.zeros((4, count), np.int64)
    whole[3] = np.iinfo(np.int64).max
    for row in range(3):
        np.add.at(whole[row], branch, own[row])
    np.minimum.at(whole[3], branch, own[3])
    for layer in _deepest_first(taker, absorbed):
        for row in range(3):
            np.add.at(whole[row], taker[layer], whole[row, layer])
        np.minimum.at(whole[3], taker[layer], whole[3, layer])
    return whole


def _deepest_first(taker: Ints, absorbed: Ints) -> list[Ints]:
    """The absorbed branches, layer by layer: whatever a branch absorbed itself lies in an earlier layer."""
    depth = np.zeros(len(taker), np.int64)
    above = taker.copy()
    climbing = absorbed
    while len(climbing):
        depth[climbing] += 1
        climbing = climbing[above[climbing] != taker[above[climbing]]]
        above[climbing] = taker[above[climbing]]
    return [absorbed[depth[absorbed] == level] for level in range(depth.max(initial=0), 0, -1)]


def _with_absorbed(own: Ints, whole: Ints, branch: Ints, taker: Ints, absorbed: Ints, pixel: Ints) -> Ints:
    """What each pixel adds to its branch: itself, and the whole of the branches that it connects to it.

    pixel: for each absorbed branch, the member at which that happens. Where a pixel connects several, one may
    pass through another that ends at the same pixel, and is already in that one's whole.
    """
    direct = taker[absorbed] == branch[pixel]
    gone, pixel = absorbed[direct], pixel[direct]
    added = own.copy()
    for row in range(3):
        np.add.at(added[row], pixel, whole[row, gone])
    np.minimum.at(added[3], pixel, whole[3, gone])
    return added


def _by_branch(branch: Ints) -> npt.NDArray[np.intp]:
    """The order by branch that keeps the order within each; few branches are sorted by counting."""
    few = branch.max(initial=0) < 2**16
    return np.argsort(branch.astype(np.uint16) if few else branch, kind="stable")


def _running_sums(values: Ints, starts: Ints, lengths: Ints) -> Ints:
    """Cumulative sums (rows) that begin anew at each start."""
    sums = np.cumsum(values, axis=1)
    before = np.where(starts > 0, sums[:, starts - 1], 0)
    anew: Ints = sums - np.repeat(before, lengths, axis=1)
    return anew


def _running_least(values: Ints, segment: Ints) -> Ints:
    """Running minimum that begins anew in each segment (segments are numbered and rise)."""
    last = segment[-1] if len(segment) else 0
    drop = (last - segment) << 31  # puts each segment below the one before
    least: Ints = np.minimum.accumulate(values + drop) - drop
    return least


def _until(high: Levels, hills: Ints, tree: ComponentTree, starts: Ints, lengths: Ints) -> Levels:
    """Where each state ends: at the branch's next event, at its absorption, or at 0."""
    low = np.append(high[1:], high[:0].dtype.type(0))[: len(high)]
    when = tree.when[hills]
    gone = when != NEVER
    end = np.zeros(len(hills), high.dtype)
    end[gone] = tree.level[when[gone]]
    low[starts + lengths - 1] = end
    return low


def _within_reach(
    states: ObjectStates, targets: Targets, target: Ints, state: Ints, reach: float
) -> NearStates:
    """Of the given pairs those whose exact distance is at most `reach`, in order."""
    distance = distances(
        states.area[state],
        states.sum_x[state],
        states.sum_y[state],
        targets.area[target],
        targets.sum_x[target],
        targets.sum_y[target],
    )
    order = np.lexsort((state, target))
    order = order[distance[order] <= reach]
    return NearStates(states, target[order], state[order], distance[order])
