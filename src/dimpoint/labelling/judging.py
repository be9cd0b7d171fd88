"""Where a model and the labels of a project differ, and what a training changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from dimpoint.errors import DataError, DimpointError
from dimpoint.inference.detector import Detector
from dimpoint.labelling.frames import safe_stem
from dimpoint.labelling.project import Project
from dimpoint.labelling.store import Labels
from dimpoint.metrics.points import RADIUS, match_points, spared

Place = tuple[float, float, float]  # x, y, score
_SAME = {"missed": 0.0, "false": 4.0}  # pixels between equal mistakes of two models at most


@dataclass(frozen=True)
class Mistake:
    """A place where a model and the labels differ.

    kind: `missed` (a labelled target) or `false` (a detection). x, y: pixels. score: of the detection; of a
    miss, the best one within the matching radius.
    """

    frame: int
    name: str
    kind: str
    x: float
    y: float
    score: float


@dataclass(frozen=True)
class Reported:
    """A mistake that a report of `dimpoint evaluate` shows.

    frame: its name. kind: missed or false. x, y: pixels. caption: what the report says of it.
    """

    frame: str
    kind: str
    x: float
    y: float
    caption: str


def read_report(path: Path) -> list[Reported]:
    """The worst misses and false alarms that a report shows, in its order.

    Parameters
    ----------
    path
        Folder of the report, or its page.

    Returns
    -------
    list of Reported

    Raises
    ------
    DataError
        If this is no report of `dimpoint evaluate`.
    """
    file = path / "index.html" if path.is_dir() else path
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        raise DataError(f"{file}: the report cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DataError(f"{file}: the report cannot be read (it is not UTF-8)") from None
    reader = _ReportReader()
    reader.feed(text)
    if not reader.known:
        raise DataError(f"{file}: no report of dimpoint evaluate --report; write it again with this version")
    return reader.found


class _ReportReader(HTMLParser):
    """Finds the figures of mistakes."""

    def __init__(self) -> None:
        super().__init__()
        self.known = False
        self.found: list[Reported] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag says of a mistake."""
        values = {key: value or "" for key, value in attrs}
        if tag == "meta" and values.get("name") == "generator":
            self.known |= values.get("content") == "dimpoint evaluate"
        if tag == "figure" and "data-frame" in values:
            try:
                x, y = float(values["data-x"]), float(values["data-y"])
            except (KeyError, ValueError):
                return
            kind, caption = values.get("data-kind", ""), values.get("data-caption", "")
            self.found.append(Reported(values["data-frame"], kind, x, y, caption))


def in_project(project: Project, reported: Sequence[Reported]) -> tuple[list[dict[str, Any]], int]:
    """The reported mistakes in frames of the project, with the frames' ids; and how many are in others."""
    found = [(frame_named(project, one.frame), one) for one in reported]
    places = [
        {"frame": frame, "name": project.store.source(frame).name, "kind": one.kind}
        | {"x": one.x, "y": one.y, "caption": one.caption}
        for frame, one in found
        if frame is not None
    ]
    return places, len(found) - len(places)


def frame_named(project: Project, name: str) -> int | None:
    """The id of a frame by its name, with or without folders and suffix."""
    exact = project.store.find(safe_stem(f"{name}.png"))
    return project.store.find(safe_stem(name)) if exact is None else exact


def mistakes(project: Project, most: int = 100) -> list[Mistake]:
    """False alarms and misses of the proposing model on the labelled frames, the worst first.

    A false alarm with a high score is worse, and so is a miss with a low best score. Detections in ignore
    regions do not count. Frames that cannot be read are skipped.

    Parameters
    ----------
    project
        The project.
    most
        Length of the list at most. Default: 100.

    Returns
    -------
    list of Mistake
    """
    found: list[Mistake] = []
    for frame in project.store.answered():
        try:
            proposals = project.proposals(frame)
        except DimpointError:
            continue
        found += _of_frame(project, frame, proposals, project.threshold)
    worst = sorted(found, key=lambda one: one.score if one.kind == "false" else 1 - one.score, reverse=True)
    return worst[:most]


def _of_frame(
    project: Project, frame: int, proposals: Sequence[Place], threshold: float
) -> Iterator[Mistake]:
    labels, name = project.store.labels(frame), project.store.source(frame).name
    kept = [one for one in proposals if one[2] > threshold]
    false, missed = _differences(labels, kept)
    for index in false:
        yield Mistake(frame, name, "false", *kept[index])
    for index in missed:
        x, y = labels.points[index]
        near = [score for a, b, score in proposals if np.hypot(a - x, b - y) <= RADIUS]
        yield Mistake(frame, name, "missed", x, y, max(near, default=0.0))


def _differences(labels: Labels, found: Sequence[Place]) -> tuple[list[int], list[int]]:
    """Indices of false detections and of missed targets."""
    truth = np.array(labels.points).reshape(-1, 2)
    places = np.array([one[:2] for one in found]).reshape(-1, 2)
    match = match_points(places, np.array([one[2] for one in found]), truth)
    left_out = spared(places, truth, np.array(labels.regions).reshape(-1, 4))
    return [int(each) for each in match.false if not left_out[each]], [int(each) for each in match.missed]


def changes(project: Project, run: Path, before: str | Path) -> dict[str, Any]:
    """What a training run changed on the labelled frames that it held out.

    Parameters
    ----------
    project
        The project that it was trained on.
    run
        Folder of the run.
    before
        The model that it started from.

    Returns
    -------
    dict
        `frames`: their number. `scores`: F1 of the run with its interval, and the difference to `before`.
        Lists of `Mistake`: `found` and `lost` targets, `false` alarms that are new and that are `gone`.

    Raises
    ------
    DataError
        If the run has no record of what it held out.
    """
    from dimpoint.model.onnx_file import read_meta

    try:
        held = json.loads((run / "run.json").read_text("utf-8"))["held_out"]
        names = [str(entry["name"]) for entries in held.values() for entry in entries]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{run}: the run has no record of what it held out") from None
    old, new = Detector(before), Detector(run / "model.onnx")
    lists: dict[str, list[Any]] = {"found": [], "lost": [], "false": [], "gone": []}
    frames = 0
    for frame in (project.store.find(name) for name in names):
        if frame is None:
            continue
        try:
            pixels = project.pixels(frame)
        except DimpointError:
            continue
        frames += 1
        was, now = (list(_of_frame(project, frame, _places(each, pixels), 0.0)) for each in (old, new))
        for kind, ended, begun in (("missed", "found", "lost"), ("false", "gone", "false")):
            only_was, only_now = _unlike(was, now, kind)
            lists[ended] += only_was
            lists[begun] += only_now
    scores = read_meta(run / "model.onnx").scores
    return {"frames": frames, "scores": scores, **lists}


def _places(detector: Detector, pixels: Any) -> list[Place]:
    found = detector(pixels)
    return [(float(x), float(y), float(s)) for (x, y), s in zip(found.xy, found.scores, strict=True)]


def _unlike(was: list[Mistake], now: list[Mistake], kind: str) -> tuple[list[Mistake], list[Mistake]]:
    """The mistakes of a kind in one frame that only one side has, by side.

    Misses are equal at one label, false alarms within four pixels.
    """
    was, now = ([one for one in side if one.kind == kind] for side in (was, now))
    places = [np.array([(one.x, one.y) for one in side]).reshape(-1, 2) for side in (was, now)]
    match = match_points(places[1], np.ones(len(now)), places[0], _SAME[kind])
    return [was[index] for index in match.missed], [now[index] for index in match.false]
