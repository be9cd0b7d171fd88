"""`dimpoint train` and `dimpoint networks`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import typer

from dimpoint.cli.labels import (
    ACCEPT_LABELS,
    CATEGORIES,
    INVERT_MASKS,
    MASK_VALUES,
    ORIENTATION,
    POINTS,
    reading_of,
)
from dimpoint.errors import ConfigError, MissingExtraError


def register(app: typer.Typer) -> None:
    app.command("train")(train)
    app.command("networks")(networks)
    app.command("recipes")(recipes)


def require_torch(what: str) -> None:
    """Raise MissingExtraError unless the training packages are there."""
    for package in ("torch", "lightning"):
        if find_spec(package) is None:
            raise MissingExtraError(what, package, "train")


def train(
    recipe: str = typer.Argument(
        None, help="A shipped recipe (see `dimpoint recipes`) or a .yaml file; left out with --resume."
    ),
    data: list[Path] = typer.Option([], "--data", help="A data set; may be repeated."),
    out: Path = typer.Option(None, "--out", help="The run's folder: checkpoints, logs, the trained model."),
    resume: Path = typer.Option(None, "--resume", help="Continue the run in this folder."),
    changes: list[str] = typer.Option(
        [], "--set", help="Change a key of the recipe, for example optimizer.lr=1e-3; may be repeated."
    ),
    init: str = typer.Option(
        None, "--init", help="Start from this model's weights: a shipped name or a .safetensors file."
    ),
    foundation: str = typer.Option(
        None, "--foundation", help="For fdep- recipes: a Hugging Face backbone, a folder or a hub id."
    ),
    epochs: int = typer.Option(None, min=1, help="How long: epochs. Default: the recipe's."),
    minutes: float = typer.Option(None, min=0.05, help="How long, instead: about so many minutes."),
    validation_by: str = typer.Option(
        None, help="How frames are held out: scene, time (the last of each sequence) or random."
    ),
    split: str = typer.Option(None, "--split", help="The split to train on (default: train, or all frames)."),
    mask_values: str = MASK_VALUES,
    invert_masks: bool = INVERT_MASKS,
    point_rules: str = POINTS,
    categories: str = CATEGORIES,
    accept_labels: bool = ACCEPT_LABELS,
    orientation: str = ORIENTATION,
    accelerator: str = typer.Option("auto", help="cpu, gpu or auto."),
    devices: str = typer.Option("auto", help="Number of devices; more than one trains with DDP."),
    precision: str = typer.Option("auto", help="auto, 32-true, bf16-mixed or 16-mixed."),
    threads: int = typer.Option(None, min=1, help="Number of processor threads; default: all cores."),
    workers: int = typer.Option(0, min=0, help="Processes that prepare views; 0: the training process."),
) -> None:
    """Train a detector from points or masks; writes model.onnx and model.safetensors."""
    require_torch("training")
    from dimpoint.datasets.reading import Reading
    from dimpoint.model.files import resolve_weights
    from dimpoint.training.fit import Machine, Sources, fit, is_helper
    from dimpoint.training.recipe import load_recipe
    from dimpoint.training.run_folder import RunFolder

    if resume is not None:
        if (
            recipe
            or data
            or out
            or changes
            or split
            or init
            or foundation
            or validation_by
            or epochs
            or minutes
        ):
            raise ConfigError("--resume takes recipe and data from the run; give nothing else with it")
        folder = RunFolder(resume)
        recorded = folder.read_record()["sources"]
        data, split, out = [Path(root) for root in recorded["roots"]], recorded["split"], resume
        reading = Reading.from_record(recorded.get("reading"))
        chosen = folder.read_recipe()
    else:
        if not recipe or not data or out is None:
            raise ConfigError(
                "write: dimpoint train RECIPE --data DIR --out DIR, or: dimpoint train --resume DIR"
            )
        if foundation and load_recipe(recipe).foundation is None:
            raise ConfigError(
                f"recipe {recipe} uses no foundation model; the recipe that does: fdep-{recipe}"
            )
        reading = reading_of(mask_values, invert_masks, point_rules, categories, accept_labels, orientation)
        teacher = [f"foundation.source={foundation}"] if foundation else []
        if epochs is not None and minutes is not None:
            raise ConfigError("--epochs and --minutes: give one of them")
        held = [f"validation_by={validation_by}"] if validation_by else []
        length = [f"epochs={epochs}"] if epochs is not None else []
        chosen = load_recipe(recipe, [*teacher, *held, *changes, *length])
    source = init or chosen.init
    machine = Machine(
        accelerator, int(devices) if devices.isdigit() else devices, precision, threads, workers
    )
    try:
        fit(
            chosen,
            Sources(data, split, reading),
            out,
            machine=machine,
            resume=resume is not None,
            init=resolve_weights(source) if source and resume is None else None,
            minutes=minutes,
        )
    except (KeyboardInterrupt, SystemExit):
        if not is_helper():
            typer.echo(RunFolder(out).stopped(), err=True)
        raise typer.Exit(130) from None


def networks(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """List the networks that can be trained, with parameters and multiply-adds."""
    require_torch("listing the networks")
    import json

    from rich.console import Console
    from rich.table import Table

    from dimpoint.networks import describe

    rows = describe()
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    table = Table("network", "parameters", "GMACs at 512x512", "output")
    for row in rows:
        output = f"{row['kind']} at 1/{row['stride']}"
        table.add_row(row["name"], f"{row['parameters']:,}", f"{row['macs'] / 1e9:.2f}", output)
    Console().print(table)


def recipes() -> None:
    """List the recipes that ship with the package."""
    from rich.console import Console
    from rich.table import Table

    from dimpoint.training.recipe import load_recipe, recipe_names

    table = Table("recipe", "network", "what it is")
    for name in recipe_names():
        recipe = load_recipe(name)
        table.add_row(name, recipe.network.name, recipe.description)
    Console().print(table)
    typer.echo("fdep-NAME is the mask recipe NAME with a frozen foundation model (--foundation).")
