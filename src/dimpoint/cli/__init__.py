"""The command line: one module per group of commands, which import their work when a command runs."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import Any

import typer

from dimpoint.cli import (
    calibrate,
    data,
    demo,
    detect,
    evaluate,
    events,
    label,
    models,
    pretrain,
    serve,
    studies,
    track,
    train,
    watch,
)
from dimpoint.cli.signals import exit_code, stopping
from dimpoint.errors import DimpointError
from dimpoint.text import printable

_GROUPS = (
    *(detect, track, watch, events, evaluate, calibrate, train, studies),
    *(pretrain, models, data, label, serve, demo),
)


def build_app() -> typer.Typer:
    """The `dimpoint` command with every command group registered."""
    app = typer.Typer(
        name="dimpoint",
        help="Find dim point targets in infrared frames.",
        no_args_is_help=True,
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


def build_command() -> Any:
    """The `dimpoint` command with its subcommands and readable type names in the help."""
    command = typer.main.get_command(build_app())
    _name_types(command)
    return command


def _name_types(command: Any) -> None:
    """Set missing metavars: INTEGER, NUMBER, PATH or TEXT; none for flags, no types of arguments."""
    shown = command.get_help_option(command.context_class(command))
    for parameter in [*command.params, *([shown] if shown is not None else [])]:
        if parameter.param_type_name == "argument":
            parameter.metavar = (parameter.metavar or parameter.name.upper()).removesuffix("...")
            parameter.display_type_rich = lambda ctx: None
        elif getattr(parameter, "is_flag", False):
            parameter.metavar = ""
        elif parameter.metavar is not None:
            continue
        else:
            kind = str(parameter.bare_type()).removeprefix("list[").removesuffix("]").partition(" ")[0]
            parameter.metavar = _WORDS.get(kind.lower(), "TEXT")
    for inner in getattr(command, "commands", {}).values():
        _name_types(inner)


_WORDS = {"int": "INTEGER", "float": "NUMBER", "path": "PATH", "str": "TEXT"}


_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def main() -> None:
    """Run the command line; bad input prints one line and exits 2.

    Ctrl-C exits 130, SIGTERM 143, SIGHUP 129. A full disk, or output that cannot be written, is one line too.
    """
    with stopping():
        try:
            build_command()(prog_name="dimpoint")
        except DimpointError as error:
            print(f"error: {printable(str(error))}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            sys.exit(exit_code(130))
        except SystemExit as end:
            _flush()
            sys.exit(exit_code(end.code) if isinstance(end.code, int) else end.code)
        except OSError as error:
            if error.errno not in _DISK_ERRORS:
                raise
            _refused(error)


def _flush() -> None:
    """Flush standard output now, while an error can still be reported in one line."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has closed the pipe, as `| head` does
        _silence()
    except OSError as error:
        _refused(error)


def _refused(error: OSError) -> None:
    what = error.filename or "standard output"
    print(f"error: {printable(str(what))}: cannot be written: {error.strerror}", file=sys.stderr)
    _silence()
    sys.exit(2)


def _silence() -> None:
    """Keep Python from flushing to the same place again at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
