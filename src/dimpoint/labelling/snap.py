"""A click -> the centroid of the blob under it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

_NEAR = 4  # pixels around the click in which the peak of the blob is sought
_REACH = 12  # pixels around the peak that are looked at
_RING = 9  # beyond this distance lies background


def snap(frame: npt.NDArray[Any], x: float, y: float, *, dark: bool = False) -> tuple[float, float] | None:
    """Sub-pixel centroid of the blob under a click.

    The brightest pixel within 4 pixels of the click is the blob's peak. The blob is the connected region
    around it above half of its height over the background, the median of the pixels 9 to 12 away. It counts
    if the peak stands 3 robust standard deviations above the background.

    Parameters
    ----------
    frame
        (H, W) uint8, uint16 or float32.
    x, y
        The click, pixels.
    dark
        Look for a blob that is darker than its surroundings. Default: brighter.

    Returns
    -------
    tuple of float or None
        x and y, pixels; None where no blob stands out.
    """
    height, width = frame.shape
    column, row = int(np.clip(round(x), 0, width - 1)), int(np.clip(round(y), 0, height - 1))
    top, left = max(0, row - _NEAR - _REACH), max(0, column - _NEAR - _REACH)
    part = frame[top : row + _NEAR + _REACH + 1, left : column + _NEAR + _REACH + 1].astype(np.float64)
    if dark:
        part = -part
    rows, columns = np.indices(part.shape)
    from_click = np.maximum(abs(rows + top - row), abs(columns + left - column))
    smooth = cv2.GaussianBlur(part, (3, 3), 0.7)
    near = np.where(from_click <= _NEAR, smooth, -np.inf)
    peak_row, peak_column = np.unravel_index(int(near.argmax()), part.shape)
    distance = np.maximum(abs(rows - peak_row), abs(columns - peak_column))
    ring = part[(distance >= _RING) & (distance <= _REACH)]
    if ring.size < 8:
        ring = part.ravel()
    base = float(np.median(ring))
    spread = 1.4826 * float(np.median(abs(ring - base)))
    peak = float(part[peak_row, peak_column])
    if peak - base <= max(3 * spread, 1e-9):
        return None
    above = ((part > base + 0.5 * (peak - base)) & (distance <= _REACH)).astype(np.uint8)
    _, labels = cv2.connectedComponents(above, connectivity=8)
    blob = np.asarray(labels) == labels[peak_row, peak_column]
    weight = np.where(blob, part - base, 0)
    total = weight.sum()
    return float((weight * columns).sum() / total + left), float((weight * rows).sum() / total + top)
