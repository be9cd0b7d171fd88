"""FDEP needs nothing of a host but encode and decode: every registered host goes through both paths."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from dimpoint.fdep.fusion import fusion, two_paths
from dimpoint.networks import NETWORKS, create
from dimpoint.networks.base import HostNetwork

HOSTS = [name for name, kind in NETWORKS.items() if isinstance(kind, type) and issubclass(kind, HostNetwork)]
TOKENS = (6, 10)


def _host(name: str) -> HostNetwork:
    torch.manual_seed(0)
    host = create(name)
    assert isinstance(host, HostNetwork)
    return host


def _inputs(host: HostNetwork) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    side = 2 * max(host.multiple, host.deepest_stride)
    tokens = [torch.randn(2, channels, 3, 3, generator=generator) for channels in TOKENS]
    return torch.randn(2, host.channels, side, side, generator=generator), tokens


@pytest.mark.parametrize("name", HOSTS)
def test_training_starts_as_the_plain_host(name: str) -> None:
    """Equal bit for bit: the deepest features are non-negative, and decoding changes none of them."""
    host = _host(name).eval()
    x, tokens = _inputs(host)
    with torch.no_grad():
        main, light = two_paths(host, fusion("samf", host.deepest_channels, TOKENS), x, tokens)
        plain = host.decode(host.encode(x))
    assert len(main) == len(light) == len(plain)
    for ours, theirs, alone in zip(main, light, plain, strict=True):
        assert torch.equal(ours, theirs)
        assert torch.equal(theirs, alone)


@pytest.mark.parametrize("name", HOSTS)
def test_statistics_and_files_are_the_plain_hosts(name: str) -> None:
    host = _host(name)
    plain = copy.deepcopy(host)
    x, tokens = _inputs(host)
    module = fusion("samf", host.deepest_channels, TOKENS)
    with torch.no_grad():
        for value in module.parameters():
            value.add_(0.2)
    torch.manual_seed(2)  # dropout
    two_paths(host, module, x, tokens)
    torch.manual_seed(2)
    plain.decode(plain.encode(x))
    ours, theirs = host.state_dict(), plain.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
