"""What the networks share: convolution with batch normalisation, residual, shuffle and weighting blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def conv_norm(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, relu: bool = True
) -> nn.Sequential:
    """Convolution without bias (same padding), batch normalisation and, if asked, ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def interleaved(first: Tensor, last: Tensor) -> Tensor:
    """Two (N, C, H, W) -> (N, 2 C, H, W), their channels in turn; ShuffleNet (arXiv 1707.01083), section 3.1.

    Tensors that lie channels last in memory stay so, forth and back, which trains faster.
    """
    if torch.compiler.is_exporting() or last.stride(1) != 1:
        return torch.stack((first, last), dim=2).flatten(1, 2)
    if last.requires_grad:
        last.register_hook(_dense)  # type: ignore[no-untyped-call]
    both = torch.stack((first.permute(0, 2, 3, 1), last.permute(0, 2, 3, 1)), dim=-1)
    return both.flatten(-2).permute(0, 3, 1, 2)


def _dense(gradient: Tensor) -> Tensor:
    """Every second channel of a tensor, laid out anew: what comes before then runs on whole vectors."""
    return gradient.contiguous(memory_format=torch.channels_last)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 residual block with a projected shortcut; ResNet (arXiv 1512.03385), section 4.1."""

    def __init__(self, inputs: int, middle: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_norm(inputs, middle, 1),
            conv_norm(middle, middle, 3),
            conv_norm(middle, outputs, 1, relu=False),
        )
        self.shortcut = conv_norm(inputs, outputs, 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        return torch.relu(self.body(x) + self.shortcut(x))


class ShuffleUnit(nn.Module):
    """Half of the channels pass, half go through 1x1, depthwise 3x3, 1x1; then both are interleaved.

    The stride-1 unit of ShuffleNet V2 (arXiv 1807.11164), figure 3c.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.body = nn.Sequential(
            conv_norm(half, half, 1),
            conv_norm(half, half, 3, groups=half, relu=False),
            conv_norm(half, half, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        kept, changed = x.chunk(2, dim=1)
        return interleaved(kept, self.body(changed))


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from all channels' means (arXiv 1709.01507), without biases."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // reduction, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // reduction, channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        gated: Tensor = x * self.gate(x)
        return gated


class ConditionalChannelWeighting(nn.Module):
    """Half of the channels pass, half go through depthwise 3x3 and squeeze-excite; then both interleave.

    The block of Lite-HRNet (arXiv 2104.06403), section 3.2, on one branch; `refine` adds a depthwise 3x3
    after the squeeze-excite, as SPIRE does.
    """

    def __init__(self, channels: int, *, refine: bool = False) -> None:
        super().__init__()
        half = channels // 2
        self.depthwise = conv_norm(half, half, 3, groups=half, relu=False)
        self.weighting = SqueezeExcite(half)
        self.refine = (
            nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False) if refine else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        kept, changed = x.chunk(2, dim=1)
        changed = self.refine(self.weighting(self.depthwise(changed)))
        return interleaved(kept, changed)
