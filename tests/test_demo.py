"""The demo, with tiny settings: what it leaves, what it says, and what stops it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import NoReturn

import cv2
import pytest
import torch
from typer.testing import CliRunner

from dimpoint.cli import build_app
from dimpoint.cli import demo as module
from dimpoint.cli.demo import run_demo
from dimpoint.datasets.dataset import open_dataset
from dimpoint.errors import ConfigError, MissingExtraError
from dimpoint.inference.detection_files import read_detections
from dimpoint.inference.detector import Detector
from dimpoint.metrics.points import PointCounts
from dimpoint.training.recipe import load_recipe

FRAMES = 20
TINY = (
    "network.options={widths: [4, 8], depths: [1, 1]}",
    "view.size=32",
    "epochs=2",
    "validate_every=1",
    "steps_per_epoch=4",
    "batch=2",
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PointCounts, str]:
    """The folder of a finished demo, whose name holds a space, its counts, and what it printed."""
    out = tmp_path_factory.mktemp("demo") / "my demo"
    said: list[str] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads only get in each other's way in so small a network
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.echo", lambda text, **_: said.append(text))
        counts = run_demo(out, minutes=None, frames=FRAMES, changes=TINY)
    torch.set_num_threads(threads)
    return out, counts, "\n".join(said)


Done = tuple[Path, PointCounts, str]


def test_the_scenes_are_a_data_set_of_16_bits(done: Done) -> None:
    scenes = done[0] / "scenes"
    train, test = open_dataset(scenes, "train"), open_dataset(scenes, "test")
    assert (len(train), len(test)) == (16, 4)
    assert train.samples[0].read_frame().dtype.name == "uint16"


def test_the_model_is_there_and_detects(done: Done) -> None:
    out = done[0]
    detector = Detector(out / "run" / "model.onnx", threads=1)
    assert detector.meta.training_data == ["scenes (16 frames)"]
    assert (out / "run" / "model.safetensors").is_file()
    frame = open_dataset(out / "scenes", "test").samples[0].read_frame()
    (first, *_) = read_detections(out / "detections.json")
    assert detector(frame).to_dict()["detections"] == first.to_dict()["detections"]


def test_every_test_frame_is_in_the_detections_and_some_are_pictures(done: Done) -> None:
    out = done[0]
    samples = open_dataset(out / "scenes", "test").samples
    assert [found.file for found in read_detections(out / "detections.json")] == [
        str(sample.frame_path) for sample in samples
    ]
    pictures = sorted((out / "overlays").iterdir())
    assert [path.stem for path in pictures] == [s.name for s in samples if len(s.read_points())]
    for path in pictures:
        picture = cv2.imread(str(path))
        assert picture is not None
        assert picture.shape == (538, 512, 3)  # 256 x 256, enlarged for the eye, and the legend


def test_the_scores_are_those_of_the_detections(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    out, counts, _ = done
    targets = sum(len(sample.read_points()) for sample in open_dataset(out / "scenes", "test"))
    found = sum(len(item) for item in read_detections(out / "detections.json"))
    assert counts.frames == 4
    assert counts.tp + counts.fn == targets > 0
    assert counts.tp + counts.fp == found
    module._evaluate(out)
    assert "F1" in capsys.readouterr().out


def test_each_step_is_announced(done: Done) -> None:
    said = done[2]
    places = [said.index(f"{number} of 4: ") for number in (1, 2, 3, 4)]
    assert places == sorted(places)
    assert "epoch 2/2" in said


def test_the_next_commands_can_be_pasted(done: Done) -> None:
    commands = [shlex.split(line) for line in done[2].splitlines() if line.startswith("  dimpoint ")]
    assert [command[1] for command in commands] == ["detect", "evaluate", "train"]
    for command in commands[:2]:
        result = CliRunner().invoke(build_app(), command[1:])
        assert result.exit_code == 0, result.output
    train = commands[2]
    assert load_recipe(train[2])
    assert open_dataset(train[train.index("--data") + 1], "train")
    assert not Path(train[train.index("--out") + 1]).exists()


@pytest.mark.parametrize(
    ("minutes", "frames"),
    [(0.1, 60), (1.5, 200), (3.0, 400), (12.0, 400)],
)
def test_minutes_set_scenes_and_training(
    minutes: float, frames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is trained here: what is asked for is what is looked at."""
    asked: dict[str, float] = {}
    monkeypatch.setattr(module, "_make_scenes", lambda _, count, __: asked.update(frames=count))
    monkeypatch.setattr(module, "_train", lambda _, __, clock: asked.update(left=clock.for_training()))
    for name in ("_detect", "_evaluate", "_report"):
        monkeypatch.setattr(module, name, lambda *_: None)
    run_demo(tmp_path / "out", minutes=minutes)
    assert asked["frames"] == frames
    assert 0.2 * minutes <= asked["left"] <= 0.75 * minutes


# What stops it


def test_a_folder_in_use_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=f"--out {tmp_path}: exists and is not an empty folder"):
        run_demo(tmp_path)
    with pytest.raises(ConfigError, match="exists and is not"):
        run_demo(tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_wrong_change_stops_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="epoch"):
        run_demo(tmp_path / "out", changes=["epoch=3"])
    assert not (tmp_path / "out").exists()


def test_without_torch_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dimpoint.api.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"the demo needs .* pip install 'dimpoint\[train\]'"):
        run_demo(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def stop() -> NoReturn:
    raise KeyboardInterrupt


def test_ctrl_c_while_training_keeps_a_run_that_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    plain = module.run_demo
    monkeypatch.setattr(
        module, "run_demo", lambda folder, **_: plain(folder, minutes=None, frames=FRAMES, changes=TINY)
    )
    monkeypatch.setattr(
        "dimpoint.training.progress.Report.on_train_epoch_start",
        lambda _, trainer, module: stop() if trainer.current_epoch == 1 else None,
        raising=False,
    )
    result = CliRunner().invoke(build_app(), ["demo", "--out", str(out)])
    assert result.exit_code == 130
    assert f"dimpoint train --resume {out / 'run'}" in result.output
    assert len(open_dataset(out / "scenes")) == FRAMES
    assert torch.load(out / "run" / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 0


def test_ctrl_c_while_detecting_keeps_what_is_done(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "scenes").symlink_to(done[0] / "scenes")
    plain = Detector.__call__
    calls: list[object] = []

    def second_stops(self: Detector, frame: object) -> object:
        calls.append(frame)
        return stop() if len(calls) == 2 else plain(self, frame)  # type: ignore[arg-type]

    monkeypatch.setattr(Detector, "__call__", second_stops)
    with pytest.raises(KeyboardInterrupt):
        module._detect(done[0] / "run" / "model.onnx", out)
    assert len(json.loads((out / "detections.json").read_text())["images"]) == 1
