"""Files of arrays -> frames: .npy, .npz, MATLAB's .mat and FITS.

A 2-D array is a frame. A 3-D array is a stack (N, H, W), in .mat files (H, W, N), unless its last axis is 4
or less. Of more axes, those of length 1 are left out where that gives a frame or a stack. FITS rows are taken
as they stand in the file.
"""

from __future__ import annotations

import math
import re
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dimpoint import limits
from dimpoint.errors import DimpointError, FrameError, MissingExtraError
from dimpoint.sources.picture import (
    RAW_REMEDY,
    OpenFile,
    Pages,
    Picture,
    Pixels,
    RawFormat,
    ReadOptions,
    picture_of,
    unreadable,
)

if TYPE_CHECKING:
    from av.container import InputContainer

NPY_SIGNATURE = b"\x93NUMPY"
ZIP_SIGNATURE = b"PK\x03\x04"
FITS_SIGNATURE = b"SIMPLE  ="
_AVI_HEADER = 1 << 16  # bytes, in which an AVI file describes its streams
MAT_SIGNATURES = (b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file")


def read_npy(path: Path) -> Pixels:
    """The array of a .npy file as it stands; FrameError if it is damaged or holds objects.

    The file is mapped, so that a header that claims more than the file holds takes no memory.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise unreadable(path, error) from None
    except Exception as error:  # a hostile header can make numpy's parser raise nearly anything
        raise FrameError(
            f"{path}: not a readable .npy file ({str(error)[:200]}); "
            "save a 2-D uint8, uint16 or float32 array with numpy.save"
        ) from None
    with path.open("rb") as file:
        file.seek(array.offset + array.nbytes)
        if file.read(len(NPY_SIGNATURE)) == NPY_SIGNATURE:
            raise FrameError(f"{path}: holds several arrays; save them as one stack (N, height, width)")
    return np.asarray(array)


def is_stack(array: Pixels) -> bool:
    """Whether a 3-D array is a stack of frames, not one picture with channels."""
    return array.ndim == 3 and array.shape[2] > 4


def _plain_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape of more than three axes without those of length 1, if that is a frame or a stack."""
    long = tuple(side for side in shape if side != 1)
    is_plain = len(long) == 2 or (len(long) == 3 and long[2] > 4)
    return long if len(shape) > 3 and is_plain else shape


def _squeezed(array: Pixels) -> Pixels:
    return array.reshape(_plain_shape(array.shape))


def pages_of(array: Pixels, name: str, notes: tuple[str, ...] = ()) -> Pages:
    """The frames of an array, each with `notes`."""
    array = _squeezed(array)

    def read(number: int) -> Picture:
        layer = array[number] if is_stack(array) else array
        limits.check("frame_pixels", layer.size, f"{name}: pixels", FrameError)
        return picture_of(layer, f"{name}, frame {number}" if is_stack(array) else name, notes=notes)

    return Pages(len(array) if is_stack(array) else 1, read)


def open_npy(file: OpenFile, options: ReadOptions) -> Pages:
    """The frames of a .npy file."""
    return pages_of(read_npy(file.path), str(file.path))


def open_npz(file: OpenFile, options: ReadOptions) -> Pages:
    """The one array of numbers in a .npz file."""
    return _only(_npz_arrays(file), file.path)


def _npz_arrays(file: OpenFile) -> dict[str, Pixels]:
    path = file.path
    try:
        with zipfile.ZipFile(file.stream) as archive:
            for member in archive.infolist():
                limits.check(
                    "file_bytes", member.file_size, f"{path}: bytes of {member.filename}", FrameError
                )
                limits.check_archive(member.compress_size, member.file_size, str(path), FrameError)
        file.stream.seek(0)
        with np.load(file.stream, allow_pickle=False) as content:
            return {name: _squeezed(content[name]) for name in content.files}
    except DimpointError:
        raise
    except OSError as error:
        raise unreadable(path, error) from None
    except Exception as error:  # as of read_npy
        raise FrameError(f"{path}: not a readable .npz file ({str(error)[:200]})") from None


def is_mat(path: Path, head: bytes) -> bool:
    return head.startswith(MAT_SIGNATURES)


def open_mat(file: OpenFile, options: ReadOptions) -> Pages:
    """The one matrix of numbers in a MATLAB file."""
    arrays = {name: _squeezed(array) for name, array in _mat_arrays(file).items()}
    arrays = {name: array for name, array in arrays.items() if array.size > 1} or arrays
    return _only(
        {name: np.moveaxis(array, 2, 0) if is_stack(array) else array for name, array in arrays.items()},
        file.path,
    )


def _mat_arrays(file: OpenFile) -> dict[str, Pixels]:
    from dimpoint.sources.matlab import matlab_arrays

    path = file.path
    if file.head.startswith(MAT_SIGNATURES[1]):
        raise FrameError(f"{path}: a MATLAB 7.3 file; save it with -v7, or the frames as 16-bit TIFF")
    try:
        limits.check("file_bytes", file.stream.seek(0, 2), f"{path}: bytes", FrameError)
        file.stream.seek(0)
        return matlab_arrays(file.stream.read(), path)
    except OSError as error:
        raise unreadable(path, error) from None


def _only(arrays: dict[str, Pixels], path: Path) -> Pages:
    """The frames of the one array of two or three axes; a note names those of more axes."""
    shapes = {name: array.shape for name, array in arrays.items() if array.ndim > 1}
    fitting = [name for name, shape in shapes.items() if len(shape) <= 3]
    if len(fitting) != 1:
        raise FrameError(
            f"{path}: one array of two or three axes is a frame or a stack; it holds: {_listed(shapes)}"
        )
    del shapes[fitting[0]]
    return pages_of(arrays[fitting[0]], str(path), _left_out(shapes))


def _left_out(shapes: dict[str, tuple[int, ...]]) -> tuple[str, ...]:
    return (f"left out, because it has more than three axes: {_listed(shapes)}",) if shapes else ()


def _listed(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:6]) or "none"


def open_fits(file: OpenFile, options: ReadOptions) -> Pages:
    """The images of a FITS file; BLANK and NaN are no measurements."""
    planes, notes = _fits_planes(file)

    def read(number: int) -> Picture:
        plane, valid = planes[number]
        limits.check("frame_pixels", plane.size, f"{file.path}: pixels", FrameError)
        return picture_of(plane, f"{file.path}, image {number}", valid, notes)

    return Pages(len(planes), read)


def _fits_planes(file: OpenFile) -> tuple[list[tuple[Pixels, Any]], tuple[str, ...]]:
    """All images of a FITS file, each with the mask of its measured pixels, and notes on the file."""
    try:
        from astropy.io import fits
        from astropy.utils.exceptions import AstropyWarning
    except ImportError:
        raise MissingExtraError("a FITS file", "astropy", "fits") from None
    path = file.path
    planes: list[tuple[Pixels, Any]] = []
    left_out: dict[str, tuple[int, ...]] = {}
    try:
        file.stream.seek(0)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", AstropyWarning)
            # of a file that was cut astropy only warns
            warnings.filterwarnings("error", r"(?s).*(truncated|corrupted)", AstropyWarning)
            units = fits.open(file.stream, memmap=False, lazy_load_hdus=True, do_not_scale_image_data=True)
            for number, unit in enumerate(units):
                axes = unit.header.get("NAXIS", 0) if unit.is_image else 0
                shape = _plain_shape(tuple(int(unit.header[f"NAXIS{axis}"]) for axis in range(axes, 0, -1)))
                if len(shape) > 3:
                    left_out[f"image {number}"] = shape
                if len(shape) not in (2, 3) or 0 in shape:
                    continue
                limits.check("frame_pixels", math.prod(shape), f"{path}: pixels", FrameError)
                for plane in np.asarray(unit.data).reshape(-1, *shape[-2:]):
                    planes.append(_fits_plane(plane, unit.header))
    except DimpointError:
        raise
    except Exception as error:  # a damaged header can make the parser raise nearly anything
        raise FrameError(f"{path}: the FITS file is damaged or cut off ({str(error)[:200]})") from None
    if not planes:
        held = f"; it holds: {_listed(left_out)}" if left_out else ""
        raise FrameError(f"{path}: a FITS file without an image of two or three axes{held}")
    texts = [str(one.message) for one in told if issubclass(one.category, AstropyWarning)]
    notes = dict.fromkeys(" ".join(text.split())[:200] for text in texts)
    return planes, (*notes, *_left_out(left_out))


def _fits_plane(stored: Pixels, header: Any) -> tuple[Pixels, Any]:
    """The values of a plane, stored * BSCALE + BZERO, and the mask of its pixels that are not BLANK."""
    blank, scale, zero = header.get("BLANK"), header.get("BSCALE", 1), header.get("BZERO", 0)
    is_whole = stored.dtype.kind in "iu"
    valid = stored != blank if is_whole and isinstance(blank, int) else None
    bits = 8 * stored.dtype.itemsize
    if scale == 1 and stored.dtype.kind == "i" and zero == 2 ** (bits - 1):  # how FITS stores unsigned counts
        native = stored.astype(f"i{bits // 8}").view(f"u{bits // 8}")
        values = native ^ native.dtype.type(zero)
    elif (scale, zero) == (1, 0):
        values = stored
    else:
        values = stored * float(scale) + float(zero)
    if valid is not None and values.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        values = np.where(valid, values, np.nan)  # a BLANK of many digits would not fit into float32
    return values, valid


def open_raw(file: OpenFile, options: ReadOptions) -> Pages:
    """The frames of a file of counts without a header."""
    count, raw = _raw_frames(file.path, options.raw), options.raw
    assert raw is not None  # _raw_frames refuses that

    def read(number: int) -> Picture:
        limits.check("frame_pixels", raw.height * raw.width, f"{file.path}: pixels", FrameError)
        file.stream.seek(raw.offset + number * raw.frame_bytes)
        return picture_of(raw.decode(file.stream.read(raw.frame_bytes)), f"{file.path}, frame {number}")

    return Pages(count, read)


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


def open_container(path: Path) -> InputContainer:
    """Open a video by PyAV; raises its errors."""
    import av

    url = f"file:{path}"  # a colon in a name does not make it a protocol's name
    options = {"protocol_whitelist": "file"}  # a play list in a file must not fetch anything
    opened: InputContainer = av.open(url, options=options, metadata_errors="replace")
    contexts = [stream.codec_context for stream in opened.streams.video]
    if opened.format.name == "avi" and any(one is not None and one.name == "png" for one in contexts):
        # FFmpeg's parser of PNG would join a damaged frame with those behind it; in AVI each is a packet
        opened.close()
        opened = av.open(url, options=options | {"fflags": "noparse"}, metadata_errors="replace")
    return opened


def y16_size(path: Path) -> tuple[int, int]:
    """Width and height of the 16-bit counts of an AVI file of type Y16, which FFmpeg does not decode.

    Raises FrameError for another type.
    """
    with path.open("rb") as file:
        header = file.read(_AVI_HEADER)
    formats = (header[part.end() : part.end() + 40] for part in re.finditer(rb"strf.{4}", header, re.DOTALL))
    for entry in formats:
        if entry[16:20].upper() in (b"Y16 ", b"Y16\0"):
            width, height = (abs(int.from_bytes(entry[at : at + 4], "little", signed=True)) for at in (4, 8))
            limits.check("frame_pixels", width * height, f"{path}: pixels", FrameError)
            return width, height
    raise FrameError(f"{path}: a video of a type that is not read; save it as FFV1 (gray16le) or as TIFF")


def lacks_index(path: Path) -> bool:
    """Whether a file begins as MP4 or MOV and has no whole `moov` box, which a recorder writes last."""
    with path.open("rb") as file:
        length = file.seek(0, 2)
        place, kind = 0, b"ftyp"
        while place + 8 <= length:
            file.seek(place)
            head = file.read(16)
            if place == 0 and head[4:8] != kind:
                return False
            size, kind = int.from_bytes(head[:4], "big"), head[4:8]
            if size == 1:
                size = int.from_bytes(head[8:], "big")
            place = length if size == 0 else place + size  # 0: up to the end of the file
            if size in range(1, 8) or place > length or kind == b"moov":
                return place > length or kind != b"moov"
    return length >= 8
