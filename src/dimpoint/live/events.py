"""The event store: an SQLite file (WAL) with every confirmed track, alarm and interruption.

docs/howto/watch.md documents the tables. Long tracks thin out: every point of the first minute, then one a
second; of static tracks one a minute.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dimpoint.errors import DataError
from dimpoint.tracking.track import Point, Track

VERSION = 1
APPLICATION = 0x64696D70  # "dimp": what kind of SQLite file this is
_DENSE = 60.0  # seconds of a track of which every point is kept
_LATER = 1.0  # seconds between the points after that
_STATIC = 60.0  # the same, of static tracks
_RUN = (
    1_000_000_000  # ids of tracks are this times the run's id, and the number: several cameras share a file
)
_EVERY = 1.0  # seconds between two transactions
_MOST_PENDING = 20_000  # points that wait while the disk takes none

SCHEMA = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, started REAL NOT NULL, ended REAL, source TEXT NOT NULL, model TEXT NOT NULL,
    version TEXT NOT NULL);
CREATE TABLE tracks (
    id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs(id), number INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('confirmed', 'static')), reason TEXT,
    started REAL NOT NULL, confirmed REAL NOT NULL, ended REAL NOT NULL, going INTEGER NOT NULL,
    measured INTEGER NOT NULL, mean_score REAL NOT NULL, best_score REAL NOT NULL,
    first_x REAL NOT NULL, first_y REAL NOT NULL, last_x REAL NOT NULL, last_y REAL NOT NULL,
    width INTEGER NOT NULL, height INTEGER NOT NULL, UNIQUE (run, number));
CREATE INDEX tracks_started ON tracks (started);
CREATE TABLE points (
    track INTEGER NOT NULL REFERENCES tracks(id) ON DELETE CASCADE, frame INTEGER NOT NULL,
    time REAL NOT NULL, x REAL NOT NULL, y REAL NOT NULL, vx REAL NOT NULL, vy REAL NOT NULL,
    score REAL NOT NULL, measured INTEGER NOT NULL, PRIMARY KEY (track, frame)) WITHOUT ROWID;
CREATE TABLE alarms (
    id TEXT PRIMARY KEY, track INTEGER NOT NULL REFERENCES tracks(id) ON DELETE CASCADE, time REAL NOT NULL,
    rule TEXT NOT NULL, x REAL NOT NULL, y REAL NOT NULL, speed REAL NOT NULL, score REAL NOT NULL,
    duration REAL NOT NULL, clip TEXT);
CREATE INDEX alarms_time ON alarms (time);
CREATE TABLE interruptions (
    run INTEGER NOT NULL REFERENCES runs(id), began REAL NOT NULL, ended REAL, reason TEXT NOT NULL);
"""


@dataclass
class _Row:
    """A track as the store knows it."""

    key: int
    measured: int = 0
    total: float = 0.0
    best: float = 0.0
    frame: int = -1  # last point taken in
    stored: float = -1e18  # time of the last point that was written


class EventStore:
    """Writes tracks while they go on; at most a second of points is lost when the process is killed.

    Parameters
    ----------
    path : Path
        The SQLite file; made if it is new.
    source, model, version : str
        Of this run; the source without its password.
    warn : callable
        Called with a line of text when the file cannot be written. What waits is tried again; beyond 20,000
        entries the oldest are lost, which is reported.
    keep_days : float, optional
        Tracks that are older, in days, are deleted. Default: none.

    Raises
    ------
    DataError
        For a file that is no event store, or of a newer version.
    """

    def __init__(
        self,
        path: Path,
        *,
        source: str,
        model: str,
        version: str,
        warn: Callable[[str], None],
        keep_days: float | None = None,
    ) -> None:
        self.path, self._warn, self._keep_days = path, warn, keep_days
        self._base = open_store(path, make=True)
        self._rows: dict[int, _Row] = {}
        self._states: dict[int, tuple[Any, ...]] = {}  # of tracks, not written yet
        self._pending: list[tuple[str, tuple[Any, ...]]] = []
        self._lost = 0
        self._failing = False
        self._last = time.monotonic()
        self._cleaned = 0.0
        now = time.time()
        try:
            with self._base:
                self._base.execute("UPDATE tracks SET going = 0 WHERE going = 1")  # of a run that was killed
                found = self._base.execute(
                    "INSERT INTO runs (started, source, model, version) VALUES (?, ?, ?, ?)",
                    (now, source, model, version),
                )
        except sqlite3.Error as error:
            raise DataError(f"{path}: cannot be written: {error}") from None
        self.run = int(found.lastrowid or 0)

    def take(
        self, tracks: Iterable[Track], offset: float, size: tuple[int, int], *, ended: bool = False
    ) -> None:
        """Take in the new points of confirmed and static tracks.

        Parameters
        ----------
        tracks : iterable of Track
            Those that go on, or those that have ended.
        offset : float
            Seconds since 1970 at time 0 of the tracks.
        size : (int, int)
            Width and height of the frame, pixels.
        ended : bool
            Whether these tracks end here.
        """
        for one in tracks:
            self._take(one, offset, size, ended)
        self._flush_in_time()

    def key_of(self, one: Track) -> int:
        """The id of a track in the file."""
        return self._rows[one.id].key

    def alarm(self, record: dict[str, Any], one: Track) -> None:
        """Store an alarm.

        Parameters
        ----------
        record : dict
            `id`, `time` (seconds since 1970), `rule`, `x` and `y` (pixels), `speed` (pixels a second),
            `score`, `duration` (seconds), `clip` (a path, or None).
        one : Track
            The track that raised it; `take` has taken it in.
        """
        fields = ("id", "time", "rule", "x", "y", "speed", "score", "duration", "clip")
        values = (self.key_of(one), *(record[name] for name in fields))
        self._pending.append(
            (f"INSERT INTO alarms (track, {', '.join(fields)}) VALUES (?{', ?' * 9})", values)
        )

    def interruption(self, began: float, ended: float, reason: str) -> None:
        """Store a time without frames.

        Parameters
        ----------
        began, ended : float
            Seconds since 1970.
        reason : str
            In words.
        """
        statement = "INSERT INTO interruptions (run, began, ended, reason) VALUES (?, ?, ?, ?)"
        self._pending.append((statement, (self.run, began, ended, reason)))

    def close(self) -> None:
        """Write what waits, and the end of the run."""
        self._pending.append(("UPDATE runs SET ended = ? WHERE id = ?", (time.time(), self.run)))
        self._pending.append(("UPDATE tracks SET going = 0 WHERE run = ?", (self.run,)))
        self._flush()
        self._base.close()

    def _take(self, one: Track, offset: float, size: tuple[int, int], ended: bool) -> None:
        row = self._rows.get(one.id)
        if row is None:
            row = self._rows[one.id] = _Row(_RUN * self.run + one.id)
        begin = one.points[0].time
        for point in _new_points(one, row.frame):
            row.frame = point.frame
            if point.measured:
                row.measured += 1
                row.total += point.score
                row.best = max(row.best, point.score)
            step = _STATIC if one.state == "static" else 0.0 if point.time - begin <= _DENSE else _LATER
            if point.time - row.stored >= step:
                row.stored = point.time
                kinematics = (point.x, point.y, point.vx, point.vy, point.score, int(point.measured))
                self._pending.append(
                    (
                        "INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        (row.key, point.frame, point.time + offset, *kinematics),
                    )
                )
        self._states[row.key] = self._record(one, row, offset, size, ended)
        if ended:
            del self._rows[one.id]

    def _record(
        self, one: Track, row: _Row, offset: float, size: tuple[int, int], ended: bool
    ) -> tuple[Any, ...]:
        first = one.points[0]
        last = next((point for point in reversed(one.points) if point.measured), one.points[-1])
        confirmed = first.time if one.confirmed_at is None else one.confirmed_at
        mean = row.total / row.measured if row.measured else 0.0
        times = (first.time + offset, confirmed + offset, last.time + offset)
        state = "static" if one.state == "static" else "confirmed"
        places = (first.x, first.y, last.x, last.y)
        counts = (row.measured, mean, row.best)
        return (row.key, self.run, one.id, state, one.reason, *times, int(not ended), *counts, *places, *size)

    def _flush_in_time(self) -> None:
        now = time.monotonic()
        if now - self._last >= _EVERY:
            self._last = now
            self._flush()
            self._clean()

    def _flush(self) -> None:
        """Write what waits in one transaction; a failure is told once, and tried again a second later."""
        if not self._pending and not self._states:
            return
        try:
            with self._base:
                self._base.executemany(_TRACK, self._states.values())
                for statement, values in self._pending:
                    self._base.execute(statement, values)
        except sqlite3.Error as error:
            if not self._failing:
                self._warn(f"{self.path}: cannot be written: {error}; tried again, watching goes on")
            self._failing = True
            excess = len(self._pending) - _MOST_PENDING
            if excess > 0:
                self._pending = self._pending[excess:]
                self._lost += excess
            return
        self._pending, self._states = [], {}
        if self._failing:
            self._failing = False
            self._warn(f"{self.path}: is written again; {self._lost} entries were lost")
            self._lost = 0

    def _clean(self) -> None:
        if self._keep_days is None or (time.monotonic() - self._cleaned < 3600 and self._cleaned):
            return
        self._cleaned = time.monotonic()
        before = time.time() - 86400 * self._keep_days
        try:
            with self._base:
                self._base.execute("DELETE FROM tracks WHERE going = 0 AND ended < ?", (before,))
                self._base.execute("DELETE FROM interruptions WHERE ended < ?", (before,))
        except sqlite3.Error as error:
            self._warn(f"{self.path}: old events cannot be deleted: {error}")


_TRACK = (
    "INSERT INTO tracks VALUES (?"
    + ", ?" * 17
    + """) ON CONFLICT (id) DO UPDATE SET
    state = excluded.state, reason = excluded.reason, ended = excluded.ended, going = excluded.going,
    measured = excluded.measured, mean_score = excluded.mean_score, best_score = excluded.best_score,
    last_x = excluded.last_x, last_y = excluded.last_y"""
)


def _new_points(one: Track, frame: int) -> list[Point]:
    """The points of a track behind a frame, in order, up to the last measured one."""
    new: list[Point] = []
    for point in reversed(one.points):
        if point.frame <= frame:
            break
        if new or point.measured:
            new.append(point)
    return new[::-1]


def open_store(path: Path, *, make: bool) -> sqlite3.Connection:
    """Open an event store.

    Parameters
    ----------
    path : Path
        The SQLite file.
    make : bool
        Make it, and its folder, if it is not there.

    Returns
    -------
    sqlite3.Connection
        To be closed by the caller.

    Raises
    ------
    DataError
        If the file is no event store, cannot be opened, or is of a newer version.
    """
    if not make and not path.is_file():
        raise DataError(f"{path}: no such file; `dimpoint watch --events` writes one")
    try:
        if make:
            path.parent.mkdir(parents=True, exist_ok=True)
        base = sqlite3.connect(path, timeout=1.0)
        try:
            kind = base.execute("PRAGMA application_id").fetchone()[0]
            version = base.execute("PRAGMA user_version").fetchone()[0]
            empty = base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
            if make and empty:
                base.execute("PRAGMA journal_mode = WAL")
                marks = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};"
                base.executescript(f"BEGIN; {SCHEMA} {marks} COMMIT;")
            elif kind != APPLICATION:
                raise DataError(f"{path}: is an SQLite file, but no event store of `dimpoint watch`")
            elif version > VERSION:
                raise DataError(f"{path}: is of version {version}; this dimpoint knows {VERSION}")
            base.execute("PRAGMA foreign_keys = ON")
            if make:
                base.execute("PRAGMA journal_mode = WAL")
                base.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            base.close()
            raise
    except (sqlite3.Error, OSError) as error:
        raise DataError(f"{path}: cannot be opened as an event store: {error}") from None
    return base
