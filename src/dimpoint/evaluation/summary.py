"""An evaluation as numbers: headline numbers with their intervals, and the JSON record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import dimpoint
from dimpoint.evaluation.predictions import Predictor
from dimpoint.evaluation.run import Result, SetResult
from dimpoint.metrics.bootstrap import Interval, intervals
from dimpoint.metrics.breakdown import BreakdownRow, By, TargetTable, breakdown
from dimpoint.metrics.counts import Counts
from dimpoint.metrics.pixel import ErrorCounts
from dimpoint.metrics.protocols import get_protocol
from dimpoint.model.files import sha256_of

BREAKDOWNS: dict[By, str] = {
    "size": "target size, pixels",
    "scr": "local signal-to-clutter ratio",
    "border": "distance to the border, pixels",
    "targets": "targets in the frame",
    "source": "data set",
}

HINDSIGHT = "threshold chosen on the evaluated data itself (in hindsight); not a score to report"


@dataclass(frozen=True)
class Number:
    """A headline number.

    Parameters
    ----------
    key : str
        Key in JSON.
    label : str
        Name in tables.
    form : str
        Format of its values.
    resampled : bool, default True
        Whether a bootstrap over frames can compute it from sums of counts.
    less_is_better : bool, default False
        Whether smaller values are better.
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
    kind: (
        Number(f"fa_{kind}", f"Fa, false {kind} per pixel", ".2e", less_is_better=True),
        Number(f"fa_{kind}_e6", "Fa, in units of 1e-6", ".2f", less_is_better=True),
    )
    for kind in ("objects", "pixels")
}
_LABELS = {"hiou": "hIoU"}
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
    """The headline numbers of a protocol, in the order of the tables."""
    rule = get_protocol(protocol)
    own = tuple(Number(key, _LABELS.get(key, key), ".3f") for key in rule.numbers)
    return (*_COMMON, *own, *_FA[rule.fa_counts], _PER_FRAME, *_ERRORS)


def measured_numbers(part: SetResult, group: str) -> dict[str, Interval]:
    """The numbers of a protocol, of "pixels" or of "errors" (of hIoU), by key, with 95 % bootstrap intervals.

    Intervals are NaN for numbers that are not ratios of sums. Computed once for each part.
    """
    if group not in part.memory:
        part.memory[group] = _measured(*counts_and_numbers(part, group))
    found: dict[str, Interval] = part.memory[group]
    return found


def measured_hse(part: SetResult) -> Interval:
    """HSE with its interval, for maps. Computed once for each part."""
    assert part.maps is not None
    if "hse" not in part.memory:
        part.memory["hse"] = part.maps.hse_samples.interval(part.maps.hse)
    found: Interval = part.memory["hse"]
    return found


def counts_and_numbers(part: SetResult, group: str) -> tuple[Sequence[Counts], tuple[Number, ...]]:
    """The counts of each frame and the numbers of a group of `measured_numbers`."""
    if group not in ("pixels", "errors"):
        return part.counts(group), numbers_of(group)
    assert part.maps is not None
    threshold = part.maps.thresholds[0]
    if group == "pixels":
        return part.maps.pixels(threshold), PIXEL_NUMBERS
    return part.maps.errors(threshold), ERROR_NUMBERS


def _measured(parts: Sequence[Counts], numbers: Sequence[Number]) -> dict[str, Interval]:
    resampled = [number for number in numbers if number.resampled]
    found = dict(
        zip(
            (number.key for number in resampled),
            intervals(parts, [number.of for number in resampled]) if parts else [],
            strict=bool(parts),
        )
    )
    for number in numbers:
        if number.key not in found:
            value = number.of(type(parts[0]).total(parts)) if parts else math.nan
            found[number.key] = Interval(float(value), math.nan, math.nan)
    return found


def measured_text(value: Interval, number: Number) -> str:
    """A number with its interval, such as `0.971 [0.953, 0.985]`."""
    text = number.text(value.value)
    if math.isnan(value.low):
        return text
    return f"{text} [{number.text(value.low)}, {number.text(value.high)}]"


@dataclass(frozen=True)
class BestF1:
    """The highest F1 of a curve, with its threshold chosen on the evaluated data itself."""

    protocol: str
    threshold: float
    f1: float
    precision: float
    recall: float


def best_f1(part: SetResult) -> BestF1 | None:
    """The best threshold in hindsight, or None if nothing is ever found."""
    if not part.curve.tp.any():
        return None
    row = part.curve.choose("f1")
    curve = part.curve
    values = (float(each[row]) for each in (curve.f1, curve.precision, curve.recall))
    return BestF1(curve.protocol, curve.threshold(row), *values)


def breakdowns(part: SetResult) -> dict[By, list[BreakdownRow]]:
    """Detection by classes of targets under the first protocol, where the property is known."""
    table = TargetTable.total(frame.table for frame in part.frames)
    rows = {by: breakdown(table, by) for by in BREAKDOWNS}
    return {by: found for by, found in rows.items() if any(row.label != "unknown" for row in found)}


def threshold_text(predictor: Predictor) -> str:
    """A description of the threshold and its origin."""
    if predictor.threshold is None:
        return "every predicted point counts"
    what = "pixels" if predictor.kind == "maps" else "scores"
    return f"{what} above {threshold_digits(predictor.threshold)} count ({predictor.threshold_origin})"


def threshold_digits(threshold: float) -> str:
    """A threshold with all the digits that are stored and compared."""
    short = f"{threshold:.7g}"
    return short if float(short) == threshold else repr(float(threshold))


def to_record(result: Result, notes: Sequence[str] = ()) -> dict[str, Any]:
    """The whole result as a JSON-compatible dict, with null for undefined numbers; notes: further ones."""
    predictor = result.predictor
    record = {
        "dimpoint": dimpoint.__version__,
        "evaluated": predictor.name,
        "kind": predictor.kind,
        "model_sha256": model_sha256(predictor),
        "threshold": predictor.threshold,
        "threshold_origin": predictor.threshold_origin,
        "protocols": list(result.protocols),
        "intervals": "95 % percentile bootstrap over frames, 2000 resamples, seed 0",
        "data": [_set_record(part, result) for part in result.sets],
        "pooled": _set_record(result.pooled, result),
        "notes": list(dict.fromkeys([*result.notes, *notes])),
    }
    finite: dict[str, Any] = without_nan(record)
    return finite


def model_sha256(predictor: Predictor) -> str | None:
    """SHA-256 (hex) of the model's file; None for predictions and for a model in memory."""
    path = getattr(predictor, "path", None)
    return sha256_of(path) if predictor.meta is not None and path is not None and path.is_file() else None


def _set_record(part: SetResult, result: Result) -> dict[str, Any]:
    best = best_f1(part)
    record: dict[str, Any] = {
        "name": part.name,
        "frames": len(part.frames),
        "targets": sum(len(frame.truth_xy) for frame in part.frames),
        "labels_sha256": part.labels_sha256(),
        "protocols": {name: _group_record(part, name) for name in result.protocols},
        "best_f1": None if best is None else {**asdict(best), "chosen_on": "the evaluated data"},
        "breakdowns": {
            by: [{**asdict(row), "pd": row.pd, "false_per_frame": row.false_per_frame} for row in rows]
            for by, rows in breakdowns(part).items()
        },
    }
    if part.maps is not None and part.threshold is not None:
        record["pixels"] = _group_record(part, "pixels") | {
            "roc_area": part.maps.pixel_curve.roc_area,
            "pr_area": part.maps.pixel_curve.pr_area,
        }
        record["hiou"] = ErrorCounts.total(part.maps.errors(part.threshold)).to_dict()
        record["hse"] = part.maps.hse.to_dict()
    return record


def _group_record(part: SetResult, group: str) -> dict[str, Any]:
    parts, numbers = counts_and_numbers(part, group)
    total: Any = type(parts[0]).total(parts)
    found = measured_numbers(part, group)
    shown = {each.key: found[each.key] for each in numbers if each.resampled}
    return {**total.to_dict(), "intervals": {key: [each.low, each.high] for key, each in shown.items()}}


def without_nan(value: Any) -> Any:
    """A copy with null for values that are not finite, and Python numbers instead of NumPy's."""
    if isinstance(value, dict):
        return {str(key): without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
