"""`dimpoint track` as a user meets it: files, exit codes, and what goes wrong."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import tifffile

from dimpoint import read_tracks
from dimpoint.cli import main
from dimpoint.errors import DataError
from dimpoint.tracking.picture import draw_frame
from dimpoint.tracking.stream import Run
from dimpoint.tracking.track import Point, Track
from tiny_models import write_model
from track_scenes import background, frame_of


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run `dimpoint track ... --model blob.onnx` in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    write_model(tmp_path / "blob.onnx")

    def command(*arguments: str) -> tuple[int, str, str]:
        model = () if "--model" in arguments else ("--model", "blob.onnx")
        monkeypatch.setattr(sys, "argv", ["dimpoint", "track", *arguments, *model, "--threads", "1"])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return command


def flight(count: int) -> list[np.ndarray]:
    """A target that flies by 2 pixels a frame."""
    scene = background(4)
    return [frame_of(scene, [(20 + 2 * n, 60 + 0.5 * n)], 1, n, 190) for n in range(count)]


def write_clip(path: Path, frames: list[np.ndarray], times: list[float] | None = None) -> Path:
    """A video with given times, seconds; 25 frames/s if left out."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height = frames[0].shape[1], frames[0].shape[0]
        stream.pix_fmt = "gray"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="gray")
            picture.pts = round(1000 * (number / 25 if times is None else times[number]))
            picture.time_base = Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def test_a_clip_gives_all_files(run, tmp_path):
    write_clip(tmp_path / "clip.mkv", flight(30))
    code, out, err = run("clip.mkv", "--out", "results", "--video", "--start", "2026-05-01T12:00:00+00:00")
    assert (code, err) == (0, "")
    assert "encoder" in out
    content = json.loads((tmp_path / "results" / "tracks.json").read_text())
    assert content["source"] == "clip.mkv"
    assert content["model"] == "blob"
    assert content["frames"] == 30
    (one,) = [one for one in content["tracks"] if one["state"] == "confirmed"]
    keys = ["frame", "time", "x", "y", "vx", "vy", "score", "measured"]
    assert all(list(point) == keys for point in one["points"])
    assert one["points"][-1]["x"] == pytest.approx(78, abs=1)
    assert one["points"][-1]["time"] == pytest.approx(29 / 25, abs=0.002)
    rows = list(csv.DictReader((tmp_path / "results" / "tracks.csv").read_text().splitlines()))
    assert rows[0]["clock"].startswith("2026-05-01T12:00:0")
    mot = (tmp_path / "results" / "tracks.txt").read_text().splitlines()
    assert mot[-1].startswith("30,1,")
    assert len(mot[-1].split(",")) == 10
    assert cv2.imread(str(tmp_path / "results" / "tracks.png")) is not None
    page = (tmp_path / "results" / "tracks.html").read_text()
    assert "<svg" in page
    assert "http" not in page.replace("http-equiv", "")
    with av.open(str(tmp_path / "results" / "tracks.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 30


def test_what_was_written_is_read_again(run, tmp_path):
    write_clip(tmp_path / "clip.mkv", flight(20))
    run("clip.mkv", "--out", "results")
    tracks = read_tracks("results/tracks.json")
    tracks.write("again")
    first, again = (
        json.loads((tmp_path / part / "tracks.json").read_text()) for part in ("results", "again")
    )
    assert first["tracks"] == again["tracks"]
    frame = tracks.to_dataframe()
    assert len(frame) == sum(len(one.points) for one in tracks)


def test_files_of_an_earlier_run_do_not_stay_beside_other_tracks(run, tmp_path):
    write_clip(tmp_path / "clip.mkv", flight(6))
    place = ("--position", "48,11", "--heading", "45", "--fov", "12")
    run("clip.mkv", "--out", "results", "--video", *place)
    more = {"tracks.mp4", "tracks.geojson", "tracks.kml"}
    assert more < {file.name for file in (tmp_path / "results").iterdir()}
    (tmp_path / "results" / "notes.txt").write_text("mine")
    run("clip.mkv", "--out", "results")
    left = {file.name for file in (tmp_path / "results").iterdir()}
    assert not more & left
    assert {"notes.txt", "tracks.json"} < left


@pytest.mark.parametrize("source", ["frames", "frames/*.*"])
def test_pictures_of_an_earlier_run_are_no_frames(run, tmp_path, source):
    (tmp_path / "frames").mkdir()
    for number, frame in enumerate(flight(8)):
        cv2.imwrite(str(tmp_path / "frames" / f"{number}.png"), frame)
    for _ in range(2):
        assert run(source, "--out", "frames", "--video", "--fps", "25")[0] == 0
        assert json.loads((tmp_path / "frames" / "tracks.json").read_text())["frames"] == 8
    with av.open(str(tmp_path / "frames" / "tracks.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 8


def test_times_of_the_stream_are_the_truth(run, tmp_path):
    """Ten dropped frames: the velocity stays right, which frame numbers would not give."""
    numbers = [n for n in range(40) if not 20 <= n < 30]
    frames = flight(40)
    write_clip(tmp_path / "clip.mkv", [frames[n] for n in numbers], [n / 25 for n in numbers])
    run("clip.mkv", "--out", "results")
    (one,) = read_tracks(tmp_path / "results" / "tracks.json").of("confirmed")
    assert one.points[-1].time == pytest.approx(39 / 25, abs=0.002)
    assert one.points[-1].vx == pytest.approx(50, abs=3)


def test_start_is_the_time_of_the_first_frame_of_a_stream_that_begins_late(run, tmp_path):
    """A part of a recording keeps its presentation times; the clock and the time line begin with it."""
    write_clip(tmp_path / "clip.mkv", flight(20), [3600 + n / 25 for n in range(20)])
    run("clip.mkv", "--out", "results", "--start", "2026-05-01T12:00:00")
    rows = list(csv.DictReader((tmp_path / "results" / "tracks.csv").read_text().splitlines()))
    assert (rows[0]["time"], rows[0]["clock"]) == ("3600.0", "2026-05-01T12:00:00")
    page = (tmp_path / "results" / "tracks.html").read_text()
    assert "20 frames, 0.8 s, from 2026-05-01T12:00:00;" in page
    assert '<rect x="40.0"' in page
    assert ">3600 s</text>" in page
    assert ">3600.5</text>" in page


def test_a_folder_of_frames_with_a_rate(run, tmp_path):
    for n, frame in enumerate(flight(30)):
        (tmp_path / "frames").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "frames" / f"{n:03d}.png"), frame)
    code, _, err = run("frames", "--out", "results", "--fps", "10")
    assert code == 0
    assert "assumed" not in err
    (one,) = read_tracks(tmp_path / "results" / "tracks.json").of("confirmed")
    assert [point.time for point in one.points] == pytest.approx([n / 10 for n in range(30)])


def test_without_times_the_assumed_rate_is_said(run, tmp_path):
    (tmp_path / "frames").mkdir()
    for n, frame in enumerate(flight(3)):
        cv2.imwrite(str(tmp_path / "frames" / f"{n:03d}.png"), frame)
    code, _, err = run("frames", "--out", "results")
    assert code == 0
    assert "3 frames have no time of their own: 25 frames/s assumed" in err


def test_many_notes_are_counted(run, tmp_path):
    """Every third frame is missing: one note each in the file, a few on the screen."""
    numbers = [n for n in range(24) if n % 3]
    frames = flight(24)
    write_clip(tmp_path / "clip.mkv", [frames[n] for n in numbers], [n / 25 for n in numbers])
    code, _, err = run("clip.mkv", "--out", "results")
    notes = json.loads((tmp_path / "results" / "tracks.json").read_text())["notes"]
    assert (code, len(notes) > 5) == (0, True)
    assert err.count("note: clip.mkv") == 5
    assert f"note: {len(notes) - 5} more notes in tracks.json" in err


def test_times_that_run_backwards(run, tmp_path):
    """Presentation times of a recorder whose clock was set back by 0.6 s in the middle of a file."""
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 200, 160, "gray"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, frame in enumerate(flight(50)):
            picture = av.VideoFrame.from_ndarray(frame, format="gray")
            picture.pts = number
            for packet in stream.encode(picture):
                packet.time_base = Fraction(1, 1000)
                packet.pts, packet.dts = 1000 + 40 * number - 600 * (number >= 25), number
                container.mux(packet)
    with av.open(str(path)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert min(b - a for a, b in pairwise(times)) == pytest.approx(-0.56)
    code, _, err = run("clip.mkv", "--out", "results")
    assert code == 0
    assert "frames have a time that does not increase: replaced by the usual step" in err
    (one,) = read_tracks(tmp_path / "results" / "tracks.json").of("confirmed")
    assert all(b.time > a.time for a, b in pairwise(one.points))
    assert (one.points[0].frame, len(one.points)) == (0, 50)
    assert one.points[-1].vx == pytest.approx(50, abs=5)


def test_a_truncated_video_gives_the_tracks_before_the_damage(run, tmp_path):
    path = write_clip(tmp_path / "clip.mkv", flight(40))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, _, err = run("clip.mkv", "--out", "results")
    assert code == 1
    assert "not read" in err
    assert "the file is cut" in err
    assert read_tracks(tmp_path / "results" / "tracks.json").of("confirmed")


def test_an_mp4_without_its_index_was_cut_off(run, tmp_path):
    path = write_clip(tmp_path / "clip.mp4", flight(20))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, _, err = run("clip.mp4", "--out", "results")
    assert code == 2
    assert "clip.mp4: an MP4 or MOV file that was cut off" in err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(("option", "code", "frames"), [((), 1, 3), (("--accept-damaged",), 0, 4)])
def test_a_damaged_frame_is_left_out_or_taken(run, tmp_path, option, code, frames):
    (tmp_path / "frames").mkdir()
    for n, frame in enumerate(flight(4)):
        cv2.imwrite(str(tmp_path / "frames" / f"{n}.jpg"), frame)
    damaged = tmp_path / "frames" / "2.jpg"
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2] + b"\xff\xd9")
    got, _, err = run("frames", "--fps", "25", "--out", "results", *option)
    assert (got, "--accept-damaged" in err) == (code, not option)
    assert read_tracks(tmp_path / "results" / "tracks.json").frames == frames


def test_tentative_tracks_have_ids_of_their_own(run, tmp_path):
    scene = background(4)
    frames = flight(30)
    frames[-1] = frame_of(scene, [(78, 74.5), (120, 30), (150, 120)], 1, 29, 190)
    write_clip(tmp_path / "clip.mkv", frames)
    run("clip.mkv", "--out", "results")
    tracks = list(read_tracks(tmp_path / "results" / "tracks.json"))
    assert [(one.id, one.state) for one in tracks] == [(1, "confirmed"), (2, "tentative"), (3, "tentative")]


def test_frames_that_change_size_end_the_tracks(run, tmp_path):
    (tmp_path / "frames").mkdir()
    for n, frame in enumerate(flight(60)):
        cv2.imwrite(str(tmp_path / "frames" / f"{n:03d}.png"), frame if n < 30 else frame[:150, :190])
    code, _, _ = run("frames", "--out", "results", "--fps", "25", "--video")
    assert code == 0
    tracks = read_tracks(tmp_path / "results" / "tracks.json").of("confirmed")
    assert [(one.points[0].frame, one.points[-1].frame) for one in tracks] == [(0, 29), (30, 59)]


def test_two_clips_are_two_scenes_in_one_time(run, tmp_path):
    write_clip(tmp_path / "a.mkv", flight(30))
    write_clip(tmp_path / "b.mkv", flight(30))
    run("a.mkv", "b.mkv", "--out", "results")
    first, second = read_tracks(tmp_path / "results" / "tracks.json").of("confirmed")
    assert (first.points[-1].frame, second.points[0].frame) == (29, 30)
    assert second.points[0].time == pytest.approx(30 / 25, abs=0.002)


def test_a_black_stretch(run, tmp_path):
    frames = flight(40)
    for n in range(15, 20):
        frames[n] = np.zeros_like(frames[n])
    write_clip(tmp_path / "clip.mkv", frames)
    run("clip.mkv", "--out", "results")
    (one,) = read_tracks(tmp_path / "results" / "tracks.json").of("confirmed")
    assert (one.points[0].frame, one.points[-1].frame) == (0, 39)


@pytest.mark.parametrize("picture", ["black", "frozen"])
def test_a_clip_of_one_picture_has_no_tracks(run, tmp_path, picture):
    first = flight(1)[0]
    write_clip(tmp_path / "clip.mkv", [np.zeros_like(first) if picture == "black" else first] * 30)
    code, _, err = run("clip.mkv", "--out", "results", "--video")
    assert (code, "Traceback" in err) == (0, False)
    tracks = read_tracks("results/tracks.json")
    assert (tracks.frames, tracks.of("confirmed")) == (30, [])
    page = Path("results/tracks.html").read_text("utf-8")
    assert ("No target could be followed" in page, "<table" in page) == (True, False)
    with av.open("results/tracks.mp4") as container:
        assert sum(1 for _ in container.decode(video=0)) == 30


@pytest.mark.parametrize(("size", "kept"), [("4k", []), ("60k", ["tracks.csv", "tracks.json", "tracks.txt"])])
def test_a_full_disk_is_one_line_and_leaves_whole_files(run, tmp_path, size, kept):
    small = tmp_path / "small"
    small.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(small)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        write_clip(tmp_path / "clip.mkv", flight(40))
        code, _, err = run("clip.mkv", "--out", "small/results", "--video")
        assert code == 2
        assert err.splitlines()[-1].startswith("error: small/results/")
        assert "No space left on device" in err.splitlines()[-1]
        assert "Traceback" not in err
        assert sorted(file.name for file in (small / "results").iterdir()) == kept
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_ids_beside_each_other_do_not_overlap():
    """Of two targets side by side each has its id at a place of its own, and nothing leaves the picture."""
    places = [(250.0, 100.0), (268.0, 101.0), (509.0, 3.0), (511.0, 508.0)]
    tracks = [
        Track(number, "confirmed", [Point(0, 0.0, x, y, 0.0, 0.0, 0.5, True)])
        for number, (x, y) in enumerate(places, 1)
    ]
    frame = np.zeros((512, 512), np.uint8)
    empty = draw_frame(frame, [], 0, 0.0)

    def inked(*shown: Track) -> int:
        return int(np.any(draw_frame(frame, shown, 0, 0.0) != empty, axis=2).sum())

    assert min(map(inked, tracks)) > 100
    assert inked(*tracks) >= 0.97 * sum(map(inked, tracks))


def test_a_shutter_freeze_of_a_second_is_coasted_over(run, tmp_path):
    frames = flight(80)
    frames[20:45] = [frames[19]] * 25  # the camera repeats its last picture while its shutter is closed
    write_clip(tmp_path / "clip.mkv", frames)
    run("clip.mkv", "--out", "results")
    (one,) = read_tracks(tmp_path / "results" / "tracks.json").of("confirmed")
    assert (one.points[0].frame, one.points[-1].frame) == (0, 79)
    assert not any(point.measured for point in one.points if 20 <= point.frame < 45)


def test_at_a_cut_tracks_end_and_do_not_jump(run, tmp_path):
    other = background(9)
    there = [frame_of(other.max() - other, [(100 + n, 100)], 1, n, 190) for n in range(30)]
    write_clip(tmp_path / "clip.mkv", flight(30) + there)
    run("clip.mkv", "--out", "results")
    tracks = read_tracks(tmp_path / "results" / "tracks.json").of("confirmed")
    assert [(one.points[0].frame, one.points[-1].frame) for one in tracks] == [(0, 29), (30, 59)]
    steps = [np.hypot(b.x - a.x, b.y - a.y) for one in tracks for a, b in pairwise(one.points)]
    assert max(steps) < 5


def test_a_video_of_one_frame(run, tmp_path):
    write_clip(tmp_path / "clip.mkv", flight(1))
    code, out, _ = run("clip.mkv", "--out", "results", "--video")
    assert code == 0
    assert "encoder" in out
    tracks = read_tracks(tmp_path / "results" / "tracks.json")
    assert (tracks.frames, len(tracks.of("confirmed"))) == (1, 0)
    assert (tmp_path / "results" / "tracks.html").exists()


@pytest.mark.parametrize(("chosen", "frames"), [((), 20), (("--stream", "1"), 30), (("--stream", "2"), 0)])
def test_two_video_streams(run, tmp_path, chosen, frames):
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        streams = []
        for size in ((200, 160), (160, 120)):
            stream = container.add_stream("ffv1", rate=25)
            stream.width, stream.height = size
            stream.pix_fmt = "gray"
            streams.append(stream)
        for stream, count in zip(streams, (20, 30), strict=True):
            for frame in flight(count):
                picture = av.VideoFrame.from_ndarray(
                    np.ascontiguousarray(frame[: stream.height, : stream.width]), format="gray"
                )
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
    code, _, err = run("clip.mkv", "--out", "results", *chosen)
    if not frames:
        assert code == 2
        assert "--stream 2" in err
        return
    assert code == 0
    taken = "1" if chosen else "0"
    assert f"video stream {taken} is read of 0 (200x160 gray), 1 (160x120 gray)" in err
    assert read_tracks(tmp_path / "results" / "tracks.json").frames == frames


def test_a_page_of_no_data_does_not_shift_the_tracks_in_the_video(run, tmp_path, monkeypatch):
    stack = np.stack([frame.astype(np.uint16) * 100 + 1000 for frame in flight(12)])
    stack[5] = 0
    tifffile.imwrite(tmp_path / "stack.tif", stack, extratags=[(42113, "s", 0, "0", False)])
    drawn = []
    collect = lambda path, frames, tracks: drawn.extend((n, frame.index) for n, frame in frames) or "none"  # noqa: E731
    monkeypatch.setattr("dimpoint.tracking.picture.write_video", collect)
    code, _, err = run("stack.tif", "--out", "results", "--video")
    assert code == 1
    assert "not read: stack.tif#000005: no pixel is valid" in err
    assert drawn == [(n, n) for n in range(12) if n != 5]


def test_an_error_in_the_middle_keeps_the_tracks_before_it(run, tmp_path):
    """The second clip is of another camera than the memory; the first one was tracked."""
    spot = {"x": 5, "y": 5, "seen": 9, "missed": 0, "kind": "sensor"}
    size = {"width": 200, "height": 160}
    memory = {"format": "dimpoint camera memory 1", "size": size, "spots": [spot]}
    (tmp_path / "m.json").write_text(json.dumps(memory))
    write_clip(tmp_path / "a.mkv", flight(20))
    write_clip(tmp_path / "b.mkv", [frame[:100, :100] for frame in flight(3)])
    code, _, err = run("a.mkv", "b.mkv", "--out", "results", "--camera-memory", "m.json")
    assert code == 2
    assert "the tracks of the first 20 frames are written" in err
    assert "error: b.mkv#000000: is 100x100, the camera memory is for 200x160" in err
    (one,) = read_tracks(tmp_path / "results" / "tracks.json").of("confirmed")
    assert one.points[-1].frame == 19


def test_the_camera_memory_is_written_and_read(run, tmp_path):
    scene = background(4)
    write_clip(tmp_path / "clip.mkv", [frame_of(scene, [(100, 80)], 1, n, 190) for n in range(70)])
    run("clip.mkv", "--out", "one", "--camera-memory", "camera.json")
    assert len(json.loads((tmp_path / "camera.json").read_text())["spots"]) == 1
    write_clip(tmp_path / "short.mkv", [frame_of(scene, [(100, 80)], 1, n, 190) for n in range(20)])
    run("short.mkv", "--out", "two", "--camera-memory", "camera.json")
    (one,) = json.loads((tmp_path / "two" / "tracks.json").read_text())["static"]
    assert one["reason"].endswith("known from the camera memory")
    assert (one["x"], one["y"]) == pytest.approx((100, 80), abs=1)


@pytest.mark.slow
def test_the_page_in_a_browser(run, browser, tmp_path):
    """The time line leads to the table, nothing is asked of the network, and the console stays empty."""
    scene = background(4)
    spots = [(100, 80), (60, 120)]
    frames = [frame_of(scene, [(20 + 2 * n, 40 + 0.5 * n), *spots], 1, n, 190) for n in range(75)]
    write_clip(tmp_path / "<b>clip.mkv", frames)
    run("<b>clip.mkv", "--out", "results", "--start", "2026-05-01T12:30:00+02:00")
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    page.set_default_timeout(60_000)
    told, asked = [], []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "results" / "tracks.html").as_uri())
    assert page.locator("h1").inner_text() == "Tracks of <b>clip.mkv"
    assert page.locator("svg rect").count() == 3
    moving = read_tracks(tmp_path / "results" / "tracks.json").of("confirmed")[0]
    bar = page.locator(f'svg a[href="#track-{moving.id}"]')
    assert bar.locator("title").text_content().startswith(f"track {moving.id}, confirmed, 0.00 to 2.96 s")
    wide, whole = bar.locator("rect").bounding_box(), page.locator("svg").bounding_box()
    assert wide["width"] > 0.9 * whole["width"]
    bar.locator("rect").click()
    row = page.locator("tr:target")
    assert row.locator("td").first.inner_text() == str(moving.id)
    assert "2026-05-01T12:30:00+02:00" in row.inner_text()
    box = row.bounding_box()
    assert 0 <= box["y"] < 768
    assert page.locator("img").evaluate("image => image.complete && image.naturalWidth > 0")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    shown = [url.split("#")[0] for url in asked if not url.startswith("data:")]
    assert (told, set(shown)) == ([], {(tmp_path / "results" / "tracks.html").as_uri()})
    page.close()


def test_directions_say_where_the_motion_of_the_camera_is_not_known(run, tmp_path, monkeypatch):
    monkeypatch.setattr("dimpoint.tracking.motion._between", lambda last, grey: (np.eye(2, 3), "unknown"))
    write_clip(tmp_path / "clip.mkv", flight(8))
    place = ("--position", "48,11", "--heading", "45", "--fov", "12")
    _, _, err = run("clip.mkv", "--out", "results", *place)
    assert "the camera's motion is not known in 7 frames: taken as none for directions" in err


def test_directions_on_a_map(run, tmp_path):
    other = background(9)
    cut = [frame_of(other.max() - other, [(100, 100)], 1, n, 190) for n in range(5)]
    write_clip(tmp_path / "clip.mkv", flight(30) + cut)
    place = ("--position", "-33.9,151.2,20", "--heading", "45", "--fov", "12", "--elevation", "3")
    code, _, err = run("clip.mkv", "--out", "results", *place, "--line-length", "800")
    assert code == 0
    assert "from frame 30 on another scene begins" in err
    assert "another scene begins" in (tmp_path / "results" / "tracks.json").read_text()
    camera, _, track = json.loads((tmp_path / "results" / "tracks.geojson").read_text())["features"]
    assert camera["geometry"]["coordinates"] == [151.2, -33.9, 20.0]
    bearings = [row["bearing"] for row in track["properties"]["directions"]]
    assert min(bearings) > 39
    assert max(bearings) < 51
    assert bearings == sorted(bearings)  # it flies to the right
    assert (tmp_path / "results" / "tracks.kml").read_text().count("<LineString>") >= 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.mp4",), "none.mp4"),
        (("clip.mkv", "--fps", "0"), "fps must be above 0"),
        (("clip.mkv", "--start", "noon"), "--start: 'noon' is not a time"),
        (("clip.mkv", "--candidate-score", "2"), "must be in 0..1"),
        (("clip.mkv", "--model", "nothing"), "nothing"),
        (("clip.mkv", "--camera-memory", "clip.mkv"), "is no camera memory"),
        (("clip.mkv", "--position", "48"), "--position needs --heading and --fov"),
        (("clip.mkv", "--heading", "48"), "go with --position LAT,LON"),
        (("clip.mkv", "--position", "48", "--heading", "0", "--fov", "9"), "'48' is no LAT,LON"),
        (("clip.mkv", "--position", "48,11,1,2", "--heading", "0", "--fov", "9"), "is no LAT,LON"),
        (("clip.mkv", "--position", "98,11", "--heading", "0", "--fov", "9"), "latitude: must be in -90..90"),
        (("clip.mkv", "--position", "48,11", "--heading", "0", "--fov", "0"), "fov: must be above 0"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(run, tmp_path, arguments, message):
    write_clip(tmp_path / "clip.mkv", flight(2))
    code, _, err = run(*arguments, "--out", "results")
    assert code == 2
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--out", "clip.mkv"), "clip.mkv/tracks.json: cannot be written"),
        (("--out", "results", "--camera-memory", "clip.mkv/m.json"), "clip.mkv/m.json: cannot be written"),
    ],
)
def test_a_place_that_cannot_be_written_is_found_at_the_first_frame(
    run, tmp_path, monkeypatch, option, message
):
    write_clip(tmp_path / "clip.mkv", flight(2))
    monkeypatch.setattr(Run, "result", lambda _: pytest.fail("the whole clip was read first"))
    code, _, err = run("clip.mkv", *option)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"tracks": [{"id": 1, "state": "gone", "points": []}], "frames": 1}']
)
def test_a_file_that_is_no_tracks_json(tmp_path, text):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(DataError, match=r"t\.json"):
        read_tracks(tmp_path / "t.json")


def test_a_black_hot_clip(run, tmp_path):
    """Inverted frames give the tracks of the frames themselves."""
    write_clip(tmp_path / "white.mkv", flight(12))
    write_clip(tmp_path / "black.mkv", [255 - frame for frame in flight(12)])
    assert run("white.mkv", "--out", "white")[0] == 0
    assert run("black.mkv", "--out", "black", "--polarity", "black-hot")[0] == 0
    white, black = (
        json.loads((tmp_path / out / "tracks.json").read_text())["tracks"] for out in ("white", "black")
    )
    assert white == black != []
    code, _, err = run("black.mkv", "--out", "wrong", "--polarity", "black")
    assert code == 2
    assert "white-hot or black-hot" in err
