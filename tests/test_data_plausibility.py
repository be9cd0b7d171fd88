"""Labels that mean something else: each kind is told, with what it probably is and the option for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from data_sets import frame, save, write_json
from dimpoint.datasets.check import check_dataset
from dimpoint.datasets.coco import read_points
from dimpoint.datasets.convert import points_from_masks
from dimpoint.datasets.dataset import open_dataset
from dimpoint.datasets.plausibility import demand_plausible, doubts
from dimpoint.datasets.reading import Reading
from dimpoint.errors import ConfigError, DataError
from dimpoint.evaluation.run import evaluate
from dimpoint.evaluation.subject import Data, open_predictions
from dimpoint.evaluation.truth import open_truth

SIZE = (40, 50)
PLACES = ((10, 8), (30, 20), (20, 33))  # x, y of the three targets of every frame


def marked(values: tuple[int, int, int], dtype: Any = np.uint8) -> npt.NDArray[Any]:
    """A mask with a square of 3x3 pixels of each value."""
    mask = np.zeros(SIZE, dtype)
    for (x, y), value in zip(PLACES, values, strict=True):
        mask[y - 1 : y + 2, x - 1 : x + 2] = value
    return mask


def with_masks(root: Path, *masks: npt.NDArray[Any], suffix: str = ".png") -> Path:
    for number, values in enumerate(masks):
        save(root / "images" / f"{number}.png", frame(number, SIZE))
        path = root / "masks" / f"{number}{suffix}"
        path.parent.mkdir(exist_ok=True)
        if suffix == ".npy":
            np.save(path, values)
        else:
            save(path, values)
    return root


def alpha_mask() -> npt.NDArray[np.uint8]:
    white = np.full((*SIZE, 4), 255, np.uint8)
    white[..., 3] = marked((255, 255, 255))
    return white


def coloured(*colours: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    picture = np.zeros((*SIZE, 3), np.uint8)
    for (x, y), colour in zip(PLACES, colours, strict=True):
        picture[y - 1 : y + 2, x - 1 : x + 2] = colour
    return picture


GOOD = marked((255, 255, 255))
RED = (0, 0, 255)

# mask, how the doubt reads, the reading that it proposes
SEVERE: dict[str, tuple[npt.NDArray[Any], str, Reading]] = {
    "zero and one": (marked((1, 1, 1)), "probably 0 and 1: --mask-values nonzero", Reading("nonzero")),
    "small ids": (
        marked((1, 2, 3)),
        "probably ids of objects: --mask-values instances",
        Reading("instances"),
    ),
    "ids around the threshold": (
        marked((100, 150, 200)),
        "ids of objects or classes with .* marked spots .* --mask-values instances",
        Reading("instances"),
    ),
    "one grey object": (marked((255, 64, 255)), "1 of 3|2 of 6", Reading("nonzero")),
    "16-bit ids": (marked((5, 300, 1000), np.uint16), "--mask-values instances", Reading("instances")),
    "inverted": (255 - GOOD, "probably inverted: --invert-masks", Reading(invert=True)),
    "alpha": (alpha_mask(), "alpha channel only.*--mask-values alpha", Reading("alpha")),
    "dark colours": (
        coloured((0, 0, 64), (0, 64, 0), (64, 0, 0)),
        "--mask-values instances",
        Reading("instances"),
    ),
    "classes": (marked((1, 2, 2)), "--mask-values 2,3", Reading("1,2")),
}


@pytest.mark.parametrize("case", SEVERE)
def test_a_severe_doubt_stops_and_its_option_reads(tmp_path: Path, case: str) -> None:
    values, message, reading = SEVERE[case]
    root = with_masks(tmp_path / "set", values, values)
    with pytest.raises(DataError, match=message):
        demand_plausible([open_dataset(root)])
    with pytest.raises(DataError, match=message):
        open_truth([root], notes=[])
    with pytest.raises(DataError, match=message):
        points_from_masks(root)
    assert not (root / "points.json").exists()
    assert check_dataset(root).errors > 0
    data = open_dataset(root, reading=reading)
    assert demand_plausible([data]) == []
    points = [sorted(map(tuple, sample.read_points().tolist())) for sample in data]
    assert points == [sorted((float(x), float(y)) for x, y in PLACES)] * 2
    assert [one.read_mask().sum() for one in data] == [27, 27]
    path, _, count = points_from_masks(root, reading=reading)
    assert count == 6
    assert len(read_points(path)) == 2


@pytest.mark.parametrize(
    "values",
    [
        GOOD,
        marked((65535, 65535, 65535), np.uint16),
        coloured(RED, RED, RED),  # one colour on black
        coloured((0, 0, 128), (0, 128, 0), (128, 128, 0)),  # the colours of VOC
        np.dstack([GOOD, GOOD, GOOD, np.full(SIZE, 255, np.uint8)]),
    ],
    ids=["grey", "16 bit", "red", "voc", "opaque"],
)
def test_plain_masks_raise_no_doubt(tmp_path: Path, values: npt.NDArray[Any]) -> None:
    data = open_dataset(with_masks(tmp_path, values))
    assert doubts(data) == []
    assert len(data.samples[0].read_points()) == 3


def test_rings_of_jpeg_compression_are_no_doubt(tmp_path: Path) -> None:
    data = open_dataset(with_masks(tmp_path, GOOD, GOOD, suffix=".jpg"))
    assert doubts(data) == []


def test_all_ones_are_refused_unless_accepted(tmp_path: Path) -> None:
    root = with_masks(tmp_path, np.full(SIZE, 255, np.uint8))
    with pytest.raises(DataError, match=r"most of the frame as target \(up to 100%\), probably no masks"):
        demand_plausible([open_dataset(root)])
    assert demand_plausible([open_dataset(root, reading=Reading(accept=True))])


def test_few_odd_masks_of_many_are_told_and_do_not_stop(tmp_path: Path) -> None:
    root = with_masks(tmp_path, marked((255, 64, 255)), *[GOOD] * 19)
    (note,) = demand_plausible([open_dataset(root)])
    assert "1 of 20 masks (0.png, …) have" in note
    assert "--mask-values nonzero" in note


def test_large_targets_are_told(tmp_path: Path) -> None:
    values = np.zeros(SIZE, np.uint8)
    values[:10] = 255
    (note,) = demand_plausible([open_dataset(with_masks(tmp_path, values))])
    assert "more than a tenth of the frame" in note


def test_no_target_at_all(tmp_path: Path) -> None:
    data = open_dataset(with_masks(tmp_path, *[np.zeros(SIZE, np.uint8)] * 3))
    assert [doubt.message for doubt in doubts(data)] == ["no target in any of the 3 masks"]


def test_touching_objects_stay_apart_as_points(tmp_path: Path) -> None:
    values = np.zeros(SIZE, np.uint8)
    values[5:8, 5:8], values[5:8, 8:11] = 1, 2
    (sample,) = open_dataset(with_masks(tmp_path, values), reading=Reading("instances"))
    assert sample.read_points().tolist() == [[6, 6], [9, 6]]
    report = check_dataset(tmp_path, reading=Reading("instances"))
    assert "instances-touch" in [finding.kind for finding in report.findings]


@pytest.mark.parametrize("scale", [1, 2])
def test_touching_objects_stay_apart_in_evaluation(tmp_path: Path, scale: int) -> None:
    """Of two objects that touch, a map that has the second alone finds one and misses one."""
    values = np.zeros(SIZE, np.uint8)
    values[5:8, 5:8], values[5:8, 8:11], values[2, 14] = 1, 2, 1
    root = with_masks(tmp_path / "SET", values)
    if scale > 1:  # a mask of another size than its frame
        larger = cv2.resize(values, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(root / "masks/0.png"), larger)
    (tmp_path / "maps").mkdir()
    cv2.imwrite(str(tmp_path / "maps/0.png"), np.where(values == 2, 255, 0).astype(np.uint8))
    data = Data((root,), reading=Reading("instances"))
    result = evaluate(*_subject(tmp_path / "maps", data), ["spire", "basicirstd"])
    for protocol in result.protocols:
        total = result.pooled.total(protocol)
        assert (total.tp, total.fp, total.fn) == (1, 0, 2), protocol


def _subject(path: Path, data: Data) -> Any:
    subject = open_predictions(path, data)
    return subject.predictor, subject.frames


@pytest.mark.parametrize("text", ["", "everything", "1;2", "binary,nonzero"])
def test_an_unknown_rule_for_masks(text: str) -> None:
    with pytest.raises(ConfigError, match="--mask-values"):
        Reading(text)


def test_alpha_where_there_is_none(tmp_path: Path) -> None:
    (sample,) = open_dataset(with_masks(tmp_path, GOOD), reading=Reading("alpha"))
    with pytest.raises(DataError, match="has no alpha channel"):
        sample.read_points()


def points_file(root: Path, spoil: Callable[[dict[str, Any]], Any]) -> Path:
    """Two frames with three points each, in a COCO file that `spoil` changes."""
    images = [{"id": n, "file_name": f"{n}.png", "width": SIZE[1], "height": SIZE[0]} for n in (0, 1)]
    annotations = [
        {"id": 10 * n + i, "image_id": n, "category_id": 1, "num_keypoints": 1, "keypoints": [x, y, 2]}
        for n in (0, 1)
        for i, (x, y) in enumerate(PLACES)
    ]
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "target"}, {"id": 2, "name": "ignore"}, {"id": 3, "name": "bird"}],
    }
    spoil(content)
    for number in (0, 1):
        save(root / "images" / f"{number}.png", frame(number, SIZE))
    write_json(root / "points.json", content)
    return root


def each(
    change: Callable[[dict[str, Any]], Any], key: str = "annotations"
) -> Callable[[dict[str, Any]], Any]:
    return lambda content: [change(entry) for entry in content[key]]


def normalise(entry: dict[str, Any]) -> None:
    x, y, v = entry["keypoints"]
    entry["keypoints"] = [x / SIZE[1], y / SIZE[0], v]


def hide(entry: dict[str, Any]) -> None:
    entry["keypoints"][2] = 0
    entry["num_keypoints"] = 0


POINTS = {
    "normalised": (
        each(normalise),
        "probably parts .*--points normalised",
        Reading(points=frozenset({"normalised"})),
    ),
    "visibility 0": (
        each(hide),
        "visibility 0 .*--points unlabelled",
        Reading(points=frozenset({"unlabelled"})),
    ),
    "a category that is no target": (
        lambda content: content["annotations"].append(
            {"id": 99, "image_id": 0, "category_id": 2, "keypoints": [1, 1, 2]}
        ),
        r"category 'ignore' does not sound like a target; categories: target \(6\), ignore \(1\)",
        Reading(categories=("target",)),
    ),
}


@pytest.mark.parametrize("case", POINTS)
def test_point_files_that_mean_something_else(tmp_path: Path, case: str) -> None:
    spoil, message, reading = POINTS[case]
    root = points_file(tmp_path / "set", spoil)
    with pytest.raises(DataError, match=message):
        demand_plausible([open_dataset(root)])
    with pytest.raises(DataError, match=message):
        open_truth([root])
    assert check_dataset(root).errors == 1
    data = open_dataset(root, reading=reading)
    assert demand_plausible([data]) == []
    for sample in data:
        np.testing.assert_allclose(sample.read_points(), PLACES, atol=1e-4)


@pytest.mark.parametrize(
    ("spoil", "note"),
    [
        (
            lambda content: content["annotations"].extend(list(content["annotations"])),
            "6 points repeat others",
        ),
        (each(lambda entry: entry.update(category_id=3 if entry["id"] == 1 else 1)), "target (5), bird (1)"),
    ],
    ids=["duplicates", "two categories"],
)
def test_point_files_that_are_read_and_told(tmp_path: Path, spoil: Any, note: str) -> None:
    data = open_dataset(points_file(tmp_path / "set", spoil))
    (said,) = demand_plausible([data])
    assert note in said
    assert [len(sample.read_points()) for sample in data] == [3, 3]


def test_no_annotation_at_all_is_told(tmp_path: Path) -> None:
    data = open_dataset(points_file(tmp_path / "set", lambda content: content["annotations"].clear()))
    (said,) = demand_plausible([data])
    assert "no points for any of its 2 images; if they have targets, the export put them elsewhere" in said


@pytest.mark.parametrize("kind", [str, float, int])
def test_ids_of_any_type_are_one(tmp_path: Path, kind: type) -> None:
    def spoil(content: dict[str, Any]) -> None:
        each(lambda entry: entry.update(id=kind(entry["id"])), "images")(content)

    data = open_dataset(points_file(tmp_path / "set", spoil))
    assert [len(sample.read_points()) for sample in data] == [3, 3]


def test_one_wrong_image_is_one_problem(tmp_path: Path) -> None:
    root = points_file(tmp_path / "set", lambda content: content["images"][0].update(width=None))
    with pytest.raises(DataError, match=r"image id 0: key 'width' must be an integer, got None$"):
        open_dataset(root)


@pytest.mark.parametrize("size", [{}, {"width": None, "height": None}, {"width": 0, "height": 0}], ids=str)
def test_a_file_without_sizes_has_those_of_its_frames(tmp_path: Path, size: dict[str, Any]) -> None:
    def spoil(content: dict[str, Any]) -> None:
        for image in content["images"]:
            del image["width"], image["height"]
            image.update(size)

    root = points_file(tmp_path / "set", spoil)
    data = open_dataset(root)
    assert [sample.size for sample in data] == [SIZE, SIZE]
    np.testing.assert_allclose(data[0].read_points(), PLACES, atol=1e-4)
    assert "2 of 2 images have no size" in demand_plausible([data])[0]
    assert check_dataset(root).errors == 0
    with pytest.raises(DataError, match=r"key 'width' is missing|must be an integer|0x0 is not a frame size"):
        read_points(root / "points.json")  # without frames nobody knows


def test_points_of_another_size_than_the_frame_are_refused(tmp_path: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["images"][1].update(width=2 * SIZE[1], height=2 * SIZE[0])

    data = open_dataset(points_file(tmp_path / "set", spoil))
    assert data[0].read_frame().shape == SIZE
    with pytest.raises(
        DataError, match=r"the frame is \d+x\d+, the point file says \d+x\d+.*--accept-labels"
    ):
        data[1].read_frame()
    assert open_dataset(data.root, reading=Reading(accept=True))[1].read_frame().shape == SIZE


def test_many_points_at_one_place_take_no_time(tmp_path: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["annotations"] = [
            {"id": 1, "image_id": 0, "category_id": 1, "keypoints": [5, 5, 2] * 15_000},
            {"id": 2, "image_id": 1, "category_id": 1, "keypoints": [99, 99, 2] * 40_000},
        ]

    root = points_file(tmp_path / "set", spoil)
    (frame_0,) = (image for image in check_dataset(root).labels.values() if image.file_name == "0.png")
    assert frame_0.points.tolist() == [[5, 5]]
