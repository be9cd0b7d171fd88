"""FDEP in training: what is trained, what is kept, what a resumed or wrong run says."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors
import torch

from dimpoint.cli.studies import _print
from dimpoint.datasets.dataset import open_dataset
from dimpoint.errors import ConfigError
from dimpoint.evaluation.run import SetResult
from dimpoint.evaluation.truth import open_truth
from dimpoint.fdep.grids import orientation
from dimpoint.inference.detector import Detector
from dimpoint.metrics.bootstrap import Interval
from dimpoint.model.checkpoint import load_model
from dimpoint.networks.base import HostNetwork
from dimpoint.studies.ablation import NUMBERS, Row, Study, run_study, summarise, to_record
from dimpoint.studies.runs import check_foundation
from dimpoint.training.fdep import open_teacher, orientations_of
from dimpoint.training.fit import TrainingData, fit, train
from dimpoint.training.recipe import Recipe, load_recipe
from dimpoint.training.views import random_linear
from tiny_backbones import saved
from training_runs import CPU, kill_at, logged

SMALL = [
    "network.options={widths: [4, 8]}",
    "view.size=32",
    "epochs=2",
    "steps_per_epoch=3",
    "batch=2",
    "validate_every=1",
    "validation=0.3",
    "optimizer.lr=1e-2",
]


def taught(source: str, *changes: str) -> Recipe:
    teacher = [f"foundation.source={source}", "foundation.taps=2"]
    return load_recipe("fdep-unet", [*SMALL, *teacher, *changes])


@pytest.fixture(scope="module")
def foundation(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(tmp_path_factory.mktemp("foundation") / "tiny")


@pytest.fixture(scope="module")
def run(scenes: Path, foundation: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "taught"
    fit(taught(foundation), TrainingData([scenes]), out, machine=CPU, log=lambda _: None)
    return out


@pytest.fixture(scope="module")
def plain(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "plain"
    fit(load_recipe("unet", SMALL), TrainingData([scenes]), out, machine=CPU, log=lambda _: None)
    return out


def graph(path: Path) -> list[tuple[str, list[str]]]:
    """The nodes of an ONNX file, and the sizes of its numbers."""
    model = onnx.load(path)
    sizes = sorted(str(list(part.dims)) for part in model.graph.initializer)
    return [(node.op_type, []) for node in model.graph.node] + [("sizes", sizes)]


def test_the_trained_model_is_the_plain_hosts(run: Path, plain: Path) -> None:
    """No cost in use: the same tensors, parameters and ONNX graph as without a teacher."""
    assert graph(run / "model.onnx") == graph(plain / "model.onnx")
    files = [safetensors.safe_open(each / "model.safetensors", "pt") for each in (run, plain)]
    shapes = [{key: file.get_slice(key).get_shape() for key in file.keys()} for file in files]  # noqa: SIM118
    assert shapes[0] == shapes[1]
    metas = [load_model(each / "model.safetensors")[1] for each in (run, plain)]
    assert metas[0].parameters == metas[1].parameters
    assert (
        abs((run / "model.onnx").stat().st_size - (plain / "model.onnx").stat().st_size) < 1000
    )  # the recipe


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ([], 8),
        (["augmentation.flips=false"], 4),
        (["augmentation.quarter_turns=false"], 2),
        (["augmentation.quarter_turns=false", "augmentation.flips=false"], 1),
        (["augmentation.quarter_turns=false", "augmentation.rotation=180"], 8),
        (["augmentation.rotation=180", "augmentation.rotation_probability=0"], 8),
    ],
)
def test_features_are_ready_for_every_orientation_that_is_drawn(changes: list[str], count: int) -> None:
    change = load_recipe("fdep-unet", changes).augmentation
    rng = np.random.default_rng(0)
    drawn = {orientation(random_linear(change, rng)).astype(int).tobytes() for _ in range(500)}
    ready = {turn.astype(int).tobytes() for turn in orientations_of(change)}
    assert drawn == ready
    assert len(ready) == count


def test_checkpoints_hold_host_and_fusion_and_nothing_of_the_teacher(run: Path) -> None:
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert {key.partition(".")[0] for key in state} == {"network", "fusion"}


def test_the_fusion_learns(run: Path) -> None:
    """What starts at zero and at the identity stays there if the optimiser does not know of it."""
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name in ("scaled", "shifted"):
        assert state[f"fusion.stages.0.{name}.weight"].any(), name
    joined = state["fusion.stages.0.joined.weight"].squeeze()
    assert not torch.equal(joined, torch.eye(len(joined)))


def test_the_stand_alone_host_scores_what_the_light_path_scored(run: Path, scenes: Path) -> None:
    """The validation value in the log, computed by the light path, comes out of model.safetensors again."""
    from dimpoint.inference.backends import TorchBackend
    from dimpoint.training.frames import load_frames
    from dimpoint.training.validation import scores_for

    recipe = load_recipe(str(run / "recipe.yaml"))
    network, meta = load_model(run / "model.safetensors")
    scores = scores_for(recipe)
    for frame in load_frames([open_dataset(scenes, "train", "masks")], recipe)[1]:
        scores.add(Detector(TorchBackend(network, meta)), frame)
    recorded = meta.scores["validation"]
    assert scores.values() == pytest.approx({key: recorded[key] for key in scores.values()}, abs=1e-6)


def test_the_story_names_the_teacher(run: Path, foundation: str) -> None:
    story = json.loads((run / "run.json").read_text())["foundation"]
    assert story["source"] == foundation
    assert story["channels"] == [16, 16]
    assert len(story["key"]) == 64


def test_a_resumed_run_equals_an_uninterrupted_one(
    run: Path, scenes: Path, foundation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = partial(
        train, taught(foundation), TrainingData([scenes]), tmp_path / "r", machine=CPU, log=lambda _: None
    )
    kill_at(1, monkeypatch, start)
    start(resume=True)
    whole = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    resumed = torch.load(tmp_path / "r" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key
    assert logged(tmp_path / "r", "train/loss_epoch")[-1] == logged(run, "train/loss_epoch")[-1]


def test_resuming_with_another_backbone_is_refused(run: Path, scenes: Path, tmp_path: Path) -> None:
    wider = taught(saved(tmp_path / "wider", hidden_size=32))
    with pytest.raises(ConfigError, match=r"\[16, 16\] channels.*\[32, 32\]"):
        train(wider, TrainingData([scenes]), run, machine=CPU, resume=True, log=lambda _: None)
    other = taught(saved(tmp_path / "other"), "foundation.magnification=2.0")
    with pytest.raises(ConfigError, match="changed since the run began"):
        train(other, TrainingData([scenes]), run, machine=CPU, resume=True, log=lambda _: None)


@pytest.mark.parametrize(
    "change", ["foundation.cache=false", "foundation.fusion=add", "foundation.randomise=true"]
)
def test_every_way_of_teaching_trains(scenes: Path, foundation: str, tmp_path: Path, change: str) -> None:
    recipe = taught(foundation, change, "epochs=1")
    train(recipe, TrainingData([scenes]), tmp_path / "run", machine=CPU, log=lambda _: None)
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
    assert (tmp_path / "run" / "features").exists() == ("cache" not in change)


def test_what_cannot_be_taught(scenes: Path, foundation: str, tmp_path: Path) -> None:
    from dimpoint.networks import create

    with pytest.raises(ConfigError, match="dimpoint pretrain"):
        train(taught("''"), TrainingData([scenes]), tmp_path / "a", machine=CPU, log=lambda _: None)
    point = load_recipe("fdep-spire-sirst", [f"foundation.source={foundation}"])
    with pytest.raises(ConfigError, match="'spire-lite' has no separate encoder"):
        open_teacher(point, create("spire-lite"), tmp_path)
    with pytest.raises(ConfigError, match="has no attribute deepest_channels, which FDEP needs"):
        open_teacher(point, HostNetwork(), tmp_path)
    assert not (tmp_path / "a").exists()


@pytest.fixture(scope="module")
def study(scenes: Path, foundation: str, tmp_path_factory: pytest.TempPathFactory) -> Study:
    out = tmp_path_factory.mktemp("study")
    changes = (*SMALL, "epochs=1", "foundation.taps=2")
    return Study("unet", foundation, TrainingData([scenes]), out, seeds=2, changes=changes, machine=CPU)


@pytest.mark.slow
def test_every_arm_is_trained_once_and_compared(study: Study, scenes: Path) -> None:
    frames = open_truth([scenes], "test")
    said: list[str] = []
    rows = run_study(study, ["plain", "random"], frames, said.append)
    assert [row.arm for row in rows] == ["plain", "random"]
    assert rows[0].difference is None
    for row in rows:
        assert len(row.values["iou"]) == 2
        assert row.mean["iou"] == pytest.approx(sum(row.values["iou"]) / 2)
    apart = rows[1].difference
    assert apart is not None
    assert apart["iou"].value == pytest.approx(rows[1].mean["iou"] - rows[0].mean["iou"])
    assert apart["iou"].low <= apart["iou"].value <= apart["iou"].high
    assert len([line for line in said if line.endswith(": training")]) == 4
    said.clear()
    again = run_study(study, ["plain", "random"], frames, said.append)
    assert not said
    assert [row.values for row in again] == [row.values for row in rows]
    assert json.loads(json.dumps(to_record(study, rows, len(frames))))["arms"]["random"]["difference"]


@pytest.mark.slow
def test_another_recipe_in_the_folder_is_refused(study: Study, scenes: Path) -> None:
    study.models("plain", lambda _: None)
    longer = Study(
        "unet", study.foundation, study.sources, study.out, changes=(*SMALL, "epochs=3"), machine=CPU
    )
    with pytest.raises(ConfigError, match="another recipe"):
        longer.models("plain", lambda _: None)


def test_a_finished_run_of_another_foundation_model_is_refused(
    run: Path, foundation: str, tmp_path: Path
) -> None:
    """A folder whose model was replaced: some runs would be of the old one and some of the new one."""
    check_foundation(run, taught(foundation))
    check_foundation(run, taught(str(tmp_path / "gone")))
    with pytest.raises(ConfigError, match="changed since the run began"):
        check_foundation(run, taught(saved(tmp_path / "other", seed=1)))


def test_unknown_arms(study: Study) -> None:
    with pytest.raises(ConfigError, match="no arm 'fdepp'; known: plain, fdep, add, random"):
        study.models("fdepp", lambda _: None)


@pytest.mark.parametrize(
    ("changes", "arms", "split", "message"),
    [
        ({}, ["plain", "fdepp"], "test", "no arm 'fdepp'"),
        ({}, ["plain"], "train", "9 of 9 frames would be trained on and evaluated"),
        ({"host": "spire-sirst", "changes": ()}, ["plain"], "test", "--host spire-sirst: gives points"),
        ({"foundation": "nowhere"}, ["plain", "fdep"], "test", "nowhere"),
    ],
)
def test_a_study_is_checked_before_anything_is_trained(
    study: Study,
    scenes: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    arms: list[str],
    split: str,
    message: str,
) -> None:
    wrong = replace(study, out=tmp_path / "out", **changes)
    with pytest.raises(ConfigError, match=message):
        run_study(wrong, arms, open_truth([scenes], split), print)
    assert not (tmp_path / "out").exists()


def test_a_study_needs_masks(study: Study, scenes: Path) -> None:
    frames = [replace(frame, sample=None) for frame in open_truth([scenes], "test")]
    with pytest.raises(ConfigError, match="protocol basicirstd needs masks"):
        study.check(["plain"], frames)


def test_arms_are_stripped_and_taken_once(
    study: Study, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    monkeypatch.setattr(Study, "models", lambda self, arm, log: trained.append(arm) or [])
    monkeypatch.setattr("dimpoint.studies.ablation.summarise", lambda arm, results, plain: arm)
    frames = open_truth([scenes], "test")
    assert run_study(study, ["plain", " random ", "plain"], frames, print) == ["plain", "random"]
    assert trained == ["plain", "random"]


def test_frames_without_targets_have_no_recall_over_several_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard deviation of undefined numbers is undefined; `statistics.stdev` raises."""
    monkeypatch.setattr("dimpoint.studies.ablation._parts", lambda number, result: [])
    monkeypatch.setattr("dimpoint.studies.ablation._value", lambda number, parts: float("nan"))
    row = summarise("plain", [SetResult.__new__(SetResult)] * 3)
    assert np.isnan(row.mean["recall"])
    assert np.isnan(row.deviation["recall"])


def test_undefined_numbers_are_null_and_a_dash(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    """One seed has no deviation, frames without targets no recall."""
    nan = float("nan")
    keys = [number.key for number in NUMBERS]
    one = Row(
        "plain", dict.fromkeys(keys, nan) | {"iou": 50.0}, dict.fromkeys(keys, nan), None, {"f1": [nan]}
    )
    apart = dict.fromkeys(keys, Interval(nan, nan, nan)) | {"iou": Interval(1.0, nan, nan)}
    rows = [one, replace(one, arm="fdep", difference=apart)]
    record = json.loads(json.dumps(to_record(study, rows, 3), allow_nan=False))
    assert record["arms"]["plain"]["values"] == {"f1": [None]}
    assert record["arms"]["fdep"]["difference"]["iou"] == [1, None, None]
    _print(rows, "unet")
    printed = capsys.readouterr().out
    assert "50.00 ± -" in printed
    assert "+1.00 [-, -]" in printed
    assert "nan" not in printed
