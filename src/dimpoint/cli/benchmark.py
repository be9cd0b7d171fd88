"""`dimpoint benchmark`: which recipe is best on somebody's data, at what cost."""

from __future__ import annotations

from pathlib import Path

import typer

from dimpoint.cli.console import table_console


def register(app: typer.Typer) -> None:
    """Add the command `dimpoint benchmark`."""
    app.command("benchmark")(benchmark)


def benchmark(
    recipes: list[str] = typer.Argument(..., help="Shipped recipes (see `dimpoint recipes`) or .yaml files."),
    data: list[Path] = typer.Option(..., "--data", metavar="DIR", help="A data set; may be repeated."),
    out: Path = typer.Option(..., "--out", metavar="DIR", help="Folder of the runs; finished ones are kept."),
    split: str = typer.Option("test", metavar="NAME", help="The split that is evaluated, never trained on."),
    train_split: str | None = typer.Option(
        None, metavar="NAME", help="The split that is trained on.", show_default="train"
    ),
    epochs: int | None = typer.Option(None, min=1, help="Of every recipe.", show_default="the recipe's own"),
    minutes: float | None = typer.Option(
        None, min=0.01, help="Instead: about how long every recipe is trained."
    ),
    changes: list[str] = typer.Option([], "--set", help="Change a key of all recipes alike."),
    threads: int | None = typer.Option(None, min=1, help="Threads of the processor; default: all cores."),
) -> None:
    """Train recipes on the same frames, evaluate them on the same others, and print one table.

    Protocol spire, each at the threshold of the best F1 on the frames that its run held out. Leaves
    benchmark.md and benchmark.json beside the runs. Started again, it goes on where it stopped.
    """
    from rich.table import Table

    from dimpoint.atomic import write_text
    from dimpoint.cli.evaluate import write_json
    from dimpoint.cli.train import require_torch

    require_torch("a benchmark")
    from dimpoint.evaluation.truth import open_truth
    from dimpoint.studies.benchmark import Benchmark, run_benchmark, to_record
    from dimpoint.studies.benchmark_table import COLUMNS, cells, heading, markdown
    from dimpoint.studies.budget import Budget
    from dimpoint.training.fit import Machine, Sources

    frames = open_truth(data, split)
    study = Benchmark(
        tuple(recipes),
        Sources(data, train_split),
        out,
        tuple(changes),
        Budget(epochs, minutes),
        Machine(threads=threads),
    )
    rows = run_benchmark(study, frames, lambda line: typer.echo(line, err=True))
    record = to_record(study, rows, frames) | {"split": split}
    write_json(record, str(out / "benchmark.json"))
    write_text(out / "benchmark.md", markdown(record))
    # A recipe is a column: there are fewer of them than of quantities, and a terminal is narrow.
    names, *quantities = zip(*(cells(row) for row in record["rows"]), strict=True)
    table = Table(COLUMNS[0], title=heading(record), title_justify="left")
    for name in names:
        table.add_column(name, justify="right", overflow="fold")
    for label, values in zip(COLUMNS[1:], quantities, strict=True):
        table.add_row(label, *values)
    table_console().print(table)
    typer.echo(f"saved: {out / 'benchmark.md'}, {out / 'benchmark.json'}")
