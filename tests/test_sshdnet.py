"""SSHD-Net: size, who influences whom, dynamic parts, export, decoding, and training from points alone."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dimpoint.datasets.coco import PointImage, write_points
from dimpoint.errors import ConfigError
from dimpoint.inference.backends import OnnxBackend
from dimpoint.inference.decode import decode
from dimpoint.model.checkpoint import traits
from dimpoint.model.export import export_onnx
from dimpoint.model.record import ModelMeta
from dimpoint.networks import Network, create
from dimpoint.networks.base import count_macs, count_parameters
from dimpoint.networks.blocks import CoordinateAttention, OmniDynamicConv2d, _grouped, _products
from dimpoint.networks.sshdnet import (
    ATLDH,
    DCFM,
    HCEM,
    HMRM,
    SFCC,
    BranchModule,
    Fusion,
    Residual,
    SshdNet,
    basic_unit,
    bottleneck_unit,
)
from dimpoint.targets import make_target
from dimpoint.training.fit import Machine, TrainingData, train
from dimpoint.training.module import describe_model
from dimpoint.training.recipe import load_recipe
from dimpoint.training.views import training_view

TINY: dict[str, Any] = {
    "widths": (4, 4, 4, 4),
    "stem": 4,
    "bottlenecks": 1,
    "blocks": 1,
    "modules": (0, 0, 0, 0),
}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seen(module: nn.Module) -> nn.Module:
    """The module as training leaves it, with batch statistics that are not 0 and 1, ready for use."""
    torch.manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.2)  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return module.eval()


@pytest.fixture(scope="module")
def published() -> SshdNet:
    """The network in its published size, without weights."""
    with torch.device("meta"):
        return SshdNet()


class TestSize:
    def test_published(self, published: SshdNet) -> None:
        """28.7 M parameters and 10.3 G multiply-adds at 256x256, within 1 %."""
        assert count_parameters(published) == 28_715_304
        assert count_macs(published, 256, 256) / 1e9 == pytest.approx(10.3, rel=0.01)

    def test_small(self) -> None:
        """Ships in less than 20 MB, and costs less than a fifth."""
        with torch.device("meta"):
            network = create("sshdnet-small")
        assert count_parameters(network) == 2_524_840
        assert count_macs(network, 256, 256) < 2e9

    def test_every_module_under_its_published_name(self, published: SshdNet) -> None:
        """Stage 3 is module, HCEM, module, dynamic module; stage 4 two modules and a dynamic one, 4 to 1."""
        assert [type(module) for module in published.stage3] == [BranchModule, HCEM, BranchModule, DCFM]
        assert isinstance(published.stage3[1].sfcc, SFCC)
        assert isinstance(published.hmrm, HMRM)
        assert isinstance(published.dcfm, DCFM)
        assert isinstance(published.atldh, ATLDH)
        assert [type(module) for module in published.hmrm] == [BranchModule, BranchModule]
        assert len(published.dcfm.fusion.paths) == 1
        assert (len(published.layer1), len(published.stage2)) == (4, 1)

    def test_which_units_are_dynamic(self, published: SshdNet) -> None:
        """The 3x3 of the last bottleneck, and the first unit of each branch of the dynamic modules."""
        found = {
            name.rpartition(".body")[0]
            for name, layer in published.named_modules()
            if isinstance(layer, OmniDynamicConv2d)
        }
        in_stage3 = {f"stage3.3.branches.{branch}.0" for branch in range(3)}
        assert found == {"layer1.3"} | in_stage3 | {f"dcfm.branches.{branch}.0" for branch in range(4)}

    # (options, what the message says)
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"widths": (8, 8, 8)}, "widths and modules need four values"),
            ({"modules": (1, 1, 1)}, "widths and modules need four values"),
            ({"stride": 8}, "stride must be 2 or 4"),
            ({"blocks": 0}, "blocks and bottlenecks at least 1"),
            ({"bottlenecks": 0}, "blocks and bottlenecks at least 1"),
        ],
    )
    def test_wrong_options(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            create("sshdnet", **options)

    @pytest.mark.parametrize("stride", [2, 4])
    @pytest.mark.parametrize("name", ["sshdnet", "sshdnet-small"])
    def test_map_at_either_stride(self, name: str, stride: int) -> None:
        network = create(name, **TINY, stride=stride).eval()
        with torch.inference_mode():
            assert network(noise(2, network.channels, 64, 96)).shape == (2, 1, 64 // stride, 96 // stride)

    def test_small_starts_from_rare_targets(self) -> None:
        network = create("sshdnet-small", **TINY).eval()
        with torch.inference_mode():
            assert network(noise(1, 1, 64, 64)).sigmoid().mean() < 0.1


@pytest.mark.parametrize(
    "options",
    [TINY, TINY | {"blocks": 3, "modules": (1, 0, 1, 0)}, TINY | {"stride": 2, "bottlenecks": 2}],
)
def test_receptive_radius(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the gates' means a response depends on nothing farther, and on something not much nearer."""
    monkeypatch.setattr(CoordinateAttention, "forward", lambda self, x: x)
    monkeypatch.setattr(
        OmniDynamicConv2d, "weights", lambda self, x: self.weight.expand(len(x), -1, -1, -1, -1)
    )
    network = SshdNet(**options).double().eval()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())  # no path is lost, none explodes
    middle = 32 * (network.receptive_radius // 32 + 2)
    x = torch.ones(1, 3, 2 * middle, 32, dtype=torch.double, requires_grad=True)
    response, farthest = network(x), 0
    for row in range(middle, middle + 32, network.stride):
        (reached,) = torch.autograd.grad(response[..., row // network.stride, 0], x, retain_graph=True)
        farthest = max(farthest, int((reached.sum((0, 1, 3)).nonzero() - row).abs().max()))
    assert farthest <= network.receptive_radius < 1.2 * farthest


def pyramid(*, widths: tuple[int, ...] = (4, 6, 8), side: int = 8, batch: int = 2) -> list[Tensor]:
    """Maps fine to coarse, positive as after a ReLU, that gradients can be asked of."""
    return [
        (noise(batch, width, side >> level, side >> level, seed=level).abs() + 0.1).requires_grad_()
        for level, width in enumerate(widths)
    ]


def influences(outputs: list[Tensor], inputs: list[Tensor]) -> list[set[int]]:
    """For each output the numbers (from 1) of the inputs that it depends on."""
    found = []
    for output in outputs:
        gradients = torch.autograd.grad(output.sum(), inputs, retain_graph=True, allow_unused=True)
        found.append({n for n, g in enumerate(gradients, 1) if g is not None and bool(g.any())})
    return found


ALL = {1, 2, 3}


class TestExchange:
    def test_downward_cascades(self) -> None:
        """What a branch has just received goes on: the third sees the first."""
        features = pyramid()
        assert influences(SFCC((4, 6, 8)).eval().downward(features), features) == [{1}, {1, 2}, ALL]

    def test_upward_cascades(self) -> None:
        features = pyramid()
        assert influences(SFCC((4, 6, 8)).eval().upward(features), features) == [ALL, {2, 3}, {3}]

    def test_formulas(self) -> None:
        sfcc = seen(SFCC((4, 6, 8)))
        assert isinstance(sfcc, SFCC)
        b1, b2, b3 = pyramid()
        (d12, d23), (u21, u32) = sfcc.to_coarser, sfcc.to_finer
        down2 = torch.relu(b2 + d12(b1))
        for got, expected in zip(
            sfcc.downward([b1, b2, b3]), [b1, down2, torch.relu(b3 + d23(down2))], strict=True
        ):
            torch.testing.assert_close(got, expected)
        up2 = torch.relu(b2 + u32(b3))
        for got, expected in zip(
            sfcc.upward([b1, b2, b3]), [torch.relu(b1 + u21(up2)), up2, b3], strict=True
        ):
            torch.testing.assert_close(got, expected)

    def test_hcem_down_up_down_up(self) -> None:
        """Who has been influenced by whom when each unit begins, and when the fusion does."""
        hcem = HCEM((4, 6, 8), 4).eval()
        features = pyramid()
        with inputs_of(hcem) as states:
            hcem(features)
        assert [influences(state, features) for state in states] == [
            [{1}, {2}, {3}],  # before the first unit
            [{1}, {1, 2}, ALL],  # after it and the first exchange, downward
            [ALL, ALL, ALL],  # upward
            [ALL, ALL, ALL],
            [ALL, ALL, ALL],
        ]

    @pytest.mark.parametrize(
        ("blocks", "pattern"), [(1, ["down"]), (2, ["down", "up"]), (4, ["down", "up", "down", "up"])]
    )
    def test_pattern(self, blocks: int, pattern: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        called: list[str] = []
        monkeypatch.setattr(SFCC, "downward", lambda self, x: called.append("down") or x)
        monkeypatch.setattr(SFCC, "upward", lambda self, x: called.append("up") or x)
        HCEM((4, 6, 8), blocks).eval()(pyramid())
        assert called == pattern

    def test_the_same_layers_serve_every_time(self) -> None:
        weights = [sum(p.numel() for p in HCEM((4, 6, 8), n).sfcc.parameters()) for n in (1, 4)]
        assert weights[0] == weights[1]

    def test_fusion_brings_every_branch_to_every_other(self) -> None:
        features = pyramid()
        fused = Fusion((4, 6, 8), 3).eval()(features)
        assert [tuple(each.shape) for each in fused] == [tuple(each.shape) for each in features]
        assert influences(fused, features) == [ALL, ALL, ALL]
        assert all((each >= 0).all() for each in fused)

    def test_last_dcfm_fuses_into_one_and_attends(self) -> None:
        features = pyramid()
        dcfm = DCFM((4, 6, 8), 1, outputs=1).eval()
        (fused,) = dcfm(features)
        assert fused.shape == features[0].shape
        assert influences([fused], features) == [ALL]
        assert isinstance(dcfm.attention, CoordinateAttention)
        assert isinstance(DCFM((4, 6, 8), 1).attention, nn.Identity)


@contextmanager
def inputs_of(hcem: HCEM) -> Iterator[list[list[Tensor]]]:
    """What each row of units is given, branch by branch, and what the fusion is given."""
    states: list[list[Tensor]] = [[] for _ in range(len(hcem.units) + 1)]
    handles = [
        unit.register_forward_pre_hook(lambda _, given, state=state: state.append(given[0]))
        for units, state in zip(hcem.units, states, strict=False)
        for unit in units  # type: ignore[union-attr]
    ]
    handles.append(hcem.fusion.register_forward_pre_hook(lambda _, given: states[-1].extend(given[0])))
    yield states
    for handle in handles:
        handle.remove()


class TestUnits:
    def test_residual_unit(self) -> None:
        """X + BN(Conv(relu(BN(Conv X)))), as the paper writes it, and the ReLU of its successors."""
        unit = seen(basic_unit(5))
        assert isinstance(unit, Residual)
        (conv1, norm1, _), (conv2, norm2) = unit.body  # type: ignore[misc]
        x = noise(2, 5, 6, 7)
        torch.testing.assert_close(unit(x), torch.relu(x + norm2(conv2(torch.relu(norm1(conv1(x)))))))

    @pytest.mark.parametrize("inputs", [8, 32])
    def test_bottleneck_projects_only_where_widths_differ(self, inputs: int) -> None:
        unit = bottleneck_unit(inputs, 8)
        assert isinstance(unit.shortcut, nn.Identity) == (inputs == 32)
        assert unit.eval()(noise(1, inputs, 4, 4)).shape == (1, 32, 4, 4)


def by_hand(layer: OmniDynamicConv2d, x: Tensor) -> Tensor:
    """The definition, frame by frame: one convolution with the weight scaled along three axes."""
    outputs = []
    for frame in x:
        context = torch.relu(layer.context[1].weight[:, :, 0, 0] @ frame.mean((1, 2)))  # type: ignore[index]
        channel, filters, position = (
            torch.sigmoid(gate.weight[:, :, 0, 0] @ context + gate.bias)
            for gate in (layer.channel_gate, layer.filter_gate, layer.position_gate)
        )
        kernel = layer.kernel_size[0]
        weight = layer.weight * channel[:, None, None] * filters[:, None, None, None]
        weight = weight * position.view(kernel, kernel)
        outputs.append(F.conv2d(frame[None], weight, padding=kernel // 2))
    return torch.cat(outputs)


class TestDynamicConvolution:
    # (input channels, output channels, kernel, batch)
    @pytest.mark.parametrize("shape", [(5, 7, 3, 4), (5, 7, 3, 1), (3, 2, 1, 2), (2, 3, 5, 3)])
    def test_is_its_definition_frame_by_frame(
        self, shape: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inputs, outputs, kernel, batch = shape
        torch.manual_seed(0)
        layer = OmniDynamicConv2d(inputs, outputs, kernel)
        x = 3 * noise(batch, inputs, 6, 9)
        expected = by_hand(layer, x)
        torch.testing.assert_close(layer(x), expected)
        monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
        torch.testing.assert_close(layer(x), expected)

    def test_both_forms_have_the_same_gradients(self) -> None:
        gradients = []
        for form in (_grouped, _products):
            x, weights = noise(2, 3, 5, 4).requires_grad_(), noise(2, 4, 3, 3, 3, seed=1).requires_grad_()
            form(x, weights).square().sum().backward()
            gradients.append((x.grad, weights.grad))
        torch.testing.assert_close(gradients[0], gradients[1])

    def test_frames_have_weights_of_their_own(self) -> None:
        layer = OmniDynamicConv2d(3, 4)
        dark, bright = layer.weights(torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)]))
        assert not torch.allclose(dark, bright)

    def test_takes_any_memory_layout(self) -> None:
        layer, x = OmniDynamicConv2d(4, 6), noise(2, 4, 5, 7)
        torch.testing.assert_close(layer(x.contiguous(memory_format=torch.channels_last)), layer(x))

    # (input channels, units of the gates' shared layer)
    @pytest.mark.parametrize(("channels", "units"), [(4, 16), (256, 16), (512, 32)])
    def test_units(self, channels: int, units: int) -> None:
        assert OmniDynamicConv2d(channels, 1).channel_gate.in_channels == units

    def test_a_batch_of_one_trains(self) -> None:
        layer = OmniDynamicConv2d(3, 4).train()
        layer(noise(1, 3, 8, 8)).square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in layer.parameters())


class TestCoordinateAttention:
    @pytest.fixture
    def attention(self) -> CoordinateAttention:
        module = seen(CoordinateAttention(6))
        assert isinstance(module, CoordinateAttention)
        return module

    @pytest.mark.parametrize("shape", [(1, 6, 1, 1), (2, 6, 3, 9), (3, 6, 8, 5)])
    def test_shapes(self, attention: CoordinateAttention, shape: tuple[int, int, int, int]) -> None:
        batch, channels, height, width = shape
        row, column = attention.gates(noise(*shape))
        assert row.shape == (batch, channels, height, 1)
        assert column.shape == (batch, channels, 1, width)
        assert all(((gate > 0) & (gate < 1)).all() for gate in (row, column))
        assert attention(noise(*shape)).shape == shape

    def test_output_is_the_product(self, attention: CoordinateAttention) -> None:
        x = noise(2, 6, 4, 7)
        row, column = attention.gates(x)
        torch.testing.assert_close(attention(x), x * row * column)

    def test_gates_know_only_the_means_of_rows_and_columns(self, attention: CoordinateAttention) -> None:
        x, change = noise(2, 6, 4, 8), noise(2, 6, 4, 8, seed=1)
        change = change - change.mean(2, keepdim=True)
        change = change - change.mean(3, keepdim=True)
        torch.testing.assert_close(attention.gates(x + change), attention.gates(x), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(attention.gates(x + noise(1, 1, 4, 1))[0], attention.gates(x)[0])

    def test_a_turned_frame_has_turned_gates(self, attention: CoordinateAttention) -> None:
        """Rows and columns share their bottleneck; with equal last layers they are the same to it."""
        attention.column_gate.load_state_dict(attention.row_gate.state_dict())
        x = noise(2, 6, 4, 7)
        torch.testing.assert_close(attention(x.transpose(2, 3)), attention(x).transpose(2, 3))

    # (channels, units of the bottleneck at reduction 32)
    @pytest.mark.parametrize(("channels", "units"), [(32, 8), (256, 8), (512, 16)])
    def test_units(self, channels: int, units: int) -> None:
        assert CoordinateAttention(channels).row_gate.in_channels == units


class Pieces(Network):
    """Every kind of module once, on two branches: exports in seconds, the whole network takes a minute."""

    multiple, stride = 8, 4

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.ModuleList((nn.Conv2d(1, 4, 4, 4), nn.Conv2d(1, 6, 8, 8)))
        self.modules_in_turn = nn.Sequential(HCEM((4, 6), 2), DCFM((4, 6), 1, outputs=1))
        self.head = ATLDH(4)

    def forward(self, x: Tensor) -> Tensor:
        response: Tensor = self.head(self.modules_in_turn([stem(x) for stem in self.stem])[0])
        return response


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return seen(Pieces())  # type: ignore[return-value]


@pytest.fixture(scope="module")
def model(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export_onnx(network, ModelMeta(name="a-model", network="pieces", **traits(network)), path)
    return path


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("size", [(8, 8), (96, 64), (160, 232)])
def test_onnx_runtime_agrees(network: Network, model: Path, batch: int, size: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).random((batch, 1, *size), np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(frames))
    np.testing.assert_allclose(OnnxBackend(model).run(frames), expected.numpy(), rtol=0, atol=1e-4)


def peaks_of(*heights: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A map with Gaussians of these heights in a row, 12 map pixels apart, the first at (8.3, 8)."""
    rows, columns = np.mgrid[:16, : 12 * len(heights) + 8]
    response = np.zeros(rows.shape, np.float32)
    for number, height in enumerate(heights):
        x = 8.3 + 12 * number
        response += height * np.exp(-((columns - x) ** 2 + (rows - 8) ** 2) / 8).astype(np.float32)
    return response


class TestDecoding:
    # (heights, how many are found): threshold 0.2; heights within 0.2 of the highest
    @pytest.mark.parametrize(
        ("heights", "found"),
        [
            ((1.0, 0.85), 2),
            ((1.0, 0.75), 1),  # the dim one beside a bright one is lost
            ((0.5, 0.42, 0.35), 2),  # 0.2 of 0.5, not of 1
            ((0.24, 0.22), 2),
            ((0.18,), 0),
            ((), 0),
        ],
    )
    def test_published_rule(self, heights: tuple[float, ...], found: int) -> None:
        peaks = decode(peaks_of(*heights), load_recipe("sshdnet").decode)
        assert len(peaks.xy) == found
        if found:
            np.testing.assert_allclose(peaks.xy[0], [8.25, 8], atol=1e-6)  # a quarter toward the higher side

    def test_common_decoder_keeps_the_dim_one(self) -> None:
        rule = load_recipe("sshdnet", ["decode.kind=peaks", "decode.max_height_gap=null"]).decode
        peaks = decode(peaks_of(1.0, 0.3), rule)
        np.testing.assert_allclose(peaks.xy, [[8.3, 8], [20.3, 8]], atol=0.05)


CPU = Machine(accelerator="cpu", devices=1, precision="32-true", threads=1)
SHORT = [
    "network.options={widths: [4, 4, 4, 4], stem: 4, bottlenecks: 1, blocks: 1, modules: [0, 0, 0, 0]}",
    "view.size=64",
    "epochs=1",
    "steps_per_epoch=4",
    "batch=2",
    "validate_every=1",
    "validation=0.3",
]


@pytest.fixture(scope="module")
def clicked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames and one COCO file of points, nothing else: what somebody has who only clicked.

    Among them a frame without targets, targets at (0, 0), on the border and in the corner, and three
    within the radius of one response.
    """
    root = tmp_path_factory.mktemp("data") / "CLICKED"
    (root / "images").mkdir(parents=True)
    points = {
        "a": [(20.0, 30.0)],
        "b": [],
        "c": [(0.0, 0.0)],
        "d": [(71.0, 12.4), (40.0, 47.0)],
        "e": [(30.0, 20.0), (33.0, 20.0), (31.0, 23.5)],
        "f": [(71.0, 47.0), (0.0, 25.0)],
        "g": [(10.0, 10.0)],
        "h": [(50.0, 40.0)],
    }
    images = []
    for number, (name, targets) in enumerate(points.items()):
        frame = np.random.default_rng(number).normal(80, 6, (48, 72))
        for x, y in targets:
            frame[round(y) : round(y) + 2, round(x) : round(x) + 2] += 90
        cv2.imwrite(str(root / "images" / f"{name}.png"), np.clip(frame, 0, 255).astype(np.uint8))
        images.append(PointImage(f"{name}.png", 72, 48, np.asarray(targets, np.float32).reshape(-1, 2)))
    write_points(root / "points.json", images)
    return root


class TestTraining:
    @pytest.mark.parametrize(
        ("recipe", "kind"),
        [("sshdnet", "gaussian-published"), ("sshdnet", "prps"), ("sshdnet-small", "gaussian")],
    )
    def test_points_in_a_coco_file_are_enough(
        self, clicked: Path, tmp_path: Path, recipe: str, kind: str
    ) -> None:
        fitted = ["input.fit=[64, 64]"] if recipe == "sshdnet" else []
        small = load_recipe(recipe, [*SHORT, *fitted, f"target.kind={kind}"])
        train(small, TrainingData([clicked]), tmp_path / "run", machine=CPU, log=lambda _: None)
        with (tmp_path / "run" / "csv" / "metrics.csv").open() as file:
            column = [row["train/loss_epoch"] for row in csv.DictReader(file)]
        losses = [float(value) for value in column if value]
        assert len(losses) == 1
        assert np.isfinite(losses).all()
        assert (tmp_path / "run" / "checkpoints" / "best.ckpt").is_file()

    # (points, where the published target of `sshdnet` and that of `sshdnet-small` are 1, map pixels)
    @pytest.mark.parametrize(
        ("points", "published", "ours"),
        [
            ([], [], []),
            ([(0, 0)], [], [(0, 0)]),  # the public code takes a zero for a missing point; it is a place
            ([(63, 63)], [], [(31.5, 31.5)]),  # beyond the last pixel of the published map
            ([(20, 40)], [(5, 10)], [(10, 20)]),
            ([(20, 40), (28, 40)], [], [(10, 20), (14, 20)]),  # near ones are averaged, ours stay apart
        ],
    )
    def test_targets(
        self, points: list[tuple[int, int]], published: list[tuple[int, int]], ours: list[tuple[float, float]]
    ) -> None:
        frame, xy = np.zeros((64, 64), np.float32), np.asarray(points, np.float64).reshape(-1, 2)
        target = make_target(frame, xy, load_recipe("sshdnet").target)
        assert [(x, y) for y, x in np.argwhere(target == 1).tolist()] == published
        target = make_target(frame, xy, load_recipe("sshdnet-small").target)
        for x, y in ours:
            nearest = target[min(int(y), 31), min(int(x), 31)]
            assert nearest == pytest.approx(1.0 if (x, y) == (int(x), int(y)) else 0.852, abs=1e-3)
        assert len(decode(target, load_recipe("sshdnet-small").decode).xy) == len(points)

    @pytest.mark.parametrize("name", ["sshdnet", "sshdnet-small"])
    def test_recipe_fits_its_network(self, name: str) -> None:
        recipe = load_recipe(name)
        with torch.device("meta"):
            network = create(recipe.network.name, **recipe.network.options)
        assert describe_model(network, recipe, []).stride == recipe.target.stride
        assert recipe.view.size % network.multiple == 0

    def test_recipe_as_published(self) -> None:
        recipe = load_recipe("sshdnet")
        target, change = recipe.target, recipe.augmentation
        assert (target.kind, target.sigma, target.radius, target.stride) == ("gaussian-published", 2.0, 6, 4)
        assert (recipe.loss.kind, recipe.loss.weight, recipe.optimizer.lr) == ("mse", 2.0, 1e-4)
        assert (change.scale, change.rotation) == ((0.85, 1.15), 180.0)

    def test_views_turn_freely(self) -> None:
        """Over many views the frame's axis points everywhere, evenly."""
        recipe = load_recipe("sshdnet", ["view.size=32", "input.fit=[32, 32]"])
        rng = np.random.default_rng(0)
        frame, none = np.zeros((16, 16), np.float32), np.zeros((0, 2), np.float32)
        axes = [training_view(frame, none, recipe, rng).affine[:, 0] for _ in range(400)]
        angles = np.degrees([np.arctan2(y, x) for x, y in axes])
        counts = np.histogram(angles, 8, (-180, 180))[0]
        assert counts.min() > 25
