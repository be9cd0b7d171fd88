"""The arrays of numbers in a MATLAB file of version 5 to 7.

Read here and not by a compiled parser, because damaged files can crash those. The format is in "MAT-File
Format" (MathWorks): elements of a type, a length and bytes, padded to 8; a matrix
is an element of such elements.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint import limits
from dimpoint.errors import FrameError

_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_HEADER = 128
_COMPLEX, _LOGICAL = 0x08, 0x02


def matlab_arrays(content: bytes, path: Path) -> dict[str, npt.NDArray[Any]]:
    """The real arrays in a file, by name; text, cells and structures are passed over.

    Raises FrameError for a damaged file and for one that unpacks to more than the limits allow.
    """
    mark = content[126:128]
    if mark not in (b"IM", b"MI"):
        raise FrameError(f"{path}: not a readable MATLAB file (no byte order)")
    order = "<" if mark == b"IM" else ">"
    found: dict[str, npt.NDArray[Any]] = {}
    try:
        for kind, body in _elements(content[_HEADER:], order):
            if kind == _COMPRESSED:
                body = _unpacked(body, path)
                kind, body = next(_elements(body, order))
            if kind == _MATRIX and (one := _matrix(body, order, path)) is not None:
                found[one[0]] = one[1]
    except (struct.error, zlib.error, ValueError, StopIteration) as error:
        raise FrameError(f"{path}: not a readable MATLAB file ({str(error)[:200] or 'cut'})") from None
    return found


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and bytes of each element."""
    place = 0
    while place + 8 <= len(content):
        (first, length) = struct.unpack_from(f"{order}II", content, place)
        small = first >> 16
        if small:  # up to four bytes stand in the tag itself
            if small > 4:
                raise ValueError("a damaged tag")
            yield first & 0xFFFF, content[place + 4 : place + 4 + small]
            place += 8
            continue
        body = content[place + 8 : place + 8 + length]
        if len(body) < length:
            raise ValueError("the file is cut")
        yield first, body
        place += 8 + length + (0 if first == _COMPRESSED else -length % 8)


def _unpacked(body: bytes, path: Path) -> bytes:
    unpacker = zlib.decompressobj()
    most = limits.limit("frame_bytes")
    content = unpacker.decompress(body, most)
    limits.check("frame_bytes", len(content) + bool(unpacker.unconsumed_tail), f"{path}: bytes", FrameError)
    limits.check_archive(len(body), len(content), str(path), FrameError)
    return content


def _matrix(body: bytes, order: str, path: Path) -> tuple[str, npt.NDArray[Any]] | None:
    """Name and array of a matrix; None if it is no array of real numbers."""
    parts = _elements(body, order)
    (flags,) = struct.unpack_from(f"{order}I", next(parts)[1])
    kind = _CLASSES.get(flags & 0xFF)
    if kind is None or (flags >> 8) & _COMPLEX:
        return None
    sides = np.frombuffer(next(parts)[1], f"{order}i4").tolist()
    if min(sides) < 0:
        return None
    name = next(parts)[1].decode("latin-1").rstrip("\0")
    count = int(np.prod(sides, dtype=object))
    limits.check("frame_pixels", count, f"{path}: numbers in {name[:80]}", FrameError)
    stored, numbers = next(parts)
    if stored not in _STORED:
        raise ValueError(f"numbers of the unknown type {stored}")
    array = np.frombuffer(numbers, f"{order}{_STORED[stored]}")
    if len(array) != count:
        raise ValueError(f"{len(array)} numbers for {' x '.join(map(str, sides))}")
    return name, array.astype("?" if flags >> 8 & _LOGICAL else kind).reshape(sides, order="F")
