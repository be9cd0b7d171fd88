"""Synthetic backgrounds and the camera: spectra, structure, noise, fixed pattern, bad pixels, bits."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from dimpoint.synthetic.clutter import (
    BACKGROUNDS,
    CloudConfig,
    GroundConfig,
    SeaConfig,
    ground,
    power_law,
    sea,
)
from dimpoint.synthetic.sensor import Counts, SensorConfig, add_bad_pixels, digitise, expose

CONFIGS = {"cloud": CloudConfig(), "sea": SeaConfig(), "ground": GroundConfig()}
QUIET = SensorConfig(
    level=(0.5, 0.5),
    blur=(0, 0),
    noise=(1e-6, 1e-6),
    shot_share=(0, 0),
    stripes=(0, 0),
    gain=(0, 0),
    bad_pixels=0,
)
FLAT = np.zeros((200, 300), np.float32)


def spectral_slope(field: np.ndarray) -> float:
    """Slope of the radial power spectrum between 1/50 and 1/4 per pixel."""
    power = np.abs(np.fft.fft2(field)) ** 2
    f = np.hypot(np.fft.fftfreq(field.shape[0])[:, None], np.fft.fftfreq(field.shape[1])[None])
    edges = np.geomspace(0.02, 0.25, 9)
    bands = [power[(f >= low) & (f < high)].mean() for low, high in pairwise(edges)]
    return float(-np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(bands), 1)[0])


@pytest.mark.parametrize("beta", [0.0, 2.0, 3.0, 4.0])
def test_power_law_has_the_slope_asked_for(beta: float) -> None:
    fields = [power_law((256, 256), np.random.default_rng(seed), beta) for seed in range(4)]
    assert np.mean([spectral_slope(field) for field in fields]) == pytest.approx(beta, abs=0.15)


def test_stretched_fields_are_smoother_along_x() -> None:
    field = power_law((256, 256), np.random.default_rng(0), 2.5, stretch=6.0)
    assert np.abs(np.diff(field, axis=0)).mean() > 2.5 * np.abs(np.diff(field, axis=1)).mean()


@pytest.mark.parametrize("kind", list(BACKGROUNDS))
@pytest.mark.parametrize("size", [(1, 1), (7, 3), (1, 500), (500, 1), (97, 101)])
def test_backgrounds_of_any_size_are_standardised(kind: str, size: tuple[int, int]) -> None:
    for seed in range(3):
        field = BACKGROUNDS[kind](size, np.random.default_rng(seed), CONFIGS[kind])
        assert field.shape == size
        assert field.dtype == np.float32
        assert np.isfinite(field).all()
        assert field.mean(dtype=np.float64) == pytest.approx(0, abs=1e-3)
        assert size == (1, 1) or field.std() == pytest.approx(1, abs=1e-3)


def test_a_sea_with_a_horizon_is_calm_above_and_rough_below() -> None:
    config = SeaConfig(horizon=(0.4, 0.4), glint_share=0)
    field = sea((200, 200), np.random.default_rng(2), config)
    rough = np.abs(np.diff(field, axis=1)).mean(axis=1)
    assert rough[90:].mean() > 5 * rough[:70].mean()


def test_glint_adds_bright_streaks_only() -> None:
    def top(share: float) -> float:
        config = SeaConfig(horizon=(-0.1, -0.1), glint_share=share, glint=(4, 4), gradient=(0, 0))
        return float(np.mean([sea((128, 128), np.random.default_rng(s), config).max() for s in range(8)]))

    assert top(1.0) > top(0.0) + 1.0


def test_ground_structures_have_edges_and_hot_corners() -> None:
    bare = GroundConfig(fields=(0, 0), roads=(0, 0), roofs=(0, 0), sky_share=0, billow_share=0)
    built = bare.model_copy(update={"roofs": (12, 12), "corner_share": 1.0, "structure": (2.0, 2.0)})
    for seed in range(4):
        plain = ground((256, 256), np.random.default_rng(seed), bare)
        roofs = ground((256, 256), np.random.default_rng(seed), built)
        assert np.percentile(np.abs(np.diff(roofs)), 99.9) > 1.5 * np.percentile(np.abs(np.diff(plain)), 99.9)
        assert roofs.max() > plain.max()


# What is asked of the camera, and what a flat scene then shows, in parts of the span.
@pytest.mark.parametrize(
    ("change", "measure", "expected"),
    [
        ({"noise": (0.004, 0.004)}, lambda v: v.std(), 0.004),
        ({"noise": (0.004, 0.004), "shot_share": (1, 1)}, lambda v: v.std(), 0.004),  # at level 0.5
        ({"noise": (0.004, 0.004), "shot_share": (1, 1), "level": (0.125, 0.125)}, lambda v: v.std(), 0.002),
        ({"gain": (0.01, 0.01)}, lambda v: v.std(), 0.005),  # of a level of 0.5
        ({"stripes": (0.003, 0.003)}, lambda v: v.mean(axis=0).std(), 0.003),
        ({"stripes": (0.003, 0.003)}, lambda v: v.mean(axis=1).std(), 0.001),
        ({"level": (0.3, 0.3)}, lambda v: v.mean(), 0.3),
    ],
    ids=["read noise", "shot noise", "less shot noise in the dark", "gain", "columns", "rows", "level"],
)
def test_camera(change: dict, measure: object, expected: float) -> None:
    config = QUIET.model_copy(update=change)
    counts = expose(FLAT, np.random.default_rng(1), config, 16)
    values = (counts.values - counts.dark) / (counts.bright - counts.dark)
    assert measure(values) == pytest.approx(expected, rel=0.15)  # type: ignore[operator]


def test_contrast_is_the_std_of_the_clutter() -> None:
    config = QUIET.model_copy(update={"contrast": (0.1, 0.1)})
    clutter = power_law((128, 128), np.random.default_rng(0), 2.0)
    counts = expose(clutter, np.random.default_rng(0), config, 8)
    assert counts.values.std() == pytest.approx(25.5, rel=0.03)


@pytest.mark.parametrize(("bits", "top"), [(8, 255), (16, 16383)])
def test_digitising_rounds_and_saturates(bits: int, top: int) -> None:
    values = np.array([[-3.0, 0.4, 0.6, 1e6]], np.float32)
    frame = digitise(Counts(values, 0.0, top, top), bits)  # type: ignore[arg-type]
    assert frame.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert frame.tolist() == [[0, 0, 1, top]]


def test_bad_pixels_are_single_and_keep_away_from_targets() -> None:
    config = QUIET.model_copy(update={"bad_pixels": 0.01})
    counts = expose(FLAT, np.random.default_rng(0), config, 8)
    before = counts.values.copy()
    target = np.array([(150.0, 100.0)], np.float32)
    add_bad_pixels(counts, np.random.default_rng(1), config, target)
    rows, columns = np.nonzero(counts.values != before)
    assert 400 < len(rows) < 700  # 1 % of 60,000, less the surroundings of the target
    assert np.hypot(columns - 150, rows - 100).min() > 12 * np.sqrt(2)
    assert (counts.values[rows, columns] == 0).any()  # dead
    assert (counts.values[rows, columns] > before.max() + 30).any()  # hot
