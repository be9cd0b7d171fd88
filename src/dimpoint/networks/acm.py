"""ACM (arXiv 2009.14530) and ALCNet on one residual encoder, as the public benchmarks run them.

Both follow the implementation of the benchmarks LESPS and BasicIRSTD, for which weights are published. It
sets the momentum of some batch statistics to 0.9, which keeps little more than the last batch; here it is the
usual 0.1, which does not affect loaded weights.

LESPS, BasicIRSTD and PAL use a baseline of the authors' repository under the name ALCNet, and their published
scores are those of this network. It has neither the paper's attentional local contrast (arXiv 2012.08573,
cyclic shifts of the feature map) nor its bottom-up modulation. Unused layers of that implementation (92,928
parameters) are omitted.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dimpoint.errors import ConfigError
from dimpoint.networks.base import HostNetwork
from dimpoint.networks.blocks import conv_norm

WIDTHS = (16, 32, 64)  # channels at 1/4, 1/8, 1/16


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; ResNet (arXiv 1512.03385), section 4.1."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_norm(inputs, outputs, 3, stride=stride), conv_norm(outputs, outputs, 3, relu=False)
        )
        self.shortcut = (
            nn.Identity()
            if inputs == outputs and stride == 1
            else conv_norm(inputs, outputs, 1, stride=stride, relu=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, ceil(H / stride), ceil(W / stride))."""
        return torch.relu(self.body(x) + self.shortcut(x))


def basic_blocks(inputs: int, outputs: int, depth: int, stride: int = 1) -> nn.Sequential:
    """`depth` BasicBlocks; the first has `inputs` channels and the stride."""
    first = BasicBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs) for _ in range(depth - 1)))


class ResidualEncoder(nn.Module):
    """A stem to 1/4, then three stages of BasicBlocks at 1/4, 1/8 and 1/16.

    Parameters
    ----------
    channels : int
        Input channels.
    depth : int
        Blocks of each stage.
    """

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        fine, middle, deep = WIDTHS
        self.stem = nn.Sequential(
            nn.BatchNorm2d(channels),
            conv_norm(channels, 8, 3, stride=2),
            conv_norm(8, 8, 3),
            conv_norm(8, fine, 3),
            nn.MaxPool2d(3, 2, 1),
        )
        self.layer1 = basic_blocks(fine, fine, depth)
        self.layer2 = basic_blocks(fine, middle, depth, stride=2)
        self.layer3 = basic_blocks(middle, deep, depth, stride=2)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, channels, H, W) -> 16 channels at 1/4, 32 at 1/8, 64 at 1/16."""
        at_4 = self.layer1(self.stem(x))
        at_8 = self.layer2(at_4)
        return [at_4, at_8, self.layer3(at_8)]


class AsymBiFusion(nn.Module):
    """Asymmetric bi-directional modulation: each of two maps gates the other (ACM, arXiv 2009.14530).

    Top-down, a gate for each channel, computed from the means of the deep map, weights the shallow map;
    bottom-up, a gate for each channel and pixel, computed from the shallow map, weights the deep map. The
    former has batch statistics over a 1x1 map, so training needs batches of at least two frames.

    Parameters
    ----------
    channels : int
        Of both maps.
    reduction : int
        Ratio of channels to hidden units of the gates. Default: 4.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        hidden = channels // reduction
        self.topdown = nn.Sequential(nn.AdaptiveAvgPool2d(1), *_gate(channels, hidden))
        self.bottomup = nn.Sequential(*_gate(channels, hidden))
        self.post = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )

    def forward(self, deep: Tensor, shallow: Tensor) -> Tensor:
        """Two maps (N, channels, H, W) -> one of that shape. Raises ConfigError in training with N = 1."""
        if self.training and len(deep) < 2:
            raise ConfigError(
                "ACM and ALCNet need batches of at least two frames in training; set batch=2 or more"
            )
        modulated = shallow * self.topdown(deep) + deep * self.bottomup(shallow)
        fused: Tensor = self.post(2 * modulated)
        return fused


def _gate(channels: int, hidden: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, hidden, 1),
        nn.BatchNorm2d(hidden),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, channels, 1),
        nn.BatchNorm2d(channels),
        nn.Sigmoid(),
    ]


def double(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    """Transposed convolution that doubles height and width, without norm or activation."""
    return nn.ConvTranspose2d(inputs, outputs, 4, 2, 1)


def head(channels: int) -> nn.Sequential:
    """3x3 convolution to a quarter of the channels, dropout, and 1x1 to one map of logits."""
    hidden = channels // 4
    return nn.Sequential(*conv_norm(channels, hidden, 3), nn.Dropout(0.1), nn.Conv2d(hidden, 1, 1))


class AsymBiHost(HostNetwork):
    """Base of ACM and ALCNet, with their encoder; a subclass implements `decode`.

    Parameters
    ----------
    channels : int
        Number of input channels; the grey frame is repeated.
    depth : int
        Blocks of each stage.
    """

    multiple = 16
    deepest_channels = WIDTHS[-1]
    deepest_stride = 16

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__(channels)
        self.encoder = ResidualEncoder(channels, depth)

    def encode(self, x: Tensor) -> list[Tensor]:
        """(N, channels, H, W) -> 16 channels at 1/4, 32 at 1/8, 64 at 1/16."""
        features: list[Tensor] = self.encoder(x)
        return features


class ACM(AsymBiHost):
    """A small residual U-Net whose skips are fused by asymmetric contextual modulation.

    397,823 parameters and 0.343 G multiply-adds of convolutions at 256x256 with one input channel. Training
    needs batches of at least two frames (`AsymBiFusion`).

    Parameters
    ----------
    channels : int
        Number of input channels; the grey frame is repeated. Default: 1.
    """

    receptive_radius = 280  # without the fusions' means, which cover the whole input

    def __init__(self, channels: int = 1) -> None:
        depth = 3
        super().__init__(channels, depth)
        fine, middle, deep = WIDTHS
        self.deconv2 = double(deep, middle)
        self.fuse2 = AsymBiFusion(middle)
        self.uplayer2 = basic_blocks(middle, middle, depth)
        self.deconv1 = double(middle, fine)
        self.fuse1 = AsymBiFusion(fine)
        self.uplayer1 = basic_blocks(fine, fine, depth)
        self.head = head(fine)

    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps at 1/4, 1/8 and 1/16 -> one map of logits (N, 1, H, W)."""
        at_4, at_8, at_16 = features
        middle = self.uplayer2(self.fuse2(self.deconv2(at_16), at_8))
        fine = self.uplayer1(self.fuse1(self.deconv1(middle), at_4))
        return [F.interpolate(self.head(fine), scale_factor=4.0, mode="bilinear", align_corners=False)]


class ALCNet(AsymBiHost):
    """A feature pyramid on ACM's encoder, with one more block per stage, and ACM's fusion.

    426,961 parameters and 0.295 G multiply-adds of convolutions at 256x256 with one input channel. Training
    needs batches of at least two frames (`AsymBiFusion`).

    Parameters
    ----------
    channels : int
        Number of input channels; the grey frame is repeated. Default: 1.
    """

    receptive_radius = 263  # without the fusions' means, which cover the whole input

    def __init__(self, channels: int = 1) -> None:
        super().__init__(channels, depth=4)
        fine, middle, deep = WIDTHS
        self.deconv2 = double(deep, middle)
        self.fuse23 = AsymBiFusion(middle)
        self.deconv1 = double(middle, fine)
        self.fuse12 = AsymBiFusion(fine)
        self.deconv0 = double(fine, fine // 2)
        self.head = head(fine // 2)

    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps at 1/4, 1/8 and 1/16 -> one map of logits (N, 1, H, W)."""
        at_4, at_8, at_16 = features
        middle = self.fuse23(self.deconv2(at_16), at_8)
        fine = self.deconv0(self.fuse12(self.deconv1(middle), at_4))
        return [F.interpolate(self.head(fine), scale_factor=2.0, mode="bilinear", align_corners=False)]
