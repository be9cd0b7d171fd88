"""A frame as a picture for people, with its targets circled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.atomic import replacing
from dimpoint.errors import DataError
from dimpoint.model.intensity import IntensityRule

_STRETCH = IntensityRule(kind="percentile", low=0.5, high=99.9, clip=True)
_READABLE = 512  # pixels on the longer side, below which a frame is enlarged, by a whole number
_MOST_ENLARGED = 8
_RADIUS = 9  # of a circle, pixels of the picture
_COLOUR = (80, 230, 60)  # BGR
_OUTLINE = (0, 0, 0)
_SHIFT = 4  # binary digits of OpenCV's sub-pixel coordinates
_MOST_LABELS = 200  # more scores than this would only hide the frame


def draw(
    frame: npt.NDArray[Any], xy: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]
) -> npt.NDArray[np.uint8]:
    """Circle N targets on a frame, (H, W) uint8, uint16 or float32 -> (kH, kW, 3) uint8 in BGR order.

    The counts are stretched from the 0.5th to the 99.9th percentile. A frame of less than 512 pixels is
    enlarged k times (k = 2 for 256x256), so that circles and scores do not cover it. xy: (N, 2) in frame
    pixels. scores: (N,), written beside the circles of the best 200.
    """
    times = min(_MOST_ENLARGED, -(-_READABLE // max(frame.shape)))
    grey = np.round(_STRETCH.apply(frame) * 255).astype(np.uint8)
    large = cv2.resize(grey, None, fx=times, fy=times, interpolation=cv2.INTER_NEAREST)
    picture = np.asarray(cv2.cvtColor(large, cv2.COLOR_GRAY2BGR), np.uint8)
    centres = (xy + 0.5) * times - 0.5
    for centre in np.round(centres * 2**_SHIFT).astype(int).tolist():
        cv2.circle(picture, centre, _RADIUS << _SHIFT, _COLOUR, 1, cv2.LINE_AA, _SHIFT)
    for (x, y), score in zip(centres[:_MOST_LABELS].tolist(), scores.tolist(), strict=False):
        _label(picture, f"{score:.2f}", round(x), round(y))
    return picture


def write_picture(path: Path, picture: npt.NDArray[np.uint8], *, durable: bool = True) -> None:
    """Write a picture, its format by the suffix, whole or not at all; raises DimpointError if that fails.

    durable: it is on the disk when this returns.
    """
    try:
        encoded = cv2.imencode(path.suffix, picture)[1].tobytes()
    except cv2.error:
        raise DataError(f"{path}: a picture is written as .png or .jpg") from None
    with replacing(path, durable=durable) as temporary:
        temporary.write_bytes(encoded)


def _label(picture: npt.NDArray[np.uint8], text: str, x: int, y: int) -> None:
    """Write a score beside its circle, on the side where there is room."""
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.4
    (width, height), _ = cv2.getTextSize(text, font, size, 1)
    left = x + _RADIUS + 3
    if left + width > picture.shape[1]:
        left = x - _RADIUS - 3 - width
    bottom = min(max(y + height // 2, height), picture.shape[0] - 1)
    for colour, thickness in ((_OUTLINE, 3), (_COLOUR, 1)):  # readable on bright ground too
        cv2.putText(picture, text, (max(left, 0), bottom), font, size, colour, thickness, cv2.LINE_AA)
