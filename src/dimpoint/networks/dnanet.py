"""DNANet, the dense nested attention network (arXiv 2106.00487)."""

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
    PositionGate,
    conv,
    conv_bn,
    enlarge,
    halve,
)

_ROWS = len(HOST_WIDTHS)


class DNANet(HostNetwork):
    """A triangular grid of attention nodes between encoder and decoder, with four outputs.

    "Dense nested attention network for infrared small target detection", after the public code. 4,696,568
    parameters and 13.91 G multiply-adds of convolutions at 256x256 with one input channel.

    Node (row, column) works at 1 / 2^row. Column 0 is the encoder. It does not depend on the other columns
    and is computed first; the public code interleaves it, with the same result. `decode` returns the output
    of the fused pyramid and those of row 0's columns 1, 2 and 3. A replaced deepest feature changes the first
    of them only.

    Parameters
    ----------
    channels : int
        Number of input channels; the grey frame is repeated. Default: 1.
    """

    multiple = 16
    deepest_channels = HOST_WIDTHS[-1]
    deepest_stride = 16
    receptive_radius = 488  # without the gates' means and maxima, which cover the whole input

    def __init__(self, channels: int = 1) -> None:
        super().__init__(channels)
        fine = HOST_WIDTHS[0]
        self.column = nn.ModuleList([AttentionUnit(channels, fine)])
        self.column.extend(_node(shallow, deep) for shallow, deep in pairwise(HOST_WIDTHS))
        self.nested = nn.ModuleList(
            nn.ModuleList(_nested_node(row, column) for row in range(_ROWS - column))
            for column in range(1, _ROWS)
        )
        self.fuse = AttentionUnit(_ROWS * fine, fine)
        self.laterals = nn.ModuleList(conv(width, fine, 1) for width in reversed(HOST_WIDTHS[1:]))
        self.outputs = nn.ModuleList(conv(fine, 1, 1) for _ in range(_ROWS - 1))

    def encode(self, x: Tensor) -> list[Tensor]:
        """(N, channels, H, W) -> column 0: 16, 32, 64, 128, 256 channels at 1, 1/2, 1/4, 1/8, 1/16."""
        features = [self.column[0](x)]
        for node in self.column[1:]:
            features.append(node(F.max_pool2d(features[-1], 2)))
        return features

    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Column 0 -> four maps of logits (N, 1, H, W): of the pyramid, and of row 0's columns 1, 2, 3."""
        rows = self._grid(features)
        last = [row[-1] for row in reversed(rows)]  # the coarsest first
        size = last[-1].shape[-2:]
        pyramid = [
            # Not `enlarge`: the maps are small, so torch's rounding of positions is negligible.
            F.interpolate(lateral(node), size=size, mode="bilinear", align_corners=True)
            for lateral, node in zip(self.laterals, last[:-1], strict=True)
        ]
        fused = self.fuse(torch.cat((*pyramid, last[-1]), dim=1))
        *inner, finest = (
            output(node) for output, node in zip(self.outputs, (*rows[0][1:-1], fused), strict=True)
        )
        return [finest, *inner]

    def heads(self) -> list[nn.Conv2d]:
        """The convolutions that output logits."""
        return [layer for layer in self.outputs if isinstance(layer, nn.Conv2d)]

    def _grid(self, features: Sequence[Tensor]) -> list[list[Tensor]]:
        """All nodes, by row and column; row i has one column fewer than the row above."""
        rows = [[feature] for feature in features]
        for column, nodes in enumerate(self.nested, start=1):
            assert isinstance(nodes, nn.ModuleList)
            for row, node in enumerate(nodes):
                inputs = [*rows[row], enlarge(rows[row + 1][column - 1])]
                if row:
                    inputs.append(halve(rows[row - 1][column]))
                rows[row].append(node(torch.cat(inputs, dim=1)))
        return rows


class AttentionUnit(nn.Module):
    """Two 3x3 convolutions, gated by channel and then by position, with a shortcut (CSAM).

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv_bn(inputs, outputs, 3), *conv_bn(outputs, outputs, 3, relu=False))
        self.shortcut = nn.Identity() if inputs == outputs else conv_bn(inputs, outputs, 1, relu=False)
        self.channel_gate = ChannelGate(outputs, reduction=16)
        self.position_gate = PositionGate(7, bias=False, mean_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        y = self.body(x)
        y = self.channel_gate(y) * y
        y = self.position_gate(y) * y
        return torch.relu(y + self.shortcut(x))


def _node(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(AttentionUnit(inputs, outputs), AttentionUnit(outputs, outputs))


def _nested_node(row: int, column: int) -> nn.Module:
    """Reads the earlier columns of its row, the row below and, but for row 0, the row above."""
    outputs = HOST_WIDTHS[row]
    inputs = column * outputs + HOST_WIDTHS[row + 1]
    if not row:
        return AttentionUnit(inputs, outputs)
    return _node(inputs + HOST_WIDTHS[row - 1], outputs)
