"""Every encoder-decoder host keeps the same promises; a new one is a row of `HOSTS`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dimpoint.errors import ConfigError
from dimpoint.inference.backends import OnnxBackend
from dimpoint.model import export as export_module
from dimpoint.model.checkpoint import traits
from dimpoint.model.export import export_onnx
from dimpoint.model.record import ModelMeta
from dimpoint.networks import NETWORKS, create
from dimpoint.networks.base import HostNetwork, count_macs, count_parameters
from dimpoint.training.losses import bce_loss, deep_supervision


@dataclass(frozen=True)
class Host:
    """What a host must be; pairs are for one and for three input channels.

    giga: 1e9 multiply-adds of convolutions at 256x256. deepest: channels and stride of the last feature.
    rate: of learning, at which one frame is learnt soon.
    """

    name: str
    parameters: tuple[int, int]
    giga: tuple[float, float]
    deepest: tuple[int, int]
    multiple: int
    outputs: int = 1
    rate: float = 1e-2


HOSTS = (
    Host("acm", (397_823, 397_971), (0.3433, 0.3457), (64, 16), 16, rate=0.03),
    Host("alcnet", (426_961, 427_109), (0.2951, 0.2974), (64, 16), 16, rate=0.03),
    Host("mlclnet", (656_961, 657_249), (6.9930, 7.0118), (64, 4), 4),
    Host("alclnet", (5_667_857, 5_668_145), (6.6543, 6.6731), (256, 16), 16),
    Host("dnanet", (4_696_568, 4_696_888), (13.9091, 13.9301), (256, 16), 16, outputs=4),
    Host("gglnet", (8_978_877, 8_988_093), (9.6339, 9.6893), (256, 16), 16),
    Host("uiunet", (50_540_309, 50_541_461), (54.2221, 54.2976), (512, 32), 32, outputs=7, rate=6e-3),
    Host("msdanet", (4_795_343, 4_791_041), (21.0119, 20.9140), (64, 16), 16),
    Host("unet", (7_849_025, 7_849_601), (13.9125, 13.9503), (512, 16), 16),
)


@pytest.fixture(scope="module", params=HOSTS, ids=lambda host: host.name)
def host(request: pytest.FixtureRequest) -> Host:
    """Each row in turn; the tests of one host follow each other."""
    row: Host = request.param
    return row


@pytest.fixture(scope="module")
def network(host: Host) -> HostNetwork:
    """For the tests that leave it as it is; its batch statistics are of noise, so that signals stay alive."""
    network = fresh(host).train()
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 0.9  # at 1, random units that hardly answer are magnified, and rounding with them
    with torch.no_grad():
        # Statistics of a few deepest cells would make logits of thousands, which float32 cannot hold to 1e-4.
        network.decode(network.encode(noise(2, 4 * unit(host), 4 * unit(host))))
    for norm in norms:
        norm.momentum = 0.1
    return network.eval()


def test_every_host_has_a_row() -> None:
    classes = {name: network for name, network in NETWORKS.items() if isinstance(network, type)}
    hosts = {name for name, network in classes.items() if issubclass(network, HostNetwork)}
    assert hosts == {host.name for host in HOSTS}


def fresh(host: Host, channels: int = 1) -> HostNetwork:
    """Random weights, in evaluation mode."""
    torch.manual_seed(0)
    network = create(host.name, channels=channels).eval()
    assert isinstance(network, HostNetwork)
    return network


def noise(batch: int, height: int, width: int, channels: int = 1) -> Tensor:
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(1))


def unit(host: Host) -> int:
    """Sides in multiples of this have whole maps at every scale."""
    return max(host.multiple, host.deepest[1])


class TestEveryHost:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_is_as_big_as_published(self, host: Host, channels: int) -> None:
        with torch.device("meta"):
            network = fresh(host, channels)
        index = (1, 3).index(channels)
        assert count_parameters(network) == host.parameters[index]
        assert round(count_macs(network, 256, 256) / 1e9, 4) == host.giga[index]

    def test_states_what_it_is(self, host: Host, network: HostNetwork) -> None:
        assert (network.deepest_channels, network.deepest_stride) == host.deepest
        assert network.multiple == host.multiple
        assert (network.kind, network.activation, network.stride) == ("probability", "sigmoid", 1)
        assert network.channels == 1

    def test_maps(self, host: Host, network: HostNetwork) -> None:
        """Features from shallow to deep, logits as large as the frame, the finest of which is the output."""
        x = noise(2, unit(host), 2 * unit(host))
        with torch.inference_mode():
            features = network.encode(x)
            outputs = network.decode(features)
            assert torch.equal(network(x), outputs[0])
        widths = [feature.shape[-1] for feature in features]
        assert widths == sorted(widths, reverse=True)
        channels, stride = host.deepest
        assert features[-1].shape == (2, channels, x.shape[2] // stride, x.shape[3] // stride)
        assert (features[-1] >= 0).all()
        assert [output.shape for output in outputs] == host.outputs * [(2, 1, *x.shape[2:])]

    # (height, width): less than the multiple, no multiple in one or both
    @pytest.mark.parametrize(("height", "width"), [(1, 1), (16, 21), (33, 30)])
    def test_any_size(self, host: Host, network: HostNetwork, height: int, width: int) -> None:
        """A frame is continued by the values of its border, never shrunk."""
        x = noise(1, height, width)
        padded = F.pad(x, (0, -width % host.multiple, 0, -height % host.multiple), mode="replicate")
        with torch.inference_mode():
            output, whole = network(x), network(padded)
        assert output.isfinite().all()
        assert torch.equal(output, whole[..., :height, :width])

    @pytest.mark.parametrize(("height", "width"), [(0, 16), (16, 0)])
    def test_empty_frame(self, network: HostNetwork, height: int, width: int) -> None:
        with pytest.raises(ConfigError, match=f"{height} x {width} pixels is empty"):
            network(torch.zeros(1, 1, height, width))

    def test_three_channels(self, host: Host) -> None:
        network = fresh(host, channels=3)
        assert (network.channels, len(network.mean), len(network.std)) == (3, 3, 3)
        with torch.inference_mode():
            assert network(noise(1, unit(host), unit(host), 3)).shape == (1, 1, unit(host), unit(host))

    def test_decodes_from_the_features_alone(self, host: Host, network: HostNetwork) -> None:
        x, other = noise(2, unit(host), unit(host)).split(1)
        with torch.inference_mode():
            expected = network(x)
            features = network.encode(x)
            network.encode(other)  # a decoder that kept something of the last frame would give itself away
            torch.testing.assert_close(network.decode(features)[0], expected)
            replaced = [*features[:-1], torch.zeros_like(features[-1])]
            assert not torch.equal(network.decode(replaced)[0], network.decode(features)[0])

    def test_gradients_reach_every_parameter(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("relu", "relu_"):  # no unit is dead by chance
            monkeypatch.setattr(torch, name, lambda x: F.leaky_relu(x, 0.1))
        monkeypatch.setattr(F, "relu", lambda x, inplace=False: F.leaky_relu(x, 0.1))
        network = fresh(host)  # not in training, where a bias before a batch norm has no gradient
        outputs = network.decode(network.encode(noise(2, unit(host), 2 * unit(host))))
        torch.stack(outputs).square().mean().backward()
        dead = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()]
        assert not dead

    @pytest.mark.slow
    def test_learns_one_frame(self, host: Host) -> None:
        """A square on noise, and its mirror image: cross-entropy falls to a tenth of what a coin has."""
        network = fresh(host).train()
        for layer in network.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        frames, masks = square(32)
        optimizer = torch.optim.Adam(network.parameters(), lr=host.rate)
        wanted = 0.1 * math.log(2)
        for _ in range(300):
            outputs = network.decode(network.encode(frames))
            finest = bce_loss(outputs[0].detach(), masks)
            if finest < wanted:
                break
            optimizer.zero_grad()
            deep_supervision(bce_loss, outputs, masks).backward()
            optimizer.step()
        assert finest < wanted

    @pytest.mark.slow
    def test_onnx(
        self, host: Host, network: HostNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The export compares torch and ONNX Runtime itself, here at small sizes."""
        monkeypatch.setattr(export_module, "_SIZES", ((1, 32, 64), (2, 96, 32)))
        meta = ModelMeta(name=host.name, network=host.name, **traits(network))
        export_onnx(network, meta, tmp_path / "host.onnx")
        frames = noise(1, 3 * unit(host), unit(host))
        with torch.inference_mode():
            expected = network(frames).sigmoid()
        got = OnnxBackend(tmp_path / "host.onnx").run(frames.numpy())
        np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=1e-4)


def square(size: int) -> tuple[Tensor, Tensor]:
    """Frames and masks (2, 1, size, size): a bright square of a quarter of the side, and its mirror image."""
    mask = torch.zeros(1, 1, size, size)
    mask[..., size // 4 : size // 2, size // 2 : 3 * size // 4] = 1
    frame = noise(1, size, size) * 0.1 + mask
    return (torch.cat((image, image.flip(-1))) for image in (frame, mask))  # type: ignore[return-value]


@pytest.mark.parametrize("name", [host.name for host in HOSTS])
@pytest.mark.parametrize("channels", [0, -1])
def test_channels_must_be(name: str, channels: int) -> None:
    with pytest.raises(ConfigError, match="channels must be at least 1"):
        create(name, channels=channels)


@pytest.mark.parametrize("name", ["acm", "alcnet"])
def test_batch_of_one_frame(name: str) -> None:
    """Batch statistics over 1x1 maps need two; in use one is enough."""
    network, x = create(name).train(), noise(1, 32, 32)
    with pytest.raises(ConfigError, match="batches of at least two frames"):
        network(x)
    assert network.eval()(x).shape == x.shape


def test_unet_of_other_widths() -> None:
    network = create("unet", widths=(4, 8, 16)).eval()
    assert isinstance(network, HostNetwork)
    assert (network.multiple, network.deepest_channels, network.deepest_stride) == (4, 16, 4)
    with torch.inference_mode():
        features = network.encode(noise(1, 8, 12))
    assert [feature.shape[1:] for feature in features] == [(4, 8, 12), (8, 4, 6), (16, 2, 3)]
