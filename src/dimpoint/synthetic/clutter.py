"""Infrared backgrounds: cloud, sea and ground, from random fields.

Natural clutter has a power spectrum of about 1/f^beta (beta 2 to 4 in public infrared data sets). Each
background starts from such fields and adds typical structures: cloud edges; waves under a horizon with sun
glint; straight man-made edges with hot corners that resemble targets.

Every function takes a frame size (height, width) and returns (H, W) float32 of zero mean and unit standard
deviation; the sensor sets brightness and contrast.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import fft
from scipy.special import expit, ndtri

from dimpoint.synthetic.sensor import NotNegative, Positive, RangeModel, Share, draw, draw_log

FloatArray = npt.NDArray[np.float32]
Background = Literal["cloud", "sea", "ground"]


class CloudConfig(RangeModel):
    """Clouds in front of a smooth sky."""

    beta: Positive = Field((3.0, 4.0), description="spectral slope of the clouds' outline")
    stretch: Positive = Field((1.0, 3.0), description="ratio of the clouds' width to their height")
    cover: Share = Field((0.05, 0.95), description="fraction of the frame covered by clouds")
    softness: Positive = Field((0.06, 0.8), description="width of the cloud edges; small is sharp")
    relief: NotNegative = Field((0.1, 0.6), description="brightness variation inside clouds; the edge is 1")
    billow_share: float = Field(0.5, ge=0, le=1, description="fraction of scenes with cumulus clouds")
    gradient: NotNegative = Field((0.0, 0.5), description="sky brightness from top to bottom; the edge is 1")


class SeaConfig(RangeModel):
    """Waves, brighter and finer towards a horizon, with sun glint and some sky."""

    beta: Positive = Field((2.0, 3.0), description="spectral slope of the waves")
    stretch: Positive = Field((3.0, 8.0), description="ratio of the crests' width to their height")
    horizon: tuple[float, float] = Field(
        (-0.3, 0.45), description="row of the horizon as a fraction of the height; < 0: none"
    )
    gradient: NotNegative = Field((0.5, 3.0), description="brightness towards the horizon, in wave std")
    glint_share: float = Field(0.5, ge=0, le=1, description="fraction of scenes with sun glint")
    glint: NotNegative = Field((1.0, 4.0), description="brightness of the glint's streaks, in wave std")


class GroundConfig(RangeModel):
    """Terrain with fields, roads and roofs, in some scenes under a skyline. Densities per 256x256 pixels."""

    beta: Positive = Field((2.2, 3.4), description="spectral slope of the terrain")
    billow_share: float = Field(
        0.5, ge=0, le=1, description="fraction of scenes with tree crowns instead of bare soil"
    )
    fields: NotNegative = Field((0.0, 6.0), description="number of large uniform polygons")
    roads: NotNegative = Field((0.0, 2.0), description="number of roads across the frame, not a density")
    roofs: NotNegative = Field((0.0, 12.0), description="number of roofs")
    corner_share: float = Field(0.3, ge=0, le=1, description="fraction of roofs with a hot corner")
    structure: NotNegative = Field((0.5, 2.0), description="contrast of structures, in terrain std")
    sky_share: float = Field(0.3, ge=0, le=1, description="fraction of scenes with a skyline")


def cloud(size: tuple[int, int], rng: np.random.Generator, config: CloudConfig) -> FloatArray:
    """Soft-thresholded power-law clouds, lit from one side, in front of a sky with a gradient."""
    stretch, beta = draw(rng, config.stretch), draw(rng, config.beta)
    field = power_law(size, rng, beta, stretch)
    texture = power_law(size, rng, beta - 0.3, stretch)
    if rng.random() < config.billow_share:
        texture = _billow(texture)
    threshold = float(ndtri(1 - np.clip(draw(rng, config.cover), 0.01, 0.99)))
    edge = expit((field - np.float32(threshold)) / np.float32(draw_log(rng, config.softness)))
    body = 1 + np.float32(draw(rng, config.relief)) * (texture + np.maximum(field - np.float32(threshold), 0))
    slope = np.float32(draw(rng, config.gradient) * rng.choice((-1, 1)))
    return _standardise(edge * body + slope * _rows(size))


def sea(size: tuple[int, int], rng: np.random.Generator, config: SeaConfig) -> FloatArray:
    """Anisotropic waves, fine and bright at the horizon and coarse in front, with glint."""
    beta, stretch = draw(rng, config.beta), draw(rng, config.stretch)
    horizon = rng.uniform(*config.horizon)
    depth = (_rows(size) - np.float32(horizon)) / np.float32(1 - horizon)  # 0 horizon .. 1 in front
    near = np.clip(depth, 0, 1)
    fine = power_law(size, rng, beta - 0.8, 1.5 * stretch)
    coarse = power_law(size, rng, beta, stretch)
    out = (1 - near) * fine * np.float32(0.6) + np.sqrt(near) * coarse
    out += np.float32(draw(rng, config.gradient)) * (1 - near) ** 2
    if rng.random() < config.glint_share:
        out += np.float32(draw(rng, config.glint)) * _glint(size, rng, near, fine)
    if horizon > 0:
        haze = power_law(size, rng, 3.4, 3.0) * np.float32(0.25) + np.float32(rng.uniform(-2, 3))
        above = expit(depth * np.float32(-2 * size[0]))  # a horizon about a pixel wide
        out += above * (haze - out + depth)
    return _standardise(out)


def _glint(
    size: tuple[int, int], rng: np.random.Generator, near: FloatArray, crests: FloatArray
) -> FloatArray:
    """Bright streaks: the highest crests inside a corridor under the sun."""
    x = np.linspace(0, 1, size[1], dtype=np.float32)
    width = np.float32(rng.uniform(0.05, 0.2)) * (np.float32(0.6) + near)
    corridor = np.exp(-np.square((x - np.float32(rng.uniform(0, 1))) / width))
    streaks: FloatArray = corridor * np.maximum(crests - np.float32(0.8), 0)
    return streaks


def ground(size: tuple[int, int], rng: np.random.Generator, config: GroundConfig) -> FloatArray:
    """Power-law terrain with piecewise constant structures drawn over it."""
    terrain = power_law(size, rng, draw(rng, config.beta))
    if rng.random() < config.billow_share:
        terrain = _billow(terrain)
    level = np.full(size, _MIDDLE, np.uint8)
    built = np.zeros(size, np.uint8)  # 255 where man-made surfaces replace the terrain's texture
    area = size[0] * size[1] / 256**2
    for _ in range(rng.poisson(draw(rng, config.fields) * area)):
        _polygon(level, None, _quad(rng, size, (30, 120)), _level(rng, 20))
    for _ in range(round(draw(rng, config.roads))):
        _road(level, built, rng)
    for _ in range(rng.poisson(draw(rng, config.roofs) * area)):
        _roof(level, built, rng, rng.random() < config.corner_share)
    structures = (level.astype(np.float32) - _MIDDLE) / np.float32(40)
    out = terrain * (1 - built * np.float32(0.8 / 255))
    out += np.float32(draw(rng, config.structure)) * structures
    if rng.random() < config.sky_share:
        _skyline(out, rng)
    return _standardise(out)


_MIDDLE = 128  # level of bare terrain on the canvas of structures; 40 levels are one terrain std


def _level(rng: np.random.Generator, spread: float) -> int:
    return int(np.clip(_MIDDLE + rng.normal(0, spread), 1, 254))


def _quad(rng: np.random.Generator, size: tuple[int, int], sides: tuple[float, float]) -> FloatArray:
    """A rotated rectangle in the frame, (4, 2) x, y corners."""
    half = rng.uniform(*sides, 2) / 2
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half
    angle = rng.uniform(0, math.pi)
    turn = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
    middle = rng.uniform(0, 1, 2) * (size[1], size[0])
    return np.asarray(corners @ turn + middle, np.float32)


def _polygon(
    level: npt.NDArray[np.uint8], built: npt.NDArray[np.uint8] | None, corners: FloatArray, value: int
) -> None:
    points = np.rint(corners * 16).astype(np.int32)  # cv2 draws at 1/16 pixel with shift 4
    cv2.fillPoly(level, [points], value, cv2.LINE_AA, 4)
    if built is not None:
        cv2.fillPoly(built, [points], 255, cv2.LINE_AA, 4)


def _road(level: npt.NDArray[np.uint8], built: npt.NDArray[np.uint8], rng: np.random.Generator) -> None:
    """A slightly curved road across the frame."""
    height, width = level.shape
    along = np.linspace(-0.05, 1.05, 32)
    across = rng.uniform(0, 1) + 0.07 * power_law((1, 32), rng, 4.0)[0]
    x, y = (along, across) if rng.random() < 0.5 else (across, along)
    points = [np.rint(np.stack([x * width, y * height], axis=1)).astype(np.int32)]
    thickness = int(rng.integers(2, 9))
    cv2.polylines(level, points, False, _level(rng, 50), thickness, cv2.LINE_AA)
    cv2.polylines(built, points, False, 255, thickness, cv2.LINE_AA)


def _roof(
    level: npt.NDArray[np.uint8], built: npt.NDArray[np.uint8], rng: np.random.Generator, corner: bool
) -> None:
    """A roof of two halves of different brightness; with `corner` a hot corner, a hard negative."""
    quad = _quad(rng, (level.shape[0], level.shape[1]), (6, 34))
    first, second = _level(rng, 45), _level(rng, 45)
    ridge = (quad[[0, 1]] + quad[[3, 2]]) / 2
    _polygon(level, built, quad, first)
    _polygon(level, built, np.concatenate([ridge, quad[[2, 3]]]), second)
    if corner:
        legs = quad[1] + (quad[[0, 2]] - quad[1]) * np.float32(rng.uniform(0.15, 0.4))
        _polygon(level, built, np.concatenate([quad[1:2], legs]), 250)


def _skyline(out: FloatArray, rng: np.random.Generator) -> None:
    """Replace the part above a ragged line by a uniform sky, in place."""
    height, width = out.shape
    outline = power_law((1, width), rng, 2.0)[0]
    line = height * np.float32(rng.uniform(0.1, 0.45)) + outline * np.float32(0.04 * height)
    y = np.arange(height, dtype=np.float32)[:, None]
    above = np.clip(line - y, 0, 1)
    sky = np.float32(rng.uniform(-3, 1)) + np.float32(rng.uniform(0, 1)) * y / np.float32(height)
    out += above * (sky - out)


def power_law(
    size: tuple[int, int], rng: np.random.Generator, beta: float, stretch: float = 1.0
) -> FloatArray:
    """A Gaussian random field with power spectrum 1/f^beta.

    Parameters
    ----------
    size : tuple of int
        Height and width, pixels.
    rng : numpy.random.Generator
        Source of randomness.
    beta : float
        Spectral slope.
    stretch : float, default 1
        How many times longer structures are along x than along y.

    Returns
    -------
    (H, W) float32
        Zero mean and unit standard deviation.
    """
    rows, columns = (fft.next_fast_len(length, real=True) for length in size)
    fy = np.fft.fftfreq(rows).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(columns).astype(np.float32)[None] * np.float32(stretch)
    power = fy * fy + fx * fx
    power[0, 0] = 1.0
    amplitude = power ** np.float32(-beta / 4)
    amplitude[0, 0] = 0.0
    spectrum = rng.standard_normal((rows, amplitude.shape[1], 2), dtype=np.float32)
    spectrum *= amplitude[:, :, None]
    field = fft.irfft2(spectrum.view(np.complex64)[:, :, 0], s=(rows, columns), overwrite_x=True)
    return _standardise(field[: size[0], : size[1]])


def _standardise(field: FloatArray) -> FloatArray:
    """Zero mean and unit standard deviation; a flat field becomes 0."""
    centred: FloatArray = field - np.float32(field.mean(dtype=np.float64))
    std = np.float32(centred.std())
    if std > 0:
        centred /= std
    return centred


def _billow(field: FloatArray) -> FloatArray:
    """Round bright heaps between dark creases, like cumulus clouds and tree crowns."""
    return _standardise(np.abs(field))


def _rows(size: tuple[int, int]) -> FloatArray:
    """Row coordinate, 0 at the top to 1 at the bottom, (H, 1) float32."""
    return np.linspace(0, 1, size[0], dtype=np.float32)[:, None]


BACKGROUNDS: dict[Background, Callable[..., FloatArray]] = {"cloud": cloud, "sea": sea, "ground": ground}
