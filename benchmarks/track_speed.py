"""What tracking costs, whole and beside the network: JSON lines for each frame size.

    python benchmarks/track_speed.py [--before OLD/src] [--frames 150] [--threads 2] [--device cpu]

`frames_per_s`: videos of --frames frames through `dimpoint.track`: decoding, network, tracking, and the files
of `dimpoint track` but the annotated video; by the clock, without the start of the process and of the model.
It counts on an idle machine only; `processor_ms` a frame, of all threads, says more on a busy one.

Beside the network: made scenes under a moving camera with 20 targets. ms: medians for a frame, of the
camera's motion and of the tracker with the spots' brightness, in processor time of all threads, which other
work on the machine does not lengthen much, and of both by the clock (clock_ms), which is right on an idle
machine. With --before the older code runs in turns with this one, in processes of its own.
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
    from dimpoint.tracking import memory
    from dimpoint.tracking.motion import MotionEstimator
    from dimpoint.tracking.tracker import Tracker

    brightness = getattr(memory, "brightness", None)  # older code has none
    rng = np.random.default_rng(0)
    place, velocity = rng.uniform(50, height - 50, (20, 2)), rng.normal(0, 1, (20, 2))
    estimate, tracker = MotionEstimator(), Tracker()
    spent = []
    for number, frame in enumerate(frames_of(width, height, rng)):
        xy = (place + velocity * number + rng.normal(0, 0.3, place.shape)).astype(np.float32)
        found = Detections(xy, rng.uniform(0.3, 1, 20).astype(np.float32))
        begin, start = time.process_time(), time.perf_counter()
        motion = estimate(frame)
        middle = time.process_time()
        light = {} if brightness is None else {"light": brightness(frame, found.xy)}
        tracker.update(found, number / 25, motion=motion, **light)
        spent.append((middle - begin, time.process_time() - middle, time.perf_counter() - start))
    times = 1000 * np.median(spent, axis=0)
    return dict(zip(("motion_ms", "tracker_ms", "clock_ms"), times.round(2).tolist(), strict=True))


def whole(width: int, height: int, frames: int, threads: int, device: str) -> dict[str, object]:
    import dimpoint
    from dimpoint.inference.overlay import write_picture
    from dimpoint.tracking.page import write_page
    from dimpoint.tracking.picture import draw_all, write_pictures

    rng = np.random.default_rng(0)
    place, velocity = rng.uniform(50, height - 50, (5, 2)), rng.normal(0, 1, (5, 2))
    scene = frames_of(width, height, rng)
    scene += scene[-2:0:-1]  # there and back again
    y, x = np.mgrid[:height, :width]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def pictures():
            for number in range(frames):
                frame = scene[number % len(scene)].astype(float)
                for left, top in place + velocity * (number % 100):
                    frame += 120 * np.exp(-((x - left) ** 2 + (y - top) ** 2) / 3)
                yield number / 30, cv2.merge([frame.clip(0, 255).astype(np.uint8)] * 3)

        encoder = write_pictures(folder / "clip.mp4", pictures())
        run = dimpoint.track(folder / "clip.mp4", threads=threads, device=device)
        begin, used = time.perf_counter(), time.process_time()
        for frame, _ in run:
            last = frame.pixels
        tracks = run.result()
        tracks.write(folder)
        picture = draw_all(last, tracks)
        write_picture(folder / "tracks.png", picture)
        write_page(folder / "tracks.html", tracks, picture, seconds=frames / 30)
        seconds, used = time.perf_counter() - begin, time.process_time() - used
    return {
        "size": f"{width}x{height}",
        "device": device,
        "frames_per_s": round(frames / seconds, 1),
        "processor_ms": round(1000 * used / frames, 1),
        "frames": frames,
        "confirmed": len(tracks.of("confirmed")),
        "encoder": encoder,
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path, help="src folder of older code to compare with")
    parser.add_argument("--frames", type=int, default=150, help="of the videos that are tracked whole")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="of the videos: as dimpoint track --device")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps([measured(*size) for size in SIZES]))
        return
    for size in SIZES:
        print(json.dumps(whole(*size, options.frames, options.threads, options.device)), flush=True)
    codes = {"now": None} if options.before is None else {"before": options.before, "now": None}
    found: dict[str, list[list[dict[str, float]]]] = {name: [] for name in codes}
    for _ in range(ROUNDS):
        for name, source in codes.items():
            environment = os.environ | ({} if source is None else {"PYTHONPATH": str(source)})
            text = subprocess.check_output([sys.executable, __file__, "--one"], env=environment, text=True)
            found[name].append(json.loads(text))
    for at, (width, height) in enumerate(SIZES):
        for name, rounds in found.items():
            best = {key: min(each[at][key] for each in rounds) for key in rounds[0][at]}
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
