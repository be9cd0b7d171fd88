"""Omni-dimensional dynamic convolution: a convolution whose weight depends on the frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class OmniDynamicConv2d(nn.Conv2d):
    """A k x k convolution, stride 1, same padding, no bias; every frame has its own weight.

    One kernel of omni-dimensional dynamic convolution (arXiv 2209.07947, section 3.2): the weight is
    scaled along the input channels, the output channels and the k x k positions by sigmoid gates, which
    come from the means of the frame's channels through a layer of max(inputs / 16, 16) units. With one
    kernel there is no attention over kernels. As the paper writes it, the layer has no batch
    normalisation (public code has one): so frames of a batch do not mix, and a batch of one trains.
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
    """One convolution with as many groups as frames; the fastest form by far, in training too."""
    frames, channels, height, width = x.shape
    folded = x.reshape(1, frames * channels, height, width)
    y = F.conv2d(folded, weights.flatten(0, 1), padding=weights.shape[-1] // 2, groups=frames)
    return y.view(frames, -1, height, width)


def _products(x: Tensor, weights: Tensor) -> Tensor:
    """The same as a matrix product for each frame, over the surroundings of each pixel.

    ONNX fixes a convolution's number of groups, and the batch of a model file is free. The surroundings
    are gathered by a convolution with one-hot kernels: slices of free sizes make an export of minutes.
    """
    kernel = weights.shape[-1]
    one_hot = torch.eye(kernel**2, dtype=x.dtype, device=x.device).view(-1, 1, kernel, kernel)
    channels = x.shape[1]
    around = F.conv2d(x, one_hot.repeat(channels, 1, 1, 1), padding=kernel // 2, groups=channels)
    y = weights.flatten(2) @ around.flatten(2)
    return y.view(*y.shape[:2], *x.shape[-2:])
