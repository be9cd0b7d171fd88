"""`dimpoint data`: check a data set, repair it, split it, and turn its masks into points."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dimpoint.cli import synth
from dimpoint.cli.console import table_console
from dimpoint.cli.labels import (
    ACCEPT_LABELS,
    CATEGORIES,
    INVERT_MASKS,
    MASK_VALUES,
    ORIENTATION,
    POINTS,
    reading_of,
)

if TYPE_CHECKING:
    from dimpoint.datasets.check import Report
    from dimpoint.datasets.repair import Repair

data_app = typer.Typer(help="Check, repair, convert and make data sets.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the command group `dimpoint data`."""
    app.add_typer(data_app, name="data")


synth.add_to(data_app)


@data_app.command("check")
def check(
    folder: Path = typer.Argument(metavar="DIR", help="Data set with images, masks, img_idx or points.json."),
    repair: Path | None = typer.Option(None, metavar="OUT", help="Write a clean copy to this new folder."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON."),
    verbose: bool = typer.Option(False, help="List every skipped file and folder."),
    mask_values: str | None = MASK_VALUES,
    invert_masks: bool = INVERT_MASKS,
    point_rules: str | None = POINTS,
    categories: str | None = CATEGORIES,
    accept_labels: bool = ACCEPT_LABELS,
    orientation: str | None = ORIENTATION,
) -> None:
    """Check a data set; exit code 1 if it has errors (with --repair: errors that remain)."""
    import json
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
            reading_of(mask_values, invert_masks, point_rules, categories, accept_labels, orientation),
        )
    repaired = write_copy(report, repair) if repair is not None else None
    if as_json:
        record = report.to_dict() | ({"repair": asdict(repaired)} if repaired else {})
        typer.echo(json.dumps(record, indent=1, ensure_ascii=False))
    else:
        _print_report(report)
        for path, reason in report.layout.passed if verbose else ():
            typer.echo(f"passed over: {path}: {reason}")
        if repaired is not None:
            _print_repair(repaired, repair)
    if repaired.unrepaired if repaired is not None else report.errors:
        raise typer.Exit(1)


@data_app.command("split")
def split(
    folder: Path = typer.Argument(metavar="DIR", help="Data set without split lists."),
    by: str = typer.Option(
        "scene", help="scene: look-alike frames stay together; time: the last of each sequence; random."
    ),
    test: float = typer.Option(0.2, min=0, max=1, help="Share of the frames for the test split."),
    validation: float = typer.Option(
        0.0, min=0, max=1, help="Share for a validation split; 0: each training run holds out its own part."
    ),
    seed: int = typer.Option(0, min=0, help="The same seed gives the same splits."),
) -> None:
    """Write split lists: img_idx/train_NAME.txt and test_NAME.txt (and validation_NAME.txt)."""
    from typing import get_args

    from dimpoint.cli.console import progress
    from dimpoint.datasets.dataset import open_dataset
    from dimpoint.datasets.splits import By, write_split
    from dimpoint.errors import ConfigError

    if by not in get_args(By):
        raise ConfigError(f"--by {by}: give one of {', '.join(get_args(By))}")
    parts = {name: share for name, share in (("test", test), ("validation", validation)) if share}
    if not parts:
        raise ConfigError("--test 0 and no --validation: there is nothing to split off")
    dataset = open_dataset(folder)
    with progress("reading", len(dataset)) as step:
        files = write_split(dataset, parts, seed, by, step)  # type: ignore[arg-type]
    for name, file in files.items():
        typer.echo(f"{name}: {len(file.read_text('utf-8').splitlines())} frames, {file}")


@data_app.command("points")
def points(
    folder: Path = typer.Argument(metavar="DIR", help="Data set with images and masks."),
    out: Path | None = typer.Option(
        None, metavar="FILE", help="COCO file to write.  [default: DIR/points.json]"
    ),
    mask_values: str | None = MASK_VALUES,
    invert_masks: bool = INVERT_MASKS,
    accept_labels: bool = ACCEPT_LABELS,
    orientation: str | None = ORIENTATION,
) -> None:
    """Write the point labels of a data set's masks, the centroid of each target, as a COCO keypoints file."""
    from rich.console import Console
    from rich.progress import Progress

    from dimpoint.datasets.convert import points_from_masks

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("masks", total=None)
        path, frames, targets = points_from_masks(
            folder,
            out,
            lambda done, total: bar.update(task, completed=done, total=total),
            reading_of(mask_values, invert_masks, None, None, accept_labels, orientation),
            lambda line: typer.echo(line, err=True),
        )
    typer.echo(f"{path}: {targets} points in {frames} frames")


def _print_report(report: Report) -> None:
    from rich.markup import escape
    from rich.table import Table

    if report.findings:
        table = Table("", "what", "file", "found")
        for finding in report.findings:
            style = "red" if finding.severity == "error" else "dim"
            where = escape(report.file_of(finding))
            table.add_row(f"[{style}]{finding.severity}[/]", finding.kind, where, escape(finding.message))
        table_console().print(table)
    frames, masks = len(report.frames), len(report.layout.masks)
    infos = len(report.findings) - report.errors
    typer.echo(
        f"{report.layout.root}: {frames} frames, {masks} masks, {report.errors} wrong, {infos} to know"
    )


def _print_repair(repaired: Repair, out: Path | None) -> None:
    for change in repaired.changes:
        typer.echo(f"{change.file}: {change.action} ({change.reason})")
    for line in repaired.unrepaired:
        typer.echo(f"not repaired: {line}")
    typer.echo(
        f"clean copy in {out}; changed: {len(repaired.changes)}, not repaired: {len(repaired.unrepaired)}"
    )


@data_app.command("convert")
def convert(
    source: Path = typer.Argument(metavar="DIR", help="The data set; with --to also a COCO points file."),
    out: Path | None = typer.Option(
        None, metavar="FILE", help="What to write; COCO points: DIR/points.json.", show_default=False
    ),
    from_: str | None = typer.Option(
        None, "--from", metavar="FORMAT", help="voc, yolo, labelme, cvat, label-studio, csv or coco (boxes)."
    ),
    to: str | None = typer.Option(
        None,
        "--to",
        metavar="FORMAT",
        help="Instead: COCO points as labelme, cvat, label-studio, voc or yolo.",
    ),
    snap: bool = typer.Option(False, "--snap", help="Boxes: take the spot inside, not the centre."),
    categories: str | None = typer.Option(None, metavar="LIST", help="The labels that are targets."),
    box: float = typer.Option(5.0, min=1, help="Side of the boxes written for voc and yolo, pixels."),
) -> None:
    """Make COCO points of the labels of other tools (boxes become their centres), or the other way round."""
    from dimpoint.datasets.convert import convert_labels, export_labels
    from dimpoint.errors import ConfigError

    if to is not None:
        if out is None:
            raise ConfigError("--to needs --out")
        images, points = export_labels(source, out, to, box)
        typer.echo(f"{out}: {points} points of {images} frames")
        return
    wanted = [part.strip() for part in categories.split(",")] if categories else []
    done = convert_labels(source, out, from_, snap=snap, categories=wanted)
    boxes = f" ({done.snapped} at spots in boxes, {done.centres} at centres of boxes)" * (
        done.snapped + done.centres > 0
    )
    typer.echo(f"{done.path}: {done.points} points in {done.images} frames{boxes}")
    shown = ", ".join(f"{label or 'without name'} ({count})" for label, count in done.labels.most_common(10))
    typer.echo(f"labels: {shown or 'none'}", err=True)
    for line in done.skipped[:20]:
        typer.echo(f"left out: {line}", err=True)
    if len(done.skipped) > 20:
        typer.echo(f"left out: {len(done.skipped) - 20} more", err=True)
