"""`dimpoint data`: check, repair, split, convert and make data sets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dimpoint.cli.console import print_line, table_console, write_json
from dimpoint.cli.options import LABELS_ALONE, reads_labels
from dimpoint.errors import ConfigError
from dimpoint.text import counted, printable

if TYPE_CHECKING:
    from dimpoint.datasets.check import Report
    from dimpoint.datasets.reading import Reading
    from dimpoint.datasets.repair import Repair
    from dimpoint.synthetic.scenes import SceneConfig


# the option that sets each field of SceneConfig
_OPTIONS = {
    "height": "size",
    "width": "size",
    "bits": "bits",
    "background": "background",
    "count": "targets",
    "empty_share": "empty",
    "targets": "scr",
}

data_app = typer.Typer(help="Check, repair, split, convert and make data sets.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the command group `dimpoint data`."""
    app.add_typer(data_app, name="data")


@data_app.command("check")
@reads_labels()
def check(
    folder: Path = typer.Argument(metavar="DIR", help="Folder of the data set."),
    repair: Path | None = typer.Option(None, metavar="OUT", help="Write a clean copy to this new folder."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON."),
    verbose: bool = typer.Option(False, help="List every file and folder that is passed over."),
    *,
    reading: Reading,
) -> None:
    """Check a data set; exit code 1 if it has errors (with --repair: if errors remain)."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.progress import Progress

    from dimpoint.datasets.check import check_dataset
    from dimpoint.datasets.repair import repair as write_copy

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("frames", total=None)
        report = check_dataset(
            folder,
            lambda done, total: bar.update(task, completed=done, total=total),
            reading,
        )
    repaired = write_copy(report, repair) if repair is not None else None
    if as_json:
        record = report.to_dict() | ({"repair": asdict(repaired)} if repaired else {})
        write_json(record, "-")
    else:
        _print_report(report)
        for path, reason in report.layout.passed if verbose else ():
            print_line(f"passed over: {path}: {reason}")
        if repaired is not None:
            _print_repair(repaired, repair)
    if repaired.unrepaired if repaired is not None else report.errors:
        raise typer.Exit(1)


@data_app.command("split")
@reads_labels(without=LABELS_ALONE)
def split(
    folder: Path = typer.Argument(metavar="DIR", help="Data set without split lists."),
    by: str = typer.Option(
        "scene", help="scene: keep similar frames together; time: split off the end of each sequence; random."
    ),
    test: float = typer.Option(0.2, min=0, max=1, help="Fraction of the frames for the test split."),
    validation: float = typer.Option(
        0.0,
        min=0,
        max=1,
        help="Fraction for a validation split; 0: each training run holds out its own frames.",
    ),
    seed: int = typer.Option(0, min=0, help="The same seed gives the same splits."),
    *,
    reading: Reading,
) -> None:
    """Write split lists: img_idx/train_NAME.txt and test_NAME.txt (and validation_NAME.txt)."""
    from typing import get_args

    from dimpoint.cli.console import progress
    from dimpoint.datasets.dataset import open_dataset
    from dimpoint.datasets.splits import By, write_split
    from dimpoint.errors import ConfigError

    if by not in get_args(By):
        raise ConfigError(f"--by must be one of {', '.join(get_args(By))}, got '{by}'")
    parts = {name: share for name, share in (("test", test), ("validation", validation)) if share}
    if not parts:
        raise ConfigError("--test and --validation are both 0: there is nothing to split off")
    dataset = open_dataset(folder, reading=reading)
    with progress("reading", len(dataset)) as step:
        files = write_split(dataset, parts, seed, by, step)  # type: ignore[arg-type]
    for name, file in files.items():
        print_line(f"{name}: {counted(len(file.read_text('utf-8').splitlines()), 'frame')}, {file}")


@data_app.command("points")
@reads_labels(without=("points", "categories"))
def points(
    folder: Path = typer.Argument(metavar="DIR", help="Data set with images and masks."),
    out: Path | None = typer.Option(
        None, metavar="FILE", help="COCO file to write.", show_default="DIR/points.json"
    ),
    *,
    reading: Reading,
) -> None:
    """Write a COCO keypoints file with the centroid of each target in the masks."""
    from rich.console import Console
    from rich.progress import Progress

    from dimpoint.datasets.convert import points_from_masks

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("masks", total=None)
        path, frames, targets = points_from_masks(
            folder,
            out,
            lambda done, total: bar.update(task, completed=done, total=total),
            reading,
            lambda line: print_line(line, error=True),
        )
    print_line(f"{path}: {counted(targets, 'point')} in {counted(frames, 'frame')}")


def _print_report(report: Report) -> None:
    from rich.markup import escape
    from rich.table import Table

    if report.findings:
        table = Table("", "what", "file", "found")
        for finding in report.findings:
            style = "red" if finding.severity == "error" else "dim"
            where = escape(printable(report.file_of(finding)))
            table.add_row(
                f"[{style}]{finding.severity}[/]", finding.kind, where, escape(printable(finding.message))
            )
        table_console().print(table)
    frames, masks = len(report.frames), len(report.layout.masks)
    infos = len(report.findings) - report.errors
    typer.echo(
        f"{report.layout.root}: {counted(frames, 'frame')}, {counted(masks, 'mask')}, "
        f"{counted(report.errors, 'error')}, {counted(infos, 'note')}"
    )


def _print_repair(repaired: Repair, out: Path | None) -> None:
    for change in repaired.changes:
        print_line(f"{change.file}: {change.action} ({change.reason})")
    for line in repaired.unrepaired:
        print_line(f"not repaired: {line}")
    typer.echo(
        f"clean copy in {out}; changed: {len(repaired.changes)}, not repaired: {len(repaired.unrepaired)}"
    )


@data_app.command("convert")
@reads_labels(without=LABELS_ALONE - {"accept"})
def convert(
    source: Path = typer.Argument(metavar="DIR", help="Data set; with --to also a COCO points file."),
    out: Path | None = typer.Option(
        None, metavar="FILE", help="File or folder to write.", show_default="DIR/points.json"
    ),
    from_: str | None = typer.Option(
        None,
        "--from",
        metavar="FORMAT",
        help="Format to read, if several are there: voc, yolo, labelme, cvat, label-studio, csv or coco.",
    ),
    to: str | None = typer.Option(
        None,
        "--to",
        metavar="FORMAT",
        help="Instead, write the COCO points as labelme, cvat, label-studio, voc or yolo.",
    ),
    snap: bool = typer.Option(
        False, "--snap", help="Place points at the bright spot in each box, not at its centre."
    ),
    categories: str | None = typer.Option(
        None, metavar="LIST", help="Labels that are targets, separated by commas (default: all)."
    ),
    box: float = typer.Option(5.0, min=1, help="Side length of the boxes written for voc and yolo, pixels."),
    *,
    reading: Reading,
) -> None:
    """Convert labels of other tools to COCO points, or COCO points to other formats (--to)."""
    from dimpoint.datasets.convert import convert_labels, export_labels
    from dimpoint.errors import ConfigError

    if to is not None:
        if out is None:
            raise ConfigError("--to needs --out")
        images, points, regions = export_labels(source, out, to, box)
        print_line(f"{out}: {counted(points, 'point')} of {counted(images, 'frame')}")
        if regions:
            text = f"ignore regions left out: {regions}; {to} has none, so their pixels are background"
            print_line(f"warning: {text}", error=True)
        return
    wanted = [part.strip() for part in categories.split(",")] if categories else []
    done = convert_labels(source, out, from_, snap=snap, categories=wanted, reading=reading)
    boxes = f" ({done.snapped} at spots in boxes, {done.centres} at box centres)" * (
        done.snapped + done.centres > 0
    )
    print_line(f"{done.path}: {counted(done.points, 'point')} in {counted(done.images, 'frame')}{boxes}")
    shown = ", ".join(f"{label or 'without name'} ({count})" for label, count in done.labels.most_common(10))
    print_line(f"labels: {shown or 'none'}", error=True)
    for line in done.notes:
        print_line(f"note: {line}", error=True)
    for line in done.skipped[:20]:
        print_line(f"skipped: {line}", error=True)
    if len(done.skipped) > 20:
        typer.echo(f"skipped: {len(done.skipped) - 20} more", err=True)


@data_app.command("synth")
def synth(
    out: Path = typer.Argument(help="New or empty folder to write."),
    frames: int = typer.Option(100, help="Number of frames."),
    size: str = typer.Option("256x256", metavar="HxW", help="Height and width in pixels."),
    seed: int = typer.Option(0, help="The same seed gives the same files."),
    bits: int = typer.Option(8, help="Bits per pixel: 8, or 16 for the counts of a 14-bit camera."),
    background: str = typer.Option("mixed", help="Kind of background: cloud, sea, ground or mixed."),
    scr: str = typer.Option(
        "3-40", metavar="LOW-HIGH", help="Range of the local signal-to-clutter ratio of targets."
    ),
    targets: str = typer.Option("1-3", metavar="LOW-HIGH", help="Number of targets per frame that has any."),
    empty: float = typer.Option(0.1, help="Fraction of frames without targets, 0 to 1."),
    test_fraction: float = typer.Option(0.2, help="Fraction of frames in the test split, 0 to 1."),
) -> None:
    """Write a data set of synthetic infrared scenes: frames, masks, points and splits."""
    from rich.console import Console
    from rich.progress import Progress

    from dimpoint.synthetic.scenes import write_dataset

    low, high = _range("targets", targets)
    height, width = _size(size)
    config = _config(
        height=height,
        width=width,
        bits=bits,
        background=background,
        count=(low, high),
        empty_share=empty,
        targets={"scr": _range("scr", scr)},
    )
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("scenes", total=frames)
        write_dataset(out, config, frames, seed, test_fraction, lambda done: bar.update(task, completed=done))
    print_line(
        f"{out}: {counted(frames, 'frame')} of {height}x{width}, {bits} bit, with masks, points and splits"
    )


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text.strip())
    if match is None:
        raise ConfigError(f"--size '{text}': expected HEIGHTxWIDTH in pixels, such as 256x256")
    return int(match[1]), int(match[2])


def _range(option: str, text: str) -> tuple[float, float]:
    """Parse `3-40`, or one number for both ends."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:-(\d+(?:\.\d+)?))?", text.strip())
    if match is None:
        raise ConfigError(f"--{option} '{text}': expected LOW-HIGH, such as 3-40")
    return float(match[1]), float(match[2] or match[1])


def _config(**settings: Any) -> SceneConfig:
    from pydantic import ValidationError

    from dimpoint.synthetic.scenes import SceneConfig

    try:
        return SceneConfig(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        option = _OPTIONS[str(first["loc"][0])]
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"--{option} {first['input']}: {message}") from None
