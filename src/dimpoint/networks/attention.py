"""Coordinate attention: gates along rows and columns that know where a thing lies."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CoordinateAttention(nn.Module):
    """Scale each value by a gate of its row and one of its column, x * g_row * g_column.

    The gates of all rows and columns come from the means along each of them, through one shared
    bottleneck of max(channels / reduction, 8) units (arXiv 2103.02907, section 3.2).
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
