"""Gaussian response maps from point labels.

Map pixel j of a stride-s map is input pixel s * j, so the map of an (H, W) frame is
(ceil(H / s), ceil(W / s)).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dimpoint.errors import DataError


class Window(NamedTuple):
    """A point's square of map pixels, cut at the borders; `left` and `top` are its uncut corner."""

    rows: slice
    columns: slice
    top: int
    left: int


def gaussian_map(
    points: npt.NDArray[np.floating[Any]],
    shape: tuple[int, int],
    *,
    stride: int = 4,
    sigma: float = 2.0,
    radius: int = 6,
    subpixel: bool = True,
) -> npt.NDArray[np.float32]:
    """A Gaussian of height 1 at each point; where several meet, the highest holds.

    points: (N, 2) x, y in input pixels, any position; parts outside the frame are cut.
    shape: height and width of the input. sigma and radius: map pixels; each Gaussian fills a square of
    2 * radius + 1. subpixel: centres stay between map pixels, else they go to the nearest one.
    Returns (ceil(H / stride), ceil(W / stride)) float32. Raises DataError for points of another shape
    or not finite.
    """
    centres = map_centres(points, stride)
    nearest = nearest_pixels(centres)
    response = np.zeros(map_shape(shape, stride), np.float32)
    profiles = gaussian_profiles(centres if subpixel else nearest, nearest, sigma, radius)
    for index, window in windows(nearest, radius, response.shape):
        across, down = profiles[index]
        patch = response[window.rows, window.columns]
        gaussian = np.multiply.outer(
            down[window.rows.start - window.top : window.rows.stop - window.top],
            across[window.columns.start - window.left : window.columns.stop - window.left],
        )
        np.maximum(patch, gaussian, out=patch)
    return response


def map_shape(shape: tuple[int, int], stride: int) -> tuple[int, int]:
    """Height and width of the stride-`stride` map of an (H, W) input."""
    return -(-shape[0] // stride), -(-shape[1] // stride)


def map_centres(points: npt.NDArray[np.floating[Any]], stride: int) -> npt.NDArray[np.float64]:
    """(N, 2) points in input pixels -> map pixels; raises DataError if they are no points."""
    array = np.asarray(points, np.float64)
    if array.size == 0:
        return np.zeros((0, 2))
    if array.ndim != 2 or array.shape[1] != 2:
        raise DataError(f"points are (N, 2) x, y, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise DataError("points must be finite, got NaN or infinity")
    return array / stride


def nearest_pixels(centres: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """(N, 2) positions -> the nearest pixels, halves to the right and down."""
    return np.floor(centres + 0.5).astype(np.int64)


def gaussian_profiles(
    centres: npt.NDArray[Any], nearest: npt.NDArray[np.int64], sigma: float, radius: int
) -> npt.NDArray[np.float32]:
    """(N, 2, 2 * radius + 1): each Gaussian's profile along x and along y in its own window."""
    offsets = np.arange(-radius, radius + 1) - (centres - nearest)[..., None]
    profiles: npt.NDArray[np.float32] = np.exp(-(offsets**2) / (2 * sigma**2)).astype(np.float32)
    return profiles


def windows(
    nearest: npt.NDArray[np.int64], radius: int, shape: tuple[int, ...]
) -> Iterator[tuple[int, Window]]:
    """Each point's number and its window, cut at the map's borders; points without any are left out."""
    height, width = shape
    for index, (x, y) in enumerate(nearest.tolist()):
        left, top = x - radius, y - radius
        rows = slice(max(top, 0), min(y + radius + 1, height))
        columns = slice(max(left, 0), min(x + radius + 1, width))
        if rows.start < rows.stop and columns.start < columns.stop:
            yield index, Window(rows, columns, top, left)
