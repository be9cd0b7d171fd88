"""Compare two methods on the same frames: paired differences with bootstrap intervals, and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dimpoint.errors import DataError
from dimpoint.evaluation.run import Result, SetResult
from dimpoint.evaluation.summary import Number, counts_and_numbers, without_nan
from dimpoint.metrics.bootstrap import Difference, differences
from dimpoint.text import counted


@dataclass(frozen=True)
class Row:
    """A number of both methods and its paired difference.

    Parameters
    ----------
    number : Number
        Which number.
    first, second : float
        Its value for each method.
    difference : Difference
        First minus second, with its 95 % interval.
    """

    number: Number
    first: float
    second: float
    difference: Difference

    @property
    def better(self) -> str | None:
        """ "first" or "second", or None if the difference is not significant."""
        if not self.difference.significant:
            return None
        return "first" if (self.difference.value > 0) != self.number.less_is_better else "second"


@dataclass(frozen=True)
class Comparison:
    """The rows of one data set under one protocol (or `pixels`)."""

    data_set: str
    protocol: str
    frames: int
    rows: tuple[Row, ...]


def compare(first: Result, second: Result) -> list[Comparison]:
    """Compare two results on the same frames, for each data set and for all together.

    Parameters
    ----------
    first, second : Result
        Results of `evaluate` with the same protocols.

    Returns
    -------
    list of Comparison

    Raises
    ------
    DataError
        If their frames or protocols differ.
    """
    if first.protocols != second.protocols:
        raise DataError("a comparison needs the same protocols on both sides")
    parts = [(first.pooled, second.pooled)]
    if len(first.sets) > 1:
        parts = [*zip(first.sets, second.sets, strict=True), *parts]
    return [each for one, other in parts for each in _compare_set(one, other, first.protocols)]


def _compare_set(one: SetResult, other: SetResult, protocols: Sequence[str]) -> list[Comparison]:
    keys = [[frame.frame.key for frame in part.frames] for part in (one, other)]
    if keys[0] != keys[1]:
        raise DataError("a comparison needs the same frames on both sides")
    found = [Comparison(one.name, name, len(one.frames), _rows(one, other, name)) for name in protocols]
    if one.maps is not None and other.maps is not None:
        difference = one.maps.hse_samples.difference(other.maps.hse_samples, one.maps.hse, other.maps.hse)
        hse = Row(Number("hse", "HSE", ".3f"), one.maps.hse.hse, other.maps.hse.hse, difference)
        found.append(Comparison(one.name, "pixels", len(one.frames), (*_rows(one, other, "pixels"), hse)))
    return found


def _rows(one: SetResult, other: SetResult, group: str) -> tuple[Row, ...]:
    (first, every), (second, _) = (counts_and_numbers(part, group) for part in (one, other))
    numbers = [number for number in every if number.resampled]
    wholes = [type(parts[0]).total(parts) for parts in (first, second)]
    difference = differences(first, second, [number.of for number in numbers])
    return tuple(
        Row(number, float(number.of(wholes[0])), float(number.of(wholes[1])), each)
        for number, each in zip(numbers, difference, strict=True)
    )


def verdict(comparison: Comparison, first: str, second: str) -> str:
    """The result in F1 (IoU for pixels), as one sentence."""
    key = "iou" if comparison.protocol == "pixels" else "f1"
    row = next(row for row in comparison.rows if row.number.key == key)
    label, difference = row.number.label, row.difference
    where = f"on {comparison.data_set} ({counted(comparison.frames, 'frame')}), {_under(comparison)}"
    if difference.value != difference.value:
        return f"{label} is not defined {where}."
    if difference.low != difference.low:
        return f"{label} differs by {difference.value:+.3f} {where}: too few frames for an interval."
    between = f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
    if row.better is None:
        return f"No significant difference in {label} {where}: {between} contains 0."
    winner, loser = (first, second) if row.better == "first" else (second, first)
    return f"{winner} is better than {loser} in {label} {where}: {between}."


def _under(comparison: Comparison) -> str:
    return "by pixels" if comparison.protocol == "pixels" else f"protocol {comparison.protocol}"


def to_record(
    comparisons: Sequence[Comparison], first: Result, second: Result, *, notes: Sequence[str]
) -> dict[str, Any]:
    """A JSON-compatible dict, with null for undefined numbers."""
    record: dict[str, Any] = without_nan(
        {
            "first": _side(first),
            "second": _side(second),
            "difference": "first less second; 95 % percentile bootstrap over frames, paired, seed 0",
            "comparisons": [
                {
                    "data_set": each.data_set,
                    "protocol": each.protocol,
                    "frames": each.frames,
                    "numbers": {row.number.key: _number(row) for row in each.rows},
                }
                for each in comparisons
            ],
            "notes": list(notes),
        }
    )
    return record


def _side(result: Result) -> dict[str, Any]:
    predictor = result.predictor
    origin = predictor.threshold_origin
    return {"evaluated": predictor.name, "threshold": predictor.threshold, "threshold_origin": origin}


def _number(row: Row) -> dict[str, Any]:
    difference = row.difference
    return {
        "first": row.first,
        "second": row.second,
        "difference": difference.value,
        "interval": [difference.low, difference.high],
        "significant": difference.significant,
        "better": row.better,
    }
