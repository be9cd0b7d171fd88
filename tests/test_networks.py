"""Every network keeps the same promises; a new one is covered by its line in the registry."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dimpoint.errors import ConfigError
from dimpoint.model.checkpoint import traits
from dimpoint.model.record import ModelMeta
from dimpoint.networks import NETWORKS, Network, NetworkRow, create, describe, names
from dimpoint.networks.base import HostNetwork, count_macs, count_parameters, standardise
from dimpoint.networks.blocks import (
    Bottleneck,
    ConditionalChannelWeighting,
    ShuffleUnit,
    SqueezeExcite,
    interleaved,
)


def is_host(name: str) -> bool:
    network = NETWORKS[name]
    return isinstance(network, type) and issubclass(network, HostNetwork)


@pytest.fixture(scope="module", params=names())
def name(request: pytest.FixtureRequest) -> str:
    """Each network in turn; the tests of one follow each other."""
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def network(name: str) -> Network:
    """For the tests that leave it as it is."""
    return built(name)


@pytest.fixture(scope="module")
def rows() -> dict[str, NetworkRow]:
    return {row["name"]: row for row in describe(64, 96)}


def built(name: str) -> Network:
    torch.manual_seed(0)
    return create(name).eval()


def frames(network: Network, batch: int, rows: int, columns: int) -> Tensor:
    """Noise of rows x columns times the network's multiple."""
    generator = torch.Generator().manual_seed(1)
    size = rows * network.multiple, columns * network.multiple
    return torch.randn(batch, network.channels, *size, generator=generator)


POINT_NETWORKS = [name for name in names() if not is_host(name)]
# Of other networks the reach is measured in their own tests, with narrow branches.
SOON_MEASURED = ("spire", "spire-lite", "acm", "alcnet", "unet")


class TestEveryNetwork:
    # (batch, height and width in multiples): the least, and another that is not square
    @pytest.mark.parametrize(("batch", "rows", "columns"), [(1, 1, 1), (2, 3, 2)])
    def test_shape(self, network: Network, batch: int, rows: int, columns: int) -> None:
        x = frames(network, batch, rows, columns)
        before = x.clone()
        with torch.inference_mode():
            output = network(x)
        assert output.shape == (batch, 1, x.shape[2] // network.stride, x.shape[3] // network.stride)
        assert output.dtype == torch.float32
        assert output.isfinite().all()
        assert torch.equal(x, before)  # the input stays as it was

    def test_states_what_a_model_file_records(self, name: str, network: Network) -> None:
        meta = ModelMeta(name=name, network=name, **traits(network))
        assert len(meta.mean) == len(meta.std) == meta.channels
        assert meta.multiple % meta.stride == 0

    def test_frames_of_a_batch_do_not_mix(self, network: Network) -> None:
        """In float64: which kernels a processor takes for a batch changes float32 results by up to 1e-4."""
        exact, x = copy.deepcopy(network).double(), frames(network, 2, 1, 2).double()
        with torch.inference_mode():
            torch.testing.assert_close(exact(x)[1:], exact(x[1:]), rtol=0, atol=1e-8)

    def test_has_a_row(self, name: str, network: Network, rows: dict[str, NetworkRow]) -> None:
        row = rows[name]
        assert row["parameters"] == count_parameters(network)
        assert row["macs"] == count_macs(network, 64, 96) > 0
        assert (row["stride"], row["kind"], row["channels"]) == (
            network.stride,
            network.kind,
            network.channels,
        )
        assert row["summary"].endswith(".")


@pytest.mark.parametrize("name", POINT_NETWORKS)  # of hosts: tests/test_hosts.py
def test_every_parameter_learns(name: str) -> None:
    network = built(name).train()
    network(frames(network, 2, 4, 4)).square().mean().backward()
    dead = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead


@pytest.mark.parametrize("name", SOON_MEASURED)
def test_receptive_radius(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A response depends on no input farther than the radius that tiles overlap by."""
    mean = F.adaptive_avg_pool2d  # looks at the whole input
    monkeypatch.setattr(F, "adaptive_avg_pool2d", lambda x, size: mean(x.detach(), size))
    network = built(name)
    for parameter in network.parameters():
        parameter.data.abs_()  # so that no path is lost in a ReLU
    unit = network.multiple
    middle = -(-network.receptive_radius // unit) + 2
    x = torch.ones(1, network.channels, 2 * middle * unit, unit, requires_grad=True)
    output = network(x)
    farthest = 0
    for row in range(middle * unit, (middle + 1) * unit, network.stride):
        (reached,) = torch.autograd.grad(output[..., row // network.stride, 0], x, retain_graph=True)
        distances = reached.sum((0, 1, 3)).nonzero() - row
        farthest = max(farthest, int(distances.abs().max()))
    assert farthest <= network.receptive_radius < 1.2 * farthest + 1


# (name, options, what the message says)
WRONG = (
    ("spyre", {}, "did you mean 'spire'"),
    ("", {}, "known: spire"),
    ("42", {}, "known: spire"),  # like none of them
    ("spire", {"widths": (1, 2)}, "no option 'widths'; there are none"),
    ("spire-lite", {"width": (8, 8)}, "no option 'width'; did you mean 'widths'"),
    ("spire-lite", {"widths": (8, 8), "depths": (1,)}, "cannot be built with"),
    ("spire-lite", {"widths": 8}, "cannot be built with"),
    ("unet", {"widths": ()}, "at least one scale"),
)


@pytest.mark.parametrize(("name", "options", "message"), WRONG)
def test_create_tells_what_is_wrong(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create(name, **options)


class _One(Network):
    def __init__(self, layer: nn.Module, channels: int) -> None:
        super().__init__()
        self.layer = layer
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


# (layer, input channels, multiply-adds for an 8x12 frame)
LAYERS = (
    (nn.Conv2d(2, 3, 1), 2, 8 * 12 * 2 * 3),  # a bias is no multiply-add
    (nn.Conv2d(2, 3, 3, stride=2, padding=1), 2, 4 * 6 * 9 * 2 * 3),
    (nn.Conv2d(4, 4, 3, padding=1, groups=4), 4, 8 * 12 * 9 * 4),  # depthwise
    (nn.ConvTranspose2d(2, 3, 2, 2), 2, 8 * 12 * 4 * 2 * 3),  # counted at its input
    (nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1)), 1, 8 * 12 * 4),
    (nn.ReLU(), 1, 0),
)


@pytest.mark.parametrize(("layer", "channels", "macs"), LAYERS)
def test_macs(layer: nn.Module, channels: int, macs: int) -> None:
    network = _One(layer, channels)
    assert count_macs(network, 8, 12) == macs
    network(torch.zeros(1, channels, 8, 12))  # the counted network itself is as it was


class TestBlocks:
    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_two_halves_are_interleaved_in_their_layout(self, layout: torch.memory_format) -> None:
        x = torch.randn(2, 6, 3, 2).contiguous(memory_format=layout).requires_grad_()
        first, last = (half.contiguous(memory_format=layout) for half in x.chunk(2, dim=1))
        out = interleaved(first, last)
        torch.testing.assert_close(out, x[:, [0, 3, 1, 4, 2, 5]])
        assert out.is_contiguous(memory_format=layout)
        weights = torch.randn(out.shape)
        (out * weights).sum().backward()
        torch.testing.assert_close(x.grad, weights[:, [0, 2, 4, 1, 3, 5]])

    @pytest.mark.parametrize(
        "block",
        [ShuffleUnit(8), ConditionalChannelWeighting(8), ConditionalChannelWeighting(8, refine=True)],
    )
    def test_half_of_the_channels_pass(self, block: nn.Module) -> None:
        x = torch.randn(2, 8, 5, 7)
        out = block.eval()(x)
        assert torch.equal(out[:, ::2], x[:, :4])
        assert not torch.allclose(out[:, 1::2], x[:, 4:])

    def test_squeeze_excite_scales_whole_channels(self) -> None:
        x = torch.rand(2, 8, 5, 7) + 1
        gates = SqueezeExcite(8)(x) / x
        torch.testing.assert_close(gates, gates[:, :, :1, :1].expand_as(gates))
        assert ((gates > 0) & (gates < 1)).all()

    def test_bottleneck_adds_the_shortcut(self) -> None:
        block = Bottleneck(4, 2, 8).eval()
        nn.init.zeros_(block.body[2][1].weight)  # type: ignore[index,arg-type]
        x = torch.randn(1, 4, 5, 5)
        torch.testing.assert_close(block(x), torch.relu(block.shortcut(x)))


def test_standardise_repeats_and_centres() -> None:
    x = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3)
    out = standardise(x, (0.5, 0.25), (0.5, 0.25))
    assert out.tolist() == [[[[-1, 0, 1]], [[-1, 1, 3]]]]
