"""Paths, folders and globs -> the files that hold frames.

Which files hold frames.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dimpoint.errors import FrameError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".npy")
VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".ts", ".wmv")
FRAME_SUFFIXES = IMAGE_SUFFIXES + VIDEO_SUFFIXES

SUPPORTED_IMAGES = (
    "PNG, JPEG, BMP, TIFF (8 or 16 bits unsigned, or float32) and .npy (2-D uint8, uint16 or float32)"
)
SUPPORTED_FORMATS = f"{SUPPORTED_IMAGES}; video: {', '.join(suffix[1:] for suffix in VIDEO_SUFFIXES)}"

MAX_PIXELS = 2**30  # what OpenCV reads as well; a header that claims more is damaged or hostile


_NUMBER = re.compile(r"([0-9]+)")


@dataclass(frozen=True)
class FoundFiles:
    """What a path, folder or glob holds: files of a known frame format, and files passed over."""

    files: list[Path]
    skipped: list[Path]


def find_files(source: str | os.PathLike[str], *, recursive: bool = False) -> FoundFiles:
    """The frame files of a path, folder or glob such as "night/*.png", in natural order.

    A file that is named itself is taken whatever its suffix is. In a folder, and in what a glob
    matches, files count by their suffix (`FRAME_SUFFIXES`) and hidden ones do not; sub-folders are
    entered if `recursive`. img2 sorts before img10.

    Raises FrameError if there is no such path, no match, or no frame in the folder.
    """
    text = os.fspath(source)
    if os.path.isdir(text):  # noqa: PTH112  (Path.is_dir raises without permission, and takes "" for ".")
        return _sorted_out(_walk(Path(text), recursive), f"the folder {text}")
    if os.path.lexists(text):
        return FoundFiles([Path(text)], [])
    if not re.search(r"[*?[]", text):
        raise FrameError(f"{text}: no such file or folder")
    matches = [Path(match) for match in glob.glob(text, recursive=True)]  # noqa: PTH207  (absolute patterns)
    if not matches:
        raise FrameError(f"{text}: nothing matches this pattern")
    return _sorted_out(matches, f"the pattern {text}")


def natural_key(path: Path) -> list[tuple[list[str | int], str]]:
    """Sorts paths as people do: numbers by value, case aside."""
    return [(_split_numbers(part), part) for part in path.parts]


def _split_numbers(text: str) -> list[str | int]:
    # Text and numbers alternate in what split gives, so that like is compared with like.
    return [int(part) if place % 2 else part for place, part in enumerate(_NUMBER.split(text.casefold()))]


def _walk(folder: Path, recursive: bool) -> Iterator[Path]:
    """The files of a folder that are not hidden."""

    def refuse(error: OSError) -> None:
        raise FrameError(f"{error.filename}: the folder cannot be read: {error.strerror}") from error

    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        yield from (Path(root, name) for name in names if not name.startswith("."))


def _sorted_out(paths: Iterator[Path] | list[Path], origin: str) -> FoundFiles:
    every = sorted((path for path in paths if not path.is_dir()), key=natural_key)
    files = [path for path in every if path.suffix.lower() in FRAME_SUFFIXES]
    skipped = [path for path in every if path.suffix.lower() not in FRAME_SUFFIXES]
    if not files:
        others = f" among its {len(skipped)} other files" if skipped else ""
        raise FrameError(f"no frames in {origin}{others}; what is read: {SUPPORTED_FORMATS}")
    return FoundFiles(files, skipped)
