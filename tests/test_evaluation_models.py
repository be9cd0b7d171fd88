"""Segmentation models under evaluation: their probability maps, and what those serve."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dimpoint.cli import build_app
from dimpoint.errors import ConfigError, FrameError
from dimpoint.inference.detector import Detector
from dimpoint.model.record import DecodeRule
from evaluation_sets import SIZE, frame, make_model, make_set
from tiny_models import blob_meta, write_model


def segmentation_model(path: Path, scale: int = 1) -> Path:
    """A model whose probability of a pixel is the pixel itself, in 0..1."""
    meta = blob_meta(
        name="copy",
        kind="probability",
        stride=1,
        scale=scale,
        decode=DecodeRule(kind="components", threshold=0.55),
    )
    names = ("frame", "probability")
    return write_model(path, meta, kernel=np.ones((1, 1), np.float32), names=names)


def test_a_probability_for_every_pixel(tmp_path: Path) -> None:
    found = Detector(segmentation_model(tmp_path / "m.onnx")).probability_map(frame("bright"))
    np.testing.assert_allclose(found, frame("bright") / 255, atol=1e-6)


def test_a_magnified_map_comes_back_at_the_size_of_its_frame(tmp_path: Path) -> None:
    """Magnified twice and averaged again: smoother, but neither shifted nor of another size."""
    pixels = frame("bright")[:-1, :-3]  # sides that are no multiple of anything
    found = Detector(segmentation_model(tmp_path / "m.onnx", scale=2)).probability_map(pixels)
    assert found.shape == pixels.shape
    assert np.unravel_index(found.argmax(), found.shape) == np.unravel_index(pixels.argmax(), pixels.shape)
    np.testing.assert_allclose(found.sum(), pixels.sum() / 255, rtol=1e-3)


def test_only_segmentation_models_have_maps(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'blob' gives responses to points; only segmentation networks"):
        Detector(make_model(tmp_path / "blob.onnx")).probability_map(frame("bright"))
    with pytest.raises(FrameError):
        Detector(segmentation_model(tmp_path / "m.onnx")).probability_map(np.zeros((2, 3, 4, 5), np.uint8))


def test_a_segmentation_model_serves_every_protocol(tmp_path: Path) -> None:
    data, model = make_set(tmp_path / "SET"), segmentation_model(tmp_path / "m.onnx")
    arguments = ["--model", str(model), "--data", str(data), "--protocol", "all", "--json", "-"]
    done = CliRunner().invoke(build_app(), ["evaluate", *arguments], catch_exceptions=False)
    found = json.loads(done.output)
    assert (found["kind"], found["threshold"], found["threshold_origin"]) == ("maps", 0.55, "the model's own")
    assert set(found["pooled"]["protocols"]) == {"spire", "basicirstd", "dnanet-legacy", "opdc"}
    for counts in found["pooled"]["protocols"].values():
        assert (counts["tp"], counts["fn"], counts["fp"]) == (2, 2, 1)
    predicted = sum(int((frame(name) > 0.55 * 255).sum()) for name in ("bright", "dim", "empty", "lost"))
    pixels = found["pooled"]["pixels"]
    assert pixels["tp"] + pixels["fp"] == predicted
    assert pixels["pixels"] == 4 * SIZE[0] * SIZE[1]


def test_maps_against_point_labels_are_counted_as_points(tmp_path: Path) -> None:
    """Where a frame has only points there is no mask to hold a map against: protocol spire alone is left."""
    data, model = make_set(tmp_path / "SET"), segmentation_model(tmp_path / "m.onnx")
    made = CliRunner().invoke(build_app(), ["data", "points", str(data)])
    assert made.exit_code == 0
    for file in (data / "masks").iterdir():
        file.unlink()
    arguments = ["evaluate", "--model", str(model), "--data", str(data), "--json", "-"]
    found = json.loads(CliRunner().invoke(build_app(), arguments, catch_exceptions=False).output)
    assert found["pooled"]["protocols"]["spire"]["tp"] == 2
    with pytest.raises(ConfigError, match="copy is compared with point labels"):
        CliRunner().invoke(build_app(), [*arguments, "--protocol", "opdc"], catch_exceptions=False)
