"""`Evaluator`: all metrics over a stream of frames, in bounded memory, mergeable across processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy.typing as npt

from dimpoint.errors import DataError
from dimpoint.metrics.breakdown import TargetTable, describe_targets, with_match
from dimpoint.metrics.components import Components, Map, Mask, above, check_pair, check_threshold
from dimpoint.metrics.curves import Curve, SampledCounts, TargetCurveSums
from dimpoint.metrics.exact.levels import LIMIT
from dimpoint.metrics.exact.matching import BATCH_PIXELS, Batch
from dimpoint.metrics.hse import Hse, HseConfig, HseSamples, RadiusMatches, hse_of
from dimpoint.metrics.pixel import (
    ErrorCounts,
    PixelCounts,
    PixelCurve,
    PixelCurveSums,
    count_component_errors,
    count_mask_pixels,
)
from dimpoint.metrics.protocols import TargetCounts, TargetMatch, count_match, get_protocol, overlaps

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class FrameRecord:
    """The counts of one frame at each of the evaluator's thresholds, in their order.

    pixels, errors: one for each threshold. targets, tables: by protocol, one for each threshold.
    """

    name: str
    pixels: list[PixelCounts]
    errors: list[ErrorCounts]
    targets: dict[str, list[TargetCounts]]
    tables: dict[str, list[TargetTable]]


@dataclass(frozen=True, eq=False)
class FrameObjects:
    """The objects of one frame at the first threshold, and what the first protocol matched."""

    pred: Components
    truth: Components
    match: TargetMatch
    table: TargetTable


@dataclass(frozen=True, eq=False)
class MapMetrics:
    """The metrics of maps on a set of frames, by name. Counts are kept by frame, so that intervals and
    comparisons can be drawn from them; `Counts.total` adds them up.

    sampled: counts at 100 thresholds under the protocols that have no exact curve.
    """

    frames: list[FrameRecord]
    thresholds: tuple[float, ...]
    pixel_curve: PixelCurve
    target_curve: Curve
    hse: Hse
    hse_samples: HseSamples
    sampled: dict[str, SampledCounts]

    @property
    def names(self) -> list[str]:
        return [frame.name for frame in self.frames]

    def pixels(self, threshold: float) -> list[PixelCounts]:
        """Pixel counts at one of the thresholds, frame by frame; DataError for another threshold."""
        index = self._index(threshold)
        return [frame.pixels[index] for frame in self.frames]

    def errors(self, threshold: float) -> list[ErrorCounts]:
        """hIoU's error split at one of the thresholds, frame by frame."""
        index = self._index(threshold)
        return [frame.errors[index] for frame in self.frames]

    def targets(self, protocol: str, threshold: float) -> list[TargetCounts]:
        """Target counts under one of the protocols at one of the thresholds, frame by frame."""
        index = self._index(threshold)
        return [_chosen(frame.targets, protocol)[index] for frame in self.frames]

    def table(self, protocol: str, threshold: float) -> TargetTable:
        """All targets with their properties, for breakdowns."""
        index = self._index(threshold)
        return TargetTable.total(_chosen(frame.tables, protocol)[index] for frame in self.frames)

    def _index(self, threshold: float) -> int:
        if threshold not in self.thresholds:
            raise DataError(f"threshold {threshold} was not evaluated; these were: {self.thresholds}")
        return self.thresholds.index(threshold)


class Evaluator:
    """Takes frames one by one and computes all metrics at the end.

    Memory: a few KB for each frame (its counts, so that intervals can be drawn) beside tables of at most
    2**20 score levels, whatever the number of frames; see `LevelSums` for what `limit` means. Evaluators of
    parts, also from other processes (they pickle), are combined by `merge`; the result does not depend on
    order or grouping.
    """

    def __init__(
        self,
        thresholds: Sequence[float] = (0.5,),
        protocols: Sequence[str] = ("basicirstd",),
        hse: HseConfig | None = None,
        limit: int | None = LIMIT,
    ) -> None:
        """Raises ConfigError for an unknown protocol, DataError for a threshold outside 0..1."""
        self.thresholds = tuple(check_threshold(threshold) for threshold in thresholds)
        self.protocols = tuple(get_protocol(name) for name in protocols)
        self.hse_config = hse or HseConfig()
        self._pixels = PixelCurveSums(limit)
        self._targets = TargetCurveSums(limit)
        self._matches = RadiusMatches(self.hse_config, limit)
        self._samples = HseSamples(self.hse_config)
        self._sampled = {rule.name: SampledCounts() for rule in self.protocols if rule.curve == "own"}
        self._frames: dict[str, FrameRecord] = {}
        self._waiting: list[tuple[Map, Mask, Components]] = []

    def __len__(self) -> int:
        return len(self._frames)

    def update(
        self,
        prob: npt.NDArray[Any],
        mask: npt.NDArray[Any],
        name: str,
        image: npt.NDArray[Any] | None = None,
        source: str = "",
        known: tuple[Components, TargetTable] | None = None,
    ) -> FrameObjects:
        """Take in one frame: probability map and mask (H, W) and its name.

        image (H, W) and source, the name of its data set, are for the breakdowns. known: the mask's
        components and what `describe_targets` says of them, which then need not be computed again.
        Raises DataError for what `check_pair` refuses and for a name that was there before; nothing of the
        frame is counted then.
        """
        if name in self._frames:
            raise DataError(f"frame '{name}' was given twice; every frame must count once")
        values, truth = check_pair(prob, mask, f"frame '{name}'")
        if known is None:
            objects = Components.of(truth)
            known = objects, describe_targets(objects, image, source)
        self._frames[name], seen = self._record(name, values, truth, *known)
        for rule in self.protocols:
            if rule.name in self._sampled:
                self._sampled[rule.name].add(values, known[0], rule.match)
        self._waiting.append((values.copy(), truth.copy(), known[0]))
        if sum(waiting[0].size for waiting in self._waiting) >= BATCH_PIXELS:
            self._flush()
        return seen

    def merge(self, other: Evaluator) -> None:
        """Add the frames of another evaluator with the same settings.

        Raises DataError if the settings differ or a frame is in both.
        """
        if _settings(self) != _settings(other):
            raise DataError(
                "evaluators with different thresholds, protocols or HSE settings cannot be merged"
            )
        twice = sorted(self._frames.keys() & other._frames.keys())
        if twice:
            raise DataError(f"frame '{twice[0]}' is in both parts ({len(twice)} in all); frames count once")
        self._flush()
        other._flush()
        self._pixels.merge(other._pixels)
        self._targets.merge(other._targets)
        self._matches.merge(other._matches)
        self._samples.merge(other._samples)
        for rule_name, counts in self._sampled.items():
            counts.merge(other._sampled[rule_name])
        self._frames |= other._frames

    def result(self) -> MapMetrics:
        """The metrics of all frames so far, the frames in the order of their names."""
        self._flush()
        names = list(self._frames)
        order = sorted(range(len(names)), key=names.__getitem__)
        pixel_curve = self._pixels.curve()
        return MapMetrics(
            frames=[self._frames[names[index]] for index in order],
            thresholds=self.thresholds,
            pixel_curve=pixel_curve,
            target_curve=self._targets.curve(),
            hse=hse_of(self.hse_config, pixel_curve, self._targets, self._matches),
            hse_samples=self._samples.ordered(order),
            sampled=self._sampled,
        )

    def _record(
        self, name: str, prob: Map, mask: Mask, truth: Components, known: TargetTable
    ) -> tuple[FrameRecord, FrameObjects]:
        record = FrameRecord(
            name,
            [],
            [],
            {rule.name: [] for rule in self.protocols},
            {rule.name: [] for rule in self.protocols},
        )
        seen: list[FrameObjects] = []
        for threshold in self.thresholds:
            found = above(prob, threshold)
            pred = Components.of(found)
            shared = overlaps(pred, truth)
            record.pixels.append(count_mask_pixels(found, mask))
            record.errors.append(count_component_errors(pred, truth, shared))
            for rule in self.protocols:
                match = rule.match(pred, truth)
                record.targets[rule.name].append(count_match(match, pred, truth, shared))
                record.tables[rule.name].append(with_match(known, match))
                seen.append(FrameObjects(pred, truth, match, record.tables[rule.name][-1]))
        return record, seen[0]

    def _flush(self) -> None:
        """Add the buffered frames to the curves."""
        if not self._waiting:
            return
        for prob, mask, _ in self._waiting:
            self._pixels.add(prob, mask)
        probs, masks, truths = zip(*self._waiting, strict=True)
        batch = Batch(probs, masks, max(self.hse_config.radii), truths)
        self._targets.add(batch)
        self._matches.add(batch)
        self._samples.add(batch)
        self._waiting = []


def _settings(evaluator: Evaluator) -> tuple[Any, ...]:
    names = [rule.name for rule in evaluator.protocols]
    return evaluator.thresholds, names, evaluator.hse_config


def _chosen(by_protocol: dict[str, T], protocol: str) -> T:
    if protocol not in by_protocol:
        raise DataError(f"protocol '{protocol}' was not evaluated; these were: {', '.join(by_protocol)}")
    return by_protocol[protocol]
