"""`Detections` and its files: what is written is what is read."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dimpoint.datasets.coco import read_points
from dimpoint.errors import DataError, DimpointError
from dimpoint.inference.detection_files import read_detections
from dimpoint.inference.detections import (
    Detections,
    coco_content,
    csv_text,
    write_detections,
)
from dimpoint.inference.overlay import draw

LAW = settings(deadline=None, derandomize=True, max_examples=60)


def found(
    xy: npt.ArrayLike = (), scores: npt.ArrayLike = (), areas: npt.ArrayLike | None = None, **names: Any
) -> Detections:
    return Detections(
        np.asarray(xy, np.float32).reshape(-1, 2),
        np.asarray(scores, np.float32),
        None if areas is None else np.asarray(areas, np.float32),
        **({"file": "a.png", "width": 100, "height": 50} | names),
    )


TWO = found([(1.25, 2.1), (99, 49)], [0.9, 0.4])
AREAS = found([(3, 4)], [0.7], [12], file="b.png")
NONE = found(file="c.png")

# What it holds


def test_to_dict_is_the_frames_entry() -> None:
    assert TWO.to_dict() == {
        "file": "a.png",
        "width": 100,
        "height": 50,
        "detections": [{"x": 1.25, "y": 2.1, "score": 0.9}, {"x": 99.0, "y": 49.0, "score": 0.4}],
    }
    assert AREAS.to_dict()["detections"] == [{"x": 3.0, "y": 4.0, "score": 0.7, "area": 12.0}]
    assert NONE.to_dict()["detections"] == []


@pytest.mark.parametrize(
    ("other", "equal"),
    [
        (found([(1.25, 2.1), (99, 49)], [0.9, 0.4], model="another"), True),  # the model is no result
        (found([(1.25, 2.1), (99, 48)], [0.9, 0.4]), False),
        (found([(1.25, 2.1), (99, 49)], [0.9, 0.5]), False),
        (found([(1.25, 2.1), (99, 49)], [0.9, 0.4], [1, 1]), False),
        (found([(1.25, 2.1), (99, 49)], [0.9, 0.4], file="b.png"), False),
        (found([(1.25, 2.1)], [0.9]), False),
        ("something else", False),
    ],
)
def test_equality(other: object, equal: bool) -> None:
    assert (other == TWO) is equal


# Indexing, tables, pictures in a notebook


def test_an_integer_gives_one_target() -> None:
    assert TWO[0] == (1.25, pytest.approx(2.1), pytest.approx(0.9), None)
    assert (TWO[-1].x, TWO[np.int64(1)].y) == (99, 49)
    assert AREAS[0].area == 12
    with pytest.raises(IndexError):
        TWO[2]


@pytest.mark.parametrize(
    ("index", "kept"),
    [
        (slice(None), [0, 1]),
        (slice(1, 5), [1]),
        ([], []),
        ([1, 0], [1, 0]),
        (np.array([True, False]), [0]),
        ([False, False], []),
        (np.array([1]), [1]),
    ],
)
def test_slices_masks_and_numbers_give_detections(index: Any, kept: list[int]) -> None:
    chosen = TWO[index]
    np.testing.assert_array_equal(chosen.xy, TWO.xy[kept])
    np.testing.assert_array_equal(chosen.scores, TWO.scores[kept])
    assert (chosen.file, chosen.areas) == ("a.png", None)
    assert [each.x for each in chosen] == [TWO[number].x for number in kept]


@pytest.mark.parametrize(("score", "count"), [(0, 2), (0.4, 1), (0.5, 1), (0.9, 0), (1, 0)])
def test_filter_keeps_what_lies_above_the_score(score: float, count: int) -> None:
    found = found_with(np.float32([score, 0.9, 0.4]))
    assert len(found.filter(score=np.float32(score))) == count


def found_with(scores: npt.NDArray[np.float32]) -> Detections:
    return found(np.zeros((len(scores), 2)), scores)


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (TWO, "Detections(2 targets, best score 0.9, frame 100x50, 'a.png')"),
        (AREAS, "Detections(1 target, best score 0.7, frame 100x50, 'b.png')"),
        (NONE, "Detections(0 targets, frame 100x50, 'c.png')"),
        (found(file="", width=0, height=0), "Detections(0 targets)"),
    ],
)
def test_the_repr_is_one_short_line(item: Detections, text: str) -> None:
    assert repr(item) == text
    assert text.split(",")[0] in item._repr_html_()


def test_the_html_escapes_names_and_cuts_long_tables() -> None:
    many = found(np.zeros((30, 2)), np.ones(30), file="<script>.png")
    text = many._repr_html_()
    assert "<script>" not in text
    assert text.count("<tr>") == 11
    assert "and 20 more" in text


def test_to_dataframe_has_a_row_for_each_target() -> None:
    pd = pytest.importorskip("pandas")
    frame = TWO.to_dataframe()
    assert list(frame.columns) == ["file", "x", "y", "score"]
    assert frame.score.tolist() == pytest.approx([0.9, 0.4])
    assert list(AREAS.to_dataframe().columns) == ["file", "x", "y", "score", "area"]
    assert len(pd.concat([TWO.to_dataframe(), NONE.to_dataframe()])) == 2


def test_to_supervision_gives_boxes_that_its_tools_take() -> None:
    """Written against supervision 0.31.2; runs where the package is installed."""
    supervision = pytest.importorskip("supervision")
    boxes = TWO.to_supervision(size=6)
    centres = boxes.get_anchors_coordinates(supervision.Position.CENTER)
    assert centres == pytest.approx(TWO.xy)
    assert boxes.area == pytest.approx([36, 36])
    assert AREAS.to_supervision().area == pytest.approx([12])
    assert boxes[boxes.confidence > 0.5].confidence == pytest.approx([0.9])
    assert len(supervision.Detections.merge([boxes, NONE.to_supervision()])) == 2
    picture = supervision.BoxAnnotator().annotate(np.zeros((50, 100, 3), np.uint8), boxes)
    assert picture.any()


def test_to_supervision_without_the_package_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dimpoint.inference.detections.find_spec", lambda _: None)
    with pytest.raises(DimpointError, match="pip install supervision"):
        TWO.to_supervision()


@pytest.mark.parametrize("item", [TWO, NONE, AREAS])
def test_plot_gives_an_axis(item: Detections) -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    ax = item.plot(np.zeros((50, 100), np.uint16))
    assert len(ax.collections[0].get_offsets()) == len(item)
    assert item.plot(ax=ax) is ax
    plt.close("all")


# Files


@st.composite
def detections(draw: st.DrawFn) -> Detections:
    count = draw(st.integers(0, 5))
    numbers = st.floats(0, 2**20, width=32)
    return found(
        draw(arrays(np.float32, (count, 2), elements=st.floats(0, 49, width=32))),
        draw(arrays(np.float32, count, elements=st.floats(0, 1, width=32))),
        draw(arrays(np.float32, count, elements=numbers)) if count and draw(st.booleans()) else None,
        file=draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=8)),
    )


@LAW
@given(st.lists(detections(), max_size=4))
def test_written_detections_are_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, items: list[Detections]
) -> None:
    folder = tmp_path_factory.mktemp("json")
    write_detections(folder / "d.json", "m", items)
    back = read_detections(folder / "d.json")
    assert back == items
    for one, item in zip(back, items, strict=True):
        np.testing.assert_array_equal(one.xy, item.xy)
        np.testing.assert_array_equal(one.scores, item.scores)
        assert one.model == "m"


def test_detections_json_is_laid_out_as_documented(tmp_path: Path) -> None:
    path = tmp_path / "new" / "detections.json"
    write_detections(path, "spire-lite", [TWO, NONE])
    content = json.loads(path.read_text())
    assert content == {"model": "spire-lite", "images": [TWO.to_dict(), NONE.to_dict()]}
    assert [file.name for file in path.parent.iterdir()] == ["detections.json"]


def test_csv_has_one_line_per_target() -> None:
    rows = list(csv.reader(csv_text([TWO, NONE, AREAS]).splitlines()))
    assert rows == [
        ["file", "x", "y", "score", "area"],
        ["a.png", "1.25", "2.1", "0.9", ""],
        ["a.png", "99.0", "49.0", "0.4", ""],
        ["b.png", "3.0", "4.0", "0.7", "12.0"],
    ]


def test_csv_has_no_empty_column_of_areas() -> None:
    assert csv_text([TWO, NONE]).splitlines()[0] == "file,x,y,score"
    assert csv_text([]).splitlines() == ["file,x,y,score"]


@pytest.mark.parametrize("name", ["=1+1.png", "+a", "-a", "@a", "\ta"])
def test_names_are_no_formulas_in_a_spreadsheet_and_numbers_stay_numbers(name: str) -> None:
    row = next(csv.DictReader(found([(-1, 2)], [0.5], file=name).to_csv().splitlines()))
    assert row["file"] == f"'{name}"
    assert float(row["x"]) == -1


def test_csv_of_a_file_name_with_a_comma() -> None:
    text = found([(1, 2)], [0.5], file='odd, "name".png').to_csv()
    assert next(csv.DictReader(text.splitlines()))["file"] == 'odd, "name".png'


def test_coco_is_read_back_as_point_labels(tmp_path: Path) -> None:
    path = tmp_path / "points.json"
    path.write_text(json.dumps(coco_content([TWO, NONE, AREAS])))
    images = read_points(path)
    for image, item in zip(images, (TWO, NONE, AREAS), strict=True):
        assert (image.file_name, image.width, image.height) == (item.file, 100, 50)
        np.testing.assert_array_equal(image.points, item.xy)


def test_coco_keeps_scores_and_areas() -> None:
    content = coco_content([TWO, AREAS])
    kept = [(one["image_id"], one["id"], one["score"], one["area"]) for one in content["annotations"]]
    assert kept == [(1, 1, 0.9, 25), (1, 2, 0.4, 25), (2, 3, 0.7, 12.0)]
    assert TWO.to_coco() == coco_content([TWO])


@pytest.mark.parametrize("name", ["one.json", "one.CSV"])
def test_save_chooses_by_suffix(name: str, tmp_path: Path) -> None:
    TWO.save(tmp_path / name)
    text = (tmp_path / name).read_text()
    assert text == TWO.to_csv() if name.endswith("CSV") else json.loads(text)["images"] == [TWO.to_dict()]


def test_save_under_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.json or \.csv"):
        TWO.save(tmp_path / "one.xml")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a JSON file"),
        ("[]", "'images'"),
        ('{"images": 3}', "'images'"),
        ('{"images": [{"width": 1, "height": 1, "detections": []}]}', "image 1: key 'file'"),
        ('{"images": [{"file": "a", "width": 1, "height": 1, "detections": [{"x": 1}]}]}', "key 'y'"),
        ('{"images": [{"file": "a", "width": 1, "height": 1, "detections": 5}]}', "image 1"),
        ('{"images": ["a"]}', "image 1"),
        (
            '{"images": [{"file": "a", "width": 1, "height": 1, '
            '"detections": [{"x": NaN, "y": 1, "score": 1}]}]}',
            "finite",
        ),
    ],
)
def test_a_file_that_is_no_detections_file_is_refused(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "detections.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_detections(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_detections(tmp_path / "none.json")


# Pictures


@pytest.mark.parametrize(
    ("shape", "times"),
    [((600, 512), 1), ((256, 256), 2), ((240, 320), 2), ((100, 128), 4), ((1, 1), 8)],
)
def test_small_frames_are_enlarged(shape: tuple[int, int], times: int) -> None:
    picture = NONE.draw(np.zeros(shape, np.uint8))
    assert picture.shape == (shape[0] * times, shape[1] * times, 3)
    assert picture.dtype == np.uint8


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_counts_of_any_type_are_stretched_for_the_eye(dtype: Any) -> None:
    """A gradient over a small part of the range is seen over the whole range of the picture."""
    frame = np.linspace(100, 140, 600 * 600).reshape(600, 600).astype(dtype)
    picture = draw(frame, NONE.xy, NONE.scores)
    assert picture.min() < 5
    assert picture.max() > 250


def marks(
    xy: tuple[float, float], scores: tuple[float, ...] = (0.88,), side: int = 600
) -> npt.NDArray[np.bool_]:
    """The pixels of a square frame's picture that a target's circle and score cover."""
    frame = np.zeros((side, side), np.uint8)
    plain = draw(frame, NONE.xy, NONE.scores)
    return np.any(draw(frame, np.array([xy], np.float32), np.array(scores, np.float32)) != plain, axis=2)


@pytest.mark.parametrize(
    ("side", "x", "y"),
    [(600, 300, 200), (256, 200.5, 100.5)],  # frame pixel 100 enlarged twice: picture pixels 200 and 201
)
def test_circles_surround_the_targets_and_leave_them_visible(side: int, x: float, y: float) -> None:
    ring = marks((300, 200) if side == 600 else (100, 50), scores=(), side=side)
    assert not ring[round(y) - 4 : round(y) + 5, round(x) - 4 : round(x) + 5].any()
    rows, columns = np.nonzero(ring)
    assert (columns.min() + columns.max(), rows.min() + rows.max()) == (2 * x, 2 * y)
    assert rows.max() - rows.min() == pytest.approx(18, abs=2)


@pytest.mark.parametrize("xy", [(0, 0), (599, 0), (0, 599), (599, 599)])  # the corners
def test_scores_stay_in_the_picture(xy: tuple[int, int]) -> None:
    text = {place: marks(place).sum() - marks(place, scores=()).sum() for place in (xy, (300, 300))}
    assert text[xy] > 0.9 * text[300, 300] > 0


def test_scores_cover_no_target() -> None:
    """Two targets side by side and one below: no score lies on a circle of another."""
    xy = np.array([(300, 300), (330, 300), (300, 322), (318, 318)], np.float32)
    frame = np.zeros((600, 600), np.uint8)
    labelled = draw(frame, xy, np.full(4, 0.88, np.float32))
    plain = draw(frame, xy, np.zeros(0, np.float32))
    for x, y in xy.astype(int):
        around = slice(y - 7, y + 8), slice(x - 7, x + 8)
        np.testing.assert_array_equal(labelled[around], plain[around])
    assert np.any(labelled != plain)


def test_draw_writes_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.png"
    picture = TWO.draw(np.zeros((50, 100), np.uint16), path)
    np.testing.assert_array_equal(cv2.imread(str(path)), picture)


def test_draw_under_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.png"):
        TWO.draw(np.zeros((50, 100), np.uint8), tmp_path / "a.txt")
    assert not list(tmp_path.iterdir())
