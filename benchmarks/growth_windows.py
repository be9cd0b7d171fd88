"""What an update of grown labels costs on large frames, predicted whole and around the points only.

    python benchmarks/growth_windows.py --data SIRST-v2 --model run/model.safetensors

One JSON line over the training frames of more than `WHOLE` tiles of `--side` pixels, with points at the
centroids of their masks. The first regions are updated `--updates` times with the prediction of the whole
frame, and with that of tiles.
`labels_iou`: mean IoU of a target's two labels; `equal`: share of the targets whose labels are the same;
`apart`: 95th percentile over the targets of the largest difference of the probability in their windows;
`iou_whole`, `iou_tiles`: mean IoU of the labels with the true masks. Times are processor seconds a frame.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dimpoint.datasets.dataset import open_dataset, training_split
from dimpoint.inference.detector import Detector
from dimpoint.inference.windows import WHOLE, probability_at
from dimpoint.metrics.components import Components
from dimpoint.targets.growth import Growth, Region, first_regions, grow

Map = npt.NDArray[np.float32]


def timed(work: Callable[[], Map]) -> tuple[Map, float]:
    before = time.process_time()
    return work(), time.process_time() - before


def iou(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


def updated(
    frame: npt.NDArray[np.generic], prediction: Map, regions: list[Region], rule: Growth, updates: int
) -> list[Region]:
    for _ in range(updates):
        regions = grow(frame, prediction, regions, rule)
    return regions


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="a data set with masks and large frames")
    parser.add_argument("--model", type=Path, required=True, help="weights of a segmentation network")
    parser.add_argument("--side", type=int, default=256, help="side of a tile: that of the training crops")
    parser.add_argument("--updates", type=int, default=5)
    parser.add_argument("--frames", type=int, help="at most so many; default: all")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    detector, rule = Detector(args.model, threads=args.threads), Growth()
    seconds, sizes, rows = [], [], []
    for sample in open_dataset(args.data, training_split(args.data), labels="masks"):
        frame, points = sample.read_frame(), sample.read_points()
        if frame.size <= WHOLE * args.side**2 or not len(points):
            continue
        first, mask = first_regions(frame, points, rule), sample.read_mask()
        windows = [region.window for region in first]
        whole, slow = timed(lambda frame=frame: detector.probability_map(frame))
        tiles, fast = timed(
            lambda frame=frame, windows=windows: probability_at(detector, frame, windows, args.side)
        )
        seconds.append((slow, fast))
        sizes.append(frame.size)
        objects = Components.of(mask)
        numbers = np.full(mask.size, -1)
        numbers[objects.pixels] = objects.labels
        numbers = numbers.reshape(mask.shape)
        both = [updated(frame, seen, first, rule, args.updates) for seen in (whole, tiles)]
        for one, other, point in zip(*both, points, strict=True):
            part, target = one.window, np.hypot(*(objects.centroids - point).T).argmin()
            true = numbers[part] == target
            rows.append(
                (
                    iou(one.pixels, other.pixels),
                    float(np.array_equal(one.pixels, other.pixels)),
                    float(np.abs(whole[part] - tiles[part]).max()),
                    iou(one.pixels, true),
                    iou(other.pixels, true),
                )
            )
        if len(seconds) == args.frames:
            break
    labels, equal, apart, of_whole, of_tiles = np.array(rows).T
    slow, fast = np.median(seconds, axis=0)
    found = {
        "labels_iou": labels.mean(),
        "equal": equal.mean(),
        "apart": np.quantile(apart, 0.95),
        "iou_whole": of_whole.mean(),
        "iou_tiles": of_tiles.mean(),
        "whole_cpu_s": slow,
        "tiles_cpu_s": fast,
    }
    line = {"benchmark": "growth windows", "data": args.data.resolve().name, "side": args.side}
    counts = {"frames": len(seconds), "targets": len(rows), "pixels": int(np.median(sizes))}
    print(json.dumps({**line, **counts, **{k: round(float(v), 4) for k, v in found.items()}}))


if __name__ == "__main__":
    main()
