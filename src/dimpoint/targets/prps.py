"""PRPS, point response prior supervision: a Gaussian weighted by the frame's brightness around the point.

`published_prps_map` is SPIRE's (arXiv 2604.05363) with the quirks of its public code; `prps_map` is ours.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.errors import DataError
from dimpoint.targets.gaussian import (
    FloatMap,
    drop_at_zero,
    gaussian_patches,
    map_centres,
    map_shape,
    nearest_pixels,
    paste_average,
    windows,
)

_SEARCH = 5  # input pixels from the point to the brightest pixel at most
_GREY_SUM = 0.9999  # grey = 0.2989 R + 0.5870 G + 0.1140 B of three equal channels
_TINY = float(np.finfo(np.float32).tiny)


def prps_map(
    frame: FloatMap,
    points: npt.NDArray[np.floating[Any]],
    *,
    stride: int = 4,
    sigma: float = 2.0,
    radius: int = 6,
) -> FloatMap:
    """A sub-pixel Gaussian at each point times the brightness around it; overlaps take the maximum.

    The brightness is taken at the map's own scale (a triangle-weighted mean around each map pixel) and
    stretched to 0..1 over the point's square; the product keeps the Gaussian's height. Where the
    square is flat, the Gaussian is not weighted.
    frame: (H, W) float32. points, sigma, radius, result and errors as in `gaussian_map`.
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
    """SPIRE's published target with the quirks of its public code; arguments as `prps_map`.

    The prior is a patch of input pixels around the brightest one near the point, laid on map pixels
    although the scales differ; its extremes are removed twice; overlapping squares are averaged;
    points with x = 0 or y = 0 are dropped. Points outside the frame are dropped too, and a flat patch
    weighs nothing: the public code has no defined result for either.
    Raises DataError as `gaussian_map`, and when the frame is smaller than the patch.
    """
    height, width = frame.shape
    if min(height, width) < 2 * radius + 1:
        raise DataError(
            f"published PRPS needs a frame of {2 * radius + 1} pixels at least, got {frame.shape}"
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
