"""Labels of other tools become points and back: each format as its tool documents it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from data_sets import frame, make, save, write_json
from dimpoint.datasets.check import check_dataset
from dimpoint.datasets.coco import PointImage, read_points, write_points
from dimpoint.datasets.convert import FORMATS, convert_labels, export_labels, write_labels
from dimpoint.datasets.dataset import open_dataset
from dimpoint.datasets.plausibility import demand_plausible
from dimpoint.datasets.reading import Reading
from dimpoint.errors import ConfigError, DataError

HEIGHT, WIDTH = 40, 50
PLACES = ((10, 8), (30, 20))  # centres of boxes of 5x5 pixels in frame a; frame b has no target


def voc(root: Path) -> None:
    objects = "".join(
        f"<object><name>t</name><bndbox><xmin>{x - 2}</xmin><ymin>{y - 2}</ymin><xmax>{x + 2}</xmax>"
        f"<ymax>{y + 2}</ymax></bndbox></object>"
        for x, y in PLACES
    )
    for name, text in (("a", objects), ("b", "")):
        write(
            root / "Annotations" / f"{name}.xml", f"<annotation><filename>x.jpg</filename>{text}</annotation>"
        )


def yolo(root: Path) -> None:
    lines = "".join(
        f"0 {(x + 0.5) / WIDTH} {(y + 0.5) / HEIGHT} {5 / WIDTH} {5 / HEIGHT}\n" for x, y in PLACES
    )
    write(root / "labels" / "a.txt", lines)
    write(root / "labels" / "b.txt", "")


def labelme(root: Path) -> None:
    for name, places in (("a", PLACES), ("b", ())):
        shapes = [{"label": "t", "points": [[x, y]], "shape_type": "point"} for x, y in places]
        write_json(
            root / "labelme" / f"{name}.json", {"version": "5", "shapes": shapes, "imagePath": "q.png"}
        )


def labelme_rectangles(root: Path) -> None:
    shapes = [
        {"label": "t", "points": [[x - 2, y + 2], [x + 2, y - 2]], "shape_type": "rectangle"}
        for x, y in PLACES
    ]
    write_json(root / "images" / "a.json", {"version": "5", "shapes": shapes})
    write_json(root / "images" / "b.json", {"version": "5", "shapes": []})


def cvat(root: Path) -> None:
    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in PLACES)
    write(
        root / "annotations.xml",
        '<?xml version="1.0"?><annotations><version>1.1</version>'
        f'<image id="0" name="images/a.png"><points label="t" points="{points}"/></image>'
        '<image id="1" name="b.png" width="50" height="40"/></annotations>',
    )


def cvat_boxes(root: Path) -> None:
    boxes = "".join(
        f'<box label="t" xtl="{x - 2}" ytl="{y - 2}" xbr="{x + 3}" ybr="{y + 3}"/>' for x, y in PLACES
    )
    write(
        root / "annotations.xml",
        f'<annotations><image name="a.png">{boxes}</image><image name="b.png"/></annotations>',
    )


def label_studio(root: Path) -> None:
    def result(x: int, y: int) -> dict[str, Any]:
        value = {"x": 100 * x / WIDTH, "y": 100 * y / HEIGHT, "width": 0.5, "keypointlabels": ["t"]}
        return {
            "original_width": WIDTH,
            "original_height": HEIGHT,
            "value": value,
            "type": "keypointlabels",
        }

    tasks = [
        {"data": {"img": "/data/upload/1/a.png"}, "annotations": [{"result": [result(*p) for p in PLACES]}]},
        {"data": {"img": "/data/upload/1/b.png"}, "annotations": [{"result": []}]},
    ]
    write_json(root / "project.json", tasks)


def coco_boxes(root: Path) -> None:
    images = [{"id": n, "file_name": f"{n}.png", "width": WIDTH, "height": HEIGHT} for n in "ab"]
    boxes = [
        {"id": n, "image_id": "a", "category_id": 1, "bbox": [x - 2, y - 2, 5, 5]}
        for n, (x, y) in enumerate(PLACES)
    ]
    write_json(root / "annotations" / "instances.json", {"images": images, "annotations": boxes})


def csv_boxes(root: Path) -> None:
    rows = "".join(f"a.png,t,{x - 2},{y - 2},5,5\n" for x, y in PLACES)
    write(root / "boxes.csv", f"file,label,x,y,width,height\n{rows}")


WRITERS: list[Callable[[Path], None]] = [
    voc,
    yolo,
    labelme,
    labelme_rectangles,
    cvat,
    cvat_boxes,
    label_studio,
    coco_boxes,
    csv_boxes,
]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, name in enumerate("ab"):
        save(tmp_path / "set" / "images" / f"{name}.png", frame(number, (HEIGHT, WIDTH)))
    return tmp_path / "set"


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
def test_each_format_becomes_the_same_points(root: Path, writer: Callable[[Path], None]) -> None:
    writer(root)
    done = convert_labels(root)
    assert done.points == 2
    assert done.skipped == []
    points = {image.file_name: image.points.tolist() for image in read_points(root / "points.json")}
    assert points["a.png"] == [[x, y] for x, y in PLACES]
    assert points.get("b.png", []) == []
    assert demand_plausible([open_dataset(root)]) == []


@pytest.mark.parametrize(
    "writer", [voc, yolo, labelme, cvat, label_studio, csv_boxes], ids=lambda writer: writer.__name__
)
def test_labels_that_are_not_read_are_mentioned_with_the_command(
    root: Path, writer: Callable[[Path], None]
) -> None:
    writer(root)
    with pytest.raises(DataError, match=rf"are not read; make points of them: dimpoint data convert {root}"):
        demand_plausible([open_dataset(root)])
    assert "other-labels" in [finding.kind for finding in check_dataset(root).findings]


def test_beside_masks_they_are_a_note(tmp_path: Path) -> None:
    root = make(tmp_path / "set", 2, train=0)
    write(root / "labels" / "a.txt", "0 0.5 0.5 0.1 0.1\n")
    (note,) = demand_plausible([open_dataset(root)])
    assert "YOLO text labels (1 file, first labels/a.txt) are not read" in note


def test_snapping_takes_the_spot_inside_the_box(root: Path) -> None:
    picture = np.full((HEIGHT, WIDTH), 50, np.uint8)
    cv2.circle(picture, (11, 9), 1, 200, -1)
    save(root / "images" / "a.png", picture)
    voc(root)
    done = convert_labels(root, snap=True)
    assert (done.snapped, done.centres) == (1, 1)
    (points,) = (image.points for image in read_points(root / "points.json") if image.file_name == "a.png")
    np.testing.assert_allclose(points, [[11, 9], [30, 20]], atol=0.1)


def test_snapping_takes_no_pixel_of_no_data(tmp_path: Path) -> None:
    picture = np.full((HEIGHT, WIDTH), 500, np.uint16)
    cv2.circle(picture, (11, 9), 1, 900, -1)
    picture[7, 7:9] = 65535
    (tmp_path / "images").mkdir()
    tags = [(42113, "s", 0, "65535", True)]
    tifffile.imwrite(tmp_path / "images" / "a.tif", picture, extratags=tags)
    (tmp_path / "labels.csv").write_text("file,xmin,ymin,xmax,ymax\na.tif,6,5,14,13\n")
    assert convert_labels(tmp_path, snap=True).snapped == 1
    np.testing.assert_allclose(read_points(tmp_path / "points.json")[0].points, [[11, 9]], atol=0.1)


@pytest.mark.parametrize("kind", FORMATS)
def test_round_trip(tmp_path: Path, kind: str) -> None:
    """Folders, equal names in several, dots in names, and more frames without targets than are probed."""
    root, empty = tmp_path / "set", np.zeros((0, 2), np.float32)
    points = {f"0/{number}.png": empty for number in range(6)} | {
        "a.png": np.array([[0, 0], [10.25, 8.5], [49, 39]], np.float32),
        "s1/a.png": np.array([[1.5, 2]], np.float32),
        "s2/a.png": np.array([[3, 4.75]], np.float32),
        "s2/b.c.png": np.array([[5, 6]], np.float32),
    }
    for number, name in enumerate(points):
        save(root / "images" / name, frame(number, (HEIGHT, WIDTH)))
    write_points(root / "points.json", [labelled(name, xy) for name, xy in points.items()])
    out = root / {"cvat": "all.xml", "label-studio": "all.json"}.get(kind, "labels")
    assert export_labels(root, out, kind) == (10, 6, 0)
    done = convert_labels(root, tmp_path / "again.json")
    assert (done.points, done.skipped) == (6, [])
    again = {image.file_name: image.points for image in read_points(tmp_path / "again.json")}
    assert again.keys() == points.keys()
    for name, xy in points.items():
        np.testing.assert_allclose(again[name], xy, atol=1e-5)


def labelled(name: str, points: Any = ((1, 2),)) -> PointImage:
    return PointImage(name, WIDTH, HEIGHT, np.array(points, np.float32))


@pytest.mark.parametrize("kind", ["labelme", "voc", "yolo"])
@pytest.mark.parametrize("name", ["{}/x.png", "../x.png", "s/../../x.png", "..\\x.png", "C:\\x.png", ".."])
def test_nothing_is_written_outside_the_folder(tmp_path: Path, kind: str, name: str) -> None:
    name = name.format(tmp_path)
    with pytest.raises(DataError, match=re.escape(f"image '{name}': labels cannot be written")):
        write_labels(kind, [labelled("a.png"), labelled(name)], tmp_path / "in" / "out")
    assert list(tmp_path.rglob("*")) == []


def test_two_images_are_not_written_to_one_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"images 's/a.png' and 's/a.tif' would both be written to s/a.txt"):
        write_labels("yolo", [labelled("s/a.png"), labelled("s/a.tif")], tmp_path / "out")
    assert list(tmp_path.rglob("*")) == []
    frames = [labelled(f"clip.mp4#00000{number}") for number in (1, 2)]
    assert write_labels("yolo", frames, tmp_path / "out") == 2
    assert sorted(path.stem for path in (tmp_path / "out").iterdir()) == [one.file_name for one in frames]


@pytest.mark.parametrize("kind", ["cvat", "voc"])
@pytest.mark.parametrize("name", ["x\udcff.png", "x\x01.png"])
def test_names_that_xml_cannot_hold_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    with pytest.raises(DataError, match="XML cannot hold this name"):
        write_labels(kind, [labelled(name)], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_chosen_labels(root: Path) -> None:
    voc(root)
    text = (root / "Annotations/a.xml").read_text().replace("<name>t<", "<name>cloud<", 1)
    (root / "Annotations/a.xml").write_text(text)
    done = convert_labels(root, categories=["t"])
    assert (done.points, done.labels) == (1, {"cloud": 1, "t": 1})


HUGE_BOX = f'[{{"image_id": 1, "bbox": [{"9" * 400}, 2, 3, 4]}}]'


class TestRefused:
    def test_nothing_there(self, root: Path) -> None:
        with pytest.raises(DataError, match="no labels found in a known format: voc, cvat"):
            convert_labels(root)

    def test_no_folder(self, root: Path) -> None:
        (root / "clip.mp4").write_bytes(b"")
        for name, fault in (("nothing", "no such folder"), ("clip.mp4", "not a folder")):
            with pytest.raises(DataError, match=f"{name}: {fault}"):
                convert_labels(root / name)

    def test_two_formats(self, root: Path) -> None:
        voc(root)
        yolo(root)
        with pytest.raises(DataError, match=r"several formats: VOC XML \(2 files\), YOLO text \(2 files\)"):
            convert_labels(root)
        assert convert_labels(root, kind="voc").points == 2

    def test_never_overwritten(self, root: Path) -> None:
        voc(root)
        write_points(root / "points.json", [PointImage("a.png", WIDTH, HEIGHT, np.zeros((0, 2)))])
        with pytest.raises(DataError, match="already exists"):
            convert_labels(root)
        with pytest.raises(DataError, match="already exists"):
            export_labels(root / "points.json", root, "voc")

    def test_a_label_outside_its_frame(self, root: Path) -> None:
        write_json(root / "labelme" / "a.json", json.loads(labelme_of("point", (20, 44))))
        with pytest.raises(DataError, match=r"a\.png: a label at .* is outside the 50x40 frame"):
            convert_labels(root)
        assert not (root / "points.json").exists()

    def test_a_label_without_frame_is_told(self, root: Path) -> None:
        voc(root)
        (root / "Annotations/b.xml").rename(root / "Annotations/zzz.xml")
        assert convert_labels(root).skipped == ["zzz.xml: no frame 'zzz'"]

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("Annotations/a.xml", "<annotation><object></annotation>"),
            ("Annotations/a.xml", "<annotation><object><name>t</name></object></annotation>"),
            (
                "Annotations/a.xml",
                "<annotation><object><bndbox><xmin>x</xmin></bndbox></object></annotation>",
            ),
            ("Annotations/a.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>'),
            ("labelme/a.json", '{"shapes": 3}'),
            ("labelme/a.json", '{"shapes": [{"points": [["a", 2]]}]}'),
            ("all.json", '[{"annotations": [{"result": [{"value": {}}]}]}]'),
            ("labels/a.txt", "0 0.5 0.5 0.1 0.1\n" * 3 + "nan nan nan\n"),
            ("all.csv", f"file,x,y\n{'a' * 140_000},1,2\n"),
            ("labelme/a.json", f'{{"shapes": [{{"points": [[{"9" * 400}, 2]]}}]}}'),
            ("all.json", f'{{"images": [{{"id": 1, "file_name": "a.png"}}], "annotations": {HUGE_BOX}}}'),
        ],
    )
    def test_damaged_files(self, root: Path, name: str, text: str) -> None:
        write(root / name, text)
        with pytest.raises(DataError, match=Path(name).name):
            convert_labels(root)

    def test_an_unknown_format(self, root: Path, tmp_path: Path) -> None:
        write_points(root / "points.json", [PointImage("a.png", WIDTH, HEIGHT, np.zeros((1, 2), np.float32))])
        with pytest.raises(ConfigError, match="--to: 'xyz' is none of labelme"):
            export_labels(root, tmp_path / "out", "xyz")


def test_cvat_and_label_studio_files_have_the_keys_that_importers_ask_for(root: Path, tmp_path: Path) -> None:
    write_points(root / "points.json", [PointImage("a.png", WIDTH, HEIGHT, np.ones((1, 2), np.float32))])
    export_labels(root, tmp_path / "a.json", "label-studio")
    (task,) = json.loads((tmp_path / "a.json").read_text())
    (result,) = task["annotations"][0]["result"]
    assert set(result) >= {"original_width", "original_height", "value", "from_name", "to_name", "type"}
    export_labels(root, tmp_path / "a.xml", "cvat")
    assert '<points label="target"' in (tmp_path / "a.xml").read_text()
    # datumaro 1.13.12, which CVAT imports with, refuses a file without it
    assert "<meta><task>" in (tmp_path / "a.xml").read_text()


TRACKS = """<annotations><version>1.1</version>
<meta><job><size>3</size><start_frame>10</start_frame><frame_filter>step=5</frame_filter></job></meta>
<track id="0" label="drone">
  <points frame="10" keyframe="1" outside="0" occluded="0" points="10.50,8.25" z_order="0"/>
  <points frame="15" keyframe="0" outside="0" occluded="0" points="11.50,8.25" z_order="0"/>
  <points frame="20" keyframe="1" outside="1" occluded="0" points="11.50,8.25" z_order="0"/>
</track>
<track id="1" label="bird">
  <box frame="15" keyframe="1" outside="0" occluded="0" xtl="28" ytl="18" xbr="33" ybr="23" z_order="0"/>
  <box frame="20" keyframe="1" outside="0" occluded="0" xtl="29" ytl="18" xbr="34" ybr="23" z_order="0"/>
</track></annotations>"""


@pytest.mark.parametrize("names", [("frame_000010", "frame_000015", "frame_000020"), ("a2", "a9", "a10")])
def test_tracks_of_cvat(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Frames under CVAT's names, or as many others in their natural order."""
    for number, name in enumerate(names):
        save(tmp_path / f"images/{name}.png", frame(number, (HEIGHT, WIDTH)))
    write(tmp_path / "annotations.xml", TRACKS)
    done = convert_labels(tmp_path)
    assert done.labels == {"drone": 2, "bird": 2}
    points = {image.file_name: image.points.tolist() for image in read_points(tmp_path / "points.json")}
    expected = [[[10.5, 8.25]], [[11.5, 8.25], [30, 20]], [[31, 20]]]
    assert [points[f"{name}.png"] for name in names] == expected


def studio(shape: dict[str, Any], kind: str) -> str:
    result = {"original_width": WIDTH, "original_height": HEIGHT, "value": shape, "type": kind}
    return json.dumps([{"data": {"image": "/data/upload/a.png"}, "annotations": [{"result": [result]}]}])


def cvat_of(shape: str) -> str:
    return f'<annotations><image id="0" name="a.png" width="50" height="40">{shape}</image></annotations>'


def video_of(shapes: str) -> str:
    task = "<meta><task><size>4</size><start_frame>0</start_frame></task></meta>"
    return f'<annotations>{task}<track id="0" label="t">{shapes}</track></annotations>'


def labelme_of(kind: str, *places: tuple[float, float]) -> str:
    return json.dumps({"shapes": [{"label": "t", "points": places, "shape_type": kind}]})


@pytest.mark.parametrize(
    ("file", "text", "points"),
    [
        # an oriented box or an outline in YOLO: the middle of the box around it
        ("labels/a.txt", "0 0.2 0.2 0.42 0.2 0.42 0.525 0.2 0.525", [(15, 14)]),
        ("labels/a.txt", "0 0.21 0.2125 0.1 0.1 0.93\n1 0.61 0.5125 0.1 0.1 0.2", [(10, 8), (30, 20)]),
        # several points in one shape; a circle is its centre
        ("a.xml", cvat_of('<points label="t" points="10.5,8;30,20.25"/>'), [(10.5, 8), (30, 20.25)]),
        ("labelme/a.json", labelme_of("points", (10, 8), (30, 20)), [(10, 8), (30, 20)]),
        ("labelme/a.json", labelme_of("circle", (10, 8), (13, 8)), [(10, 8)]),
        ("labelme/a.json", labelme_of("polygon", (8, 8), (12, 6), (12, 12)), [(10, 9)]),
        # shapes of other kinds, given by the edges of pixels
        ("a.xml", cvat_of('<ellipse label="t" cx="10.5" cy="8.5" rx="3" ry="2"/>'), [(10, 8)]),
        ("a.xml", cvat_of('<polygon label="t" points="8,6;13,6;13,11"/>'), [(10, 8)]),
        ("a.xml", cvat_of('<box label="t" xtl="8" ytl="6" xbr="13" ybr="11" rotation="40"/>'), [(10, 8)]),
        ("a.xml", cvat_of('<mask label="t" rle="0,9" left="8" top="6" width="5" height="5"/>'), [(10, 8)]),
        (
            "Annotations/a.xml",
            "<annotation><object><name>t</name><robndbox><cx>10</cx><cy>8</cy><w>5</w><h>5</h><angle>1</angle>"
            "</robndbox></object></annotation>",
            [(10, 8)],
        ),
        # percent of the picture; a rotated rectangle turns about its upper left corner
        ("a.json", studio({"x": 20, "y": 20, "keypointlabels": ["t"]}, "keypointlabels"), [(10, 8)]),
        (
            "a.json",
            studio(
                {"x": 20, "y": 20, "width": 10, "height": 12.5, "rotation": 90, "rectanglelabels": ["t"]},
                "rectanglelabels",
            ),
            [(7, 10)],
        ),
        (
            "a.json",
            studio({"points": [[16, 15], [26, 15], [26, 27.5]], "polygonlabels": ["t"]}, "polygonlabels"),
            [(10, 8)],
        ),
        (
            "a.json",
            studio(
                {"x": 21, "y": 21.25, "radiusX": 5, "radiusY": 6, "ellipselabels": ["t"]}, "ellipselabels"
            ),
            [(10, 8)],
        ),
        ("a.json", studio({"choices": ["bad"]}, "choices"), []),
    ],
)
def test_other_shapes(root: Path, file: str, text: str, points: list[tuple[float, float]]) -> None:
    write(root / file, text)
    convert_labels(root)
    (image,) = read_points(root / "points.json")
    np.testing.assert_allclose(image.points, np.array(points).reshape(-1, 2), atol=1e-4)


@pytest.mark.parametrize(
    ("file", "kind", "text", "message"),
    [
        ("labels/a.txt", "yolo", "0 10 8 5 5", r"a\.txt, line 1: .* are not fractions of the frame"),
        (
            "labels/a.txt",
            "yolo",
            "0 0.5 0.5 0.1 0.1\n0 1.4 0.5 0.1 0.1",
            r"a\.txt, line 2: .* are not fractions",
        ),
        ("labels/a.txt", "yolo", "0 0.5 0.5 0.1 0.1 0.5 0.5 2", r"a\.txt, line 1: 7 numbers after the class"),
        ("labels/a.txt", "yolo", "0 .5 .5 .1 .1 .5 .5 1 .5 .6 1", "line 1: 10 numbers .* no keypoints"),
        (
            "labels/a.txt",
            "yolo",
            "0 .5 .5 .1 .1 20 30 20 31",
            "line 1: 8 numbers .* pairs, 0..1, of an outline",
        ),
        ("labels/a.txt", "yolo", "0 0.5 0.5", r"a\.txt, line 1: 2 numbers"),
        (
            "a.xml",
            "cvat",
            video_of('<points frame="0" points="1,2"/><points frame="3" points="4,2"/>'),
            "track 0 lists frames 0 and 3, and neither those behind it.*CVAT for video 1.1",
        ),
        (
            "a.xml",
            "cvat",
            video_of('<points frame="0" points="1,2"/>'),
            "track 0 lists frame 0 as its last",
        ),
        (
            "a.xml",
            "cvat",
            video_of('<points frame="0" points="1,2"/>').replace("<size>4</size>", "<size>0</size>"),
            r"none of the 1 labelled images is a frame of .*frame_000000",
        ),
        ("a.xml", "cvat", cvat_of('<skeleton label="t"/>'), "has a skeleton"),
        (
            "a.xml",
            "cvat",
            cvat_of('<points label="t" points="90,8"/>'),
            r"\(90, 8\) is outside the 50x40 frame",
        ),
        (
            "a.json",
            "label-studio",
            studio({"rle": [1], "format": "rle"}, "brushlabels"),
            "type 'brushlabels'",
        ),
        (
            "a.json",
            "label-studio",
            studio({"x": 120, "y": 20, "keypointlabels": ["t"]}, "keypointlabels"),
            r"\(60, 8\) is outside the 50x40 frame",
        ),
    ],
)
def test_labels_that_would_be_lost_or_wrong_are_refused(
    root: Path, file: str, kind: str, text: str, message: str
) -> None:
    write(root / file, text)
    with pytest.raises(DataError, match=message):
        convert_labels(root, kind=kind)
    assert not (root / "points.json").exists()


CSV_FORMS = {
    "semicolons, a mark and decimal commas": "\ufefffile;x;y\n0.png;4,5;3\n".encode(),
    "quoted decimal commas": b'file,x,y\n0.png,"4,5","3,0"\n',
    "line ends of old Macs": b"file,x,y\r0.png,4.5,3\r",
    "tabs": b"file\tx\ty\n0.png\t4.5\t3\n",
    "tabs, a column without a name before numbers": b"\tframe\tx\ty\n7\t0\t4.5\t3\n",
    "capitals and spaces": b"Filename, X, Y\n0.png, 4.5, 3\n",
    "another order": b"y,x,image\n3,4.5,0.png\n",
    "utf-16": "file,x,y\n0.png,4.5,3\n".encode("utf-16"),
    "corners": b"filename,xmin,ymin,xmax,ymax,class\n0.png,3,2,6,4,bird\n",
    "corners in the wrong order": b"filename,xmin,ymin,xmax,ymax\n0.png,6,4,3,2\n",
    "boxes": b"file;x;y;width;height\n0.png;3;2;4;3\n",
    "boxes with short names": b"file,x,y,w,h\n0.png,3,2,4,3\n",
}


@pytest.mark.parametrize("form", CSV_FORMS)
def test_forms_of_csv(tmp_path: Path, form: str) -> None:
    save(tmp_path / "images" / "0.png", frame(0))
    (tmp_path / "labels.csv").write_bytes(CSV_FORMS[form])
    convert_labels(tmp_path)
    assert read_points(tmp_path / "points.json")[0].points.tolist() == [[4.5, 3]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0.png,3,2,-4,3", "line 2: width and height are above 0"),
        ("0.png,3,2,a,3", "line 2: x, y, width and height are numbers"),
        ("0.png,3,nan,4,3", "is not a position in a frame"),
    ],
)
def test_csv_boxes_that_are_none(tmp_path: Path, row: str, message: str) -> None:
    save(tmp_path / "images" / "0.png", frame(0))
    (tmp_path / "labels.csv").write_text(f"file,x,y,width,height\n{row}\n")
    with pytest.raises(DataError, match=message):
        convert_labels(tmp_path)


class TestLabelStudio:
    SHAPE = json.loads(studio({"x": 20, "y": 20, "keypointlabels": ["t"]}, "keypointlabels"))[0][
        "annotations"
    ][0]

    def test_the_first_annotation_that_was_not_cancelled_counts(self, root: Path) -> None:
        cancelled = {"was_cancelled": True, "result": []}
        tasks = [
            {"data": {"image": "a.png"}, "annotations": [cancelled, self.SHAPE, {"result": []}]},
            {"data": {"image": "b.png"}, "annotations": [cancelled], "predictions": [self.SHAPE]},
        ]
        write_json(root / "all.json", tasks)
        done = convert_labels(root)
        assert done.skipped == ["all.json: 1 task without an annotation"]
        (image,) = read_points(root / "points.json")
        assert (image.file_name, image.points.tolist()) == ("a.png", [[10, 8]])

    def test_without_any_annotation_nothing_is_labelled(self, root: Path) -> None:
        write_json(
            root / "all.json", [{"data": {"image": f"{name}.png"}, "annotations": []} for name in "ab"]
        )
        with pytest.raises(DataError, match=r"nothing is labelled: all\.json: 2 tasks without an annotation"):
            convert_labels(root)
        assert not (root / "points.json").exists()

    @pytest.mark.parametrize(
        "task",
        [
            {"data": {"image": "http://host/data/s 2/a.png"}, "file_upload": "a.png"},
            {"data": {"id": "7", "picture": "/data/local-files/?d=set/s%202/a.png"}},
            {"data": {"thumb": "b.png", "image": "s 2/a.png"}},
        ],
    )
    def test_the_folder_tells_equal_names_apart(self, root: Path, task: dict[str, Any]) -> None:
        save(root / "images/s 2/a.png", frame(2, (HEIGHT, WIDTH)))
        write_json(root / "all.json", [task | {"annotations": [self.SHAPE]}])
        convert_labels(root)
        assert [image.file_name for image in read_points(root / "points.json")] == ["s 2/a.png"]

    def test_percentages_are_of_the_frame(self, root: Path) -> None:
        text = json.dumps([{"data": {"image": "a.png"}, "annotations": [self.SHAPE]}])
        write(root / "all.json", text.replace('"original_width": 50', '"original_width": 100'))
        convert_labels(root)
        assert read_points(root / "points.json")[0].points.tolist() == [[10, 8]]


COCO_BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [8, 6, 5, 5]}


def coco_of(*annotations: dict[str, Any], width: int = WIDTH) -> str:
    image = {"id": "1", "file_name": "a.png", "width": width, "height": HEIGHT}  # ids 1 and "1" are equal
    return json.dumps({"images": [image], "annotations": annotations})


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.xml", cvat_of('<points label="t" points="10,8"/>').replace('"50"', '"100"')),
        (
            "Annotations/a.xml",
            "<annotation><size><width>100</width><height>40</height></size><object><bndbox><xmin>8</xmin>"
            "<ymin>6</ymin><xmax>12</xmax><ymax>10</ymax></bndbox></object></annotation>",
        ),
        ("all.json", coco_of(COCO_BOX, width=100)),
        (
            "labelme/a.json",
            labelme_of("point", (10, 8)).replace("{", '{"imageWidth": 100, "imageHeight": 40, ', 1),
        ),
        ("all.csv", "filename,width,height,xmin,ymin,xmax,ymax\na.png,100,40,8,6,12,10\n"),
    ],
)
def test_labels_of_frames_of_another_size_are_refused(root: Path, file: str, text: str) -> None:
    write(root / file, text)
    said = rf"a\.png: the frame is 50x40, {Path(file).name} says 100x40: .*--accept-labels"
    with pytest.raises(DataError, match=said):
        convert_labels(root)
    assert not (root / "points.json").exists()
    convert_labels(root, reading=Reading(accept=True))
    assert read_points(root / "points.json")[0].points.tolist() == [[10, 8]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (coco_of(COCO_BOX, COCO_BOX | {"id": 2, "image_id": 9}), "annotation id 2: image_id 9 is unknown"),
        (coco_of(COCO_BOX | {"bbox": [8, 6, -5, 5]}), "annotation id 1: bbox is .* sizes of at least 0"),
        (coco_of(COCO_BOX).replace("[{", '[{"id": 1, "file_name": "b.png"}, {', 1), "image id 1: another"),
    ],
)
def test_coco_entries_are_not_dropped(root: Path, text: str, message: str) -> None:
    write(root / "all.json", text)
    with pytest.raises(DataError, match=rf"all\.json: {message}"):
        convert_labels(root)


def test_crowds_of_coco_become_ignore_regions(root: Path) -> None:
    write(root / "all.json", coco_of(COCO_BOX, COCO_BOX | {"id": 2, "iscrowd": 1, "bbox": [20, 10, 5, 4]}))
    assert convert_labels(root).points == 1
    assert read_points(root / "points.json")[0].ignore.tolist() == [[19.5, 9.5, 24.5, 13.5]]


def test_blank_files_do_not_hide_yolo_labels(root: Path) -> None:
    for number in range(9):
        save(root / f"images/{number}.png", frame(number, (HEIGHT, WIDTH)))
        write(root / f"labels/{number}.txt", "\n" * (number % 2))
    write(root / "labels/a.txt", "0 0.5 0.5 0.1 0.1\n")
    done = convert_labels(root)
    assert (done.images, done.points) == (10, 1)
