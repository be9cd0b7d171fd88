"""The registry of networks: one file for each network or family, one line each in `NETWORKS`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypedDict, cast

import torch
from torch import nn

from dimpoint.errors import ConfigError
from dimpoint.extensions import extension_names, load_extension
from dimpoint.networks.acm import ACM, ALCNet
from dimpoint.networks.base import Network, count_macs, count_parameters
from dimpoint.networks.dnanet import DNANet
from dimpoint.networks.gglnet import GGLNet
from dimpoint.networks.mlclnet import ALCLNet, MLCLNet
from dimpoint.networks.msdanet import MSDANet
from dimpoint.networks.spire import Spire
from dimpoint.networks.spire_lite import SpireLite
from dimpoint.networks.sshdnet import SshdNet, SshdNetSmall
from dimpoint.networks.uiunet import UIUNet
from dimpoint.networks.unet import UNet
from dimpoint.text import nearest

__all__ = ["NETWORKS", "Network", "NetworkRow", "create", "describe", "names"]

ENTRY_POINTS = "dimpoint.networks"

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "spire": Spire,
    "spire-lite": SpireLite,
    "sshdnet": SshdNet,
    "sshdnet-small": SshdNetSmall,
    "acm": ACM,
    "alcnet": ALCNet,
    "mlclnet": MLCLNet,
    "alclnet": ALCLNet,
    "dnanet": DNANet,
    "gglnet": GGLNet,
    "uiunet": UIUNet,
    "msdanet": MSDANet,
    "unet": UNet,
}


class NetworkRow(TypedDict):
    """A row of `describe`.

    Attributes
    ----------
    name, summary : str
        Name and first line of the docstring.
    parameters, macs : int
        Trainable parameters, and multiply-adds of the convolutions for one frame.
    channels, stride : int
        Input channels, and input pixels per map pixel.
    kind : str
        `response` or `probability`.
    """

    name: str
    summary: str
    parameters: int
    macs: int
    channels: int
    stride: int
    kind: str


def names() -> list[str]:
    """All names that `create` accepts: ours, then entry points of other packages."""
    return list(dict.fromkeys([*NETWORKS, *extension_names(ENTRY_POINTS)]))


def create(name: str, **options: Any) -> Network:
    """Create a network with random weights.

    Parameters
    ----------
    name : str
        One of `names()`, or `module:Class` of a subclass of `Network`.
    **options
        Arguments of the network's constructor.

    Returns
    -------
    Network

    Raises
    ------
    ConfigError
        If the network or an option is unknown, with the nearest known name, or a value is invalid.

    Examples
    --------
    >>> from dimpoint import networks
    >>> network = networks.create("spire-lite")
    >>> network.stride, sum(weight.numel() for weight in network.parameters())
    (2, 571881)
    """
    build = _builder(name)
    known = inspect.signature(build).parameters
    for option in options:
        if option not in known:
            raise ConfigError(f"network '{name}' has no option '{option}'{_hint(option, known)}")
    try:
        return cast(Network, build(**options))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"network '{name}' cannot be built with {options}: {error}") from error


def _builder(name: str) -> Callable[..., nn.Module]:
    """The class for a network's name, an entry point, or `module:Class`."""
    if name in NETWORKS:
        return NETWORKS[name]
    found = load_extension(name, ENTRY_POINTS)
    if found is None:
        raise ConfigError(f"no network '{name}'{_hint(name, names())}")
    if not (isinstance(found, type) and issubclass(found, Network)):
        raise ConfigError(f"network '{name}' is {found!r}, not a subclass of dimpoint.networks.Network")
    return found


def describe(height: int = 512, width: int = 512) -> list[NetworkRow]:
    """Sizes of all networks with default options.

    Parameters
    ----------
    height, width : int
        Size of the frame for the multiply-adds, pixels. Default: 512.

    Returns
    -------
    list of NetworkRow

    Examples
    --------
    >>> from dimpoint import networks
    >>> rows = {row["name"]: row for row in networks.describe(256, 256)}
    >>> rows["spire-lite"]["stride"], rows["acm"]["kind"]
    (2, 'probability')
    """
    with torch.device("meta"):  # sizes without weights
        return [_row(name, create(name), height, width) for name in names()]


def _row(name: str, network: Network, height: int, width: int) -> NetworkRow:
    return NetworkRow(
        name=name,
        summary=(inspect.getdoc(network) or "").partition("\n")[0],
        parameters=count_parameters(network),
        macs=count_macs(network, height, width),
        channels=network.channels,
        stride=network.stride,
        kind=network.kind,
    )


def _hint(name: str, known: Iterable[str]) -> str:
    """The nearest known name as a suggestion, or all known names."""
    choices = list(known)
    near = nearest(name, choices)
    if near:
        return f"; did you mean '{near}'?"
    return f"; known: {', '.join(choices)}" if choices else "; there are none"
