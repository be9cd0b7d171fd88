"""`dimpoint events`: list what `dimpoint watch` stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from dimpoint.text import printable

_KINDS = ("tracks", "alarms", "points", "interruptions")


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
    form: str = typer.Option("table", "--format", metavar="NAME", help="Output format: table, csv or json."),
    out: Path | None = typer.Option(
        None, metavar="FILE", help="Write to this file instead of standard output."
    ),
) -> None:
    """List or export the events that `dimpoint watch --events` stored, also while it runs."""
    from dimpoint.atomic import write_text
    from dimpoint.errors import ConfigError
    from dimpoint.live.export import as_csv, as_json, events

    if what not in _KINDS:
        raise ConfigError(f"--show must be one of {', '.join(_KINDS)}, got '{what}'")
    if form not in ("table", "csv", "json"):
        raise ConfigError(f"--format must be table, csv or json, got '{form}'")
    found = events(database, what, since=_moment("--since", since), until=_moment("--until", until))
    if form == "table" and out is None:
        _print_table(list(found))
        return
    text = as_json(found) if form == "json" else as_csv(found)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)


def _print_table(records: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from dimpoint.cli.console import table_console

    if not records:
        typer.echo("nothing")
        return
    table = Table(*records[0])
    for record in records:
        table.add_row(*("" if value is None else printable(str(value)) for value in record.values()))
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
