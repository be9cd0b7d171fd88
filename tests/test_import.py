"""`dimpoint import`: other people's checkpoints become our model files, and no code in them runs."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from dimpoint.cli import build_app
from dimpoint.errors import ConfigError, ModelFileError
from dimpoint.inference.backends import OnnxBackend
from dimpoint.inference.decode import PUBLISHED
from dimpoint.inference.detector import Detector
from dimpoint.model.checkpoint import import_model, load_model, save_model
from dimpoint.model.imports import SOURCES
from dimpoint.networks import create
from dimpoint.sources import read_image
from spire_reference import WEIGHTS, golden, warped_frame


def invoke(*arguments: str | Path) -> Any:
    return CliRunner().invoke(build_app(), ["import", *map(str, arguments)])


@pytest.fixture(scope="module")
def model(shared_reference: Path, tmp_path_factory: pytest.TempPathFactory) -> OnnxBackend:
    """The authors' weights through the command line."""
    out = tmp_path_factory.mktemp("import") / "spire.onnx"
    result = invoke("spire", shared_reference / WEIGHTS, "--out", out, "--input-scale", "2")
    assert result.exit_code == 0, result.output
    assert "licence: weights by the authors of SPIRE" in result.output
    return OnnxBackend(out)


class TestSpire:
    # Misc_10 is left out: its channels differ, and our models see one.
    @pytest.mark.parametrize("name", ["Misc_1", "Misc_100", "Misc_200", "Misc_300"])
    def test_onnx_gives_the_golden_responses(
        self, model: OnnxBackend, shared_reference: Path, shared_data: Path, name: str
    ) -> None:
        got = model.run(warped_frame(shared_data, name)[None, None])
        np.testing.assert_allclose(got[0, 0], golden(shared_reference)[f"{name}_logits"], rtol=0, atol=1e-4)

    def test_record(self, model: OnnxBackend) -> None:
        meta = model.meta
        assert meta.name == WEIGHTS.stem
        assert meta.network == "spire"
        assert meta.parameters == 294_753
        assert meta.decode == PUBLISHED
        assert (meta.stride, meta.input.scale, meta.channels, meta.activation) == (4, 2, 3, "none")
        assert meta.input.intensity.kind == "dtype"
        assert meta.mean == [0.485, 0.456, 0.406]
        assert meta.std == [0.229, 0.224, 0.225]
        assert "authors" in meta.licence

    @pytest.mark.parametrize("name", ["Misc_1", "Misc_100", "Misc_200", "Misc_300"])
    def test_the_detector_gives_the_golden_points_by_default(
        self, shared_reference: Path, shared_data: Path, tmp_path: Path, name: str
    ) -> None:
        """On the frame as it is: fitted into 512x512, decoded and brought back as the authors do."""
        out = tmp_path / "spire.safetensors"
        save_model(out, *import_model("spire", shared_reference / WEIGHTS))
        found = Detector(out, threads=1)(read_image(shared_data / "NUAA-SIRST" / "images" / f"{name}.png"))
        expected, scores = (golden(shared_reference)[f"{name}_{what}"] for what in ("points_xy", "scores"))
        order = np.argsort(-scores)
        np.testing.assert_allclose(found.xy, expected[order], atol=0.05)
        np.testing.assert_allclose(found.scores, scores[order].clip(max=1), atol=0.01)

    @pytest.mark.parametrize(
        ("options", "fit", "scale"),
        [
            ([], (512, 512), 1),
            (["--fit", "640"], (640, 640), 1),
            (["--fit", "640x480"], (640, 480), 1),
            (["--input-scale", "2"], None, 2),
            (["--input-scale", "1"], None, 1),
        ],
    )
    def test_sizes(
        self, options: list[str], fit: Any, scale: int, shared_reference: Path, tmp_path: Path
    ) -> None:
        result = invoke("spire", shared_reference / WEIGHTS, "--out", tmp_path / "m.safetensors", *options)
        assert result.exit_code == 0, result.output
        _, meta = load_model(tmp_path / "m.safetensors")
        assert (meta.input.fit, meta.input.scale) == (fit, scale)
        assert ("resized to fit into" in result.output) == (fit is not None)

    def test_known_weights_bring_their_size_whatever_their_file_is_called(
        self, shared_reference: Path, tmp_path: Path
    ) -> None:
        theirs = shared_reference / "spire" / "SPIRE-UAVB-640-epoch230-lr0.005.pth"
        checkpoint = torch.load(theirs, weights_only=True, map_location="cpu")
        safetensors.torch.save_file(checkpoint["model"], tmp_path / "a.safetensors")
        assert import_model("spire", tmp_path / "a.safetensors")[1].input.fit == (640, 640)
        checkpoint["model"]["conv1.weight"][0] += 1  # other weights: as the network's authors do
        safetensors.torch.save_file(checkpoint["model"], tmp_path / "b.safetensors")
        assert import_model("spire", tmp_path / "b.safetensors")[1].input.fit == (512, 512)

    @pytest.mark.parametrize(
        "options", [["--fit", "512", "--input-scale", "2"], ["--fit", "a"], ["--fit", "0"]]
    )
    def test_sizes_that_do_not_go(self, options: list[str], tmp_path: Path) -> None:
        result = invoke("spire", tmp_path / "a.pth", "--out", tmp_path / "m.onnx", *options)
        assert isinstance(result.exception, ConfigError)
        assert "--fit" in str(result.exception)

    def test_safetensors_out_and_in(self, shared_reference: Path, tmp_path: Path) -> None:
        result = invoke("spire", shared_reference / WEIGHTS, "--out", tmp_path / "spire.safetensors")
        assert result.exit_code == 0, result.output
        network, meta = load_model(tmp_path / "spire.safetensors")
        assert meta.input.fit == (512, 512)
        assert meta.decode == PUBLISHED
        # The authors' tensors under their own names, as others convert them to safetensors:
        checkpoint = torch.load(shared_reference / WEIGHTS, weights_only=True, map_location="cpu")
        safetensors.torch.save_file(checkpoint["model"], tmp_path / "theirs.safetensors")
        again, _ = import_model("spire", tmp_path / "theirs.safetensors")
        for key, value in again.state_dict().items():
            assert torch.equal(value, network.state_dict()[key])


def test_every_tensor_gets_a_place_of_its_own() -> None:
    """A name of ours is no pattern, so that renaming twice changes nothing."""
    for name, origin in SOURCES.items():
        state = create(name).state_dict()
        assert origin.rename(state).keys() == state.keys()


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


class TestHostileFiles:
    @pytest.mark.parametrize("form", ["torch", "torch legacy", "plain pickle", "inside the weights"])
    def test_code_is_refused_unrun(self, tmp_path: Path, form: str) -> None:
        mark, path = tmp_path / "mark", tmp_path / "weights.pth"
        bomb = Bomb(mark)
        if form == "plain pickle":
            path.write_bytes(pickle.dumps({"model": bomb}))
        else:
            content = {"model": {"conv1.weight": bomb} if form == "inside the weights" else bomb}
            torch.save(content, path, _use_new_zipfile_serialization=form != "torch legacy")
        with pytest.raises(ModelFileError, match="refused"):
            import_model("spire", path)
        assert not mark.exists()
        pickle.loads(pickle.dumps(bomb))
        assert mark.exists()  # the bomb is one

    def test_pickle_posing_as_safetensors(self, tmp_path: Path) -> None:
        path = tmp_path / "weights.safetensors"
        torch.save({"model": Bomb(tmp_path / "mark")}, path)
        with pytest.raises(ModelFileError, match="never opened"):
            import_model("spire", path)
        with pytest.raises(ModelFileError, match="never opened"):
            load_model(path)
        assert not (tmp_path / "mark").exists()

    # (bytes of the file)
    @pytest.mark.parametrize("content", [b"", b"some text", b"\x80", b"PK\x03\x04", bytes(range(256))])
    def test_no_checkpoint(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "weights.pth"
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=r"weights\.pth: refused"):
            import_model("spire", path)

    def test_a_zip_of_something_else(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "weights.pth", "w") as archive:
            archive.writestr("readme.txt", "hello")
        with pytest.raises(ModelFileError, match="refused"):
            import_model("spire", tmp_path / "weights.pth")

    # (what torch.save was given)
    @pytest.mark.parametrize("content", [{}, [1, 2], {"model": 3}, {"model": {"a": 1}}, {"state_dict": {}}])
    def test_no_weights_inside(self, tmp_path: Path, content: Any) -> None:
        torch.save(content, tmp_path / "weights.pth")
        with pytest.raises(ModelFileError, match="under the key 'model'"):
            import_model("spire", tmp_path / "weights.pth")

    def test_weights_of_another_network(self, tmp_path: Path) -> None:
        torch.save({"model": create("spire-lite").state_dict()}, tmp_path / "weights.pth")
        with pytest.raises(ModelFileError, match=r"missing: .*; unexpected: "):
            import_model("spire", tmp_path / "weights.pth")

    def test_our_own_model_needs_no_import(self, tmp_path: Path) -> None:
        """Its weights are not the authors', and its record would be lost."""
        network, path = create("spire"), tmp_path / "own.safetensors"
        torch.save({"model": network.state_dict()}, tmp_path / "weights.pth")
        save_model(path, *import_model("spire", tmp_path / "weights.pth"))
        with pytest.raises(ModelFileError, match="use dimpoint export"):
            import_model("spire", path)

    def test_missing_file(self, tmp_path: Path) -> None:
        for name in ("weights.pth", "weights.safetensors"):
            with pytest.raises(ModelFileError, match="No such file"):
                import_model("spire", tmp_path / name)


@pytest.mark.parametrize("network", ["spire-lite", "spyre", ""])
def test_networks_without_a_known_checkpoint(network: str, tmp_path: Path) -> None:
    result = invoke(network, tmp_path / "weights.pth", "--out", tmp_path / "model.onnx")
    assert isinstance(result.exception, ConfigError)
    assert "known: spire" in str(result.exception)


@pytest.mark.parametrize("scale", ["0", "3", "1.5"])
def test_input_scales(scale: str, tmp_path: Path) -> None:
    result = invoke("spire", "weights.pth", "--out", tmp_path / "model.onnx", "--input-scale", scale)
    assert result.exit_code == 2
