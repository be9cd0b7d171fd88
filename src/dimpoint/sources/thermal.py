"""Radiometric files: the sensor counts beside the 8-bit picture of a JPEG, and sequences of FLIR cameras.

FLIR keeps an FFF block (in APP1 segments of a JPEG; one after another in .seq and .csq files) whose record 1
holds the counts: as they are, as a PNG with swapped bytes, or as JPEG-LS. DJI keeps them in APP3 segments,
two bytes each. The layouts are those that ExifTool documents; the code is our own.
"""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np

from dimpoint import limits
from dimpoint.errors import FrameError, MissingExtraError
from dimpoint.sources.picture import OpenFile, Pages, Picture, Pixels, ReadOptions, picture_of

_FLIR = b"FLIR\0"
_FFF = (b"FFF\0", b"AFF\0")
_RAW_RECORD = 1
_LEAST_HIDDEN = 1 << 16  # bytes; less is a thumbnail
_DJI_SIZES = ((640, 512), (1280, 1024), (320, 256), (160, 120))  # width, height
_KNOWN = (b"Exif", b"http:", b"ICC_", b"MPF", b"Photoshop", b"JFIF", b"Adobe", b"Ducky")


def radiometric(parts: list[tuple[int, bytes]], size: tuple[int, int] | None, name: str) -> Pixels | None:
    """The counts, (H, W) uint16, that a JPEG carries beside its picture; None if it carries none.

    parts: its segments (marker, content). size: (width, height) of its picture.

    Raises FrameError if it carries what probably are counts and they cannot be read.
    """
    flir = [content for marker, content in parts if marker == 0xE1 and content.startswith(_FLIR)]
    if flir:
        ordered = sorted((content for content in flir if len(content) > 8), key=lambda part: part[6])
        return fff_counts(b"".join(part[8:] for part in ordered), name)
    dji = b"".join(content for marker, content in parts if marker == 0xE3)
    for width, height in (size, *_DJI_SIZES) if size is not None else ():
        if len(dji) == 2 * width * height:
            return np.frombuffer(dji, "<u2").reshape(height, width)
    others = sum(len(content) for marker, content in parts if _is_unknown(marker, content))
    if size is not None and others > max(size[0] * size[1], _LEAST_HIDDEN):
        raise FrameError(
            f"{name}: this JPEG carries {others:,} bytes beside its 8-bit picture, probably radiometric "
            "counts in a format that is not read; export 16-bit TIFF with the camera's software, or take the "
            "picture with --preview"
        )
    return None


def _is_unknown(marker: int, content: bytes) -> bool:
    return 0xE1 <= marker <= 0xEF and not content.startswith(_KNOWN)


def fff_counts(block: bytes, name: str) -> Pixels:
    """The counts of an FFF block, (H, W) uint16. Raises FrameError if it holds none that can be read."""
    try:
        order = ">" if 100 <= struct.unpack_from(">I", block, 0x14)[0] < 200 else "<"
        start, count = struct.unpack_from(order + "II", block, 0x18)
        for entry in range(min(count, 100)):
            kind, _, _, _, offset, length = struct.unpack_from(order + "HHIIII", block, start + 32 * entry)
            if kind == _RAW_RECORD and length > 32:
                return _raw_record(block[offset : offset + length], name)
    except (struct.error, ValueError) as error:
        said = str(error)[:60]
        raise FrameError(f"{name}: the FLIR block is damaged ({said}…); copy the file again") from None
    raise FrameError(
        f"{name}: a FLIR file whose thermal image cannot be read; export 16-bit TIFF with FLIR's software"
    )


def _raw_record(record: bytes, name: str) -> Pixels:
    order = "<" if struct.unpack_from("<H", record, 0)[0] < 0x100 else ">"
    width, height = struct.unpack_from(order + "HH", record, 2)
    data = record[32:]
    limits.check("frame_pixels", width * height, f"{name}: pixels", FrameError)
    if data.startswith(b"\x89PNG"):
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if picture is None or picture.dtype != np.uint16 or picture.ndim != 2:
            raise FrameError(f"{name}: the FLIR thermal image is damaged; copy the file again")
        return np.asarray(picture).byteswap()
    if data.startswith(b"\xff\xd8\xff"):
        counts = _jpeg_ls(data, name)
        if counts.shape != (height, width) or counts.dtype != np.uint16:
            raise FrameError(f"{name}: the FLIR thermal image is damaged; copy the file again")
        return counts
    if len(data) < 2 * width * height or not width * height:
        raise FrameError(f"{name}: the FLIR thermal image is cut off; copy the file again")
    return np.frombuffer(data, order + "u2", width * height).reshape(height, width)


def _jpeg_ls(data: bytes, name: str) -> Pixels:
    try:
        import imagecodecs
    except ImportError:
        raise MissingExtraError("a FLIR .csq file", "imagecodecs", "thermal") from None
    try:
        return np.asarray(imagecodecs.jpegls_decode(data))
    except (RuntimeError, ValueError) as error:
        said = str(error)[:60]
        raise FrameError(f"{name}: the FLIR thermal image is damaged ({said}); copy the file again") from None


def open_sequence(file: OpenFile, options: ReadOptions) -> Pages:
    """The frames of a FLIR .seq or .csq file."""
    data = file.read()
    starts = _starts(data)
    ends = [*starts[1:], len(data)]

    def read(number: int) -> Picture:
        return picture_of(
            fff_counts(data[starts[number] : ends[number]], f"{file.path}, frame {number}"), str(file.path)
        )

    return Pages(len(starts), read)


def is_sequence(path: Path, head: bytes) -> bool:
    return head.startswith(_FFF)


def _starts(data: bytes) -> list[int]:
    """Where the blocks begin: at a signature with a version in its header."""
    found = []
    for signature in _FFF:
        at = data.find(signature)
        while at >= 0:
            version = data[at + 0x14 : at + 0x18]
            if at == 0 or any(100 <= int.from_bytes(version, order) < 200 for order in ("big", "little")):
                found.append(at)
            at = data.find(signature, at + 4)
    return sorted(found)
