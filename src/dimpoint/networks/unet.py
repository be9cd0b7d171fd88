"""A plain U-Net (arXiv 1505.04597), the baseline for the published networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dimpoint.networks.base import HostNetwork
from dimpoint.networks.blocks import conv_norm
from dimpoint.networks.host_blocks import he_initialise


class UNet(HostNetwork):
    """A plain U-Net: pairs of 3x3 convolutions, pooling, bilinear interpolation and skips.

    Differences from the paper: half its widths, batch normalisation, convolutions that keep the size, and
    interpolation instead of transposed convolutions, whose checkerboard artefacts have the size of targets.

    Parameters
    ----------
    channels : int
        Number of input channels; the grey frame is repeated. Default: 1.
    widths : sequence of int
        Channels at 1, 1/2, 1/4, ..., one for each scale. Default: (32, 64, 128, 256, 512).
    """

    def __init__(self, channels: int = 1, widths: Sequence[int] = (32, 64, 128, 256, 512)) -> None:
        super().__init__(channels)
        if not widths:
            raise ValueError("widths must name at least one scale")
        steps = len(widths) - 1
        self.multiple = self.deepest_stride = 2**steps
        self.deepest_channels = widths[-1]
        self.receptive_radius = _receptive_radius(steps)
        self.down = nn.ModuleList(_two(inputs, outputs) for inputs, outputs in pairwise((channels, *widths)))
        self.up = nn.ModuleList(_two(fine + deep, fine) for fine, deep in pairwise(widths))
        self.head = nn.Conv2d(widths[0], 1, 1)
        for pairs in (self.down, self.up):
            he_initialise(pairs)

    def encode(self, x: Tensor) -> list[Tensor]:
        """(N, channels, H, W) -> `widths[i]` channels at 1 / 2^i."""
        features = [self.down[0](x)]
        for down in self.down[1:]:
            features.append(down(F.max_pool2d(features[-1], 2)))
        return features

    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps of `encode` -> one map of logits (N, 1, H, W)."""
        *shallower, y = features
        for level in reversed(range(len(shallower))):
            enlarged = F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)
            y = self.up[level](torch.cat((shallower[level], enlarged), dim=1))
        return [self.head(y)]


def _two(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(conv_norm(inputs, outputs, 3), conv_norm(outputs, outputs, 3))


def _receptive_radius(steps: int) -> int:
    """The radius of the receptive field, input pixels."""
    radius: int = 2 * 2**steps  # the deepest pair
    for level in range(steps):
        radius += (2 + 2) * 2**level  # a pair each way
        radius += 2 * 2**level  # pooling and interpolation
    return radius
