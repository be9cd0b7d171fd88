"""Our models and SPIRE's published weights on the same frames, protocol `spire`, one JSON line each.

    python benchmarks/accuracy.py --weights SPIRE.pth --data NUDT-SIRST --data NUAA-SIRST

`published` is the authors' network on their aspect-keeping 512x512 warp with their decoding, mapped back
to the frame. Each model runs in `Detector` at its own threshold. Without --model, the shipped default.
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
import numpy.typing as npt

from dimpoint.datasets.dataset import open_dataset
from dimpoint.inference.detector import Detector
from dimpoint.metrics.points import PointCounts, match_points
from latency import published

Points = npt.NDArray[np.float32]
Finder = Callable[[npt.NDArray[Any]], Points]


def warped(detect: Finder, size: int = 512) -> Finder:
    """Run a finder on the authors' warp of a frame, and bring its points back."""

    def find(frame: npt.NDArray[Any]) -> Points:
        height, width = frame.shape
        scale = min(size / height, size / width)
        left, top = (size - width * scale) / 2, (size - height * scale) / 2
        corners = np.array([[0, 0], [width - 1, 0], [0, height - 1]], np.float32)
        places = np.array([[left, top], [size - 1 - left, top], [left, size - 1 - top]], np.float32)
        affine = cv2.getAffineTransform(corners, places)
        points = detect(cv2.warpAffine(frame, affine, (size, size)))
        back = cv2.invertAffineTransform(affine)
        return (points @ back[:, :2].T + back[:, 2]).astype(np.float32)

    return find


def score(find: Finder, root: Path, split: str | None) -> dict[str, Any]:
    parts = []
    started = time.perf_counter()
    for sample in open_dataset(root, split):
        frame = sample.read_frame()
        points = find(frame)
        match = match_points(points, np.ones(len(points)), sample.read_points())
        parts.append(PointCounts.of_frame(match, frame.shape))
    seconds = time.perf_counter() - started
    total = PointCounts.total(parts).to_dict()
    return {key: round(value, 9) for key, value in total.items()} | {"seconds": round(seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--weights", type=Path, help="the authors' SPIRE checkpoint; left out, it is not run")
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--split", default="test", help="'all' for every frame")
    parser.add_argument("--model", action="append", default=[])
    arguments = parser.parse_args()
    finders: dict[str, Finder] = {}
    if arguments.weights:
        from dimpoint.model.checkpoint import import_model

        finders["published"] = warped(published(import_model("spire", arguments.weights)[0].eval()))
    for name in arguments.model or [None]:
        detector = Detector(name)
        finders[name or detector.meta.name] = lambda frame, run=detector: run(frame).xy
    split = None if arguments.split == "all" else arguments.split
    for root in arguments.data:
        for name, find in finders.items():
            line = {"data": root.name, "split": arguments.split, "model": name, **score(find, root, split)}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
