"""`dimpoint events`: list what `dimpoint watch` stored."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer

from dimpoint.text import printable

_KINDS = ("tracks", "alarms", "points", "interruptions")
_SHOWN = {  # columns of the table, which has to fit a terminal; CSV and JSON have all
    "tracks": ("started", "duration", "state", "best_score", "last_x", "last_y", "alarms"),
    "alarms": ("time", "rule", "x", "y", "speed", "score", "clip"),
}


def register(app: typer.Typer) -> None:
    """Add the command `dimpoint events`."""
    app.command("events")(show_events)


def show_events(
    database: Path = typer.Argument(metavar="DB", help="Database of `dimpoint watch --events`."),
    what: str = typer.Option("tracks", "--show", metavar="WHAT", help=f"What to list: {', '.join(_KINDS)}."),
    since: str | None = typer.Option(
        None, metavar="TIME", help="List events from this time on, ISO 8601, such as 2026-05-01T22:00."
    ),
    until: str | None = typer.Option(None, metavar="TIME", help="List events up to this time."),
    form: str = typer.Option(
        "table", "--format", metavar="NAME", help="table (the main columns), csv or json."
    ),
    out: Path | None = typer.Option(
        None, metavar="FILE", help="Write to this file instead of standard output."
    ),
) -> None:
    """List or export the events that `dimpoint watch --events` stored, also while it runs."""
    from dimpoint.atomic import write_text
    from dimpoint.errors import ConfigError
    from dimpoint.live.export import as_csv, as_json, columns, events

    if what not in _KINDS:
        raise ConfigError(f"--show must be one of {', '.join(_KINDS)}, got '{what}'")
    if form not in ("table", "csv", "json"):
        raise ConfigError(f"--format must be table, csv or json, got '{form}'")
    found = events(database, what, since=_moment("--since", since), until=_moment("--until", until))
    if form == "table" and out is None:
        _print_table(list(found), what)
        return
    text = as_json(found) if form == "json" else as_csv(found, columns(database, what))
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)


def _cell(value: Any) -> str:
    """A value in few characters: times to the second, numbers with at most four digits."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)\.?\d*", r"\1 \2", printable(str(value)))


def _print_table(records: list[dict[str, Any]], what: str) -> None:
    from rich.table import Table

    from dimpoint.cli.console import table_console

    if not records:
        typer.echo(f"no {what}")
        return
    shown = [key for key in _SHOWN.get(what, ()) if key in records[0]] or list(records[0])
    table = Table(*shown)
    for record in records:
        table.add_row(*(_cell(record[key]) for key in shown))
    table_console().print(table)


def _moment(option: str, text: str | None) -> float | None:
    from datetime import datetime

    from dimpoint.errors import ConfigError

    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise ConfigError(f"{option}: '{text}' is not a time in ISO 8601, such as 2026-05-01T22:00") from None
