"""Training views: points stay on their targets through every change of the frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dimpoint.training.recipe import Recipe, load_recipe
from dimpoint.training.views import training_view

MOVED_ALONE = [
    "view.size=128",
    "input.scale=1",
    "input.native_share=0",
    "augmentation.contrast=0",
    "augmentation.offset=0",
    "augmentation.noise=0",
    "augmentation.hot_pixels=0",
    "augmentation.paste_probability=0",
    "augmentation.quarter_turns=true",
    "augmentation.scale=[0.75, 1.4]",
    "augmentation.scale_probability=0.5",
]


def recipe(*changes: str) -> Recipe:
    whole = ["input.fit=[128, 128]", "input.scale=1"] if "view.kind=letterbox" in changes else []
    return load_recipe("spire-sirst", [*MOVED_ALONE, *changes, *whole])


def spots(shape: tuple[int, int], points: np.ndarray, sigma: float = 1.5) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    frame = np.zeros(shape, np.float32)
    for px, py in points:
        frame += np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2))
    return frame


def centre_of_mass(view: np.ndarray, point: np.ndarray, reach: int = 9) -> np.ndarray:
    x0, y0 = np.round(point).astype(int) - reach
    patch = view[y0 : y0 + 2 * reach + 1, x0 : x0 + 2 * reach + 1].astype(np.float64)
    y, x = np.mgrid[y0 : y0 + patch.shape[0], x0 : x0 + patch.shape[1]]
    return np.array([(patch * x).sum(), (patch * y).sum()]) / patch.sum()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000), scale=st.sampled_from([1, 2]), kind=st.sampled_from(["crop", "letterbox"])
)
def test_points_follow_their_targets(seed: int, scale: int, kind: str) -> None:
    points = np.array([[60.3, 41.8]], np.float32)
    rules = recipe(f"view.kind={kind}", f"input.scale={scale}", "augmentation.rotation_probability=1")
    seen = training_view(spots((90, 120), points), points, rules, np.random.default_rng(seed))
    view, moved = seen.pixels, seen.points
    assert view.shape == (128, 128)
    assert view.dtype == np.float32
    inner = moved[((moved > 12) & (moved < 115)).all(axis=1)]
    for point in inner:
        assert np.hypot(*(centre_of_mass(view, point) - point)) < 0.15


def test_flips_and_quarter_turns_alone_do_not_resample() -> None:
    frame = np.random.default_rng(0).random((200, 220)).astype(np.float32)
    rules = recipe("augmentation.scale_probability=0", "augmentation.rotation_probability=0")
    for seed in range(20):
        seen = training_view(frame, np.array([[100, 90]], np.float32), rules, np.random.default_rng(seed))
        assert np.isin(seen.pixels, frame).all()


def test_a_magnified_view_is_a_part_of_the_frame_as_the_detector_magnifies_it() -> None:
    frame = np.random.default_rng(0).random((160, 170)).astype(np.float32)
    magnified = cv2.resize(frame, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    still = ("scale_probability=0", "rotation_probability=0", "quarter_turns=false", "flips=false")
    rules = recipe("input.scale=2", *(f"augmentation.{change}" for change in still))
    inside = 0
    for seed in range(20):
        seen = training_view(frame, np.zeros((0, 2), np.float32), rules, np.random.default_rng(seed))
        x, y = (0.5 - seen.affine[:, 2]).round().astype(int)  # magnified pixels: the view's corner
        part = magnified[max(y, 0) : y + 128, max(x, 0) : x + 128]
        if x > 0 and y > 0 and part.shape == (128, 128):  # the others see mirror images
            np.testing.assert_array_equal(seen.pixels, part)
            inside += 1
    assert inside > 5


def test_only_small_frames_are_magnified() -> None:
    rules = recipe("input.scale=2", "input.magnify_below=12000", "augmentation.scale_probability=0")
    for shape, scale in [((100, 119), 2), ((100, 120), 1)]:
        seen = training_view(
            np.zeros(shape, np.float32), np.zeros((0, 2), np.float32), rules, np.random.default_rng(0)
        )
        assert np.sqrt(abs(np.linalg.det(seen.affine[:, :2]))) == pytest.approx(scale)


def test_magnified_frames_are_also_seen_as_they_are() -> None:
    still = ("augmentation.scale_probability=0", "input.magnify_below=12000")
    rules = recipe("input.scale=2", "input.native_share=0.3", *still)
    none = np.zeros((0, 2), np.float32)

    def scales(shape: tuple[int, int]) -> list[float]:
        frame = np.zeros(shape, np.float32)
        views = [training_view(frame, none, rules, np.random.default_rng(seed)) for seed in range(400)]
        return [round(float(np.sqrt(abs(np.linalg.det(view.affine[:, :2])))), 6) for view in views]

    seen = scales((100, 119))
    assert set(seen) == {1.0, 2.0}
    assert seen.count(1.0) / len(seen) == pytest.approx(0.3, abs=0.07)
    assert set(scales((100, 120))) == {1.0}


def test_targets_mirrored_at_the_border_keep_their_points() -> None:
    """A frame smaller than the view is continued by its mirror image, whose targets are targets."""
    points = np.array([[20.0, 20.0]], np.float32)
    rules = recipe("augmentation.scale_probability=0", "augmentation.rotation_probability=0")
    seen = training_view(spots((60, 60), points), points, rules, np.random.default_rng(1))
    view, moved = seen.pixels, seen.points
    peaks = np.argwhere((view == cv2.dilate(view, np.ones((9, 9)))) & (view > 0.9))[:, ::-1]
    assert len(peaks) > 1
    for peak in peaks:
        assert np.hypot(*(moved - peak).T).min() < 0.6


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (2000, 7)])
def test_any_frame_gives_a_view(shape: tuple[int, int]) -> None:
    frame = np.zeros(shape, np.float32)
    for kind in ("crop", "letterbox"):
        seen = training_view(
            frame, np.zeros((0, 2), np.float32), recipe(f"view.kind={kind}"), np.random.default_rng(0)
        )
        assert seen.pixels.shape == (128, 128)
        assert np.isfinite(seen.pixels).all()
        assert seen.points.shape == (0, 2)


def test_crops_hold_a_target_as_often_as_asked() -> None:
    frame = np.zeros((1000, 1000), np.float32)
    points = np.array([[500, 500]], np.float32)
    rules = recipe("view.near_target=0.75")
    views = [training_view(frame, points, rules, np.random.default_rng(s)) for s in range(300)]
    assert 0.68 < np.mean([len(view.points) > 0 for view in views]) < 0.84


def test_pasted_targets_come_with_their_points() -> None:
    frame = np.random.default_rng(0).normal(0.5, 0.02, (200, 200)).astype(np.float32)
    rules = recipe("augmentation.paste_probability=1", "view.near_target=0")
    counts = [
        len(training_view(frame, np.zeros((0, 2), np.float32), rules, np.random.default_rng(s)).points)
        for s in range(10)
    ]
    assert min(counts) >= 1
    assert max(counts) == 3


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), kind=st.sampled_from(["crop", "letterbox"]))
def test_the_mask_moves_with_its_target(seed: int, kind: str) -> None:
    """Where the mask lies in the view, the target's brightness lies; and no view changes for its mask."""
    y, x = np.mgrid[:90, :120]
    mask = np.hypot(x - 60.3, y - 41.8) < 5
    points = np.array([[60.3, 41.8]], np.float32)
    rules = recipe(f"view.kind={kind}", "augmentation.rotation_probability=1")
    frame = mask.astype(np.float32)
    seen = training_view(frame, points, rules, np.random.default_rng(seed), mask)
    without = training_view(frame, points, rules, np.random.default_rng(seed))
    assert without.mask is None
    assert np.array_equal(seen.pixels, without.pixels)
    assert seen.mask is not None
    assert (seen.mask != (seen.pixels > 0.5)).sum() <= 0.15 * max(seen.mask.sum(), 40)
    inside = ((seen.points > 4) & (seen.points < 123)).all(axis=1)
    for column, row in np.round(seen.points[inside]).astype(int):
        assert seen.mask[row, column]
