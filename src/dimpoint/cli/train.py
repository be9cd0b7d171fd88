"""`dimpoint train` and `dimpoint networks`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dimpoint.cli.console import print_line
from dimpoint.cli.options import SET, THREADS, reads_labels, require_torch
from dimpoint.errors import ConfigError

if TYPE_CHECKING:
    from dimpoint.datasets.reading import Reading


def register(app: typer.Typer) -> None:
    """Add the commands `dimpoint train`, `dimpoint networks` and `dimpoint recipes`."""
    app.command("train")(train)
    app.command("networks")(networks)
    app.command("recipes")(recipes)


@reads_labels()
def train(
    recipe: str = typer.Argument(
        None, help="A shipped recipe (see `dimpoint recipes`) or a .yaml file; not with --resume."
    ),
    data: list[Path] = typer.Option([], "--data", metavar="DIR", help="A data set; may be repeated."),
    out: Path = typer.Option(
        None, "--out", metavar="DIR", help="New folder for the run: checkpoints, logs and the trained model."
    ),
    resume: Path = typer.Option(None, "--resume", metavar="DIR", help="Continue the run in this folder."),
    changes: list[str] = SET,
    init: str = typer.Option(
        None,
        "--init",
        metavar="MODEL",
        help="Start from the weights of this model: name, .safetensors file, or folder of a training run.",
    ),
    foundation: str = typer.Option(
        None,
        "--foundation",
        help="Foundation model for fdep- recipes: folder or id of a Hugging Face backbone.",
    ),
    epochs: int = typer.Option(None, min=1, help="Training length in epochs.", show_default="the recipe's"),
    minutes: float = typer.Option(
        None, min=0.05, help="Instead of --epochs: approximate training time, minutes."
    ),
    validation_by: str = typer.Option(
        None,
        help="Which frames are held out: whole scenes (scene), the last of each sequence (time) or random.",
    ),
    labels: str = typer.Option(
        None,
        help="Labels to train on: auto, masks or points. A mask network given points grows masks from them.",
        show_default="the recipe's",
    ),
    export_labels: Path = typer.Option(
        None, "--export-labels", metavar="DIR", help="Write the grown masks as a data set to this new folder."
    ),
    split: str = typer.Option(
        None, "--split", metavar="NAME", help="The split to train on.", show_default="train, or all frames"
    ),
    accelerator: str = typer.Option("auto", help="Where to train: cpu, gpu or auto."),
    devices: str = typer.Option("auto", help="Number of devices; more than one trains with DDP."),
    nodes: int = typer.Option(1, min=1, help="Number of machines; torchrun starts this command on each."),
    precision: str = typer.Option("auto", help="Number format: auto, 32-true, bf16-mixed or 16-mixed."),
    threads: int = THREADS,
    workers: int = typer.Option(
        0, min=0, help="Processes that prepare training data; 0: the training process itself."
    ),
    *,
    reading: Reading,
) -> None:
    """Train a detector on points or masks; writes model.onnx and model.safetensors."""
    require_torch("training")
    from dimpoint import api
    from dimpoint.datasets.reading import AS_WRITTEN
    from dimpoint.training.run_folder import RunFolder
    from dimpoint.training.trainer import Machine, is_helper

    count = int(devices) if devices.isdecimal() else devices
    if not resume and (not recipe or not data or out is None):
        raise ConfigError(
            "usage: dimpoint train RECIPE --data DIR --out DIR, or: dimpoint train --resume DIR"
        )
    try:
        api.train(
            recipe,
            data=data,
            out=out,
            resume=resume,
            changes=changes,
            init=init,
            foundation=foundation,
            epochs=epochs,
            minutes=minutes,
            validation_by=validation_by,
            labels=labels,
            export_labels=export_labels,
            split=split,
            reading=None if reading == AS_WRITTEN else reading,
            machine=Machine(accelerator, count, precision, threads, workers, nodes),
            log=print_line,
        )
    except (KeyboardInterrupt, SystemExit):
        if not is_helper():
            stopped = RunFolder(resume or out).stopped()
            if export_labels is not None and "--resume" in stopped:
                stopped += f" --export-labels {export_labels}"
            print_line(stopped, error=True)
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

    table = Table("recipe", "network", "description")
    for name in recipe_names():
        recipe = load_recipe(name)
        table.add_row(name, recipe.network.name, recipe.description)
    Console().print(table)
    typer.echo("fdep-NAME is the mask recipe NAME with a frozen foundation model (--foundation).")
