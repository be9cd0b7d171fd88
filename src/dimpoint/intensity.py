"""Sensor counts -> network range, by a rule that travels with the model.

A rule maps a frame linearly so that two counts, the limits, become 0 and 1. It never cuts bits: the
map is done in float32, and values beyond the limits stay beyond 0 and 1 unless the rule says `clip`,
because the hottest pixels of a frame are often the target.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dimpoint.errors import FrameError

FRAME_DTYPES = (np.uint8, np.uint16, np.float32)
_ROWS_AT_ONCE = 512  # bounds the memory of a histogram over a 10,000 x 10,000 frame


class IntensityRule(BaseModel):
    """How counts become network range.

    - `dtype`: 0 and the largest value of the data type (255, 65535; 1 for float32) become 0 and 1.
    - `range`: the counts `low` and `high` become 0 and 1.
    - `percentile`: each frame's own percentiles `low` and `high` become 0 and 1, but at least
      `min_span` counts are spread over that range (integer frames only), so that a flat frame's noise
      is not blown up without bound.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["dtype", "range", "percentile"] = "dtype"
    low: float = Field(0.0, description="counts for `range`, percent for `percentile`; unused for `dtype`")
    high: float = Field(1.0, description="counts for `range`, percent for `percentile`; unused for `dtype`")
    min_span: float = Field(4.0, gt=0, description="least span in counts for `percentile` on integer frames")
    clip: bool = Field(False, description="clip the result to 0..1")

    @model_validator(mode="after")
    def _ordered(self) -> IntensityRule:
        if self.kind != "dtype" and not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.kind == "percentile" and not (0 <= self.low and self.high <= 100):
            raise ValueError(f"percentiles lie in 0..100, got {self.low} and {self.high}")
        return self

    def limits(self, frame: npt.NDArray[Any]) -> tuple[float, float]:
        """The two counts that become 0 and 1 for this frame, (H, W) uint8, uint16 or float32."""
        check_frame(frame)
        if self.kind == "range":
            return self.low, self.high
        if self.kind == "dtype":
            return 0.0, 1.0 if frame.dtype == np.float32 else float(np.iinfo(frame.dtype).max)
        low, high = percentiles(frame, (self.low, self.high))
        # A float frame has no natural count, so only an exactly flat one needs a span.
        least = 1e-6 if frame.dtype == np.float32 else self.min_span
        if high - low < least:
            middle = (low + high) / 2
            low, high = middle - least / 2, middle + least / 2
        return low, high

    def apply(
        self, frame: npt.NDArray[Any], limits: tuple[float, float] | None = None
    ) -> npt.NDArray[np.float32]:
        """Map a frame, or a part of one when the whole frame's `limits` are given, to float32.

        frame: (H, W) uint8, uint16 or float32. Raises FrameError for any other array.
        """
        low, high = self.limits(frame) if limits is None else limits
        out = frame.astype(np.float32)
        out -= np.float32(low)
        out *= np.float32(1.0 / (high - low))
        return np.clip(out, 0.0, 1.0, out=out) if self.clip else out


def check_frame(frame: npt.NDArray[Any]) -> None:
    """Raise FrameError unless `frame` is (H, W), not empty, and uint8, uint16 or float32."""
    if frame.ndim != 2:
        raise FrameError(f"a frame is a 2-D array (height, width), got shape {frame.shape}")
    if frame.size == 0:
        raise FrameError(f"the frame is empty: shape {frame.shape}")
    if frame.dtype not in FRAME_DTYPES:
        raise FrameError(f"a frame is uint8, uint16 or float32, got {frame.dtype}")


def percentiles(frame: npt.NDArray[Any], percents: tuple[float, ...]) -> tuple[float, ...]:
    """Percentiles of a frame's counts: exact for integers (by histogram), numpy's own for float32."""
    if frame.dtype == np.float32:
        return tuple(float(v) for v in np.percentile(frame, percents))
    levels = int(np.iinfo(frame.dtype).max) + 1
    histogram = np.zeros(levels, np.int64)
    for top in range(0, frame.shape[0], _ROWS_AT_ONCE):
        histogram += np.bincount(frame[top : top + _ROWS_AT_ONCE].ravel(), minlength=levels)
    cumulative = np.cumsum(histogram)
    ranks = np.asarray(percents) / 100 * (frame.size - 1)
    return tuple(float(v) for v in np.searchsorted(cumulative, ranks, side="right"))
