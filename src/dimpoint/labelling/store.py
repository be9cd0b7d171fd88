"""The labels of a project, in SQLite: every accepted change is on disk before it is acknowledged.

The database is in write-ahead mode with `synchronous = FULL`: what `save` has returned survives a killed
process and a power cut. Each frame has a version. A change names the version that it was made on, so that two
open pages never overwrite each other. Every former state stays in the table `history`.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from dimpoint.errors import DataError, DimpointError

SCHEMA = 1
Status = Literal["unlabelled", "targets", "empty", "unsure"]
STATUSES: tuple[str, ...] = get_args(Status)
ANSWERS = ("targets", "empty")

_TABLES = """
CREATE TABLE frames (
    id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, source TEXT NOT NULL, number INTEGER,
    size INTEGER NOT NULL, modified INTEGER NOT NULL, scene INTEGER NOT NULL DEFAULT 0,
    version INTEGER NOT NULL DEFAULT 0, status TEXT NOT NULL DEFAULT 'unlabelled',
    labels TEXT NOT NULL DEFAULT '{}', author TEXT NOT NULL DEFAULT '', changed REAL,
    width INTEGER, height INTEGER, doubt REAL, scanned_by TEXT
);
CREATE INDEX frames_status ON frames (status, id);
CREATE INDEX frames_doubt ON frames (doubt);
CREATE TABLE history (
    id INTEGER PRIMARY KEY, frame INTEGER NOT NULL, version INTEGER NOT NULL, status TEXT NOT NULL,
    labels TEXT NOT NULL, author TEXT NOT NULL, changed REAL NOT NULL
);
CREATE INDEX history_frame ON history (frame, version);
"""


class ConflictError(DimpointError):
    """A change was made on an older version of a frame than the stored one."""

    def __init__(self, message: str, current: Labels) -> None:
        super().__init__(message)
        self.current = current


@dataclass(frozen=True)
class SourceFrame:
    """Where a frame of the project comes from.

    name: unique in the project. source: path of the file. number: of the frame in a video or a file of
    several pages, else None. size, modified: of the file when it was added, bytes and nanoseconds. scene:
    frames of one scene resemble each other.
    """

    name: str
    source: str
    number: int | None
    size: int
    modified: int
    scene: int = 0


@dataclass(frozen=True)
class Labels:
    """The labels of one frame.

    version: counts the changes. points: (x, y) of targets, pixels. regions: (left, top, right, bottom) of
    areas that training and evaluation ignore. rejected: (x, y) of proposals that are no targets. author: who
    made the change. changed: when, seconds since 1970.
    """

    version: int = 0
    status: Status = "unlabelled"
    points: tuple[tuple[float, float], ...] = ()
    regions: tuple[tuple[float, float, float, float], ...] = ()
    rejected: tuple[tuple[float, float], ...] = ()
    author: str = ""
    changed: float | None = None

    def content(self) -> str:
        """Points, regions and rejections as JSON."""
        parts = {key: asdict(self)[key] for key in ("points", "regions", "rejected")}
        return json.dumps(parts)


@dataclass(frozen=True)
class Row:
    """A frame in a list. points: number of targets."""

    id: int
    name: str
    status: Status
    points: int
    doubt: float | None


@dataclass
class LabelStore:
    """The database of a project; one process opens it, its threads share it."""

    path: Path
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def __post_init__(self) -> None:
        new = not self.path.exists() or self.path.stat().st_size == 0
        try:
            self._db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if new:
                with self._transaction():
                    for statement in _TABLES.split(";"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {SCHEMA}")
            elif self._db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                raise DataError(self._damaged("its check fails"))
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if isinstance(error, sqlite3.OperationalError) and "unable to open" in str(error):
                raise DimpointError(f"{self.path}: cannot be opened for writing") from None
            if isinstance(error, sqlite3.OperationalError) and "readonly" in str(error):
                raise DimpointError(f"{self.path}: the project folder is read-only") from None
            raise DataError(self._damaged(str(error))) from None
        if not new and version > SCHEMA:
            raise DataError(f"{self.path}: label store version {version} is newer than this dimpoint reads")
        if not new and version < 1:
            raise DataError(self._damaged("it is no label store"))

    def _damaged(self, why: str) -> str:
        kept = self.path.with_name(self.path.name + ".damaged")
        try:
            shutil.copy2(self.path, kept)
        except OSError:
            return f"{self.path}: damaged ({why})"
        return (
            f"{self.path}: damaged ({why}); a copy is kept as {kept.name}. The labels are also in "
            "points.json: move labels.db and labels.db-wal away, and import that file"
        )

    def close(self) -> None:
        """Close the database; the write-ahead file is merged."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except BaseException as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError):
                    raise DimpointError(f"{self.path}: the change could not be stored ({error})") from None
                raise

    def add_frames(self, frames: Sequence[SourceFrame]) -> int:
        """Add the frames whose name is not there yet; returns how many are new."""
        with self._transaction():
            before = self._one("SELECT COUNT(*) FROM frames")[0]
            self._db.executemany(
                "INSERT INTO frames (name, source, number, size, modified, scene) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (name) DO NOTHING",
                [(f.name, f.source, f.number, f.size, f.modified, f.scene) for f in frames],
            )
            return int(self._one("SELECT COUNT(*) FROM frames")[0] - before)

    def count(self) -> dict[str, int]:
        """The number of frames by status, and `all`."""
        rows = self._all("SELECT status, COUNT(*) FROM frames GROUP BY status")
        counts = dict.fromkeys(STATUSES, 0) | dict(rows)
        return counts | {"all": sum(counts.values())}

    def source(self, frame: int) -> SourceFrame:
        """Where a frame comes from; raises DataError for an unknown id."""
        row = self._one("SELECT name, source, number, size, modified, scene FROM frames WHERE id = ?", frame)
        return SourceFrame(*row)

    def sources(self) -> list[SourceFrame]:
        """Where every frame of the project comes from."""
        found = self._all("SELECT name, source, number, size, modified, scene FROM frames ORDER BY id")
        return [SourceFrame(*row) for row in found]

    def withdrawn(self) -> list[SourceFrame]:
        """The frames that had an answer and have none now."""
        found = self._all(
            "SELECT name, source, number, size, modified, scene FROM frames WHERE status NOT IN "
            "('targets', 'empty') AND id IN (SELECT frame FROM history WHERE status IN ('targets', 'empty'))"
        )
        return [SourceFrame(*row) for row in found]

    def labels(self, frame: int) -> Labels:
        """The present labels of a frame; raises DataError for an unknown id."""
        row = self._one("SELECT version, status, labels, author, changed FROM frames WHERE id = ?", frame)
        return _labels(row)

    def save(self, frame: int, labels: Labels, size: tuple[int, int]) -> Labels:
        """Store the labels of a frame, made on `labels.version`.

        Parameters
        ----------
        frame
            Its id.
        labels
            The new labels.
        size
            (height, width) of the frame.

        Returns
        -------
        Labels
            As stored, with their new version.

        Raises
        ------
        ConflictError
            If another change came first.
        DataError
            If a label lies outside the frame, or the status is unknown.
        DimpointError
            If the disk is full or read-only.
        """
        _check(labels, size)
        status = "targets" if labels.points else labels.status
        if status == "targets" and not labels.points:
            status = "unlabelled"
        now = time.time()
        with self._transaction():
            current = self.labels(frame)
            if current.version != labels.version:
                raise ConflictError(
                    f"this frame was changed by {current.author or 'another page'} in the meantime", current
                )
            stored = replace(labels, version=current.version + 1, status=status, changed=now)
            self._db.execute(
                "UPDATE frames SET version = ?, status = ?, labels = ?, author = ?, changed = ?, "
                "height = ?, width = ? WHERE id = ?",
                (stored.version, status, stored.content(), labels.author, now, *size, frame),
            )
            self._db.execute(
                "INSERT INTO history (frame, version, status, labels, author, changed) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (frame, stored.version, status, stored.content(), labels.author, now),
            )
        return stored

    def history(self, frame: int) -> list[Labels]:
        """All states of a frame's labels, the oldest first."""
        rows = self._all(
            "SELECT version, status, labels, author, changed FROM history WHERE frame = ? ORDER BY version",
            (frame,),
        )
        return [_labels(row) for row in rows]

    def answers(self) -> list[tuple[int, Labels]]:
        """Every answer (targets or none) ever given, with its frame's id, the oldest first."""
        found = self._all(
            "SELECT frame, version, status, labels, author, changed FROM history "
            "WHERE status IN ('targets', 'empty') ORDER BY id"
        )
        return [(int(row[0]), _labels(row[1:])) for row in found]

    def answered(self) -> list[int]:
        """Ids of the frames that have an answer now (targets or none)."""
        found = self._all("SELECT id FROM frames WHERE status IN ('targets', 'empty') ORDER BY id")
        return [int(row[0]) for row in found]

    def rows(self, start: int, count: int) -> list[Row]:
        """Up to `count` frames from the `start`-th on, in the project's order."""
        found = self._all(
            "SELECT id, name, status, json_array_length(labels, '$.points'), doubt FROM frames "
            "WHERE id > ? ORDER BY id LIMIT ?",
            (start, count),
        )
        return [Row(key, name, status, points or 0, doubt) for key, name, status, points, doubt in found]

    def labelled(self) -> list[tuple[SourceFrame, Labels, tuple[int, int]]]:
        """Every frame with an answer (targets or none), its labels and its (height, width)."""
        found = self._all(
            "SELECT name, source, number, size, modified, scene, version, status, labels, author, "
            "changed, height, width FROM frames WHERE status IN ('targets', 'empty') ORDER BY id"
        )
        return [(SourceFrame(*row[:6]), _labels(row[6:11]), (row[11], row[12])) for row in found]

    def find(self, name: str) -> int | None:
        """The id of the frame of that name, or None."""
        return self._id("SELECT id FROM frames WHERE name = ?", (name,))

    def neighbour(self, frame: int, step: Literal[-1, 1], status: Status | None = None) -> int | None:
        """The next or previous frame, of that status if one is given; None at the end."""
        sign, order = (">", "ASC") if step > 0 else ("<", "DESC")
        where = "" if status is None else "AND status = ?"
        values: tuple[Any, ...] = (frame,) if status is None else (frame, status)
        query = f"SELECT id FROM frames WHERE id {sign} ? {where} ORDER BY id {order} LIMIT 1"
        return self._id(query, values)

    def most_doubtful(self, after: int | None = None) -> int | None:
        """The unlabelled frame with the highest doubt, or None.

        after: a frame whose scene comes last, and which itself comes last of all.
        """
        scene = None if after is None else self.source(after).scene
        return self._id(
            "SELECT id FROM frames WHERE status = 'unlabelled' AND doubt IS NOT NULL "
            "ORDER BY id = ?, scene = ?, doubt DESC, id LIMIT 1",
            (after or 0, -1 if scene is None else scene),
        )

    def set_doubt(self, frame: int, doubt: float, model: str) -> None:
        """Store how doubtful a model is of a frame, 0 (sure) to 1; nothing where the disk is full."""
        with self._lock, suppress(sqlite3.OperationalError):
            self._db.execute(
                "UPDATE frames SET doubt = ?, scanned_by = ? WHERE id = ?", (doubt, model, frame)
            )

    def unscanned(self, model: str, count: int) -> list[int]:
        """Ids of unlabelled frames that a model has not seen, spread evenly over the project."""
        rows = self._all(
            "SELECT id FROM frames WHERE status = 'unlabelled' AND scanned_by IS NOT ? ORDER BY id", (model,)
        )
        step = max(1, len(rows) // count)
        return [int(row[0]) for row in rows[::step][:count]]

    def _all(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows of a query; DataError where the file is damaged."""
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                raise DataError(f"{self.path}: the store cannot be read: {error}") from None

    def _id(self, query: str, values: Sequence[Any]) -> int | None:
        rows = self._all(query, values)
        return int(rows[0][0]) if rows else None

    def _one(self, query: str, *values: Any) -> Any:
        rows = self._all(query, values)
        if not rows:
            raise DataError("there is no such frame in the project")
        return rows[0]


def _labels(row: Sequence[Any]) -> Labels:
    version, status, text, author, changed = row
    try:
        parts = {key: tuple(tuple(one) for one in value) for key, value in json.loads(text).items()}
        return Labels(version=version, status=status, author=author, changed=changed, **parts)
    except (TypeError, ValueError, AttributeError, RecursionError):
        raise DataError(f"damaged labels in the project's store: {str(text)[:80]!r}") from None


def _check(labels: Labels, size: tuple[int, int]) -> None:
    height, width = size
    if labels.status not in STATUSES:
        raise DataError(f"status: one of {', '.join(STATUSES)}, got {labels.status!r}")
    for x, y in (*labels.points, *labels.rejected):
        if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
            raise DataError(f"the point ({x:g}, {y:g}) lies outside the frame of {width}x{height} pixels")
    for left, top, right, bottom in labels.regions:
        if not (-0.5 <= left < right <= width - 0.5 and -0.5 <= top < bottom <= height - 0.5):
            raise DataError(
                f"the region ({left:g}, {top:g}, {right:g}, {bottom:g}) does not lie in the frame"
            )
