"""The options that say how labels are read, shared by the commands that read labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from dimpoint.datasets.reading import Reading

_PANEL = "How labels are read"

MASK_VALUES: Any = typer.Option(
    None,
    "--mask-values",
    metavar="RULE",
    rich_help_panel=_PANEL,
    help="What is a target in masks: binary (above 127), nonzero, instances, alpha, or values such as 2,3.",
)
INVERT_MASKS: Any = typer.Option(
    False, "--invert-masks", rich_help_panel=_PANEL, help="Targets are what masks do not mark."
)
POINTS: Any = typer.Option(
    None,
    "--points",
    metavar="LIST",
    rich_help_panel=_PANEL,
    help="normalised: coordinates are parts of the frame; unlabelled: points of visibility 0 count.",
)
CATEGORIES: Any = typer.Option(
    None,
    "--categories",
    metavar="LIST",
    rich_help_panel=_PANEL,
    help="COCO categories that are targets, with commas; left out: all.",
)
ACCEPT_LABELS: Any = typer.Option(
    False, "--accept-labels", rich_help_panel=_PANEL, help="Use labels however unlikely they look."
)
ORIENTATION: Any = typer.Option(
    None,
    "--orientation",
    metavar="RULE",
    rich_help_panel=_PANEL,
    help="Of frames with an EXIF orientation: stored takes the pixels as they stand, upright turns them.",
)


def reading_of(
    mask_values: str | None,
    invert_masks: bool,
    points: str | None,
    categories: str | None,
    accept_labels: bool,
    orientation: str | None = None,
) -> Reading:
    """The reading that the options ask for."""
    from dimpoint.datasets.reading import Reading

    names = [part.strip() for part in categories.split(",")] if categories else []
    return Reading.of_options(mask_values, invert_masks, points, names, accept_labels, orientation)
