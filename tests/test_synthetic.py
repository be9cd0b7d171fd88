"""Synthetic scenes as a whole: seeds, sizes, bits, truth."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from dimpoint.datasets.masks import centroids
from dimpoint.errors import ConfigError
from dimpoint.synthetic.planting import TargetConfig
from dimpoint.synthetic.scenes import Scene, SceneConfig, make_scene, make_scenes
from dimpoint.synthetic.sensor import SensorConfig

KINDS = ("cloud", "sea", "ground")


def small(**changes: Any) -> SceneConfig:
    return SceneConfig(**{"height": 96, "width": 128, **changes})


def same(a: Scene, b: Scene) -> bool:
    return all(np.array_equal(getattr(a, k), getattr(b, k)) for k in ("frame", "mask", "points", "scr"))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("background", [*KINDS, "mixed"])
def test_same_seed_same_scene(background: str, bits: int) -> None:
    config = small(background=background, bits=bits)
    first, again = (make_scene(config, np.random.default_rng(7)) for _ in range(2))
    other = make_scene(config, np.random.default_rng(8))
    assert same(first, again)
    assert not np.array_equal(first.frame, other.frame)


def test_a_scene_does_not_depend_on_how_many_there_are() -> None:
    few, many = list(make_scenes(small(), 3, 5)), list(make_scenes(small(), 6, 5))
    assert all(same(a, b) for a, b in zip(few, many, strict=False))


@pytest.mark.parametrize("background", KINDS)
def test_scene_is_a_frame_with_its_truth(background: str) -> None:
    for scene in make_scenes(small(background=background, count=(2, 4), empty_share=0), 6, 1):
        assert scene.frame.shape == scene.mask.shape == (96, 128)
        assert scene.frame.dtype == np.uint8
        assert scene.mask.dtype == np.bool_
        assert scene.points.dtype == scene.scr.dtype == np.float32
        assert 2 <= len(scene.points) == len(scene.scr) <= 4
        assert scene.background == background
        assert np.ptp(scene.frame) > 10


def test_mixed_shows_every_background() -> None:
    assert {scene.background for scene in make_scenes(small(), 20, 0)} == set(KINDS)


@pytest.mark.parametrize("background", KINDS)
def test_16_bit_needs_more_than_8_and_stays_within_14(background: str) -> None:
    for scene in make_scenes(SceneConfig(background=background, bits=16), 6, 3):
        assert scene.frame.dtype == np.uint16
        assert len(np.unique(scene.frame)) > 256
        assert scene.frame.max() <= 16383


def test_each_target_is_one_component_around_its_centre() -> None:
    config = small(count=(1, 4), empty_share=0, targets=TargetConfig(margin=10))
    for scene in make_scenes(config, 30, 2):
        found = centroids(scene.mask)
        gaps = np.linalg.norm(found[:, None] - scene.points[None], axis=2)
        assert len(found) == len(scene.points)
        assert gaps.min(axis=1).max() <= 0.5


@pytest.mark.parametrize("scr", [4.0, 10.0])
@pytest.mark.parametrize("background", KINDS)
def test_scr_in_the_final_frame(background: str, scr: float) -> None:
    """Measured in the rounded counts, from frame and mask alone."""
    config = small(
        background=background,
        bits=16,
        empty_share=0,
        targets=TargetConfig(scr=(scr, scr), margin=13),
        sensor=SensorConfig(contrast=(0.03, 0.06), level=(0.3, 0.4), offset=(1000, 1000)),  # no saturation
    )
    measured: list[float] = []
    for scene in make_scenes(config, 12, 4):
        assert scene.scr == pytest.approx(np.full(len(scene.scr), scr), rel=0.01)
        near = cv2.dilate(scene.mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
        count, labels = cv2.connectedComponents(scene.mask.astype(np.uint8), connectivity=8)
        for label, (x, y) in zip(range(1, count), np.rint(centroids(scene.mask)).astype(int), strict=True):
            window = np.s_[y - 12 : y + 13, x - 12 : x + 13]
            clutter = scene.frame[window][~near[window]].astype(np.float64)
            measured.append((scene.frame[labels == label].max() - clutter.mean()) / clutter.std())
    assert np.median(measured) == pytest.approx(scr, rel=0.05)
    assert np.abs(np.array(measured) / scr - 1).max() < 0.3  # the window of this measure differs a little


def test_dim_targets_are_there_but_do_not_stand_out_of_the_frame() -> None:
    config = small(bits=16, empty_share=0, count=(1, 1), targets=TargetConfig(scr=(3, 5)))
    scenes = list(make_scenes(config, 20, 9))
    brightest = [scene.frame[scene.mask].max() >= scene.frame.max() for scene in scenes]
    assert np.mean(brightest) < 0.7


@pytest.mark.parametrize(
    "changes",
    [
        {"empty_share": 1.0},  # every frame is target-free by share
        {"count": (0, 0)},  # or by count
    ],
)
def test_target_free_frames_have_empty_truth(changes: dict[str, Any]) -> None:
    for scene in make_scenes(small(**changes), 4, 0):
        assert not scene.mask.any()
        assert scene.points.shape == (0, 2)
        assert scene.scr.shape == (0,)


def test_empty_share_is_kept() -> None:
    empty = [len(scene.points) == 0 for scene in make_scenes(small(empty_share=0.3), 120, 1)]
    assert np.mean(empty) == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("background", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (7, 3), (1, 500), (500, 1), (2, 2)])
def test_hostile_sizes(size: tuple[int, int], background: str, bits: int) -> None:
    config = SceneConfig(
        height=size[0], width=size[1], background=background, bits=bits, count=(1, 1), empty_share=0
    )
    for scene in make_scenes(config, 3, 0):
        assert scene.frame.shape == size
        assert scene.mask.any()
        (x, y) = scene.points[0]
        assert 0 <= x <= size[1] - 1
        assert 0 <= y <= size[0] - 1


def test_targets_at_the_border_keep_their_centre_inside() -> None:
    config = small(count=(4, 4), empty_share=0, targets=TargetConfig(margin=0))
    points = np.concatenate([scene.points for scene in make_scenes(config, 40, 3)])
    assert (points >= 0).all()
    assert (points <= (127, 95)).all()
    gap = np.minimum(points, (127, 95) - points).min(axis=1)
    assert (gap < 2).any()  # some are cut by the border


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ((7, 3), 2),  # no room for a second
        ((40, 40), 50),
        ((1, 1), 2),
    ],
)
def test_more_targets_than_fit(size: tuple[int, int], count: int) -> None:
    config = SceneConfig(height=size[0], width=size[1], count=(count, count), empty_share=0)
    with pytest.raises(
        ConfigError, match=rf"{count} targets .* do not fit into a frame of {size[0]}x{size[1]}"
    ):
        make_scene(config, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: SceneConfig(bits=12), "bits"),
        (lambda: SceneConfig(height=0), "height"),
        (lambda: SceneConfig(background="moon"), "background"),
        (lambda: SceneConfig(count=(3, 1)), "count"),
        (lambda: SceneConfig(count=(-1, 1)), "count"),
        (lambda: SceneConfig(empty_share=1.5), "empty_share"),
        (lambda: SceneConfig(colour=True), "colour"),  # unknown
        (lambda: TargetConfig(scr=(5, 2)), "scr"),
        (lambda: TargetConfig(scr=(0, 2)), "scr"),  # drawn by its logarithm
        (lambda: TargetConfig(sigma=(0.5, float("nan"))), "sigma"),
        (lambda: SensorConfig(level=(0.2, 1.2)), "level"),
    ],
)
def test_settings_out_of_range_are_refused(make: Any, names: str) -> None:
    with pytest.raises(ValidationError, match=names):
        make()


def test_scenes_need_no_torch() -> None:
    code = "import sys, dimpoint.synthetic.scenes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
