"""Any array -> a frame: (H, W), one channel, uint8, uint16 or float32, finite."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.errors import FrameError
from dimpoint.model.intensity import FRAME_DTYPES
from dimpoint.model.validity import filled

Pixels = npt.NDArray[Any]
_EXACT = 2**24  # integers up to it are float32 numbers

_COLOURED = 10  # see colour_notes


def as_frame(array: Pixels, name: str) -> Pixels:
    """Make a frame of an array, or raise FrameError, which names it by `name`.

    array: (H, W), or (H, W, 1), or (H, W, 3 or 4) with equal colour channels, because whether an array
    of colours holds RGB or BGR cannot be known; a fourth channel is alpha and is ignored.
    Returns (H, W) uint8, uint16 or float32 in native byte order: other floats are rounded to the
    nearest float32, other integers become float32 if all fit into its 24 bits, other types are refused. NaN
    and infinite pixels are no measurements: they get smooth values from the nearest finite ones, of which
    there must be some.
    """
    dtype = frame_dtype(array.dtype, name)
    if dtype == np.float32 and array.dtype.kind in "iu" and array.size:
        _check_exact(array, name)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is counted below
        frame = np.ascontiguousarray(_one_channel(array, name), dtype)
    if frame.size == 0:
        raise FrameError(f"{name}: the frame is empty: shape {frame.shape}; at least 1 x 1 is right")
    return _finite(frame, name)


def frame_dtype(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    """The type that counts of `dtype` are kept in; FrameError if dtype holds no counts."""
    native = dtype.newbyteorder("=")
    if native in FRAME_DTYPES:
        return native
    if dtype.kind in "fiu":
        return np.dtype(np.float32)
    raise FrameError(f"{name}: a frame is uint8, uint16 or float32, this is {dtype}; {_remedy(dtype)}")


def _check_exact(array: Pixels, name: str) -> None:
    """Refuse integers that float32 would round."""
    low, high = int(array.min()), int(array.max())
    if max(-low, high) > _EXACT:
        raise FrameError(
            f"{name}: counts from {low} to {high} do not fit into 24 bits; save them as uint16 or float32"
        )


def grey_of_bgr(picture: Pixels) -> Pixels:
    """A decoded picture, (H, W) or (H, W, 3 or 4) in the order B, G, R, alpha -> (H, W), same type.

    Alpha is ignored. Equal colour channels give that channel exactly, otherwise the grey value is
    0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), rounded for integers.
    """
    if picture.ndim == 2:
        return picture
    if _equal_channels(picture):
        return picture[..., 0]
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(picture[..., :3]), cv2.COLOR_BGR2GRAY))


def colour_notes(picture: Pixels) -> tuple[str, ...]:
    """A note for a decoded picture with real colours, (H, W, 3 or 4): its grey values may not be counts.

    Real colours: the channels of more than a tenth of the pixels lie apart by more than a tenth of the range.
    Grey pictures that JPEG or a white balance tinted stay below that.
    """
    if picture.ndim == 2 or picture.dtype.kind != "u" or _equal_channels(picture):
        return ()
    colours = picture[..., :3]
    apart = colours.max(axis=2) - colours.min(axis=2)
    if float((apart > np.iinfo(picture.dtype).max / _COLOURED).mean()) <= 1 / _COLOURED:
        return ()
    return (
        "a picture in colours: their brightness (luma) is read, which follows the temperature only where the "
        "colours do not stand for it; save false-colour pictures again as grey counts",
    )


def _one_channel(array: Pixels, name: str) -> Pixels:
    if array.ndim == 2:
        return array
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise FrameError(
            f"{name}: a frame is a 2-D array (height, width), got shape {array.shape}; "
            "give each frame of a stack by itself"
        )
    if array.shape[2] == 1 or _equal_channels(array):
        return array[..., 0]
    raise FrameError(
        f"{name}: shape {array.shape} with unequal channels: RGB or BGR cannot be told apart; "
        "give one grey channel (height, width)"
    )


def _equal_channels(picture: Pixels) -> bool:
    first = picture[..., 0]
    return np.array_equal(first, picture[..., 1]) and np.array_equal(first, picture[..., 2])


def _finite(frame: Pixels, name: str) -> Pixels:
    if frame.dtype != np.float32:
        return frame
    finite = np.isfinite(frame)
    if not finite.any():
        raise FrameError(f"{name}: no pixel of {frame.size} is finite as float32; there is nothing to see")
    return filled(frame, finite)


def _remedy(dtype: np.dtype[Any]) -> str:
    return "save it as uint8, 0 and 255" if dtype.kind == "b" else "save the grey values as one of these"
