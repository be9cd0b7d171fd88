"""What tests of training share: the machine, a small recipe, a run's log, and a run that is killed."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from dimpoint.training import progress, run_folder
from dimpoint.training.fit import Machine
from dimpoint.training.recipe import Recipe, load_recipe

CPU = Machine(accelerator="cpu", devices=1, precision="32-true", threads=1)
SMALL = (
    "network.options={widths: [4, 8], depths: [1, 1]}",
    "view.size=32",
    "epochs=4",
    "steps_per_epoch=3",
    "batch=2",
    "validate_every=1",
    "validation=0.3",
)


SMALL_MASKS = (
    "network.options={widths: [4, 8, 8]}",
    "view.size=32",
    "batch=4",
    "validation=0.3",
    "optimizer.lr=1e-2",
    "schedule.warmup_steps=2",
    "ema=0.5",
)


def small(*changes: str) -> Recipe:
    """A recipe that trains in about a second; later changes win."""
    return load_recipe("spire-sirst", [*SMALL, *changes])


def logged(out: Path, column: str) -> list[float]:
    """The values of a column in a run's CSV log, where it has one."""
    with (out / "csv" / "metrics.csv").open() as file:
        return [float(row[column]) for row in csv.DictReader(file) if row.get(column)]


def masks(root: Path) -> dict[str, np.ndarray]:
    """The PNG pictures below a folder, by their path in it."""
    return {str(file.relative_to(root)): cv2.imread(str(file), -1) for file in sorted(root.rglob("*.png"))}


def small_masks(*changes: str) -> Recipe:
    """A recipe for masks that trains in about a second; later changes win."""
    return load_recipe("unet", [*SMALL_MASKS, *changes])


class KilledError(Exception):
    """Stands for what ends a run at once."""


def kill_at_step(step: int, monkeypatch: pytest.MonkeyPatch, run: Callable[[], object]) -> None:
    """Start a training that dies before this step, counted from 0; it must. Every step is kept."""

    def die(self: object, trainer: object, *_: object) -> None:
        if trainer.global_step == step:  # type: ignore[attr-defined]
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "SECONDS_BETWEEN", 0.0)
        patch.setattr(progress.Report, "on_train_batch_start", die, raising=False)
        with pytest.raises(KilledError):
            run()


def kill_at(epoch: int, monkeypatch: pytest.MonkeyPatch, run: Callable[[], object]) -> None:
    """Start a training that dies when this epoch, counted from 0, begins; it must."""

    def die(self: object, trainer: object, pl_module: object) -> None:
        if trainer.current_epoch == epoch:  # type: ignore[attr-defined]
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(progress.Report, "on_train_epoch_start", die, raising=False)
        with pytest.raises(KilledError):
            run()
