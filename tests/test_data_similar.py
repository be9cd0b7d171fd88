"""Scenes: near duplicates stay together."""

from __future__ import annotations

import numpy as np

from dimpoint.datasets.splits import scene_numbers, thumbnail


def test_shifted_and_brighter_copies_are_one_scene() -> None:
    rng = np.random.default_rng(0)
    scenes = [np.kron(rng.random((6, 8)), np.ones((20, 20))).astype(np.float32) for _ in range(3)]
    frames = [scenes[0], scenes[1], scenes[0] * 3 + 7, np.roll(scenes[1], 2, axis=1), scenes[2]]
    numbers = scene_numbers([thumbnail(frame) for frame in frames])
    assert numbers[0] == numbers[2]
    assert numbers[1] == numbers[3]
    assert len(set(numbers)) == 3


def test_flat_frames_are_no_scene_of_their_own() -> None:
    flat = [thumbnail(np.full((5, 9), value, np.uint8)) for value in (3, 90)]
    assert len(set(scene_numbers(flat))) == 2


def test_no_frames() -> None:
    assert scene_numbers([]) == []
