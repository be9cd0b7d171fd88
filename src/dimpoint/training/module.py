"""The Lightning module: loss, optimiser and schedule of a recipe, and validation on whole frames."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from dimpoint.backends.torch import TorchBackend
from dimpoint.detector import Detector
from dimpoint.losses import mse_loss, soft_focal_loss
from dimpoint.metrics.points import ScoredFrame, match_points, sweep
from dimpoint.model_meta import ModelMeta
from dimpoint.networks import Network
from dimpoint.networks.standardise import standardise
from dimpoint.training.frames import LabelledFrame
from dimpoint.training.recipe import Recipe

LOWEST_THRESHOLD = 0.05  # validation keeps detections above this and finds the best threshold among them


class PointModule(lightning.LightningModule):
    """Trains a network on views and targets, validates it as it will be used: frames in, points out.

    Logs `train/loss`, `train/frames_per_s`, and for the validation frames `val/f1`, `val/precision`,
    `val/recall`, `val/distance` (pixels), all at `val/threshold`, the threshold of the best F1.
    """

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        meta: ModelMeta,
        validation: Sequence[LabelledFrame],
        steps: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.meta = meta
        self.validation = validation
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

    def validation_step(self, number: int, batch_index: int) -> None:
        assert self._detector is not None
        frame = self.validation[number]
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
                "val/distance": self._distance(float(curve.thresholds[best])),
            }
        else:
            values = {"val/f1": 0.0, "val/threshold": self.recipe.decode.threshold}
        for name, value in values.items():
            self.log(name, float(value), prog_bar=name == "val/f1")

    def _distance(self, threshold: float) -> float:
        """Mean localisation error of the matched targets, pixels."""
        distances = []
        for frame in self._scored:
            scores = np.asarray(frame.scores)
            kept = scores >= threshold
            distances.append(
                match_points(np.asarray(frame.pred_xy)[kept], scores[kept], frame.truth_xy).distances
            )
        every = np.concatenate(distances)
        return float(every.mean()) if len(every) else float("nan")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The last validation's values go with the weights; `finish` reads the threshold from them."""
        values = {k: float(v) for k, v in self.trainer.callback_metrics.items() if k.startswith("val/")}
        checkpoint["validation"] = {key.removeprefix("val/"): value for key, value in values.items()}

    def configure_optimizers(self) -> Any:
        choice = self.recipe.optimizer
        spared = [p for p in self.network.parameters() if p.ndim <= 1 and not choice.decay_all]
        decayed = [p for p in self.network.parameters() if p.ndim > 1 or choice.decay_all]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": spared, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=choice.lr, weight_decay=choice.weight_decay)
        return [optimizer], self._schedulers(optimizer)

    def _schedulers(self, optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
        schedule = self.recipe.schedule
        if schedule.kind == "cosine":
            rate = torch.optim.lr_scheduler.LambdaLR(optimizer, self._cosine)
            return [{"scheduler": rate, "interval": "step"}]
        warm = torch.optim.lr_scheduler.LinearLR(
            optimizer, 1 / (schedule.warmup_steps + 1), total_iters=schedule.warmup_steps
        )
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode="max", factor=0.1, patience=schedule.patience
        )
        every = self.recipe.validate_every
        return [
            {"scheduler": warm, "interval": "step"},
            {"scheduler": plateau, "interval": "epoch", "monitor": "val/f1", "frequency": every},
        ]

    def _cosine(self, step: int) -> float:
        """The learning rate at a step, as a part of the highest."""
        schedule = self.recipe.schedule
        warm = min(1.0, (step + 1) / (schedule.warmup_steps + 1))
        done = min(1.0, step / max(1, self.steps))
        return warm * (schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * done)))
