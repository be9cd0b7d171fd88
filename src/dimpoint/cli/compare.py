"""`dimpoint compare`: compare two methods on the same frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dimpoint.cli.console import plain, print_lines, print_subject, table_console
from dimpoint.cli.options import DEVICE, JSON_FILE, PREDICTION_VALUES, THREADS, reads_labels
from dimpoint.text import counted

if TYPE_CHECKING:
    from dimpoint.datasets.reading import Reading
    from dimpoint.evaluation.compare import Comparison, Row
    from dimpoint.evaluation.run import Result


@reads_labels()
def compare(
    first: str = typer.Argument(
        metavar="A", help="A model (name, file or run folder), or a file or folder of predictions."
    ),
    second: str = typer.Argument(metavar="B", help="Another model or predictions."),
    data: list[Path] = typer.Option(..., "--data", metavar="DIR", help="Data set; may be repeated."),
    split: str | None = typer.Option(
        None, metavar="NAME", help="Split of the data, such as test.", show_default="all frames"
    ),
    protocol: list[str] = typer.Option(
        ["spire"],
        "--protocol",
        metavar="NAME",
        help="Protocol (see `dimpoint protocols`), module:object, or all; may be repeated.",
    ),
    threshold: float | None = typer.Option(
        None, help="Count predictions of both with a score above this.", show_default="each one's own"
    ),
    allow_missing: bool = typer.Option(
        False, "--allow-missing", help="Compare only the frames for which both have a prediction."
    ),
    prediction_values: str | None = PREDICTION_VALUES,
    as_json: str | None = JSON_FILE,
    device: str = DEVICE,
    threads: int | None = THREADS,
    *,
    reading: Reading,
) -> None:
    """Compare A and B on the same frames, each at its own threshold unless told, with paired intervals."""
    from contextlib import ExitStack

    from dimpoint.atomic import check_writable
    from dimpoint.cli.console import json_file, progress, write_json
    from dimpoint.evaluation.compare import to_record
    from dimpoint.evaluation.subject import Data, open_either
    from dimpoint.report.evaluation import compared, evaluate_subjects

    check_writable(json_file(as_json))
    labelled = Data(tuple(data), split, allow_missing, reading, prediction_values)
    sides = [open_either(name, labelled, threshold, threads, device) for name in (first, second)]
    for side in sides:
        print_subject(side, device)
    with ExitStack() as bars:
        evaluation = evaluate_subjects(
            sides,
            labelled,
            protocol,
            progress=lambda what, total: bars.enter_context(progress(what, total)),
        )
    found = compared(evaluation)
    if as_json != "-":
        _print(found.comparisons, found.results, found.notes)
    if as_json is not None:
        write_json(to_record(found.comparisons, *found.results, notes=found.notes), as_json)


def _print(comparisons: Sequence[Comparison], results: Sequence[Result], notes: Sequence[str]) -> None:
    from rich.table import Table

    from dimpoint.evaluation.compare import verdict
    from dimpoint.evaluation.summary import threshold_text

    console = table_console()
    print_lines(
        console,
        (
            f"{name}: {result.predictor.name}, {threshold_text(result.predictor)}"
            for name, result in zip("AB", results, strict=True)
        ),
    )
    for each in comparisons:
        under = "pixels" if each.protocol == "pixels" else f"protocol {each.protocol}"
        title = plain(f"{each.data_set}, {counted(each.frames, 'frame')}, {under}")
        table = Table(title=title, title_justify="left")
        table.add_column("")
        for column in ("A", "B", "A - B [95 %]", ""):
            table.add_column(column, justify="right")
        for row in each.rows:
            table.add_row(*_cells(row))
        console.print(table)
    lines = [verdict(each, "A", "B") for each in comparisons]
    print_lines(
        console, [*lines, "[...]: paired 95 % bootstrap interval over frames", *(f"note: {n}" for n in notes)]
    )


def _cells(row: Row) -> tuple[str, ...]:
    text, apart = row.number.text, row.difference
    shown = f"{text(apart.value)} [{text(apart.low)}, {text(apart.high)}]"
    outcome = {"first": "A is better", "second": "B is better", None: "not significant"}[row.better]
    return row.number.label, text(row.first), text(row.second), shown, outcome
