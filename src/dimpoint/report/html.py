"""The report of an evaluation: one self-contained HTML page, without network access."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dimpoint
from dimpoint.atomic import write_text
from dimpoint.errors import MissingExtraError
from dimpoint.evaluation.predictions import ModelPredictor
from dimpoint.evaluation.run import Result, SetResult
from dimpoint.evaluation.summary import (
    BREAKDOWNS,
    HINDSIGHT,
    PIXEL_NUMBERS,
    Number,
    breakdowns,
    measured_hse,
    measured_numbers,
    model_sha256,
    numbers_of,
    threshold_text,
)
from dimpoint.evaluation.tables import columns_of, names_of, tables_of
from dimpoint.extensions import versions_of
from dimpoint.metrics.bootstrap import Interval
from dimpoint.metrics.breakdown import BreakdownRow
from dimpoint.metrics.protocols import get_protocol
from dimpoint.model.input_rule import InputRule
from dimpoint.model.record import HASH_DIGITS
from dimpoint.report import figures, gallery
from dimpoint.report.growth import growth_section
from dimpoint.text import printable

_PACKAGES = ("numpy", "scipy", "opencv-python-headless", "onnxruntime", "matplotlib")
_TILES = ("f1", "precision", "recall", "false_per_frame", "distance_mean")
_MAP_TILES = ("iou", "niou")


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


@dataclass(frozen=True)
class Method:
    """What the page has of one method alone; heading: its name behind headings where there are several."""

    name: str
    heading: str
    threshold: str
    tiles: list[tuple[str, str, str]]
    breakdowns: list[Breakdown]
    misses: list[gallery.Crop]
    missed: int
    false_alarms: list[gallery.Crop]
    false_count: int
    model: list[tuple[str, str]]


def write_report(
    folder: Path,
    results: Result | Sequence[Result],
    *,
    data: str,
    notes: Sequence[str] = (),
    threshold_notes: Sequence[str] = (),
    section: str = "",
    label_page: str | None = None,
    command: str = "",
) -> Path:
    """Write `index.html` in `folder`, with several results side by side.

    Parameters
    ----------
    folder : Path
        Created if it does not exist.
    results : Result or sequence of Result
        One or several methods on the same frames.
    data : str
        Description of the data sets and the split.
    notes, threshold_notes : sequence of str, optional
        Notes on the data; sentences about a chosen threshold.
    section : str, optional
        HTML of another section, such as that of `report.tracks.track_section`.
    label_page : str, optional
        Address that `dimpoint label` printed; the pictures of errors then link to their places there.
    command : str, optional
        The command that made the page.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    MissingExtraError
        Without matplotlib or jinja2.
    DimpointError
        If the file cannot be written.
    """
    check_extra()
    every = [results] if isinstance(results, Result) else list(results)
    sections = "".join([section, *_grown(every)])
    context = _context(every, data, notes, threshold_notes)
    page = _template().render(section=sections, label_page=label_page, command=command, **context)
    path = folder / "index.html"
    write_text(path, page)
    return path


def _grown(results: Sequence[Result]) -> Iterator[str]:
    """Sections about grown labels, for the runs that have them."""
    for name, result in zip(names_of(results), results, strict=True):
        if isinstance(result.predictor, ModelPredictor) and result.predictor.path is not None:
            heading = f": {name}" if len(results) > 1 else ""
            yield growth_section(result.predictor.path.parent, heading)


def check_extra() -> None:
    """Raise MissingExtraError if a report cannot be written, before any work is done."""
    for package in ("matplotlib", "jinja2"):
        if find_spec(package) is None:
            raise MissingExtraError("the report", package, "report")


def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    environment.filters["ratio"] = lambda value: "-" if value != value else f"{value:.3f}"
    here = Path(__file__).parent
    source = (here / "report.html").read_text("utf-8")
    environment.globals["style"] = (here / "report.css").read_text("utf-8")
    return environment.from_string(source)


def _shown(value: Any) -> Any:
    """Escape control characters in plain text; marked-up text is unchanged."""
    return printable(value) if type(value) is str and not value.isprintable() else value


def _context(
    results: Sequence[Result], data: str, notes: Sequence[str], threshold_notes: Sequence[str]
) -> dict[str, Any]:
    first = results[0]
    every = list(dict.fromkeys([*notes, *(note for result in results for note in result.notes)]))
    names = names_of(results)
    frames = first.pooled.frames
    return {
        "name": ", ".join(names),
        "data": data,
        "frames": len(frames),
        "targets": sum(len(frame.truth_xy) for frame in frames),
        "protocol": first.protocols[0],
        "protocols": [(name, get_protocol(name).description) for name in first.protocols],
        "hindsight": HINDSIGHT,
        "threshold_notes": list(threshold_notes),
        "warnings": [note for note in every if note.startswith("INCOMPLETE")],
        "notes": [note for note in every if not note.startswith("INCOMPLETE")],
        "tables": tables_of(results),
        "figures": _figures(results),
        "methods": [
            _method(name, result, len(results) > 1) for name, result in zip(names, results, strict=True)
        ],
        "sets": [_set_card(part) for part in first.sets],
        "versions": [("dimpoint", dimpoint.__version__), *_versions()],
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }


def _method(name: str, result: Result, several: bool) -> Method:
    frames = result.pooled.frames
    return Method(
        name=name,
        heading=f": {name}" if several else "",
        threshold=threshold_text(result.predictor),
        tiles=_tiles(result.pooled, result.protocols[0]),
        breakdowns=_breakdowns(result.pooled, f", {name}" if several else ""),
        misses=gallery.worst_misses(frames),
        missed=sum(len(frame.missed) for frame in frames),
        false_alarms=gallery.worst_false_alarms(frames),
        false_count=sum(len(frame.false) for frame in frames),
        model=_model_card(result),
    )


def _tiles(part: SetResult, protocol: str) -> list[tuple[str, str, str]]:
    """(label, value, interval) of the numbers at the top; for maps IoU, nIoU and HSE first."""
    shown: list[tuple[Number, Interval]] = []
    if part.maps is not None:
        pixels = measured_numbers(part, "pixels")
        shown += [(number, pixels[number.key]) for number in PIXEL_NUMBERS if number.key in _MAP_TILES]
        shown.append((Number("hse", "HSE", ".3f"), measured_hse(part)))
    found = measured_numbers(part, protocol)
    known = {number.key: number for number in numbers_of(protocol)}
    shown += [(known[key], found[key]) for key in _TILES]
    return [(number.label, number.text(value.value), _between(number, value)) for number, value in shown]


def _between(number: Number, value: Interval) -> str:
    low, high = number.text(value.low), number.text(value.high)
    return "" if low == "-" else f"{low} to {high}"


def _figures(results: Sequence[Result]) -> list[Figure]:
    columns = columns_of(results)
    curves = figures.drawn(results)
    protocols = ", ".join(dict.fromkeys(each.curve.protocol for each in curves))
    under = f"Protocol {protocols}. The dot is the threshold of this report."
    drawn = [
        Figure("Free response", figures.free_response(curves), under),
        Figure("Precision and recall", figures.precision_recall(curves), under),
    ]
    scored = [(each.name, each.curve) for each in curves if each.curve.protocol == "spire"]
    if scored:
        meaning = "By tenths of the score. On the dashed line a score of 0.7 is right seven times in ten."
        drawn.append(Figure("Reliability of the scores", figures.reliability(scored), meaning))
    maps = [
        (figures.literal(each.label), each.part.maps.pixel_curve)
        for each in columns
        if each.part.maps is not None
    ]
    if maps:
        every = "Every distinct score is a threshold."
        drawn += [
            Figure("Pd and Fa", figures.pd_fa(curves), under),
            Figure("Pixels: precision and recall", figures.pixel_curves(maps), every),
            Figure("Pixels: ROC", figures.roc(maps), every),
        ]
    return drawn


def _breakdowns(part: SetResult, method: str) -> list[Breakdown]:
    """The breakdowns; method: added to the titles, so that the figures of several methods differ."""
    return [
        Breakdown(
            BREAKDOWNS[by],
            rows,
            figures.bars(rows, f"{BREAKDOWNS[by]}{method}"),
            any(row.frames is not None for row in rows),
        )
        for by, rows in breakdowns(part).items()
    ]


def _magnified(rule: InputRule) -> str:
    if rule.fit is not None:
        return f"fitted into {rule.fit[0]}x{rule.fit[1]}"
    which = "" if rule.magnify_below is None else f" if of fewer than {rule.magnify_below:,} pixels"
    also = f", and as it is with weight {rule.native_share:g}" if rule.native_share else ""
    return f"magnified {rule.scale} times{which}{also}"


def _model_card(result: Result) -> list[tuple[str, str]]:
    meta = result.predictor.meta
    if meta is None:
        return [("predictions", result.predictor.name), ("kind", result.predictor.kind)]
    rows = [
        ("model", meta.name),
        ("network", meta.network),
        ("parameters", "" if meta.parameters is None else f"{meta.parameters:,}"),
        ("input", f"intensity rule '{meta.input.intensity.kind}', {_magnified(meta.input)}"),
        ("map", f"{meta.kind}, one value for every {meta.stride} pixels of the input"),
        ("decoding", f"{meta.decode.kind}, threshold {meta.decode.threshold:g} in the file"),
        ("trained on", ", ".join(meta.training_data)),
        ("licence", meta.licence),
        ("date", meta.date),
        ("file", (model_sha256(result.predictor) or "")[:HASH_DIGITS]),
    ]
    return [(key, value) for key, value in rows if value]


def _set_card(part: SetResult) -> tuple[str, int, int, int, str, str]:
    """Name, frames, frames without targets, targets, sizes of frames, first digits of the labels' hash."""
    sizes = sorted({frame.shape for frame in part.frames}, key=lambda size: size[0] * size[1])
    first, last = (f"{width}x{height}" for height, width in (sizes[0], sizes[-1]))
    targets = [len(frame.truth_xy) for frame in part.frames]
    return (
        part.name,
        len(targets),
        targets.count(0),
        sum(targets),
        first if first == last else f"{first} to {last}",
        part.labels_sha256()[:HASH_DIGITS],
    )


def _versions() -> list[tuple[str, str]]:
    """Versions of the installed packages that compute the numbers."""
    return [*versions_of(_PACKAGES).items(), ("python", platform.python_version())]
