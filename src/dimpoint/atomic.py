"""Files and folders that are either whole or not there: written beside their place, then renamed into it.

A temporary file or folder is locked while it is written. One that is not locked was left by a process that
was killed; it is removed when the next one is made beside it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dimpoint.errors import DimpointError

TEMPORARY = ".dimpoint-"  # how the names of temporary files and folders begin
_LONGEST_SUFFIX = 16
_cleared: set[Path] = set()  # folders that this process has freed of what killed ones left


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
        temporary, handle = new_file(path)
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        yield temporary
        if mode is not None:
            temporary.chmod(mode)
        if durable:
            _to_disk(temporary)
        temporary.replace(path)
        if durable:
            with suppress(OSError):  # not every file system takes it
                _to_disk(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give a new folder beside `path`; it becomes `path` if the block ends without an error.

    `path` may be there as an empty folder. What killed processes left for the same `path` is removed first.
    Raises DimpointError, naming the folder, where the system refuses, also in the block.
    """
    begin = f"{TEMPORARY}{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]}-"
    temporary = path.with_name(f"{begin}{secrets.token_hex(8)}")
    handle = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f"{begin}*"):
            _remove_unlocked(left)
        temporary.mkdir()
        handle = _open_folder(temporary)
        yield temporary
        if path.exists():
            path.rmdir()
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def check_writable(*paths: Path | None) -> None:
    """Raise DimpointError unless these files can be written; before long work, whose result would be lost.

    None stands for no file. Folders that are missing are not made: the nearest one that exists is tried.
    """
    for path in paths:
        if path is None:
            continue
        try:
            _mode(path)
            folder = path.absolute().parent
            while not os.path.lexists(folder):
                folder = folder.parent
            temporary, handle = new_file(folder / path.name)
            temporary.unlink()
            os.close(handle)
        except OSError as error:
            raise _unwritable(path, error) from None


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all.

    Bytes of file names that are not UTF-8, which Python holds as lone surrogates, are written as escapes such
    as \\udce9: the file stays UTF-8, and from JSON the same name is read back.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def remove_temporary(folder: Path) -> None:
    """Remove the temporary files in a folder that no process is writing: those of runs that were killed."""
    for file in folder.glob(f"{TEMPORARY}*"):
        if file.is_file() and not file.is_symlink():
            _remove_unlocked(file)


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


def new_file(path: Path) -> tuple[Path, int]:
    """An empty file beside `path` under a random name, with its suffix, and a handle that keeps it locked.

    The first one in a folder removes what killed processes left there.
    """
    folder = path.parent.absolute()
    if folder not in _cleared:
        _cleared.add(folder)
        remove_temporary(folder)
    suffix = path.suffix if len(path.suffix) <= _LONGEST_SUFFIX else ""
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
    while True:
        temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}{suffix}")
        handle = os.open(temporary, flags, 0o666)
        lock(handle)
        if os.fstat(handle).st_nlink:  # nobody took it for a left one before it was locked
            return temporary, handle
        os.close(handle)


def _unwritable(path: Path, error: OSError) -> DimpointError:
    return DimpointError(f"{path}: cannot be written: {error.strerror or error}")


def _remove_unlocked(left: Path) -> None:
    """Remove a temporary file or folder unless a process holds it, or locks do not work here."""
    with suppress(OSError):
        handle = os.open(left, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        try:
            if not lock(handle):
                return
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()
        finally:
            os.close(handle)


def lock(handle: int) -> bool | None:
    """Lock an open file for this process; False if another has it, None if the system has no such locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _open_folder(folder: Path) -> int | None:
    """A handle that keeps a folder locked; None where the system opens no folders."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    lock(handle)
    return handle


def _to_disk(file: Path) -> None:
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
