"""The clean copy: it checks clean, holds what it should, says what differs, and spoils nothing."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_sets import SIZE, coco, frame, make, mask, save, split, write_json
from dimpoint.datasets.check import check_dataset
from dimpoint.datasets.coco import read_points
from dimpoint.datasets.dataset import open_dataset
from dimpoint.datasets.reading import Reading
from dimpoint.datasets.repair import Repair, repair
from dimpoint.errors import DataError, DimpointError
from test_data_check import CASES


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def repaired(root: Path, out: Path) -> Repair:
    return repair(check_dataset(root), out)


def read(path: Path) -> np.ndarray:
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert values is not None
    return values


def test_a_clean_set_is_copied_byte_for_byte(tmp_path: Path) -> None:
    root, out = make(tmp_path / "set"), tmp_path / "copy"
    assert repaired(root, out) == Repair((), ())
    copied = files(out)
    record = json.loads(copied.pop("repair.json"))
    assert record == {"source": str(root), "changes": [], "unrepaired": []}
    assert copied == files(root)


UNDECIDED = {"soft mask", "faint mask"}  # several levels: the user must say which of them are targets
PLAIN = [case for case in CASES if CASES[case][1][0] != "points-disagree" and case not in UNDECIDED]


@pytest.mark.parametrize("case", sorted(UNDECIDED))
def test_what_is_a_target_must_be_said_first(tmp_path: Path, case: str) -> None:
    root, out = make(tmp_path / "set"), tmp_path / "copy"
    CASES[case][0](root)
    with pytest.raises(
        DataError, match=r"decide which pixels are targets before the repair: .*--mask-values"
    ):
        repaired(root, out)
    assert not out.exists()
    marked = (read(root / "masks/a.png") > 0).sum()
    repair(check_dataset(root, reading=Reading("nonzero")), out)
    assert (read(out / "masks/a.png") == 255).sum() == marked  # nothing is lost


@pytest.mark.parametrize("case", PLAIN)
def test_whatever_is_wrong_the_copy_checks_clean_and_says_so(tmp_path: Path, case: str) -> None:
    root, out = make(tmp_path / "set"), tmp_path / "copy"
    CASES[case][0](root)
    before = files(root)
    result = repaired(root, out)
    again = check_dataset(out)
    assert again.errors == 0
    assert result.changes
    assert result.unrepaired == ()
    assert len(json.loads((out / "repair.json").read_text())["changes"]) == len(result.changes)
    assert files(root) == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    # What is wrong here concerns train frames: the test split stays as it was.
    assert (out / "img_idx/test_X.txt").read_bytes() == before["img_idx/test_X.txt"]


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][1][0] == "points-disagree"])
def test_labels_that_disagree_are_left_to_the_user(tmp_path: Path, case: str) -> None:
    root = make(tmp_path / "set")
    CASES[case][0](root)
    result = repaired(root, tmp_path / "copy")
    assert result.changes == ()
    assert len(result.unrepaired) == 1
    assert result.unrepaired[0].startswith("images/a.png: ")


def test_masks_are_written_at_the_frames_size(tmp_path: Path) -> None:
    root, out = make(tmp_path / "set"), tmp_path / "copy"
    save(root / "masks/a.png", mask((1, 2)).repeat(2, 0).repeat(2, 1))
    save(root / "masks/b.png", mask((3, 4)) // 255)
    save(root / "masks/c.png", np.maximum(mask((5, 6)), np.uint8(127)))
    result = repaired(root, out)
    for name, expected in {
        "a": mask((1, 2)),
        "b": mask((3, 4)),
        "c": mask((5, 6)),
        "d": mask((4, 5)),
    }.items():
        assert np.array_equal(read(out / "masks" / f"{name}.png"), expected)
    assert [(c.file, c.reason) for c in result.changes] == [
        ("masks/a.png", "32x24 for a frame of 16x12; resized on reading"),
        (
            "masks/b.png",
            "holds 1 values other than 0 and 255: 1; 1 of 1 marked spots are below the threshold",
        ),
        ("masks/c.png", "holds 1 values other than 0 and 255: 127"),
    ]


def test_a_test_frame_in_train_leaves_train_only(tmp_path: Path) -> None:
    root, out = make(tmp_path / "set"), tmp_path / "copy"
    save(root / "images/b.png", frame(3))  # the pixels of d
    result = repaired(root, out)
    assert [s.name for s in open_dataset(out, "train")] == ["a"]
    assert [s.name for s in open_dataset(out, "test")] == ["c", "d"]
    assert [(c.file, c.action, c.reason) for c in result.changes] == [
        ("img_idx/train_X.txt", "line 2 removed: b", "same pixels as d in test")
    ]


def test_without_splits_a_repeated_frame_is_left_out(tmp_path: Path) -> None:
    root, out = make(tmp_path / "set", train=0), tmp_path / "copy"
    save(root / "images/d.png", frame(0))
    result = repaired(root, out)
    assert [s.name for s in open_dataset(out)] == ["a", "b", "c"]
    assert [(c.file, c.action, c.reason) for c in result.changes] == [
        ("images/d.png", "left out", "same pixels as a")
    ]


def test_two_lists_of_one_name_in_the_copy_must_be_equal(tmp_path: Path) -> None:
    root, out = make(tmp_path / "set"), tmp_path / "copy"
    (root / "train_X.txt").write_text("c\n")
    with pytest.raises(DataError, match=r"would both be img_idx/train_X\.txt in the clean copy, and differ"):
        repaired(root, out)
    assert not out.exists()
    (root / "train_X.txt").write_text("a\nb\n")
    repaired(root, out)
    assert (out / "img_idx" / "train_X.txt").read_text() == "a\nb\n"


def test_a_split_without_usable_frames_is_left_out(tmp_path: Path) -> None:
    root, out = make(tmp_path / "set"), tmp_path / "copy"
    for name in ("a", "b"):
        (root / "images" / f"{name}.png").write_bytes(b"")
    result = repaired(root, out)
    assert not (out / "img_idx" / "train_X.txt").exists()
    assert result.changes[-1].reason == "no usable frame is left in it"


def test_points_are_kept_under_the_frames_true_size(tmp_path: Path) -> None:
    root, out = make(tmp_path / "set", train=0, masks=False), tmp_path / "copy"
    content = coco((1, 2, 2), (30, 2, 2), file_name="images/a.png")
    content["images"][0]["width"] = 32
    write_json(root / "annotations" / "any.json", content)
    result = repaired(root, out)
    (image,) = read_points(out / "points.json")
    assert (image.file_name, image.width, image.height) == ("a.png", *SIZE[::-1])
    assert image.points.tolist() == [[1, 2]]
    assert [c.file for c in result.changes] == ["images/a.png"] * 2


def test_frames_in_the_folder_itself_and_in_sub_folders(tmp_path: Path) -> None:
    save(tmp_path / "flat" / "a.png", frame(0))
    save(tmp_path / "flat" / "masks" / "a.png", mask((1, 1)) // 255)
    repaired(tmp_path / "flat", tmp_path / "flat copy")
    assert open_dataset(tmp_path / "flat copy").samples[0].read_points().tolist() == [[1, 1]]

    save(tmp_path / "deep" / "images" / "seq" / "a.png", frame(0))
    save(tmp_path / "deep" / "masks" / "seq" / "a.bmp", mask((1, 1)) // 255)
    split(tmp_path / "deep", "train", "seq/a")
    repaired(tmp_path / "deep", tmp_path / "deep copy")
    assert open_dataset(tmp_path / "deep copy", "train").samples[0].read_points().tolist() == [[1, 1]]


def test_where_a_copy_may_not_go(tmp_path: Path) -> None:
    root = make(tmp_path / "set")
    report = check_dataset(root)
    used = tmp_path / "used"
    used.mkdir()
    (used / "something").write_text("precious")
    for out in (used, used / "something"):
        with pytest.raises(DataError, match="needs a new or empty folder"):
            repair(report, out)
    for out in (root, root / "copy", tmp_path / "x" / ".." / "set" / "copy"):
        with pytest.raises(DataError, match="lies inside the data set"):
            repair(report, out)
    with pytest.raises(DimpointError, match="something/copy: cannot be written"):
        repair(report, used / "something" / "copy")
    assert files(used) == {"something": b"precious"}


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    repaired(make(tmp_path / "set"), tmp_path / "copy")
    assert len(open_dataset(tmp_path / "copy")) == 4


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = check_dataset(make(tmp_path / "set"))

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dimpoint.datasets.repair.write_text", full_disk)
    with pytest.raises(DimpointError, match="copy: cannot be written: No space left"):
        repair(report, tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_nothing_usable(tmp_path: Path) -> None:
    root = make(tmp_path / "set", 1, train=0)
    (root / "images/a.png").write_bytes(b"")
    with pytest.raises(DataError, match="no usable frame is left"):
        repaired(root, tmp_path / "copy")
