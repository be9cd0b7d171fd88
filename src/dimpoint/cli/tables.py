"""The output of `dimpoint evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from dimpoint.cli.console import table_console
from dimpoint.evaluation.summary import HINDSIGHT, threshold_text
from dimpoint.evaluation.tables import names_of, tables_of

if TYPE_CHECKING:
    from rich.console import Console

    from dimpoint.evaluation.run import Result


def print_results(
    results: Sequence[Result], notes: Sequence[str] = (), operating: Sequence[str] = ()
) -> None:
    """One table for each protocol, one of pixels where there are maps, and the notes; a column a method.

    operating: lines about a chosen operating point.
    """
    console = table_console()
    lines = [
        f"{name}: {threshold_text(result.predictor)}"
        for name, result in zip(names_of(results), results, strict=True)
    ]
    _print(console, [*lines, *operating])
    tables = tables_of(results)
    for content in tables:
        table = Table(title=content.title, title_justify="left")
        table.add_column("", no_wrap=True)
        for name in content.columns:
            table.add_column(name, justify="right")
        for label, cells in content.rows:
            table.add_row(label, *cells)
        console.print(table)
    lines = ["[...]: 95 % bootstrap interval over frames"]
    if any(label.endswith("*") for table in tables for label, _ in table.rows):
        lines.append(f"*: {HINDSIGHT}")
    every = dict.fromkeys([*notes, *(note for result in results for note in result.notes)])
    _print(console, [*lines, *(f"note: {note}" for note in every)])


def _print(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
