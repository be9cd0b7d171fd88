"""The command line: one module per group of commands; imports of the work are made when a command runs."""

from __future__ import annotations

import sys

import typer

from dimpoint.cli import (
    calibrate,
    data,
    demo,
    detect,
    evaluate,
    label,
    models,
    pretrain,
    serve,
    studies,
    track,
    train,
)
from dimpoint.cli.signals import exit_code, stopping
from dimpoint.errors import DimpointError
from dimpoint.text import printable

_GROUPS = (detect, track, evaluate, calibrate, train, studies, pretrain, models, data, label, serve, demo)


def build_app() -> typer.Typer:
    """The `dimpoint` command with every command group registered."""
    app = typer.Typer(
        name="dimpoint",
        help="Find dim point targets in infrared frames.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    @app.callback(invoke_without_command=True)
    def root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
        if version:
            from dimpoint import __version__

            print(__version__)
            raise typer.Exit

    for group in _GROUPS:
        group.register(app)
    return app


def main() -> None:
    """Run the command line; bad input prints one line and exits 2.

    Ctrl-C exits 130, SIGTERM 143, SIGHUP 129.
    """
    with stopping():
        try:
            build_app()()
        except DimpointError as error:
            print(f"error: {printable(str(error))}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            sys.exit(exit_code(130))
        except SystemExit as end:
            sys.exit(exit_code(end.code) if isinstance(end.code, int) else end.code)
