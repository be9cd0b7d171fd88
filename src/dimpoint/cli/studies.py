"""`dimpoint benchmark` compares recipes on a data set; `dimpoint ablate` measures the effect of FDEP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dimpoint.cli.console import plain, table_console
from dimpoint.cli.options import DATA, JSON_FILE, THREADS, reads_labels, require_torch
from dimpoint.errors import ConfigError, DataError
from dimpoint.text import counted, printable

if TYPE_CHECKING:
    from dimpoint.datasets.reading import Reading
    from dimpoint.studies.ablation import Row


def register(app: typer.Typer) -> None:
    """Add the commands `dimpoint benchmark` and `dimpoint ablate`."""
    app.command("benchmark")(benchmark)
    app.command("ablate")(ablate)


@reads_labels()
def benchmark(
    recipes: list[str] = typer.Argument(..., help="Shipped recipes (see `dimpoint recipes`) or .yaml files."),
    data: list[Path] = DATA,
    out: Path = typer.Option(
        ..., "--out", metavar="DIR", help="Folder for the runs; finished runs are kept."
    ),
    split: str = typer.Option("test", metavar="NAME", help="Split to evaluate; it is never trained on."),
    train_split: str | None = typer.Option(
        None, metavar="NAME", help="Split to train on.", show_default="train"
    ),
    protocol: str = typer.Option(
        "spire", "--protocol", metavar="NAME", help="Evaluation protocol (see `dimpoint protocols`)."
    ),
    epochs: int | None = typer.Option(
        None, min=1, help="Training length of every recipe, epochs.", show_default="the recipe's own"
    ),
    minutes: float | None = typer.Option(
        None, min=0.01, help="Instead of --epochs: approximate training time of every recipe, minutes."
    ),
    changes: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="Change a key of every recipe; may be repeated."
    ),
    threads: int | None = THREADS,
    *,
    reading: Reading,
) -> None:
    """Train recipes on the same data, evaluate them on the same test frames, and print one table.

    The threshold of each is that of the best F1 on its held-out frames. Writes benchmark.md and
    benchmark.json beside the runs. Run the same command again to continue a stopped benchmark.
    """
    from rich.table import Table

    from dimpoint.atomic import write_text
    from dimpoint.cli.console import write_json

    require_torch("a benchmark")
    from dimpoint.evaluation.truth import open_truth
    from dimpoint.studies.benchmark import (
        COLUMNS,
        Benchmark,
        cells,
        heading,
        markdown,
        run_benchmark,
        to_record,
    )
    from dimpoint.studies.runs import Budget
    from dimpoint.training.fit import Machine, TrainingData

    try:
        frames = open_truth(data, split, reading=reading)
    except DataError as error:
        if split != "test" or "split" not in str(error):
            raise
        raise DataError(
            f"{error}. A benchmark needs frames that are not trained on: make a test split with: "
            f"dimpoint data split {data[0]} (for a fixed camera: --by time), or name one with --split"
        ) from None
    study = Benchmark(
        tuple(recipes),
        TrainingData(data, train_split, reading),
        out,
        tuple(changes),
        Budget(epochs, minutes),
        Machine(threads=threads),
        protocol,
    )
    rows = run_benchmark(study, frames, lambda line: typer.echo(printable(line), err=True))
    record = to_record(study, rows, frames) | {"split": split}
    write_json(record, str(out / "benchmark.json"))
    write_text(out / "benchmark.md", markdown(record))
    # A recipe is a column: there are fewer of them than of quantities, and a terminal is narrow.
    names, *quantities = zip(*(cells(row) for row in record["rows"]), strict=True)
    table = Table(COLUMNS[0], title=plain(heading(record)), title_justify="left")
    for name in names:
        table.add_column(plain(name), justify="right", overflow="fold")
    for label, values in zip(COLUMNS[1:], quantities, strict=True):
        table.add_row(label, *map(plain, values))
    table_console().print(table)
    typer.echo(printable(f"saved: {out / 'benchmark.md'}, {out / 'benchmark.json'}"))


@reads_labels()
def ablate(
    method: str = typer.Argument(help="Method to ablate: fdep."),
    host: str = typer.Option("acm", "--host", help="Recipe of the encoder-decoder network."),
    data: list[Path] = DATA,
    foundation: str = typer.Option(..., "--foundation", help="Folder or id of a Hugging Face backbone."),
    out: Path = typer.Option(
        ..., "--out", metavar="DIR", help="Folder for the runs; finished runs are kept."
    ),
    seeds: int = typer.Option(3, min=1, help="Number of runs per arm."),
    arms: str = typer.Option(
        "plain,fdep,add,random",
        help="Arms, separated by commas: plain (no FDEP), fdep, and the controls add and random.",
    ),
    split: str = typer.Option("test", metavar="NAME", help="Split to evaluate; it is never trained on."),
    changes: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="Change a key of the recipe in every arm; may be repeated."
    ),
    as_json: str | None = JSON_FILE,
    threads: int | None = THREADS,
    *,
    reading: Reading,
) -> None:
    """Train a network without FDEP, with it and with two controls, and compare them on the same frames."""
    from dimpoint.atomic import check_writable
    from dimpoint.cli.console import json_file, write_json

    if method != "fdep":
        raise ConfigError(f"unknown method '{method}'; known: fdep")
    require_torch("an ablation")
    check_writable(json_file(as_json))
    from dimpoint.evaluation.truth import open_truth
    from dimpoint.studies.ablation import Study, run_study, to_record
    from dimpoint.training.fit import Machine, TrainingData

    frames = open_truth(data, split, reading=reading)
    study = Study(
        host,
        foundation,
        TrainingData(data, reading=reading),
        out,
        seeds,
        tuple(changes),
        Machine(threads=threads),
    )
    rows = run_study(study, arms.split(","), frames, lambda line: typer.echo(printable(line), err=True))
    if as_json is not None:
        write_json(to_record(study, rows, len(frames)), as_json)
    if as_json != "-":
        _print(rows, f"{host}, {counted(seeds, 'seed')}, {counted(len(frames), 'frame')}")


def _print(rows: Sequence[Row], title: str) -> None:
    from rich.table import Table

    from dimpoint.studies.ablation import NUMBERS, PROTOCOL

    means = Table("arm", *(number.label for number in NUMBERS), title=plain(f"{title}, protocol {PROTOCOL}"))
    for row in rows:
        cells = [(row.mean[number.key], row.deviation[number.key]) for number in NUMBERS]
        means.add_row(row.arm, *(f"{_text(mean)} ± {_text(spread)}" for mean, spread in cells))
    console = table_console()
    console.print(means)
    apart = Table("minus plain", *(number.label for number in NUMBERS), title="paired 95 % intervals")
    for row in rows:
        if row.difference is not None:
            each = [row.difference[number.key] for number in NUMBERS]
            values = [[_text(value, "+.2f") for value in (x.value, x.low, x.high)] for x in each]
            apart.add_row(row.arm, *(f"{value} [{low}, {high}]" for value, low, high in values))
    if apart.row_count:
        console.print(apart)


def _text(value: float, form: str = ".2f") -> str:
    """A number as text; `-` where it is not defined."""
    return "-" if value != value else format(value, form)
