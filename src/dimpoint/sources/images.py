"""One image file -> one frame.

Is a PNG or JPEG file whole? Some decoders fill a truncated picture with grey and say nothing.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from dimpoint.errors import FrameError
from dimpoint.sources.arrays import Pixels, as_frame, grey_of_bgr
from dimpoint.sources.files import SUPPORTED_IMAGES, VIDEO_SUFFIXES, is_regular
from dimpoint.sources.tiff import TIFF_SIGNATURES, read_pages

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


_NPY_SIGNATURE = b"\x93NUMPY"
_OPENCV_SIGNATURES = (PNG_SIGNATURE, JPEG_SIGNATURE, b"BM")


def read_image(path: str | os.PathLike[str]) -> Pixels:
    """Read a PNG, JPEG, BMP, TIFF (its first page) or .npy file as a frame.

    Returns (H, W) uint8, uint16 or float32, the counts as stored: 16 bits stay 16 bits, and fewer than
    8 are spread over 0..255. Colour, palette and alpha become one channel by `grey_of_bgr`: alpha
    ignored, equal channels exactly that channel, else BT.601 grey. A .npy file follows `as_frame`. What
    the file holds is told from its content, not from its name.

    Orientation tags (EXIF, TIFF) are not applied: coordinates, masks and labels refer to the pixels as
    stored. Neither are gamma and colour profiles.

    Raises FrameError, which names the file, for what is missing, unreadable, damaged or no picture.
    """
    path = Path(path)
    head = file_head(path)
    if head.startswith(_OPENCV_SIGNATURES):
        return as_frame(grey_of_bgr(read_colours(path)), str(path))
    if head.startswith(TIFF_SIGNATURES):
        with closing(read_pages(path)) as pages:
            return next(pages)[1]
    if head.startswith(_NPY_SIGNATURE):
        return as_frame(read_npy(path), str(path))
    if not head:
        raise FrameError(f"{path}: the file is empty; a picture is right: {SUPPORTED_IMAGES}")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise FrameError(f"{path}: a video, where one picture is expected: {SUPPORTED_IMAGES}")
    raise FrameError(f"{path}: not a picture, whatever its name says; what is read: {SUPPORTED_IMAGES}")


def file_head(path: Path) -> bytes:
    """The first bytes of a file; FrameError if it is not there, may not be read, or is a pipe or device."""
    try:
        if path.exists() and not path.is_dir() and not is_regular(path):  # opening a pipe waits for a writer
            raise FrameError(f"{path}: a pipe, socket or device, where a file is expected")
        with path.open("rb") as file:
            return file.read(16)
    except OSError as error:
        raise _unreadable(path, error) from None


def is_tiff(path: Path) -> bool:
    """Whether a file's content is TIFF; FrameError as `file_head`."""
    return file_head(path).startswith(TIFF_SIGNATURES)


def _unreadable(path: Path, error: OSError) -> FrameError:
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return FrameError(f"{path}: a link to {path.readlink()}, which is not there")
    if isinstance(error, FileNotFoundError):
        return FrameError(f"{path}: no such file")
    if isinstance(error, IsADirectoryError) or path.is_dir():
        return FrameError(f"{path}: a folder, where a file is expected")
    if isinstance(error, PermissionError):
        return FrameError(f"{path}: no permission to read it; check the file's access rights")
    return FrameError(f"{path}: cannot be read: {error.strerror or error}")


def read_npy(path: Path) -> Pixels:
    """The array of a .npy file as it stands; FrameError if it is damaged or holds objects.

    The file is mapped, so that a header that claims more than the file holds takes no memory.
    """
    file_head(path)
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise _unreadable(path, error) from None
    except Exception as error:  # a hostile header can make numpy's parser raise nearly anything
        raise FrameError(
            f"{path}: not a readable .npy file ({error}); "
            "save a 2-D uint8, uint16 or float32 array with numpy.save"
        ) from None
    return np.asarray(array)


def has_colours(path: Path) -> bool:
    """Whether a file is of a kind that `read_colours` reads: PNG, JPEG or BMP."""
    return file_head(path).startswith(_OPENCV_SIGNATURES)


def read_colours(path: Path) -> Pixels:
    """A PNG, JPEG or BMP file as it stands: (H, W), or (H, W, 3 or 4) in the order B, G, R, alpha.

    Raises FrameError as `read_image` does.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    if fault := damage(data):
        raise FrameError(f"{path}: {fault}; copy or save it again")
    try:
        # Decoding from memory: unlike imread it takes any path and reports what it cannot finish.
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise FrameError(f"{path}: cannot be decoded ({error.err}); {SUPPORTED_IMAGES} are read") from None
    if picture is None:
        raise FrameError(f"{path}: damaged, or of a kind that is not read; copy it again or save it as PNG")
    return np.asarray(picture)
