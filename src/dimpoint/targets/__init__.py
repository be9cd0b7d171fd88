"""Training targets from labels: `TargetRule` and `make_target`."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dimpoint.errors import DataError
from dimpoint.targets.maps import gaussian_map, prps_map, published_gaussian_map, published_prps_map


class TargetRule(BaseModel):
    """How labels become the target map of a network; the section `target` of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["gaussian", "prps", "gaussian-published", "prps-published", "mask"] = Field(
        "gaussian",
        description="a Gaussian at each point, or one weighted by the frame's brightness (PRPS), with "
        "sub-pixel centres, or `-published`, as SPIRE's public code does; or the `mask` itself, at stride 1",
    )
    stride: int = Field(4, ge=1, description="input pixels per map pixel")
    sigma: float = Field(2.0, gt=0, description="of the Gaussian, map pixels")
    radius: int = Field(6, ge=1, description="each response fills a square of 2 * radius + 1 map pixels")

    @model_validator(mode="after")
    def _mask_is_whole(self) -> TargetRule:
        if self.kind == "mask" and self.stride != 1:
            raise ValueError(f"target kind 'mask' needs stride 1, got {self.stride}")
        return self


def make_target(
    frame: npt.NDArray[np.float32],
    points: npt.NDArray[np.floating[Any]],
    rule: TargetRule,
    mask: npt.NDArray[Any] | None = None,
) -> npt.NDArray[np.float32]:
    """The target map of a frame.

    Parameters
    ----------
    frame : (H, W) float32 array
        In 0..1; only the PRPS kinds use its values.
    points : (N, 2) array
        x, y of the targets, in pixels.
    rule : TargetRule
        The kind of target, its stride and size.
    mask : (H, W) bool or float32 array, optional
        A mask or values in 0..1; needed by the kind `mask`.

    Returns
    -------
    (ceil(H / stride), ceil(W / stride)) float32 array
        In 0..1; the published PRPS slightly exceeds that range.

    Raises
    ------
    DataError
        For points that are not finite or not (N, 2), and for a missing mask.

    Examples
    --------
    >>> import numpy as np
    >>> from dimpoint.targets import TargetRule, make_target
    >>> target = make_target(np.zeros((32, 32), np.float32), np.array([[8.0, 16.0]]), TargetRule(stride=4))
    >>> target.shape, target[4, 2].item()
    ((8, 8), 1.0)
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
