"""The journal of an unfinished run, as JSON lines, and result folders that are continued from it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from dimpoint.atomic import lock, remove_temporary
from dimpoint.errors import ConfigError, DimpointError

_SYNC_SECONDS = 2.0


@dataclass
class Progress:
    """Results of an unfinished run so far.

    Parameters
    ----------
    inputs : list
        Name, size and modification time of each file with a line, in order.
    lines : list of int
        Lines of each of these files.
    frames, targets, without_targets, failed : int
        Frames, targets, frames without targets, and failures.
    failures : list of (str, str)
        Name and reason; of runs in parts the first ones.
    pictures : list of str
        Names of the overlays.
    notes : dict
        Notes of readers, and the files that they are about.
    """

    inputs: list[list[Any]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    frames: int = 0
    targets: int = 0
    without_targets: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    failed: int = 0
    pictures: list[str] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)


class Journal:
    """A file of JSON lines; the first line holds the run's settings. While it exists, the run is unfinished.

    Parameters
    ----------
    path : Path
        The file.
    settings : dict
        What the results depend on, JSON values.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.settings = settings
        self._handle: int | None = None
        self._whole = 0  # bytes up to the end of the last whole line
        self._synced = monotonic()

    @property
    def exists(self) -> bool:
        return self.path.is_file()

    def begin(self) -> None:
        """Start a new run. Raises OSError if it cannot be written, ConfigError while another run writes."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
        with suppress(FileNotFoundError):
            self.path.unlink()
        self._handle = os.open(self.path, flags, 0o666)
        self._lock()
        self.append({"settings": self.settings})

    def resume(self) -> bool:
        """Continue an unfinished run; False if it was killed before its settings were written.

        Raises ConfigError, naming the difference, if the settings differ.
        """
        try:
            self._handle = os.open(self.path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            self._lock()
            self._whole = 0
            with self.path.open("rb") as file:
                first = None
                for line in file:
                    if line.endswith(b"\n"):
                        self._whole += len(line)
                        first = first or line
            record = json.loads(first) if first else None
        except OSError as error:
            raise DimpointError(f"{self.path}: cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise self._damaged(error) from None
        if record is None:
            self.close()
            return False
        self._check_settings(record.get("settings", {}) if isinstance(record, dict) else {})
        os.ftruncate(self._handle, self._whole)
        os.lseek(self._handle, self._whole, os.SEEK_SET)
        remove_temporary(self.path.parent)
        return True

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the lines after the settings, one at a time."""
        with self.path.open("rb") as file:
            for number, line in enumerate(file):
                if number and line.endswith(b"\n"):
                    try:
                        yield json.loads(line)
                    except ValueError as error:
                        raise self._damaged(error) from None

    def append(self, record: dict[str, Any]) -> None:
        """Write a line atomically. Raises OSError if the disk is full."""
        if self._handle is None:
            raise DimpointError(f"{self.path}: not open")
        rest = memoryview(json_line(record) + b"\n")
        try:
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except BaseException:  # a full disk, or a signal between writes
            os.ftruncate(self._handle, self._whole)
            os.lseek(self._handle, self._whole, os.SEEK_SET)
            raise
        self._whole = os.lseek(self._handle, 0, os.SEEK_CUR)
        if monotonic() - self._synced > _SYNC_SECONDS:
            os.fsync(self._handle)
            self._synced = monotonic()

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _check_settings(self, before: dict[str, Any]) -> None:
        if not isinstance(before, dict):
            raise self._damaged(ValueError("no settings"))
        for key in sorted({*before, *self.settings}):
            if before.get(key) != self.settings.get(key):
                raise ConfigError(
                    f"{self.path.parent} holds an unfinished run with other settings: {key} is "
                    f"{before.get(key)!r} there and {self.settings.get(key)!r} here; use the same settings, "
                    "or discard that run with --overwrite"
                )

    def _damaged(self, error: ValueError) -> ConfigError:
        return ConfigError(f"{self.path}: damaged ({error}); discard it with --overwrite")

    def _lock(self) -> None:
        """Raise ConfigError while another run writes here."""
        assert self._handle is not None
        if lock(self._handle) is False:
            raise ConfigError(f"{self.path.parent}: another run is writing here; choose another --out")


class JournaledFolder:
    """A folder of results whose run can be stopped and continued.

    Parameters
    ----------
    path : Path
        The folder.
    file : Path
        The file that a finished run leaves.
    journal : Journal
        The journal of the unfinished run.
    """

    def __init__(self, path: Path, file: Path, journal: Journal) -> None:
        self.path = path
        self.file = file
        self.overlays = path / "overlays"
        self.done = Progress()
        self._journal = journal
        self._new_folder = False

    @property
    def unfinished(self) -> bool:
        """Whether a run in this folder was stopped before its end."""
        return self._journal.exists

    def begin(self) -> None:
        """Start a new run. Raises DimpointError if the folder cannot be written."""
        self._new_folder = not self.path.exists()
        try:
            self._journal.begin()
            self._remove_earlier()
        except OSError as error:
            raise DimpointError(f"{self.file}: cannot be written: {error.strerror}") from None

    def resume(self) -> None:
        """Continue the unfinished run; `done` is what it has. Raises ConfigError if the settings differ."""
        if self._journal.resume():
            self._restore()
        else:
            self.begin()

    def discard(self) -> None:
        """Remove all files of a run that has no frame."""
        self._journal.close()
        with suppress(OSError):
            self._remove_results()
            self._journal.path.unlink()
            if self._new_folder:
                self.path.rmdir()

    def _remove_earlier(self) -> None:
        """Remove what an earlier run left under the names that this one uses."""

    def _restore(self) -> None:
        """Read the journal into `done`."""
        raise NotImplementedError

    def _remove_results(self) -> None:
        """Remove what this run wrote beside its journal."""


def other_files(folder: Path, number: int, before: list[Any], files: list[Path]) -> ConfigError | None:
    """The error for a run that is continued with other files.

    Parameters
    ----------
    folder : Path
        Folder of the unfinished run.
    number : int
        Number of a file, from 0.
    before : list
        Its name, size and modification time in the unfinished run.
    files : list of Path
        The files now.

    Returns
    -------
    ConfigError or None
        None if the file is the same.
    """
    if number >= len(files) or str(files[number]) != before[0]:
        there = "is not among the files here" if number >= len(files) else f"is now {files[number]}"
        change = f"its file {number + 1}, {before[0]}, {there}"
    elif stamp(files[number]) != before:
        change = f"{before[0]} has changed since"
    else:
        return None
    return ConfigError(
        f"{folder} holds an unfinished run of other files: {change}; use the same files, or discard that "
        "run with --overwrite"
    )


def stamp(file: Path) -> list[Any]:
    """Name, size and modification time of a file, as JSON values."""
    try:
        found = file.stat()
    except (OSError, ValueError):
        return [str(file), None, None]
    return [str(file), found.st_size, found.st_mtime_ns]


def json_line(value: Any) -> bytes:
    """JSON in UTF-8; bytes of names that are not UTF-8 are escaped, and restored when read."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")
