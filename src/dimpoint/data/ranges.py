"""Ranges from which random scenes draw their values: checked in the configuration, drawn uniformly."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict


def _check(value: tuple[float, float], least: float, most: float) -> tuple[float, float]:
    low, high = value
    if not least <= low <= high <= most:  # not a number fails this too
        raise ValueError(f"a range low, high with {least:g} <= low <= high <= {most:g}")
    return value


def _check_count(value: tuple[int, int]) -> tuple[int, int]:
    if not 0 <= value[0] <= value[1]:
        raise ValueError("a range low, high with 0 <= low <= high")
    return value


Share = Annotated[tuple[float, float], AfterValidator(lambda value: _check(value, 0.0, 1.0))]
NotNegative = Annotated[tuple[float, float], AfterValidator(lambda value: _check(value, 0.0, 1e6))]
Positive = Annotated[tuple[float, float], AfterValidator(lambda value: _check(value, 1e-6, 1e6))]
Count = Annotated[tuple[int, int], AfterValidator(_check_count)]


class RangeModel(BaseModel):
    """Base of the configurations here: frozen, and an unknown key is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def draw(rng: np.random.Generator, value: tuple[float, float]) -> float:
    """One value, uniform over the range."""
    return float(rng.uniform(*value))


def draw_log(rng: np.random.Generator, value: tuple[float, float]) -> float:
    """One value, uniform in its logarithm over a positive range, so that small values are not rare."""
    return float(np.exp(rng.uniform(math.log(value[0]), math.log(value[1]))))
