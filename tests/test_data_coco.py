"""COCO keypoints files: what is read, what is refused, what is written."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_sets import coco, write_json
from dimpoint.datasets.coco import PointImage, parse_points, read_points, write_points
from dimpoint.errors import DataError, DimpointError


def points_of(path: Path) -> list[list[float]]:
    (image,) = read_points(path)
    assert image.points.dtype == np.float32
    assert image.points.shape[1:] == (2,)
    return image.points.tolist()


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], []),  # an image without annotations has no target
        ([(3, 4, 2)], [[3, 4]]),
        ([(3, 4, 1)], [[3, 4]]),  # v = 1, labelled but not visible, is a target too
        ([(3, 4, 0)], []),  # v = 0 is not labelled
        ([(0, 0, 0)], []),  # COCO's way to write an absent point
        ([(0, 0, 2)], [[0, 0]]),  # a target in the top-left pixel
        ([(99, 99, 0), (1, 2, 2)], [[1, 2]]),  # an unlabelled point may have any position
        ([(-0.5, -0.5, 2), (15.5, 11.5, 2)], [[-0.5, -0.5], [15.5, 11.5]]),  # the frame's outer edges
        ([(2.25, 3.5, 2), (1, 1, 2)], [[2.25, 3.5], [1, 1]]),  # sub-pixel, in the file's order
    ],
)
def test_one_annotation_per_target(
    tmp_path: Path, points: list[tuple[float, float, int]], expected: list[list[float]]
) -> None:
    assert points_of(write_json(tmp_path / "points.json", coco(*points))) == expected


@pytest.mark.parametrize("count", [2, 3])  # labelled points, or all points: both counts are in use
def test_all_points_of_an_image_in_one_annotation(tmp_path: Path, count: int) -> None:
    content = coco((0, 0, 2))
    content["annotations"][0] |= {"num_keypoints": count, "keypoints": [1, 2, 2, 0, 0, 0, 3.5, 4, 1]}
    assert points_of(write_json(tmp_path / "points.json", content)) == [[1, 2], [3.5, 4]]


def image(content: Any) -> Any:
    return content["images"][0]


def annotation(content: Any) -> Any:
    return content["annotations"][0]


BAD: dict[str, tuple[Callable[[Any], object], str]] = {
    "no images": (lambda c: c.pop("images"), "key 'images' is missing"),
    "images is no list": (lambda c: c.update(images={}), "key 'images' is missing or is not a list"),
    "no annotations": (lambda c: c.pop("annotations"), "key 'annotations' is missing"),
    "image without id": (lambda c: image(c).pop("id"), "image number 1: key 'id' is missing"),
    "image without name": (lambda c: image(c).pop("file_name"), "image id 7: key 'file_name' is missing"),
    "image without size": (lambda c: image(c).pop("width"), "image id 7: key 'width' is missing"),
    "size as text": (lambda c: image(c).update(height="12"), "key 'height' must be an integer, got '12'"),
    "size true": (lambda c: image(c).update(height=True), "key 'height' must be an integer, got True"),
    "size zero": (lambda c: image(c).update(width=0), "image id 7: 0x12 is not a frame size"),
    "image is a text": (lambda c: c["images"].append("a.png"), "image number 2: expected an object"),
    "image id twice": (
        lambda c: c["images"].append(image(c) | {"file_name": "b.png"}),
        "image id 7: another image has the same id",
    ),
    "file name twice": (
        lambda c: c["images"].append(image(c) | {"id": 8}),
        "image id 8: another image has the same file_name 'a.png'",
    ),
    "annotation is a number": (
        lambda c: c["annotations"].append(5),
        "annotation number 2: expected an object",
    ),
    "no keypoints": (
        lambda c: annotation(c).pop("keypoints"),
        "annotation id 100: key 'keypoints' is missing",
    ),
    "no image_id": (lambda c: annotation(c).pop("image_id"), "annotation id 100: key 'image_id' is missing"),
    "unknown image": (lambda c: annotation(c).update(image_id=9), "annotation id 100: image_id 9 is unknown"),
    "no list": (
        lambda c: annotation(c).update(keypoints="1 2 2"),
        "key 'keypoints' must be a list of numbers",
    ),
    "pairs": (lambda c: annotation(c).update(keypoints=[1, 2]), "keypoints must be triples x, y, v"),
    "text among numbers": (
        lambda c: annotation(c).update(keypoints=[1, "2", 2]),
        "annotation id 100: keypoints must be a flat list of numbers",
    ),
    "not a number": (
        lambda c: annotation(c).update(keypoints=[float("nan"), 2, 2]),
        "must be a flat list of numbers",
    ),
    "infinite": (
        lambda c: annotation(c).update(keypoints=[float("inf"), 2, 2]),
        "must be a flat list of numbers",
    ),
    "beyond float": (
        lambda c: annotation(c).update(keypoints=[10**400, 2, 2]),
        "must be a flat list of numbers",
    ),
    "visibility 3": (lambda c: annotation(c).update(keypoints=[1, 2, 3]), "with v = 0, 1 or 2"),
    "wrong count": (lambda c: annotation(c).update(num_keypoints=4), "num_keypoints is 4, keypoints holds 1"),
    "left of the frame": (
        lambda c: annotation(c).update(keypoints=[-0.6, 2, 2]),
        "annotation id 100: keypoints: (-0.6, 2) is outside the 16x12 frame",
    ),
    "below the frame": (lambda c: annotation(c).update(keypoints=[3, 12, 2]), "(3, 12) is outside the 16x12"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_file_is_refused_by_file_and_key(tmp_path: Path, case: str) -> None:
    spoil, message = BAD[case]
    content = coco((3, 4, 2))
    spoil(content)
    path = write_json(tmp_path / "points.json", content)
    with pytest.raises(DataError) as error:
        read_points(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "\0", "[]", "3", "null", "[" * 100_000])
def test_what_is_no_coco_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "points.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"points\.json: not a (JSON|COCO) file"):
        read_points(path)


def test_a_missing_file_and_binary_bytes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_points(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="not a JSON file"):
        read_points(tmp_path / "binary.json")


def test_all_problems_are_found_and_the_right_points_kept(tmp_path: Path) -> None:
    content = coco((3, 4, 2), (40, 4, 2), (5, 6, 2))
    content["annotations"][2] |= {"num_keypoints": 2, "keypoints": [5, 6, 2, 5, -9, 2]}
    content["annotations"].append({"id": 1})
    file = parse_points(write_json(tmp_path / "points.json", content))
    images, problems = file.images, file.problems
    assert images[0].points.tolist() == [[3, 4], [5, 6]]
    assert [problem.kind for problem in problems] == ["point-outside", "point-outside", "point-file"]
    with pytest.raises(DataError, match=r"annotation id 101: .* \(and 2 more problems\)"):
        read_points(tmp_path / "points.json")


def test_the_written_file_is_native_coco(tmp_path: Path) -> None:
    write_points(tmp_path / "new" / "points.json", [PointImage("a.png", 16, 12, np.float32([[1.5, 0.1]]))])
    content = json.loads((tmp_path / "new" / "points.json").read_text())
    assert content == {
        "images": [{"id": 1, "file_name": "a.png", "width": 16, "height": 12}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "num_keypoints": 1,
                "keypoints": [1.5, 0.1, 2],
                "bbox": [-1.0, -2.4, 5, 5],
                "area": 25,
                "iscrowd": 0,
            }
        ],
        "categories": [{"id": 1, "name": "target", "keypoints": ["centre"], "skeleton": []}],
    }


def test_the_manuals_example_is_read(tmp_path: Path) -> None:
    manual = (Path(__file__).parents[1] / "docs" / "data.md").read_text()
    (tmp_path / "points.json").write_text(manual.split("```json\n")[1].split("```")[0])
    assert points_of(tmp_path / "points.json") == [[104.5, 88.0]]


coordinates = st.tuples(
    st.floats(-0.5, 15.5, width=32),
    st.floats(-0.5, 11.5, width=32),
)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(coordinates, max_size=4), max_size=4))
def test_writing_then_reading_gives_the_same_float32_points(
    tmp_path_factory: pytest.TempPathFactory, points: list[list[tuple[float, float]]]
) -> None:
    path = tmp_path_factory.mktemp("coco") / "points.json"
    images = [PointImage(f"{i}é.png", 16, 12, np.float32(xy).reshape(-1, 2)) for i, xy in enumerate(points)]
    write_points(path, images)
    first = path.read_bytes()
    read = read_points(path)
    assert read == images
    for a, b in zip(read, images, strict=True):
        np.testing.assert_array_equal(a.points, b.points)
    write_points(path, copy.deepcopy(read))
    assert path.read_bytes() == first


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "points.json"
    path.write_text("old")

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(DimpointError, match=r"points\.json: cannot be written.*No space left"):
        write_points(path, [])
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DimpointError, match="cannot be written"):
        write_points(tmp_path / "file" / "points.json", [])


CROWD = {"id": 9, "image_id": 7, "iscrowd": 1, "bbox": [2, 3, 4, 5]}


def test_ignore_regions_are_crowd_annotations(tmp_path: Path) -> None:
    content = coco((1, 1, 2))
    content["annotations"].append(dict(CROWD))
    (read,) = read_points(write_json(tmp_path / "points.json", content))
    assert read.points.tolist() == [[1, 1]]
    assert read.ignore.tolist() == [[2, 3, 6, 8]]
    write_points(tmp_path / "again.json", [read])
    (again,) = read_points(tmp_path / "again.json")
    assert (again.points.tolist(), again.ignore.tolist()) == ([[1, 1]], [[2, 3, 6, 8]])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bbox": None}, "key 'bbox' must be a list"),
        ({"bbox": [1, 2, 3]}, "bbox must be x, y, width, height"),
        ({"bbox": [1, 2, 3, "4"]}, "bbox must be x, y, width, height"),
        ({"bbox": [1, 2, -3, 4]}, "sizes of at least 0"),
        ({"image_id": 8}, "image_id 8 is unknown"),
    ],
)
def test_wrong_ignore_regions_are_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    content = coco()
    content["annotations"] = [{**CROWD, **change}]
    with pytest.raises(DataError, match=f"annotation id 9: .*{says}"):
        read_points(write_json(tmp_path / "points.json", content))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_in_other_encodings(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "points.json"
    path.write_bytes(json.dumps(coco((3, 4, 2))).encode(encoding))
    assert read_points(path)[0].points.tolist() == [[3, 4]]
