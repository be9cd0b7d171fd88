"""Types of arrays that are frames, in arrays and files alike; others are errors that say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from dimpoint.errors import FrameError
from dimpoint.inference.detector import Detector
from dimpoint.inference.maps import measured
from dimpoint.model.intensity import IntensityRule
from dimpoint.sources import frames_from
from dimpoint.sources.frames import as_array
from dimpoint.sources.picture import as_frame

COUNTS = np.random.default_rng(0).integers(80, 120, (48, 48))
COUNTS[20:23, 30:33] = 250

TAKEN = {
    "uint8": np.uint8, "uint16": np.uint16, ">u2": np.uint16, "float32": np.float32, ">f4": np.float32,
    "int8": np.float32, "int16": np.float32, ">i2": np.float32, "int32": np.float32, "int64": np.float32,
    "uint32": np.float32, "uint64": np.float32, "float16": np.float32, "float64": np.float32,
    "longdouble": np.float32,
}  # fmt: skip
REFUSED = {
    "bool": "save it as uint8, 0 and 255",
    "complex64": "give its magnitude",
    "complex128": "give its magnitude",
    "object": "save the grey values",
    "U4": "save the grey values",
    "datetime64[s]": "save the grey values",
}


@pytest.mark.parametrize("dtype", TAKEN)
def test_taken(tmp_path: Path, dtype: str) -> None:
    array = (COUNTS // 2).astype(dtype)
    frame = as_frame(as_array(array), "x")
    assert frame.dtype == TAKEN[dtype]
    assert frame.dtype.isnative
    np.testing.assert_array_equal(frame, COUNTS // 2)
    np.save(tmp_path / "x.npy", array)
    for given in (array, str(tmp_path / "x.npy")):
        (one,) = frames_from(given)
        assert one.pixels.dtype == TAKEN[dtype]
        np.testing.assert_array_equal(one.pixels, frame)


@pytest.mark.parametrize("dtype", REFUSED)
def test_refused(tmp_path: Path, dtype: str) -> None:
    array = COUNTS.astype(dtype)
    with pytest.raises(FrameError, match=f"other integers and floats become float32.*; {REFUSED[dtype]}"):
        as_frame(as_array(array), "x")
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(FrameError, match=f"{REFUSED[dtype]}|not a readable .npy file"):
        list(frames_from(str(tmp_path / "x.npy")))


@pytest.mark.parametrize("high", [2**24 + 1, 2**40])
def test_integers_that_would_be_rounded_are_refused(high: int) -> None:
    array = COUNTS.copy()
    array[0, 0] = high
    with pytest.raises(FrameError, match="do not fit into 24 bits; save them as uint16 or float32"):
        as_frame(array, "x")
    with pytest.raises(FrameError, match="do not fit into 24 bits"):
        as_frame(as_array(array.tolist()), "x")


def test_counts_beyond_float32_are_no_measurements() -> None:
    array = COUNTS.astype(np.float64)
    array[3, 4] = 1e300
    (frame,) = frames_from(array)
    assert frame.valid is not None
    assert np.argwhere(~frame.valid).tolist() == [[3, 4]]
    assert np.argwhere(~measured(array, IntensityRule()).valid).tolist() == [[3, 4]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_masked_pixels_are_no_measurements(dtype: Any) -> None:
    masked: npt.NDArray[Any] = np.ma.masked_array(COUNTS.astype(dtype), COUNTS > 200)
    (frame,) = frames_from(masked)
    assert frame.valid is not None
    np.testing.assert_array_equal(frame.valid, COUNTS <= 200)
    detector = Detector()
    assert len(detector(COUNTS.astype(dtype))) == 1
    assert [len(detector(one)) for one in (masked, frame)] == [0, 0]
