"""`dimpoint watch`: a live camera."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dimpoint.cli.console import print_device
from dimpoint.cli.options import CANDIDATE_SCORE as SCORE
from dimpoint.cli.options import COLOUR, DEVICE, MODEL, POLARITY, STREAM, THREADS
from dimpoint.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dimpoint.live.cameras import Camera
    from dimpoint.live.rules import Rules
    from dimpoint.live.watch import Outputs, Watcher

_STATUS_EVERY = 60.0  # seconds between two plain status lines
_REDRAWN = 0.5  # seconds between two updates on a terminal


def register(app: typer.Typer) -> None:
    """Add the command `dimpoint watch`."""
    app.command("watch")(watch)


def watch(
    source: str = typer.Argument(
        metavar="SOURCE",
        help="Stream address (rtsp, http, udp, tcp, srt or rtmp), camera /dev/videoN, or a folder that "
        "gets new files.",
    ),
    events: Path | None = typer.Option(None, metavar="DB", help="SQLite database for tracks and alarms."),
    rules: Path | None = typer.Option(
        None, metavar="FILE", help="Alarm rules in YAML.", show_default="an alarm for each track of 2.5 s"
    ),
    out: Path = typer.Option(Path("watch"), metavar="DIR", help="Folder for clips and unsent webhooks."),
    model: str | None = MODEL,
    candidate_score: float | None = SCORE,
    polarity: str = POLARITY,
    device: str = DEVICE,
    threads: int | None = THREADS,
    camera_memory: Path | None = typer.Option(
        None,
        "--camera-memory",
        metavar="FILE",
        help="Resting spots of this camera; read at the start, written every minute.",
    ),
    password_env: str | None = typer.Option(
        None, "--password-env", metavar="NAME", help="Environment variable that holds the stream's password."
    ),
    stream: int | None = STREAM,
    colour: str | None = COLOUR,
    timeout: float = typer.Option(
        10.0, metavar="SECONDS", help="Reopen the source after this time without data."
    ),
    fps: float | None = typer.Option(
        None, help="Frames per second of a folder.", show_default="the files' times"
    ),
    attempts: int | None = typer.Option(
        None, min=1, help="Give up after this many failures in a row.", show_default="never"
    ),
    seconds: float | None = typer.Option(
        None, metavar="SECONDS", help="Stop after this time.", show_default="never"
    ),
    keep_days: float | None = typer.Option(
        None, "--keep-days", metavar="DAYS", help="Delete events older than this.", show_default="keep all"
    ),
    status_port: int | None = typer.Option(
        None,
        "--status-port",
        metavar="N",
        min=0,
        max=65535,
        help="Serve /status on 127.0.0.1 at this port; 0: any free port.",
    ),
) -> None:
    """Watch a live camera: store tracks, raise alarms by rules. Runs until it is stopped.

    Exit code 130 after Ctrl-C, 143 after SIGTERM, 0 after --seconds, 1 after --attempts failures.
    """
    from dimpoint import __version__
    from dimpoint.errors import ConfigError
    from dimpoint.live.status import served, status
    from dimpoint.live.watch import Watcher, open_detector
    from dimpoint.tracking.stream import CANDIDATE_SCORE

    check_options(timeout, fps, seconds, keep_days, status_port)
    camera = open_camera(source, password_env, timeout, stream, fps, colour)
    chosen = None if rules is None else _read_rules(rules)
    score = CANDIDATE_SCORE if candidate_score is None else candidate_score
    if not 0 <= score < 1:
        raise ConfigError(f"--candidate-score: must be in 0..1, got {score:g}")
    finder = open_detector(model, score=score, threads=threads, device=device, polarity=polarity)
    print_device(finder, device)
    stored = {"source": camera.shown, "model": finder.meta.name, "version": __version__}
    with ExitStack() as stack:
        terminal = stack.enter_context(_terminal())
        outputs = _outputs(chosen, out, events, stored, keep_days, terminal)
        watcher = Watcher(
            camera,
            finder,
            outputs,
            note=terminal.note,
            rules=chosen,
            memory_file=camera_memory,
            attempts=attempts,
        )
        if status_port is not None:
            address = stack.enter_context(served(status_port, lambda: status(watcher)))
            terminal.note(f"status: {address}")
        stopped = _run(watcher, seconds, terminal)
    if stopped:
        raise typer.Exit(130)
    if watcher.capture.health.given_up:
        raise typer.Exit(1)


def check_options(
    timeout: float, fps: float | None, seconds: float | None, keep_days: float | None, port: int | None
) -> None:
    """Raise ConfigError for numbers out of range, MissingExtraError if packages for /status are missing."""
    import math

    from dimpoint.errors import ConfigError, MissingExtraError

    given = {"--timeout": timeout, "--fps": fps, "--seconds": seconds, "--keep-days": keep_days}
    for name, value in given.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{name}: must be above 0, got {value:g}")
    for package in ("starlette", "uvicorn") if port is not None else ():
        if find_spec(package) is None:
            raise MissingExtraError("--status-port", package, "serve")


def open_camera(
    source: str,
    password_env: str | None,
    timeout: float,
    stream: int | None,
    fps: float | None,
    colour: str | None = None,
) -> Camera:
    """Open the camera or folder that `source` names; ConfigError or FrameError if it is neither."""
    import os

    from dimpoint.errors import ConfigError, FrameError
    from dimpoint.live.address import Address, is_address
    from dimpoint.live.cameras import DEVICE, StreamCamera
    from dimpoint.live.folder import FolderCamera
    from dimpoint.sources import ReadOptions
    from dimpoint.sources.colours import check_colour

    check_colour(colour)
    options = ReadOptions(stream=stream, colour=colour)
    password = None
    if password_env is not None:
        password = os.environ.get(password_env)
        if password is None:
            raise ConfigError(f"--password-env: the environment variable {password_env} is not set")
        if not is_address(source):
            raise ConfigError("--password-env needs a stream address as the source")
    if is_address(source):
        return StreamCamera(Address(source, password), timeout=timeout, options=options)
    path = Path(source)
    if DEVICE.fullmatch(source):
        return StreamCamera(path, timeout=timeout, options=options)
    if path.is_dir():
        return FolderCamera(path, fps=fps, options=options)
    if path.exists():
        raise FrameError(f"{source}: is a file; use `dimpoint track` for recorded videos")
    raise FrameError(
        f"{source}: not found; expected a folder, a camera such as /dev/video0 or an address with ://"
    )


def _read_rules(path: Path) -> Rules:
    from dimpoint.live.rules import read_rules

    return read_rules(path)


class _Terminal:
    """Alarms on standard output, everything else on standard error, with a status line below."""

    def __init__(self, alarm: Callable[[str], None], note: Callable[[str], None], live: Any) -> None:
        self._alarm, self._note, self._live = alarm, note, live
        self._last = 0.0

    def alarm(self, text: str) -> None:
        """Print an alarm."""
        self._alarm(printable(text))

    def note(self, text: str) -> None:
        """Print a message."""
        self._note(printable(text))

    def status(self, watcher: Watcher) -> None:
        """Print the status: redrawn on a terminal, otherwise one line per minute."""
        import time

        from dimpoint.live.status import status, status_line

        now = time.monotonic()
        if now - self._last < (_STATUS_EVERY if self._live is None else _REDRAWN):
            return
        first, self._last = not self._last, now
        line = status_line(status(watcher))
        if self._live is not None:
            self._live.update(printable(line))
        elif not first:
            self._note(f"status: {line}")


@contextmanager
def _terminal() -> Iterator[_Terminal]:
    import sys
    from datetime import datetime
    from functools import partial

    from rich.console import Console

    console = Console(stderr=True)

    def stamped(text: str) -> str:
        return f"{datetime.now().astimezone().isoformat(timespec='seconds')} {text}"

    if not console.is_terminal:
        yield _Terminal(lambda text: _flushed(text, False), lambda text: _flushed(stamped(text), True), None)
        return
    from rich.live import Live
    from rich.text import Text

    piped = not sys.stdout.isatty()  # alarms then go there, and only there
    with Live(console=console, refresh_per_second=4, transient=True, redirect_stdout=not piped) as live:

        def above(text: str) -> None:
            console.print(Text(text))

        class _Line:
            def update(self, text: str) -> None:
                live.update(Text(text, no_wrap=True, overflow="ellipsis"))

        alarm = partial(_flushed, err=False) if piped else above
        yield _Terminal(alarm, lambda text: above(stamped(text)), _Line())


def _flushed(text: str, err: bool) -> None:
    import sys

    try:
        print(text, file=sys.stderr if err else sys.stdout, flush=True)
    except (BrokenPipeError, OSError):  # the reader is gone; watching continues
        return


def _outputs(
    rules: Rules | None,
    out: Path,
    events: Path | None,
    stored: dict[str, str],
    keep_days: float | None,
    terminal: _Terminal,
) -> Outputs:
    from dimpoint.live.clips import ClipWriter
    from dimpoint.live.command import CommandRunner
    from dimpoint.live.events import EventStore
    from dimpoint.live.watch import Outputs
    from dimpoint.live.webhook import WebhookQueue

    outputs = Outputs(say=terminal.alarm)
    if events is not None:
        outputs.store = EventStore(events, **stored, warn=terminal.note, keep_days=keep_days)
    if rules is None:
        return outputs
    if rules.webhook is not None:
        outputs.webhook = WebhookQueue(rules.webhook, out / "webhook", terminal.note)
    if rules.command is not None:
        outputs.command = CommandRunner(rules.command, terminal.note)
    if rules.clip is not None:
        outputs.clips = ClipWriter(rules.clip, out / "clips", terminal.note)
    return outputs


def _run(watcher: Watcher, seconds: float | None, terminal: _Terminal) -> bool:
    """Watch until a signal, the time limit or the end of the source; True if a signal came."""
    import time

    from dimpoint.cli.signals import noted

    until = None if seconds is None else time.monotonic() + seconds
    with noted() as signalled:
        watcher.run(
            lambda: signalled() or (until is not None and time.monotonic() >= until),
            lambda: terminal.status(watcher),
        )
        if signalled():
            terminal.note("stopped")
        return signalled()
