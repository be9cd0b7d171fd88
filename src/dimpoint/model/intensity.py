"""Intensity rules: sensor counts -> network range. The rule is stored with the model.

A rule maps a frame linearly so that two counts, the limits, become 0 and 1. The map is computed in float32,
and values beyond the limits are kept unless the rule says `clip`, because the hottest pixels of a frame are
often the target.
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

DEEP = (-1.0, 2.0)  # deep frames are clipped to this range by `display`; training covers no more
FRAME_DTYPES = (np.uint8, np.uint16, np.float32)
_TINY = float(np.finfo(np.float32).tiny)  # spans below this have no inverse in float32

Polarity: TypeAlias = Literal["white-hot", "black-hot"]
POLARITIES: tuple[Polarity, ...] = ("white-hot", "black-hot")

_SPOT, _RING = 3, 11  # sides of the squares whose means are compared, pixels
_INVERTED = 2.0  # ratio of the darkest to the brightest spot from which a frame counts as inverted


class IntensityRule(BaseModel):
    """How counts are mapped to network range.

    - `dtype`: 0 and the largest value of the data type (255, 65535; 1 for float32) become 0 and 1.
    - `range`: the counts `low` and `high` become 0 and 1.
    - `percentile`: each frame's own percentiles `low` and `high` become 0 and 1. In integer frames they are
      at least `min_span` counts apart, which limits the amplification of noise in flat frames. Float frames
      have no natural count: where their percentiles are equal, the least and largest value are used, and a
      constant frame becomes 0.5.
    - `display`: 8-bit frames as `dtype`. Deeper frames get the gain and offset of a camera's 8-bit output
      (`dimpoint.model.display`), from the percentiles `low` and `high` and the range, so that gain and offset
      of the encoding have no effect.

    Examples
    --------
    >>> import numpy as np
    >>> IntensityRule(kind="range", low=100, high=300).apply(np.uint16([[100, 200], [300, 500]]))
    array([[0. , 0.5],
           [1. , 2. ]], dtype=float32)
    """

    # Infinity is refused because JSON cannot represent it.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["dtype", "range", "percentile", "display"] = "dtype"
    low: float = Field(0.0, description="counts for `range`, percent for `percentile` and `display`")
    high: float = Field(1.0, description="counts for `range`, percent for `percentile` and `display`")
    min_span: float = Field(
        4.0, gt=0, description="least distance of the percentiles, counts of integer frames"
    )
    clip: bool = Field(False, description="clip the result to 0..1")

    @model_validator(mode="after")
    def _ordered(self) -> IntensityRule:
        if self.kind != "dtype" and not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.kind in ("percentile", "display") and not (self.low >= 0 and self.high <= 100):
            raise ValueError(f"percentiles lie in 0..100, got {self.low} and {self.high}")
        return self

    def limits(self, frame: npt.NDArray[Any], valid: Mask | None = None) -> tuple[float, float]:
        """The two counts that become 0 and 1.

        Parameters
        ----------
        frame : (H, W) array
            uint8, uint16 or float32.
        valid : (H, W) bool array, optional
            Pixels that are measurements; the others are ignored. Default: all.

        Returns
        -------
        low, high : float

        Raises
        ------
        FrameError
            For another array.
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
        """`limits` of the frame as if a deep sensor had taken it: `display` does not treat 8-bit frames
        specially.

        Used in training, so that the network sees 8-bit frames as it will see deep ones.
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
        shift = (1 - 2 * MIDDLE) * (high - low) if deep else 0.0  # keeps the middle in place
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
        """Map a frame to network range.

        Parameters
        ----------
        frame : (H, W) array
            uint8, uint16 or float32; a whole frame, or a part of one with its `limits`.
        limits : tuple of float, optional
            Counts that become 0 and 1. Default: those of `frame`.

        Returns
        -------
        (H, W) float32 array

        Raises
        ------
        FrameError
            For another array.
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
        raise FrameError("the frame contains NaN or infinite counts; replace them with finite values first")


def percentiles(
    frame: npt.NDArray[Any], percents: tuple[float, ...], valid: Mask | None = None
) -> tuple[float, ...]:
    """Percentiles of a frame's counts.

    Parameters
    ----------
    frame : (H, W) array
        uint8, uint16 or float32.
    percents : tuple of float
        In 0..100.
    valid : (H, W) bool array, optional
        Pixels that count. Default: all.

    Returns
    -------
    tuple of float
        For integers the count at the rank, rounded down (numpy's method "lower"); for float32 numpy's
        default, which interpolates.
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
    """Limits of a float32 frame whose percentiles are equal: the range, so that outliers stay moderate."""
    counts = frame if valid is None else frame[valid]
    low, high = float(counts.min()), float(counts.max())
    return (low, high) if high - low >= _TINY else _widened(low, high, max(1.0, abs(low)))


def _widened(low: float, high: float, span: float) -> tuple[float, float]:
    """Limits with the same middle, at least `span` apart."""
    if high - low >= span:
        return low, high
    middle = (low + high) / 2
    return middle - span / 2, middle + span / 2


def looks_black_hot(frame: npt.NDArray[Any]) -> bool:
    """Whether the strongest small spot of a frame is dark, by a factor of two or more.

    Of 8-bit training frames of NUAA-SIRST, NUDT-SIRST and IRSTD-1K this holds for 0 to 1 %, and for 22 to 72
    % of the same frames inverted: enough for a hint about many frames, not for a decision about one.

    Parameters
    ----------
    frame : (H, W) array
        Counts.
    """
    counts = frame.astype(np.float32)
    spots = cv2.blur(counts, (_SPOT, _SPOT)) - cv2.blur(counts, (_RING, _RING))
    return bool(-spots.min() > _INVERTED * max(float(spots.max()), 1e-4 * float(np.abs(counts).max())))
