"""The Lightning trainer of a run: device, precision, averaged weights, logs and checkpoints."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import lightning
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from dimpoint.inference.backends import computes_bfloat16
from dimpoint.training.checkpoints import Keep, WholeFiles
from dimpoint.training.progress import Bar, Report, RunLog
from dimpoint.training.recipe import Recipe
from dimpoint.training.run_folder import Position, RunFolder
from dimpoint.training.validation import monitored

SECONDS_BETWEEN_LINES = 30.0  # of progress, where there is no terminal


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
    say: Callable[[str], None],
    position: Position,
    more: Sequence[Callback] = (),
) -> lightning.Trainer:
    """The trainer of a run that goes on from `position`; more: further callbacks."""
    terminal = sys.stderr.isatty()
    monitor = monitored(recipe)
    every, chooses = recipe.validate_every, not recipe.refit
    callbacks: list[Callback] = [
        Report(say, monitor, every, chooses, None if terminal else SECONDS_BETWEEN_LINES),
        *more,
        Keep(folder, every, f"val/{monitor}" if chooses else None),
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
        plugins=[WholeFiles(folder)],
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
