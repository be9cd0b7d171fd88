"""How the first regions around points agree with true masks, one JSON line for each data set and offset.

    python benchmarks/first_regions.py --data NUAA-SIRST --data NUDT-SIRST

Training frames only. `offset`: points are moved by up to this many pixels, in x and in y, at random (seed 0).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from dimpoint.datasets.dataset import open_dataset, training_split
from dimpoint.targets.growth import Growth, first_regions, mask_of


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--offset", type=float, action="append", help="left out: 0 and 3")
    options = parser.parse_args()
    for root in options.data:
        part = open_dataset(root, training_split(root), labels="masks")
        for offset in options.offset or (0.0, 3.0):
            rng, ious = np.random.default_rng(0), []
            for sample in part:
                mask, points = sample.read_mask(), sample.read_points()
                if len(points):
                    moved = points + rng.uniform(-offset, offset, points.shape)
                    regions = first_regions(sample.read_frame(), moved, Growth())
                    label = mask_of(regions, mask.shape)
                    ious.append(float((label & mask).sum() / (label | mask).sum()))
            line = {"data": part.name, "offset": offset, "frames": len(ious)}
            print(json.dumps({**line, "iou": round(float(np.mean(ious)), 4)}), flush=True)


if __name__ == "__main__":
    main()
