"""A sensor's lone hot pixels, which no optics could have made: found in one frame, and replaced.

Optics spread a point over neighbouring pixels; a pixel that stands alone above all eight of them is the
sensor's. Magnified, it would look like a target. Cameras replace bad pixels by their neighbours too; the
two limits were set on labelled targets (docs/models.md).
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

_SHARE = 0.88  # of its height above the neighbours' mean, that a hot pixel also stands above the highest one
_LEAST = 0.06  # above the highest neighbour, on the unit range

_RING = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)


def replace_hot_pixels(frame: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A frame, (H, W) float32 in unit range, each hot pixel replaced by its neighbours' mean."""
    highest = cv2.dilate(frame, _RING)
    sums = cv2.boxFilter(frame, -1, (3, 3), normalize=False, borderType=cv2.BORDER_REFLECT_101)
    mean = (sums - frame) / 8
    alone = frame - highest
    hot = (alone > _LEAST) & (alone > _SHARE * (frame - mean))
    return np.where(hot, mean, frame).astype(np.float32, copy=False)
