"""`TargetRule`: how point labels become the map that a network learns."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from dimpoint.supervision.gaussian import gaussian_map


class TargetRule(BaseModel):
    """The target of a point network, chosen in the recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["gaussian"] = Field(
        "gaussian", description="`gaussian`: a Gaussian at each point's sub-pixel centre"
    )
    stride: int = Field(4, ge=1, description="input pixels per map pixel")
    sigma: float = Field(2.0, gt=0, description="of the Gaussian, map pixels")
    radius: int = Field(6, ge=1, description="each response fills a square of 2 * radius + 1 map pixels")


def make_target(
    frame: npt.NDArray[np.float32], points: npt.NDArray[np.floating[Any]], rule: TargetRule
) -> npt.NDArray[np.float32]:
    """The target map of one frame.

    frame: (H, W) float32 in 0..1. points: (N, 2) x, y in its pixels.
    Returns (ceil(H / stride), ceil(W / stride)) float32 in 0..1.
    """
    height, width = frame.shape
    return gaussian_map(points, (height, width), stride=rule.stride, sigma=rule.sigma, radius=rule.radius)
