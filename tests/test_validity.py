"""Pixels that are no measurement: which are found, what takes their place, and that they change no answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from dimpoint.errors import FrameError
from dimpoint.inference.detector import Detector
from dimpoint.model.intensity import IntensityRule
from dimpoint.model.validity import filled, valid_pixels

Frame = npt.NDArray[Any]
TARGETS = [(60, 60), (160, 120), (250, 180)]
DISPLAY = IntensityRule(kind="display", low=1, high=99)


def scene(kind: type = np.uint16) -> Frame:
    """Sensor counts, 240 x 320: a gradient, noise and three targets."""
    y, x = np.mgrid[:240, :320]
    counts = 7600 + 2 * y + np.random.default_rng(0).normal(0, 12, y.shape)
    for px, py in TARGETS:
        counts += 300 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 1.2**2))
    return (counts.round() if kind is np.uint16 else counts / 100 - 55).astype(kind)


def zero_border(frame: Frame) -> Frame:
    frame[:4], frame[:, -3:] = 0, 0
    return frame


def one_zero_column(frame: Frame) -> Frame:
    frame[:, 0] = 0
    return frame


def dead_columns(frame: Frame) -> Frame:
    frame[:, 100:102], frame[:, 200] = 0, 65535
    return frame


def black_corners(frame: Frame) -> Frame:
    """As a stabiliser leaves them, the last pixels mixed with the frame's by interpolation."""
    y, x = np.mgrid[:240, :320]
    inside = np.clip(np.minimum(y - 0.04 * x + 3, 239 - y + 0.04 * (x - 319) + 3), 0, 1)
    return (frame * inside).astype(frame.dtype)


def telemetry(frame: Frame) -> Frame:
    rng = np.random.default_rng(1)
    frame[:3] = 0
    frame[:2, :100] = rng.integers(0, 65536, (2, 100))
    frame[-1] = rng.integers(0, 65536, 320)
    return frame


def no_data(value: float) -> Callable[[Frame], Frame]:
    def change(frame: Frame) -> Frame:
        y, x = np.mgrid[:240, :320]
        frame[np.hypot(x - 300, y - 20) < 60] = value
        frame[150:170, 40:70] = value  # an island, too
        return frame

    return change


def dead_pixels(frame: Frame) -> Frame:
    rows, columns = np.random.default_rng(3).integers(5, 235, (2, 20))
    frame[rows, columns] = 0
    frame[rows, columns + 60] = np.iinfo(frame.dtype).max
    return frame


INVALID = [
    pytest.param(np.uint16, zero_border, id="zero border"),
    pytest.param(np.uint16, one_zero_column, id="one zero column"),
    pytest.param(np.uint16, dead_columns, id="dead columns"),
    pytest.param(np.uint16, black_corners, id="black corners"),
    pytest.param(np.uint16, telemetry, id="telemetry"),
    pytest.param(np.uint16, no_data(65535), id="no data 65535"),
    pytest.param(np.uint16, no_data(0), id="no data 0"),
    pytest.param(np.float32, no_data(np.nan), id="no data NaN"),
    pytest.param(np.float32, no_data(-9999), id="no data -9999"),
    pytest.param(np.float32, no_data(-3.4028234663852886e38), id="no data, least float32"),
    pytest.param(np.float32, no_data(np.inf), id="no data, infinite"),
    pytest.param(np.uint16, dead_pixels, id="dead and stuck pixels"),
]


@pytest.mark.parametrize(("kind", "change"), INVALID)
def test_the_range_is_that_of_the_measurements(kind: type, change: Callable[[Frame], Frame]) -> None:
    frame = change(scene(kind))
    valid = valid_pixels(frame)
    low, high = DISPLAY.limits(filled(frame, valid), valid)
    clean_low, clean_high = DISPLAY.limits(scene(kind))
    assert (high - low) / (clean_high - clean_low) == pytest.approx(1, abs=0.1)
    assert (low - clean_low) / (clean_high - clean_low) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(("kind", "change"), INVALID)
def test_the_shipped_default_finds_the_same_targets(kind: type, change: Callable[[Frame], Frame]) -> None:
    found = Detector(threads=1)(change(scene(kind)))
    assert sorted(np.round(found.xy).astype(int).tolist()) == [list(target) for target in TARGETS]


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(scene(), id="a scene"),
        pytest.param(np.full((9, 9), 5, np.uint16), id="constant"),
        pytest.param(np.zeros((1, 1), np.uint16), id="one pixel"),
        pytest.param(np.zeros((40, 50), np.uint8), id="8 bits: the range is fixed"),
        pytest.param(zero_border(scene()).astype(np.uint8), id="8 bits with a border"),
        pytest.param(np.pad(np.ones((1, 1), np.float32), 20), id="a spot on a constant background"),
        pytest.param(
            np.clip(scene().astype(np.int64) - 7800, 0, None).astype(np.uint16), id="dark clipped at 0"
        ),
    ],
)
def test_measurements_stay(frame: Frame) -> None:
    assert valid_pixels(frame) is None


def test_a_saturated_target_is_a_measurement() -> None:
    frame = scene()
    frame[100:104, 50:54] = 65535
    frame[0:3, 80:83] = 65535  # at the border
    assert valid_pixels(frame) is None


def test_a_dark_background_that_holds_a_target_is_a_measurement() -> None:
    frame = np.zeros((120, 160), np.uint16)  # a sky clipped to 0, far darker than the ground
    frame[60:] = np.random.default_rng(0).normal(9000, 100, (60, 160))
    frame[20:23, 30:33] = 5000
    assert valid_pixels(frame) is None


def test_invalid_pixels_continue_their_surroundings() -> None:
    smooth = scene(np.float32) * 0 + np.linspace(0, 1, 320, dtype=np.float32)
    valid = np.ones(smooth.shape, np.bool_)
    valid[:, :30] = valid[50:90, 100:140] = False
    out = filled(np.where(valid, smooth, 1e6).astype(np.float32), valid)
    np.testing.assert_array_equal(out[valid], smooth[valid])
    assert np.abs(out - smooth).max() < 0.1
    assert np.abs(np.diff(out, axis=1)).max() < 0.05  # no edge


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (2, 3), (33, 65)])
def test_any_shape_is_filled(shape: tuple[int, int]) -> None:
    frame = np.full(shape, 9, np.uint16)
    valid = np.zeros(shape, np.bool_)
    valid[0, 0] = True
    frame[~valid] = 60000
    assert (filled(frame, valid) == 9).all()
    np.testing.assert_array_equal(filled(frame, None), frame)
    np.testing.assert_array_equal(filled(frame, ~valid & False), frame)  # nothing to fill from


class TestMasksOfTheCaller:
    """`Detector(frame, valid)`: what is known to be no measurement is no target, in any type of frame."""

    @pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
    def test_targets_outside_the_mask_are_left_out(self, kind: type) -> None:
        detector = Detector(threads=1)
        frame = ((scene().astype(np.float64) - 7500) / 4).astype(kind)
        valid = np.ones(frame.shape, np.bool_)
        valid[:90, :90] = False
        assert len(detector(frame)) == 3
        found = np.round(detector(frame, valid).xy).astype(int)
        assert sorted(found.tolist()) == [list(target) for target in TARGETS[1:]]

    @pytest.mark.parametrize(
        ("valid", "message"),
        [(np.ones((3, 3), np.bool_), "the mask has shape"), (np.zeros((240, 320), np.bool_), "no pixel is")],
    )
    def test_masks_that_do_not_fit_are_refused(self, valid: Frame, message: str) -> None:
        with pytest.raises(FrameError, match=message):
            Detector(threads=1)(scene(), valid)
