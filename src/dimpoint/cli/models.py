"""`dimpoint models`, `dimpoint export` and `dimpoint import`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dimpoint.cli.options import reads_labels
from dimpoint.errors import ConfigError
from dimpoint.text import printable

if TYPE_CHECKING:
    from dimpoint.datasets.reading import Reading
    from dimpoint.model.files import ShippedModel
    from dimpoint.model.record import ModelMeta


class Frames(StrEnum):
    """Pixel types of the frames that a `--whole` model takes."""

    uint8 = "uint8"
    uint16 = "uint16"


models_app = typer.Typer(help="List the shipped models or show their cards.", invoke_without_command=True)


def register(app: typer.Typer) -> None:
    """Add the commands `dimpoint models`, `dimpoint export` and `dimpoint import`."""
    app.command("export")(export)
    app.command("import")(import_)
    app.add_typer(models_app, name="models")


@models_app.callback()
def list_models(context: typer.Context) -> None:
    """List the shipped models; * marks the default."""
    if context.invoked_subcommand is not None:
        return
    from dimpoint.model.files import WEIGHTS, shipped_models

    models = shipped_models()
    if not models:
        typer.echo(f"no models in {WEIGHTS}")
    for model in models:
        typer.echo("\n".join(printable(line) for line in _lines(model)))


@models_app.command("show")
def show(
    model: str = typer.Argument(help="Name of a shipped model, .onnx file, or folder of a training run."),
) -> None:
    """Print the card of a shipped model, or what the file of another one says: data, threshold, scores."""
    from dimpoint.model.files import model_card, model_names, resolve_model
    from dimpoint.model.onnx_file import read_meta

    if model in model_names():
        typer.echo(model_card(model))
        return
    path = resolve_model(model)
    meta = read_meta(path)
    parent = f", made of {meta.parent}" if meta.parent else ""
    lines = [f"{path}: threshold {meta.decode.threshold:g}{parent}", *_record("", meta.name, meta)]
    typer.echo("\n".join(printable(line) for line in lines))


def _lines(model: ShippedModel) -> list[str]:
    return _record("* " if model.is_default else "  ", model.name, model.meta)


def _record(mark: str, name: str, meta: ModelMeta) -> list[str]:
    parameters = f"{meta.parameters:,}" if meta.parameters is not None else "?"
    return [
        f"{mark}{name}: network {meta.network}, {parameters} parameters, {meta.licence}, {meta.date}",
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


@reads_labels()
def export(
    source: str = typer.Argument(
        ...,
        metavar="MODEL",
        help="Name (see `dimpoint models`), .safetensors file, or folder of a training run.",
    ),
    out: Path = typer.Option(
        ...,
        "--out",
        metavar="FILE",
        help="The file to write: .onnx (to run) or .safetensors (to train further).",
    ),
    half: bool = typer.Option(
        False, "--half", help="Store float16 weights, half the size; .safetensors only."
    ),
    threshold: float | None = typer.Option(
        None,
        "--threshold",
        help="Replace the model's threshold; its recorded evaluation results are dropped.",
    ),
    whole: bool = typer.Option(
        False,
        "--whole",
        help="Write one ONNX file that takes raw frames and returns targets.",
    ),
    frames: Frames | None = typer.Option(
        None,
        "--frames",
        help="With --whole: pixel type of the frames. uint16 also takes 8-bit frames cast to uint16.",
        show_default="uint16",
    ),
    int8: bool = typer.Option(
        False,
        "--int8",
        help="Quantise to int8, about twice as fast with --device openvino; needs --calibrate.",
    ),
    calibrate: list[Path] = typer.Option(
        [],
        "--calibrate",
        metavar="DATA",
        help="With --int8: labelled data set, of which some frames measure the loss; may be repeated.",
    ),
    max_loss: float = typer.Option(
        0.005, "--max-loss", help="With --int8: write nothing if F1 drops by more than this."
    ),
    *,
    reading: Reading,
) -> None:
    """Write a model as one file: weights, normalisation, threshold and licence."""
    from dimpoint.datasets.reading import AS_WRITTEN

    if reading != AS_WRITTEN and not calibrate:
        raise ConfigError("options for reading labels need --int8 and --calibrate")
    if int8 != bool(calibrate):
        raise ConfigError("--int8 and --calibrate DATA must be given together")
    if calibrate:
        if half or whole or threshold is not None:
            raise ConfigError("--int8 cannot be combined with --half, --whole or --threshold")
        from dimpoint.atomic import check_writable
        from dimpoint.evaluation.int8 import export_int8

        check_writable(out)
        written = export_int8(source, out, calibrate, max_loss=max_loss, reading=reading, say=typer.echo)
        _print_summary(written, out)
        return
    if frames and not whole:
        raise ConfigError("--frames needs --whole; other models take frames of any type")
    if whole:
        if half:
            raise ConfigError("--half cannot be combined with --whole, whose weights are float32")
        from dimpoint.whole.export import export_whole

        _print_summary(
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

    _print_summary(write(source, out, half=half, threshold=threshold, log=typer.echo), out)


def import_(
    network: str = typer.Argument(..., help="Network of the checkpoint: spire, acm or alcnet."),
    file: Path = typer.Argument(..., help="The authors' checkpoint (.pth, .pt, .tar or .safetensors)."),
    out: Path = typer.Option(
        ...,
        "--out",
        metavar="FILE",
        help="The file to write: .onnx (to run) or .safetensors (to train further).",
    ),
    input_scale: int | None = typer.Option(
        None,
        "--input-scale",
        min=1,
        max=2,
        help="Magnify frames by this factor instead of resizing them to a fixed size.",
    ),
    fit: str | None = typer.Option(
        None,
        metavar="SIZE",
        help="Resize every frame to fit into this size, 640 or 640x480.",
        show_default="as the weights were trained",
    ),
) -> None:
    """Convert published weights into a model file, without running the authors' code."""
    from dimpoint.api import EXPORT_PACKAGES, check_suffix, require_packages, write_model

    check_suffix(out)
    require_packages("dimpoint import", EXPORT_PACKAGES)
    from dimpoint.model.checkpoint import import_model

    if fit is not None and input_scale is not None:
        raise ConfigError("give either --fit or --input-scale, not both")
    built, meta = import_model(network, file, scale=input_scale, fit=_size(fit))
    write_model(built, meta, out)
    _print_summary(meta, out)
    rule = meta.input
    if rule.fit is not None:
        typer.echo(f"frames are resized to fit into {rule.fit[0]}x{rule.fit[1]} (--fit changes this)")
    typer.echo(f"licence: {meta.licence}")


def _size(text: str | None) -> tuple[int, int] | None:
    """`640` or `640x480` -> width and height."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and 16 <= int(side) <= 8192 for side in sides):
        raise ConfigError(f"--fit {text}: expected SIDE or WIDTHxHEIGHT in pixels, 16 to 8192, such as 640")
    return int(sides[0]), int(sides[-1])


def _print_summary(meta: ModelMeta, out: Path) -> None:
    line = f"{out}: {meta.name}, network {meta.network}, {out.stat().st_size / 1e6:.1f} MB"
    typer.echo(printable(line))
