"""ALCL-Net, attention-based local contrast learning (IEEE GRSL 2022, doi 10.1109/LGRS.2022.3178984)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from dimpoint.networks.base import HostNetwork
from dimpoint.networks.host_blocks import (
    HOST_WIDTHS,
    LocalContrast,
    ResidualDown,
    ResidualUnit,
    conv_bn,
    enlarge,
    fuse_upwards,
    he_initialise,
    head,
    in_turn,
    stem,
)


class ALCLNet(HostNetwork):
    """A residual encoder to 1/16, local contrast at each scale, and fusion gated by the shallow map.

    "Pay attention to local contrast learning networks for infrared small target detection", after the
    authors' public code. 5,667,857 parameters and 6.65 G multiply-adds of convolutions at 256x256 with one
    input channel. The authors' later framework trains it at half its usual learning rate.

    channels: number of input channels; the public code uses three.
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
    """The deep map, enlarged, is added where a gate from the shallow map lets it (SBAM)."""

    def __init__(self, deep: int, shallow: int) -> None:
        super().__init__()
        self.reduce = conv_bn(deep, shallow, 1)
        self.gate = nn.Sequential(*conv_bn(shallow, shallow, 1, relu=False), nn.Sigmoid())
        he_initialise(self)

    def forward(self, deep: Tensor, shallow: Tensor) -> Tensor:
        """(N, deep, H / 2, W / 2) and (N, shallow, H, W) -> (N, shallow, H, W)."""
        fused: Tensor = shallow + self.reduce(enlarge(deep)) * self.gate(shallow)
        return fused
