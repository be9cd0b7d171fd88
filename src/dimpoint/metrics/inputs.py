"""What a probability map and its mask must be before anything is counted on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.data.masks import binarise
from dimpoint.errors import DataError

Map = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]


def check_map(prob: npt.NDArray[Any], name: str = "the map") -> Map:
    """A probability map (H, W) with values in 0..1, as float32 or float64; a bool mask becomes 0 and 1.

    Raises DataError, naming `name`, for another shape or type, for NaN, and for values outside 0..1.
    """
    if prob.ndim != 2 or prob.size == 0:
        raise DataError(f"{name}: shape {prob.shape}; a probability map is (height, width), not empty")
    if prob.dtype == np.bool_:
        return prob.astype(np.float32)
    if prob.dtype.kind != "f":
        raise DataError(f"{name}: type {prob.dtype}; {_scaling_hint(prob)}")
    low, high = prob.min(), prob.max()
    if not (low >= 0 and high <= 1):
        raise DataError(f"{name}: {_range_fault(prob, float(low), float(high))}")
    return prob if prob.dtype in (np.float32, np.float64) else prob.astype(np.float32)


def check_pair(prob: npt.NDArray[Any], mask: npt.NDArray[Any], name: str = "the map") -> tuple[Map, Mask]:
    """A probability map and its mask, both (H, W); see `check_map`. The mask is bool, or uint8 above 127.

    Raises DataError if the sizes differ or the mask is of another type.
    """
    values = check_map(prob, name)
    if mask.dtype not in (np.bool_, np.uint8):
        raise DataError(f"{name}: the mask is {mask.dtype}; bool, or uint8 with targets above 127, is right")
    if mask.shape != prob.shape:
        raise DataError(
            f"{name}: the map is {_size(prob)} but its mask is {_size(mask)}; both must have the frame's size"
        )
    return values, binarise(mask)


def check_threshold(threshold: float) -> float:
    """A threshold in 0..1; raises DataError for anything else."""
    if not 0 <= threshold <= 1:
        raise DataError(f"threshold {threshold} is outside 0..1, the range of the probability maps")
    return float(threshold)


def above(prob: Map, threshold: float) -> Mask:
    """The pixels with p > threshold, compared as real numbers whatever the type of the map."""
    limit = prob.dtype.type(threshold)
    if float(limit) > float(threshold):  # rounded up: a value that equals it is above the threshold
        limit = np.nextafter(limit, prob.dtype.type(-1))
    return prob > limit


def _size(array: npt.NDArray[Any]) -> str:
    return "x".join(str(length) for length in reversed(array.shape))


def _scaling_hint(prob: npt.NDArray[Any]) -> str:
    if prob.dtype.kind == "u":
        return f"divide by {np.iinfo(prob.dtype).max} to get probabilities in 0..1 as float32"
    return "probabilities in 0..1 as float32 or float64 are right"


def _range_fault(prob: Map, low: float, high: float) -> str:
    if np.isnan(prob).any():
        y, x = np.argwhere(np.isnan(prob))[0]
        return f"NaN at x={x}, y={y} ({np.isnan(prob).sum()} in all); every pixel needs a probability"
    hint = "probabilities lie in 0..1"
    if low >= 0 and high <= 255 and (prob == np.rint(prob)).all():
        hint += "; these look like 8-bit values: divide by 255"
    elif low < 0:
        hint += "; these look like logits: apply a sigmoid first"
    return f"values from {low:.4g} to {high:.4g}; {hint}"
