"""The models that ship: found by name, whole, and good for the example scenes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import dimpoint
from dimpoint.datasets.dataset import open_dataset
from dimpoint.errors import ModelFileError
from dimpoint.inference import openvino_backend
from dimpoint.inference.openvino_backend import INT8_KEY
from dimpoint.metrics.points import match_points
from dimpoint.model.files import DEFAULT, model_card, model_names, resolve_model, resolve_weights
from dimpoint.model.onnx_file import read_property

SCENES = Path(__file__).parents[1] / "examples" / "scenes"
GOLDEN = Path(__file__).parent / "golden" / "shipped_detections.json"
NAMES = ["spire", "spire-lite", "spire-lite-wide", "sshdnet-small"]  # in float32
PIXELS, SCORE = 0.02, 0.002  # between processors: other kernels round otherwise
AT_THE_EDGE = 0.01  # scores this near the threshold may fall on either side


def test_five_models_ship() -> None:
    assert model_names() == ["spire", "spire-lite", "spire-lite-int8", "spire-lite-wide", "sshdnet-small"]
    assert DEFAULT in model_names()


class TestInt8:
    def test_it_is_made_of_the_default_and_says_what_that_cost(self) -> None:
        record = json.loads(read_property(resolve_model("spire-lite-int8"), INT8_KEY) or "")
        assert record["source"] == hashlib.sha256(resolve_model(DEFAULT).read_bytes()).hexdigest()
        assert record["f1_float32"] - record["f1"] <= 0.002
        assert f"F1 {record['f1']:.4f} on the {record['frames']} held-out frames" in model_card(
            "spire-lite-int8"
        )
        meta, whole = (dimpoint.load(name, threads=1).meta for name in ("spire-lite-int8", DEFAULT))
        assert (meta.name, meta.parent) == ("spire-lite-int8", DEFAULT)
        assert (meta.decode, meta.input, meta.training_frames) == (
            whole.decode,
            whole.input,
            whole.training_frames,
        )

    @pytest.mark.parametrize("device", ["cpu", "openvino"])
    def test_it_finds_what_the_default_finds(self, device: str) -> None:
        """Of the example scenes, all targets; scores differ by what eight bits cost."""
        if device == "openvino":
            pytest.importorskip("openvino")
        whole, int8 = dimpoint.load(threads=1), dimpoint.load("spire-lite-int8", threads=1, device=device)
        for sample in open_dataset(SCENES):
            frame, truth = sample.read_frame(), sample.read_points().astype(np.float64)
            found, expected = int8(frame), whole(frame)
            assert len(match_points(found.xy, found.scores, truth, 2.0).missed) == 0
            for xy, score in zip(expected.xy, expected.scores, strict=True):
                if score > whole.rule.threshold + 0.1:
                    nearest = np.hypot(*(found.xy - xy).T).argmin()
                    assert np.hypot(*(found.xy[nearest] - xy)) < 0.3
                    assert abs(found.scores[nearest] - score) < 0.1

    def test_auto_takes_it_where_it_is_fast(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("openvino")
        monkeypatch.setattr(openvino_backend, "computes_int8", lambda: True)
        taken = dimpoint.load(device="auto", threads=1)
        assert (taken.device, taken.meta.name) == ("openvino", "spire-lite-int8")
        monkeypatch.setattr(openvino_backend, "computes_int8", lambda: False)
        taken = dimpoint.load(device="auto", threads=1)
        assert (taken.device, taken.meta.name) == ("cpu", DEFAULT)

    def test_it_has_no_weights_to_train(self) -> None:
        with pytest.raises(ModelFileError, match=r"'spire-lite-int8' is int8 .* give spire-lite"):
            resolve_weights("spire-lite-int8")


@pytest.mark.parametrize("name", NAMES)
def test_each_comes_with_weights_to_train_and_a_card(name: str) -> None:
    assert resolve_weights(name).stat().st_size > 1_000_000
    assert "Apache-2.0" in model_card(name)
    assert dimpoint.load(name, threads=1).meta.name == name


def test_the_default_finds_the_targets_of_the_example_scenes() -> None:
    """All 15, each within 2 pixels; at most one false object a frame."""
    detector, false = dimpoint.load(threads=1), 0
    for sample in open_dataset(SCENES):
        truth = sample.read_points().astype(np.float64)
        found = detector(sample.read_frame())
        match = match_points(found.xy, found.scores, truth, 2.0)
        assert len(match.missed) == 0, sample.name
        false += len(match.false)
    assert false <= 8


def test_a_frame_without_anything_has_no_target() -> None:
    assert len(dimpoint.load(threads=1)(np.full((200, 300), 90, np.uint8))) == 0


def encodings(counts: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """A 16-bit frame, and the same stretched to 8 bits."""
    low, high = int(counts.min()), int(counts.max())
    return {"16": counts, "8": ((counts.astype(np.int64) - low) * 255 // (high - low)).astype(np.uint8)}


def detected(name: str) -> dict[str, list[list[float]]]:
    """x, y and score of what a shipped model finds in the first four scenes, by frame and bits."""
    detector, found = dimpoint.load(name, threads=1), {}
    for sample in list(open_dataset(SCENES))[:4]:
        for bits, frame in encodings(sample.read_frame()).items():
            each = detector(frame)
            rows = np.column_stack([each.xy, each.scores]).astype(float).round(4)
            found[f"{sample.name}, {bits} bit"] = rows.tolist()
    return found


@pytest.mark.parametrize("name", NAMES)
def test_detections_do_not_change(name: str) -> None:
    """Written by `python tests/test_shipped_models.py`, when a model or a rule is meant to change them."""
    golden, found = json.loads(GOLDEN.read_text())[name], detected(name)
    assert sorted(found) == sorted(golden)
    assert sum(map(len, golden.values())) > 8  # an empty file would pass otherwise
    edge = dimpoint.load(name, threads=1).rule.threshold + AT_THE_EDGE
    for frame, rows in found.items():
        for these, others in ((rows, golden[frame]), (golden[frame], rows)):
            lone = [row for row in these if not any(same(row, other) for other in others)]
            assert [row for row in lone if row[2] > edge] == [], frame


def same(first: list[float], second: list[float]) -> bool:
    away = np.hypot(first[0] - second[0], first[1] - second[1])
    return bool(away < PIXELS and abs(first[2] - second[2]) < SCORE)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({name: detected(name) for name in NAMES}, indent=1) + "\n")
