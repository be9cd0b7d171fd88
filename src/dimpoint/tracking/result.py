"""`Tracks`: the tracks of a source, and their files: JSON, CSV, MOTChallenge text."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dimpoint.atomic import write_text
from dimpoint.errors import DataError, MissingExtraError
from dimpoint.tracking.motion import Matrix
from dimpoint.tracking.track import Point, Track

if TYPE_CHECKING:
    from pandas import DataFrame

CSV_COLUMNS = ("id", "state", "frame", "time", "clock", "x", "y", "vx", "vy", "score", "measured")
ASSUMED_RATE = 25.0
"""Frames a second of a source that has no times."""

Span = tuple[tuple[int, float], tuple[int, float]]
_FAR = 1e10  # beyond all frames, seconds and pixels of a source
_MOT_BOX = 8.0  # pixels: side of the boxes of MOTChallenge text, which knows no points


@dataclass(frozen=True, eq=False)
class MotionRow:
    """The camera's motion into one frame; see `Motion`."""

    frame: int
    time: float
    how: str
    matrix: Matrix


class FrameTimes:
    """Times of frames by their number: known ones, and between and beyond them by the usual step.

    known: number -> seconds. rate: frames a second, for fewer than two known frames. step: the mean step
    between known frames, seconds. last: the highest known number, -1 without any.
    """

    def __init__(self, known: dict[int, float], rate: float | None = None) -> None:
        self._numbers = np.array(sorted(known), np.float64)
        self._times = np.array([known[number] for number in sorted(known)], np.float64)
        self.last = int(self._numbers[-1]) if len(known) else -1
        self.step = 1 / (rate or ASSUMED_RATE)
        if len(known) > 1:
            self.step = float(
                (self._times[-1] - self._times[0]) / max(self._numbers[-1] - self._numbers[0], 1)
            )

    def __call__(self, number: int) -> float:
        """The time of a frame, seconds."""
        if not len(self._numbers):
            return number * self.step
        inside = float(np.clip(number, self._numbers[0], self._numbers[-1]))
        return float(np.interp(inside, self._numbers, self._times)) + (number - inside) * self.step


@dataclass(eq=False)
class Tracks:
    """The tracks of a source.

    Attributes
    ----------
    tracks : list of Track
        Confirmed and static ones by id, then those still tentative at the end.
    source, model : str
        Names.
    frames : int
        How many were read.
    motions : list of MotionRow
        Camera motion, for frames where the camera did not stand still.
    notes : list of str
        What a reader should know of times and candidates.
    start : datetime or None
        Wall-clock time of time 0.
    span : tuple or None
        Number and time, seconds, of the first and of the last frame.
    """

    tracks: list[Track]
    source: str = ""
    model: str = ""
    frames: int = 0
    motions: list[MotionRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    start: datetime | None = None
    span: Span | None = None

    def __len__(self) -> int:
        return len(self.tracks)

    def __iter__(self) -> Iterator[Track]:
        return iter(self.tracks)

    def of(self, state: str) -> list[Track]:
        """The tracks of one state."""
        return [one for one in self.tracks if one.state == state]

    def to_dict(self) -> dict[str, Any]:
        """What `tracks.json` holds."""
        return {
            "source": self.source,
            "model": self.model,
            "frames": self.frames,
            "start": None if self.start is None else self.start.isoformat(),
            "span": None if self.span is None else [_end_record(*end) for end in self.span],
            "tracks": [_track_record(one) for one in self.tracks],
            "static": [_static_record(one) for one in self.of("static")],
            "camera_motion": [_motion_record(row) for row in self.motions],
            "notes": self.notes,
        }

    def to_dataframe(self) -> DataFrame:
        """One row for each point of each track (pandas); MissingExtraError without pandas."""
        try:
            import pandas as pd
        except ImportError:
            raise MissingExtraError("a data frame", "pandas", "notebook") from None
        return pd.DataFrame(list(self.rows()), columns=list(CSV_COLUMNS))

    def times(self, rate: float | None = None) -> FrameTimes:
        """The times of all frames; rate: frames a second where the tracks do not tell, 25 if left out."""
        known = {point.frame: point.time for one in self.tracks for point in one.points}
        return FrameTimes(known | dict(self.span or ()), rate)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """One row for each point, in the order of `CSV_COLUMNS`."""
        for one in self.tracks:
            for point in one.trimmed():
                kinematics = (round(value, 3) for value in (point.x, point.y, point.vx, point.vy))
                score, seen = round(point.score, 4), point.measured
                clock = self.clock(point.time)
                yield (one.id, one.state, point.frame, round(point.time, 6), clock, *kinematics, score, seen)

    def clock(self, time: float) -> str:
        """Wall-clock time in ISO 8601, "" where the start is not known."""
        return "" if self.start is None else (self.start + timedelta(seconds=time)).isoformat()

    def csv_text(self) -> str:
        """CSV, one line for each point."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        writer.writerows((*row[:-1], int(row[-1])) for row in self.rows())
        return text.getvalue()

    def mot_text(self) -> str:
        """MOTChallenge text of the confirmed tracks: frame from 1, id, left, top, width, height, score, -1,
        -1, -1.

        The boxes are 8 pixels wide around the point; the corner of the top-left pixel is (1, 1) there.
        """
        lines = []
        for one in self.of("confirmed"):
            for point in one.trimmed():
                left, top = point.x + 1.5 - _MOT_BOX / 2, point.y + 1.5 - _MOT_BOX / 2
                box = f"{left:.2f},{top:.2f},{_MOT_BOX:.2f},{_MOT_BOX:.2f}"
                lines.append(
                    (point.frame, one.id, f"{point.frame + 1},{one.id},{box},{point.score:.4f},-1,-1,-1")
                )
        return "".join(f"{line}\n" for *_, line in sorted(lines))

    def write(self, folder: str | Path) -> None:
        """Write `tracks.json`, `tracks.csv` and `tracks.txt` (MOTChallenge) into a folder."""
        folder = Path(folder)
        write_text(folder / "tracks.json", json.dumps(self.to_dict(), allow_nan=False) + "\n")
        write_text(folder / "tracks.csv", self.csv_text())
        write_text(folder / "tracks.txt", self.mot_text())


def read_tracks(path: str | Path) -> Tracks:
    """The tracks of a `tracks.json`; raises DataError, naming file and key, for anything else."""
    path = Path(path)
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise DataError(f"{path}: is no JSON; give a tracks.json of `dimpoint track`") from None
    try:
        tracks = [_track_of(entry) for entry in content["tracks"]]
        frames = int(content["frames"])
        start = content.get("start")
        began = None if start is None else datetime.fromisoformat(start)
        span = _span_of(content.get("span"))
        motions = [_motion_of(row) for row in content.get("camera_motion", ())]
        notes = [str(note) for note in content.get("notes", ())]
        source, model = str(content["source"]), str(content["model"])
        return Tracks(tracks, source, model, frames, motions, notes, start=began, span=span)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"{path}: is no tracks.json of `dimpoint track`: {error!r}") from None


def _end_record(frame: int, time: float) -> dict[str, Any]:
    return {"frame": frame, "time": round(time, 6)}


def _span_of(ends: list[dict[str, Any]] | None) -> Span | None:
    if ends is None:
        return None
    first, last = ((int(_number(end["frame"])), _number(end["time"])) for end in ends)
    return first, last


def _track_of(entry: dict[str, Any]) -> Track:
    if entry["state"] not in ("confirmed", "tentative", "static"):
        raise ValueError(f"state {entry['state']!r}")
    points = [_point_of(row) for row in entry["points"]]
    confirmed_at = entry.get("confirmed_at")
    confirmed_at = None if confirmed_at is None else _number(confirmed_at)
    return Track(
        int(entry["id"]), entry["state"], points, reason=entry.get("reason"), confirmed_at=confirmed_at
    )


def _point_of(row: dict[str, Any]) -> Point:
    time, x, y, vx, vy, score = (_number(row[key]) for key in ("time", "x", "y", "vx", "vy", "score"))
    return Point(int(_number(row["frame"])), time, x, y, vx, vy, score, bool(row["measured"]))


def _motion_of(row: dict[str, Any]) -> MotionRow:
    matrix = np.array([[_number(value) for value in line] for line in row["matrix"]])
    if matrix.shape != (2, 3) or abs(np.linalg.det(matrix[:, :2])) < 1e-9:
        raise ValueError("a camera motion is an invertible 2x3 matrix")
    return MotionRow(int(_number(row["frame"])), _number(row["time"]), str(row["how"]), matrix)


def _number(value: Any) -> float:
    if not abs(number := float(value)) < _FAR:
        raise ValueError("a number that no track has")
    return number


def _track_record(one: Track) -> dict[str, Any]:
    points = [
        {
            "frame": point.frame,
            "time": round(point.time, 6),
            "x": round(point.x, 3),
            "y": round(point.y, 3),
            "vx": round(point.vx, 3),
            "vy": round(point.vy, 3),
            "score": round(point.score, 4),
            "measured": point.measured,
        }
        for point in one.trimmed()
    ]
    record: dict[str, Any] = {"id": one.id, "state": one.state, "points": points}
    if one.confirmed_at is not None:
        record["confirmed_at"] = round(one.confirmed_at, 6)
    if one.reason is not None:
        record["reason"] = one.reason
    return record


def _static_record(one: Track) -> dict[str, Any]:
    points = one.measured_points
    x, y = (sum(getattr(point, axis) for point in points) / len(points) for axis in ("x", "y"))
    frames = {"first_frame": points[0].frame, "last_frame": points[-1].frame}
    return {"id": one.id, "x": round(x, 2), "y": round(y, 2), **frames, "reason": one.reason}


def _motion_record(row: MotionRow) -> dict[str, Any]:
    matrix = [[round(value, 5) for value in line] for line in row.matrix.tolist()]
    return {"frame": row.frame, "time": round(row.time, 6), "how": row.how, "matrix": matrix}
