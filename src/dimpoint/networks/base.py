"""The interface of all networks, and their number of parameters and multiply-adds."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dimpoint.errors import ConfigError


class Network(nn.Module):
    """A module that maps standardised frames (N, `channels`, H, W) to maps (N, 1, H / stride, W / stride).

    A subclass overrides the class attributes that differ; they are fields of `ModelMeta`.
    """

    channels: int = 1
    stride: int = 1
    multiple: int = 32  # H and W must be multiples of this
    kind: Literal["response", "probability"] = "response"
    activation: Literal["none", "sigmoid"] = "none"  # the activation still to be applied to the output
    receptive_radius: int = 64  # input pixels around a position on which its response depends
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


class HostNetwork(Network):
    """A segmentation network in two halves: frames -> features -> logits at the frame's resolution.

    A subclass states `multiple`, `deepest_channels` and `deepest_stride`, and writes `encode` and `decode`.
    The decoder reads the frame through the features alone, so that a tensor of equal shape may stand in
    for the last of them (FDEP, arXiv 2512.05511).
    """

    kind = "probability"
    activation = "sigmoid"
    stride = 1
    head: nn.Module
    deepest_channels: int  # of the last feature
    deepest_stride: int

    def __init__(self, channels: int = 1) -> None:
        """channels: number of input channels; the grey frame is repeated to that number."""
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}")
        self.channels = channels
        self.mean = self.mean * channels
        self.std = self.std * channels

    def encode(self, x: Tensor) -> list[Tensor]:
        """(N, channels, H, W), H and W multiples of `multiple` -> features, shallow to deep."""
        raise NotImplementedError

    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features of `encode` -> logits (N, 1, H, W), finest first; more than one: deep supervision."""
        raise NotImplementedError

    def heads(self) -> list[nn.Conv2d]:
        """The convolutions whose outputs are logits; here the last one of the attribute `head`."""
        *_, last = (layer for layer in self.head.modules() if isinstance(layer, nn.Conv2d))
        return [last]

    def start_from(self, prior: float) -> None:
        """Set the heads' biases so that untrained logits lie around a probability of `prior`, 0 < prior < 1.

        Targets cover about a thousandth of a frame. Starting from a probability of 0.5 everywhere, an
        optimiser needs hundreds of steps to learn that targets are rare (arXiv 1708.02002, section 3.3).
        """
        for head in self.heads():
            assert head.bias is not None
            nn.init.constant_(head.bias, math.log(prior / (1 - prior)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) of any size -> the finest logits (N, 1, H, W).

        Sizes that are no multiple of `multiple` are padded at the right and bottom by repeating the border,
        and the output is cropped. Raises ConfigError for a size of 0.
        """
        height, width = x.shape[-2:]
        if not (height and width):
            raise ConfigError(f"a frame of {height} x {width} pixels is empty")
        below, right = -height % self.multiple, -width % self.multiple
        if below or right:
            x = F.pad(x, (0, right, 0, below), mode="replicate")
        finest = self.decode(self.encode(x))[0]
        return finest[..., :height, :width] if below or right else finest


def standardise(frames: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(N, 1, H, W) in network range -> (N, C, H, W): repeated to C = len(mean) channels, (x - mean) / std."""
    shape = (1, len(mean), 1, 1)
    centre = torch.tensor(mean, dtype=frames.dtype, device=frames.device).view(shape)
    spread = torch.tensor(std, dtype=frames.dtype, device=frames.device).view(shape)
    return (frames - centre) / spread


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters; buffers such as running means do not count."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(network: Network, height: int, width: int) -> int:
    """Multiply-adds of all convolutions for one height x width frame, by the usual convention.

    Transposed convolutions count at their input. Norms, pooling, resizing, linear layers and fixed filters
    that are no layers do not count. The network is copied to torch's meta device, which
    computes shapes only.
    """
    macs = 0

    def add(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        nonlocal macs
        assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
        # Each weight is used once at each position of the output, of a transposed one's input.
        positions = output if isinstance(layer, nn.Conv2d) else inputs[0]
        macs += layer.weight.numel() * positions.shape[-2] * positions.shape[-1]

    shadow = copy.deepcopy(network).to("meta").eval()
    for layer in shadow.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(add)
        elif isinstance(layer, nn.BatchNorm2d | nn.GroupNorm):
            # A norm keeps the shape; on the meta device it would take most of the time.
            layer.forward = _same  # type: ignore[assignment]
    with torch.inference_mode():
        shadow(torch.zeros(1, network.channels, height, width, device="meta"))
    return macs


def _same(x: Tensor) -> Tensor:
    return x
