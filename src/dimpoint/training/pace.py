"""How long a training takes: measured over a few steps before it starts, and held to a limit on the way."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import default_collate

from dimpoint.inference.backends import TorchBackend
from dimpoint.inference.detector import Detector
from dimpoint.training.frames import LabelledFrame, TrainingViews
from dimpoint.training.module import DetectionModule
from dimpoint.training.progress import duration
from dimpoint.training.recipe import Recipe
from dimpoint.training.trainer import Machine, precision_of
from dimpoint.training.validation import validation_threshold

_WARM_UP, _STEPS = 1, 3
_SAFE = 0.9  # of the time that is planned for: steps vary
_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class Costs:
    """Seconds of a training step, and of one held-out frame in validation."""

    step: float
    frame: float

    def seconds(self, recipe: Recipe, steps: int, held: int) -> float:
        """Of a whole run with `steps` steps an epoch and `held` held-out frames."""
        validations = -(-recipe.epochs // recipe.validate_every)
        return recipe.epochs * steps * self.step + validations * held * self.frame

    def epochs(self, recipe: Recipe, steps: int, held: int, seconds: float) -> int:
        """How many epochs take `seconds`; at least one."""
        epoch = steps * self.step + held * self.frame / recipe.validate_every
        return max(1, int((seconds - held * self.frame) / epoch))


def planned(
    recipe: Recipe, costs: Costs, steps: int, held: int, minutes: float | None, say: Callable[[str], None]
) -> Recipe:
    """The recipe with the epochs that fit into `minutes`, or at most into its own `most_minutes`.

    steps: of an epoch. held: held-out frames. What it will take is said.
    """
    if minutes is not None:
        recipe = recipe.model_copy(update={"epochs": costs.epochs(recipe, steps, held, _SAFE * 60 * minutes)})
    elif recipe.most_minutes is not None:
        fitting = costs.epochs(recipe, steps, held, _SAFE * 60 * recipe.most_minutes)
        recipe = recipe.model_copy(update={"epochs": min(recipe.epochs, fitting)})
    limit = minutes or recipe.most_minutes
    if limit and costs.seconds(recipe, steps, held) > 60 * limit and recipe.epochs == 1:
        steps = min(steps, max(1, int((_SAFE * 60 * limit - held * costs.frame) / max(costs.step, 1e-9))))
        recipe = recipe.model_copy(update={"steps_per_epoch": steps})
    say(
        f"{recipe.epochs} epochs of {steps} steps, {costs.step:.2f} s a step: "
        f"about {duration(costs.seconds(recipe, steps, held))}"
    )
    return recipe


def measure(
    module: DetectionModule, views: TrainingViews, held: Sequence[LabelledFrame], machine: Machine
) -> Costs:
    """Time a few steps on copies of the network; nothing of the run changes."""
    precision = precision_of(machine)
    device = "cuda" if machine.accelerator != "cpu" and torch.cuda.is_available() else "cpu"
    trial = copy.deepcopy(module).to(device)
    times = []
    with torch.random.fork_rng(), torch.enable_grad():
        for number in range(_WARM_UP + _STEPS):
            started = time.perf_counter()
            batch: list[Any] = default_collate([views[number + each] for each in range(views.recipe.batch)])
            on_device = [_moved(part, device) for part in batch]
            with torch.autocast(device, _DTYPES.get(precision), enabled=precision in _DTYPES):
                loss = trial.step_loss(*on_device)
            loss.backward()  # type: ignore[no-untyped-call]
            float(loss.detach())
            trial.zero_grad()
            times.append(time.perf_counter() - started)
    frame = 0.0
    if held:
        detector = Detector(
            TorchBackend(trial.network.eval(), trial.meta), threshold=validation_threshold(trial.recipe)
        )
        for _ in range(2):  # the first one warms up
            started = time.perf_counter()
            detector(held[0].counts())
            frame = time.perf_counter() - started
    return Costs(sorted(times[_WARM_UP:])[_STEPS // 2], frame)


def _moved(part: Any, device: str) -> Any:
    if isinstance(part, torch.Tensor):
        return part.to(device)
    return type(part)(_moved(each, device) for each in part)


class Limit(Callback):
    """Ends a run after so many seconds, whatever was measured: it validates and stops."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        late = time.monotonic() > self._end
        if trainer.world_size > 1:  # all processes stop at the same step
            late = bool(trainer.strategy.broadcast(late))
        if late:
            trainer.should_stop = True
