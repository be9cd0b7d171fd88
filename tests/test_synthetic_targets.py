"""Targets of synthetic scenes: shape through the optics, true centre, mask, contrast, room."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dimpoint.datasets.masks import centroids
from dimpoint.synthetic.planting import Planted, Shape, TargetConfig, local_statistics, plant, render, smear

SEEDS = st.integers(0, 2**32 - 1)
ONE_OF_EACH = pytest.mark.parametrize(
    "config",
    [
        pytest.param(TargetConfig(smear_share=0, blob_share=0, margin=24), id="points"),
        pytest.param(TargetConfig(smear_share=1, blob_share=0, margin=24), id="smears"),
        pytest.param(TargetConfig(smear_share=0, blob_share=1, margin=24), id="blobs"),
    ],
)


def plant_one(seed: int, config: TargetConfig) -> tuple[np.ndarray, Planted]:
    """One noiseless target on an empty 64x64 frame."""
    canvas = np.zeros((64, 64), np.float32)
    return canvas, plant(canvas, np.random.default_rng(seed), 1, config, least_std=1.0)


def energy_centroid(canvas: np.ndarray) -> tuple[float, float]:
    y, x = np.mgrid[: canvas.shape[0], : canvas.shape[1]]
    energy = canvas.astype(np.float64)
    return float((x * energy).sum() / energy.sum()), float((y * energy).sum() / energy.sum())


def components(mask: np.ndarray) -> int:
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] - 1


def test_a_point_is_the_gaussian_integrated_over_each_pixel() -> None:
    stamp = render(Shape(np.zeros((1, 2)), np.ones(1), 0.8), (5.0, 5.0), (11, 11))
    middle = math.erf(0.5 / 0.8 / math.sqrt(2))
    beside = (math.erf(1.5 / 0.8 / math.sqrt(2)) - middle) / 2
    row = stamp.values[5 - stamp.rows.start]
    assert row[5 - stamp.columns.start] == pytest.approx(1.0)
    assert row[6 - stamp.columns.start] == pytest.approx(beside / middle, rel=1e-6)


@pytest.mark.parametrize("angle", [0.0, math.pi / 2])
def test_a_smear_spreads_along_its_direction_only(angle: float) -> None:
    stamp = render(smear(6.0, angle, 0.7), (20.0, 20.0), (41, 41)).values.astype(np.float64)
    down, across = (np.arange(n) - (n - 1) / 2 for n in stamp.shape)
    along, other = (across, down) if angle == 0.0 else (down, across)
    profile = stamp.sum(0 if angle == 0.0 else 1), stamp.sum(1 if angle == 0.0 else 0)
    variance = [float((w * p**2).sum() / w.sum()) for w, p in zip(profile, (along, other), strict=True)]
    across_it = 0.7**2 + 1 / 12  # PSF and pixel
    assert variance[1] == pytest.approx(across_it, rel=0.02)
    assert variance[0] == pytest.approx(across_it + 6.0**2 / 12, rel=0.2)  # an even line of length 6


@ONE_OF_EACH
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_energy_centroid_is_the_centre(config: TargetConfig, seed: int) -> None:
    canvas, planted = plant_one(seed, config)
    assert energy_centroid(canvas) == pytest.approx(tuple(planted.points[0]), abs=0.02)


@ONE_OF_EACH
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_mask_is_one_piece_around_the_centre(config: TargetConfig, seed: int) -> None:
    canvas, planted = plant_one(seed, config)
    found = centroids(planted.mask)
    assert len(found) == 1
    assert np.linalg.norm(found[0] - planted.points[0]) <= 0.5
    assert np.array_equal(planted.mask, canvas >= np.float32(config.mask_level) * canvas.max())


def test_masks_have_the_areas_of_real_targets() -> None:
    areas = [int(plant_one(seed, TargetConfig(margin=24))[1].mask.sum()) for seed in range(300)]
    assert min(areas) >= 1
    assert 8 <= np.median(areas) <= 35  # public sets: 20 to 33
    assert np.percentile(areas, 99) <= 110


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, separation=st.floats(1, 30))
def test_targets_keep_their_distance_from_each_other_and_from_given_points(
    seed: int, separation: float
) -> None:
    avoid = np.array([(40.0, 40.0), (0.4, 89.5)])
    canvas = np.zeros((90, 80), np.float32)
    config = TargetConfig(separation=separation)
    points = plant(canvas, np.random.default_rng(seed), 6, config, least_std=1.0, avoid=avoid).points
    everything = np.concatenate([avoid, points])
    gaps = np.linalg.norm(everything[:, None] - points[None], axis=2)
    gaps[gaps == 0] = np.inf
    assert gaps.min() >= separation


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, margin=st.floats(0, 12))
def test_centres_keep_the_margin(seed: int, margin: float) -> None:
    canvas = np.zeros((40, 60), np.float32)
    config = TargetConfig(margin=margin, separation=1)
    points = plant(canvas, np.random.default_rng(seed), 8, config, least_std=1.0).points
    assert len(points) == 8
    assert (points >= margin).all()
    assert (points <= np.array([59, 39]) - margin).all()


def test_masks_of_targets_at_the_default_distance_do_not_touch() -> None:
    for seed in range(40):
        canvas = np.zeros((128, 128), np.float32)
        planted = plant(canvas, np.random.default_rng(seed), 8, TargetConfig(), least_std=1.0)
        assert components(planted.mask) == len(planted.points) == 8


@pytest.mark.parametrize("scr", [3.0, 8.0, 30.0])
def test_scr_on_noise_is_the_one_asked_for(scr: float) -> None:
    """Measured from frame and mask alone, as anybody would: the window less the mask's surroundings."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        canvas = rng.normal(100, 4, (96, 96)).astype(np.float32)
        planted = plant(canvas, rng, 3, TargetConfig(scr=(scr, scr), margin=14), least_std=0.1)
        around = cv2.dilate(planted.mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
        for (x, y), reported in zip(planted.points, planted.scr, strict=True):
            window = np.s_[
                round(float(y)) - 12 : round(float(y)) + 13, round(float(x)) - 12 : round(float(x)) + 13
            ]
            clutter = canvas[window][~around[window]]
            peak = canvas[window][cv2.erode(around.astype(np.uint8), np.ones((7, 7)))[window] > 0].max()
            assert (peak - clutter.mean()) / clutter.std() == pytest.approx(scr, rel=0.12)
            assert reported == pytest.approx(scr, rel=1e-3)


def test_a_target_outshines_the_clutter_under_it() -> None:
    """At an SCR of 1 the clutter alone often reaches the peak: the target is added all the same."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        before = rng.normal(0, 1, (12, 12)).astype(np.float32)
        after = before.copy()
        planted = plant(after, rng, 1, TargetConfig(scr=(1, 1)), least_std=0.1)
        assert (after - before)[planted.mask].max() > 0.4
        assert planted.scr[0] >= 0.99


def test_no_target_is_brighter_than_the_ceiling() -> None:
    canvas = np.full((64, 64), 200.0, np.float32)
    planted = plant(canvas, np.random.default_rng(0), 4, TargetConfig(), least_std=20.0, ceiling=255.0)
    assert len(planted.points) == 4
    assert canvas.max() == pytest.approx(255.0)
    assert planted.scr.max() == pytest.approx((255 - 200) / 20)


@pytest.mark.parametrize(
    ("level", "ceiling"),
    [
        (255.0, 255.0),  # everything is saturated
        (254.0, 255.0),  # one count is left, which is no contrast at a std of one count
        (300.0, 255.0),  # above the ceiling already
        (np.nan, 255.0),  # no picture
    ],
)
def test_no_target_where_none_could_be_seen(level: float, ceiling: float) -> None:
    canvas = np.full((40, 40), level, np.float32)
    planted = plant(canvas, np.random.default_rng(0), 3, TargetConfig(), least_std=1.0, ceiling=ceiling)
    assert planted.points.shape == (0, 2)
    assert planted.scr.shape == (0,)
    assert not planted.mask.any()
    assert np.array_equal(canvas, np.full((40, 40), level, np.float32), equal_nan=True)


def test_statistics_leave_out_the_target_and_what_lies_beyond_the_window() -> None:
    canvas = np.zeros((60, 60), np.float32)
    stamp = render(Shape(np.zeros((1, 2)), np.ones(1), 1.0), (30.0, 30.0), (60, 60))
    canvas[stamp.rows, stamp.columns] += 1000 * (stamp.values > 0.01)
    canvas[:, 43] = 1000  # the first column outside a window of 25
    canvas[42, :] = 1.0  # its last row
    mean, _ = local_statistics(canvas, np.zeros((60, 60), np.uint8), (30.0, 30.0), stamp)
    assert mean == pytest.approx(25 / (25 * 25 - (stamp.values > 0.01).sum()))
