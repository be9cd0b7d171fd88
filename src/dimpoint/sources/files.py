"""The one walk over files: paths, folders and patterns -> frame files, and what was passed over."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from dimpoint.errors import FrameError
from dimpoint.text import counted

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".npy"),
    *(".pgm", ".ppm", ".webp", ".fits", ".fit"),
)
VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".ts", ".wmv")
FRAME_SUFFIXES = IMAGE_SUFFIXES + VIDEO_SUFFIXES

SUPPORTED_IMAGES = (
    "PNG, JPEG (radiometric ones of FLIR and DJI, too), BMP, PGM, WebP, TIFF, FITS, .npy, .npz, .mat, FLIR "
    ".seq, and counts without a header (--raw-shape)"
)
SUPPORTED_FORMATS = f"{SUPPORTED_IMAGES}; video: {', '.join(suffix[1:] for suffix in VIDEO_SUFFIXES)}"

OTHER_KIND = "files of other kinds"
HIDDEN = "hidden or thumbnail files and folders"
SUB_FOLDER = "sub-folders"
EXCLUDED = "folders of results"
EXCLUDED_FILE = "files of results"
LINK_AGAIN = "links to folders that were seen already"
BROKEN_LINK = "broken links"
UNREADABLE = "folders without permission"
_ONE = {
    OTHER_KIND: "file of another kind",
    HIDDEN: "hidden or thumbnail file or folder",
    SUB_FOLDER: "sub-folder",
    EXCLUDED: "folder of results",
    EXCLUDED_FILE: "file of results",
    LINK_AGAIN: "link to a folder that was seen already",
    BROKEN_LINK: "broken link",
    UNREADABLE: "folder without permission",
}

_JUNK_FOLDERS = {"__macosx", "thumbnails", "thumbs", "_thumbs", "__pycache__", "lost+found"}
_JUNK_STARTS = (".", "@", "#", "$")  # hidden; Synology's @eaDir; recycle bins
_MAGIC = re.compile(r"[*?[]")
_NUMBER = re.compile(r"([0-9]+)")


@dataclass(frozen=True)
class FoundFiles:
    """Files that hold frames, in natural order, and what was passed over: (path, reason)."""

    files: list[Path]
    passed: list[tuple[Path, str]]

    @property
    def skipped(self) -> list[Path]:
        """The paths that were passed over."""
        return [path for path, _ in self.passed]

    def summary(self) -> str | None:
        """One line of counts of what was passed over, or None: "3 files of other kinds (.fits 1, .txt 2)"."""
        return summary_of(self.passed)


def summary_of(passed: Sequence[tuple[Path, str]]) -> str | None:
    """What was passed over as one line of counts by reason, or None if nothing was."""
    parts = []
    for reason, count in Counter(reason for _, reason in passed).items():
        text = counted(count, _ONE.get(reason, reason), reason)
        if reason == OTHER_KIND:
            kinds = Counter(path.suffix.lower() or "no suffix" for path, why in passed if why == OTHER_KIND)
            text += f" ({', '.join(f'{kind} {number}' for kind, number in kinds.most_common(5))})"
        elif reason == SUB_FOLDER:
            text += " (--recursive enters them)"
        parts.append(text)
    return ", ".join(parts) or None


def find_files(
    source: str | os.PathLike[str],
    *,
    recursive: bool = False,
    suffixes: Sequence[str] = FRAME_SUFFIXES,
    exclude: Sequence[Path] = (),
) -> FoundFiles:
    """The frame files of a path, folder or pattern such as "night/*.png", in natural order.

    A file that is named itself is taken whatever its suffix is. In a folder, and in what a pattern matches,
    files count by their suffix; hidden and thumbnail folders, sub-folders (unless `recursive`), paths in
    `exclude` that lie below the folder or below that which the pattern begins with, and files of other kinds
    are passed over, and told of in `FoundFiles.passed`. Links to folders are followed; each folder is entered
    once, so that loops end. A part of a pattern that is the name of a folder or file as it stands, such as
    `run[1]`, means that folder. img2 sorts before img10.

    Raises FrameError if there is no such path, no match, or no frame in the folder.
    """
    text = os.fspath(source)
    outside = {identity for path in exclude if (identity := _identity(path)) is not None}
    if os.path.isdir(text):  # noqa: PTH112  (Path.is_dir raises without permission, and takes "" for ".")
        found = walk(Path(text), recursive, suffixes, outside)
        return _demand_files(_without(exclude, found), f"the folder {text}")
    if os.path.lexists(text):
        return FoundFiles([Path(text)], [])
    if not _MAGIC.search(text):
        raise FrameError(f"{text}: no such file or folder")
    passed: list[tuple[Path, str]] = []
    matches = sorted(set(_matches(text, passed)), key=natural_key)
    if not (matches or passed):
        hint = "; [ and ] stand for a choice of characters; for the bracket itself write [[]" * ("[" in text)
        raise FrameError(f"{text}: nothing matches this pattern{hint}")
    passed = list(dict.fromkeys(passed))
    base = _real(_base(Path(text)))
    folders = (path for path in exclude if path.is_dir())
    results = {folder: path for path in folders if base in (folder := _real(path)).parents}
    files: list[Path] = []
    for path in matches:
        inside = next((each for each in results if _real(path).is_relative_to(each)), None)
        if inside is None:
            files += [path] * _sorted(path, suffixes, passed)
        elif (results[inside], EXCLUDED) not in passed:
            passed.append((results[inside], EXCLUDED))
    return _demand_files(_without(exclude, FoundFiles(files, passed)), f"the pattern {text}")


def walk(
    folder: Path,
    recursive: bool,
    suffixes: Sequence[str] = FRAME_SUFFIXES,
    exclude: Iterable[tuple[int, int]] = (),
) -> FoundFiles:
    """The files below `folder` that have one of `suffixes`, and what was passed over; see `find_files`.

    exclude: (device, inode) of folders that are left out. Raises FrameError if `folder` cannot be read.
    """
    files: list[Path] = []
    passed: list[tuple[Path, str]] = []
    above = {_identity(path) for path in Path(os.path.realpath(folder)).parents}  # links to them are circles
    seen = {*exclude, *(identity for identity in above if identity is not None)}
    linked: list[Path] = []
    pending = [folder]
    while pending or linked:  # folders before links to them, so that files keep their own paths
        here = pending.pop() if pending else linked.pop(0)
        identity = _identity(here)
        if identity in seen and here != folder:
            passed.append((here, LINK_AGAIN if here.is_symlink() else EXCLUDED))
            continue
        if identity is not None:
            seen.add(identity)
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            if here == folder:
                raise FrameError(f"{here}: the folder cannot be read: {error.strerror}") from None
            passed.append((here, UNREADABLE))
            continue
        for entry in entries:
            path = here / entry.name
            if not _is_folder(entry):
                if _sorted(path, suffixes, passed, is_folder=False):
                    files.append(path)
            elif is_junk(entry.name):
                passed.append((path, HIDDEN))
            elif not recursive:
                passed.append((path, SUB_FOLDER))
            else:
                (linked if entry.is_symlink() else pending).append(path)
    return FoundFiles(sorted(files, key=natural_key), sorted(passed, key=lambda entry: natural_key(entry[0])))


def is_junk(name: str) -> bool:
    """Whether a folder's name says that it is hidden, holds thumbnails, or is an archive's leftover."""
    return name.startswith(_JUNK_STARTS) or name.casefold() in _JUNK_FOLDERS


def plain_name(text: str) -> str:
    """The name in Unicode's composed form (NFC): two spellings of one name become one."""
    return unicodedata.normalize("NFC", text)


def is_regular(path: Path) -> bool:
    """Whether a path is a file, or a link to one: not a folder, pipe, socket or device."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def natural_key(path: Path) -> list[tuple[list[str | int], str]]:
    """Sorts paths as people do: numbers by value, case aside."""
    return [_key_of_part(part) for part in path.parts]


@lru_cache(maxsize=1024)  # the files of a folder share its keys: of a million files they would take gigabytes
def _key_of_part(text: str) -> tuple[list[str | int], str]:
    # Text and numbers alternate in what split gives, so that like is compared with like. A number of very
    # many digits stays text: to convert it takes time that grows with the square of its length.
    parts = _NUMBER.split(text.casefold())
    return [int(part[:100]) if place % 2 else part for place, part in enumerate(parts)], text


def _sorted(
    path: Path, suffixes: Sequence[str], passed: list[tuple[Path, str]], is_folder: bool | None = None
) -> bool:
    """Whether a path is a frame file; if not, the reason is added to `passed`.

    is_folder: whether it is a folder, where that is known: to ask takes as long as all else.

    A broken link with a frame's suffix counts as a file: a frame is missing there, which reading reports.
    """
    if path.name.startswith("."):
        passed.append((path, HIDDEN))
    elif path.suffix.lower() in suffixes and not (path.is_dir() if is_folder is None else is_folder):
        return True
    elif path.is_symlink() and not path.exists():
        passed.append((path, BROKEN_LINK))
    else:
        passed.append((path, SUB_FOLDER if path.is_dir() else OTHER_KIND))
    return False


def _without(exclude: Sequence[Path], found: FoundFiles) -> FoundFiles:
    """What was found, without the files in `exclude`."""
    names = {path.name: _real(path) for path in exclude}
    left_out = [path for path in found.files if path.name in names and _real(path) == names[path.name]]
    files = [path for path in found.files if path not in left_out]
    return FoundFiles(files, [*found.passed, *((path, EXCLUDED_FILE) for path in left_out)])


def _demand_files(found: FoundFiles, origin: str) -> FoundFiles:
    if not found.files:
        others = f"; passed over: {found.summary()}" if found.passed else ""
        raise FrameError(f"no frames in {origin}{others}; what is read: {SUPPORTED_FORMATS}")
    return found


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _base(pattern: Path) -> Path:
    """The folder that a pattern begins with."""
    base = Path(pattern.anchor)
    for part in pattern.relative_to(base).parts:
        if _MAGIC.search(part) and not os.path.lexists(base / part):
            break
        base /= part
    return base


def _matches(pattern: str, passed: list[tuple[Path, str]]) -> Iterator[Path]:
    """The paths that fit a pattern of *, ?, [] and **; hidden ones only where a part begins with a dot.

    Folders of thumbnails and the like are not entered, and added to `passed`.
    """
    path = Path(pattern)
    parts = path.parts
    start = Path(path.anchor) if path.anchor else Path()
    yield from _expand(start, parts[1:] if path.anchor else parts, passed)


def _expand(folder: Path, parts: Sequence[str], passed: list[tuple[Path, str]]) -> Iterator[Path]:
    if not parts:
        yield folder
        return
    part, rest = parts[0], parts[1:]
    literal = folder / part
    if part == "**":
        for inner in _folders(folder, passed):
            yield from _expand(inner, rest or ("*",), passed)
    elif not _MAGIC.search(part) or os.path.lexists(literal):
        if os.path.lexists(literal):
            yield from _expand(literal, rest, passed)
    else:
        wants_hidden = part.startswith(".")
        for name in _names(folder):
            fits = fnmatch.fnmatchcase(name, part) and (wants_hidden or not name.startswith("."))
            if fits and (wants_hidden or not _passes_over(folder / name, passed)):
                yield from _expand(folder / name, rest, passed)


def _passes_over(path: Path, passed: list[tuple[Path, str]]) -> bool:
    """Whether a path is a junk folder, which is added to `passed`."""
    is_passed = is_junk(path.name) and path.is_dir()
    if is_passed:
        passed.append((path, HIDDEN))
    return is_passed


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208  (names alone)
    except OSError:
        return []


def _folders(folder: Path, passed: list[tuple[Path, str]]) -> Iterator[Path]:
    """A folder and all below it, each once however many links lead to it."""
    seen: set[tuple[int, int] | None] = {None}
    pending = [folder]
    while pending:
        here = pending.pop(0)
        identity = _identity(here)
        if identity in seen or not here.is_dir():
            continue
        seen.add(identity)
        yield here
        inner = [here / name for name in _names(here) if not name.startswith(".")]
        folders = [path for path in inner if not _passes_over(path, passed) and path.is_dir()]
        pending = [path for path in folders if not path.is_symlink()] + pending
        pending += [path for path in folders if path.is_symlink()]
