"""Parts of high-resolution networks: residual units, and parallel branches that exchange features.

HRNet (arXiv 1908.07919), section 3: branches run side by side, each at half the resolution of the one
before; at the end of a module every branch receives all others. Input and
output are lists of maps, fine to coarse.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dimpoint.networks.blocks import OmniDynamicConv2d, conv_norm


class Residual(nn.Module):
    """relu(shortcut(x) + body(x))."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the sum of body and shortcut, after the ReLU."""
        return torch.relu(self.shortcut(x) + self.body(x))


def basic_unit(channels: int, *, dynamic: bool = False) -> Residual:
    """relu(x + BN(Conv(relu(BN(Conv x))))) of 3x3 convolutions; `dynamic`: both depend on the frame."""
    layers = [_conv3_norm(channels, dynamic=dynamic, relu=relu) for relu in (True, False)]
    return Residual(nn.Sequential(*layers))


def bottleneck_unit(inputs: int, middle: int, *, dynamic: bool = False) -> Residual:
    """1x1, 3x3, 1x1 from `inputs` to 4 * `middle` channels; `dynamic`: the 3x3 depends on the frame.

    ResNet (arXiv 1512.03385), section 4.1; the shortcut is projected where the widths differ.
    """
    outputs = 4 * middle
    body = nn.Sequential(
        conv_norm(inputs, middle, 1),
        _conv3_norm(middle, dynamic=dynamic, relu=True),
        conv_norm(middle, outputs, 1, relu=False),
    )
    return Residual(body, None if inputs == outputs else conv_norm(inputs, outputs, 1, relu=False))


class Fusion(nn.Module):
    """Every one of the first `outputs` branches becomes the ReLU of the sum of all, brought to its shape.

    From finer to coarser by 3x3 convolutions of stride 2, from coarser to finer by a 1x1 convolution and
    nearest-neighbour enlargement.
    """

    def __init__(self, widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.paths = nn.ModuleList(
            nn.ModuleList(_path(widths, source, target) for source in range(len(widths)))
            for target in range(outputs)
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """len(widths) maps, each half the size of the one before -> the first `outputs`."""
        fused = []
        for paths in self.paths:
            assert isinstance(paths, nn.ModuleList)
            parts = [path(feature) for path, feature in zip(paths, features, strict=True)]
            total = parts[0]
            for part in parts[1:]:
                total = total + part
            fused.append(torch.relu(total))
        return fused


class BranchModule(nn.Module):
    """Residual units on each branch, then the fusion.

    widths: channels of the branches, fine to coarse. blocks: units of each branch. outputs: branches that
    go on, all by default. dynamic: the first unit of each branch is dynamic.
    """

    def __init__(
        self, widths: Sequence[int], blocks: int, *, outputs: int | None = None, dynamic: bool = False
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(basic_unit(width, dynamic=dynamic and not number) for number in range(blocks)))
            for width in widths
        )
        self.fusion = Fusion(widths, len(widths) if outputs is None else outputs)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps fine to coarse -> the fused maps."""
        fused: list[Tensor] = self.fusion(
            [branch(feature) for branch, feature in zip(self.branches, features, strict=True)]
        )
        return fused


def _conv3_norm(channels: int, *, dynamic: bool, relu: bool) -> nn.Sequential:
    layers = conv_norm(channels, channels, 3, relu=relu)
    if dynamic:
        layers[0] = OmniDynamicConv2d(channels, channels)
    return layers


def _path(widths: Sequence[int], source: int, target: int) -> nn.Module:
    if source == target:
        return nn.Identity()
    if source > target:
        return enlarge(widths[source], widths[target], 2 ** (source - target))
    steps = [conv_norm(widths[source], widths[source], 3, stride=2) for _ in range(source, target - 1)]
    return nn.Sequential(*steps, conv_norm(widths[source], widths[target], 3, stride=2, relu=False))


def enlarge(inputs: int, outputs: int, factor: int) -> nn.Sequential:
    """1x1 convolution, batch normalisation, and nearest-neighbour enlargement by `factor`."""
    layers = conv_norm(inputs, outputs, 1, relu=False)
    layers.append(nn.Upsample(scale_factor=float(factor), mode="nearest"))
    return layers
