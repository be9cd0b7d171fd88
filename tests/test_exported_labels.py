"""Labels that grew from points, as a data set: what is written, said and refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dimpoint import api
from dimpoint.cli import main
from dimpoint.datasets.coco import PointImage, write_points
from dimpoint.datasets.dataset import open_dataset
from dimpoint.errors import ConfigError
from dimpoint.model.onnx_file import read_meta
from dimpoint.training.fit import TrainingData, fit
from dimpoint.training.recipe import Recipe
from training_runs import CPU, masks, small_masks

SMALL = ["labels=points", "epochs=3", "steps_per_epoch=4", "validate_every=3", "growth.every=1"]


def small(*changes: str) -> Recipe:
    return small_masks(*SMALL, *changes)


@pytest.fixture(scope="module")
def run(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "points"
    fit(small(), TrainingData([scenes]), out, machine=CPU, log=lambda _: None)
    return out


@pytest.mark.parametrize(
    "models", [pytest.param(True, marks=pytest.mark.slow), False], ids=["models written", "no models"]
)
def test_labels_that_a_killed_run_did_not_write_are_written(models: bool, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "labels")
    if not models:
        (tmp_path / "run" / "model.onnx").unlink()
    api.train(resume=tmp_path / "run", export_labels=tmp_path / "grown", log=lambda _: None)
    before, after = masks(run / "labels"), masks(tmp_path / "run" / "labels")
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert len(masks(tmp_path / "grown" / "masks")) == len(before)


def test_labels_are_exported_as_a_data_set(scenes: Path, run: Path, tmp_path: Path) -> None:
    api.train(resume=run, export_labels=tmp_path / "grown", log=lambda _: None)
    grown = open_dataset(tmp_path / "grown", "train", labels="masks")
    assert len(grown) == len(masks(run / "labels"))
    for sample in grown:
        assert len(sample.read_points()) == len(open_dataset(scenes)[sample.name].read_points())


def with_points(scenes: Path, root: Path, *moves: tuple[float, float], ignore: bool = False) -> Path:
    """The training frames of `scenes` with points beside each target, and an ignore region in each frame."""
    (root / "images").mkdir(parents=True)
    images, region = [], np.array([[0, 0, 5, 5]] if ignore else np.empty((0, 4)), np.float32)
    for sample in open_dataset(scenes, "train"):
        shutil.copy(sample.frame_path, root / "images")
        height, width = sample.read_frame().shape
        points = np.concatenate([sample.read_points() + np.array(move, np.float32) for move in moves])
        images.append(PointImage(sample.frame_path.name, width, height, points, region))
    write_points(root / "points.json", images)
    return root


@pytest.mark.parametrize("kind", ["ignore regions", "touch"])
def test_an_export_tells_what_masks_cannot_hold(kind: str, scenes: Path, tmp_path: Path) -> None:
    ignore = kind == "ignore regions"
    moves = [(0.0, 0.0)] if ignore else [(-1.0, 0.0), (1.0, 0.0)]  # two points on each target
    root, lines = with_points(scenes, tmp_path / scenes.name, *moves, ignore=ignore), []
    run, quick = tmp_path / "run", small("epochs=1", "steps_per_epoch=1")
    fit(quick, TrainingData([root]), run, machine=CPU, log=lambda _: None)
    api.train(resume=run, export_labels=tmp_path / "grown", log=lines.append)
    (warning,) = [line for line in lines if line.startswith("warning: ") and "grown: " in line]
    assert kind in warning


@pytest.mark.parametrize("recipe", ["unet", "spire-sirst"], ids=["masks", "points"])
def test_labels_that_do_not_grow_are_not_exported(recipe: str, scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--labels points"):
        api.train(recipe, data=scenes, out=tmp_path / "out", export_labels=tmp_path / "grown")


def test_nothing_is_trained_where_labels_that_do_not_grow_are_asked_for(scenes: Path, tmp_path: Path) -> None:
    plain = small_masks("epochs=2", "steps_per_epoch=1")
    fit(plain, TrainingData([scenes]), tmp_path / "run", machine=CPU, log=lambda _: None)
    (tmp_path / "run" / "model.onnx").unlink()
    with pytest.raises(ConfigError, match="--labels points"):
        api.train(resume=tmp_path / "run", export_labels=tmp_path / "grown")
    assert not (tmp_path / "run" / "model.onnx").exists()


def test_an_export_does_not_replace_a_folder(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another folder"):
        api.train(resume=run, export_labels=tmp_path)


def test_a_place_that_cannot_be_written_is_found_before_training(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"file/grown: .*--export-labels"):
        api.train(
            "unet", data=scenes, out=tmp_path / "out", labels="points", export_labels=tmp_path / "file/grown"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_export_leaves_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = iter(range(4))

    def fails(source: Path, target: Path) -> None:
        if next(copies, None) is None:
            raise KeyboardInterrupt
        Path(target).write_bytes(Path(source).read_bytes())

    monkeypatch.setattr("dimpoint.training.label_export.shutil.copyfile", fails)
    with pytest.raises(KeyboardInterrupt):
        api.train(resume=run, export_labels=tmp_path / "grown", log=lambda _: None)
    assert not any(tmp_path.iterdir())


def test_labels_begun_at_other_pixels_are_not_mixed_up(run: Path, scenes: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "labels")
    for file in (tmp_path / "run" / "checkpoints").glob("*.ckpt"):
        content = torch.load(file, weights_only=True)
        if "callbacks" in content:
            del content["callbacks"]["GrowingLabels"]["seeds"]
            torch.save(content, file)
    with pytest.raises(ConfigError, match="another version"):
        api.train(resume=tmp_path / "run", log=lambda _: None)


def test_a_model_older_than_the_last_checkpoint_is_written_again(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    model = tmp_path / "run" / "model.onnx"
    model.write_bytes(b"of an earlier end")
    os.utime(model, (0, 0))
    api.train(resume=tmp_path / "run", log=lambda _: None)
    assert read_meta(model).network == "unet"


def test_the_hint_of_an_interrupted_run_keeps_the_export(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "train", interrupted)
    monkeypatch.setattr("sys.argv", ["dimpoint", "train", "--resume", str(run), "--export-labels", "grown"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 130
    assert f"dimpoint train --resume {run} --export-labels grown" in " ".join(capsys.readouterr().err.split())
