"""`dimpoint data`: what it prints, what it writes, and its exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from data_sets import coco, frame, make, mask, save, write_json
from dimpoint import cli
from dimpoint.datasets.coco import read_points
from dimpoint.datasets.dataset import open_dataset


@pytest.fixture
def dimpoint(monkeypatch: pytest.MonkeyPatch) -> object:
    """Run the command line with these arguments; gives the exit code."""

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["dimpoint", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return int(stop.value.code or 0)

    return run


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A set with one mask of 0 and 1."""
    root = make(tmp_path / "set")
    save(root / "masks/a.png", mask((1, 2)) // 255)
    return root


def test_check_of_a_clean_set(tmp_path: Path, dimpoint, capsys: pytest.CaptureFixture[str]) -> None:
    assert dimpoint("data", "check", make(tmp_path / "set")) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'set'}: 4 frames, 4 masks, 0 errors, 0 notes\n"


def test_info_alone_is_exit_code_0(tmp_path: Path, dimpoint, capsys: pytest.CaptureFixture[str]) -> None:
    save(make(tmp_path) / "masks/a.png", mask())
    assert dimpoint("data", "check", tmp_path) == 0
    assert "0 errors, 1 note" in capsys.readouterr().out


def test_check_of_a_wrong_set(bad: Path, dimpoint, capsys: pytest.CaptureFixture[str]) -> None:
    assert dimpoint("data", "check", bad) == 1
    out = capsys.readouterr().out
    assert "1 error, 1 note" in out
    assert "non-binary-mask" in out


def test_check_into_a_pipe_keeps_each_finding_on_one_line(
    tmp_path: Path, dimpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    name = "a" * 90
    root = make(tmp_path, train=0)
    save(root / f"images/{name}.png", frame(9))
    save(root / f"masks/{name}.png", mask((1, 2)) // 255)
    assert dimpoint("data", "check", tmp_path) == 1
    rows = [line for line in capsys.readouterr().out.splitlines() if f"masks/{name}.png" in line]
    assert len(rows) == 1
    assert "non-binary-mask" in rows[0]


def test_check_as_json(bad: Path, dimpoint, capsys: pytest.CaptureFixture[str]) -> None:
    assert dimpoint("data", "check", bad, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["errors"] == 1
    finding, about_the_set = report["findings"]
    assert (about_the_set["kind"], about_the_set["severity"]) == ("mask-levels", "info")
    assert (finding["kind"], finding["severity"], finding["file"]) == (
        "non-binary-mask",
        "error",
        "masks/a.png",
    )


def test_check_as_json_is_utf8_whatever_files_are_called(
    tmp_path: Path, dimpoint, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    root = make(tmp_path / "set", train=0)
    (root / "masks/a.png").unlink()
    (root / "images/a.png").rename(root / "images/x\udcff.png")
    assert dimpoint("data", "check", root, "--json") == 1
    report = json.loads(capfdbinary.readouterr().out.decode("utf-8"))
    assert "images/x\udcff.png" in [finding["file"] for finding in report["findings"]]


def test_repair(bad: Path, tmp_path: Path, dimpoint, capsys: pytest.CaptureFixture[str]) -> None:
    assert dimpoint("data", "check", bad, "--repair", tmp_path / "copy") == 0
    out = capsys.readouterr().out
    assert "masks/a.png: rewritten as 0 and 255" in out
    assert "changed: 1, not repaired: 0" in out
    assert dimpoint("data", "check", tmp_path / "copy") == 0


def test_repair_as_json(bad: Path, tmp_path: Path, dimpoint, capsys: pytest.CaptureFixture[str]) -> None:
    assert dimpoint("data", "check", bad, "--json", "--repair", tmp_path / "copy") == 0
    assert [c["file"] for c in json.loads(capsys.readouterr().out)["repair"]["changes"]] == ["masks/a.png"]


def test_what_repair_cannot_decide_is_exit_code_1(
    tmp_path: Path, dimpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(make(tmp_path / "set") / "points.json", coco((9, 9, 2)))
    assert dimpoint("data", "check", tmp_path / "set", "--repair", tmp_path / "copy") == 1
    assert "not repaired: images/a.png: point (9, 9)" in capsys.readouterr().out


def test_file_names_are_no_markup(tmp_path: Path, dimpoint, capsys: pytest.CaptureFixture[str]) -> None:
    save(make(tmp_path) / "masks" / "[z].png", mask())
    assert dimpoint("data", "check", tmp_path) == 1
    assert "[z].png" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["check"], ["points"]])
def test_a_missing_folder_is_one_line_and_exit_code_2(
    tmp_path: Path, arguments: list[str], dimpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dimpoint("data", *arguments, tmp_path / "none") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.strip().splitlines()[-1] == f"error: {tmp_path / 'none'}: no such folder"


def test_points_from_masks(tmp_path: Path, dimpoint, capsys: pytest.CaptureFixture[str]) -> None:
    root = make(tmp_path / "set")
    save(root / "masks/b.png", mask())
    save(root / "masks/c.png", mask((2, 2), (3, 2), (9, 9)))
    assert dimpoint("data", "points", root) == 0
    assert capsys.readouterr().out == f"{root / 'points.json'}: 4 points in 4 frames\n"
    points = {image.file_name: image.points.tolist() for image in read_points(root / "points.json")}
    assert points == {"a.png": [[1, 2]], "b.png": [], "c.png": [[2.5, 2], [9, 9]], "d.png": [[4, 5]]}
    assert dimpoint("data", "check", root) == 0  # masks and points agree


def test_regions_that_another_format_does_not_have(
    tmp_path: Path, dimpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    content = coco((3, 4, 2))
    content["annotations"].append({"id": 9, "image_id": 7, "iscrowd": 1, "bbox": [5, 5, 3, 3]})
    write_json(tmp_path / "points.json", content)
    assert dimpoint("data", "convert", tmp_path / "points.json", "--to", "yolo", "--out", tmp_path / "y") == 0
    shown = capsys.readouterr()
    assert shown.out == f"{tmp_path / 'y'}: 1 point of 1 frame\n"
    assert "warning: ignore regions left out: 1; yolo has none, so their pixels are background" in shown.err


def test_points_never_overwrite(tmp_path: Path, dimpoint, capsys: pytest.CaptureFixture[str]) -> None:
    root = make(tmp_path / "set")
    (root / "points.json").write_text("my own labels")
    assert dimpoint("data", "points", root) == 2
    assert "already exists" in capsys.readouterr().err
    assert (root / "points.json").read_text() == "my own labels"
    assert dimpoint("data", "points", root, "--out", tmp_path / "other.json") == 0
    assert len(read_points(tmp_path / "other.json")) == 4


def test_points_need_every_mask(bad: Path, dimpoint, capsys: pytest.CaptureFixture[str]) -> None:
    assert dimpoint("data", "points", bad) == 2
    assert "--mask-values nonzero" in capsys.readouterr().err
    (bad / "masks/a.png").unlink()
    assert dimpoint("data", "points", bad) == 2
    assert "1 of 4 frames have no mask" in capsys.readouterr().err
    assert not (bad / "points.json").exists()


def test_points_of_a_public_set_are_its_masks_centroids(shared_data: Path, tmp_path: Path, dimpoint) -> None:
    assert dimpoint("data", "points", shared_data / "NUAA-SIRST", "--out", tmp_path / "points.json") == 0
    written = {image.file_name: image for image in read_points(tmp_path / "points.json")}
    assert len(written) == 427
    for sample in list(open_dataset(shared_data / "NUAA-SIRST", "test"))[::20]:
        np.testing.assert_array_equal(written[f"{sample.name}.png"].points, sample.read_points())
