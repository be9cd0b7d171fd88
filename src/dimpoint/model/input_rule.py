"""`InputRule`: what a network sees of a frame, the same in recipe, training views, record and `Detector`.

The order is: counts -> network range (`intensity`), lone hot pixels, then either the frame fitted into one
size (`fit`) or the frame at its own scale or magnified (`scale`), and padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dimpoint.model.intensity import IntensityRule

Affine = npt.NDArray[np.float64]  # (2, 3)

# Before format 5 of the record these stood in it, and in recipes, one by one.
FORMER_KEYS = {
    "intensity": "intensity",
    "input_scale": "scale",
    "magnify_below": "magnify_below",
    "native_share": "native_share",
    "replace_hot_pixels": "replace_hot_pixels",
    "padding": "padding",
}

HOT_SHARE = (
    0.88  # of its height above the neighbours' mean, that a hot pixel also stands above the highest one
)
HOT_LEAST = 0.06  # above the highest neighbour, on the unit range
_RING = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)


class InputRule(BaseModel):
    """What a network sees of a frame."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    intensity: IntensityRule = Field(
        default_factory=lambda: IntensityRule(kind="display", low=1, high=99),
        description="sensor counts -> network range",
    )
    scale: Literal[1, 2] = Field(1, description="magnification of every frame")
    magnify_below: int | None = Field(
        None, ge=1, description="`scale` is for frames of fewer pixels than this; none: for all"
    )
    native_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="magnified frames are also seen as they are: in this part of their training views and, "
        "in use, with this weight",
    )
    replace_hot_pixels: bool = Field(
        False, description="lone hot pixels of magnified frames become the mean of their neighbours"
    )
    padding: Literal["mirror", "mean"] = Field(
        "mirror",
        description="right and below, up to the size that the network needs: the frame's mirror image, or "
        "`mean` (0 once standardised)",
    )
    fit: tuple[int, int] | None = Field(
        None,
        description="width and height that every frame is fitted into, aspect kept, in the middle, 0 around "
        "it (SPIRE's warp); none: frames keep their scale",
    )

    @model_validator(mode="after")
    def _one_size(self) -> InputRule:
        if self.fit is not None and min(self.fit) < 16:
            raise ValueError(f"fit: need a width and a height of at least 16, got {list(self.fit)}")
        if self.fit is not None and self.scale > 1:
            raise ValueError("fit: fitted frames are not magnified; set scale to 1 or fit to none")
        return self

    def scale_of(self, shape: Sequence[int]) -> int:
        """How many times a frame of (height, width) is magnified."""
        small = self.magnify_below is None or shape[0] * shape[1] < self.magnify_below
        return self.scale if small else 1

    def scales_of(self, shape: Sequence[int]) -> tuple[int, ...]:
        """At which magnifications that frame is seen: its own, and 1 beside that with a `native_share`."""
        scale = self.scale_of(shape)
        return (scale, 1) if scale > 1 and self.native_share else (scale,)

    def size_of(self, shape: Sequence[int], scale: int) -> tuple[int, int]:
        """Height and width, before padding, of what is seen of a frame at one of its `scales_of`."""
        if self.fit is not None:
            return self.fit[1], self.fit[0]
        return shape[0] * scale, shape[1] * scale

    def fit_map(self, shape: Sequence[int]) -> Affine | None:
        """The map (2, 3) from the pixels of a frame of (height, width) to those of the `fit`, if any."""
        return None if self.fit is None else fit_map(shape, self.fit)

    def unit_range(
        self, counts: npt.NDArray[Any], limits: tuple[float, float], shape: Sequence[int]
    ) -> npt.NDArray[np.float32]:
        """A frame of `shape`, or a part of it, in network range with its hot pixels replaced.

        limits: of the whole frame, by `intensity.limits`.
        """
        seen = self.intensity.apply(counts, limits)
        if self.replace_hot_pixels and self.scale_of(shape) > 1:
            seen = replace_hot_pixels(seen)
        return seen


def fit_map(shape: Sequence[int], size: tuple[int, int]) -> Affine:
    """The map (2, 3) that fits a frame of (height, width) into a (width, height), aspect kept.

    The frame's corner pixels become the corner pixels of its place in the middle, as SPIRE's warp has it.
    """
    height, width = shape[:2]
    scale = min(size[0] / width, size[1] / height)
    spread_x = (width * scale - 1) / max(width - 1, 1)
    spread_y = (height * scale - 1) / max(height - 1, 1)
    left = (size[0] - 1 - spread_x * (width - 1)) / 2
    top = (size[1] - 1 - spread_y * (height - 1)) / 2
    return np.array([[spread_x, 0.0, left], [0.0, spread_y, top]])


def under_input(content: dict[str, Any]) -> dict[str, Any]:
    """A record's or recipe's content with its `FORMER_KEYS`, if any, moved into the section `input`."""
    former = {key: value for key, value in content.items() if key in FORMER_KEYS}
    if not former or not isinstance(content.get("input", {}), dict):
        return content
    moved = {FORMER_KEYS[key]: value for key, value in former.items()}
    rest = {key: value for key, value in content.items() if key not in FORMER_KEYS}
    return {**rest, "input": {**content.get("input", {}), **moved}}


def replace_hot_pixels(frame: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A frame, (H, W) float32 in unit range, each lone hot pixel replaced by its neighbours' mean.

    Optics spread a point over neighbouring pixels; a pixel that stands alone above all eight of them is the
    sensor's. Magnified, it would look like a target. Cameras replace bad pixels by their neighbours too. The
    two limits were set on labelled targets (docs/models.md).
    """
    highest = cv2.dilate(frame, _RING)
    sums = cv2.boxFilter(frame, -1, (3, 3), normalize=False, borderType=cv2.BORDER_REFLECT_101)
    mean = (sums - frame) / 8
    alone = frame - highest
    hot = (alone > HOT_LEAST) & (alone > HOT_SHARE * (frame - mean))
    return np.where(hot, mean, frame).astype(np.float32, copy=False)
