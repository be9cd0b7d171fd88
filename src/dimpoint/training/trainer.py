"""The Lightning trainer of a run, and the length of a run: planned from a few measured steps, and limited."""

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
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import default_collate

from dimpoint.errors import ConfigError, one_line
from dimpoint.inference.backends import TorchBackend, computes_bfloat16
from dimpoint.inference.detector import Detector
from dimpoint.text import counted
from dimpoint.training.frames import LabelledFrame, TrainingViews
from dimpoint.training.module import DetectionModule
from dimpoint.training.progress import Bar, Report, RunLog, duration
from dimpoint.training.recipe import Recipe
from dimpoint.training.run_folder import AtomicCheckpointIO, CheckpointWriter, Position, RunFolder
from dimpoint.training.validation import monitored, validation_threshold

SECONDS_BETWEEN_LINES = 30.0  # of progress, if the output is not a terminal
_WARM_UP, _STEPS = 1, 3
_ENOUGH = 5.0  # seconds after which measuring stops, with one measured step at least
_SAFE = 0.9  # fraction of the time that is planned for: the duration of steps varies
_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class Machine:
    """Hardware settings of a run. They do not change what is trained, apart from rounding.

    Parameters
    ----------
    accelerator : str
        `auto`, `cpu`, `gpu`, ..., as Lightning names them. Default: `auto`.
    devices : int or str
        Number of devices, or `auto`. Default: `auto`.
    precision : str
        As Lightning names it; `auto`: bfloat16 where the hardware supports it. Default: `auto`.
    threads : int, optional
        Processor threads. Default: PyTorch's choice.
    workers : int
        Worker processes that load views. Default: 0.
    nodes : int
        Machines of the run, each of which runs the same command. Default: 1.
    """

    accelerator: str = "auto"
    devices: int | str = "auto"
    precision: str = "auto"
    threads: int | None = None
    workers: int = 0
    nodes: int = 1


def make_trainer(
    recipe: Recipe,
    folder: RunFolder,
    machine: Machine,
    log: Callable[[str], None],
    position: Position,
    more: Sequence[Callback] = (),
) -> lightning.Trainer:
    """Build the trainer of a run.

    Parameters
    ----------
    recipe : Recipe
        Length, validation and averaging.
    folder : RunFolder
        Where checkpoints and logs are written.
    machine : Machine
        Hardware settings.
    log : callable
        Called with each line of progress.
    position : Position
        Where the run continues.
    more : sequence of Callback
        Further callbacks. Default: none.
    """
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
        **_hardware(machine),
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
        enable_progress_bar=False,  # replaced by Bar
        use_distributed_sampler=False,
        enable_model_summary=False,
    )


def check_machine(machine: Machine) -> None:
    """Raise ConfigError if Lightning does not know these hardware settings, or not on this machine."""
    try:
        lightning.Trainer(
            **_hardware(machine), logger=False, enable_progress_bar=False, enable_model_summary=False
        )
    except Exception as error:  # of a dozen kinds
        raise ConfigError(
            f"--accelerator {machine.accelerator} --devices {machine.devices} --precision "
            f"{machine.precision}: {one_line(error)}"
        ) from None


def _hardware(machine: Machine) -> dict[str, Any]:
    return {
        "accelerator": machine.accelerator,
        "devices": machine.devices,
        "num_nodes": machine.nodes,
        "precision": precision_of(machine),
    }


def _average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """An exponential moving average whose decay rises from 0.1, to forget the first weights soon."""

    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        now = min(decay, (1 + float(count)) / (10 + float(count)))
        return now * averaged + (1 - now) * current

    return average


def precision_of(machine: Machine) -> str:
    """Lightning's name of the precision; `auto` is bfloat16 where the hardware supports it."""
    if machine.precision != "auto":
        return machine.precision
    if device_of(machine) == "cuda":
        return "bf16-mixed" if computes_bfloat16("cuda") else "16-mixed"
    return "bf16-mixed" if computes_bfloat16("cpu") else "32-true"


def device_of(machine: Machine) -> str:
    """Where a run computes outside of its trainer: `cuda` if it is there and not excluded, else `cpu`."""
    return "cuda" if machine.accelerator != "cpu" and torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Costs:
    """Measured durations.

    Parameters
    ----------
    step : float
        Seconds of a training step.
    frame : float
        Seconds of a held-out frame in validation.
    """

    step: float
    frame: float

    def seconds(self, recipe: Recipe, steps: int, held: int) -> float:
        """Seconds of a whole run with `steps` steps an epoch and `held` held-out frames."""
        validations = -(-recipe.epochs // recipe.validate_every)
        return recipe.epochs * steps * self.step + validations * held * self.frame

    def epochs(self, recipe: Recipe, steps: int, held: int, seconds: float) -> int:
        """Number of epochs, at least one, that take `seconds`."""
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
    """Set the epochs of a recipe so that the run fits into a time limit.

    Parameters
    ----------
    recipe : Recipe
        The recipe; its `most_minutes` is an upper limit.
    costs : Costs
        Measured durations.
    steps : int
        Steps of an epoch.
    held : int
        Number of held-out frames.
    minutes : float or None
        Length of the run; None: the recipe's epochs.
    log : callable
        Called with a line that states the planned length.
    spent : float
        Seconds already used by reading the data and measuring. Default: 0.

    Returns
    -------
    Recipe
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
        f"{counted(recipe.epochs, 'epoch')} of {counted(steps, 'step')}, {costs.step:.2f} s a step: "
        f"about {duration(costs.seconds(recipe, steps, held))}"
    )
    return recipe


def measure(
    module: DetectionModule, views: TrainingViews, held: Sequence[LabelledFrame], machine: Machine
) -> Costs:
    """Time a few steps on a copy of the network.

    Parameters
    ----------
    module : DetectionModule
        The network with its loss; unchanged.
    views : TrainingViews
        Views to time with.
    held : sequence of LabelledFrame
        Held-out frames; the first one is timed.
    machine : Machine
        Hardware settings.

    Returns
    -------
    Costs
    """
    precision = precision_of(machine)
    device = device_of(machine)
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
    """Callback that stops a run in time; the epoch in which it stops is still validated.

    Parameters
    ----------
    end : float
        When the last step must be over, on the clock of `time.monotonic`, seconds.
    """

    def __init__(self, end: float) -> None:
        self._end = end

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Stop after this step if the limit has passed."""
        self._check(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Stop after this validation if the limit has passed."""
        self._check(trainer)

    def _check(self, trainer: lightning.Trainer) -> None:
        late = time.monotonic() > self._end
        if trainer.world_size > 1:  # all processes stop at the same step
            late = bool(trainer.strategy.broadcast(late))
        if late:
            trainer.should_stop = True
            trainer.check_val_every_n_epoch = 1  # validate the epoch in which it stops


def is_helper() -> bool:
    """Whether this is not the first process of a run on several devices."""
    return getattr(rank_zero_only, "rank", 0) > 0
