"""`dimpoint detect --ray`: the results of one process, on two nodes, with a worker and a node killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from cli_runs import run_command
from dimpoint.cli import main
from dimpoint.cli.detect_ray import _CLUSTER, list_addresses
from dimpoint.cluster.ray_detect import Job, PieceDetector, detect_on_ray, plan
from dimpoint.cluster.storage import list_address, open_results
from dimpoint.errors import ConfigError, DimpointError, FrameError
from dimpoint.inference.detection_files import read_detections
from dimpoint.inference.detector import Detector
from tiny_models import spots, write_model

FRAMES = 96


def test_a_plan_holds_every_file_once() -> None:
    files = [Path(f"{number}.png") for number in range(1234)]
    pieces = plan(files)
    assert [file for piece in pieces for file in piece["files"]] == [str(file) for file in files]
    assert [piece["piece"] for piece in pieces] == list(range(len(pieces)))
    assert plan([]) == []
    assert len(plan(files[:1])) == 1


def write_frames(folder: Path, count: int = FRAMES, side: int = 64) -> None:
    folder.mkdir()
    for number in range(count):
        frame = spots((side, side), [(5 + number % 50, 30)] * (number % 7 != 0))
        cv2.imwrite(str(folder / f"{number:03d}.png"), (frame * 255).astype(np.uint8))


def detect(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["dimpoint", "detect", "frames", "--model", "blob.onnx", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ray",), "--ray needs --format parquet or --format jsonl"),
        (("--ray", "--format", "csv"), "--ray needs --format parquet"),
    ],
)
def test_wrong_options_are_told(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "blob.onnx")
    write_frames(tmp_path / "frames", 2)
    assert detect(monkeypatch, "--out", "found", *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_record_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    """A full disk, or a kill, leaves a part of a line: the records after it are still read."""
    results = open_results(str(tmp_path))
    results.note({"piece": 1})
    journal = tmp_path / "parts.unfinished.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"piece": 2, "pa')
    assert results.notes() == [{"piece": 1}]
    results.note({"piece": 3})
    assert results.notes() == [{"piece": 1}, {"piece": 3}]


def test_an_address_behind_ray_is_a_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--ray s3://...` starts Ray here; HOST:PORT and ray://HOST:PORT name a cluster."""
    monkeypatch.chdir(tmp_path)
    addresses = ("--ray", "s3://b/f", "--out", "found", "frames", "--format", "parquet")
    assert (
        "s3://b/f: give either addresses or paths"
        in run_command(monkeypatch, capsys, "detect", *addresses).err
    )
    for named in ("auto", "local", "10.0.0.1:6379", "[::1]:6379", "ray://head:10001"):
        assert _CLUSTER.fullmatch(named)


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    """Two nodes of one core on this machine; the driver works on the first."""
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Workers import the code that is tested, wherever they start.
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    ray.init(address=made.address, log_to_driver=False, logging_level="error")
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
class TestCluster:
    def test_nothing_is_lost_or_doubled_when_a_worker_and_a_node_die(
        self, cluster: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        write_frames(tmp_path / "frames")
        (tmp_path / "frames" / "050.png").write_text("no picture")
        model = write_model(tmp_path / "blob.onnx")
        assert detect(monkeypatch, "--out", "whole") == 1
        second = cluster.add_node(num_cpus=1)  # type: ignore[attr-defined]
        finished = []

        def harm(frames: int) -> None:
            finished.append(frames)
            if len(finished) == 3:
                os.kill(workers()[0], signal.SIGKILL)
            if len(finished) == 8:
                cluster.remove_node(second, allow_graceful=False)  # type: ignore[attr-defined]

        job = Job(str(tmp_path / "found"), str(model), {})
        files = sorted(Path("frames").iterdir())
        manifest = detect_on_ray([file.absolute() for file in files], job, {}, step=harm)
        assert len(finished) > 8
        assert (manifest["frames"], manifest["unreadable"]) == (FRAMES - 1, 1)
        assert manifest["failures"][0][0].endswith("050.png")
        whole, found = read_detections("whole"), read_detections("found")
        assert [Path(item.file).name for item in found] == [Path(item.file).name for item in whole]
        for one, other in zip(found, whole, strict=True):
            np.testing.assert_array_equal(one.xy, other.xy)
            np.testing.assert_array_equal(one.scores, other.scores)
        assert sorted(file.suffix for file in (tmp_path / "found").iterdir()).count(".parquet") == len(
            finished
        )

    def test_addresses_give_what_paths_give(
        self, cluster: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`local://` is fsspec's, and every process sees the same there."""
        monkeypatch.chdir(tmp_path)
        write_frames(tmp_path / "frames", 12)
        write_model(tmp_path / "blob.onnx")
        source, out = f"local://{tmp_path}/frames", f"local://{tmp_path}/found"
        monkeypatch.setattr(
            sys,
            "argv",
            [
                "dimpoint",
                "detect",
                source,
                "--out",
                out,
                "--model",
                "blob.onnx",
                "--ray",
                "--format",
                "jsonl",
            ],
        )
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
        assert detect(monkeypatch, "--out", "whole") == 0
        found, whole = read_detections("found"), read_detections("whole")
        assert [item.file for item in found] == [f"local://{tmp_path}/{item.file}" for item in whole]
        for one, other in zip(found, whole, strict=True):
            np.testing.assert_array_equal(one.xy, other.xy)
        assert all(".unfinished" not in file.name for file in (tmp_path / "found").iterdir())

    def test_a_stopped_run_goes_on_and_another_is_refused(self, cluster: object, tmp_path: Path) -> None:
        write_frames(tmp_path / "frames", 20)
        model = write_model(tmp_path / "blob.onnx")
        files = sorted((tmp_path / "frames").iterdir())
        job = Job(str(tmp_path / "found"), str(model), {}, kind="jsonl")

        def stop(_frames: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            detect_on_ray(files, job, {"threshold": 0.5}, step=stop)
        for settings, names, message in (
            ({"threshold": 0.6}, files, "threshold is 0.5 there and 0.6 here"),
            ({"threshold": 0.5}, files[1:], "file 1, .*is new, gone or has changed"),
        ):
            with pytest.raises(ConfigError, match=message):
                detect_on_ray(names, job, settings)
        finished: list[int] = []
        manifest = detect_on_ray(files, job, {"threshold": 0.5}, step=finished.append)
        assert (manifest["frames"], sum(finished)) == (20, 19)
        assert [item.file for item in read_detections(tmp_path / "found")] == [str(file) for file in files]
        with pytest.raises(ConfigError, match="finished run"):
            detect_on_ray(files, job, {"threshold": 0.5})


def workers() -> list[int]:
    """The processes of detecting actors that descend from this one."""
    parents, found = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if (folder / "cmdline").read_bytes().startswith(b"ray::MapWorker"):
                found.append(int(folder.name))
        except OSError:
            continue
    return [process for process in found if descends(process, parents)]


def descends(process: int, parents: dict[int, int]) -> bool:
    while process in parents and process != os.getpid():
        process = parents[process]
    return process == os.getpid()


class TestAddresses:
    """Frames and results at addresses that fsspec opens; `memory://` lives in this process alone."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[str]:
        fsspec = pytest.importorskip("fsspec")
        pytest.importorskip("pyarrow")
        write_frames(tmp_path / "frames", 6)
        memory = fsspec.filesystem("memory")
        memory.put(str(tmp_path / "frames"), "/bucket/frames", recursive=True)
        memory.pipe_file("/bucket/frames/deep/9.png", (tmp_path / "frames" / "001.png").read_bytes())
        memory.pipe_file("/bucket/frames/notes.txt", b"no frame")
        yield "memory://bucket"
        memory.rm("/bucket", recursive=True)

    def test_listing(self, store: str) -> None:
        flat = [stamp[0] for stamp in list_address(f"{store}/frames", recursive=False)]
        assert flat == [f"{store}/frames/{number:03d}.png" for number in range(6)]
        deep = list_address(f"{store}/frames/", recursive=True)
        assert [stamp[0] for stamp in deep] == [*flat, f"{store}/frames/deep/9.png"]
        assert all(stamp[1] > 0 for stamp in deep)
        assert list_address(f"{store}/frames/003.png", recursive=False)[0][0] == f"{store}/frames/003.png"

    @pytest.mark.parametrize(
        ("address", "said"),
        [
            ("memory://nothing", "no such file or folder"),
            ("memory://bucket/frames/deep/none", "no such file or folder"),
            ("memory://bucket", r"no frames at .*--recursive enters"),
            ("nostore://bucket", "cannot be opened"),
            ("hdfs://localhost:1/x", "hdfs://localhost:1/x: cannot be (opened|listed)"),
        ],
    )
    def test_nothing_to_list(self, store: str, address: str, said: str) -> None:
        with pytest.raises(FrameError, match=said):
            list_address(address, recursive=False)

    def test_a_piece_is_that_of_files(self, store: str, tmp_path: Path) -> None:
        model = write_model(tmp_path / "blob.onnx")
        addresses = [stamp[0] for stamp in list_address(f"{store}/frames", recursive=False)]
        lost = f"{store}/frames/gone.png"
        worker = PieceDetector(Job(f"{store}/found", str(model), {}))
        record = worker.work(0, [*addresses[:3], lost, *addresses[3:]])
        assert (record["part"]["frames"], record["part"]["unreadable"]) == (6, 1)
        assert record["failures"][0][0] == lost
        assert lost in record["failures"][0][1]
        part = tmp_path / "part.parquet"
        part.write_bytes(open_results(f"{store}/found").read("part-000000.parquet"))
        found = read_detections(part)
        assert [item.file for item in found] == addresses
        expected = Detector(model).predict(tmp_path / "frames")
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one.xy, other.xy)

    @pytest.mark.parametrize("kind", ["memory", "path"])
    def test_results_are_kept_and_removed_alike(self, store: str, tmp_path: Path, kind: str) -> None:
        results = open_results(f"{store}/kept" if kind == "memory" else str(tmp_path / "kept"))
        assert (results.names(), results.notes()) == (set(), [])
        results.write_lines("manifest.json", [b"a\n", b"b\n"])
        results.note({"piece": 1})
        results.note({"piece": 0})
        assert results.read("manifest.json") == b"a\nb\n"
        assert sorted(note["piece"] for note in results.notes()) == [0, 1]
        results.remove(results.names() | {"never.there"})
        assert (results.names(), results.notes()) == (set(), [])

    def test_a_file_that_two_addresses_name_is_listed_once(self, store: str) -> None:
        once = list_addresses([f"{store}/frames"], False, [])
        missing: list[tuple[str, str]] = []
        assert list_addresses([f"{store}/frames", str(once[1][0])], False, missing) == once
        assert missing == []

    def test_a_store_that_fails_is_named(self, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
        results = open_results(f"{store}/kept")
        with pytest.raises(DimpointError, match=r"kept/never\.there: cannot be read \(FileNotFoundError"):
            results.read("never.there")
        results.note({"piece": 1})

        class Broken:
            def __getattr__(self, _: str) -> object:
                def fail(*_: object, **__: object) -> None:
                    raise PermissionError("no access")

                return fail

        monkeypatch.setattr(results, "_system", Broken())
        for call, said in (
            (results.names, "listed"),
            (results.notes, "listed"),
            (lambda: results.remove(["a"]), "listed"),
            (lambda: results.note({"piece": 2}), "written"),
        ):
            with pytest.raises(
                DimpointError, match=rf"^memory://bucket/kept.*: cannot be {said} \(Permission"
            ):
                call()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("s3://bucket/a", "--out", "found"), "s3://bucket/a: an address is read and written with --ray"),
            (("frames", "--out", "s3://b/found"), "s3://b/found: an address is read and written with --ray"),
            (("s3://b/a", "frames", "--out", "found", "--ray"), "give either addresses or paths"),
        ],
    )
    def test_addresses_that_cannot_be_used_are_told(
        self,
        arguments: tuple[str, ...],
        message: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        result = run_command(monkeypatch, capsys, "detect", *arguments, "--format", "parquet")
        assert result.code == 2
        assert message in result.err
        assert list(tmp_path.iterdir()) == []
