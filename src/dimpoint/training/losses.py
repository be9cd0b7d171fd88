"""Losses on maps: functions of raw network outputs and targets, both (N, 1, h, w), to one number.

Response maps: `mse_loss`, `soft_focal_loss`. Masks (targets 0 or 1, outputs logits): `bce_loss`,
`soft_iou_loss`, `dice_loss`, `focal_loss`, `edge_mining_loss`. `deep_supervision` sums any of them over
several outputs.

Ignore regions add nothing to a loss: a target map marks their pixels with `IGNORED`, and the loss gets a
certain background there, whose gradient is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

IGNORED = -1.0  # of a target map: pixels that add nothing to a loss
_OF_A_TARGET = 0.02  # responses above this belong to a labelled target, also inside a region
_SURE = -30.0  # a logit


def mse_loss(responses: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error over the map; SPIRE's loss (arXiv 2604.05363), which weighs it by 2."""
    return F.mse_loss(responses, targets)


def soft_focal_loss(logits: Tensor, targets: Tensor, beta: float = 2.0) -> Tensor:
    """Cross-entropy times |p - target|^beta, summed, for each target in the batch.

    Soft targets in 0..1 keep the response's shape, from which the sub-pixel position is read; the factor
    leaves aside the many pixels that are right already. The form is the quality focal loss of Generalized
    Focal Loss (arXiv 2006.04388), section 3. A batch counts at least one unit of response for each frame,
    so that a batch without targets has a finite loss.
    """
    distance = (torch.sigmoid(logits) - targets).abs()
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none") * distance**beta
    return loss.sum() / (targets.sum() + len(targets))


def bce_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy."""
    return F.binary_cross_entropy_with_logits(logits, targets)


def soft_iou_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """1 less the IoU of probabilities, of each frame, with 1 added above and below the line; the mean.

    The loss of DNANet's authors and of the benchmarks after them.
    """
    both, sums = _overlap(logits, targets)
    return (1 - (both + 1) / (sums - both + 1)).mean()


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """1 less the Dice coefficient of probabilities, of each frame, with 1 added above and below; the mean."""
    both, sums = _overlap(logits, targets)
    return (1 - (2 * both + 1) / (sums + 1)).mean()


def focal_loss(logits: Tensor, targets: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """Cross-entropy times (1 - p of the truth)^gamma, targets weighing alpha, background 1 - alpha.

    Summed over the pixels and divided by the target pixels (arXiv 1708.02002), at least one a frame.
    """
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    missing = (torch.sigmoid(logits) - targets).abs()
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return (weight * missing**gamma * loss).sum() / (targets.sum() + len(targets))


def edge_mining_loss(logits: Tensor, targets: Tensor, edge_weight: float = 4.0) -> Tensor:
    """Cross-entropy, `edge_weight` times on the targets' edges; mean of the harder half of the pixels.

    The loss of the framework of FDEP's authors: a pixel's loss counts if it is at least the batch's median.
    Which pixels are edges is our reading: those whose 3x3 neighbourhood holds target and background.
    """
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    edges = F.max_pool2d(targets, 3, 1, 1) + F.max_pool2d(-targets, 3, 1, 1)
    weighted = loss * (1 + (edge_weight - 1) * edges)
    hard = weighted >= weighted.detach().flatten().median()
    return weighted[hard].mean()


def deep_supervision(
    loss: Callable[[Tensor, Tensor], Tensor], outputs: Sequence[Tensor], targets: Tensor, weight: float = 1.0
) -> Tensor:
    """The loss of the finest output plus `weight` times that of each further one, all against `targets`."""
    finest, *others = (loss(output, targets) for output in outputs)
    return torch.stack([finest, *(weight * other for other in others)]).sum()


def _overlap(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Of each frame, (N,): the sum of p * target, and the sums of p and of the target together."""
    p = torch.sigmoid(logits)
    return (p * targets).sum((1, 2, 3)), p.sum((1, 2, 3)) + targets.sum((1, 2, 3))


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
