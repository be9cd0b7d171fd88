"""Held-out parts by time, and `dimpoint data split`."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from dimpoint.cli import build_app
from dimpoint.datasets.dataset import Sample, open_dataset
from dimpoint.datasets.splits import hold_out_last
from dimpoint.errors import ConfigError, DimpointError
from spot_scenes import make_spots


def samples(*names: str) -> list[Sample]:
    return [Sample(name, Path(f"{name}.png"), None, None) for name in names]


BY_TIME = [
    # frames, share, held out
    (("f1", "f2", "f3", "f4"), 0.25, ["f4"]),
    (("f9", "f10", "f11", "f8"), 0.5, ["f10", "f11"]),  # numbers, not text
    (("a/1", "a/2", "b/1", "b/2", "b/3"), 0.3, ["a/2", "b/3"]),  # of each sequence
    (("a/1", "b/1", "b/2"), 0.5, ["b/2"]),  # a sequence of one frame is trained on
    (("f1", "f2"), 0.9, ["f2"]),  # something is left
    (("a_000001", "a_000009", "b_000001", "b_000002"), 0.5, ["a_000009", "b_000002"]),  # frames of two videos
]


@pytest.mark.parametrize(("names", "share", "held"), BY_TIME)
def test_the_last_frames_of_each_sequence(names: tuple[str, ...], share: float, held: list[str]) -> None:
    train, validation = hold_out_last(samples(*names), share)
    assert [one.name for one in validation] == held
    assert sorted([one.name for one in train] + held) == sorted(names)


@pytest.mark.parametrize(("names", "share"), [(("f1",), 0.5), ((), 0.5), (("f1", "f2"), 1.0), (("f1",), 0.0)])
def test_no_part_can_be_empty(names: tuple[str, ...], share: float) -> None:
    with pytest.raises(ConfigError):
        hold_out_last(samples(*names), share)


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    """Twelve frames of one scene, a target moving through it, without split lists."""
    root = make_spots(tmp_path / "CAMERA")
    for file in (root / "img_idx").iterdir():
        file.unlink()
    scene = np.random.default_rng(0).normal(0, 30, (6, 8))
    large = cv2.resize(scene, (64, 48), interpolation=cv2.INTER_CUBIC) + 100
    for number, sample in enumerate(open_dataset(root)):
        frame = large.copy()
        frame[20:23, 5 + 4 * number : 8 + 4 * number] += 80
        cv2.imwrite(str(sample.frame_path), np.clip(frame, 0, 255).astype(np.uint8))
    return root


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(build_app(), list(arguments))
    if isinstance(result.exception, DimpointError):
        return 2, str(result.exception)
    return result.exit_code, result.output


def test_a_data_set_is_split_and_opens(tmp_path: Path) -> None:
    root = make_spots(tmp_path / "SPOTS")
    code, text = run("data", "split", str(root))
    assert (code, "is not overwritten" in text) == (2, True)
    for file in (root / "img_idx").iterdir():
        file.unlink()
    code, text = run("data", "split", str(root), "--test", "0.25", "--validation", "0.25", "--by", "random")
    assert code == 0, text
    parts = {name: {one.name for one in open_dataset(root, name)} for name in ("train", "test", "validation")}
    assert [len(parts[name]) for name in parts] == [6, 3, 3]
    assert len(set.union(*parts.values())) == 12
    again = make_spots(tmp_path / "other" / "SPOTS")
    for file in (again / "img_idx").iterdir():
        file.unlink()
    run("data", "split", str(again), "--test", "0.25", "--validation", "0.25", "--by", "random")
    assert parts["test"] == {one.name for one in open_dataset(again, "test")}  # the seed decides


def test_a_fixed_camera_is_split_by_time(camera: Path) -> None:
    code, text = run("data", "split", str(camera))
    assert code == 2
    assert "--by time" in text
    assert not list((camera / "img_idx").iterdir())
    code, text = run("data", "split", str(camera), "--by", "time")
    assert code == 0, text
    assert [one.name for one in open_dataset(camera, "test")] == ["f10", "f11"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--by", "colour"], "scene, time, random"),
        (["--test", "0.6", "--validation", "0.5"], "add up to 1.1"),
        (["--test", "0"], "nothing to split off"),
    ],
)
def test_wrong_shares_write_nothing(camera: Path, options: list[str], text: str) -> None:
    code, said = run("data", "split", str(camera), *options)
    assert code == 2
    assert text in said
    assert not list((camera / "img_idx").iterdir())


@pytest.mark.parametrize("name", ["x\udcff", "two\nlines", " space"])
def test_names_that_a_list_cannot_hold_write_nothing(camera: Path, name: str) -> None:
    next((camera / "images").iterdir()).rename(camera / f"images/{name}.png")
    code, said = run("data", "split", str(camera), "--by", "random")
    assert (code, "a split list cannot hold this name" in said) == (2, True)
    assert not list((camera / "img_idx").iterdir())


def test_a_fixed_camera_can_be_trained_by_time(camera: Path) -> None:
    pytest.importorskip("torch")
    from dimpoint.training.frames import load_frames
    from dimpoint.training.recipe import load_recipe

    with pytest.raises(ConfigError, match="--validation-by time"):
        load_frames([open_dataset(camera)], load_recipe("finetune"))
    train, held = load_frames([open_dataset(camera)], load_recipe("finetune", ["validation_by=time"]))
    assert [one.sample.name for one in held] == ["f08", "f09", "f10", "f11"]
    assert len(train) == 8


def test_a_benchmark_without_a_test_split_says_what_to_do(camera: Path) -> None:
    code, text = run("benchmark", "finetune", "--data", str(camera), "--out", str(camera / "out"))
    assert code == 2
    assert f"dimpoint data split {camera}" in text
