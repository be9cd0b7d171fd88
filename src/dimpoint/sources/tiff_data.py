"""The strips and tiles of a TIFF page: what they unpack to, which are missing, which pixels are no data."""

from __future__ import annotations

import lzma
import math
import zlib
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dimpoint.errors import FrameError
from dimpoint.sources.arrays import Pixels

TiffPage: TypeAlias = Any  # tifffile.TiffPage: what it declares is wider than what a page holds

_GDAL_NODATA = 42113
_GEO_TAGS = (33550, 33922, 34264, 34735, 42112, _GDAL_NODATA)
_DEFLATE, _LZMA = (8, 32946), (34925,)
_SLACK = 1 << 16  # bytes; what is smaller cannot fill the memory


def is_sparse(page: TiffPage) -> bool:
    """Whether left-out strips or tiles are no data by the convention of GDAL, whose tags the page has."""
    return any(code in page.tags for code in _GEO_TAGS)


def check_segments(page: TiffPage, name: str) -> None:
    """Refuse a strip or tile that unpacks to more than its pixels need, before it is unpacked in memory.

    Other decoders than these two are told how much to give at most.
    """
    if int(page.compression) not in _DEFLATE + _LZMA:
        return
    most = _segment_bytes(page) + _SLACK
    handle = page.parent.filehandle
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if count <= _SLACK // 1024:
            continue
        handle.seek(offset)
        if _unpacks_beyond(handle.read(count), most, int(page.compression) in _LZMA):
            raise FrameError(
                f"{name}: a strip or tile unpacks to more than the {most - _SLACK:,} bytes of its pixels; "
                "the file is damaged or made to fill the memory"
            )


def _segment_bytes(page: TiffPage) -> int:
    samples = int(page.samplesperpixel) if int(page.planarconfig) == 1 else 1
    rows, columns = _segment_size(page)
    return math.ceil(rows * columns * samples * int(page.bitspersample) / 8)


def _segment_size(page: TiffPage) -> tuple[int, int]:
    """Rows and columns of a strip or tile."""
    if page.is_tiled:
        return int(page.tilelength), int(page.tilewidth)
    return min(int(page.rowsperstrip), int(page.imagelength)), int(page.imagewidth)


def _unpacks_beyond(data: bytes, most: int, is_lzma: bool) -> bool:
    """Whether more than `most` bytes come out; damage is left to the decoder."""
    try:
        if is_lzma:
            return len(lzma.LZMADecompressor().decompress(data, most + 1)) > most
        unpacker = zlib.decompressobj()
        total = 0
        while data and total <= most:  # in pieces, so that the check itself takes no memory
            total += len(unpacker.decompress(data, 1 << 20))
            data = unpacker.unconsumed_tail
        return total > most
    except (zlib.error, lzma.LZMAError, EOFError):
        return False


def valid_pixels(page: TiffPage, grey: Pixels) -> npt.NDArray[np.bool_] | None:
    """(H, W) bool, False for no-data values and for pixels of left-out parts; None if all are measured."""
    valid = np.ones(grey.shape, np.bool_)
    value = _nodata(page)
    if value is not None:
        valid &= grey != np.array(value).astype(grey.dtype) if grey.dtype.kind == "f" else grey != value
        if grey.dtype.kind == "f" and abs(value) > 1e30:  # written with too few digits
            valid &= ~np.isclose(grey, value, rtol=1e-5, atol=0)
    if 0 in page.databytecounts:
        _leave_out_missing(page, valid)
    return None if valid.all() else valid


def _nodata(page: TiffPage) -> float | None:
    tag = page.tags.get(_GDAL_NODATA)
    try:
        return None if tag is None else float(str(tag.value).strip("\0 "))
    except ValueError:
        return None


def _leave_out_missing(page: TiffPage, valid: npt.NDArray[np.bool_]) -> None:
    rows, columns = _segment_size(page)
    across = math.ceil(page.imagewidth / columns)
    each_plane = across * math.ceil(page.imagelength / rows)
    for number, count in enumerate(page.databytecounts):
        if count == 0:
            down, right = divmod(number % each_plane, across)
            valid[down * rows : (down + 1) * rows, right * columns : (right + 1) * columns] = False
