"""Training runs: what they write, resuming, and what stops them."""

from __future__ import annotations

import importlib
import io
import itertools
import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from dimpoint.datasets.dataset import open_dataset
from dimpoint.errors import ConfigError, DataError
from dimpoint.evaluation.subject import Data, open_model
from dimpoint.evaluation.truth import held_out_frames
from dimpoint.model.checkpoint import load_model
from dimpoint.model.onnx_file import read_meta
from dimpoint.networks import create
from dimpoint.training import progress
from dimpoint.training.fit import TrainingData, finish, fit, train
from dimpoint.training.frames import CountingSampler, TrainingViews, fingerprints, load_frames
from dimpoint.training.module import describe_model
from dimpoint.training.recipe import load_recipe
from dimpoint.training.run_folder import RunFolder
from spot_scenes import make_spots
from training_runs import CPU, kill_at, logged, small


@pytest.fixture(scope="module")
def run(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    fit(small(), TrainingData([scenes]), out, machine=CPU, log=lambda _: None)
    return out


@pytest.mark.parametrize(
    ("network", "loss", "activation"),
    [("spire", "focal", "sigmoid"), ("spire", "mse", "none"), ("spire-lite", "focal", "sigmoid")],
)
def test_the_loss_decides_what_becomes_of_the_output(network: str, loss: str, activation: str) -> None:
    """A network without a sigmoid of its own that learns logits gets one in use, in every model file."""
    made = create(network)
    recipe = load_recipe("spire-sirst", [f"loss.kind={loss}", f"target.stride={made.stride}"])
    assert describe_model(made, recipe, []).activation == activation


def test_mse_is_not_summed_with_a_loss_of_logits() -> None:
    recipe = load_recipe("spire-sirst", ["loss.kind=[mse, focal]"])
    with pytest.raises(ConfigError, match="mse sees the output itself"):
        describe_model(create("spire-lite"), recipe, [])


def test_a_run_leaves_models_logs_and_its_story(run: Path) -> None:
    for name in ("model.onnx", "model.safetensors", "recipe.yaml", "csv/metrics.csv"):
        assert (run / name).is_file(), name
    assert list((run / "tensorboard").glob("events*"))
    story = json.loads((run / "run.json").read_text())
    assert story["data"]["SPOTS"]["frames"] == 9  # the test split is never opened
    assert story["versions"]["torch"]
    assert load_recipe(str(run / "recipe.yaml")) == small()
    assert len(logged(run, "val/f1")) == 4


def test_the_trained_model_detects_through_onnx(run: Path, scenes: Path) -> None:
    from dimpoint.inference.detector import Detector

    found = Detector(run / "model.onnx")(open_dataset(scenes).samples[0].read_frame())
    assert found.xy.shape[1:] == (2,)


@pytest.mark.parametrize("kill_after", [1, 3])
def test_a_resumed_run_equals_an_uninterrupted_one(
    run: Path, scenes: Path, tmp_path: Path, kill_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "resumed"
    start = partial(train, small(), TrainingData([scenes]), out, machine=CPU, log=lambda _: None)
    kill_at(kill_after, monkeypatch, start)
    start(resume=True)
    for column in ("val/f1", "val/threshold", "train/loss_epoch"):
        assert logged(out, column) == logged(run, column)
    whole = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    resumed = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)
    assert whole["epoch"] == resumed["epoch"]
    for part in ("state_dict", "current_model_state"):
        for key, value in whole[part].items():
            assert torch.equal(value, resumed[part][key]), key


def test_fine_tuning_starts_from_a_models_weights(run: Path, scenes: Path, tmp_path: Path) -> None:
    """With a learning rate of next to nothing the weights that come out are those that went in."""
    from dimpoint.model.checkpoint import load_model

    still = small("optimizer.lr=1e-12", "optimizer.weight_decay=0", "epochs=1", "ema=null")
    before = load_model(run / "model.safetensors")[0]
    train(
        still,
        TrainingData([scenes]),
        tmp_path / "tuned",
        machine=CPU,
        init=run / "model.safetensors",
        log=lambda _: None,
    )
    after = torch.load(tmp_path / "tuned" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, value in before.named_parameters():
        assert torch.allclose(after[f"network.{name}"], value, atol=1e-8), name
    other = small("network.options={widths: [4, 4], depths: [1, 1]}")
    with pytest.raises(ConfigError, match="holds spire-lite"):
        train(other, TrainingData([scenes]), tmp_path / "other", machine=CPU, init=run / "model.safetensors")


def test_the_options_of_the_first_model_are_the_networks(
    run: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe without network options continues the network of --init, whatever its options are."""
    said: list[str] = []
    plain = small("network.options={}", "epochs=1")
    init = run / "model.safetensors"
    read: list[Path] = []
    monkeypatch.setattr(
        "dimpoint.training.start.load_model", lambda path: (read.append(path), load_model(path))[1]
    )
    train(plain, TrainingData([scenes]), tmp_path / "on", machine=CPU, init=init, log=said.append)
    assert read == [init]
    assert RunFolder(tmp_path / "on").read_recipe().network.options == {"widths": [4, 8], "depths": [1, 1]}
    assert "network options of whole: widths [4, 8], depths [1, 1]" in said


def test_an_epochs_line_says_which_threshold_its_score_has(scenes: Path, tmp_path: Path) -> None:
    said: list[str] = []
    train(small("epochs=1"), TrainingData([scenes]), tmp_path / "run", machine=CPU, log=said.append)
    (line,) = [each for each in said if each.startswith("epoch 1/1")]
    (score,), (threshold,) = (logged(tmp_path / "run", f"val/{name}") for name in ("f1", "threshold"))
    expected = f"validation F1 {score:.4f} at its best threshold, {threshold:.3f} (best epoch {score:.4f})"
    assert expected in line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_shows_the_whole_run_within_80_columns(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    train(small("epochs=2"), TrainingData([scenes]), tmp_path / "run", machine=CPU, log=lambda _: None)
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()))
    assert max(map(len, lines)) <= 80
    last = [line for line in lines if line][-1]
    assert re.match(r"epoch 2/2 .* loss \d+\.\d{4}, \d+ frames/s, F1 \d\.\d{3}", last)


def test_views_depend_on_seed_and_number_alone(scenes: Path) -> None:
    recipe = small()
    train, validation = load_frames([open_dataset(scenes, "train")], recipe)
    views = TrainingViews(train, recipe)
    again = TrainingViews(train, recipe)
    for index in (0, 7, 123_456):
        for first, second in zip(views[index], again[index], strict=True):
            assert torch.equal(first, second)
    assert not torch.equal(views[0][0], views[1][0])
    assert {f.sample.name for f in train}.isdisjoint(f.sample.name for f in validation)
    assert len(validation) == 3


def test_a_refit_trains_on_all_targets(tmp_path: Path) -> None:
    data = make_spots(tmp_path / "SPOTS", without=6)
    parts = {}
    for refit in (False, True):
        train_frames, held = load_frames(
            [open_dataset(data, "train")], small("validation=0.6", f"refit={refit}")
        )
        parts[refit] = {f.sample.name for f in train_frames}, {f.sample.name for f in held}
        assert len(parts[refit][0]) + len(parts[refit][1]) == 9
    empty = {f"f{number:02d}" for number in range(6)}
    assert parts[False][1] - empty  # some of the held-out frames have targets
    assert parts[True][1] == parts[False][1] & empty
    said: list[str] = []
    out = tmp_path / "run"
    recipe = small("validation=0.6", "refit=true", "epochs=2", "decode.threshold=0.61", "view.near_bright=0")
    fit(recipe, TrainingData([data]), out, machine=CPU, log=said.append)
    meta = read_meta(out / "model.onnx")
    assert meta.decode.threshold == 0.61
    assert meta.scores["validation"].keys() == {"false_per_frame", "threshold"}
    assert any("validation false objects a frame" in line for line in said)
    assert "best" not in "".join(said)
    assert {frame.name for frame in held_out_frames(out)} == parts[True][1]
    weights = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    kept, _ = load_model(out / "model.safetensors")
    assert torch.equal(kept.state_dict()["head.weight"], weights["network.head.weight"])


def test_a_refit_with_nothing_held_out(scenes: Path, tmp_path: Path) -> None:
    """All frames have targets: there is no validation, and the run still ends with its model."""
    fit(small("refit=true", "epochs=2"), TrainingData([scenes]), tmp_path / "run", machine=CPU)
    assert read_meta(tmp_path / "run" / "model.onnx").scores == {"validation": {}}
    with pytest.raises(ConfigError, match="plateau"):
        small("refit=true", "schedule.kind=plateau")


def test_processes_share_an_epoch_without_overlap() -> None:
    samplers = [CountingSampler(12, rank, 3) for rank in range(3)]
    for sampler in samplers:
        sampler.set_epoch(2)
    numbers = [list(sampler) for sampler in samplers]
    assert sorted(itertools.chain(*numbers)) == list(range(24, 36))
    assert [len(sampler) for sampler in samplers] == [4, 4, 4]


def test_frames_are_drawn_by_weight(scenes: Path, tmp_path: Path) -> None:
    recipe = small()
    frames, _ = load_frames([open_dataset(scenes, "train")], recipe)
    with pytest.raises(DataError, match="weights"):
        TrainingViews(frames, small("weights.SPOTS=0"))
    with pytest.raises(ConfigError, match=r"weights\.SPOT: no data set has this name, only SPOTS"):
        fit(small("weights.SPOT=2"), TrainingData([scenes]), tmp_path / "run", machine=CPU)


REFUSED = [
    # recipe changes, error, message
    (["target.stride=4"], ConfigError, "target.stride"),
    (["network.options={depth: 3}"], ConfigError, "depth"),
    (["network.name=spire-light"], ConfigError, "spire-lite"),
]


@pytest.mark.parametrize(("changes", "error", "message"), REFUSED)
def test_wrong_recipes_stop_before_training(
    scenes: Path, tmp_path: Path, changes: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fit(small(*changes), TrainingData([scenes]), tmp_path / "run", machine=CPU)


def test_a_folder_in_use_is_kept(run: Path, scenes: Path) -> None:
    before = (run / "model.onnx").read_bytes()
    with pytest.raises(ConfigError, match="already holds a run"):
        fit(small(), TrainingData([scenes]), run, machine=CPU)
    assert (run / "model.onnx").read_bytes() == before


def test_resuming_on_changed_data_is_refused(run: Path, scenes: Path, tmp_path: Path) -> None:
    changed = tmp_path / "SPOTS"
    shutil.copytree(scenes, changed)
    (changed / "masks" / "f00.png").write_bytes((changed / "masks" / "f01.png").read_bytes())
    (changed / "images" / "f00.png").write_bytes((changed / "images" / "f01.png").read_bytes())
    with pytest.raises(DataError, match="SPOTS"):
        fit(small("epochs=5"), TrainingData([changed]), run, machine=CPU, resume=True)


def test_resuming_nothing(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run to resume"):
        fit(small(), TrainingData([scenes]), tmp_path, machine=CPU, resume=True)
    with pytest.raises(ConfigError):
        finish(tmp_path)


def test_frames_and_masks_are_decoded_once(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for the fingerprint of the data, which is that of `DataSet.fingerprint`."""
    part = open_dataset(scenes, "train")
    expected = part.fingerprint()
    decoded: list[Path] = []
    for name in ("read_picture", "read_mask_file"):
        module = "dimpoint.sources.readers" if name == "read_picture" else "dimpoint.datasets.dataset"
        plain = getattr(importlib.import_module(module), name)

        def counted(path: Path, *rest: object, plain: Callable[..., object] = plain) -> object:
            decoded.append(path)
            return plain(path, *rest)

        monkeypatch.setattr(f"{module}.{name}", counted)
    frames = [frame for side in load_frames([part], small()) for frame in side]
    assert fingerprints([part], frames) == {part.name: expected}
    TrainingViews(frames, small())[0]
    assert len(decoded) == len(set(decoded)) == 2 * len(part)


@pytest.mark.parametrize(("split", "seen"), [("train", True), ("test", False)])
def test_evaluating_on_training_frames_says_so(
    run: Path, scenes: Path, tmp_path: Path, split: str, seen: bool
) -> None:
    """Also for a model file without its run, on a copy of the data under another name."""
    model = shutil.copy(run / "model.onnx", tmp_path / "elsewhere.onnx")
    data = shutil.copytree(scenes, tmp_path / "COPY")
    notes = open_model(model, Data((data,), split)).notes
    warned = [note for note in notes if "was trained on 6 of 9 of these frames" in note]
    assert len(warned) == seen
