"""Is a PNG or JPEG file whole? Some decoders fill a truncated picture with grey and say nothing."""

from __future__ import annotations

import re
import struct
import zlib

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
_JPEG_END = 0xD9
# Within coded data 0xFF is followed by a stuffed zero or by a restart marker; anything else is a marker.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")


def damage(data: bytes) -> str | None:
    """Why the bytes of a PNG or JPEG file are not a whole picture; None if they are, or are neither."""
    if data.startswith(PNG_SIGNATURE):
        return _png_damage(data)
    if data.startswith(JPEG_SIGNATURE):
        return _jpeg_damage(data)
    return None


def _png_damage(data: bytes) -> str | None:
    """Walk the chunks (length, type, data, CRC) up to IEND and check those that a decoder needs."""
    view = memoryview(data)
    start = len(PNG_SIGNATURE)
    while start + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length
        if end > len(data):
            break
        if kind == b"IHDR" and bytes(4) in (data[start + 8 : start + 12], data[start + 12 : start + 16]):
            return "the picture is empty: its width or height is 0"
        critical = not kind[0] & 0x20
        if critical and zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            return f"the PNG is damaged at byte {start} (wrong checksum)"
        if kind == b"IEND":
            return None
        start = end
    return f"the PNG is truncated: it ends after {len(data)} bytes, before the end of the picture"


def _jpeg_damage(data: bytes) -> str | None:
    """Walk the segments, whose thumbnails may hold end markers of their own, up to the end marker."""
    position = 2
    while marker := _JPEG_MARKER.search(data, position):
        if marker[1][0] == _JPEG_END:
            return None
        length = int.from_bytes(data[marker.end() : marker.end() + 2])
        position = marker.end() + length
    return f"the JPEG is truncated: it ends after {len(data)} bytes, without an end marker"
