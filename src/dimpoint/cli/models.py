"""`dimpoint models`: the shipped models.

`dimpoint export` and `dimpoint import`.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dimpoint.errors import ConfigError
from dimpoint.text import printable

if TYPE_CHECKING:
    from dimpoint.model.files import ShippedModel
    from dimpoint.model.record import ModelMeta


class Frames(StrEnum):
    """The types of frames that a whole model is written for."""

    uint8 = "uint8"
    uint16 = "uint16"


models_app = typer.Typer(help="List the shipped models, show their cards.", invoke_without_command=True)


def register(app: typer.Typer) -> None:
    """Add the commands `dimpoint models`, `dimpoint export` and `dimpoint import`."""
    app.command("export")(export)
    app.command("import")(import_)
    app.add_typer(models_app, name="models")


@models_app.callback()
def list_models(context: typer.Context) -> None:
    """List the shipped models; the default, used when --model is left out, is marked with *."""
    if context.invoked_subcommand is not None:
        return
    from dimpoint.model.files import WEIGHTS, shipped_models

    models = shipped_models()
    if not models:
        typer.echo(f"no models in {WEIGHTS}")
    for model in models:
        typer.echo("\n".join(printable(line) for line in _lines(model)))


@models_app.command("show")
def show(name: str = typer.Argument(help="A name that `dimpoint models` lists.")) -> None:
    """Print a model's card: its data, recipe, scores, licence and date."""
    from dimpoint.model.files import model_card

    typer.echo(model_card(name))


def _lines(model: ShippedModel) -> list[str]:
    meta = model.meta
    parameters = f"{meta.parameters:,}" if meta.parameters is not None else "?"
    mark = "*" if model.is_default else " "
    return [
        f"{mark} {model.name}: network {meta.network}, {parameters} parameters, {meta.licence}, {meta.date}",
        f"    trained on {', '.join(meta.training_data)}",
        *(f"    {line}" for line in _scores(meta.scores)),
    ]


def _scores(scores: dict[str, Any], prefix: str = "") -> list[str]:
    """One line per number, named by its path: {"NUDT": {"f1": 0.97}} -> "NUDT f1 0.97"."""
    lines = []
    for key, value in scores.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            lines += _scores(value, f"{name} ")
        else:
            lines.append(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}")
    return lines


def export(
    source: str = typer.Argument(
        ..., metavar="MODEL", help="A shipped model's name, a training run's folder or a .safetensors file."
    ),
    out: Path = typer.Option(..., "--out", help="The file to write: .onnx to detect with, .safetensors."),
    half: bool = typer.Option(False, "--half", help="Weights as float16: half the size, .safetensors only."),
    threshold: float | None = typer.Option(
        None,
        "--threshold",
        help="Detection threshold instead of the model's own; the model's recorded scores are left out.",
    ),
    whole: bool = typer.Option(
        False,
        "--whole",
        help="Raw frame in, targets out: the way from counts to points inside one ONNX file.",
    ),
    frames: Frames | None = typer.Option(
        None,
        "--frames",
        help="With --whole, the type of the frames: uint16 also takes 8-bit counts, cast. Default: uint16.",
    ),
    int8: bool = typer.Option(
        False, "--int8", help="Weights and responses in int8, several times faster with --device openvino."
    ),
    calibrate: list[Path] = typer.Option(
        [],
        "--calibrate",
        metavar="DATA",
        help="With --int8: labelled frames, some of which measure the loss; may be repeated.",
    ),
    max_loss: float = typer.Option(
        0.005, "--max-loss", help="With --int8, the loss of F1 from which on nothing is written."
    ),
) -> None:
    """Write a model as one file: weights, normalisation, threshold and licence."""
    if int8 != bool(calibrate):
        raise ConfigError("--int8 and --calibrate DATA belong together")
    if calibrate:
        if half or whole or threshold is not None:
            raise ConfigError("--int8: not with --half, --whole or --threshold")
        from dimpoint.evaluation.int8 import export_int8

        _tell(export_int8(source, out, calibrate, max_loss=max_loss, say=typer.echo), out)
        return
    if frames and not whole:
        raise ConfigError("--frames: only with --whole; other models take any frame")
    if whole:
        if half:
            raise ConfigError("--half: not with --whole; its weights are float32")
        from dimpoint.whole.export import export_whole

        _tell(
            export_whole(
                source, out, counts="uint8" if frames is Frames.uint8 else "uint16", threshold=threshold
            ),
            out,
        )
        from dimpoint.whole.compose import DIFFERS

        for line in DIFFERS:
            typer.echo(f"unlike dimpoint detect: {line}", err=True)
        return
    from dimpoint.api import export as write

    _tell(write(source, out, half=half, threshold=threshold, log=typer.echo), out)


def import_(
    network: str = typer.Argument(..., help="The network that the checkpoint is of, such as spire."),
    file: Path = typer.Argument(..., help="The authors' checkpoint (.pth, .pt, .tar) or .safetensors of it."),
    out: Path = typer.Option(..., "--out", help="The file to write: .onnx to detect with, .safetensors."),
    input_scale: int | None = typer.Option(
        None, "--input-scale", min=1, max=2, help="Take frames at their own scale, magnified this many times."
    ),
    fit: str | None = typer.Option(
        None,
        metavar="SIZE",
        help="Fit every frame into this size, 640 or 640x480; left out: as the weights were trained.",
    ),
) -> None:
    """Convert weights published by a network's authors into a model file; their code is never run."""
    from dimpoint.api import EXPORT_PACKAGES, check_suffix, require_packages, write_model

    check_suffix(out)
    require_packages("dimpoint import", EXPORT_PACKAGES)
    from dimpoint.model.checkpoint import import_model

    if fit is not None and input_scale is not None:
        raise ConfigError("--fit and --input-scale: choose one; fitted frames are not magnified")
    built, meta = import_model(network, file, scale=input_scale, fit=_size(fit))
    write_model(built, meta, out)
    _tell(meta, out)
    rule = meta.input
    if rule.fit is not None:
        typer.echo(f"frames are fitted into {rule.fit[0]}x{rule.fit[1]} (--fit for another size)")
    typer.echo(f"licence: {meta.licence}")


def _size(text: str | None) -> tuple[int, int] | None:
    """`640` or `640x480` -> width and height."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and 16 <= int(side) <= 8192 for side in sides):
        raise ConfigError(f"--fit {text}: write a side or WIDTHxHEIGHT in pixels, 16 to 8192, such as 640")
    return int(sides[0]), int(sides[-1])


def _tell(meta: ModelMeta, out: Path) -> None:
    line = f"{out}: {meta.name}, network {meta.network}, {out.stat().st_size / 1e6:.1f} MB"
    typer.echo(printable(line))
