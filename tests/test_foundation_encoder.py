"""The frozen encoder: any Hugging Face backbone from a folder, never trained, never saved."""

from __future__ import annotations

import copy
import json
import logging
import shutil
import socket
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import BertConfig

from dimpoint.errors import ConfigError
from dimpoint.fdep.encoder import IMAGENET_MEAN, IMAGENET_STD, FoundationEncoder, _hub_answers, choose_taps
from dimpoint.networks.base import standardise
from tiny_backbones import CHANNELS, PATCH, backbone, saved


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(tmp_path_factory.mktemp("dinov2"))


def _frames(side: int = 56, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", PATCH)
class TestBackbones:
    def test_each_tap_is_a_grid_of_tokens(self, name: str, tmp_path: Path) -> None:
        encoder = FoundationEncoder(saved(tmp_path, name))
        grids = encoder(torch.rand(2, 1, 64, 96))
        assert encoder.channels == CHANNELS[name]
        assert encoder.patch == PATCH[name]
        rows, columns = encoder.input_size(64, 96)
        for tap, grid in zip(encoder.taps, grids, strict=True):
            cell = 4 << (tap - 1) if name == "dinov3-convnext" else encoder.patch
            assert grid.shape == (2, encoder.channels[tap - 1], rows // cell, columns // cell)
            assert grid.dtype == torch.float32
            assert grid.isfinite().all()

    def test_the_last_tap_is_what_the_model_itself_gives(self, name: str, tmp_path: Path) -> None:
        encoder = FoundationEncoder(saved(tmp_path, name), taps=1)
        frames = torch.rand(1, 1, 2 * PATCH[name], 3 * PATCH[name])
        pixels = standardise(frames, IMAGENET_MEAN, IMAGENET_STD)
        with torch.no_grad():
            result = backbone(name)(pixels, output_hidden_states=True)
        if name == "dinov3-convnext":  # its model normalises the last stage, its backbone does not
            expected = result.hidden_states[-1]
        else:  # class and register tokens come first
            expected = result.last_hidden_state[:, -6:].transpose(1, 2).reshape(1, 16, 2, 3)
        torch.testing.assert_close(encoder(frames)[0], expected)


def test_a_tap_is_the_output_of_its_layer_normalised(folder: str) -> None:
    model = backbone("dinov2")
    frames = _frames(28)
    with torch.no_grad():
        tokens = model.embeddings(standardise(frames, IMAGENET_MEAN, IMAGENET_STD))
        for layer in model.encoder.layer[:3]:
            tokens = layer(tokens)
        expected = model.layernorm(tokens)[:, 1:].transpose(1, 2).reshape(2, 16, 4, 4)
    torch.testing.assert_close(FoundationEncoder(folder, taps=[1, 3])(frames)[1], expected)


def test_same_frames_same_features_whatever_else_ran(folder: str) -> None:
    encoder = FoundationEncoder(folder)
    first = encoder(_frames())
    torch.manual_seed(99)
    encoder(torch.rand(1, 1, 30, 90))
    assert all(torch.equal(a, b) for a, b in zip(first, encoder(_frames()), strict=True))


class TestFrozen:
    def test_no_gradient_reaches_or_leaves_it(self, folder: str) -> None:
        encoder = FoundationEncoder(folder)
        grids = encoder(_frames().requires_grad_())
        assert not any(grid.requires_grad for grid in grids)
        assert not any(value.requires_grad for value in encoder._backbone.parameters())

    def test_training_layers_may_keep_its_features(self, folder: str) -> None:
        layer = nn.Conv2d(16, 1, 1)
        layer(FoundationEncoder(folder)(_frames())[0]).sum().backward()
        assert layer.weight.grad is not None

    def test_a_module_that_holds_it_neither_saves_nor_trains_it(self, folder: str) -> None:
        module = nn.Linear(1, 1)
        module.encoder = FoundationEncoder(folder)  # type: ignore[assignment]
        module.train()
        assert set(module.state_dict()) == {"weight", "bias"}
        assert len(list(module.parameters())) == 2
        assert not module.encoder._backbone.training  # type: ignore[union-attr]

    def test_train_mode_does_not_last(self, tmp_path: Path) -> None:
        # With DINOv3 the mode changes the features: position embeddings are jittered in training.
        encoder = FoundationEncoder(saved(tmp_path, "dinov3-vit"))
        before = encoder(_frames())
        encoder._backbone.train()
        assert torch.equal(before[3], encoder(_frames())[3])

    def test_a_copy_of_a_training_module_shares_it(self, folder: str) -> None:
        encoder = FoundationEncoder(folder)
        assert copy.deepcopy({"encoder": encoder})["encoder"] is encoder

    def test_loading_leaves_the_random_state_alone(self, folder: str) -> None:
        state = torch.random.get_rng_state()
        FoundationEncoder(folder)
        FoundationEncoder(folder, randomise=3)
        assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("taps", "layers", "expected"),
    [
        (4, 12, [3, 6, 9, 12]),  # DINOv2 small and base
        (4, 4, [1, 2, 3, 4]),  # the four stages of a ConvNeXt
        (4, 6, [2, 3, 5, 6]),
        (1, 6, [6]),
        ([1, 5], 6, [1, 5]),
        ((6,), 6, [6]),
    ],
)
def test_taps(taps: int | list[int], layers: int, expected: list[int]) -> None:
    assert choose_taps(taps, layers) == expected


@pytest.mark.parametrize("taps", [0, -1, 5, [], [0], [5], [2, 1], [3, 3], [-1]])
def test_taps_out_of_range_name_the_range(taps: int | list[int], folder: str) -> None:
    with pytest.raises(ConfigError, match=r"taps.* 1 to 4"):
        FoundationEncoder(folder, taps=taps)


@pytest.mark.parametrize(
    ("height", "width", "magnification", "expected"),
    [
        (56, 70, 1.0, (56, 70)),  # multiples of 7 stay
        (52, 53, 1.0, (49, 56)),  # else the nearest multiple
        (1, 1, 1.0, (7, 7)),  # never less than one patch
        (56, 56, 2.0, (112, 112)),
        (56, 56, 0.5, (28, 28)),
    ],
)
def test_input_size(
    height: int, width: int, magnification: float, expected: tuple[int, int], folder: str
) -> None:
    encoder = FoundationEncoder(folder, magnification=magnification)
    assert encoder.input_size(height, width) == expected
    grid = encoder(torch.rand(1, 1, height, width))[0]
    assert grid.shape[-2:] == (expected[0] // 7, expected[1] // 7)


@pytest.mark.parametrize("shape", [(1, 56, 56), (1, 3, 56, 56), (0, 1, 56, 56), (1, 1, 0, 56)])
def test_other_shapes_are_refused(shape: tuple[int, ...], folder: str) -> None:
    with pytest.raises(ConfigError, match=r"frames \(N, 1, H, W\)"):
        FoundationEncoder(folder)(torch.zeros(shape))


class TestStatistics:
    def test_imagenet_without_a_record(self, folder: str) -> None:
        encoder = FoundationEncoder(folder)
        assert (encoder.mean, encoder.std) == (IMAGENET_MEAN, IMAGENET_STD)

    def test_the_folders_own_record_comes_first_and_arguments_before_it(self, tmp_path: Path) -> None:
        source = saved(tmp_path)
        record = {"image_mean": [0.1, 0.1, 0.1], "image_std": [0.2, 0.2, 0.2]}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(record))
        assert FoundationEncoder(source).mean == (0.1, 0.1, 0.1)
        assert FoundationEncoder(source).std == (0.2, 0.2, 0.2)
        given = FoundationEncoder(source, mean=(0.5, 0.5, 0.5))
        assert (given.mean, given.std) == ((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))

    @pytest.mark.parametrize(
        ("record", "message"),
        [
            ("{", "not a valid JSON"),
            ('{"image_mean": ["a"], "image_std": [1]}', "not numbers"),
            ('{"image_mean": [0.5], "image_std": [0.5]}', "takes 3 channels"),
            ('{"image_mean": [0, 0, 0], "image_std": [1, 1, 0]}', "std above 0"),
            ('{"image_mean": [NaN, 0, 0], "image_std": [1, 1, 1]}', "must be finite"),
        ],
    )
    def test_a_bad_record_is_an_error(self, record: str, message: str, tmp_path: Path) -> None:
        source = saved(tmp_path)
        (tmp_path / "preprocessor_config.json").write_text(record)
        with pytest.raises(ConfigError, match=message):
            FoundationEncoder(source)


class TestKey:
    def test_equal_for_equal_weights_wherever_they_lie(self, folder: str, tmp_path: Path) -> None:
        moved = shutil.copytree(folder, tmp_path / "moved")
        assert FoundationEncoder(folder).key == FoundationEncoder(str(moved)).key

    def test_another_for_whatever_changes_the_features(self, folder: str, tmp_path: Path) -> None:
        keys = [
            FoundationEncoder(folder).key,
            FoundationEncoder(folder, taps=[1, 2]).key,
            FoundationEncoder(folder, magnification=2.0).key,
            FoundationEncoder(folder, mean=(0, 0, 0)).key,
            FoundationEncoder(folder, std=(1, 1, 1)).key,
            FoundationEncoder(folder, randomise=7).key,
            FoundationEncoder(folder, randomise=8).key,
            FoundationEncoder(saved(tmp_path / "other", seed=1)).key,
        ]
        assert len(set(keys)) == len(keys)

    def test_the_configuration_counts(self, folder: str, tmp_path: Path) -> None:
        changed = shutil.copytree(folder, tmp_path / "changed")
        config = json.loads((changed / "config.json").read_text())
        (changed / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 0.1}))
        assert FoundationEncoder(folder).key != FoundationEncoder(str(changed)).key


class TestRandomControl:
    def test_same_architecture_fresh_weights_by_seed(self, folder: str) -> None:
        trained, first, again, other = (FoundationEncoder(folder, randomise=seed) for seed in (None, 5, 5, 6))
        assert first.channels == trained.channels
        assert torch.equal(first(_frames())[0], again(_frames())[0])
        assert not torch.equal(first(_frames())[0], trained(_frames())[0])
        assert not torch.equal(first(_frames())[0], other(_frames())[0])

    def test_needs_no_weights(self, folder: str, tmp_path: Path) -> None:
        shutil.copy(Path(folder) / "config.json", tmp_path)
        assert FoundationEncoder(str(tmp_path), randomise=0).channels == CHANNELS["dinov2"]


class TestLicence:
    @pytest.mark.parametrize("name", ["dinov3-vit", "dinov3-convnext"])
    def test_dinov3_is_told(self, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, logger="dimpoint"):
            notice = FoundationEncoder(saved(tmp_path, name)).licence_notice
        assert notice is not None
        assert "DINOv3 License" in notice
        assert caplog.messages == [notice]

    def test_no_notice_for_others_nor_for_random_weights(self, folder: str, tmp_path: Path) -> None:
        assert FoundationEncoder(folder).licence_notice is None
        assert FoundationEncoder(saved(tmp_path, "dinov3-vit"), randomise=0).licence_notice is None


class TestBadSources:
    def test_no_such_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="no such folder"):
            FoundationEncoder(str(tmp_path / "absent"))

    def test_a_file(self, tmp_path: Path) -> None:
        file = tmp_path / "model.safetensors"
        file.write_bytes(b"")
        with pytest.raises(ConfigError, match="no such folder"):
            FoundationEncoder(str(file))

    @pytest.mark.parametrize("name", ["facebook/dinov2-none-such", "none-such"])
    def test_a_hub_id_that_is_not_cached_offline(self, name: str) -> None:
        with pytest.raises(ConfigError, match=rf"{name}: .*neither in the local cache.*`hf download {name}"):
            FoundationEncoder(name)

    def test_a_hub_that_does_not_answer_is_not_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused(*_: object, **__: object) -> None:
            raise OSError("no route to host")

        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("socket.create_connection", refused)
        assert not _hub_answers()

    def test_dinov3_on_the_hub_is_gated(self) -> None:
        with pytest.raises(ConfigError, match="licence must be accepted"):
            FoundationEncoder("facebook/dinov3-none-such")

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            (None, "not a model written"),
            ("{", "not a valid JSON"),
            ("[]", "not a readable model"),
            ("{}", "model_type"),
            ('{"model_type": "none-such"}', "none-such"),
            ('{"model_type": "dinov2", "hidden_size": "wide"}', "not a readable model"),
            (BertConfig().to_json_string(), "a 'bert' model is not an image backbone"),
        ],
    )
    def test_a_folder_that_is_no_backbone(self, config: str | None, message: str, tmp_path: Path) -> None:
        if config is not None:
            (tmp_path / "config.json").write_text(config)
        with pytest.raises(ConfigError, match=message):
            FoundationEncoder(str(tmp_path))

    def test_weights_missing_damaged_or_of_another_model(self, folder: str, tmp_path: Path) -> None:
        source = shutil.copytree(folder, tmp_path / "model")
        weights = source / "model.safetensors"
        content = weights.read_bytes()
        weights.unlink()
        with pytest.raises(ConfigError, match="no file named"):
            FoundationEncoder(str(source))
        for damaged in (b"", content[: len(content) // 2], b"hello"):
            weights.write_bytes(damaged)
            with pytest.raises(ConfigError, match="not a readable model"):
                FoundationEncoder(str(source))
        saved(tmp_path / "other", "dinov3-convnext")
        shutil.copy(tmp_path / "other" / "model.safetensors", weights)
        with pytest.raises(ConfigError, match=r"not those of a 'dinov2' backbone; \d+ are missing"):
            FoundationEncoder(str(source))

    def test_weights_of_another_size(self, folder: str, tmp_path: Path) -> None:
        source = shutil.copytree(folder, tmp_path / "model")
        config = json.loads((source / "config.json").read_text())
        (source / "config.json").write_text(json.dumps(config | {"hidden_size": 32}))
        with pytest.raises(ConfigError, match="not a readable model"):
            FoundationEncoder(str(source))

    @pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
    def test_magnification(self, value: float, folder: str) -> None:
        with pytest.raises(ConfigError, match="above 0"):
            FoundationEncoder(folder, magnification=value)
