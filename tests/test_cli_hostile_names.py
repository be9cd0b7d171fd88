"""Names of others in what the commands print: no escape reaches the terminal, no line is forged."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from dimpoint.cli import build_command
from dimpoint.model.record import ModelMeta
from spot_scenes import make_spots
from tiny_models import blob_meta, write_model

HOSTILE = "a\x1b[2Jb\nerror: forged"


def run(*arguments: object) -> str:
    """Both streams of a command."""
    return CliRunner().invoke(build_command(), [str(each) for each in arguments]).output


def assert_clean(output: str) -> None:
    assert "\x1b[2J" not in output
    assert not [line for line in output.splitlines() if line.startswith("error: forged")]
    assert "\\x1b" in output


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set with a damaged frame of a hostile name, which is in the split."""
    root = make_spots(tmp_path / "SPOTS")
    (root / "images" / f"{HOSTILE}.png").write_bytes(b"no picture")
    cv2.imwrite(str(root / "masks" / "f00.png"), np.zeros((5, 5), np.uint8))
    return root


def test_check_and_repair(data: Path, tmp_path: Path) -> None:
    assert_clean(run("data", "check", data, "--repair", tmp_path / "out"))


def test_track(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    frame = np.random.default_rng(0).integers(90, 110, (64, 64)).astype(np.uint8)
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), frame)
    (folder / f"{HOSTILE}.png").write_bytes(b"no picture")
    assert_clean(run("track", folder, "--out", tmp_path / "out"))


@pytest.mark.slow
def test_a_data_set_of_a_hostile_name(tmp_path: Path) -> None:
    """The names of data sets stand in the lines of a training."""
    root = make_spots(tmp_path / HOSTILE)
    changes = ["--set", "network.options={widths: [4, 8], depths: [1, 1]}", "--set", "view.size=32"]
    changes += ["--set", "steps_per_epoch=1", "--set", "batch=2", "--epochs", "1"]
    assert_clean(run("train", "spire-sirst", "--data", root, "--out", tmp_path / "run", *changes))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model whose record has escapes and forged lines in every text."""
    texts = {
        key: HOSTILE for key, field in ModelMeta.model_fields.items() if field.annotation in (str, str | None)
    }
    return write_model(tmp_path / "blob.onnx", blob_meta(**texts))


def test_the_record_of_a_model(model: Path, tmp_path: Path) -> None:
    """Both commands print texts of the record."""
    data = make_spots(tmp_path / "SPOTS")
    assert_clean(run("evaluate", "--data", data, "--model", model, "--split", "test"))
    assert_clean(run("export", model, "--whole", "--out", tmp_path / "whole.onnx"))
