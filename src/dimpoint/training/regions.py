"""Ignore regions in training: map pixels from which nothing is learned.

A target map marks them with `IGNORED`; the loss sees a sure background there, whose gradient is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IGNORED = -1.0
_OF_A_TARGET = 0.02  # responses above this belong to a labelled target, also inside a region
_SURE = -30.0  # a logit


def ignored_pixels(regions: npt.NDArray[np.float32], shape: tuple[int, ...]) -> npt.NDArray[np.bool_] | None:
    """The pixels of a frame of `shape` in regions (N, 4) left, top, right, bottom; None without regions."""
    if not len(regions):
        return None
    pixels = np.zeros(shape, np.bool_)
    for left, top, right, bottom in regions.tolist():
        first_row, first_column = max(int(np.ceil(top)), 0), max(int(np.ceil(left)), 0)
        pixels[first_row : max(int(bottom) + 1, 0), first_column : max(int(right) + 1, 0)] = True
    return pixels


def without_ignored(
    target: npt.NDArray[np.float32], ignored: npt.NDArray[np.bool_] | None, stride: int
) -> npt.NDArray[np.float32]:
    """A target map, (h, w), in which the ignored pixels of its view, (H, W), are marked.

    The response of a labelled target stays.
    """
    if ignored is None:
        return target
    marked: npt.NDArray[np.float32] = np.where(
        ignored[::stride, ::stride] & (target < _OF_A_TARGET), np.float32(IGNORED), target
    )
    return marked


def leave_out_ignored(
    outputs: Sequence[Tensor], targets: Tensor, *, logits: bool
) -> tuple[list[Tensor], Tensor]:
    """Outputs and targets, (N, 1, h, w), that agree on background where the targets are marked."""
    marked = targets == IGNORED
    if not marked.any():
        return list(outputs), targets
    background = _SURE if logits else 0.0
    known = [torch.where(marked, torch.full_like(output, background), output) for output in outputs]
    return known, targets.masked_fill(marked, 0.0)
