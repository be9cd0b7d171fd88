"""`dimpoint evaluate`: how good a model, or anybody's predictions, are on labelled frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dimpoint.errors import ConfigError

if TYPE_CHECKING:
    from dimpoint.evaluation.subject import Data, Subject

_PROTOCOLS = "spire, basicirstd, dnanet-legacy, opdc or all; may be repeated."


def register(app: typer.Typer) -> None:
    """Add the commands `dimpoint evaluate` and `dimpoint compare`."""
    app.command("evaluate")(evaluate)


def evaluate(
    data: list[Path] = typer.Option(
        ..., "--data", metavar="DIR", help="A data set, or a COCO points file; may be repeated."
    ),
    model: str | None = typer.Option(
        None, metavar="MODEL", help="Name, ONNX file or training run's folder.  [default: the shipped one]"
    ),
    predictions: Path | None = typer.Option(
        None, metavar="PATH", help="Instead: detections.json, COCO points, or a folder of maps or masks."
    ),
    split: str | None = typer.Option(None, metavar="NAME", help="Such as test.  [default: all frames]"),
    protocol: list[str] = typer.Option(["spire"], "--protocol", metavar="NAME", help=_PROTOCOLS),
    threshold: float | None = typer.Option(
        None, help="Scores above it count.  [default: the model's own; 0.5 for maps]"
    ),
    allow_missing: bool = typer.Option(
        False, help="Score the frames that have a prediction, though others have none."
    ),
    as_json: str | None = typer.Option(None, "--json", metavar="FILE|-", help="All numbers as JSON."),
    threads: int | None = typer.Option(None, help="Threads of the processor.  [default: all cores]"),
) -> None:
    """Say how good a model, or anybody's predictions, are on labelled frames."""
    from dimpoint.cli.evaluate_tables import print_result
    from dimpoint.evaluation.run import evaluate as run
    from dimpoint.evaluation.subject import Data
    from dimpoint.evaluation.summary import to_record

    held_against = Data(tuple(data), split, allow_missing)
    subject = _subject(model, predictions, held_against, threshold, threads)
    with progress("evaluating", len(subject.frames)) as step:
        result = run(subject.predictor, subject.frames, protocol, step)
    if as_json is not None:
        write_json(to_record(result) | {"data_sets": str(held_against)}, as_json)
    if as_json != "-":
        print_result(result, subject.notes)


def _subject(
    model: str | None, predictions: Path | None, data: Data, threshold: float | None, threads: int | None
) -> Subject:
    from dimpoint.evaluation.subject import open_model, open_predictions

    if predictions is None:
        return open_model(model, data, threshold, threads)
    if model is not None:
        raise ConfigError("--model and --predictions: give one of them")
    return open_predictions(predictions, data, threshold)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A progress bar on the terminal; the function that is given counts one frame."""
    import time

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    begin = time.perf_counter()
    speed = TextColumn("{task.fields[speed]:.1f} frames/s")
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn())
    terminal = Console(stderr=True)
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        task = bar.add_task("", total=total, speed=0.0)

        def step() -> None:
            done = bar.tasks[task].completed + 1
            bar.update(task, completed=done, speed=done / (time.perf_counter() - begin))

        yield step


def write_json(record: dict[str, object], target: str) -> None:
    """Write a record to a file, whole or not at all, or to standard output (`-`)."""
    import json

    from dimpoint.atomic import write_text

    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    if target == "-":
        typer.echo(text)
    else:
        write_text(Path(target), text + "\n")
