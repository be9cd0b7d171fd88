"""Options that several commands share: model, frames, data sets, labels, threads, JSON output."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias, get_type_hints

import typer

if TYPE_CHECKING:
    from dimpoint.datasets.reading import Reading

MODEL: Any = typer.Option(
    None,
    "--model",
    metavar="MODEL",
    help="Name (see `dimpoint models`), .onnx or .safetensors file, or folder of a training run.",
    show_default="the shipped model",
)
THREADS: Any = typer.Option(
    None, "--threads", min=1, help="Number of processor threads.", show_default="all cores"
)
DEVICE: Any = typer.Option(
    "cpu",
    "--device",
    metavar="NAME",
    help="Where the network runs: cpu, cuda, tensorrt, openvino, coreml, directml or auto, which "
    "prints its choice.",
)
POLARITY: Any = typer.Option(
    "white-hot", "--polarity", metavar="NAME", help="white-hot, or black-hot if hot objects are dark."
)
RECURSIVE: Any = typer.Option(False, help="Search subfolders as well.")
VERBOSE: Any = typer.Option(False, help="List every file and folder that is passed over.")
FRAME_PANEL = "How frames are read"
STREAM: Any = typer.Option(
    None,
    "--stream",
    min=0,
    rich_help_panel=FRAME_PANEL,
    help="Number of the video stream, from 0, if a file has several.",
)
_COLOUR = "For colour frames: luma (brightness), or the colour map they were saved with, such as jet."
COLOUR: Any = typer.Option(
    None,
    "--colour",
    metavar="RULE",
    rich_help_panel=FRAME_PANEL,
    help=_COLOUR,
)
ACCEPT_DAMAGED: Any = typer.Option(
    False,
    "--accept-damaged",
    rich_help_panel=FRAME_PANEL,
    help="Use whatever can be decoded from damaged files.",
)
CANDIDATE_SCORE: Any = typer.Option(
    None, "--candidate-score", help="Lowest score of a detection that may join a track.", show_default="0.3"
)
DATA: Any = typer.Option(..., "--data", metavar="DIR", help="A data set; may be repeated.")
JSON_FILE: Any = typer.Option(
    None, "--json", metavar="FILE|-", help="Write all results as JSON; -: to standard output."
)
PREDICTION_VALUES: Any = typer.Option(
    None,
    "--predictions-values",
    metavar="RULE",
    help="What the values of predicted maps mean, if unclear: 0-1, 0-100, 0-255, 0-65535, labels or alpha.",
)
SET: Any = typer.Option(
    [],
    "--set",
    metavar="KEY=VALUE",
    help="Change a key of the recipe, such as optimizer.lr=1e-3; may be repeated.",
)

_PANEL = "How labels are read"


def _label_option(default: str | bool | None, name: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(default, name, metavar=metavar, rich_help_panel=_PANEL, help=help)


_LABEL_OPTIONS: dict[str, tuple[type, Any]] = {
    "mask_values": (
        str,
        _label_option(
            None,
            "--mask-values",
            "Which mask values are targets: binary (above 127), nonzero, instances, alpha, or a list such "
            "as 2,3.",
            "RULE",
        ),
    ),
    "invert_masks": (
        bool,
        _label_option(False, "--invert-masks", "Treat the unmarked pixels of masks as targets."),
    ),
    "points": (
        str,
        _label_option(
            None,
            "--points",
            "What coordinates of points are: normalised (0..1), percent (0..100), swapped (y, x), "
            "bottom-left (y upwards) or one-based; unlabelled: count points of visibility 0.",
            "LIST",
        ),
    ),
    "categories": (
        str,
        _label_option(
            None,
            "--categories",
            "COCO categories that are targets, separated by commas (default: all).",
            "LIST",
        ),
    ),
    "accept": (bool, _label_option(False, "--accept-labels", "Use the labels even if they look wrong.")),
    "orientation": (
        str,
        _label_option(
            None,
            "--orientation",
            "For frames with an EXIF orientation: stored (keep the pixels as stored) or upright (rotate "
            "them).",
            "RULE",
        ),
    ),
    "colour": (str, _label_option(None, "--colour", _COLOUR, "RULE")),
}

LABELS_ALONE = frozenset(_LABEL_OPTIONS) - {"orientation", "colour"}  # for commands that read only frames

Command: TypeAlias = Callable[..., None]


def reads_labels(without: Iterable[str] = ()) -> Callable[[Command], Command]:
    """Add the options for reading labels to a command, which receives them as one argument, `reading`.

    Parameters
    ----------
    without : iterable of str
        Options to leave out: keys of `_LABEL_OPTIONS`.
    """
    chosen = {name: option for name, option in _LABEL_OPTIONS.items() if name not in set(without)}

    def add(command: Command) -> Command:
        @functools.wraps(command)
        def with_reading(*args: Any, **given: Any) -> None:
            values = {name: given.pop(f"labels_{name}", None) for name in _LABEL_OPTIONS}
            command(*args, reading=_reading(**values), **given)

        kept = {key: kind for key, kind in command.__annotations__.items() if key != "reading"}
        with_reading.__annotations__ = {}
        own = inspect.signature(command).parameters.values()
        command.__annotations__, before = kept, command.__annotations__
        hints = get_type_hints(command)
        command.__annotations__ = before
        parameters = [each.replace(annotation=hints[each.name]) for each in own if each.name != "reading"]
        parameters += [
            inspect.Parameter(
                f"labels_{name}",
                inspect.Parameter.KEYWORD_ONLY,
                default=option,
                annotation=kind if kind is bool else kind | None,
            )
            for name, (kind, option) in chosen.items()
        ]
        with_reading.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_reading.__annotations__ = {each.name: each.annotation for each in parameters}
        return with_reading

    return add


def _reading(
    mask_values: str | None,
    invert_masks: bool | None,
    points: str | None,
    categories: str | None,
    accept: bool | None,
    orientation: str | None,
    colour: str | None,
) -> Reading:
    from dimpoint.datasets.reading import Reading

    names = [part.strip() for part in categories.split(",")] if categories else []
    return Reading.of_options(
        mask_values, bool(invert_masks), points, names, bool(accept), orientation, colour
    )


def require_torch(what: str) -> None:
    """Raise MissingExtraError unless the training packages are installed."""
    from dimpoint.api import TRAINING_PACKAGES, require_packages

    require_packages(what, TRAINING_PACKAGES)
