"""`Detections`: the targets found in one frame."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Detections:
    """Targets of one frame, best first.

    xy: (N, 2) float32, pixels of the original frame; the centre of the top-left pixel is (0, 0).
    scores: (N,) float32 in 0..1. areas: (N,) float32 pixels, or None where the model gives no extent.
    """

    xy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    areas: npt.NDArray[np.float32] | None = None
    file: str = ""
    width: int = 0
    height: int = 0
    model: str = field(default="", compare=False)

    def __len__(self) -> int:
        return len(self.scores)
