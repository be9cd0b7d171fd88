"""Detections in files that no detector gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint import limits
from dimpoint.errors import DataError


def check_content(table: npt.NDArray[np.float32], file: Any, size: tuple[Any, Any], where: str) -> None:
    """Refuse detections that no detector gives: scores outside 0..1 and points far outside the frame."""
    if not isinstance(file, str):
        raise DataError(f"{where}: key 'file' must be a string, got {str(file)[:80]!r}")
    if not all(isinstance(side, int) and not isinstance(side, bool) and 0 <= side < 2**31 for side in size):
        raise DataError(f"{where}: width and height must be numbers of pixels")
    limits.check("points_per_frame", len(table), f"{where}: detections", DataError)
    scores = table[:, 2]
    if len(table) and not (scores.min() >= 0 and scores.max() <= 1):
        worst = scores[np.argmax(np.abs(scores - 0.5))]
        raise DataError(f"{where}: a score lies in 0..1, got {worst:g}")
    low, high = table[:, :2].min(0, initial=0), table[:, :2].max(0, initial=0)
    margin = 1000 + np.array(size)
    if len(table) and min(size) > 0 and not ((low >= -margin).all() and (high <= 2 * margin).all()):
        far = table[np.argmax(np.abs(table[:, :2]).max(1))]
        place = f"({far[0]:g}, {far[1]:g})"
        raise DataError(f"{where}: a detection at {place} is far outside of {size[0]}x{size[1]}")
