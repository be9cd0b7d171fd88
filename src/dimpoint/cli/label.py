"""`dimpoint label`: label targets on a local web page."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import typer

from dimpoint.cli.options import COLOUR, MODEL, RECURSIVE
from dimpoint.errors import DimpointError, MissingExtraError


def register(app: typer.Typer) -> None:
    """Add the command `dimpoint label`."""
    app.command("label")(label)


def label(
    sources: list[Path] = typer.Argument(
        None, metavar="SOURCE...", help="Images, folders or videos; not needed for an existing project."
    ),
    project: Path = typer.Option(
        ..., "--project", metavar="DIR", help="Folder of the project; created if missing."
    ),
    model: str | None = MODEL,
    report: Path | None = typer.Option(
        None, metavar="DIR", help="Report of dimpoint evaluate, whose errors the page lists."
    ),
    recursive: bool = RECURSIVE,
    colour: str | None = COLOUR,
    port: int = typer.Option(0, metavar="N", min=0, max=65535, help="Port.", show_default="any free port"),
    host: str = typer.Option("127.0.0.1", metavar="ADDRESS", help="Address to listen on."),
    no_browser: bool = typer.Option(False, "--no-browser", help="Do not open the page in a browser."),
) -> None:
    """Label targets with one click each on a page in the browser; --model proposes them."""
    for package in ("starlette", "uvicorn"):
        if find_spec(package) is None:
            raise MissingExtraError("labelling", package, "label")
    from dimpoint.inference.detector import Detector
    from dimpoint.labelling.judging import read_report
    from dimpoint.labelling.project import Project
    from dimpoint.labelling.server import new_token, run
    from dimpoint.serving.guard import local_hosts
    from dimpoint.serving.server import open_socket
    from dimpoint.sources import ReadOptions
    from dimpoint.sources.colours import check_colour

    check_colour(colour)
    if model is not None:
        Detector(model)  # a wrong name ends here, before there is a project
    reported = None if report is None else read_report(report)
    opened = Project(
        project,
        sources or (),
        model=model,
        recursive=recursive,
        note=lambda text: typer.echo(text, err=True),
        options=ReadOptions(colour=colour),
    )
    try:
        listening = open_socket(host, port)
        listening.listen(128)  # who opens the printed address at once waits instead of being refused
        number = listening.getsockname()[1]
        token = new_token()
        hosts = local_hosts(number, host)
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{number}/?token={token}"
        typer.echo(address)
        if host not in ("127.0.0.1", "localhost", "::1"):
            typer.echo(
                "note: everybody who can reach this address and has the token can change labels", err=True
            )
        if not no_browser:
            _open_browser(address)
        try:
            run(opened, listening, token, hosts, reported)
        except OSError as error:
            raise DimpointError(f"{address}: the server stopped ({error.strerror})") from None
    finally:
        opened.close()


def _open_browser(address: str) -> None:
    import threading
    import webbrowser

    threading.Timer(0.5, webbrowser.open, [address]).start()
