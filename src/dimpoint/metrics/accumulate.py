"""`Evaluator`: all metrics of a stream of frames, in bounded memory, mergeable across processes."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

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
_Checked: TypeAlias = tuple[Map, Mask, Components]


@dataclass(frozen=True, eq=False)
class FrameRecord:
    """The counts of one frame at each threshold of the evaluator.

    pixels, errors: one per threshold. targets, tables: by protocol, one per threshold.
    """

    name: str
    pixels: list[PixelCounts]
    errors: list[ErrorCounts]
    targets: dict[str, list[TargetCounts]]
    tables: dict[str, list[TargetTable]]


@dataclass(frozen=True, eq=False)
class FrameObjects:
    """The objects of one frame at the first threshold, and their matches under the first protocol."""

    pred: Components
    truth: Components
    match: TargetMatch
    table: TargetTable


@dataclass(frozen=True, eq=False)
class MapMetrics:
    """The metrics of maps on a set of frames.

    Counts are kept by frame, for intervals and comparisons; `Counts.total` adds them up.

    Parameters
    ----------
    frames : list of FrameRecord
        Counts of each frame, by name.
    thresholds : tuple of float
        The evaluated thresholds.
    pixel_curve : PixelCurve
        Pixel counts at all thresholds.
    target_curve : Curve
        Object counts of protocol `basicirstd` at all thresholds.
    hse : Hse
        HSE and its parts.
    hse_samples : HseSamples
        HSE's integrand for each frame, for intervals.
    sampled : dict of str to SampledCounts
        Counts at 100 thresholds for protocols without an exact curve.
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
        """The names of the frames."""
        return [frame.name for frame in self.frames]

    def pixels(self, threshold: float) -> list[PixelCounts]:
        """Pixel counts of each frame at one of the thresholds; DataError for another threshold."""
        index = self._index(threshold)
        return [frame.pixels[index] for frame in self.frames]

    def errors(self, threshold: float) -> list[ErrorCounts]:
        """Error counts of hIoU of each frame at one of the thresholds."""
        index = self._index(threshold)
        return [frame.errors[index] for frame in self.frames]

    def targets(self, protocol: str, threshold: float) -> list[TargetCounts]:
        """Object counts of each frame under one of the protocols at one of the thresholds."""
        index = self._index(threshold)
        return [_chosen(frame.targets, protocol)[index] for frame in self.frames]

    def table(self, protocol: str, threshold: float) -> TargetTable:
        """All targets with their properties, for breakdowns."""
        index = self._index(threshold)
        return TargetTable.total(_chosen(frame.tables, protocol)[index] for frame in self.frames)

    def _index(self, threshold: float) -> int:
        if threshold not in self.thresholds:
            raise DataError(f"threshold {threshold} was not evaluated; evaluated: {self.thresholds}")
        return self.thresholds.index(threshold)


class Evaluator:
    """Takes labelled probability maps one by one and computes all metrics.

    Memory: a few KB per frame, plus tables of at most 2**20 score levels, independent of the number of
    frames. Evaluators of parts, also from other processes, are combined by `merge`; the result does not
    depend on order or grouping.

    Parameters
    ----------
    thresholds : sequence of float, default (0.5,)
        Pixels above a threshold are predicted.
    protocols : sequence of str, default ("basicirstd",)
        How objects are matched with targets; see `protocol_names`.
    hse : HseConfig, optional
        Match radii and weights of HSE.
    limit : int or None
        Number of distinct scores that are kept exactly; more are rounded (`LevelSums`). None: no limit.

    Raises
    ------
    ConfigError
        If a protocol is unknown.
    DataError
        If a threshold is outside 0..1.

    Examples
    --------
    >>> import numpy as np
    >>> from dimpoint.metrics.accumulate import Evaluator
    >>> from dimpoint.metrics.protocols import TargetCounts
    >>> prob, mask = np.zeros((9, 20)), np.zeros((9, 20), bool)
    >>> mask[4, 4] = True
    >>> prob[4, 5], prob[2, 15] = 0.9, 0.6
    >>> evaluator = Evaluator(thresholds=(0.5,), protocols=("basicirstd",))
    >>> _ = evaluator.update(prob, mask, "frame 1")
    >>> counts = TargetCounts.total(evaluator.result().targets("basicirstd", 0.5))
    >>> counts.tp, counts.fp, counts.pd
    (1, 1, 1.0)
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
        self._waiting: list[_Checked] = []
        self._beside: Future[None] | None = None  # the batch that is being counted

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
        """Add one frame; after an error nothing of the frame is counted.

        Parameters
        ----------
        prob : (H, W) float
            Probability map, 0..1.
        mask : (H, W) bool or uint8
            True pixels; uint8 counts above 127.
        name : str
            Name of the frame, unique.
        image : (H, W) array, optional
            The frame, for breakdowns by SCR.
        source : str
            Name of its data set, for breakdowns.
        known : tuple of Components, TargetTable, optional
            The mask's components and their description, if already computed.

        Returns
        -------
        FrameObjects
            The objects at the first threshold, matched by the first protocol.

        Raises
        ------
        DataError
            If the map or mask is wrong, or the name was used before.
        """
        if name in self._frames:
            raise DataError(f"frame '{name}' was given twice")
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
            self._flush_beside()
        return seen

    def __getstate__(self) -> dict[str, Any]:
        self._flush()
        return self.__dict__

    def merge(self, other: Evaluator) -> None:
        """Add the frames of another evaluator with the same settings.

        Raises
        ------
        DataError
            If the settings differ, or both have a frame of the same name.
        """
        if _settings(self) != _settings(other):
            raise DataError(
                "evaluators with different thresholds, protocols or HSE settings cannot be merged"
            )
        twice = sorted(self._frames.keys() & other._frames.keys())
        if twice:
            raise DataError(f"frame '{twice[0]}' is in both parts ({len(twice)} common frames)")
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
        """The metrics of all frames so far, ordered by name.

        Returns
        -------
        MapMetrics
        """
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

    def _flush_beside(self) -> None:
        """Begin to add the buffered frames to the curves; the next ones are read meanwhile."""
        self._join()
        waiting, self._waiting = self._waiting, []
        pool = ThreadPoolExecutor(1)
        self._beside = pool.submit(self._add, waiting)
        pool.shutdown(wait=False)

    def _flush(self) -> None:
        """Add all frames so far to the curves."""
        self._join()
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._add(waiting)

    def _join(self) -> None:
        """Wait for the batch that is being counted."""
        beside, self._beside = self._beside, None
        if beside is not None:
            beside.result()

    def _add(self, waiting: Sequence[_Checked]) -> None:
        """Add a batch to the curves, those of pixels and the samples of HSE beside those of objects."""
        probs, masks, truths = zip(*waiting, strict=True)
        batch = Batch(probs, masks, max(self.hse_config.radii), truths)
        with ThreadPoolExecutor(2) as pool:
            pixels = pool.submit(self._add_pixels, probs, masks)
            batch.prepare()  # what both need
            samples = pool.submit(self._samples.add, batch)
            self._targets.add(batch)
            self._matches.add(batch)
            pixels.result()
            samples.result()

    def _add_pixels(self, probs: Sequence[Map], masks: Sequence[Mask]) -> None:
        for prob, mask in zip(probs, masks, strict=True):
            self._pixels.add(prob, mask)


def _settings(evaluator: Evaluator) -> tuple[Any, ...]:
    names = [rule.name for rule in evaluator.protocols]
    return evaluator.thresholds, names, evaluator.hse_config


def _chosen(by_protocol: dict[str, T], protocol: str) -> T:
    if protocol not in by_protocol:
        raise DataError(f"protocol '{protocol}' was not evaluated; evaluated: {', '.join(by_protocol)}")
    return by_protocol[protocol]
