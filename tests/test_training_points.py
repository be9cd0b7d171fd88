"""Masks that grow from points in training: what is learnt, resumed, kept and refused."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

import dimpoint
from dimpoint import api
from dimpoint.datasets.coco import PointImage, write_points
from dimpoint.datasets.dataset import Sample, open_dataset
from dimpoint.errors import ConfigError, DataError
from dimpoint.inference.detector import Detector
from dimpoint.report.growth import growth_section
from dimpoint.targets.growth import first_regions
from dimpoint.training.fit import Machine, TrainingData, fit
from dimpoint.training.frames import LabelledFrame, TrainingViews, load_frames
from dimpoint.training.growing import GrowingLabels
from dimpoint.training.label_strip import StripRow, label_picture
from dimpoint.training.recipe import Recipe, load_recipe
from dimpoint.training.run_folder import RunFolder
from dimpoint.training.validation import MaskScores
from spot_scenes import make_spots
from training_runs import CPU, SMALL_MASKS, kill_at, logged, masks, small_masks

SMALL = ["labels=points", "epochs=6", "steps_per_epoch=6", "validate_every=2", "growth.every=2"]


def small(*changes: str) -> Recipe:
    return small_masks(*SMALL, *changes)


@pytest.fixture(scope="module")
def run(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "points"
    fit(small(), TrainingData([scenes]), out, machine=CPU, log=lambda _: None)
    return out


def moved(sample: Sample, by: int) -> PointImage:
    """The sample's points, moved by `by` pixels towards the middle of the frame."""
    height, width = sample.read_frame().shape
    points = sample.read_points()
    step = np.where(points < np.array([width, height]) / 2, by, -by)
    return PointImage(sample.frame_path.name, width, height, points + step)


def test_a_network_learns_from_points_and_is_validated_by_them(run: Path) -> None:
    assert logged(run, "val/f1")[-1] > 0.5
    assert not logged(run, "val/iou")


def test_soft_labels_are_trained_on_as_they_are_and_written_as_masks(scenes: Path, tmp_path: Path) -> None:
    rule = small("growth.soft=true")
    frames, _ = load_frames([open_dataset(scenes)], rule)
    views = TrainingViews(frames, rule)
    growing = GrowingLabels(views, RunFolder(tmp_path), lambda _: None)
    number = next(n for n, regions in enumerate(growing.regions) if regions)
    seen = np.unique(np.concatenate([np.unique(views[each][1]) for each in range(8)]))
    assert set(seen.tolist()) <= {0.0, np.float32(0.8).item(), 1.0}
    assert np.float32(0.8) in seen  # a first region has 0.8, and 1 at its point
    growing.write()
    (written,) = tmp_path.rglob(f"{views.frames[number].sample.name}.png")
    assert set(np.unique(cv2.imread(str(written), -1)).tolist()) == {0, 255}


def test_the_run_keeps_its_labels_and_how_well_they_agree_with_masks(run: Path) -> None:
    history = json.loads((run / "labels.json").read_text())
    assert [row["epoch"] for row in history] == [0, 1, 3, 5]
    assert history[-1]["iou"] > 0.5
    assert history[-1]["missed"] == 0
    assert cv2.imread(str(run / "labels.png")) is not None
    assert all(label.any() and label.dtype == np.uint8 for label in masks(run / "labels").values())


@pytest.mark.slow
def test_true_masks_do_not_change_what_is_learnt(scenes: Path, run: Path, tmp_path: Path) -> None:
    """The same frames with COCO points at the masks' centroids, and without masks."""
    part = open_dataset(scenes)
    root = tmp_path / scenes.name
    (root / "images").mkdir(parents=True)
    shutil.copytree(scenes / "img_idx", root / "img_idx")
    images, annotations = [], []
    for number, sample in enumerate(part):
        (root / "images" / sample.frame_path.name).write_bytes(sample.frame_path.read_bytes())
        height, width = sample.read_frame().shape
        images.append({"id": number, "file_name": sample.frame_path.name, "width": width, "height": height})
        annotations += [
            {
                "id": len(annotations) + k,
                "image_id": number,
                "category_id": 1,
                "num_keypoints": 1,
                "keypoints": [float(x), float(y), 2],
            }
            for k, (x, y) in enumerate(sample.read_points())
        ]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "target"}]}
    (root / "points.json").write_text(json.dumps(content))
    fit(small(), TrainingData([root]), tmp_path / "run", machine=CPU, log=lambda _: None)
    assert "iou" not in json.loads((tmp_path / "run" / "labels.json").read_text())[-1]
    with_masks, without = masks(run / "labels"), masks(tmp_path / "run" / "labels")
    assert with_masks.keys() == without.keys()
    assert all(np.array_equal(with_masks[name], without[name]) for name in with_masks)


@pytest.mark.parametrize("epoch", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_killed_run_ends_as_an_uninterrupted_one(
    epoch: int, run: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "points"
    kill_at(
        epoch,
        monkeypatch,
        lambda: fit(small(), TrainingData([scenes]), out, machine=CPU, log=lambda _: None),
    )
    fit(small(), TrainingData([scenes]), out, machine=CPU, resume=True, log=lambda _: None)
    whole, resumed = (RunFolder(path).newest() for path in (run, out))
    assert whole is not None
    assert resumed is not None
    for name, weight in whole.content["state_dict"].items():
        assert torch.equal(weight, resumed.content["state_dict"][name]), name
    assert (run / "labels.json").read_text() == (out / "labels.json").read_text()
    one, other = masks(run / "labels"), masks(out / "labels")
    assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_masks_grow_under_a_foundation_model_and_a_killed_run_ends_as_another(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    from tiny_backbones import saved

    teacher = [f"foundation.source={saved(tmp_path / 'tiny')}", "foundation.taps=2"]
    recipe = load_recipe("fdep-unet", [*SMALL_MASKS, *SMALL, *teacher])
    data, whole, killed = TrainingData([scenes]), tmp_path / "whole", tmp_path / "killed"
    fit(recipe, data, whole, machine=CPU, log=lambda _: None)
    history = json.loads((whole / "labels.json").read_text())
    assert [row["epoch"] for row in history] == [0, 1, 3, 5]
    assert history[-1]["missed"] == 0
    kill_at(4, monkeypatch, lambda: fit(recipe, data, killed, machine=CPU, log=lambda _: None))
    fit(recipe, data, killed, machine=CPU, resume=True, log=lambda _: None)
    assert (killed / "labels.json").read_text() == (whole / "labels.json").read_text()
    one, other = masks(whole / "labels"), masks(killed / "labels")
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_hard_frames_wait_until_the_network_finds_their_targets(scenes: Path, tmp_path: Path) -> None:
    frames, _ = load_frames([open_dataset(scenes)], small())
    views = TrainingViews(frames, small("growth.easy=0.5"))
    growing = GrowingLabels(views, RunFolder(tmp_path), lambda _: None)
    waiting = set(range(len(frames))) - growing.active
    assert waiting
    number = min(waiting)
    frame = views.frames[number]
    assert frame.mask is not None
    growing._update(number, frame, np.zeros(frame.mask.shape, np.float32))
    assert number not in growing.active
    growing._update(number, frame, frame.mask.astype(np.float32))
    assert number in growing.active


def test_updates_follow_the_epochs_that_a_time_limit_leaves(scenes: Path, tmp_path: Path) -> None:
    planned = small("epochs=400")
    frames, _ = load_frames([open_dataset(scenes)], planned)
    views = TrainingViews(frames, planned)
    growing = GrowingLabels(views, RunFolder(tmp_path), lambda _: None)
    views.recipe = small("epochs=10")
    assert [epoch for epoch in range(10) if growing.due(epoch)] == [2, 4, 6, 8]


@pytest.mark.parametrize(("epochs", "warned"), [(1, 1), (2, 0)])
def test_a_run_in_which_no_label_grows_says_so(
    epochs: int, warned: int, scenes: Path, tmp_path: Path
) -> None:
    rule, lines = small(f"epochs={epochs}"), []
    views = TrainingViews(load_frames([open_dataset(scenes)], rule)[0], rule)
    growing = GrowingLabels(views, RunFolder(tmp_path), lines.append)
    growing.on_train_start(None, None)  # type: ignore[arg-type]
    assert [line.startswith("warning: no label grows in 1 epoch") for line in lines].count(True) == warned


@pytest.mark.parametrize(
    "change", [pytest.param("growth.every=9", marks=pytest.mark.slow), "growth.last=0.3"]
)
def test_all_frames_are_used_at_the_end_without_an_update(change: str, scenes: Path, tmp_path: Path) -> None:
    recipe = small("growth.easy=0.2", "epochs=5", "steps_per_epoch=1", change)
    fit(recipe, TrainingData([scenes]), tmp_path / "run", machine=CPU, log=lambda _: None)
    newest = RunFolder(tmp_path / "run").newest()
    assert newest is not None
    growing = newest.content["callbacks"]["GrowingLabels"]
    assert growing["active"] == list(range(len(masks(tmp_path / "run" / "labels"))))


def test_an_update_of_a_large_frame_predicts_the_surroundings_of_its_points(
    run: Path, scenes: Path, tmp_path: Path
) -> None:
    """The frame grows; what is predicted does not, and the label hardly changes."""
    rule = small("growth.reach=6")
    frames, _ = load_frames([open_dataset(scenes)], rule)
    first, (height, width) = frames[0], frames[0].counts().shape
    plain, large = np.full((2, 300, 280), 90, np.uint8)
    top, left = 70, 75
    large[top : top + height, left : left + width] = first.counts()
    at = first.points + np.array([left, top], np.float32)
    frames = [replace(first, kept=large, points=at), replace(first, kept=plain, points=first.points[:0])]
    growing = GrowingLabels(TrainingViews(frames, rule), RunFolder(tmp_path), lambda _: None)
    detector = Detector(run / "model.onnx")
    sizes: list[int] = []
    network, backend = detector.backend.run, detector.backend
    backend.run = lambda x: (sizes.append(x.size), network(x))[1]  # type: ignore[method-assign]
    near = growing._predicted(detector, 0)
    assert 0 < sum(sizes) < large.size / 10
    growing._update(0, frames[0], near)
    label = growing.regions[0][0].pixels
    growing.regions[0] = first_regions(large, at, rule.growth)
    growing._update(0, frames[0], detector.probability_map(large))
    assert np.array_equal(label, growing.regions[0][0].pixels)
    assert label.sum() > 4


def test_labels_that_cover_bright_ground_are_counted_and_named(scenes: Path, tmp_path: Path) -> None:
    frames, _ = load_frames([open_dataset(scenes)], small())
    lined = frames[0].counts().copy()
    lined[round(float(frames[0].points[0, 1])), :] = 255  # a bright line through the target
    frames[0] = replace(frames[0], kept=lined)
    lines: list[str] = []
    near = small("growth.reach=6")
    growing = GrowingLabels(TrainingViews(frames, near), RunFolder(tmp_path), lines.append)
    growing._record(0)
    (row,) = json.loads((tmp_path / "labels.json").read_text())
    assert (row["bright_ground"], row["bright_ground_frames"]) == (1, [frames[0].sample.name])
    name = frames[0].sample.name
    (warning,) = [line for line in lines if line.startswith("warning: ")]
    assert f"bright ground around their target: 1 of {row['targets']}, in {name}" in warning
    assert f"bright ground around their target: 1, in {name}." in growth_section(tmp_path)


def test_spots_give_no_warning(run: Path) -> None:
    history = json.loads((run / "labels.json").read_text())
    assert all(row["bright_ground"] == 0 and not row["bright_ground_frames"] for row in history)
    assert "bright ground" not in growth_section(run)


def test_the_picture_has_headings_and_a_note_and_no_gap_where_a_mask_is_unknown() -> None:
    counts = np.zeros((33, 33))
    counts[16, 16] = 9
    spot = counts > 0
    known, unknown = (
        StripRow("x 16, y 16 in sky_01", (16, 16), counts, truth, [spot, ~spot]) for truth in (spot, None)
    )
    picture = label_picture([known, unknown], [0, 5])
    assert picture.shape[1] == 4 * 74  # frame, true mask, two labels
    assert all(picture[:16, 74 * k : 74 * (k + 1)].any() for k in range(4))
    assert picture[16 + 2 * 90 :].any()
    assert all(picture[16 + 90 * k : 32 + 90 * k, :74].any() for k in range(2))  # the name of the row
    first, second = (picture[32 + 90 * k : 16 + 90 * (k + 1)] for k in range(2))
    assert np.array_equal(first[:, :74], second[:, :74])
    assert np.array_equal(first[:, 148:], second[:, 148:])
    assert (first[1:-1, 75:147].max(), second[1:-1, 75:147].max()) == (255, 0)
    assert label_picture([unknown], [0, 5]).shape[1] == 3 * 74
    many = StripRow("x 16, y 16 in sky_01", (16, 16), counts, None, [spot] * 40)
    assert label_picture([many], list(range(0, 200, 5))).shape[1] == 17 * 74


@pytest.mark.slow
def test_points_that_disagree_with_masks_are_learnt_and_said(scenes: Path, tmp_path: Path) -> None:
    root = tmp_path / scenes.name
    shutil.copytree(scenes, root)
    write_points(root / "points.json", [moved(sample, 8) for sample in open_dataset(scenes, "train")])
    lines: list[str] = []
    fit(small("epochs=2"), TrainingData([root]), tmp_path / "run", machine=CPU, log=lines.append)
    assert any("points and masks disagree in 9 of 9 frames" in line for line in lines)
    history = json.loads((tmp_path / "run" / "labels.json").read_text())
    assert history[0]["missed"] == history[0]["targets"] > 0
    labels = masks(tmp_path / "run" / "labels")
    assert labels
    for name, label in labels.items():
        sample = open_dataset(scenes)[Path(name).stem]
        assert label.any()
        assert not (label[sample.read_mask()]).any()


def test_a_data_set_without_targets_is_refused(tmp_path: Path) -> None:
    empty = make_spots(tmp_path / "EMPTY", without=12)
    with pytest.raises(DataError, match="EMPTY: no point in any of the 6 training frames"):
        fit(small(), TrainingData([empty]), tmp_path / "run", machine=CPU, log=lambda _: None)
    assert not (tmp_path / "run").exists()


def test_objects_in_ignore_regions_are_not_counted_against_a_network_of_masks() -> None:
    points, region = np.array([[10, 10]], np.float32), np.array([[30, 30, 40, 40]], np.float32)
    sample = Sample("one", Path("one.png"), None, points, region)
    frame = LabelledFrame(sample, "SET", points, (0.0, 1.0), np.zeros((64, 64), np.uint8))
    seen = np.zeros((64, 64), np.float32)
    seen[10, 10] = seen[35, 35] = 0.9
    scores = MaskScores(0.5, "f1")
    scores.add(SimpleNamespace(probability_map=lambda *_: seen), frame)  # type: ignore[arg-type]
    assert scores.values()["f1"] == 1


def test_settings_of_growth_without_points_are_refused(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--labels points"):
        api.train("unet", data=scenes, out=tmp_path / "out", changes=["growth.setting=lesps"])


def test_a_network_of_masks_on_points_alone_names_the_option(scenes: Path, tmp_path: Path) -> None:
    shutil.copytree(scenes, tmp_path / "P", ignore=shutil.ignore_patterns("masks"))
    write_points(tmp_path / "P" / "points.json", [moved(sample, 0) for sample in open_dataset(scenes)])
    with pytest.raises(DataError, match=r"have no mask, .*--labels points"):
        api.train("unet", data=tmp_path / "P", out=tmp_path / "out")


def test_labels_of_a_single_pixel_are_counted(scenes: Path, tmp_path: Path) -> None:
    rule = small("growth.start=point")
    frames, _ = load_frames([open_dataset(scenes)], rule)
    lines: list[str] = []
    growing = GrowingLabels(TrainingViews(frames, rule), RunFolder(tmp_path), lines.append)
    growing._record(0)
    count = sum(map(len, growing.regions))
    assert any(line.startswith(f"warning: {count} labels of {count} of a single pixel") for line in lines)


def test_two_sets_of_one_name_are_refused(scenes: Path, tmp_path: Path) -> None:
    shutil.copytree(scenes, tmp_path / scenes.name)
    with pytest.raises(ConfigError, match=f"^{scenes.name}: two data sets have this name"):
        fit(small(), TrainingData([scenes, tmp_path / scenes.name]), tmp_path / "run", machine=CPU)


def test_workers_are_refused(scenes: Path, tmp_path: Path) -> None:
    machine = Machine("cpu", 1, "32-true", 1, workers=1)
    with pytest.raises(ConfigError, match="--workers 0"):
        fit(small(), TrainingData([scenes]), tmp_path / "out", machine=machine, log=lambda _: None)


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(ConfigError, match=r"growth\.setting"):
        small("growth.setting=pal")


def test_the_report_of_such_a_run_shows_its_labels(run: Path, scenes: Path, tmp_path: Path) -> None:
    evaluation = dimpoint.evaluate(run, scenes, split="test")
    page = evaluation.report(tmp_path / "report").read_text("utf-8")
    history = json.loads((run / "labels.json").read_text())
    section = page[page.index("Labels grown from points") :]
    assert all(f"<td>{row['iou']:.3f}</td>" in section for row in history)
    assert base64.b64encode((run / "labels.png").read_bytes()).decode() in section


def test_a_damaged_record_of_labels_is_named(run: Path, scenes: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "labels.json").write_text("[{}]")
    with pytest.raises(DataError, match=r"labels\.json: is no record of grown labels"):
        dimpoint.evaluate(tmp_path / "run", scenes, split="test").report(tmp_path / "report")
