"""Target metrics at every threshold at once: Pd-Fa and free-response curves of protocol `basicirstd`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.metrics.components import Components, Map, Mask, above, check_pair
from dimpoint.metrics.exact.component_tree import NEVER, ComponentTree, component_tree
from dimpoint.metrics.exact.level_matching import greedy_levels, most_levels
from dimpoint.metrics.exact.levels import LIMIT, LevelSums
from dimpoint.metrics.exact.object_states import NearStates, Targets, near_states
from dimpoint.metrics.points import ratios

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Levels = npt.NDArray[np.floating[Any]]

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

    @property
    def pixels(self) -> int:
        return sum(prob.size for prob in self.probs)

    @cached_property
    def tree(self) -> ComponentTree:
        return component_tree(self.probs)

    @cached_property
    def targets(self) -> Targets:
        truths = self._truths or [Components.of(mask) for mask in self.masks]
        return Targets.of(list(truths))

    @cached_property
    def near(self) -> NearStates:
        return near_states(self.tree, [mask.shape for mask in self.masks], self.targets, self.reach)

    def found(self, radius: float) -> tuple[Levels, Ints, Ints]:
        """`most_levels` for pairs at most `radius` pixels apart."""
        if radius not in self._found:
            self._found[radius] = most_levels(self.near, self.near.distance <= radius)
        return self._found[radius]


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


@dataclass(frozen=True, eq=False)
class TargetCurve:
    """Counts of protocol `basicirstd` at every distinct score, highest first.

    thresholds: (K,) falling to 0; the counts at index k hold for thresholds[k] <= t < thresholds[k - 1].
    tp, fp: (K,) matched and false objects; false_pixels: (K,) pixels of the false objects. targets, frames,
    pixels: in all. exact: False where levels were rounded up to multiples of 2**-18 to bound the memory.
    """

    thresholds: Floats
    tp: Ints
    fp: Ints
    false_pixels: Ints
    targets: int
    frames: int
    pixels: int
    exact: bool = True

    def at(self, thresholds: npt.ArrayLike) -> TargetCurve:
        """The same counts at other thresholds, in 0..1."""
        wanted = np.asarray(thresholds, np.float64)
        index = np.searchsorted(-self.thresholds, -wanted, side="left")
        names = ("tp", "fp", "false_pixels")
        return replace(self, thresholds=wanted, **{name: getattr(self, name)[index] for name in names})

    @property
    def fn(self) -> Ints:
        return self.targets - self.tp

    @property
    def pd(self) -> Floats:
        """Probability of detection: found targets of all targets."""
        return ratios(self.tp, self.targets)

    @property
    def fa(self) -> Floats:
        """False-alarm rate: pixels of false objects of all pixels."""
        return ratios(self.false_pixels, self.pixels)

    @property
    def false_per_frame(self) -> Floats:
        """False objects per frame, the abscissa of the free-response curve."""
        return ratios(self.fp, self.frames)

    @property
    def precision(self) -> Floats:
        return ratios(self.tp, self.tp + self.fp)

    @property
    def f1(self) -> Floats:
        return ratios(2 * self.tp, self.tp + self.fp + self.targets)


class TargetCurveSums:
    """Adds up what `TargetCurve` needs, batch by batch."""

    def __init__(self, limit: int | None = LIMIT) -> None:
        self.objects = LevelSums(2, limit=limit)  # pixels, objects
        self.matches = LevelSums(2, limit=limit)  # matched objects, their pixels
        self.targets = 0
        self.frames = 0
        self.pixels = 0

    def add(self, batch: Batch) -> None:
        self.objects.add(*object_levels(batch.tree))
        self.matches.add(*greedy_levels(batch.near, batch.near.distance < BASICIRSTD_RADIUS))
        self.targets += len(batch.targets)
        self.frames += len(batch.probs)
        self.pixels += batch.pixels

    def merge(self, other: TargetCurveSums) -> None:
        self.objects.merge(other.objects)
        self.matches.merge(other.matches)
        self.targets += other.targets
        self.frames += other.frames
        self.pixels += other.pixels

    def curve(self) -> TargetCurve:
        thresholds, (pixels, count) = self.objects.steps()  # an object changes only where a pixel joins
        tp, matched_pixels = self.matches.at_rising(thresholds)
        return TargetCurve(
            thresholds=thresholds[::-1],
            tp=tp[::-1],
            fp=(count - tp)[::-1],
            false_pixels=(pixels - matched_pixels)[::-1],
            targets=self.targets,
            frames=self.frames,
            pixels=self.pixels,
            exact=self.objects.exact and self.matches.exact,
        )


SAMPLED = np.arange(100) / 100  # thresholds of `SampledCounts`

Match = Callable[[Components, Components], Any]  # a protocol's matcher


class SampledCounts:
    """Counts of a protocol without an exact curve, at 100 thresholds, frame by frame.

    tp, fp, false_pixels: (100,) at the thresholds `SAMPLED`. targets, frames, pixels: in all.
    """

    def __init__(self) -> None:
        self.counts = np.zeros((3, len(SAMPLED)), np.int64)
        self.targets = self.frames = self.pixels = 0

    def add(self, prob: Map, truth: Components, match: Match) -> None:
        """Label and match a frame at every threshold below its highest value; above, nothing is found."""
        for column, threshold in enumerate(SAMPLED[: np.searchsorted(SAMPLED, prob.max())]):
            pred = Components.of(above(prob, float(threshold)))
            found = match(pred, truth)
            self.counts[:, column] += (len(found.pairs), len(found.false), pred.areas[found.false].sum())
        self.targets += len(truth)
        self.frames += 1
        self.pixels += prob.size

    def merge(self, other: SampledCounts) -> None:
        self.counts += other.counts
        self.targets += other.targets
        self.frames += other.frames
        self.pixels += other.pixels


def object_levels(tree: ComponentTree) -> tuple[Levels, Ints]:
    """At all thresholds: levels (N,), weights (2, N): pixels above the threshold, objects they form."""
    count = len(tree.level)
    objects = (tree.hill == np.arange(count, dtype=np.int32)).astype(np.int64)
    np.subtract.at(objects, tree.when[tree.when != NEVER], 1)
    weights = np.stack([np.ones(count, np.int64), objects])
    return tree.level[::-1], weights[:, ::-1]


def target_curve(
    frames: Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any]]], limit: int | None = None
) -> TargetCurve:
    """The curve of (probability map, mask) frames; see `TargetCurve`, and `LevelSums` for `limit`."""
    sums = TargetCurveSums(limit)
    for batch in batches(frames):
        sums.add(batch)
    return sums.curve()
