"""A run on several devices: two processes on one machine, started as a user starts them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from dimpoint.inference.detector import Detector
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
        [script, "train", *arguments, *on], capture_output=True, text=True, check=True, timeout=200
    ).stdout


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
