"""Files that are either whole or not there: written beside their place, then renamed into it."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dimpoint.errors import DimpointError

TEMPORARY = ".dimpoint-"  # how the names of temporary files begin
_LONGEST_SUFFIX = 16


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path in `path`'s folder; it becomes `path` if the block ends without an error.

    The temporary name is random and new: no file or link of that name is opened. A new file gets the
    permissions that the umask leaves, an existing one keeps its own. A link at `path` is replaced, not
    followed. durable: the content is on the disk before it takes its place.

    Raises DimpointError, naming the file, where the system refuses (read-only folder, full disk), and where
    `path` is a folder, pipe or device.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = _mode(path)
        temporary = new_file(path)
    except OSError as error:
        raise DimpointError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        yield temporary
        if mode is not None:
            temporary.chmod(mode)
        if durable:
            _to_disk(temporary)
        temporary.replace(path)
    except OSError as error:
        raise DimpointError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all.

    Bytes of file names that are not UTF-8, which Python holds as lone surrogates, are written as escapes such
    as \\udce9: the file stays UTF-8, and from JSON the same name is read back.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def remove_temporary(folder: Path) -> None:
    """Remove the temporary files of runs that were killed from a folder that no other run writes to."""
    for file in folder.glob(f"{TEMPORARY}*"):
        with suppress(OSError):
            file.unlink()


def _mode(path: Path) -> int | None:
    """The permissions of the file that is replaced; None where there is none, or a link."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(found.st_mode):
        return None
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, socket or device"
        raise DimpointError(f"{path}: cannot be written: {what}, where a file is expected")
    return stat.S_IMODE(found.st_mode)


def new_file(path: Path) -> Path:
    """An empty file beside `path` under a random name, with its suffix."""
    suffix = path.suffix if len(path.suffix) <= _LONGEST_SUFFIX else ""
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}{suffix}")
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
    os.close(os.open(temporary, flags, 0o666))
    return temporary


def _to_disk(file: Path) -> None:
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
