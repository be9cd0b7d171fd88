"""`dimpoint calibrate`: set a model's threshold by a false-alarm rate on target-free footage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from dimpoint.cli.options import ACCEPT_DAMAGED, COLOUR, POLARITY, RECURSIVE, STREAM, THREADS
from dimpoint.errors import ConfigError
from dimpoint.text import counted

_LOWEST = 0.01  # scores above this are considered


def register(app: typer.Typer) -> None:
    """Add the command `dimpoint calibrate`."""
    app.command("calibrate")(calibrate)


def calibrate(
    model: str = typer.Argument(
        metavar="MODEL", help="Name (see `dimpoint models`), .onnx file, or folder of a training run."
    ),
    footage: list[str] = typer.Argument(
        metavar="FOOTAGE...", help="Frames or videos from your sensor without targets."
    ),
    out: Path = typer.Option(..., "--out", metavar="FILE", help="The .onnx file to write."),
    per_hour: float | None = typer.Option(
        None,
        "--false-alarms-per-hour",
        metavar="X",
        help="Allow at most this many false alarms per hour; needs --fps.",
    ),
    per_frame: float | None = typer.Option(
        None, "--per-frame", metavar="X", help="Allow at most this many false alarms per frame."
    ),
    fps: float | None = typer.Option(None, "--fps", help="Frame rate of your sensor, frames per second."),
    insist: bool = typer.Option(False, help="Continue even if the footage seems to contain targets."),
    polarity: str = POLARITY,
    stream: int | None = STREAM,
    colour: str | None = COLOUR,
    accept_damaged: bool = ACCEPT_DAMAGED,
    threads: int | None = THREADS,
    recursive: bool = RECURSIVE,
) -> None:
    """Choose a model's threshold for a false-alarm rate on footage without targets, and write the model.

    For a model that gives masks the footage is read several times: what is one object at a low threshold may
    be several at a higher one.
    """
    from dimpoint.atomic import check_writable
    from dimpoint.evaluation.thresholds import threshold_for_rate
    from dimpoint.inference.detector import Detector
    from dimpoint.model.files import resolve_model
    from dimpoint.model.onnx_file import read_meta, write_with_record
    from dimpoint.sources import ReadOptions, frames_from
    from dimpoint.sources.colours import check_colour

    rate = _rate(per_hour, per_frame, fps)
    if out.suffix != ".onnx":
        raise ConfigError(f"--out {out}: write a .onnx file")
    check_writable(out)
    check_colour(colour)
    options = ReadOptions(accept_damaged, stream=stream, colour=colour)
    file = resolve_model(model)
    meta = read_meta(file)
    which: Any = polarity  # the detector refuses what it does not know
    detector = Detector(file, threshold=_LOWEST, threads=threads, polarity=which)
    while True:
        frames = frames_from(footage, recursive=recursive, options=options)
        found = threshold_for_rate([detector(frame).scores for frame in frames], rate, insist=insist)
        threshold = max(found.threshold, detector.rule.threshold)
        if meta.decode.kind != "components" or threshold == detector.rule.threshold:
            break
        detector.rule = detector.rule.at(threshold)  # fewer components join there: count again
    changed = meta.model_copy(update={"decode": meta.decode.at(threshold), "scores": {}})
    write_with_record(changed, file, out)
    hourly = f", {found.per_frame * fps * 3600:.3g} per hour" if fps else ""
    typer.echo(
        f"{out}: threshold {changed.decode.threshold:g} (before: {meta.decode.threshold:g}); "
        f"{counted(found.false, 'false alarm')} in {counted(found.frames, 'frame')}, "
        f"{found.per_frame:.3g} per frame{hourly}"
    )


def _rate(per_hour: float | None, per_frame: float | None, fps: float | None) -> float:
    """False alarms per frame."""
    if (per_hour is None) == (per_frame is None):
        raise ConfigError("give either --false-alarms-per-hour or --per-frame")
    if fps is not None and not 0 < fps < float("inf"):
        raise ConfigError(f"--fps must be above 0 frames per second, got {fps:g}")
    if per_frame is not None:
        return per_frame
    assert per_hour is not None
    if fps is None:
        raise ConfigError("--false-alarms-per-hour needs --fps, the frames per second of your sensor")
    return per_hour / 3600 / fps
