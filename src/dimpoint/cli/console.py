"""Terminal output shared by the commands: tables, progress bars, JSON."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dimpoint.text import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from dimpoint.evaluation.subject import Subject
    from dimpoint.inference.detector import Detector
    from dimpoint.sources import FoundFiles

_WIDEST = 240  # columns


def print_line(text: str, *, error: bool = False) -> None:
    """Print one line without control characters, to standard error if `error`."""
    typer.echo(printable(text), err=error)


def print_device(detector: Detector, asked: str) -> None:
    """Say what `--device auto` took, on standard error."""
    if asked == "auto":
        file = "" if detector.path is None else f", {detector.path.name}"
        print_line(f"device: {detector.device}{file}", error=True)


def print_subject(subject: Subject, asked: str) -> None:
    """`print_device` of an evaluated model; nothing for predictions."""
    detector = getattr(subject.predictor, "detector", None)
    if detector is not None:
        print_device(detector, asked)


def table_console() -> Console:
    """A console on standard output that does not narrow tables in files and pipes."""
    from rich.console import Console

    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if known else _WIDEST)


def plain(text: str) -> Text:
    """Text for a table cell: one line, without markup and control characters."""
    from rich.text import Text

    return Text(printable(text))


def print_lines(console: Console, lines: Iterable[str]) -> None:
    """Print lines without markup and control characters, unwrapped."""
    for line in lines:
        console.print(plain(line), highlight=False, soft_wrap=True)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar on a terminal; call the yielded function after each frame."""
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


def command_line() -> str:
    """The command that runs, as one would type it."""
    return shlex.join(["dimpoint", *sys.argv[1:]])


def json_file(target: str | None) -> Path | None:
    """The file that `write_json` writes; None for standard output (`-`), and where nothing is written."""
    return None if target is None or target == "-" else Path(target)


def write_json(record: dict[str, object], target: str) -> None:
    """Write a record to a file (atomically), or to standard output (`-`)."""
    import json

    from dimpoint.atomic import write_text

    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    if not text.replace("\n", "").isprintable():  # JSON leaves some control characters unescaped
        text = "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
    if target == "-":
        typer.echo(text)
    else:
        write_text(Path(target), text + "\n")


def print_passed(source: str, found: FoundFiles, verbose: bool) -> None:
    """Print to standard error how many files were passed over, with `verbose` also their names."""
    typer.echo(printable(f"{source}: passed over: {found.summary()}"), err=True)
    for path, reason in found.passed if verbose else []:
        typer.echo(f"  {printable(str(path))}: {reason}", err=True)
