"""MLCL-Net, multiscale local contrast learning (Infrared Physics & Technology 2022, 104107)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dimpoint.networks.base import HostNetwork
from dimpoint.networks.host_blocks import (
    HOST_WIDTHS,
    ResidualDown,
    ResidualUnit,
    conv,
    enlarge,
    he_initialise,
    head,
    in_turn,
    stem,
)

_WIDTHS = HOST_WIDTHS[:3]


class MLCLNet(HostNetwork):
    """A shallow residual pyramid with small and dilated convolutions at each scale (local contrast).

    "Infrared small target detection based on multiscale local contrast learning networks", after the
    authors' public code. 656,961 parameters and 6.99 G multiply-adds of convolutions at 256x256 with one
    input channel. The deepest feature is at 1/4 only.

    channels: number of input channels; the public code uses three. depth: blocks per scale; 3 is the paper's
    network, 2 the small one of the public code, to which its stated 0.56 M parameters belong.
    """

    multiple = 4
    deepest_channels = _WIDTHS[-1]
    deepest_stride = 4

    def __init__(self, channels: int = 1, depth: int = 3) -> None:
        super().__init__(channels)
        if depth < 1:
            raise ValueError(f"depth must be at least 1, got {depth}")
        self.receptive_radius = 35 + 2 * (1 + 2 + 4) * depth  # a block adds 2 pixels at its scale
        fine, middle, deep = _WIDTHS
        self.stages = nn.ModuleList(
            (
                nn.Sequential(stem(channels), *(ResidualUnit(fine) for _ in range(depth))),
                nn.Sequential(ResidualDown(fine, middle), *(ResidualUnit(middle) for _ in range(depth - 1))),
                nn.Sequential(ResidualDown(middle, deep), *(ResidualUnit(deep) for _ in range(depth - 1))),
            )
        )
        deep_to_shallow = _WIDTHS[::-1]
        self.contrasts = nn.ModuleList(MultiscaleContrast(width) for width in deep_to_shallow)
        self.laterals = nn.ModuleList(
            nn.Sequential(conv(width, deep, 1), nn.ReLU(inplace=True)) for width in deep_to_shallow
        )
        self.head = head(deep)

    def encode(self, x: Tensor) -> list[Tensor]:
        """(N, channels, H, W) -> 16 channels at 1, 32 at 1/2, 64 at 1/4."""
        return in_turn(self.stages, x)

    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps at 1, 1/2 and 1/4 -> one map of logits (N, 1, H, W)."""
        deep, middle, fine = (
            lateral(contrast(feature))
            for lateral, contrast, feature in zip(
                self.laterals, self.contrasts, reversed(features), strict=True
            )
        )
        return [self.head(enlarge(enlarge(deep) + middle) + fine)]


class MultiscaleContrast(nn.Module):
    """A centre convolution followed by a wider ring, at three sizes, mixed by a 1x1 convolution (MLCL).

    Biases and ReLU, no norm; no activation after the mixture.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                conv(channels, channels, centre),
                nn.ReLU(inplace=True),
                conv(channels, channels, 3, dilation=centre),
                nn.ReLU(inplace=True),
            )
            for centre in (1, 3, 5)
        )
        self.mix = conv(3 * channels, channels, 1)
        he_initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        mixed: Tensor = self.mix(torch.cat([branch(x) for branch in self.branches], dim=1))
        return mixed
