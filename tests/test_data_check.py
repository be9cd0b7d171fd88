"""Every kind of finding, each by the smallest set that shows it, and what the public sets show."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_sets import SIZE, coco, frame, make, mask, save, split, write_json
from dimpoint.datasets.check import Report, check_dataset
from dimpoint.errors import DataError


def found(report: Report) -> list[tuple[str, str, str]]:
    """The findings, but for those about the set as a whole."""
    findings = [finding for finding in report.findings if finding.file != report.layout.root]
    return [(f.kind, report.file_of(f), f.message) for f in findings]


def only(root: Path) -> tuple[str, str, str]:
    (finding,) = found(check_dataset(root))
    return finding


def test_a_clean_set(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    report = check_dataset(make(tmp_path), lambda done, total: steps.append((done, total)))
    assert (report.errors, report.findings) == (0, ())
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert report.to_dict() == {
        "root": str(tmp_path),
        "frames": 4,
        "masks": 4,
        "splits": {"test_X": 2, "train_X": 2},
        "errors": 0,
        "findings": [],
    }


def test_a_target_free_frame_is_no_error(tmp_path: Path) -> None:
    save(make(tmp_path) / "masks" / "a.png", mask())
    report = check_dataset(tmp_path)
    assert report.errors == 0
    assert found(report) == [("empty-mask", "masks/a.png", "no target in this frame")]


def test_no_labels_at_all_is_no_error(tmp_path: Path) -> None:
    report = check_dataset(make(tmp_path, masks=False))
    assert report.errors == 0
    assert found(report) == [("unlabelled", "images", "4 of 4 frames have no label")]


Spoil = Callable[[Path], object]

# What is done to a clean set of a, b (train) and c, d (test), and the one finding that it must give.
CASES: dict[str, tuple[Spoil, tuple[str, str, str]]] = {
    "mask of twice the size": (
        lambda root: save(root / "masks/a.png", mask((1, 2)).repeat(2, 0).repeat(2, 1)),
        ("mask-size", "masks/a.png", "32x24 for a frame of 16x12; resized on reading"),
    ),
    "a target too small to survive resizing": (
        lambda root: save(root / "masks/a.png", mask((0, 0), (8, 8), size=(120, 160))),
        ("mask-size", "masks/a.png", "160x120 for a frame of 16x12; resized it keeps 0 of 2 targets"),
    ),
    "mask of another shape": (
        lambda root: save(root / "masks/a.png", mask((1, 2), size=(12, 12))),
        ("mask-size", "masks/a.png", "the mask is 12x12 but its frame is 16x12, another shape; "),
    ),
    "soft mask": (
        lambda root: save(root / "masks/a.png", np.maximum(mask((1, 2)), mask((4, 4)) // 2)),
        (
            "non-binary-mask",
            "masks/a.png",
            "holds 1 values other than 0 and 255: 127; 1 of 2 marked spots are",
        ),
    ),
    "mask of 0 and 1": (
        lambda root: save(root / "masks/a.png", mask((1, 2)) // 255),
        ("non-binary-mask", "masks/a.png", "holds 1 values other than 0 and 255: 1"),
    ),
    "faint mask": (
        lambda root: save(root / "masks/a.png", mask((1, 2)) // 3 + mask((5, 5)) // 4),
        ("non-binary-mask", "masks/a.png", "holds 2 values other than 0 and 255: 63, 85"),
    ),
    "broken mask": (
        lambda root: (root / "masks/a.png").write_bytes(b"no picture"),
        ("unreadable-mask", "masks/a.png", "not a picture"),
    ),
    "broken frame": (
        lambda root: (root / "images/a.png").write_bytes(b"no picture"),
        ("unreadable-frame", "images/a.png", "not a picture"),
    ),
    "truncated frame": (
        lambda root: (root / "images/a.png").write_bytes((root / "images/a.png").read_bytes()[:60]),
        ("unreadable-frame", "images/a.png", ""),
    ),
    "empty file": (
        lambda root: (root / "images/a.png").write_bytes(b""),
        ("unreadable-frame", "images/a.png", "the file is empty"),
    ),
    "two frames of one name": (
        lambda root: save(root / "images/a.bmp", frame(9)),
        ("same-name", "images/a.bmp", "a.png has the same name"),
    ),
    "two masks of one name": (
        lambda root: save(root / "masks/a.bmp", mask()),
        ("same-name", "masks/a.bmp", "a.png is a mask of the same frame"),
    ),
    "frame without mask": (
        lambda root: (root / "masks/a.png").unlink(),
        ("frame-without-mask", "images/a.png", "no mask and no points"),
    ),
    "mask without frame": (
        lambda root: save(root / "masks/z.png", mask()),
        ("mask-without-frame", "masks/z.png", "no frame of this name"),
    ),
    "split names a missing frame": (
        lambda root: split(root, "train_X", "a", "b", "z"),
        ("split-without-frame", "img_idx/train_X.txt", "line 3: no frame 'z'"),
    ),
    "split names a frame twice": (
        lambda root: split(root, "train_X", "a", "b", "a.png"),
        ("split-repeats", "img_idx/train_X.txt", "line 3: 'a.png' is listed twice"),
    ),
    "same pixels within a split": (
        lambda root: save(root / "images/b.png", frame(0)),
        ("duplicate-frame", "images/b.png", "same pixels as a, both in train"),
    ),
    "same pixels in both splits": (
        lambda root: save(root / "images/a.png", frame(2)),
        ("in-both-splits", "images/a.png", "in train, same pixels as c in test"),
    ),
    "same name in both splits": (
        lambda root: split(root, "test_X", "c", "d", "a"),
        ("in-both-splits", "images/a.png", "listed in both train and test"),
    ),
    "broken point file": (
        lambda root: (root / "points.json").write_text("{"),
        ("point-file", "points.json", "not a JSON file"),
    ),
    "unknown image_id": (
        lambda root: write_json(root / "points.json", coco((1, 2, 2)) | {"images": []}),
        ("point-file", "points.json", "annotation id 100: image_id 7 is unknown"),
    ),
    "points of an image that is not there": (
        lambda root: write_json(root / "points.json", coco((1, 2, 2), file_name="z.png")),
        ("point-file", "points.json", "image 'z.png' is not in the frame folder"),
    ),
    "point outside": (
        lambda root: write_json(root / "points.json", coco((1, 2, 2), (1, 40, 2))),
        ("point-outside", "points.json", "annotation id 101: keypoints: (1, 40) is outside the 16x12 frame"),
    ),
    "point beside the mask's target": (
        lambda root: write_json(root / "points.json", coco((4.1, 2, 2))),
        ("points-disagree", "images/a.png", "point (4.1, 2) 3.1 px from the nearest target"),
    ),
    "more targets than points": (
        lambda root: write_json(root / "points.json", coco()),
        ("points-disagree", "images/a.png", "points: 0, targets in the mask: 1"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_found_once_and_by_file(tmp_path: Path, case: str) -> None:
    spoil, (kind, file, message) = CASES[case]
    spoil(make(tmp_path))
    report = check_dataset(tmp_path)
    assert [f[:2] for f in found(report)] == [(kind, file)]
    assert message in report.findings[0].message
    assert str(tmp_path) not in report.findings[0].message
    assert report.errors == 1
    json.dumps(report.to_dict(), allow_nan=False)


def test_a_point_within_three_pixels_of_its_target_agrees(tmp_path: Path) -> None:
    write_json(make(tmp_path) / "points.json", coco((4.0, 2, 2)))
    assert check_dataset(tmp_path).findings == ()


def test_a_point_in_a_target_free_mask(tmp_path: Path) -> None:
    save(make(tmp_path) / "masks/a.png", mask())
    write_json(tmp_path / "points.json", coco((4, 2, 2)))
    assert [f[0] for f in found(check_dataset(tmp_path))] == ["points-disagree"] * 2 + ["empty-mask"]


def test_the_point_file_has_another_frame_size(tmp_path: Path) -> None:
    content = coco((1, 2, 2), (30, 2, 2))
    content["images"][0]["width"] = 32
    write_json(make(tmp_path, masks=False) / "points.json", content)
    assert found(check_dataset(tmp_path))[:2] == [
        ("point-outside", "images/a.png", "outside the frame: (30, 2)"),
        ("point-size", "images/a.png", "the point file gives 32x12, the frame is 16x12"),
    ]


def test_without_splits_all_frames_are_one_set(tmp_path: Path) -> None:
    save(make(tmp_path, train=0) / "images/d.png", frame(0))
    assert only(tmp_path) == ("duplicate-frame", "images/d.png", "same pixels as a, both in frames")


def test_alike_in_other_type_or_shape_is_not_the_same(tmp_path: Path) -> None:
    make(tmp_path, 2, train=0, masks=False)
    save(tmp_path / "images/b.png", frame(0).astype(np.uint16))
    save(tmp_path / "images/c.png", frame(0).reshape(SIZE[::-1]))
    assert [f[0] for f in found(check_dataset(tmp_path))] == ["unlabelled"]


def test_frames_outside_every_split_may_repeat(tmp_path: Path) -> None:
    save(make(tmp_path) / "images/e.png", frame(0))
    save(tmp_path / "masks/e.png", mask((1, 1)))
    assert check_dataset(tmp_path).findings == ()


TESTED_ELSEWHERE = {  # in this file, in test_data_plausibility.py, test_data_lists.py, …
    "point-size", "empty-mask", "unlabelled", "mask-levels", "mask-alpha", "mask-share", "instances-touch",
    "points-normalised", "points-unlabelled", "points-repeated", "categories", "other-labels", "no-target",
    "layout", "passed-over", "frame-read", "points-size", "points-elsewhere", "points-shifted",
    "masks-elsewhere", "masks-shifted",
}  # fmt: skip


def test_the_manual_lists_every_kind_of_finding() -> None:
    manual = (Path(__file__).parents[1] / "docs" / "data.md").read_text()
    table = manual[manual.index("| finding | meaning |") :].split("\n\n")[0]
    listed = {
        kind for line in table.splitlines()[2:] for kind in re.findall(r"`([a-z-]+)`", line.split("|")[1])
    }
    shown = {kind for _, (kind, _, _) in CASES.values()}
    assert listed == shown | TESTED_ELSEWHERE


def test_a_path_without_frames_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match=path.name):
            check_dataset(path)


def test_nuaa_sirst_has_one_mask_of_another_size(shared_data: Path) -> None:
    report = check_dataset(shared_data / "NUAA-SIRST")
    assert len(report.frames) == 427
    colours = "a picture in natural colours: their brightness (luma) is read, which is no temperature"
    assert sorted(found(report)) == [
        ("frame-read", "images/Misc_68.png", colours),
        ("frame-read", "images/Misc_72.png", colours),
        ("mask-size", "masks/Misc_111.png", "592x400 for a frame of 325x220; resized on reading"),
    ]


def link(source: Path, target: Path, names: list[str]) -> Path:
    """A small set of some frames of a large one."""
    for folder in ("images", "masks"):
        (target / folder).mkdir(parents=True)
        for name in names:
            (target / folder / f"{name}.png").symlink_to(source / folder / f"{name}.png")
    return target


def test_soft_masks_of_irstd_1k(shared_data: Path, tmp_path: Path) -> None:
    root = link(shared_data / "IRSTD-1K", tmp_path / "part", ["XDU0", "XDU1", "XDU105"])
    below = "; 1 of 2 marked spots are below the threshold"
    assert found(check_dataset(root)) == [
        ("non-binary-mask", "masks/XDU0.png", f"holds 1 values other than 0 and 255: 64{below}"),
        ("non-binary-mask", "masks/XDU105.png", "holds 3 values other than 0 and 255: 107, 113, 136"),
    ]


def test_backgrounds_of_sirst_v2(shared_data: Path, tmp_path: Path) -> None:
    root = link(shared_data / "SIRST-v2", tmp_path / "part", ["202105-Enhance-1", "iraytek-195"])
    report = check_dataset(root)
    assert report.errors == 0
    assert Counter(f.kind for f in report.findings) == {"empty-mask": 2, "no-target": 1}
