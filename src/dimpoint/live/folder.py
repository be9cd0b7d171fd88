"""A folder into which a camera drops picture files: each new one is a frame, once it is complete."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from dimpoint.errors import DimpointError
from dimpoint.live.cameras import LostError, Shot
from dimpoint.model.validity import filled
from dimpoint.sources import PLAIN, ReadOptions
from dimpoint.sources.files import natural_key
from dimpoint.sources.readers import frame_suffixes, read_picture
from dimpoint.text import counted

_SETTLED = 0.3  # seconds without a change of size or time after which a file is read
_GIVEN_UP = 10.0  # seconds without a change after which a file that cannot be read counts as broken
_LEAST_PAUSE = 0.05  # seconds between two looks at the folder
_SHARE = 5  # a look may take one part in so many of the time
_SLACK = 10_000_000_000  # ns that times of change may be out of order
_REMEMBERED = 10_000  # files that were read last, beside those that a look still lists
_MOST_WAITING = 1000
_MOST_TOLD = 20  # broken files that are named

_Stamp = tuple[int, int]  # time of change in ns, size


@dataclass
class _Waiting:
    stamp: _Stamp
    since: float
    tried: bool = False


class FolderCamera:
    """A folder of picture files; a file that is overwritten is a new frame.

    A file is read when its size and time of change have stood still for 0.3 s; one that cannot be read is
    tried again when it changes, and is reported after 10 s. Files that are there at the start are passed
    over.

    Parameters
    ----------
    folder : Path
        That gets new files.
    fps : float, optional
        Frames a second, from which the frames get their times. Default: the time of a file's last change.
    options : ReadOptions
        How pictures are read.
    """

    def __init__(self, folder: Path, *, fps: float | None = None, options: ReadOptions = PLAIN) -> None:
        self._folder, self._fps, self._options = folder, fps, options
        self.shown = str(folder)
        self.passed_over = 0
        self.broken = 0
        self._mark = -1  # the latest time of change that was met
        self._done: dict[tuple[str, _Stamp], None] = {}  # oldest first
        self._waiting: dict[str, _Waiting] = {}
        self._count = 0
        self._told: set[str] = set()

    def shots(self, stop: Callable[[], bool], note: Callable[[str], None]) -> Iterator[Shot]:
        """Frames as their files become complete; see `Camera`."""
        if self._mark < 0:
            self._begin(note)
        while not stop():
            begin = time.monotonic()
            self._look(begin)
            for name in self._ready(begin):
                shot = self._read(name, begin, note)
                if shot is not None:
                    yield shot
                if stop():
                    return
            spent = time.monotonic() - begin
            time.sleep(min(5.0, max(_LEAST_PAUSE, _SHARE * spent)))

    def _begin(self, note: Callable[[str], None]) -> None:
        there = list(self._entries())
        self._mark = max((stamp[0] for _, stamp in there), default=0)
        for name, stamp in there:
            self._done[(name, stamp)] = None
        if there:
            note(
                counted(
                    len(there),
                    "file that is in the folder already is passed over",
                    "files that are in the folder already are passed over",
                )
            )

    def _entries(self) -> Iterator[tuple[str, _Stamp]]:
        """The picture files that changed since the last look, about."""
        suffixes = frame_suffixes()
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or Path(entry.name).suffix.lower() not in suffixes:
                        continue
                    try:
                        found = entry.stat()
                    except OSError:
                        continue  # removed meanwhile
                    if found.st_ctime_ns >= self._mark - _SLACK and not entry.is_dir():
                        yield entry.name, (found.st_ctime_ns, found.st_size)
        except OSError as error:
            raise LostError(f"the folder cannot be read: {error.strerror}") from None

    def _look(self, now: float) -> None:
        there = set(self._entries())
        for entry in list(islice(self._done, max(0, len(self._done) - _REMEMBERED))):
            if entry not in there:
                del self._done[entry]
        for name, stamp in there.difference(self._done):
            known = self._waiting.get(name)
            if known is None or known.stamp != stamp:
                self._waiting[name] = _Waiting(stamp, now)
        if time.time_ns() < self._mark - _SLACK:  # the clock was set back
            self._mark = time.time_ns()
        if len(self._waiting) > _MOST_WAITING:
            for name in sorted(self._waiting, key=lambda one: self._waiting[one].stamp)[:-_MOST_WAITING]:
                self._finish(name)
                self.passed_over += 1

    def _ready(self, now: float) -> list[str]:
        """Files to be read now, in the order of their times."""
        ready = [
            name
            for name, one in self._waiting.items()
            if now - one.since >= (_GIVEN_UP if one.tried else _SETTLED)
        ]
        return sorted(ready, key=lambda name: (self._waiting[name].stamp[0], natural_key(Path(name))))

    def _read(self, name: str, now: float, note: Callable[[str], None]) -> Shot | None:
        path, waiting = self._folder / name, self._waiting[name]
        try:
            written = path.stat().st_mtime
            picture = read_picture(path, self._options)
        except OSError:
            self._finish(name)  # removed before it was read
            return None
        except DimpointError as error:
            if not path.exists():
                self._finish(name)
            elif waiting.tried:
                self._finish(name)
                self.broken += 1
                if self.broken <= _MOST_TOLD:
                    note(f"not read: {error}")
            waiting.tried = True
            return None
        self._finish(name)
        self._count += 1
        for said in picture.notes:
            if said not in self._told:
                self._told.add(said)
                note(f"{path}: {said}")
        moment = written if self._fps is None else self._count / self._fps
        return Shot(filled(picture.pixels, picture.valid), moment, now, name, picture.valid)

    def _finish(self, name: str) -> None:
        stamp = self._waiting.pop(name).stamp
        self._mark = max(self._mark, stamp[0])
        self._done[(name, stamp)] = None
