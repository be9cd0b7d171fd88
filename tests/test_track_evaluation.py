"""`dimpoint evaluate --tracks`: labels of every kind, numbers by hand, files, and what goes wrong."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import dimpoint
from dimpoint.cli import main
from dimpoint.errors import ConfigError, DataError
from dimpoint.tracking.clips import evaluate_tracks
from dimpoint.tracking.evaluation import evaluate_clip, evaluate_clips
from dimpoint.tracking.labels import ClipLabels, join, read_labels
from dimpoint.tracking.result import Tracks
from dimpoint.tracking.track import Point, Track
from track_scenes import DISTANCE, SEEDS, crossing

GOLDEN = json.loads((Path(__file__).parent / "track_golden.json").read_text("utf-8"))


def line(one: int, frames: range, x: float = 0.0, confirmed: float | None = None, rate: float = 10) -> Track:
    """A track that rests at (x, 20)."""
    points = [Point(n, n / rate, x, 20.0, 0, 0, 0.9, True) for n in frames]
    return Track(one, "confirmed", points, confirmed_at=confirmed)


def tracks_of(*tracks: Track, frames: int = 100, rate: float = 10) -> Tracks:
    span = (0, 0.0), (frames - 1, (frames - 1) / rate)
    return Tracks(list(tracks), "clip.mp4", "", frames, span=span)


def labels_of(frames: range, x: float = 0.0) -> ClipLabels:
    return ClipLabels(Path("labels.csv"), {n: {1: (x, 20.0)} for n in frames})


def numbers(tracks: Tracks, labels: ClipLabels, **options: float) -> dict[str, float]:
    clip = evaluate_clip(tracks, labels, **options)
    found = evaluate_clips([clip])
    return {key: value.value for key, value in found.numbers.items()} | {"delay": found.delay.value}


def test_a_perfect_track():
    got = numbers(tracks_of(line(1, range(20, 60), confirmed=2.4)), labels_of(range(20, 60)))
    assert {key: got[key] for key in ("track_pd", "covered", "mota", "idf1", "hota", "precision")} == {
        "track_pd": 1,
        "covered": 1,
        "mota": 1,
        "idf1": 1,
        "hota": pytest.approx(1),
        "precision": 1,
    }
    assert got["delay"] == pytest.approx(0.4)  # from frame 20, 2.0 s
    assert (got["confirmed_0.3_s"], got["confirmed_1_s"]) == (0, 1)
    assert (got["ospa"], got["gospa"], got["false_tracks_per_hour"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("tracks", "labels", "expected"),
    [
        # nothing found: the time to confirmation is infinite
        (tracks_of(), labels_of(range(10)), {"track_pd": 0, "covered": 0, "mota": 0, "confirmed_1_s": 0}),
        # a false track in 10 s is 360 an hour
        (
            tracks_of(line(1, range(50), 90)),
            labels_of(range(50)),
            {"track_pd": 0, "false_tracks_per_hour": 360, "mota": -1, "precision": 0},
        ),
        # on the object in 20 of 50 points: false, so the object is not found though it was covered
        (
            tracks_of(line(1, range(50))),
            labels_of(range(20)),
            {"track_pd": 0, "covered": 1, "false_tracks_per_hour": 360},
        ),
        # neither labels nor tracks: nothing is defined but the rate of false tracks
        (
            tracks_of(),
            labels_of(range(0)),
            {"track_pd": np.nan, "mota": np.nan, "hota": np.nan, "false_tracks_per_hour": 0, "ospa": 0},
        ),
        # two tracks one after the other
        (
            tracks_of(line(1, range(50)), line(2, range(50, 100))),
            labels_of(range(100)),
            {"switches_per_clip": 1, "fragmentations_per_object": 0, "mota": 0.99, "idf1": 0.5},
        ),
        # a gap: fragmentation, no switch
        (
            tracks_of(Track(1, "confirmed", line(1, range(40)).points + line(1, range(60, 100)).points)),
            labels_of(range(100)),
            {"switches_per_clip": 0, "fragmentations_per_object": 1, "covered": 0.8, "mostly_tracked": 1},
        ),
        # static and tentative tracks do not count
        (
            tracks_of(
                Track(1, "static", line(1, range(50)).points),
                Track(0, "tentative", line(0, range(9)).points),
            ),
            labels_of(range(50)),
            {"covered": 0, "false_tracks_per_hour": 0},
        ),
    ],
    ids=["missed", "false", "mostly false", "empty", "switch", "gap", "other states"],
)  # fmt: skip
def test_numbers_by_hand(tracks, labels, expected):
    got = numbers(tracks, labels)
    assert {key: got[key] for key in expected} == pytest.approx(expected, nan_ok=True)


def test_a_track_that_moves_on_to_a_second_object_confirms_it_when_it_gets_there():
    labels = ClipLabels(Path("l.csv"), {n: {1: (0, 20)} if n < 50 else {2: (0, 20)} for n in range(100)})
    labels.frames[40][2] = (50, 20)  # labelled first in frame 40, reached in frame 50
    clip = evaluate_clip(tracks_of(line(1, range(100), confirmed=0.4)), labels)
    assert clip.delays.tolist() == pytest.approx([0.4, 1.0])


@pytest.mark.parametrize("seed", SEEDS)
def test_equal_to_other_implementations(seed):
    truth, found = crossing(seed)
    labels = ClipLabels(Path("l.csv"), dict(enumerate(truth)))
    points: dict[int, list[Point]] = {}
    for n, frame in enumerate(found):
        for one, (x, y) in frame.items():
            points.setdefault(one, []).append(Point(n, n / 30, x, y, 0, 0, 0.9, True))
    tracks = Tracks([Track(one, "confirmed", rows) for one, rows in points.items()], frames=60)
    got = numbers(tracks, labels, distance=DISTANCE)
    names = ("mota", "motp", "idf1", "hota", "deta", "assa", "loca", "ospa", "gospa")
    assert {name: got[name] for name in names} == pytest.approx(
        {name: GOLDEN[str(seed)][name] for name in names}
    )


def test_numbers_over_clips_are_those_of_the_sums_with_intervals():
    good = evaluate_clip(tracks_of(line(1, range(100))), labels_of(range(100)), name="a")
    bad = evaluate_clip(tracks_of(), labels_of(range(50)), name="b")
    both = evaluate_clips([good, bad])
    covered = both.numbers["covered"]
    assert covered.value == pytest.approx(100 / 150)
    assert (covered.low, covered.high) == (0, 1)
    assert both.counts["seconds"] == pytest.approx(20)
    assert both.numbers["hota"].value < 1
    alone = evaluate_clips([good]).numbers["covered"]
    assert (alone.value, np.isnan(alone.low)) == (1, True)  # one clip has no interval
    json.dumps(both.to_record(), allow_nan=False)
    assert dict(both.rows())["labelled points covered"] == "0.667 [0.000, 1.000]"
    rows = list(csv.DictReader(both.to_csv().splitlines()))
    assert [row["clip"] for row in rows] == ["a", "b", "all"]


BOX = "frame,label,x,y,width,height\n0,DRONE,10,20,4,6\n1,DRONE,11,20,4,6\n"


@pytest.mark.parametrize(
    ("name", "text", "frames"),
    [
        ("a.csv", BOX, {0: {1: (10, 20, 14, 26)}, 1: {1: (11, 20, 15, 26)}}),
        ("a.csv", "\ufeff" + BOX.replace("\n", "\r\n"), {0: {1: (10, 20, 14, 26)}, 1: {1: (11, 20, 15, 26)}}),
        ("a.csv", "frame,id,x,y\n3,drone,1,2\n", {3: {1: (1, 2)}}),
        ("a.csv", "frame,id,x,y,w,h\n3,drone,1,2,4,6\n", {3: {1: (1, 2, 5, 8)}}),
        ("a.csv", "frame,x,y\n", {}),
        ("a.txt", "1,7,1.5,2.5,4,4,1,-1,-1,-1\n2,7,1.5,2.5,4,4,0,-1,-1,-1\n", {0: {1: (0, 1, 4, 5)}}),
        ("a.txt", "2,-1,1.5,2.5,4,4\n3,-1,2.5,2.5,4,4\n", {1: {1: (0, 1, 4, 5)}, 2: {1: (1, 1, 5, 5)}}),
        ("a.txt", "\n", {}),
        ("a.csv", "frame,id,x,y\n3,,1,2\n3, ,90,2\n", {3: {1: (1, 2), 2: (90, 2)}}),
        (
            "a.csv",
            "id,state,frame,x,y\n1,confirmed,3,1,2\n2,static,3,5,6\n3,tentative,3,7,8\n",
            {3: {1: (1, 2)}},
        ),
    ],
    ids=[
        "boxes",
        "Windows",
        "points with ids",
        "boxes with short names",
        "no label",
        "MOT",
        "MOT without ids",
        "empty MOT",
        "empty ids",
        "tracks.csv",
    ],
)
def test_labels_are_read(tmp_path, name, text, frames):
    (tmp_path / name).write_text(text, "utf-8", newline="")
    assert read_labels(tmp_path / name).frames == frames


def test_coco_with_frames_without_objects(tmp_path):
    images = [{"id": n, "file_name": f"clip.mp4#{n:06d}"} for n in range(4)]
    annotations = [
        {"id": 1, "image_id": 1, "track_id": 5, "bbox": [10, 20, 4, 6]},
        {"id": 2, "image_id": "2", "track_id": 5, "keypoints": [12, 23, 2], "num_keypoints": 1},
        {"id": 3, "image_id": 3, "iscrowd": 1, "bbox": [0, 0, 9, 9]},
    ]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    labels = read_labels(path)
    assert labels.frames == {1: {1: (10, 20, 14, 26)}, 2: {1: (12, 23)}}
    assert labels.labelled == {0, 1, 2, 3}
    found = evaluate_clip(tracks_of(), labels)
    assert found.counts["frames"] == 4
    assert "96 frames without labels are left out" in found.notes


TRACKS = json.dumps(
    {
        "tracks": [{"id": 1, "state": "confirmed", "points": [], "confirmed_at": "AT"}],
        "frames": 9,
        "source": "",
        "model": "",
    }
).replace('"AT"', "AT")


@pytest.mark.parametrize("keypoints", [[], None])
def test_a_box_beside_empty_keypoints_is_a_box(tmp_path, keypoints):
    one = {"image_id": 1, "track_id": 1, "keypoints": keypoints, "bbox": [10, 20, 5, 5]}
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": [{"id": 1, "frame": 0}], "annotations": [one]}))
    assert read_labels(path).frames == {0: {1: (10, 20, 15, 25)}}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "no column 'frame'"),
        ("a.csv", f"frame,x,y,note\n0,1,2,{'a' * 140_000}\n", "not CSV"),
        ("a.txt", f"1,1,1,1,1,1\n1,1,1,1,1,1,1,{'a' * 140_000}\n", "not CSV"),
        ("a.csv", f"frame,x,y\n1{'0' * 300},1,2\n", "1e[+]300 is no number of a frame"),
        ("a.json", '{"images": [], "annotations": 5}', "neither COCO"),
        ("a.json", '{"images": [], "annotations": [{"image_id": [1]}]}', "no image of its 'image_id'"),
        ("a.json", f'{{"images": [{{"id": 1, "frame": 1{"0" * 400}}}], "annotations": []}}', "frame must be"),
        (
            "a.json",
            f'{{"images": [{{"id": 1, "file_name": "1{"0" * 5000}.png"}}], "annotations": []}}',
            "is no number of a frame",
        ),
        (
            "a.json",
            '{"images": [{"id": 1, "frame": 0}], "annotations": [{"image_id": 1, "bbox": [1, 2, 3, 1'
            + "0" * 400
            + "]}]}",
            "value 4 must be a number",
        ),
        ("a.json", TRACKS.replace("AT", '"x"'), "no tracks.json .* float: 'x'"),
        ("a.json", TRACKS.replace("AT", "1e300"), "a number that no track has"),
        ("a.csv", "frame,x\n0,1\n", "no column 'y'"),
        ("a.csv", "frame,x,y,width\n0,1,2,3\n", "no column 'height'"),
        ("a.csv", "frame,x,y\n0,1,here\n", "line 2: y must be a number, got 'here'"),
        ("a.csv", "frame,x,y\n0,1,nan\n", "line 2: y must be a number"),
        ("a.csv", "frame,x,y\n0.5,1,2\n", "0.5 is no number of a frame"),
        ("a.csv", "frame,x,y\n-1,1,2\n", "-1 is no number of a frame"),
        ("a.csv", "frame,x,y,width,height\n0,1,2,-3,4\n", "a box of -3x4"),
        ("a.csv", "frame,id,x,y\n0,a,1,2\n0,a,3,4\n", "frame 0 has the object a twice"),
        ("a.txt", "1,1,1,1,1,1\n1,2,3\n", "line 2: MOTChallenge text has at least 6 values"),
        ("a.json", "{", "not a JSON file"),
        ("a.json", "[]", "neither COCO"),
        ("a.json", '{"images": [{"id": 1, "file_name": "x.png"}], "annotations": []}', "tells the frame"),
        ("a.json", '{"images": [], "annotations": [{"image_id": 3}]}', "no image of its 'image_id'"),
        ("a.json", '{"images": [{"id": 1, "frame": 0}], "annotations": [{"image_id": 1}]}', "'bbox'"),
        (
            "a.json",
            '{"images": [{"id": 1, "frame": 0}, {"id": 2, "frame": 0}], "annotations": []}',
            "two images have one frame",
        ),
    ],
)
def test_labels_that_are_wrong(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read_labels(tmp_path / name)
    assert name in str(error.value)
    assert len(str(error.value)) < 400


def test_boxes_without_ids_are_joined():
    near = {n: [(10.0 + n, 20.0), (10.0 + n, 80.0)] for n in range(5)}
    near[2].reverse()
    joined = join(near)
    assert [joined[n][1] for n in range(5)] == [(10.0 + n, 20.0) for n in range(5)]
    far = join({0: [(0.0, 0.0)], 1: [(90.0, 0.0)], 40: [(90.0, 0.0)]})
    assert [list(frame) for frame in far.values()] == [[1], [2], [3]]  # too far, too late


def write_tracks(folder: Path, name: str, *tracks: Track) -> Path:
    one = tracks_of(*tracks)
    one.source = f"{name}.mp4"
    one.write(folder / name)
    return folder / name


def write_labels(path: Path, x: float = 0.0) -> Path:
    path.write_text("frame,x,y,width,height\n" + "".join(f"{n},{x},20,4,4\n" for n in range(100)))
    return path


def test_a_folder_of_clips_and_a_folder_of_labels(tmp_path):
    write_tracks(tmp_path / "runs", "a", line(1, range(100)))
    write_tracks(tmp_path / "runs", "b", line(1, range(50)))
    (tmp_path / "truth").mkdir()
    write_labels(tmp_path / "truth" / "a.csv")
    write_labels(tmp_path / "truth" / "b_LABELS.csv")
    found = dimpoint.evaluate_tracks(tmp_path / "runs", tmp_path / "truth")
    assert [clip.name for clip in found.clips] == ["a", "b"]
    assert found.numbers["covered"].value == 0.75
    text = evaluate_tracks(
        tmp_path / "runs" / "b" / "tracks.txt", tmp_path / "truth" / "b_LABELS.csv", fps=10
    )
    assert text.numbers["covered"].value == 0.5


def test_clips_whose_sources_are_called_alike_have_the_names_of_their_folders(tmp_path):
    """cam1/video.mp4 and cam2/video.mp4: each with its own labels, though video.csv is there, too."""
    for camera, frames in (("cam1", 100), ("cam2", 50)):
        tracks = tracks_of(line(1, range(frames)))
        tracks.source = f"{camera}/video.mp4"
        tracks.write(tmp_path / "runs" / camera)
        text = "frame,id,x,y\n" + "".join(f"{n},1,0,20\n" for n in range(frames))
        (tmp_path / f"{camera}.csv").write_text(text)
    (tmp_path / "video.csv").write_text("frame,id,x,y\n0,1,90,90\n")
    found = evaluate_tracks(tmp_path / "runs", tmp_path)
    assert [clip.name for clip in found.clips] == ["cam1", "cam2"]
    assert (found.counts["truth_points"], found.numbers["covered"].value) == (150, 1)


@pytest.mark.parametrize("name", ["tracks.json", "tracks.csv", "tracks.txt"])
def test_every_file_of_a_run_has_the_same_tracks(tmp_path, name):
    """The one spot that rests is no confirmed track in any of them."""
    spot = Track(2, "static", line(2, range(100), 90).points, reason="rests")
    tracks_of(line(1, range(100)), spot).write(tmp_path / "t")
    write_labels(tmp_path / "l.csv")
    found = evaluate_tracks(tmp_path / "t" / name, tmp_path / "l.csv", fps=10)
    assert (found.counts["tracks"], found.counts["false_tracks"]) == (1, 0)


def test_a_run_that_confirmed_nothing_is_evaluated_from_its_text(tmp_path):
    tracks_of().write(tmp_path / "t")
    write_labels(tmp_path / "l.csv")
    found = evaluate_tracks(tmp_path / "t" / "tracks.txt", tmp_path / "l.csv", fps=10)
    assert (found.numbers["covered"].value, found.counts["tracks"]) == (0, 0)


@pytest.mark.parametrize(("first", "shifted"), [(0, False), (1, True), (7, True)])
def test_pictures_whose_names_do_not_count_from_0(tmp_path, first, shifted):
    """`dimpoint track` numbers the pictures of a folder from 0, whatever their names say."""
    moving = [Point(n, n / 10, 3.0 * n, 20, 0, 0, 0.9, True) for n in range(20)]
    tracks_of(Track(1, "confirmed", moving), frames=20).write(tmp_path / "t")
    images = [{"id": n, "file_name": f"{first + n:04d}.png"} for n in range(20)]
    boxes = [{"image_id": n, "track_id": 1, "bbox": [3 * n, 20, 0, 0]} for n in range(20)]
    (tmp_path / "l.json").write_text(json.dumps({"images": images, "annotations": boxes}))
    found = evaluate_tracks(tmp_path / "t", tmp_path / "l.json")
    assert (found.numbers["covered"].value, found.numbers["motp"].value) == (1, 0)
    assert any(f"names its first picture {first}" in note for note in found.notes) == shifted


def test_pictures_of_a_part_of_a_clip_keep_their_numbers(tmp_path):
    tracks_of(line(1, range(100))).write(tmp_path / "t")
    images = [{"id": n, "file_name": f"{n:04d}.png"} for n in range(10, 30)]
    boxes = [{"image_id": n, "track_id": 1, "bbox": [0, 20, 0, 0]} for n in range(10, 30)]
    (tmp_path / "l.json").write_text(json.dumps({"images": images, "annotations": boxes}))
    found = evaluate_tracks(tmp_path / "t", tmp_path / "l.json")
    assert (found.counts["frames"], found.numbers["mota"].value) == (20, 1)


@pytest.mark.parametrize(
    ("tracks", "truth", "error", "message"),
    [
        (["runs/a", "runs/b"], ["truth/a.csv"], ConfigError, "2 clips with tracks and 1 file of labels"),
        (["runs/c"], ["truth"], DataError, "no labels in .*looked for c.csv, c_LABELS.csv"),
        (["truth"], ["truth"], DataError, "has no tracks.json"),
        (["runs/none.json"], ["truth/a.csv"], DataError, "none.json: cannot be read"),
        (["runs/a"], ["truth/none.csv"], DataError, "none.csv: cannot be read"),
    ],
)
def test_what_does_not_belong_together(tmp_path, monkeypatch, tracks, truth, error, message):
    monkeypatch.chdir(tmp_path)
    for name in "abc":
        write_tracks(Path("runs"), name, line(1, range(10)))
    Path("truth").mkdir()
    write_labels(Path("truth/a.csv"))
    with pytest.raises(error, match=message):
        evaluate_tracks(tracks, truth)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run `dimpoint evaluate ...` in a folder with the tracks `t` and the labels `l.csv`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    write_tracks(tmp_path, "t", line(1, range(80), confirmed=0.2))
    write_labels(tmp_path / "l.csv")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dimpoint", "evaluate", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return run


def test_the_command_prints_a_table_and_writes_all_files(command, tmp_path):
    files = ("--json", "r.json", "--csv", "r.csv", "--latex", "r.tex", "--report", "page")
    code, out, err = command("--tracks", "t", "--truth", "l.csv", *files)
    assert (code, err) == (0, "")
    assert "labelled points covered" in out
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["numbers"]["covered"]["value"] == 0.8
    assert record["clips"][0]["times_to_confirmation"] == [0.2]
    assert (tmp_path / "r.csv").read_text().startswith("clip,")
    lines = (tmp_path / "r.tex").read_text().splitlines()
    assert lines[:2] == ["% tracks", r"\begin{tabular}{lr}"]
    assert r"labelled points covered & 0.800 \\" in lines
    page = (tmp_path / "page" / "index.html").read_text()
    assert "Evaluation of tracks" in page
    assert "http" not in page


def test_no_spreadsheet_takes_a_clip_of_the_csv_for_a_formula(command, tmp_path):
    write_tracks(tmp_path, "=cmd", line(1, range(80)))
    command("--tracks", "=cmd", "--truth", "l.csv", "--csv", "r.csv")
    assert [row["clip"] for row in csv.DictReader((tmp_path / "r.csv").read_text().splitlines())] == [
        "'=cmd",
        "all",
    ]


def test_json_to_standard_output_is_alone_there(command):
    _, out, _ = command("--tracks", "t", "--truth", "l.csv", "--json", "-")
    assert json.loads(out)["counts"]["objects"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give labelled frames (--data DIR), or tracks"),
        (("--tracks", "t"), "--tracks needs --truth"),
        (("--data", "x", "--truth", "l.csv"), "need --tracks"),
        (("--tracks", "t", "--truth", "l.csv", "--distance", "0"), "distance must be above 0"),
        (("--tracks", "t", "--truth", "l.csv", "--distance", "nan"), "distance must be above 0"),
        (("--tracks", "t", "--truth", "l.csv", "--fps", "0"), "fps must be above 0"),
        (("--tracks", "t", "--truth", "l.csv", "--model", "m"), "need --data"),
        (("--tracks", "none", "--truth", "l.csv"), "none"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(command, arguments, message):
    code, _, err = command(*arguments)
    assert code == 2
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
