"""What `dimpoint evaluate` and `dimpoint compare` print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from dimpoint.evaluation.summary import (
    HINDSIGHT,
    PIXEL_NUMBERS,
    best_f1,
    measured,
    measured_text,
    numbers_of,
    threshold_text,
)

if TYPE_CHECKING:
    from dimpoint.evaluation.run import Result, SetResult


def print_result(result: Result, notes: Sequence[str] = ()) -> None:
    """One table for each protocol, one of pixels where there are maps, and the notes."""
    console = Console()
    columns = result.sets if len(result.sets) == 1 else (*result.sets, result.pooled)
    console.print(f"{result.predictor.name}: {threshold_text(result.predictor)}", highlight=False)
    for protocol in result.protocols:
        console.print(_protocol_table(protocol, columns, best=protocol == result.protocols[0]))
    if result.pooled.maps is not None:
        console.print(_map_table(columns))
    if any(best_f1(part) for part in columns):
        console.print(f"*: {HINDSIGHT}", highlight=False)
    console.print("[...]: 95 % bootstrap interval over frames", markup=False, highlight=False)
    for note in (*notes, *result.notes):
        console.print(f"note: {note}", markup=False, highlight=False)


def _table(title: str, columns: Sequence[SetResult]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for part in columns:
        table.add_column(part.name, justify="right")
    return table


def _protocol_table(protocol: str, columns: Sequence[SetResult], *, best: bool) -> Table:
    table = _table(f"protocol {protocol}", columns)
    table.add_row("frames", *(str(len(part.frames)) for part in columns))
    totals = [part.total(protocol) for part in columns]
    table.add_row("targets", *(str(total.tp + total.fn) for total in totals))
    table.add_row("found / missed / false", *(f"{t.tp} / {t.fn} / {t.fp}" for t in totals))
    for number in numbers_of(protocol):
        values = [measured(part.counts(protocol), number) for part in columns]
        table.add_row(number.label, *(measured_text(value, number) for value in values))
    if best:
        _add_best(table, columns, protocol)
    return table


def _map_table(columns: Sequence[SetResult]) -> Table:
    table = _table("pixels, and HSE (dimpoint reading 1)", columns)
    maps = [part.maps for part in columns if part.maps is not None]
    for number in PIXEL_NUMBERS:
        values = [measured(each.pixels(each.thresholds[0]), number) for each in maps]
        table.add_row(number.label, *(measured_text(value, number) for value in values))
    table.add_row("ROC area, all thresholds", *(f"{each.pixel_curve.roc_area:.3f}" for each in maps))
    table.add_row("PR area, all thresholds", *(f"{each.pixel_curve.pr_area:.3f}" for each in maps))
    table.add_row("HSE, all thresholds", *(f"{each.hse.hse:.3f}" for each in maps))
    return table


def _add_best(table: Table, columns: Sequence[SetResult], protocol: str) -> None:
    """The best threshold in hindsight, marked as such, where the scores leave a choice."""
    found = [best_f1(part) for part in columns]
    named = {best.protocol for best in found if best is not None}
    if not named:
        return
    under = "".join(f", {name}" for name in named - {protocol})
    table.add_section()
    for label, name, form in ((f"best F1{under} *", "f1", ".3f"), ("  at threshold *", "threshold", ".3g")):
        table.add_row(label, *("-" if best is None else format(getattr(best, name), form) for best in found))
