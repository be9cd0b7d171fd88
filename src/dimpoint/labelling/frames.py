"""The frames of a labelling project: found in sources, read one at a time in any order."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.errors import DataError, FrameError
from dimpoint.labelling.store import SourceFrame
from dimpoint.sources import PLAIN, VIDEO_SUFFIXES, ReadOptions, find_files, read_image
from dimpoint.sources.readers import open_pages
from dimpoint.sources.video import VideoReader

_KEPT_BYTES = 512 << 20  # decoded frames in memory
_SCENE_FRAMES = 30  # so many frames of a video count as one scene


def list_frames(
    sources: Sequence[Path], *, recursive: bool = False, note: Callable[[str], None] = lambda _: None
) -> list[SourceFrame]:
    """Every frame of files, folders, patterns, videos and multi-page files, without decoding images.

    Names are those of the files, made unique; a video's frames are NAME_000012, with the numbers that
    `dimpoint detect` gives them. note: called with what could not be read.

    Raises FrameError where there is no frame at all.
    """
    frames: list[SourceFrame] = []
    used: set[str] = set()
    scene = 0
    for source in sources:
        for path in find_files(source, recursive=recursive).files:
            scene += 1
            try:
                numbers = _numbers(path)
            except FrameError as error:
                note(str(error))
                continue
            status = path.stat()
            stem = _unique(safe_stem(path.name), used)
            known = (str(path.resolve()),)
            if numbers is None:
                frames.append(SourceFrame(stem, *known, None, status.st_size, status.st_mtime_ns, scene))
                continue
            for number in numbers:
                name, part = f"{stem}_{number:06d}", scene + number // _SCENE_FRAMES
                frames.append(SourceFrame(name, *known, number, status.st_size, status.st_mtime_ns, part))
            scene += numbers[-1] // _SCENE_FRAMES
    if not frames:
        raise FrameError(f"no frame that can be read in {', '.join(map(str, sources))}")
    return frames


def safe_stem(name: str) -> str:
    """A file's name without folders and suffix, as the names of a project's frames are written."""
    stem = Path(name.replace("\\", "/").replace("\0", "_")).stem
    return re.sub(r"[^\w.-]+", "_", stem).strip("._") or "frame"


def _numbers(path: Path) -> Sequence[int] | None:
    """The numbers of the frames of a video or a file of several pages, None for a file of one frame."""
    if path.suffix.lower() in VIDEO_SUFFIXES:
        video = VideoReader(path)
        video.close()
        return video.numbers
    with open_pages(path) as pages:
        return range(pages.count) if pages.count > 1 else None


def _unique(stem: str, used: set[str]) -> str:
    name, number = stem, 2
    while name.casefold() in used:
        name, number = f"{stem}-{number}", number + 1
    used.add(name.casefold())
    return name


class FrameReader:
    """Reads frames by source and number, from several threads; the last ones stay in memory.

    Videos are read by seeking to the key frame before the wanted one. options: how the sources are read;
    copies stand as they are.
    """

    def __init__(self, kept_bytes: int = _KEPT_BYTES, options: ReadOptions = PLAIN) -> None:
        self._kept: OrderedDict[tuple[str, int | None], npt.NDArray[Any]] = OrderedDict()
        self._left, self._options = kept_bytes, options
        self._lock = threading.RLock()
        self._videos: dict[str, VideoReader] = {}

    def read(self, frame: SourceFrame, copy: Path | None = None) -> npt.NDArray[Any]:
        """(H, W) uint8, uint16 or float32. copy: the project's own copy of the frame, read if it exists.

        Raises FrameError where the file is gone, has changed since it was added, or cannot be read.
        """
        key = frame.source, frame.number
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        pixels = read_image(copy) if copy is not None and copy.is_file() else self._from_source(frame)
        with self._lock:
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
            return read_image(path, self._options)
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            with open_pages(path, self._options) as pages:
                if frame.number >= pages.count:
                    raise FrameError(f"{path}: has no page {frame.number}")
                return pages.read(frame.number).pixels
        with self._lock:
            if frame.source not in self._videos:
                self._videos[frame.source] = VideoReader(path, self._options)
            return self._videos[frame.source].read(frame.number).pixels


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
        elif not cv2.imwrite(str(temporary), pixels):
            raise DataError(f"{path}: the frame cannot be written")
