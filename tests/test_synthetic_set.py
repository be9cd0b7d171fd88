"""Synthetic data sets on disk, and `dimpoint data synth`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from dimpoint.cli.data import data_app
from dimpoint.datasets.dataset import open_dataset
from dimpoint.errors import ConfigError, DataError, DimpointError
from dimpoint.synthetic.scenes import SceneConfig, make_scenes, write_dataset

SMALL = SceneConfig(height=40, width=56, empty_share=0.3)


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


@pytest.mark.parametrize("bits", [8, 16])
def test_what_is_written(tmp_path: Path, bits: int) -> None:
    config = SMALL.model_copy(update={"bits": bits})
    out = tmp_path / "new" / "sky"
    done: list[int] = []
    write_dataset(out, config, 10, seed=3, test_fraction=0.3, progress=done.append)
    assert done == list(range(1, 11))
    assert (out / "img_idx" / "train_sky.txt").read_text().split() == [f"{n:06d}" for n in range(1, 8)]
    assert (out / "img_idx" / "test_sky.txt").read_text().split() == [f"{n:06d}" for n in range(8, 11)]
    samples = open_dataset(out).samples
    assert len(samples) == 10
    for sample, scene in zip(samples, make_scenes(config, 10, 3), strict=True):
        frame = cv2.imread(str(sample.frame_path), cv2.IMREAD_UNCHANGED)
        mask = cv2.imread(str(sample.mask_path), cv2.IMREAD_UNCHANGED)
        assert frame.dtype == scene.frame.dtype
        assert np.array_equal(frame, scene.frame)
        assert np.array_equal(mask, scene.mask.astype(np.uint8) * 255)
        assert np.array_equal(sample.read_points(), scene.points)  # to the last bit, not the mask's centroids


def test_the_record_gives_seed_configuration_and_scr(tmp_path: Path) -> None:
    write_dataset(tmp_path / "s", SMALL, 5, seed=4)
    record = json.loads((tmp_path / "s" / "scenes.json").read_text())
    assert record["seed"] == 4
    assert SceneConfig.model_validate(record["config"]) == SMALL
    for entry, scene in zip(record["frames"], make_scenes(SMALL, 5, 4), strict=True):
        assert entry["background"] == scene.background
        assert entry["scr"] == pytest.approx(scene.scr.tolist(), abs=1e-3)


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for place, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_dataset(tmp_path / place / "s", SMALL, 6, seed=seed)
    first, again, other = (contents(tmp_path / place / "s") for place in "abc")
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("fraction", "splits"),
    [
        (0.0, {"train_s.txt": 4}),  # no file for a split that would be empty
        (1.0, {"test_s.txt": 4}),
        (0.5, {"train_s.txt": 2, "test_s.txt": 2}),
    ],
)
def test_split_files(tmp_path: Path, fraction: float, splits: dict[str, int]) -> None:
    write_dataset(tmp_path / "s", SMALL, 4, test_fraction=fraction)
    found = {p.name: len(p.read_text().split()) for p in (tmp_path / "s" / "img_idx").iterdir()}
    assert found == splits


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    write_dataset(tmp_path / "s", SMALL, 2)
    assert len(list((tmp_path / "s" / "images").iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="not an empty folder"):
        write_dataset(tmp_path, SMALL, 2)
    with pytest.raises(DataError, match="not an empty folder"):
        write_dataset(tmp_path / "notes.txt", SMALL, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DimpointError, match="file/s: cannot be written"):
        write_dataset(tmp_path / "file" / "s", SMALL, 2)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_run_that_stops_half_way(tmp_path: Path, error: BaseException) -> None:
    def stop(done: int) -> None:
        if done == 2:
            raise error

    with pytest.raises(DimpointError if isinstance(error, OSError) else KeyboardInterrupt):
        write_dataset(tmp_path / "s", SMALL, 4, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"seed": -1}, {"test_fraction": 1.1}])
def test_wrong_arguments(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        write_dataset(tmp_path / "s", SMALL, **{"frames": 2, **wrong})
    assert list(tmp_path.iterdir()) == []


def test_command_writes_what_its_options_say(tmp_path: Path) -> None:
    options = "--frames 4 --size 40x56 --seed 9 --bits 16 --background sea --scr 5-6 --targets 1-2 --empty 0"
    result = CliRunner().invoke(
        data_app, ["synth", str(tmp_path / "s"), *options.split(), "--test-fraction", "0.5"]
    )
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "s" / "scenes.json").read_text())
    expected = SceneConfig(
        height=40, width=56, bits=16, background="sea", count=(1, 2), empty_share=0, targets={"scr": (5, 6)}
    )
    assert record["seed"] == 9
    assert SceneConfig.model_validate(record["config"]) == expected
    assert (tmp_path / "s" / "img_idx" / "test_s.txt").read_text().split() == ["000003", "000004"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--size", "40"], "--size '40': expected HEIGHTxWIDTH"),
        (["--size", "0x40"], "--size 0:"),
        (
            ["--size", "999999x999999"],
            "scenes of 999999x999999: pixels: 999,998,000,001 is more than",
        ),
        (["--scr", "loud"], "--scr 'loud': expected LOW-HIGH"),
        (["--scr", "9-3"], "--scr (9.0, 3.0):"),
        (["--scr", "0"], "--scr (0.0, 0.0):"),
        (["--targets", "1.5-2"], "--targets 1.5:"),
        (["--targets", "3-2"], "--targets (3.0, 2.0):"),
        (["--bits", "12"], "--bits 12: Input should be 8 or 16"),
        (["--background", "moon"], "--background moon: Input should be 'cloud', 'sea', 'ground' or 'mixed'"),
        (["--empty", "2"], "--empty 2.0:"),
        (["--frames", "0"], "frames must be at least 1"),
        (["--targets", "9", "--size", "20x20", "--empty", "0"], "9 targets"),
    ],
)
def test_command_names_the_option_that_is_wrong(tmp_path: Path, options: list[str], says: str) -> None:
    result = CliRunner().invoke(data_app, ["synth", str(tmp_path / "s"), *options])
    assert isinstance(result.exception, ConfigError)
    assert says in str(result.exception)
    assert list(tmp_path.iterdir()) == []
