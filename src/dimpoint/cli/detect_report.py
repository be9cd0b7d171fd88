"""What `dimpoint detect` prints at its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dimpoint.text import printable

if TYPE_CHECKING:
    from dimpoint.inference.parts import PartsFolder
    from dimpoint.inference.results import ResultsFolder

_MOST_LISTED = 20  # unreadable files listed at the end


def hint_at_labels(files: list[Path], model: str | None) -> None:
    """For frames of a labelled data set, print the command that marks missed and false objects."""
    from shlex import quote

    folders = (folder for file in files[:1] for folder in list(file.parents)[:3])
    found = next((f for f in folders if (f / "points.json").is_file() or (f / "masks").is_dir()), None)
    if found is not None:
        chosen = "" if model is None else f"--model {quote(model)} "
        typer.echo(
            printable(
                f"note: {found} has labels; for pictures with missed targets and false objects marked: "
                f"dimpoint evaluate {chosen}--data {quote(str(found))} --overlays NEW_FOLDER"
            ),
            err=True,
        )


def nothing_read(unread: Sequence[tuple[str, object]], sources: list[str]) -> str:
    """The error of a run without a frame."""
    if not unread:
        return f"no frames in {', '.join(sources)}"
    more = len(unread) - 1
    return f"no frame could be read: {unread[0][1]}" + (f" (and {more} more files)" if more else "")


def report(
    results: ResultsFolder | PartsFolder,
    seconds: float,
    before: int,
    unread: list[tuple[str, str]],
    failed: int,
    overlay: bool,
) -> None:
    """Print counts, where the results are, notes on files, and what was not read."""
    from rich.console import Console
    from rich.table import Table

    done = results.done
    table = Table("frames", "targets", "frames without targets", "ms per frame", "unreadable files")
    new = done.frames - before
    each = f"{1000 * seconds / new:.1f}" if seconds and new else ""
    counts = (done.frames, done.targets, done.without_targets, each, failed)
    table.add_row(*(str(count) for count in counts))
    Console().print(table)
    typer.echo(f"results: {printable(str(results.file))}")
    placed = getattr(results, "placed", None)
    if placed is not None:
        typer.echo(f"positions: {placed} of {done.targets} targets have a longitude and latitude")
    if overlay:
        typer.echo(f"pictures: {printable(str(results.overlays))}")
    for note, files in list(done.notes.items())[:_MOST_LISTED]:
        more = f" and {len(files) - 1} more files" if len(files) > 1 else ""
        typer.echo(printable(f"{files[0]}{more}: {note}"), err=True)
    for name, reason in unread[:_MOST_LISTED]:
        line = reason if name in reason else f"{name}: {reason}"
        typer.echo(f"not read: {printable(line)}", err=True)
    if failed > _MOST_LISTED:
        typer.echo(f"not read: {failed - _MOST_LISTED} more files", err=True)
