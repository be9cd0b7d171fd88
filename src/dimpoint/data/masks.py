"""Masks -> targets: 8-connected components and their centroids."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

MASK_THRESHOLD = 127  # a mask pixel belongs to a target if it is above this


def binarise(mask: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """(H, W) uint8 or bool mask -> bool, by the field's threshold 127 for uint8."""
    return mask if mask.dtype == np.bool_ else mask > MASK_THRESHOLD


def centroids(mask: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Centroids of the 8-connected components of a mask, (N, 2) float32 x, y, in raster order."""
    binary = binarise(mask).astype(np.uint8)
    _, _, _, centres = cv2.connectedComponentsWithStats(binary, connectivity=8)
    return centres[1:].astype(np.float32).reshape(-1, 2)
