"""CO-ISD, collaborative optimisation implicit self-distillation: two paths through one set of host weights.

[known, arXiv 2512.05511] the main path goes through the fusion, the light one past it; the loss is
w1 * L(main) + w2 * L(light), in one backward pass, without a teacher term; after training only the light
path exists. [own] both weights are 1, and only the batch statistics of the light path are kept. Both paths
normalise with their own batch statistics in training; the running statistics, which the host uses
afterwards, are those of the light path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dimpoint.errors import ConfigError
from dimpoint.networks.base import HostNetwork


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
