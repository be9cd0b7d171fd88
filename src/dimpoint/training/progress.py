"""What a run says while it trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback, RichProgressBar

from dimpoint.training.validation import LABELS


class Report(Callback):
    """One line after each validation, for terminals and log files alike."""

    def __init__(self, say: Callable[[str], None], monitor: str) -> None:
        self.say = say
        self.monitor = monitor
        self.best = 0.0

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        values = {key: float(value) for key, value in trainer.callback_metrics.items()}
        if (trainer.current_epoch + 1) % trainer.check_val_every_n_epoch:  # type: ignore[operator]
            return
        now = values[f"val/{self.monitor}"]
        self.best = max(self.best, now)
        self.say(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  "
            f"loss {values['train/loss_epoch']:.4f}  {values['train/frames_per_s']:.0f} frames/s  "
            f"validation {LABELS[self.monitor]} {now:.4f} (best {self.best:.4f})"
        )

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]


class Bar(RichProgressBar):
    """Loss, frames/s and the validation's value while an epoch runs."""

    def get_metrics(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> Any:
        names = {"train/loss_step": "loss", "train/frames_per_s": "frames/s"}
        names |= {f"val/{name}": f"validation {label}" for name, label in LABELS.items()}
        values = super().get_metrics(trainer, pl_module)
        return {text: values[name] for name, text in names.items() if name in values}
