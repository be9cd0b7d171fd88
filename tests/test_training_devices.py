"""A run on several devices: two processes on one machine, started as a user starts them."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dimpoint.errors import DataError
from dimpoint.inference.detector import Detector
from dimpoint.training import run_folder
from dimpoint.training.run_folder import RunFolder
from dimpoint.training.trainer import Machine, device_of
from spot_scenes import make_spots
from training_runs import logged

SMALL = {
    "network.options": "{widths: [4, 8], depths: [1, 1]}",
    "view.size": "32",
    "batch": "2",
    "steps_per_epoch": "2",
    "epochs": "2",
    "validate_every": "1",
    "validation": "0.3",
}


def _train(*arguments: str) -> str:
    script = Path(sys.executable).with_name("dimpoint")  # a script: further processes start it again
    on = ["--accelerator", "cpu", "--devices", "2", "--threads", "1"]
    return subprocess.run(
        [script, "train", *arguments, *on], capture_output=True, text=True, check=True, timeout=900
    ).stdout


@pytest.mark.parametrize(
    ("accelerator", "card", "expected"),
    [("auto", True, "cuda"), ("gpu", True, "cuda"), ("cpu", True, "cpu"), ("auto", False, "cpu")],
)
def test_the_graphics_card_is_used_unless_excluded(
    accelerator: str, card: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: card)
    assert device_of(Machine(accelerator=accelerator)) == expected


@pytest.mark.slow
def test_two_processes_train_one_model_and_go_on(tmp_path: Path) -> None:
    data, out = make_spots(tmp_path / "SPOTS"), tmp_path / "run"
    changes = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    said = _train("spire-sirst", "--data", str(data), "--out", str(out), *changes)
    assert said.count("epoch 2/2") == 1
    assert said.count(": validation F1") + said.count("\nvalidation F1") == 1
    assert Detector(out / "model.onnx").meta.network == "spire-lite"

    recipe = out / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("epochs: 2", "epochs: 3"))
    said = _train("--resume", str(out))
    assert "epoch 1/3" not in said
    assert said.count("epoch 3/3") == 1
    assert torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 6
    assert len(logged(out, "val/f1")) == 3

    first = ("--init", str(out / "model.safetensors"), "--set", "refit=true", "--set", "epochs=1")
    said = _train("spire-sirst", "--data", str(data), "--out", str(tmp_path / "last"), *changes, *first)
    assert said.count("refit, nothing held out") == 1  # each frame has a target
    assert Detector(tmp_path / "last" / "model.onnx").rule.threshold == 0.5  # the recipe's


LEARNING = SMALL | {"steps_per_epoch": "20", "epochs": "8", "validate_every": "4", "optimizer.lr": "5e-3"}
ON_CPU = ("--accelerator", "cpu", "--devices", "1", "--threads", "1")


@pytest.mark.slow
def test_two_machines_give_the_figure_of_one(tmp_path: Path) -> None:
    """Two torchrun agents, as on two machines: a batch of two each instead of one of four."""
    data, script = make_spots(tmp_path / "SPOTS"), Path(sys.executable).with_name("dimpoint")

    def command(out: str, batch: int) -> list[str]:
        settings = LEARNING | {"batch": str(batch)}
        changes = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        files = ["--data", str(data), "--out", str(tmp_path / out)]
        return [str(script), "train", "spire-sirst", *files, *ON_CPU, *changes]

    subprocess.run(command("one", 4), check=True, capture_output=True, timeout=600)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    where = ["--master-addr", "127.0.0.1", "--master-port", port, "--no-python"]
    machines = [
        subprocess.Popen(
            [*torchrun, "--node-rank", rank, *where, *command("two", 2), "--nodes", "2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in "01"
    ]
    said = [machine.communicate(timeout=600)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    kept = [tmp_path / out / "checkpoints" / "last.ckpt" for out in ("one", "two")]
    assert [torch.load(file, weights_only=True)["global_step"] for file in kept] == [160, 160]
    one, two = (max(logged(tmp_path / out, "val/f1")) for out in ("one", "two"))
    assert min(one, two) > 0.7
    assert abs(one - two) < 0.3  # the held-out part has two or three targets


def test_a_machine_that_does_not_see_the_run_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "_AWAITED", 2)
    with pytest.raises(DataError, match="all machines must see the same --out"):
        RunFolder(tmp_path / "elsewhere").await_recipe()
