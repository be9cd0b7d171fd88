"""Split lists: every layout in use is understood; what cannot be used is an error, never all frames."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_sets import frame, make, mask, save, split
from dimpoint.datasets.dataset import open_dataset, training_split
from dimpoint.datasets.layout import find_layout
from dimpoint.datasets.lists import purpose_of
from dimpoint.errors import DataError


def lists(root: Path, **texts: str | bytes) -> Path:
    """A set of frames a, b, c, d with list files; in their names `__` stands for a folder."""
    make(root, 4, train=0)
    for name, text in texts.items():
        path = root / f"{name.replace('__', '/')}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def taken(root: Path, wanted: str | None) -> list[str]:
    return [sample.name for sample in open_dataset(root, wanted)]


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("img_idx__train_x", "img_idx__test_x"),
        ("img_idx__train", "img_idx__test"),
        ("img_idx__Train_x", "img_idx__Test_x"),
        ("img_idx__train-x", "img_idx__test-x"),
        ("img_idx__x_train", "img_idx__x_test"),
        ("img_idx__TRAIN", "img_idx__TEST"),
        ("train", "test"),
        ("trainval", "test"),
        ("training", "testing"),
        ("50_50__train", "50_50__test"),
        ("80-20__train", "80-20__test"),
        ("idx_427__trainval", "idx_427__test"),
        ("splits__train_fold1", "splits__test_fold1"),
        ("ImageSets__Main__trainval", "ImageSets__Main__test"),
        ("lists__trainSet", "lists__testSet"),
        ("whatever__train", "whatever__test"),
    ],
)
def test_layouts(tmp_path: Path, train: str, test: str) -> None:
    root = lists(tmp_path / "set", **{train: "a\nb\n", test: "c\nd\n"})
    assert training_split(root) == "train"
    assert (taken(root, "train"), taken(root, "test")) == (["a", "b"], ["c", "d"])
    said = open_dataset(root, "train").taken
    assert said.startswith("set: 2 frames of split 'train': ")
    assert said.endswith("(2 names)")


@pytest.mark.parametrize(
    "text",
    [
        "a\nb\n",
        "\ufeffa\r\nb\r\n",
        "a.png\nb.PNG\n",
        "a.bmp\nb.tif",  # the frames were saved again as PNG
        "images/a.png\nimages/b.png\n",
        "./images/a.png\n../images/b.png\n",
        "/home/me/set/images/a.png\n/home/me/set/images/b.png\n",
        "C:\\set\\images\\a.png\nC:\\set\\images\\b.png\n",
        "images/a.png masks/a.png\nimages/b.png masks/b.png\n",
        "a.png\tmasks/a.png\nb.png\tmasks/b.png",
        "a,1\nb,0\n",
        '"a.png";x\n"b.png";y',
        "\n  a  \n\nb\n\n",
        "a\nb\n".encode("utf-16"),
        "a\nb\n".encode("utf-16-le"),
        "a\nb\n".encode("utf-16-be"),
        "a\nb\n".encode("utf-32"),
    ],
)
def test_how_lines_name_frames(tmp_path: Path, text: str | bytes) -> None:
    root = lists(tmp_path / "set", train=text, test="c\nd\n")
    assert taken(root, "train") == ["a", "b"]


def test_a_name_with_spaces_is_one_column(tmp_path: Path) -> None:
    save(tmp_path / "images" / "my frame.png", frame(0))
    (tmp_path / "train.txt").write_text("my frame\n")
    assert taken(tmp_path, "train") == ["my frame"]


class TestNothingFallsBackToAllFrames:
    @pytest.mark.parametrize(
        "only", ["test", "img_idx__test_x", "img_idx__fold1", "val", "50_50__test", "img_idx__part-a"]
    )
    def test_lists_but_none_to_train_on(self, tmp_path: Path, only: str) -> None:
        root = lists(tmp_path / "set", **{only: "a\n"})
        with pytest.raises(DataError, match=r"no split 'train'; splits here: .*\(1 names\).*--split all"):
            training_split(root)
        assert taken(root, "all") == ["a", "b", "c", "d"]

    def test_no_list_at_all_is_all_frames_and_said(self, tmp_path: Path) -> None:
        root = make(tmp_path / "set", 4, train=0)
        assert training_split(root) is None
        assert open_dataset(root).taken == "set: all 4 frames, there are no split lists"

    def test_all_frames_beside_lists_is_said(self, tmp_path: Path) -> None:
        root = lists(tmp_path / "set", train="a", test="b")
        assert open_dataset(root).taken == (
            "set: all 4 frames; split lists here: test (1 names), train (1 names)"
        )

    def test_an_empty_list_is_no_list_to_train_on(self, tmp_path: Path) -> None:
        root = lists(tmp_path / "set", train="\n", test="a")
        with pytest.raises(DataError, match="split 'train' is empty"):
            taken(root, "train")

    def test_lists_in_two_folders_that_differ(self, tmp_path: Path) -> None:
        root = lists(tmp_path / "set", **{"50_50__train": "a", "80_20__train": "a\nb"})
        with pytest.raises(DataError, match=r"is there 2 times and differs: 50_50/train .*--split 50_50"):
            taken(root, "train")
        assert taken(root, "80_20/train") == ["a", "b"]

    def test_equal_lists_in_two_folders_are_one(self, tmp_path: Path) -> None:
        root = lists(tmp_path / "set", **{"train": "a", "img_idx__train": "a"})
        assert taken(root, "train") == ["a"]

    def test_train_is_not_joined_with_trainval(self, tmp_path: Path) -> None:
        root = lists(tmp_path / "set", train="a", val="b", trainval="a\nb", test="c")
        assert (taken(root, "train"), taken(root, "trainval"), taken(root, "val")) == (
            ["a"],
            ["a", "b"],
            ["b"],
        )


def test_frames_in_folders_named_train_and_test_are_splits(tmp_path: Path) -> None:
    for name in ("train/a", "train/b", "test/c"):
        save(tmp_path / "images" / f"{name}.png", frame(0))
        save(tmp_path / "masks" / f"{name}.png", mask((1, 1)))
    assert training_split(tmp_path) == "train"
    assert (taken(tmp_path, "train"), taken(tmp_path, "test")) == (["train/a", "train/b"], ["test/c"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("README", "a\nb\n"),
        ("train_log", "epoch 1: loss 0.3\n"),  # named like a list, and names no frame
        ("requirements-test", "pytest\n"),
        ("labels__train_a", "0 0.5 0.5 0.1 0.1\n"),
    ],
)
def test_text_files_that_are_no_lists(tmp_path: Path, name: str, text: str) -> None:
    assert find_layout(lists(tmp_path / "set", **{name: text})).splits == ()


def test_a_label_beside_its_frame_is_no_list(tmp_path: Path) -> None:
    save(tmp_path / "train_1.png", frame(0))
    (tmp_path / "train_1.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    assert find_layout(tmp_path).splits == ()


@pytest.mark.parametrize(
    ("stem", "purpose"),
    [("train", "train"), ("TestSet", "test"), ("val2017", "val"), ("fold_test", "test"), ("constrain", None)],
)
def test_purposes(stem: str, purpose: str | None) -> None:
    assert purpose_of(stem)[0] == purpose


class TestFoldersUnderOtherNames:
    @pytest.mark.parametrize(
        ("images", "masks"),
        [("Images", "Masks"), ("image", "mask"), ("imgs", "gt"), ("JPEGImages", "labels")],
    )
    def test_they_are_taken_and_said(self, tmp_path: Path, images: str, masks: str) -> None:
        save(tmp_path / images / "a.png", frame(0))
        save(tmp_path / masks / "a.png", mask((3, 4)))
        data = open_dataset(tmp_path)
        assert data.samples[0].read_points().tolist() == [[3, 4]]
        assert data.notes() == [
            f"{tmp_path}: images are taken from the folder '{images}'",
            f"{tmp_path}: masks are taken from the folder '{masks}'",
        ]

    def test_masks_with_one_ending(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            save(tmp_path / "images" / f"{name}.png", frame(0))
            save(tmp_path / "masks" / f"{name}_pixels0.png", mask((3, 4)))
        data = open_dataset(tmp_path)
        assert [sample.read_points().tolist() for sample in data] == [[[3, 4]]] * 2
        assert data.notes() == ["masks are named like their frames with '_pixels0' at the end"]

    def test_masks_in_another_letter_case(self, tmp_path: Path) -> None:
        save(tmp_path / "images" / "IMG_1.png", frame(0))
        save(tmp_path / "masks" / "img_1.png", mask((3, 4)))
        data = open_dataset(tmp_path)
        assert data.samples[0].read_points().tolist() == [[3, 4]]
        assert data.notes() == ["1 mask differs from its frame's name in letter case (first 'img_1')"]

    def test_composed_and_decomposed_names(self, tmp_path: Path) -> None:
        save(tmp_path / "images" / "caf\u00e9.png", frame(0))
        save(tmp_path / "masks" / "cafe\u0301.png", mask((3, 4)))
        split(tmp_path, "train", "cafe\u0301")
        data = open_dataset(tmp_path, "train")
        assert data.samples[0].read_points().tolist() == [[3, 4]]

    def test_sets_within_the_folder_are_named(self, tmp_path: Path) -> None:
        for part in ("trainset", "testset"):
            save(tmp_path / part / "images" / "a.png", frame(0))
        with pytest.raises(DataError, match="its subfolders testset, trainset are data sets: name one"):
            open_dataset(tmp_path)


def test_junk_folders_hold_no_frames(tmp_path: Path) -> None:
    make(tmp_path, 2, train=0)
    save(tmp_path / "images" / ".ipynb_checkpoints" / "a-checkpoint.png", frame(0))
    data = open_dataset(tmp_path)
    assert len(data) == 2
    assert data.notes() == [f"{tmp_path}: passed over: 1 hidden or thumbnail file or folder"]
