"""Pictures in colours -> one channel."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]
_COLOURED = 10  # see colour_notes


def grey_of_bgr(picture: Pixels) -> Pixels:
    """A decoded picture, (H, W) or (H, W, 3 or 4) in the order B, G, R, alpha -> (H, W), same type.

    Alpha is ignored. Equal colour channels give that channel exactly, otherwise the grey value is
    0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), rounded for integers.
    """
    if picture.ndim == 2:
        return picture
    if equal_channels(picture):
        return picture[..., 0]
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(picture[..., :3]), cv2.COLOR_BGR2GRAY))


def colour_notes(picture: Pixels) -> tuple[str, ...]:
    """A note for a decoded picture with real colours, (H, W, 3 or 4): its grey values may not be counts.

    Real colours: the channels of more than a tenth of the pixels lie apart by more than a tenth of the range.
    Grey pictures that JPEG or a white balance tinted stay below that.
    """
    if picture.ndim == 2 or picture.dtype.kind != "u" or equal_channels(picture):
        return ()
    colours = picture[..., :3]
    apart = colours.max(axis=2) - colours.min(axis=2)
    if float((apart > np.iinfo(picture.dtype).max / _COLOURED).mean()) <= 1 / _COLOURED:
        return ()
    return (
        "a picture in colours: their brightness (luma) is read, which follows the temperature only where the "
        "colours do not stand for it; save false-colour pictures again as grey counts",
    )


def equal_channels(picture: Pixels) -> bool:
    first = picture[..., 0]
    return np.array_equal(first, picture[..., 1]) and np.array_equal(first, picture[..., 2])
