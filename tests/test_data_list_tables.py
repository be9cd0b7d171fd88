"""Split lists in CSV and JSON files: understood by one rule, or named; never all frames in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_sets import make
from dimpoint.datasets.check import check_dataset
from dimpoint.datasets.dataset import open_dataset, training_split
from dimpoint.datasets.layout import find_layout
from dimpoint.errors import DataError

COCO = [{"images": [{"id": 1, "file_name": f"{name}.png"}], "annotations": []} for name in "ac"]


def files(root: Path, contents: dict[str, Any]) -> Path:
    """A set of frames a, b, c, d, and files of text, or of JSON."""
    make(root, 4, train=0)
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return root


def taken(root: Path, split: str | None) -> list[str]:
    return [sample.name for sample in open_dataset(root, split)]


UNDERSTOOD: dict[str, dict[str, Any]] = {
    "lists of names": {"train.json": ["a", "b.png"], "test.json": ["images/c.png", "d"]},
    "one file": {"split.json": {"train": ["a", "b"], "test": ["c", "d"], "seed": 3}},
    "within a key": {"splits.json": {"v": "1", "splits": {"training": ["a", "b"], "testing": ["c", "d"]}}},
    "any name": {"info.json": {"train": ["a", "b"], "test": ["c", "d"]}},
    "objects": {"a.json": {"train": [{"file_name": "a.png"}, {"image": "b"}], "test": [{"id": "c"}, "d"]}},
    "splits by name": {"split.json": {"a": "train", "b": "train", "c": "test", "d": "test"}},
    "in a folder": {"img_idx/train.json": ["a", "b"], "img_idx/test.json": ["c", "d"]},
    "a column": {"train.csv": "a\nb\n", "test.csv": "c\nd\n"},
    "a header": {"train.csv": "\ufefffile,width\na.png,16\nb.png,16\n", "test.csv": "file\nc.png\nd.png\n"},
    "the second column": {"train.csv": "1,a.png\n2,b.png\n", "test.csv": ",name\n0,c\n1,d\n"},
    "a split column": {"split.csv": "image;split\na.png;train\nb.png;Train\n\nc.png;test\nd.png;test\n"},
    "labels": {"meta.tsv": "file\tx\tset\na\t1\ttrain\na\t3\ttrain\nb\t1\ttrain\nc\t1\ttest\nd\t1\ttest"},
}  # fmt: skip


@pytest.mark.parametrize("case", UNDERSTOOD)
def test_what_is_understood(tmp_path: Path, case: str) -> None:
    root = files(tmp_path / "set", UNDERSTOOD[case])
    assert training_split(root) == "train"
    assert (taken(root, "train"), taken(root, "test")) == (["a", "b"], ["c", "d"])
    assert open_dataset(root, "train").taken.startswith("set: 2 frames of split 'train': ")
    assert "split lists here" in open_dataset(root).taken
    assert not {"split-without-frame", "layout"} & {one.kind for one in check_dataset(root).findings}


NOT_UNDERSTOOD: dict[str, dict[str, Any]] = {
    "numbers": {"split.json": {"train": [0.5, 1.5]}},
    "other names": {"train.json": ["x", "y"], "test.json": ["z"]},
    "no JSON": {"splits.json": "{'train': ['a']}"},
    "settings": {"train.json": {"lr": 0.1}},
    "zip": {"split.csv": "PK\x03\x04\x00\x00"},
    "empty": {"train.csv": ""},
    "no split column": {"split.csv": "name\na\nb\n"},
    "folds": {"folds.csv": "name,fold\na,0\nb,1\n"},
}


@pytest.mark.parametrize("case", NOT_UNDERSTOOD)
def test_what_is_not_understood_is_named(tmp_path: Path, case: str) -> None:
    root = files(tmp_path / "set", NOT_UNDERSTOOD[case])
    name = next(iter(sorted(NOT_UNDERSTOOD[case])))
    message = (
        rf"{name}: named like a split list, and not understood .* one on each line, in img_idx/train.txt"
    )
    with pytest.raises(DataError, match=message):
        training_split(root)
    with pytest.raises(DataError, match=message):
        open_dataset(root, "test")
    assert name in open_dataset(root).notes()[0]
    assert taken(root, "all") == ["a", "b", "c", "d"]
    assert "layout" in {one.kind for one in check_dataset(root).findings}


def test_images_of_coco_files_by_purpose_are_lists(tmp_path: Path) -> None:
    root = files(tmp_path, {"annotations/train.json": COCO[0], "annotations/instances_test.json": COCO[1]})
    assert (training_split(root), taken(root, "train"), taken(root, "test")) == ("train", ["a"], ["c"])


def test_text_lists_come_first(tmp_path: Path) -> None:
    root = files(tmp_path, {"img_idx/train.txt": "a\n", "train.csv": "b\n", "split.json": {"train": ["c"]}})
    assert taken(root, "train") == ["a"]


def test_folds_of_one_file_are_not_joined(tmp_path: Path) -> None:
    content = {"fold0": {"train": ["a"], "val": ["b"]}, "fold1": {"train": ["b"], "val": ["a"]}}
    root = files(tmp_path, {"split.json": content})
    with pytest.raises(DataError, match=r"is there 2 times and differs.*--split split/fold0/train"):
        taken(root, "train")
    assert taken(root, "split/fold1/train") == ["b"]


@pytest.mark.parametrize(
    "content",
    [
        {"points.json": COCO[0] | {"images": [{"id": 1, "file_name": "a.png", "width": 16, "height": 12}]}},
        {"labels.csv": "file,x,y\na,1,2\n"},
        {"package.json": {"name": "a", "version": "1"}},
        {"notes.json": ["a", "b"]},
    ],
)  # fmt: skip
def test_files_that_are_no_lists(tmp_path: Path, content: dict[str, Any]) -> None:
    layout = find_layout(files(tmp_path, content))
    assert (layout.splits, layout.unread_lists) == ((), ())


def test_a_name_without_a_frame_is_an_error_with_its_place(tmp_path: Path) -> None:
    root = files(tmp_path, {"train.json": ["a", "nowhere"], "test.csv": "name\nc\nnowhere\n"})
    with pytest.raises(DataError, match=r"train.json, entry 2: no frame 'nowhere'"):
        taken(root, "train")
    with pytest.raises(DataError, match=r"test.csv, line 3: no frame 'nowhere'"):
        taken(root, "test")
