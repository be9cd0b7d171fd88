"""Tracks of clips against their labels: counts of each clip, numbers over all, intervals over clips.

docs/tracking.md gives each number's definition; `measures` and `hota` have the formulas and their sources.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dimpoint.errors import DataError
from dimpoint.metrics.bootstrap import Interval, bootstrap
from dimpoint.text import counted, csv_cell, latex_table
from dimpoint.tracking.hota import hota_counts, hota_numbers
from dimpoint.tracking.labels import ClipLabels
from dimpoint.tracking.measures import (
    Array,
    Clear,
    Objects,
    Pairing,
    check_distance,
    clear,
    gospa_of,
    identified_points,
    ospa_of,
    pair,
)
from dimpoint.tracking.result import Tracks
from dimpoint.tracking.track import Track

DISTANCE = 5.0
"""Pixels from a labelled point, or from the edge of a labelled box, within which a track's point matches."""

_NEVER = 1e12  # seconds: stands for infinite times, which have no mean
_MOSTLY, _HARDLY = 0.8, 0.2  # parts of an object's frames: mostly tracked, mostly lost
_TRUE = 0.5  # part of a track's points that match an object: fewer, and the track is false

Totals = Mapping[str, Array]
"""Sums over clips: (R,) of each count, (R, 19) of those of HOTA; R: draws of the bootstrap."""


@dataclass(frozen=True)
class Number:
    """A quantity: key in JSON, label and format in tables, and its value from sums over clips."""

    key: str
    label: str
    form: str
    value: Callable[[Totals], Array]


@dataclass(frozen=True, eq=False)
class Clip:
    """The counts of one clip. delays: seconds from each object's first label to its confirmation, or inf."""

    name: str
    counts: dict[str, Array]
    delays: Array
    notes: tuple[str, ...] = ()

    def number(self, number: Number) -> Interval:
        """A number of this clip alone, without an interval."""
        value = float(number.value({key: each[None] for key, each in self.counts.items()})[0])
        return Interval(value, math.nan, math.nan)


def _ratio(above: Array, below: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, above / np.where(below > 0, below, 1), np.nan)


def _of(above: str, below: str, times: float = 1.0) -> Callable[[Totals], Array]:
    return lambda t: times * _ratio(t[above], t[below])


def _hota(part: str) -> Callable[[Totals], Array]:
    def value(t: Totals) -> Array:
        found = hota_numbers({key.removeprefix("hota_"): each for key, each in t.items()})[part]
        return np.where(t["truth_points"] + t["track_points"] > 0, found, np.nan)

    return value


NUMBERS = (
    Number("track_pd", "track Pd", ".3f", _of("objects_found", "objects")),
    Number("covered", "labelled points covered", ".3f", _of("matches", "truth_points")),
    Number("false_tracks_per_hour", "false tracks per hour", ".1f", _of("false_tracks", "seconds", 3600)),
    Number("confirmed_0.3_s", "confirmed within 0.3 s", ".3f", _of("within_0.3", "objects")),
    Number("confirmed_1_s", "confirmed within 1 s", ".3f", _of("within_1", "objects")),
    Number("switches_per_clip", "identity switches per clip", ".2f", _of("switches", "clips")),
    Number("fragmentations_per_object", "fragmentations per object", ".2f", _of("fragmentations", "objects")),
    Number("mostly_tracked", "mostly tracked", ".3f", _of("mostly_tracked", "objects")),
    Number("mostly_lost", "mostly lost", ".3f", _of("mostly_lost", "objects")),
    Number("precision", "precision of track points", ".3f", _of("matches", "track_points")),
    Number("mota", "MOTA", ".3f", lambda t: 1 - _ratio(t["wrong"], t["truth_points"])),
    Number("motp", "MOTP, px", ".2f", _of("total_distance", "matches")),
    Number(
        "idf1", "IDF1", ".3f", lambda t: _ratio(2 * t["identified"], t["truth_points"] + t["track_points"])
    ),
    Number("hota", "HOTA", ".3f", _hota("hota")),
    Number("deta", "DetA", ".3f", _hota("deta")),
    Number("assa", "AssA", ".3f", _hota("assa")),
    Number("loca", "LocA", ".3f", _hota("loca")),
    Number("ospa", "OSPA, px", ".2f", _of("ospa", "frames")),
    Number("gospa", "GOSPA, px", ".2f", _of("gospa", "frames")),
)
COUNTS = {
    "clips": "clips",
    "frames": "labelled frames",
    "seconds": "seconds",
    "objects": "labelled objects",
    "truth_points": "labelled points",
    "tracks": "confirmed tracks",
    "track_points": "points of tracks",
    "false_tracks": "false tracks",
    "switches": "identity switches",
    "fragmentations": "fragmentations",
}


@dataclass(frozen=True, eq=False)
class TrackEvaluation:
    """Clips that were evaluated, with the numbers over all of them.

    numbers: by key, with 95 % bootstrap intervals over clips, NaN for a single clip. delay: the same for the
    median time to confirmation, seconds; 1e12 where fewer than half of the objects were found.
    """

    clips: tuple[Clip, ...]
    distance: float
    numbers: dict[str, Interval]
    delay: Interval
    notes: tuple[str, ...] = field(default=())

    @property
    def counts(self) -> dict[str, float]:
        """Sums over clips of what `COUNTS` names."""
        return {key: float(sum(clip.counts[key] for clip in self.clips)) for key in COUNTS}

    def rows(self) -> list[tuple[str, str]]:
        """Label and text of every count and number, as tables show them."""
        rows = [(label, f"{round(self.counts[key], 2):.10g}") for key, label in COUNTS.items()]
        rows += [(number.label, text(self.numbers[number.key], number.form)) for number in NUMBERS]
        rows.insert(len(COUNTS) + 3, ("median time to confirmation, s", text(self.delay, ".2f")))
        return rows

    def to_record(self) -> dict[str, Any]:
        """Everything as JSON can hold it."""
        return {
            "distance": self.distance,
            "counts": self.counts,
            "numbers": {
                **{key: _record(value) for key, value in self.numbers.items()},
                "median_time_to_confirmation": _record(self.delay),
            },
            "clips": [
                {
                    "name": clip.name,
                    **{key: float(clip.counts[key]) for key in COUNTS if key != "clips"},
                    **{number.key: _finite(clip.number(number).value) for number in NUMBERS},
                    "times_to_confirmation": [_finite(delay) for delay in clip.delays.tolist()],
                }
                for clip in self.clips
            ],
            "notes": list(self.notes),
        }

    def to_csv(self) -> str:
        """One line for each clip and one for all: counts and numbers by key."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        keys = [key for key in COUNTS if key != "clips"]
        writer.writerow(["clip", *keys, *(number.key for number in NUMBERS)])
        for clip in self.clips:
            cells = [_finite(clip.number(number).value) for number in NUMBERS]
            writer.writerow(
                [csv_cell(clip.name), *(f"{float(clip.counts[key]):.10g}" for key in keys), *cells]
            )
        every = [_finite(self.numbers[number.key].value) for number in NUMBERS]
        writer.writerow(["all", *(f"{self.counts[key]:.10g}" for key in keys), *every])
        return out.getvalue()

    def to_latex(self) -> str:
        """The counts and numbers over all clips as a LaTeX `tabular` with booktabs rules."""
        return latex_table("tracks", ("", "value"), self.rows())


def evaluate_clips(clips: Sequence[Clip], distance: float = DISTANCE) -> TrackEvaluation:
    """The numbers over clips.

    Parameters
    ----------
    clips : sequence of Clip
        As `evaluate_clip` gives them, all at the same distance.
    distance : float
        That distance, pixels; for the titles of tables.

    Returns
    -------
    TrackEvaluation
        With 95 % bootstrap intervals over clips if there are several.

    Raises
    ------
    DataError
        Without any clip.
    """
    if not clips:
        raise DataError("no clip to evaluate")
    stacked = {key: np.stack([clip.counts[key] for clip in clips]) for key in clips[0].counts}

    def totals(weights: Array) -> Totals:
        return {key: np.tensordot(weights, each, axes=1) for key, each in stacked.items()}

    def measured(value: Callable[[Array], Array]) -> Interval:
        found = bootstrap(len(clips), value)
        return found if len(clips) > 1 else Interval(found.value, math.nan, math.nan)

    numbers = {one.key: measured(lambda w, one=one: one.value(totals(w))) for one in NUMBERS}  # type: ignore[misc]
    delays = [clip.delays for clip in clips]
    delay = measured(lambda weights: _weighted_medians(delays, weights))
    notes = tuple(f"{clip.name}: {note}" for clip in clips for note in clip.notes)
    return TrackEvaluation(tuple(clips), distance, numbers, delay, notes)


def evaluate_clip(
    tracks: Tracks,
    labels: ClipLabels,
    *,
    name: str = "",
    distance: float = DISTANCE,
    rate: float | None = None,
) -> Clip:
    """Count what the confirmed tracks of one clip have and lack of its labels.

    Parameters
    ----------
    tracks : Tracks
        Of the clip.
    labels : ClipLabels
        Points or boxes of its frames.
    name : str
        Of the clip, for tables.
    distance : float
        Largest distance of a match in pixels; also the cut-off of OSPA and GOSPA, and where HOTA's similarity
        is 0.
    rate : float, optional
        Frames a second, if the tracks have no times. Default: 25.

    Returns
    -------
    Clip
        The counts.

    Raises
    ------
    ConfigError
        For a distance or rate that is not above 0.
    """
    check_distance(distance)
    times = tracks.times(rate)
    confirmed = [one for one in tracks.of("confirmed") if one.trimmed()]
    numbers, notes = _frames(times.last, labels)
    notes = [*tracks.notes, *notes]
    truth: list[Objects] = [labels.frames.get(number, {}) for number in numbers]
    at = {number: place for place, number in enumerate(numbers)}
    found: list[dict[int, tuple[float, float]]] = [{} for _ in numbers]
    for one in confirmed:
        for point in one.trimmed():
            if point.frame in at:
                found[at[point.frame]][one.id] = (point.x, point.y)
    frames = pair(truth, found)
    matched = clear(frames, distance)
    near = _near(frames, distance)
    points = {one.id: sum(one.id in frame for frame in found) for one in confirmed}
    false = {one for one, count in points.items() if count and len(near.get(one, ())) < _TRUE * count}
    seconds = [times(number) for number in numbers]
    delays = _delays(confirmed, matched, truth, seconds, false)
    counts = _counts(frames, matched, distance) | {
        "clips": 1,
        "seconds": len(numbers) * times.step,
        "tracks": sum(map(bool, points.values())),
        "false_tracks": len(false),
        "objects_found": int(np.isfinite(delays).sum()),
        "within_0.3": int((delays <= 0.3 + 1e-6).sum()),
        "within_1": int((delays <= 1 + 1e-6).sum()),
    }
    counts |= {f"hota_{key}": each for key, each in vars(hota_counts(frames, distance)).items()}
    arrays = {key: np.asarray(value, np.float64) for key, value in counts.items()}
    return Clip(name, arrays, delays, tuple(notes))


def text(interval: Interval, form: str) -> str:
    """A number with its interval, `-` where it is not defined."""
    if math.isnan(interval.value):
        return "-"
    value, low, high = (
        "never" if each >= _NEVER else format(each, form)
        for each in (interval.value, interval.low, interval.high)
    )
    return value if math.isnan(interval.low) else f"{value} [{low}, {high}]"


def _frames(last: int, labels: ClipLabels) -> tuple[list[int], list[str]]:
    """The numbers of the frames that are compared, and what a reader should know."""
    notes = [*labels.notes]
    if labels.joined:
        notes.append(f"{labels.path.name} has no ids: objects are boxes that follow each other")
    beyond = sum(number > last for number in labels.frames)
    if beyond:
        notes.append(
            f"{beyond} labelled frames lie behind the last tracked frame {last}: they count as missed"
        )
    if labels.labelled is None:
        return list(range(max(last, labels.last) + 1)), notes
    left = sum(number not in labels.labelled for number in range(last + 1))
    if left:
        notes.append(counted(left, "frame without labels is left out", "frames without labels are left out"))
    return sorted(labels.labelled), notes


def _counts(frames: Sequence[Pairing], matched: Clear, distance: float) -> dict[str, Any]:
    truth = sum(len(frame.truth) for frame in frames)
    found = sum(len(frame.found) for frame in frames)
    parts = {one: matched.covered.get(one, 0) / seen for one, seen in matched.seen.items()}
    return {
        "frames": len(frames),
        "objects": len(parts),
        "truth_points": truth,
        "track_points": found,
        "matches": matched.matches,
        "switches": matched.switches,
        "fragmentations": matched.fragmentations,
        "wrong": truth + found - 2 * matched.matches + matched.switches,
        "total_distance": matched.total_distance,
        "mostly_tracked": sum(part >= _MOSTLY for part in parts.values()),
        "mostly_lost": sum(part < _HARDLY for part in parts.values()),
        "identified": identified_points(frames, distance),
        "ospa": sum(ospa_of(frame.distances, distance) for frame in frames),
        "gospa": sum(gospa_of(frame.distances, distance) for frame in frames),
    }


def _near(frames: Sequence[Pairing], distance: float) -> dict[int, list[int]]:
    """The frames in which each track lies at any object, whichever it is matched with."""
    found: dict[int, list[int]] = {}
    for number, frame in enumerate(frames):
        if frame.distances.size:
            for column in np.flatnonzero((frame.distances <= distance).any(axis=0)):
                found.setdefault(frame.found[column], []).append(number)
    return found


def _delays(
    tracks: Sequence[Track],
    matched: Clear,
    truth: Sequence[Objects],
    seconds: Sequence[float],
    false: set[int],
) -> Array:
    """Seconds from each object's first label until a confirmed track that is not false matches it."""
    confirmed = {
        one.id: one.points[0].time if one.confirmed_at is None else one.confirmed_at for one in tracks
    }
    first: dict[int, float] = {}
    when: dict[int, float] = {}
    for now, objects, pairs in zip(seconds, truth, matched.pairs, strict=True):
        for one in objects:
            first.setdefault(one, now)
        for one, track in pairs.items():
            if track not in false:
                when[one] = min(when.get(one, math.inf), max(confirmed[track], now))
    return np.array([when.get(one, math.inf) - begin for one, begin in first.items()], np.float64)


def _weighted_medians(delays: Sequence[Array], weights: Array) -> Array:
    """The median over all objects, each counted as often as its clip: weights (R, clips) -> (R,)."""
    values = np.minimum(np.concatenate(delays), _NEVER)
    if not len(values):
        return np.full(len(weights), np.nan)
    each = np.repeat(weights, [len(part) for part in delays], axis=1)
    order = np.argsort(values)
    summed = np.cumsum(each[:, order], axis=1)
    total = summed[:, -1:]
    at = np.minimum((summed < total / 2).sum(axis=1), len(values) - 1)
    return np.where(total[:, 0] > 0, values[order][at], np.nan)


def _record(interval: Interval) -> dict[str, float | None]:
    return {key: _finite(value) for key, value in vars(interval).items()}


def _finite(value: float) -> float | None:
    return round(value, 6) if abs(value) < _NEVER else None
