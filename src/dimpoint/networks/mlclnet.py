"""Local contrast learning: MLCL-Net and ALCL-Net.

MLCL-Net: Infrared Physics & Technology 2022, 104107. ALCL-Net: IEEE GRSL 2022, doi 10.1109/LGRS.2022.3178984.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from dimpoint.networks.base import HostNetwork
from dimpoint.networks.host_blocks import (
    HOST_WIDTHS,
    LocalContrast,
    ResidualDown,
    ResidualUnit,
    conv,
    conv_bn,
    enlarge,
    fuse_upwards,
    he_initialise,
    head,
    in_turn,
    stem,
)

_WIDTHS = HOST_WIDTHS[:3]


class MLCLNet(HostNetwork):
    """A shallow residual pyramid with small and dilated convolutions at each scale (local contrast).

    "Infrared small target detection based on multiscale local contrast learning networks", after the authors'
    public code. 656,961 parameters and 6.99 G multiply-adds of convolutions at 256x256 with one input
    channel. The deepest feature is at 1/4.

    Parameters
    ----------
    channels : int
        Number of input channels; the public code uses three. Default: 1.
    depth : int
        Blocks per scale; 3 is the paper's network, 2 the small one of the public code, to which the stated
        0.56 M parameters belong. Default: 3.
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

    With biases and ReLU, without norms; no activation after the mixing.

    Parameters
    ----------
    channels : int
        Of input and output.
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


class ALCLNet(HostNetwork):
    """A residual encoder to 1/16, local contrast at each scale, and fusion gated by the shallow map.

    "Pay attention to local contrast learning networks for infrared small target detection", after the
    authors' public code. 5,667,857 parameters and 6.65 G multiply-adds of convolutions at 256x256 with one
    input channel. The authors' later framework trains it at half its usual learning rate.

    Parameters
    ----------
    channels : int
        Number of input channels; the public code uses three. Default: 1.
    """

    multiple = 16
    deepest_channels = HOST_WIDTHS[-1]
    deepest_stride = 16
    receptive_radius = 224

    def __init__(self, channels: int = 1) -> None:
        super().__init__(channels)
        fine = HOST_WIDTHS[0]
        first = nn.Sequential(stem(channels), *(ResidualUnit(fine) for _ in range(3)))
        he_initialise(first)
        self.stages = nn.ModuleList([first])
        for shallow, deep in pairwise(HOST_WIDTHS):
            self.stages.append(
                nn.Sequential(ResidualDown(shallow, deep), ResidualUnit(deep), ResidualUnit(deep))
            )
        self.contrasts = nn.ModuleList(LocalContrast(width) for width in reversed(HOST_WIDTHS))
        self.fusions = nn.ModuleList(
            GatedAddition(deep, shallow) for deep, shallow in pairwise(reversed(HOST_WIDTHS))
        )
        self.head = head(fine)
        he_initialise(self.head)

    def encode(self, x: Tensor) -> list[Tensor]:
        """(N, channels, H, W) -> 16, 32, 64, 128, 256 channels at 1, 1/2, 1/4, 1/8, 1/16."""
        return in_turn(self.stages, x)

    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps of `encode` -> one map of logits (N, 1, H, W)."""
        return [self.head(fuse_upwards(features, self.contrasts, self.fusions))]


class GatedAddition(nn.Module):
    """Add the enlarged deep map, weighted by a gate from the shallow map (SBAM).

    Parameters
    ----------
    deep, shallow : int
        Channels of the two maps.
    """

    def __init__(self, deep: int, shallow: int) -> None:
        super().__init__()
        self.reduce = conv_bn(deep, shallow, 1)
        self.gate = nn.Sequential(*conv_bn(shallow, shallow, 1, relu=False), nn.Sigmoid())
        he_initialise(self)

    def forward(self, deep: Tensor, shallow: Tensor) -> Tensor:
        """(N, deep, H / 2, W / 2) and (N, shallow, H, W) -> (N, shallow, H, W)."""
        fused: Tensor = shallow + self.reduce(enlarge(deep)) * self.gate(shallow)
        return fused
