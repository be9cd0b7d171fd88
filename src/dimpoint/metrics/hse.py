"""HSE, Holistic SIRST Evaluation, "dimpoint reading 1".

According to the FDEP paper (arXiv 2512.05511), HSE integrates over many thresholds, on pixels (confidence)
and on targets (robustness). We found no published formula; this definition is our own:

    HSE_pixel  = integral over t in (0, 1) of (IoU(t) + nIoU(t)) / 2
    HSE_target = integral over t in (0, 1) of the mean over match radii d = 1..5 px of F1(t, d)
    HSE        = (HSE_pixel + HSE_target) / 2

IoU and F1 pool the data set; nIoU is the mean over frames with truth or prediction at t. F1(t, d) counts the
objects of p > t and uses the largest one-to-one matching of centroids at most d apart, so that it does not
depend on the order of targets. The integrals are exact, since nothing changes between two neighbouring
scores. Without any target HSE is not defined (NaN).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator

from dimpoint.errors import DataError
from dimpoint.metrics.bootstrap import Difference, Interval, bootstrap
from dimpoint.metrics.counts import ratios
from dimpoint.metrics.curves import TargetCurveSums
from dimpoint.metrics.exact.levels import LIMIT, LevelSums
from dimpoint.metrics.exact.matching import Batch, batches
from dimpoint.metrics.pixel import PixelCurve, PixelCurveSums

Floats = npt.NDArray[np.float64]


class HseConfig(BaseModel):
    """Parameters of HSE."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["dimpoint reading 1"] = "dimpoint reading 1"
    radii: tuple[float, ...] = Field((1, 2, 3, 4, 5), min_length=1, description="match radii, pixels")
    iou_weight: float = Field(0.5, ge=0, le=1, description="weight of IoU in HSE_pixel; nIoU has the rest")
    pixel_weight: float = Field(
        0.5, ge=0, le=1, description="weight of HSE_pixel in HSE; HSE_target has the rest"
    )
    levels: tuple[float, ...] | None = Field(
        None, description="thresholds to average over; none: the exact integral over every score level"
    )

    @field_validator("radii")
    @classmethod
    def _positive(cls, radii: tuple[float, ...]) -> tuple[float, ...]:
        if min(radii) <= 0:
            raise ValueError("match radii must be above 0 pixels")
        return radii

    @field_validator("levels")
    @classmethod
    def _thresholds(cls, levels: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if levels is not None and not (levels and all(0 <= level <= 1 for level in levels)):
            raise ValueError("levels must be thresholds in 0..1, at least one")
        return levels


@dataclass(frozen=True)
class Hse:
    """HSE and its parts, each 0 to 1, or NaN without targets.

    Parameters
    ----------
    name : str
        Name of the definition.
    hse, pixel, target, iou, niou : float
        HSE, HSE_pixel, HSE_target, and the integrals of IoU and nIoU.
    f1 : dict of float to float
        Integral of F1 by match radius, pixels.
    exact : bool
        False if scores were rounded up to multiples of 2**-18 to bound the memory.
    """

    name: str
    hse: float
    pixel: float
    target: float
    iou: float
    niou: float
    f1: dict[float, float]
    exact: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def hse(frames: Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any]]], config: HseConfig | None = None) -> Hse:
    """HSE of frames, exact over every score level.

    Parameters
    ----------
    frames : iterable of (prob, mask)
        Maps (H, W), 0..1, with masks (bool, or uint8 above 127); sizes may differ.
    config : HseConfig, optional
        Match radii and weights; those of "dimpoint reading 1" if left out.

    Raises
    ------
    DataError
        For a bad frame, with its number.

    Examples
    --------
    >>> import numpy as np
    >>> from dimpoint.metrics.hse import hse
    >>> mask = np.zeros((16, 16), bool)
    >>> mask[7:9, 7:9] = True
    >>> float(hse([(mask.astype(np.float32), mask)]).hse)
    1.0
    """
    config = config or HseConfig()
    pixels, targets, matches = PixelCurveSums(None), TargetCurveSums(None), RadiusMatches(config, None)
    for batch in batches(frames, max(config.radii)):
        for prob, mask in zip(batch.probs, batch.masks, strict=True):
            pixels.add(prob, mask)
        targets.add(batch)
        matches.add(batch)
    return hse_of(config, pixels.curve(), targets, matches)


class RadiusMatches:
    """Accumulates matched targets at all thresholds by match radius, batch by batch."""

    def __init__(self, config: HseConfig, limit: int | None = LIMIT) -> None:
        self.found = {radius: LevelSums(1, limit=limit) for radius in config.radii}

    def add(self, batch: Batch) -> None:
        for radius, sums in self.found.items():
            levels, weights, _ = batch.found(radius)
            sums.add(levels, weights[None])

    def merge(self, other: RadiusMatches) -> None:
        for radius, sums in self.found.items():
            sums.merge(other.found[radius])


def hse_of(config: HseConfig, pixels: PixelCurve, targets: TargetCurveSums, matches: RadiusMatches) -> Hse:
    """HSE from the sums over the frames."""
    levels, widths = _integration(config, pixels.thresholds)
    sampled = pixels.at(levels)
    iou, niou = float(widths @ sampled.iou), float(widths @ sampled.niou)
    objects = targets.objects.at(levels)[1]
    f1 = {
        radius: float(widths @ ratios(2 * sums.at(levels)[0], objects + targets.targets))
        for radius, sums in matches.found.items()
    }
    pixel = config.iou_weight * iou + (1 - config.iou_weight) * niou
    target = float(np.mean(list(f1.values())))
    return Hse(
        name=config.name,
        hse=config.pixel_weight * pixel + (1 - config.pixel_weight) * target,
        pixel=pixel,
        target=target,
        iou=iou,
        niou=niou,
        f1=f1,
        exact=pixels.exact and all(sums.exact for sums in (targets.objects, *matches.found.values())),
    )


def _integration(config: HseConfig, changes: Floats) -> tuple[Floats, Floats]:
    """Levels and weights of the exact integral, or of the mean over the levels of `config`."""
    if config.levels is not None:
        return np.array(config.levels), np.full(len(config.levels), 1 / len(config.levels))
    levels = changes[::-1]
    return levels, np.diff(levels, append=1.0)


Numbers = npt.NDArray[Any]

LEVELS = (np.arange(100) + 0.5) / 100  # the sampled thresholds


class HseSamples:
    """The integrand of HSE at 100 thresholds for each of F frames, about 4 KB per frame."""

    def __init__(self, config: HseConfig) -> None:
        self.config = config
        self._tables: list[npt.NDArray[np.float32]] = []  # (frames, 5 + radii, levels) each
        self._true: list[Numbers] = []  # (frames, 2) true pixels and targets each

    def add(self, batch: Batch) -> None:
        count = len(batch.probs)
        true = np.array([np.count_nonzero(mask) for mask in batch.masks])
        targets = np.bincount(batch.targets.frame, minlength=count)
        tp, predicted, objects = _pixels_and_objects(batch)
        union = true[:, None] + predicted - tp
        iou = np.divide(tp, union, out=np.zeros_like(tp), where=union > 0)
        found = [_found(batch, radius) for radius in self.config.radii]
        rows = [tp, predicted - tp, iou, union > 0, objects, *found]
        self._tables.append(np.stack(rows, axis=1).astype(np.float32))
        self._true.append(np.stack([true, targets], axis=1))

    def merge(self, other: HseSamples) -> None:
        self._tables += other._tables
        self._true += other._true

    def ordered(self, order: Sequence[int]) -> HseSamples:
        """The same frames in another order."""
        result = HseSamples(self.config)
        if not self._tables:
            return result
        place = np.argsort(order)
        table = np.empty((len(order), *self._tables[0].shape[1:]), np.float32)
        start = 0
        for part in self._tables:  # avoids a second copy, which is large for many frames
            table[place[start : start + len(part)]] = part
            start += len(part)
        result._tables = [table]
        result._true = [np.concatenate(self._true)[list(order)]]
        return result

    def __len__(self) -> int:
        return sum(len(table) for table in self._tables)

    def number(self, weights: Floats) -> Floats:
        """Sampled HSE of weighted frames: weights (R, F) give (R,)."""
        table = np.concatenate(self._tables)
        true, targets = (weights @ np.concatenate(self._true)).T[:, :, None]
        sums = [weights @ table[:, row].astype(np.float64) for row in range(table.shape[1])]
        tp, fp, iou_sum, iou_frames, objects, *found = sums
        config = self.config
        iou, niou = ratios(tp, fp + true), ratios(iou_sum, iou_frames)
        pixel = config.iou_weight * iou + (1 - config.iou_weight) * niou
        target = np.mean([ratios(2 * hits, objects + targets) for hits in found], axis=0)
        mean: Floats = (config.pixel_weight * pixel + (1 - config.pixel_weight) * target).mean(axis=1)
        return mean

    def interval(self, exact: Hse, **options: Any) -> Interval:
        """The interval of `exact`, the HSE of the same frames; options as for `bootstrap`."""
        drawn = bootstrap(len(self), self.number, **options)
        shift = exact.hse - drawn.value
        return Interval(exact.hse, drawn.low + shift, drawn.high + shift)

    def difference(self, other: HseSamples, exact: Hse, other_exact: Hse, **options: Any) -> Difference:
        """The paired difference of HSE to another method on the same frames in the same order.

        Raises DataError if the numbers of frames differ.
        """
        if len(self) != len(other):
            raise DataError(f"{len(self)} frames against {len(other)}; a comparison needs the same frames")
        drawn = bootstrap(len(self), lambda weights: self.number(weights) - other.number(weights), **options)
        value = exact.hse - other_exact.hse
        return Difference(value, drawn.low + value - drawn.value, drawn.high + value - drawn.value)


def _pixels_and_objects(batch: Batch) -> tuple[Floats, Floats, Floats]:
    """True pixels found, pixels predicted, objects: each (frames, levels)."""
    growth, count = batch.growth, len(batch.probs)
    hit = np.concatenate([mask.ravel() for mask in batch.masks])[growth.cell]
    places = _places(growth.frame, growth.level)
    tp, predicted, objects = (_sums(count, places, weight) for weight in (hit, None, growth.change))
    return tp, predicted, objects


def _found(batch: Batch, radius: float) -> Floats:
    levels, weights, target = batch.found(radius)
    return _steps(len(batch.probs), batch.targets.frame[target], levels, weights)


def _steps(frames: int, frame: Numbers, level: Numbers, weight: Numbers) -> Floats:
    """(frames, levels): sum of the weights of each frame's entries above each sampled threshold."""
    return _sums(frames, _places(frame, level), weight)


def _places(frame: Numbers, level: Numbers) -> Numbers:
    """The cell of each entry in an array (frames, levels + 1)."""
    above = np.searchsorted(LEVELS, level, side="left")  # number of thresholds below
    place: Numbers = frame.astype(np.int64) * (len(LEVELS) + 1) + above
    return place


def _sums(frames: int, places: Numbers, weight: Numbers | None) -> Floats:
    """The same as `_steps`, from the cells of the entries; a weight of None is 1 each."""
    sums = np.bincount(places, weight, frames * (len(LEVELS) + 1)).reshape(frames, -1).astype(np.float64)
    return np.cumsum(sums[:, :0:-1], axis=1)[:, ::-1]
