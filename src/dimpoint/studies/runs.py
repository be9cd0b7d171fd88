"""The training runs of a study: finished runs are kept, interrupted ones continue."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dimpoint.atomic import write_text
from dimpoint.errors import ConfigError
from dimpoint.text import counted
from dimpoint.training.fit import Machine, TrainingData, finish, fit
from dimpoint.training.recipe import Recipe, load_recipe

_PLANNED = ("epochs", "steps_per_epoch")  # values that a run with a time limit sets itself
_CLOCK = "seconds.json"  # file in a run's folder with its training time


@dataclass(frozen=True)
class Budget:
    """The training length of each run.

    Parameters
    ----------
    epochs : int, optional
        The same number of epochs for every recipe.
    minutes : float, optional
        The number of epochs that fit into this time, by a few measured steps. Default: the recipe's own
        epochs.
    """

    epochs: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if self.epochs is not None and self.minutes is not None:
            raise ConfigError("give either --epochs or --minutes, not both")

    def __str__(self) -> str:
        if self.epochs is not None:
            return f"{counted(self.epochs, 'epoch')}"
        return "the recipe's own epochs" if self.minutes is None else f"{self.minutes:g} minutes"


RECIPES_OWN = Budget()


def train_once(
    recipe: Recipe,
    sources: TrainingData,
    out: Path,
    machine: Machine,
    log: Callable[[str], None],
    budget: Budget = RECIPES_OWN,
) -> Path:
    """Train or continue the run in `out` unless it is finished, and return its model.onnx.

    Raises ConfigError if `out` holds a run of another recipe.
    """
    if budget.epochs is not None:
        recipe = recipe.model_copy(update={"epochs": budget.epochs})
    begun = (out / "run.json").is_file()
    if begun and not _same(load_recipe(str(out / "recipe.yaml")), recipe, budget):
        raise ConfigError(f"{out}: holds a run of another recipe; choose another --out")
    model = out / "model.onnx"
    if model.is_file():
        return model
    log(f"{out.name}: {'continuing' if begun else 'training'}")
    fit(
        recipe,
        sources,
        out,
        machine=machine,
        resume=begun,
        minutes=budget.minutes,
        log=lambda line: log(f"{out.name}: {line}"),
    )
    return model if model.is_file() else finish(out, log)


def _same(known: Recipe, recipe: Recipe, budget: Budget) -> bool:
    """Whether a run's recipe equals the given one, apart from its description and values set by the run."""
    recipe = recipe.model_copy(update={"description": known.description})
    if budget.minutes is not None or recipe.most_minutes is not None:
        recipe = recipe.model_copy(update={name: getattr(known, name) for name in _PLANNED})
    return known == recipe


@contextmanager
def clock(out: Path) -> Iterator[None]:
    """Add the duration of the block to the training time of the run in `out`, if the block trains."""
    trained = (out / "model.onnx").is_file()
    started = time.monotonic()
    try:
        yield
    finally:
        if not trained and out.is_dir():
            seconds = time.monotonic() - started + (training_seconds(out) if (out / _CLOCK).is_file() else 0)
            write_text(out / _CLOCK, json.dumps({"training_seconds": round(seconds, 1)}))


def training_seconds(out: Path) -> float:
    """Training time of the run in `out` by `clock`, seconds; NaN if unknown."""
    file = out / _CLOCK
    return float(json.loads(file.read_text("utf-8"))["training_seconds"]) if file.is_file() else float("nan")
