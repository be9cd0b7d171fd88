"""The folder of a training run: its files, its record, and when checkpoints are written.

OUT/recipe.yaml               every setting
OUT/run.json                  data with hashes, held-out frames, versions, the model that the run started from
OUT/checkpoints/start.ckpt    initial weights
OUT/checkpoints/last.ckpt     the newest state; last.previous.ckpt is the one before
OUT/checkpoints/best.ckpt     the best validated state
OUT/csv/metrics.csv           the log
OUT/labels.json, .png, labels/ masks that grew from points (`dimpoint.training.growing`)
OUT/model.onnx, OUT/model.safetensors

A complete checkpoint exists at any moment, even if the process is killed.
"""

from __future__ import annotations

import datetime
import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from lightning.pytorch.callbacks import Checkpoint as CheckpointCallback
from lightning.pytorch.plugins.io import TorchCheckpointIO

from dimpoint.atomic import replacing, write_text
from dimpoint.datasets.dataset import DataSet
from dimpoint.errors import ConfigError, DataError
from dimpoint.extensions import versions_of
from dimpoint.model.checkpoint import save_tensors
from dimpoint.training.frames import LabelledFrame
from dimpoint.training.recipe import Recipe, load_recipe

_VERSIONS = ("dimpoint", "torch", "lightning", "numpy", "opencv-python-headless")
POSITION = "position"  # key of the `Position` in a checkpoint
SECONDS_BETWEEN = 120.0  # between checkpoints, however long an epoch takes
_AWAITED = 9000  # fifths of a second, for the first process of several machines to read its data


@dataclass(frozen=True)
class Position:
    """Progress of a run.

    Parameters
    ----------
    epochs : int
        Completed epochs. Default: 0.
    batches : int
        Batches of the next epoch. Default: 0.
    steps : int
        Training steps in total. Default: 0.
    """

    epochs: int = 0
    batches: int = 0
    steps: int = 0

    def __str__(self) -> str:
        beyond = f" and {self.batches} step{'s' * (self.batches != 1)} of the next" if self.batches else ""
        return f"{self.epochs} epoch{'s' * (self.epochs != 1)}{beyond}"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read completely.

    Parameters
    ----------
    file : Path
        Its file.
    content : dict
        What the trainer stored.
    damaged : tuple of Path
        Newer checkpoints that could not be read. Default: none.
    """

    file: Path
    content: dict[str, Any]
    damaged: tuple[Path, ...] = ()

    @property
    def position(self) -> Position:
        known = self.content.get(POSITION)
        if known is not None:
            return Position(**known)
        return Position(int(self.content["epoch"]) + 1, 0, int(self.content["global_step"]))

    def notes(self) -> list[str]:
        """One line for each damaged file that was skipped."""
        return [f"{file} is damaged and is skipped" for file in self.damaged]


class RunFolder:
    """The files of one run; nothing is read or written before a method is called.

    Parameters
    ----------
    path : Path
        The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record_file = path / "run.json"
        self.recipe_file = path / "recipe.yaml"
        self.checkpoints = path / "checkpoints"
        self.start = self.checkpoints / "start.ckpt"
        self.last = self.checkpoints / "last.ckpt"
        self.previous = self.checkpoints / "last.previous.ckpt"
        self.best = self.checkpoints / "best.ckpt"
        self.log = path / "csv" / "metrics.csv"
        self.label_record = path / "labels.json"
        self.label_strip = path / "labels.png"
        self.labels = path / "labels"
        self.onnx = path / "model.onnx"
        self.safetensors = path / "model.safetensors"

    @property
    def name(self) -> str:
        """The model's name: that of the folder, or of its parent if the folder is called `run`."""
        path = self.path.resolve()
        return path.parent.name if path.name == "run" and path.parent.name else path.name

    def has_weights(self) -> bool:
        """Whether the folder holds a run with weights. A start that failed has none."""
        files = (self.start, self.last, self.previous, self.best, self.onnx, self.safetensors)
        return self.record_file.is_file() and any(file.is_file() for file in files)

    def check_unused(self) -> None:
        """Raise ConfigError if a new run would overwrite one."""
        if self.has_weights():
            raise ConfigError(
                f"{self.path}: already holds a run; continue it with: dimpoint train --resume {self.path}, "
                "or choose another --out"
            )

    def read_record(self) -> dict[str, Any]:
        """The content of run.json. Raises ConfigError if it is missing or damaged."""
        if not self.record_file.is_file():
            raise ConfigError(f"{self.path}: no run to resume (no run.json)")
        try:
            record = json.loads(self.record_file.read_text(encoding="utf-8"))
            if not {"sources", "data", "model"} <= set(record):
                raise ValueError
        except (ValueError, TypeError):
            raise ConfigError(f"{self.record_file}: damaged; start a new run with another --out") from None
        return dict(record)

    def read_recipe(self) -> Recipe:
        """The recipe of the run."""
        return load_recipe(str(self.recipe_file))

    def await_recipe(self) -> Recipe:
        """The recipe, once the first process of a new run has written it; raises DataError if it does not."""
        for _ in range(_AWAITED):
            if self.record_file.is_file():
                return self.read_recipe()
            time.sleep(0.2)
        raise DataError(f"{self.path}: no run has begun there; all machines must see the same --out")

    def write_record(self, recipe: Recipe, record: Mapping[str, Any]) -> None:
        """Write recipe.yaml and run.json of a new run."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        write_text(self.recipe_file, yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
        write_text(self.record_file, json.dumps(record, indent=1))

    def check_data(self, hashes: Mapping[str, str]) -> None:
        """Raise DataError if the data differ from those that the run was started with."""
        known = self.read_record()["data"]
        changed = [name for name, value in hashes.items() if known.get(name, {}).get("sha256") != value]
        if changed or len(known) != len(hashes):
            raise DataError(
                f"{self.path}: the data changed since the run began: {', '.join(changed or known)}"
            )

    def write_start(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Store the initial weights."""
        with replacing(self.start) as temporary:
            save_tensors({"state_dict": dict(weights)}, temporary)

    def newest(self) -> Checkpoint | None:
        """The newest complete state: the last checkpoint, the one before, or the best; None without a
        checkpoint.

        Raises ConfigError if all checkpoints are damaged.
        """
        damaged: list[Path] = []
        if (last := _read(self.last, damaged)) is not None:
            return Checkpoint(self.last, last)
        others = {file: content for file in (self.previous, self.best) if (content := _read(file, damaged))}
        if others:
            file = max(others, key=lambda each: int(others[each]["global_step"]))
            return Checkpoint(file, others[file], tuple(damaged))
        if damaged:
            names = ", ".join(file.name for file in damaged)
            raise ConfigError(f"{self.path}: every checkpoint is damaged ({names}); start a new run")
        return None

    def chosen(self, last: bool) -> Checkpoint | None:
        """The checkpoint for the model files: the best, or the newest with `last` or without a best one."""
        damaged: list[Path] = []
        if not last and (best := _read(self.best, damaged)) is not None:
            return Checkpoint(self.best, best)
        newest = self.newest()
        return newest and Checkpoint(newest.file, newest.content, (*damaged, *newest.damaged))

    def finished(self, recipe: Recipe, newest: Checkpoint | None) -> bool:
        """Whether all epochs are trained."""
        return newest is not None and newest.position.epochs >= recipe.epochs

    def stopped(self) -> str:
        """A message about what a stopped run has stored, and how to continue it."""
        again = f"dimpoint train --resume {self.path}"
        if not self.has_weights():
            return "stopped before training began; nothing was saved, start again"
        newest = self.newest()
        if newest is None:
            return f"stopped; only the initial weights were saved; continue with: {again}"
        if self.finished(self.read_recipe(), newest):
            return f"stopped; training is complete, write the model files with: {again}"
        return f"stopped; saved up to {newest.position}; continue with: {again}"


def _read(file: Path, damaged: list[Path]) -> dict[str, Any] | None:
    """The content of a checkpoint; None if it is missing, or damaged, which is added to `damaged`."""
    if not file.is_file():
        return None
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        if {"state_dict", "epoch", "global_step"} <= set(content):
            return dict(content)
    except Exception:  # a damaged file raises errors of many kinds
        pass
    damaged.append(file)
    return None


def read_start(folder: RunFolder) -> Mapping[str, torch.Tensor] | None:
    """The initial weights of a run; None if they are missing or damaged."""
    if not folder.start.is_file():
        return None
    try:
        weights: Mapping[str, torch.Tensor] = torch.load(folder.start, map_location="cpu", weights_only=True)[
            "state_dict"
        ]
    except Exception:
        return None
    return weights


def record_of(
    recipe: Recipe,
    sources: Mapping[str, Any],
    sets: Sequence[DataSet],
    hashes: Mapping[str, str],
) -> dict[str, Any]:
    """The entries of run.json about recipe, versions and data.

    Parameters
    ----------
    recipe : Recipe
        The recipe.
    sources : mapping
        `TrainingData.to_record`.
    sets : sequence of DataSet
        The data.
    hashes : mapping
        Hash of each set by name.
    """
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seed": recipe.seed,
        "versions": versions_of(_VERSIONS) | {"python": platform.python_version()},
        "sources": dict(sources),
        "data": {
            part.name: {"root": str(part.root), "frames": len(part), "sha256": hashes[part.name]}
            for part in sets
        },
    }


def names_and_hashes(
    frames: Sequence[LabelledFrame], sets: Sequence[DataSet]
) -> dict[str, list[dict[str, str]]]:
    """Name and content hash of each frame, by data set."""
    listed: dict[str, list[dict[str, str]]] = {part.name: [] for part in sets}
    for frame in frames:
        entry = {"name": frame.sample.name, "sha256": frame.hashes[0]}
        listed.setdefault(frame.group, []).append(entry)
    return listed


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically; `last.ckpt` first becomes `last.previous.ckpt`.

    Parameters
    ----------
    folder : RunFolder
        The run's folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        super().__init__()
        self.folder = folder

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        target = Path(path)
        with replacing(target) as temporary:
            save_tensors(checkpoint, temporary)
            if target == self.folder.last and target.exists():
                target.replace(self.folder.previous)


class CheckpointWriter(CheckpointCallback):
    """Callback that writes last.ckpt after each validation and every `SECONDS_BETWEEN`, and best.ckpt.

    Parameters
    ----------
    folder : RunFolder
        The run's folder.
    every : int
        Epochs between validations.
    monitor : str or None
        The logged score that should be highest; of equal ones the later is kept. None: there is no best.
    """

    def __init__(self, folder: RunFolder, every: int, monitor: str | None) -> None:
        self.folder = folder
        self.every = every
        self.monitor = monitor
        self.best: float | None = None
        self._position = Position()
        self._saved = time.monotonic()

    @property
    def state_key(self) -> str:
        """Key of this callback's state in a checkpoint; earlier versions wrote it, too."""
        return "Keep"

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1  # the last epoch is always validated

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
        # All processes take part in saving, so the first process decides.
        return bool(trainer.strategy.broadcast(due)) if trainer.world_size > 1 else due

    def _save(self, trainer: lightning.Trainer, file: Path) -> None:
        if trainer.is_global_zero:
            for logger in trainer.loggers:  # a resumed run does not write earlier rows again
                logger.save()
        trainer.save_checkpoint(file)
        self._saved = time.monotonic()


def ends_with_validation(done: int, every: int, epochs: int | None) -> bool:
    """Whether epoch number `done` ends with a validation: every `every`-th one, and the last."""
    return done % every == 0 or done == epochs
