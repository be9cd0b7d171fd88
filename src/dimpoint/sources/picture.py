"""What readers are given and give back, and how an array becomes a frame.

A frame is (H, W), one channel, uint8, uint16 or float32, finite.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from dimpoint import limits
from dimpoint.errors import ConfigError, FrameError
from dimpoint.model.intensity import FRAME_DTYPES
from dimpoint.model.validity import filled
from dimpoint.sources.colours import Pixels as Pixels
from dimpoint.sources.colours import one_channel_of_array
from dimpoint.sources.files import is_regular
from dimpoint.sources.georeference import Georeference

HEAD_BYTES = 64  # of a file, by which readers know it
FRAME_TYPES = "uint8, uint16 or float32 (other integers and floats become float32)"
_EXACT = 2**24  # integers up to it are float32 numbers
RAW_SUFFIXES = (".raw", ".bin", ".y16", ".y12", ".dat")
_TYPES: dict[str, np.dtype[Any] | None] = {
    "u8": np.dtype("u1"),
    "u16": np.dtype("<u2"),
    "u16be": np.dtype(">u2"),
    "i16": np.dtype("<i2"),
    "i16be": np.dtype(">i2"),
    "f32": np.dtype("<f4"),
    "u12p": None,  # two counts in three bytes, the low bits first
}
RAW_REMEDY = "say what it holds: --raw-shape HEIGHTxWIDTH --raw-type " + "|".join(_TYPES)


@dataclass(frozen=True)
class RawFormat:
    """Counts one after another, frame after frame, behind `offset` bytes."""

    height: int
    width: int
    type: str = "u16"
    offset: int = 0

    @classmethod
    def of_options(cls, shape: str | None, type_: str | None, offset: int = 0) -> RawFormat | None:
        """The format that `--raw-shape` and `--raw-type` name; None without a shape.

        Raises ConfigError for a shape or type that is none.
        """
        if shape is None:
            if type_ is not None:
                raise ConfigError("--raw-type needs --raw-shape HEIGHTxWIDTH")
            return None
        sides = re.fullmatch(r"([1-9]\d{0,5})\s*[xX,]\s*([1-9]\d{0,5})", shape.strip())
        if sides is None:
            raise ConfigError(f"--raw-shape: '{shape}' is no HEIGHTxWIDTH, such as 512x640")
        chosen = (type_ or "u16").lower()
        if chosen not in _TYPES:
            raise ConfigError(f"--raw-type: '{type_}' is none of {', '.join(_TYPES)}")
        return cls(int(sides[1]), int(sides[2]), chosen, offset)

    @property
    def frame_bytes(self) -> int:
        counts = self.height * self.width
        dtype = _TYPES[self.type]
        return counts * 3 // 2 if dtype is None else counts * dtype.itemsize

    def decode(self, data: bytes) -> npt.NDArray[Any]:
        """The counts of one frame, (H, W)."""
        dtype = _TYPES[self.type]
        if dtype is not None:
            return np.frombuffer(data, dtype).reshape(self.height, self.width)
        first, middle, last = np.frombuffer(data, np.uint8).astype(np.uint16).reshape(-1, 3).T
        pairs = np.stack([first | ((middle & 15) << 8), (middle >> 4) | (last << 4)], axis=1)
        return pairs.reshape(self.height, self.width)


@dataclass(frozen=True, eq=False)
class Picture:
    """One frame as a reader gives it.

    pixels: (H, W) uint8, uint16 or float32, sensor counts where the file has them. valid: (H, W) bool, False
    where the file says that a pixel is no measurement; None where it says nothing. notes: what a user should
    know about this file, one sentence each, without its name. time: of a video frame's presentation, seconds.
    geo: where its pixels lie on the map, None where the file says nothing.
    """

    pixels: Pixels
    valid: npt.NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()
    time: float | None = None
    geo: Georeference | None = None


@dataclass(frozen=True)
class ReadOptions:
    """How files are read where that is a choice.

    accept_damaged: take what a decoder makes of damaged data. orientation: of pictures with an orientation
    tag, `stored` takes the pixels as they stand, `upright` turns them; None takes them as they stand, with a
    note. refuse_turned: refuse such pictures where no orientation is chosen, because labels may refer to
    either. preview: take the 8-bit picture of a radiometric JPEG. raw: the format of files without a header.
    stream: the number of a video's stream, from 0 among its video streams. colour: `luma` or the name of a
    colour map, see `dimpoint.sources.colours.one_channel`.
    """

    accept_damaged: bool = False
    orientation: Literal["stored", "upright"] | None = None
    refuse_turned: bool = False
    preview: bool = False
    raw: RawFormat | None = None
    stream: int | None = None
    colour: str | None = None


PLAIN = ReadOptions()


class OpenFile:
    """A file while it is read: opened once, for its kind, the number of its frames and each of them.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    head
        Its first bytes, by which readers know it.
    stream
        The open file, at any position.

    Raises
    ------
    FrameError
        If the file is not there, may not be read, or is a folder, pipe or device.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # opening a pipe would wait for a writer
            if path.exists() and not path.is_dir() and not is_regular(path):
                raise FrameError(f"{path}: a pipe, socket or device, where a file is expected")
            self.stream: BinaryIO = path.open("rb")
            try:
                self.head = self.stream.read(HEAD_BYTES)
            except OSError:
                self.stream.close()
                raise
        except OSError as error:
            raise unreadable(path, error) from None

    def read(self) -> bytes:
        """All bytes of the file, at most the limit `file_bytes`."""
        try:
            self.stream.seek(0)
            size = os.fstat(self.stream.fileno()).st_size
            limits.check("file_bytes", size, f"{self.path}: bytes", FrameError)
            data = self.stream.read(limits.limit("file_bytes") + 1)
        except OSError as error:
            raise unreadable(self.path, error) from None
        limits.check("file_bytes", len(data), f"{self.path}: bytes", FrameError)
        return data

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()


@dataclass(frozen=True)
class Pages:
    """The frames of an open file.

    Attributes
    ----------
    count
        How many there are, from the header.
    read
        Gives one by its number, from 0. Raises FrameError, which names file and page, for what cannot be
        read; the others can be read all the same.
    """

    count: int
    read: Callable[[int], Picture]


@dataclass(frozen=True)
class Reader:
    """One kind of file.

    Attributes
    ----------
    name
        As users know it.
    suffixes
        Of files that folders are searched for, with dots, in lower case.
    fits
        Whether a file of this path with these first bytes is of this kind.
    open
        The frames of an open file. Raises FrameError, which names the file, for damage to all of it.
    """

    name: str
    suffixes: tuple[str, ...]
    fits: Callable[[Path, bytes], bool]
    open: Callable[[OpenFile, ReadOptions], Pages]


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


def finite_counts(array: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which counts are finite as float32; those of float64 may lie beyond it."""
    with np.errstate(over="ignore"):
        return np.isfinite(np.asarray(array, np.float32))


def picture_of(
    array: Pixels, name: str, valid: npt.NDArray[np.bool_] | None = None, notes: tuple[str, ...] = ()
) -> Picture:
    """The picture of an array: `as_frame`; masked pixels and those not finite as float32 are not valid."""
    array, valid = unmasked(array, valid)
    if array.ndim == 2 and array.dtype.kind == "f":
        finite = finite_counts(array)
        if not finite.all():
            valid = finite if valid is None else valid & finite
    return Picture(as_frame(array, name), valid, notes)


def unmasked(
    array: Pixels, valid: npt.NDArray[np.bool_] | None
) -> tuple[Pixels, npt.NDArray[np.bool_] | None]:
    """The data of a numpy masked array, whose masked pixels are not valid; other arrays as they are."""
    if not isinstance(array, np.ma.MaskedArray):
        return array, valid
    measured = ~np.ma.getmaskarray(array)
    if measured.ndim == 3:
        measured = np.asarray(measured.all(axis=2), np.bool_)
    return np.asarray(array), measured if valid is None else valid & measured


def as_frame(array: Pixels, name: str) -> Pixels:
    """Make a frame of an array, or raise FrameError, which names it by `name`.

    array: (H, W), or (H, W, 1), or (H, W, 3 or 4); a fourth channel is alpha and is ignored. Equal or nearly
    equal channels give their brightness, the colours of a known colour map its levels, as in files. Other
    colours are refused, because whether an array holds RGB or BGR cannot be known.
    Returns (H, W) uint8, uint16 or float32 in native byte order: other floats are rounded to the
    nearest float32, other integers become float32 if all fit into its 24 bits, other types are refused. NaN
    and infinite pixels are no measurements: they get smooth values from the nearest finite ones, of which
    there must be some.
    """
    dtype = frame_dtype(array.dtype, name)
    if dtype == np.float32 and array.dtype.kind in "iu" and array.size:
        _check_exact(array, name)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is counted below
        frame = np.ascontiguousarray(_one_channel(array, name), dtype)
    if frame.size == 0:
        raise FrameError(f"{name}: the frame is empty: shape {frame.shape}; at least 1 x 1 is right")
    return _finite(frame, name)


def frame_dtype(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    """The type that counts of `dtype` are kept in; FrameError if dtype holds no counts."""
    native = dtype.newbyteorder("=")
    if native in FRAME_DTYPES:
        return native
    if dtype.kind in "fiu":
        return np.dtype(np.float32)
    raise FrameError(f"{name}: a frame is {FRAME_TYPES}, this is {dtype}; {_remedy(dtype)}")


def _check_exact(array: Pixels, name: str) -> None:
    """Refuse integers that float32 would round."""
    low, high = int(array.min()), int(array.max())
    if max(-low, high) > _EXACT:
        raise FrameError(
            f"{name}: counts from {low} to {high} do not fit into 24 bits; save them as uint16 or float32"
        )


def _one_channel(array: Pixels, name: str) -> Pixels:
    if array.ndim == 2:
        return array
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise FrameError(
            f"{name}: a frame is a 2-D array (height, width), got shape {array.shape}; "
            "give each frame of a stack by itself"
        )
    return array[..., 0] if array.shape[2] == 1 else one_channel_of_array(array, name)


def _finite(frame: Pixels, name: str) -> Pixels:
    if frame.dtype != np.float32:
        return frame
    finite = np.isfinite(frame)
    if not finite.any():
        raise FrameError(f"{name}: no pixel of {frame.size} is finite as float32; there is nothing to see")
    return filled(frame, finite)


def _remedy(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "b":
        return "save it as uint8, 0 and 255"
    return "give its magnitude" if dtype.kind == "c" else "save the grey values as one of these"
