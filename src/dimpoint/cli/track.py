"""`dimpoint track`: follow the targets of a video over time."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dimpoint.cli.options import (
    ACCEPT_DAMAGED,
    COLOUR,
    DEVICE,
    MODEL,
    POLARITY,
    RECURSIVE,
    STREAM,
    THREADS,
    VERBOSE,
)
from dimpoint.cli.options import CANDIDATE_SCORE as SCORE
from dimpoint.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from dimpoint.errors import DimpointError
    from dimpoint.sources import Frame
    from dimpoint.sources.picture import ReadOptions
    from dimpoint.tracking.directions import CameraView
    from dimpoint.tracking.picture import Picture
    from dimpoint.tracking.result import Tracks
    from dimpoint.tracking.stream import Run

_MOST_LISTED = 20
_MOST_NOTES = 5
_MAP = "Directions on a map, from a camera that stands still"


@dataclass
class _Tally:
    """Times, frame numbers and unreadable files of a run."""

    unreadable: list[tuple[str, DimpointError]] = field(default_factory=list)
    last: Frame | None = None
    size: tuple[int, int] = (0, 0)  # of the first frame, height and width
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
    model: str | None = MODEL,
    fps: float | None = typer.Option(
        None, help="Frames per second.", show_default="the video's times, or 25 if it has none"
    ),
    start: str | None = typer.Option(
        None, metavar="TIME", help="Time of the first frame, ISO 8601, such as 2026-05-01T12:30:00+02:00."
    ),
    camera_memory: Path | None = typer.Option(
        None,
        "--camera-memory",
        metavar="FILE",
        help="Resting spots of this camera; read at the start, written at the end.",
    ),
    candidate_score: float | None = SCORE,
    polarity: str = POLARITY,
    stream: int | None = STREAM,
    colour: str | None = COLOUR,
    accept_damaged: bool = ACCEPT_DAMAGED,
    video: bool = typer.Option(
        False, "--video", help="Write tracks.mp4: the frames with trails, track ids and scores."
    ),
    device: str = DEVICE,
    position: str | None = typer.Option(
        None,
        metavar="LAT,LON[,ALT]",
        rich_help_panel=_MAP,
        help="Position of the camera, degrees (WGS 84) and metres; writes tracks.geojson and tracks.kml.",
    ),
    heading: float | None = typer.Option(
        None,
        metavar="DEG",
        rich_help_panel=_MAP,
        help="Direction of the first frame's centre, clockwise from north.",
    ),
    fov: float | None = typer.Option(
        None, metavar="DEG", rich_help_panel=_MAP, help="Horizontal field of view of the whole frame."
    ),
    elevation: float | None = typer.Option(
        None,
        metavar="DEG",
        rich_help_panel=_MAP,
        help="Elevation of the first frame's centre above the horizon.",
        show_default="0",
    ),
    line_length: float | None = typer.Option(
        None,
        "--line-length",
        metavar="M",
        rich_help_panel=_MAP,
        help="Length of the lines of sight; distances are not measured.",
        show_default="2000",
    ),
    threads: int | None = THREADS,
    recursive: bool = RECURSIVE,
    verbose: bool = VERBOSE,
) -> None:
    """Follow the targets of a video over time; exit code 1 if a file cannot be read.

    Writes tracks.json, tracks.csv, tracks.txt (MOTChallenge), tracks.png and tracks.html, and with --position
    tracks.geojson and tracks.kml.
    """
    from datetime import timedelta

    from dimpoint.atomic import check_writable
    from dimpoint.cli.console import print_device, print_passed
    from dimpoint.cli.detect_report import nothing_read
    from dimpoint.errors import DimpointError, FrameError
    from dimpoint.inference.detector import Detector
    from dimpoint.sources import ReadOptions
    from dimpoint.sources.colours import check_colour
    from dimpoint.tracking.stream import CANDIDATE_SCORE
    from dimpoint.tracking.stream import track as begin

    began = _parse_start(start)
    view = _view(position, heading, fov, elevation, line_length)
    check_colour(colour)
    check_writable(out / "tracks.json", camera_memory)
    options = ReadOptions(accept_damaged, stream=stream, colour=colour)
    tally = _Tally()
    failed: DimpointError | None = None
    which: Any = polarity  # the detector refuses what it does not know
    run = begin(
        list(sources),
        model=model,
        fps=fps,
        candidate_score=CANDIDATE_SCORE if candidate_score is None else candidate_score,
        camera_memory=camera_memory,
        threads=threads,
        device=device,
        polarity=which,
        recursive=recursive,
        exclude=_results(out),
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
    except DimpointError as error:  # the tracks so far are written before it is told
        if tally.last is None:
            raise
        failed = error
    if tally.last is None:
        raise FrameError(nothing_read(tally.unreadable, sources))
    tracks = run.result()
    tracks.source = ", ".join(sources)
    if began is not None and tracks.span is not None:
        tracks.start = began - timedelta(seconds=tracks.span[0][1])  # of time 0
    _remove_earlier(out, sources, video=video, directions=view is not None)
    if view is not None:
        _write_map(out, tracks, view, tally.size)  # may add a note
    _write(out, tracks, tally.last, tally.times[-1])
    if camera_memory is not None:
        run.tracker.memory.save(camera_memory)
    encoder = _write_video(out, sources, recursive, options, tracks, tally) if video else None
    _report(tracks, tally, out, encoder)
    if failed is not None:
        typer.echo(f"the tracks of the first {counted(tracks.frames, 'frame')} are written", err=True)
        raise failed
    if tally.stopped:
        typer.echo(f"stopped after {counted(tracks.frames, 'frame')}", err=True)
        raise typer.Exit(130)
    if tally.unreadable:
        raise typer.Exit(1)


def _parse_start(text: str | None) -> datetime | None:
    from datetime import datetime

    from dimpoint.errors import ConfigError

    if text is None:
        return None
    try:
        began = datetime.fromisoformat(text)
        if not 1000 <= began.year <= 9000:  # times of a stream are added
            raise ValueError(began.year)
    except ValueError:
        raise ConfigError(
            f"--start: '{text}' is not a time in ISO 8601, such as 2026-05-01T12:30:00+02:00"
        ) from None
    return began


def _view(
    position: str | None,
    heading: float | None,
    fov: float | None,
    elevation: float | None,
    length: float | None,
) -> CameraView | None:
    from dimpoint.errors import ConfigError
    from dimpoint.tracking.directions import LENGTH, CameraView

    if position is None:
        if any(one is not None for one in (heading, fov, elevation, length)):
            raise ConfigError("--heading, --fov, --elevation and --line-length go with --position LAT,LON")
        return None
    if heading is None or fov is None:
        raise ConfigError("--position needs --heading and --fov, degrees")
    try:
        latitude, longitude, *rest = (float(part) for part in position.split(","))
        (altitude,) = rest or (0.0,)
    except ValueError:
        raise ConfigError(
            f"--position: '{position}' is no LAT,LON or LAT,LON,ALT such as 48.35,11.79,450"
        ) from None
    return CameraView(
        latitude,
        longitude,
        heading,
        fov,
        altitude,
        elevation or 0.0,
        LENGTH if length is None else length,
    )


def _write_map(out: Path, tracks: Tracks, view: CameraView, size: tuple[int, int]) -> None:
    from dimpoint.atomic import write_text
    from dimpoint.tracking.directions import geojson_text, kml_text, lost_view

    write_text(out / "tracks.geojson", geojson_text(tracks, view, size))
    write_text(out / "tracks.kml", kml_text(tracks, view, size))
    unknown = sum(row.how == "unknown" for row in tracks.motions)
    if unknown:
        frames = counted(unknown, "frame")
        tracks.notes.append(f"the camera's motion is not known in {frames}: taken as none for directions")
    lost = lost_view(tracks)
    if lost is not None:
        tracks.notes.append(
            f"from frame {lost} on another scene begins: where the camera looks is not known, no directions"
        )


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
            if tally.last is None:
                tally.size = (frame.pixels.shape[0], frame.pixels.shape[1])
            tally.last = frame
            tally.times.append(frame.time or 0.0)
            tally.numbers.append(run.number)
            tally.seconds = time.perf_counter() - begin
            bar.update(task, completed=run.count, live=len(live))


def _results(out: Path) -> tuple[Path, ...]:
    """What is no source: pictures of an earlier run, and of this one where the frames are read again."""
    return (out, out / "tracks.png", out / "tracks.mp4")


def _remove_earlier(out: Path, sources: list[str], *, video: bool, directions: bool) -> None:
    """Remove files of an earlier run that this one does not write: they are of other tracks."""
    from contextlib import suppress

    names = ["tracks.mp4"] * (not video) + ["tracks.geojson", "tracks.kml"] * (not directions)
    read = {Path(source).resolve() for source in sources}
    for file in (out / name for name in names):
        if file.resolve() not in read:
            with suppress(OSError):
                file.unlink()


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
    """Read the frames a second time and draw the finished tracks on them."""
    from dataclasses import replace

    from dimpoint.sources import frames_from
    from dimpoint.tracking.picture import write_video
    from dimpoint.tracking.stream import has_measurements

    ignore: Callable[[str, DimpointError], None] = lambda _name, _error: None  # noqa: E731
    frames = frames_from(
        sources, recursive=recursive, exclude=_results(out), on_error=ignore, options=options
    )

    def timed() -> Iterator[tuple[int, Frame]]:
        for number, frame, time in zip(
            tally.numbers, filter(has_measurements, frames), tally.times, strict=False
        ):
            yield number, replace(frame, time=time)

    return write_video(out / "tracks.mp4", timed(), tracks)


def _report(tracks: Tracks, tally: _Tally, out: Path, encoder: str | None) -> None:
    from rich.table import Table

    from dimpoint.cli.console import print_line, table_console

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
    for note in tracks.notes[:_MOST_NOTES]:
        print_line(f"note: {note}", error=True)
    if len(tracks.notes) > _MOST_NOTES:
        typer.echo(f"note: {len(tracks.notes) - _MOST_NOTES} more notes in tracks.json", err=True)
    print_line(f"results: {out / 'tracks.json'}, page: {out / 'tracks.html'}")
    if encoder is not None:
        print_line(f"video: {out / 'tracks.mp4'} (encoder {encoder})")
    for name, error in tally.unreadable[:_MOST_LISTED]:
        text = str(error)
        print_line(f"not read: {text if name in text else f'{name}: {text}'}", error=True)
    if len(tally.unreadable) > _MOST_LISTED:
        typer.echo(f"not read: {len(tally.unreadable) - _MOST_LISTED} more files", err=True)
