"""What every network's input goes through after the intensity rule, in training and inside an export."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def standardise(frames: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(N, 1, H, W) in network range -> (N, C, H, W): repeated to C = len(mean) channels, (x - mean) / std."""
    shape = (1, len(mean), 1, 1)
    centre = torch.tensor(mean, dtype=frames.dtype, device=frames.device).view(shape)
    spread = torch.tensor(std, dtype=frames.dtype, device=frames.device).view(shape)
    return (frames - centre) / spread
