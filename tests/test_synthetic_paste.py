"""Targets pasted onto real frames for training."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dimpoint.errors import ConfigError, FrameError
from dimpoint.synthetic.planting import TargetConfig, paste_targets


def sky(seed: int = 0, size: tuple[int, int] = (128, 128)) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.4, 0.01, size).astype(np.float32)


def test_targets_are_added_and_the_frame_is_left_alone() -> None:
    frame = sky()
    kept = frame.copy()
    out, points = paste_targets(frame, np.random.default_rng(1), 3)
    assert np.array_equal(frame, kept)
    assert out.dtype == points.dtype == np.float32
    assert points.shape == (3, 2)
    changed = out != frame
    assert cv2.connectedComponents(changed.astype(np.uint8), connectivity=8)[0] - 1 == 3
    assert (out >= frame).all()  # brighter than what was there
    for x, y in points:
        assert changed[round(float(y)), round(float(x))]


def test_same_generator_same_result() -> None:
    first, again = (paste_targets(sky(), np.random.default_rng(5), 3) for _ in range(2))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0.5, 2000), shift=st.floats(-100, 1000), seed=st.integers(0, 1000))
def test_contrast_follows_the_frame_scale(scale: float, shift: float, seed: int) -> None:
    """Counts or unit range: the same targets, in the frame's own units."""
    frame = sky(seed, (64, 64))
    out, points = paste_targets(frame, np.random.default_rng(seed), 2, least_std=1e-3)
    scaled = (frame.astype(np.float64) * scale + shift).astype(np.float32)
    out_scaled, points_scaled = paste_targets(scaled, np.random.default_rng(seed), 2, least_std=1e-3 * scale)
    assert np.array_equal(points, points_scaled)
    assert np.allclose((out_scaled - scaled) / scale, out - frame, atol=0.02 * float((out - frame).max()))


def test_targets_are_dim_but_visible() -> None:
    frame = sky()
    for seed in range(20):
        out, points = paste_targets(frame, np.random.default_rng(seed), 1, TargetConfig(scr=(3, 6)))
        (x, y) = points[0]
        peak = out[max(0, round(float(y)) - 4) :][:9, max(0, round(float(x)) - 4) :][:, :9].max()
        assert 0.4 + 2 * 0.01 < peak < 0.4 + 9 * 0.01


@pytest.mark.parametrize(
    ("frame", "count", "avoid", "expected"),
    [
        (sky(), 0, None, 0),  # none asked for
        (sky(), 3, np.zeros((0, 2), np.float32), 3),  # nothing to avoid
        (sky(size=(12, 12)), 9, None, 1),  # room for one only
        (sky(size=(20, 20)), 1, np.array([(10.0, 10.0)]), 0),  # its own target takes the room
        (sky(size=(1, 1)), 1, None, 1),
        (np.ones((64, 64), np.float32), 2, None, 0),  # saturated all over
    ],
)
def test_as_many_as_fit(frame: np.ndarray, count: int, avoid: np.ndarray | None, expected: int) -> None:
    out, points = paste_targets(frame, np.random.default_rng(0), count, avoid=avoid, saturation=1.0)
    assert points.shape == (expected, 2)
    assert out.shape == frame.shape
    assert (expected > 0) or np.array_equal(out, frame)


def test_saturation_is_the_brightest_that_a_target_gets() -> None:
    frame = sky() + np.float32(0.5)
    frame[0, 0] = 1.2  # the frame's own bright pixels stay
    out, points = paste_targets(
        frame, np.random.default_rng(0), 4, TargetConfig(scr=(30, 30)), saturation=1.0
    )
    assert len(points) == 4
    assert out[out != frame].max() == pytest.approx(1.0)
    assert out[0, 0] == np.float32(1.2)


def test_own_targets_are_avoided() -> None:
    own = np.array([(64.0, 64.0), (0.0, 0.0), (140.0, 20.0)])  # the last lies outside the crop
    for seed in range(20):
        _, points = paste_targets(sky(), np.random.default_rng(seed), 3, avoid=own)
        assert len(points) == 3
        assert np.linalg.norm(points[:, None] - own[None], axis=2).min() >= TargetConfig().separation


@pytest.mark.parametrize(
    ("frame", "least_std", "error"),
    [
        (sky().astype(np.float64), 0.01, FrameError),  # not float32
        ((sky() * 255).astype(np.uint8), 0.01, FrameError),  # counts: the amplitude would be cut
        (np.zeros((2, 8, 8), np.float32), 0.01, FrameError),
        (np.zeros((0, 8), np.float32), 0.01, FrameError),
        (np.full((8, 8), np.nan, np.float32), 0.01, FrameError),
        (sky(), 0.0, ConfigError),
        (sky(), float("nan"), ConfigError),
    ],
)
def test_bad_input(frame: np.ndarray, least_std: float, error: type[Exception]) -> None:
    with pytest.raises(error):
        paste_targets(frame, np.random.default_rng(0), 1, least_std=least_std)


def test_on_real_target_free_frames(shared_data: Path) -> None:
    masks = sorted((shared_data / "SIRST-v2" / "masks").glob("*.png"))
    free = [m for m in masks if not cv2.imread(str(m), cv2.IMREAD_GRAYSCALE).any()][:8]
    assert free
    for seed, mask in enumerate(free):
        counts = cv2.imread(str(shared_data / "SIRST-v2" / "images" / mask.name), cv2.IMREAD_GRAYSCALE)
        frame = (counts[:256, :256] / 255).astype(np.float32)
        out, points = paste_targets(frame, np.random.default_rng(seed), 3, saturation=1.0)
        assert out.max() <= max(1.0, float(frame.max()))
        assert len(points) == 3
        for x, y in points:
            assert (out - frame)[round(float(y)), round(float(x))] > 1 / 255
