"""Files of arrays -> frames: .npy, .npz, MATLAB's .mat and FITS.

A 2-D array is a frame. A 3-D array is a stack (N, H, W), in .mat files (H, W, N), unless its last axis is 4
or less. FITS rows are taken as they stand in the file.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dimpoint import limits
from dimpoint.errors import DimpointError, FrameError, MissingExtraError
from dimpoint.sources.picture import (
    RAW_REMEDY,
    Picture,
    Pixels,
    RawFormat,
    ReadOptions,
    file_head,
    picture_of,
    unreadable,
)

NPY_SIGNATURE = b"\x93NUMPY"
ZIP_SIGNATURE = b"PK\x03\x04"
FITS_SIGNATURE = b"SIMPLE  ="
_NO_NUMBERS = ("char", "cell", "struct", "object", "function", "opaque")
MAT_SIGNATURES = (b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file")


def read_npy(path: Path) -> Pixels:
    """The array of a .npy file as it stands; FrameError if it is damaged or holds objects.

    The file is mapped, so that a header that claims more than the file holds takes no memory.
    """
    file_head(path)
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise unreadable(path, error) from None
    except Exception as error:  # a hostile header can make numpy's parser raise nearly anything
        raise FrameError(
            f"{path}: not a readable .npy file ({str(error)[:200]}); "
            "save a 2-D uint8, uint16 or float32 array with numpy.save"
        ) from None
    return np.asarray(array)


def is_stack(array: Pixels) -> bool:
    """Whether a 3-D array is a stack of frames, not one picture with channels."""
    return array.ndim == 3 and array.shape[2] > 4


def pages_of(array: Pixels, name: str) -> Iterator[Picture]:
    """The frames of an array."""
    layers = array if is_stack(array) else array[None]
    for number, layer in enumerate(layers):
        limits.check("frame_pixels", layer.size, f"{name}: pixels", FrameError)
        where = f"{name}, frame {number}" if is_stack(array) else name
        yield picture_of(layer, where)


def npy_pages(path: Path, options: ReadOptions) -> Iterator[Picture]:
    return pages_of(read_npy(path), str(path))


def count_npy(path: Path, options: ReadOptions) -> int:
    array = read_npy(path)
    return len(array) if is_stack(array) else 1


def npz_pages(path: Path, options: ReadOptions) -> Iterator[Picture]:
    """The one array of numbers in a .npz file."""
    return pages_of(_npz_array(path), str(path))


def count_npz(path: Path, options: ReadOptions) -> int:
    array = _npz_array(path)
    return len(array) if is_stack(array) else 1


def _npz_array(path: Path) -> Pixels:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                limits.check(
                    "file_bytes", member.file_size, f"{path}: bytes of {member.filename}", FrameError
                )
                limits.check_archive(member.compress_size, member.file_size, str(path), FrameError)
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: array for name in content.files if (array := content[name]).ndim in (2, 3)}
    except DimpointError:
        raise
    except OSError as error:
        raise unreadable(path, error) from None
    except Exception as error:  # as of read_npy
        raise FrameError(f"{path}: not a readable .npz file ({str(error)[:200]})") from None
    return _only(arrays, path)


def is_mat(path: Path, head: bytes) -> bool:
    return head.startswith(MAT_SIGNATURES)


def mat_pages(path: Path, options: ReadOptions) -> Iterator[Picture]:
    """The one matrix of numbers in a MATLAB file."""
    return pages_of(_mat_array(path), str(path))


def count_mat(path: Path, options: ReadOptions) -> int:
    array = _mat_array(path)
    return len(array) if is_stack(array) else 1


def _mat_array(path: Path) -> Pixels:
    import scipy.io

    if file_head(path).startswith(MAT_SIGNATURES[1]):
        raise FrameError(f"{path}: a MATLAB 7.3 file; save it with -v7, or the frames as 16-bit TIFF")
    try:
        names = []
        for name, shape, kind in scipy.io.whosmat(path):
            if len(shape) in (2, 3) and kind not in (
                "char",
                "cell",
                "struct",
                "object",
                "function",
                "opaque",
            ):
                names.append(name)
                counts = int(np.prod([int(side) for side in shape], dtype=object))
                limits.check("frame_pixels", counts, f"{path}: numbers in {name}", FrameError)
        content = scipy.io.loadmat(path, variable_names=names) if names else {}
        arrays = {name: np.asarray(content[name]) for name in names}
    except DimpointError:
        raise
    except OSError as error:
        raise unreadable(path, error) from None
    except Exception as error:  # a damaged file can make the parser raise nearly anything
        raise FrameError(f"{path}: not a readable MATLAB file ({str(error)[:200]})") from None
    array = _only({name: array for name, array in arrays.items() if array.size > 1} or arrays, path)
    return np.moveaxis(array, 2, 0) if array.ndim == 3 and array.shape[2] > 4 else array


def _only(arrays: dict[str, Any], path: Path) -> Pixels:
    if len(arrays) != 1:
        held = ", ".join(f"{name} {array.shape}" for name, array in list(arrays.items())[:6]) or "none"
        raise FrameError(f"{path}: one array of two or three axes is a frame or a stack; it holds: {held}")
    return np.asarray(next(iter(arrays.values())))


def fits_pages(path: Path, options: ReadOptions) -> Iterator[Picture]:
    """The images of a FITS file; BLANK and NaN are no measurements."""
    for number, (plane, valid) in enumerate(_fits_planes(path)):
        limits.check("frame_pixels", plane.size, f"{path}: pixels", FrameError)
        yield picture_of(np.asarray(plane), f"{path}, image {number}", valid)


def count_fits(path: Path, options: ReadOptions) -> int:
    return len(_fits_planes(path))


def _fits_planes(path: Path) -> list[tuple[Pixels, Any]]:
    """All images of a FITS file, each with the mask of its BLANK pixels."""
    try:
        from astropy.io import fits
    except ImportError:
        raise MissingExtraError("a FITS file", "astropy", "fits") from None
    planes: list[tuple[Pixels, Any]] = []
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("error")  # of a file that was cut astropy only warns
            for unit in fits.open(file, memmap=False, lazy_load_hdus=True):
                if not unit.is_image or unit.header.get("NAXIS", 0) not in (2, 3):
                    continue
                sides = [int(unit.header[f"NAXIS{axis}"]) for axis in range(1, unit.header["NAXIS"] + 1)]
                counts = int(np.prod(sides, dtype=object))
                limits.check("frame_pixels", counts, f"{path}: pixels", FrameError)
                blank = unit.header.get("BLANK")
                data = np.asarray(unit.data)
                for plane in data if data.ndim == 3 else data[None]:
                    known = blank is not None and plane.dtype.kind != "f"
                    planes.append((plane, plane != blank if known else None))
    except DimpointError:
        raise
    except Exception as error:  # a damaged header can make the parser raise nearly anything
        raise FrameError(f"{path}: the FITS file is damaged or cut off ({str(error)[:200]})") from None
    if not planes:
        raise FrameError(f"{path}: a FITS file without an image of two or three axes")
    return planes


def raw_pages(path: Path, options: ReadOptions) -> Iterator[Picture]:
    count = _raw_frames(path, options.raw)
    raw = options.raw
    assert raw is not None  # _raw_frames refuses that
    limits.check("frame_pixels", raw.height * raw.width, f"{path}: pixels", FrameError)
    with path.open("rb") as file:
        file.seek(raw.offset)
        for number in range(count):
            yield picture_of(raw.decode(file.read(raw.frame_bytes)), f"{path}, frame {number}")


def count_raw(path: Path, options: ReadOptions) -> int:
    return _raw_frames(path, options.raw)


def _raw_frames(path: Path, raw: RawFormat | None) -> int:
    """How many frames a file of this format holds; FrameError if that is not a whole number."""
    if raw is None:
        raise FrameError(f"{path}: counts without a header; {RAW_REMEDY}")
    size = path.stat().st_size - raw.offset
    if size <= 0 or size % raw.frame_bytes or (raw.type == "u12p" and raw.height * raw.width % 2):
        raise FrameError(
            f"{path}: {size} bytes are no whole number of {raw.height}x{raw.width} frames of type {raw.type} "
            f"({raw.frame_bytes} bytes each); {RAW_REMEDY}"
        )
    return size // raw.frame_bytes
