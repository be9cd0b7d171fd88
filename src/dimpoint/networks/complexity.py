"""Number of parameters and multiply-adds of a network."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from dimpoint.networks.base import Network


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
