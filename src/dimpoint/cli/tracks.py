"""`dimpoint evaluate --tracks`: options and output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dimpoint.cli.console import table_console, write_json
from dimpoint.errors import ConfigError

if TYPE_CHECKING:
    from dimpoint.tracking.evaluation import TrackEvaluation

_PANEL = "Tracks of labelled clips"
TRACKS: Any = typer.Option(
    [],
    "--tracks",
    metavar="PATH",
    rich_help_panel=_PANEL,
    help="tracks.json, its folder, a folder of such folders, MOTChallenge text or CSV; may be repeated.",
)
TRUTH: Any = typer.Option(
    [],
    "--truth",
    metavar="PATH",
    rich_help_panel=_PANEL,
    help="Labels of each clip (CSV, MOTChallenge text, COCO or tracks.json), or a folder of them.",
)
DISTANCE: Any = typer.Option(
    None,
    "--distance",
    metavar="PX",
    rich_help_panel=_PANEL,
    help="Largest distance of a track's point from a labelled point or box.",
    show_default="5",
)
FPS: Any = typer.Option(
    None,
    "--fps",
    rich_help_panel=_PANEL,
    help="Frames per second of tracks without times.",
    show_default="25",
)


def evaluated_tracks(
    tracks: list[Path], truth: list[Path], distance: float | None, fps: float | None
) -> TrackEvaluation | None:
    """The evaluation, None without --tracks; raises ConfigError for options that do not go together."""
    if not tracks:
        if truth or distance is not None or fps is not None:
            raise ConfigError("--truth, --distance and --fps need --tracks")
        return None
    if not truth:
        raise ConfigError("--tracks needs --truth: the labels of each clip, or a folder of them")
    from dimpoint.tracking.clips import evaluate_tracks
    from dimpoint.tracking.evaluation import DISTANCE as USUAL

    return evaluate_tracks(tracks, truth, distance=USUAL if distance is None else distance, fps=fps)


def write_tracks(
    evaluation: TrackEvaluation,
    as_json: str | None,
    as_csv: Path | None,
    latex: Path | None,
    report: Path | None,
) -> None:
    """Print the table, and write JSON, CSV, LaTeX and the page."""
    from dimpoint.atomic import write_text
    from dimpoint.report.tracks import write_track_report

    if as_json is not None:
        write_json(evaluation.to_record(), as_json)
    if as_json != "-":
        print_tracks(evaluation)
    if as_csv is not None:
        write_text(as_csv, evaluation.to_csv())
    if latex is not None:
        write_text(latex, evaluation.to_latex())
    if report is not None:
        typer.echo(f"report: {write_track_report(report, evaluation)}", err=as_json == "-")


def print_tracks(evaluation: TrackEvaluation) -> None:
    """The table of numbers and the notes."""
    from rich.table import Table

    from dimpoint.text import printable

    clips = len(evaluation.clips)
    title = printable(evaluation.clips[0].name) if clips == 1 else f"{clips} clips"
    table = Table(title=f"tracks: {title}, matched within {evaluation.distance:g} px", title_justify="left")
    table.add_column("", no_wrap=True)
    table.add_column("value", justify="right")
    for row in evaluation.rows():
        table.add_row(*row)
    console = table_console()
    console.print(table)
    lines = ["[...]: 95 % bootstrap interval over clips"] if clips > 1 else []
    for line in [*lines, *(f"note: {printable(note)}" for note in evaluation.notes)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def section_of(evaluation: TrackEvaluation) -> str:
    """The section of a report's page."""
    from dimpoint.report.tracks import track_section

    return track_section(evaluation)
