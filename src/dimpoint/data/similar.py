"""Frames of one scene: near duplicates that must not be split between training and validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy.sparse.csgraph import connected_components

_SIDE = 16


def scene_numbers(thumbnails: Sequence[npt.NDArray[np.float32]], correlation: float = 0.95) -> list[int]:
    """A number for each frame, equal for frames of one scene.

    Two frames show one scene if their thumbnails correlate by more than `correlation`; chains of such
    frames are one scene too. Memory grows with the square of the number of frames (10,000: 0.5 GB).
    """
    if not thumbnails:
        return []
    stacked = np.stack(thumbnails)
    _, labels = connected_components(stacked @ stacked.T > correlation, directed=False)
    numbers: list[int] = labels.tolist()
    return numbers


def thumbnail(frame: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """(H, W) frame -> (256,) float32 of mean 0 and length 1 (all 0 for a flat frame)."""
    shrunk = cv2.resize(frame.astype(np.float32), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    small = shrunk.ravel().astype(np.float32)
    small -= small.mean()
    length = float(np.linalg.norm(small))
    small *= 1 / length if length > 1e-6 else 0.0
    return small
