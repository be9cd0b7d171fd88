"""Tables of one or several evaluations as text cells, for the terminal, reports, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dimpoint.errors import DataError
from dimpoint.evaluation.run import Result, SetResult
from dimpoint.evaluation.summary import (
    PIXEL_NUMBERS,
    best_f1,
    counts_and_numbers,
    measured_hse,
    measured_numbers,
    measured_text,
    threshold_digits,
)
from dimpoint.metrics.protocols import get_protocol
from dimpoint.text import csv_cell, latex_table, printable

Rows = list[tuple[str, tuple[str, ...]]]


CSV_COLUMNS = ("table", "quantity", "method", "data", "value", "low", "high")


@dataclass(frozen=True)
class TextTable:
    """A table; rows: a label and a cell for each column. A label with * at its end is chosen in hindsight."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Column:
    """One method on one data set, or on all together."""

    label: str
    part: SetResult
    method: str = ""


def columns_of(results: Result | Sequence[Result]) -> list[Column]:
    """The columns of a table: each data set of each result, and all together if there are several."""
    every = [results] if isinstance(results, Result) else list(results)
    names = names_of(every)
    columns = []
    for name, result in zip(names, every, strict=True):
        several = len(result.sets) > 1
        for part in (*result.sets, result.pooled) if several else result.sets:
            of_method = f"{name}, {part.name}" if several else name
            label = printable(part.name if len(every) == 1 else of_method)
            columns.append(Column(label, part, name))
    return columns


def names_of(results: Sequence[Result]) -> list[str]:
    """A printable name for each result; equal names are numbered."""
    names = [printable(result.predictor.name) for result in results]
    counted: dict[str, int] = {}
    found = []
    for name in names:
        counted[name] = counted.get(name, 0) + 1
        found.append(name if names.count(name) == 1 else f"{name} ({counted[name]})")
    return found


def tables_of(results: Result | Sequence[Result]) -> list[TextTable]:
    """One table for each protocol, the first with the best threshold in hindsight, and those of maps.

    Several results are side by side, one column each. Raises DataError if their protocols or frames differ.
    """
    every = [results] if isinstance(results, Result) else list(results)
    check_alike(every)
    columns = columns_of(every)
    protocols = every[0].protocols
    tables = [_protocol_table(name, columns, with_best=name == protocols[0]) for name in protocols]
    maps = [column for column in columns if column.part.maps is not None]
    if maps:
        tables.append(_pixel_table(maps))
        if any("hiou" in get_protocol(name).numbers for name in protocols):
            tables.append(_table("where hIoU is lost", maps, _measured_rows(maps, "errors")))
        tables.append(_hse_table(maps))
    return tables


def check_alike(results: Sequence[Result]) -> None:
    """Raise DataError unless the results have the same protocols and frames."""
    first = results[0]
    keys = [frame.frame.key for frame in first.pooled.frames]
    for other in results[1:]:
        if other.protocols != first.protocols:
            raise DataError("results side by side need the same protocols")
        if [frame.frame.key for frame in other.pooled.frames] != keys:
            raise DataError("results side by side need the same frames")


def rows_of(results: Result | Sequence[Result]) -> Iterator[tuple[str, ...]]:
    """All tables as rows of `CSV_COLUMNS`: a row for each number of each method on each data set."""
    columns = {column.label: (column.method, printable(column.part.name)) for column in columns_of(results)}
    for table in tables_of(results):
        for label, cells in table.rows:
            for column, cell in zip(table.columns, cells, strict=True):
                yield (table.title, label.strip(), *columns[column], *split_cell(cell))


def csv_of(results: Result | Sequence[Result]) -> str:
    """All tables as CSV with the columns `CSV_COLUMNS`; low and high are empty where there is no interval."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in rows_of(results):
        writer.writerow((*(csv_cell(cell) for cell in row[:4]), *row[4:]))
    return text.getvalue()


def split_cell(cell: str) -> tuple[str, str, str]:
    """Value, low and high of a cell such as `0.750 [0.500, 1.000]`; empty where not defined."""
    found = re.fullmatch(r"(\S+) \[(\S+), (\S+)\]", cell)
    value, low, high = found.groups() if found else (cell, "", "")
    return "" if value == "-" else value, low, high


def latex_of(results: Result | Sequence[Result]) -> str:
    """The tables as LaTeX `tabular` environments with booktabs rules, one row for each method.

    They need `\\usepackage{booktabs}`. Intervals stand beside the numbers; rows chosen in hindsight
    are left out.
    """
    return "\n".join(_latex_table(table) for table in tables_of(results))


def _latex_table(table: TextTable) -> str:
    rows = [(label.strip(), cells) for label, cells in table.rows if not label.endswith("*")]
    lines = [[column, *(cells[index] for _, cells in rows)] for index, column in enumerate(table.columns)]
    return latex_table(table.title, ["", *(label for label, _ in rows)], lines)


def _values(rows: Rows, index: int) -> list[str]:
    """The cells of a column without their intervals."""
    return [split_cell(cells[index])[0] or "-" for _, cells in rows]


def _table(title: str, columns: Sequence[Column], rows: Rows) -> TextTable:
    return TextTable(title, tuple(column.label for column in columns), tuple(rows))


def _protocol_table(protocol: str, columns: Sequence[Column], *, with_best: bool) -> TextTable:
    """The table of a protocol."""
    totals = [column.part.total(protocol) for column in columns]
    rows: Rows = [
        ("frames", tuple(f"{total.frames}" for total in totals)),
        ("targets", tuple(f"{total.tp + total.fn}" for total in totals)),
        ("found / missed / false", tuple(f"{t.tp} / {t.fn} / {t.fp}" for t in totals)),
    ]
    rows += _measured_rows(columns, protocol)
    if with_best:
        rows += _best_rows(columns, protocol)
    return _table(f"protocol {protocol}", columns, rows)


def _best_rows(columns: Sequence[Column], protocol: str) -> Rows:
    """The best threshold in hindsight, marked with *; no rows if nothing is ever found.

    Curves of points and of maps are of two protocols, which have rows of their own.
    """
    found = [best_f1(column.part) for column in columns]
    named = {best.protocol for best in found if best is not None}
    rows: Rows = []
    for name in sorted(named, key=lambda name: (name != protocol, name)):
        under = "" if name == protocol else f", {name}"
        here = [best if best is not None and best.protocol == name else None for best in found]
        best_cells = tuple("-" if best is None else f"{best.f1:.3f}" for best in here)
        threshold_cells = tuple("-" if best is None else threshold_digits(best.threshold) for best in here)
        rows.append((f"best F1{under} *", best_cells))
        rows.append((f"at threshold{under if len(named) > 1 else ''} *", threshold_cells))
    return rows


def _pixel_table(columns: Sequence[Column]) -> TextTable:
    maps = [column.part.maps for column in columns if column.part.maps is not None]
    rows = _measured_rows(columns, "pixels")
    rows.append(("ROC area, all thresholds", tuple(three_digits(each.pixel_curve.roc_area) for each in maps)))
    rows.append(("PR area, all thresholds", tuple(three_digits(each.pixel_curve.pr_area) for each in maps)))
    return _table("pixels", columns, rows)


def _hse_table(columns: Sequence[Column]) -> TextTable:
    """HSE with its interval, and its parts, over all thresholds."""
    maps = [column.part.maps for column in columns if column.part.maps is not None]
    rows: Rows = [
        ("HSE", tuple(measured_text(measured_hse(each.part), PIXEL_NUMBERS[0]) for each in columns)),
        ("of pixels", tuple(three_digits(each.hse.pixel) for each in maps)),
        ("  IoU", tuple(three_digits(each.hse.iou) for each in maps)),
        ("  nIoU", tuple(three_digits(each.hse.niou) for each in maps)),
        ("of targets", tuple(three_digits(each.hse.target) for each in maps)),
    ]
    for radius in maps[0].hse.f1:
        rows.append((f"  F1 within {radius:g} px", tuple(three_digits(each.hse.f1[radius]) for each in maps)))
    return _table(f"HSE ({maps[0].hse.name}), all thresholds", columns, rows)


def _measured_rows(columns: Sequence[Column], group: str) -> Rows:
    """A row for each number of a group, with its interval, of each column."""
    found = [measured_numbers(column.part, group) for column in columns]
    numbers = counts_and_numbers(columns[0].part, group)[1]
    return [
        (number.label, tuple(measured_text(each[number.key], number) for each in found)) for number in numbers
    ]


def three_digits(value: float) -> str:
    """A ratio as text; `-` where it is not defined."""
    return PIXEL_NUMBERS[0].text(value)
