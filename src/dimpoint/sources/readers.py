"""The one registry of readers: which kind a file is, and its frames.

Others add readers by the entry point group `dimpoint.readers`: each entry names a `Reader`. They are asked
before those of this package.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from functools import cache
from importlib.metadata import entry_points
from itertools import islice
from pathlib import Path

from dimpoint.errors import ConfigError, FrameError
from dimpoint.sources import containers, images, thermal, tiff
from dimpoint.sources.files import FRAME_SUFFIXES, SUPPORTED_IMAGES, VIDEO_SUFFIXES
from dimpoint.sources.picture import PLAIN, RAW_SUFFIXES, Picture, Pixels, Reader, ReadOptions, file_head
from dimpoint.sources.tiff import TIFF_SIGNATURES

GROUP = "dimpoint.readers"
# Kinds that are known and not read: what begins so, and what a user can do.
_REMEDIES = (
    (b"GIF8", "GIF pictures have a palette of 256 colours, not counts; save it as PNG"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000; save it as 16-bit PNG or TIFF"),
    (b"\x89HDF", "HDF5; save the frames as 16-bit TIFF or .npy"),
    (b"\x1f\x8b", "packed by gzip; unpack it first"),
    (b"PK\x03\x04", "a ZIP archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
    (b"7z\xbc\xaf", "a 7-Zip archive; unpack it first"),
    (b"%PDF", "a PDF; save its pictures as PNG"),
)


_BUILT_IN = (
    Reader(
        "TIFF",
        (".tif", ".tiff"),
        lambda path, head: head.startswith(TIFF_SIGNATURES),
        tiff.read_pages,
        tiff.count_pages,
    ),
    Reader(
        "PNG, JPEG, BMP, PGM, PPM, WebP",
        (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm", ".webp"),
        images.is_image,
        images.image_pages,
        images.count_one,
    ),
    Reader(
        "NumPy",
        (".npy",),
        lambda path, head: head.startswith(containers.NPY_SIGNATURE),
        containers.npy_pages,
        containers.count_npy,
    ),
    Reader(
        "NumPy archive",
        (".npz",),
        lambda path, head: head.startswith(containers.ZIP_SIGNATURE) and path.suffix.lower() == ".npz",
        containers.npz_pages,
        containers.count_npz,
    ),
    Reader("MATLAB", (".mat",), containers.is_mat, containers.mat_pages, containers.count_mat),
    Reader(
        "FITS",
        (".fits", ".fit", ".fts"),
        lambda path, head: head.startswith(containers.FITS_SIGNATURE),
        containers.fits_pages,
        containers.count_fits,
    ),
    Reader(
        "FLIR sequence", (".seq", ".csq"), thermal.is_sequence, thermal.sequence_pages, thermal.count_sequence
    ),
    Reader(
        "counts without a header",
        RAW_SUFFIXES,
        lambda path, head: path.suffix.lower() in RAW_SUFFIXES,
        containers.raw_pages,
        containers.count_raw,
    ),
)


@cache
def registered() -> tuple[Reader, ...]:
    """All readers, those of other packages first. Raises ConfigError for an entry that is none."""
    found = []
    for entry in entry_points(group=GROUP):
        try:
            reader = entry.load()
        except Exception as error:  # another package's fault must name that package
            raise ConfigError(
                f"the reader '{entry.name}' ({entry.value}) cannot be loaded: {error}"
            ) from error
        if not isinstance(reader, Reader):
            raise ConfigError(f"the reader '{entry.name}' ({entry.value}) is no dimpoint.sources.Reader")
        found.append(reader)
    return (*found, *_BUILT_IN)


@cache
def frame_suffixes() -> tuple[str, ...]:
    """The suffixes of files that folders are searched for: pictures of every reader, and videos."""
    read = (suffix for reader in registered() for suffix in reader.suffixes)
    return tuple(dict.fromkeys((*FRAME_SUFFIXES, *read)))


def reader_of(path: Path) -> Reader:
    """The reader of a file, by its content; FrameError that says what is read, and what would help."""
    head = file_head(path)
    for reader in registered():
        if reader.fits(path, head):
            return reader
    if not head:
        raise FrameError(f"{path}: the file is empty; a picture is right: {SUPPORTED_IMAGES}")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise FrameError(f"{path}: a video, where one picture is expected: {SUPPORTED_IMAGES}")
    for signature, remedy in _REMEDIES:
        if head.startswith(signature):
            raise FrameError(f"{path}: not read: {remedy}")
    raise FrameError(f"{path}: not a picture, whatever its name says; what is read: {SUPPORTED_IMAGES}")


def read_picture(path: Path, options: ReadOptions = PLAIN) -> Picture:
    """The one picture of a file. Raises FrameError as `read_image` does."""
    reader = reader_of(path)
    pages = iter(reader.pages(path, options))
    found = list(islice(pages, 2))
    if isinstance(pages, Generator):
        pages.close()
    if len(found) > 1:
        count = reader.count(path, options)
        raise FrameError(f"{path}: holds {count} pictures, where one is expected; save each as a file")
    if not found:
        raise FrameError(f"{path}: holds no picture")
    return found[0]


def read_image(path: str | os.PathLike[str], options: ReadOptions = PLAIN) -> Pixels:
    """Read a file of one picture as a frame.

    Returns (H, W) uint8, uint16 or float32, the counts as stored: 16 bits stay 16 bits, and fewer than
    8 are spread over 0..255. Colour, palette and alpha become one channel by `grey_of_bgr`: alpha
    ignored, equal channels exactly that channel, else BT.601 grey. Arrays follow `as_frame`. What the file
    holds is told from its content, not from its name.

    Orientation tags (EXIF, TIFF) are not applied unless `options` ask: coordinates, masks and labels refer to
    the pixels as stored. Neither are gamma and colour profiles.

    Raises FrameError, which names the file, for what is missing, unreadable, damaged, no picture or several.
    """
    return read_picture(Path(path), options).pixels


def is_tiff(path: Path) -> bool:
    """Whether a file's content is TIFF; FrameError as `file_head`."""
    return file_head(path).startswith(TIFF_SIGNATURES)
