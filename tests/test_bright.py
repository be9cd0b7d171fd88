"""Bright spots of target-free frames, and the training views that are cut around them."""

from __future__ import annotations

import numpy as np

from dimpoint.training.frames import bright_spots
from dimpoint.training.recipe import parse_recipe
from dimpoint.training.views import training_view

NAMED = {"name": "x", "network": {"name": "spire-lite"}}


def _lamps(*places: tuple[int, int]) -> np.ndarray:
    frame = np.zeros((200, 300), np.uint8)
    for number, (x, y) in enumerate(places):
        frame[y - 1 : y + 2, x - 1 : x + 2] = 200 - 50 * number
    return frame


def test_the_brightest_spot_comes_first() -> None:
    assert bright_spots(_lamps((40, 30), (250, 150))).tolist() == [[40, 30], [250, 150]]


def test_no_more_spots_than_asked_for() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 200)).astype(np.uint16)
    assert bright_spots(noise, count=7).shape == (7, 2)


def test_a_flat_frame_has_none() -> None:
    assert bright_spots(np.full((30, 30), 7, np.uint8)).shape == (0, 2)


def test_views_of_a_target_free_frame_hold_a_bright_spot() -> None:
    content = {**NAMED, "view": {"size": 32, "near_bright": 1}, "augmentation": {"noise": 0, "offset": 0}}
    recipe = parse_recipe(content, "recipe")
    frame = _lamps((250, 150)).astype(np.float32)
    nothing = np.zeros((0, 2), np.float32)
    spots = bright_spots(frame)
    seen = [training_view(frame, nothing, recipe, np.random.default_rng(s), bright=spots) for s in range(20)]
    assert all(view.pixels.max() > 50 for view in seen)
    assert not any(len(view.points) for view in seen)


def test_hot_pixels_are_lone_and_no_targets() -> None:
    recipe = parse_recipe(
        {**NAMED, "view": {"size": 64}, "augmentation": {"noise": 0, "offset": 0, "hot_pixels": 1}},
        "recipe",
    )
    frame, nothing = np.zeros((64, 64), np.float32), np.zeros((0, 2), np.float32)
    view = training_view(frame, nothing, recipe, np.random.default_rng(3))
    assert 1 <= (view.pixels > 0).sum() <= 6
    assert not len(view.points)
