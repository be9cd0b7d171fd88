"""What `dimpoint detect --ray` costs: the planning of a long list of files, and its throughput.

    python benchmarks/cluster.py --plan 1000000
    python benchmarks/cluster.py --throughput [--frames 500] [--size 512x640]

`--plan`: links to one picture in folders of 1000; prints the seconds of listing, of planning (pieces, and the
name, size and time of each file written to the plan) and the peak memory of the process. `--throughput`: one
process with one thread a core beside Ray on this machine, from the first frame to the last, start-up apart.
Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

from detect_speed import write_frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--plan", type=int, metavar="FILES")
    parser.add_argument("--throughput", action="store_true")
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--size", default="512x640", help="height x width")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.plan:
            print(json.dumps(planning(Path(folder), options.plan)))
        if options.throughput:
            print(json.dumps(throughput(Path(folder), options.frames, options.size)))


def planning(folder: Path, count: int) -> dict[str, object]:
    """Seconds and memory before the first piece is given out."""
    from dimpoint.cluster.ray_detect import _open_run, plan
    from dimpoint.cluster.storage import open_results
    from dimpoint.inference.journal import stamp
    from dimpoint.sources import source_files

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


def throughput(folder: Path, count: int, size: str) -> dict[str, object]:
    """Frames a second of one process and of Ray on this machine, with the same cores."""
    from dimpoint.cluster.ray_detect import Job, detect_on_ray, plan
    from dimpoint.inference.detector import Detector
    from dimpoint.model.files import default_model
    from dimpoint.sources import source_files

    height, width = (int(side) for side in size.split("x"))
    write_frames(folder / "frames", count, (height, width), 8)
    files = source_files([folder / "frames"])
    detector = Detector()
    list(detector.predict(files[:4]))
    began = time.perf_counter()
    found = sum(1 for _ in detector.predict(files))
    single = found / (time.perf_counter() - began)
    marks: list[tuple[float, int]] = []
    job = Job(str(folder / "out"), str(default_model()), {})
    (folder / "out").mkdir()
    detect_on_ray(files, job, {}, step=lambda frames: marks.append((time.perf_counter(), frames)))
    frames = sum(number for _, number in marks[1:])
    on_ray = frames / (marks[-1][0] - marks[0][0])
    return {
        "cores": os.cpu_count(),
        "pieces": len(plan(files)),
        "frames_per_second": {"one_process": round(single, 2), "ray": round(on_ray, 2)},
        "ratio": round(on_ray / single, 3),
    }


if __name__ == "__main__":
    main()
