"""HRPE, the high-resolution probabilistic encoder of SPIRE (arXiv 2604.05363)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dimpoint.networks.base import Network
from dimpoint.networks.blocks import Bottleneck, ConditionalChannelWeighting, ShuffleUnit, conv_norm


class Spire(Network):
    """SPIRE's network as published: one branch at 1/4 of the input and no decoder.

    294,753 parameters, 4.84 G multiply-adds of convolutions at 512x512. The response is regressed: it is near
    1 at a target, and no sigmoid is applied.
    """

    channels = 3
    stride = 4
    multiple = 4
    receptive_radius = 55  # without the squeeze-excite means, which cover the whole input
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_norm(3, 64, 3, stride=2), conv_norm(64, 64, 3, stride=2))
        self.layer1 = nn.Sequential(
            Bottleneck(64, 64, 256), ShuffleUnit(256), ShuffleUnit(256), ShuffleUnit(256)
        )
        self.transition = conv_norm(256, 32, 3)
        self.stage2 = Stage(32)
        self.stage4 = Stage(32)
        self.head = nn.Conv2d(32, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) standardised frames -> (N, 1, ceil(H / 4), ceil(W / 4)) responses."""
        features = self.transition(self.layer1(self.stem(x)))
        response: Tensor = self.head(self.stage4(self.stage2(features)))
        return response


class Stage(nn.Module):
    """One module of a stage: two channel weightings, a shuffle unit and the fusion of a single branch.

    Parameters
    ----------
    channels : int
        Of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            ConditionalChannelWeighting(channels),
            ConditionalChannelWeighting(channels, refine=True),
            ShuffleUnit(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape; as published, the branch is added to itself."""
        return torch.relu(2 * self.blocks(x))
