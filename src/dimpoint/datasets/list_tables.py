"""Split lists in CSV and JSON files.

JSON: a list of names (`train.json`), lists by split (`{"train": [...], "test": [...]}`, also within another
key), splits by name (`{"a.png": "train"}`), or a COCO file, whose images are the names. CSV: a column of
names, and in files for several splits a column `split` (or `set`, `subset`, `partition`, `fold`).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Entries = list[tuple[int, str]]  # row or place, and the frame's name as it is written
Groups = dict[str, Entries]  # by split; "" stands for all names of a file

_NAME_KEYS = ("file_name", "filename", "file", "image", "frame", "name", "img", "path", "image_id", "id")
_SPLIT_KEYS = ("split", "set", "subset", "partition", "fold", "usage")
_DEPTH = 4  # of keys in JSON


def groups_of(text: str, *, is_json: bool, is_frame: Callable[[str], bool]) -> Groups:
    """The names in the text of a file, by split; empty if there are none.

    Parameters
    ----------
    text : str
        The file's content.
    is_json : bool
        JSON, else CSV.
    is_frame : callable
        Whether a name is that of a frame; the CSV column of names is found by it.
    """
    if not is_json:
        return _of_csv(text, is_frame)
    try:
        return dict(_of_json(json.loads(text), "", _DEPTH))
    except (ValueError, RecursionError):
        return {}


def _of_json(content: Any, key: str, depth: int) -> Iterator[tuple[str, Entries]]:
    if isinstance(content, list):
        entries = [(place, name) for place, one in enumerate(content, 1) if (name := _name(one)) is not None]
        if len(entries) == len(content):
            yield key, entries
    elif isinstance(content, dict) and isinstance(content.get("images"), list):
        yield from _of_json(content["images"], key, 1)
    elif isinstance(content, dict) and content and all(isinstance(one, str) for one in content.values()):
        groups: Groups = {}
        for place, (name, split) in enumerate(content.items(), 1):
            groups.setdefault(f"{key}/{split.casefold()}".strip("/"), []).append((place, name))
        yield from groups.items()
    elif isinstance(content, dict) and depth > 0:
        for name, inner in content.items():
            yield from _of_json(inner, f"{key}/{name}".strip("/"), depth - 1)


def _name(entry: Any) -> str | None:
    """The name in an entry of a list: text, a number, or an object with a key such as `file_name`."""
    if isinstance(entry, dict):
        entry = next((entry[key] for key in _NAME_KEYS if key in entry), None)
    if isinstance(entry, bool) or not isinstance(entry, str | int):
        return None
    return str(entry)


def _of_csv(text: str, is_frame: Callable[[str], bool]) -> Groups:
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    separator = max(",;\t", key=first.count)
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator)]
    except csv.Error:
        return {}
    filled = [(number, row) for number, row in enumerate(rows, 1) if any(row)]
    if not filled:
        return {}
    head = [cell.casefold() for cell in filled[0][1]]
    by = next((head.index(key) for key in _SPLIT_KEYS if key in head), None)
    column = _column([row for _, row in filled], is_frame)
    if column is None:
        return {}
    if by is not None or not is_frame(_cell(filled[0][1], column)):
        filled = filled[1:]
    groups: Groups = {}
    for number, row in filled:
        split = "" if by is None else _cell(row, by).casefold()
        groups.setdefault(split, []).append((number, _cell(row, column)))
    return groups


def _column(rows: Sequence[Sequence[str]], is_frame: Callable[[str], bool]) -> int | None:
    """The column that names most frames."""
    probed = rows[:50]
    counts = [sum(is_frame(_cell(row, column)) for row in probed) for column in range(max(map(len, probed)))]
    return counts.index(max(counts)) if max(counts) > 0 else None


def _cell(row: Sequence[str], column: int) -> str:
    return row[column] if column < len(row) else ""
