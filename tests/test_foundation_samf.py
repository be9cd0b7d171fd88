"""SAMF and its ablation (what a fusion does to features), and CO-ISD's two paths through one host."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dimpoint.errors import ConfigError
from dimpoint.fdep.fusion import Addition, Fusion, Samf, fusion, running_statistics_untouched, two_paths
from dimpoint.networks.base import HostNetwork
from dimpoint.networks.blocks import conv_norm

KINDS = ("samf", "add")
TAPS = (12, 8)


def _features(channels: int, side: int, count: int = 2) -> Tensor:
    """Non-negative, as after a ReLU."""
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(1)).relu()


def _tokens(side: int = 8, channels: Sequence[int] = TAPS, count: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(count, depth, side, side, generator=generator) for depth in channels]


def _stirred(module: nn.Module) -> nn.Module:
    """All parameters moved away from their start."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in module.parameters():
            value.add_(0.3 * torch.randn(value.shape, generator=generator))
    return module


class TestFusion:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        ("channels", "side"),
        [
            (64, 16),  # ACM: 1/16 of 256 pixels
            (64, 64),  # MLCL-Net: 1/4
            (256, 16),  # DNANet
            (512, 8),  # UIU-Net: 1/32
            (64, 1),  # a view of one cell
        ],
    )
    def test_the_start_is_the_plain_host(self, kind: str, channels: int, side: int) -> None:
        features = _features(channels, side)
        assert torch.equal(fusion(kind, channels, TAPS)(features, _tokens()), features)  # type: ignore[arg-type]

    @pytest.mark.parametrize("kind", KINDS)
    def test_signed_features_pass_when_told(self, kind: str) -> None:
        features = _features(8, 4) - 0.5
        module = fusion(kind, 8, TAPS, relu=False)  # type: ignore[arg-type]
        assert torch.equal(module(features, _tokens()), features)

    @pytest.mark.parametrize("kind", KINDS)
    def test_non_negative_after_training_too(self, kind: str) -> None:
        module = _stirred(fusion(kind, 8, TAPS))  # type: ignore[arg-type]
        assert module(_features(8, 4), _tokens()).min() >= 0

    @pytest.mark.parametrize("kind", KINDS)
    def test_every_parameter_gets_a_gradient_by_the_second_step(self, kind: str) -> None:
        module = fusion(kind, 8, TAPS)  # type: ignore[arg-type]
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        reached: list[set[str]] = []
        for _ in range(2):
            optimizer.zero_grad()
            (module(_features(8, 4), _tokens()) - 1).square().mean().backward()
            grads = {name: value.grad for name, value in module.named_parameters()}
            reached.append({name for name, grad in grads.items() if grad is not None and grad.any()})
            optimizer.step()
        everything = {name for name, _ in module.named_parameters()}
        waiting = {name for name in everything if kind == "samf" and (".scale." in name or ".shift." in name)}
        assert reached == [everything - waiting, everything]

    @pytest.mark.parametrize("kind", KINDS)
    def test_every_tap_counts(self, kind: str) -> None:
        module = _stirred(fusion(kind, 8, TAPS))  # type: ignore[arg-type]
        features, tokens = _features(8, 4), _tokens()
        plain = module(features, tokens)
        for number in range(len(TAPS)):
            changed = [grid + 1 if at == number else grid for at, grid in enumerate(tokens)]
            assert not torch.allclose(module(features, changed), plain)

    def test_one_module_a_tap(self) -> None:
        assert [type(stage) for stage in fusion("samf", 8, (4, 4, 4)).stages] == [Samf] * 3
        assert [type(stage) for stage in fusion("add", 8, (4,)).stages] == [Addition]

    def test_is_the_figures_formula(self) -> None:
        module = Samf(4, 3, relu=False)
        _stirred(module)
        features, tokens = _features(4, 5), _tokens(5, (3,))[0]
        a, b = features[:, :2], features[:, 2:]
        first = F.gelu(module.scaled(a * module.scale(tokens)))
        second = F.gelu(module.shifted(b + module.shift(tokens)))
        expected = module.joined(torch.cat([first, second], 1) + features)
        torch.testing.assert_close(module(features, tokens), expected)

    @pytest.mark.parametrize(("side", "factor"), [(8, 2), (16, 4)])
    def test_a_finer_token_grid_is_averaged_not_skipped(self, side: int, factor: int) -> None:
        module = Addition(1, 1, relu=False)
        nn.init.ones_(module.shift.weight)
        tokens = torch.zeros(1, 1, side, side)
        tokens[0, 0, side // 2, side // 2] = 1.0  # one token among many
        out = module(torch.zeros(1, 1, 4, 4), tokens)
        assert out.sum().item() == pytest.approx(1 / factor**2, rel=0.05)

    def test_a_coarser_token_grid_is_enlarged_bilinearly(self) -> None:
        module = Addition(1, 1, relu=False)
        nn.init.ones_(module.shift.weight)
        tokens = torch.arange(16.0).view(1, 1, 4, 4)
        expected = F.interpolate(tokens, (16, 16), mode="bilinear", align_corners=False)
        torch.testing.assert_close(module(torch.zeros(1, 1, 16, 16), tokens), expected)

    def test_under_bfloat16_autocast(self) -> None:
        module = fusion("samf", 8, TAPS)
        with torch.autocast("cpu", torch.bfloat16):
            out = module(_features(8, 4), _tokens())
            out.float().sum().backward()
        torch.testing.assert_close(out.float(), _features(8, 4), rtol=0.01, atol=0.01)

    @pytest.mark.parametrize(
        ("tokens", "message"),
        [
            (_tokens(channels=(12,)), r"taps of \(12, 8\) channels, got \(12,\)"),  # a tap is missing
            (_tokens(channels=(12, 8, 8)), "taps of"),
            (
                _tokens(channels=(12, 16)),
                "encoder and taps that the run was started with",
            ),  # another backbone
            ([], r"got \(\)"),
            (_tokens(count=3), "batch"),
        ],
    )
    def test_tokens_that_do_not_fit(self, tokens: list[Tensor], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            fusion("samf", 8, TAPS)(_features(8, 4), tokens)

    def test_a_host_that_does_not_fit(self) -> None:
        with pytest.raises(ConfigError, match="built for 8 channels of the host, got 16"):
            fusion("add", 8, TAPS)(_features(16, 4), _tokens())

    def test_what_cannot_be_built(self) -> None:
        with pytest.raises(ConfigError, match="no kind 'film'; choose samf or add"):
            fusion("film", 8, TAPS)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="no taps"):
            fusion("samf", 8, ())
        for channels in (7, 0, 1):
            with pytest.raises(ConfigError, match=f"even number, got {channels}"):
                fusion("samf", channels, TAPS)


class TinyHost(HostNetwork):
    """Two stages, batch norms on both sides, one of them frozen, and deep supervision."""

    multiple = 4
    deepest_channels = 8
    deepest_stride = 4

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(1, 4, 3, stride=2)
        self.deep = conv_norm(4, 8, 3, stride=2)
        self.mix = conv_norm(12, 4, 3)
        self.outputs = nn.ModuleList([nn.Conv2d(4, 1, 1), nn.Conv2d(8, 1, 1)])
        self.encoded = 0

    def encode(self, x: Tensor) -> list[Tensor]:
        self.encoded += 1
        first = self.stem(x)
        return [first, self.deep(first)]

    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        first, last = features
        mixed = self.mix(torch.cat((first, F.interpolate(last, scale_factor=2)), 1))
        return [
            F.interpolate(self.outputs[0](mixed), scale_factor=2),
            F.interpolate(self.outputs[1](last), scale_factor=4),
        ]


@pytest.fixture
def host() -> TinyHost:
    torch.manual_seed(0)
    return TinyHost()


def _view() -> Tensor:
    return torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(4))


def _moved_fusion() -> Fusion:
    torch.manual_seed(5)
    module = fusion("samf", 8, TAPS)
    _stirred(module)
    return module


def _loss(outputs: Sequence[Tensor]) -> Tensor:
    return torch.stack([(output - 1).square().mean() for output in outputs]).sum()


class TestTwoPaths:
    def test_the_light_path_is_the_plain_host_and_the_main_one_is_not(self, host: TinyHost) -> None:
        expected = copy.deepcopy(host)
        plain = expected.decode(expected.encode(_view()))
        main, light = two_paths(host, _moved_fusion(), _view(), _tokens(4))
        assert all(torch.equal(a, b) for a, b in zip(light, plain, strict=True))
        assert not torch.allclose(main[0], light[0])
        assert [output.shape for output in main] == [output.shape for output in light]

    def test_both_start_equal(self, host: TinyHost) -> None:
        main, light = two_paths(host, fusion("samf", 8, TAPS), _view(), _tokens(4))
        assert all(torch.equal(a, b) for a, b in zip(main, light, strict=True))

    def test_the_encoder_runs_once(self, host: TinyHost) -> None:
        two_paths(host, _moved_fusion(), _view(), _tokens(4))
        assert host.encoded == 1

    def test_running_statistics_are_those_of_the_light_path_bit_for_bit(self, host: TinyHost) -> None:
        plain = copy.deepcopy(host)
        for _ in range(3):
            plain.decode(plain.encode(_view()))
            main, light = two_paths(host, _moved_fusion(), _view(), _tokens(4))
            (_loss(main) + _loss(light)).backward()
        for (name, ours), (_, theirs) in zip(host.named_buffers(), plain.named_buffers(), strict=True):
            assert torch.equal(ours, theirs), name
        assert host.mix[1].num_batches_tracked == 3

    def test_the_main_path_normalises_with_its_own_batch(self, host: TinyHost) -> None:
        alone = copy.deepcopy(host)
        module = _moved_fusion()
        features = alone.encode(_view())
        expected = alone.decode([features[0], module(features[1], _tokens(4))])
        main, _ = two_paths(host, module, _view(), _tokens(4))
        assert all(torch.equal(a, b) for a, b in zip(main, expected, strict=True))

    def test_one_backward_pass_gives_the_sum_of_both_paths_gradients(self, host: TinyHost) -> None:
        module, tokens = _moved_fusion(), _tokens(4)
        separate = copy.deepcopy(host)
        features = separate.encode(_view())
        _loss(separate.decode(features)).backward()
        features = separate.encode(_view())
        alone = copy.deepcopy(module)
        (0.5 * _loss(separate.decode([features[0], alone(features[1], tokens)]))).backward()

        main, light = two_paths(host, module, _view(), tokens)
        (0.5 * _loss(main) + _loss(light)).backward()
        ours = {**dict(host.named_parameters()), **dict(module.named_parameters())}
        theirs = {**dict(separate.named_parameters()), **dict(alone.named_parameters())}
        for name, value in ours.items():
            torch.testing.assert_close(value.grad, theirs[name].grad, rtol=1e-4, atol=1e-6, msg=name)
            assert value.grad is not None
            assert value.grad.any() or name.endswith(".0.bias"), name

    def test_the_host_has_nothing_of_it(self, host: TinyHost) -> None:
        before = set(host.state_dict())
        two_paths(host, _moved_fusion(), _view(), _tokens(4))
        assert set(host.state_dict()) == before

    def test_evaluation_uses_running_statistics_on_both_paths(self, host: TinyHost) -> None:
        host.eval()
        single = two_paths(host, _moved_fusion(), _view()[:1], [grid[:1] for grid in _tokens(4)])
        both = two_paths(host, _moved_fusion(), _view(), _tokens(4))
        for alone, batch in zip(single, both, strict=True):
            torch.testing.assert_close(alone[0], batch[0][:1])

    @pytest.mark.parametrize(("height", "width"), [(15, 16), (16, 2), (0, 16)])
    def test_views_must_fit_the_host(self, height: int, width: int, host: TinyHost) -> None:
        with pytest.raises(ConfigError, match="multiples of 4, got"):
            two_paths(host, _moved_fusion(), torch.zeros(1, 1, height, width), _tokens(4, count=1))


class TestRunningStatistics:
    def test_recorded_again_after_an_error(self, host: TinyHost) -> None:
        with pytest.raises(RuntimeError, match="inside"), running_statistics_untouched(host):
            raise RuntimeError("inside")
        host.encode(_view())
        assert host.stem[1].num_batches_tracked == 1

    def test_a_norm_that_records_nothing_stays_so(self) -> None:
        norm = nn.BatchNorm2d(4, track_running_stats=False)
        with running_statistics_untouched(norm):
            norm(torch.rand(2, 4, 3, 3))
        assert not norm.track_running_stats

    def test_a_single_wrong_tap_leaves_the_host_recording(self, host: TinyHost) -> None:
        with pytest.raises(ConfigError):
            two_paths(host, _moved_fusion(), _view(), _tokens(4, (12,)))
        assert all(norm.track_running_stats for norm in host.modules() if isinstance(norm, nn.BatchNorm2d))
