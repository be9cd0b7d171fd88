"""The objects of a mask: 8-connected components in raster order; checks of maps and masks.

Sums of coordinates are integers, so that distances between centroids have no rounding errors and do not
change when a frame is flipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.datasets.masks import binarise
from dimpoint.errors import DataError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Components:
    """The N components of a (H, W) mask, in raster order of their first pixels.

    Parameters
    ----------
    shape : tuple of int
        Height and width.
    pixels : (P,) int64
        Flat indices of the set pixels, rising.
    labels : (P,) int64
        The component of each set pixel.
    areas, sum_x, sum_y : (N,) int64
        Area, and sums of the coordinates, pixels.
    """

    shape: tuple[int, int]
    pixels: Ints
    labels: Ints
    areas: Ints
    sum_x: Ints
    sum_y: Ints

    @classmethod
    def of(cls, mask: Mask) -> Components:
        """The components of a bool mask (H, W)."""
        _, image = cv2.connectedComponents(np.ascontiguousarray(mask).view(np.uint8), connectivity=8)
        return cls.labelled(np.asarray(image))

    @classmethod
    def labelled(cls, image: npt.NDArray[np.int32]) -> Components:
        """The objects of a label image (H, W): 0 is none, every other number is one object."""
        pixels = np.flatnonzero(image)
        labels = _in_raster_order(image.ravel()[pixels].astype(np.int64))
        y, x = np.divmod(pixels, image.shape[1])
        areas = np.bincount(labels)
        sums = (np.bincount(labels, weights=values).astype(np.int64) for values in (x, y))
        return cls((image.shape[0], image.shape[1]), pixels, labels, areas, *sums)

    def __len__(self) -> int:
        return len(self.areas)

    @property
    def centroids(self) -> Floats:
        """(N, 2) float64 x, y."""
        centroids: Floats = np.stack([self.sum_x, self.sum_y], axis=1) / self.areas[:, None]
        return centroids


def _in_raster_order(labels: Ints) -> Ints:
    """Renumber labels from 0 in order of appearance (OpenCV labels block by block)."""
    first = np.full(labels.max(initial=0) + 1, len(labels))
    first[labels[::-1]] = np.arange(len(labels))[::-1]
    number = np.empty_like(first)
    number[np.argsort(first)] = np.arange(len(first))
    return number[labels]


def distances(area: Ints, sum_x: Ints, sum_y: Ints, area2: Ints, sum_x2: Ints, sum_y2: Ints) -> Floats:
    """Distances, in pixels, between centroids given as integer areas and sums of coordinates."""
    dx = _difference(area, sum_x, area2, sum_x2)
    dy = _difference(area, sum_y, area2, sum_y2)
    return np.hypot(dx, dy).astype(np.float64, copy=False)


def _difference(area: Ints, total: Ints, area2: Ints, total2: Ints) -> Floats:
    """total / area - total2 / area2, rounded once.

    Both are counted from a pixel near the second centroid, which keeps the products within 64 bits.
    """
    origin = total2 // area2
    difference: Floats = (total - area * origin) * area2 - (total2 - area2 * origin) * area
    return difference / (area * area2)


def centroid_distances(truth: Components, pred: Components) -> Floats:
    """(T, P) float64: distance in pixels from each true to each predicted centroid."""
    column = (truth.areas[:, None], truth.sum_x[:, None], truth.sum_y[:, None])
    return distances(*column, pred.areas, pred.sum_x, pred.sum_y)


def pair_distances(truth: Components, pred: Components, target: Ints, found: Ints) -> Floats:
    """(K,) float64: distance in pixels of each pair of a true and a predicted centroid, given by indices."""
    one = (truth.areas[target], truth.sum_x[target], truth.sum_y[target])
    return distances(*one, pred.areas[found], pred.sum_x[found], pred.sum_y[found])


Map = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]


def check_map(prob: npt.NDArray[Any], name: str = "the map") -> Map:
    """Return a probability map (H, W) as float32 or float64; a bool mask becomes 0 and 1.

    Raises DataError that names `name` for another shape or type, NaN, or values outside 0..1.
    """
    if prob.ndim != 2 or prob.size == 0:
        raise DataError(
            f"{name}: a probability map must be (height, width) and not empty, got shape {prob.shape}"
        )
    if prob.dtype == np.bool_:
        return prob.astype(np.float32)
    if prob.dtype.kind != "f":
        raise DataError(f"{name}: type {prob.dtype}; {_scaling_hint(prob)}")
    low, high = prob.min(), prob.max()
    if not (low >= 0 and high <= 1):
        raise DataError(f"{name}: {_range_fault(prob, float(low), float(high))}")
    return prob if prob.dtype in (np.float32, np.float64) else prob.astype(np.float32)


def check_pair(prob: npt.NDArray[Any], mask: npt.NDArray[Any], name: str = "the map") -> tuple[Map, Mask]:
    """Return a probability map (see `check_map`) and its mask (bool, or uint8 above 127), both (H, W).

    Raises DataError if the sizes differ, or the mask is of another type or has no value above 127 but 0.
    """
    values = check_map(prob, name)
    if mask.dtype not in (np.bool_, np.uint8):
        raise DataError(f"{name}: the mask must be bool, or uint8 with targets above 127, got {mask.dtype}")
    if mask.shape != prob.shape:
        raise DataError(
            f"{name}: the map is {_size(prob)} but its mask is {_size(mask)}; both must have the frame's size"
        )
    truth = binarise(mask)
    if not truth.any() and mask.any():
        raise DataError(
            f"{name}: the values of its mask reach only {mask.max()}, and a target is above 127; give "
            "mask > 0 if every value above 0 is a target"
        )
    return values, truth


def check_threshold(threshold: float) -> float:
    """Return a threshold in 0..1; DataError for anything else."""
    if not 0 <= threshold <= 1:
        raise DataError(f"threshold {threshold} is outside 0..1")
    return float(threshold)


def above(prob: Map, threshold: float) -> Mask:
    """The pixels with p > threshold, compared as real numbers for any type of map."""
    limit = prob.dtype.type(threshold)
    if float(limit) > float(threshold):  # rounded up: a value equal to it is above the threshold
        limit = np.nextafter(limit, prob.dtype.type(-1))
    return prob > limit


def _size(array: npt.NDArray[Any]) -> str:
    return "x".join(str(length) for length in reversed(array.shape))


def _scaling_hint(prob: npt.NDArray[Any]) -> str:
    if prob.dtype.kind == "u":
        return f"divide by {np.iinfo(prob.dtype).max} to get probabilities in 0..1 as float32"
    return "expected probabilities in 0..1 as float32 or float64"


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
