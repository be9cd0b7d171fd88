"""Model files: what is written is read again, computes the same, and says what it is."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import dimpoint
from dimpoint.cli import build_app
from dimpoint.errors import ConfigError, DimpointError, MissingExtraError, ModelFileError
from dimpoint.inference.backends import OnnxBackend
from dimpoint.model import export as export_module
from dimpoint.model.checkpoint import load_model, save_model, traits
from dimpoint.model.export import ExportError, export_onnx
from dimpoint.model.record import ModelMeta
from dimpoint.networks import Network, create
from dimpoint.networks.base import standardise


class Tiny(Network):
    """Exports in a second."""

    channels, stride, multiple, activation = 3, 2, 4, "sigmoid"
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 0.125)

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 1, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


class Noisy(Tiny):
    """Never gives the same twice, so no export of it can agree."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.rand_like(x[:, :1, ::2, ::2])


def seen(network: Network) -> Network:
    """The network as training leaves it: batch statistics that are not 0 and 1."""
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.2)  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return network.eval()


def record(network: Network, name: str = "spire-lite", **fields: Any) -> ModelMeta:
    return ModelMeta(**{"name": "a-model", "network": name, **traits(network), **fields})


@pytest.fixture
def lite() -> Network:
    torch.manual_seed(0)
    return seen(create("spire-lite", widths=(4, 8), depths=(1, 1)))


@pytest.fixture
def lite_meta(lite: Network) -> ModelMeta:
    return record(lite, options={"widths": [4, 8], "depths": [1, 1]}, licence="CC0-1.0")


@pytest.fixture(scope="module")
def tiny() -> Network:
    torch.manual_seed(0)
    return seen(Tiny())


@pytest.fixture(scope="module")
def exported(tiny: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "new folder" / "tiny.onnx"
    export_onnx(tiny, record(tiny, "tiny"), path)
    return path


class TestOnnx:
    # (batch, height, width): any, in multiples of 4
    @pytest.mark.parametrize("shape", [(1, 4, 4), (3, 8, 20), (2, 100, 36)])
    def test_computes_what_torch_computes(
        self, tiny: Network, exported: Path, shape: tuple[int, int, int]
    ) -> None:
        frames = np.random.default_rng(0).random((shape[0], 1, *shape[1:]), np.float32)
        with torch.inference_mode():
            expected = tiny(standardise(torch.from_numpy(frames), tiny.mean, tiny.std)).sigmoid()
        np.testing.assert_allclose(OnnxBackend(exported).run(frames), expected.numpy(), rtol=0, atol=1e-4)

    def test_record_needs_no_activation_any_more(self, tiny: Network, exported: Path) -> None:
        meta = OnnxBackend(exported).meta
        assert meta.activation == "none"
        assert meta.parameters == sum(p.numel() for p in tiny.parameters())
        assert meta.package_version == dimpoint.__version__
        assert (meta.channels, meta.mean, meta.stride) == (3, [0.1, 0.2, 0.3], 2)

    def test_graph_is_plain(self, exported: Path) -> None:
        """Folded, with named free sizes, and without notes about the machine that wrote it."""
        model = onnx.load(exported)
        kinds = {node.op_type for node in model.graph.node}
        assert "BatchNormalization" not in kinds
        assert "Sigmoid" in kinds
        sizes = [
            [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in (model.graph.input[0], model.graph.output[0])
        ]
        assert sizes == [["N", 1, "H", "W"], ["N", 1, "h", "w"]]
        assert [entry.key for entry in model.metadata_props] == ["dimpoint"]
        assert str(Path(__file__).parents[1]).encode() not in exported.read_bytes()

    def test_bytes_are_the_same_again(self, tiny: Network, exported: Path, tmp_path: Path) -> None:
        export_onnx(tiny, record(tiny, "tiny"), tmp_path / "again.onnx")
        assert (tmp_path / "again.onnx").read_bytes() == exported.read_bytes()

    def test_network_stays_as_it_was(self, tmp_path: Path) -> None:
        network = seen(Tiny()).train()
        before = {key: value.clone() for key, value in network.state_dict().items()}
        export_onnx(network, record(network, "tiny"), tmp_path / "model.onnx")
        assert network.training
        for key, value in network.state_dict().items():
            assert torch.equal(value, before[key])

    def test_probability_networks_name_their_output_so(self, tmp_path: Path) -> None:
        network = seen(Tiny())
        export_onnx(network, record(network, "tiny", kind="probability"), tmp_path / "model.onnx")
        assert [value.name for value in onnx.load(tmp_path / "model.onnx").graph.output] == ["probability"]

    def test_disagreement_leaves_no_file(self, tmp_path: Path) -> None:
        network = Noisy()
        with pytest.raises(ExportError, match="differ by"):
            export_onnx(network, record(network, "tiny"), tmp_path / "model.onnx")
        assert list(tmp_path.iterdir()) == []

    def test_mean_for_each_channel(self, tiny: Network, tmp_path: Path) -> None:
        with pytest.raises(ExportError, match="each of 3 channels"):
            export_onnx(tiny, record(tiny, "tiny", mean=[0.0]), tmp_path / "model.onnx")

    def test_compares_at_three_sizes(self) -> None:
        assert len(set(export_module._SIZES)) == 3
        assert {batch for batch, _, _ in export_module._SIZES} == {1, 2}
        assert export_module.TOLERANCE == 1e-4


class TestSafetensors:
    def test_read_again(self, lite: Network, lite_meta: ModelMeta, tmp_path: Path) -> None:
        save_model(tmp_path / "runs" / "model.safetensors", lite, lite_meta)
        network, meta = load_model(tmp_path / "runs" / "model.safetensors")
        frames = torch.rand(1, 1, 32, 48)
        with torch.inference_mode():
            assert torch.equal(network(frames), lite(frames))
        assert not network.training
        assert meta.parameters == sum(p.numel() for p in lite.parameters())
        assert meta == lite_meta.model_copy(
            update={"parameters": meta.parameters, "package_version": dimpoint.__version__}
        )

    def test_bytes_are_the_same_again(self, lite: Network, lite_meta: ModelMeta, tmp_path: Path) -> None:
        for name in ("one", "two"):
            save_model(tmp_path / f"{name}.safetensors", lite, lite_meta)
        assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1

    def test_folder_that_takes_no_file(self, lite: Network, lite_meta: ModelMeta, tmp_path: Path) -> None:
        (tmp_path / "taken").write_text("a file")
        with pytest.raises(DimpointError, match=r"model\.safetensors: cannot be written"):
            save_model(tmp_path / "taken" / "model.safetensors", lite, lite_meta)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_read_only_folder(self, lite: Network, lite_meta: ModelMeta, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        with pytest.raises(DimpointError, match="cannot be written"):
            save_model(tmp_path / "model.safetensors", lite, lite_meta)

    def test_full_disk_keeps_the_old_file(
        self, lite: Network, lite_meta: ModelMeta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "model.safetensors"
        path.write_text("the old file")

        def full(self: Path, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(DimpointError, match="No space left"):
            save_model(path, lite, lite_meta)
        assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
        assert path.read_text() == "the old file"


def rewritten(path: Path, state: dict[str, Tensor], meta: str | None) -> Path:
    path.write_bytes(safetensors.torch.save(state, {"dimpoint": meta} if meta else None))
    return path


class TestDamagedModels:
    """Each is refused with a message that names the file and what is wrong with it."""

    # (bytes of the file, what the message says)
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "not a safetensors file"),
            (b"hello, this is text\n" * 10, "not a safetensors file"),
            (struct.pack("<Q", 2**60) + b"{}", "not a safetensors file"),  # a header longer than the file
            (struct.pack("<Q", 2) + b"{}", "no 'dimpoint' metadata"),  # safetensors of nothing
            (b"\x80\x04K\x01.", "never opened"),  # a pickle
            (b"PK\x03\x04" + b"\0" * 60, "never opened"),  # a zip, as torch.save writes
        ],
    )
    def test_no_model(self, tmp_path: Path, content: bytes, message: str) -> None:
        path = tmp_path / "model.safetensors"
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=rf"model\.safetensors: .*{message}"):
            load_model(path)

    def test_a_header_whose_length_begins_like_a_pickle(
        self, lite: Network, lite_meta: ModelMeta, tmp_path: Path
    ) -> None:
        """One header in 32 has a length of which the first byte is 0x80, as a pickle's is."""
        path, meta = tmp_path / "model.safetensors", lite_meta
        save_model(path, lite, meta)
        while path.read_bytes()[0] != 0x80:
            meta = meta.model_copy(update={"name": f"{meta.name}."})
            save_model(path, lite, meta)
        assert load_model(path)[1].name == meta.name
        with pytest.raises(ModelFileError, match="safetensors weights are for training"):
            OnnxBackend(path)

    @pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.ckpt", "model.pth.tar"])
    def test_pickle_names(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"anything")
        with pytest.raises(ModelFileError, match="never opened"):
            load_model(tmp_path / name)

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ModelFileError, match="No such file"):
            load_model(tmp_path / "model.safetensors")

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ModelFileError, match="Is a directory"):
            load_model(tmp_path)

    # (change of the record, what the message says)
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"format_version": 99}, "newer than this dimpoint"),
            ({"network": "spire-light"}, "did you mean 'spire-lite'"),
            ({"options": {"width": [4]}}, "no option 'width'"),
            ({"stride": "two"}, "at 'stride'"),
            ({"surprise": 1}, "at 'surprise'"),
        ],
    )
    def test_wrong_record(
        self, lite: Network, lite_meta: ModelMeta, tmp_path: Path, change: dict[str, Any], message: str
    ) -> None:
        meta = json.dumps(json.loads(lite_meta.to_json()) | change)
        path = rewritten(tmp_path / "model.safetensors", lite.state_dict(), meta)
        with pytest.raises(ModelFileError, match=message):
            load_model(path)

    def test_wrong_tensors(self, lite: Network, lite_meta: ModelMeta, tmp_path: Path) -> None:
        state = lite.state_dict()
        del state["head.bias"]
        state["extra.weight"] = torch.zeros(2)
        state["head.weight"] = torch.zeros(1, 4, 1, 1)
        path = rewritten(tmp_path / "model.safetensors", state, lite_meta.to_json())
        with pytest.raises(ModelFileError) as caught:
            load_model(path)
        for part in (
            "missing: head.bias",
            "unexpected: extra.weight",
            "of another shape: head.weight is (1, 4, 1, 1), not (1, 4, 3, 3)",
        ):
            assert part in str(caught.value)

    def test_many_missing_tensors_are_counted(self, lite_meta: ModelMeta, tmp_path: Path) -> None:
        path = rewritten(tmp_path / "model.safetensors", {}, lite_meta.to_json())
        with pytest.raises(ModelFileError, match=r"missing: .* and \d+ more"):
            load_model(path)


class TestCommand:
    def invoke(self, *arguments: str | Path) -> Any:
        return CliRunner().invoke(build_app(), ["export", *map(str, arguments)])

    def test_model_to_onnx(self, lite: Network, lite_meta: ModelMeta, tmp_path: Path) -> None:
        save_model(tmp_path / "model.safetensors", lite, lite_meta)
        result = self.invoke(tmp_path / "model.safetensors", "--out", tmp_path / "model.onnx")
        assert result.exit_code == 0, result.output
        assert "a-model, network spire-lite" in result.output
        backend = OnnxBackend(tmp_path / "model.onnx")
        assert backend.meta.licence == "CC0-1.0"
        frames = torch.rand(1, 1, 32, 48)
        with torch.inference_mode():
            expected = lite(frames).sigmoid().numpy()
        np.testing.assert_allclose(backend.run(frames.numpy()), expected, rtol=0, atol=1e-4)

    def test_run_folder(self, lite: Network, lite_meta: ModelMeta, tmp_path: Path) -> None:
        save_model(tmp_path / "model.safetensors", lite, lite_meta)
        result = self.invoke(tmp_path, "--out", tmp_path / "copy.safetensors")
        assert result.exit_code == 0, result.output
        assert (tmp_path / "copy.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()

    def test_half_precision_halves_the_file(
        self, lite: Network, lite_meta: ModelMeta, tmp_path: Path
    ) -> None:
        save_model(tmp_path / "model.safetensors", lite, lite_meta)
        result = self.invoke(tmp_path, "--half", "--out", tmp_path / "half.safetensors")
        assert result.exit_code == 0, result.output
        loaded = load_model(tmp_path / "half.safetensors")[0].state_dict()
        for name, tensor in lite.state_dict().items():
            assert torch.equal(loaded[name], tensor.half().float() if tensor.ndim > 1 else tensor), name
        whole, half = ((tmp_path / name).stat().st_size for name in ("model.safetensors", "half.safetensors"))
        saved = sum(2 * tensor.numel() for tensor in lite.state_dict().values() if tensor.ndim > 1)
        assert whole - half == pytest.approx(saved, abs=100)  # the header varies
        refused = self.invoke(tmp_path, "--half", "--out", tmp_path / "model.onnx")
        assert isinstance(refused.exception, ConfigError)

    def test_another_threshold(self, lite: Network, lite_meta: ModelMeta, tmp_path: Path) -> None:
        scored = lite_meta.model_copy(update={"scores": {"validation": {"f1": 0.9}}})
        save_model(tmp_path / "model.safetensors", lite, scored)
        result = self.invoke(tmp_path, "--threshold", "0.71", "--out", tmp_path / "higher.onnx")
        assert result.exit_code == 0, result.output
        meta = OnnxBackend(tmp_path / "higher.onnx").meta
        assert meta.decode == lite_meta.decode.model_copy(update={"threshold": 0.71})
        assert meta.scores == {}
        refused = self.invoke(tmp_path, "--threshold", "1.1", "--out", tmp_path / "none.onnx")
        assert isinstance(refused.exception, ConfigError)
        assert not (tmp_path / "none.onnx").exists()

    def test_stopped_run_is_finished_first(
        self, lite: Network, lite_meta: ModelMeta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from dimpoint.training import fit

        (tmp_path / "run.json").write_text("{}")
        monkeypatch.setattr(
            fit, "finish", lambda run, say: save_model(run / "model.safetensors", lite, lite_meta)
        )
        assert self.invoke(tmp_path, "--out", tmp_path / "out.safetensors").exit_code == 0
        assert (tmp_path / "out.safetensors").is_file()

    # (source, --out, the error, what it says)
    @pytest.mark.parametrize(
        ("source", "out", "error", "message"),
        [
            (".", "model.onnx", ModelFileError, "no model in this folder"),
            ("nothing.safetensors", "model.onnx", ModelFileError, "no such model file"),
            ("nothing.safetensors", "model.pth", ConfigError, r"write a \.onnx or a \.safetensors"),
            ("nothing.safetensors", "model", ConfigError, r"write a \.onnx or a \.safetensors"),
        ],
    )
    def test_wrong_arguments(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        source: str,
        out: str,
        error: type[Exception],
        message: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        result = self.invoke(source, "--out", out)
        assert isinstance(result.exception, error)
        with pytest.raises(error, match=message):
            raise result.exception
        assert list(tmp_path.iterdir()) == []

    def test_without_the_training_packages(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("dimpoint.api.find_spec", lambda package: None)
        result = self.invoke(tmp_path, "--out", "model.onnx")
        assert isinstance(result.exception, MissingExtraError)
        assert "pip install 'dimpoint[train]'" in str(result.exception)


class TestWeightsRun:
    """Safetensors weights run wherever a model is asked for, with torch; a shipped name can be exported."""

    def test_weights_detect_what_the_onnx_file_detects(
        self, lite: Network, lite_meta: ModelMeta, tmp_path: Path
    ) -> None:
        save_model(tmp_path / "weights" / "model.safetensors", lite, lite_meta)
        export_onnx(lite, lite_meta, tmp_path / "graph" / "model.onnx")
        frame = np.random.default_rng(0).integers(0, 255, (64, 96), np.uint8)
        one, other = (
            dimpoint.load(tmp_path / folder, threshold=0.0, threads=1)(frame)
            for folder in ("weights", "graph")
        )
        assert len(one) == len(other) > 0
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)

    def test_without_torch_the_error_says_what_to_do(
        self, lite: Network, lite_meta: ModelMeta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from dimpoint.inference import backends

        save_model(tmp_path / "model.safetensors", lite, lite_meta)
        monkeypatch.setattr(backends, "find_spec", lambda name: None)
        with pytest.raises(ModelFileError, match=r"PyTorch, which is not installed.*dimpoint export"):
            dimpoint.load(tmp_path / "model.safetensors")

    def test_a_shipped_name_is_exported(self, tmp_path: Path) -> None:
        out = tmp_path / "copy.safetensors"
        result = CliRunner().invoke(build_app(), ["export", "spire-lite", "--out", str(out)])
        assert result.exit_code == 0, result.output
        assert load_model(out)[1].name == "spire-lite"
