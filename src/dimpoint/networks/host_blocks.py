"""Blocks of the host networks: convolutions with bias, residual units, gates, resizing, initialisation.

The units of MLCL-Net, ALCL-Net, GGL-Net and MSDA-Net follow their authors' public code. Where it is known,
modules are registered in its order, so that weights can be matched by position.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from dimpoint.networks.blocks import SqueezeExcite

HOST_WIDTHS = (16, 32, 64, 128, 256)  # channels at 1, 1/2, 1/4, 1/8, 1/16 of most hosts


def conv(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1, bias: bool = True
) -> nn.Conv2d:
    """Convolution with zero padding that keeps the size at stride 1.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    kernel : int
        Side of the kernel.
    stride, dilation : int
        Default: 1.
    bias : bool
        Default: True.
    """
    around = dilation * (kernel // 2)
    return nn.Conv2d(inputs, outputs, kernel, stride, around, dilation, bias=bias)


def conv_bn(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    bias: bool = True,
    relu: bool = True,
) -> nn.Sequential:
    """`conv`, batch normalisation and ReLU; unlike `blocks.conv_norm` with a bias, as in most hosts' public
    code.

    Parameters
    ----------
    inputs, outputs, kernel, stride, dilation, bias
        As `conv`.
    relu : bool
        Append a ReLU. Default: True.
    """
    layers: list[nn.Module] = [
        conv(inputs, outputs, kernel, stride=stride, dilation=dilation, bias=bias),
        nn.BatchNorm2d(outputs),
    ]
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def he_initialise(module: nn.Module) -> None:
    """Kaiming normal weights (arXiv 1502.01852), fan-out, and zero bias in all convolutions of a module."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def stem(channels: int) -> nn.Sequential:
    """Two 3x3 convolutions to 16 channels at full resolution, with PyTorch's initialisation."""
    width = HOST_WIDTHS[0]
    return nn.Sequential(*conv_bn(channels, width, 3), *conv_bn(width, width, 3))


def head(channels: int) -> nn.Sequential:
    """Two 1x1 convolutions to one map of logits, with PyTorch's initialisation."""
    return nn.Sequential(conv(channels, channels, 1), nn.ReLU(inplace=True), conv(channels, 1, 1))


def enlarge(x: Tensor) -> Tensor:
    """Double height and width, bilinear, corners aligned: (N, C, H, W) -> (N, C, 2 * H, 2 * W).

    Aligned corners shift the map by up to half a pixel from one side to the other, so an output depends
    slightly on the frame's size.

    PyTorch and ONNX Runtime round the positions of such a resize differently, by about 1e-7 of the width; at
    a few hundred pixels their outputs differ by more than the tolerance of an export. Here the distance from
    the nearest input pixel is computed instead, which is exact.
    """
    for axis in (3, 2):
        length = x.shape[axis]
        # Output pixel 2 i lies i / (2 length - 1) before input pixel i, and so it is from the other end.
        before = _along(
            torch.arange(length, dtype=torch.float32, device=x.device) / (2 * length - 1), axis, x
        )
        even = x + before * (x.roll(1, axis) - x)  # what is rolled in at an end weighs nothing
        odd = x + before.flip(0) * (x.roll(-1, axis) - x)
        x = torch.stack((even, odd), dim=axis + 1).flatten(axis, axis + 1)
    return x


def halve(x: Tensor) -> Tensor:
    """Halve height and width, bilinear between two neighbours, corners aligned.

    (N, C, H, W) -> (N, C, H / 2, W / 2). Without smoothing: at the first corner the output is one pixel, at
    the last the other, in the middle their mean. As exact as `enlarge`.
    """
    for axis in (3, 2):
        first, second = (x[..., 0::2], x[..., 1::2]) if axis == 3 else (x[..., 0::2, :], x[..., 1::2, :])
        index = torch.arange(first.shape[axis], dtype=torch.float32, device=x.device)
        x = first + _along(index / index[-1:].clamp(min=1), axis, x) * (second - first)
    return x


def _along(weights: Tensor, axis: int, x: Tensor) -> Tensor:
    """A weight for each row (axis 2) or column (axis 3) of x, in the type of x."""
    return (weights[:, None] if axis == 2 else weights).to(x.dtype)


def in_turn(modules: Iterable[nn.Module], x: Tensor) -> list[Tensor]:
    """The outputs of modules applied in sequence, starting from x."""
    outputs = []
    for module in modules:
        x = module(x)
        outputs.append(x)
    return outputs


def fuse_upwards(features: Sequence[Tensor], laterals: nn.ModuleList, fusions: nn.ModuleList) -> Tensor:
    """Pass each feature through a module, then fuse them from the deepest to the shallowest.

    Parameters
    ----------
    features : sequence of Tensor
        From shallow to deep.
    laterals : nn.ModuleList
        One module for each feature, from deep to shallow.
    fusions : nn.ModuleList
        From deep to shallow; each takes the deep map and the next shallower one.
    """
    y: Tensor
    y, *shallower = (module(feature) for module, feature in zip(laterals, reversed(features), strict=True))
    for fusion, shallow in zip(fusions, shallower, strict=True):
        y = fusion(y, shallow)
    return y


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions with a shortcut, then ReLU (RB)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *conv_bn(channels, channels, 3), *conv_bn(channels, channels, 3, relu=False)
        )
        he_initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        return torch.relu(x + self.body(x))


class ResidualDown(nn.Module):
    """Halve height and width, by pooling on one path and by a stride on the other (RD).

    The main path rounds an odd size down and the shortcut up, so only even sizes work.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *conv_bn(inputs, outputs, 3), nn.MaxPool2d(2), *conv_bn(outputs, outputs, 3, relu=False)
        )
        self.shortcut = conv_bn(inputs, outputs, 3, stride=2)
        he_initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / 2, W / 2)."""
        return torch.relu(self.body(x) + self.shortcut(x))


class LocalContrast(nn.Sequential):
    """Local contrast learning (LCL): a 1x1 and a 3x3 convolution, each with ReLU, without norm."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            conv(channels, channels, 1),
            nn.ReLU(inplace=True),
            conv(channels, channels, 3),
            nn.ReLU(inplace=True),
        )
        he_initialise(self)


class LinearSqueezeExcite(SqueezeExcite):
    """`SqueezeExcite` with linear layers, as in public code; by convention they do not count as MACs."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__(channels, reduction)
        hidden = channels // reduction
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, hidden, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, channels, bias=False),
            nn.Sigmoid(),
            nn.Unflatten(1, (channels, 1, 1)),
        )


class ChannelGate(nn.Module):
    """A gate for each channel from the means and maxima of all channels; CBAM (arXiv 1807.06521), section 3.

    Parameters
    ----------
    channels : int
        Input channels.
    reduction : int
        Ratio of channels to units of the bottleneck, which is shared by means and maxima and has no bias.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = channels // reduction
        self.mean, self.max = nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)
        self.bottleneck = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> gates (N, channels, 1, 1)."""
        return torch.sigmoid(self.bottleneck(self.mean(x)) + self.bottleneck(self.max(x)))


class PositionGate(nn.Module):
    """A gate for each pixel from the mean and maximum over channels around it; CBAM, section 3.

    Parameters
    ----------
    kernel : int
        Side of the kernel.
    bias : bool
        Whether the convolution has a bias.
    mean_first : bool
        Whether its first input channel is the mean, or the maximum.
    """

    def __init__(self, kernel: int, *, bias: bool, mean_first: bool) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=bias)
        self.mean_first = mean_first

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> gates (N, 1, H, W)."""
        mean, largest = x.mean(1, keepdim=True), x.amax(1, keepdim=True)
        pair = (mean, largest) if self.mean_first else (largest, mean)
        return torch.sigmoid(self.mix(torch.cat(pair, dim=1)))
