"""Losses on maps: functions of raw network outputs and targets, both (N, 1, h, w)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


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
