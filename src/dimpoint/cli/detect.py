"""`dimpoint detect`: find targets in frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from dimpoint.errors import DimpointError
    from dimpoint.inference.detections import Detections
    from dimpoint.inference.detector import Detector
    from dimpoint.sources import Frame, ReadOptions

_READING = "How files are read"
_FORMATS = ("json", "csv", "coco")
_MOST_LISTED = 20  # unreadable files named at the end


@dataclass
class _Tally:
    """What a run has done so far."""

    frames: int = 0
    targets: int = 0
    without_targets: int = 0
    seconds: float = 0.0
    unreadable: list[tuple[str, DimpointError]] = field(default_factory=list)
    stopped: bool = False
    notes: dict[str, list[str]] = field(default_factory=dict)

    def noted(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The frames, while their notes are kept with the files that they are on."""
        for frame in frames:
            for note in frame.notes:
                files = self.notes.setdefault(note, [])
                name = frame.file.partition("#")[0] if frame.index is not None else frame.file
                if not files or files[-1] != name:
                    files.append(name)
            yield frame

    def add(self, found: Detections) -> None:
        self.frames += 1
        self.targets += len(found)
        self.without_targets += not len(found)

    def set_aside(self, name: str, error: DimpointError) -> None:
        self.unreadable.append((name, error))


def register(app: typer.Typer) -> None:
    """Add the command `dimpoint detect`."""
    app.command("detect")(detect)


def detect(
    sources: list[str] = typer.Argument(
        metavar="SOURCE...", help="Images, folders, patterns such as 'night/*.png', videos."
    ),
    out: Path = typer.Option(..., metavar="DIR", help="Folder for the results."),
    model: str | None = typer.Option(
        None, metavar="NAME_OR_FILE", help="A model that `dimpoint models` lists, or an ONNX file."
    ),
    threshold: float | None = typer.Option(None, help="Least score of a target; left out: the model's own."),
    formats: str = typer.Option(
        "json", "--format", metavar="LIST", help="json (always written), csv, coco; several with commas."
    ),
    overlay: bool = typer.Option(False, help="Write each frame as a picture with its targets circled."),
    threads: int | None = typer.Option(None, help="Threads of the processor; left out: all cores."),
    recursive: bool = typer.Option(False, help="Enter sub-folders."),
    verbose: bool = typer.Option(False, help="Name every file and folder that is passed over."),
    accept_damaged: bool = typer.Option(
        False,
        "--accept-damaged",
        rich_help_panel=_READING,
        help="Take what decoders make of damaged files.",
    ),
    orientation: str | None = typer.Option(
        None,
        metavar="RULE",
        rich_help_panel=_READING,
        help="Of pictures with an EXIF orientation: stored (as they stand) or upright.",
    ),
    preview: bool = typer.Option(
        False, "--preview", rich_help_panel=_READING, help="Take the 8-bit picture of radiometric JPEGs."
    ),
    stream: int | None = typer.Option(
        None, min=0, rich_help_panel=_READING, help="The video stream, from 0, where there are several."
    ),
    raw_shape: str | None = typer.Option(
        None, metavar="HxW", rich_help_panel=_READING, help="Of counts without a header, such as 512x640."
    ),
    raw_type: str | None = typer.Option(
        None,
        metavar="TYPE",
        rich_help_panel=_READING,
        help="u8, u16, u16be, i16, i16be, f32, u12p (packed).",
    ),
) -> None:
    """Find the targets of every frame; exit code 1 if some files could not be read.

    Files of other kinds, hidden folders and sub-folders are passed over: a line of counts says so, and the
    exit code stays 0.
    """
    from dimpoint.cli.console import print_passed
    from dimpoint.errors import FrameError
    from dimpoint.inference.detections import DetectionsWriter
    from dimpoint.inference.detector import Detector
    from dimpoint.sources import count_frames, frames_from

    options = _read_options(accept_damaged, orientation, preview, stream, raw_shape, raw_type)
    chosen = _parse_formats(formats)
    detector = Detector(model, threshold=threshold, threads=threads)
    tally = _Tally()
    frames = frames_from(
        sources,
        recursive=recursive,
        exclude=[out],
        on_error=tally.set_aside,
        on_passed=lambda source, found: print_passed(source, found, verbose),
        options=options,
    )
    frames = tally.noted(frames)
    total = count_frames(sources, recursive=recursive, exclude=[out], options=options)
    results = out / "detections.json"
    try:
        with DetectionsWriter(results, detector.meta.name) as writer:
            show = _Pictures(out / "overlays").write if overlay else None
            _run(detector, frames, writer.add, show, tally, total)
            if not tally.frames:
                raise FrameError(_nothing_read(tally, sources))
    except KeyboardInterrupt:
        tally.stopped = True
    if tally.frames:
        _write_formats(results, chosen)
        _report(tally, results, overlay)
    if tally.stopped:
        typer.echo(f"stopped: {tally.frames} frames are done", err=True)
        raise typer.Exit(130)
    if tally.unreadable:
        raise typer.Exit(1)


def _read_options(
    accept_damaged: bool,
    orientation: str | None,
    preview: bool,
    stream: int | None,
    raw_shape: str | None,
    raw_type: str | None,
) -> ReadOptions:
    from dimpoint.errors import ConfigError
    from dimpoint.sources import ReadOptions
    from dimpoint.sources.raw import RawFormat

    if orientation not in (None, "stored", "upright"):
        raise ConfigError(f"--orientation: '{orientation}' is neither stored nor upright")
    turn: Any = orientation
    raw = RawFormat.of_options(raw_shape, raw_type)
    return ReadOptions(accept_damaged, turn, False, preview, raw, stream)


def _parse_formats(text: str) -> set[str]:
    from dimpoint.errors import ConfigError

    chosen = {part.strip().lower() for part in text.split(",")}
    unknown = sorted(chosen.difference(_FORMATS))
    if unknown:
        raise ConfigError(f"--format: '{unknown[0]}' is not a format; choose from {', '.join(_FORMATS)}")
    return chosen


def _run(
    detector: Detector,
    frames: Iterable[Frame],
    write: Callable[[Detections], None],
    show: Callable[[Frame, Detections], None] | None,
    tally: _Tally,
    total: int | None,
) -> None:
    """Detect in all frames, with a progress bar; what is done when it ends early is in `tally`."""
    import time

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    begin = time.perf_counter()
    columns = (
        TextColumn("detecting"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]:.1f} frames/s, {task.fields[targets]} targets"),
        TimeRemainingColumn(),
    )
    terminal = Console(stderr=True)
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        task = bar.add_task("", total=total, speed=0.0, targets=0)
        for frame, found in _detections(detector, frames):
            write(found)
            if show is not None:
                show(frame, found)
            tally.add(found)
            tally.seconds = time.perf_counter() - begin
            speed = tally.frames / tally.seconds
            bar.update(task, completed=tally.frames, speed=speed, targets=tally.targets)


def _detections(detector: Detector, frames: Iterable[Frame]) -> Iterator[tuple[Frame, Detections]]:
    """Each frame with its targets; the detector takes several frames before it gives the first back."""
    taken: deque[Frame] = deque()

    def passed_on() -> Iterator[Frame]:
        for frame in frames:
            taken.append(frame)
            yield frame

    for found in detector.detect_many(passed_on()):
        frame = taken.popleft()
        yield frame, replace(found, file=frame.file)


class _Pictures:
    """Writes overlays into one folder, under names that tell the frames apart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._used: set[str] = set()

    def write(self, frame: Frame, found: Detections) -> None:
        found.plot(frame.pixels, self.folder / f"{self._name(frame)}.png")

    def _name(self, frame: Frame) -> str:
        """The frame's path in one word, its end if it is long; numbered if two would be the same."""
        import re

        file = frame.file if frame.index is not None else str(Path(frame.file).with_suffix(""))
        word = re.sub(r"[^\w.#-]+", "_", file).strip("._")[-60:] or "frame"
        name, number = word, 2
        while name.casefold() in self._used:
            name, number = f"{word}-{number}", number + 1
        self._used.add(name.casefold())
        return name


def _nothing_read(tally: _Tally, sources: list[str]) -> str:
    if not tally.unreadable:
        return f"no frames in {', '.join(sources)}"
    _, first = tally.unreadable[0]
    more = len(tally.unreadable) - 1
    return f"no frame could be read: {first}" + (f" (and {more} more files)" if more else "")


def _write_formats(results: Path, chosen: set[str]) -> None:
    """Write CSV and COCO beside `detections.json`, from what that file holds."""
    import json

    from dimpoint.atomic import write_text
    from dimpoint.inference.detections import coco_content, csv_text, read_detections

    if not chosen - {"json"}:
        return
    items = read_detections(results)
    if "csv" in chosen:
        write_text(results.with_name("detections.csv"), csv_text(items))
    if "coco" in chosen:
        write_text(results.with_name("detections.coco.json"), json.dumps(coco_content(items)))


def _report(tally: _Tally, results: Path, overlay: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("frames", "targets", "frames without targets", "ms per frame", "unreadable files")
    each = 1000 * tally.seconds / tally.frames
    counts = (tally.frames, tally.targets, tally.without_targets, f"{each:.1f}", len(tally.unreadable))
    table.add_row(*(str(count) for count in counts))
    Console().print(table)
    typer.echo(f"results: {results}")
    if overlay:
        typer.echo(f"pictures: {results.parent / 'overlays'}")
    for note, files in list(tally.notes.items())[:_MOST_LISTED]:
        more = f" and {len(files) - 1} more files" if len(files) > 1 else ""
        typer.echo(f"{files[0]}{more}: {note}", err=True)
    for name, error in tally.unreadable[:_MOST_LISTED]:
        text = str(error)
        typer.echo(f"not read: {text if name in text else f'{name}: {text}'}", err=True)
    if len(tally.unreadable) > _MOST_LISTED:
        typer.echo(f"not read: {len(tally.unreadable) - _MOST_LISTED} more files", err=True)
