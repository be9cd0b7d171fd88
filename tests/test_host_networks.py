"""What is particular to one host network; what all of them promise is tested with the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dimpoint.errors import ConfigError
from dimpoint.networks import create
from dimpoint.networks.base import HostNetwork, count_macs, count_parameters
from dimpoint.networks.blocks import SqueezeExcite
from dimpoint.networks.dnanet import DNANet
from dimpoint.networks.gglnet import GGLNet, TwoWayFusion, gradient_magnitude
from dimpoint.networks.host_blocks import (
    ChannelGate,
    PositionGate,
    ResidualDown,
    ResidualUnit,
    enlarge,
    halve,
)
from dimpoint.networks.mlclnet import GatedAddition, MultiscaleContrast
from dimpoint.networks.msdanet import DirectionAwareUnit, DirectionGates, MSDANet, directions
from dimpoint.networks.uiunet import CrossAttention, DilatedU, ResidualU


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def host() -> Callable[[str], HostNetwork]:
    """A network of each name, built once, in evaluation mode; tests leave it as it was."""
    built: dict[str, HostNetwork] = {}

    def get(name: str) -> HostNetwork:
        if name not in built:
            torch.manual_seed(0)
            network = create(name).eval()
            assert isinstance(network, HostNetwork)
            built[name] = network
        return built[name]

    return get


@contextmanager
def inputs_of(*modules: nn.Module) -> Iterator[list[Tensor]]:
    """The first argument of every call of the modules, in order."""
    seen: list[Tensor] = []
    handles = [m.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0])) for m in modules]
    yield seen
    for handle in handles:
        handle.remove()


def reach(module: nn.Module, channels: int, *, size: int = 41) -> int:
    """How many pixels away an input can be that an output still sees."""
    for name, parameter in module.named_parameters():
        parameter.data.fill_(0 if name.endswith("bias") else 1)  # no path is lost in a ReLU
    x = torch.ones(1, channels, size, size, requires_grad=True)
    middle = size // 2
    (seen,) = torch.autograd.grad(module.eval()(x)[0, :, middle, middle].sum(), x)
    return int((seen[0].sum(0).nonzero() - middle).abs().max())


class TestResizing:
    @pytest.mark.parametrize("size", [(1, 1), (1, 5), (7, 4)])
    def test_enlarge_puts_corners_on_corners(self, size: tuple[int, int]) -> None:
        x = noise(2, 3, *size)
        expected = F.interpolate(x.double(), scale_factor=2.0, mode="bilinear", align_corners=True)
        torch.testing.assert_close(enlarge(x).double(), expected, rtol=0, atol=1e-6)

    def test_enlarge_is_exact_on_wide_maps(self) -> None:
        """Torch's own float32 is off by some 1e-4 here."""
        x = noise(1, 1, 2, 1500)
        expected = F.interpolate(x.double(), scale_factor=2.0, mode="bilinear", align_corners=True)
        torch.testing.assert_close(enlarge(x).double(), expected, rtol=0, atol=1e-6)

    def test_enlarge_keeps_type(self) -> None:
        x = noise(1, 1, 3, 600).to(torch.bfloat16)
        assert enlarge(x).dtype == torch.bfloat16
        torch.testing.assert_close(enlarge(x).float(), enlarge(x.float()), rtol=0, atol=0.05)

    @pytest.mark.parametrize("size", [(2, 2), (2, 8), (12, 6)])
    def test_halve_puts_corners_on_corners(self, size: tuple[int, int]) -> None:
        x = noise(2, 3, *size)
        expected = F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=True)
        torch.testing.assert_close(halve(x), expected, rtol=0, atol=1e-6)

    def test_halve_by_hand(self) -> None:
        x = torch.tensor([[0.0, 1, 2, 3, 4, 5]]).repeat(2, 1).view(1, 1, 2, 6)
        assert halve(x).flatten().tolist() == [0, 2.5, 5]


class TestBlocks:
    def test_he_initialisation(self) -> None:
        torch.manual_seed(0)
        convolution = ResidualUnit(64).body[0]
        assert isinstance(convolution, nn.Conv2d)
        assert convolution.weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.02)
        assert not convolution.bias.any()  # type: ignore[union-attr]

    def test_residual_down_has_a_relu_on_the_shortcut(self) -> None:
        block = ResidualDown(3, 4).eval()
        nn.init.constant_(block.shortcut[1].bias, -100)  # type: ignore[arg-type]
        x = noise(1, 3, 6, 8)
        torch.testing.assert_close(block(x), torch.relu(block.body(x)))
        assert block(x).any()

    def test_channel_gate_adds_what_both_poolings_say(self) -> None:
        gate = ChannelGate(8, reduction=4)
        flat = noise(2, 8, 1, 1).expand(2, 8, 5, 3)  # its mean and its maximum are the same
        expected = torch.sigmoid(2 * gate.bottleneck(flat[..., :1, :1]))
        torch.testing.assert_close(gate(flat), expected)

    @pytest.mark.parametrize("mean_first", [True, False])
    def test_position_gate_order(self, mean_first: bool) -> None:
        gate = PositionGate(3, bias=False, mean_first=mean_first)
        nn.init.zeros_(gate.mix.weight)
        gate.mix.weight.data[0, 0, 1, 1] = 1  # passes the first of the pair
        x = noise(2, 5, 4, 6)
        first = x.mean(1, keepdim=True) if mean_first else x.max(1, keepdim=True).values
        torch.testing.assert_close(gate(x), torch.sigmoid(first))


# (network, beginnings of the names of convolutions that keep the framework's initialisation: biases not 0)
DEFAULT_INITIALISATION = (
    ("mlclnet", {"stages.0.0", "laterals", "head"}),
    ("alclnet", set()),
    ("gglnet", {f"fusions.{i}.position_gate" for i in range(4)}),
    ("msdanet", set()),
)


@pytest.mark.parametrize(("name", "default"), DEFAULT_INITIALISATION)
def test_initialisation(host: Callable[[str], HostNetwork], name: str, default: set[str]) -> None:
    for key, layer in host(name).named_modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            assert bool(layer.bias.any()) == key.startswith(tuple(default)), key


# (network, which outputs change when another deepest feature stands in)
DEEPEST_REPLACED = (
    ("mlclnet", [True]),
    ("alclnet", [True]),
    ("gglnet", [True]),
    ("msdanet", [True]),
    ("dnanet", [True, False, False, False]),
    ("uiunet", [True] * 7),
)


@pytest.mark.parametrize(("name", "changed"), DEEPEST_REPLACED)
def test_what_reads_the_deepest_feature(
    host: Callable[[str], HostNetwork], name: str, changed: list[bool]
) -> None:
    network = host(name)
    with torch.inference_mode():
        *shallower, deepest = network.encode(noise(1, 1, 64, 32))
        before = network.decode([*shallower, deepest])
        after = network.decode([*shallower, deepest + 1])
    assert [not torch.equal(a, b) for a, b in zip(before, after, strict=True)] == changed


@pytest.mark.parametrize("name", ["dnanet", "uiunet"])
def test_deep_supervision_in_training_and_in_use_alike(host: Callable[[str], HostNetwork], name: str) -> None:
    network = host(name)
    features = [noise(2, *f.shape[1:]) for f in network.encode(noise(1, 1, 64, 32))]
    count = len(network.decode(features))
    try:
        assert len(network.train().decode(features)) == count == len(network.heads())
    finally:
        network.eval()


@pytest.mark.parametrize(
    ("name", "options"), [("mlclnet", {}), ("mlclnet", {"depth": 1}), ("alclnet", {}), ("gglnet", {})]
)
def test_receptive_radius(name: str, options: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """No logit depends on input farther away, what looks at the whole input left aside."""
    monkeypatch.setattr(SqueezeExcite, "forward", lambda self, x: x)
    monkeypatch.setattr(ChannelGate, "forward", lambda self, x: 1)
    network = create(name, **options).eval().double()  # in float32 the ends of long paths vanish
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data.abs_().div_(layer.weight[0].sum())  # no path is lost in a ReLU
    unit, radius = network.multiple, network.receptive_radius
    first = (radius // unit + 2) * unit
    x = noise(1, 1, 2 * first, unit).double().abs().requires_grad_()
    (seen,) = torch.autograd.grad(network(x)[:, :, first : first + unit].sum(), x)
    rows = seen.sum((0, 1, 3)).nonzero()
    reached = max(first - int(rows.min()), int(rows.max()) - (first + unit - 1))
    assert reached <= radius <= 1.1 * reached + unit


class TestMLCLNet:
    def test_small_variant(self) -> None:
        """The one whose 0.56 M parameters the public code prints."""
        with torch.device("meta"):
            small = create("mlclnet", channels=3, depth=2)
        assert count_parameters(small) == 559_809
        assert count_macs(small, 256, 256) / 1e9 == pytest.approx(6.1059, abs=5e-5)

    def test_depth_is_at_least_one(self) -> None:
        with pytest.raises(ConfigError, match="depth must be at least 1, got 0"):
            create("mlclnet", depth=0)

    def test_branches_look_farther_and_farther(self) -> None:
        assert [reach(branch, 2) for branch in MultiscaleContrast(2).branches] == [1, 1 + 3, 2 + 5]

    def test_no_activation_after_the_mixture(self) -> None:
        torch.manual_seed(0)
        assert (MultiscaleContrast(4)(noise(1, 4, 8, 8)) < 0).any()


class TestALCLNet:
    @pytest.mark.parametrize(("bias", "weight"), [(-100.0, 0), (100.0, 1)])
    def test_the_shallow_map_opens_and_shuts_the_gate(self, bias: float, weight: int) -> None:
        fusion = GatedAddition(6, 4).eval()
        nn.init.constant_(fusion.gate[1].bias, bias)  # type: ignore[arg-type]
        deep, shallow = noise(1, 6, 3, 4), noise(1, 4, 6, 8, seed=1)
        expected = shallow + weight * fusion.reduce(enlarge(deep))
        torch.testing.assert_close(fusion(deep, shallow), expected)


class TestGGLNet:
    def test_gradient_of_a_step(self) -> None:
        x = torch.zeros(1, 1, 7, 8)
        x[..., 4:] = 6
        x[..., 5:, :] += 8
        inner = gradient_magnitude(x)[0, 0, 1:-1, 1:-1]
        assert inner[1].tolist() == pytest.approx([0, 0, 3, 3, 0, 0], abs=1e-7)  # between columns 3 and 4
        assert inner[3].tolist() == pytest.approx([4, 4, 5, 5, 4, 4], abs=1e-7)  # row 4, beside row 5

    def test_neighbours_outside_the_frame_are_zero(self) -> None:
        gradient = gradient_magnitude(torch.full((1, 1, 4, 5), 2.0))[0, 0]
        assert gradient[1:-1, 1:-1].max() <= 1e-8
        assert gradient[0, 1:-1].tolist() == [1, 1, 1]
        assert gradient[0, 0].item() == pytest.approx(math.sqrt(2))

    def test_channels_apart(self) -> None:
        x = noise(2, 3, 6, 6)
        apart = [gradient_magnitude(x[:, i : i + 1]) for i in range(3)]
        assert torch.equal(gradient_magnitude(x), torch.cat(apart, dim=1))

    def test_the_constant_under_the_root_is_not_seen(self) -> None:
        x = noise(1, 1, 32, 32)
        padded = F.pad(x, (1, 1, 1, 1))
        rows, columns = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2, padded[..., 1:-1, :]
        exact = torch.hypot(rows, (columns[..., 2:] - columns[..., :-2]) / 2)
        torch.testing.assert_close(gradient_magnitude(x), exact, rtol=1e-6, atol=1e-7)

    def test_slope_where_a_frame_is_flat_is_finite(self, host: Callable[[str], HostNetwork]) -> None:
        x = noise(1, 1, 32, 32)
        x[..., 16:] = 0
        x.requires_grad_()
        (slope,) = torch.autograd.grad(host("gglnet")(x).sum(), x)
        assert slope.isfinite().all()
        assert slope.any()

    def test_each_stage_sees_the_gradient_of_its_scale(self, host: Callable[[str], HostNetwork]) -> None:
        network = host("gglnet")
        assert isinstance(network, GGLNet)
        x = noise(1, 1, 32, 48)
        with inputs_of(*(stage.supplement.gradient for stage in network.stages)) as seen:
            network.encode(x)
        expected = gradient_magnitude(x)
        for gradient in seen:
            assert torch.equal(gradient, expected)
            expected = F.max_pool2d(expected, 2)

    def test_deep_map_gates_channels_and_shallow_map_gates_positions(self) -> None:
        fusion = TwoWayFusion(16, 8).eval()
        for gate, value in ((fusion.channel_gate.bottleneck[2], 0), (fusion.position_gate.mix, 0)):
            nn.init.constant_(gate.weight, value)  # both gates stand half open
        nn.init.zeros_(fusion.position_gate.mix.bias)  # type: ignore[arg-type]
        deep, shallow = noise(1, 16, 3, 4), noise(1, 8, 6, 8, seed=1)
        reduced = fusion.reduce(enlarge(deep))
        with inputs_of(fusion.channel_gate, fusion.position_gate) as seen:
            fused = fusion(deep, shallow)
        assert torch.equal(seen[0], reduced)
        assert torch.equal(seen[1], shallow)  # as it came, not gated by channel
        torch.testing.assert_close(fused, (shallow + reduced) / 2)


def haar_filters() -> Tensor:
    """(4, 1, 2, 2): LL, LH, HL, HH, rows from top to bottom."""
    ll, lh = [[0.5, 0.5], [0.5, 0.5]], [[0.5, 0.5], [-0.5, -0.5]]
    hl, hh = [[0.5, -0.5], [0.5, -0.5]], [[0.5, -0.5], [-0.5, 0.5]]
    return torch.tensor([ll, lh, hl, hh])[:, None]


class TestMSDANet:
    def test_directions_by_hand(self) -> None:
        x = torch.tensor([[1.0, 2], [3, 5]]).view(1, 1, 2, 2)
        assert directions(x).flatten().tolist() == [-2.5, -1.5, 0.5]

    def test_directions_are_haar_bands_band_by_band(self) -> None:
        x = noise(2, 3, 6, 8)
        _, *details = haar_filters()
        expected = [F.conv2d(x, f.expand(3, 1, 2, 2), stride=2, groups=3) for f in details]
        torch.testing.assert_close(directions(x), torch.cat(expected, dim=1))

    def test_gates_see_haar_bands_of_every_position(self) -> None:
        module, x = DirectionGates(3).eval(), noise(2, 3, 5, 7)
        with inputs_of(*module.gates) as seen:
            module(x)
        padded = F.pad(x, (1, 0, 1, 0))  # a row of zeros on top, a column on the left
        ll, lh, hl, hh = (F.conv2d(padded, f.expand(3, 1, 2, 2), groups=3) for f in haar_filters())
        for band, expected in zip(seen, (hh, lh, hl, ll), strict=True):
            torch.testing.assert_close(band, expected)

    def test_gates_add_up(self) -> None:
        module, x = DirectionGates(3).eval(), noise(2, 3, 5, 7)
        for gate in module.gates:
            nn.init.zeros_(gate.mix.weight)  # type: ignore[union-attr,arg-type]
            nn.init.zeros_(gate.mix.bias)  # type: ignore[union-attr,arg-type]
        with inputs_of(module.mix) as weighted:
            module(x)
        torch.testing.assert_close(weighted[0], 4 * 0.5 * x)

    def test_unit_only_adds(self) -> None:
        torch.manual_seed(0)
        x = noise(1, 8, 12, 12).relu()
        assert (DirectionAwareUnit(8).eval()(x) >= x).all()

    @pytest.mark.parametrize("channels", [1, 3])
    def test_bands_come_first_at_half_the_size(self, channels: int) -> None:
        torch.manual_seed(0)
        network, x = MSDANet(channels).eval(), noise(1, channels, 32, 32)
        with inputs_of(network.stages[1].units) as seen:  # type: ignore[arg-type]
            network.encode(x)
        assert seen[0].shape == (1, 32, 16, 16)
        assert torch.equal(seen[0][:, : 3 * channels], directions(x))

    def test_channels_must_leave_room(self) -> None:
        with torch.device("meta"):
            create("msdanet", channels=10)
        with pytest.raises(ConfigError, match="channels must be at most 10, got 11"):
            create("msdanet", channels=11)

    def test_deepest_feature_gathers_all_stages(self, host: Callable[[str], HostNetwork]) -> None:
        network = host("msdanet")
        assert isinstance(network, MSDANet)
        with torch.inference_mode(), inputs_of(network.aggregate) as seen:
            *features, deepest = network.encode(noise(1, 1, 32, 48))
            expected = [network.deepest(features[-1])]
            for number, pools in ((3, 1), (2, 2), (1, 3), (0, 4)):
                pooled = features[number]
                for _ in range(pools):
                    pooled = F.max_pool2d(pooled, 2)
                expected.append(network.stages[number].reduce(pooled))  # type: ignore[operator,union-attr]
        torch.testing.assert_close(seen[0], torch.cat(expected, dim=1))
        assert deepest.shape == (1, 64, 2, 3)


class TestDNANet:
    def test_as_the_public_code_interleaves_it(self, host: Callable[[str], HostNetwork]) -> None:
        """Diagonal by diagonal, column 0 among the others, resized by torch."""
        network, x = host("dnanet"), noise(1, 1, 64, 32)
        assert isinstance(network, DNANet)

        def up(y: Tensor, factor: float = 2.0) -> Tensor:
            return F.interpolate(y, scale_factor=factor, mode="bilinear", align_corners=True)

        nodes: dict[tuple[int, int], Tensor] = {}
        with torch.inference_mode():
            nodes[0, 0] = network.column[0](x)
            for diagonal in range(1, 5):
                nodes[diagonal, 0] = network.column[diagonal](F.max_pool2d(nodes[diagonal - 1, 0], 2))
                for i in range(diagonal - 1, -1, -1):
                    j = diagonal - i
                    inputs = [nodes[i, k] for k in range(j)] + [up(nodes[i + 1, j - 1])]
                    if i > 0:
                        inputs.append(up(nodes[i - 1, j], 0.5))
                    nested: Any = network.nested[j - 1]
                    nodes[i, j] = nested[i](torch.cat(inputs, dim=1))
            pyramid = [
                up(lateral(nodes[4 - number, number]), 2.0 ** (4 - number))
                for number, lateral in enumerate(network.laterals)
            ]
            fused = network.fuse(torch.cat([*pyramid, nodes[0, 4]], dim=1))
            ends = (nodes[0, 1], nodes[0, 2], nodes[0, 3], fused)
            first, second, third, fourth = (
                output(end) for output, end in zip(network.outputs, ends, strict=True)
            )
            outputs = network.decode(network.encode(x))
        for got, expected in zip(outputs, (fourth, first, second, third), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


class TestUIUNet:
    def test_pooling_rounds_up(self, host: Callable[[str], HostNetwork]) -> None:
        """Any size passes through both halves, without padding."""
        network, (height, width) = host("uiunet"), (33, 46)
        with torch.inference_mode():
            features = network.encode(noise(1, 1, height, width))
            outputs = network.decode(features)
        for number, feature in enumerate(features):
            steps = 2**number
            assert feature.shape[-2:] == (-(-height // steps), -(-width // steps))
        assert all(output.shape == (1, 1, height, width) for output in outputs)

    @pytest.mark.parametrize("block", [ResidualU(4, 3, 2, 5), DilatedU(3, 2, 5)])
    def test_inner_u_is_added_to_its_first_map(self, block: ResidualU | DilatedU) -> None:
        block.eval()
        nn.init.constant_(block.up[-1][1].bias, -100)  # type: ignore[index,arg-type,union-attr]
        x = noise(1, 3, 11, 13)
        assert torch.equal(block(x), block.entry(x))

    def test_dilation_reaches_without_pooling(self) -> None:
        down, up = 1 + 1 + 2 + 4 + 8, 4 + 2 + 1
        assert reach(DilatedU(2, 2, 2), 2, size=61) == down + up

    def test_one_post_serves_both_halves(self) -> None:
        cross, deep, skip = CrossAttention(8), noise(1, 8, 4, 6), noise(1, 8, 4, 6, seed=1)
        with inputs_of(cross.post) as seen:
            skip_half, deep_half = cross(deep, skip).chunk(2, dim=1)
        gated = skip * cross.channel_gate(cross.deep(deep))
        torch.testing.assert_close(seen[0], 2 * gated)
        torch.testing.assert_close(seen[1], 2 * cross.deep(deep) * cross.position_gate(gated))
        assert torch.equal(cross.post(seen[0]), skip_half)
        assert torch.equal(cross.post(seen[1]), deep_half)

    def test_attention_trains_on_one_frame(self) -> None:
        assert CrossAttention(8).train()(noise(1, 8, 1, 1), noise(1, 8, 1, 1)).shape == (1, 16, 1, 1)

    def test_fused_map_starts_from_the_prior(self, host: Callable[[str], HostNetwork]) -> None:
        network = host("uiunet")
        kept = {name: value.clone() for name, value in network.state_dict().items() if "sides" in name}
        for side in network.sides:  # type: ignore[union-attr]
            nn.init.zeros_(side.weight)  # type: ignore[arg-type,union-attr]
        network.start_from(0.01)
        with torch.inference_mode():
            outputs = network.decode(network.encode(noise(1, 1, 32, 32)))
        network.load_state_dict(kept, strict=False)
        for output in outputs:
            torch.testing.assert_close(output.sigmoid(), torch.full_like(output, 0.01))
