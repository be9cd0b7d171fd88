"""Opening data sets: layouts, splits, labels, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_sets import SIZE, coco, frame, make, mask, save, split, write_json
from dimpoint.datasets.coco import read_points
from dimpoint.datasets.convert import points_from_masks
from dimpoint.datasets.dataset import DataSet, hash_frames, open_dataset
from dimpoint.datasets.reading import Reading, frame_size
from dimpoint.errors import ConfigError, DataError, FrameError


def names(dataset: DataSet) -> list[str]:
    return [sample.name for sample in dataset]


def test_a_sample_reads_its_frame_mask_and_points(tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path / "set"), "test")
    first = dataset.samples[0]
    assert (dataset.name, dataset.split, len(dataset), names(dataset)) == ("set", "test", 2, ["c", "d"])
    assert np.array_equal(first.read_frame(), frame(2))
    assert first.read_mask().dtype == np.bool_
    assert np.argwhere(first.read_mask()).tolist() == [[4, 3]]
    assert first.read_points().dtype == np.float32
    assert first.read_points().tolist() == [[3, 4]]


def test_labels_of_an_unknown_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="labels: 'mask' is none of auto, masks, points"):
        open_dataset(make(tmp_path / "set"), labels="mask")  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".npy", ".PNG"])
def test_frames_of_any_image_type_find_their_mask_by_stem(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "images" / f"0001{suffix}"
    if suffix == ".npy":
        path.parent.mkdir()
        np.save(path, frame(0))
    else:
        save(path, frame(0))
    save(tmp_path / "masks" / "0001.bmp", mask((5, 6)))
    (sample,) = open_dataset(tmp_path)
    assert sample.read_frame().shape == SIZE
    assert frame_size(path) == SIZE
    assert sample.read_points().tolist() == [[5, 6]]


def test_sub_folders_names_with_dots_and_hidden_files(tmp_path: Path) -> None:
    for name in ("seq1/0001", "seq2/0001", "v1.5"):
        save(tmp_path / "images" / f"{name}.png", frame(0))
        save(tmp_path / "masks" / f"{name}.png", mask((1, 1)))
    (tmp_path / "images" / "._v1.5.png").write_text("left by another system")
    (tmp_path / "images" / "notes.txt").write_text("")
    split(tmp_path, "train", "seq2/0001.png", "v1.5")
    assert names(open_dataset(tmp_path)) == ["seq1/0001", "seq2/0001", "v1.5"]
    assert names(open_dataset(tmp_path, "train")) == ["seq2/0001", "v1.5"]


def test_frames_lying_in_the_folder_itself(tmp_path: Path) -> None:
    save(tmp_path / "a.png", frame(0))
    save(tmp_path / "masks" / "a.png", mask((1, 1)))
    write_json(tmp_path / "points.json", coco((2, 2, 2)))
    (sample,) = open_dataset(tmp_path)
    assert sample.read_points().tolist() == [[2, 2]]


class TestSplits:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        make(tmp_path, 5, train=0)
        split(tmp_path, "train_X-b", "c", "a", "", "  d.png  ")  # blank lines, spaces and suffixes are in use
        split(tmp_path, "train_X-a", "b", "c")
        split(tmp_path, "training", "e")
        return tmp_path

    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            (None, ["a", "b", "c", "d", "e"]),  # all frames, by name
            ("train_X-b", ["c", "a", "d"]),  # one file, in its order
            ("train", ["b", "c", "a", "d"]),  # all train_ files, each frame once; not `training`
            ("training", ["e"]),
        ],
    )
    def test_which_frames(self, root: Path, wanted: str | None, expected: list[str]) -> None:
        assert names(open_dataset(root, wanted)) == expected

    def test_a_file_of_that_very_name_is_the_split(self, root: Path) -> None:
        split(root, "train", "e")
        assert names(open_dataset(root, "train")) == ["e"]

    def test_a_split_that_is_not_there_lists_those_that_are(self, root: Path) -> None:
        with pytest.raises(
            DataError, match=r"no split 'test'; splits here: train_X-a \(2 names\), train_X-b"
        ):
            open_dataset(root, "test")
        shutil.rmtree(root / "img_idx")
        with pytest.raises(DataError, match="no split 'test'; splits here: none"):
            open_dataset(root, "test")

    def test_a_missing_frame_is_named_by_file_and_line(self, root: Path) -> None:
        split(root, "test_X", "a", "zzz")
        with pytest.raises(DataError, match=r"test_X\.txt, line 2: no frame 'zzz'"):
            open_dataset(root, "test")

    @pytest.mark.parametrize(
        "line",
        ["../images/../a", "/etc/passwd", ".", "..", "..png", ".png", "images", "a.txt", "a.png/b", "seq/a"],
    )
    def test_a_line_that_is_no_frame_name(self, root: Path, line: str) -> None:
        split(root, "test_X", line)
        with pytest.raises(DataError, match=r"test_X\.txt, line 1: no frame"):
            open_dataset(root, "test")

    def test_an_empty_or_binary_split_file(self, root: Path) -> None:
        split(root, "test_X")
        with pytest.raises(DataError, match="split 'test' is empty"):
            open_dataset(root, "test")
        (root / "img_idx" / "test_X.txt").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(DataError, match=r"test_X\.txt: not a readable text file"):
            open_dataset(root)

    def test_windows_files(self, root: Path) -> None:
        (root / "img_idx" / "test_X.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\r\n")
        assert names(open_dataset(root, "test")) == ["a", "b"]


@pytest.mark.parametrize("make_it", [lambda path: None, Path.mkdir, Path.touch])
def test_no_folder_an_empty_one_or_a_file_is_refused(tmp_path: Path, make_it: object) -> None:
    path = tmp_path / "set"
    make_it(path)  # type: ignore[operator]
    with pytest.raises(DataError, match=r"set: (no such folder|no frames)"):
        open_dataset(path)


def test_two_frames_of_one_name_are_refused(tmp_path: Path) -> None:
    save(make(tmp_path) / "images" / "a.bmp", frame(9))
    with pytest.raises(DataError, match=r"a\.bmp: a\.png has the same name"):
        open_dataset(tmp_path)


class TestLabels:
    @pytest.fixture
    def both(self, tmp_path: Path) -> Path:
        """Frame a has a mask with its target at (1, 2) and a point at (1.25, 2); frame b has a mask only."""
        make(tmp_path, 2, train=0)
        write_json(tmp_path / "points.json", coco((1.25, 2, 2)))
        return tmp_path

    def test_auto_takes_masks_from_masks_and_points_from_points(self, both: Path) -> None:
        a, b = open_dataset(both)
        assert a.read_points().tolist() == [[1.25, 2]]
        assert a.read_mask()[2, 1]
        assert b.points is None
        assert b.read_points().tolist() == [[2, 3]]

    def test_masks_leaves_the_point_file_aside(self, both: Path) -> None:
        (both / "points.json").write_text("not even JSON")
        assert open_dataset(both, labels="masks").samples[0].read_points().tolist() == [[1, 2]]

    def test_points_leaves_masks_aside_and_demands_points(self, both: Path) -> None:
        with pytest.raises(DataError, match="1 of 2 frames have no points in a COCO file"):
            open_dataset(both, labels="points")
        (sample,) = open_dataset(both / "points.json", labels="points")
        with pytest.raises(DataError, match=r"a\.png: this frame has no mask"):
            sample.read_mask()

    def test_masks_demands_masks(self, both: Path) -> None:
        (both / "masks" / "b.png").unlink()
        with pytest.raises(DataError, match=r"1 of 2 frames have no mask, .* 'b'"):
            open_dataset(both, labels="masks")

    def test_a_frame_without_label_is_no_target_free_frame(self, both: Path) -> None:
        (both / "masks" / "b.png").unlink()
        with pytest.raises(DataError, match=r"b\.png: this frame has no label"):
            open_dataset(both).samples[1].read_points()

    def test_an_image_without_annotations_is_target_free(self, both: Path) -> None:
        write_json(both / "points.json", coco())
        assert open_dataset(both).samples[0].read_points().shape == (0, 2)

    @pytest.mark.parametrize("file_name", ["a.png", "images/a.png", "./a.png", "images\\a.png"])
    def test_how_a_point_file_names_its_images(self, both: Path, file_name: str) -> None:
        write_json(both / "points.json", coco((4, 5, 2), file_name=file_name))
        assert open_dataset(both).samples[0].read_points().tolist() == [[4, 5]]

    @pytest.mark.parametrize("file_name", ["zzz.png", "a.txt", "elsewhere/zzz.png", ""])
    def test_an_image_that_is_not_there(self, both: Path, file_name: str) -> None:
        write_json(both / "points.json", coco((4, 5, 2), file_name=file_name))
        with pytest.raises(DataError, match=rf"points\.json: image '{file_name}' is not in .*images"):
            open_dataset(both)

    def test_annotation_folder_and_files_by_path(self, both: Path) -> None:
        (both / "points.json").unlink()
        write_json(both / "annotations" / "train.json", coco((1, 1, 2)))
        test = write_json(both / "annotations" / "test.json", coco((2, 2, 2), file_name="b.png"))
        assert [s.read_points().tolist() for s in open_dataset(both)] == [[[1, 1]], [[2, 2]]]
        dataset = open_dataset(test)
        assert (dataset.root, names(dataset)) == (both, ["b"])

    def test_one_image_in_two_point_files_is_refused(self, both: Path) -> None:
        (both / "points.json").unlink()
        for name in ("one", "two"):
            write_json(both / "annotations" / f"{name}.json", coco((1, 1, 2)))
        with pytest.raises(DataError, match=r"two\.json: image 'a\.png' is labelled in .*one\.json already"):
            open_dataset(both)


def test_a_mask_of_another_size_is_resized_and_noted_every_time(tmp_path: Path) -> None:
    make(tmp_path, 1, train=0)
    save(tmp_path / "masks" / "a.png", mask((1, 2)).repeat(2, 0).repeat(2, 1))
    data = open_dataset(tmp_path)
    (sample,) = data
    note = f"{tmp_path / 'masks' / 'a.png'}: mask of 32x24 resized to its frame's 16x12"
    assert sample.read_points().tolist() == [[1, 2]]
    for _ in range(2):  # nothing remembers that it was told before
        resized, notes = sample.read_mask_with_notes()
        assert (resized.shape, notes) == (SIZE, [note])
        assert data.notes() == [note]


def test_a_mask_of_the_frames_size_has_no_note(tmp_path: Path) -> None:
    data = open_dataset(make(tmp_path, 2, train=0))
    assert data.notes() == [] == data.samples[0].read_mask_with_notes()[1]
    assert open_dataset(make(tmp_path / "bare", 2, train=0, masks=False)).notes() == []


def test_a_mask_of_another_shape_names_both_sizes(tmp_path: Path) -> None:
    make(tmp_path, 1, train=0)
    save(tmp_path / "masks" / "a.png", mask((1, 2), size=(12, 12)))
    with pytest.raises(DataError, match=r"a\.png: the mask is 12x12 but its frame is 16x12.*--repair"):
        open_dataset(tmp_path).samples[0].read_mask()


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n", b"a text file", b"GIF89a"])
def test_the_size_of_what_is_no_picture(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(FrameError, match=r"a\.png"):
        frame_size(path)
    with pytest.raises(FrameError, match=r"none\.png"):
        frame_size(tmp_path / "none.png")


def test_a_mask_fits_a_png_that_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "images" / "a.png"
    path.parent.mkdir()
    Image.fromarray(np.zeros((40, 60), np.uint8)).save(path, exif=exif)
    save(tmp_path / "masks" / "a.png", mask((5, 6), size=(60, 40)))
    (sample,) = open_dataset(tmp_path, reading=Reading(orientation="upright"))
    assert (
        sample.read_mask().shape == sample.read_frame().shape == frame_size(path, sample.reading) == (60, 40)
    )
    assert frame_size(path, Reading(orientation="stored")) == (40, 60)


class TestFingerprint:
    def test_same_content_same_fingerprint(self, tmp_path: Path) -> None:
        a = open_dataset(make(tmp_path / "a"))
        make(tmp_path / "b")
        for folder in ("images", "masks"):  # another container of the same pixels
            path = tmp_path / "b" / folder / "a.png"
            save(path.with_suffix(".bmp"), frame(0) if folder == "images" else mask((1, 2)))
            path.unlink()
        b = open_dataset(tmp_path / "b")
        assert hash_frames(a) == hash_frames(b)
        assert a.fingerprint() == b.fingerprint()
        assert len(a.fingerprint()) == 64

    def test_the_order_of_a_split_does_not_matter(self, tmp_path: Path) -> None:
        make(tmp_path, train=0)
        split(tmp_path, "one", "a", "b")
        split(tmp_path, "two", "b", "a")
        assert open_dataset(tmp_path, "one").fingerprint() == open_dataset(tmp_path, "two").fingerprint()

    def test_any_difference_shows(self, tmp_path: Path) -> None:
        def fingerprint() -> str:
            return open_dataset(tmp_path).fingerprint()

        make(tmp_path, train=0)
        seen = [fingerprint()]
        save(tmp_path / "images" / "a.png", frame(50))  # another frame
        seen.append(fingerprint())
        save(tmp_path / "masks" / "a.png", mask((7, 7)))  # another mask
        seen.append(fingerprint())
        write_json(tmp_path / "points.json", coco((7, 7, 2)))  # points beside the mask
        seen.append(fingerprint())
        (tmp_path / "images" / "b.png").rename(tmp_path / "images" / "bb.png")  # another name
        (tmp_path / "masks" / "b.png").rename(tmp_path / "masks" / "bb.png")
        seen.append(fingerprint())
        (tmp_path / "images" / "bb.png").unlink()  # one frame less
        seen.append(fingerprint())
        assert len(set(seen)) == len(seen)

    def test_the_type_of_the_counts_counts(self, tmp_path: Path) -> None:
        for kind in (np.uint8, np.uint16):
            (tmp_path / kind.__name__ / "images").mkdir(parents=True)
            np.save(tmp_path / kind.__name__ / "images" / "a.npy", frame(0).astype(kind))
        a, b = (open_dataset(tmp_path / kind) for kind in ("uint8", "uint16"))
        assert a.fingerprint() != b.fingerprint()


@pytest.mark.parametrize(
    ("name", "which", "frames"),
    [
        ("NUAA-SIRST", "train", 213),
        ("NUAA-SIRST", "test", 214),
        ("NUAA-SIRST", None, 427),
        ("NUDT-SIRST", "train", 663),
        ("NUDT-SIRST", "test_NUDT-SIRST", 664),
        ("IRSTD-1K", "train", 800),
        ("SIRST-v2", "train", 145),
        ("SIRST-v2", "train_SIRST-v2-backgrounds", 76),
    ],
)
def test_the_public_sets_have_their_published_splits(
    shared_data: Path, name: str, which: str | None, frames: int
) -> None:
    dataset = open_dataset(shared_data / name, which)
    assert len(dataset) == frames
    assert all(sample.mask_path is not None for sample in dataset)


def test_the_published_mask_of_another_size(shared_data: Path) -> None:
    (sample,) = [s for s in open_dataset(shared_data / "NUAA-SIRST", "test") if s.name == "Misc_111"]
    assert sample.read_mask().shape == sample.read_frame().shape == (220, 325)
    assert len(sample.read_points()) == 1


def test_published_labels_agree_with_the_reference(shared_data: Path, shared_reference: Path) -> None:
    golden = np.load(shared_reference / "spire" / "golden.npz")
    samples = {sample.name: sample for sample in open_dataset(shared_data / "NUAA-SIRST")}
    labelled = [key.removesuffix("_label_xy") for key in golden.files if key.endswith("_label_xy")]
    assert len(labelled) == 3
    for name in labelled:
        np.testing.assert_allclose(samples[name].read_points(), golden[f"{name}_label_xy"], atol=1e-4)


def test_a_name_that_is_no_unicode(tmp_path: Path) -> None:
    """Such as a GBK name on Linux, which Python gives with surrogates."""
    name = b"\xb2\xe2\xca\xd4".decode("utf-8", "surrogateescape")
    make(tmp_path, 2, train=0)
    for folder in ("images", "masks"):
        (tmp_path / folder / "a.png").rename(tmp_path / folder / f"{name}.png")
    (tmp_path / "train.txt").write_bytes(b"\xb2\xe2\xca\xd4\n")
    data = open_dataset(tmp_path, "train")
    assert names(data) == [name]
    assert len(data.fingerprint()) == 64
    points_from_masks(tmp_path)
    assert {image.file_name for image in read_points(tmp_path / "points.json")} == {f"{name}.png", "b.png"}
    assert open_dataset(tmp_path, "train").samples[0].read_points().tolist() == [[1, 2]]
