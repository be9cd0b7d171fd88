"""Models on clips with a box for every frame, one JSON line for a clip and one for all.

    python benchmarks/clips.py --clips IR-video [--model NAME_OR_FILE] [--every 5]

A clip `NAME.mp4` has its boxes in `NAME_LABELS.csv`: frame, label, x, y, width, height. `found`: the part of
the boxes that hold a detection, give or take two pixels. `false`: detections in no box, for each frame.
"""

from __future__ import annotations

import argparse
import csv
import json
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dimpoint.inference.detector import Detector
from dimpoint.sources.video import read_video

SLACK = 2.0  # pixels

Boxes = npt.NDArray[np.float64]


def read_boxes(path: Path) -> dict[int, Boxes]:
    """The boxes of each frame, (N, 4): left, top, right, bottom."""
    boxes: dict[int, list[list[float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            x, y, width, height = (float(row[key]) for key in ("x", "y", "width", "height"))
            boxes.setdefault(int(row["frame"]), []).append([x, y, x + width, y + height])
    return {frame: np.array(rows) for frame, rows in boxes.items()}


def count(detector: Detector, clip: Path, every: int) -> dict[str, int]:
    boxes = read_boxes(clip.with_name(f"{clip.stem}_LABELS.csv"))
    total = {"frames": 0, "boxes": 0, "found": 0, "false": 0}
    for number, frame in islice(enumerate(read_video(clip)), 0, None, every):
        xy = detector(frame).xy[:, None]
        here = boxes.get(number, np.empty((0, 4)))
        inside = ((xy >= here[:, :2] - SLACK) & (xy <= here[:, 2:] + SLACK)).all(axis=2)  # detection, box
        total["frames"] += 1
        total["boxes"] += len(here)
        total["found"] += int(inside.any(axis=0).sum())
        total["false"] += int((~inside.any(axis=1)).sum())
    return total


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=Path, required=True, help="a folder of .mp4 and _LABELS.csv files")
    parser.add_argument("--model", help="shipped name or ONNX file; the default model if left out")
    parser.add_argument("--every", type=int, default=5, help="look at every nth frame")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    detector = Detector(options.model, threads=options.threads)
    parts = {clip.stem: count(detector, clip, options.every) for clip in sorted(options.clips.glob("*.mp4"))}
    parts["all"] = {key: sum(part[key] for part in parts.values()) for key in next(iter(parts.values()))}
    for name, part in parts.items():
        found = {"found": round(part["found"] / part["boxes"], 3) if part["boxes"] else None}
        false = {"false": round(part["false"] / part["frames"], 3) if part["frames"] else None}
        print(json.dumps({"clip": name, "model": detector.meta.name, **part, **found, **false}))


if __name__ == "__main__":
    main()
