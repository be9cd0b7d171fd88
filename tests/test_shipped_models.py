"""The models that ship: found by name, whole, and good for the example scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dimpoint
from dimpoint.datasets.dataset import open_dataset
from dimpoint.metrics.points import match_points
from dimpoint.model.files import DEFAULT, model_card, model_names, resolve_weights

SCENES = Path(__file__).parents[1] / "examples" / "scenes"


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
