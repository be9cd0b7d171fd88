"""TIFF files -> frames, page by page.

One page of a TIFF file -> one frame.

White-is-zero pages are inverted, as their tag asks (not float32, which has no white). Palettes are looked
up with the upper byte of their 16-bit entries, as libtiff does. Compressions that tifffile cannot decode
without imagecodecs (LZW, JPEG, CCITT) go through OpenCV, where it is known to give the stored counts.
"""

from __future__ import annotations

import logging
import lzma
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import tifffile
from tifffile import EXTRASAMPLE, PHOTOMETRIC

from dimpoint import limits
from dimpoint.errors import DimpointError, FrameError
from dimpoint.sources.colours import equal_channels, one_channel
from dimpoint.sources.georeference import georeference_of
from dimpoint.sources.orientation import ORIENTATION, chosen_turn, turned
from dimpoint.sources.picture import (
    PLAIN,
    OpenFile,
    Pages,
    Picture,
    Pixels,
    ReadOptions,
    frame_dtype,
    picture_of,
)

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong with a file is raised and told once

TiffPage: TypeAlias = Any  # tifffile.TiffPage: what it declares is wider than what a page holds

_COLOURS = {
    PHOTOMETRIC.MINISBLACK: 1,
    PHOTOMETRIC.MINISWHITE: 1,
    PHOTOMETRIC.PALETTE: 1,
    PHOTOMETRIC.RGB: 3,
    PHOTOMETRIC.YCBCR: 3,
}
_ALPHA = (EXTRASAMPLE.ASSOCALPHA, EXTRASAMPLE.UNASSALPHA)
_GDAL_NODATA = 42113
_GEO_TAGS = (33550, 33922, 34264, 34735, 42112, _GDAL_NODATA)
_DEFLATE, _LZMA = (8, 32946), (34925,)
_SLACK = 1 << 16  # bytes; what is smaller cannot fill the memory


def read_page(
    page: TiffPage, name: str, path: str, options: ReadOptions = PLAIN, mask: TiffPage | None = None
) -> Picture:
    """Decode a page as `read_image` says; FrameError, which names it by `name`, if it is no frame.

    mask: the page that says which pixels are measured. Pixels of the GDAL no-data value, and strips and tiles
    that were left out, are no measurements.
    """
    _check_header(page, name, options)
    _check_channels(page, name)
    picture, counts = _decoded(page, name, path)
    measured = None if mask is None else _measured(mask, name, options)
    return _picture(page, picture, counts, name, options, measured)


def _decoded(page: TiffPage, name: str, path: str) -> tuple[Pixels, Pixels]:
    """A page as `_bgr` gives it, and its counts as stored."""
    if page.photometric != PHOTOMETRIC.YCBCR:  # tifffile would not convert it to RGB
        try:
            _check_segments(page, name)
            counts = _channels(page, page.asarray())
            return _bgr(page, counts), counts
        except (ValueError, ImportError) as error:
            if not _lacks_codec(error):
                raise
    picture = _decode_with_opencv(page, name, path)
    return picture, _inverted(page, picture)


def _picture(
    page: TiffPage,
    picture: Pixels,
    counts: Pixels,
    name: str,
    options: ReadOptions,
    measured: npt.NDArray[np.bool_] | None = None,
) -> Picture:
    """The frame of a decoded page. picture: as `_bgr` gives it. counts: the same pixels as stored."""
    grey, said = one_channel(picture, name, options.colour)
    notes: list[str] = []
    turn = chosen_turn(_orientation(page), name, options, notes)
    if page.axes == "SYX" and picture.ndim == 3 and not equal_channels(picture):
        notes.append(
            "three planes, red, green and blue, are read as one picture; if they are frames of a stack, save "
            "each as a page (tifffile: photometric='minisblack')"
        )
    valid = _valid_pixels(page, counts)
    if measured is not None and measured.shape == grey.shape:
        valid = measured if valid is None else valid & measured
    elif measured is not None:
        notes.append(f"its mask has another size, {measured.shape}, and is left out")
    geo, told = georeference_of(page)
    if turn != 1 and geo is not None:
        geo, told = None, ("it was turned upright: its detections have no positions on the map",)
    valid = valid if valid is None else turned(valid, turn)
    return replace(picture_of(turned(grey, turn), name, valid, (*notes, *said, *told)), geo=geo)


def _orientation(page: TiffPage) -> int:
    tag = page.tags.get(ORIENTATION)
    return tag.value if tag is not None and tag.value in range(2, 9) else 1


def _measured(mask: TiffPage, name: str, options: ReadOptions) -> npt.NDArray[np.bool_]:
    """(H, W) bool, False for the pixels that a mask page leaves out."""
    _check_header(mask, name, options)
    try:
        _check_segments(mask, name)
        return np.asarray(mask.asarray() != 0)
    except (ValueError, ImportError) as error:
        if not _lacks_codec(error):
            raise
        raise FrameError(
            f"{name}: its mask has {mask.compression.name} compression: install imagecodecs"
        ) from None


def _check_header(page: TiffPage, name: str, options: ReadOptions) -> None:
    """Refuse what is empty, cut off, too large for one array, or holds no counts."""
    size = f"{page.imagewidth} x {page.imagelength}"
    if page.imagewidth * page.imagelength == 0:
        raise FrameError(f"{name}: the picture is empty: {size} pixels")
    limits.check("frame_pixels", page.imagewidth * page.imagelength, f"{name}: {size} pixels", FrameError)
    file_size = page.parent.filehandle.size
    if 0 in page.databytecounts and not (options.accept_damaged or _is_sparse(page)):
        missing = sum(count == 0 for count in page.databytecounts)
        raise FrameError(
            f"{name}: {missing} of {len(page.databytecounts)} parts of the picture are not in the file: it "
            "was not written to its end, or parts without data were left out; --accept-damaged takes them as "
            "no data"
        )
    if not any(page.databytecounts):
        raise FrameError(f"{name}: the TIFF holds no data for its picture; copy or save it again")
    ends = (start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True))
    if max(ends, default=0) > file_size:
        raise FrameError(
            f"{name}: the TIFF is truncated: it ends after {file_size} bytes, within its picture"
        )
    if page.dtype is None or page.bitspersample not in (1, 8, 10, 12, 14, 16, 32, 64):
        raise FrameError(f"{name}: {page.bitspersample} bits per count; save 8 or 16 bits, or float32")
    if page.bitspersample > 1:
        frame_dtype(page.dtype, name)


def _check_channels(page: TiffPage, name: str) -> None:
    """Refuse all but grey, palette and colour, each with or without alpha."""
    colours = _COLOURS.get(page.photometric)
    if colours is None or page.imagedepth != 1:
        kind = getattr(page.photometric, "name", page.photometric)
        raise FrameError(f"{name}: a TIFF of kind {kind}; save it as grey or RGB")
    extra = page.samplesperpixel - colours
    # The fourth channel of RGB is alpha even if the writer did not say so, as OpenCV does not.
    is_alpha = extra == 1 and (colours == 3 or (page.extrasamples and page.extrasamples[0] in _ALPHA))
    if extra != 0 and not is_alpha:
        raise FrameError(f"{name}: {page.samplesperpixel} channels; a frame has one, or RGB and alpha")


def _channels(page: TiffPage, stored: Pixels) -> Pixels:
    """tifffile's array of a page -> (H, W), or (H, W, 3) of RGB, without alpha."""
    if page.axes == "SYX":
        stored = np.moveaxis(stored, 0, 2)
    if page.photometric == PHOTOMETRIC.RGB:
        return stored[..., :3]
    return stored[..., 0] if stored.ndim == 3 else stored


def _bgr(page: TiffPage, counts: Pixels) -> Pixels:
    """Counts as `_channels` gives them -> (H, W) or (H, W, 3) in the order B, G, R, white at the top."""
    if page.photometric == PHOTOMETRIC.RGB:
        return counts[..., ::-1]
    if page.photometric == PHOTOMETRIC.PALETTE:
        table = page.colormap if page.colormap.max() < 256 else page.colormap >> 8
        return np.asarray(table.astype(np.uint8).T[counts.astype(np.intp), ::-1])
    grey = _inverted(page, counts)
    return grey * np.uint8(255) if grey.dtype == np.bool_ else grey


def _inverted(page: TiffPage, counts: Pixels) -> Pixels:
    """The counts of a white-is-zero page turned around, and back again; others as they are."""
    if page.photometric != PHOTOMETRIC.MINISWHITE or counts.dtype.kind not in "bu":
        return counts
    if page.bitspersample in (10, 12, 14):
        return np.asarray(counts.dtype.type(2**page.bitspersample - 1) - counts)
    return np.invert(counts)


def _lacks_codec(error: Exception) -> bool:
    complaints = ("imagecodecs", "not supported")  # the second in older versions
    return isinstance(error, ImportError) or any(words in str(error) for words in complaints)


def _decode_with_opencv(page: TiffPage, name: str, path: str) -> Pixels:
    """(H, W) or (H, W, 3 or 4) as `_bgr`, refused where OpenCV would turn or darken the picture."""
    remedy = f"{page.compression.name} compression: install imagecodecs, or save it uncompressed"
    if "Orientation" in page.tags and page.tags["Orientation"].value != 1:
        raise FrameError(f"{name}: an orientation tag with {remedy}")
    _, pictures = cv2.imreadmulti(path, start=page.index, count=1, flags=cv2.IMREAD_UNCHANGED)
    if not pictures:
        raise FrameError(f"{name}: damaged, or {remedy}")
    picture: Pixels = np.asarray(pictures[0])
    stored = np.dtype(np.uint8) if page.dtype == np.bool_ else page.dtype
    if picture.shape[:2] != (page.imagelength, page.imagewidth) or picture.dtype != stored:
        raise FrameError(f"{name}: {remedy}")
    if _is_premultiplied(picture):
        raise FrameError(f"{name}: colours with alpha and {remedy}")
    return picture if picture.dtype == np.uint8 else _inverted(page, picture)  # OpenCV inverts 8 bits only


def _is_premultiplied(picture: Pixels) -> bool:
    """OpenCV multiplies 8-bit colours by their alpha, which is harmless only where that is 255."""
    return (
        picture.ndim == 3
        and picture.shape[2] == 4
        and picture.dtype == np.uint8
        and picture[..., 3].min() < 255
    )


TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_tiff(file: OpenFile, options: ReadOptions) -> Pages:
    """The pages of a TIFF file, each with the mask behind it; previews are left out."""
    path = str(file.path)
    file.stream.seek(0)
    with _reported(path):
        tif = tifffile.TiffFile(file.stream, name=path)
        stack = _implied_stack(tif, path, options)
    if stack is not None:
        return stack
    with _reported(path):
        pages = _frame_pages(tif, path)

    def read(number: int) -> Picture:
        name = f"{path}, page {number}" if len(pages) > 1 else path
        page, mask = pages[number]
        with _reported(name):
            return read_page(tif.pages[page], name, path, options, None if mask is None else tif.pages[mask])

    return Pages(len(pages), read)


@contextmanager
def _reported(name: str) -> Iterator[None]:
    """Turn whatever a damaged file makes the parser raise into a FrameError."""
    try:
        yield
    except DimpointError:
        raise
    except Exception as error:
        raise FrameError(
            f"{name}: the TIFF is damaged ({str(error)[:200]}); copy or save it again"
        ) from error


def _frame_pages(tif: tifffile.TiffFile, path: str) -> list[tuple[int, int | None]]:
    """The positions of the pages that are pictures of their own, each with that of its mask."""
    pages: list[tuple[int, int | None]] = []
    every: Iterator[TiffPage] = iter(tif.pages)
    for number, page in enumerate(every):
        if not (page.is_reduced or page.is_mask):
            pages.append((number, None))
        elif pages and not page.is_reduced:
            pages[-1] = (pages[-1][0], number)
    if not pages:
        raise FrameError(f"{path}: the TIFF holds no picture, or is truncated; copy it again")
    return pages


def _implied_stack(tif: tifffile.TiffFile, path: str, options: ReadOptions) -> Pages | None:
    """The stack of a file that lists one page for many, as ImageJ does above 4 GB."""
    if len(tif.pages) != 1 or not (tif.is_imagej or tif.is_shaped):
        return None
    page: TiffPage = tif.pages[0]
    series = tif.series[0]
    if series.size == page.size:
        return None
    if series.dataoffset is None or page.ndim != 2:
        raise FrameError(f"{path}: the TIFF lists one page for many; save each as a page")
    dtype = page.dtype.newbyteorder(tif.byteorder)
    stack = np.memmap(path, dtype, "r", series.dataoffset, (series.size // page.size, *page.shape))

    def read(number: int) -> Picture:
        counts = np.asarray(stack[number])
        return _picture(page, _bgr(page, counts), counts, f"{path}, page {number}", options)

    return Pages(len(stack), read)


def _is_sparse(page: TiffPage) -> bool:
    """Whether left-out strips or tiles are no data by the convention of GDAL, whose tags the page has."""
    return any(code in page.tags for code in _GEO_TAGS)


def _check_segments(page: TiffPage, name: str) -> None:
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


def _valid_pixels(page: TiffPage, counts: Pixels) -> npt.NDArray[np.bool_] | None:
    """(H, W) bool, False for no-data values and for pixels of left-out parts; None if all are measured."""
    valid = np.ones(counts.shape[:2], np.bool_)
    value = _nodata(page)
    if value is not None:
        is_float = counts.dtype.kind == "f"
        missing = counts == (np.array(value).astype(counts.dtype) if is_float else value)
        if is_float and abs(value) > 1e30:  # written with too few digits
            with np.errstate(over="ignore"):
                missing |= np.isclose(counts, value, rtol=1e-5, atol=0)
        valid &= ~(missing[..., :3].all(axis=2) if missing.ndim == 3 else missing)
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
