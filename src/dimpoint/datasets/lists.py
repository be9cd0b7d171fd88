"""Split lists: find the lists of a data set, their purpose, and the frames they name.

Layouts: `img_idx/train_NAME.txt`, `train.txt` and `test.txt` in the data set's folder, `trainval.txt`,
`50_50/train.txt`, `splits/*.txt`, `ImageSets/Main/*.txt`, and frames in `images/train` and `images/test`. A
line is a frame's name, with or without suffix and folders; a second column (a mask, a flag) is ignored. Text
may be UTF-8, UTF-16 or UTF-32, with or without a byte order mark. Without such lists, CSV and JSON files are
read, as `dimpoint.datasets.list_tables` says.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dimpoint import limits
from dimpoint.datasets.list_tables import groups_of
from dimpoint.errors import DataError
from dimpoint.sources.files import is_junk

ALL = "all"  # the split that takes every frame
_PURPOSES = {
    "train": ("train", "training", "trainset", "trainval", "trn"),
    "val": ("val", "valid", "validation", "valset", "dev"),
    "test": ("test", "testing", "testset", "eval", "tst"),
}
_WORDS = {
    word: (purpose, rank > 0) for purpose, words in _PURPOSES.items() for rank, word in enumerate(words)
}
_LIST_FOLDERS = re.compile(r"(img_?)?idx|splits?|imagesets?|lists?|index|sets|\d+[_-]\d+")
_NO_LISTS = {"labels", "annotations", "labelme", "xml"}  # text files there are labels
_SUFFIXES = (".txt", ".lst")
_TABLES = (".csv", ".tsv", ".json")
_SPLITS = re.compile(
    r"(.*[^a-z])?(splits?|folds?|partitions?)([^a-z].*)?"
)  # names of files for several splits
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_PROBED = 50  # lines that are tried to recognise a list


@dataclass(frozen=True)
class SplitFile:
    """A split list.

    Parameters
    ----------
    path : Path
        The file, or the folder of frames.
    name : str
        Path below the data set without suffix, such as `img_idx/train_x`.
    entries : tuple of (int, str)
        Line number (in JSON the place) and text of each line that is not blank.
    """

    path: Path
    name: str
    entries: tuple[tuple[int, str], ...]

    @property
    def stem(self) -> str:
        """The last part of the name."""
        return self.name.rsplit("/", 1)[-1]

    @property
    def purpose(self) -> str | None:
        """`train`, `val` or `test` by the file's name, else None."""
        return purpose_of(self.stem)[0]


def purpose_of(stem: str) -> tuple[str | None, bool]:
    """The purpose of a list by its name, and whether the name is a synonym (`training`, `trainval`).

    The first or else the last word of the name decides: `Train_x`, `train-x`, `NUAA_train`.
    """
    words = re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", stem).casefold())
    for word in (words[0], words[-1]):
        if word in _WORDS:
            return _WORDS[word]
    return None, False


def find_lists(
    root: Path, frames: Iterable[str], not_here: Sequence[Path], name_of: Callable[[str], str | None]
) -> tuple[tuple[SplitFile, ...], tuple[str, ...]]:
    """The split lists of the data set in `root`, and what was not understood of files named like lists.

    A text file outside a folder of lists counts if its name has a purpose (`train`) and, unless that is the
    whole name, it names a frame.

    Parameters
    ----------
    root : Path
        The data set.
    frames : iterable of str
        The names of its frames.
    not_here : sequence of Path
        Folders of frames and masks, which are not searched.
    name_of : callable
        Maps a line to the frame it means, or None.

    Raises
    ------
    DataError
        If a list is not a text file.
    """
    names = tuple(frames)
    found = []
    for path, sure in _candidates(root, set(names), not_here):
        listed = _read(root, path)
        probed = (name_of(text) is not None for _, text in listed.entries[:_PROBED])
        if sure or any(probed):
            found.append(listed)
    if found:
        return tuple(found), ()
    tables, unread = _tables(root, lambda text: name_of(text) is not None)
    return tuple(tables) or _folders_as_lists(names, not_here), tuple(unread)


def choose_lists(lists: Sequence[SplitFile], split: str, root: Path) -> list[SplitFile]:
    """The lists of a split: by path (`50_50/train`), by stem, by purpose, or by the beginning of stems.

    Raises
    ------
    DataError
        If there is no such list, or lists in several folders match and differ; the message shows the lists.
    """
    wanted = split.removesuffix(".txt")
    folded = wanted.casefold()
    purpose = _WORDS.get(folded, (None, False))[0]
    for fits in (
        [one for one in lists if wanted in (one.name, one.stem) or one.name.endswith(f"/{wanted}")],
        [one for one in lists if folded in (one.name.casefold(), one.stem.casefold())],
        [one for one in lists if purpose is not None and purpose_of(one.stem) == (purpose, False)],
        [one for one in lists if purpose is not None and one.purpose == purpose],
        [one for one in lists if re.match(rf"{re.escape(folded)}[_.\- ]", one.stem.casefold())],
    ):
        if fits:
            return _one_folder(fits, split, root)
    remedy = f"; name one of them with --split, or take every frame with --split {ALL}" if lists else ""
    raise DataError(f"{root}: no split '{split}'; splits here: {_shown(lists, root)}{remedy}")


def describe(lists: Sequence[SplitFile]) -> str:
    """Lists with their numbers of lines, such as "train_x (8 names), test_x (4 names)"."""
    shown = ", ".join(f"{one.name} ({len(one.entries)} names)" for one in lists[:8])
    return shown + (f" and {len(lists) - 8} more" if len(lists) > 8 else "")


def columns(text: str) -> Iterator[str]:
    """The possible names in a line of a list: the whole line, and its first column."""
    yield text
    for separator in (r"\t", r"[,;]", r"\s"):
        parts = re.split(rf"{separator}+", text, maxsplit=1)
        if len(parts) > 1:
            yield parts[0].strip().strip('"')


def _one_folder(fits: list[SplitFile], split: str, root: Path) -> list[SplitFile]:
    folders: dict[tuple[Path, str], list[SplitFile]] = {}
    for one in fits:
        folders.setdefault((one.path.parent, one.name.rpartition("/")[0]), []).append(one)
    contents = {frozenset(text for one in part for _, text in one.entries) for part in folders.values()}
    if len(contents) > 1:
        raise DataError(
            f"{root}: split '{split}' is there {len(folders)} times and differs: {describe(fits)}; "
            f"name one of them, for example --split {fits[0].name}"
        )
    return next(iter(folders.values()))


def _shown(lists: Sequence[SplitFile], root: Path) -> str:
    return describe(lists) if lists else f"none (no {root / 'img_idx'}/*.txt)"


def _candidates(root: Path, frames: set[str], not_here: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """Files that may be lists, and whether they count regardless of their content."""
    for path in _sorted(root):
        if path.is_dir():
            if is_junk(path.name) or path in not_here or path.name.casefold() in _NO_LISTS:
                continue
            sure = _LIST_FOLDERS.fullmatch(path.name.casefold()) is not None
            yield from ((file, sure) for file in _texts(path, deep=sure) if sure or _is_named(file))
        elif path.suffix.lower() in _SUFFIXES and path.stem not in frames and _is_named(path):
            yield path, path.stem.casefold() in _WORDS


def _tables(root: Path, is_frame: Callable[[str], bool]) -> tuple[list[SplitFile], list[str]]:
    """Lists in CSV and JSON files: those with a key or a value for each split, or named for a purpose."""
    found: list[SplitFile] = []
    unread = []
    for path in _table_files(root):
        name = path.relative_to(root).with_suffix("").as_posix()
        try:
            text = decoded(limits.read_bytes(path, "label_bytes", DataError))
            groups = groups_of(text, is_json=path.suffix.lower() == ".json", is_frame=is_frame)
        except (OSError, UnicodeError):
            groups = {}
        kept = {
            key: tuple(entries)
            for key, entries in groups.items()
            if any(is_frame(text) for _, text in entries[:_PROBED])
            and ((key == "" and _is_named(path)) or purpose_of(key.rpartition("/")[2])[0])
        }
        found += [SplitFile(path, f"{name}/{key}".rstrip("/"), entries) for key, entries in kept.items()]
        stem = path.stem.casefold()
        if not kept and (stem in _WORDS or _SPLITS.fullmatch(stem)) and path.parent.name != "annotations":
            unread.append(
                f"{path}: named like a split list, and not understood as one: no names of frames for train "
                "or test; write names, one on each line, in img_idx/train.txt and img_idx/test.txt"
            )
    return found, unread


def _table_files(root: Path) -> Iterator[Path]:
    """CSV and JSON files that may be lists, in the data set's folder, in folders of lists and annotations."""
    folders = [
        path
        for path in _sorted(root)
        if path.is_dir() and (_LIST_FOLDERS.fullmatch(path.name.casefold()) or path.name == "annotations")
    ]
    for folder in (root, *folders):
        for path in _sorted(folder):
            own = path.name == "points.json" or path.name.startswith(".")
            if path.suffix.lower() in _TABLES and not own and path.is_file():
                yield path


def _is_named(path: Path) -> bool:
    return purpose_of(path.stem)[0] is not None


def _texts(folder: Path, deep: bool) -> Iterator[Path]:
    for path in _sorted(folder):
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file():
            yield path
        elif deep and path.is_dir() and not path.is_symlink() and not is_junk(path.name):
            yield from _texts(path, deep)


def _sorted(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _folders_as_lists(names: Sequence[str], not_here: Sequence[Path]) -> tuple[SplitFile, ...]:
    """Splits by folder: frames in `images/train` and `images/test`."""
    groups: dict[str, list[str]] = {}
    for name in names:
        first, _, rest = name.partition("/")
        if rest and first.casefold() in _WORDS:
            groups.setdefault(first, []).append(name)
    folder = not_here[0] if not_here else Path()
    return tuple(
        SplitFile(folder / first, first, tuple(enumerate(inside, 1))) for first, inside in groups.items()
    )


def _read(root: Path, path: Path) -> SplitFile:
    name = path.relative_to(root).with_suffix("").as_posix()
    return SplitFile(path, name.removeprefix("img_idx/"), read_lines(path))


def read_lines(path: Path, *, strip: bool = True) -> tuple[tuple[int, str], ...]:
    """Line number and text of every line that is not blank; DataError if the file is not text.

    strip: without the blanks at both ends; a tab there may stand for an empty column. Names in encodings
    other than UTF-8 become strings with surrogate escapes, like Python's file names.
    """
    try:
        text = decoded(limits.read_bytes(path, "label_bytes", DataError))
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path}: not a readable text file of frame names ({error})") from None
    if "\0" in text:
        raise DataError(f"{path}: not a readable text file of frame names (it holds zero bytes)")
    lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    return tuple((n, line.strip() if strip else line) for n, line in lines)


def decoded(data: bytes, errors: str = "surrogateescape") -> str:
    """A text without its byte order mark; errors: as of `bytes.decode`, UnicodeError where it raises."""
    return data.decode(_encoding(data), errors).removeprefix("\ufeff")


def _encoding(data: bytes) -> str:
    """The encoding of a text, by its mark or its first letters; UTF-8 without one."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    if data[1:2] == b"\0" and data[:1] != b"\0":
        return "utf-16-le"
    return "utf-16-be" if data[:1] == b"\0" and data[1:2] not in (b"", b"\0") else "utf-8"
