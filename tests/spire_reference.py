"""What the tests of SPIRE share: the reference files and the authors' warp of a frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

WEIGHTS = Path("spire") / "SPIRE-SIRST4-512-epoch230-lr0.005.pth"
FRAMES = ("Misc_1", "Misc_10", "Misc_100", "Misc_200", "Misc_300")
LABELLED = ("Misc_1", "Misc_100", "Misc_300")


def golden(reference: Path) -> dict[str, npt.NDArray[Any]]:
    with np.load(reference / "spire" / "golden.npz") as values:
        return dict(values)


def warped_frame(data: Path, name: str, *, size: int = 512, colour: bool = False) -> npt.NDArray[np.float32]:
    """A NUAA-SIRST frame as the authors feed it: scaled into a size x size square, then 0..1.

    (size, size), or (size, size, 3) with `colour`: the channels of Misc_10 differ a little.
    """
    mode = cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE
    frame = cv2.imread(str(data / "NUAA-SIRST" / "images" / f"{name}.png"), mode)
    assert frame is not None
    height, width = frame.shape[:2]
    scale = min(size / height, size / width)
    left, top = (size - width * scale) / 2, (size - height * scale) / 2
    corners = np.array([[0, 0], [width - 1, 0], [0, height - 1]], np.float32)
    places = np.array([[left, top], [size - 1 - left, top], [left, size - 1 - top]], np.float32)
    warped = cv2.warpAffine(frame, cv2.getAffineTransform(corners, places), (size, size))
    return warped.astype(np.float32) / 255
