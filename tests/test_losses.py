"""Losses: right answers cost nothing, wrong ones much, empty frames are finite, and each is its formula."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dimpoint.training.losses import (
    bce_loss,
    deep_supervision,
    dice_loss,
    edge_mining_loss,
    focal_loss,
    mse_loss,
    soft_focal_loss,
    soft_iou_loss,
)

Loss = Callable[[Tensor, Tensor], Tensor]
MASK_LOSSES = [bce_loss, dice_loss, edge_mining_loss, focal_loss, soft_iou_loss]


def square(size: int = 16, batch: int = 2) -> Tensor:
    """Frames with a 3x3 target each."""
    target = torch.zeros(batch, 1, size, size)
    target[:, 0, 4:7, 5:8] = 1.0
    return target


def sure(target: Tensor, logit: float = 12.0) -> Tensor:
    return torch.where(target > 0.5, logit, -logit)


@pytest.mark.parametrize("loss", [*MASK_LOSSES, soft_focal_loss])
def test_right_costs_nothing_and_wrong_much(loss: Loss) -> None:
    target = square()
    assert float(loss(sure(target), target)) < 1e-3
    assert float(loss(-sure(target), target)) > 0.5


def test_mean_squared_error_of_responses() -> None:
    target = square()
    assert float(mse_loss(target, target)) == 0.0
    assert float(mse_loss(1 - target, target)) == 1.0


@pytest.mark.parametrize("loss", [*MASK_LOSSES, soft_focal_loss])
@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_frames_that_are_all_background_or_all_target(loss: Loss, fill: float) -> None:
    """The loss is finite, falls with the right logit, and its gradient is finite."""
    target = torch.full((1, 1, 8, 8), fill)
    sign = 1.0 if fill else -1.0
    values = []
    for strength in (0.0, 2.0, 6.0):
        logits = torch.full_like(target, sign * strength, requires_grad=True)
        value = loss(logits, target)
        value.backward()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()
        values.append(value.item())
    assert values[0] > values[1] > values[2] >= 0


@pytest.mark.parametrize("loss", [soft_iou_loss, dice_loss])
def test_overlap_losses_count_frame_by_frame(loss: Loss) -> None:
    """Two frames together cost the mean of each alone, whatever their targets' sizes."""
    target = square()
    target[1] = 0
    target[1, 0, :8, :8] = 1
    logits = torch.linspace(-3, 3, target.numel()).reshape(target.shape)
    alone = [float(loss(logits[i : i + 1], target[i : i + 1])) for i in range(2)]
    assert float(loss(logits, target)) == pytest.approx(sum(alone) / 2, abs=1e-6)


def test_soft_iou_is_its_formula() -> None:
    target = square(batch=1)
    p = torch.full_like(target, 0.25)
    both, sums = 9 * 0.25, 256 * 0.25 + 9
    expected = 1 - (both + 1) / (sums - both + 1)
    assert float(soft_iou_loss(torch.logit(p), target)) == pytest.approx(expected, rel=1e-5)


def test_edge_mining_keeps_the_harder_half_and_weighs_edges() -> None:
    """Of 256 equal background losses all are kept (none is below the median), edges count fourfold."""
    target = square(batch=1)
    logits = torch.zeros_like(target)
    # A 3x3 target's edge: the 5x5 pixels around and in it, but its centre pixel.
    log2 = torch.log(torch.tensor(2.0))
    assert float(edge_mining_loss(logits, target)) == pytest.approx(
        float(log2) * (256 + 24 * 3) / 256, rel=1e-5
    )
    # With the right 7 columns' background right, only the other 9 columns count, the target's edge in them.
    logits[..., 9:] = -20.0
    expected = float(log2) * (144 + 24 * 3) / 144
    assert float(edge_mining_loss(logits, target)) == pytest.approx(expected, rel=1e-5)


def test_the_soft_focal_factor_only_takes_away() -> None:
    target = square()
    wrong = -sure(target)
    assert soft_focal_loss(wrong, target, beta=2.0) < soft_focal_loss(wrong, target, beta=0.0)


def test_deep_supervision_sums_the_outputs() -> None:
    target = square()
    outputs = [torch.full_like(target, value) for value in (0.0, 1.0, -2.0)]
    alone = [float(bce_loss(output, target)) for output in outputs]
    assert float(deep_supervision(bce_loss, outputs, target)) == pytest.approx(sum(alone))
    half = alone[0] + 0.5 * (alone[1] + alone[2])
    assert float(deep_supervision(bce_loss, outputs, target, 0.5)) == pytest.approx(half)
    assert float(deep_supervision(bce_loss, outputs[:1], target)) == pytest.approx(alone[0])
