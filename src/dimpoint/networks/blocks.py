"""Blocks that several networks use: convolutions with batch normalisation, residual, shuffle and weighting
blocks, coordinate attention, and omni-dimensional dynamic convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


def conv_norm(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, relu: bool = True
) -> nn.Sequential:
    """Convolution without bias, batch normalisation and ReLU.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    kernel : int
        Side of the kernel; padding keeps the size.
    stride, groups : int
        Default: 1.
    relu : bool
        Append a ReLU. Default: True.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def interleaved(first: Tensor, last: Tensor) -> Tensor:
    """Interleave the channels of two maps: (N, C, H, W) twice -> (N, 2 C, H, W).

    ShuffleNet (arXiv 1707.01083), section 3.1. Keeps the channels-last memory format, forward and backward,
    which trains faster.
    """
    if torch.compiler.is_exporting() or last.stride(1) != 1:
        return torch.stack((first, last), dim=2).flatten(1, 2)
    if last.requires_grad:
        last.register_hook(_dense)  # type: ignore[no-untyped-call]
    both = torch.stack((first.permute(0, 2, 3, 1), last.permute(0, 2, 3, 1)), dim=-1)
    return both.flatten(-2).permute(0, 3, 1, 2)


def _dense(gradient: Tensor) -> Tensor:
    """Every second channel of a tensor, copied to contiguous memory for fast vectorised use."""
    return gradient.contiguous(memory_format=torch.channels_last)


class Bottleneck(nn.Module):
    """Residual block of 1x1, 3x3 and 1x1 convolutions with a projected shortcut.

    ResNet (arXiv 1512.03385), section 4.1.

    Parameters
    ----------
    inputs, middle, outputs : int
        Channels.
    """

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
    """Half of the channels go through 1x1, depthwise 3x3 and 1x1 convolutions; both halves are interleaved.

    The stride-1 unit of ShuffleNet V2 (arXiv 1807.11164), figure 3c.

    Parameters
    ----------
    channels : int
        Even.
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
    """Scale each channel by a gate from the means of all channels (arXiv 1709.01507), without biases.

    Parameters
    ----------
    channels : int
        Of input and output.
    reduction : int
        Ratio of channels to hidden units. Default: 4.
    """

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
    """Half of the channels go through depthwise 3x3 and squeeze-excitation; both halves are interleaved.

    The block of Lite-HRNet (arXiv 2104.06403), section 3.2, on one branch.

    Parameters
    ----------
    channels : int
        Even.
    refine : bool
        Add a depthwise 3x3 convolution after the squeeze-excitation, as SPIRE does. Default: False.
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


class CoordinateAttention(nn.Module):
    """Scale each value by a gate of its row and one of its column.

    The gates are computed from the means along rows and columns through one shared bottleneck of
    max(channels / reduction, 8) units (arXiv 2103.02907, section 3.2).

    Parameters
    ----------
    channels : int
        Of input and output.
    reduction : int
        Default: 32.
    """

    LEAST_UNITS = 8

    def __init__(self, channels: int, reduction: int = 32) -> None:
        super().__init__()
        units = max(channels // reduction, self.LEAST_UNITS)
        self.squeeze = nn.Sequential(
            nn.Conv2d(channels, units, 1, bias=False), nn.BatchNorm2d(units), nn.Hardswish()
        )
        self.row_gate = nn.Conv2d(units, channels, 1)
        self.column_gate = nn.Conv2d(units, channels, 1)

    def gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, channels, H, W) -> gates of rows (N, channels, H, 1) and of columns (N, channels, 1, W)."""
        height = x.shape[2]
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)
        squeezed = self.squeeze(torch.cat((rows, columns), dim=2))
        row = torch.sigmoid(self.row_gate(squeezed[:, :, :height]))
        column = torch.sigmoid(self.column_gate(squeezed[:, :, height:].transpose(2, 3)))
        return row, column

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        row, column = self.gates(x)
        gated: Tensor = x * row * column
        return gated


class OmniDynamicConv2d(nn.Conv2d):
    """A convolution whose weight depends on the frame; stride 1, same padding, no bias.

    Omni-dimensional dynamic convolution with one kernel (arXiv 2209.07947, section 3.2): the weight is scaled
    along input channels, output channels and kernel positions by sigmoid gates, computed from the means of
    the frame's channels through a layer of max(inputs / 16, 16) units. As in the paper, and unlike the public
    code, that layer has no batch normalisation: frames of a batch do not mix, and batches of one frame can be
    trained.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    kernel : int
        Side of the kernel. Default: 3.
    """

    REDUCTION = 16
    LEAST_UNITS = 16

    def __init__(self, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        units = max(inputs // self.REDUCTION, self.LEAST_UNITS)
        self.context = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, units, 1, bias=False), nn.ReLU(inplace=True)
        )
        self.channel_gate = nn.Conv2d(units, inputs, 1)
        self.filter_gate = nn.Conv2d(units, outputs, 1)
        self.position_gate = nn.Conv2d(units, kernel**2, 1)

    def weights(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> the weight of each frame, (N, outputs, inputs, k, k)."""
        context, kernel = self.context(x), self.kernel_size[0]
        channel = self.channel_gate(context).sigmoid().view(-1, 1, self.in_channels, 1, 1)
        filters = self.filter_gate(context).sigmoid().view(-1, self.out_channels, 1, 1, 1)
        position = self.position_gate(context).sigmoid().view(-1, 1, 1, kernel, kernel)
        scaled: Tensor = self.weight * (channel * position) * filters
        return scaled

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        weights = self.weights(x)
        return _products(x, weights) if torch.compiler.is_exporting() else _grouped(x, weights)


def _grouped(x: Tensor, weights: Tensor) -> Tensor:
    """One convolution with as many groups as frames, the fastest form."""
    frames, channels, height, width = x.shape
    folded = x.reshape(1, frames * channels, height, width)
    y = F.conv2d(folded, weights.flatten(0, 1), padding=weights.shape[-1] // 2, groups=frames)
    return y.view(frames, -1, height, width)


def _products(x: Tensor, weights: Tensor) -> Tensor:
    """The same as a matrix product for each frame over the neighbourhoods of all pixels.

    ONNX fixes the number of groups of a convolution, while the batch size of a model file is free. The
    neighbourhoods are gathered by a convolution with one-hot kernels: exporting slices of free sizes takes
    minutes.
    """
    kernel = weights.shape[-1]
    one_hot = torch.eye(kernel**2, dtype=x.dtype, device=x.device).view(-1, 1, kernel, kernel)
    channels = x.shape[1]
    around = F.conv2d(x, one_hot.repeat(channels, 1, 1, 1), padding=kernel // 2, groups=channels)
    y = weights.flatten(2) @ around.flatten(2)
    return y.view(*y.shape[:2], *x.shape[-2:])
