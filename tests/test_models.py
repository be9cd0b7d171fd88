"""Model names and model files: what is found, and what each wrong file is told."""

from __future__ import annotations

import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import dimpoint
from dimpoint.cli import build_app
from dimpoint.errors import ModelFileError
from dimpoint.inference.backends import OnnxBackend
from dimpoint.model import files as models
from tiny_models import blob_meta, write_model


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights folder with two models; `spire-lite` is the default's name."""
    folder = tmp_path / "weights"
    lite = blob_meta(
        name="spire-lite",
        network="spire-lite",
        parameters=299_769,
        training_data=["NUDT-SIRST", "IRSTD-1K"],
        scores={"NUDT-SIRST": {"f1": 0.9712, "threshold": 0.4}},
    )
    write_model(folder / "spire-lite.onnx", lite)
    (folder / "spire-lite.md").write_text("# spire-lite\n\nTrained on points.\n")
    write_model(folder / "dense.onnx", blob_meta(name="dense", network="dnanet"))
    monkeypatch.setattr(models, "WEIGHTS", folder)
    return folder


@pytest.fixture
def none_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "WEIGHTS", tmp_path / "empty")


# Names


def test_names_files_and_the_default_are_found(shipped: Path, tmp_path: Path) -> None:
    own = write_model(tmp_path / "own.onnx")
    assert models.model_names() == ["dense", "spire-lite"]
    assert models.default_model() == shipped / "spire-lite.onnx"
    assert models.resolve_model("dense") == shipped / "dense.onnx"
    assert models.resolve_model(str(own)) == models.resolve_model(own) == own
    assert dimpoint.load(threads=1).meta.name == "spire-lite"
    assert dimpoint.load(own, threads=1).meta.name == "blob"


def test_a_shipped_name_goes_before_a_file_of_that_name(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dense").write_text("")
    monkeypatch.chdir(tmp_path)
    assert models.resolve_model("dense") == shipped / "dense.onnx"
    assert models.resolve_model("./dense") == Path("dense")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("spire-light", "did you mean 'spire-lite'"),  # nearly a name
        ("SPIRE-Lite", "did you mean 'spire-lite'"),  # letter case
        ("xyz", "shipped are dense, spire-lite"),  # nothing like it
        ("missing.onnx", "no such model file or folder"),  # meant as a file
        ("runs/a", "no such model file or folder; there is no folder runs"),
    ],
)
def test_unknown_models_are_told_with_the_nearest_names(shipped: Path, name: str, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        models.resolve_model(name)


def _fill(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text("{}")
    return folder


RUNS = [
    # files in a folder, what runs, what is exported or trained further
    (("model.onnx", "model.safetensors", "run.json"), "model.onnx", "model.safetensors"),
    (("model.onnx",), "model.onnx", "not a training run (no run.json), but it contains model.onnx"),
    (("model.safetensors",), "model.safetensors", "model.safetensors"),
    (("run.json",), "no model.onnx or model.safetensors yet; finish it with: dimpoint train --resume", "."),
    (("a.onnx", "b.onnx"), "contains a.onnx, b.onnx: name one", "contains a.onnx, b.onnx: name one"),
    (("a.txt",), "none of model.onnx, model.safetensors, run.json", "none of model.onnx"),
    ((), "no model in this folder", "no model in this folder"),
]


@pytest.mark.parametrize(
    ("files", "runs", "weights"), RUNS, ids=["+".join(row[0]) or "empty" for row in RUNS]
)
def test_what_a_folder_stands_for(
    shipped: Path, tmp_path: Path, files: tuple[str, ...], runs: str, weights: str
) -> None:
    folder = _fill(tmp_path / "run", *files)
    for resolve, expected in ((models.resolve_model, runs), (models.resolve_weights, weights)):
        if expected == "." or (folder / expected).is_file():
            assert resolve(str(folder)) == folder / expected
        else:
            with pytest.raises(ModelFileError) as refused:
                resolve(str(folder))
            assert expected in str(refused.value)


def test_weights_of_names_and_files(shipped: Path, tmp_path: Path) -> None:
    own = write_model(tmp_path / "own.onnx")
    assert models.resolve_weights("dense") == shipped / "dense.safetensors"
    with pytest.raises(ModelFileError, match=r"give its \.safetensors file"):
        models.resolve_weights(own)
    (tmp_path / "own.safetensors").write_bytes(b"")
    with pytest.raises(ModelFileError, match=r"give .*own\.safetensors"):
        models.resolve_weights(own)
    with pytest.raises(ModelFileError, match=r"did you mean .*own\.onnx"):
        models.resolve_model(tmp_path / "OWN.onnx")


@pytest.mark.usefixtures("none_shipped")
def test_without_shipped_models_the_error_says_what_to_do() -> None:
    with pytest.raises(ModelFileError, match="--model FILE"):
        dimpoint.load()
    with pytest.raises(ModelFileError, match="none ships"):
        dimpoint.load("spire")
    assert models.shipped_models() == []


# The command


def test_models_lists_what_ships(shipped: Path) -> None:
    result = CliRunner().invoke(build_app(), ["models"])
    assert result.exit_code == 0
    before, lite = result.output.split("* spire-lite", 1)
    for part in ("299,769", "NUDT-SIRST, IRSTD-1K", "NUDT-SIRST f1 0.971", "Apache-2.0", "2025-01-01"):
        assert part in lite
    assert "dnanet" in before
    assert "299,769" not in before


@pytest.mark.usefixtures("none_shipped")
def test_models_says_when_there_are_none() -> None:
    result = CliRunner().invoke(build_app(), ["models"])
    assert result.exit_code == 0
    assert "no models" in result.output


def test_models_show_prints_the_card(shipped: Path) -> None:
    result = CliRunner().invoke(build_app(), ["models", "show", "spire-lite"])
    assert "Trained on points." in result.output


def test_models_show_prints_what_a_file_says(tmp_path: Path) -> None:
    meta = blob_meta(parent="spire-lite")
    path = write_model(tmp_path / "mine.onnx", meta)
    result = CliRunner().invoke(build_app(), ["models", "show", str(path)])
    threshold = f"threshold {meta.decode.threshold:g}, made of spire-lite"
    assert result.output.splitlines()[0] == f"{path}: {threshold}"
    assert f"{meta.name}: network {meta.network}" in result.output
    missing = CliRunner().invoke(build_app(), ["models", "show", str(tmp_path / "none.onnx")])
    assert isinstance(missing.exception, ModelFileError)


@pytest.mark.parametrize(
    ("name", "message"), [("spire-lit", "did you mean 'spire-lite'"), ("dense", "card of model 'dense'")]
)
def test_models_show_without_a_card_is_told(shipped: Path, name: str, message: str) -> None:
    result = CliRunner().invoke(build_app(), ["models", "show", name])
    assert isinstance(result.exception, ModelFileError)
    assert message in str(result.exception)


# Files that are no model


class Bomb:
    """Unpickling this makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return Path.mkdir, (self.folder,)


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Bomb(path.parent / "bombed")))


NO_MODELS: list[tuple[str, Callable[[Path], Any], str]] = [
    ("empty.onnx", lambda p: p.write_bytes(b""), "empty"),
    ("text.onnx", lambda p: p.write_text("this is not a model"), "not an ONNX model"),
    ("cut.onnx", lambda p: p.write_bytes(write_model(p).read_bytes()[:200]), "not an ONNX model"),
    ("model.pkl", lambda p: p.write_bytes(pickle.dumps(Bomb(p.parent / "bombed"))), "never opened"),
    ("model.onnx", lambda p: p.write_bytes(pickle.dumps(Bomb(p.parent / "bombed"))), "never opened"),
    ("model.pth", _zip, "never opened"),
    ("w.safetensors", lambda p: p.write_bytes(b"\x02" + bytes(7) + b"{}"), "no 'dimpoint' metadata"),
    ("run", lambda p: p.mkdir(), "no model in this folder"),
    ("plain.onnx", lambda p: write_model(p, metadata=""), "no 'dimpoint' metadata"),
    ("bad.onnx", lambda p: write_model(p, metadata='{"name": 3}'), "metadata at 'name'"),
    ("new.onnx", lambda p: write_model(p, metadata='{"format_version": 99}'), "pip install -U dimpoint"),
    ("names.onnx", lambda p: write_model(p, names=("image", "out")), "one input 'frame'"),
]


@pytest.mark.parametrize(("name", "make", "message"), NO_MODELS, ids=[case[0] for case in NO_MODELS])
def test_what_is_no_model_is_told_and_never_run(
    name: str, make: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    make(path)
    with pytest.raises(ModelFileError, match=message) as caught:
        dimpoint.load(path)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "bombed").exists()


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be read"):
        OnnxBackend(tmp_path / "none.onnx")


def test_input_that_the_graph_refuses_is_told(tmp_path: Path) -> None:
    backend = OnnxBackend(write_model(tmp_path / "m.onnx"), threads=1)
    with pytest.raises(ModelFileError, match="cannot run on"):
        backend.run(np.zeros((1, 3, 8, 8), np.float32))


# The package


def test_public_names() -> None:
    for name in dimpoint.__all__:
        assert name in dir(dimpoint)
    assert dimpoint.Detector.__name__ == "Detector"
    assert issubclass(ModelFileError, dimpoint.DimpointError)
    with pytest.raises(AttributeError, match="no attribute 'detektor'"):
        _ = dimpoint.detektor


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import dimpoint", ["numpy", "cv2", "torch", "onnxruntime"]),
        ("import dimpoint; dimpoint.Detector", ["torch", "onnx", "matplotlib", "av", "onnxruntime"]),
        ("from dimpoint.cli import build_app; build_app()", ["numpy", "cv2", "torch", "pydantic"]),
    ],
)
def test_imports_stay_light(statement: str, absent: list[str]) -> None:
    check = f"{statement}; import sys; print([name for name in {absent} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
