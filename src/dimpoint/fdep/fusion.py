"""SAMF and CO-ISD, the two parts of FDEP (arXiv 2512.05511) that change the training of a host network.

SAMF, semantic alignment modulation fusion: token grids modulate a host's deepest features. Known from the
paper's figure: one module per tap, in series, between encoder and decoder; F is split by channel into a and
b; D is the tap's token grid resized to F:

    a' = Conv3(a * Conv1(D))    b' = Conv4(b + Conv2(D))    out = Conv5(concat(a', b') + F)

The rest is our own. Conv1, Conv2 and Conv5 are 1x1, Conv3 and Conv4 are 3x3 and followed by GELU, all with
bias and without norms, so that neither batch nor size matter. D is resized bilinearly, with anti-aliasing
where it shrinks. A final ReLU keeps the features non-negative, as the decoders of all hosts expect.
Conv3 and Conv4 start at zero and Conv5 at the identity, so that out = F at the start: training begins with
the plain host. In the first step gradients reach Conv3, Conv4 and Conv5, from the second step on also Conv1
and Conv2.

CO-ISD, collaborative optimisation implicit self-distillation: two paths through the same host weights. Known:
the main path goes through the fusion, the light path bypasses it; the loss is w1 * L(main) + w2 * L(light),
in one backward pass, without a distillation term; after training only the light path exists. Our own: both
weights are 1; both paths normalise with their own batch statistics in training; the running statistics, which
the host uses afterwards, are those of the light path.
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
    """One SAMF module.

    Parameters
    ----------
    channels : int
        Channels of the host's features, even.
    token_channels : int
        Channels of the tap.
    relu : bool
        Apply a final ReLU; False for a host whose deepest features can be negative. Default: True.

    Raises
    ------
    ConfigError
        If `channels` is odd.
    """

    def __init__(self, channels: int, token_channels: int, *, relu: bool = True) -> None:
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
        """(N, channels, H, W) and (N, token_channels, h, w) of any size -> (N, channels, H, W)."""
        tokens = _on_grid(tokens, features)
        a, b = features.chunk(2, dim=1)
        a = F.gelu(self.scaled(a * self.scale(tokens)))
        b = F.gelu(self.shifted(b + self.shift(tokens)))
        out: Tensor = self.last(self.joined(torch.cat((a, b), dim=1) + features))
        return out


class Addition(nn.Module):
    """The ablation without SAMF: F + Conv1x1(D), with the convolution zero at the start. Own design.

    Parameters
    ----------
    channels, token_channels, relu
        As `Samf`.
    """

    def __init__(self, channels: int, token_channels: int, *, relu: bool = True) -> None:
        super().__init__()
        self.shift = _zero(nn.Conv2d(token_channels, channels, 1))
        self.last = nn.ReLU() if relu else nn.Identity()

    def forward(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Shapes as in `Samf`."""
        out: Tensor = self.last(features + self.shift(_on_grid(tokens, features)))
        return out


_KINDS: dict[str, Callable[..., nn.Module]] = {"samf": Samf, "add": Addition}


class Fusion(nn.Module):
    """One module per tap, in series from the shallowest to the deepest; used in training only.

    Parameters
    ----------
    stages : sequence of nn.Module
        `Samf` or `Addition` modules.
    channels : int
        Channels of the host's deepest features.
    token_channels : sequence of int
        Channels of each tap.
    """

    def __init__(self, stages: Sequence[nn.Module], channels: int, token_channels: Sequence[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.channels = channels
        self.token_channels = tuple(token_channels)

    def forward(self, features: Tensor, tokens: Sequence[Tensor]) -> Tensor:
        """(N, channels, H, W) and a grid (N, D_t, h_t, w_t) for each tap -> (N, channels, H, W).

        Raises ConfigError if the channels differ from those of the constructor.
        """
        given = tuple(grid.shape[1] for grid in tokens)
        if given != self.token_channels:
            raise ConfigError(
                f"the fusion was built for taps of {self.token_channels} channels, got {given}: "
                "use the foundation encoder and taps that the run was started with"
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
    """Build the fusion of a host and a foundation encoder.

    Parameters
    ----------
    kind : {"samf", "add"}
        `add` is the ablation.
    channels : int
        Channels of the host's deepest features.
    token_channels : sequence of int
        Channels of each tap.
    relu : bool
        As `Samf`. Default: True.

    Returns
    -------
    Fusion

    Raises
    ------
    ConfigError
        For another kind, no taps, or an odd number of channels.
    """
    if kind not in _KINDS:
        raise ConfigError(f"fusion: no kind '{kind}'; choose {' or '.join(_KINDS)}")
    if not token_channels:
        raise ConfigError("fusion: there are no taps")
    stages = [_KINDS[kind](channels, tokens, relu=relu) for tokens in token_channels]
    return Fusion(stages, channels, token_channels)


def _on_grid(tokens: Tensor, features: Tensor) -> Tensor:
    """The token grid resized to the features' height and width, bilinear, corners not aligned."""
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
    """Outputs of `host.decode` along the main and the light path; the encoder runs once.

    Parameters
    ----------
    host : HostNetwork
        The host.
    fusion : callable
        A `Fusion`.
    x : (N, channels, H, W) Tensor
        Standardised views; H and W are multiples of `host.multiple`, so that x and tokens cover the same
        area.
    tokens : sequence of Tensor
        Token grids of the same views.

    Returns
    -------
    main, light : list of Tensor
        Logits, finest first.

    Raises
    ------
    ConfigError
        For other sizes.
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
    """Within the block, batch norms in training do not update their running statistics."""
    recording = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for norm in recording:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in recording:
            norm.track_running_stats = True
