"""Pretraining: what the masked autoencoder hides and scores, exact resumption, and the folder it leaves."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from transformers import AutoBackbone, AutoConfig
from typer.testing import CliRunner

from dimpoint.cli import build_app
from dimpoint.errors import ConfigError, DataError, DimpointError
from dimpoint.fdep.encoder import FoundationEncoder
from dimpoint.model.intensity import IntensityRule
from dimpoint.pretraining import run as pretraining
from dimpoint.pretraining.mae import Crops, MaskedAutoencoder, sines, standardised_patches
from dimpoint.pretraining.record import PretrainRun, PretrainSettings, learning_rate, pretrain_settings
from dimpoint.pretraining.run import pretrain, resume

DTYPE = IntensityRule(kind="dtype")


def _settings(**changes: Any) -> PretrainSettings:
    tiny: dict[str, Any] = {"size": 16, "patch": 4, "hidden": 16, "layers": 2, "heads": 2, "batch": 4}
    return pretrain_settings(**(tiny | {"epochs": 2, "lr": 3e-3} | changes))


def _write(root: Path, count: int = 6, shape: tuple[int, int] = (24, 20), seed: int = 0) -> Path:
    """A data set of smooth random frames; its last one is the test split."""
    rng = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    for number in range(count):
        noise = cv2.GaussianBlur(rng.random(shape, np.float32), (0, 0), 2.0)
        frame = cv2.normalize(noise, np.empty_like(noise), 20, 230, cv2.NORM_MINMAX).astype(np.uint8)
        cv2.imwrite(str(root / "images" / f"{number}.png"), frame)
    (root / "img_idx").mkdir()
    names = [str(number) for number in range(count)]
    (root / "img_idx" / f"train_{root.name}.txt").write_text("\n".join(names[:-1]))
    (root / "img_idx" / f"test_{root.name}.txt").write_text(names[-1])
    return root


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return _write(tmp_path / "set")


@pytest.fixture
def told() -> list[str]:
    return []


def _weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


class TestMaskedAutoencoder:
    def _model(self) -> MaskedAutoencoder:
        torch.manual_seed(0)
        return MaskedAutoencoder(size=16, patch=4, hidden=16, layers=2, heads=2)

    def test_the_encoder_sees_the_kept_patches_only(self) -> None:
        model, kept = self._model(), torch.tensor([[2, 9, 13, 4]])
        pixels = torch.rand(1, 3, 16, 16)
        changed = pixels.clone()
        changed[..., 0:4, 0:4] += 1  # patch 0 is dropped
        assert torch.equal(model.encode(pixels, kept), model.encode(changed, kept))
        changed[..., 0:4, 8:12] += 1  # patch 2 is not
        assert not torch.allclose(model.encode(pixels, kept), model.encode(changed, kept))

    def test_with_all_patches_it_is_transformers_own_model(self) -> None:
        model, pixels = self._model(), torch.rand(2, 3, 16, 16)
        everything = torch.arange(16).expand(2, -1)
        torch.testing.assert_close(model.encode(pixels, everything), model.encoder(pixels).last_hidden_state)

    def test_the_decoder_has_every_token_in_its_place(self) -> None:
        model, pixels = self._model(), torch.rand(1, 3, 16, 16)
        kept = torch.tensor([[1, 6, 11, 12]])
        shuffled = kept[:, [2, 0, 3, 1]]
        there = model.decode(model.encode(pixels, kept), kept)
        torch.testing.assert_close(model.decode(model.encode(pixels, shuffled), shuffled), there)

    def test_only_dropped_patches_are_scored(self) -> None:
        model, kept = self._model(), torch.tensor([[0, 5, 10, 15]])
        pixels, frames = torch.rand(1, 3, 16, 16), torch.rand(1, 1, 16, 16)
        loss = model(pixels, frames, kept)
        changed = frames.clone()
        changed[..., 0:4, 0:4] = changed[..., 0:4, 0:4].flip(3)  # patch 0 is kept
        assert torch.equal(model(pixels, changed, kept), loss)
        changed[..., 0:4, 4:8] = changed[..., 0:4, 4:8].flip(3)
        assert not torch.equal(model(pixels, changed, kept), loss)
        rebuilt = model.decode(model.encode(pixels, kept), kept)
        error = (rebuilt - standardised_patches(frames, 4)).square().mean(dim=2)[0]
        dropped = [number for number in range(16) if number not in (0, 5, 10, 15)]
        torch.testing.assert_close(loss, error[dropped].mean())

    def test_gradients_reach_everything_but_the_fixed_positions(self) -> None:
        model = self._model()
        model(torch.rand(2, 3, 16, 16), torch.rand(2, 1, 16, 16), torch.arange(4).expand(2, -1)).backward()
        without = {name for name, value in model.named_parameters() if value.grad is None}
        assert without == {"encoder.embeddings.position_embeddings"}

    def test_positions_tell_all_places_apart(self) -> None:
        table = sines(16, 192)
        nearest = torch.cdist(table, table) + torch.eye(256) * 9
        assert nearest.min() > 0.5
        assert table.shape == (256, 192)

    def test_patches_are_standardised_and_noise_is_not_blown_up(self) -> None:
        frames = torch.zeros(1, 1, 8, 8)
        frames[..., :4, :4] = torch.rand(4, 4) * 3 + 5  # any brightness and contrast
        frames[..., :4, 4:] = 0.001 * torch.randn(4, 4)  # flat but for noise
        patches = standardised_patches(frames, 4)
        assert patches.shape == (1, 4, 16)
        assert patches[0, 0].mean().item() == pytest.approx(0, abs=1e-5)
        assert patches[0, 0].std(correction=0).item() == pytest.approx(1, abs=1e-5)
        assert patches[0, 1].abs().max() < 0.3
        assert not patches[0, 2:].any()

    def test_patches_are_numbered_row_by_row(self) -> None:
        frames = torch.zeros(1, 1, 8, 12)
        frames[..., 1, 9] = 1.0  # third patch of the first row, its second row and column
        assert standardised_patches(frames, 4)[0].argmax().item() == 2 * 16 + 1 * 4 + 1


class TestCrops:
    def test_only_the_train_split_is_read(self, data: Path) -> None:
        crops = Crops([data], DTYPE, 16, 0)
        assert crops.counts == {"set": 5}
        (data / "images" / "5.png").write_bytes(b"no picture: the test split is not even opened")
        assert Crops([data], DTYPE, 16, 0).hashes == crops.hashes

    def test_a_set_without_splits_is_read_whole(self, data: Path) -> None:
        shutil.rmtree(data / "img_idx")
        assert len(Crops([data], DTYPE, 16, 0)) == 6

    def test_statistics_are_those_of_the_frames(self, data: Path) -> None:
        crops = Crops([data], DTYPE, 16, 0)
        pixels = [cv2.imread(str(data / "images" / f"{n}.png"), cv2.IMREAD_UNCHANGED) / 255 for n in range(5)]
        assert crops.mean == pytest.approx(np.mean(pixels))
        assert crops.std == pytest.approx(np.std(pixels))

    def test_a_crop_is_a_function_of_its_number(self, data: Path) -> None:
        crops, again = Crops([data], DTYPE, 16, 0), Crops([data], DTYPE, 16, 0)
        crops.batch(50, 3, 16, 4)
        frames, kept = crops.batch(2, 4, 16, 4)
        expected, expected_kept = again.batch(0, 6, 16, 4)
        assert torch.equal(frames, expected[2:])
        assert torch.equal(kept, expected_kept[2:])
        assert not torch.equal(Crops([data], DTYPE, 16, 1).batch(2, 4, 16, 4)[0], frames)

    def test_shapes_and_kept_patches(self, data: Path) -> None:
        frames, kept = Crops([data], DTYPE, 16, 0).batch(0, 8, 16, 4)
        assert frames.shape == (8, 1, 16, 16)
        assert frames.dtype == torch.float32
        assert all(len(set(row.tolist())) == 4 and 0 <= row.min() <= row.max() < 16 for row in kept)
        assert len({tuple(row.tolist()) for row in kept}) > 1

    def test_frames_smaller_than_a_crop_go_on_as_their_mirror_image(self, tmp_path: Path) -> None:
        frames, _ = Crops([_write(tmp_path / "small", shape=(5, 30))], DTYPE, 16, 0).batch(0, 6, 16, 4)
        assert frames.shape == (6, 1, 16, 16)
        # Mirrored along one side, whichever turn put it there: period 8 for 5 pixels.
        for frame in frames[:, 0]:
            sides = (frame, frame.flip(0), frame.T, frame.T.flip(0))
            assert any(torch.equal(side[:8], side[8:]) for side in sides)

    @pytest.mark.parametrize("memory", [4 << 30, 0])
    def test_invalid_pixels_are_interpolated(
        self, memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Padding of value 0 in a deep frame changes neither the range nor the crops."""
        monkeypatch.setattr("dimpoint.pretraining.mae._MEMORY_BYTES", memory)
        counts = np.random.default_rng(0).normal(9000, 40, (64, 64)).astype(np.uint16)
        for name, start in (("padded", 20), ("whole", 0)):
            frame = counts[:, 20 - start :].copy()
            frame[:, :start] = 0
            (tmp_path / name / "images").mkdir(parents=True)
            cv2.imwrite(str(tmp_path / name / "images" / "0.png"), frame)
        rule = IntensityRule(kind="display", low=1, high=99)
        padded, whole = (Crops([tmp_path / name], rule, 32, 0) for name in ("padded", "whole"))
        assert padded.mean == pytest.approx(whole.mean, abs=0.05)
        assert padded.std < 1.2 * whole.std
        assert padded.batch(0, 8, 16, 4)[0].std() < 2 * whole.batch(0, 8, 16, 4)[0].std()

    def test_two_sets_of_one_name_are_refused(self, data: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="another data set has the same name, 'set'"):
            Crops([data, _write(tmp_path / "elsewhere" / "set")], DTYPE, 16, 0)

    def test_no_data(self) -> None:
        with pytest.raises(DataError, match="--data"):
            Crops([], DTYPE, 16, 0)


class TestLearning:
    def test_the_loss_falls(self, data: Path) -> None:
        run = PretrainRun(_settings(), Crops([data], DTYPE, 16, 0))
        for _ in range(60):
            run.advance(60)
        assert np.mean(run.losses[-10:]) < 0.8 * np.mean(run.losses[:3])

    def test_a_loss_that_is_no_number_ends_the_run(self, data: Path) -> None:
        run = PretrainRun(_settings(), Crops([data], DTYPE, 16, 0))
        with torch.no_grad():
            run.model.gap.fill_(float("nan"))
        with pytest.raises(ConfigError, match="smaller lr"):
            run.advance(10)

    def test_the_rate_rises_then_falls_to_nothing(self) -> None:
        rates = [learning_rate(step, 100) for step in range(100)]
        assert rates[0] == pytest.approx(1 / 6)
        assert np.argmax(rates) == 5
        assert rates[5] == 1
        assert all(a > b for a, b in itertools.pairwise(rates[5:]))
        assert 0 < rates[-1] < 0.001
        assert learning_rate(0, 1) > 0

    def test_minutes_become_steps_by_the_speed_and_change_nothing(self, data: Path) -> None:
        crops = Crops([data], DTYPE, 16, 0)
        run = PretrainRun(_settings(epochs=None, minutes=0.2), crops)
        before = {name: value.clone() for name, value in run.model.state_dict().items()}
        short, fresh = run.planned_steps(), PretrainRun(_settings(), crops)
        assert short > 1
        assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())
        run.advance(9)
        fresh.advance(9)
        assert run.losses == fresh.losses

    def test_epochs_are_crops_of_each_frame(self, data: Path) -> None:
        run = PretrainRun(_settings(epochs=3), Crops([data], DTYPE, 16, 0))
        assert run.planned_steps() == 4  # 15 crops in batches of 4


class TestFolder:
    def test_is_a_backbone_with_its_statistics_record_and_card(
        self, data: Path, tmp_path: Path, told: list[str]
    ) -> None:
        out = pretrain([data], tmp_path / "encoder", _settings(), told.append)
        encoder = FoundationEncoder(str(out), taps=2)
        crops = Crops([data], _settings().intensity, 16, 0)
        assert encoder.mean == pytest.approx((crops.mean,) * 3)
        assert encoder.std == pytest.approx((crops.std,) * 3)
        assert (encoder.channels, encoder.patch) == ((16, 16), 4)
        assert encoder(torch.rand(1, 1, 32, 24))[0].shape == (1, 16, 8, 6)
        record = json.loads((out / "pretraining.json").read_text())
        assert record["data"] == crops.hashes
        assert record["settings"]["hidden"] == 16
        card = (out / "README.md").read_text()
        assert f"set: 5 frames, sha256 {crops.hashes['set']}" in card
        assert "2111.06377" in card
        assert str(tmp_path) not in (out / "pretraining.json").read_text()  # no paths of this machine
        assert (out.stat().st_mode & 0o777) == 0o755
        assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o644}
        assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder", "set"]  # no leftovers

    def test_transformers_own_classes_load_it(self, data: Path, tmp_path: Path) -> None:
        out = pretrain([data], tmp_path / "encoder", _settings(), lambda line: None)
        config = AutoConfig.from_pretrained(out)
        assert config.architectures == ["Dinov2Model"]
        assert AutoBackbone.from_config(config).channels == [16]

    def test_the_saved_weights_are_the_trained_ones(self, data: Path, tmp_path: Path) -> None:
        settings = _settings()
        out = pretrain([data], tmp_path / "encoder", settings, lambda line: None)
        run = PretrainRun(settings, Crops([data], settings.intensity, 16, 0))
        for _ in range(run.planned_steps()):
            run.advance(run.planned_steps())
        pixels = torch.rand(1, 1, 16, 16)
        encoder = FoundationEncoder(str(out), taps=1, mean=(0, 0, 0), std=(1, 1, 1))
        with torch.no_grad():
            tokens = run.model.encoder(pixels.expand(-1, 3, -1, -1)).last_hidden_state[:, 1:]
        torch.testing.assert_close(encoder(pixels)[0].flatten(2).transpose(1, 2), tokens)


class _PowerCutError(Exception):
    pass


class TestResume:
    def _stop_at(self, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
        advance = PretrainRun.advance

        def stopping(self: PretrainRun, total: int) -> None:
            if self.step == step:
                raise _PowerCutError
            advance(self, total)

        monkeypatch.setattr(pretraining, "_SAVE_EVERY", 0.0)
        monkeypatch.setattr(PretrainRun, "advance", stopping)

    @pytest.mark.parametrize("step", [0, 2])
    def test_ends_as_an_uninterrupted_run(
        self, step: int, data: Path, tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = pretrain([data], tmp_path / "whole", _settings(), told.append)
        with monkeypatch.context() as patch:
            self._stop_at(patch, step)
            with pytest.raises(_PowerCutError):
                pretrain([data], tmp_path / "cut", _settings(), told.append)
        assert not (tmp_path / "cut").exists()
        cut = resume(tmp_path / "cut", told.append)
        assert _weights(cut) == _weights(whole)
        assert (cut / "preprocessor_config.json").read_bytes() == (
            whole / "preprocessor_config.json"
        ).read_bytes()

    def test_a_full_disk_at_the_end_loses_nothing(
        self, data: Path, tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(self: Path, *arguments: Any, **options: Any) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("dimpoint.pretraining.run._write_json", full)
            with pytest.raises(DimpointError, match="No space left"):
                pretrain([data], tmp_path / "encoder", _settings(), told.append)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder.pretraining", "set"]
        assert FoundationEncoder(str(resume(tmp_path / "encoder", told.append)), taps=1).patch == 4

    def test_an_unfinished_run_is_not_overwritten_nor_a_finished_one(
        self, data: Path, tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            self._stop_at(patch, 1)
            with pytest.raises(_PowerCutError):
                pretrain([data], tmp_path / "encoder", _settings(), told.append)
        with pytest.raises(ConfigError, match="--resume"):
            pretrain([data], tmp_path / "encoder", _settings(), told.append)
        resume(tmp_path / "encoder", told.append)
        with pytest.raises(ConfigError, match="already exists"):
            pretrain([data], tmp_path / "encoder", _settings(), told.append)
        with pytest.raises(ConfigError, match="no unfinished pretraining"):
            resume(tmp_path / "encoder", told.append)

    def test_changed_data_and_damaged_files(
        self, data: Path, tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            self._stop_at(patch, 1)
            with pytest.raises(_PowerCutError):
                pretrain([data], tmp_path / "encoder", _settings(), told.append)
        work = tmp_path / "encoder.pretraining"
        checkpoint = (work / "checkpoint.pt").read_bytes()
        for damaged in (b"", b"hello", checkpoint[: len(checkpoint) // 2]):
            (work / "checkpoint.pt").write_bytes(damaged)
            with pytest.raises(ConfigError, match=r"checkpoint.pt: damaged"):
                resume(tmp_path / "encoder", told.append)
        cv2.imwrite(str(data / "images" / "0.png"), np.zeros((24, 20), np.uint8))
        with pytest.raises(DataError, match="the data changed"):
            resume(tmp_path / "encoder", told.append)
        for text in ("", "[]", "{}", '{"settings": {"epochs": 1}, "roots": 3, "data": 0, "steps": 1}'):
            (work / "run.json").write_text(text)
            with pytest.raises(ConfigError, match=r"run.json: damaged"):
                resume(tmp_path / "encoder", told.append)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 18}, "size must be a multiple of patch"),
        ({"size": 4}, "at least twice it"),
        ({"hidden": 12}, "hidden must be a multiple of 8"),
        ({"heads": 3}, r"2 \* heads"),
        ({"epochs": None}, "either minutes or epochs"),
        ({"minutes": 1}, "either minutes or epochs"),
        ({"epochs": 0}, "epochs: .*greater than 0"),
        ({"epochs": float("inf")}, "epochs: .*finite"),
        ({"epochs": 1e300}, "epochs: .*less than"),
        ({"epochs": None, "minutes": float("inf")}, "minutes: .*finite"),
        ({"layers": 0}, "layers"),
        ({"seed": -1}, "seed"),
        ({"intensity": {"kind": "gamma"}}, r"intensity\.kind"),
    ],
)
def test_settings_that_do_not_fit_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _settings(**changes)


class TestCommand:
    def _run(self, *arguments: str) -> Any:
        return CliRunner().invoke(build_app(), ["pretrain", *arguments])

    def test_leaves_the_folder(self, data: Path, tmp_path: Path) -> None:
        sizes = [
            "--size",
            "16",
            "--patch",
            "4",
            "--hidden",
            "16",
            "--layers",
            "1",
            "--heads",
            "2",
            "--batch",
            "4",
            "--epochs",
            "1",
        ]
        result = self._run("--data", str(data), "--out", str(tmp_path / "encoder"), *sizes)
        assert result.exit_code == 0, result.output
        assert "5 training frames of set (5)" in result.output
        assert f"foundation encoder written: {tmp_path / 'encoder'}" in result.output
        assert FoundationEncoder(str(tmp_path / "encoder"), taps=1).channels == (16,)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "usage: dimpoint pretrain --data DIR --out DIR"),
            (["--data", "x"], "usage: dimpoint pretrain"),
            (["--resume", "x", "--out", "y"], "--resume uses the data and settings of the run"),
            (["--resume", "x", "--minutes", "60"], "--resume uses the data and settings of the run"),
            (["--resume", "x", "--batch", "64"], "--resume uses the data and settings of the run"),
            (["--resume", "x", "--colour", "luma"], "--resume uses the data and settings"),
            (["--resume", "none-such", "--threads", "1"], "no unfinished pretraining"),
            (["--resume", "none-such"], "no unfinished pretraining"),
            (["--data", "x", "--out", "y", "--minutes", "1", "--epochs", "1"], "either minutes or epochs"),
        ],
    )
    def test_wrong_use_says_what_is_right(self, arguments: list[str], message: str) -> None:
        result = self._run(*arguments)
        assert isinstance(result.exception, ConfigError)
        assert message in str(result.exception)
