"""What is refused before anything is counted, and in which words."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dimpoint.errors import ConfigError, DataError
from dimpoint.metrics.components import above, check_map
from dimpoint.metrics.curves import target_curve
from dimpoint.metrics.hse import hse
from dimpoint.metrics.pixel import count_errors, count_pixels, pixel_curve
from dimpoint.metrics.protocols import count_targets
from metrics_scenes import LAW

MASK = np.zeros((4, 5), np.bool_)
GOOD = np.zeros((4, 5), np.float32)


def _with(value: float) -> npt.NDArray[np.float32]:
    prob = GOOD.copy()
    prob[2, 3] = value
    return prob


BAD = [
    # what is wrong, map, mask, words of the message
    ("above 1", _with(1.5), MASK, "values from 0 to 1.5; probabilities lie in 0..1"),
    ("logits", _with(-3.25), MASK, "values from -3.25 to 0; .*these look like logits: apply a sigmoid first"),
    ("8-bit values as floats", _with(255), MASK, "these look like 8-bit values: divide by 255"),
    ("8-bit image", _with(0).astype(np.uint8), MASK, "uint8; divide by 255"),
    ("16-bit image", _with(0).astype(np.uint16), MASK, "uint16; divide by 65535"),
    ("other type", _with(0).astype(np.int64), MASK, "int64; expected probabilities in 0..1 as float32"),
    ("NaN", _with(np.nan), MASK, r"NaN at x=3, y=2 \(1 in all\)"),
    ("infinity", _with(np.inf), MASK, "values from 0 to inf"),
    ("other size", GOOD, np.zeros((5, 4), np.bool_), "the map is 5x4 but its mask is 4x5"),
    (
        "a batch for a frame",
        GOOD[None],
        MASK,
        r"a probability map must be \(height, width\) .*, got shape \(1, 4, 5\)",
    ),
    ("empty", np.zeros((0, 5), np.float32), MASK, "not empty"),
    (
        "mask of 0 and 1",
        GOOD,
        np.eye(4, 5, dtype=np.uint8),
        "reach only 1, and a target is above 127; .*mask > 0",
    ),
    ("mask of floats", GOOD, GOOD, "the mask must be bool, or uint8 with targets above 127, got float32"),
]

COUNTERS = {
    "count_pixels": count_pixels,
    "count_targets": lambda prob, mask: count_targets(prob, mask, "basicirstd"),
    "count_errors": count_errors,
    "pixel_curve": lambda prob, mask: pixel_curve([(prob, mask)]),
    "target_curve": lambda prob, mask: target_curve([(prob, mask)]),
    "hse": lambda prob, mask: hse([(prob, mask)]),
}


@pytest.mark.parametrize("counter", COUNTERS)
@pytest.mark.parametrize(
    ("prob", "mask", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD]
)
def test_bad_frames_are_refused(
    counter: str, prob: npt.NDArray[Any], mask: npt.NDArray[Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        COUNTERS[counter](prob, mask)


def test_curves_name_the_bad_frame() -> None:
    with pytest.raises(DataError, match="frame 1: values from 0 to 2"):
        target_curve([(GOOD, MASK), (_with(2), MASK)])


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_thresholds_lie_in_0_to_1(threshold: float) -> None:
    with pytest.raises(DataError, match=r"is outside 0\.\.1"):
        count_pixels(GOOD, MASK, threshold)


def test_an_unknown_protocol_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown protocol 'coco'; known: basicirstd, dnanet-legacy, spire"):
        count_targets(GOOD, MASK, "coco")


def test_a_mask_may_be_bool_or_uint8_above_127() -> None:
    mask = np.array([[0, 127, 128, 255]], np.uint8)
    counts = count_pixels(np.ones((1, 4), np.float32), mask)
    assert (counts.tp, counts.fp) == (2, 2)


def test_a_predicted_mask_is_a_map_of_0_and_1() -> None:
    assert check_map(np.array([[True, False]])).tolist() == [[1, 0]]


def test_half_precision_is_widened() -> None:
    assert check_map(np.array([[0.5]], np.float16)).dtype == np.float32


@LAW
@given(st.floats(0, 1, width=32), st.floats(0, 1))
def test_thresholds_are_compared_as_real_numbers(value: float, threshold: float) -> None:
    """Whether 0.1 in single precision is above 0.1 must not depend on NumPy's rules for scalars."""
    assert bool(above(np.array([[value]], np.float32), threshold)[0, 0]) == (float(value) > threshold)
    assert bool(above(np.array([[value]], np.float64), threshold)[0, 0]) == (float(value) > threshold)


def test_single_precision_tenth_is_above_a_tenth() -> None:
    assert above(np.array([[0.1, 0.7]], np.float32), 0.1).tolist() == [[True, True]]
    assert above(np.array([[0.1, 0.7]], np.float32), 0.7).tolist() == [[False, False]]
