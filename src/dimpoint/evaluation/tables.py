"""The tables of an evaluation as text cells, for the terminal and the report alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dimpoint.evaluation.run import Result, SetResult
from dimpoint.evaluation.summary import (
    ERROR_NUMBERS,
    PIXEL_NUMBERS,
    Number,
    best_f1,
    measured,
    measured_text,
    numbers_of,
)
from dimpoint.metrics.counts import Counts


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
