"""Training on masks: what is learnt, what is validated, which labels count."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dimpoint.datasets.dataset import open_dataset
from dimpoint.errors import ConfigError, DataError
from dimpoint.inference.detector import Detector
from dimpoint.training.fit import TrainingData, fit
from dimpoint.training.frames import TrainingViews, disagreements, load_frames
from dimpoint.training.recipe import Recipe, load_recipe
from spot_scenes import make_spots
from training_runs import CPU, logged, small_masks

SMALL = ["epochs=3", "steps_per_epoch=20", "validate_every=1"]


def small(*changes: str) -> Recipe:
    return small_masks(*SMALL, *changes)


@pytest.fixture(scope="module")
def run(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "masks"
    fit(small(), TrainingData([scenes]), out, machine=CPU, log=lambda _: None)
    return out


def test_a_network_learns_masks_and_is_validated_by_iou(run: Path) -> None:
    values = logged(run, "val/iou")
    assert len(values) == 3
    assert values[-1] > 0.5
    assert logged(run, "val/threshold")[-1] == 0.5
    scores = json.loads((run / "run.json").read_text())["model"]
    assert (scores["kind"], scores["stride"], scores["decode"]["kind"]) == ("probability", 1, "components")


def test_the_model_gives_areas_and_maps(run: Path, scenes: Path) -> None:
    sample = open_dataset(scenes, "test").samples[0]
    detector = Detector(run / "model.onnx")
    found = detector(sample.read_frame())
    assert found.areas is not None
    assert detector.probability_map(sample.read_frame()).shape == (48, 64)
    assert np.hypot(*(found.xy[0] - sample.read_points()[0])) < 1.5
    assert detector.meta.scores["validation"]["iou"] > 0.5


def test_targets_are_the_masks_under_the_view(scenes: Path) -> None:
    """The mask's pixels are the bright ones of the view, whatever was done to both."""
    quiet = ["augmentation.contrast=0", "augmentation.offset=0", "augmentation.noise=0"]
    recipe = small(*quiet, "augmentation.rotation_probability=0", "augmentation.scale_probability=0")
    views = TrainingViews(load_frames([open_dataset(scenes, "train", "masks")], recipe)[0], recipe)
    for index in range(12):
        view, target = views[index]
        assert target.shape == view.shape
        assert torch.equal(target > 0.5, view > 150 / 255)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bce", "dice", "mask-focal", "edge-mining", "[bce, soft-iou]"])
def test_every_mask_loss_trains(scenes: Path, tmp_path: Path, kind: str) -> None:
    lines: list[str] = []
    recipe = small(f"loss.kind={kind}", "epochs=1", "steps_per_epoch=2")
    fit(recipe, TrainingData([scenes]), tmp_path / "run", machine=CPU, log=lines.append)
    assert any("validation IoU" in line for line in lines)


@pytest.mark.slow
def test_deep_supervision_trains(scenes: Path, tmp_path: Path) -> None:
    recipe = load_recipe("dnanet", [*SMALL[1:], "epochs=1", "steps_per_epoch=1", "batch=1"])
    fit(recipe, TrainingData([scenes]), tmp_path / "run", machine=CPU, log=lambda _: None)
    assert (tmp_path / "run" / "model.onnx").is_file()


def with_points(scenes: Path, root: Path, shift: float) -> Path:
    """The scenes with a point file beside the masks, whose first frame's point is moved right by `shift`."""
    make_spots(root)
    images, annotations = [], []
    for number, sample in enumerate(open_dataset(root)):
        ((x, y),) = sample.read_points().tolist()
        moved = x + shift if number == 0 else x
        images.append({"id": number, "file_name": sample.frame_path.name, "width": 64, "height": 48})
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "num_keypoints": 1,
                "keypoints": [moved, y, 2],
                "category_id": 1,
            }
        )
    (root / "annotations").mkdir()
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "target"}]}
    (root / "annotations" / "points.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize(("labels", "used"), [("auto", "points"), ("points", "points"), ("masks", "masks")])
def test_disagreeing_labels_are_told_and_the_recipe_chooses(
    scenes: Path, tmp_path: Path, labels: str, used: str
) -> None:
    root = with_points(scenes, tmp_path / "BOTH", 6.0)
    (line,) = disagreements([open_dataset(root)], labels)  # type: ignore[arg-type]
    assert "1 of 12 frames" in line
    assert "'f00'" in line
    assert f"the {used} are used" in line


def test_agreeing_labels_need_no_word(scenes: Path, tmp_path: Path) -> None:
    assert not list(disagreements([open_dataset(with_points(scenes, tmp_path / "BOTH", 1.0))], "auto"))
    assert not list(disagreements([open_dataset(scenes)], "auto"))


@pytest.mark.parametrize(("labels", "split"), [("masks", "train"), ("points", "all")])
def test_frames_of_a_validation_list_have_the_labels_that_are_used(
    scenes: Path, tmp_path: Path, labels: str, split: str
) -> None:
    root = with_points(scenes, tmp_path / "BOTH", 6.0)
    (root / "img_idx" / "train_BOTH.txt").write_text("f02\nf03\n")
    (root / "img_idx" / "validation_BOTH.txt").write_text("f00\nf01\n")
    recipe = load_recipe("spire-sirst", [f"labels={labels}"])
    train, held = load_frames([open_dataset(root, split, labels)], recipe)  # type: ignore[arg-type]
    assert [frame.sample.name for frame in held] == ["f00", "f01"]
    assert not {"f00", "f01"} & {frame.sample.name for frame in train}
    moved = held[0].points[0, 0] - open_dataset(scenes)["f00"].read_points()[0, 0]
    assert moved == (6 if labels == "points" else 0)


def test_a_set_without_masks_cannot_teach_masks(scenes: Path, tmp_path: Path) -> None:
    root = with_points(scenes, tmp_path / "POINTS", 0.0)
    for mask in (root / "masks").iterdir():
        mask.unlink()
    with pytest.raises(DataError, match="have no mask"):
        fit(small(), TrainingData([root]), tmp_path / "run", machine=CPU, log=lambda _: None)


def test_a_map_of_another_stride_is_refused(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"target\.stride"):
        fit(
            small("network.name=spire", "network.options={}", "network.prior=null"),
            TrainingData([scenes]),
            tmp_path / "run",
            machine=CPU,
            log=lambda _: None,
        )


def test_only_hosts_start_from_a_prior(scenes: Path, tmp_path: Path) -> None:
    point = load_recipe("spire-sirst", ["network.prior=0.01"])
    with pytest.raises(ConfigError, match=r"network\.prior: 'spire-lite' is not an encoder-decoder network"):
        fit(point, TrainingData([scenes]), tmp_path / "run", machine=CPU, log=lambda _: None)


def test_frames_without_targets_are_trained_and_validated_on(scenes: Path, tmp_path: Path) -> None:
    root = make_spots(tmp_path / "EMPTY")
    for mask in (root / "masks").iterdir():
        cv2.imwrite(str(mask), np.zeros((48, 64), np.uint8))
    lines: list[str] = []
    recipe = small("epochs=1", "steps_per_epoch=2")
    fit(recipe, TrainingData([root]), tmp_path / "run", machine=CPU, log=lines.append)
    assert any("IoU 0.0000" in line for line in lines)
