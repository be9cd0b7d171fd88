"""What tracking costs beside the network: one JSON line for each frame size.

    python benchmarks/track_speed.py [--before OLD/src]

Made scenes under a moving camera with 20 targets, at 320x256 and 640x512. ms: medians for a frame, of the
camera's motion and of the tracker, in processor time of all threads, which other work on the machine does not
lengthen much. With --before the older code runs in turns with this one, in processes of
its own, so that both see the same load.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

SIZES = ((320, 256), (640, 512))
FRAMES = 80
ROUNDS = 3


def frames_of(width: int, height: int, rng: np.random.Generator) -> list[np.ndarray]:
    noise = rng.standard_normal((height + 120, width + 160)).astype(np.float32)
    wide = 60 + cv2.GaussianBlur(noise, (0, 0), 12) * 144 + cv2.GaussianBlur(noise, (0, 0), 3) * 18
    views = (wide[40 + int(5 * np.sin(n / 7)) :, 40 + n :][:height, :width] for n in range(FRAMES))
    return [(view + rng.normal(0, 1.5, view.shape)).clip(0, 255).astype(np.uint8) for view in views]


def measured(width: int, height: int) -> dict[str, object]:
    from dimpoint.inference.detections import Detections
    from dimpoint.tracking.motion import MotionEstimator
    from dimpoint.tracking.tracker import Tracker

    rng = np.random.default_rng(0)
    place, velocity = rng.uniform(50, height - 50, (20, 2)), rng.normal(0, 1, (20, 2))
    estimate, tracker = MotionEstimator(), Tracker()
    spent = []
    for number, frame in enumerate(frames_of(width, height, rng)):
        xy = (place + velocity * number + rng.normal(0, 0.3, place.shape)).astype(np.float32)
        found = Detections(xy, rng.uniform(0.3, 1, 20).astype(np.float32))
        begin = time.process_time()
        motion = estimate(frame)
        middle = time.process_time()
        tracker.update(found, number / 25, motion=motion)
        spent.append((middle - begin, time.process_time() - middle))
    motion_ms, tracker_ms = 1000 * np.median(spent, axis=0)
    return {"motion_ms": round(motion_ms, 2), "tracker_ms": round(tracker_ms, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path, help="src folder of older code to compare with")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps([measured(*size) for size in SIZES]))
        return
    codes = {"now": None} if options.before is None else {"before": options.before, "now": None}
    found: dict[str, list[list[dict[str, float]]]] = {name: [] for name in codes}
    for _ in range(ROUNDS):
        for name, source in codes.items():
            environment = os.environ | ({} if source is None else {"PYTHONPATH": str(source)})
            text = subprocess.check_output([sys.executable, __file__, "--one"], env=environment, text=True)
            found[name].append(json.loads(text))
    for at, (width, height) in enumerate(SIZES):
        for name, rounds in found.items():
            best = {key: min(each[at][key] for each in rounds) for key in ("motion_ms", "tracker_ms")}
            total = min(each[at]["motion_ms"] + each[at]["tracker_ms"] for each in rounds)
            load = round(os.getloadavg()[0], 1)
            line = {
                "size": f"{width}x{height}",
                "code": name,
                **best,
                "total_ms": round(total, 2),
                "load": load,
            }
            print(json.dumps(line))


if __name__ == "__main__":
    main()
