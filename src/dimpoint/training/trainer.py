"""The Lightning trainer of a run, and its length: measured over a few steps, and limited while it runs."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import default_collate

from dimpoint.inference.backends import TorchBackend, computes_bfloat16
from dimpoint.inference.detector import Detector
from dimpoint.training.frames import LabelledFrame, TrainingViews
from dimpoint.training.module import DetectionModule
from dimpoint.training.progress import Bar, Report, RunLog, duration
from dimpoint.training.recipe import Recipe
from dimpoint.training.run_folder import AtomicCheckpointIO, CheckpointWriter, Position, RunFolder
from dimpoint.training.validation import monitored, validation_threshold

SECONDS_BETWEEN_LINES = 30.0  # of progress, where there is no terminal
_WARM_UP, _STEPS = 1, 3
_ENOUGH = 5.0  # seconds of measuring, after which one measured step has to do
_SAFE = 0.9  # of the time that is planned for: steps vary
_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class Machine:
    """How a run uses the machine; none of it changes what is trained, but for rounding."""

    accelerator: str = "auto"
    devices: int | str = "auto"
    precision: str = "auto"
    threads: int | None = None
    workers: int = 0


def make_trainer(
    recipe: Recipe,
    folder: RunFolder,
    machine: Machine,
    log: Callable[[str], None],
    position: Position,
    more: Sequence[Callback] = (),
) -> lightning.Trainer:
    """The trainer of a run that goes on from `position`; more: further callbacks."""
    terminal = sys.stderr.isatty()
    monitor = monitored(recipe)
    every, chooses = recipe.validate_every, not recipe.refit
    callbacks: list[Callback] = [
        Report(log, monitor, every, chooses, None if terminal else SECONDS_BETWEEN_LINES),
        *more,
        CheckpointWriter(folder, every, f"val/{monitor}" if chooses else None),
    ]
    if recipe.ema is not None:
        callbacks.append(WeightAveraging(avg_fn=_average(recipe.ema)))
    if terminal:
        callbacks.append(Bar(monitor))
    return lightning.Trainer(
        accelerator=machine.accelerator,
        devices=machine.devices,
        precision=precision_of(machine),  # type: ignore[arg-type]
        max_epochs=recipe.epochs,
        check_val_every_n_epoch=every,
        gradient_clip_val=recipe.optimizer.clip,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(folder)],
        logger=[
            RunLog(folder.log, position.steps),
            TensorBoardLogger(folder.path, name="", version="tensorboard"),
        ],
        num_sanity_val_steps=0,
        enable_progress_bar=False,  # Bar is ours
        use_distributed_sampler=False,
        enable_model_summary=False,
    )


def _average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """An exponential moving average that forgets the first weights soon: its decay rises from 0.1."""

    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        now = min(decay, (1 + float(count)) / (10 + float(count)))
        return now * averaged + (1 - now) * current

    return average


def precision_of(machine: Machine) -> str:
    """`auto`: bfloat16 where the hardware computes in it, else float32."""
    if machine.precision != "auto":
        return machine.precision
    if machine.accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if computes_bfloat16("cuda") else "16-mixed"
    return "bf16-mixed" if computes_bfloat16("cpu") else "32-true"


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


def plan(
    recipe: Recipe,
    costs: Costs,
    steps: int,
    held: int,
    minutes: float | None,
    log: Callable[[str], None],
    spent: float = 0.0,
) -> Recipe:
    """The recipe with the epochs that fit into `minutes`, or at most into its own `most_minutes`.

    Parameters
    ----------
    steps : int
        Steps of an epoch.
    held : int
        Number of held-out frames.
    minutes : float or None
        Length of the run; None: the recipe's epochs.
    log : callable
        Called with a line that says how long the run will take.
    spent : float
        Seconds of the run that are over: reading the data, measuring. Default: 0.
    """
    limit = minutes or recipe.most_minutes
    if limit is not None:
        seconds = max(_SAFE * 60 * limit - spent, 0.0)
        fitting = costs.epochs(recipe, steps, held, seconds)
        epochs = fitting if minutes is not None else min(recipe.epochs, fitting)
        recipe = recipe.model_copy(update={"epochs": epochs})
        if recipe.epochs == 1 and costs.seconds(recipe, steps, held) > seconds:
            steps = min(steps, max(1, int((seconds - held * costs.frame) / max(costs.step, 1e-9))))
            recipe = recipe.model_copy(update={"steps_per_epoch": steps})
    log(
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
    times, began = [], time.perf_counter()
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
            if number >= _WARM_UP and time.perf_counter() - began > _ENOUGH:
                break
    frame = 0.0
    if held:
        detector = Detector(
            TorchBackend(trial.network.eval(), trial.meta), threshold=validation_threshold(trial.recipe)
        )
        for _ in range(2):  # the first one warms up
            started = time.perf_counter()
            detector(held[0].counts())
            frame = time.perf_counter() - started
            if frame > _ENOUGH:
                break
    measured = sorted(times[_WARM_UP:])
    return Costs(measured[len(measured) // 2], frame)


def _moved(part: Any, device: str) -> Any:
    if isinstance(part, torch.Tensor):
        return part.to(device)
    return type(part)(_moved(each, device) for each in part)


class TimeLimit(Callback):
    """Ends a run in time, whatever was measured: it validates and stops.

    Parameters
    ----------
    end : float
        When the last step must be over, on the clock of `time.monotonic`, seconds.
    """

    def __init__(self, end: float) -> None:
        self._end = end

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Stop after this step if it is late."""
        self._check(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Stop after this validation if it is late: there is no other one then."""
        self._check(trainer)

    def _check(self, trainer: lightning.Trainer) -> None:
        late = time.monotonic() > self._end
        if trainer.world_size > 1:  # all processes stop at the same step
            late = bool(trainer.strategy.broadcast(late))
        if late:
            trainer.should_stop = True
            trainer.check_val_every_n_epoch = 1  # the epoch that it stops in is validated
