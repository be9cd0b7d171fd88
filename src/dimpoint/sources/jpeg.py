"""JPEG files: is the picture whole, which way is it turned, which data does it carry beside the picture?"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

import numpy as np
import simplejpeg

from dimpoint.sources.arrays import Pixels

SIGNATURE = b"\xff\xd8\xff"
_END = 0xD9
# Within coded data 0xFF is followed by a stuffed zero or by a restart marker; anything else is a marker.
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
_FRAME_MARKERS = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
_HARMLESS = re.compile(r"Unsupported|unsupported|colorspace|CMYK|YCCK|precision|arithmetic", re.IGNORECASE)
_ORIENTATION = 0x0112


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The segments of a JPEG file up to its picture: (marker, content)."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in (0xDA, _END):
            return
        length = int.from_bytes(data[position + 2 : position + 4])
        yield marker, data[position + 4 : position + 2 + length]
        position += 2 + max(length, 2)


def damage(data: bytes) -> str | None:
    """Why a JPEG is not a whole picture, in words; None if it is whole.

    Decoders go on after damage and show displaced blocks. What libjpeg warns of is damage here.
    """
    if not _ends(data):
        return f"the JPEG is truncated: it ends after {len(data)} bytes, without an end marker"
    try:
        simplejpeg.decode_jpeg(data, colorspace="GRAY", strict=True)
    except ValueError as error:
        if _HARMLESS.search(str(error)) is None:
            return f"the JPEG is damaged ({error})"
    return None


def _ends(data: bytes) -> bool:
    """Walk the segments, whose thumbnails may hold end markers of their own, up to the end marker."""
    position = 2
    while marker := _MARKER.search(data, position):
        if marker[1][0] == _END:
            return True
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
    return False


def size(data: bytes) -> tuple[int, int] | None:
    """(width, height) by the header."""
    for marker, content in segments(data):
        if marker in _FRAME_MARKERS and len(content) >= 5:
            return int.from_bytes(content[3:5]), int.from_bytes(content[1:3])
    return None


def orientation(data: bytes) -> int:
    """The EXIF orientation of a JPEG, 1 to 8; 1, as it stands, where there is none."""
    for marker, content in segments(data):
        if marker == 0xE1 and content.startswith(b"Exif\0\0"):
            return exif_orientation(content[6:])
    return 1


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
            if tag == _ORIENTATION:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def turned(picture: Pixels, orientation: int) -> Pixels:
    """A picture, (H, W) or (H, W, C), turned as its EXIF orientation asks."""
    if orientation in (5, 6, 7, 8):
        picture = picture.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    return np.ascontiguousarray(picture)
