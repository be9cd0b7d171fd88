"""Places that cannot be written are found before the work whose result they would hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dimpoint.cli import build_app
from dimpoint.errors import DimpointError
from dimpoint.inference.backends import OnnxBackend
from evaluation_sets import make_model, make_set


def run(*arguments: object) -> None:
    CliRunner().invoke(build_app(), list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set, a model that must not run, and a file where folders are expected."""
    make_set(tmp_path / "SET", ("bright", "lost"))
    make_model(tmp_path / "model.onnx")
    (tmp_path / "file").write_text("no folder")

    def predict(*_: object) -> None:
        raise AssertionError("the model ran")

    monkeypatch.setattr(OnnxBackend, "run", predict)
    monkeypatch.chdir(tmp_path)
    return tmp_path


EVALUATE = ("evaluate", "--model", "model.onnx", "--data", "SET")


@pytest.mark.parametrize(
    "command",
    [
        (*EVALUATE, "--json", "file/x.json"),
        (*EVALUATE, "--csv", "file/x.csv"),
        (*EVALUATE, "--latex", "file/deep/x.tex"),
        (*EVALUATE, "--overlays", "file/pictures"),
        (*EVALUATE, "--report", "file/report"),
        (*EVALUATE, "--pd", "1", "--store", "file/x.onnx"),
        ("compare", "model.onnx", "model.onnx", "--data", "SET", "--json", "file/x.json"),
        ("calibrate", "model.onnx", "SET/images", "--per-frame", "1", "--out", "file/x.onnx"),
        ("track", "SET/images", "--model", "model.onnx", "--out", "file/tracks"),
        ("track", "SET/images", "--model", "model.onnx", "--out", "new", "--camera-memory", "file/x.json"),
        (*EVALUATE, "--json", "SET"),
        ("ablate", "fdep", "--data", "SET", "--foundation", "x", "--out", "new", "--json", "file/x.json"),
    ],
)
def test_a_place_that_cannot_be_written_is_found_first(command: tuple[str, ...], work: Path) -> None:
    before = sorted(work.rglob("*"))
    with pytest.raises(DimpointError, match="cannot be written"):
        run(*command)
    assert sorted(work.rglob("*")) == before


def test_what_store_refuses_is_found_first(work: Path) -> None:
    with pytest.raises(DimpointError, match=r"must end in \.onnx"):
        run(*EVALUATE, "--pd", "1", "--store", "tuned.txt")
