"""Masks -> targets: 8-connected components and their centroids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.errors import DataError, FrameError

MASK_THRESHOLD = 127  # a mask pixel belongs to a target if it is above this
ASPECT_TOLERANCE = 0.02  # a mask of another size is resized if its aspect ratio agrees this well


def binarise(mask: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """(H, W) uint8 or bool mask -> bool, by the field's threshold 127 for uint8."""
    return mask if mask.dtype == np.bool_ else mask > MASK_THRESHOLD


def centroids(mask: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Centroids of the 8-connected components of a mask, (N, 2) float32 x, y, in raster order."""
    binary = binarise(mask).astype(np.uint8)
    _, _, _, centres = cv2.connectedComponentsWithStats(binary, connectivity=8)
    return centres[1:].astype(np.float32).reshape(-1, 2)


def read_mask_image(path: Path) -> npt.NDArray[Any]:
    """The values of a mask file, (H, W), as they stand in the file; colour is reduced as in a frame.

    Raises FrameError if the file cannot be read.
    """
    if path.suffix.lower() != ".npy":
        from dimpoint.sources import read_image

        return read_image(path)
    try:
        values: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise FrameError(f"{path}: not a readable .npy array ({error})") from None
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "buif":
        raise FrameError(f"{path}: a mask is a 2-D array of numbers, got {values.dtype} {values.shape}")
    return values


def read_mask_file(path: Path) -> npt.NDArray[np.bool_]:
    """A mask file -> (H, W) bool at threshold 127.

    Raises FrameError if the file cannot be read, and DataError if it holds values but none above the
    threshold (a 0/1 mask, say), which would silently lose its targets.
    """
    values = read_mask_image(path)
    mask = binarise(values)
    if values.any() and not mask.any():
        raise DataError(
            f"{path}: mask values reach only {values.max()}, but a target is above {MASK_THRESHOLD}; "
            "save masks as 0 and 255, or use: dimpoint data check --repair"
        )
    return mask


def clean_mask(values: npt.NDArray[Any], file: str | Path) -> npt.NDArray[np.bool_]:
    """Mask values -> bool, as `read_mask_file` does, but a mask of 0 and one small value is understood too.

    Raises DataError if none of several values reaches the threshold: which of them is target is unknown.
    """
    mask = binarise(values)
    if mask.any() or not values.any():
        return mask
    if len(np.unique(values)) == 2:
        return np.asarray(values > values.min(), np.bool_)
    raise DataError(f"{file}: several mask values, none above {MASK_THRESHOLD}")


def is_binary(values: npt.NDArray[Any]) -> bool:
    """Whether a mask holds only 0 and 255, or is of a type or depth whose full value says the same."""
    full = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 255
    return values.dtype == np.bool_ or bool(((values == 0) | (values == 255) | (values == full)).all())


def fit_mask(mask: npt.NDArray[np.bool_], size: tuple[int, int], file: str | Path) -> npt.NDArray[np.bool_]:
    """A mask at its frame's size (height, width), resized by nearest neighbour where it has another one.

    Raises DataError naming both sizes and `file` if the aspect ratios differ by more than 2 %.
    """
    if mask.shape == size:
        return mask
    (height, width), (frame_height, frame_width) = mask.shape, size
    ratio = (width * frame_height) / (height * frame_width)
    if not 1 / (1 + ASPECT_TOLERANCE) <= ratio <= 1 + ASPECT_TOLERANCE:
        raise DataError(
            f"{file}: the mask is {width}x{height} but its frame is {frame_width}x{frame_height}, another "
            "shape; make them agree, or leave the frame out with: dimpoint data check --repair"
        )
    resized = cv2.resize(
        mask.astype(np.uint8), (frame_width, frame_height), interpolation=cv2.INTER_NEAREST_EXACT
    )
    return resized.astype(np.bool_)
