"""The frames of a labelling project: found in sources, read one at a time in any order."""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.errors import FrameError
from dimpoint.labelling.store import SourceFrame
from dimpoint.model.validity import filled
from dimpoint.sources import PLAIN, VIDEO_SUFFIXES, Picture, ReadOptions, find_files, read_image
from dimpoint.sources.readers import open_pages, read_picture
from dimpoint.sources.video import VideoReader

_KEPT_BYTES = 512 << 20  # decoded frames in memory
_LARGEST = 1024  # of the coarsest level's sides, pixels
_SAMPLED = 65536  # counts of a frame, for percentiles and the histogram
_SCENE_FRAMES = 30  # so many frames of a video count as one scene


def list_frames(
    sources: Sequence[Path],
    *,
    recursive: bool = False,
    note: Callable[[str], None] = lambda _: None,
    known: Sequence[SourceFrame] = (),
) -> list[SourceFrame]:
    """Every frame of the sources once, without decoding images.

    Parameters
    ----------
    sources
        Files, folders, patterns, videos and files of several pages.
    recursive
        Enter sub-folders. Default: no.
    note
        Called with a line about each file that cannot be taken.
    known
        Frames of the project, which stay as they are. Default: none.

    Returns
    -------
    list of SourceFrame
        Named after the files; names that occur twice, here or in `known`, get a number. A frame of a video
        is NAME_000012, with the number that `dimpoint detect` gives it.

    Raises
    ------
    FrameError
        If there is no frame at all.
    """
    before = {(frame.source, frame.number): frame for frame in known}
    used = {frame.name.casefold() for frame in known}
    scene = max((frame.scene for frame in known), default=0)
    frames: dict[tuple[str, int | None], SourceFrame] = {}
    for source in sources:
        for path in find_files(source, recursive=recursive).files:
            scene += 1
            try:
                numbers, file = _numbers(path), str(path.resolve())
                file.encode()
            except FrameError as error:
                note(str(error))
                continue
            except UnicodeEncodeError:
                note(f"{path}: the path is not UTF-8, as a project stores it; rename the file")
                continue
            status = path.stat()
            keys = [(file, number) for number in numbers]
            frames |= {key: before[key] for key in keys if key in before}
            new = [number for key, number in zip(keys, numbers, strict=True) if key not in frames]
            for number, name in zip(new, _free_names(safe_stem(path.name), new, used), strict=True):
                part = scene + (number or 0) // _SCENE_FRAMES
                frames[file, number] = SourceFrame(
                    name, file, number, status.st_size, status.st_mtime_ns, part
                )
            scene += (numbers[-1] or 0) // _SCENE_FRAMES
    if not frames:
        raise FrameError(f"no frame that can be read in {', '.join(map(str, sources))}")
    return list(frames.values())


def safe_stem(name: str) -> str:
    """A file's name without folders and suffix, and with `_` for what is no letter, digit, dot or hyphen."""
    stem = Path(name.replace("\\", "/").replace("\0", "_")).stem
    return re.sub(r"[^\w.-]+", "_", stem).strip("._") or "frame"


def _numbers(path: Path) -> Sequence[int | None]:
    """The numbers of the frames of a video or a file of several pages; a None for a file of one frame."""
    if path.suffix.lower() in VIDEO_SUFFIXES:
        video = VideoReader(path)
        video.close()
        return video.numbers
    with open_pages(path) as pages:
        return range(pages.count) if pages.count > 1 else [None]


def _free_names(stem: str, numbers: Sequence[int | None], used: set[str]) -> list[str]:
    """Names of the frames of a file, none of which is used; they are used from now on."""
    for attempt in count(1):
        begin = stem if attempt == 1 else f"{stem}-{attempt}"
        names = [begin if number is None else f"{begin}_{number:06d}" for number in numbers]
        folded = {name.casefold() for name in names}
        if used.isdisjoint(folded):
            break
    used |= folded
    return names


class FrameReader:
    """Reads frames in any order, from several threads, and keeps the last ones in memory.

    Videos are read from the key frame before the wanted frame.

    Parameters
    ----------
    kept_bytes
        Memory for decoded frames. Default: 512 MiB.
    options
        How the sources are read; the project's copies are read as they are.
    """

    def __init__(self, kept_bytes: int = _KEPT_BYTES, options: ReadOptions = PLAIN) -> None:
        self._kept: OrderedDict[tuple[str, int | None], npt.NDArray[Any]] = OrderedDict()
        self._left, self._options = kept_bytes, options
        self._lock = threading.RLock()
        self._videos: dict[str, VideoReader] = {}

    def read(self, frame: SourceFrame, copy: Path | None = None) -> npt.NDArray[Any]:
        """The counts of a frame.

        Parameters
        ----------
        frame
            Where it comes from.
        copy
            The project's own copy; it is read instead of the source if it exists.

        Returns
        -------
        ndarray
            (H, W) uint8, uint16 or float32.

        Raises
        ------
        FrameError
            If the file is gone, has changed since it was added, or cannot be read.
        """
        key = frame.source, frame.number
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        pixels = read_image(copy) if copy is not None and copy.is_file() else self._from_source(frame)
        with self._lock:
            if key in self._kept:  # another thread has read it meanwhile
                return self._kept[key]
            self._kept[key] = pixels
            self._left -= pixels.nbytes
            while self._left < 0 and len(self._kept) > 1:
                self._left += self._kept.popitem(last=False)[1].nbytes
        return pixels

    def _from_source(self, frame: SourceFrame) -> npt.NDArray[Any]:
        path = Path(frame.source)
        try:
            status = path.stat()
        except OSError as error:
            raise FrameError(f"{path}: the frame's file is gone ({error.strerror})") from None
        if (status.st_size, status.st_mtime_ns) != (frame.size, frame.modified):
            raise FrameError(f"{path}: the file has changed since it was added to the project")
        if frame.number is None:
            return _smooth(read_picture(path, self._options))
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            with open_pages(path, self._options) as pages:
                if frame.number >= pages.count:
                    raise FrameError(f"{path}: has no page {frame.number}")
                return _smooth(pages.read(frame.number))
        with self._lock:
            if frame.source not in self._videos:
                self._videos[frame.source] = VideoReader(path, self._options)
            return self._videos[frame.source].read(frame.number).pixels


def _smooth(picture: Picture) -> npt.NDArray[Any]:
    """The counts; pixels that the file says are no measurement have smooth values, as in data sets."""
    return filled(picture.pixels, picture.valid)


def levels(pixels: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """A frame at full size, and each level half as large as the one before, down to 1024 pixels.

    Parameters
    ----------
    pixels
        (H, W) uint8, uint16 or float32.

    Returns
    -------
    list of ndarray
        Of the frame's type. A pixel is the mean of 2x2; a last odd row or column is left out.
    """
    import cv2

    found = [np.ascontiguousarray(pixels)]
    while max(found[-1].shape) > _LARGEST:
        height, width = found[-1].shape
        across, down = max(1, width // 2), max(1, height // 2)
        whole = found[-1][: 2 * down, : 2 * across]
        found.append(cv2.resize(whole, (across, down), interpolation=cv2.INTER_AREA))
    return found


def packed(pixels: npt.NDArray[Any]) -> tuple[bytes, dict[str, str]]:
    """A frame as the page takes it: a sample of its counts, then its levels, little endian, and headers.

    The sample is sorted float32, without NaN, X-Sample of them. The coarsest level comes first: it can be
    shown while the others are on their way. X-Ends: the lowest and the highest count without NaN, as JSON; 0
    and 1 if there is nothing else.
    """
    found, little = levels(pixels)[::-1], pixels.dtype.newbyteorder("<")
    sample = np.sort(pixels.ravel()[:: max(1, pixels.size // _SAMPLED)].astype("<f4"))
    sample = sample[~np.isnan(sample)] if np.isnan(sample[-1]) else sample
    sample = sample if len(sample) else np.zeros(1, "<f4")
    ends = [float(end.reduce(pixels, axis=None)) for end in (np.fmin, np.fmax)]
    headers = {
        "X-Type": pixels.dtype.name,
        "X-Sample": str(len(sample)),
        "X-Levels": " ".join(f"{level.shape[1]}x{level.shape[0]}" for level in found),
        "X-Ends": json.dumps([0.0, 1.0] if np.isnan(ends[0]) else ends),
    }
    return b"".join([sample.data, *(level.astype(little, copy=False).data for level in found)]), headers


def copy_name(frame: SourceFrame, pixels: npt.NDArray[Any]) -> str:
    """The file name of the project's copy of a frame: PNG for integers, NumPy for float32."""
    return frame.name + (".npy" if pixels.dtype == np.float32 else ".png")


def write_copy(path: Path, pixels: npt.NDArray[Any]) -> None:
    """Write the project's copy of a frame, whole or not at all, with its counts unchanged."""
    import cv2

    from dimpoint.atomic import replacing

    with replacing(path) as temporary:
        if path.suffix == ".npy":
            with temporary.open("wb") as file:
                np.save(file, pixels)
        else:  # imwrite would not say why a file cannot be written
            temporary.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
