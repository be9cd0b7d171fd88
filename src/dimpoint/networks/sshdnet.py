"""SSHD-Net, the single-point supervised high-resolution dynamic network (arXiv 2408.01976).

From the paper's abstract: names and purposes of the modules. From the same group's later public code: number,
order, widths and contents of the modules. Our own: which convolutions of a dynamic unit are dynamic (all its
3x3), the map at stride 2, and `SshdNetSmall`.

Branches and their exchange follow HRNet (arXiv 1908.07919), section 3: parallel branches, each at half the
resolution of the one before; at the end of a module every branch receives all others. Inputs and outputs are
lists of maps, from fine to coarse.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from dimpoint.networks.base import Network
from dimpoint.networks.blocks import CoordinateAttention, OmniDynamicConv2d, conv_norm


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
    """Residual unit of two 3x3 convolutions; with `dynamic` both depend on the frame."""
    layers = [_conv3_norm(channels, dynamic=dynamic, relu=relu) for relu in (True, False)]
    return Residual(nn.Sequential(*layers))


def bottleneck_unit(inputs: int, middle: int, *, dynamic: bool = False) -> Residual:
    """Residual unit of 1x1, 3x3 and 1x1 convolutions from `inputs` to 4 * `middle` channels.

    With `dynamic` the 3x3 convolution depends on the frame. ResNet (arXiv 1512.03385), section 4.1; the
    shortcut is projected where the widths differ.
    """
    outputs = 4 * middle
    body = nn.Sequential(
        conv_norm(inputs, middle, 1),
        _conv3_norm(middle, dynamic=dynamic, relu=True),
        conv_norm(middle, outputs, 1, relu=False),
    )
    return Residual(body, None if inputs == outputs else conv_norm(inputs, outputs, 1, relu=False))


class Fusion(nn.Module):
    """Each of the first `outputs` branches becomes the ReLU of the sum of all branches, resized to its shape.

    To coarser branches by 3x3 convolutions of stride 2, to finer ones by a 1x1 convolution and
    nearest-neighbour enlargement.

    Parameters
    ----------
    widths : sequence of int
        Channels of the branches, from fine to coarse.
    outputs : int
        Branches that are kept.
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

    Parameters
    ----------
    widths : sequence of int
        Channels of the branches, from fine to coarse.
    blocks : int
        Units of each branch.
    outputs : int, optional
        Branches that are kept. Default: all.
    dynamic : bool
        Whether the first unit of each branch is dynamic. Default: False.
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


class SFCC(nn.Module):
    """Stepped feature cascade channels: neighbouring branches exchange features one after the other.

    Downward each branch is added to the next coarser one, upward to the next finer one, including what it has
    just received. The same layers are used each time.

    Parameters
    ----------
    widths : sequence of int
        Channels of the branches, from fine to coarse.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.to_coarser = nn.ModuleList(
            conv_norm(fine, coarse, 3, stride=2, relu=False) for fine, coarse in pairs
        )
        self.to_finer = nn.ModuleList(enlarge(coarse, fine, 2) for fine, coarse in pairs)

    def downward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """b2 = relu(b2 + D12 b1), then b3 = relu(b3 + D23 b2), and so on."""
        given = list(features)
        for level, step in enumerate(self.to_coarser):
            given[level + 1] = torch.relu(given[level + 1] + step(given[level]))
        return given

    def upward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """b2 = relu(b2 + U32 b3), then b1 = relu(b1 + U21 b2), from the coarsest on."""
        given = list(features)
        for level, step in reversed(list(enumerate(self.to_finer))):
            given[level] = torch.relu(given[level] + step(given[level + 1]))
        return given


class HCEM(nn.Module):
    """High-resolution cross-feature extraction: residual units with exchanges between branches (SFCC).

    Downward after the first unit, upward after the second, and so on; then they are fused.

    Parameters
    ----------
    widths : sequence of int
        Channels of the branches, from fine to coarse.
    blocks : int
        Units of each branch.
    """

    def __init__(self, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.units = nn.ModuleList(
            nn.ModuleList(basic_unit(width) for width in widths) for _ in range(blocks)
        )
        self.sfcc = SFCC(widths)
        self.fusion = Fusion(widths, len(widths))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps fine to coarse -> maps of the same shapes."""
        for number, units in enumerate(self.units):
            assert isinstance(units, nn.ModuleList)
            features = [unit(feature) for unit, feature in zip(units, features, strict=True)]
            features = self.sfcc.upward(features) if number % 2 else self.sfcc.downward(features)
        fused: list[Tensor] = self.fusion(features)
        return fused


class DCFM(BranchModule):
    """Dynamic coordinate fusion: each branch begins with a dynamic unit, then the branches are fused.

    Where they are fused into one, coordinate attention follows. Parameters as `BranchModule`.
    """

    def __init__(self, widths: Sequence[int], blocks: int, *, outputs: int | None = None) -> None:
        super().__init__(widths, blocks, outputs=outputs, dynamic=True)
        self.attention = CoordinateAttention(widths[0]) if outputs == 1 else nn.Identity()

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps fine to coarse -> the fused maps."""
        finest, *others = super().forward(features)
        return [self.attention(finest), *others]


class HMRM(nn.Sequential):
    """High-resolution multilevel residuals: `modules` plain modules on all branches."""

    def __init__(self, widths: Sequence[int], blocks: int, modules: int) -> None:
        super().__init__(*(BranchModule(widths, blocks) for _ in range(modules)))


class ATLDH(nn.Conv2d):
    """Adaptive target localisation: a 1x1 convolution that regresses the Gaussian response of each target.

    Its other half is decoding (`DecodeRule` of kind `published`): 3x3 maxima above 0.2, heights within 0.2 of
    the highest, and a quarter of a map pixel towards the higher neighbour.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 1, 1)


class Refinement(nn.Module):
    """Enlarge the branches' output, add it to finer features, and apply a residual unit. Own design."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.enlarge = enlarge(inputs, outputs, 2)
        self.unit = basic_unit(outputs)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(N, inputs, H, W) and (N, outputs, 2H, 2W) -> (N, outputs, 2H, 2W)."""
        refined: Tensor = self.unit(torch.relu(fine + self.enlarge(coarse)))
        return refined


class SshdNet(Network):
    """SSHD-Net in its published size: four branches from 1/4 to 1/32, and a response map at 1/4.

    28,715,304 parameters, 10.28 G multiply-adds of convolutions at 256x256. The response is regressed: it is
    near 1 at a target, and no sigmoid is applied. `receptive_radius` does not include the means of the gates,
    which cover the whole input.

    Parameters
    ----------
    widths : sequence of int
        Channels of the four branches, from fine to coarse. Default: (32, 64, 128, 256).
    stem : int
        Channels before the branches; the bottlenecks widen them to 4 * `stem`. Default: 64.
    bottlenecks : int
        Residual units before the branches, the last one dynamic. Default: 4.
    blocks : int
        Residual units of a branch in each module. Default: 4.
    modules : sequence of int
        Plain modules of stage 2, of stage 3 before and after the HCEM, and of stage 4 (the HMRM). Default:
        (1, 1, 1, 2).
    stride : {4, 2}
        With 2, the branches' output is refined with the features of the stem at 1/2. Default: 4.

    Raises
    ------
    ValueError
        If an option is out of range.
    """

    channels = 3
    multiple = 32
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128, 256),
        stem: int = 64,
        bottlenecks: int = 4,
        blocks: int = 4,
        modules: Sequence[int] = (1, 1, 1, 2),
        stride: int = 4,
    ) -> None:
        super().__init__()
        if len(widths) != 4 or len(modules) != 4:
            raise ValueError("widths and modules need four values each")
        if stride not in (2, 4) or min(blocks, bottlenecks) < 1:
            raise ValueError("stride must be 2 or 4, blocks and bottlenecks at least 1")
        self.stride = stride
        self.receptive_radius = _receptive_radius(bottlenecks, blocks, modules, stride)
        in_stage2, before_hcem, after_hcem, in_hmrm = modules
        self.stem = nn.ModuleList(
            (conv_norm(self.channels, stem, 3, stride=2), conv_norm(stem, stem, 3, stride=2))
        )
        self.layer1 = nn.Sequential(
            *(
                bottleneck_unit(4 * stem if number else stem, stem, dynamic=number == bottlenecks - 1)
                for number in range(bottlenecks)
            )
        )
        self.transition2 = nn.ModuleList(
            conv_norm(4 * stem, widths[level], 3, stride=level + 1) for level in range(2)
        )
        self.stage2 = nn.Sequential(*(BranchModule(widths[:2], blocks) for _ in range(in_stage2)))
        self.transition3 = conv_norm(widths[1], widths[2], 3, stride=2)
        self.stage3 = nn.Sequential(
            *(BranchModule(widths[:3], blocks) for _ in range(before_hcem)),
            HCEM(widths[:3], blocks),
            *(BranchModule(widths[:3], blocks) for _ in range(after_hcem)),
            DCFM(widths[:3], blocks),
        )
        self.transition4 = conv_norm(widths[2], widths[3], 3, stride=2)
        self.hmrm = HMRM(widths, blocks, in_hmrm)
        self.dcfm = DCFM(widths, blocks, outputs=1)
        self.refinement = Refinement(widths[0], stem) if stride == 2 else None
        self.atldh = ATLDH(widths[0] if self.refinement is None else stem)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W), H and W multiples of 32 -> (N, 1, H / stride, W / stride)."""
        fine = self.stem[0](x)
        x = self.layer1(self.stem[1](fine))
        features = self.stage2([transition(x) for transition in self.transition2])
        features = self.stage3([*features, self.transition3(features[-1])])
        features = self.hmrm([*features, self.transition4(features[-1])])
        fused = self.dcfm(features)[0]
        if self.refinement is not None:
            fused = self.refinement(fused, fine)
        response: Tensor = self.atldh(fused)
        return response


class SshdNetSmall(SshdNet):
    """A small SSHD-Net for two processor cores, with its map at 1/2 and logits as output. Own design.

    The published modules in the same order with half the units, thin coarse branches, one input channel, and
    the map refined to 1/2, at which neighbouring targets are separated. Parameters as `SshdNet`, with smaller
    defaults.
    """

    channels = 1
    activation = "sigmoid"
    mean = (0.0,)
    std = (1.0,)

    def __init__(
        self,
        widths: Sequence[int] = (32, 48, 64, 96),
        stem: int = 16,
        bottlenecks: int = 2,
        blocks: int = 2,
        modules: Sequence[int] = (1, 0, 0, 1),
        stride: int = 2,
    ) -> None:
        super().__init__(widths, stem, bottlenecks, blocks, modules, stride)
        assert self.atldh.bias is not None
        nn.init.constant_(self.atldh.bias, -4.0)  # targets are rare: start from a response near 0.02


def _receptive_radius(bottlenecks: int, blocks: int, modules: Sequence[int], stride: int) -> int:
    """The radius of the receptive field along the coarsest branches, input pixels."""
    in_stage2, before_hcem, after_hcem, in_hmrm = modules
    radius = 4 * bottlenecks + 2 * blocks * 8 * in_stage2  # 3x3 convolutions times the step between pixels
    radius += 2 * blocks * (16 * (before_hcem + after_hcem + 2) + 32 * (in_hmrm + 1))
    radius += 1 + 2 + 4 + 8 + 16  # the convolutions that halve
    radius += 31 + 16  # enlargement; detours from the coarsest branch to the finest and back
    return radius + (4 if stride == 2 else 0)  # the refinement
