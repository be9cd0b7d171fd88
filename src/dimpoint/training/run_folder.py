"""The folder of a training run: its files, its record, and when checkpoints are written.

OUT/recipe.yaml               every setting
OUT/run.json                  data with hashes, held-out frames, versions, what the run started from
OUT/checkpoints/start.ckpt    the weights that it started from
OUT/checkpoints/last.ckpt     the newest state; last.previous.ckpt is the one before
OUT/checkpoints/best.ckpt     the best validated state
OUT/csv/metrics.csv           the log
OUT/labels.json, .png, labels/ masks that grew from points (`dimpoint.training.growing`)
OUT/model.onnx, OUT/model.safetensors

A kill at any moment leaves a whole checkpoint.
"""

from __future__ import annotations

import datetime
import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
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
from dimpoint.model.checkpoint import save_tensors
from dimpoint.training.frames import LabelledFrame
from dimpoint.training.recipe import Recipe, load_recipe

_VERSIONS = ("dimpoint", "torch", "lightning", "numpy", "opencv-python-headless")
POSITION = "position"  # in a checkpoint: how far the run had come
SECONDS_BETWEEN = 120.0  # checkpoints, whatever the epochs take


@dataclass(frozen=True)
class Position:
    """How far a run has come: whole epochs, batches of the next epoch, and steps in all."""

    epochs: int = 0
    batches: int = 0
    steps: int = 0

    def __str__(self) -> str:
        beyond = f" and {self.batches} steps of the next" if self.batches else ""
        return f"{self.epochs} epochs{beyond}"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read whole. damaged: newer ones that could not be read."""

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
        """One line for each damaged file that was passed over."""
        return [f"{file} is damaged and is passed over" for file in self.damaged]


class RunFolder:
    """The folder of one run; nothing is read or written before a method is called."""

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
        """What the run's model is called: the folder's name; of a folder `run`, that of the one around it."""
        path = self.path.resolve()
        return path.parent.name if path.name == "run" and path.parent.name else path.name

    def has_weights(self) -> bool:
        """Whether there is a run that has weights to lose. A start that failed has none."""
        files = (self.start, self.last, self.previous, self.best, self.onnx, self.safetensors)
        return self.record_file.is_file() and any(file.is_file() for file in files)

    def check_unused(self) -> None:
        """Raise ConfigError if a new run would overwrite one."""
        if self.has_weights():
            raise ConfigError(
                f"{self.path}: holds a run already; go on with: dimpoint train --resume {self.path}, "
                "or choose another --out"
            )

    def read_record(self) -> dict[str, Any]:
        """The content of run.json; raises ConfigError if there is no run or its record is damaged."""
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
        return load_recipe(str(self.recipe_file))

    def write_record(self, recipe: Recipe, record: Mapping[str, Any]) -> None:
        """Write recipe.yaml and run.json of a run that begins."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        write_text(self.recipe_file, yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
        write_text(self.record_file, json.dumps(record, indent=1))

    def add_to_record(self, **entries: Any) -> None:
        write_text(self.record_file, json.dumps(self.read_record() | entries, indent=1))

    def check_data(self, hashes: Mapping[str, str]) -> None:
        """Raise DataError if the data are not those that the run began with."""
        known = self.read_record()["data"]
        changed = [name for name, value in hashes.items() if known.get(name, {}).get("sha256") != value]
        if changed or len(known) != len(hashes):
            raise DataError(
                f"{self.path}: the data changed since the run began: {', '.join(changed or known)}"
            )

    def write_start(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Keep the weights that the run starts from."""
        with replacing(self.start) as temporary:
            save_tensors({"state_dict": dict(weights)}, temporary)

    def newest(self) -> Checkpoint | None:
        """The newest state that is whole: the last, the one before, or the best; None if there is none.

        Raises ConfigError if there are some and all are damaged.
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
        """The state that the model is made of: the best; the newest with `last` or without a best."""
        damaged: list[Path] = []
        if not last and (best := _read(self.best, damaged)) is not None:
            return Checkpoint(self.best, best)
        newest = self.newest()
        return newest and Checkpoint(newest.file, newest.content, (*damaged, *newest.damaged))

    def finished(self, recipe: Recipe, newest: Checkpoint | None) -> bool:
        """Whether every epoch was trained."""
        return newest is not None and newest.position.epochs >= recipe.epochs

    def stopped(self) -> str:
        """What a stopped run has kept, and how to go on; for people."""
        again = f"dimpoint train --resume {self.path}"
        if not self.has_weights():
            return "stopped before training began; nothing is kept, start again"
        newest = self.newest()
        if newest is None:
            return f"stopped; no step is kept yet, the starting weights are: {again}"
        if self.finished(self.read_recipe(), newest):
            return f"stopped; training is complete, the model files are not written: {again}"
        return f"stopped; kept up to {newest.position}: {again}"


def _read(file: Path, damaged: list[Path]) -> dict[str, Any] | None:
    """The content of a checkpoint; None if there is none or it is cut, which is added to `damaged`."""
    if not file.is_file():
        return None
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        if {"state_dict", "epoch", "global_step"} <= set(content):
            return dict(content)
    except Exception:  # a cut or foreign file fails in many ways inside torch, zip and pickle
        pass
    damaged.append(file)
    return None


def read_start(folder: RunFolder) -> Mapping[str, torch.Tensor] | None:
    """The weights that a run started from; None if they were not kept or cannot be read."""
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
    """What run.json says of recipe, versions and data."""
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seed": recipe.seed,
        "versions": {name: version(name) for name in _VERSIONS} | {"python": platform.python_version()},
        "sources": dict(sources),
        "data": {
            part.name: {"root": str(part.root), "frames": len(part), "sha256": hashes[part.name]}
            for part in sets
        },
    }


def names_and_hashes(
    frames: Sequence[LabelledFrame], sets: Sequence[DataSet]
) -> dict[str, list[dict[str, str]]]:
    """The name and content hash of each frame, by data set."""
    listed: dict[str, list[dict[str, str]]] = {part.name: [] for part in sets}
    for frame in frames:
        entry = {"name": frame.sample.name, "sha256": frame.hashes[0]}
        listed.setdefault(frame.group, []).append(entry)
    return listed


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it; `last.ckpt` becomes `last.previous.ckpt` first."""

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

    @property
    def state_key(self) -> str:
        """Key of this callback's state in a checkpoint; earlier versions wrote it, too."""
        return "Keep"

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
