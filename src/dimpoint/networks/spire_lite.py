"""spire-lite: dimpoint's own light high-resolution network for laptops, with one response map at stride 2.

The published HRPE has one 32-channel branch at 1/4. This network has a few channels at full resolution, gives
its response at 1/2, where a two-pixel target is still visible, takes context from maps at 1/4, 1/8 and 1/16,
and adds it top-down. Its units are residual pairs of 3x3 convolutions; with 16 to 96 channels they train
faster on a CPU than depthwise units, which have fewer multiply-adds. Own design.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dimpoint.networks.base import Network
from dimpoint.networks.blocks import conv_norm


class Residual(nn.Module):
    """x + two 3x3 convolutions with a ReLU between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_norm(channels, channels, 3), conv_norm(channels, channels, 3, relu=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        out: Tensor = x + self.body(x)
        return out


class SpireLite(Network):
    """The light point network; its output is logits.

    Parameters
    ----------
    detail : int
        Channels at full resolution. Default: 8.
    widths : sequence of int
        Channels at 1/2, 1/4, 1/8, ... Default: (16, 32, 64, 96).
    depths : sequence of int
        Residual units at each scale on the way down; on the way up there is one at each scale but the
        coarsest. Default: (1, 1, 1, 2).
    """

    stride = 2
    activation = "sigmoid"

    def __init__(
        self,
        detail: int = 8,
        widths: Sequence[int] = (16, 32, 64, 96),
        depths: Sequence[int] = (1, 1, 1, 2),
    ) -> None:
        super().__init__()
        self.multiple = 2 ** len(widths)
        self.receptive_radius = _receptive_radius(depths)
        self.stem = nn.Sequential(conv_norm(1, detail, 3), _halve(detail, widths[0]))
        self.down = nn.ModuleList(_halve(fine, coarse) for fine, coarse in pairwise(widths))
        self.stages = nn.ModuleList(
            nn.Sequential(*(Residual(width) for _ in range(depth)))
            for width, depth in zip(widths, depths, strict=True)
        )
        self.lateral = nn.ModuleList(
            conv_norm(coarse, fine, 1, relu=False) for fine, coarse in pairwise(widths)
        )
        self.refine = nn.ModuleList(Residual(fine) for fine in widths[:-1])
        self.head = nn.Conv2d(widths[0], 1, 3, padding=1)
        assert self.head.bias is not None
        nn.init.constant_(self.head.bias, -4.0)  # targets are rare: start from a response near 0.02

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) in network range, H and W multiples of `multiple` -> (N, 1, H / 2, W / 2) logits."""
        features = [self.stages[0](self.stem(x))]
        for level, down in enumerate(self.down, start=1):
            features.append(self.stages[level](down(features[-1])))
        y = features.pop()
        for level in reversed(range(len(features))):
            y = F.interpolate(self.lateral[level](y), scale_factor=2.0, mode="bilinear", align_corners=False)
            y = self.refine[level](features[level] + y)
        logits: Tensor = self.head(y)
        return logits


def _halve(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 2, 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def _receptive_radius(depths: Sequence[int]) -> int:
    """The radius of the receptive field, input pixels."""
    radius = 2 + 2  # stem (3x3, halving) and head
    for level, depth in enumerate(depths, start=1):
        step = 2**level
        radius += depth * 2 * step
        if level < len(depths):
            radius += 2 * step  # the refining unit
            radius += 2 * step  # the interpolation's and the halving's
    return radius
