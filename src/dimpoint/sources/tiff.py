"""TIFF files -> frames, page by page."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tifffile

from dimpoint.errors import DimpointError, FrameError
from dimpoint.sources.arrays import Pixels, as_frame
from dimpoint.sources.tiff_page import TiffPage, read_page

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_pages(path: Path) -> Generator[tuple[int | None, Pixels], None, None]:
    """The frames of a TIFF file in order, each with its page number from 0 (None if there is only one).

    Only one page is in memory at a time. Previews and masks stored beside the pages are left out.
    Raises FrameError, which names file and page, after the pages before a damaged one.
    """
    with _reported(str(path)):
        tif = tifffile.TiffFile(path)
    with tif:
        with _reported(str(path)):
            stack = _implied_stack(tif)
            pages = [] if stack is not None else _frame_pages(tif)
        if stack is not None:
            yield from ((index, as_frame(page, f"{path}, page {index}")) for index, page in enumerate(stack))
        for index, number in enumerate(pages):
            name = f"{path}, page {index}" if len(pages) > 1 else str(path)
            with _reported(name):
                frame = read_page(tif.pages[number], name)
            yield (index if len(pages) > 1 else None), frame


def count_pages(path: Path) -> int:
    """How many frames `read_pages` gives if the file is whole."""
    with _reported(str(path)), tifffile.TiffFile(path) as tif:
        stack = _implied_stack(tif)
        return len(_frame_pages(tif)) if stack is None else len(stack)


@contextmanager
def _reported(name: str) -> Iterator[None]:
    """Turn whatever a damaged file makes the parser raise into a FrameError."""
    try:
        yield
    except DimpointError:
        raise
    except Exception as error:
        raise FrameError(f"{name}: the TIFF is damaged ({error}); copy or save it again") from error


def _frame_pages(tif: tifffile.TiffFile) -> list[int]:
    """The positions of the pages that are pictures of their own."""
    every: Iterator[TiffPage] = iter(tif.pages)
    pages = [number for number, page in enumerate(every) if not (page.is_reduced or page.is_mask)]
    if not pages:
        raise FrameError(f"{tif.filehandle.path}: the TIFF holds no picture, or is truncated; copy it again")
    return pages


def _implied_stack(tif: tifffile.TiffFile) -> Pixels | None:
    """The (N, H, W) stack of a file that lists one page for many, as ImageJ does above 4 GB."""
    if len(tif.pages) != 1 or not (tif.is_imagej or tif.is_shaped):
        return None
    page: TiffPage = tif.pages[0]
    series = tif.series[0]
    if series.size == page.size:
        return None
    if series.dataoffset is None or page.ndim != 2:
        raise FrameError(f"{tif.filehandle.path}: the TIFF lists one page for many; save each as a page")
    dtype = page.dtype.newbyteorder(tif.byteorder)
    shape = (series.size // page.size, *page.shape)
    return np.memmap(tif.filehandle.path, dtype, "r", series.dataoffset, shape)
