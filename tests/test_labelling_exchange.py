"""Labels into and out of a labelling project, the agreement of labellers, and the list of mistakes."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from dimpoint.errors import ConfigError, DataError, DimpointError
from dimpoint.labelling.exchange import EXPORTS, agreements, export_labels, import_labels
from dimpoint.labelling.frames import FrameReader
from dimpoint.labelling.judging import changes, mistakes
from dimpoint.labelling.project import Project
from dimpoint.labelling.store import Labels
from label_server import SPOTS, write_frames

OFF = (2.0, -1.0)  # of boxes from their spot


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path / "project", [write_frames(tmp_path / "frames", 4)])
    yield project
    project.close()


def box(x: float, y: float, half: float = 5) -> tuple[float, float, float, float]:
    return x + OFF[0] - half, y + OFF[1] - half, x + OFF[0] + half, y + OFF[1] + half


def coco_points(x: float, y: float) -> tuple[str, bytes]:
    image = {"id": 1, "file_name": "images/0000.png", "width": 200, "height": 160}
    point = {"id": 1, "image_id": 1, "category_id": 1, "num_keypoints": 1, "keypoints": [x, y, 2]}
    content = {"images": [image], "annotations": [point], "categories": [{"id": 1, "name": "target"}]}
    return "points.json", json.dumps(content).encode()


def coco_boxes(x: float, y: float) -> tuple[str, bytes]:
    left, top, right, bottom = box(x, y)
    image = {"id": 1, "file_name": "0000.png", "width": 200, "height": 160}
    one = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [left, top, right - left, bottom - top]}
    return "boxes.json", json.dumps({"images": [image], "annotations": [one], "categories": []}).encode()


def cvat(x: float, y: float) -> tuple[str, bytes]:
    text = f'<annotations><image name="0000.png"><points label="t" points="{x},{y}"/></image></annotations>'
    return "cvat.xml", text.encode()


def label_studio(x: float, y: float) -> tuple[str, bytes]:
    value = {"x": 100 * x / 200, "y": 100 * y / 160, "width": 1, "keypointlabels": ["t"]}
    result = {"type": "keypointlabels", "value": value, "original_width": 200, "original_height": 160}
    task = {"data": {"image": "/data/upload/0000.png"}, "annotations": [{"result": [result]}]}
    return "tasks.json", json.dumps([task]).encode()


def voc(x: float, y: float) -> tuple[str, bytes]:
    sides = dict(zip(("xmin", "ymin", "xmax", "ymax"), box(x, y), strict=True))
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in sides.items())
    text = f"<annotation><object><name>t</name><bndbox>{inner}</bndbox></object></annotation>"
    return "0000.xml", text.encode()


def yolo(x: float, y: float) -> tuple[str, bytes]:
    return "0000.txt", f"0 {(x + OFF[0]) / 200} {(y + OFF[1]) / 160} 0.05 0.0625\n".encode()


def table(x: float, y: float) -> tuple[str, bytes]:
    left, top, right, bottom = box(x, y)
    return (
        "boxes.csv",
        f"file,x,y,width,height\n0000.png,{left},{top},{right - left},{bottom - top}\n".encode(),
    )


def point_table(x: float, y: float) -> tuple[str, bytes]:
    return "points.csv", f"file,x,y\n0000.png,{x},{y}\n".encode()


def mask(x: float, y: float) -> tuple[str, bytes]:
    picture = np.zeros((160, 200), np.uint8)
    picture[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2] = 255
    return "0000.png", cv2.imencode(".png", picture)[1].tobytes()


FORMATS = [coco_points, coco_boxes, cvat, label_studio, voc, yolo, table, point_table, mask]


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_labels_of_every_format_become_points(
    project: Project, tmp_path: Path, write: Callable[[float, float], tuple[str, bytes]]
) -> None:
    """Boxes that are off by two pixels snap to the spot inside."""
    name, content = write(*SPOTS[0])
    (tmp_path / name).write_bytes(content)
    done = import_labels(project, tmp_path / name, "Ann")
    assert (done.labelled, done.points, done.unknown) == (1, 1, [])
    labels = project.store.labels(1)
    assert labels.author == "Ann"
    np.testing.assert_allclose(labels.points, [SPOTS[0]], atol=0.7)


def test_a_box_without_snapping_becomes_its_centre(project: Project, tmp_path: Path) -> None:
    name, content = voc(*SPOTS[0])
    (tmp_path / name).write_bytes(content)
    import_labels(project, tmp_path / name, "", snap=False)
    centre = SPOTS[0][0] + OFF[0], SPOTS[0][1] + OFF[1]
    np.testing.assert_allclose(project.store.labels(1).points, [centre], atol=1e-4)


def test_other_frames_are_named_and_answers_stay(project: Project, tmp_path: Path) -> None:
    project.save(1, Labels(points=((5, 5),), author="Bob"))
    images = [{"id": n, "file_name": f"{n:04d}.png", "width": 200, "height": 160} for n in (0, 2, 77)]
    points = [
        {"id": n, "image_id": n, "category_id": 1, "num_keypoints": 1, "keypoints": [6, 7, 2]} for n in (0, 2)
    ]
    file = tmp_path / "points.json"
    file.write_text(json.dumps({"images": images, "annotations": points, "categories": []}))
    done = import_labels(project, file, "Ann")
    assert (done.labelled, done.kept, done.unknown) == (1, 1, ["0077.png"])
    assert project.store.labels(1).points == ((5.0, 5.0),)
    assert project.store.labels(3).points == ((6.0, 7.0),)


def test_labels_of_frames_of_another_size_are_refused(project: Project, tmp_path: Path) -> None:
    images = [
        {"id": n, "file_name": f"{n:04d}.png", "width": 200 * (n + 1), "height": 160 * (n + 1)}
        for n in (0, 1)
    ]
    points = [
        {"id": n, "image_id": n, "category_id": 1, "num_keypoints": 1, "keypoints": [6, 7, 2]} for n in (0, 1)
    ]
    file = tmp_path / "points.json"
    file.write_text(json.dumps({"images": images, "annotations": points, "categories": []}))
    with pytest.raises(DataError, match=r"'0001\.png' has 400x320 pixels there, its frame here 200x160"):
        import_labels(project, file, "")
    assert project.store.labels(1).status == "unlabelled"


def test_crowds_of_boxes_are_regions(project: Project, tmp_path: Path) -> None:
    name, content = coco_boxes(*SPOTS[0])
    boxes = json.loads(content)
    boxes["annotations"].append(
        {"id": 2, "image_id": 1, "category_id": 1, "iscrowd": 1, "bbox": [10, 20, 30, 40]}
    )
    (tmp_path / name).write_text(json.dumps(boxes))
    import_labels(project, tmp_path / name, "")
    assert project.store.labels(1).regions == ((9.5, 19.5, 39.5, 59.5),)


@pytest.mark.parametrize("folder", ["one", "two"])
def test_frames_of_one_name_are_told_apart_by_their_folders(tmp_path: Path, folder: str) -> None:
    sources = [write_frames(tmp_path / name / "images", 1) for name in ("one", "two")]
    project = Project(tmp_path / "project", sources)
    text = f'<image name="{folder}/images/0000.png"><points label="t" points="5,6"/></image>'
    (tmp_path / "cvat.xml").write_text(f"<annotations>{text}</annotations>")
    import_labels(project, tmp_path / "cvat.xml", "")
    labelled = project.store.find("0000" if folder == "one" else "0000-2")
    assert project.store.answered() == [labelled]
    assert json.loads(export_labels(project, "coco")[1])["images"][0]["file_name"].endswith(
        "0000.png" if folder == "one" else "0000-2.png"
    )
    project.close()


def test_a_label_file_of_a_frame_with_dots_in_its_name(tmp_path: Path) -> None:
    shutil.copy(write_frames(tmp_path / "frames", 1) / "0000.png", tmp_path / "take.1.png")
    project = Project(tmp_path / "project", [tmp_path / "take.1.png"])
    (tmp_path / "take.1.txt").write_text("0 0.5 0.5 0.05 0.05\n")
    assert import_labels(project, tmp_path / "take.1.txt", "").labelled == 1
    project.close()


def test_labels_outside_the_frame_are_left_out_and_counted(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "cvat.xml"
    shapes = '<points label="t" points="5,6"/><points label="t" points="500,6"/>'
    shapes += '<box label="t" xtl="-90" ytl="-90" xbr="-80" ybr="-80"/>'
    file.write_text(f'<annotations><image name="0000.png">{shapes}</image></annotations>')
    done = import_labels(project, file, "")
    assert (done.points, done.outside) == (1, 2)


@pytest.mark.parametrize("what", ["boxes", "regions"])
def test_a_frame_that_no_label_fits_gets_no_answer(project: Project, tmp_path: Path, what: str) -> None:
    """Labels outside of it, and a frame without any label, which is one without targets."""
    images = [{"id": n, "file_name": f"{n:04d}.png", "width": 200, "height": 160} for n in (0, 1)]
    one: dict[str, object] = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [500, 400, 9, 9]}
    if what == "regions":
        one |= {"iscrowd": 1, "keypoints": [], "num_keypoints": 0}
    file = tmp_path / "labels.json"
    file.write_text(json.dumps({"images": images, "annotations": [one], "categories": []}))
    done = import_labels(project, file, "Ann")
    assert (done.labelled, done.points, done.beside) == (1, 0, 1)
    assert [project.store.labels(frame).status for frame in (1, 2)] == ["unlabelled", "empty"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"{"),
        ("a.json", b"[1]"),
        ("a.txt", b"some words"),
        ("0000.png", b"no picture"),
        ("a.xml", b"<annotations><image>"),
        ("a.exe", b"MZ"),
        ("a.csv", b"file,x,y\n0000.png,5,six\n"),
        ("a.csv", b"file,x,y\n0000.png,5,nan\n"),
        ("a.csv", b"file,x,y,width\n0000.png,5,6,7\n"),
        ("a.csv", b"file,x,y\n" + b"0" * 140_000 + b",5,6\n"),
        ("a.json", b'{"shapes": [{"points": [[' + b"9" * 400 + b", 2]]}]}"),
        ("a.json", b""),
    ],
)
def test_what_is_no_label_file_is_refused(
    project: Project, tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError):
        import_labels(project, tmp_path / name, "")
    assert project.store.count()["unlabelled"] == 4


def test_the_archive_of_an_export_is_to_be_unpacked(project: Project, tmp_path: Path) -> None:
    name, content, _ = export_labels(project, "voc")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"voc.zip: a ZIP archive; unpack it"):
        import_labels(project, tmp_path / name, "")


@pytest.mark.parametrize("kind", EXPORTS)
def test_an_export_reads_back_as_the_same_points(project: Project, tmp_path: Path, kind: str) -> None:
    project.save(1, Labels(points=SPOTS[:2]))  # type: ignore[arg-type]
    project.save(2, Labels(status="empty"))
    name, content, _ = export_labels(project, kind)
    if kind == "csv":
        assert content.decode().splitlines() == [
            "file,x,y",
            "0000.png,40.3,30.6",
            "0000.png,150.2,60.4",
            "0001.png,,",
        ]
    files = {name: content}
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = {inner: archive.read(inner) for inner in archive.namelist()}
        assert len(files) == 2
    other = Project(tmp_path / "other", [tmp_path / "frames"])
    try:
        for inner, part in files.items():
            (tmp_path / inner).write_bytes(part)
            if part:  # an empty YOLO file says nothing of its kind
                import_labels(other, tmp_path / inner, "", snap=False)
        found = sorted(other.store.labels(1).points)
        np.testing.assert_allclose(found, sorted(SPOTS[:2]), atol=0.51 if kind == "masks" else 0.01)
    finally:
        other.close()


@pytest.mark.parametrize("kind", EXPORTS)
def test_an_export_counts_the_regions_that_it_lacks(project: Project, kind: str) -> None:
    project.save(1, Labels(points=((40, 30),), regions=((100, 20, 130, 50), (5, 5, 9, 9))))
    assert export_labels(project, kind)[2] == (0 if kind == "coco" else 2)


def test_an_unknown_export_is_refused(project: Project) -> None:
    with pytest.raises(ConfigError, match="none of coco"):
        export_labels(project, "../x")


class TestAgreement:
    def test_points_of_two_labellers(self, project: Project) -> None:
        """Ann's and Bob's last answers: one target in common, one of Ann alone, one frame without any."""
        project.save(1, Labels(0, points=((40, 30), (150, 60)), author="Ann"))
        project.save(1, Labels(1, points=((41, 30),), author="Bob"))
        project.save(2, Labels(0, status="empty", author="Ann"))
        project.save(2, Labels(1, status="empty", author="Bob"))
        project.save(3, Labels(0, points=((1, 1),), author="Ann"))  # Bob has not answered it
        (one,) = agreements(project)
        assert (one.first, one.second, one.frames, one.same) == ("Ann", "Bob", 2, 1)
        assert (one.matched, one.first_only, one.second_only) == (1, 1, 0)
        assert one.f1 == pytest.approx(2 / 3)
        assert one.distance == pytest.approx(1.0)

    def test_nobody_has_named_himself(self, project: Project) -> None:
        project.save(1, Labels(0, points=((40, 30),)))
        assert agreements(project) == []

    def test_frames_without_targets_have_no_f1(self, project: Project) -> None:
        for version, author in enumerate(("Ann", "Bob")):
            project.save(1, Labels(version, status="empty", author=author))
        (one,) = agreements(project)
        assert (one.same, one.f1, one.distance) == (1, None, None)


class TestMistakes:
    def test_misses_and_false_alarms(self, project: Project) -> None:
        """Two of three targets labelled, and one label where nothing is."""
        project.save(1, Labels(points=(SPOTS[0], SPOTS[1], (20, 140))))
        found = {(one.kind, round(one.x), round(one.y)) for one in mistakes(project)}
        assert found == {("missed", 20, 140), ("false", round(SPOTS[2][0]), round(SPOTS[2][1]))}

    def test_ignore_regions_hide_detections(self, project: Project) -> None:
        project.save(1, Labels(status="empty", regions=((0, 0, 199, 159),)))
        assert mistakes(project) == []

    def test_a_frame_that_vanished_is_passed_over(self, project: Project) -> None:
        project.save(1, Labels(points=(SPOTS[0],)))
        shutil.rmtree(project.folder / "images")
        Path(project.store.source(1).source).unlink()
        project.reader = FrameReader()  # what is in memory would still be seen
        assert mistakes(project) == []


def test_a_false_alarm_that_moves_a_little_is_the_same(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of one model at 5.9, 50 and 91 pixels, of the next at 6.1, 57 and 91; the target is lost."""
    project.save(1, Labels(points=((91, 9),)))
    found = {"before": [(5.9, 9), (50, 9), (91, 9)], "model.onnx": [(6.1, 9), (57, 9)]}

    def detector(path: str | Path) -> Callable[[object], SimpleNamespace]:
        places = np.array(found[Path(path).name])
        return lambda _: SimpleNamespace(xy=places, scores=np.full(len(places), 0.9))

    monkeypatch.setattr("dimpoint.labelling.judging.Detector", detector)
    monkeypatch.setattr("dimpoint.model.onnx_file.read_meta", lambda _: SimpleNamespace(scores={}))
    (tmp_path / "run.json").write_text('{"held_out": {"project": [{"name": "0000"}]}}')
    changed = changes(project, tmp_path, "before")
    kinds = ("found", "lost", "gone", "false")
    assert [[one.x for one in changed[kind]] for kind in kinds] == [[], [91], [50], [57]]


def test_a_full_disk_acknowledges_nothing_that_is_not_kept(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy of the frame fails to be written: the label is refused with a reason, and not in the store."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dimpoint.atomic._to_disk", full)
    with pytest.raises(DimpointError, match="No space left on device"):
        project.save(1, Labels(points=(SPOTS[0],)))
    assert project.store.labels(1).version == 0


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("PRAGMA max_page_count = 1", "full"),  # what is there already stays
        ("PRAGMA query_only = ON", "readonly"),
    ],
    ids=["full", "read-only"],
)
def test_a_store_that_takes_no_more_says_so_and_keeps_what_it_has(
    project: Project, setting: str, said: str
) -> None:
    project.save(1, Labels(points=(SPOTS[0],)))
    project.store._db.execute(setting)
    points = tuple((float(n % 200), float(n % 160)) for n in range(5000))
    with pytest.raises(DimpointError, match=said):
        project.save(2, Labels(points=points))
    assert project.store.labels(1).points == (SPOTS[0],)
    assert project.store.labels(2).version == 0
    assert len(project.store.history(2)) == 0
