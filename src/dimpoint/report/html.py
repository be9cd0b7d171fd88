"""The report of an evaluation: one self-contained HTML page, without network access."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dimpoint
from dimpoint.atomic import write_text
from dimpoint.errors import MissingExtraError
from dimpoint.evaluation.run import Result, SetResult
from dimpoint.evaluation.summary import (
    BREAKDOWNS,
    HINDSIGHT,
    breakdowns,
    columns_of,
    measured,
    numbers_of,
    tables_of,
    threshold_text,
)
from dimpoint.metrics.breakdown import BreakdownRow
from dimpoint.model.record import ModelMeta
from dimpoint.report import figures, gallery

PROTOCOL_TEXTS = {
    "spire": "Each target takes the nearest free prediction at most 5 px away, one to one. Fa counts false "
    "objects per pixel.",
    "basicirstd": "Each target takes the first free object whose centroid is nearer than 3 px. Fa counts the "
    "pixels of false objects.",
    "dnanet-legacy": "As basicirstd, but a false object is ignored when its area equals that of a matched "
    "one: a known bug, kept to reproduce published tables.",
    "opdc": "Minimum-distance assignment keeps pairs with IoU of at least 0.5, a second one of the rest "
    "keeps pairs nearer than 3 px. hIoU is the summed IoU of the pairs per object, found, missed or false.",
}
_PACKAGES = ("numpy", "scipy", "opencv-python-headless", "onnxruntime", "matplotlib")
_TILES = ("f1", "precision", "recall", "false_per_frame", "distance_mean")


@dataclass(frozen=True)
class Figure:
    """svg: an <svg> element. text: what it shows and how to read it."""

    title: str
    svg: str
    text: str


@dataclass(frozen=True)
class Breakdown:
    """A breakdown as table and figure. counts_false: whether its classes are whole frames."""

    title: str
    rows: Sequence[BreakdownRow]
    svg: str
    counts_false: bool


def write_report(
    folder: Path, result: Result, *, data: str, notes: Sequence[str] = (), operating: Sequence[str] = ()
) -> Path:
    """Write `index.html` in `folder` and return its path.

    data: the data sets and split in words. operating: lines about a chosen operating point. Raises
    MissingExtraError without matplotlib or jinja2, DimpointError where the file cannot be written.
    """
    check_extra()
    page = _template().render(**_context(result, data, notes, operating))
    path = folder / "index.html"
    write_text(path, page)
    return path


def check_extra() -> None:
    """Raise MissingExtraError, before any work is done, if a report cannot be written."""
    for package in ("matplotlib", "jinja2"):
        if find_spec(package) is None:
            raise MissingExtraError("the report", package, "report")


def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["ratio"] = lambda value: "-" if value != value else f"{value:.3f}"
    here = Path(__file__).parent
    source = (here / "report.html").read_text("utf-8")
    environment.globals["style"] = (here / "report.css").read_text("utf-8")
    return environment.from_string(source)


def _context(result: Result, data: str, notes: Sequence[str], operating: Sequence[str]) -> dict[str, Any]:
    every = [*notes, *result.notes]
    protocol = result.protocols[0]
    frames = result.pooled.frames
    return {
        "name": result.predictor.name,
        "data": data,
        "frames": len(frames),
        "targets": sum(len(frame.truth_xy) for frame in frames),
        "protocol": protocol,
        "protocols": [(name, PROTOCOL_TEXTS[name]) for name in result.protocols],
        "threshold": threshold_text(result.predictor),
        "hindsight": HINDSIGHT,
        "operating": list(operating),
        "warnings": [note for note in every if note.startswith("INCOMPLETE")],
        "notes": [note for note in every if not note.startswith("INCOMPLETE")],
        "tiles": _tiles(result.pooled, protocol),
        "tables": tables_of(result),
        "figures": _figures(result),
        "breakdowns": _breakdowns(result.pooled),
        "misses": gallery.worst_misses(frames),
        "missed": sum(len(frame.missed) for frame in frames),
        "false_alarms": gallery.worst_false_alarms(frames),
        "false_count": sum(len(frame.false) for frame in frames),
        "model": _model_card(result),
        "sets": [_set_card(part) for part in result.sets],
        "versions": [("dimpoint", dimpoint.__version__), *_versions()],
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }


def _tiles(part: SetResult, protocol: str) -> list[tuple[str, str, str]]:
    """(label, value, interval) of the headline numbers."""
    tiles = []
    for number in numbers_of(protocol):
        if number.key in _TILES:
            value = measured(part.counts(protocol), number)
            low, high = number.text(value.low), number.text(value.high)
            between = "" if low == "-" else f"{low} to {high}"
            tiles.append((number.key, number.label, number.text(value.value), between))
    tiles.sort(key=lambda tile: _TILES.index(tile[0]))
    return [tile[1:] for tile in tiles]


def _figures(result: Result) -> list[Figure]:
    columns = columns_of(result)
    curves = [(part.name, part.curve) for part in columns]
    threshold = result.predictor.threshold
    under = f"Protocol {result.pooled.curve.protocol}. The dot is the threshold of this report."
    drawn = [
        Figure("Free response", figures.free_response(curves, threshold), under),
        Figure("Precision and recall", figures.precision_recall(curves, threshold), under),
    ]
    scored = [(name, curve) for name, curve in curves if curve.protocol == "spire"]
    if scored:
        meaning = "By tenths of the score. On the dashed line a score of 0.7 is right seven times in ten."
        drawn.append(Figure("Reliability of the scores", figures.reliability(scored), meaning))
    maps = [(part.name, part.maps.pixel_curve) for part in columns if part.maps is not None]
    if maps:
        every = "Every distinct score is a threshold."
        drawn += [
            Figure("Pd and Fa", figures.pd_fa(curves, threshold), under),
            Figure("Pixels: precision and recall", figures.pixel_curves(maps), every),
            Figure("Pixels: ROC", figures.roc(maps), every),
        ]
    return drawn


def _breakdowns(part: SetResult) -> list[Breakdown]:
    return [
        Breakdown(
            BREAKDOWNS[by],
            rows,
            figures.bars(rows, BREAKDOWNS[by]),
            any(row.frames is not None for row in rows),
        )
        for by, rows in breakdowns(part).items()
    ]


def _magnified(meta: ModelMeta) -> str:
    which = "" if meta.magnify_below is None else f" if of fewer than {meta.magnify_below:,} pixels"
    also = f", and as it is with weight {meta.native_share:g}" if meta.native_share else ""
    return f"magnified {meta.input_scale} times{which}{also}"


def _model_card(result: Result) -> list[tuple[str, str]]:
    meta = result.predictor.meta
    if meta is None:
        return [("predictions", result.predictor.name), ("kind", result.predictor.kind)]
    rows = [
        ("model", meta.name),
        ("network", meta.network),
        ("parameters", "" if meta.parameters is None else f"{meta.parameters:,}"),
        ("input", f"intensity rule '{meta.intensity.kind}', {_magnified(meta)}"),
        ("map", f"{meta.kind}, one value for every {meta.stride} pixels of the input"),
        ("decoding", f"{meta.decode.kind}, threshold {meta.decode.threshold:g} in the file"),
        ("trained on", ", ".join(meta.training_data)),
        ("licence", meta.licence),
        ("date", meta.date),
    ]
    return [(key, value) for key, value in rows if value]


def _set_card(part: SetResult) -> tuple[str, int, int, int, str]:
    """Name, frames, frames without a target, targets, sizes of the frames."""
    sizes = sorted({frame.shape for frame in part.frames}, key=lambda size: size[0] * size[1])
    first, last = (f"{width}x{height}" for height, width in (sizes[0], sizes[-1]))
    targets = [len(frame.truth_xy) for frame in part.frames]
    return (
        part.name,
        len(targets),
        targets.count(0),
        sum(targets),
        first if first == last else f"{first} to {last}",
    )


def _versions() -> list[tuple[str, str]]:
    """Versions of the packages that compute the numbers; packages that are not found are left out."""
    found = []
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found.append((name, version(name)))
    return [*found, ("python", platform.python_version())]
