"""`dimpoint pretrain`: a small foundation encoder from unlabelled frames."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dimpoint.cli.options import LABELS_ALONE, THREADS, reads_labels
from dimpoint.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from dimpoint.datasets.reading import Reading

_MINUTES = 20.0


def register(app: typer.Typer) -> None:
    app.command("pretrain")(pretrain)


@reads_labels(without=LABELS_ALONE)
def pretrain(
    context: typer.Context,
    data: list[Path] = typer.Option(
        [], "--data", metavar="DIR", help="Data set, whose train split is used; may be repeated."
    ),
    out: Path = typer.Option(None, "--out", metavar="DIR", help="New folder for the encoder."),
    resume: Path = typer.Option(
        None, "--resume", metavar="DIR", help="Continue the unfinished run in this folder."
    ),
    minutes: float = typer.Option(
        None, help="Approximate training time, minutes.", show_default=f"{_MINUTES:g}"
    ),
    epochs: float = typer.Option(None, help="Instead of --minutes: crops drawn from each frame."),
    size: int = typer.Option(128, help="Side length of the crops, pixels."),
    patch: int = typer.Option(8, help="Side length of a patch, pixels."),
    hidden: int = typer.Option(192, help="Width of the transformer: channels per token."),
    layers: int = typer.Option(6, help="Number of transformer layers."),
    heads: int = typer.Option(3, help="Number of attention heads."),
    batch: int = typer.Option(64, help="Crops per step."),
    intensity: str = typer.Option(
        "display", help="How counts are mapped to the input range: dtype, percentile or display."
    ),
    seed: int = typer.Option(0, help="The same seed, data and length give the same encoder."),
    threads: int = THREADS,
    *,
    reading: Reading,
) -> None:
    """Pretrain a small vision transformer on unlabelled frames, for `dimpoint train fdep-NAME`."""
    from dimpoint.cli.options import require_torch

    require_torch("pretraining")
    if find_spec("transformers") is None:
        raise MissingExtraError("pretraining", "transformers", "foundation")
    import torch

    from dimpoint.pretraining.record import pretrain_settings
    from dimpoint.pretraining.run import pretrain as run
    from dimpoint.pretraining.run import resume as run_on

    if threads:
        torch.set_num_threads(threads)
    try:
        if resume is not None:
            if _given(context) - {"resume", "threads"}:
                raise ConfigError(
                    "--resume uses the data and settings of the run; only --threads may be given with it"
                )
            run_on(resume)
            return
        if not data or out is None:
            raise ConfigError(
                "usage: dimpoint pretrain --data DIR --out DIR, or: dimpoint pretrain --resume DIR"
            )
        settings = pretrain_settings(
            minutes=_MINUTES if minutes is None and epochs is None else minutes,
            epochs=epochs,
            size=size,
            patch=patch,
            hidden=hidden,
            layers=layers,
            heads=heads,
            batch=batch,
            seed=seed,
            intensity={"kind": intensity, "low": 1, "high": 99},
        )
        run(data, out, settings, reading=reading)
    except (KeyboardInterrupt, SystemExit):
        typer.echo(f"stopped; continue with: dimpoint pretrain --resume {resume or out}", err=True)
        raise typer.Exit(130) from None


def _given(context: typer.Context) -> set[str]:
    """The names of the options on the command line."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
