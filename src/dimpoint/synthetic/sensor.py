"""Thermal camera model: brightness, blur, noise, bad pixels and quantisation; ranges of random parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _check(value: tuple[float, float], least: float, most: float) -> tuple[float, float]:
    low, high = value
    if not least <= low <= high <= most:  # NaN fails as well
        raise ValueError(f"a range low, high with {least:g} <= low <= high <= {most:g}")
    return value


def _check_count(value: tuple[int, int]) -> tuple[int, int]:
    if not 0 <= value[0] <= value[1]:
        raise ValueError("a range low, high with 0 <= low <= high")
    return value


Share = Annotated[tuple[float, float], AfterValidator(lambda value: _check(value, 0.0, 1.0))]
NotNegative = Annotated[tuple[float, float], AfterValidator(lambda value: _check(value, 0.0, 1e6))]
Positive = Annotated[tuple[float, float], AfterValidator(lambda value: _check(value, 1e-6, 1e6))]
Count = Annotated[tuple[int, int], AfterValidator(_check_count)]


class RangeModel(BaseModel):
    """Base of the configurations: immutable, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def draw(rng: np.random.Generator, value: tuple[float, float]) -> float:
    """Draw a value uniformly from a range."""
    return float(rng.uniform(*value))


def draw_log(rng: np.random.Generator, value: tuple[float, float]) -> float:
    """Draw a value log-uniformly from a positive range, so that small values are not rare."""
    return float(np.exp(rng.uniform(math.log(value[0]), math.log(value[1]))))


FloatArray = npt.NDArray[np.float32]
Bits = Literal[8, 16]
_SCENE_TOP = 0.95  # the background stays below this fraction of the span, to leave room for targets
_TOP_14_BIT = 2.0**14 - 1
_BAD_PIXEL_DISTANCE = 13  # keeps bad pixels out of the window in which a target's SCR is measured


class SensorConfig(RangeModel):
    """Camera parameters. Brightness, noise and offsets are fractions of the span from dark to bright scenes.

    The span is 255 counts for 8 bits. 16-bit files hold the counts of a 14-bit converter: `offset` counts
    for the dark end and `span` counts above it, saturating at 16383.
    """

    level: Share = Field((0.15, 0.6), description="mean brightness of the background")
    contrast: Positive = Field(
        (0.03, 0.25), description="background std, at most 0.4 (1 - level), log-uniform"
    )
    blur: NotNegative = Field((0.4, 1.2), description="sigma of the optical blur of the background, pixels")
    noise: Positive = Field(
        (0.0015, 0.01), description="standard deviation of the temporal noise, log-uniform"
    )
    shot_share: Share = Field(
        (0.0, 0.5), description="fraction of the noise variance that grows with brightness"
    )
    stripes: NotNegative = Field(
        (0.0, 0.003), description="std of column offsets; row offsets have a third of it"
    )
    gain: NotNegative = Field((0.0, 0.003), description="std of the pixels' gain around 1")
    bad_pixels: float = Field(2e-5, ge=0, le=0.01, description="fraction of dead and hot pixels")
    offset: NotNegative = Field((1000.0, 6000.0), description="16 bit: counts of the dark end")
    span: Positive = Field((2000.0, 8000.0), description="16 bit: counts from dark to bright, log-uniform")


@dataclass(frozen=True)
class Counts:
    """Converter values before rounding, (H, W) float32, and the ends of the scale."""

    values: FloatArray
    dark: float
    bright: float
    top: float


def expose(clutter: FloatArray, rng: np.random.Generator, config: SensorConfig, bits: Bits) -> Counts:
    """Turn a background of zero mean and unit std into noisy counts."""
    level = draw(rng, config.level)
    # Gain control leaves room above the background for targets.
    contrast = min(draw_log(rng, config.contrast), 0.4 * (1 - level))
    scene = clutter * np.float32(contrast) + np.float32(level)
    sigma = draw(rng, config.blur)
    if sigma > 0.2:  # smaller blurs have no effect
        cv2.GaussianBlur(scene, (0, 0), sigma, dst=scene, borderType=cv2.BORDER_REFLECT_101)
    np.clip(scene, 0.0, _SCENE_TOP, out=scene)
    scene += _fixed_pattern(scene, rng, config) + _temporal_noise(scene, rng, config)
    if bits == 8:
        dark, bright, top = 0.0, 255.0, 255.0
    else:
        dark = draw(rng, config.offset)
        bright, top = dark + draw_log(rng, config.span), _TOP_14_BIT
    scene *= np.float32(bright - dark)
    scene += np.float32(dark)
    return Counts(np.clip(scene, 0.0, top, out=scene), dark, bright, top)


def _fixed_pattern(scene: FloatArray, rng: np.random.Generator, config: SensorConfig) -> FloatArray:
    """Column and row offsets, and the pixels' unequal gain."""
    height, width = scene.shape
    stripes = np.float32(draw(rng, config.stripes))
    pattern = rng.standard_normal(scene.shape, dtype=np.float32)
    pattern *= np.float32(draw(rng, config.gain)) * scene
    pattern += rng.standard_normal(width, dtype=np.float32) * stripes
    pattern += rng.standard_normal((height, 1), dtype=np.float32) * (stripes / np.float32(3))
    return pattern


def _temporal_noise(scene: FloatArray, rng: np.random.Generator, config: SensorConfig) -> FloatArray:
    """Read-out and shot noise; the shot variance grows with brightness, the sum is `noise` at level 0.5."""
    sigma, share = draw_log(rng, config.noise), draw(rng, config.shot_share)
    noise = rng.standard_normal(scene.shape, dtype=np.float32)
    noise *= np.float32(sigma) * np.sqrt(np.float32(1 - share) + np.float32(2 * share) * scene)
    return noise


def add_bad_pixels(
    counts: Counts, rng: np.random.Generator, config: SensorConfig, targets: npt.NDArray[np.float32]
) -> None:
    """Add single dead and hot pixels to the counts, in place, away from the targets' (N, 2) x, y."""
    values = counts.values
    for place in rng.integers(0, values.size, rng.poisson(config.bad_pixels * values.size)):
        row, column = divmod(int(place), values.shape[1])
        hot = rng.random() < 0.7
        lift = rng.uniform(0.15, 0.8) * (counts.bright - counts.dark)
        if all(math.dist((column, row), point) > 1.5 * _BAD_PIXEL_DISTANCE for point in targets):
            values[row, column] = values[row, column] + lift if hot else counts.dark


def digitise(counts: Counts, bits: Bits) -> npt.NDArray[Any]:
    """Round and saturate to (H, W) uint8, or to uint16 with 14 significant bits."""
    rounded = np.rint(np.clip(counts.values, 0, counts.top))
    return rounded.astype(np.uint8 if bits == 8 else np.uint16)
