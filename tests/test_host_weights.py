"""The public weights of ACM and ALCNet: imported, they give what their authors' networks give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from dimpoint.cli import build_app
from dimpoint.errors import ModelFileError
from dimpoint.inference.backends import OnnxBackend
from dimpoint.model.checkpoint import import_model
from dimpoint.model.imports import SOURCES

MEAN, STD = 95.010, 41.511  # of SIRST3, counts of 8 bits
FILES = {"acm": "ACM_SIRST3_full.pth.tar", "alcnet": "ALCNet_SIRST3_full.pth.tar"}
FRAMES = 24


def invoke(*arguments: str | Path) -> Any:
    result = CliRunner().invoke(build_app(), list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def weights(shared_reference: Path) -> Path:
    return shared_reference / "hosts"


@pytest.fixture(scope="module")
def acm(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ACM through the command line."""
    out = tmp_path_factory.mktemp("import") / "acm.onnx"
    result = invoke("import", "acm", weights / FILES["acm"], "--out", out)
    assert "licence: weights of ACM by the authors of LESPS" in result.output
    return out


def noise(seed: int) -> npt.NDArray[np.float32]:
    """The frames of the reference, standardised already."""
    shape = ((256, 256), (192, 320))[seed]
    return np.random.default_rng(seed).standard_normal((1, 1, *shape)).astype(np.float32)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("seed", [0, 1])
def test_probabilities(weights: Path, name: str, seed: int) -> None:
    network, _ = import_model(name, weights / FILES[name])
    expected = np.load(weights / "golden.npz")[f"{FILES[name].partition('_')[0]}_seed{seed}"]
    with torch.inference_mode():
        got = network(torch.from_numpy(noise(seed))).sigmoid()
    np.testing.assert_allclose(got.numpy(), expected, rtol=0, atol=1e-4)


def test_onnx_probabilities(acm: Path, weights: Path) -> None:
    """The same from counts in unit range, which the graph standardises."""
    backend, standardised = OnnxBackend(acm), noise(0)
    counts = (standardised[0, 0] * STD + MEAN) / 255
    got = backend.run(counts[None, None])
    np.testing.assert_allclose(got, np.load(weights / "golden.npz")["ACM_seed0"], rtol=0, atol=1e-4)


@pytest.mark.parametrize(("name", "parameters"), [("acm", 397_823), ("alcnet", 426_961)])
def test_record(weights: Path, name: str, parameters: int) -> None:
    _, meta = import_model(name, weights / FILES[name])
    assert meta.name == FILES[name].removesuffix(".pth.tar")
    assert (meta.network, meta.parameters, meta.stride, meta.kind) == (name, parameters, 1, "probability")
    assert (meta.decode.kind, meta.decode.threshold) == ("components", 0.5)
    assert "authors" in meta.licence
    counts = np.arange(256, dtype=np.uint8)[None]
    seen = (meta.input.intensity.apply(counts) - meta.mean[0]) / meta.std[0]
    np.testing.assert_allclose(seen, (counts - MEAN) / STD, rtol=0, atol=1e-4)


def test_only_what_alcnet_never_reads_is_left_out(weights: Path) -> None:
    state = torch.load(weights / FILES["alcnet"], weights_only=True, map_location="cpu")["state_dict"]
    left_out = [key for key in state if SOURCES["alcnet"].rename({key: state[key]}) == {}]
    assert len(left_out) == 96
    assert {key.split(".")[1] for key in left_out} == {"uplayer1", "uplayer2"}


def test_acm_needs_all_its_layers(weights: Path, tmp_path: Path) -> None:
    """Layers of these names are used there."""
    checkpoint = torch.load(weights / FILES["acm"], weights_only=True, map_location="cpu")
    state = {key: value for key, value in checkpoint["state_dict"].items() if "uplayer" not in key}
    torch.save({"state_dict": state}, tmp_path / "weights.pth")
    with pytest.raises(ModelFileError, match="missing: uplayer1"):
        import_model("acm", tmp_path / "weights.pth")


@pytest.mark.parametrize(("data_set", "low", "high"), [("NUAA-SIRST", 0.3, 0.5), ("NUDT-SIRST", 0.5, 0.7)])
def test_scores_on_real_frames(
    acm: Path, weights: Path, shared_data: Path, tmp_path: Path, data_set: str, low: float, high: float
) -> None:
    """`dimpoint evaluate` against the definitions and the authors' padding (NUDT-SIRST needs none)."""
    source, data = shared_data / data_set, tmp_path / data_set
    names = (source / "img_idx" / f"test_{data_set}.txt").read_text().split()[:FRAMES]
    (data / "img_idx").mkdir(parents=True)
    (data / "img_idx" / f"test_{data_set}.txt").write_text("\n".join(names))
    for folder in ("images", "masks"):
        (data / folder).symlink_to(source / folder)
    options = ("--split", "test", "--protocol", "basicirstd", "--threads", "1", "--json", "-")
    done = invoke("evaluate", "--model", acm, "--data", data, *options)
    found = json.loads(done.output)["pooled"]

    network, _ = import_model("acm", weights / FILES["acm"])
    counts = np.zeros(2)  # pixels in both, and in either
    ratios = []
    for name in names:
        frame = np.asarray(Image.open(source / "images" / f"{name}.png").convert("L"), np.float32)
        mask = np.asarray(Image.open(source / "masks" / f"{name}.png").convert("L"))
        height, width = frame.shape
        x = np.pad((frame - MEAN) / STD, [(0, -height % 32), (0, -width % 32)])
        with torch.inference_mode():
            predicted = network(torch.from_numpy(x)[None, None])[0, 0, :height, :width].numpy() > 0
        both, either = (predicted & (mask > 127)).sum(), (predicted | (mask > 127)).sum()
        counts += both, either
        ratios.append(both / either)
    assert found["pixels"]["iou"] == pytest.approx(counts[0] / counts[1], abs=1e-3)
    assert found["pixels"]["niou"] == pytest.approx(np.mean(ratios), abs=1e-3)
    assert low < found["pixels"]["iou"] < high  # of all frames 0.6486 and 0.5742
