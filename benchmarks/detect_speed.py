"""How long `dimpoint detect` takes on PNG frames, beside another version of it or beside the network alone.

    python benchmarks/detect_speed.py --before OLD/src [--frames 200] [--size 256x256] [--depth 8]
    python benchmarks/detect_speed.py --network [--frames 500] [--size 512x640] [--threads 1,2]

The frames are noise with one spot each. Each side runs as a process of its own, in turn. Prints one JSON
line: the least seconds of each side (wall clock and processor time), their ratio, and the targets
that each found. With `--network` the other side is the network alone on the same frames, read and prepared
before the clock starts, one frame on each thread; `detect` is measured from its first frame to its last file.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

HERE = Path(__file__).resolve().parents[1] / "src"
PROGRAM = "import sys; from dimpoint.cli import main; sys.argv[0] = 'dimpoint'; main()"


NETWORK = """
import json, os, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from dimpoint.inference.detector import Detector
from dimpoint.sources import frames_from
folder, threads = sys.argv[1], int(sys.argv[2])
detector = Detector(threads=1)
inputs, run = [], detector.backend.run
detector.backend.run = lambda frames: inputs.append(frames) or run(frames)
for frame in frames_from(folder):
    detector(frame.pixels)
with ThreadPoolExecutor(threads) as pool:
    began = time.perf_counter(), time.process_time()
    list(pool.map(run, inputs))
print(json.dumps([time.perf_counter() - began[0], time.process_time() - began[1]]))
"""
DETECT = """
import json, sys, time
import dimpoint.cli.detect as command
from dimpoint.cli import main
inner, began = command._run, []
def timed(*arguments):
    began.extend((time.perf_counter(), time.process_time()))
    return inner(*arguments)
command._run = timed
sys.argv[0] = "dimpoint"
try:
    main()
except SystemExit as end:
    assert not end.code
print(json.dumps([time.perf_counter() - began[0], time.process_time() - began[1]]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    other = parser.add_mutually_exclusive_group(required=True)
    other.add_argument("--before", type=Path, help="the src folder of the other version")
    other.add_argument("--network", action="store_true", help="compare with the network alone")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--size", default="256x256", help="height x width")
    parser.add_argument("--depth", type=int, default=8, choices=(8, 16))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", default="1,2", help="of `--network`, with commas")
    options = parser.parse_args()
    height, width = (int(side) for side in options.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        frames = Path(folder) / "frames"
        write_frames(frames, options.frames, (height, width), options.depth)
        compare = beside_network if options.network else beside_version
        print(json.dumps({"frames": options.frames, "size": options.size} | compare(options, frames)))


def beside_version(options: argparse.Namespace, frames: Path) -> dict[str, object]:
    """The command of this version and of another one."""
    seconds: dict[str, list[tuple[float, float]]] = {"before": [], "after": []}
    targets: dict[str, int] = {}
    for number in range(options.rounds):
        for side, source in (("before", options.before), ("after", HERE)):
            taken, targets[side] = run(source, frames, frames.parent / f"{side}-{number}")
            seconds[side].append(taken)
    wall, cpu = (
        {side: round(min(each[which] for each in taken), 2) for side, taken in seconds.items()}
        for which in (0, 1)
    )
    return {
        "seconds": wall,
        "times_as_fast": round(wall["before"] / wall["after"], 2),
        "cpu_seconds": cpu,
        "times_as_fast_cpu": round(cpu["before"] / cpu["after"], 2),
        "targets": targets,
    }


def beside_network(options: argparse.Namespace, frames: Path) -> dict[str, object]:
    """The command and the network alone, with each number of threads."""
    found: dict[str, list[list[float]]] = {}
    for number in range(options.rounds):
        for threads in options.threads.split(","):
            out = str(frames.parent / f"{threads}-{number}")
            detect = [DETECT, "detect", str(frames), "--out", out, "--threads", threads]
            for side, command in (("network", [NETWORK, str(frames), threads]), ("detect", detect)):
                done = subprocess.run(
                    [sys.executable, "-c", *command], check=True, capture_output=True, text=True
                )
                found.setdefault(f"{side}, {threads}", []).append(json.loads(done.stdout.splitlines()[-1]))
    wall, cpu = (
        {side: round(min(each[which] for each in taken), 2) for side, taken in found.items()}
        for which in (0, 1)
    )
    counts = options.threads.split(",")
    return {
        "seconds": wall,
        "cpu_seconds": cpu,
        "detect_over_network": {n: round(wall[f"detect, {n}"] / wall[f"network, {n}"], 3) for n in counts},
        "detect_over_network_cpu": {n: round(cpu[f"detect, {n}"] / cpu[f"network, {n}"], 3) for n in counts},
        "threads_times_as_fast": round(wall[f"detect, {counts[0]}"] / wall[f"detect, {counts[-1]}"], 2),
    }


def write_frames(folder: Path, count: int, shape: tuple[int, int], depth: int) -> None:
    """Smooth noise with one spot of three pixels, PNG."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(count):
        frame = cv2.GaussianBlur(generator.normal(0, 1, shape), (0, 0), 3) * 40 + 100
        y, x = generator.integers(10, min(shape) - 10, 2)
        frame[y - 1 : y + 2, x - 1 : x + 2] += 60
        counts = frame.clip(0, 255) if depth == 8 else frame.clip(0, 255) * 24 + 3000
        cv2.imwrite(str(folder / f"{number:04d}.png"), counts.astype(np.uint8 if depth == 8 else np.uint16))


def run(source: Path, frames: Path, out: Path) -> tuple[tuple[float, float], int]:
    """Seconds of one run, wall clock and processor, and the targets that it found."""
    command = [sys.executable, "-c", PROGRAM, "detect", str(frames), "--out", str(out)]
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"PYTHONPATH": str(source)}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    taken, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    images = json.loads((out / "detections.json").read_text())["images"]
    return (taken, processor), sum(len(image["detections"]) for image in images)


if __name__ == "__main__":
    main()
