"""What `dimpoint detect --ray` costs: the planning of a long list of files, and its throughput.

    python benchmarks/cluster.py --plan 1000000
    python benchmarks/cluster.py --throughput [--frames 500] [--size 512x640]
    python benchmarks/cluster.py --nodes [--frames 500] [--size 512x640]

`--plan`: links to one picture in folders of 1000; prints the seconds of listing, of planning (pieces, and the
name, size and time of each file written to the plan) and the peak memory of the process. `--throughput`: one
process with one thread a core beside Ray on this machine, from the first frame to the last, start-up apart.
`--nodes`: a Ray cluster of one node with one core beside one of two such nodes, both on this machine. The two
sides take turns, and the best of `--rounds` counts. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import tempfile
import time
from importlib import import_module
from pathlib import Path

from detect_speed import write_frames
from dimpoint.cluster.ray_detect import Job, _open_run, detect_on_ray, plan
from dimpoint.cluster.storage import open_results
from dimpoint.inference.detector import Detector
from dimpoint.inference.journal import stamp
from dimpoint.model.files import default_model
from dimpoint.sources import source_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--plan", type=int, metavar="FILES")
    parser.add_argument("--throughput", action="store_true")
    parser.add_argument("--nodes", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--size", default="512x640", help="height x width")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.plan:
            print(json.dumps(planning(Path(folder), options.plan)))
        measured = options.frames, options.size, options.rounds
        if options.throughput:
            print(json.dumps(throughput(Path(folder) / "throughput", *measured)))
        if options.nodes:
            print(json.dumps(scaling(Path(folder) / "scaling", *measured)))


def planning(folder: Path, count: int) -> dict[str, object]:
    """Seconds and memory before the first piece is given out."""
    write_frames(folder / "one", 1, (64, 64), 8)
    source = folder / "one" / "0000.png"
    for start in range(0, count, 1000):
        place = folder / "all" / f"{start // 1000:05d}"
        place.mkdir(parents=True)
        for number in range(start, min(start + 1000, count)):
            if number == start:
                shutil.copy(source, place / f"{start:08d}.png")
            else:
                os.link(place / f"{start:08d}.png", place / f"{number:08d}.png")
    began, cpu = time.perf_counter(), time.process_time()
    files = source_files([folder / "all"], recursive=True)
    listed = time.perf_counter()
    (folder / "out").mkdir()
    _open_run(open_results(str(folder / "out")), "out", map(stamp, files), {}, False)
    pieces = plan(files)
    planned = time.perf_counter()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "files": len(files),
        "pieces": len(pieces),
        "listing_seconds": round(listed - began, 1),
        "planning_seconds": round(planned - listed, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_mb": round(memory),
    }


def throughput(folder: Path, count: int, size: str, rounds: int) -> dict[str, object]:
    """Frames a second of one process and of Ray on this machine, with the same cores, in turns."""
    files, detector = prepared(folder, count, size)
    single, on_ray = [], []
    for number in range(rounds):
        began = time.perf_counter()
        found = sum(1 for _ in detector.predict(files))
        single.append(found / (time.perf_counter() - began))
        on_ray.append(rate_on_ray(folder / f"out{number}", files))
    return {
        "cores": os.cpu_count(),
        "frames_per_second": {"one_process": round(max(single), 2), "ray": round(max(on_ray), 2)},
        "ratio": round(max(on_ray) / max(single), 3),
    }


def scaling(folder: Path, count: int, size: str, rounds: int) -> dict[str, object]:
    """Frames a second of one node of one core, and of two such nodes, on this machine."""
    ray = import_module("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    made = import_module("ray.cluster_utils").Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    ray.init(address=made.address, log_to_driver=False, logging_level="error")
    files, _ = prepared(folder, count, size)
    rates: dict[str, list[float]] = {"one_node": [], "two_nodes": []}
    for number in range(rounds):
        rates["one_node"].append(rate_on_ray(folder / f"one{number}", files))
        second = made.add_node(num_cpus=1)
        rates["two_nodes"].append(rate_on_ray(folder / f"two{number}", files))
        made.remove_node(second)
    ray.shutdown()
    made.shutdown()
    best = {name: round(max(each), 2) for name, each in rates.items()}
    return {"frames_per_second": best, "times": round(best["two_nodes"] / best["one_node"], 2)}


def prepared(folder: Path, count: int, size: str) -> tuple[list[Path], Detector]:
    """Frames on disk, and a detector that has run."""
    folder.mkdir()
    height, width = (int(side) for side in size.split("x"))
    write_frames(folder / "frames", count, (height, width), 8)
    files, detector = source_files([folder / "frames"]), Detector()
    list(detector.predict(files[:4]))
    return files, detector


def rate_on_ray(out: Path, files: list[Path]) -> float:
    """Frames a second from the first finished piece to the last: start-up apart."""
    marks: list[tuple[float, int]] = []
    out.mkdir()
    job = Job(str(out), str(default_model()), {})
    detect_on_ray(files, job, {}, step=lambda frames: marks.append((time.perf_counter(), frames)))
    return sum(number for _, number in marks[1:]) / (marks[-1][0] - marks[0][0])


if __name__ == "__main__":
    main()
