"""`dimpoint label` without a browser: the store, snapping, reading frames, and the server's answers."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from dimpoint.cli import build_app
from dimpoint.datasets.dataset import open_dataset
from dimpoint.errors import ConfigError, DataError, DimpointError, FrameError
from dimpoint.labelling.carry import carry
from dimpoint.labelling.frames import FrameReader, list_frames, packed
from dimpoint.labelling.project import Project, doubt
from dimpoint.labelling.snap import snap
from dimpoint.labelling.store import ConflictError, Labels, LabelStore, SourceFrame, Status
from dimpoint.labelling.training_job import TrainingJob
from dimpoint.training.recipe import load_recipe
from label_server import SPOTS, Running, label_server, write_frames

SIZE = (160, 200)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LabelStore]:
    store = LabelStore(tmp_path / "labels.db")
    store.add_frames([SourceFrame(f"f{n}", f"/f{n}.png", None, 1, 1, scene=n // 2) for n in range(6)])
    yield store
    store.close()


class TestStore:
    def test_a_change_gets_a_version_and_stays_in_the_history(self, store: LabelStore) -> None:
        first = store.save(1, Labels(0, points=((3.25, 4.5),), author="Ann"), SIZE)
        second = store.save(1, Labels(first.version, "empty", author="Bob"), SIZE)
        assert (first.version, first.status, second.version, second.status) == (1, "targets", 2, "empty")
        assert store.labels(1) == second
        assert [(each.author, each.points) for each in store.history(1)] == [
            ("Ann", ((3.25, 4.5),)),
            ("Bob", ()),
        ]

    def test_a_change_on_an_old_version_is_refused_and_nothing_is_lost(self, store: LabelStore) -> None:
        stored = store.save(1, Labels(0, points=((1, 1),), author="Ann"), SIZE)
        with pytest.raises(ConflictError, match="changed by Ann") as caught:
            store.save(1, Labels(0, points=((2, 2),)), SIZE)
        assert caught.value.current == stored == store.labels(1)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (Labels(points=((200.0, 5.0),)), "outside the frame of 200x160"),
            (Labels(points=((float("nan"), 5.0),)), "outside the frame"),
            (Labels(rejected=((5.0, -0.6),)), "outside the frame"),
            (Labels(regions=((5.0, 5.0, 5.0, 9.0),)), "does not lie in the frame"),
            (Labels(regions=((5.0, 5.0, 300.0, 9.0),)), "does not lie in the frame"),
            (Labels(status="maybe"), "status: one of"),  # type: ignore[arg-type]
        ],
        ids=["right of it", "not a number", "above it", "empty region", "region outside", "unknown status"],
    )
    def test_wrong_labels_are_refused(self, store: LabelStore, labels: Labels, message: str) -> None:
        with pytest.raises(DataError, match=message):
            store.save(1, labels, SIZE)
        assert store.labels(1).version == 0

    def test_an_answer_survives_a_process_that_ends_at_once(self, tmp_path: Path) -> None:
        code = (
            "import os, sys; from pathlib import Path; from dimpoint.labelling.store import *\n"
            "store = LabelStore(Path(sys.argv[1])); store.add_frames([SourceFrame('a', '/a', None, 1, 1)])\n"
            "store.save(1, Labels(points=((1, 2),)), (9, 9)); os._exit(9)"
        )
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "labels.db")], check=False)
        store = LabelStore(tmp_path / "labels.db")
        assert store.labels(1).points == ((1.0, 2.0),)
        store.close()

    def test_the_most_doubtful_frame_of_another_scene_comes_next(self, store: LabelStore) -> None:
        for frame, value in ((1, 0.9), (2, 0.8), (3, 0.7), (5, 0.1)):
            store.set_doubt(frame, value, "model")
        assert store.most_doubtful() == 1
        assert store.most_doubtful(after=1) == 3  # frame 2 is of the scene of frame 1
        for frame in (3, 5):
            store.save(frame, Labels(status="empty"), SIZE)
        assert store.most_doubtful(after=1) == 2  # only that scene is left
        store.save(2, Labels(status="empty"), SIZE)
        assert store.most_doubtful(after=1) == 1  # nothing but the frame itself

    @pytest.mark.parametrize("content", [b"no database at all" * 99, b"SQLite format 3\0" + bytes(5000)])
    def test_a_damaged_store_is_refused_and_kept(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "labels.db"
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"labels\.db: damaged"):
            LabelStore(path)
        assert (tmp_path / "labels.db.damaged").read_bytes() == content

    def test_a_store_without_a_version_is_refused_and_kept(self, tmp_path: Path, store: LabelStore) -> None:
        database = sqlite3.connect(tmp_path / "labels.db")
        database.execute("PRAGMA user_version = 0")
        database.close()
        with pytest.raises(DataError, match=r"it is no label store.*a copy is kept as labels\.db\.damaged"):
            LabelStore(tmp_path / "labels.db")
        assert (tmp_path / "labels.db.damaged").is_file()

    def test_a_newer_store_is_refused(self, tmp_path: Path, store: LabelStore) -> None:
        database = sqlite3.connect(tmp_path / "labels.db")
        database.execute("PRAGMA user_version = 99")
        database.close()
        with pytest.raises(DataError, match="newer than this dimpoint"):
            LabelStore(tmp_path / "labels.db")


def blob(x: float, y: float, height: float, dtype: type = np.uint16) -> np.ndarray:
    rows, columns = np.mgrid[:60, :80]
    noise = np.random.default_rng(1).normal(0, 5, (60, 80))
    frame = 3000 + noise + height * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 1.4**2))
    return frame.astype(dtype)


class TestSnap:
    @pytest.mark.parametrize(
        ("x", "y", "click"),
        [(40.3, 30.7, (40, 31)), (40.3, 30.7, (43, 28)), (1.2, 1.4, (2, 2)), (78.6, 58.5, (77, 57))],
        ids=["on it", "beside it", "top-left corner", "bottom-right corner"],
    )
    def test_the_centroid_of_the_blob(self, x: float, y: float, click: tuple[float, float]) -> None:
        found = snap(blob(x, y, 800), *click)
        assert found is not None
        np.testing.assert_allclose(found, (x, y), atol=0.4)

    def test_a_dark_blob_when_asked(self) -> None:
        frame = blob(40.3, 30.7, -800)
        found = snap(frame, 41, 31, dark=True)
        np.testing.assert_allclose(found, (40.3, 30.7), atol=0.4)  # type: ignore[arg-type]

    def test_flat_and_tiny_frames_have_no_blob(self) -> None:
        assert snap(np.full((60, 80), 7, np.uint8), 40, 30) is None
        assert snap(np.zeros((1, 1), np.float32), 0, 0) is None


class TestFrames:
    def test_files_of_one_name_get_names_of_their_own(self, tmp_path: Path) -> None:
        for folder in ("a", "b"):
            write_frames(tmp_path / folder, 1)
        found = list_frames([tmp_path / "a", tmp_path / "b"])
        assert [frame.name for frame in found] == ["0000", "0000-2"]

    def test_a_page_and_a_file_never_share_a_name(self, tmp_path: Path) -> None:
        (tmp_path / "b").mkdir()
        cv2.imwritemulti(str(tmp_path / "b" / "x.tif"), [np.zeros((9, 9), np.uint8)] * 2)
        shutil.copy(write_frames(tmp_path / "a", 1) / "0000.png", tmp_path / "a" / "X_000001.png")
        found = list_frames([tmp_path / "a", tmp_path / "b", tmp_path / "a"])
        assert [one.name for one in found] == ["0000", "X_000001", "x-2_000000", "x-2_000001"]

    def test_a_path_that_is_not_utf_8_is_passed_over_with_a_reason(self, tmp_path: Path) -> None:
        folder, said = write_frames(tmp_path / "a", 2), []
        (folder / "0001.png").rename(folder / os.fsdecode(b"\xff.png"))
        assert [one.name for one in list_frames([folder], note=said.append)] == ["0000"]
        assert "the path is not UTF-8" in said[0]

    def test_two_threads_that_read_one_frame_keep_it_once(self, tmp_path: Path) -> None:
        """There is room for two frames, although one of them was read twice at the same time."""

        class Slow(FrameReader):
            reads = 0

            def _from_source(self, frame: SourceFrame) -> np.ndarray:
                self.reads += 1
                if self.reads == 1:
                    self.read(frame)  # as another thread would meanwhile
                return super()._from_source(frame)

        first, second = list_frames([write_frames(tmp_path / "a", 2)])
        reader = Slow(kept_bytes=2 * SIZE[0] * SIZE[1] * 2)
        for frame in (first, second, first):
            reader.read(frame)
        assert reader.reads == 3

    def test_pixels_of_no_data_are_smooth(self, tmp_path: Path) -> None:
        """As in a data set; the project's copy, which has no mask, would teach them as counts."""
        counts = np.full((20, 30), 700, np.uint16)
        counts[4:6, 8] = 9
        tags = [(42113, "s", 0, "9", False)]
        tifffile.imwrite(tmp_path / "one.tif", counts, extratags=tags)
        tifffile.imwrite(tmp_path / "two.tif", np.stack([counts, counts]), extratags=tags)
        reader = FrameReader()
        frames = list_frames([tmp_path / "one.tif", tmp_path / "two.tif"])
        assert len(frames) == 3
        for frame in frames:
            assert (reader.read(frame) == 700).all()

    def test_a_source_without_a_frame_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("no frame")
        with pytest.raises(FrameError):
            list_frames([tmp_path])

    def test_a_video_is_read_in_any_order(self, shared_data: Path) -> None:
        from dimpoint.sources import frames_from

        clip = shared_data / "IR-video" / "IR_DRONE_142.mp4"
        listed, reader = list_frames([clip]), FrameReader(kept_bytes=1)
        expected = {f.index: f.pixels for f in frames_from(clip) if f.index in (0, 7, 8, 120, 301)}
        assert len(listed) == 302
        for number in (120, 7, 8, 301, 0):
            np.testing.assert_array_equal(reader.read(listed[number]), expected[number])

    @pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
    @pytest.mark.parametrize("size", [(1501, 2203), (1, 2050), (1024, 7)])
    def test_levels_are_means_of_two_by_two(self, kind: str, size: tuple[int, int]) -> None:
        pixels = np.random.default_rng(0).uniform(0, 250, size).astype(kind)
        if kind == "float32":
            pixels[0, 0] = np.nan
        content, headers = packed(pixels)
        assert headers["X-Type"] == kind
        assert json.loads(headers["X-Ends"]) == [np.nanmin(pixels), np.nanmax(pixels)]
        sample = np.frombuffer(content, "<f4", int(headers["X-Sample"]))
        assert np.all(np.diff(sample) >= 0)
        assert np.isin(sample, pixels).all()
        start, found = sample.nbytes, []
        for width, height in (map(int, one.split("x")) for one in headers["X-Levels"].split()):
            found.append(np.frombuffer(content, kind, width * height, start).reshape(height, width))
            start += found[-1].nbytes
        assert start == len(content)
        np.testing.assert_array_equal(found[-1], pixels)
        assert max(found[0].shape) <= 1024
        for above, level in pairwise(found[::-1]):
            height, width = level.shape
            assert level.shape == tuple(max(1, side // 2) for side in above.shape)
            parts = [above[y : 2 * height : 2, x : 2 * width : 2] for y in (0, 1) for x in (0, 1)]
            mean = np.mean([part for part in parts if part.size], axis=0, dtype=float)
            np.testing.assert_allclose(level, mean, atol=0.001 if kind == "float32" else 0.5)

    @pytest.mark.parametrize(("value", "ends"), [(np.nan, [0, 1]), (np.inf, [np.inf, np.inf]), (7, [7, 7])])
    def test_the_ends_of_odd_frames(self, value: float, ends: list[float]) -> None:
        assert json.loads(packed(np.full((3, 4), value, np.float32))[1]["X-Ends"]) == ends

    def test_a_file_that_changed_is_not_read_as_the_old_one(self, tmp_path: Path) -> None:
        (frame,) = list_frames([write_frames(tmp_path / "a", 1)])
        path = Path(frame.source)
        path.write_bytes(path.read_bytes() + b" ")
        with pytest.raises(FrameError, match="has changed"):
            FrameReader().read(frame)
        path.unlink()
        with pytest.raises(FrameError, match="is gone"):
            FrameReader().read(frame)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path / "project", [write_frames(tmp_path / "frames", 4)])
    yield project
    project.close()


class TestProject:
    def test_it_is_a_data_set_at_any_moment(self, project: Project) -> None:
        project.save(1, Labels(points=((40.3, 30.6),), regions=((100, 100, 120, 130),)))
        project.save(2, Labels(status="empty"))
        project.save(3, Labels(status="unsure"))
        project.export()
        data = open_dataset(project.folder)
        assert [(sample.name, len(sample.read_points())) for sample in data] == [("0000", 1), ("0001", 0)]
        original = cv2.imread(project.store.source(1).source, cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(data.samples[0].read_frame(), original)

    def test_a_second_server_is_refused(self, project: Project) -> None:
        with pytest.raises(DimpointError, match="another dimpoint label has this project open"):
            Project(project.folder)

    def test_a_new_project_without_frames_leaves_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no frames yet"):
            Project(tmp_path / "new")
        (tmp_path / "there").mkdir()
        with pytest.raises(DimpointError, match="no such file or folder"):
            Project(tmp_path / "there", [tmp_path / "none"])
        assert [file.name for file in tmp_path.iterdir()] == ["there"]

    def test_labelled_frames_outlive_their_source(self, project: Project) -> None:
        project.save(1, Labels(points=((40.3, 30.6),)))
        Path(project.store.source(1).source).unlink()
        project.reader = FrameReader()
        assert project.pixels(1).shape == SIZE

    def test_a_point_is_carried_along_its_track(self, project: Project) -> None:
        steps = carry(project, 1, SPOTS[0], 10)
        assert [step.frame for step in steps] == [2, 3, 4]
        expected = [(SPOTS[0][0] + shift, SPOTS[0][1]) for shift in (1, 2, 3)]
        np.testing.assert_allclose([(step.x, step.y) for step in steps], expected, atol=0.3)

    def test_the_floor_of_doubt_and_its_top(self) -> None:
        assert doubt([], 0.6) == 0
        assert doubt([(0, 0, 0.6), (5, 5, 0.99)], 0.6) == 1
        assert doubt([(0, 0, 0.3)], 0.6) == pytest.approx(0.5)

    @pytest.mark.parametrize("threshold", [0.0, 1.0])
    def test_doubt_at_the_ends_of_the_threshold(self, threshold: float) -> None:
        assert doubt([(0, 0, threshold)], threshold) == 1
        assert doubt([(0, 0, 0.7)], threshold) == pytest.approx(0.3 if threshold == 0 else 0.7)

    def test_frames_of_one_name_from_later_sources_are_added_once(self, tmp_path: Path) -> None:
        days, said = [write_frames(tmp_path / f"day{n}", 2) for n in (1, 2)], []
        for sources in ([days[0]], [days[1]], [days[1], days[0]]):
            opened = Project(tmp_path / "days", sources, note=said.append)
            listed = opened.store.sources()
            opened.close()
        assert said == ["2 frames added, 0 known already", "0 frames added, 4 known already"]
        assert [(Path(one.source).parent.name, one.name) for one in listed] == [
            ("day1", "0000"),
            ("day1", "0001"),
            ("day2", "0000-2"),
            ("day2", "0001-2"),
        ]
        assert len({one.scene for one in listed}) == 4

    def test_a_data_set_of_somebody_else_is_no_project(self, tmp_path: Path) -> None:
        frames = write_frames(tmp_path / "frames", 1)
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / "points.json").write_text("{}")
        with pytest.raises(DataError, match="would overwrite its points"):
            Project(tmp_path / "set", [frames])
        assert [file.name for file in (tmp_path / "set").iterdir()] == ["points.json"]
        assert (tmp_path / "set" / "points.json").read_text() == "{}"

    @pytest.mark.parametrize("status", ["unsure", "unlabelled"])
    def test_a_frame_whose_answer_is_taken_back_leaves_the_data_set(
        self, project: Project, status: Status
    ) -> None:
        project.save(1, Labels(points=(SPOTS[0],)))
        project.save(2, Labels(points=(SPOTS[0],)))
        project.save(1, Labels(1, status))
        project.export()
        Path(project.store.source(1).source).unlink()
        project.reader = FrameReader()
        assert [(one.name, len(one.read_points())) for one in open_dataset(project.folder)] == [("0001", 1)]
        assert project.pixels(1).shape == SIZE  # nothing is lost
        project.save(1, Labels(2, "empty"))
        project.export()
        assert [one.name for one in open_dataset(project.folder)] == ["0000", "0001"]

    def test_copies_that_an_earlier_version_left_are_set_aside(
        self, project: Project, tmp_path: Path
    ) -> None:
        """A file of the user's that has a frame's name, without an answer ever, stays."""
        project.save(1, Labels(points=(SPOTS[0],)))
        project.save(1, Labels(1, "unsure"))
        images = project.folder / "images"
        for name in ("0000.png", "0001.png"):
            shutil.copy(tmp_path / "frames" / name, images / name)
        project.export()
        assert [path.name for path in images.iterdir()] == ["0001.png"]

    def test_a_killed_server_leaves_no_copy_behind(self, project: Project) -> None:
        project.save(1, Labels(points=(SPOTS[0],)))
        aside = project.folder / "withdrawn" / "0000.png"
        (project.folder / "images" / "0000.png").rename(aside)  # killed between the label and its copy
        project.export()
        assert [one.name for one in open_dataset(project.folder)] == ["0000"]

    def test_a_refused_label_leaves_no_copy_in_the_data_set(self, project: Project) -> None:
        with pytest.raises(DataError, match="outside the frame"):
            project.save(1, Labels(points=((900, 1),)))
        assert not (project.folder / "images").exists()

    def test_frames_in_the_folder_of_copies_stay_where_they_are(self, tmp_path: Path) -> None:
        images = write_frames(tmp_path / "set" / "images", 1)
        opened = Project(tmp_path / "set", [images])
        opened.save(1, Labels(points=(SPOTS[0],)))
        opened.save(1, Labels(1, "unsure"))
        opened.close()
        assert (images / "0000.png").is_file()

    @pytest.mark.parametrize("exists", [True, False], ids=["its project", "a new project"])
    def test_a_read_only_folder_is_one_line(self, exists: bool) -> None:
        """As another user, where the tests run as root. Nothing of a project that exists changes."""
        with tempfile.TemporaryDirectory(prefix="dimpoint-test-") as name:
            folder = Path(name)
            if exists:
                Project(folder, [write_frames(folder / "frames", 1)]).close()
            content = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            folder.chmod(0o555)
            was = os.geteuid()
            try:
                if was == 0:
                    os.seteuid(65534)
                with pytest.raises(DimpointError, match="cannot be opened for writing"):
                    Project(folder if exists else folder / "project", [])
            finally:
                os.seteuid(was)
                folder.chmod(0o755)
            assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == content

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(DimpointError, match="cannot be opened for writing"):
            Project(tmp_path / "file" / "project")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("label")
    with label_server(folder / "project", write_frames(folder / "frames", 5)) as running:
        yield running


class TestServer:
    @pytest.mark.parametrize(
        "path", ["project", "frames", "frames/1", "frames/1/pixels", "export", "nothing"]
    )
    def test_nothing_is_told_without_the_token(self, running: Running, path: str) -> None:
        url = f"{running.client.base_url}/api/{path}"
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, headers={"X-Token": "wrong"}).status_code == 401

    @pytest.mark.parametrize(
        "headers",
        [
            {"Host": "evil.example"},
            {"Host": "127.0.0.1:1"},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
        ],
    )
    def test_other_hosts_and_origins_are_refused(self, running: Running, headers: dict[str, str]) -> None:
        assert running.client.get("/api/project", headers=headers).status_code == 403
        assert running.client.get("/", headers=headers).status_code == 403

    def test_the_page_runs_only_its_own_files(self, running: Running) -> None:
        page = running.client.get("/")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "<script>" not in page.text
        assert "style=" not in page.text

    @pytest.mark.parametrize(
        "path", ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd"]
    )
    def test_no_other_file_can_be_read(self, running: Running, path: str) -> None:
        assert running.client.get(path).status_code == 404

    def test_counts_come_as_they_are(self, running: Running, tmp_path: Path) -> None:
        answer = running.client.get("/api/frames/1/pixels")
        expected = cv2.imread(str(write_frames(tmp_path / "same", 1) / "0000.png"), cv2.IMREAD_UNCHANGED)
        height, width = SIZE
        assert (answer.headers["x-type"], answer.headers["x-levels"]) == ("uint16", f"{width}x{height}")
        assert json.loads(answer.headers["x-ends"]) == [expected.min(), expected.max()]
        sample = int(answer.headers["x-sample"])
        assert np.frombuffer(answer.content, "<f4", sample).tolist() == sorted(expected.ravel().tolist())
        counts = np.frombuffer(answer.content, "<u2", offset=4 * sample).reshape(SIZE)
        np.testing.assert_array_equal(counts, expected)

    def test_label_snap_and_conflict(self, running: Running) -> None:
        client = running.client
        found = client.get("/api/frames/2/snap?x=42&y=31").json()
        assert found == pytest.approx({"x": 41.3, "y": 30.6}, abs=0.3)
        body = {"version": 0, "status": "targets", "points": [[found["x"], found["y"]]], "author": "Ann"}
        assert client.put("/api/frames/2", json=body).json()["version"] == 1
        second = client.put("/api/frames/2", json=body)
        assert second.status_code == 409
        assert second.json()["current"]["author"] == "Ann"
        assert client.get("/api/frames/2/history").json()[0]["points"] == body["points"]

    def test_proposals_find_the_targets(self, running: Running) -> None:
        found = running.client.get("/api/frames/1/proposals").json()
        best = sorted((each["x"], each["y"]) for each in found if each["score"] > 0.6)
        np.testing.assert_allclose(best, sorted(SPOTS), atol=0.7)

    @pytest.mark.parametrize(
        ("method", "path", "content", "status"),
        [
            ("GET", "frames/99", None, 400),
            ("GET", "frames?start=-1", None, 400),
            ("GET", "frames/1/snap?x=nan&y=1", None, 400),
            ("PUT", "frames/1", b"no json", 400),
            ("PUT", "frames/1", b"[1]", 400),
            ("PUT", "frames/1", b'{"version": 0, "points": [[1]]}', 400),
            ("PUT", "frames/1", b'{"version": 0, "points": [[1e9, 2]]}', 400),
            ("PUT", "frames/1", b'{"version": 0, "points": [[NaN, 2]]}', 400),
            ("PUT", "frames/1", b'{"version": 1e400}', 400),
            ("PUT", "frames/1", b'{"version": 0, "points": [[%s, 2]]}' % (b"9" * 400), 400),
            ("PUT", "frames/1", b'{"version": 0, "status": "empty", "author": "\\ud800"}', 400),
            ("GET", "frames/99999999999999999999999", None, 400),
            ("GET", f"frames/{'9' * 5000}", None, 400),
            ("GET", "frames?start=%C2%B2", None, 400),
            ("POST", "frames/1/carry", b'{"x": NaN, "y": 1}', 400),
            ("POST", "frames/1/carry", b'{"x": 1, "y": 1, "frames": 1e400}', 400),
            ("POST", "training", b'{"minutes": %s}' % (b"9" * 400), 400),
            ("POST", "import?name=..", b"", 400),
            ("POST", "import?name=" + "%C3%A9" * 200, b"", 400),
            ("PUT", "frames/1", b"x" * (5 << 20), 413),
            ("POST", "training", b'{"minutes": 1}', 400),
            ("POST", "training", b'{"minutes": "long"}', 400),
            ("POST", "training", b'{"minutes": -1}', 400),
            ("POST", "training", b'{"minutes": NaN}', 400),
            ("POST", "model", b'{"model": "trained"}', 400),
            ("DELETE", "frames/1", None, 405),
        ],
    )
    def test_wrong_requests_get_a_reason(
        self, running: Running, method: str, path: str, content: bytes | None, status: int
    ) -> None:
        answer = running.client.request(method, f"/api/{path}", content=content)
        assert answer.status_code == status
        if status == 400:
            assert answer.json()["error"]
        assert running.client.get("/api/frames/1").json()["labels"]["version"] == 0

    def test_a_port_in_use_is_one_line(self, running: Running, tmp_path: Path) -> None:
        port = str(running.client.base_url.port)
        command = [sys.executable, "-c", "from dimpoint.cli import main; main()", "label"]
        frames = write_frames(tmp_path / "frames", 1)
        done = subprocess.run(
            [*command, str(frames), "--project", str(tmp_path / "p"), "--port", port, "--no-browser"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: --port {port}: cannot listen there")

    @pytest.mark.parametrize(
        ("option", "said"),
        [
            (("--model", "no-such-model"), "no-such-model"),
            (("--report", "no-such-report"), "no-such-report: the report cannot be read"),
            (("--report", "page.html"), "page.html: no report of dimpoint evaluate"),
        ],
    )
    def test_what_the_page_would_need_is_checked_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: tuple[str, str], said: str
    ) -> None:
        """A wrong model or report is one line, and makes no project."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "page.html").write_text("<html><figure data-frame='a'></figure></html>")
        frames = write_frames(tmp_path / "frames", 1)
        command = ["label", str(frames), "--project", "p", "--no-browser", *option]
        with pytest.raises(DimpointError, match=said):
            CliRunner().invoke(build_app(), command, catch_exceptions=False)
        assert not (tmp_path / "p").exists()

    def test_a_project_of_many_frames_opens_fast(self, tmp_path: Path) -> None:
        store = LabelStore(tmp_path / "labels.db")
        store.add_frames([SourceFrame(f"{n:06d}", "/clip.mp4", n, 1, 1, n // 30) for n in range(20000)])
        assert store.count()["all"] == 20000
        assert [row.id for row in store.rows(19_990, 200)] == list(range(19_991, 20_001))
        store.close()

    def test_a_stop_does_not_wait_for_a_large_frame(self, tmp_path: Path) -> None:
        """Proposals of 25 megapixels take longer than the two seconds that a stop may; the label is kept."""
        frames = tmp_path / "frames"
        frames.mkdir()
        rng = np.random.default_rng(0)
        cv2.imwrite(str(frames / "big.png"), rng.normal(6000, 20, (5000, 5000)).astype(np.uint16))
        cv2.imwrite(str(frames / "small.png"), blob(40, 30, 800))
        with label_server(tmp_path / "project", frames) as running:
            body = {"version": 0, "status": "targets", "points": [[40, 30]]}
            assert running.client.put("/api/frames/2", json=body).status_code == 200
            with pytest.raises(httpx.ReadTimeout):
                running.client.get("/api/frames/1/proposals", timeout=0.5)
            running.process.terminate()
            assert running.process.wait(timeout=20) == 143  # 1.5 s where the machine does nothing else
        assert "small.png" in (tmp_path / "project" / "points.json").read_text()
        store = LabelStore(tmp_path / "project" / "labels.db")
        assert store.labels(2).points == ((40.0, 30.0),)
        store.close()


class TestTraining:
    def test_runs_are_numbered_on_beside_their_logs(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A second training starts although the first has left a folder and a log."""
        monkeypatch.setattr("dimpoint.labelling.training_job.find_spec", lambda _: True)
        monkeypatch.setattr("dimpoint.labelling.training_job.sys.executable", "/bin/true")
        job = TrainingJob(tmp_path)
        (tmp_path / "runs" / "001").mkdir(parents=True)
        (tmp_path / "runs" / "001.log").touch()
        assert job.start(1, "spire-lite", "time") == tmp_path / "runs" / "002"
        assert job.process is not None
        job.process.wait()
        assert job.process.args[-2:] == ["--validation-by", "time"]  # type: ignore[index]
        recipe = load_recipe(str(tmp_path / "runs" / "002.yaml"))
        assert (recipe.most_minutes, recipe.epochs) == (1, load_recipe("finetune").epochs)
        with pytest.raises(ConfigError, match="none of scene, time, random"):
            job.start(1, "spire-lite", "luck")

    def test_a_training_that_dies_is_said_with_its_last_words(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program = tmp_path / "dies"
        program.write_text("#!/bin/sh\necho error: out of memory\nkill -9 $$\n")
        program.chmod(0o755)
        monkeypatch.setattr("dimpoint.labelling.training_job.find_spec", lambda _: True)
        monkeypatch.setattr("dimpoint.labelling.training_job.sys.executable", str(program))
        job = TrainingJob(tmp_path)
        job.start(1, "spire-lite")
        assert job.process is not None
        job.process.wait()
        status = job.status()
        assert (status["state"], status["log"], status["model"]) == (
            "failed",
            ["error: out of memory"],
            False,
        )
        assert job.start(1, "spire-lite").name == "002"  # another one may be tried
        job.process.wait()
