"""An evaluation as plain numbers: headline numbers with their intervals, and the JSON record.

The tables of an evaluation as text cells, for the terminal and the report alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import dimpoint
from dimpoint.evaluation.predictions import Predictor
from dimpoint.evaluation.run import Result, SetResult
from dimpoint.metrics.bootstrap import Interval, interval
from dimpoint.metrics.breakdown import BreakdownRow, By, TargetTable, breakdown
from dimpoint.metrics.exact.samples import ErrorCounts
from dimpoint.metrics.pixel import PixelCounts
from dimpoint.metrics.points import Counts, PointCounts
from dimpoint.metrics.protocols import PROTOCOLS

BREAKDOWNS: dict[By, str] = {
    "size": "target size, pixels",
    "scr": "local signal-to-clutter ratio",
    "border": "distance to the border, pixels",
    "targets": "targets in the frame",
    "source": "data set",
}

HINDSIGHT = "with the threshold chosen on the evaluated data itself; hindsight, not a score to report"


@dataclass(frozen=True)
class Number:
    """A headline number: its key in JSON, what it is called, how it is written, and how it is computed.

    resampled: whether a bootstrap over frames can compute it from sums of counts.
    """

    key: str
    label: str
    form: str
    resampled: bool = True
    less_is_better: bool = False

    def of(self, counts: Any) -> Any:
        return getattr(counts, self.key)

    def text(self, value: float) -> str:
        return "-" if math.isnan(value) else format(value, self.form)


C = TypeVar("C", PointCounts, PixelCounts)

_COMMON = (
    Number("precision", "precision", ".3f"),
    Number("recall", "recall (Pd)", ".3f"),
    Number("f1", "F1", ".3f"),
)
_ERRORS = (
    Number("distance_mean", "localisation error, mean, px", ".2f", less_is_better=True),
    Number("distance_median", "localisation error, median, px", ".2f", resampled=False),
    Number("distance_95", "localisation error, 95 %, px", ".2f", resampled=False),
)
_PER_FRAME = Number("false_per_frame", "false objects per frame", ".4f", less_is_better=True)
_FA = {
    "objects": Number("fa_objects", "Fa, false objects per pixel", ".2e", less_is_better=True),
    "pixels": Number("fa_pixels", "Fa, false pixels per pixel", ".2e", less_is_better=True),
}
PIXEL_NUMBERS = (
    Number("iou", "IoU", ".3f"),
    Number("niou", "nIoU", ".3f"),
    Number("precision", "precision of pixels", ".3f"),
    Number("recall", "recall of pixels", ".3f"),
    Number("f1", "F1 of pixels", ".3f"),
)
ERROR_NUMBERS = (
    Number("seg_iou", "segmentation: IoU of the pairs", ".3f"),
    Number("seg_merging", "lost to merging", ".3f", less_is_better=True),
    Number("seg_interference", "lost to interference", ".3f", less_is_better=True),
    Number("seg_perception", "lost to perception", ".3f", less_is_better=True),
    Number("loc_iou", "localisation: pairs of all objects", ".3f"),
    Number("loc_single_to_multiple", "lost to single-to-multiple", ".3f", less_is_better=True),
    Number("loc_multiple_to_single", "lost to multiple-to-single", ".3f", less_is_better=True),
    Number("loc_interference", "lost to interference", ".3f", less_is_better=True),
    Number("loc_perception", "lost to perception", ".3f", less_is_better=True),
)


def numbers_of(protocol: str) -> tuple[Number, ...]:
    """The headline numbers of a protocol, in the order in which they are shown."""
    own = (Number("hiou", "hIoU", ".3f"),) if protocol == "opdc" else ()
    return (*_COMMON, *own, _FA[PROTOCOLS[protocol].fa_counts], _PER_FRAME, *_ERRORS)


def measured(parts: Sequence[Counts], number: Number) -> Interval:
    """A number over frames with its 95 % bootstrap interval, NaN where it is no ratio of sums."""
    if number.resampled and parts:
        return interval(parts, number.of)
    value = number.of(type(parts[0]).total(parts)) if parts else math.nan
    return Interval(float(value), math.nan, math.nan)


def measured_text(value: Interval, number: Number) -> str:
    """`0.971 [0.953, 0.985]`."""
    text = number.text(value.value)
    if math.isnan(value.low):
        return text
    return f"{text} [{number.text(value.low)}, {number.text(value.high)}]"


@dataclass(frozen=True)
class BestF1:
    """The highest F1 of a curve, chosen on the very data that it is told for."""

    protocol: str
    threshold: float
    f1: float
    precision: float
    recall: float


def best_f1(part: SetResult) -> BestF1 | None:
    """The best threshold in hindsight, or None where nothing is ever found."""
    if not part.curve.tp.any():
        return None
    row = part.curve.choose("f1")
    curve = part.curve
    values = (float(each[row]) for each in (curve.f1, curve.precision, curve.recall))
    return BestF1(curve.protocol, curve.threshold(row), *values)


def breakdowns(part: SetResult) -> dict[By, list[BreakdownRow]]:
    """Detection by class of target under the first protocol, where anything is known."""
    table = TargetTable.total(frame.table for frame in part.frames)
    rows = {by: breakdown(table, by) for by in BREAKDOWNS}
    return {by: found for by, found in rows.items() if any(row.label != "unknown" for row in found)}


def threshold_text(predictor: Predictor) -> str:
    """What counts, and why."""
    if predictor.threshold is None:
        return "every predicted point counts"
    what = "pixels" if predictor.kind == "maps" else "scores"
    return f"{what} above {predictor.threshold:.4g} count ({predictor.threshold_origin})"


def to_record(result: Result) -> dict[str, Any]:
    """Everything as JSON can hold it; what is not defined is null."""
    predictor = result.predictor
    record = {
        "dimpoint": dimpoint.__version__,
        "evaluated": predictor.name,
        "kind": predictor.kind,
        "threshold": predictor.threshold,
        "threshold_origin": predictor.threshold_origin,
        "protocols": list(result.protocols),
        "intervals": "95 % percentile bootstrap over frames, 2000 resamples, seed 0",
        "data": [_set_record(part, result) for part in result.sets],
        "pooled": _set_record(result.pooled, result),
        "notes": list(result.notes),
    }
    finite: dict[str, Any] = without_nan(record)
    return finite


def _set_record(part: SetResult, result: Result) -> dict[str, Any]:
    best = best_f1(part)
    record: dict[str, Any] = {
        "name": part.name,
        "frames": len(part.frames),
        "targets": sum(len(frame.truth_xy) for frame in part.frames),
        "protocols": {name: _protocol_record(part.counts(name), name) for name in result.protocols},
        "best_f1": None if best is None else {**asdict(best), "chosen_on": "the evaluated data"},
        "breakdowns": {
            by: [{**asdict(row), "pd": row.pd, "false_per_frame": row.false_per_frame} for row in rows]
            for by, rows in breakdowns(part).items()
        },
    }
    if part.maps is not None and part.threshold is not None:
        record["pixels"] = _with_intervals(part.maps.pixels(part.threshold), PIXEL_NUMBERS) | {
            "roc_area": part.maps.pixel_curve.roc_area,
            "pr_area": part.maps.pixel_curve.pr_area,
        }
        record["hiou"] = ErrorCounts.total(part.maps.errors(part.threshold)).to_dict()
        record["hse"] = part.maps.hse.to_dict()
    return record


def _protocol_record(parts: Sequence[PointCounts], protocol: str) -> dict[str, Any]:
    return _with_intervals(parts, numbers_of(protocol))


def _with_intervals(parts: Sequence[C], numbers: Sequence[Number]) -> dict[str, Any]:
    total = type(parts[0]).total(parts)
    intervals = {each.key: measured(parts, each) for each in numbers if each.resampled}
    return {**total.to_dict(), "intervals": {key: [each.low, each.high] for key, each in intervals.items()}}


def without_nan(value: Any) -> Any:
    """The same with null for what is not finite, and Python's own numbers, as JSON has them."""
    if isinstance(value, dict):
        return {str(key): without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class TextTable:
    """rows: a label and a cell for each column; a label that ends in * tells of hindsight."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def columns_of(result: Result) -> tuple[SetResult, ...]:
    """Each data set, and all together where there are several."""
    return result.sets if len(result.sets) == 1 else (*result.sets, result.pooled)


def tables_of(result: Result) -> list[TextTable]:
    """One table for each protocol, the first with the best threshold in hindsight, and one of pixels."""
    columns = columns_of(result)
    tables = [
        _protocol_table(name, columns, with_best=name == result.protocols[0]) for name in result.protocols
    ]
    if result.pooled.maps is not None:
        tables.append(_pixel_table(columns))
        if "opdc" in result.protocols:
            tables.append(_error_table(columns))
        tables.append(_hse_table(columns))
    return tables


def _protocol_table(protocol: str, columns: Sequence[SetResult], *, with_best: bool) -> TextTable:
    totals = [part.total(protocol) for part in columns]
    rows: list[tuple[str, tuple[str, ...]]] = [
        ("frames", tuple(f"{total.frames}" for total in totals)),
        ("targets", tuple(f"{total.tp + total.fn}" for total in totals)),
        ("found / missed / false", tuple(f"{t.tp} / {t.fn} / {t.fp}" for t in totals)),
    ]
    rows += _measured_rows([part.counts(protocol) for part in columns], numbers_of(protocol))
    if with_best:
        rows += _best_rows(columns, protocol)
    return TextTable(f"protocol {protocol}", tuple(part.name for part in columns), tuple(rows))


def _best_rows(columns: Sequence[SetResult], protocol: str) -> list[tuple[str, tuple[str, ...]]]:
    """The best threshold in hindsight, marked as such; none where nothing is ever found."""
    found = [best_f1(part) for part in columns]
    named = {best.protocol for best in found if best is not None}
    if not named:
        return []
    under = "".join(f", {name}" for name in named - {protocol})
    return [
        (f"best F1{under} *", tuple("-" if best is None else f"{best.f1:.3f}" for best in found)),
        ("at threshold *", tuple("-" if best is None else f"{best.threshold:.3g}" for best in found)),
    ]


def _pixel_table(columns: Sequence[SetResult]) -> TextTable:
    maps = [part.maps for part in columns if part.maps is not None]
    rows = _measured_rows([each.pixels(each.thresholds[0]) for each in maps], PIXEL_NUMBERS)
    rows.append(("ROC area, all thresholds", tuple(f"{each.pixel_curve.roc_area:.3f}" for each in maps)))
    rows.append(("PR area, all thresholds", tuple(f"{each.pixel_curve.pr_area:.3f}" for each in maps)))
    return TextTable("pixels", tuple(part.name for part in columns), tuple(rows))


def _error_table(columns: Sequence[SetResult]) -> TextTable:
    maps = [part.maps for part in columns if part.maps is not None]
    rows = _measured_rows([each.errors(each.thresholds[0]) for each in maps], ERROR_NUMBERS)
    return TextTable("where hIoU is lost", tuple(part.name for part in columns), tuple(rows))


def _hse_table(columns: Sequence[SetResult]) -> TextTable:
    """HSE with its interval, and its parts, over all thresholds."""
    maps = [part.maps for part in columns if part.maps is not None]
    hse = [each.hse_samples.interval(each.hse) for each in maps]
    rows: list[tuple[str, tuple[str, ...]]] = [
        ("HSE", tuple(measured_text(each, PIXEL_NUMBERS[0]) for each in hse)),
        ("of pixels", tuple(_three(each.hse.pixel) for each in maps)),
        ("  IoU", tuple(_three(each.hse.iou) for each in maps)),
        ("  nIoU", tuple(_three(each.hse.niou) for each in maps)),
        ("of targets", tuple(_three(each.hse.target) for each in maps)),
    ]
    for radius in maps[0].hse.f1:
        rows.append((f"  F1 within {radius:g} px", tuple(_three(each.hse.f1[radius]) for each in maps)))
    title = f"HSE ({maps[0].hse.name}), all thresholds"
    return TextTable(title, tuple(part.name for part in columns), tuple(rows))


def _measured_rows(
    columns: Sequence[Sequence[Counts]], numbers: Sequence[Number]
) -> list[tuple[str, tuple[str, ...]]]:
    """A row for each number, with its interval, of the counts of each column."""
    return [
        (number.label, tuple(measured_text(measured(parts, number), number) for parts in columns))
        for number in numbers
    ]


def _three(value: float) -> str:
    return PIXEL_NUMBERS[0].text(value)
