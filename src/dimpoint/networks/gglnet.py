"""GGL-Net, the gradient-guided learning network (IEEE GRSL 2023, arXiv 2512.09497)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dimpoint.networks.base import HostNetwork
from dimpoint.networks.host_blocks import (
    HOST_WIDTHS,
    ChannelGate,
    LinearSqueezeExcite,
    LocalContrast,
    PositionGate,
    ResidualDown,
    ResidualUnit,
    conv_bn,
    enlarge,
    fuse_upwards,
    he_initialise,
    head,
    stem,
)

_LEAST_SQUARE = 1e-16  # its root is below float32's resolution of the gradients of a standardised frame


class GGLNet(HostNetwork):
    """A residual encoder with the frame's gradient magnitude at each scale, and two-way gated fusion.

    "Gradient-guided learning network for infrared small target detection", after the authors' public code.
    8,978,877 parameters and 9.63 G multiply-adds of convolutions at 256x256 with one input channel. The
    authors' later framework trains it at half its usual learning rate.

    As in the public code, pixels outside the frame count as 0 in the gradient, which creates an edge along
    the border. Unlike there, a small constant under the root keeps the derivative finite where the frame is
    flat.

    Parameters
    ----------
    channels : int
        Number of input channels; the public code uses three. Default: 1.
    """

    multiple = 16
    deepest_channels = HOST_WIDTHS[-1]
    deepest_stride = 16
    receptive_radius = 288  # without the gates' means and maxima, which cover the whole input

    def __init__(self, channels: int = 1) -> None:
        super().__init__(channels)
        fine = HOST_WIDTHS[0]
        entry = stem(channels)
        he_initialise(entry)
        first = nn.Sequential(entry, ResidualUnit(fine))
        self.stages = nn.ModuleList([GuidedStage(first, channels, fine)])
        self.stages.extend(
            GuidedStage(ResidualDown(shallow, deep), channels, deep)
            for shallow, deep in pairwise(HOST_WIDTHS)
        )
        self.contrasts = nn.ModuleList(LocalContrast(width) for width in reversed(HOST_WIDTHS))
        self.fusions = nn.ModuleList(
            TwoWayFusion(deep, shallow) for deep, shallow in pairwise(reversed(HOST_WIDTHS))
        )
        self.head = head(fine)
        he_initialise(self.head)

    def encode(self, x: Tensor) -> list[Tensor]:
        """(N, channels, H, W) -> 16, 32, 64, 128, 256 channels at 1, 1/2, 1/4, 1/8, 1/16."""
        gradient = gradient_magnitude(x)
        features = []
        for number, stage in enumerate(self.stages):
            if number:
                gradient = F.max_pool2d(gradient, 2)
            x = stage(x, gradient)
            features.append(x)
        return features

    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps of `encode` -> one map of logits (N, 1, H, W)."""
        return [self.head(fuse_upwards(features, self.contrasts, self.fusions))]


def gradient_magnitude(x: Tensor) -> Tensor:
    """Length of the vector of central differences, (N, C, H, W); 0 outside the frame."""
    padded = F.pad(x, (1, 1, 1, 1))
    along_row = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    along_column = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return torch.sqrt(along_row.square() + along_column.square() + _LEAST_SQUARE)


class SqueezedPair(nn.Module):
    """Two 3x3 convolutions with squeeze-excite between them."""

    def __init__(self, inputs: int, outputs: int, *, relu: bool) -> None:
        super().__init__()
        self.first = conv_bn(inputs, outputs, 3)
        self.second = conv_bn(outputs, outputs, 3, relu=relu)
        he_initialise(self)
        self.weighting = LinearSqueezeExcite(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        out: Tensor = self.second(self.weighting(self.first(x)))
        return out


class SqueezedUnit(nn.Module):
    """A residual unit with squeeze-excite (RS)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = SqueezedPair(channels, channels, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        return torch.relu(x + self.body(x))


class GradientSupplement(nn.Module):
    """Add to a feature a map computed from it and the gradient image (GSM)."""

    def __init__(self, gradients: int, channels: int) -> None:
        super().__init__()
        self.gradient = SqueezedPair(gradients, channels, relu=True)
        self.joint = SqueezedPair(2 * channels, channels, relu=False)

    def forward(self, x: Tensor, gradient: Tensor) -> Tensor:
        """(N, channels, H, W) and (N, gradients, H, W) -> (N, channels, H, W)."""
        return torch.relu(self.joint(torch.cat((x, self.gradient(gradient)), dim=1)) + x)


class GuidedStage(nn.Module):
    """One scale of the encoder: an entry, two residual units, and the gradient image.

    Parameters
    ----------
    entry : nn.Module
        Takes the scale above.
    gradients, channels : int
        Channels of the gradient image and of the output.
    """

    def __init__(self, entry: nn.Module, gradients: int, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(entry, SqueezedUnit(channels), SqueezedUnit(channels))
        self.supplement = GradientSupplement(gradients, channels)

    def forward(self, x: Tensor, gradient: Tensor) -> Tensor:
        """The scale above and the gradient image at this scale -> (N, channels, H, W)."""
        out: Tensor = self.supplement(self.body(x), gradient)
        return out


class TwoWayFusion(nn.Module):
    """The deep map gates the shallow one by channel, the shallow map the deep one by position (TGFM).

    Parameters
    ----------
    deep, shallow : int
        Channels of the two maps.
    """

    def __init__(self, deep: int, shallow: int) -> None:
        super().__init__()
        self.reduce = conv_bn(deep, shallow, 1)
        he_initialise(self)
        self.channel_gate = ChannelGate(shallow, reduction=8)
        self.position_gate = PositionGate(7, bias=True, mean_first=False)

    def forward(self, deep: Tensor, shallow: Tensor) -> Tensor:
        """(N, deep, H / 2, W / 2) and (N, shallow, H, W) -> (N, shallow, H, W)."""
        reduced: Tensor = self.reduce(enlarge(deep))
        fused: Tensor = shallow * self.channel_gate(reduced) + reduced * self.position_gate(shallow)
        return fused
