"""Labels -> training targets: `TargetRule` and `make_target`."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dimpoint.errors import DataError
from dimpoint.targets.maps import gaussian_map, prps_map, published_gaussian_map, published_prps_map


class TargetRule(BaseModel):
    """The target of a network, chosen in the recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["gaussian", "prps", "gaussian-published", "prps-published", "mask"] = Field(
        "gaussian",
        description="a Gaussian at each point, or one weighted by the frame's brightness (PRPS); ours with "
        "sub-pixel centres, or as SPIRE's public code does; or `mask`: the mask itself, at stride 1",
    )
    stride: int = Field(4, ge=1, description="input pixels per map pixel")
    sigma: float = Field(2.0, gt=0, description="of the Gaussian, map pixels")
    radius: int = Field(6, ge=1, description="each response fills a square of 2 * radius + 1 map pixels")

    @model_validator(mode="after")
    def _mask_is_whole(self) -> TargetRule:
        if self.kind == "mask" and self.stride != 1:
            raise ValueError(f"a mask is learnt at the frame's resolution: stride 1, not {self.stride}")
        return self


def make_target(
    frame: npt.NDArray[np.float32],
    points: npt.NDArray[np.floating[Any]],
    rule: TargetRule,
    mask: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.float32]:
    """The target map of one frame.

    frame: (H, W) float32 in 0..1; only the PRPS kinds use its pixels. points: (N, 2) x, y in its
    pixels. mask: (H, W), for the kind `mask` alone. Returns (ceil(H / stride), ceil(W / stride)) float32,
    0..1 (the published PRPS goes slightly beyond). Raises DataError for points of another shape or not
    finite, and for a missing mask.
    """
    if rule.kind == "mask":
        if mask is None:
            raise DataError("the target kind 'mask' needs a mask")
        return mask.astype(np.float32)
    height, width = frame.shape
    stride, sigma, radius = rule.stride, rule.sigma, rule.radius
    if rule.kind == "gaussian":
        return gaussian_map(points, (height, width), stride=stride, sigma=sigma, radius=radius)
    if rule.kind == "gaussian-published":
        return published_gaussian_map(points, (height, width), stride=stride, sigma=sigma, radius=radius)
    prps = prps_map if rule.kind == "prps" else published_prps_map
    return prps(frame, points, stride=stride, sigma=sigma, radius=radius)
