"""SAMF and CO-ISD, the two parts of FDEP (arXiv 2512.05511) that act on a host network in training.

SAMF, semantic alignment modulation fusion: token grids change a host's deepest features. [known, from the
paper's figure] one module per tap, in series, between encoder and decoder; F is split by channel into a and
b; D is the tap's token grid resized to F's:

    a' = Conv3(a * Conv1(D))    b' = Conv4(b + Conv2(D))    out = Conv5(concat(a', b') + F)

[own] everything else. Conv1, Conv2 and Conv5 are 1x1, Conv3 and Conv4 are 3x3 and followed by GELU, all
with bias and without norms, so that neither batch nor size matter. D is resized bilinearly, with
anti-aliasing where it shrinks. A last ReLU keeps the features non-negative, as those of the eight hosts
are and as their decoders expect them. Conv3 and Conv4 start at zero and Conv5 at the identity, so that
out = F exactly at the start: training begins with the plain host. In the first step gradients reach Conv3,
Conv4 and Conv5, and through Conv3 and Conv4, zero until then, Conv1 and Conv2 from the second step on.

CO-ISD, collaborative optimisation implicit self-distillation: two paths through one set of host weights.
[known] the main path goes through the fusion, the light one past it; the loss is
w1 * L(main) + w2 * L(light), in one backward pass, without a teacher term; after training only the light
path exists. [own] both weights are 1, and only the batch statistics of the light path are kept. Both paths
normalise with their own batch statistics in training; the running statistics, which the host uses
afterwards, are those of the light path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.modules.batchnorm import _BatchNorm

from dimpoint.errors import ConfigError
from dimpoint.networks.base import HostNetwork

FusionKind: TypeAlias = Literal["samf", "add"]


class Samf(nn.Module):
    """One SAMF; `channels` of the host's features (even), `token_channels` of the tap."""

    def __init__(self, channels: int, token_channels: int, *, relu: bool = True) -> None:
        """relu: apply a final ReLU; off for a host whose deepest features may be negative."""
        super().__init__()
        if channels < 2 or channels % 2:
            raise ConfigError(f"SAMF halves the host's channels: need an even number, got {channels}")
        half = channels // 2
        self.scale = nn.Conv2d(token_channels, half, 1)  # Conv1
        self.shift = nn.Conv2d(token_channels, half, 1)  # Conv2
        self.scaled = _zero(nn.Conv2d(half, half, 3, padding=1))  # Conv3
        self.shifted = _zero(nn.Conv2d(half, half, 3, padding=1))  # Conv4
        self.joined = _identity(nn.Conv2d(channels, channels, 1))  # Conv5
        self.last = nn.ReLU() if relu else nn.Identity()

    def forward(self, features: Tensor, tokens: Tensor) -> Tensor:
        """(N, channels, H, W) and (N, token_channels, h, w) of any grid -> (N, channels, H, W)."""
        tokens = _on_grid(tokens, features)
        a, b = features.chunk(2, dim=1)
        a = F.gelu(self.scaled(a * self.scale(tokens)))
        b = F.gelu(self.shifted(b + self.shift(tokens)))
        out: Tensor = self.last(self.joined(torch.cat((a, b), dim=1) + features))
        return out


class Addition(nn.Module):
    """The ablation without SAMF: F + Conv1x1(D), the convolution zero at the start [own]."""

    def __init__(self, channels: int, token_channels: int, *, relu: bool = True) -> None:
        """relu: as in `Samf`."""
        super().__init__()
        self.shift = _zero(nn.Conv2d(token_channels, channels, 1))
        self.last = nn.ReLU() if relu else nn.Identity()

    def forward(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Shapes as in `Samf`."""
        out: Tensor = self.last(features + self.shift(_on_grid(tokens, features)))
        return out


_KINDS: dict[str, Callable[..., nn.Module]] = {"samf": Samf, "add": Addition}


class Fusion(nn.Module):
    """One module per tap, in series from the shallowest to the deepest; used in training only."""

    def __init__(self, stages: Sequence[nn.Module], channels: int, token_channels: Sequence[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.channels = channels
        self.token_channels = tuple(token_channels)

    def forward(self, features: Tensor, tokens: Sequence[Tensor]) -> Tensor:
        """(N, channels, H, W) and a grid (N, D_t, h_t, w_t) for each tap -> (N, channels, H, W).

        Raises ConfigError if the channels of host or taps are not those it was built for.
        """
        given = tuple(grid.shape[1] for grid in tokens)
        if given != self.token_channels:
            raise ConfigError(
                f"the fusion was built for taps of {self.token_channels} channels, got {given}: "
                "take the foundation encoder and taps that the run began with"
            )
        if features.shape[1] != self.channels:
            raise ConfigError(
                f"the fusion was built for {self.channels} channels of the host, got {features.shape[1]}"
            )
        if any(len(grid) != len(features) for grid in tokens):
            raise ConfigError(f"the taps' batch is not the host's, {len(features)}")
        for stage, grid in zip(self.stages, tokens, strict=True):
            features = stage(features, grid)
        return features


def fusion(kind: FusionKind, channels: int, token_channels: Sequence[int], *, relu: bool = True) -> Fusion:
    """The chain for a host with `channels` deepest channels and taps of `token_channels`.

    kind: `samf`, or `add` for the ablation. Raises ConfigError for another kind, no taps, or odd channels.
    """
    if kind not in _KINDS:
        raise ConfigError(f"fusion: no kind '{kind}'; take {' or '.join(_KINDS)}")
    if not token_channels:
        raise ConfigError("fusion: there are no taps")
    stages = [_KINDS[kind](channels, tokens, relu=relu) for tokens in token_channels]
    return Fusion(stages, channels, token_channels)


def _on_grid(tokens: Tensor, features: Tensor) -> Tensor:
    """The token grid at the features' height and width, bilinear, corners not aligned."""
    size = features.shape[-2:]
    if tokens.shape[-2:] == size:
        return tokens
    # Anti-aliasing: a host may be coarser than the grid, and every token should contribute.
    return F.interpolate(tokens.float(), size, mode="bilinear", antialias=True).to(tokens.dtype)


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def _identity(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.dirac_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def two_paths(
    host: HostNetwork,
    fusion: Callable[[Tensor, Sequence[Tensor]], Tensor],
    x: Tensor,
    tokens: Sequence[Tensor],
) -> tuple[list[Tensor], list[Tensor]]:
    """(main, light) outputs of `host.decode`, finest first; the encoder is computed once.

    x: (N, channels, H, W), standardised, H and W multiples of `host.multiple`, so that x and the tokens
    cover the same area. fusion: as `samf.fusion` builds it. tokens: the taps' grids of the same frames.
    Raises ConfigError for other sizes.
    """
    height, width = x.shape[-2:]
    if not (height and width) or height % host.multiple or width % host.multiple:
        raise ConfigError(
            f"FDEP trains on views whose sides are multiples of {host.multiple}, got {height} x {width}: "
            f"set view.size to a multiple of {host.multiple}"
        )
    features = host.encode(x)
    light = host.decode(features)
    with running_statistics_untouched(host):
        main = host.decode([*features[:-1], fusion(features[-1], tokens)])
    return main, light


@contextmanager
def running_statistics_untouched(network: nn.Module) -> Iterator[None]:
    """Within the block, batch norms in training normalise as usual but do not update running statistics."""
    recording = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for norm in recording:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in recording:
            norm.track_running_stats = True
