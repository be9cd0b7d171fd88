"""Losses on maps: functions of raw network outputs and targets, both (N, 1, h, w), that return a scalar.

Response maps: `mse_loss`, `soft_focal_loss`. Masks (targets 0 or 1, outputs logits): `bce_loss`,
`soft_iou_loss`, `dice_loss`, `focal_loss`, `edge_mining_loss`. `deep_supervision` sums any of them over
several outputs.

Ignore regions contribute nothing: their pixels are marked with `IGNORED` in the target map, and the loss
sees confident background there, whose gradient is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

IGNORED = -1.0  # value in a target map: the pixel does not count
_OF_A_TARGET = 0.02  # responses above this belong to a labelled target, even inside a region
_BACKGROUND = -30.0  # logit of confident background


def mse_loss(responses: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error over the map.

    Parameters
    ----------
    responses, targets : (N, 1, h, w) Tensor
        Network outputs and target maps.

    Returns
    -------
    Tensor
        Scalar.

    References
    ----------
    SPIRE (arXiv 2604.05363), which weights this loss by 2.

    Examples
    --------
    >>> import torch
    >>> from dimpoint.training.losses import mse_loss
    >>> mse_loss(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)).item()
    1.0
    """
    return F.mse_loss(responses, targets)


def soft_focal_loss(logits: Tensor, targets: Tensor, beta: float = 2.0) -> Tensor:
    """Cross-entropy weighted by ``|p - target| ** beta``, summed and divided by the amount of target.

    The weight suppresses the many pixels that are right already. Soft targets keep the shape of the response,
    from which the sub-pixel position is read.

    Parameters
    ----------
    logits : (N, 1, h, w) Tensor
        Raw outputs; p is their sigmoid.
    targets : (N, 1, h, w) Tensor
        Responses in 0..1.
    beta : float
        Exponent of the weight. Default: 2.

    Returns
    -------
    Tensor
        Scalar. The divisor is the sum of the targets plus one for each frame, so that a batch without targets
        has a finite loss.

    References
    ----------
    Quality focal loss of Generalized Focal Loss (arXiv 2006.04388), section 3.
    """
    distance = (torch.sigmoid(logits) - targets).abs()
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none") * distance**beta
    return loss.sum() / (targets.sum() + len(targets))


def bce_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits and targets, (N, 1, h, w)."""
    return F.binary_cross_entropy_with_logits(logits, targets)


def soft_iou_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """One minus the IoU of the probabilities, averaged over frames.

    Parameters
    ----------
    logits, targets : (N, 1, h, w) Tensor
        Raw outputs and masks. 1 is added to numerator and denominator.

    References
    ----------
    The loss of DNANet's authors (arXiv 2106.00487) and of the benchmarks that followed.
    """
    both, sums = _overlap(logits, targets)
    return (1 - (both + 1) / (sums - both + 1)).mean()


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """One minus the Dice coefficient of the probabilities, averaged over frames.

    Parameters
    ----------
    logits, targets : (N, 1, h, w) Tensor
        Raw outputs and masks. 1 is added to numerator and denominator.
    """
    both, sums = _overlap(logits, targets)
    return (1 - (2 * both + 1) / (sums + 1)).mean()


def focal_loss(logits: Tensor, targets: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """Cross-entropy weighted by ``(1 - p_true) ** gamma``, divided by the number of target pixels.

    Parameters
    ----------
    logits, targets : (N, 1, h, w) Tensor
        Raw outputs and masks.
    gamma : float
        Exponent of the weight. Default: 2.
    alpha : float
        Weight of target pixels; background pixels have 1 - alpha. Default: 0.25.

    References
    ----------
    Focal loss (arXiv 1708.02002). One is added to the divisor for each frame.
    """
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    missing = (torch.sigmoid(logits) - targets).abs()
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return (weight * missing**gamma * loss).sum() / (targets.sum() + len(targets))


def edge_mining_loss(logits: Tensor, targets: Tensor, edge_weight: float = 4.0) -> Tensor:
    """Cross-entropy with weighted target edges, averaged over the harder half of the pixels.

    Parameters
    ----------
    logits, targets : (N, 1, h, w) Tensor
        Raw outputs and masks.
    edge_weight : float
        Weight of edge pixels: those with target and background in their 3x3 neighbourhood (own definition).
        Default: 4.

    References
    ----------
    The loss of the FDEP authors' framework: a pixel counts if its loss is at least the batch's median.
    """
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    edges = F.max_pool2d(targets, 3, 1, 1) + F.max_pool2d(-targets, 3, 1, 1)
    weighted = loss * (1 + (edge_weight - 1) * edges)
    hard = weighted >= weighted.detach().flatten().median()
    return weighted[hard].mean()


def deep_supervision(
    loss: Callable[[Tensor, Tensor], Tensor], outputs: Sequence[Tensor], targets: Tensor, weight: float = 1.0
) -> Tensor:
    """The loss of the finest output plus `weight` times that of each further output.

    Parameters
    ----------
    loss : callable
        Takes outputs and targets, returns a scalar.
    outputs : sequence of (N, 1, h, w) Tensor
        Finest first.
    targets : (N, 1, h, w) Tensor
        The same for all outputs.
    weight : float
        Default: 1.
    """
    finest, *others = (loss(output, targets) for output in outputs)
    return torch.stack([finest, *(weight * other for other in others)]).sum()


def _overlap(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """For each frame, (N,): the sum of p * target, and the sum of p plus that of the target."""
    p = torch.sigmoid(logits)
    return (p * targets).sum((1, 2, 3)), p.sum((1, 2, 3)) + targets.sum((1, 2, 3))


def ignored_pixels(regions: npt.NDArray[np.float32], shape: tuple[int, ...]) -> npt.NDArray[np.bool_] | None:
    """The pixels of a frame that lie in ignore regions.

    Parameters
    ----------
    regions : (N, 4) float32 array
        Left, top, right, bottom, in pixels.
    shape : tuple of int
        Height and width of the frame.

    Returns
    -------
    (H, W) bool array or None
        None without regions.
    """
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
    """A target map in which ignored pixels are marked; responses of labelled targets stay.

    Parameters
    ----------
    target : (h, w) float32 array
        The target map.
    ignored : (H, W) bool array or None
        Ignored pixels of the view.
    stride : int
        Pixels of the view for each map pixel.
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
    """Outputs and targets that agree on background wherever a target is marked as ignored.

    Parameters
    ----------
    outputs : sequence of (N, 1, h, w) Tensor
        Raw outputs of the network.
    targets : (N, 1, h, w) Tensor
        Targets with `IGNORED` pixels.
    logits : bool
        Whether the outputs are logits rather than responses.
    """
    marked = targets == IGNORED
    if not marked.any():
        return list(outputs), targets
    background = _BACKGROUND if logits else 0.0
    known = [torch.where(marked, torch.full_like(output, background), output) for output in outputs]
    return known, targets.masked_fill(marked, 0.0)
