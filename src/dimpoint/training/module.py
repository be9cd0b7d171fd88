"""The Lightning module: loss, optimiser and schedule of a recipe, and validation on whole frames."""

from __future__ import annotations

import math
import time
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from dimpoint.backends.torch import TorchBackend
from dimpoint.detector import Detector
from dimpoint.losses import mse_loss, soft_focal_loss
from dimpoint.metrics.points import ScoredFrame, sweep
from dimpoint.model_meta import ModelMeta
from dimpoint.networks.standardise import standardise
from dimpoint.training.frames import LabelledFrame
from dimpoint.training.recipe import Recipe

LOWEST_THRESHOLD = 0.05  # validation keeps detections above this and finds the best threshold among them


class PointModule(lightning.LightningModule):
    """Trains a network on views and targets, validates it as it will be used: frames in, points out.

    Logs `train/loss`, `train/frames_per_s`, and for the validation frames `val/f1`, `val/precision`,
    `val/recall`, `val/distance` (pixels), all at `val/threshold`, the threshold of the best F1.
    """

    def __init__(self, network: nn.Module, recipe: Recipe, meta: ModelMeta, steps: int) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.meta = meta
        self.steps = steps
        self._detector: Detector | None = None
        self._scored: list[ScoredFrame] = []
        self._pixels = 0
        self._clock = time.perf_counter()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        frames, targets = batch
        outputs = self.network(standardise(frames, self.meta.mean, self.meta.std)).float()
        loss = self._loss(outputs, targets)
        now = time.perf_counter()
        speed = len(frames) * self.trainer.world_size / max(now - self._clock, 1e-9)
        self._clock = now
        self.log("train/loss", loss, prog_bar=True, on_step=True, on_epoch=True)
        self.log("train/frames_per_s", speed, prog_bar=True, on_step=True)
        return loss

    def on_train_epoch_start(self) -> None:
        self._clock = time.perf_counter()

    def _loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        choice = self.recipe.loss
        if choice.kind == "mse":
            return choice.weight * mse_loss(outputs, targets)
        return choice.weight * soft_focal_loss(outputs, targets, choice.beta)

    def on_validation_epoch_start(self) -> None:
        self._scored, self._pixels = [], 0
        self._detector = Detector(TorchBackend(self.network, self.meta), threshold=LOWEST_THRESHOLD)

    def validation_step(self, frame: LabelledFrame, batch_index: int) -> None:
        assert self._detector is not None
        counts = frame.counts()
        found = self._detector(counts)
        self._scored.append(ScoredFrame(found.xy, found.scores, frame.points))
        self._pixels += counts.size

    def on_validation_epoch_end(self) -> None:
        curve = sweep(self._scored, pixels=self._pixels)
        if len(curve.thresholds):
            best = curve.best()
            values = {
                "val/f1": curve.f1[best],
                "val/precision": curve.precision[best],
                "val/recall": curve.recall[best],
                "val/false_per_frame": curve.false_per_frame[best],
                "val/threshold": curve.thresholds[best],
            }
        else:
            values = {"val/f1": 0.0, "val/threshold": self.recipe.decode.threshold}
        self.log_dict({name: float(value) for name, value in values.items()}, prog_bar=False)
        self.log("val/f1", float(values["val/f1"]), prog_bar=True)

    def configure_optimizers(self) -> Any:
        choice = self.recipe.optimizer
        spared = [p for p in self.network.parameters() if p.ndim <= 1 and not choice.decay_all]
        decayed = [p for p in self.network.parameters() if p.ndim > 1 or choice.decay_all]
        optimizer = torch.optim.AdamW(
            [{"params": decayed}, {"params": spared, "weight_decay": 0.0}],
            lr=choice.lr,
            weight_decay=choice.weight_decay,
        )
        steps = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        schedulers: list[dict[str, Any]] = [{"scheduler": steps, "interval": "step"}]
        return [optimizer], schedulers

    def _rate(self, step: int) -> float:
        """The learning rate at a step, as a part of the highest."""
        schedule = self.recipe.schedule
        warm = min(1.0, (step + 1) / (schedule.warmup_steps + 1))
        if schedule.kind == "plateau":
            return warm
        done = min(1.0, step / max(1, self.steps))
        return warm * (schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * done)))
