"""The objects of a mask: its 8-connected components, in the order of their first pixels.

Sums of coordinates are kept as integers, so that distances between centroids carry no rounding of their own
and do not change when a frame is flipped.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.metrics.inputs import Mask

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Components:
    """The N components of a (H, W) mask in raster order, which is the field's label order.

    pixels: (P,) flat indices of the set pixels, rising. labels: (P,) which component each belongs to.
    areas, sum_x, sum_y: (N,) int64, pixels.
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
        pixels = np.flatnonzero(mask)
        labels = _in_raster_order(image.ravel()[pixels].astype(np.int64))
        y, x = np.divmod(pixels, mask.shape[1])
        areas = np.bincount(labels)
        sums = (np.bincount(labels, weights=values).astype(np.int64) for values in (x, y))
        return cls((mask.shape[0], mask.shape[1]), pixels, labels, areas, *sums)

    def __len__(self) -> int:
        return len(self.areas)

    @property
    def centroids(self) -> Floats:
        """(N, 2) float64 x, y."""
        centroids: Floats = np.stack([self.sum_x, self.sum_y], axis=1) / self.areas[:, None]
        return centroids


def _in_raster_order(labels: Ints) -> Ints:
    """Renumber labels from 0 in the order in which they appear (OpenCV labels by blocks of pixels)."""
    first = np.full(labels.max(initial=0) + 1, len(labels))
    first[labels[::-1]] = np.arange(len(labels))[::-1]
    number = np.empty_like(first)
    number[np.argsort(first)] = np.arange(len(first))
    return number[labels]


def distances(area: Ints, sum_x: Ints, sum_y: Ints, area2: Ints, sum_x2: Ints, sum_y2: Ints) -> Floats:
    """Pixels between centroids given as integer areas and sums of coordinates (any shapes that broadcast)."""
    dx = _difference(area, sum_x, area2, sum_x2)
    dy = _difference(area, sum_y, area2, sum_y2)
    return np.hypot(dx, dy).astype(np.float64, copy=False)


def _difference(area: Ints, total: Ints, area2: Ints, total2: Ints) -> Floats:
    """total / area - total2 / area2, rounded once; both are counted from a pixel near the second centroid,
    which keeps the products within 64 bits."""
    origin = total2 // area2
    difference: Floats = (total - area * origin) * area2 - (total2 - area2 * origin) * area
    return difference / (area * area2)


def centroid_distances(truth: Components, pred: Components) -> Floats:
    """(T, P) float64, pixels, from each true to each predicted centroid."""
    column = (truth.areas[:, None], truth.sum_x[:, None], truth.sum_y[:, None])
    return distances(*column, pred.areas, pred.sum_x, pred.sum_y)
