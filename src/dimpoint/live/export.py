"""Events of a store as records, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from dimpoint.errors import DataError
from dimpoint.live.events import open_store
from dimpoint.text import csv_cell

_TIMES = ("started", "confirmed", "ended", "time", "began")
_QUERIES = {
    "tracks": """SELECT t.id, r.source, r.model, t.state, t.reason, t.started, t.confirmed, t.ended, t.going,
        t.ended - t.started AS duration, t.measured, t.mean_score, t.best_score,
        t.first_x, t.first_y, t.last_x, t.last_y, t.width, t.height,
        (SELECT count(*) FROM alarms a WHERE a.track = t.id) AS alarms
        FROM tracks t JOIN runs r ON r.id = t.run WHERE t.ended >= ? AND t.started <= ? ORDER BY t.started""",
    "alarms": """SELECT a.id, a.time, a.rule, a.track, r.source, a.x, a.y, a.speed, a.score, a.duration,
        a.clip FROM alarms a JOIN tracks t ON t.id = a.track JOIN runs r ON r.id = t.run
        WHERE a.time >= ? AND a.time <= ? ORDER BY a.time""",
    "points": """SELECT p.track, p.frame, p.time, p.x, p.y, p.vx, p.vy, p.score, p.measured
        FROM points p WHERE p.time >= ? AND p.time <= ? ORDER BY p.track, p.frame""",
    "interruptions": """SELECT r.source, i.began, i.ended, i.reason FROM interruptions i
        JOIN runs r ON r.id = i.run WHERE coalesce(i.ended, i.began) >= ? AND i.began <= ?
        ORDER BY i.began""",
}
KINDS = tuple(_QUERIES)


def events(
    path: Path, kind: str = "tracks", *, since: float | None = None, until: float | None = None
) -> Iterator[dict[str, Any]]:
    """The tracks, alarms, points or interruptions of a store, in order of time.

    Parameters
    ----------
    path : Path
        The event store; it may be in use.
    kind : {"tracks", "alarms", "points", "interruptions"}
        What is listed.
    since, until : float, optional
        Seconds since 1970; tracks and interruptions count that lie in this time with a part. Default:
        everything.

    Yields
    ------
    dict
        One record for each. Times are ISO 8601, local with offset.

    Raises
    ------
    DataError
        For a file that is no event store.
    """
    base = open_store(path, make=False)
    try:
        found = base.execute(_QUERIES[kind], (since or 0.0, 1e18 if until is None else until))
        names = [column[0] for column in found.description]
        for row in found:
            yield {name: _shown(name, value) for name, value in zip(names, row, strict=True)}
    except sqlite3.Error as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    finally:
        base.close()


def columns(path: Path, kind: str = "tracks") -> list[str]:
    """The keys of the records of `events`, also where there is none."""
    base = open_store(path, make=False)
    try:
        return [column[0] for column in base.execute(_QUERIES[kind], (1e18, 0.0)).description]
    except sqlite3.Error as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    finally:
        base.close()


def as_csv(records: Iterator[dict[str, Any]], names: Sequence[str] | None = None) -> str:
    """The records as CSV with a line of names; texts that a spreadsheet takes for formulas are quoted.

    names: of the columns, which without any record are not known otherwise.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if names is not None:
        writer.writerow(names)
    for number, record in enumerate(records):
        if number == 0 and names is None:
            writer.writerow(record)
        writer.writerow([csv_cell(value) if isinstance(value, str) else value for value in record.values()])
    return text.getvalue()


def as_json(records: Iterator[dict[str, Any]]) -> str:
    """The records as a JSON list."""
    return json.dumps(list(records), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _shown(name: str, value: Any) -> Any:
    if name in _TIMES and value is not None:
        return datetime.fromtimestamp(value).astimezone().isoformat(timespec="milliseconds")
    if name in ("going", "measured") and value in (0, 1):
        return bool(value) if name == "going" else value
    return round(value, 4) if isinstance(value, float) else value
