"""`InputRule`: what a network sees of a frame, the same in recipes, training views, records and `Detector`.

Order: counts -> network range (`intensity`), replacement of hot pixels, then either fitting into one size
(`fit`) or magnification (`scale`), and padding.
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

# Keys of records before format 5, and of recipes, that are now in the section `input`.
FORMER_KEYS = {
    "intensity": "intensity",
    "input_scale": "scale",
    "magnify_below": "magnify_below",
    "native_share": "native_share",
    "replace_hot_pixels": "replace_hot_pixels",
    "padding": "padding",
}

MOST_FIT = 4096  # pixels, a side of `fit`

HOT_SHARE = 0.88  # least ratio of a hot pixel's height above the highest neighbour to that above their mean
HOT_LEAST = 0.06  # least height of a hot pixel above the highest neighbour, unit range
_RING = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)


class InputRule(BaseModel):
    """What a network sees of a frame; the section `input` of recipes and model records."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    intensity: IntensityRule = Field(
        default_factory=lambda: IntensityRule(kind="display", low=1, high=99),
        description="sensor counts -> network range",
    )
    scale: Literal[1, 2] = Field(1, description="magnification of every frame")
    magnify_below: int | None = Field(
        None, ge=1, description="magnify only frames of fewer pixels than this; none: all frames"
    )
    native_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="magnified frames are also processed at their own scale: in this fraction of their "
        "training views and, in detection, with this weight",
    )
    replace_hot_pixels: bool = Field(
        False, description="replace lone hot pixels of magnified frames by the mean of their neighbours"
    )
    padding: Literal["mirror", "mean"] = Field(
        "mirror",
        description="right and below, up to the size that the network needs: the mirror image, or "
        "`mean` (0 after standardisation)",
    )
    fit: tuple[int, int] | None = Field(
        None,
        description="width and height that every frame is fitted into, with its aspect ratio, centred, 0 "
        "around it (SPIRE's warp); none: frames keep their scale",
    )

    @model_validator(mode="after")
    def _one_size(self) -> InputRule:
        if self.fit is not None and not 16 <= min(self.fit) <= max(self.fit) <= MOST_FIT:
            raise ValueError(
                f"fit: width and height must be at least 16 and at most {MOST_FIT}, got {list(self.fit)}"
            )
        if self.fit is not None and self.scale > 1:
            raise ValueError("fit: fitted frames are not magnified; set scale to 1 or fit to none")
        return self

    def scale_of(self, shape: Sequence[int]) -> int:
        """The magnification of a frame of (height, width)."""
        small = self.magnify_below is None or shape[0] * shape[1] < self.magnify_below
        return self.scale if small else 1

    def scales_of(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The magnifications at which a frame is processed: its own, and with a `native_share` also 1."""
        scale = self.scale_of(shape)
        return (scale, 1) if scale > 1 and self.native_share else (scale,)

    def size_of(self, shape: Sequence[int], scale: int) -> tuple[int, int]:
        """Height and width of the input before padding, at one of `scales_of`."""
        if self.fit is not None:
            return self.fit[1], self.fit[0]
        return shape[0] * scale, shape[1] * scale

    def fit_map(self, shape: Sequence[int]) -> Affine | None:
        """The map (2, 3) from frame pixels to input pixels, for a rule with `fit`; otherwise None."""
        return None if self.fit is None else fit_map(shape, self.fit)

    def unit_range(
        self, counts: npt.NDArray[Any], limits: tuple[float, float], shape: Sequence[int]
    ) -> npt.NDArray[np.float32]:
        """Map counts to network range, and replace hot pixels.

        Parameters
        ----------
        counts : (h, w) array
            A frame, or a part of one.
        limits : tuple of float
            Counts that become 0 and 1, from `intensity.limits` of the whole frame.
        shape : sequence of int
            Height and width of the whole frame.

        Returns
        -------
        (h, w) float32 array
        """
        seen = self.intensity.apply(counts, limits)
        if self.replace_hot_pixels and self.scale_of(shape) > 1:
            seen = replace_hot_pixels(seen)
        return seen


def fit_map(shape: Sequence[int], size: tuple[int, int]) -> Affine:
    """The map that fits a frame into a size, keeping its aspect ratio.

    The frame's corner pixels become the corner pixels of its centred place, as in SPIRE's code.

    Parameters
    ----------
    shape : sequence of int
        Height and width of the frame.
    size : tuple of int
        Width and height to fit into.

    Returns
    -------
    (2, 3) float64 array
        Frame pixels -> input pixels.
    """
    height, width = shape[:2]
    scale = min(size[0] / width, size[1] / height)
    spread_x = (width * scale - 1) / max(width - 1, 1)
    spread_y = (height * scale - 1) / max(height - 1, 1)
    left = (size[0] - 1 - spread_x * (width - 1)) / 2
    top = (size[1] - 1 - spread_y * (height - 1)) / 2
    return np.array([[spread_x, 0.0, left], [0.0, spread_y, top]])


def under_input(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a record or recipe with its `FORMER_KEYS` moved into the section `input`."""
    former = {key: value for key, value in content.items() if key in FORMER_KEYS}
    if not former or not isinstance(content.get("input", {}), dict):
        return content
    moved = {FORMER_KEYS[key]: value for key, value in former.items()}
    rest = {key: value for key, value in content.items() if key not in FORMER_KEYS}
    return {**rest, "input": {**content.get("input", {}), **moved}}


def replace_hot_pixels(frame: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Replace each lone hot pixel by the mean of its neighbours.

    Optics spread a point over neighbouring pixels; a pixel far above all eight neighbours is a defect of the
    sensor. Magnified, it would resemble a target. The limits `HOT_SHARE` and `HOT_LEAST` were set on labelled
    targets (docs/models.md).

    Parameters
    ----------
    frame : (H, W) float32 array
        In unit range.

    Returns
    -------
    (H, W) float32 array
    """
    highest = cv2.dilate(frame, _RING)
    sums = cv2.boxFilter(frame, -1, (3, 3), normalize=False, borderType=cv2.BORDER_REFLECT_101)
    mean = (sums - frame) / 8
    alone = frame - highest
    hot = (alone > HOT_LEAST) & (alone > HOT_SHARE * (frame - mean))
    return np.where(hot, mean, frame).astype(np.float32, copy=False)


def round_up(value: int, multiple: int) -> int:
    """The least multiple of `multiple` that is not below `value`, such as a padded side."""
    return -(-value // multiple) * multiple
