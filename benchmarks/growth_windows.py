"""What an update of grown labels costs on large frames, predicted whole and around the points only.

    python benchmarks/growth_windows.py --data SIRST-v2 --model run/model.safetensors --mosaic 2

One JSON line over the training frames of more than `WHOLE` tiles of `--side` pixels, with points at the
centroids of their masks; with `--mosaic N`, over mosaics of N x N frames of one size; with `--targets K`,
with the first K targets of each. The first regions are updated `--updates` times with the prediction of the
whole frame, and with that of tiles.
`labels_iou`: mean IoU of a target's two labels; `equal`: share of the targets whose labels are the same;
`apart`: 95th percentile over the targets of the largest difference of the probability in their windows;
`iou_whole`, `iou_tiles`: mean IoU of the labels with the true masks. Times are processor seconds a frame.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.datasets.dataset import open_dataset, training_split
from dimpoint.inference.detector import Detector
from dimpoint.inference.windows import WHOLE, probability_at
from dimpoint.metrics.components import Components
from dimpoint.targets.growth import Growth, Region, first_regions, grow

Frame = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Map = npt.NDArray[np.float32]


def timed(work: Callable[[], Map]) -> tuple[Map, float]:
    before = time.process_time()
    return work(), time.process_time() - before


def scenes(data: Path, mosaic: int) -> Iterator[tuple[Frame, Mask]]:
    """The training frames and their masks, or mosaics of them."""
    waiting: dict[tuple[int, ...], list[tuple[Frame, Mask]]] = {}
    for sample in open_dataset(data, training_split(data), labels="masks"):
        pair = sample.read_frame(), sample.read_mask()
        same = waiting.setdefault(pair[0].shape, [])
        same.append(pair)
        if len(same) == mosaic**2:
            rows = [same[k : k + mosaic] for k in range(0, mosaic**2, mosaic)]
            yield tuple(np.block([[each[kind] for each in row] for row in rows]) for kind in (0, 1))
            same.clear()


def iou(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


def updated(frame: Frame, prediction: Map, regions: list[Region], rule: Growth, updates: int) -> list[Region]:
    for _ in range(updates):
        regions = grow(frame, prediction, regions, rule)
    return regions


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="a data set with masks and large frames")
    parser.add_argument("--model", type=Path, required=True, help="weights of a segmentation network")
    parser.add_argument(
        "--side", type=int, default=512, help="side of a tile: twice that of the training crops"
    )
    parser.add_argument("--mosaic", type=int, default=1)
    parser.add_argument("--targets", type=int, help="of a scene, at most; default: all")
    parser.add_argument("--updates", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    detector, rule = Detector(args.model, threads=args.threads), Growth()
    seconds, sizes, rows = [], [], []
    for frame, mask in scenes(args.data, args.mosaic):
        objects = Components.of(mask)
        points = objects.centroids[: args.targets]
        if frame.size <= WHOLE * args.side**2 or not len(points):
            continue
        first = first_regions(frame, points, rule)
        windows = [region.window for region in first]
        whole, slow = timed(lambda frame=frame: detector.probability_map(frame))
        tiles, fast = timed(
            lambda frame=frame, windows=windows: probability_at(detector, frame, windows, args.side)
        )
        seconds.append((slow, fast))
        sizes.append(frame.size)
        numbers = np.full(mask.size, -1)
        numbers[objects.pixels] = objects.labels
        numbers = numbers.reshape(mask.shape)
        both = [updated(frame, seen, first, rule, args.updates) for seen in (whole, tiles)]
        for target, (one, other) in enumerate(zip(*both, strict=True)):
            part = one.window
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
    if not rows:
        parser.error(f"{args.data}: no frame with targets has more than {WHOLE * args.side**2} pixels")
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
