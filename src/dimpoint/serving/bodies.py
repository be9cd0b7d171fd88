"""What a request sends -> a frame: an image file, or raw counts with their shape and type."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.errors import FrameError
from dimpoint.limits import check
from dimpoint.sources import read_image

RAW_TYPES = ("uint8", "uint16", "float32")
SUFFIXES = {
    "image/png": ".png",
    "image/tiff": ".tif",
    "image/jpeg": ".jpg",
    "image/bmp": ".bmp",
    "application/x-npy": ".npy",
}


def frame_of(body: bytes, content_type: str, shape: str | None, dtype: str | None) -> npt.NDArray[Any]:
    """The frame of a request's body, (H, W) uint8, uint16 or float32.

    content_type: a key of `SUFFIXES`; anything else needs shape ("HEIGHTxWIDTH") and dtype (`RAW_TYPES`,
    little-endian) and is taken as raw counts. Raises FrameError that says what is wrong.
    """
    if not body:
        raise FrameError("the request has no body; send an image file, or raw counts with shape and dtype")
    suffix = SUFFIXES.get(content_type.partition(";")[0].strip().lower())
    if shape is None and dtype is None and suffix is not None:
        return _image(body, suffix)
    if shape is None or dtype is None:
        known = ", ".join(SUFFIXES)
        raise FrameError(
            f"Content-Type is one of {known}, or shape=HEIGHTxWIDTH and dtype come with raw counts"
        )
    return _raw(body, shape, dtype)


def _image(body: bytes, suffix: str) -> npt.NDArray[Any]:
    with tempfile.TemporaryDirectory(prefix="dimpoint-") as folder:
        path = Path(folder) / f"frame{suffix}"
        path.write_bytes(body)
        try:
            return read_image(path)
        except FrameError as error:
            raise FrameError(str(error).replace(str(path), "the image")) from None


def _raw(body: bytes, shape: str, dtype: str) -> npt.NDArray[Any]:
    if dtype not in RAW_TYPES:
        raise FrameError(f"dtype: one of {', '.join(RAW_TYPES)}, got {dtype[:40]!r}")
    sides = shape.lower().split("x")
    if len(sides) != 2 or not all(side.isdigit() and 0 < len(side) < 7 for side in sides):
        raise FrameError(f"shape: HEIGHTxWIDTH, such as 512x640, got {shape[:40]!r}")
    height, width = (int(side) for side in sides)
    if not height or not width:
        raise FrameError(f"shape: a frame has at least one pixel, got {shape}")
    check("frame_pixels", height * width, "the frame: pixels", FrameError)
    kind = np.dtype(dtype).newbyteorder("<")
    if len(body) != height * width * kind.itemsize:
        expected = height * width * kind.itemsize
        raise FrameError(f"{height}x{width} {dtype} takes {expected} bytes, the body has {len(body)}")
    return np.frombuffer(body, kind).reshape(height, width).astype(dtype)
