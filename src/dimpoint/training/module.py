"""The Lightning module: loss, optimiser and schedule of a recipe, and validation on whole frames."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import lightning
import torch
from torch import Tensor

import dimpoint
from dimpoint.datasets.dataset import DataSet
from dimpoint.errors import ConfigError
from dimpoint.inference.backends import TorchBackend
from dimpoint.inference.detector import Detector
from dimpoint.model.checkpoint import traits
from dimpoint.model.record import ModelMeta
from dimpoint.networks import Network
from dimpoint.networks.base import HostNetwork, count_parameters, standardise
from dimpoint.text import counted
from dimpoint.training.frames import LabelledFrame
from dimpoint.training.losses import (
    bce_loss,
    deep_supervision,
    dice_loss,
    edge_mining_loss,
    focal_loss,
    leave_out_ignored,
    mse_loss,
    soft_focal_loss,
    soft_iou_loss,
)
from dimpoint.training.recipe import LossChoice, LossKind, Recipe
from dimpoint.training.validation import monitored, scores_for, validation_threshold

LOSSES: Mapping[LossKind, Callable[[LossChoice, Tensor, Tensor], Tensor]] = {
    "mse": lambda _, outputs, targets: mse_loss(outputs, targets),
    "focal": lambda choice, outputs, targets: soft_focal_loss(outputs, targets, choice.beta),
    "bce": lambda _, outputs, targets: bce_loss(outputs, targets),
    "soft-iou": lambda _, outputs, targets: soft_iou_loss(outputs, targets),
    "dice": lambda _, outputs, targets: dice_loss(outputs, targets),
    "mask-focal": lambda _, outputs, targets: focal_loss(outputs, targets),
    "edge-mining": lambda _, outputs, targets: edge_mining_loss(outputs, targets),
}


_NEVER = 1 << 40  # epochs


def outputs_of(network: Network, inputs: Tensor) -> Sequence[Tensor]:
    """All outputs of a network in training, finest first."""
    if isinstance(network, HostNetwork):
        return network.decode(network.encode(inputs))
    return [network(inputs)]


class DetectionModule(lightning.LightningModule):
    """Trains a network on views and targets, and validates it by detection in whole frames.

    Logs `train/loss_step`, `train/frames_per_s` and, for the validation frames, the scores of
    `dimpoint.training.validation` as `val/...`.

    Parameters
    ----------
    network : Network
        The network to train.
    recipe : Recipe
        Loss, optimiser and schedule.
    meta : ModelMeta
        The record of the model, which the detector in validation needs.
    validation : sequence of LabelledFrame
        Held-out frames.
    steps : int
        Steps of the whole run, for the schedule.
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
        self._scores = scores_for(recipe)
        self._clock = time.perf_counter()
        self._loss_sum: Tensor | float = 0.0  # of the running epoch
        self._loss_count = 0
        self._random: Tensor | None = None

    def training_step(self, batch: tuple[Any, ...], batch_index: int) -> Tensor:
        frames, targets, *more = batch
        loss = self.step_loss(frames, targets, *more)
        now = time.perf_counter()
        speed = len(frames) * self.trainer.world_size / max(now - self._clock, 1e-9)
        self._clock = now
        self._loss_sum, self._loss_count = self._loss_sum + loss.detach(), self._loss_count + 1
        self.log("train/loss_step", loss, logger=False)
        self.log("train/frames_per_s", speed, logger=False)
        return loss

    def step_loss(self, frames: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch of views in network range, (N, 1, H, W)."""
        return self.loss(outputs_of(self.network, self.standardised(frames)), targets)

    def standardised(self, frames: Tensor) -> Tensor:
        return standardise(frames, self.meta.mean, self.meta.std)

    def loss(self, outputs: Sequence[Tensor], targets: Tensor) -> Tensor:
        """The recipe's loss of all outputs, finest first; ignored pixels of the targets do not count."""
        choice = self.recipe.loss
        whole = [output.float() for output in outputs]
        parts = []
        for kind in choice.kinds:
            known, truth = leave_out_ignored(whole, targets, logits=kind != "mse")
            parts.append(deep_supervision(partial(LOSSES[kind], choice), known, truth, choice.deep))
        return choice.weight * torch.stack(parts).sum()

    def mean_loss(self) -> float:
        """Mean loss of the current epoch's steps so far."""
        return float(self._loss_sum) / max(self._loss_count, 1)

    def on_train_epoch_start(self) -> None:
        self._clock = time.perf_counter()
        self._loss_sum, self._loss_count = 0.0, 0

    def on_validation_epoch_start(self) -> None:
        self._scores = scores_for(self.recipe)
        backend = TorchBackend(self.network, self.meta)
        self._detector = Detector(backend, threshold=validation_threshold(self.recipe))

    def validation_step(self, number: int, batch_index: int) -> None:
        assert self._detector is not None
        self._scores.add(self._detector, self.validation[number])

    def on_validation_epoch_end(self) -> None:
        for name, value in self._scores.values().items():
            self.log(f"val/{name}", value, prog_bar=name == self._scores.monitor)

    def on_train_epoch_end(self) -> None:
        """Lower the rate of a `plateau` schedule, before the checkpoint is written."""
        value = self.trainer.callback_metrics.get(f"val/{monitored(self.recipe)}")
        done, schedule = self.trainer.current_epoch + 1, self.recipe.schedule
        if schedule.kind == "plateau" and value is not None and done % self.recipe.validate_every == 0:
            schedulers = self.lr_schedulers()
            assert isinstance(schedulers, list)
            schedulers[1].step(float(value))  # type: ignore[arg-type]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the last validation's scores, from which `finish` reads the threshold."""
        values = {k: float(v) for k, v in self.trainer.callback_metrics.items() if k.startswith("val/")}
        checkpoint["validation"] = {key.removeprefix("val/"): value for key, value in values.items()}
        checkpoint["epoch_loss"] = [float(self._loss_sum), self._loss_count]
        checkpoint["random"] = torch.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._loss_sum, self._loss_count = checkpoint.get("epoch_loss", (0.0, 0))
        self._random = checkpoint.get("random")

    def on_train_batch_start(self, batch: Any, batch_index: int) -> None:
        if self._random is not None:  # resumed: networks with dropout continue their random numbers
            torch.set_rng_state(self._random)
            self._random = None

    def configure_optimizers(self) -> Any:
        choice = self.recipe.optimizer
        # Parameters of the module, not of the network alone: FDEP trains its fusion, too.
        spared = [p for p in self.parameters() if p.ndim <= 1 and not choice.decay_all]
        decayed = [p for p in self.parameters() if p.ndim > 1 or choice.decay_all]
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
        return [
            {"scheduler": warm, "interval": "step"},
            {  # stepped by `on_train_epoch_end`; the trainer keeps its state
                "scheduler": plateau,
                "interval": "epoch",
                "monitor": f"val/{monitored(self.recipe)}",
                "frequency": _NEVER,
            },
        ]

    def _cosine(self, step: int) -> float:
        """The learning rate at a step, relative to the highest."""
        schedule = self.recipe.schedule
        warm = min(1.0, (step + 1) / (schedule.warmup_steps + 1))
        done = min(1.0, step / max(1, self.steps))
        return warm * (schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * done)))


def activation_of(recipe: Recipe) -> Literal["none", "sigmoid"]:
    """What turns a trained output into a response: `mse` sees responses, every other loss sees logits.

    Raises ConfigError if the recipe sums `mse` with another loss.
    """
    kinds = recipe.loss.kinds
    if "mse" not in kinds:
        return "sigmoid"
    if len(set(kinds)) > 1:
        raise ConfigError(
            f"loss.kind is {', '.join(kinds)}: mse sees the output itself and the others its sigmoid; leave "
            "out mse or the others"
        )
    return "none"


def describe_model(
    network: Network,
    recipe: Recipe,
    sets: Sequence[DataSet],
    name: str | None = None,
    parent: str | None = None,
) -> ModelMeta:
    """The record of the run's model files.

    Parameters
    ----------
    network : Network
        The network.
    recipe : Recipe
        The recipe.
    sets : sequence of DataSet
        The training data.
    name : str, optional
        Name of the model. Default: the recipe's name.
    parent : str, optional
        Name of the model that training started from.

    Raises
    ------
    ConfigError
        If the strides of network and target differ, or the losses do not fit together.
    """
    if network.stride != recipe.target.stride:
        raise ConfigError(
            f"target.stride is {recipe.target.stride}, but {recipe.network.name} gives a map at stride "
            f"{network.stride}: set target.stride={network.stride}"
        )
    return ModelMeta(
        name=name or recipe.name,
        parent=parent,
        package_version=dimpoint.__version__,
        network=recipe.network.name,
        options=recipe.network.options,
        **(traits(network) | {"activation": activation_of(recipe)}),
        input=recipe.input,
        decode=recipe.decode,
        training_data=[f"{part.name} ({counted(len(part), 'frame')})" for part in sets],
        recipe=recipe.model_dump(mode="json"),
        parameters=count_parameters(network),
    )
