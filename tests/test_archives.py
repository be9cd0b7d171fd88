"""Long runs: results in parts, going on with a stopped run, shards, and reading all of it back."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import dimpoint
from cli_runs import Result, run_command
from data_sets import mask, save
from dimpoint.errors import DataError
from dimpoint.inference import parts
from dimpoint.inference.backends import OnnxBackend
from dimpoint.inference.detection_files import iterate_detections, read_detections
from dimpoint.inference.detections import Detections
from dimpoint.inference.parts import UNFINISHED
from dimpoint.sources.georeference import Georeference
from tiny_models import spots, write_model

KINDS = [
    "jsonl",
    pytest.param(
        "parquet", marks=pytest.mark.skipif("not __import__('importlib').util.find_spec('pyarrow')")
    ),
]
FRAMES = 7


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Run `dimpoint detect frames ...` in a folder of its own, two frames a part."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parts, "_FRAMES", 2)
    write_model(tmp_path / "blob.onnx")
    for number in range(FRAMES):
        write_frame(number, [(10 + 5 * number, 30)] * (number != 2))

    def command(*arguments: str, model: str = "blob.onnx", source: str = "frames") -> Result:
        fixed = ["--model", model, "--threads", "1"]
        return run_command(monkeypatch, capsys, "detect", source, *arguments, *fixed)

    return command


def write_frame(number: int, targets: list[tuple[float, float]]) -> None:
    Path("frames").mkdir(exist_ok=True)
    cv2.imwrite(f"frames/{number}.png", (spots((60, 70), targets) * 255).astype(np.uint8))


def names(folder: str) -> list[str]:
    return sorted(file.name for file in Path(folder).iterdir())


@pytest.mark.parametrize("kind", KINDS)
class TestParts:
    def test_parts_hold_what_json_holds(self, kind: str, run: Callable[..., Result]) -> None:
        assert run("--out", "whole").code == 0
        assert run("--out", f"found.{kind}").code == 0  # the suffix chooses the format
        assert read_detections(f"found.{kind}") == read_detections("whole")
        assert names(f"found.{kind}") == ["manifest.json", *(f"part-00000{n}.{kind}" for n in range(4))]
        assert read_detections(f"found.{kind}/part-000001.{kind}")[0].file == "frames/2.png"
        manifest = json.loads(Path(f"found.{kind}/manifest.json").read_text())
        assert (manifest["frames"], manifest["targets"], manifest["unreadable"]) == (FRAMES, FRAMES - 1, 0)
        assert [part["frames"] for part in manifest["parts"]] == [2, 2, 2, 1]

    def test_an_unreadable_file_is_listed_and_not_fatal(self, kind: str, run: Callable[..., Result]) -> None:
        Path("frames/3.png").write_text("no picture")
        Path("frames/4.png").write_bytes(b"")
        result = run("--out", "found", "--format", kind)
        assert result.code == 1
        assert result.err.count("not read: ") == 2
        assert len(read_detections("found")) == FRAMES - 2
        assert json.loads(Path("found/manifest.json").read_text())["unreadable"] == 2

    def test_one_unreadable_file_among_a_thousand(
        self, kind: str, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(parts, "_FRAMES", 100)
        for number in range(FRAMES, 1000):
            os.link("frames/1.png", f"frames/{number}.png")
        Path("frames/1000.png").write_bytes(Path("frames/1.png").read_bytes()[:100])
        result = run("--out", "found", "--format", kind)
        assert result.code == 1
        (line,) = [line for line in result.err.splitlines() if line.startswith("not read: ")]
        assert "frames/1000.png" in line
        assert len(read_detections("found")) == 1000
        manifest = json.loads(Path("found/manifest.json").read_text())
        assert (manifest["frames"], manifest["unreadable"]) == (1000, 1)

    def test_nothing_but_unreadable_files_is_an_error(self, kind: str, run: Callable[..., Result]) -> None:
        for number in range(FRAMES):
            Path(f"frames/{number}.png").write_text("no picture")
        assert run("--out", "found", "--format", kind).code == 2
        assert not Path("found").exists()

    def test_a_stopped_run_goes_on_and_equals_a_whole_one(
        self, kind: str, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert run("--out", "whole").code == 0
        with monkeypatch.context() as patch:
            stop_in_frame(patch, 4)
            assert run("--out", "found", "--format", kind).code == 130
        assert names("found") == [f"part-000000.{kind}", f"part-000001.{kind}", UNFINISHED]
        with pytest.raises(DataError, match="not finished"):
            read_detections("found")
        Path(f"found/part-000002.{kind}").write_text("left by kill -9 before its line was written")
        again = run("--out", "found", "--format", kind, "--resume")
        assert again.code == 0
        assert "3 frames are done" in again.err
        assert read_detections("found") == read_detections("whole")

    def test_a_stack_goes_on_within_the_file(
        self, kind: str, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        layers = [(spots((60, 70), [(10 + 9 * n, 30)]) * 255).astype(np.uint8) for n in range(6)]
        cv2.imwritemulti("stack.tif", layers)
        assert run("--out", "whole", source="stack.tif").code == 0
        with monkeypatch.context() as patch:
            stop_in_frame(patch, 6)
            assert run("--out", "found", "--format", kind, source="stack.tif").code == 130
        assert run("--out", "found", "--format", kind, source="stack.tif").code == 0
        assert read_detections("found") == read_detections("whole")

    @pytest.mark.parametrize(
        ("change", "arguments", "message"),
        [
            (lambda: None, ["--threshold", "0.6"], "threshold is 0.5 there and 0.6 here"),
            (lambda: write_frame(1, []), ["--threshold", "0.5"], "frames/1.png has changed since"),
            (
                lambda: Path("frames/0.png").unlink(),
                ["--threshold", "0.5"],
                "its file 1, frames/0.png, is now",
            ),
            (
                lambda: write_model(Path("blob.onnx"), bias=0.01),
                ["--threshold", "0.5"],
                "holds an unfinished run with other settings: model",
            ),
        ],
        ids=["setting", "content", "file", "model"],
    )
    def test_a_resume_of_something_else_is_refused(
        self,
        change: Callable[[], object],
        arguments: list[str],
        message: str,
        kind: str,
        run: Callable[..., Result],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with monkeypatch.context() as patch:
            stop_in_frame(patch, 4)
            assert run("--out", "found", "--format", kind, "--threshold", "0.5").code == 130
        before = names("found")
        change()
        result = run("--out", "found", "--format", kind, *arguments)
        assert result.code == 2
        assert message in result.err
        assert names("found") == before
        assert run("--out", "found", "--format", kind, "--overwrite", *arguments).code == 0

    def test_a_full_disk_leaves_no_half_part(
        self,
        kind: str,
        run: Callable[..., Result],
        disk_of: Callable[[int], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(parts, "_FRAMES", 50)
        for number in range(200):
            write_frame(number, [(x, y) for x in (10, 30, 50) for y in (10, 30, 50)])
        sizes = []
        write = parts.write_part

        def growing(path: Path, rows: list[dict[str, object]]) -> None:
            if len(sizes) == 2:
                disk_of(500)
            write(path, rows)
            sizes.append(path.stat().st_size)

        monkeypatch.setattr(parts, "write_part", growing)
        result = run("--out", "found", "--format", kind)
        assert result.code == 2
        assert "the parts hold the first 100 frames" in result.err
        assert names("found") == [f"part-000000.{kind}", f"part-000001.{kind}", UNFINISHED]
        disk_of(-1)
        monkeypatch.setattr(parts, "write_part", write)
        assert run("--out", "found", "--format", kind).code == 0
        assert len(read_detections("found")) == 200

    def test_a_finished_run_is_not_replaced_by_accident(self, kind: str, run: Callable[..., Result]) -> None:
        assert run("--out", "found", "--format", kind).code == 0
        result = run("--out", "found", "--format", kind)
        assert (result.code, "--overwrite" in result.err) == (2, True)
        assert run("--out", "found", "--format", kind, "--overwrite").code == 0

    def test_shards_join_to_the_whole(self, kind: str, run: Callable[..., Result]) -> None:
        assert run("--out", "whole").code == 0
        for number in range(1, 10):  # more shards than files: some are empty
            result = run("--out", f"shards/{number}", "--format", kind, "--shard", f"{number}/9")
            assert result.code == 0, result.err
        assert read_detections("shards") == read_detections("whole")

    def test_a_shard_of_nothing_but_unreadable_files_joins(
        self, kind: str, run: Callable[..., Result]
    ) -> None:
        for number in range(3):
            Path(f"frames/{number}.png").write_text("no picture")
        first = run("--out", "shards/1", "--shard", "1/2", "--format", kind)
        assert (first.code, first.err.count("not read: frames/")) == (1, 3)
        assert run("--out", "shards/2", "--shard", "2/2", "--format", kind).code == 0
        assert len(read_detections("shards")) == FRAMES - 3

    def test_a_missing_shard_is_told(self, kind: str, run: Callable[..., Result]) -> None:
        for number in (1, 3):
            run("--out", f"shards/{number}", "--format", kind, "--shard", f"{number}/4")
        with pytest.raises(DataError, match="shards 2, 4 of 4 are missing"):
            read_detections("shards")

    def test_shards_of_different_runs_are_not_joined(self, kind: str, run: Callable[..., Result]) -> None:
        run("--out", "shards/1", "--format", kind, "--shard", "1/2")
        run("--out", "shards/2", "--format", kind, "--shard", "2/2", "--threshold", "0.6")
        with pytest.raises(DataError, match="threshold differs"):
            read_detections("shards")

    def test_evaluate_reads_parts_and_shards(self, kind: str, run: Callable[..., Result]) -> None:
        for number in range(FRAMES):
            target = [] if number == 2 else [(10 + 5 * number, 30)]
            save(Path(f"set/images/{number}.png"), cv2.imread(f"frames/{number}.png", cv2.IMREAD_UNCHANGED))
            save(Path(f"set/masks/{number}.png"), mask(*target, size=(60, 70)))
        run("--out", "whole")
        run("--out", "found", "--format", kind)
        for number in (1, 2):
            run("--out", f"shards/{number}", "--format", kind, "--shard", f"{number}/2")
        expected = dimpoint.evaluate("whole", "set").numbers
        assert dimpoint.evaluate("found", "set").numbers == expected
        assert dimpoint.evaluate("shards", "set").numbers == expected
        with pytest.raises(DataError, match="5 frames have no prediction"):
            dimpoint.evaluate(f"found/part-000000.{kind}", "set")
        Path("shards/1/manifest.json").unlink()
        with pytest.raises(DataError, match="shards 1 of 2 are missing"):
            dimpoint.evaluate("shards", "set")

    def test_a_part_with_fewer_frames_than_its_manifest_says_is_told(
        self, kind: str, run: Callable[..., Result]
    ) -> None:
        """A file that was cut at the end of a line, or has another part's content."""
        run("--out", "found", "--format", kind)
        one, other = (Path(f"found/part-00000{number}.{kind}") for number in (1, 3))
        one.write_bytes(other.read_bytes())
        with pytest.raises(DataError, match=r"part-000001.*holds 1 frame, and 2 by its manifest"):
            read_detections("found")

    def test_a_missing_part_is_told(self, kind: str, run: Callable[..., Result]) -> None:
        run("--out", "found", "--format", kind)
        Path(f"found/part-000001.{kind}").unlink()
        with pytest.raises(DataError, match=r"part-000001.*missing"):
            read_detections("found")

    @pytest.mark.parametrize(
        "content", [b"", b"\x00PAR1", b"{", b"[1]", b"null", b'{"file": "a.png"}'], ids=repr
    )
    def test_a_damaged_part_is_told(self, content: bytes, kind: str, tmp_path: Path) -> None:
        path = tmp_path / f"part.{kind}"
        path.write_bytes(content)
        if kind == "jsonl" and not content:
            assert read_detections(path) == []
            return
        with pytest.raises(DataError, match=f"part.{kind}"):
            read_detections(path)


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/0", "-1/2", "1/2/3", ""])
def test_a_wrong_shard_is_told(shard: str, run: Callable[..., Result]) -> None:
    result = run("--out", "found", "--shard", shard)
    assert result.code == 2
    assert "--shard must be I/N with I from 1 to N" in result.err
    assert not Path("found").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--format", "jsonl,csv"), "cannot be combined"),
        (("--format", "jsonl", "--overlay"), "--overlay needs --format json"),
        (("--format", "json", "--out", "a.jsonl"), "which ends in .jsonl"),
    ],
)
def test_options_that_contradict_are_told(
    arguments: tuple[str, ...], message: str, run: Callable[..., Result]
) -> None:
    result = run("--out", "found", *arguments)
    assert (result.code, message in result.err) == (2, True)


GEO = Georeference((2.0, 0.0, 500_000.0, 0.0, -2.0, 5_000_000.0), 32633)
PLACED = Detections(np.float32([[10, 20]]), np.float32([0.9]), None, "bad\udcff.png", 40, 30, "m", GEO)


@pytest.mark.parametrize("kind", KINDS)
def test_positions_and_names_that_are_not_utf8_are_kept(kind: str, tmp_path: Path) -> None:
    found = [PLACED, replace(PLACED, file="plain.png", geo=None)]
    path = tmp_path / f"part-000000.{kind}"
    parts.write_part(path, [parts.row_of(each) for each in found])
    assert read_detections(path) == found


def test_parquet_has_columns_of_positions(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (row,) = parts.parquet_table([parts.row_of(PLACED)]).to_pylist()
    assert row["geo"] == GEO.to_record()
    (true,), (stored,) = PLACED.to_dict()["detections"], row["detections"]
    assert {key: stored[key] for key in ("map_x", "map_y", "lon", "lat")} == {
        key: true[key] for key in ("map_x", "map_y", "lon", "lat")
    }


def test_parquet_parts_without_positions_are_read(tmp_path: Path) -> None:
    """Former versions wrote them."""
    pytest.importorskip("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    former = pa.list_(pa.struct([(name, pa.float32()) for name in ("x", "y", "score", "area")]))
    row = {key: value for key, value in parts.row_of(PLACED).items() if key != "geo"}
    table = parts.parquet_table([row]).drop_columns(["geo", "detections"])
    spots = [[{key: one[key] for key in ("x", "y", "score")} for one in row["detections"]]]
    pq.write_table(table.append_column("detections", pa.array(spots, former)), tmp_path / "x.parquet")
    assert read_detections(tmp_path / "x.parquet") == [replace(PLACED, geo=None)]


def test_shards_of_json_runs(run: Callable[..., Result]) -> None:
    files = []
    for number in (1, 2, 3):
        assert run("--out", f"s{number}", "--shard", f"{number}/3").code == 0
        files += [item.file for item in iterate_detections(f"s{number}")]
    assert files == [f"frames/{number}.png" for number in range(FRAMES)]


def stop_in_frame(patch: pytest.MonkeyPatch, number: int) -> None:
    """Ctrl-C while the network works on a frame, counted from 1."""
    work, calls = OnnxBackend.run, iter(range(1, 1000))

    def interrupted(self: OnnxBackend, batch: np.ndarray) -> np.ndarray:
        if next(calls) == number:
            raise KeyboardInterrupt
        return work(self, batch)

    patch.setattr(OnnxBackend, "run", interrupted)


@pytest.fixture
def disk_of() -> Iterator[Callable[[int], None]]:
    """Let files grow to a number of bytes and no more, as on a full disk; -1: as before."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (before[0] if size < 0 else size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)
