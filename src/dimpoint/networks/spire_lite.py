"""spire-lite: our light high-resolution encoder for laptops, one response map at stride 2.

Where the published HRPE keeps one 32-channel branch at 1/4, this network keeps the resolution at which
a two-pixel target is still visible (1/2), looks further around it on cheap maps (1/4, 1/8, 1/16), and
adds what those say back, top down. All blocks are depthwise-separable residual units.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class SeparableResidual(nn.Module):
    """x + BN(1x1(ReLU(BN(1x1(BN(depthwise k x k x)))))): context by the depthwise, mixing by the 1x1s."""

    def __init__(self, channels: int, kernel: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def conv_bn_relu(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class SpireLite(nn.Module):
    """(N, 1, H, W) standardised frames -> (N, 1, H/2, W/2) response logits; H, W multiples of 16.

    widths: channels at 1/2, 1/4, 1/8, ...; depths: residual units at each; kernel: depthwise size.
    """

    channels = 1
    stride = 2
    kind = "response"
    activation = "sigmoid"

    def __init__(
        self,
        widths: Sequence[int] = (24, 40, 64, 96),
        depths: Sequence[int] = (2, 3, 4, 3),
        kernel: int = 5,
        expansion: int = 2,
        head_depth: int = 1,
    ) -> None:
        super().__init__()
        self.multiple = 2 ** len(widths)
        self.stem = conv_bn_relu(1, widths[0], 5, stride=2)
        self.down = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, 2, 2, bias=False), nn.BatchNorm2d(b), nn.ReLU()
            )
            for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(SeparableResidual(width, 3 if i == 0 else kernel, expansion) for _ in range(depth)))
            for i, (width, depth) in enumerate(zip(widths, depths, strict=True))
        )
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(b, a, 1, bias=False), nn.BatchNorm2d(a))
            for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.refine = nn.ModuleList(
            nn.Sequential(*(SeparableResidual(a, 3, expansion) for _ in range(head_depth))) for a in widths[:-1]
        )
        self.head = nn.Conv2d(widths[0], 1, 3, padding=1)
        nn.init.constant_(self.head.bias, -4.0)  # a rare target: start from a response near 0.02

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stages[0](self.stem(x))]
        for down, stage in zip(self.down, list(self.stages)[1:], strict=True):
            features.append(stage(down(features[-1])))
        y = features[-1]
        for feature, lateral, refine in zip(
            features[-2::-1], reversed(self.lateral), reversed(self.refine), strict=True
        ):
            y = refine(feature + F.interpolate(lateral(y), scale_factor=2.0, mode="bilinear", align_corners=False))
        out: Tensor = self.head(y)
        return out
