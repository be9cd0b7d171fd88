"""Orientation tags of EXIF data and TIFF files: what they ask for, and pictures turned by them."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.errors import FrameError
from dimpoint.sources.picture import ReadOptions

ORIENTATION = 0x0112
_TURNED = (
    "labels may refer to the pixels as stored or to the turned picture: say --orientation stored or upright"
)


def exif_orientation(exif: bytes) -> int:
    """The orientation in a block of EXIF data, which is a TIFF header; 1 if it is damaged or has none."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        if order is None:
            return 1
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, start)
        for entry in range(min(count, 1000)):
            tag, _, _, value = struct.unpack_from(order + "HHIH", exif, start + 2 + 12 * entry)
            if tag == ORIENTATION:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def chosen_turn(orientation: int, name: str, options: ReadOptions, notes: list[str]) -> int:
    """The orientation by which to turn a picture: its own for `upright`, else 1; a note if none is chosen.

    Raises FrameError, which names the picture by `name`, if one must be chosen and is not.
    """
    if orientation == 1:
        return 1
    if options.orientation is None and options.refuse_turned:
        raise FrameError(f"{name}: the picture has EXIF orientation {orientation}; {_TURNED}")
    if options.orientation is None:
        notes.append(
            f"the picture has EXIF orientation {orientation}; positions are of the pixels as stored "
            "(--orientation upright turns it)"
        )
    return orientation if options.orientation == "upright" else 1


def turned(picture: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """A picture, (H, W) or (H, W, C), turned as its EXIF orientation asks."""
    if orientation in (5, 6, 7, 8):
        picture = picture.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    return np.ascontiguousarray(picture)
