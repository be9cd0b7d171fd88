"""Between frames, network inputs and maps: which pixels of one belong to which of the other."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.inference.detections import Detections
from dimpoint.inference.tiling import Span
from dimpoint.model.validity import Mask

_AROUND = np.ones((3, 3), np.uint8)


def core(span: Span, stride: int, origin: int = 0) -> slice:
    """The map pixels of a span's core, counted from the input pixel `origin`."""
    return slice((span.core_start - origin) // stride, (span.core_stop - origin) // stride)


def source(span: Span, scale: int, size: int) -> slice:
    """The frame pixels that a span of the input is made of, and two more around.

    A magnified pixel lies between two of the frame's, and whether those are hot their neighbours say.
    """
    return slice(max(span.start // scale - 2, 0), min(-(-span.stop // scale) + 2, size))


def lifted(
    native: npt.NDArray[np.float32], scale: int, stride: int, shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """The map of a frame as it is, sampled where the pixels of the `scale` times magnified one's map lie."""
    shift = (1 / scale - 1) / (2 * stride)
    onto = np.array([[1 / scale, 0, shift], [0, 1 / scale, shift]])
    how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    size = (shape[1], shape[0])
    warped = cv2.warpAffine(native, onto, size, flags=how, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, np.float32)


def sigmoid(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    from scipy.special import expit

    probabilities: npt.NDArray[np.float32] = expit(logits)
    return probabilities


def measurements(found: Detections, valid: Mask) -> Detections:
    """Those that do not lie on an invalid pixel, nor beside one, where the frame ends for the network."""
    inside = np.asarray(cv2.erode(valid.view(np.uint8), _AROUND)).view(np.bool_)
    columns, rows = np.round(found.xy).astype(int).T
    kept = inside[rows, columns]
    areas = None if found.areas is None else found.areas[kept]
    return replace(found, xy=found.xy[kept], scores=found.scores[kept], areas=areas)
