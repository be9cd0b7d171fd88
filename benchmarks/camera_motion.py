"""Methods of camera motion on thermal frames with known motion: one JSON line for each method and scene.

    python benchmarks/camera_motion.py --clips IR-video --backgrounds HIT-UAV-background [--frames 30]

A frame (sky: the first frames of clips in the choosing part; ground: the choosing part of the backgrounds) is
moved by a known shift of up to 5 pixels, roll of 1 degree and zoom of 1 %, or by the shift alone, and both
get new noise of 2 counts. Every method sees what the tracker shows it. error: mean distance of nine points
from where they belong, in pixels of the working size; `within`: share of frames below half a pixel, frames
for which the method gives nothing counting as above. ms: processor time, median.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dimpoint.sources.video import read_video
from dimpoint.tracking.motion import by_features, by_phase, detail_of
from parts import backgrounds, sky_clips


def by_ecc(last: Any, grey: Any) -> Any:
    """OpenCV's ECC with an affine motion, its only model that holds roll and zoom."""
    start = np.eye(2, 3, dtype=np.float32)
    end = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-4)
    try:
        return cv2.findTransformECC(last, grey, start, cv2.MOTION_AFFINE, end, None, 5)[1]
    except cv2.error:
        return None


METHODS: dict[str, Callable[[Any, Any], Any]] = {"features": by_features, "phase": by_phase, "ecc": by_ecc}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=Path, required=True, help="the folder IR-video")
    parser.add_argument("--backgrounds", type=Path, required=True, help="the folder HIT-UAV-background")
    parser.add_argument("--frames", type=int, default=30, help="of each scene")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    clips = sky_clips(options.clips)[0]
    ground = backgrounds(options.backgrounds)[0]
    scenes = {
        "sky": [next(iter(read_video(clip))) for clip in clips[:: max(1, len(clips) // options.frames)]],
        "ground": [
            cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
            for file in ground[:: max(1, len(ground) // options.frames)]
        ],
    }
    for scene, frames in scenes.items():
        for kind in ("shift", "shift, roll, zoom"):
            for name, method in METHODS.items():
                print(json.dumps(judged(scene, kind, name, method, frames[: options.frames])), flush=True)


def judged(scene: str, kind: str, name: str, method: Any, frames: list[Any]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    errors, spent = [], []
    for frame in frames:
        width = 256
        height = round(frame.shape[0] * width / frame.shape[1])
        small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
        roll, zoom = (0.0, 1.0) if kind == "shift" else (rng.uniform(-1, 1), rng.uniform(0.99, 1.01))
        truth = cv2.getRotationMatrix2D((width / 2, height / 2), roll, zoom)
        truth[:, 2] += rng.uniform(-5, 5, 2)
        moved = cv2.warpAffine(small, truth, (width, height), borderMode=cv2.BORDER_REFLECT)
        pair = [
            detail_of((one + rng.normal(0, 2, one.shape)).clip(0, 255).astype(np.uint8))
            for one in (small, moved)
        ]
        begin = time.process_time()
        matrix = method(*pair)
        spent.append(time.process_time() - begin)
        grid = np.array([(x * width, y * height, 1) for x in (0.2, 0.5, 0.8) for y in (0.2, 0.5, 0.8)])
        off = np.inf if matrix is None else np.hypot(*((matrix - truth) @ grid.T)).mean()
        errors.append(off)
    known = [each for each in errors if np.isfinite(each)]
    return {
        "scene": scene,
        "motion": kind,
        "method": name,
        "frames": len(errors),
        "nothing": len(errors) - len(known),
        "error": round(float(np.median(known)), 3) if known else None,
        "within": round(float(np.mean(np.array(errors) < 0.5)), 3),
        "ms": round(1000 * float(np.median(spent)), 2),
    }


if __name__ == "__main__":
    main()
