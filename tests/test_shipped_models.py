"""The models that ship: found by name, whole, and good for the example scenes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import dimpoint
from dimpoint.datasets.dataset import open_dataset
from dimpoint.metrics.points import match_points
from dimpoint.model.files import DEFAULT, model_card, model_names, resolve_weights

SCENES = Path(__file__).parents[1] / "examples" / "scenes"
GOLDEN = Path(__file__).parent / "golden" / "shipped_detections.json"
PIXELS, SCORE = 0.02, 0.002  # between processors: other kernels round otherwise
AT_THE_EDGE = 0.01  # scores this near the threshold may fall on either side


def test_two_models_ship() -> None:
    assert model_names() == ["spire-lite", "sshdnet-small"]
    assert DEFAULT in model_names()


@pytest.mark.parametrize("name", ["spire-lite", "sshdnet-small"])
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


@pytest.mark.parametrize("name", ["spire-lite", "sshdnet-small"])
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
    GOLDEN.write_text(json.dumps({name: detected(name) for name in model_names()}, indent=1) + "\n")
