"""What decides a pretraining besides its data. All of it is our own choice."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dimpoint.errors import ConfigError
from dimpoint.intensity import IntensityRule


class PretrainSettings(BaseModel):
    """Length, architecture and optimiser of a pretraining. `pretrain_settings` builds it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    minutes: float | None = Field(None, gt=0, description="about how long, from the speed of a few steps")
    epochs: float | None = Field(None, gt=0, description="crops of each frame; instead of `minutes`")
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
                f"size must be a multiple of patch ({self.patch}), twice it or more: {self.size}"
            )
        if self.hidden % 8 or self.hidden % (2 * self.heads):
            raise ValueError(f"hidden must be a multiple of 8 and of 2 * heads ({self.heads}): {self.hidden}")
        return self


def pretrain_settings(**values: Any) -> PretrainSettings:
    """The settings. Raises ConfigError that names what does not fit."""
    try:
        return PretrainSettings(**values)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        message = problem["msg"].removeprefix("Value error, ")
        raise ConfigError(f"pretrain: {key + ': ' if key else ''}{message}") from None
