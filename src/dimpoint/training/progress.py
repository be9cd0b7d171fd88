"""What a run says while it trains.

The log of a run as CSV, which a resumed run goes on with.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from dimpoint.training.validation import LABELS

_SECONDS_BETWEEN = 0.3  # updates of the bar


class Report(Callback):
    """One line after each validation, for terminals and log files alike."""

    def __init__(self, say: Callable[[str], None], monitor: str, chooses: bool) -> None:
        self.say = say
        self.monitor = monitor
        self.chooses = chooses  # whether a higher value is better, and its weights are kept
        self.best = 0.0

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        values = {key: float(value) for key, value in trainer.callback_metrics.items()}
        if (trainer.current_epoch + 1) % trainer.check_val_every_n_epoch:  # type: ignore[operator]
            return
        line = (
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  "
            f"loss {values['train/loss_epoch']:.4f}  {values['train/frames_per_s']:.0f} frames/s"
        )
        if f"val/{self.monitor}" in values:  # a refit may have nothing held out
            now = values[f"val/{self.monitor}"]
            line += f"  validation {LABELS[self.monitor]} {now:.4f}"
            if self.chooses:
                self.best = max(self.best, now)
                line += f" (best {self.best:.4f})"
        self.say(line)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]


class Bar(Callback):
    """One bar for the whole run: epoch, loss, frames/s, the last validation's value, the time that is left.

    It fits a terminal of 80 columns. Figures are read a few times a second: on a GPU each reading waits
    for the step's end.
    """

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self._read = 0.0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=14),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("training", total=None, figures="")

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.is_global_zero:
            steps = trainer.estimated_stepping_batches
            self._progress.reset(self._task, total=steps, completed=trainer.global_step)
            self._progress.start()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        now = time.monotonic()
        if now - self._read < _SECONDS_BETWEEN:
            return
        self._read = now
        self._show(trainer)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._progress.update(self._task, figures="validating")

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._show(trainer)
        self._progress.stop()

    def on_exception(self, *_: Any) -> None:
        self._progress.stop()

    def _show(self, trainer: lightning.Trainer) -> None:
        shown = {"train/loss_step": "loss {:.4f}", "train/frames_per_s": "{:.0f} frames/s"}
        shown[f"val/{self.monitor}"] = LABELS[self.monitor] + " {:.3f}"
        values = trainer.callback_metrics
        epochs = trainer.max_epochs
        assert epochs is not None  # a recipe says how many
        self._progress.update(
            self._task,
            completed=trainer.global_step,
            description=f"epoch {min(trainer.current_epoch + 1, epochs)}/{epochs}",
            figures=", ".join(
                text.format(float(values[key])) for key, text in shown.items() if key in values
            ),
        )


class RunLog(CSVLogger):
    """`csv/metrics.csv` in a run's folder. Lightning's own logger would begin a resumed run's file anew."""

    def __init__(self, out: Path) -> None:
        super().__init__(out, name="", version="csv")
        file = out / "csv" / "metrics.csv"
        self._before = _read(file) if file.is_file() else []

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add a row. The first one drops what the earlier process logged of the same steps and later ones."""
        if self._before and step is not None:
            self.experiment.metrics += [row for row in self._before if row["step"] < step]
            self._before = []
            self.save()
        super().log_metrics(dict(metrics), step)


def _read(file: Path) -> list[dict[str, float]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(lines)]
