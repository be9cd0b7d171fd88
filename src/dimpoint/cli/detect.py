"""`dimpoint detect`: find targets in frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import typer

from dimpoint.cli.detect_ray import DetectCommand, addresses_of, detect_on_ray, list_addresses
from dimpoint.cli.options import (
    ACCEPT_DAMAGED,
    COLOUR,
    DEVICE,
    FRAME_PANEL,
    MODEL,
    POLARITY,
    RECURSIVE,
    STREAM,
    THREADS,
    VERBOSE,
)
from dimpoint.text import counted, printable

if TYPE_CHECKING:
    from dimpoint.inference.detector import Detector
    from dimpoint.inference.parts import PartsFolder
    from dimpoint.inference.results import ResultsFolder
    from dimpoint.sources import ReadOptions

    Results: TypeAlias = ResultsFolder | PartsFolder

_FORMATS = ("json", "csv", "coco", "geojson", "jsonl", "parquet")
_IN_PARTS = frozenset({"jsonl", "parquet"})
_POLARITY_FRAMES = 50  # first frames that are checked for inverted polarity
_MANY_INVERTED = 0.1  # of these frames; 1 % of white-hot frames look inverted


def register(app: typer.Typer) -> None:
    """Add the command `dimpoint detect`."""
    app.command("detect", cls=DetectCommand)(detect)


def detect(
    sources: list[str] = typer.Argument(
        metavar="SOURCE...",
        help="Images, folders, patterns such as 'night/*.png', videos; with --ray, addresses.",
    ),
    destination: str = typer.Option(..., "--out", metavar="DIR", help="Folder for the results."),
    model: str | None = MODEL,
    threshold: float | None = typer.Option(
        None, help="Keep detections with a score above this.", show_default="the model's threshold"
    ),
    formats: str | None = typer.Option(
        None,
        "--format",
        metavar="LIST",
        show_default="json; jsonl or parquet if --out ends so",
        help="json (always written), csv, coco or geojson, several separated by commas; or jsonl or parquet, "
        "which are written in parts with constant memory.",
    ),
    shard: str | None = typer.Option(
        None, metavar="I/N", help="Process only part I of N of the files, I from 1 to N."
    ),
    overlay: bool = typer.Option(False, help="Write a picture of each frame with circled detections."),
    polarity: str = POLARITY,
    ray: str | None = typer.Option(
        None,
        "--ray",
        metavar="[ADDRESS]",
        help="Run on the Ray cluster at ADDRESS, or on a local one; needs --format parquet or jsonl.",
    ),
    device: str = DEVICE,
    threads: int | None = THREADS,
    recursive: bool = RECURSIVE,
    resume: bool = typer.Option(
        False, help="Require an unfinished run in --out and continue it (the default if there is one)."
    ),
    overwrite: bool = typer.Option(False, help="Discard the unfinished run in --out."),
    verbose: bool = VERBOSE,
    accept_damaged: bool = ACCEPT_DAMAGED,
    orientation: str | None = typer.Option(
        None,
        metavar="RULE",
        rich_help_panel=FRAME_PANEL,
        help="For images with an EXIF orientation: stored (keep the pixels as stored) or upright.",
    ),
    preview: bool = typer.Option(
        False, "--preview", rich_help_panel=FRAME_PANEL, help="Use the 8-bit picture of radiometric JPEGs."
    ),
    stream: int | None = STREAM,
    colour: str | None = COLOUR,
    raw_shape: str | None = typer.Option(
        None,
        metavar="HxW",
        rich_help_panel=FRAME_PANEL,
        help="Size of raw files without a header, such as 512x640.",
    ),
    raw_type: str | None = typer.Option(
        None,
        metavar="TYPE",
        rich_help_panel=FRAME_PANEL,
        help="Pixel type of raw files: u8, u16, u16be, i16, i16be, f32 or u12p (packed).",
    ),
) -> None:
    """Find the targets in every frame; exit code 1 if a file cannot be read.

    Files of other kinds, hidden folders and subfolders are passed over and counted in one line; the exit code
    stays 0. A stopped run keeps its results, and the same command continues it. The results of an earlier,
    finished run in --out are replaced.
    """
    from dimpoint.cli.console import print_device, print_passed
    from dimpoint.cli.detect_report import hint_at_labels, nothing_read, report
    from dimpoint.errors import DimpointError, FrameError
    from dimpoint.inference.detector import Detector
    from dimpoint.inference.parts import PartsFolder
    from dimpoint.inference.results import ResultsFolder
    from dimpoint.sources.frames import source_files

    options = _read_options(accept_damaged, orientation, preview, stream, colour, raw_shape, raw_type)
    addresses = addresses_of(sources, destination, ray)
    out = Path(destination.removeprefix("file://"))
    chosen = _parse_formats(formats, out, overlay)
    shard_of = _parse_shard(shard)
    which: Any = polarity  # Detector validates it
    detector = Detector(model, threshold=threshold, threads=threads, polarity=which, device=device)
    print_device(detector, device)
    missing: list[tuple[str, str]] = []
    stamps = list_addresses(addresses, recursive, missing) if addresses else None
    files: list[Any] = (
        source_files(
            sources,
            recursive=recursive,
            exclude=[out, out / "overlays"],
            on_error=lambda name, error: missing.append((name, str(error))),
            on_passed=lambda source, found: print_passed(source, found, verbose),
        )
        if stamps is None
        else [stamp[0] for stamp in stamps]
    )
    if stamps is None:
        files = _each_once(files)
    settings = _settings(detector, options, overlay)
    if shard_of:
        settings["--shard"] = shard
        number, count = shard_of
        stretch = slice(len(files) * (number - 1) // count, len(files) * number // count)
        files, stamps = files[stretch], stamps and stamps[stretch]
    if ray is not None:
        detect_on_ray(
            ray, detector, files, stamps, missing, destination, settings, chosen, options, overwrite
        )
        return
    results: Results = ResultsFolder(out, settings)
    if chosen & _IN_PARTS:
        (kind,) = chosen
        results = PartsFolder(out, settings | {"--format": kind}, kind)
    _open_results(results, files, resume=resume, overwrite=overwrite)
    stopped, begin = False, results.done.frames
    try:
        seconds = _run(detector, files, results, options, overlay)
    except KeyboardInterrupt:
        stopped, seconds = True, 0.0
    except DimpointError:
        _keep(results, detector.meta.name, chosen, whole=False)
        raise
    unread, failed = missing + results.done.failures, len(missing) + results.done.failed
    # a shard without frames is written, too, or the others could not be joined
    a_shard = shard_of is not None and bool(chosen & _IN_PARTS) and not stopped
    if not results.done.frames and not (a_shard and (results.done.failed or not (files or missing))):
        results.discard()
        if stopped:
            raise typer.Exit(130)
        raise FrameError(nothing_read(unread, sources))
    if results.finish(detector.meta.name, chosen, whole=not stopped):
        typer.echo(f"{printable(str(out))}: the results of an earlier run were replaced")
    report(results, seconds, begin, unread, failed, overlay)
    if overlay:
        hint_at_labels(files, model)
    if stopped:
        typer.echo(
            f"stopped after {counted(results.done.frames, 'frame')}; run the same command to continue",
            err=True,
        )
        raise typer.Exit(130)
    if failed:
        raise typer.Exit(1)


def _read_options(
    accept_damaged: bool,
    orientation: str | None,
    preview: bool,
    stream: int | None,
    colour: str | None,
    raw_shape: str | None,
    raw_type: str | None,
) -> ReadOptions:
    from dimpoint.errors import ConfigError
    from dimpoint.sources import RawFormat, ReadOptions
    from dimpoint.sources.colours import check_colour

    if orientation not in (None, "stored", "upright"):
        raise ConfigError(f"--orientation must be stored or upright, got '{orientation}'")
    turn: Any = orientation
    raw = RawFormat.of_options(raw_shape, raw_type)
    check_colour(colour)
    return ReadOptions(accept_damaged, turn, False, preview, raw, stream, colour)


def _each_once(files: list[Path]) -> list[Path]:
    """The files without those that were there before, about which a line is printed.

    A folder may be named in several ways (`night`, `/data/night`); links in it are files of their own.
    """
    import os

    folders = {folder: os.path.realpath(folder) for folder in {file.parent for file in files}}
    first: dict[tuple[str, str], Path] = {}
    for file in files:
        first.setdefault((folders[file.parent], file.name), file)
    once = list(first.values())
    if len(once) < len(files):
        several = counted(len(files) - len(once), "file is", "files are")
        typer.echo(f"note: {several} named more than once, and read once", err=True)
    return once


def _settings(detector: Detector, options: ReadOptions, overlay: bool) -> dict[str, object]:
    """Everything the results depend on; a run resumes only with equal settings."""
    import hashlib

    from dimpoint import __version__

    content = detector.path.read_bytes() if detector.path is not None else b""
    return {
        "dimpoint": __version__,
        "model": detector.meta.name,
        "model file (SHA-256)": hashlib.sha256(content).hexdigest(),
        "threshold": detector.rule.threshold,
        "--polarity": detector.polarity,
        "--device": detector.device,
        "how files are read": repr(options),
        "--overlay": overlay,
    }


def _open_results(results: Results, files: list[Path], *, resume: bool, overwrite: bool) -> None:
    """Start a run, or continue an unfinished one."""
    from dimpoint.errors import ConfigError

    if resume and overwrite:
        raise ConfigError("give either --resume or --overwrite, not both")
    if resume and not results.unfinished:
        raise ConfigError(
            f"--resume: there is no unfinished run in {results.path}; leave --resume out to start one"
        )
    if not overwrite and not results.unfinished and getattr(results, "finished", False):
        raise ConfigError(
            f"{results.path} holds the results of a finished run; choose another --out or add --overwrite"
        )
    if overwrite or not results.unfinished:
        results.begin()
        return
    results.resume()
    results.same_inputs(files)
    typer.echo(f"continuing the unfinished run: {results.done.frames} frames are done", err=True)


def _keep(results: Results, model: str, formats: set[str], *, whole: bool) -> bool:
    """Write the results so far, if there are any."""
    if not results.done.frames:
        results.discard()
        return False
    return results.finish(model, formats, whole=whole)


def _parse_formats(text: str | None, out: Path, overlay: bool) -> set[str]:
    from dimpoint.errors import ConfigError
    from dimpoint.inference.parts import check_kind

    suffix = out.suffix.lower().removeprefix(".")
    if suffix in set(_FORMATS) - _IN_PARTS and not out.is_dir():
        raise ConfigError(
            f"--out {out}: give a folder, such as {out.with_suffix('')}; --format {suffix} writes "
            f"detections.{suffix} there"
        )
    if text is None:
        text = suffix if suffix in _IN_PARTS else "json"
    elif suffix in _IN_PARTS and text.strip().lower() != suffix:
        raise ConfigError(f"--format {text} contradicts --out, which ends in .{suffix}")
    chosen = {part.strip().lower() for part in text.split(",")}
    unknown = sorted(chosen.difference(_FORMATS))
    if unknown:
        raise ConfigError(f"--format: unknown format '{unknown[0]}'; known: {', '.join(_FORMATS)}")
    if chosen & _IN_PARTS:
        if len(chosen) > 1:
            raise ConfigError("--format: jsonl and parquet cannot be combined with other formats")
        if overlay:
            raise ConfigError("--overlay needs --format json")
        check_kind(*chosen)
    return chosen


def _parse_shard(text: str | None) -> tuple[int, int] | None:
    from dimpoint.errors import ConfigError

    if text is None:
        return None
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ConfigError(f"--shard must be I/N with I from 1 to N, such as 3/8, got '{text}'")
    return int(number), int(count)


def _run(
    detector: Detector,
    files: list[Path],
    results: Results,
    options: ReadOptions,
    overlay: bool,
) -> float:
    """Detect in all frames with a progress bar; returns the duration in seconds."""
    import time

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from dimpoint.inference.overlay import PictureFolder
    from dimpoint.inference.stream import Failure, detect_stream, read_files
    from dimpoint.model.intensity import looks_black_hot
    from dimpoint.model.validity import filled
    from dimpoint.sources import count_frames

    pictures = PictureFolder(results.overlays, results.done.pictures) if overlay else None
    begin, before = time.perf_counter(), results.done.frames
    inverted: list[bool] = []
    columns = (
        TextColumn("detecting"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]:.1f} frames/s, {task.fields[targets]} targets"),
        TimeRemainingColumn(),
    )
    terminal = Console(stderr=True)
    visible = terminal.is_terminal
    with Progress(*columns, console=terminal, transient=True, disable=not visible) as bar:
        total = count_frames(files, options=options) if visible else None
        task = bar.add_task("", total=total, completed=before, speed=0.0, targets=0)
        for event in detect_stream(detector, read_files(*results.rest(files), options)):
            if isinstance(event, Failure):
                results.add_failure(event.path, event.file, event.reason)
                continue
            frame, found = event
            if len(inverted) < _POLARITY_FRAMES:
                inverted.append(looks_black_hot(filled(frame.pixels, frame.valid)))
            picture = pictures.write(frame, found) if pictures else None
            results.add(frame.path or Path(frame.file), found, picture, frame.notes)
            speed = (results.done.frames - before) / (time.perf_counter() - begin)
            bar.update(task, completed=results.done.frames, speed=speed, targets=results.done.targets)
    if detector.polarity == "white-hot" and sum(inverted) > _MANY_INVERTED * len(inverted):
        typer.echo(
            f"{sum(inverted)} of {len(inverted)} frames look black-hot (their strongest spot is dark); if "
            "hot "
            "objects are dark, use --polarity black-hot",
            err=True,
        )
    return time.perf_counter() - begin
