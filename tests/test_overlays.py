"""Pictures of evaluated frames: found, missed and false objects are marked where they are, and explained."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import dimpoint
from cli_runs import run_command
from dimpoint.errors import DataError
from dimpoint.inference.overlay import RADIUS
from dimpoint.report.overlays import MARKS, legend_strip
from evaluation_sets import FALSE, SCENES, SIZE, all_points, detections, make_model, make_set

TIMES = 8  # a frame of 64 pixels is enlarged so many times


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_set(tmp_path_factory.mktemp("world") / "X")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "blob.onnx")


def kinds_in(part: np.ndarray) -> set[str]:
    """The marks whose colours appear in a picture; lines are smoothed, so that the nearest colour counts."""
    values = part.reshape(-1, 3).astype(float)
    bright = values[np.ptp(values, axis=1) > 120]
    names, colours = list(MARKS), np.array(list(MARKS.values()), float)
    nearest = np.linalg.norm(bright[:, None] - colours, axis=2).argmin(axis=1)
    return {names[index] for index in np.flatnonzero(np.bincount(nearest, minlength=len(names)) > 8)}


def kinds_near(picture: np.ndarray, x: float, y: float) -> set[str]:
    """The marks around a frame's place (x, y)."""
    column, row = (round((value + 0.5) * TIMES) for value in (x, y))
    reach = RADIUS + 4
    return kinds_in(picture[max(row - reach, 0) : row + reach, max(column - reach, 0) : column + reach])


def test_every_object_has_the_mark_of_what_it_is(data: Path, model: Path, tmp_path: Path) -> None:
    evaluation = dimpoint.evaluate(str(model), data)
    assert evaluation.overlays(tmp_path / "pictures") == len(SCENES)
    pictures = {path.stem: cv2.imread(str(path)) for path in (tmp_path / "pictures").iterdir()}
    assert set(pictures) == set(SCENES)
    for name, targets in SCENES.items():
        picture = pictures[name]
        expected = [(x, y, "missed" if name == "lost" else "found") for x, y, _ in targets]
        if name in FALSE:
            expected.append((*FALSE[name][:2], "false"))
        for x, y, kind in expected:
            assert kinds_near(picture, x, y) == {kind}, (name, x, y)
        frame = picture[: SIZE[0] * TIMES]
        assert kinds_in(frame) == {kind for *_, kind in expected}, name


def test_the_legend_explains_and_counts_every_mark(data: Path, model: Path, tmp_path: Path) -> None:
    dimpoint.evaluate(str(model), data).overlays(tmp_path / "pictures")
    picture = cv2.imread(str(tmp_path / "pictures" / "bright.png"))
    strip = picture[SIZE[0] * TIMES :]
    assert (strip == legend_strip(picture.shape[1], {"found": 2, "missed": 0, "false": 0})).all()
    assert kinds_in(strip) == set(MARKS)


def test_the_command_writes_them_and_says_where(
    data: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(*arguments: object) -> tuple[int, str]:
        done = run_command(monkeypatch, capsys, "evaluate", "--data", str(data), *map(str, arguments))
        return done.code, done.out + done.err

    points = detections(tmp_path / "detections.json", all_points())
    two = ("--model", model, "--predictions", points, "--overlays", tmp_path / "two")
    code, text = run(*two)
    assert (code, "8 frames" in text) == (0, True)
    folders = sorted(path.name for path in (tmp_path / "two").iterdir())
    assert folders == ["blob", "detections"]
    assert len(list((tmp_path / "two" / "blob").glob("*.png"))) == len(SCENES)
    code, text = run(*two)  # pictures of two evaluations do not mix, and nothing is computed before
    assert code == 2
    assert "is not empty" in text


def test_labels_without_frames_give_no_pictures(data: Path, tmp_path: Path) -> None:
    from dimpoint.datasets.convert import points_from_masks

    file, *_ = points_from_masks(data, tmp_path / "labels.json")
    evaluation = dimpoint.evaluate(detections(tmp_path / "detections.json", all_points()), file)
    with pytest.raises(DataError, match="labels only, no frames"):
        evaluation.overlays(tmp_path / "pictures")
    assert not (tmp_path / "pictures").exists()


def test_detect_points_to_them_where_the_frames_have_labels(
    data: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def detect(*arguments: object) -> str:
        return run_command(monkeypatch, capsys, "detect", *map(str, arguments), "--model", str(model)).err

    hint = f"dimpoint evaluate --model {model} --data {data} --overlays"
    assert hint in detect(data / "images", "--out", tmp_path / "a", "--overlay")
    assert hint not in detect(data / "images", "--out", tmp_path / "b")
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "bright.png").write_bytes((data / "images" / "bright.png").read_bytes())
    assert "has labels" not in detect(alone, "--out", tmp_path / "c", "--overlay")
