"""How long `dimpoint detect` takes on PNG frames, this code beside another version of it.

    python benchmarks/detect_speed.py --before OLD/src [--frames 200] [--size 256x256] [--depth 8]

The frames are noise with one spot each. Each side runs as a process of its own, in turn. Prints one JSON
line: the least seconds of each side, their ratio, and the targets that each found.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

HERE = Path(__file__).resolve().parents[1] / "src"
PROGRAM = "import sys; from dimpoint.cli import main; sys.argv[0] = 'dimpoint'; main()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="the src folder of the other version")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--size", default="256x256", help="height x width")
    parser.add_argument("--depth", type=int, default=8, choices=(8, 16))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    height, width = (int(side) for side in options.size.split("x"))
    seconds: dict[str, list[float]] = {"before": [], "after": []}
    targets: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        frames = Path(folder) / "frames"
        write_frames(frames, options.frames, (height, width), options.depth)
        for number in range(options.rounds):
            for side, source in (("before", options.before), ("after", HERE)):
                taken, targets[side] = run(source, frames, Path(folder) / f"{side}-{number}")
                seconds[side].append(taken)
    least = {side: round(min(each), 2) for side, each in seconds.items()}
    ratio = round(least["before"] / least["after"], 2)
    print(
        json.dumps({"frames": options.frames, "seconds": least, "times_as_fast": ratio, "targets": targets})
    )


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


def run(source: Path, frames: Path, out: Path) -> tuple[float, int]:
    """Seconds of one run, and the targets that it found."""
    command = [sys.executable, "-c", PROGRAM, "detect", str(frames), "--out", str(out)]
    began = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(source)}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    taken = time.perf_counter() - began
    images = json.loads((out / "detections.json").read_text())["images"]
    return taken, sum(len(image["detections"]) for image in images)


if __name__ == "__main__":
    main()
