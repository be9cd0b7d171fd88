"""`dimpoint models`: what ships with the package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from dimpoint.models import ShippedModel

models_app = typer.Typer(help="List the shipped models, show their cards.", invoke_without_command=True)


def register(app: typer.Typer) -> None:
    """Add the command group `dimpoint models`."""
    app.add_typer(models_app, name="models")


@models_app.callback()
def list_models(context: typer.Context) -> None:
    """List the shipped models; the default, used when --model is left out, is marked with *."""
    if context.invoked_subcommand is not None:
        return
    from dimpoint.models import WEIGHTS, shipped_models

    models = shipped_models()
    if not models:
        typer.echo(f"no models in {WEIGHTS}")
    for model in models:
        typer.echo("\n".join(_lines(model)))


@models_app.command("show")
def show(name: str = typer.Argument(help="A name that `dimpoint models` lists.")) -> None:
    """Print a model's card: its data, recipe, scores, licence and date."""
    from dimpoint.models import model_card

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
