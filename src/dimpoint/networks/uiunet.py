"""UIU-Net, U-Net in U-Net (arXiv 2212.00968)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dimpoint.networks.base import HostNetwork
from dimpoint.networks.host_blocks import PositionGate, conv, conv_bn, in_turn


class UIUNet(HostNetwork):
    """A U-Net in which each stage is a small residual U-Net, and skips and decoder gate each other.

    "UIU-Net: U-Net in U-Net for infrared small object detection", after a public implementation. 50,540,309
    parameters and 54.22 G multiply-adds of convolutions at 256x256 with one input channel.

    `decode` returns the fused map and the six side maps, finest first. A replaced deepest feature changes all
    of them. As in that implementation, the attention between skips and decoder has group norms of one group
    where the authors' code has batch norms: statistics of a 1x1 map need several frames, and a layer that is
    used twice would count each batch twice. `encode` and `decode` take any size; `forward` pads to multiples
    of 32, so that the scales align.

    Parameters
    ----------
    channels : int
        Number of input channels; the grey frame is repeated. Default: 1.
    """

    multiple = 32
    deepest_channels = 512
    deepest_stride = 32
    receptive_radius = 3326  # without the attention's means and norms, which cover the whole input

    def __init__(self, channels: int = 1) -> None:
        super().__init__(channels)
        self.down = nn.ModuleList(
            (
                ResidualU(7, channels, 32, 64),
                ResidualU(6, 64, 32, 128),
                ResidualU(5, 128, 64, 256),
                ResidualU(4, 256, 128, 512),
                DilatedU(512, 256, 512),
                DilatedU(512, 256, 512),
            )
        )
        self.up = nn.ModuleList(
            (
                DilatedU(1024, 256, 512),
                ResidualU(4, 1024, 128, 256),
                ResidualU(5, 512, 64, 128),
                ResidualU(6, 256, 32, 64),
                ResidualU(7, 128, 16, 64),
            )
        )
        self.sides = nn.ModuleList(conv(width, 1, 3) for width in (64, 64, 128, 256, 512, 512))
        self.fuse = conv(len(self.sides), 1, 1)
        self.crosses = nn.ModuleList(CrossAttention(width) for width in (512, 512, 256, 128))

    def encode(self, x: Tensor) -> list[Tensor]:
        """(N, channels, H, W) -> 64, 128, 256, 512, 512, 512 channels at 1, 1/2, ..., 1/32."""
        features = [self.down[0](x)]
        for stage in self.down[1:]:
            features.append(stage(_pool(features[-1])))
        return features

    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps of `encode` -> seven maps of logits (N, 1, H, W): fused, then from fine to coarse."""
        finest, *between, y = features
        maps = [y]
        for stage, cross, skip in zip(self.up[:-1], self.crosses, reversed(between), strict=True):
            y = stage(cross(_fit(y, skip), skip))
            maps.append(y)
        maps.append(self.up[-1](torch.cat((_fit(y, finest), finest), dim=1)))
        sides = [_fit(side(m), finest) for side, m in zip(self.sides, reversed(maps), strict=True)]
        return [self.fuse(torch.cat(sides, dim=1)), *sides]

    def heads(self) -> list[nn.Conv2d]:
        """The convolutions that output logits."""
        return [*(side for side in self.sides if isinstance(side, nn.Conv2d)), self.fuse]

    def start_from(self, prior: float) -> None:
        """As for other hosts; the fused map is a weighted sum of side maps that start at the prior."""
        super().start_from(prior)
        assert self.fuse.bias is not None
        with torch.no_grad():
            self.fuse.bias *= 1 - self.fuse.weight.sum()


class ResidualU(nn.Module):
    """A small U-Net, dilated instead of pooled at the lowest level, with a shortcut (RSU).

    Parameters
    ----------
    depth : int
        Number of levels.
    inputs, middle, outputs : int
        Channels.
    """

    def __init__(self, depth: int, inputs: int, middle: int, outputs: int) -> None:
        super().__init__()
        self.entry = conv_bn(inputs, outputs, 3)
        self.down = nn.ModuleList([conv_bn(outputs, middle, 3)])
        self.down.extend(conv_bn(middle, middle, 3) for _ in range(depth - 2))
        self.lowest = conv_bn(middle, middle, 3, dilation=2)
        self.up = nn.ModuleList(conv_bn(2 * middle, middle, 3) for _ in range(depth - 2))
        self.up.append(conv_bn(2 * middle, outputs, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        x = self.entry(x)
        levels = [self.down[0](x)]
        for layer in self.down[1:]:
            levels.append(layer(_pool(levels[-1])))
        y = self.lowest(levels[-1])
        for layer, level in zip(self.up, reversed(levels), strict=True):
            y = layer(torch.cat((_fit(y, level), level), dim=1))
        out: Tensor = y + x
        return out


class DilatedU(nn.Module):
    """A `ResidualU` of four levels at one scale, with growing dilation instead of pooling (RSU-4F).

    Parameters
    ----------
    inputs, middle, outputs : int
        Channels.
    """

    def __init__(self, inputs: int, middle: int, outputs: int) -> None:
        super().__init__()
        self.entry = conv_bn(inputs, outputs, 3)
        self.down = nn.ModuleList([conv_bn(outputs, middle, 3)])
        self.down.extend(conv_bn(middle, middle, 3, dilation=dilation) for dilation in (2, 4))
        self.lowest = conv_bn(middle, middle, 3, dilation=8)
        self.up = nn.ModuleList(conv_bn(2 * middle, middle, 3, dilation=dilation) for dilation in (4, 2))
        self.up.append(conv_bn(2 * middle, outputs, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        x = self.entry(x)
        levels = in_turn(self.down, x)
        y = self.lowest(levels[-1])
        for layer, level in zip(self.up, reversed(levels), strict=True):
            y = layer(torch.cat((y, level), dim=1))
        out: Tensor = y + x
        return out


class CrossAttention(nn.Module):
    """The deep map gates the skip by channel, and the gated skip gates the deep map by position (IC-A).

    Parameters
    ----------
    channels : int
        Of both maps.
    reduction : int
        Ratio of channels to hidden units. Default: 4.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        hidden = channels // reduction
        self.deep = _conv_gn(channels, channels, 1)
        self.channel_gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            *_conv_gn(channels, hidden, 1),
            conv(hidden, channels, 1),
            nn.GroupNorm(1, channels),
            nn.Sigmoid(),
        )
        self.position_gate = nn.Sequential(
            *_conv_gn(channels, hidden, 1), PositionGate(3, bias=False, mean_first=True)
        )
        self.post = _conv_gn(channels, channels, 3)  # one for both halves of the output

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Two maps (N, channels, H, W) -> (N, 2 * channels, H, W), the skip's half first."""
        deep = self.deep(deep)
        skip = skip * self.channel_gate(deep)
        deep = deep * self.position_gate(skip)
        return torch.cat((self.post(2 * skip), self.post(2 * deep)), dim=1)


def _conv_gn(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(conv(inputs, outputs, kernel), nn.GroupNorm(1, outputs), nn.ReLU(inplace=True))


def _pool(x: Tensor) -> Tensor:
    """Halve height and width; odd sizes are rounded up."""
    return F.max_pool2d(x, 2, ceil_mode=True)


def _fit(x: Tensor, other: Tensor) -> Tensor:
    """x at the height and width of the other map."""
    return F.interpolate(x, size=other.shape[-2:], mode="bilinear", align_corners=False)
