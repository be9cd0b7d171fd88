"""`dimpoint track`: targets of a video, followed over time."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dimpoint.cli.options import DEVICE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from dimpoint.errors import DimpointError
    from dimpoint.sources import Frame
    from dimpoint.sources.picture import ReadOptions
    from dimpoint.tracking.picture import Picture
    from dimpoint.tracking.result import Tracks
    from dimpoint.tracking.stream import Run

_MOST_LISTED = 20


@dataclass
class _Tally:
    """What a run has met beside its tracks."""

    unreadable: list[tuple[str, DimpointError]] = field(default_factory=list)
    last: Frame | None = None
    times: list[float] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    seconds: float = 0.0
    stopped: bool = False

    def set_aside(self, name: str, error: DimpointError) -> None:
        self.unreadable.append((name, error))


def register(app: typer.Typer) -> None:
    """Add the command `dimpoint track`."""
    app.command("track")(track)


def track(
    sources: list[str] = typer.Argument(
        metavar="SOURCE...", help="Videos, folders or patterns of frames, multi-page TIFF files."
    ),
    out: Path = typer.Option(..., metavar="DIR", help="Folder for the results."),
    model: str | None = typer.Option(
        None, metavar="NAME_OR_FILE", help="A model that `dimpoint models` lists, or an ONNX file."
    ),
    fps: float | None = typer.Option(
        None, help="Frames a second.", show_default="the video's times; 25 where there are none"
    ),
    start: str | None = typer.Option(
        None, metavar="TIME", help="Wall-clock time of the first frame, ISO 8601: 2026-05-01T12:30:00+02:00."
    ),
    camera_memory: Path | None = typer.Option(
        None,
        "--camera-memory",
        metavar="FILE",
        help="Resting spots of this camera: read, and written at the end.",
    ),
    candidate_score: float | None = typer.Option(
        None, "--candidate-score", help="Least score of a candidate.", show_default="0.3"
    ),
    stream: int | None = typer.Option(None, min=0, help="The video stream, from 0, where there are several."),
    colour: str | None = typer.Option(
        None, metavar="RULE", help="Of coloured frames: luma (the brightness), or a colour map such as jet."
    ),
    video: bool = typer.Option(
        False, "--video", help="Write tracks.mp4: the frames with trails, ids, scores."
    ),
    device: str = DEVICE,
    threads: int | None = typer.Option(None, help="Threads of the processor; left out: all cores."),
    recursive: bool = typer.Option(False, help="Enter sub-folders."),
    verbose: bool = typer.Option(False, help="Name every file and folder that is passed over."),
) -> None:
    """Follow the targets of a video over time; exit code 1 if some files could not be read.

    Writes tracks.json, tracks.csv, tracks.txt (MOTChallenge), tracks.png and tracks.html.
    """
    from dimpoint.cli.console import print_device, print_passed
    from dimpoint.errors import FrameError
    from dimpoint.inference.detector import Detector
    from dimpoint.sources import ReadOptions
    from dimpoint.sources.colours import check_colour
    from dimpoint.tracking.stream import CANDIDATE_SCORE
    from dimpoint.tracking.stream import track as begin

    began = _parse_start(start)
    check_colour(colour)
    options = ReadOptions(stream=stream, colour=colour)
    tally = _Tally()
    run = begin(
        list(sources),
        model=model,
        fps=fps,
        candidate_score=CANDIDATE_SCORE if candidate_score is None else candidate_score,
        camera_memory=camera_memory,
        threads=threads,
        device=device,
        recursive=recursive,
        exclude=(out,),
        on_error=tally.set_aside,
        on_passed=lambda source, found: print_passed(source, found, verbose),
        options=options,
    )
    if isinstance(run.finder, Detector):
        print_device(run.finder, device)
    try:
        _follow(run, tally)
    except KeyboardInterrupt:
        tally.stopped = True
    if tally.last is None:
        raise FrameError(_nothing_read(tally, sources))
    tracks = run.result()
    tracks.source = ", ".join(sources)
    tracks.start = began
    _write(out, tracks, tally.last, tally.times[-1])
    if camera_memory is not None:
        run.tracker.memory.save(camera_memory)
    encoder = _write_video(out, sources, recursive, options, tracks, tally) if video else None
    _report(tracks, tally, out, encoder)
    if tally.stopped:
        typer.echo(f"stopped: {tracks.frames} frames are done", err=True)
        raise typer.Exit(130)
    if tally.unreadable:
        raise typer.Exit(1)


def _parse_start(text: str | None) -> datetime | None:
    from datetime import datetime

    from dimpoint.errors import ConfigError

    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--start: '{text}' is no time in ISO 8601, such as 2026-05-01T12:30:00+02:00"
        ) from None


def _follow(run: Run, tally: _Tally) -> None:
    import time

    from rich.console import Console
    from rich.progress import Progress, TextColumn

    begin = time.perf_counter()
    terminal = Console(stderr=True)
    text = TextColumn("tracking: {task.completed} frames, {task.fields[live]} tracks now")
    with Progress(text, console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        task = bar.add_task("", total=None, live=0)
        for frame, live in run:
            tally.last = frame
            tally.times.append(frame.time or 0.0)
            tally.numbers.append(run.number)
            tally.seconds = time.perf_counter() - begin
            bar.update(task, completed=run.count, live=len(live))


def _nothing_read(tally: _Tally, sources: list[str]) -> str:
    if not tally.unreadable:
        return f"no frames in {', '.join(sources)}"
    return f"no frame could be read: {tally.unreadable[0][1]}"


def _write(out: Path, tracks: Tracks, last: Frame, seconds: float) -> None:
    from dimpoint.inference.overlay import write_picture
    from dimpoint.tracking.page import write_page
    from dimpoint.tracking.picture import draw_all

    tracks.write(out)
    picture: Picture = draw_all(last.pixels, tracks)
    write_picture(out / "tracks.png", picture)
    write_page(out / "tracks.html", tracks, picture, seconds=seconds)


def _write_video(
    out: Path, sources: list[str], recursive: bool, options: ReadOptions, tracks: Tracks, tally: _Tally
) -> str:
    """Read the frames that were tracked a second time, and draw the finished tracks on them."""
    from dataclasses import replace

    from dimpoint.sources import frames_from
    from dimpoint.tracking.picture import write_video

    ignore: Callable[[str, DimpointError], None] = lambda _name, _error: None  # noqa: E731
    frames = frames_from(sources, recursive=recursive, exclude=[out], on_error=ignore, options=options)

    def timed() -> Iterator[tuple[int, Frame]]:
        for number, frame, time in zip(tally.numbers, frames, tally.times, strict=False):
            yield number, replace(frame, time=time)

    return write_video(out / "tracks.mp4", timed(), tracks)


def _report(tracks: Tracks, tally: _Tally, out: Path, encoder: str | None) -> None:
    from rich.table import Table

    from dimpoint.cli.console import say, table_console

    table = Table("frames", "confirmed tracks", "static spots", "ms per frame", "unreadable files")
    each = f"{1000 * tally.seconds / tracks.frames:.1f}"
    counts = (
        tracks.frames,
        len(tracks.of("confirmed")),
        len(tracks.of("static")),
        each,
        len(tally.unreadable),
    )
    table.add_row(*(str(count) for count in counts))
    table_console().print(table)
    for note in tracks.notes:
        say(f"note: {note}", error=True)
    say(f"results: {out / 'tracks.json'}, page: {out / 'tracks.html'}")
    if encoder is not None:
        say(f"video: {out / 'tracks.mp4'} (encoder {encoder})")
    for name, error in tally.unreadable[:_MOST_LISTED]:
        text = str(error)
        say(f"not read: {text if name in text else f'{name}: {text}'}", error=True)
    if len(tally.unreadable) > _MOST_LISTED:
        typer.echo(f"not read: {len(tally.unreadable) - _MOST_LISTED} more files", err=True)
