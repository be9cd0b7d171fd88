"""Checkpoints of a run: when they are written, and that a kill at any moment leaves a whole one."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from dimpoint.atomic import replacing
from dimpoint.training.run_folder import POSITION, Position, RunFolder

SECONDS_BETWEEN = 120.0  # checkpoints, whatever the epochs take


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it; `last.ckpt` becomes `last.previous.ckpt` first."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__()
        self.folder = folder

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        target = Path(path)
        with replacing(target) as temporary:
            torch.save(checkpoint, temporary)
            if target == self.folder.last and target.exists():
                target.replace(self.folder.previous)


class Keep(Checkpoint):
    """Writes last.ckpt after each validation and every `SECONDS_BETWEEN`, best.ckpt after the best one.

    monitor: the logged value that must be highest; None: nothing is chosen. Of equal values the later one
    is kept: its weights have been trained for longer.
    """

    def __init__(self, folder: RunFolder, every: int, monitor: str | None) -> None:
        self.folder = folder
        self.every = every
        self.monitor = monitor
        self.best: float | None = None
        self._position = Position()
        self._saved = time.monotonic()

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1  # a run ends with a validation, whatever `every` says

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.is_last_batch or not self._due(trainer):
            return
        self._position = Position(trainer.current_epoch, batch_idx + 1, trainer.global_step)
        self._save(trainer, self.folder.last)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        done = trainer.current_epoch + 1
        self._position = Position(done, 0, trainer.global_step)
        validated = ends_with_validation(done, self.every, trainer.max_epochs) or trainer.should_stop
        if not validated and not self._due(trainer):
            return
        value = trainer.callback_metrics.get(self.monitor or "")
        if validated and value is not None and (self.best is None or float(value) >= self.best):
            self.best = float(value)
            self._save(trainer, self.folder.best)
        self._save(trainer, self.folder.last)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint[POSITION] = asdict(self._position)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def _due(self, trainer: lightning.Trainer) -> bool:
        due = time.monotonic() - self._saved >= SECONDS_BETWEEN
        # All processes take part in saving, so the first one decides for all.
        return bool(trainer.strategy.broadcast(due)) if trainer.world_size > 1 else due

    def _save(self, trainer: lightning.Trainer, file: Path) -> None:
        if trainer.is_global_zero:
            for logger in trainer.loggers:  # a row that a resumed run does not write again must be on disk
                logger.save()
        trainer.save_checkpoint(file)
        self._saved = time.monotonic()


def ends_with_validation(done: int, every: int, epochs: int | None) -> bool:
    """Whether the last of `done` epochs is validated: every `every`-th one, and the last of all."""
    return done % every == 0 or done == epochs
