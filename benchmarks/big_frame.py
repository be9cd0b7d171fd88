"""A 10,000 x 10,000 uint16 frame: peak memory, time, and whether every planted target is found once.

    python benchmarks/big_frame.py [--model NAME_OR_FILE] [--side 10000] [--memory-mb 1024]

Prints one JSON line. The frame is slow clutter with sensor noise and Gaussian spots on a jittered lattice
that is too narrow for any seam of the tiles to miss. `found_once`: spots with exactly one detection within
5 pixels; `others`: detections that are near no spot. `peak_mb` is the largest resident size of the whole
process, interpreter and frame included.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from dimpoint.inference.detector import Detector

SPACING = 150  # pixels between spots, before the jitter
NEAR = 5.0  # pixels


def plant(side: int, contrast: float, seed: int) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.float64]]:
    """A frame and the centres of its spots, (N, 2) x, y; made in bands so that it costs its own size."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(20_000, 2_000, (side // 400 + 2, side // 400 + 2)).astype(np.float32)
    frame = np.empty((side, side), np.uint16)
    band = 400
    for top in range(0, side, band):
        rows = min(band, side - top)
        at = (top + np.arange(rows, dtype=np.float32)) / 400
        across = np.arange(side, dtype=np.float32) / 400
        slow = cv2.remap(
            coarse, *np.meshgrid(across, at), interpolation=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        frame[top : top + rows] = slow + 60 * rng.standard_normal((rows, side), dtype=np.float32)
    lattice = np.arange(SPACING // 2, side - SPACING // 2, SPACING)
    centres = np.stack(np.meshgrid(lattice, lattice), axis=-1).reshape(-1, 2).astype(float)
    centres += rng.uniform(-SPACING / 3, SPACING / 3, centres.shape)
    for x, y in centres:
        left, top = round(x) - 6, round(y) - 6
        columns, rows = np.meshgrid(np.arange(left, left + 13), np.arange(top, top + 13))
        spot = contrast * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 1.2**2))
        frame[rows, columns] = np.minimum(frame[rows, columns] + spot, 65_535)
    return frame, centres


def count(found: npt.NDArray[np.float32], centres: npt.NDArray[np.float64]) -> dict[str, Any]:
    """How many spots were found once, more often, and not at all, and what else was found."""
    if not len(found):
        return {"found_once": 0, "doubled": 0, "missed": len(centres), "others": 0, "mean_distance_px": None}
    near = np.array([len(one) for one in KDTree(found).query_ball_point(centres, NEAR)])
    distance = KDTree(centres).query(found)[0]
    matched = distance[distance <= NEAR]
    return {
        "found_once": int((near == 1).sum()),
        "doubled": int((near > 1).sum()),
        "missed": int((near == 0).sum()),
        "others": len(found) - len(matched),
        "mean_distance_px": round(float(matched.mean()), 3) if len(matched) else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="shipped name or ONNX file; the default model if left out")
    parser.add_argument("--side", type=int, default=10_000)
    parser.add_argument("--contrast", type=float, default=6_000, help="height of the spots, counts")
    parser.add_argument("--memory-mb", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    frame, centres = plant(options.side, options.contrast, options.seed)
    detector = Detector(options.model, threads=options.threads, memory_mb=options.memory_mb)
    begin = time.perf_counter()
    found = detector(frame)
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    line = {"benchmark": "big_frame", "model": found.model, "side": options.side, "targets": len(centres)}
    line |= count(found.xy, centres)
    print(json.dumps(line | {"seconds": round(seconds, 1), "peak_mb": round(peak)}))


if __name__ == "__main__":
    main()
