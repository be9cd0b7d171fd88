"""Stopped runs: what is kept, from what they go on, and that nothing is lost."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml

import training_runs
from dimpoint.errors import ConfigError, DimpointError
from dimpoint.model.checkpoint import load_model
from dimpoint.model.input_rule import FORMER_KEYS
from dimpoint.model.onnx_file import read_meta
from dimpoint.training.fit import TrainingData, finish, fit, train
from dimpoint.training.recipe import Recipe, load_recipe
from dimpoint.training.run_folder import RunFolder
from spot_scenes import make_spots
from training_runs import CPU, kill_at_step, logged

COLUMNS = ("val/f1", "val/threshold", "train/loss_epoch")


def small(*changes: str) -> Recipe:
    """Validated every second epoch, so that a run can stop between validations."""
    return training_runs.small("validate_every=2", *changes)


@pytest.fixture(scope="module")
def whole(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, which no test changes."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    fit(small(), TrainingData([scenes]), out, machine=CPU, log=lambda _: None)
    return out


def assert_equal_weights(first: Path, second: Path) -> None:
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (first, second)]
    for part in ("state_dict", "current_model_state"):
        for key, value in states[0].get(part, {}).items():
            assert torch.equal(value, states[1][part][key]), key


@pytest.mark.parametrize(
    "step",
    [
        0,  # nothing but the starting weights is kept
        1,  # in the first epoch
        3,  # after an epoch without a validation
        5,  # in the second epoch, before the first validation
        7,  # in the epoch after it
        11,  # before the last step
    ],
)
def test_a_run_killed_at_any_step_ends_as_an_uninterrupted_one(
    whole: Path, scenes: Path, tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = partial(train, small(), TrainingData([scenes]), tmp_path / "r", machine=CPU, log=lambda _: None)
    kill_at_step(step, monkeypatch, start)
    start(resume=True)
    assert_equal_weights(whole, tmp_path / "r")
    for column in COLUMNS:
        assert logged(tmp_path / "r", column) == logged(whole, column)


@pytest.mark.slow
def test_a_network_with_dropout_resumes_exactly(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe("acm", [*training_runs.SMALL[1:], "validate_every=2", "epochs=2"])
    start = partial(train, recipe, TrainingData([scenes]), machine=CPU, log=lambda _: None)
    start(tmp_path / "whole")
    kill_at_step(2, monkeypatch, partial(start, tmp_path / "r"))
    start(tmp_path / "r", resume=True)
    assert_equal_weights(tmp_path / "whole", tmp_path / "r")


def test_a_plateau_schedule_resumes_exactly(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small("schedule={kind: plateau, patience: 1, warmup_steps: 0}", "validate_every=1", "epochs=6")
    start = partial(train, recipe, TrainingData([scenes]), machine=CPU, log=lambda _: None)
    start(tmp_path / "whole")
    kill_at_step(9, monkeypatch, partial(start, tmp_path / "r"))
    start(tmp_path / "r", resume=True)
    assert_equal_weights(tmp_path / "whole", tmp_path / "r")


def cut(file: Path) -> None:
    """As a full disk or a kill leaves a file that is copied into place."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGE = [
    # cut, removed, what the run goes on from
    ((), ("last.ckpt",), "last.previous.ckpt"),
    (("last.ckpt",), (), "last.previous.ckpt"),
    (("last.ckpt", "last.previous.ckpt"), (), "best.ckpt"),
    (("last.ckpt", "last.previous.ckpt"), ("best.ckpt",), None),
    (("last.ckpt", "last.previous.ckpt", "best.ckpt"), (), None),
]


@pytest.mark.parametrize(("broken", "gone", "from_file"), DAMAGE)
def test_resuming_takes_the_newest_whole_checkpoint_and_says_so(
    scenes: Path,
    whole: Path,
    tmp_path: Path,
    broken: tuple[str, ...],
    gone: tuple[str, ...],
    from_file: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "r"
    said: list[str] = []
    start = partial(train, small(), TrainingData([scenes]), out, machine=CPU, log=said.append)
    kill_at_step(9, monkeypatch, start)
    for name in broken:
        cut(out / "checkpoints" / name)
    for name in gone:
        (out / "checkpoints" / name).unlink()
    if from_file is None:
        with pytest.raises(ConfigError, match="every checkpoint is damaged"):
            start(resume=True)
        return
    said.clear()
    start(resume=True)
    assert [line for line in said if from_file in line and line.startswith("continuing from")]
    for name in broken:
        assert any(f"{name} is damaged" in line for line in said)
    assert_equal_weights(whole, out)


def test_a_write_that_fails_leaves_the_checkpoints_whole(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "r"
    start = partial(train, small(), TrainingData([scenes]), out, machine=CPU, log=lambda _: None)
    saves: list[object] = []
    save = torch.save

    def full_disk(content: object, file: Path) -> None:
        saves.append(file)
        save(content, file)
        if len(saves) == 4:  # in the middle of a checkpoint
            cut(Path(file))
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("torch.save", full_disk)
        patch.setattr("dimpoint.training.run_folder.SECONDS_BETWEEN", 0.0)
        with pytest.raises(Exception, match="No space left on device"):
            start()
    newest = RunFolder(out).newest()
    assert newest is not None
    assert newest.file.name == "last.ckpt"
    assert not newest.damaged
    assert not [file for file in (out / "checkpoints").iterdir() if file.name.startswith(".")]


def test_a_fine_tuning_killed_before_its_first_validation_goes_on_from_its_parents_weights(
    whole: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With next to no learning rate the weights in the end are those of the parent, not random ones."""
    recipe = small("optimizer.lr=1e-12", "optimizer.weight_decay=0", "ema=null")
    init = whole / "model.safetensors"
    start = partial(train, recipe, TrainingData([scenes]), machine=CPU, log=lambda _: None)
    parent = load_model(init)[0].state_dict()
    for name, lost in (("kept", False), ("lost", True)):
        out = tmp_path / name
        kill_at_step(0, monkeypatch, partial(start, out, init=init))
        if lost:
            (out / "checkpoints" / "start.ckpt").unlink()
        start(out, resume=True)
        after = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for key in ("head.weight", "head.bias"):
            assert torch.allclose(after[f"network.{key}"], parent[key], atol=1e-8), key
    record = json.loads((tmp_path / "kept" / "run.json").read_text())["init"]
    assert (record["name"], record["file"]) == ("whole", str(init.resolve()))


def test_a_parent_that_changed_is_not_taken_for_the_old_one(
    whole: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init = tmp_path / "model.safetensors"
    shutil.copy(whole / "model.safetensors", init)
    start = partial(train, small(), TrainingData([scenes]), tmp_path / "r", machine=CPU, log=lambda _: None)
    kill_at_step(0, monkeypatch, partial(start, init=init))
    (tmp_path / "r" / "checkpoints" / "start.ckpt").unlink()
    init.write_bytes(init.read_bytes() + b" ")
    with pytest.raises(ConfigError, match="missing or has changed"):
        start(resume=True)


def test_a_finished_run_is_left_as_it_is(whole: Path, scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "whole"
    shutil.copytree(whole, out)
    files = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    said: list[str] = []
    model = fit(small(), TrainingData([scenes]), out, machine=CPU, resume=True, log=said.append)
    assert model == out / "model.onnx"
    assert ["this run is finished" in line for line in said] == [True]
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == files


def test_a_run_whose_model_was_not_written_gets_it(whole: Path, scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "whole"
    shutil.copytree(whole, out)
    (out / "model.onnx").unlink()
    fit(small(), TrainingData([scenes]), out, machine=CPU, resume=True, log=lambda _: None)
    again, before = read_meta(out / "model.onnx"), read_meta(whole / "model.onnx")
    assert again == before.model_copy(update={"date": again.date})  # midnight may lie between them
    assert logged(out, "val/f1") == logged(whole, "val/f1")


@pytest.mark.parametrize(
    ("epochs", "every", "validated"),
    [
        pytest.param(1, 5, [1], marks=pytest.mark.slow),
        pytest.param(3, 5, [3], marks=pytest.mark.slow),
        (5, 2, [2, 4, 5]),
        pytest.param(4, 2, [2, 4], marks=pytest.mark.slow),
    ],
)
def test_a_run_ends_with_a_validation_and_a_model(
    scenes: Path, tmp_path: Path, epochs: int, every: int, validated: list[int]
) -> None:
    said: list[str] = []
    recipe = small(f"epochs={epochs}", f"validate_every={every}", "steps_per_epoch=1")
    model = fit(recipe, TrainingData([scenes]), tmp_path / "run", machine=CPU, log=said.append)
    assert model.is_file()
    lines = [line for line in said if "validation F1" in line and line.startswith("epoch ")]
    assert [int(line.split()[1].partition("/")[0]) for line in lines] == validated


def test_a_start_that_failed_does_not_block_the_folder(scenes: Path, tmp_path: Path) -> None:
    one = make_spots(tmp_path / "ONE", without=0)
    (one / "img_idx" / "train_ONE.txt").write_text("f00")
    out = tmp_path / "run"
    with pytest.raises(ConfigError, match="nothing is left to train on"):
        fit(small(), TrainingData([one]), out, machine=CPU, log=lambda _: None)
    (out / "checkpoints").mkdir(parents=True)  # as an older version left it
    (out / "run.json").write_text("{}")
    fit(small("epochs=1"), TrainingData([scenes]), out, machine=CPU, log=lambda _: None)
    with pytest.raises(ConfigError, match="already holds a run"):
        fit(small("epochs=1"), TrainingData([scenes]), out, machine=CPU, log=lambda _: None)


def test_a_model_carries_the_name_of_its_run_and_of_its_parent(
    whole: Path, scenes: Path, tmp_path: Path
) -> None:
    assert (read_meta(whole / "model.onnx").name, read_meta(whole / "model.onnx").parent) == ("whole", None)
    out = tmp_path / "airfield" / "run"  # a folder `run` is called by what is around it
    init = whole / "model.safetensors"
    fit(small("epochs=1"), TrainingData([scenes]), out, machine=CPU, init=init, log=lambda _: None)
    meta = read_meta(out / "model.onnx")
    assert (meta.name, meta.parent) == ("airfield", "whole")


STOPPED = [
    # step at which it is killed, what is said
    (0, "only the initial weights were saved; continue with: dimpoint train --resume"),
    (2, "saved up to 0 epochs and 2 steps of the next; continue with: dimpoint train --resume"),
    (6, "saved up to 2 epochs; continue with: dimpoint train --resume"),
]


@pytest.mark.parametrize(("step", "text"), STOPPED)
def test_what_is_said_of_a_stopped_run_is_true(
    scenes: Path, tmp_path: Path, step: int, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "r"
    assert "nothing was saved" in RunFolder(out).stopped()
    start = partial(train, small(), TrainingData([scenes]), out, machine=CPU, log=lambda _: None)
    kill_at_step(step, monkeypatch, start)
    assert text in RunFolder(out).stopped()


def test_a_log_and_checkpoints_survive_a_kill_between_rows(
    scenes: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows before the checkpoint are on disk when it is; two kills lose none."""
    out = tmp_path / "r"
    start = partial(train, small(), TrainingData([scenes]), out, machine=CPU, log=lambda _: None)
    kill_at_step(4, monkeypatch, start)
    kill_at_step(10, monkeypatch, partial(start, resume=True))
    start(resume=True)
    for column in COLUMNS:
        assert logged(out, column) == logged(whole, column)


def test_a_run_of_an_earlier_version_is_finished(whole: Path, tmp_path: Path) -> None:
    """Before format 5 the keys of `input` stood one by one, in the record and in the recipe."""
    run = older(whole, tmp_path / "run")
    model = finish(run, lambda _: None)
    assert read_meta(model).input == read_meta(whole / "model.onnx").input


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"format_version": 99}, "run.json: model format 99 is newer than this dimpoint reads"),
        ({"stride": "wide"}, "run.json: damaged model metadata at 'stride'"),
    ],
)
def test_a_record_that_cannot_be_used_is_one_line(
    whole: Path, tmp_path: Path, damage: dict[str, object], message: str
) -> None:
    run = older(whole, tmp_path / "run")
    record = json.loads((run / "run.json").read_text())
    record["model"] |= damage
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(DimpointError, match=message) as error:
        finish(run, lambda _: None)
    assert "\n" not in str(error.value)


def test_weights_of_another_network_are_refused_in_one_line(whole: Path, tmp_path: Path) -> None:
    run = older(whole, tmp_path / "run")
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace("- 8\n", "- 12\n"))
    with pytest.raises(ConfigError, match="its weights do not fit the network spire-lite of this version"):
        finish(run, lambda _: None)


def older(whole: Path, run: Path) -> Path:
    """A copy of a run as an earlier version left it, without model files."""
    shutil.copytree(whole, run, ignore=shutil.ignore_patterns("model.*"))
    record = json.loads((run / "run.json").read_text())
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    for content in (record["model"], recipe):
        known = content.pop("input")
        content |= {former: known[key] for former, key in FORMER_KEYS.items()}
    record["model"]["format_version"] = 4
    (run / "run.json").write_text(json.dumps(record))
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return run
