"""Black-hot frames: found by an option as white-hot ones are, and hinted at."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from dimpoint.cli import build_app
from dimpoint.errors import ConfigError
from dimpoint.inference.detector import Detector
from dimpoint.model.intensity import IntensityRule, looks_black_hot

TARGETS = [[40, 30], [90, 120], [150, 60]]


def scene(kind: type = np.uint8) -> np.ndarray:
    y, x = np.mgrid[:160, :200]
    counts = 80 + 0.2 * y + np.random.default_rng(0).normal(0, 2, y.shape)
    for px, py in TARGETS:
        counts += 70 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 1.3**2))
    return counts.round().astype(np.uint8) if kind is np.uint8 else (counts * 31 + 3000.7).astype(kind)


def inverted(frame: np.ndarray) -> np.ndarray:
    return (30000 - frame).astype(frame.dtype) if frame.dtype != np.uint8 else 255 - frame


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_a_black_hot_frame_gives_what_its_inverse_gives(kind: type) -> None:
    white, black = Detector(threads=1), Detector(threads=1, polarity="black-hot")
    found = white(scene(kind))
    assert sorted(np.round(found.xy).astype(int).tolist()) == TARGETS
    again = black(inverted(scene(kind)))
    np.testing.assert_allclose(again.xy, found.xy, atol=0.02)
    np.testing.assert_allclose(again.scores, found.scores, atol=0.02)
    assert len(white(inverted(scene(kind)))) == 0


@pytest.mark.parametrize("kind", ["dtype", "percentile", "display", "range"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_reversed_limits_turn_the_range_around(kind: Any, dtype: type) -> None:
    rule = IntensityRule(kind=kind, low=1, high=99)
    frame = scene(dtype)
    limits = rule.limits(frame)
    straight, turned = (
        rule.apply(frame, ends) for ends in (limits, rule.reversed_limits(limits, frame.dtype))
    )
    np.testing.assert_allclose(
        straight + turned, (straight + turned)[0, 0], atol=1e-3 * np.abs(straight).max()
    )


def test_unknown_polarities_are_refused() -> None:
    which: Any = "upside-down"
    with pytest.raises(ConfigError, match="white-hot or black-hot"):
        Detector(threads=1, polarity=which)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        pytest.param(scene(), False, id="white-hot"),
        pytest.param(inverted(scene()), True, id="black-hot"),
        pytest.param(inverted(scene(np.uint16)), True, id="black-hot, 16 bit"),
        pytest.param(np.full((40, 40), 7, np.uint8), False, id="constant"),
        pytest.param(np.zeros((1, 1), np.float32), False, id="one pixel"),
        pytest.param(np.random.default_rng(0).normal(100, 5, (90, 90)).astype(np.uint8), False, id="noise"),
    ],
)
def test_what_looks_black_hot(frame: np.ndarray, expected: bool) -> None:
    assert looks_black_hot(frame) is expected


def test_detect_hints_and_has_the_option(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "black.png"), inverted(scene()))

    def run(*options: str) -> str:
        arguments = ["detect", str(tmp_path / "black.png"), "--out", str(tmp_path / "out"), *options]
        result = CliRunner().invoke(build_app(), arguments)
        assert result.exit_code == 0, result.output
        return result.output

    assert "1 of 1 frames look black-hot" in run()
    assert "look black-hot" not in run("--polarity", "black-hot")


def test_a_pickled_detector_keeps_its_polarity() -> None:
    again = pickle.loads(pickle.dumps(Detector(threads=1, polarity="black-hot")))
    assert again.polarity == "black-hot"
