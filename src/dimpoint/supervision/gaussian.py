"""Gaussian targets: our sub-pixel ones, and SPIRE's plain variant (arXiv 2604.05363) as published."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.supervision.paste import (
    FloatMap,
    check_points,
    map_centres,
    map_shape,
    nearest_pixels,
    paste_average,
    paste_highest,
)


def gaussian_map(
    points: npt.NDArray[np.floating[Any]],
    shape: tuple[int, int],
    *,
    stride: int = 4,
    sigma: float = 2.0,
    radius: int = 6,
) -> FloatMap:
    """A Gaussian of height 1 at each point's sub-pixel centre; where several meet, the highest holds.

    points: (N, 2) x, y in input pixels, also outside the frame: what reaches into it counts.
    shape: height and width of the input. sigma and radius: map pixels; each Gaussian fills a square of
    2 * radius + 1. Returns (ceil(H / stride), ceil(W / stride)) float32. Raises DataError for points of
    another shape or not finite.
    """
    centres = map_centres(points, stride)
    nearest = nearest_pixels(centres)
    patches = gaussian_patches(centres - nearest, sigma, radius)
    return paste_highest(patches, nearest, map_shape(shape, stride))


def published_gaussian_map(
    points: npt.NDArray[np.floating[Any]],
    shape: tuple[int, int],
    *,
    stride: int = 4,
    sigma: float = 2.0,
    radius: int = 6,
) -> FloatMap:
    """SPIRE's plain Gaussian target with the quirks of its public code; arguments as `gaussian_map`.

    Centres go to the nearest map pixel, overlapping squares are averaged, and points with x = 0 or y = 0
    are dropped.
    """
    nearest = nearest_pixels(map_centres(drop_at_zero(points), stride))
    patches = gaussian_patches(np.zeros(nearest.shape), sigma, radius)
    return paste_average(patches, nearest, map_shape(shape, stride))


def gaussian_patches(offsets: npt.NDArray[np.float64], sigma: float, radius: int) -> FloatMap:
    """(N, 2) offsets x, y from the middle -> (N, 2 * radius + 1, 2 * radius + 1) Gaussians of height 1."""
    distances = np.arange(-radius, radius + 1) - offsets[..., None]
    profiles = np.exp(distances**2 / (-2 * sigma**2)).astype(np.float32)
    patches: FloatMap = profiles[:, 1, :, None] * profiles[:, 0, None, :]
    return patches


def drop_at_zero(points: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """The points that SPIRE's public code keeps: it takes a zero coordinate for a missing point."""
    checked = check_points(points)
    kept: npt.NDArray[np.float64] = checked[(checked != 0).all(axis=1)]
    return kept
