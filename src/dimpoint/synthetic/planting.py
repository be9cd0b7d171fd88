"""Targets on a background: their shape through the optics, their places and their brightness.

A target is a few sub-sources around its centre (one for a point, a line for a motion smear, a filled
ellipse for a small body), each seen through a Gaussian point spread function (PSF) and integrated over the
pixels. The sub-sources' weighted mean is the centre, so the energy centroid is the true position.

The local signal-to-clutter ratio (SCR) is (peak - mean) / std. The peak is the brightest pixel of the
target's mask; mean and std are those of the background in a window of `SCR_WINDOW` pixels a side around
the target, without the pixels that this or another target reaches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.special import ndtr

from dimpoint.errors import ConfigError, FrameError
from dimpoint.model.intensity import check_frame
from dimpoint.synthetic.sensor import NotNegative, Positive, RangeModel, draw, draw_log

SCR_WINDOW = 25
_REACHED = 0.01  # part of its peak above which a target spoils a pixel for background statistics
_REACH_OF_OTHERS = 8  # radius in which a frame's own targets, of unknown size, spoil pixels
_FEW = 16  # fewer pixels than this are no statistic
_PLACES = 20  # places tried for a target before the best of them is taken
_REACH = 4.0  # a stamp ends this many sigma beyond its outermost sub-source
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))

FloatArray = npt.NDArray[np.float32]


class TargetConfig(RangeModel):
    """Shape and contrast of targets. Lengths and areas in pixels, shares in 0..1."""

    sigma: Positive = Field((0.5, 1.6), description="sigma of the Gaussian PSF")
    scr: Positive = Field((3.0, 40.0), description="local signal-to-clutter ratio, drawn log-uniformly")
    smear_share: float = Field(0.2, ge=0, le=1, description="part of the targets smeared by motion")
    smear_length: NotNegative = Field((1.0, 6.0), description="length of a motion smear")
    blob_share: float = Field(0.4, ge=0, le=1, description="part of the targets with a small body")
    blob_area: Positive = Field((4.0, 60.0), description="area of a body, before the PSF widens it")
    separation: float = Field(16.0, ge=1, description="least distance of two targets' centres")
    margin: float = Field(2.0, ge=0, description="least distance of a centre from the outermost pixels")
    mask_level: float = Field(0.25, gt=0, lt=1, description="part of the peak above which a pixel is mask")


@dataclass(frozen=True)
class Shape:
    """A target's sub-sources: offsets (M, 2) x, y from its centre, weights (M,) and the PSF's sigma."""

    offsets: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    sigma: float


@dataclass(frozen=True)
class Stamp:
    """A shape's brightness, largest pixel 1, on the rows and columns of the frame that it covers."""

    rows: slice
    columns: slice
    values: FloatArray


def draw_shape(rng: np.random.Generator, config: TargetConfig) -> Shape:
    """A random target shape: point, motion smear or small body."""
    sigma = draw(rng, config.sigma)
    kind = rng.random()
    if kind < config.smear_share:
        return smear(draw(rng, config.smear_length), rng.uniform(0, math.pi), sigma)
    if kind < config.smear_share + config.blob_share:
        return _blob(rng, draw_log(rng, config.blob_area), sigma)
    return Shape(np.zeros((1, 2)), np.ones(1), sigma)


def smear(length: float, angle: float, sigma: float) -> Shape:
    """A point that moves `length` pixels in the direction `angle` (radians) while the shutter is open."""
    along = np.linspace(-length / 2, length / 2, 2 + int(2 * length / sigma))
    offsets = along[:, None] * [math.cos(angle), math.sin(angle)]
    return Shape(offsets, np.full(len(along), 1 / len(along)), sigma)


def _blob(rng: np.random.Generator, area: float, sigma: float) -> Shape:
    """A filled ellipse of uneven brightness: sub-sources about 0.8 pixels apart, as in a sunflower."""
    count = 3 + int(1.5 * area)
    radius = np.sqrt((np.arange(count) + 0.5) / count)
    turn = np.arange(count) * _GOLDEN_ANGLE
    ratio = rng.uniform(0.45, 1.0)
    major = math.sqrt(area / (math.pi * ratio))
    x, y = radius * np.cos(turn) * major, radius * np.sin(turn) * major * ratio
    angle = rng.uniform(0, math.pi)
    cos, sin = math.cos(angle), math.sin(angle)
    offsets = np.stack([x * cos - y * sin, x * sin + y * cos], axis=1)
    weights = rng.uniform(0.5, 1.5, count)
    weights /= weights.sum()
    return Shape(offsets - weights @ offsets, weights, sigma)


def render(shape: Shape, point: tuple[float, float], size: tuple[int, ...]) -> Stamp:
    """The shape centred on `point` (x, y; inside the frame), cut to a frame of `size` (height, width)."""
    reach = float(np.abs(shape.offsets).max()) + _REACH * shape.sigma
    columns, across = _profiles(shape.offsets[:, 0] + point[0], shape.sigma, point[0], reach, size[1])
    rows, down = _profiles(shape.offsets[:, 1] + point[1], shape.sigma, point[1], reach, size[0])
    values = (down * shape.weights[:, None]).T @ across
    return Stamp(rows, columns, (values / values.max()).astype(np.float32))


def _profiles(
    centres: npt.NDArray[np.float64], sigma: float, middle: float, reach: float, length: int
) -> tuple[slice, npt.NDArray[np.float64]]:
    """Along one axis: the pixels covered, and each sub-source's Gaussian integrated over them, (M, K)."""
    first, last = max(0, math.floor(middle - reach)), min(length, math.ceil(middle + reach) + 1)
    edges = np.arange(first, last + 1) - 0.5
    return slice(first, last), np.diff(ndtr((edges - centres[:, None]) / sigma), axis=1)


@dataclass(frozen=True)
class Planted:
    """Targets added to a frame: points (N, 2) float32 x, y; scr (N,) float32; mask (H, W) bool."""

    points: FloatArray
    scr: FloatArray
    mask: npt.NDArray[np.bool_]


def plant(
    canvas: FloatArray,
    rng: np.random.Generator,
    count: int,
    config: TargetConfig,
    *,
    least_std: float,
    ceiling: float = math.inf,
    avoid: npt.NDArray[np.floating] | None = None,
) -> Planted:
    """Add up to `count` targets to `canvas` in place; fewer where there is no more room.

    canvas: (H, W) float32, noise included. least_std: a smaller local std counts as this, so that targets on
    a flat background can be seen. ceiling: the sensor saturates here. avoid: (N, 2) x, y from which new
    targets keep `config.separation`. The SCR returned is the one reached: as requested, lower where the
    target saturates, higher where clutter would otherwise have hidden the target.
    """
    field = _Field(canvas, config, least_std, ceiling, avoid)
    points: list[tuple[float, float]] = []
    scr: list[float] = []
    for _ in range(count):
        fit = field.find_place(rng, draw_shape(rng, config), draw_log(rng, config.scr))
        if fit is None:
            break
        points.append(fit.point)
        scr.append(field.add(fit))
    return Planted(np.array(points, np.float32).reshape(-1, 2), np.array(scr, np.float32), field.mask)


@dataclass(frozen=True)
class _Fit:
    """A stamp at one place: the local statistics there and the amplitude that gives the asked SCR."""

    point: tuple[float, float]
    stamp: Stamp
    mean: float
    std: float
    amplitude: float
    clear: float  # amplitude at which at least half of the contrast comes from the target


class _Field:
    """A frame during planting: where targets fit, and which pixels are taken."""

    def __init__(
        self,
        canvas: FloatArray,
        config: TargetConfig,
        least_std: float,
        ceiling: float,
        avoid: npt.NDArray[np.floating] | None,
    ) -> None:
        self.canvas = canvas
        self.config = config
        self.least_std = least_std
        self.ceiling = ceiling
        self.mask = np.zeros(canvas.shape, np.bool_)
        self.free: npt.NDArray[np.uint8] = np.zeros(canvas.shape, np.uint8)  # 1 where a centre may lie
        height, width = canvas.shape
        # Half a pixel more, as a centre may lie anywhere in its pixel; in a small frame the margin shrinks.
        margin = math.ceil(config.margin + 0.5) if config.margin else 0
        top, left = (min(margin, (length - 1) // 2) for length in (height, width))
        self.free[top : height - top, left : width - left] = 1
        self.reached: npt.NDArray[np.uint8] = np.zeros(canvas.shape, np.uint8)  # 1 where a target shines
        for x, y in np.zeros((0, 2)) if avoid is None else avoid:
            self._close(float(x), float(y))
            cv2.circle(self.reached, (round(float(x)), round(float(y))), _REACH_OF_OTHERS, 1, cv2.FILLED)

    def _close(self, x: float, y: float) -> None:
        radius = math.ceil(self.config.separation + 1.5)  # both centres may lie anywhere in their pixels
        cv2.circle(self.free, (round(x), round(y)), radius, 0, cv2.FILLED)

    def find_place(self, rng: np.random.Generator, shape: Shape, scr: float) -> _Fit | None:
        """The first free place where the target stands out, the best of those tried, or None."""
        places = np.flatnonzero(self.free)
        if not len(places):
            return None
        best: _Fit | None = None
        for place in rng.choice(places, min(_PLACES, len(places)), replace=False):
            row, column = divmod(int(place), self.free.shape[1])
            point = _jitter(rng, column, self.free.shape[1]), _jitter(rng, row, self.free.shape[0])
            fit = self._fit(point, render(shape, point, self.canvas.shape), scr)
            if fit is None:
                continue
            if best is None or fit.amplitude / fit.clear > best.amplitude / best.clear:
                best = fit
            if fit.amplitude >= fit.clear:
                break
        return best

    def _fit(self, point: tuple[float, float], stamp: Stamp, scr: float) -> _Fit | None:
        """Statistics and amplitude at one place, or None.

        None where the ceiling leaves no room for a target, and where the pixel grid would cut its mask so
        that the mask's centroid is more than half a pixel from the centre.
        """
        mean, std = local_statistics(self.canvas, self.reached, point, stamp)
        std = max(std, self.least_std)
        peak = min(mean + scr * std, self.ceiling)
        if not peak - mean >= min(scr, 2.0) * std:  # false for not a number, too
            return None
        inside = stamp.values >= self.config.mask_level
        if _is_whole(stamp, self.canvas.shape) and _off_centre(stamp, inside, point) > 0.5:
            return None
        under = self.canvas[stamp.rows, stamp.columns][inside]
        # The largest amplitude with which no pixel of the mask exceeds the peak: one of them reaches it.
        amplitude = float(((peak - under) / stamp.values[inside]).min())
        return _Fit(point, stamp, mean, std, amplitude, (peak - mean) / 2)

    def add(self, fit: _Fit) -> float:
        """Add the target to the frame and to the mask; returns the SCR that it reaches."""
        stamp, area = fit.stamp, (fit.stamp.rows, fit.stamp.columns)
        inside = stamp.values >= self.config.mask_level
        under = self.canvas[area]
        lit = under + np.float32(max(fit.amplitude, fit.clear)) * stamp.values
        self.canvas[area] = np.minimum(lit, np.maximum(under, np.float32(self.ceiling)))
        self.mask[area] |= inside
        self.reached[area] |= stamp.values > _REACHED
        self._close(*fit.point)
        return (float(self.canvas[area][inside].max()) - fit.mean) / fit.std


def _is_whole(stamp: Stamp, size: tuple[int, ...]) -> bool:
    """Whether the stamp lies completely inside the frame."""
    parts = zip((stamp.rows, stamp.columns), size, strict=True)
    return all(part.start > 0 and part.stop < length for part, length in parts)


def _off_centre(stamp: Stamp, inside: npt.NDArray[np.bool_], point: tuple[float, float]) -> float:
    """Distance of a mask's centroid from the true centre, pixels."""
    rows, columns = np.nonzero(inside)
    x, y = columns.mean() + stamp.columns.start, rows.mean() + stamp.rows.start
    return math.dist((x, y), point)


def _jitter(rng: np.random.Generator, pixel: int, length: int) -> float:
    """A position inside the pixel, kept inside the frame's outermost pixel centres; exact in float32."""
    return float(np.float32(min(max(pixel + rng.uniform(-0.5, 0.5), 0.0), length - 1.0)))


def local_statistics(
    canvas: FloatArray, reached: npt.NDArray[np.uint8], point: tuple[float, float], stamp: Stamp
) -> tuple[float, float]:
    """Mean and std of the window around a point, without what the stamp there or other targets reach.

    In a frame too small for that, the brightness at the point and 0.
    """
    half = SCR_WINDOW // 2
    rows = _around(point[1], half, canvas.shape[0])
    columns = _around(point[0], half, canvas.shape[1])
    window = canvas[rows, columns]
    keep = reached[rows, columns] == 0
    down, across = _overlap(rows, stamp.rows), _overlap(columns, stamp.columns)
    keep[down[0], across[0]] &= stamp.values[down[1], across[1]] <= _REACHED
    outside = window[keep]
    if outside.size < _FEW:
        return float(canvas[round(point[1]), round(point[0])]), 0.0
    return float(outside.mean()), float(outside.std())


def _around(middle: float, half: int, length: int) -> slice:
    return slice(max(0, round(middle) - half), min(length, round(middle) + half + 1))


def _overlap(a: slice, b: slice) -> tuple[slice, slice]:
    """The common part of two index ranges, counted from the start of each."""
    start, stop = max(a.start, b.start), min(a.stop, b.stop)
    return slice(start - a.start, stop - a.start), slice(start - b.start, stop - b.start)


DIM_TARGETS = TargetConfig(scr=(3.0, 12.0))


def paste_targets(
    frame: npt.NDArray[np.float32],
    rng: np.random.Generator,
    count: int,
    config: TargetConfig = DIM_TARGETS,
    *,
    avoid: npt.NDArray[np.floating] | None = None,
    least_std: float = 1 / 255,
    saturation: float = math.inf,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """A copy of `frame` with up to `count` targets more; fewer where they would not fit or not be seen.

    frame: (H, W) float32, on any scale. avoid: (N, 2) x, y of its own targets, new targets keep
    `config.separation` from them. least_std: local clutter counts as at least this, on the frame's scale; the
    default, one count of 255, suits a unit range. saturation: no target is brighter, on the frame's scale.
    Returns the new frame and the new targets' true centres, (M, 2) float32 x, y, without `avoid`. Raises
    FrameError if `frame` is no float32 frame and ConfigError if `least_std` is not above 0.
    """
    check_frame(frame)
    if frame.dtype != np.float32:
        raise FrameError(f"targets are pasted onto float32 frames, got {frame.dtype}")
    if not least_std > 0:
        raise ConfigError(f"least_std must be above 0, got {least_std}")
    out = frame.copy()
    planted = plant(out, rng, count, config, least_std=least_std, ceiling=saturation, avoid=avoid)
    return out, planted.points
