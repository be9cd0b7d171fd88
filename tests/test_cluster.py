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

from dimpoint.cli import main
from dimpoint.cluster.ray_detect import Job, detect_on_ray, plan
from dimpoint.errors import ConfigError
from dimpoint.inference.detection_files import read_detections
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
        (("--ray",), "--ray: results are parts; add --format parquet or --format jsonl"),
        (("--ray", "--format", "csv"), "--ray: results are parts"),
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
