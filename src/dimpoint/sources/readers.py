"""The one registry of readers: which kind a file is, and its frames.

Others add readers by the entry point group `dimpoint.readers`: each entry names a `Reader`. They are asked
before those of this package.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from dimpoint.errors import ConfigError, FrameError
from dimpoint.sources import containers, images, thermal, tiff
from dimpoint.sources.files import FRAME_SUFFIXES, SUPPORTED_IMAGES, VIDEO_SUFFIXES
from dimpoint.sources.picture import (
    PLAIN,
    RAW_SUFFIXES,
    OpenFile,
    Pages,
    Picture,
    Pixels,
    Reader,
    ReadOptions,
)

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
# Endings of videos that are not read.
_OTHER_VIDEOS = (
    *(".flv", ".3gp", ".mts", ".m2ts", ".mxf", ".ogv", ".vob", ".asf", ".dv", ".nut", ".y4m"),
    *(".h264", ".264", ".hevc", ".h265", ".265"),
)


_BUILT_IN = (
    Reader(
        "TIFF", (".tif", ".tiff"), lambda path, head: head.startswith(tiff.TIFF_SIGNATURES), tiff.open_tiff
    ),
    Reader(
        "PNG, JPEG, BMP, PGM, PPM, WebP",
        (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm", ".webp"),
        images.is_image,
        images.open_image,
    ),
    Reader(
        "NumPy",
        (".npy",),
        lambda path, head: head.startswith(containers.NPY_SIGNATURE),
        containers.open_npy,
    ),
    Reader(
        "NumPy archive",
        (".npz",),
        lambda path, head: head.startswith(containers.ZIP_SIGNATURE) and path.suffix.lower() == ".npz",
        containers.open_npz,
    ),
    Reader("MATLAB", (".mat",), containers.is_mat, containers.open_mat),
    Reader(
        "FITS",
        (".fits", ".fit", ".fts"),
        lambda path, head: head.startswith(containers.FITS_SIGNATURE),
        containers.open_fits,
    ),
    Reader("FLIR sequence", (".seq", ".csq"), thermal.is_sequence, thermal.open_sequence),
    Reader(
        "counts without a header",
        RAW_SUFFIXES,
        lambda path, head: path.suffix.lower() in RAW_SUFFIXES,
        containers.open_raw,
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


def reader_of(path: Path, head: bytes) -> Reader:
    """The reader of a file by its first bytes; FrameError that says what is read, and what would help."""
    for reader in registered():
        if reader.fits(path, head):
            return reader
    if not head:
        raise FrameError(f"{path}: the file is empty; a picture is right: {SUPPORTED_IMAGES}")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise FrameError(f"{path}: a video, where one picture is expected: {SUPPORTED_IMAGES}")
    if path.suffix.lower() in _OTHER_VIDEOS:
        raise FrameError(
            f"{path}: not read: a video of another kind than {', '.join(VIDEO_SUFFIXES)}; convert it without "
            "loss: ffmpeg -i IN -c:v ffv1 OUT.mkv"
        )
    for signature, remedy in _REMEDIES:
        if head.startswith(signature):
            raise FrameError(f"{path}: not read: {remedy}")
    raise FrameError(f"{path}: not a picture, whatever its name says; what is read: {SUPPORTED_IMAGES}")


@contextmanager
def open_pages(path: Path, options: ReadOptions = PLAIN) -> Iterator[Pages]:
    """The frames of a file, which is open within the `with` block. Raises FrameError as `read_image` does."""
    with OpenFile(path) as file:
        pages = reader_of(path, file.head).open(file, options)
        if pages.count < 1:
            raise FrameError(f"{path}: holds no frame")
        yield pages


def read_image(path: str | os.PathLike[str], options: ReadOptions = PLAIN) -> Pixels:
    """Read a file of one picture as a frame.

    Parameters
    ----------
    path
        The file. What it holds is told from its content, not from its name.
    options
        How it is read where that is a choice. Default: orientation tags (EXIF, TIFF) are not applied, because
        coordinates, masks and labels refer to the pixels as stored. Gamma and colour profiles never are.

    Returns
    -------
    array
        (H, W) uint8, uint16 or float32, the counts as stored: 16 bits stay 16 bits, and fewer than 8 are
        spread over 0..255. Colour, palette and alpha become one channel by `dimpoint.sources.colours`; arrays
        follow `as_frame`.

    Raises
    ------
    FrameError
        Names the file, for what is missing, unreadable, damaged, no picture or several.

    Examples
    --------
    >>> from dimpoint.sources import read_image
    >>> frame = read_image("examples/scenes/images/000001.png")
    >>> frame.shape, frame.dtype
    ((256, 320), dtype('uint16'))
    """
    return read_picture(Path(path), options).pixels


def read_picture(path: Path, options: ReadOptions = PLAIN) -> Picture:
    """The one picture of a file, with its mask and notes. Raises FrameError as `read_image` does."""
    with OpenFile(path) as file:
        return _only(path, reader_of(path, file.head).open(file, options))


def read_stored(path: Path, options: ReadOptions = PLAIN) -> Pixels:
    """The picture of a file as it stands: colours and alpha, (H, W, 3 or 4), are kept where it has them.

    The order is B, G, R, alpha. TIFF and arrays come as `read_image` gives them.
    """
    with OpenFile(path) as file:
        colours = images.stored_colours(file, options)
        if colours is not None:
            return colours
        return _only(path, reader_of(path, file.head).open(file, options)).pixels


def _only(path: Path, pages: Pages) -> Picture:
    if pages.count > 1:
        raise FrameError(f"{path}: holds {pages.count} pictures, where one is expected; save each as a file")
    if pages.count < 1:
        raise FrameError(f"{path}: holds no picture")
    return pages.read(0)
