"""Targets cut out of frames and set into others: what is cut, where it lands, and training views with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dimpoint.datasets.dataset import Sample, open_dataset
from dimpoint.datasets.masks import centroids
from dimpoint.training.copies import cut_targets, set_targets
from dimpoint.training.frames import LabelledFrame, TrainingViews
from dimpoint.training.recipe import parse_recipe

NOTHING = np.zeros((0, 2), np.float32)
LEVEL = np.float32(0.2)


def _spot(shape: tuple[int, int], x: float, y: float, height: float = 0.5) -> np.ndarray:
    rows, columns = np.indices(shape)
    return (height * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 1.2**2))).astype(np.float32)


def _frame(*points: tuple[float, float], shape: tuple[int, int] = (90, 120)) -> np.ndarray:
    frame = np.full(shape, LEVEL, np.float32)
    for x, y in points:
        frame += _spot(shape, x, y)
    return frame


def _cuts() -> list:
    return cut_targets(_frame((40.3, 50.6)), np.array([[40.3, 50.6]]))


def test_a_cut_is_the_target_above_its_surroundings() -> None:
    (cut,) = _cuts()
    own = cut.weight == 1
    assert 9 <= own.sum() <= 21  # 0.3 of the peak lies 1.55 sigma out: 11 pixels
    assert cut.contrast.max() == pytest.approx(0.5, abs=0.05)
    assert np.abs(cut.contrast[cut.weight == 0]).max() < 0.3 * 0.5
    rows, columns = np.nonzero(own)
    assert cut.point == pytest.approx((columns.mean(), rows.mean()), abs=0.5)


@pytest.mark.parametrize(
    "points",
    [
        [(-3.0, 20.0)],  # outside
        [(0.0, 0.0)],  # cut by the border
        [(40.0, 50.0), (52.0, 50.0)],  # another one's light may be in it
        [(80.0, 20.0)],  # nothing there
    ],
)
def test_what_cannot_be_told_apart_is_not_cut(points: list[tuple[float, float]]) -> None:
    shining = [point for point in points if point != (80.0, 20.0)]
    assert cut_targets(_frame(*shining), np.array(points)) == []


def test_clutter_that_runs_through_is_not_cut() -> None:
    frame = _frame((40.0, 50.0))
    frame[:, 39:42] = 0.9
    assert cut_targets(frame, np.array([[40.0, 50.0]])) == []


def test_a_label_that_is_off_its_target_gives_no_cut() -> None:
    assert len(cut_targets(_frame((40.0, 50.0)), np.array([[41.5, 50.0]]))) == 1
    assert cut_targets(_frame((40.0, 50.0)), np.array([[46.0, 50.0]])) == []


def test_flat_and_tiny_frames_hold_nothing() -> None:
    assert cut_targets(np.zeros((1, 1), np.float32), np.zeros((1, 2))) == []
    assert cut_targets(np.full((40, 40), LEVEL), np.array([[20.0, 20.0]])) == []
    assert cut_targets(_frame(), NOTHING) == []


def test_copies_lie_at_their_points_and_nothing_else_changes() -> None:
    cuts, frame = _cuts(), _frame((20.0, 20.0))
    before = frame.copy()
    own = np.array([[20.0, 20.0]], np.float32)
    for seed in range(20):
        seen, points = set_targets(frame, own, cuts, np.random.default_rng(seed), 3)
        assert len(points) > 1
        assert np.array_equal(points[0], own[0])
        change = seen - frame
        for x, y in points[1:]:
            top, left = int(y) - 5, int(x) - 5
            part = change[max(top, 0) : top + 11, max(left, 0) : left + 11]
            rows, columns = np.nonzero(part > 0.02)
            middle = columns.mean() + max(left, 0), rows.mean() + max(top, 0)
            assert middle == pytest.approx((x, y), abs=0.6)
            part[:] = 0
        assert not change.any()
        apart = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
        assert apart[~np.eye(len(points), dtype=bool)].min() >= 20
    assert np.array_equal(frame, before)


def test_the_same_numbers_give_the_same_copies() -> None:
    one, two = (set_targets(_frame(), NOTHING, _cuts(), np.random.default_rng(4), 3) for _ in range(2))
    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[1], two[1])


@pytest.mark.parametrize("shape", [(1, 1), (5, 120)])
def test_without_room_the_frame_stays_as_it_is(shape: tuple[int, int]) -> None:
    frame = np.full(shape, LEVEL)
    seen, points = set_targets(frame, NOTHING, _cuts(), np.random.default_rng(0), 3)
    assert np.array_equal(seen, frame)
    assert points.shape == (0, 2)


def test_copies_that_would_not_be_seen_are_left_out() -> None:
    noisy = np.random.default_rng(1).normal(0.5, 1.0, (90, 120)).astype(np.float32)
    seen, points = set_targets(noisy, NOTHING, _cuts(), np.random.default_rng(0), 3)
    assert len(points) == 0
    assert np.array_equal(seen, noisy)
    white = np.ones((90, 120), np.float32)
    dimmed = [set_targets(white, NOTHING, _cuts(), np.random.default_rng(s), 1) for s in range(20)]
    assert all((seen.max() > 1.02) == bool(len(points)) for seen, points in dimmed)


def _views(tmp_path: Path, group: str, **changes: float) -> TrainingViews:
    """Views of one of two frames: `full` has a target and lies in a data set of its own, `empty` has none."""
    content = {
        "name": "x",
        "network": {"name": "spire-lite"},
        "view": {"size": 128, "near_target": 1.0},
        "augmentation": {
            "copy_probability": 1.0,
            "scale_probability": 0,
            "rotation_probability": 0,
            **changes,
        },
        "weights": {"full": 0.0, "empty": 0.0, group: 1.0},
    }
    recipe = parse_recipe(content, "recipe")

    def labelled(group: str, frame: np.ndarray, points: np.ndarray) -> LabelledFrame:
        sample = Sample(group, tmp_path / f"{group}.png", None, points)
        counts = (frame * 255).astype(np.uint8)
        return LabelledFrame(
            sample, group, points, recipe.input.intensity.limits(counts), counts, None, (0.0, 510.0)
        )

    full = labelled("full", _frame((40.0, 50.0)), np.array([[40.0, 50.0]], np.float32))
    return TrainingViews([full, labelled("empty", _frame(), NOTHING)], recipe)


def _light(views: TrainingViews) -> list[float]:
    """How much response each of some views asks for."""
    return [float(views[number][1].sum()) for number in range(15)]


def test_views_hold_copies_beside_the_frames_own_targets(tmp_path: Path) -> None:
    with_copies = _light(_views(tmp_path, "full"))
    without = _light(_views(tmp_path, "full", copy_probability=0.0))
    assert np.mean(with_copies) > 1.4 * np.mean(without)
    assert with_copies == _light(_views(tmp_path, "full"))


def test_views_are_also_seen_as_a_deep_sensor_encodes_them(tmp_path: Path) -> None:
    """With the share `encoding`, and then with the frame's limits as a deep one; without it, never."""
    still = {"copy_probability": 0.0, "contrast": 0, "offset": 0, "noise": 0}
    bright = {
        share: [float(views[number][0].max()) > 0.6 for number in range(40)]
        for share in (0.0, 0.5, 1.0)
        for views in [_views(tmp_path, "full", encoding=share, **still)]
    }
    assert all(bright[0.0])
    assert not any(bright[1.0])
    assert 10 < sum(bright[0.5]) < 30


def test_target_free_frames_stay_without(tmp_path: Path) -> None:
    """They teach what looks like a target and is none."""
    assert max(_light(_views(tmp_path, "empty"))) == 0


def test_real_targets_are_cut_by_their_points(shared_data: Path) -> None:
    """Most labelled targets can be cut, and take about as many pixels as their masks say."""
    sizes, targets = [], 0
    for sample in open_dataset(shared_data / "NUDT-SIRST", "train").samples[:80]:
        mask = sample.read_mask()
        centres = centroids(mask)
        if len(centres) == 1:
            targets += 1
            frame = sample.read_frame().astype(np.float32) / 255
            sizes += [(cut.weight == 1).sum() / mask.sum() for cut in cut_targets(frame, centres)]
    assert targets > 40
    assert len(sizes) > 0.8 * targets
    assert 0.5 < np.median(sizes) < 1.5
