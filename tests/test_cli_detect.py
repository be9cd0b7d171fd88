"""`dimpoint detect` as a user meets it: files, summary, exit codes, and what goes wrong."""

from __future__ import annotations

import csv
import ctypes
import json
import os
import resource
import shutil
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from cli_runs import Result, run_command
from dimpoint.cli import build_app
from dimpoint.datasets.coco import read_points
from dimpoint.errors import DataError
from dimpoint.inference.backends import OnnxBackend
from dimpoint.inference.detection_files import read_detections
from dimpoint.inference.results import ResultsFolder
from dimpoint.sources.readers import open_pages
from tiny_models import spots, write_model


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Run `dimpoint detect ... --model blob.onnx` in a folder of its own, as the shell would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    write_model(tmp_path / "blob.onnx")

    def command(*arguments: str, model: str = "blob.onnx") -> Result:
        return run_command(monkeypatch, capsys, "detect", *arguments, "--model", model, "--threads", "1")

    return command


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Three frames with 2, 0 and 1 targets."""
    folder = tmp_path / "frames"
    write_frame(folder / "a.png", [(20, 30), (50, 12)])
    write_frame(folder / "b.png", [])
    write_frame(folder / "c.png", [(40, 40)])
    return folder


def write_frame(path: Path, targets: list[tuple[float, float]], dtype: str = "uint8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    full = np.iinfo(dtype).max
    cv2.imwrite(str(path), (spots((60, 70), targets) * full).round().astype(dtype))


def counts(results: Path) -> dict[str, int]:
    return {Path(item.file).name: len(item) for item in read_detections(results / "detections.json")}


# What it writes


def test_a_folder_gives_detections_json_and_a_summary(run: Callable[..., Result], frames: Path) -> None:
    result = run("frames", "--out", "results")
    assert result.code == 0
    assert counts(Path("results")) == {"a.png": 2, "b.png": 0, "c.png": 1}
    content = json.loads(Path("results/detections.json").read_text())
    assert content["model"] == "blob"
    entry = content["images"][2]
    assert (entry["file"], entry["width"], entry["height"]) == ("frames/c.png", 70, 60)
    assert (entry["detections"][0]["x"], entry["detections"][0]["y"]) == pytest.approx((40, 40), abs=0.2)
    assert [file.name for file in Path("results").iterdir()] == ["detections.json"]
    assert "results/detections.json" in result.out
    numbers = [line.split("│")[1:4] for line in result.out.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row] for row in numbers] == [["3", "3", "1"]]


def test_all_formats_hold_the_same_targets(run: Callable[..., Result], frames: Path) -> None:
    assert run("frames", "--out", "results", "--format", "csv,coco").code == 0
    assert counts(Path("results")) == {"a.png": 2, "b.png": 0, "c.png": 1}
    rows = list(csv.DictReader(Path("results/detections.csv").read_text().splitlines()))
    assert [row["file"] for row in rows] == ["frames/a.png", "frames/a.png", "frames/c.png"]
    images = read_points(Path("results/detections.coco.json"))
    assert [len(image.points) for image in images] == [2, 0, 1]
    assert images[2].points[0, 0] == pytest.approx(float(rows[2]["x"]))


def test_sources_are_files_patterns_and_sub_folders(run: Callable[..., Result], frames: Path) -> None:
    write_frame(frames / "deep" / "d.png", [(30, 30)], "uint16")
    assert run("frames/a.png", "frames/[bc].png", "--out", "results").code == 0
    assert counts(Path("results")) == {"a.png": 2, "b.png": 0, "c.png": 1}
    assert run("frames", "--recursive", "--out", "results").code == 0
    assert counts(Path("results")) == {"a.png": 2, "b.png": 0, "c.png": 1, "d.png": 1}


def test_threshold_can_be_set(run: Callable[..., Result], frames: Path) -> None:
    assert run("frames", "--out", "results", "--threshold", "1").code == 0
    assert counts(Path("results")) == {"a.png": 0, "b.png": 0, "c.png": 0}


def test_pixels_of_no_data_are_no_dark_spot_and_leave_contrast_to_pictures(
    run: Callable[..., Result],
) -> None:
    counts = (6000 + 300 * spots((60, 70), [(20, 30), (50, 12)])).astype(np.float32)
    counts[44:46, 40:60] = -9999
    tifffile.imwrite("a.tif", counts, extratags=[(42113, "s", 0, "-9999", True)])
    shown = run("a.tif", "--out", "results", "--overlay")
    assert shown.code == 0
    assert "black-hot" not in shown.err
    grey = cv2.imread("results/overlays/a.png")[..., 0]
    assert np.median(grey) < 40  # of the background


def test_overlays_of_frames_with_one_name_do_not_replace_each_other(run: Callable[..., Result]) -> None:
    """`x/y_a` and `x_y/a` would become one word; a page of a TIFF and its neighbour differ by number."""
    for file in ("x/y/a.png", "x_y/a.png", "x/y/a.bmp"):
        write_frame(Path(file), [(30, 30)])
    pages = [np.zeros((40, 40), np.uint8)] * 2
    cv2.imwritemulti("stack.tif", pages)
    result = run("x/y/a.png", "x_y/a.png", "x/y/a.bmp", "stack.tif", "--out", "results", "--overlay")
    assert result.code == 0
    names = sorted(file.name for file in Path("results/overlays").iterdir())
    assert names == [
        "stack.tif_000000.png",
        "stack.tif_000001.png",
        "x_y_a-2.png",
        "x_y_a-3.png",
        "x_y_a.png",
    ]
    assert cv2.imread("results/overlays/x_y_a.png").shape == (480, 560, 3)
    assert "results/overlays" in result.out


# What cannot be read


def test_it_goes_on_past_unreadable_files_and_lists_them(run: Callable[..., Result], frames: Path) -> None:
    (frames / "b.png").write_text("this is no picture")
    whole = (frames / "c.png").read_bytes()
    (frames / "d.png").write_bytes(whole[: len(whole) // 2])
    np.save(frames / "e.npy", np.full((5, 5), np.nan, np.float32))
    result = run("frames", "missing.png", "--out", "results")
    assert result.code == 1
    assert counts(Path("results")) == {"a.png": 2, "c.png": 1}
    listed = [line for line in result.err.splitlines() if line.startswith("not read: ")]
    assert len(listed) == 4
    for name, line in zip(("missing.png", "b.png", "d.png", "e.npy"), listed, strict=True):
        assert name in line


def test_a_long_list_of_unreadable_files_is_cut(run: Callable[..., Result], frames: Path) -> None:
    for number in range(30):
        (frames / f"bad{number}.png").write_text("")
    result = run("frames", "--out", "results")
    assert result.code == 1
    assert result.err.count("not read: ") == 21
    assert "not read: 10 more files" in result.err


@pytest.mark.parametrize(
    ("make", "source", "message"),
    [
        (lambda: Path("empty").mkdir(), "empty", "no frames in the folder empty"),
        (lambda: None, "nowhere", "nowhere: no such file or folder"),
        (lambda: None, "none*.png", "nothing matches"),
        (lambda: Path("bad.png").write_text("no picture"), "bad.png", "bad.png"),
    ],
)
def test_nothing_to_read_is_an_error_and_leaves_nothing(
    make: Callable[[], object], source: str, message: str, run: Callable[..., Result]
) -> None:
    make()
    result = run(source, "--out", "results")
    assert result.code == 2
    assert result.err.startswith("error: no frame could be read: ")
    assert message in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "json,xml"], "unknown format 'xml'; known: json, csv, coco"),
        (["--threshold", "2"], "threshold must lie in 0..1"),
        (["--device", "abacus"], "unknown device 'abacus'; choose from auto, cpu, cuda, tensorrt"),
        (["--device", "coreml"], "pip install onnxruntime"),
        (["--device", "directml"], "pip install onnxruntime-directml"),
    ],
)
def test_wrong_options_are_told_before_any_work(
    arguments: list[str], message: str, run: Callable[..., Result], frames: Path
) -> None:
    result = run("frames", "--out", "results", *arguments)
    assert result.code == 2
    assert message in result.err
    assert not Path("results").exists()


@pytest.mark.parametrize("name", ["found.csv", "found.json", "found.GeoJSON"])
def test_out_names_a_folder(name: str, run: Callable[..., Result], frames: Path) -> None:
    result = run("frames", "--out", name)
    assert result.code == 2
    form = name.lower().partition(".")[2]
    said = f"give a folder, such as found; --format {form} writes detections.{form} there"
    assert said in " ".join(result.err.split())
    assert not Path(name).exists()
    Path(name).mkdir()  # by another version, or on purpose
    assert run("frames", "--out", name).code == 0


def test_a_file_that_is_no_model_is_told(run: Callable[..., Result], frames: Path) -> None:
    Path("text.onnx").write_text("hello")
    result = run("frames", "--out", "results", model="text.onnx")
    assert result.code == 2
    assert result.err.startswith("error: text.onnx: ")


# Where results cannot be written


@pytest.mark.parametrize("out", ["blob.onnx/results", "/proc/self/results"])
def test_a_folder_that_cannot_be_made_stops_it_before_any_work(
    out: str, run: Callable[..., Result], frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnnxBackend, "run", lambda *_: pytest.fail("work was done"))
    result = run("frames", "--out", out)
    assert result.code == 2
    assert result.err.startswith(f"error: {out}/detections.json: cannot be written: ")


def test_a_full_disk_is_told_and_keeps_what_fits(run: Callable[..., Result], tmp_path: Path) -> None:
    for number in range(40):
        write_frame(tmp_path / "frames" / f"{number}.png", [(30, 30)])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        result = run("frames", "--out", "results")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert result.code == 2
    kept = counts(Path("results"))
    assert 2 < len(kept) < 40
    assert f"holds the first {len(kept)} frames" in result.err


# Ctrl-C


@pytest.fixture
def signal_in_frame(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Send a signal, that of Ctrl-C by default, while the network works on a frame, counted from 1."""
    work = OnnxBackend.run
    calls: Iterator[int] = iter(range(1, 1000))

    def arrange(number: int, kind: signal.Signals = signal.SIGINT) -> None:
        def interrupted(self: OnnxBackend, batch: np.ndarray) -> np.ndarray:
            if next(calls) == number:
                signal.raise_signal(kind)
            return work(self, batch)

        monkeypatch.setattr(OnnxBackend, "run", interrupted)

    # A background job of a shell inherits that Ctrl-C is ignored.
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for kind in before:
        signal.signal(kind, signal.default_int_handler if kind == signal.SIGINT else signal.SIG_DFL)
    yield arrange
    for kind, handler in before.items():
        signal.signal(kind, handler)


UNFINISHED = "detections.unfinished.jsonl"


@pytest.mark.parametrize(
    ("kind", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_keeps_what_is_done_and_the_same_command_goes_on(
    kind: signal.Signals,
    code: int,
    run: Callable[..., Result],
    frames: Path,
    signal_in_frame: Callable[..., None],
) -> None:
    command = ("frames", "--format", "csv", "--overlay")
    assert run(*command, "--out", "whole").code == 0
    signal_in_frame(3, kind)
    result = run(*command, "--out", "results")
    assert result.code == code
    assert counts(Path("results")) == {"a.png": 2, "b.png": 0}
    assert len(Path("results/detections.csv").read_text().splitlines()) == 3
    assert "stopped after 2 frames" in result.err
    with pytest.raises(DataError, match="results: this run is not finished"):
        read_detections("results")
    assert len(read_detections("results/detections.json")) == 2  # asked for by its name
    again = run(*command, "--out", "results")
    assert again.code == 0
    assert "continuing the unfinished run: 2 frames are done" in again.err
    files = {file.relative_to("whole") for file in Path("whole").rglob("*.*")}
    assert {file.relative_to("results") for file in Path("results").rglob("*.*")} == files
    for file in files:
        assert (Path("results") / file).read_bytes() == (Path("whole") / file).read_bytes()


def test_ctrl_c_in_the_first_frame_leaves_nothing(
    run: Callable[..., Result], frames: Path, signal_in_frame: Callable[..., None]
) -> None:
    signal_in_frame(1)
    assert run("frames", "--out", "results").code == 130
    assert not Path("results").exists()


def test_a_file_that_is_named_twice_is_read_once(
    run: Callable[..., Result], frames: Path, signal_in_frame: Callable[..., None]
) -> None:
    command = ("frames/a.png", "frames/a.png", "frames", "--out", "results")
    signal_in_frame(3)
    assert run(*command).code == 130
    result = run(*command)
    assert result.code == 0
    assert "note: 2 files are named more than once, and read once" in result.err
    names = [item.file for item in read_detections("results")]
    assert names == ["frames/a.png", "frames/b.png", "frames/c.png"]


def test_a_file_is_read_once_however_its_folder_is_named(run: Callable[..., Result], frames: Path) -> None:
    """A link to a frame is a frame of its own."""
    Path("other").symlink_to("frames")
    (frames / "d.png").symlink_to("a.png")
    sources = ("frames", frames.absolute(), "frames/../frames", "other/c.png")
    result = run(*map(str, sources), "--out", "results")
    assert result.code == 0
    assert "note: 9 files are named more than once, and read once" in result.err
    names = [item.file for item in read_detections("results")]
    assert names == ["frames/a.png", "frames/b.png", "frames/c.png", "frames/d.png"]


def test_frames_beside_their_results_are_read_and_overlays_are_not(
    run: Callable[..., Result], frames: Path
) -> None:
    for options in (["--overlay", "--recursive"], ["--recursive"]):
        assert run("frames", "--out", "frames", *options).code == 0
        assert counts(frames) == {"a.png": 2, "b.png": 0, "c.png": 1}
    assert run("frames", "--out", "frames", "--overlay").code == 0
    for pattern in ("frames/*.png", "frames/**/*.png"):
        assert run(pattern, "--out", "frames").code == 0
        assert counts(frames) == {"a.png": 2, "b.png": 0, "c.png": 1}


def test_more_detections_than_labels_of_a_frame_may_be(
    run: Callable[..., Result], frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIMPOINT_MAX_POINTS_PER_FRAME", "1")
    assert run("frames", "--out", "results", "--format", "csv,coco,geojson").code == 0
    assert counts(Path("results")) == {"a.png": 2, "b.png": 0, "c.png": 1}
    assert len(Path("results/detections.csv").read_text().splitlines()) == 4
    assert len(json.loads(Path("results/detections.coco.json").read_text())["annotations"]) == 3
    content = json.loads(Path("results/detections.json").read_text())
    content["images"][0].update(width=1, height=1)
    Path("results/detections.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="image 1: detections: 2 is more than the limit of 1"):
        read_detections("results")


# An unfinished run, an earlier run


def shorten(results: Path, frames: int, rest: str = "") -> None:
    """What kill -9 leaves: the journal after some frames, and a part of the next line."""
    journal = results / UNFINISHED
    lines = journal.read_text().splitlines(keepends=True)
    assert len(lines) > frames + 1 > 0
    journal.write_text("".join(lines[: frames + 1]) + rest)
    (results / "detections.json").unlink()


@pytest.fixture
def keep_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs end without removing their journal."""
    finish = ResultsFolder.finish

    def unfinished(self: ResultsFolder, model: str, formats: set[str], *, whole: bool) -> bool:
        return finish(self, model, formats, whole=False)

    monkeypatch.setattr(ResultsFolder, "finish", unfinished)


@pytest.mark.usefixtures("keep_journal")
@pytest.mark.parametrize("done", [0, 1, 2, 4, 5, None])
def test_a_killed_run_goes_on_where_it_was(
    done: int | None, run: Callable[..., Result], frames: Path
) -> None:
    """In a stack, after an unreadable file, with a half-written line, and before the first line (None)."""
    (frames / "b.png").write_text("no picture")
    cv2.imwritemulti("frames/stack.tif", [spots_of(30), spots_of(20), spots_of(25)])
    assert run("frames", "--out", "results").code == 1
    whole = Path("results/detections.json").read_bytes()
    shorten(Path("results"), done or 0, '{"input": ["fra')
    if done is None:
        Path("results", UNFINISHED).write_text('{"sett')
    again = run("frames", "--out", "results", "--resume")
    assert again.code == 1
    assert again.err.count("not read: frames/b.png") == 1
    assert Path("results/detections.json").read_bytes() == whole


def spots_of(x: int) -> np.ndarray:
    return (spots((60, 70), [(x, 30)]) * 255).astype(np.uint8)


def change_frame() -> None:
    write_frame(Path("frames/a.png"), [])


DIFFERENCES = [
    # what is different in the second call, and what is said
    (lambda: None, ["--threshold", "0.4"], "threshold is 0.5 there and 0.4 here"),
    (lambda: None, ["--overlay"], "--overlay is False there and True here"),
    (change_frame, [], "frames/a.png has changed since"),
    (lambda: Path("frames/a.png").unlink(), [], "its file 1, frames/a.png, is now frames/b.png"),
]


@pytest.mark.usefixtures("keep_journal")
@pytest.mark.parametrize(("change", "arguments", "message"), DIFFERENCES)
def test_an_unfinished_run_is_not_mixed_with_another(
    change: Callable[[], object],
    arguments: list[str],
    message: str,
    run: Callable[..., Result],
    frames: Path,
) -> None:
    assert run("frames", "--out", "results", "--threshold", "0.5").code == 0
    before = Path("results", UNFINISHED).read_bytes()
    change()
    arguments = arguments if "--threshold" in arguments else ["--threshold", "0.5", *arguments]
    result = run("frames", "--out", "results", *arguments)
    assert result.code == 2
    assert message in result.err
    assert "--overwrite" in result.err
    assert Path("results", UNFINISHED).read_bytes() == before
    assert run("frames", "--out", "results", "--overwrite", *arguments).code == 0


def test_resume_without_an_unfinished_run_is_told(run: Callable[..., Result], frames: Path) -> None:
    result = run("frames", "--out", "results", "--resume")
    assert (result.code, "no unfinished run" in result.err) == (2, True)


def test_an_earlier_run_is_replaced_and_the_users_files_stay(
    run: Callable[..., Result], frames: Path
) -> None:
    assert run("frames", "--out", "results", "--overlay", "--format", "csv,coco").code == 0
    Path("results/notes.txt").write_text("mine")
    Path("results/overlays/mine.png").write_text("mine")
    result = run("frames/a.png", "--out", "results", "--overlay")
    assert result.code == 0
    assert "the results of an earlier run were replaced" in result.out
    left = {str(file.relative_to("results")) for file in Path("results").rglob("*.*")}
    assert left == {
        "detections.json",
        "notes.txt",
        "overlays.csv",
        "overlays/frames_a.png",
        "overlays/mine.png",
    }


# Hostile names and files


def test_names_that_are_hostile_reach_the_terminal_escaped(run: Callable[..., Result], frames: Path) -> None:
    name = "a\x1b]0;owned\x07\nerror: forged\u202e.png"
    (frames / name).write_text("no picture")
    result = run("frames", "--out", "results", "--overlay")
    assert result.code == 1
    shown = result.out + result.err
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
    assert not any(line.startswith("error: forged") for line in shown.splitlines())
    assert "\\x1b]0;owned\\x07\\nerror: forged" in shown


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_utf8_are_kept(run: Callable[..., Result], frames: Path) -> None:
    name = os.fsdecode(b"frames/\xb2\xe2\xca\xd4.png")  # GBK
    Path("frames/a.png").rename(name)
    assert run("frames", "--out", "results", "--overlay", "--format", "csv,coco").code == 0
    files = [item.file for item in read_detections("results/detections.json")]
    assert name in files
    Path("results/detections.json").read_text("utf-8")
    Path("results/detections.csv").read_text("utf-8")
    assert name in {image.file_name for image in read_points(Path("results/detections.coco.json"))}


def test_a_very_long_name_has_a_short_overlay(run: Callable[..., Result], frames: Path) -> None:
    Path("frames/a.png").rename(f"frames/{'n' * 250}.png")
    Path("frames/b.png").rename(f"frames/{'m' * 5}{'n' * 245}.png")
    assert run("frames", "--out", "results", "--overlay").code == 0
    names = [file.name for file in Path("results/overlays").iterdir()]
    assert len(names) == 3
    assert max(map(len, names)) < 60


def test_a_decoder_that_fails_or_hangs_does_not_stop_the_run(
    run: Callable[..., Result], frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hostile(path: Path, options: object) -> object:
        if path.name == "a.png":
            raise struct.error("unpack requires a buffer")
        while path.name == "b.png":
            pass
        if path.name == "bb.png":  # a decoder that hangs in compiled code, where no exception arrives
            ctypes.CDLL(None).sleep(600)
        return open_pages(path)

    monkeypatch.setenv("DIMPOINT_MAX_READ_SECONDS", "1")
    monkeypatch.setattr("dimpoint.sources.frames.open_pages", hostile)
    shutil.copy("frames/b.png", "frames/bb.png")
    os.mkfifo("frames/d.png")
    result = run("frames", "--out", "results")
    assert result.code == 1
    assert counts(Path("results")) == {"c.png": 1}
    assert "frames/a.png: cannot be read (error: unpack requires a buffer)" in result.err
    assert "frames/b.png: cannot be read (reading took more than 1 s)" in result.err
    assert "frames/bb.png: cannot be read (reading took more than 1 s)" in result.err
    assert "frames/d.png: a pipe" in result.err


def test_how_files_are_read_reaches_the_readers(tmp_path):
    counts = np.full((40, 50), 900, "<u2")
    (tmp_path / "x.raw").write_bytes(counts.tobytes() * 2)
    command = ["detect", str(tmp_path / "x.raw"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(build_app(), command)
    assert "--raw-shape HEIGHTxWIDTH" in str(result.exception)
    result = CliRunner().invoke(build_app(), [*command, "--raw-shape", "40x50", "--raw-type", "u16"])
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [(image["width"], image["height"]) for image in content["images"]] == [(50, 40)] * 2
