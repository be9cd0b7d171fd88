"""Bright spots of target-free frames: what a detector would take for a target, and so should look at."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

_NARROW, _WIDE = 1.0, 3.0  # sigma of the two blurs, pixels: their difference answers to spots of a few pixels
_LEAST = 1e-4  # of the largest count
_APART = 15  # pixels, side of the square in which a spot is the brightest


def bright_spots(frame: npt.NDArray[Any], count: int = 60) -> npt.NDArray[np.float32]:
    """Where a frame, (H, W), stands out most against its surroundings: at most `count` x, y, best first.

    The maxima of a difference of Gaussians. A flat frame has none.
    """
    pixels = frame.astype(np.float32)
    answer = cv2.GaussianBlur(pixels, (0, 0), _NARROW) - cv2.GaussianBlur(pixels, (0, 0), _WIDE)
    highest = cv2.dilate(answer, np.ones((_APART, _APART), np.uint8))
    least = _LEAST * np.abs(pixels).max()  # below it the blurs differ by rounding
    rows, columns = np.nonzero((answer == highest) & (answer > least))
    best = np.argsort(-answer[rows, columns], kind="stable")[:count]
    return np.stack([columns[best], rows[best]], axis=1).astype(np.float32)
