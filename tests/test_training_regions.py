"""Training with ignore regions, with a split for validation, and with mined false objects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import training_runs
from dimpoint.datasets.coco import PointImage, write_points
from dimpoint.datasets.dataset import open_dataset
from dimpoint.errors import ConfigError
from dimpoint.inference.detector import Detector
from dimpoint.metrics.points import spared
from dimpoint.training.fit import Machine, TrainingData, fit
from dimpoint.training.frames import LabelledFrame, TrainingViews, load_frames
from dimpoint.training.losses import IGNORED, ignored_pixels, leave_out_ignored, without_ignored
from dimpoint.training.mining import Mining, false_objects
from dimpoint.training.module import LOSSES
from dimpoint.training.recipe import LossChoice, Recipe
from spot_scenes import make_spots
from training_runs import CPU


def small(*changes: str) -> Recipe:
    return training_runs.small("epochs=2", "steps_per_epoch=2", "augmentation.copy_probability=0", *changes)


def with_regions(root: Path) -> Path:
    """The spots with their points in a file, and the left half of every frame an ignore region."""
    make_spots(root)
    images = [
        PointImage(f"{s.name}.png", 64, 48, s.read_points(), np.array([[0, 0, 31, 47]], np.float32))
        for s in open_dataset(root)
    ]
    write_points(root / "points.json", images)
    return root


@pytest.mark.parametrize(
    ("regions", "pixels"),
    [
        ([[1, 2, 3, 2]], [(2, 1), (2, 2), (2, 3)]),  # borders belong to it
        ([[0.5, 0.5, 1.4, 1.4]], [(1, 1)]),  # centres decide
        ([[-9, -9, 0, 0]], [(0, 0)]),  # cut by the frame
        ([[9, 9, 20, 20], [-9, -9, -1, -1]], []),  # outside
    ],
)
def test_regions_are_pixels(regions: list[list[float]], pixels: list[tuple[int, int]]) -> None:
    found = ignored_pixels(np.array(regions, np.float32), (4, 5))
    assert found is not None
    assert sorted(map(tuple, np.argwhere(found).tolist())) == sorted(pixels)


def test_a_target_inside_a_region_is_learned() -> None:
    target = np.array([[0, 0.5], [0, 0]], np.float32)
    ignored = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]], np.bool_)
    assert without_ignored(target, ignored, 2).tolist() == [[IGNORED, 0.5], [0, IGNORED]]
    assert without_ignored(target, None, 2) is target


@pytest.mark.parametrize("kind", sorted(LOSSES))
def test_no_loss_learns_from_what_is_ignored(kind: str) -> None:
    torch.manual_seed(0)
    outputs = torch.randn(2, 1, 8, 8, requires_grad=True)
    targets = (torch.rand(2, 1, 8, 8) > 0.8).float()
    targets[:, :, :, :4] = IGNORED
    known, truth = leave_out_ignored([outputs], targets, logits=kind != "mse")
    loss = LOSSES[kind](LossChoice(), known[0], truth)
    loss.backward()
    assert outputs.grad is not None
    assert loss.isfinite()
    assert not outputs.grad[..., :4].any()
    assert outputs.grad[..., 4:].any()


def test_targets_without_regions_pass_through() -> None:
    outputs, targets = torch.randn(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    known, truth = leave_out_ignored([outputs], targets, logits=True)
    assert known[0] is outputs
    assert truth is targets


def test_views_carry_the_regions(tmp_path: Path) -> None:
    root = with_regions(tmp_path / "SPOTS")
    recipe = small("magnify_below=1", "augmentation.flips=false", "view.near_target=0")
    frames, _ = load_frames([open_dataset(root, "train")], recipe)
    share = np.mean([(TrainingViews(frames, recipe)[i][1] == IGNORED).float().mean() for i in range(40)])
    assert 0.3 < share < 0.7  # half of every frame


@pytest.mark.parametrize(
    ("xy", "points", "ignore", "expected"),
    [
        ([], [], [], []),
        ([[5, 5]], [], [], [False]),  # no region
        ([[5, 5], [20, 5]], [], [[0, 0, 10, 10]], [True, False]),
        ([[10, 10]], [], [[0, 0, 10, 10]], [True]),  # on the border
        ([[5, 5]], [[6, 6]], [[0, 0, 10, 10]], [False]),  # at a labelled target
    ],
)
def test_detections_in_regions_do_not_count(
    xy: list[list[float]], points: list[list[float]], ignore: list[list[float]], expected: list[bool]
) -> None:
    arrays = [np.array(v, np.float32).reshape(-1, n) for v, n in ((xy, 2), (points, 2), (ignore, 4))]
    assert spared(*arrays).tolist() == expected


def test_a_split_validation_is_held_out_and_nothing_else(tmp_path: Path) -> None:
    root = make_spots(tmp_path / "SPOTS")
    (root / "img_idx" / "validation_SPOTS.txt").write_text("f08\nf10\n")  # one of train, one of test
    train, held = load_frames([open_dataset(root, "train")], small())
    assert [frame.sample.name for frame in held] == ["f08", "f10"]
    assert [frame.sample.name for frame in train] == [f"f{i:02d}" for i in range(8)]


def test_a_validation_split_of_all_frames_is_refused(tmp_path: Path) -> None:
    root = make_spots(tmp_path / "SPOTS")
    (root / "img_idx" / "validation_SPOTS.txt").write_text("\n".join(f"f{i:02d}" for i in range(9)))
    with pytest.raises(ConfigError, match="nothing is left to train on"):
        load_frames([open_dataset(root, "train")], small())


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("mined")
    said: list[str] = []
    changes = small("view.near_false=0.5", "view.mine_every=1", "validate_every=2")
    root = with_regions(folder / "SPOTS")
    fit(changes, TrainingData([root]), folder / "run", machine=CPU, log=said.append)
    return folder, said


def test_false_objects_are_mined_before_every_epoch(mined: tuple[Path, list[str]]) -> None:
    assert sum("false objects in" in line for line in mined[1]) == 2


def test_mined_spots_go_with_the_checkpoint(mined: tuple[Path, list[str]]) -> None:
    checkpoint = torch.load(mined[0] / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    (state,) = (value for key, value in checkpoint["callbacks"].items() if "Mining" in key)
    frames, _ = load_frames([open_dataset(mined[0] / "SPOTS", "train")], small())
    views = TrainingViews(frames, small())
    mining = Mining(views, 1, 0, print)
    mining.load_state_dict(state)
    assert set(views.hard) == set(range(len(frames)))
    assert mining.state_dict() == state


def test_a_false_object_lies_off_targets_and_regions(mined: tuple[Path, list[str]]) -> None:
    (frame, *_), _ = load_frames([open_dataset(mined[0] / "SPOTS", "train")], small())
    detector = Detector(mined[0] / "run" / "model.onnx", threshold=0.0)

    def spots(points: list[list[float]], ignore: list[list[float]]) -> np.ndarray:
        sample = replace(frame.sample, ignore=np.array(ignore, np.float32).reshape(-1, 4))
        labelled = np.array(points, np.float32).reshape(-1, 2)
        changed = LabelledFrame(sample, frame.group, labelled, frame.limits, frame.kept)
        return false_objects(detector, changed)

    everything = spots([], [])
    assert 0 < len(everything) <= 20
    assert not len(spots([], [[-1, -1, 64, 48]]))
    away = spots([everything[0].tolist()], [])
    assert (np.hypot(*(away - everything[0]).T) > 8).all()


def test_mining_needs_the_training_process(tmp_path: Path) -> None:
    root = make_spots(tmp_path / "SPOTS")
    with pytest.raises(ConfigError, match="--workers 0"):
        fit(
            small("view.near_false=0.5"),
            TrainingData([root]),
            tmp_path / "run",
            machine=Machine(accelerator="cpu", devices=1, precision="32-true", workers=1),
            log=lambda _: None,
        )
