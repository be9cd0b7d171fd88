"""Sensor counts -> network range, by a rule that travels with the model.

A rule maps a frame linearly so that two counts, the limits, become 0 and 1. It never cuts bits: the
map is done in float32, and values beyond the limits stay beyond 0 and 1 unless the rule says `clip`,
because the hottest pixels of a frame are often the target.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dimpoint.errors import FrameError
from dimpoint.model.display import MIDDLE, ROWS_AT_ONCE, display_limits
from dimpoint.model.validity import Mask

DEEP = (-1.0, 2.0)  # range of deep frames by `display`: beyond it a network has seen nothing in training
FRAME_DTYPES = (np.uint8, np.uint16, np.float32)
_TINY = float(np.finfo(np.float32).tiny)  # a smaller span has no inverse in float32

Polarity: TypeAlias = Literal["white-hot", "black-hot"]
POLARITIES: tuple[Polarity, ...] = ("white-hot", "black-hot")

_SPOT, _RING = 3, 11  # sides of the squares whose means are compared, pixels
_TIMES = 2.0  # as strong as the brightest spot, or more, is the darkest one of a frame that looks inverted


class IntensityRule(BaseModel):
    """How counts become network range.

    - `dtype`: 0 and the largest value of the data type (255, 65535; 1 for float32) become 0 and 1.
    - `range`: the counts `low` and `high` become 0 and 1.
    - `percentile`: each frame's own percentiles `low` and `high` become 0 and 1, but at least
      `min_span` counts are spread over that range, so that a flat frame's noise is not blown up without
      bound. That holds for integers; float frames have no natural count, so there the frame's least and
      largest value take over where the percentiles are equal, and a constant frame becomes 0.5.
    - `display`: 8-bit frames as `dtype`. Deeper frames get the gain and offset that a camera's 8-bit output
      would have (`dimpoint.model.display`), from the percentiles `low` and `high` and the range, so that the
      encoding's own gain and offset drop out.
    """

    # Infinity is refused because JSON, in which the rule travels, cannot hold it.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["dtype", "range", "percentile", "display"] = "dtype"
    low: float = Field(0.0, description="counts for `range`, percent for `percentile` and `display`")
    high: float = Field(1.0, description="counts for `range`, percent for `percentile` and `display`")
    min_span: float = Field(4.0, gt=0, description="least span of the percentiles, counts of integer frames")
    clip: bool = Field(False, description="clip the result to 0..1")

    @model_validator(mode="after")
    def _ordered(self) -> IntensityRule:
        if self.kind != "dtype" and not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.kind == "percentile" and not (self.low >= 0 and self.high <= 100):
            raise ValueError(f"percentiles lie in 0..100, got {self.low} and {self.high}")
        return self

    def limits(self, frame: npt.NDArray[Any], valid: Mask | None = None) -> tuple[float, float]:
        """The two counts that become 0 and 1 for this frame, (H, W) uint8, uint16 or float32.

        valid: (H, W) bool, the pixels that are measurements; the others do not count. None: all are.
        """
        check_frame(frame)
        if self.kind == "range":
            return self.low, self.high
        if self.kind == "dtype" or (self.kind == "display" and frame.dtype == np.uint8):
            return 0.0, 1.0 if frame.dtype == np.float32 else float(np.iinfo(frame.dtype).max)
        if self.kind == "display":
            return self._display(frame, valid, recover=True)
        low, high = percentiles(frame, (self.low, self.high), valid)
        if frame.dtype == np.float32:
            return (low, high) if high - low >= _TINY else _limits_of_flat(frame, valid)
        return _widened(low, high, self.min_span)

    def deep_limits(self, frame: npt.NDArray[Any], valid: Mask | None = None) -> tuple[float, float]:
        """`limits` of the same frame if a deep sensor had taken it: `display` does not see that it is 8-bit.

        For training: the network then sees 8-bit frames as it will see deep ones.
        """
        return (
            self._display(frame, valid, recover=False)
            if self.kind == "display"
            else self.limits(frame, valid)
        )

    def reversed_limits(self, limits: tuple[float, float], dtype: np.dtype[Any]) -> tuple[float, float]:
        """The limits that map a black-hot frame as `limits` map a white-hot one: dark becomes bright."""
        low, high = limits
        deep = self.kind == "display" and dtype != np.uint8
        shift = (1 - 2 * MIDDLE) * (high - low) if deep else 0.0  # the middle stays where it is
        return high - shift, low - shift

    def _display(self, frame: npt.NDArray[Any], valid: Mask | None, *, recover: bool) -> tuple[float, float]:
        integers = frame.dtype != np.float32
        if recover and integers and int(frame.max()) <= 255:
            return 0.0, 255.0  # 8-bit counts in a wider type
        low, high = percentiles(frame, (self.low, self.high), valid)
        least = self.min_span if integers else 0.0
        zero, one = display_limits(frame, (low, high), valid, min_span=least, recover=recover)
        return (zero, one) if one - zero >= _TINY else _widened(zero, one, max(1.0, abs(zero)))

    def apply(
        self, frame: npt.NDArray[Any], limits: tuple[float, float] | None = None
    ) -> npt.NDArray[np.float32]:
        """Map a frame, or a part of one when the whole frame's `limits` are given, to float32.

        frame: (H, W) uint8, uint16 or float32. Raises FrameError for any other array.
        """
        if limits is None:
            limits = self.limits(frame)
        else:
            check_frame(frame)
        low, high = limits
        out = frame.astype(np.float32)
        out -= np.float32(low)
        out *= np.float32(1.0 / (high - low))
        if self.kind == "display" and frame.dtype != np.uint8:
            np.clip(out, *DEEP, out=out)
        return np.clip(out, 0.0, 1.0, out=out) if self.clip else out


def check_frame(frame: npt.NDArray[Any]) -> None:
    """Raise FrameError unless `frame` is (H, W), not empty, finite, and uint8, uint16 or float32."""
    if frame.ndim != 2:
        raise FrameError(f"a frame is a 2-D array (height, width), got shape {frame.shape}")
    if frame.size == 0:
        raise FrameError(f"the frame is empty: shape {frame.shape}")
    if frame.dtype not in FRAME_DTYPES:
        raise FrameError(f"a frame is uint8, uint16 or float32, got {frame.dtype}")
    if frame.dtype == np.float32 and not np.isfinite([frame.min(), frame.max()]).all():
        raise FrameError("the frame holds NaN or infinite counts; fill them with finite ones first")


def percentiles(
    frame: npt.NDArray[Any], percents: tuple[float, ...], valid: Mask | None = None
) -> tuple[float, ...]:
    """Percentiles (0..100) of a frame's counts, of the pixels of the mask `valid` if given.

    Integers: the count at the rank, rounded down (numpy's method "lower"), by histogram. float32: numpy's
    default, which interpolates between counts.
    """
    if frame.dtype == np.float32:
        return tuple(float(v) for v in np.percentile(frame if valid is None else frame[valid], percents))
    levels = int(np.iinfo(frame.dtype).max) + 1
    histogram = np.zeros(levels, np.int64)
    for top in range(0, frame.shape[0], ROWS_AT_ONCE):
        rows = slice(top, top + ROWS_AT_ONCE)
        counts = frame[rows].ravel() if valid is None else frame[rows][valid[rows]]
        histogram += np.bincount(counts, minlength=levels)
    cumulative = np.cumsum(histogram)
    ranks = np.asarray(percents) / 100 * (cumulative[-1] - 1)
    return tuple(float(v) for v in np.searchsorted(cumulative, ranks, side="right"))


def _limits_of_flat(frame: npt.NDArray[Any], valid: Mask | None) -> tuple[float, float]:
    """Limits of a float32 frame whose percentiles are equal: a rare outlier must not become huge."""
    counts = frame if valid is None else frame[valid]
    low, high = float(counts.min()), float(counts.max())
    return (low, high) if high - low >= _TINY else _widened(low, high, max(1.0, abs(low)))


def _widened(low: float, high: float, span: float) -> tuple[float, float]:
    """The same middle, and at least `span` apart."""
    if high - low >= span:
        return low, high
    middle = (low + high) / 2
    return middle - span / 2, middle + span / 2


def looks_black_hot(frame: npt.NDArray[Any]) -> bool:
    """Whether the strongest small spot of a frame, (H, W), is dark, and by far.

    Of 8-bit training frames of NUAA-SIRST, NUDT-SIRST and IRSTD-1K 0 to 1 % look so, and of the same frames
    inverted 22 to 72 %: enough for a hint about many frames, too little for a choice.
    """
    counts = frame.astype(np.float32)
    spots = cv2.blur(counts, (_SPOT, _SPOT)) - cv2.blur(counts, (_RING, _RING))
    return bool(-spots.min() > _TIMES * max(float(spots.max()), 1e-4 * float(np.abs(counts).max())))
