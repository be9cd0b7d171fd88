"""OpenVINO as a device, and `dimpoint export --int8`."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from data_sets import mask, save
from dimpoint.cli import build_app
from dimpoint.errors import ConfigError, DataError, MissingExtraError, ModelFileError
from dimpoint.evaluation.int8 import export_int8
from dimpoint.inference import openvino_backend
from dimpoint.inference.detector import Detector
from dimpoint.inference.openvino_backend import INT8_KEY, int8_model
from dimpoint.model.onnx_file import read_meta, read_property
from tiny_models import blob_meta, write_model

pytest.importorskip("openvino")


def spot_frame(seed: int, place: tuple[int, int]) -> np.ndarray[Any, Any]:
    y, x = np.mgrid[:48, :64]
    noise = np.random.default_rng(seed).normal(60, 4, (48, 64))
    spot = 180 * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / 4.5)
    return (noise + spot).clip(0, 255).astype(np.uint8)


def make_set(root: Path, count: int = 20) -> Path:
    for number in range(count):
        place = 10 + 2 * number, 12 + number
        save(root / "images" / f"{number:02}.png", spot_frame(number, place))
        save(root / "masks" / f"{number:02}.png", mask(place, size=(48, 64)))
    return root


def test_openvino_gives_what_the_processor_gives(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", blob_meta())
    frame = spot_frame(0, (30, 20))
    found = Detector(model, device="openvino", threads=1)(frame)
    expected = Detector(model, threads=1)(frame)
    assert len(found) == 1
    np.testing.assert_allclose(found.xy, expected.xy, atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


def test_ctrl_c_after_detectors_of_openvino_are_gone(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", blob_meta())
    code = (
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from dimpoint.inference.openvino_backend import OpenvinoBackend\n"
        "first, second = (OpenvinoBackend(Path(sys.argv[1]), 1) for _ in range(2))\n"
        "del first\n"
        "del second\n"
        "try:\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, model]).returncode == 7


def test_without_openvino_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_backend, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"dimpoint\[openvino\]"):
        Detector(write_model(tmp_path / "m.onnx"), device="openvino")


class TestInt8:
    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        return write_model(tmp_path / "m.onnx", blob_meta(scores={"NUDT": {"f1": 0.97}}))

    def export(self, model: Path, out: Path, data: Path, **options: Any) -> list[str]:
        pytest.importorskip("nncf")
        said: list[str] = []
        export_int8(model, out, data, say=said.append, **options)
        return said

    @pytest.mark.filterwarnings("ignore")  # of NNCF's own imports
    @pytest.mark.slow
    def test_it_is_written_measured_and_taken_by_auto(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "m-int8.onnx"
        (line,) = self.export(model, out, make_set(tmp_path / "data"), max_loss=0.1)
        assert line.startswith("3 held-out frames, 3 targets: F1 1.0000 in float32")
        assert len(Detector(out, device="openvino", threads=1)(spot_frame(7, (30, 20)))) == 1
        assert len(Detector(out, threads=1)(spot_frame(7, (30, 20)))) == 1  # ONNX Runtime runs it, too
        record = json.loads(read_property(out, INT8_KEY) or "")
        assert record["f1_float32"] == 1
        assert read_meta(out).scores == {}  # those of the float32 model are not its own

        monkeypatch.setattr(openvino_backend, "computes_int8", lambda: True)
        taken = Detector(model, device="auto", threads=1)
        assert (taken.path, taken.device) == (out, "openvino")
        assert Detector(out, device="auto", threads=1).device == "openvino"  # named itself
        pair = pickle.loads(pickle.dumps(taken)), taken
        assert [(each.path, each.device) for each in pair] == [(out, "openvino")] * 2
        assert Detector(model, threads=1).path == model
        monkeypatch.setattr(openvino_backend, "computes_int8", lambda: False)
        assert int8_model(model) is None
        monkeypatch.setattr(openvino_backend, "computes_int8", lambda: True)
        write_model(model, blob_meta(name="another"))
        assert int8_model(model) is None  # made of the model that was there before

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.slow
    def test_a_loss_above_the_limit_is_refused(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        measured = "dimpoint.evaluation.int8.Measured.loss"
        monkeypatch.setattr(measured, property(lambda self: 0.02))
        out = tmp_path / "int8.onnx"
        with pytest.raises(ModelFileError, match=r"int8 loses 0\.0200 of F1, more than --max-loss 0\.005"):
            self.export(model, out, make_set(tmp_path / "data"))
        assert not out.exists()

    @pytest.mark.filterwarnings("ignore")
    def test_a_model_without_anything_to_quantise(self, tmp_path: Path) -> None:
        import onnx
        from onnx import helper

        model = write_model(tmp_path / "m.onnx", blob_meta(stride=1, multiple=8))
        content = onnx.load(model)
        del content.graph.node[:], content.graph.initializer[:]
        content.graph.node.append(helper.make_node("Neg", ["frame"], ["response"]))
        onnx.save(content, model)
        with pytest.raises(ModelFileError, match="quantised"):
            self.export(model, tmp_path / "int8.onnx", make_set(tmp_path / "data"))

    def test_too_few_frames(self, model: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="3 labelled frames; int8 needs at least 10"):
            self.export(model, tmp_path / "int8.onnx", make_set(tmp_path / "data", 3))

    def test_labels_are_read_as_told(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("nncf")
        data = make_set(tmp_path / "data")
        for file in (data / "masks").iterdir():
            save(file, 255 - np.asarray(Image.open(file)))
        out = tmp_path / "i.onnx"
        command = ["export", str(model), "--int8", "--calibrate", str(data), "--out", str(out)]
        refused = CliRunner().invoke(build_app(), command).exception
        assert isinstance(refused, DataError)
        assert "--invert-masks" in str(refused)

        def stop(*_: object) -> bytes:
            raise ConfigError("labels were read")

        monkeypatch.setattr("dimpoint.evaluation.int8._quantised", stop)
        done = CliRunner().invoke(build_app(), [*command, "--invert-masks"])
        assert str(done.exception) == "labels were read"

    def test_an_empty_folder(self, model: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match="empty"):
            self.export(model, tmp_path / "int8.onnx", tmp_path / "empty")

    def test_without_nncf(self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("dimpoint.evaluation.int8.find_spec", lambda name: None)
        with pytest.raises(MissingExtraError, match=r"dimpoint\[int8\]"):
            export_int8(model, tmp_path / "int8.onnx", tmp_path)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--int8", "--out", "i.onnx"], "--int8 and --calibrate DATA must be given together"),
            (
                ["--calibrate", "data", "--out", "i.onnx"],
                "--int8 and --calibrate DATA must be given together",
            ),
            (["--int8", "--calibrate", "d", "--half", "--out", "i.onnx"], "cannot be combined with --half"),
            (["--int8", "--calibrate", "d", "--out", "i.xml"], "i.xml: an int8 model is an .onnx file"),
            (["--int8", "--calibrate", "d", "--max-loss", "-1", "--out", "i.onnx"], "--max-loss must lie"),
            (["--invert-masks", "--out", "i.onnx"], "reading labels need --int8 and --calibrate"),
        ],
        ids=["no data", "data alone", "half", "suffix", "max loss", "labels alone"],
    )
    def test_the_command_line(self, options: list[str], said: str) -> None:
        done = CliRunner().invoke(build_app(), ["export", "spire-lite", *options])
        assert isinstance(done.exception, ConfigError)
        assert said in str(done.exception)


class TestDevices:
    """`--device` of every command that runs a network, and what `auto` says that it took."""

    @pytest.fixture(autouse=True)
    def work(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        write_model(tmp_path / "m.onnx", blob_meta())
        make_set(tmp_path / "data", 4)

    SERVE = ("serve", "--port", "0")
    COMMANDS = (
        ("detect", "data/images", "--out", "found"),
        ("track", "data/images", "--out", "tracks"),
        ("evaluate", "--data", "data"),
        ("compare", "m.onnx", "data/masks", "--data", "data"),
    )

    def run(self, *arguments: str) -> Any:
        model = () if arguments[0] == "compare" else ("--model", "m.onnx")
        return CliRunner().invoke(build_app(), [*arguments, *model])

    @pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
    def test_auto_says_what_it_took(self, command: tuple[str, ...]) -> None:
        done = self.run(*command, "--device", "auto")
        assert done.exit_code == 0, done.stderr
        assert "device: cpu, m.onnx" in done.stderr.splitlines()
        assert "device:" not in self.run(*command).stderr

    @pytest.mark.parametrize("command", [*COMMANDS, SERVE], ids=lambda command: command[0])
    @pytest.mark.parametrize(
        ("device", "said"), [("cuda", "pip install onnxruntime-gpu"), ("cdua", "choose from auto, cpu, cuda")]
    )
    def test_a_device_that_is_not_there(self, command: tuple[str, ...], device: str, said: str) -> None:
        done = self.run(*command, "--device", device)
        assert isinstance(done.exception, ConfigError)
        assert said in str(done.exception)

    def test_frames_run_side_by_side(self) -> None:
        """The results of OpenVINO are the same one after another and several at a time."""
        one, several = (Detector("m.onnx", device="openvino", threads=threads) for threads in (1, 3))
        files = "data/images"
        assert list(several.predict(files)) == list(one.predict(files))
        side = several.side_by_side(3)
        assert side is not None
        assert side.device == "openvino"
