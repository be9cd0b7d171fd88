"""PNG, JPEG, BMP, PGM, PPM and WebP files -> pictures, decoded by OpenCV.

Is the file whole? Some decoders fill a truncated picture with grey and say nothing.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from dimpoint import limits
from dimpoint.errors import FrameError
from dimpoint.sources.colours import one_channel
from dimpoint.sources.files import SUPPORTED_IMAGES
from dimpoint.sources.orientation import chosen_turn, exif_orientation, turned
from dimpoint.sources.picture import PLAIN, OpenFile, Pages, Picture, Pixels, ReadOptions, picture_of
from dimpoint.sources.thermal import radiometric

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNM = re.compile(rb"P[2356]\s")
_PNM_HEADER = re.compile(rb"P([2356])" + 3 * rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,12})" + rb"\s")
_NEXT_PNM = re.compile(rb"\s*P[1-6]\s")
_NEXT_TEXT_PNM = re.compile(rb"^P[1-6]\s", re.MULTILINE)
_BMP_HEADERS = (40, 52, 56, 64, 108, 124)
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type, as decoded
JPEG_SIGNATURE = b"\xff\xd8\xff"
_JPEG_END = 0xD9
# Within coded data 0xFF is followed by a stuffed zero or by a restart marker; anything else is a marker.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
_FRAME_MARKERS = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
_HARMLESS = re.compile(r"Unsupported|unsupported|colorspace|CMYK|YCCK|precision|arithmetic", re.IGNORECASE)


def is_image(path: Path, head: bytes) -> bool:
    """Whether a file begins like one of these kinds."""
    is_webp = head.startswith(b"RIFF") and head[8:12] == b"WEBP"
    signatures = (PNG_SIGNATURE, JPEG_SIGNATURE, b"BM")
    return head.startswith(signatures) or is_webp or _PNM.match(head) is not None


def open_image(file: OpenFile, options: ReadOptions) -> Pages:
    """The one picture of a file; of a radiometric JPEG the counts, unless `options.preview`."""
    return Pages(1, lambda _: _picture(file.path, file.read(), options))


def _picture(path: Path, data: bytes, options: ReadOptions) -> Picture:
    notes: list[str] = []
    if data.startswith(JPEG_SIGNATURE):
        parts = list(jpeg_segments(data))
        counts = None if options.preview else radiometric(parts, jpeg_size(data), str(path))
        if counts is not None:
            notes.append("radiometric counts are read, not the 8-bit picture")
            counts = _turned(path, data, counts, options, notes)
            return picture_of(counts, str(path), notes=tuple(notes))
    picture = _turned(path, data, _decode(path, data, options, notes), options, notes)
    grey, said = one_channel(picture, str(path), options.colour)
    return picture_of(grey, str(path), notes=(*notes, *said))


def stored_colours(file: OpenFile, options: ReadOptions = PLAIN) -> Pixels | None:
    """A picture as it stands: (H, W), or (H, W, 3 or 4) in the order B, G, R, alpha; turned as `options` ask.

    None if the file is of another kind. Raises FrameError as `read_image` does.
    """
    if not is_image(file.path, file.head):
        return None
    data = file.read()
    return _turned(file.path, data, _decode(file.path, data, options, []), options, [])


def _turned(path: Path, data: bytes, picture: Pixels, options: ReadOptions, notes: list[str]) -> Pixels:
    return turned(picture, chosen_turn(_orientation(data), str(path), options, notes))


def _decode(path: Path, data: bytes, options: ReadOptions, notes: list[str]) -> Pixels:
    _check_size(path, data)
    if _holds_several(data):
        raise FrameError(f"{path}: holds several pictures, where one is expected; save each as a file")
    if _is_cut(data):
        raise FrameError(f"{path}: the picture is truncated: it ends after {len(data)} bytes; copy it again")
    if fault := damage(data):
        if not options.accept_damaged:
            raise FrameError(f"{path}: {fault}; copy or save it again, or take it with --accept-damaged")
        notes.append(f"{fault}, and taken all the same")
    try:
        # Decoding from memory: unlike imread it takes any path and reports what it cannot finish.
        picture = cv2.imdecode(np.frombuffer(_unscaled(data), np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise FrameError(f"{path}: cannot be decoded ({error.err}); {SUPPORTED_IMAGES} are read") from None
    if _is_animated(data):
        notes.append(
            "an animated picture: its first frame is read; save each as a file of its own, or as a video"
        )
    if picture is None:
        raise FrameError(f"{path}: damaged, or of a kind that is not read; copy it again or save it as PNG")
    return np.asarray(picture)


def _unscaled(data: bytes) -> bytes:
    """A text PGM or PPM whose counts OpenCV does not scale to 255, and whose last number ends."""
    header = _PNM_HEADER.match(data)
    if header is None or header[1] not in b"23":
        return data
    most = b"255" if 0 < int(header[4]) < 255 else header[4]
    return data[: header.start(4)] + most + data[header.end(4) :] + b"\n"


def _holds_several(data: bytes) -> bool:
    """Whether a PGM or PPM file holds one picture after another."""
    header = _PNM_HEADER.match(data)
    if header is None:
        return False
    if header[1] in b"23":
        return _NEXT_TEXT_PNM.search(data, header.end()) is not None
    return _NEXT_PNM.match(data, header.end() + _raster_bytes(header)) is not None


def _is_cut(data: bytes) -> bool:
    """Whether a BMP, PGM or PPM file is shorter than its header says."""
    if data.startswith(b"BM") and len(data) >= 34:
        start, kind, width, height, _, bits, packing = struct.unpack_from("<IIiiHHI", data, 10)
        rows = (width * bits + 31) // 32 * 4 * abs(height)
        return kind in _BMP_HEADERS and packing in (0, 3) and len(data) < start + rows
    header = _PNM_HEADER.match(data)
    if header is None:
        return False
    if header[1] in b"23":
        is_space = np.frombuffer(data, np.uint8, offset=header.end() - 1) <= ord(" ")
        return int(np.count_nonzero(is_space[:-1] & ~is_space[1:])) < _raster_bytes(header)
    return len(data) < header.end() + _raster_bytes(header)


def _raster_bytes(header: re.Match[bytes]) -> int:
    """The bytes of the counts of a binary PGM or PPM; of a text file how many counts there are."""
    kind, width, height, most = map(int, header.groups())
    wide = kind in (5, 6) and most > 255
    return width * height * (3 if kind in (3, 6) else 1) * (2 if wide else 1)


def _is_animated(data: bytes) -> bool:
    """Whether a PNG or WebP file holds several pictures."""
    if data.startswith(PNG_SIGNATURE):
        return b"acTL" in data[: data.find(b"IDAT")]
    return data[8:16] == b"WEBPVP8X" and bool(data[20] & 2)


def _check_size(path: Path, data: bytes) -> None:
    """Refuse by the header what would take more memory than a frame may."""
    width = height = channels = 0
    try:
        if data.startswith(PNG_SIGNATURE):
            width, height, depth, colours = struct.unpack_from(">IIBB", data, 16)
            channels = _PNG_CHANNELS.get(colours, 4) * (2 if depth == 16 else 1)
        elif data.startswith(JPEG_SIGNATURE):
            width, height = jpeg_size(data) or (0, 0)
        elif data.startswith(b"BM"):
            kind, width, height = struct.unpack_from("<Iii", data, 14)
            if kind not in _BMP_HEADERS:
                return
            width, height = abs(width), abs(height)
        elif header := _PNM_HEADER.match(data):
            width, height = int(header[2]), int(header[3])
    except (struct.error, ValueError):
        return  # the decoder says what is wrong
    limits.check("frame_pixels", width * height, f"{path}: {width} x {height} pixels", FrameError)
    limits.check("frame_bytes", width * height * channels, f"{path}: bytes of the picture", FrameError)


def _orientation(data: bytes) -> int:
    if data.startswith(JPEG_SIGNATURE):
        return jpeg_orientation(data)
    if data.startswith(PNG_SIGNATURE) and (at := data.find(b"eXIf")) > 0:
        return exif_orientation(data[at + 4 : at + 4 + int.from_bytes(data[at - 4 : at])])
    return webp_orientation(data) if data[8:12] == b"WEBP" else 1


def damage(data: bytes) -> str | None:
    """Why the bytes of a PNG or JPEG file are not a whole picture; None if they are, or are neither."""
    if data.startswith(PNG_SIGNATURE):
        return _png_damage(data)
    return jpeg_damage(data) if data.startswith(JPEG_SIGNATURE) else None


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


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The segments of a JPEG file up to its picture: (marker, content)."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in (0xDA, _JPEG_END):
            return
        length = int.from_bytes(data[position + 2 : position + 4])
        yield marker, data[position + 4 : position + 2 + length]
        position += 2 + max(length, 2)


def jpeg_damage(data: bytes) -> str | None:
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
    while marker := _JPEG_MARKER.search(data, position):
        if marker[1][0] == _JPEG_END:
            return True
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
    return False


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) by the header."""
    for marker, content in jpeg_segments(data):
        if marker in _FRAME_MARKERS and len(content) >= 5:
            return int.from_bytes(content[3:5]), int.from_bytes(content[1:3])
    return None


def jpeg_orientation(data: bytes) -> int:
    """The EXIF orientation of a JPEG, 1 to 8; 1, as it stands, where there is none."""
    for marker, content in jpeg_segments(data):
        if marker == 0xE1 and content.startswith(b"Exif\0\0"):
            return exif_orientation(content[6:])
    return 1


def webp_orientation(data: bytes) -> int:
    """The EXIF orientation of a WebP file, 1 to 8; 1, as it stands, where there is none."""
    place = 12
    while place + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, place)
        if kind == b"EXIF":
            return exif_orientation(data[place + 8 : place + 8 + length].removeprefix(b"Exif\0\0"))
        place += 8 + length + length % 2
    return 1
