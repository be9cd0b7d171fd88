"""Progress of a run: lines on the terminal, a progress bar, and the log as CSV."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from dimpoint.atomic import replacing
from dimpoint.training.module import DetectionModule
from dimpoint.training.run_folder import ends_with_validation
from dimpoint.training.validation import LABELS, chooses_threshold

_SECONDS_BETWEEN = 0.3  # between updates of the bar
_FIRST_LINE = 10.0  # seconds until the first line
_STEPS_BETWEEN = 20  # between rows of the log
_ROWS_BETWEEN = 50  # between writes of the log


class Report(Callback):
    """Callback that reports one line after each validation and adds rows to the log.

    Parameters
    ----------
    log : callable
        Called with each line.
    monitor : str
        The score that is reported.
    every : int
        Epochs between validations.
    chooses : bool
        Whether the score selects the best checkpoint; the best value is reported then.
    lines : float, optional
        Seconds between further lines, for output that is not a terminal. Default: none, there is a bar.
    """

    def __init__(
        self, log: Callable[[str], None], monitor: str, every: int, chooses: bool, lines: float | None = None
    ) -> None:
        self._report = log
        self.monitor = monitor
        self.every = every
        self.chooses = chooses
        self.best = 0.0
        self._lines = lines
        self._pace = Pace()
        self._last_line = time.monotonic()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._pace = Pace(trainer.global_step)
        self._last_line = time.monotonic() - max((self._lines or 0) - _FIRST_LINE, 0)

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        values = trainer.callback_metrics
        if trainer.global_step % _STEPS_BETWEEN == 0:
            names = ("train/loss_step", "train/frames_per_s")
            row = {name: float(values[name]) for name in names} | {"epoch": float(trainer.current_epoch)}
            _log(trainer, row)
        if self._lines is not None and time.monotonic() - self._last_line >= self._lines:
            self._last_line = time.monotonic()
            total = int(trainer.estimated_stepping_batches)
            self._report(
                f"step {trainer.global_step}/{total}  loss {float(values['train/loss_step']):.4f}  "
                f"{float(values['train/frames_per_s']):.0f} frames/s  "
                f"{duration(self._pace.left(trainer.global_step, total))} left"
            )

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, DetectionModule)
        loss = pl_module.mean_loss()
        _log(trainer, {"train/loss_epoch": loss, "epoch": float(trainer.current_epoch)})
        values = {key: float(value) for key, value in trainer.callback_metrics.items()}
        done = trainer.current_epoch + 1
        if not ends_with_validation(done, self.every, trainer.max_epochs):
            return
        line = (
            f"epoch {done}/{trainer.max_epochs}  loss {loss:.4f}  {values['train/frames_per_s']:.0f} frames/s"
        )
        if f"val/{self.monitor}" in values:  # a refit may have nothing held out
            now = values[f"val/{self.monitor}"]
            line += f"  validation {LABELS[self.monitor]} {now:.4f}"
            if chooses_threshold(pl_module.recipe):
                line += f" at its best threshold, {values['val/threshold']:.3f}"
            if self.chooses:
                self.best = max(self.best, now)
                line += f" (best epoch {self.best:.4f})"
        total = int(trainer.estimated_stepping_batches)
        if trainer.global_step < total:
            line += f"  {duration(self._pace.left(trainer.global_step, total))} left"
        self._last_line = time.monotonic()
        self._report(line)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]


class Pace:
    """Estimates the remaining time of a run from the steps since it was started.

    Parameters
    ----------
    step : int
        Number of steps at the start. Default: 0.
    """

    def __init__(self, step: int = 0) -> None:
        self._first = step
        self._began = time.monotonic()

    def left(self, step: int, total: int) -> float:
        """Remaining seconds, after at least one step."""
        return (time.monotonic() - self._began) / max(step - self._first, 1) * max(total - step, 0)


def duration(seconds: float) -> str:
    """A duration as text.

    Examples
    --------
    >>> duration(40), duration(700), duration(12345)
    ('40 s', '12 min', '3.4 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _log(trainer: lightning.Trainer, row: dict[str, float]) -> None:
    for logger in trainer.loggers:
        logger.log_metrics(row, trainer.global_step - 1)


class Bar(Callback):
    """Progress bar of the whole run: epoch, loss, frames/s, last validation score, remaining time.

    It fits a terminal of 80 columns. Values are read a few times a second: on a GPU, reading a value waits
    for the step to end.

    Parameters
    ----------
    monitor : str
        The score that is shown.
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
        assert epochs is not None  # set by the recipe
        self._progress.update(
            self._task,
            completed=trainer.global_step,
            description=f"epoch {min(trainer.current_epoch + 1, epochs)}/{epochs}",
            figures=", ".join(
                text.format(float(values[key])) for key, text in shown.items() if key in values
            ),
        )


class RunLog(Logger):
    """`csv/metrics.csv` in a run's folder, replaced as a whole at each write.

    A resumed run keeps the rows before step `start` and writes the later ones again.

    Parameters
    ----------
    file : Path
        The CSV file.
    start : int
        Steps of the run so far.
    """

    def __init__(self, file: Path, start: int) -> None:
        super().__init__()
        self._file = file
        self._rows = [row for row in _read(file) if row.get("step", 0) < start] if file.is_file() else []
        self._new = 0

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return "csv"

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Do nothing: the recipe is in recipe.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add a row; rows are written to disk by `save`."""
        self._rows.append({key: float(value) for key, value in metrics.items()} | {"step": step or 0})
        self._new += 1
        if self._new >= _ROWS_BETWEEN:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        if not self._new:
            return
        names = sorted({key for row in self._rows for key in row})
        with replacing(self._file) as temporary, temporary.open("w", newline="", encoding="utf-8") as text:
            writer = csv.DictWriter(text, names)
            writer.writeheader()
            writer.writerows(
                row | {key: int(row[key]) for key in ("epoch", "step") if key in row} for row in self._rows
            )
        self._new = 0

    def finalize(self, status: str) -> None:
        self.save()


def _read(file: Path) -> list[dict[str, float]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(lines)]
