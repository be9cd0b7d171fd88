"""Pd-Fa curves over all thresholds against labelling at 100 thresholds one by one, and how cost grows.

    python benchmarks/metrics_speed.py [--predictions predictions.npz]

Prints one JSON line for each measurement. The frames are the (probability map, mask) pairs of an .npz file with
arrays NAME and NAME_mask, repeated with slightly different scale until there are enough; without a file, made-up
maps of the same density (5 % of the pixels above 0). Both sides run in turn in one process, and the counts are
compared at each of the 100 thresholds.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dimpoint.metrics.curves import target_curve

Frame = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]

THRESHOLDS = np.linspace(0, 1, 100, endpoint=False)
EIGHT = np.ones((3, 3), int)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--predictions", type=Path, help=".npz with NAME and NAME_mask arrays")
    parser.add_argument("--frames", type=int, default=214)
    parser.add_argument("--runs", type=int, default=5, help="of each side; the median is reported")
    options = parser.parse_args()
    frames = [frame for _, frame in zip(range(options.frames), _frames(options.predictions), strict=False)]
    for name, label in {"opencv": _label_opencv, "scipy": _label_scipy}.items():
        _compare(name, label, frames, options.runs if name == "opencv" else 1)
    for megapixels in (1, 4, 16, 64):
        _measure_growth(_until(_frames(options.predictions), megapixels * 10**6), "frames")
    for megapixels in (1, 4, 16, 64):
        side = int((megapixels * 10**6) ** 0.5)
        _measure_growth([_synthetic(np.random.default_rng(0), side, side)], "one frame")


def _compare(
    name: str, label: Callable[[npt.NDArray[np.bool_]], Any], frames: list[Frame], runs: int
) -> None:
    ours, theirs = [], []
    for _ in range(runs):
        curve, seconds = _timed(lambda: target_curve(frames))
        ours.append(seconds)
        counts, seconds = _timed(lambda: _one_by_one(frames, label))
        theirs.append(seconds)
    at = curve.at(THRESHOLDS)
    _print(
        what=f"214-frame curve against {name} labelling at 100 thresholds",
        frames=len(frames),
        megapixels=round(curve.pixels / 1e6, 2),
        levels=len(curve.thresholds),
        all_levels_s=round(float(np.median(ours)), 3),
        one_by_one_s=round(float(np.median(theirs)), 3),
        times_faster=round(float(np.median(theirs) / np.median(ours)), 1),
        identical=bool((np.stack([at.tp, at.fp, at.false_pixels]) == counts).all()),
    )


def _one_by_one(frames: list[Frame], label: Callable[[npt.NDArray[np.bool_]], Any]) -> npt.NDArray[np.int64]:
    """(3, 100) tp, fp, false pixels of `basicirstd`, by labelling every frame at every threshold."""
    counts = np.zeros((3, len(THRESHOLDS)), np.int64)
    for prob, mask in frames:
        _, targets = label(mask)
        for index, threshold in enumerate(THRESHOLDS):
            areas, centres = label(prob > threshold)
            free = np.ones(len(areas), bool)
            for target in targets:
                near = np.flatnonzero(free & (np.hypot(*(centres - target).T) < 3))
                free[near[:1]] = False
            counts[:, index] += (len(areas) - free.sum(), free.sum(), areas[free].sum())
    return counts


def _label_opencv(mask: npt.NDArray[np.bool_]) -> tuple[Any, Any]:
    """Areas and centroids of a mask's components."""
    _, _, stats, centres = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    return stats[1:, cv2.CC_STAT_AREA].astype(np.int64), centres[1:]


def _label_scipy(mask: npt.NDArray[np.bool_]) -> tuple[Any, Any]:
    labels, count = ndimage.label(mask, EIGHT)
    y, x = np.nonzero(mask)
    label = labels[y, x] - 1
    areas = np.bincount(label, minlength=count)
    sums = [np.bincount(label, weights=values, minlength=count) for values in (x, y)]
    return areas, np.stack(sums, axis=1) / areas[:, None]


def _measure_growth(frames: list[Frame], kind: str) -> None:
    curve, first = _timed(lambda: target_curve(frames))
    _, second = _timed(lambda: target_curve(frames))
    seconds = min(first, second)
    _print(
        what=f"curve over all levels, {kind}",
        megapixels=round(curve.pixels / 1e6, 1),
        levels=len(curve.thresholds),
        seconds=round(seconds, 3),
        seconds_per_megapixel=round(seconds / curve.pixels * 1e6, 4),
    )


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def _frames(file: Path | None) -> Iterator[Frame]:
    """Frames without end, no two with the same levels."""
    rng = np.random.default_rng(0)
    if file is None:
        while True:
            yield _synthetic(rng, 230, 300)
    arrays = np.load(file)
    names = [name for name in arrays.files if not name.endswith("_mask")]
    pairs = [(arrays[name], arrays[name + "_mask"]) for name in names]
    while True:
        for prob, mask in pairs:
            yield prob * np.float32(rng.uniform(0.95, 1)), mask


def _synthetic(rng: np.random.Generator, height: int, width: int) -> Frame:
    """Specks on 5 % of the pixels, brighter blobs on some of the targets; one target in 45,000 pixels."""
    prob = rng.random((height, width), np.float32) ** 4
    prob[rng.random((height, width), np.float32) > 0.05] = 0
    mask = np.zeros((height, width), np.bool_)
    for _ in range(max(height * width // 45_000, 1)):
        y, x = rng.integers(3, height - 4), rng.integers(3, width - 4)
        mask[y - 1 : y + 2, x - 1 : x + 2] = True
        prob[y - 2 : y + 3, x - 2 : x + 3] = rng.random((5, 5), np.float32)
    return prob, mask


def _until(frames: Iterator[Frame], pixels: int) -> list[Frame]:
    taken: list[Frame] = []
    while sum(prob.size for prob, _ in taken) < pixels:
        taken.append(next(frames))
    return taken


def _print(**values: object) -> None:
    print(json.dumps(values | {"machine": f"{platform.machine()}, numpy {np.__version__}"}), flush=True)


if __name__ == "__main__":
    main()
