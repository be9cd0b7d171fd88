"""Add targets to a background: their shape through the optics, position and brightness.

A target consists of sub-sources around its centre (one for a point, a line for a motion smear, a filled
ellipse for a small body), each seen through a Gaussian point spread function (PSF) and integrated over the
pixels. The weighted mean of the sub-sources is the centre, so that the energy centroid is the true position.

The local signal-to-clutter ratio (SCR) is (peak - mean) / std. The peak is the brightest pixel of the
target's mask; mean and std are those of the background in a window of `SCR_WINDOW` pixels a side around the
target, without the pixels that any target reaches.
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
_REACHED = 0.01  # fraction of the peak above which a target excludes a pixel from background statistics
_REACH_OF_OTHERS = 8  # the same for a frame's own targets, whose size is unknown: a radius
_FEW = 16  # smallest number of pixels for statistics
_PLACES = 20  # places tried for a target before the best is used
_REACH = 4.0  # extent of a stamp beyond its outermost sub-source, in sigma
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))

FloatArray = npt.NDArray[np.float32]


class TargetConfig(RangeModel):
    """Shape and contrast of targets. Lengths and areas in pixels, fractions 0 to 1."""

    sigma: Positive = Field((0.5, 1.6), description="sigma of the Gaussian PSF")
    scr: Positive = Field((3.0, 40.0), description="local signal-to-clutter ratio, drawn log-uniformly")
    smear_share: float = Field(0.2, ge=0, le=1, description="fraction of targets smeared by motion")
    smear_length: NotNegative = Field((1.0, 6.0), description="length of a motion smear")
    blob_share: float = Field(0.4, ge=0, le=1, description="fraction of targets with a small body")
    blob_area: Positive = Field((4.0, 60.0), description="area of a body, before the PSF widens it")
    separation: float = Field(16.0, ge=1, description="smallest distance between two centres")
    margin: float = Field(2.0, ge=0, description="smallest distance of a centre from the outermost pixels")
    mask_level: float = Field(
        0.25, gt=0, lt=1, description="fraction of the peak above which pixels belong to the mask"
    )


@dataclass(frozen=True)
class Shape:
    """Sub-sources of a target: offsets (M, 2) x, y from its centre, weights (M,) and sigma of the PSF."""

    offsets: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    sigma: float


@dataclass(frozen=True)
class Stamp:
    """A rendered shape with peak 1, and the rows and columns of the frame that it covers."""

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
    """A point that moves `length` pixels in the direction `angle` (radians) during the exposure."""
    along = np.linspace(-length / 2, length / 2, 2 + int(2 * length / sigma))
    offsets = along[:, None] * [math.cos(angle), math.sin(angle)]
    return Shape(offsets, np.full(len(along), 1 / len(along)), sigma)


def _blob(rng: np.random.Generator, area: float, sigma: float) -> Shape:
    """A filled ellipse of uneven brightness: sub-sources 0.8 pixels apart in a sunflower pattern."""
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
    """Render a shape centred on `point` (x, y; inside the frame), clipped to `size` (height, width)."""
    reach = float(np.abs(shape.offsets).max()) + _REACH * shape.sigma
    columns, across = _profiles(shape.offsets[:, 0] + point[0], shape.sigma, point[0], reach, size[1])
    rows, down = _profiles(shape.offsets[:, 1] + point[1], shape.sigma, point[1], reach, size[0])
    values = (down * shape.weights[:, None]).T @ across
    return Stamp(rows, columns, (values / values.max()).astype(np.float32))


def _profiles(
    centres: npt.NDArray[np.float64], sigma: float, middle: float, reach: float, length: int
) -> tuple[slice, npt.NDArray[np.float64]]:
    """The pixels covered along one axis, and each sub-source's Gaussian integrated over them, (M, K)."""
    first, last = max(0, math.floor(middle - reach)), min(length, math.ceil(middle + reach) + 1)
    edges = np.arange(first, last + 1) - 0.5
    return slice(first, last), np.diff(ndtr((edges - centres[:, None]) / sigma), axis=1)


@dataclass(frozen=True)
class Planted:
    """Added targets: points (N, 2) float32 x, y; scr (N,) float32; mask (H, W) bool."""

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
    """Add up to `count` targets to a frame in place; fewer if there is no room.

    Parameters
    ----------
    canvas : (H, W) float32
        The frame, noise included.
    rng : numpy.random.Generator
        Source of randomness.
    count : int
        Number of targets.
    config : TargetConfig
        Shapes, contrast and distances.
    least_std : float
        Lower limit of the local standard deviation, so that targets on a flat background are visible.
    ceiling : float, default infinity
        Saturation value of the sensor.
    avoid : (N, 2) array, optional
        x, y from which new targets keep `config.separation`.

    Returns
    -------
    Planted
        The SCR is the one reached: as requested, lower if the target saturates, higher if clutter would
        otherwise hide the target.
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
    """A stamp at one place: local statistics, and the amplitude for the requested SCR."""

    point: tuple[float, float]
    stamp: Stamp
    mean: float
    std: float
    amplitude: float
    clear: float  # amplitude at which at least half of the contrast comes from the target


class _Field:
    """State of a frame during planting: where targets fit, and which pixels are taken."""

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
        self.reached: npt.NDArray[np.uint8] = np.zeros(canvas.shape, np.uint8)  # 1 where a target is visible
        for x, y in np.zeros((0, 2)) if avoid is None else avoid:
            self._close(float(x), float(y))
            cv2.circle(self.reached, (round(float(x)), round(float(y))), _REACH_OF_OTHERS, 1, cv2.FILLED)

    def _close(self, x: float, y: float) -> None:
        radius = math.ceil(self.config.separation + 1.5)  # both centres may lie anywhere in their pixels
        cv2.circle(self.free, (round(x), round(y)), radius, 0, cv2.FILLED)

    def find_place(self, rng: np.random.Generator, shape: Shape, scr: float) -> _Fit | None:
        """The first free place where the target is visible, else the best of those tried, or None."""
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
        """Statistics and amplitude at one place.

        None if the ceiling leaves no room for a target, or if the pixel grid would move the mask's centroid
        more than half a pixel from the centre.
        """
        mean, std = local_statistics(self.canvas, self.reached, point, stamp)
        std = max(std, self.least_std)
        peak = min(mean + scr * std, self.ceiling)
        if not peak - mean >= min(scr, 2.0) * std:  # false for NaN as well
            return None
        inside = stamp.values >= self.config.mask_level
        if _is_whole(stamp, self.canvas.shape) and _off_centre(stamp, inside, point) > 0.5:
            return None
        under = self.canvas[stamp.rows, stamp.columns][inside]
        # The largest amplitude with which no pixel of the mask exceeds the peak: one of them reaches it.
        amplitude = float(((peak - under) / stamp.values[inside]).min())
        return _Fit(point, stamp, mean, std, amplitude, (peak - mean) / 2)

    def add(self, fit: _Fit) -> float:
        """Add the target to frame and mask; returns the SCR reached."""
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
    """A position inside the pixel, within the frame's outermost pixel centres; exact in float32."""
    return float(np.float32(min(max(pixel + rng.uniform(-0.5, 0.5), 0.0), length - 1.0)))


def local_statistics(
    canvas: FloatArray, reached: npt.NDArray[np.uint8], point: tuple[float, float], stamp: Stamp
) -> tuple[float, float]:
    """Mean and std of the window around a point, without the pixels of this and other targets.

    If too few pixels are left: the brightness at the point, and 0.
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
    """The common part of two index ranges, relative to the start of each."""
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
    """Return a copy of a frame with up to `count` more targets; fewer if they do not fit or are not visible.

    Parameters
    ----------
    frame : (H, W) float32
        The frame, on any scale.
    rng : numpy.random.Generator
        Source of randomness.
    count : int
        Number of targets.
    config : TargetConfig, optional
        Shapes, contrast and distances. Default: dim targets.
    avoid : (N, 2) array, optional
        x, y of the frame's own targets; new targets keep `config.separation` from them.
    least_std : float, default 1/255
        Lower limit of the local standard deviation, on the frame's scale.
    saturation : float, default infinity
        Largest value of a target, on the frame's scale.

    Returns
    -------
    tuple of (H, W) float32, (M, 2) float32
        The new frame, and x, y of the new targets (without `avoid`).

    Raises
    ------
    FrameError
        If `frame` is not a float32 frame.
    ConfigError
        If `least_std` is not above 0.

    Examples
    --------
    >>> import numpy as np
    >>> from dimpoint.synthetic.planting import paste_targets
    >>> rng = np.random.default_rng(0)
    >>> frame = rng.normal(0.4, 0.02, (64, 64)).astype(np.float32)
    >>> pasted, points = paste_targets(frame, rng, count=2, saturation=1.0)
    >>> points.shape, bool((pasted >= frame).all())
    ((2, 2), True)
    """
    check_frame(frame)
    if frame.dtype != np.float32:
        raise FrameError(f"frame must be float32, got {frame.dtype}")
    if not least_std > 0:
        raise ConfigError(f"least_std must be above 0, got {least_std}")
    out = frame.copy()
    planted = plant(out, rng, count, config, least_std=least_std, ceiling=saturation, avoid=avoid)
    return out, planted.points
