"""MSDA-Net, the multi-scale direction-aware network (arXiv 2406.02037)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dimpoint.networks.base import HostNetwork
from dimpoint.networks.host_blocks import (
    LinearSqueezeExcite,
    PositionGate,
    ResidualDown,
    ResidualUnit,
    conv,
    conv_bn,
    enlarge,
    fuse_upwards,
    he_initialise,
    head,
    stem,
)

_WIDTHS = (16, 32, 64, 64, 64)  # at 1, 1/2, 1/4, 1/8, 1/16
_POOLED = 16  # channels of each shallower stage in the deepest feature
_Branches = tuple[tuple[tuple[int, int], ...], ...]  # of each branch, (kernel, dilation) of its convolutions
_UNIT_BRANCHES: _Branches = (((1, 1),), ((1, 1), (3, 1)), ((3, 1), (3, 3)), ((5, 1), (3, 5)))
_SKIP_BRANCHES: _Branches = (((1, 1),), ((3, 1), (3, 3)), ((5, 1), (3, 5)))


class MSDANet(HostNetwork):
    """A residual encoder with dilated branches and gates from the Haar bands of frame and features.

    "Multi-scale direction-aware network for infrared small target detection", after the authors' public code,
    from which the paper's figures differ in places. 4,795,343 parameters and 21.01 G multiply-adds of
    convolutions at 256x256 with one input channel. Unused layers of the public code (14,048 parameters) are
    omitted; its fixed Haar filters are sums and differences here.

    Parameters
    ----------
    channels : int
        Number of input channels, at most 10, because three bands of each are among the 32 channels at 1/2;
        the public code uses three. Default: 1.

    Raises
    ------
    ValueError
        If `channels` is above 10.
    """

    multiple = 16
    deepest_channels = _WIDTHS[-1]
    deepest_stride = 16
    receptive_radius = 1085  # without the squeeze-excite means, which cover the whole input

    def __init__(self, channels: int = 1) -> None:
        super().__init__(channels)
        fine, second, *_ = _WIDTHS
        if 3 * channels >= second:
            raise ValueError(f"channels must be at most {(second - 1) // 3}, got {channels}")
        entry = stem(channels)
        he_initialise(entry)
        entries = (
            nn.Sequential(entry, ResidualUnit(fine)),
            ResidualDown(fine, second - 3 * channels),
            *(ResidualDown(shallow, deep) for shallow, deep in pairwise(_WIDTHS[1:-1])),
        )
        self.stages = nn.ModuleList(
            PooledStage(entry, width, 2 ** (len(entries) - number))
            for number, (entry, width) in enumerate(zip(entries, _WIDTHS[:-1], strict=True))
        )
        self.deepest = nn.Sequential(ResidualDown(*_WIDTHS[-2:]), *_units(_WIDTHS[-1]))
        self.aggregate = _aggregate(_WIDTHS[-1] + len(entries) * _POOLED, _WIDTHS[-1])
        self.skips = nn.ModuleList(LocalRelations(width, _SKIP_BRANCHES) for width in reversed(_WIDTHS))
        self.fusions = nn.ModuleList(
            CalibratedAddition(deep, shallow) for deep, shallow in pairwise(reversed(_WIDTHS))
        )
        self.head = head(fine)
        he_initialise(self.head)

    def encode(self, x: Tensor) -> list[Tensor]:
        """(N, channels, H, W) -> 16, 32, 64, 64, 64 channels at 1, 1/2, 1/4, 1/8, 1/16."""
        first, second, third, fourth = self.stages
        features = [first(x)]
        features.append(second(features[-1], directions(x)))
        features.append(third(features[-1]))
        features.append(fourth(features[-1]))
        pooled = [stage.pooled(feature) for stage, feature in zip(self.stages, features, strict=True)]  # type: ignore[operator]
        deepest = torch.cat((self.deepest(features[-1]), *reversed(pooled)), dim=1)
        return [*features, self.aggregate(deepest)]

    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps of `encode` -> one map of logits (N, 1, H, W)."""
        return [self.head(fuse_upwards(features, self.skips, self.fusions))]


class HaarBands:
    """The four Haar bands of 2x2 pixels: mean, and differences between rows, columns and diagonals."""

    def __init__(
        self, top_left: Tensor, top_right: Tensor, bottom_left: Tensor, bottom_right: Tensor
    ) -> None:
        top, bottom = top_left + top_right, bottom_left + bottom_right
        top_step, bottom_step = top_left - top_right, bottom_left - bottom_right
        self.ll, self.lh = (top + bottom) / 2, (top - bottom) / 2
        self.hl, self.hh = (top_step + bottom_step) / 2, (top_step - bottom_step) / 2


def directions(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, 3 * C, H / 2, W / 2): differences of rows, of columns, of diagonals (HFDI)."""
    top, bottom = x[..., ::2, :], x[..., 1::2, :]
    bands = HaarBands(top[..., ::2], top[..., 1::2], bottom[..., ::2], bottom[..., 1::2])
    return torch.cat((bands.lh, bands.hl, bands.hh), dim=1)


class DirectionGates(nn.Module):
    """Weight each position by gates from the four Haar bands of the features (MDFA)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = nn.ModuleList(PositionGate(7, bias=True, mean_first=False) for _ in range(4))
        self.mix = conv_bn(channels, channels, 3, relu=False)
        he_initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        padded = F.pad(x, (1, 0, 1, 0))
        top, bottom = padded[..., :-1, :], padded[..., 1:, :]
        bands = HaarBands(top[..., :-1], top[..., 1:], bottom[..., :-1], bottom[..., 1:])
        in_order = (bands.hh, bands.lh, bands.hl, bands.ll)
        weight = torch.stack([gate(band) for gate, band in zip(self.gates, in_order, strict=True)]).sum(0)
        return torch.relu(x + self.mix(x * weight))


class LocalRelations(nn.Module):
    """Parallel convolutions of growing size and dilation, mixed by a 3x3 convolution (MLRL).

    Parameters
    ----------
    channels : int
        Of input and output.
    branches : tuple
        For each branch, (kernel, dilation) of its convolutions.
    """

    def __init__(self, channels: int, branches: _Branches) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                *(
                    conv_bn(channels, channels, kernel, dilation=dilation, bias=False)
                    for kernel, dilation in branch
                )
            )
            for branch in branches
        )
        self.mix = conv_bn(len(branches) * channels, channels, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        mixed: Tensor = self.mix(torch.cat([branch(x) for branch in self.branches], dim=1))
        return mixed


class DirectionAwareUnit(nn.Module):
    """A residual unit of local relations, direction gates and squeeze-excite (the MSDA module).

    Its last convolution ends in a ReLU, so the unit never subtracts.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.relations = LocalRelations(channels, _UNIT_BRANCHES)
        self.last = conv_bn(channels, channels, 3, bias=False)
        self.directions = DirectionGates(channels)
        self.weighting = LinearSqueezeExcite(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        return torch.relu(x + self.last(self.weighting(self.directions(self.relations(x)))))


def _units(channels: int) -> tuple[DirectionAwareUnit, DirectionAwareUnit]:
    return DirectionAwareUnit(channels), DirectionAwareUnit(channels)


class PooledStage(nn.Module):
    """One scale of the encoder, and its contribution to the deepest feature (FA).

    Parameters
    ----------
    entry : nn.Module
        Takes the scale above.
    channels : int
        Of the output.
    steps : int
        Ratio of this scale to that of the deepest feature.
    """

    def __init__(self, entry: nn.Module, channels: int, steps: int) -> None:
        super().__init__()
        self.entry = entry
        self.units = nn.Sequential(*_units(channels))
        self.pool = nn.MaxPool2d(steps)
        self.reduce = nn.Sequential(conv(channels, _POOLED, 1), nn.ReLU(inplace=True))
        he_initialise(self.reduce)

    def forward(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        """The scale above, and further channels at this scale to put first -> (N, channels, H, W)."""
        y = self.entry(x)
        if beside is not None:
            y = torch.cat((beside, y), dim=1)
        out: Tensor = self.units(y)
        return out

    def pooled(self, feature: Tensor) -> Tensor:
        """The stage's output -> (N, 16, H, W) at the deepest feature's scale."""
        reduced: Tensor = self.reduce(self.pool(feature))
        return reduced


def _aggregate(inputs: int, outputs: int) -> nn.Sequential:
    layers = nn.Sequential(
        conv(inputs, inputs, 1), nn.ReLU(inplace=True), conv(inputs, outputs, 1), nn.ReLU(inplace=True)
    )
    he_initialise(layers)
    return layers


class CalibratedAddition(nn.Module):
    """Add the enlarged deep map, corrected from both maps, to the shallow map (FCF).

    Parameters
    ----------
    deep, shallow : int
        Channels of the two maps.
    """

    def __init__(self, deep: int, shallow: int) -> None:
        super().__init__()
        self.reduce = conv_bn(deep, shallow, 1)
        self.calibrate = nn.Sequential(*conv_bn(deep + shallow, deep, 1), *conv_bn(deep, deep, 3))
        he_initialise(self)

    def forward(self, deep: Tensor, shallow: Tensor) -> Tensor:
        """(N, deep, H / 2, W / 2) and (N, shallow, H, W) -> (N, shallow, H, W)."""
        deep = enlarge(deep)
        correction = self.calibrate(torch.cat((deep, shallow), dim=1))
        fused: Tensor = shallow + self.reduce(deep + correction)
        return fused
