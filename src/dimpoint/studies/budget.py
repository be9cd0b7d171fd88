"""Epochs that fit into a budget, so that recipes can be compared at equal cost.

A folder holds many runs: finished ones are kept, interrupted ones continue.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dimpoint.datasets.dataset import DataSet
from dimpoint.errors import ConfigError
from dimpoint.inference.detector import Detector
from dimpoint.inference.torch_backend import TorchBackend
from dimpoint.networks import create
from dimpoint.training.fit import Machine, Sources, describe_model, finish, fit, train
from dimpoint.training.frames import labels_of
from dimpoint.training.recipe import Recipe, load_recipe

_WARM_UP, _FEW, _MANY = 2, 2, 10  # steps of the runs that measure


@dataclass(frozen=True)
class Budget:
    """epochs: that many for every recipe. minutes: for every recipe what fits. Neither: the recipe's own."""

    epochs: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if self.epochs is not None and self.minutes is not None:
            raise ConfigError("--epochs and --minutes: give one of them")

    def __str__(self) -> str:
        if self.epochs is not None:
            return f"{self.epochs} epochs"
        return "the recipe's own epochs" if self.minutes is None else f"{self.minutes:g} minutes"


@dataclass(frozen=True)
class Costs:
    """Seconds of a training step, and of one frame in validation."""

    step: float
    frame: float


def within(
    recipe: Recipe, budget: Budget, sources: Sources, machine: Machine, say: Callable[[str], None]
) -> Recipe:
    """The recipe with the epochs that the budget gives it; at least one.

    A budget in minutes is turned into epochs by a few measured steps, so that the learning-rate schedule
    completes at any speed.
    """
    if budget.epochs is not None:
        return _with_epochs(recipe, budget.epochs)
    if budget.minutes is None:
        return recipe
    say("measuring how many epochs fit")
    costs = measure(recipe, sources, machine)
    epochs = fitting_epochs(recipe, sources.open(labels_of(recipe)), costs, 60 * budget.minutes)
    say(f"{epochs} epochs fit into {budget} ({costs.step:.2f} s a step)")
    return _with_epochs(recipe, epochs)


def fitting_epochs(recipe: Recipe, sets: list[DataSet], costs: Costs, seconds: float) -> int:
    """How many epochs take `seconds`; from one validation on, a whole number of them."""
    frames = sum(len(part) for part in sets)
    held = frames * recipe.validation
    steps = recipe.steps_per_epoch or max(1, int(frames - held) // recipe.batch)
    epoch = steps * costs.step + held * costs.frame / recipe.validate_every
    epochs = int(seconds / epoch)
    if epochs > recipe.validate_every:
        epochs -= epochs % recipe.validate_every
    return max(1, epochs)


def _with_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """Only a validated epoch leaves a checkpoint, so validations must fall on the last one."""
    every = max(n for n in range(1, recipe.validate_every + 1) if epochs % n == 0)
    return recipe.model_copy(update={"epochs": epochs, "validate_every": every})


def measure(recipe: Recipe, sources: Sources, machine: Machine) -> Costs:
    """Time short runs of a recipe, and discard them."""
    _time_run(recipe, sources, machine, _WARM_UP)
    few, many = (_time_run(recipe, sources, machine, steps) for steps in (_FEW, _MANY))
    step = max(many - few, 1e-6) / (_MANY - _FEW)
    return Costs(step, _time_frame(recipe, sources))


def _time_run(recipe: Recipe, sources: Sources, machine: Machine, steps: int) -> float:
    """Seconds from the first step to the end of the validation, of as few frames as can be."""
    changes = {"epochs": 1, "steps_per_epoch": steps, "validate_every": 1, "validation": 1e-9}
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        short = recipe.model_copy(update=changes)
        out = Path(folder) / "run"
        train(short, sources, out, machine=machine, say=lambda _: times.append(time.perf_counter()))
    return times[-1] - times[-2]


def _time_frame(recipe: Recipe, sources: Sources) -> float:
    sets = sources.open(labels_of(recipe))
    network = create(recipe.network.name, **recipe.network.options).eval()
    detector = Detector(TorchBackend(network, describe_model(network, recipe, sets)))
    frame = sets[0].samples[0].read_frame()
    detector(frame)
    started = time.perf_counter()
    detector(frame)
    return time.perf_counter() - started


def train_once(
    recipe: Recipe, sources: Sources, out: Path, machine: Machine, say: Callable[[str], None]
) -> Path:
    """The trained model.onnx of the run in `out`: begun, gone on with or finished already.

    Raises ConfigError if `out` holds a run of another recipe.
    """
    begun = (out / "run.json").is_file()
    if begun and load_recipe(str(out / "recipe.yaml")) != recipe:
        raise ConfigError(f"{out}: holds a run of another recipe; choose another --out")
    model = out / "model.onnx"
    if model.is_file():
        return model
    say(f"{out.name}: {'going on' if begun else 'training'}")
    fit(recipe, sources, out, machine=machine, resume=begun, say=lambda line: say(f"{out.name}: {line}"))
    return model if model.is_file() else finish(out, say)
