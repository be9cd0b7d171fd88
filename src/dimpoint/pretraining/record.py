"""Settings of a pretraining run and its state: model, optimiser and progress."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from dimpoint.atomic import replacing
from dimpoint.errors import ConfigError
from dimpoint.inference.backends import computes_bfloat16
from dimpoint.model.checkpoint import save_tensors
from dimpoint.model.intensity import IntensityRule
from dimpoint.networks.base import standardise
from dimpoint.pretraining.mae import DROPPED, Crops, MaskedAutoencoder
from dimpoint.text import explain

_LONGEST = 1e6  # minutes, or epochs


class PretrainSettings(BaseModel):
    """Length, architecture and optimiser of a pretraining run; built by `pretrain_settings`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    minutes: float | None = Field(
        None, gt=0, le=_LONGEST, description="approximate length, from the speed of a few steps"
    )
    epochs: float | None = Field(None, gt=0, le=_LONGEST, description="crops per frame, instead of `minutes`")
    size: int = Field(128, description="side of the crops, pixels; a multiple of `patch`, at least twice it")
    patch: int = Field(8, ge=2, description="side of a patch, pixels")
    hidden: int = Field(192, ge=8, description="channels of a token; a multiple of 8 and of 2 * heads")
    layers: int = Field(6, ge=1)
    heads: int = Field(3, ge=1)
    batch: int = Field(64, ge=1, description="crops a step")
    lr: float = Field(1e-3, gt=0, description="the highest learning rate, of AdamW with betas 0.9 and 0.95")
    weight_decay: float = Field(0.05, ge=0)
    seed: int = Field(0, ge=0)
    intensity: IntensityRule = Field(
        default_factory=lambda: IntensityRule(kind="display", low=1, high=99),
        description="sensor counts -> network range, as in the recipes that will use the encoder",
    )

    @model_validator(mode="after")
    def _fit(self) -> PretrainSettings:
        if (self.minutes is None) == (self.epochs is None):
            raise ValueError("give either minutes or epochs")
        if self.size % self.patch or self.size < 2 * self.patch:
            raise ValueError(
                f"size must be a multiple of patch ({self.patch}), at least twice it, got {self.size}"
            )
        if self.hidden % 8 or self.hidden % (2 * self.heads):
            raise ValueError(
                f"hidden must be a multiple of 8 and of 2 * heads ({2 * self.heads}), got {self.hidden}"
            )
        return self


def pretrain_settings(**values: Any) -> PretrainSettings:
    """Validate settings.

    Parameters
    ----------
    **values
        Fields of `PretrainSettings`.

    Raises
    ------
    ConfigError
        Names the field that is wrong.

    Examples
    --------
    >>> pretrain_settings(minutes=30).hidden
    192
    """
    try:
        return PretrainSettings(**values)
    except ValidationError as error:
        raise ConfigError(f"pretrain: {explain(error, PretrainSettings)}") from None


_WARMUP = 0.05  # of all steps
_TIMED_STEPS = 5
_RECENT = 100  # steps whose losses are averaged


@dataclass
class PretrainRun:
    """A pretraining run. Step k depends on seed and k, so that a resumed run equals an uninterrupted one.

    Parameters
    ----------
    settings : PretrainSettings
        All settings.
    crops : Crops
        The data.
    step : int
        Steps done. Default: 0.
    seconds : float
        Time spent on them. Default: 0.
    losses : list of float
        Of the latest 100 steps. Default: none.
    """

    settings: PretrainSettings
    crops: Crops
    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        chosen = self.settings
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(chosen.seed)
            model = MaskedAutoencoder(chosen.size, chosen.patch, chosen.hidden, chosen.layers, chosen.heads)
        self.model = model.to(self.device)
        trained = [value for value in self.model.parameters() if value.requires_grad]
        weights = [value for value in trained if value.ndim in (2, 4)]
        others = [value for value in trained if value.ndim not in (2, 4)]  # norms, biases, learned tokens
        groups: list[dict[str, Any]] = [{"params": weights}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(
            groups, lr=chosen.lr, betas=(0.9, 0.95), weight_decay=chosen.weight_decay
        )

    @property
    def recent_loss(self) -> float:
        """Mean loss of the latest steps; a constant prediction has a loss of 1."""
        return sum(self.losses) / len(self.losses) if self.losses else math.nan

    def planned_steps(self) -> int:
        """Number of steps: from the epochs, or from the measured duration of a few steps."""
        chosen = self.settings
        if chosen.epochs is not None:
            return max(1, math.ceil(chosen.epochs * len(self.crops) / chosen.batch))
        assert chosen.minutes is not None
        self._back(0)  # the first step is slower
        begin = time.perf_counter()
        for step in range(_TIMED_STEPS):
            self._back(step)
        seconds = (time.perf_counter() - begin) / _TIMED_STEPS
        self.optimizer.zero_grad()
        return max(1, round(60 * chosen.minutes / seconds))

    def advance(self, total: int) -> None:
        """Run one step of `total`. Raises ConfigError if the loss is not finite."""
        begin = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr * learning_rate(self.step, total)
        self.optimizer.zero_grad()
        loss = self._back(self.step)
        self.optimizer.step()
        self.losses = [*self.losses[1 - _RECENT :], loss]
        if not math.isfinite(loss):
            raise ConfigError(f"pretrain: the loss is not finite after step {self.step}; use a smaller lr")
        self.step += 1
        self.seconds += time.perf_counter() - begin

    def save(self, path: Path) -> None:
        """Write a checkpoint atomically. Raises DimpointError if it cannot be written."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "losses": self.losses,
        }
        with replacing(path) as temporary:
            save_tensors(state, temporary)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint. Raises ConfigError if it is damaged."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds, self.losses = state["step"], state["seconds"], state["losses"]
        except Exception:  # a damaged file raises errors of many kinds
            raise ConfigError(f"{path}: damaged; delete it to start again from the first step") from None

    def _back(self, step: int) -> float:
        """The loss of a step's crops; gradients are accumulated."""
        patches = self.model.patches
        kept = max(1, round(patches * (1 - DROPPED)))
        batch = self.settings.batch
        frames, numbers = self.crops.batch(step * batch, batch, patches, kept)
        frames, numbers = frames.to(self.device), numbers.to(self.device)
        pixels = standardise(frames, (self.crops.mean,) * 3, (self.crops.std,) * 3)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=computes_bfloat16(self.device.type)):
            loss: Tensor = self.model(pixels, frames, numbers)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()


def learning_rate(step: int, total: int) -> float:
    """Relative learning rate: a linear rise over the first 5 % of the steps, then a cosine to 0."""
    warm = max(1.0, _WARMUP * total)
    if step < warm:
        return (step + 1) / (warm + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1.0, total - warm)))
