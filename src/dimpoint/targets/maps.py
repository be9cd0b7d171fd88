"""Target maps: Gaussians at points, and PRPS, Gaussians weighted by the brightness around the point.

Map pixel j of a stride-s map is input pixel s * j, so the map of an (H, W) frame is
(ceil(H / s), ceil(W / s)). `gaussian_map` and `prps_map` have sub-pixel centres; `published_gaussian_map` and
`published_prps_map` reproduce SPIRE's public code (arXiv 2604.05363).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.errors import DataError

FloatMap = npt.NDArray[np.float32]
_FAR = 1e9  # map pixels; positions are clipped to this, to avoid integer overflow
_SEARCH = 5  # input pixels, largest distance of the brightest pixel from the point
_GREY_SUM = 0.9999  # grey = 0.2989 R + 0.5870 G + 0.1140 B of three equal channels
_TINY = float(np.finfo(np.float32).tiny)


def map_shape(shape: tuple[int, int], stride: int) -> tuple[int, int]:
    """Height and width of the map of an (H, W) input at a stride."""
    return -(-shape[0] // stride), -(-shape[1] // stride)


def check_points(points: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Points (N, 2) as float64. Raises DataError for another shape, NaN or infinity."""
    array = np.asarray(points, np.float64)
    if array.size == 0:
        return np.zeros((0, 2))
    if array.ndim != 2 or array.shape[1] != 2:
        raise DataError(f"points are (N, 2) x, y, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise DataError("points must be finite, got NaN or infinity")
    return array


def map_centres(points: npt.NDArray[Any], stride: int) -> npt.NDArray[np.float64]:
    """Points (N, 2) in input pixels -> positions in map pixels."""
    return np.clip(check_points(points) / stride, -_FAR, _FAR)


def nearest_pixels(centres: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Positions (N, 2) -> nearest pixels; halves are rounded right and down."""
    return np.floor(centres + 0.5).astype(np.int64)


def windows(
    pixels: npt.NDArray[np.int64], radius: int, shape: tuple[int, ...]
) -> Iterator[tuple[int, tuple[slice, slice], tuple[slice, slice]]]:
    """Squares around pixels, clipped at the borders of a map.

    Parameters
    ----------
    pixels : (N, 2) int64 array
        x, y of the centres.
    radius : int
        A square has 2 * radius + 1 pixels along a side.
    shape : tuple of int
        Height and width of the map.

    Yields
    ------
    index : int
        Number of the pixel; squares outside the map are skipped.
    place, part : tuple of slice
        The clipped square on the map, and in the full square.
    """
    height, width = shape
    for index, (x, y) in enumerate(pixels.tolist()):
        left, top = x - radius, y - radius
        right, bottom = min(x + radius + 1, width), min(y + radius + 1, height)
        column, row = max(left, 0), max(top, 0)
        if row < bottom and column < right:
            place = slice(row, bottom), slice(column, right)
            part = slice(row - top, bottom - top), slice(column - left, right - left)
            yield index, place, part


def paste_highest(patches: FloatMap, pixels: npt.NDArray[np.int64], shape: tuple[int, int]) -> FloatMap:
    """A map of `shape` with (N, 2r+1, 2r+1) patches centred on N pixels; overlaps take the maximum."""
    pasted = np.zeros(shape, np.float32)
    for index, place, part in windows(pixels, patches.shape[1] // 2, shape):
        np.maximum(pasted[place], patches[index][part], out=pasted[place])
    return pasted


def paste_average(patches: FloatMap, pixels: npt.NDArray[np.int64], shape: tuple[int, int]) -> FloatMap:
    """A map of `shape` with (N, 2r+1, 2r+1) patches centred on N pixels; overlaps take the mean."""
    pasted = np.zeros(shape, np.float32)
    squares = np.zeros(shape, np.float32)
    for index, place, part in windows(pixels, patches.shape[1] // 2, shape):
        pasted[place] += patches[index][part]
        squares[place] += 1
    pasted /= np.maximum(squares, np.float32(1))
    return pasted


def gaussian_map(
    points: npt.NDArray[np.floating[Any]],
    shape: tuple[int, int],
    *,
    stride: int = 4,
    sigma: float = 2.0,
    radius: int = 6,
) -> FloatMap:
    """A Gaussian of height 1 at the sub-pixel centre of each point; overlaps take the maximum.

    Parameters
    ----------
    points : (N, 2) array
        x, y in input pixels; of points outside the frame, the part inside counts.
    shape : tuple of int
        Height and width of the input.
    stride : int
        Input pixels per map pixel. Default: 4.
    sigma : float
        Standard deviation, map pixels. Default: 2.
    radius : int
        Each Gaussian fills a square of 2 * radius + 1 map pixels. Default: 6.

    Returns
    -------
    (ceil(H / stride), ceil(W / stride)) float32 array

    Raises
    ------
    DataError
        For points that are not finite or not (N, 2).
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
    """The plain Gaussian target of SPIRE's public code; parameters as `gaussian_map`.

    Centres are rounded to the nearest map pixel, overlapping squares are averaged, and points with x = 0 or y
    = 0 are dropped.
    """
    nearest = nearest_pixels(map_centres(drop_at_zero(points), stride))
    patches = gaussian_patches(np.zeros(nearest.shape), sigma, radius)
    return paste_average(patches, nearest, map_shape(shape, stride))


def gaussian_patches(offsets: npt.NDArray[np.float64], sigma: float, radius: int) -> FloatMap:
    """Gaussians of height 1.

    Parameters
    ----------
    offsets : (N, 2) float64 array
        x, y of the centres from the middle of the patch.
    sigma : float
        Standard deviation, pixels.
    radius : int
        Half the side of a patch, pixels.

    Returns
    -------
    (N, 2 * radius + 1, 2 * radius + 1) float32 array
    """
    distances = np.arange(-radius, radius + 1) - offsets[..., None]
    profiles = np.exp(distances**2 / (-2 * sigma**2)).astype(np.float32)
    patches: FloatMap = profiles[:, 1, :, None] * profiles[:, 0, None, :]
    return patches


def drop_at_zero(points: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """The points that SPIRE's public code keeps: a zero coordinate means a missing point there."""
    checked = check_points(points)
    kept: npt.NDArray[np.float64] = checked[(checked != 0).all(axis=1)]
    return kept


def prps_map(
    frame: FloatMap,
    points: npt.NDArray[np.floating[Any]],
    *,
    stride: int = 4,
    sigma: float = 2.0,
    radius: int = 6,
) -> FloatMap:
    """A sub-pixel Gaussian at each point, times the brightness around it; overlaps take the maximum.

    The brightness is averaged at the scale of the map with triangle weights and stretched to 0..1 over the
    square of the point; the product is scaled to the height of the Gaussian. Where the square is flat, the
    Gaussian is not weighted.

    Parameters
    ----------
    frame : (H, W) float32 array
        In 0..1.
    points, stride, sigma, radius
        As `gaussian_map`.

    Returns
    -------
    (ceil(H / stride), ceil(W / stride)) float32 array
    """
    height, width = frame.shape
    centres = map_centres(points, stride)
    nearest = nearest_pixels(centres)
    gaussians = gaussian_patches(centres - nearest, sigma, radius)
    brightness = _map_brightness(frame, stride)
    response = np.zeros(map_shape((height, width), stride), np.float32)
    for index, place, part in windows(nearest, radius, response.shape):
        gaussian = gaussians[index][part]
        weighted = gaussian * _stretch(brightness[place])
        weighted *= gaussian.max() / max(float(weighted.max()), _TINY)
        np.maximum(response[place], weighted, out=response[place])
    return response


def published_prps_map(
    frame: FloatMap,
    points: npt.NDArray[np.floating[Any]],
    *,
    stride: int = 4,
    sigma: float = 2.0,
    radius: int = 6,
) -> FloatMap:
    """The PRPS target of SPIRE's public code; parameters as `prps_map`.

    The prior is a patch of input pixels around the brightest pixel near the point, applied to map pixels
    although the scales differ; its extremes are removed twice; overlapping squares are averaged; points with
    x = 0 or y = 0 are dropped. The public code is undefined for points outside the frame, which are dropped,
    and for flat patches, which get no weight.

    Raises
    ------
    DataError
        As `gaussian_map`, and if the frame is smaller than the patch.
    """
    height, width = frame.shape
    if min(height, width) < 2 * radius + 1:
        raise DataError(
            f"published PRPS needs a frame of at least {2 * radius + 1} pixels, got {frame.shape}"
        )
    kept = drop_at_zero(points)
    pixels = nearest_pixels(np.clip(kept, -1, (width, height)))
    inside = ((pixels >= 0) & (pixels < (width, height))).all(axis=1)
    kept, pixels = kept[inside], pixels[inside]
    gaussian = gaussian_patches(np.zeros((1, 2)), sigma, radius)[0]
    priors = [_published_prior(frame, pixel, radius) for pixel in pixels.tolist()]
    responses = [_stretch_twice(gaussian * prior) for prior in priors]
    patches = np.asarray(responses, np.float32).reshape(-1, *gaussian.shape)
    nearest = nearest_pixels(map_centres(kept, stride))
    return paste_average(patches, nearest, map_shape((height, width), stride))


def _map_brightness(frame: FloatMap, stride: int) -> FloatMap:
    ramp = np.arange(1, stride + 1, dtype=np.float32)
    triangle = np.concatenate((ramp, ramp[-2::-1])) / stride**2
    smooth = cv2.sepFilter2D(frame, cv2.CV_32F, triangle, triangle)
    return np.asarray(smooth[::stride, ::stride], np.float32)


def _stretch(patch: FloatMap) -> FloatMap:
    low, high = patch.min(), patch.max()
    return (patch - low) / (high - low) if high > low else np.ones_like(patch)


def _published_prior(frame: FloatMap, pixel: list[int], radius: int) -> FloatMap:
    """The patch around the brightest pixel near `pixel`, moved inside at borders, stretched and greyed."""
    height, width = frame.shape
    x, y = _brightest(frame, *pixel)
    side = 2 * radius + 1
    left = min(max(x - radius, 0), width - side)
    top = min(max(y - radius, 0), height - side)
    patch = frame[top : top + side, left : left + side]
    return np.float32(_GREY_SUM) * _stretch(patch)


def _brightest(frame: FloatMap, x: int, y: int) -> tuple[int, int]:
    left, top = max(x - _SEARCH, 0), max(y - _SEARCH, 0)
    near = frame[top : y + _SEARCH + 1, left : x + _SEARCH + 1]
    row, column = divmod(int(near.argmax()), near.shape[1])
    return left + column, top + row


def _stretch_twice(response: FloatMap) -> FloatMap:
    low, high = response.min(), response.max()
    span = max(float(high - low), _TINY)
    stretched: FloatMap = ((response - low) / span - low) / span
    return stretched
