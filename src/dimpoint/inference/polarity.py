"""White-hot and black-hot frames: which way a frame shows heat."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

Polarity: TypeAlias = Literal["white-hot", "black-hot"]
POLARITIES: tuple[Polarity, ...] = ("white-hot", "black-hot")

_SPOT, _AROUND = 3, 11  # sides of the squares whose means are compared, pixels
_TIMES = 2.0  # as strong as the brightest spot, or more, is the darkest one of a frame that looks inverted


def looks_black_hot(frame: npt.NDArray[Any]) -> bool:
    """Whether the strongest small spot of a frame, (H, W), is dark, and by far.

    Of 8-bit training frames of NUAA-SIRST, NUDT-SIRST and IRSTD-1K 0 to 1 % look so, and of the same frames
    inverted 22 to 72 %: enough for a hint about many frames, too little for a choice.
    """
    counts = frame.astype(np.float32)
    spots = cv2.blur(counts, (_SPOT, _SPOT)) - cv2.blur(counts, (_AROUND, _AROUND))
    return bool(-spots.min() > _TIMES * max(float(spots.max()), 1e-4 * float(np.abs(counts).max())))
