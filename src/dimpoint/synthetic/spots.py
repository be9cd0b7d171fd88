"""Point-like targets: their shape through the optics.

A target is a few sub-sources around its centre (one for a point, a line for a motion smear, a filled
ellipse for a small body), each seen through a Gaussian point spread function (PSF) and integrated over the
pixels. The sub-sources' weighted mean is the centre, so the energy centroid is the true position.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.special import ndtr

from dimpoint.synthetic.sensor import NotNegative, Positive, RangeModel, draw, draw_log

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
