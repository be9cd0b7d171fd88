"""What readers of files are given and give back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from dimpoint.errors import FrameError
from dimpoint.sources.arrays import Pixels, as_frame
from dimpoint.sources.files import is_regular
from dimpoint.sources.raw import RawFormat

HEAD_BYTES = 64  # of a file, by which readers know it


@dataclass(frozen=True, eq=False)
class Picture:
    """One frame as a reader gives it.

    pixels: (H, W) uint8, uint16 or float32, sensor counts where the file has them. valid: (H, W) bool, False
    where the file says that a pixel is no measurement; None where it says nothing. notes: what a user should
    know about this file, one sentence each, without its name. time: of a video frame's presentation, seconds.
    """

    pixels: Pixels
    valid: npt.NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()
    time: float | None = None


@dataclass(frozen=True)
class ReadOptions:
    """How files are read where that is a choice.

    accept_damaged: take what a decoder makes of damaged data. orientation: of pictures with an orientation
    tag, `stored` takes the pixels as they stand, `upright` turns them; None takes them as they stand, with a
    note. refuse_turned: refuse such pictures where no orientation is chosen, because labels may refer to
    either. preview: take the 8-bit picture of a radiometric JPEG. raw: the format of files without a header.
    stream: the number of a video's stream, from 0 among its video streams.
    """

    accept_damaged: bool = False
    orientation: Literal["stored", "upright"] | None = None
    refuse_turned: bool = False
    preview: bool = False
    raw: RawFormat | None = None
    stream: int | None = None


PLAIN = ReadOptions()


@dataclass(frozen=True)
class Reader:
    """One kind of file.

    name: as users know it. suffixes: of files that folders are searched for, with dots, in lower case.
    fits: whether a path with these first bytes is of this kind. pages: its frames in order, one in memory
    at a time; FrameError, which names the file, for what cannot be read. count: how many there are, from
    the header.
    """

    name: str
    suffixes: tuple[str, ...]
    fits: Callable[[Path, bytes], bool]
    pages: Callable[[Path, ReadOptions], Iterator[Picture]]
    count: Callable[[Path, ReadOptions], int]


def file_head(path: Path) -> bytes:
    """The first bytes of a file; FrameError if it is not there, may not be read, or is a pipe or device."""
    try:
        if path.exists() and not path.is_dir() and not is_regular(path):  # opening a pipe waits for a writer
            raise FrameError(f"{path}: a pipe, socket or device, where a file is expected")
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> FrameError:
    """Why a file cannot be opened."""
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return FrameError(f"{path}: a link to {path.readlink()}, which is not there")
    if isinstance(error, FileNotFoundError):
        return FrameError(f"{path}: no such file")
    if isinstance(error, IsADirectoryError) or path.is_dir():
        return FrameError(f"{path}: a folder, where a file is expected")
    if isinstance(error, PermissionError):
        return FrameError(f"{path}: no permission to read it; check the file's access rights")
    return FrameError(f"{path}: cannot be read: {error.strerror or error}")


def picture_of(
    array: Pixels, name: str, valid: npt.NDArray[np.bool_] | None = None, notes: tuple[str, ...] = ()
) -> Picture:
    """The picture of an array: `as_frame`, and NaN and infinite pixels are no measurements."""
    if array.ndim == 2 and array.dtype.kind == "f":
        finite = np.isfinite(array)
        if not finite.all():
            valid = finite if valid is None else valid & finite
    return Picture(as_frame(array, name), valid, notes)
