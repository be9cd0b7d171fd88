"""Curves over all thresholds against labelling at 100 thresholds one by one; how time and memory grow.

    python benchmarks/metrics_speed.py [--predictions FILE.npz] [--only speed|dense|growth|memory|cores]

Prints one JSON line for each measurement. The frames are the (probability map, mask) pairs of an .npz file
with arrays NAME and NAME_mask, repeated at slightly different scale until there are enough; without a file,
made-up maps of the same density (5 % of the pixels above 0). Both sides run in turn in one process, and their
counts are compared at each of the 100 thresholds.

`--only cores`: `dimpoint.evaluate` of a folder of maps, every pixel above 0, on one core and on all;
processor seconds for each second by the clock say how many cores are at work.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dimpoint import evaluate
from dimpoint.metrics.accumulate import Evaluator
from dimpoint.metrics.curves import target_curve
from dimpoint.metrics.exact import compiled

Frame = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]

THRESHOLDS = np.linspace(0, 1, 100, endpoint=False)
EIGHT = np.ones((3, 3), int)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--predictions", type=Path, help=".npz with NAME and NAME_mask arrays")
    parser.add_argument("--only", choices=["speed", "dense", "growth", "memory", "cores"])
    parser.add_argument("--megapixels", type=float, default=14.7, help="of the frames to compare on")
    parser.add_argument(
        "--runs", type=int, default=5, help="of each side in turn; the least times are reported"
    )
    parser.add_argument("--frames", type=int, default=10_000, help="to stream for the memory")
    options = parser.parse_args()
    if options.only in (None, "speed"):
        _speed(options)
    if options.only == "dense":
        _dense_maps(options)
    if options.only == "cores":
        _cores(options)
    if options.only in (None, "growth"):
        _growth(options)
    if options.only in (None, "memory"):
        _memory(options.frames)


def _speed(options: argparse.Namespace) -> None:
    frames = _until(_frames(options.predictions), options.megapixels * 1e6)
    _compare("opencv", _label_opencv, frames, options.runs)
    _compare("scipy", _label_scipy, frames, options.runs)
    _dense_maps(options)


def _dense_maps(options: argparse.Namespace) -> None:
    """Every pixel above 0, as sigmoid networks write: the compiled loops (numba), and arrays alone."""
    frames = [
        _dense(prob, mask) for prob, mask in _until(_frames(options.predictions), options.megapixels * 1e6)
    ]
    least = compiled.LEAST
    for name, value in (("numba", least), ("arrays", 2**62)):
        compiled.LEAST = value
        _compare(f"opencv, every pixel above 0, {name}", _label_opencv, frames, min(options.runs, 3))
    compiled.LEAST = least


def _cores(options: argparse.Namespace) -> None:
    """Evaluate a folder of maps on one core and on all, in turns."""
    frames = _until(_frames(options.predictions), options.megapixels * 1e6)
    every = os.sched_getaffinity(0)
    found: dict[int, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for part in ("maps", "data/images", "data/masks"):
            (root / part).mkdir(parents=True)
        for number, (prob, mask) in enumerate(frames):
            np.save(root / "maps" / f"{number}.npy", _dense(prob, mask)[0])
            cv2.imwrite(str(root / "data" / "masks" / f"{number}.png"), mask.astype(np.uint8) * 255)
            cv2.imwrite(str(root / "data" / "images" / f"{number}.png"), (prob * 255).astype(np.uint8))
        evaluate(root / "maps", root / "data", protocol="all")  # first use
        for _ in range(min(options.runs, 3)):
            for cores in ({min(every)}, every):
                os.sched_setaffinity(0, cores)
                began, used = time.perf_counter(), time.process_time()
                evaluate(root / "maps", root / "data", protocol="all")
                taken = time.perf_counter() - began, time.process_time() - used
                found.setdefault(len(cores), []).append(taken)
    for cores, taken in found.items():
        clock, used = min(taken)
        _print(
            what="evaluate a folder of maps",
            frames=len(frames),
            cores=cores,
            seconds=round(clock, 2),
            cores_at_work=round(used / clock, 2),
        )


def _growth(options: argparse.Namespace) -> None:
    for megapixels in (1, 4, 16, 64):
        _measure_growth(_until(_frames(options.predictions), megapixels * 1e6), "frames of about 0.07 Mpx")
    for megapixels in (1, 4, 16, 64):
        side = int((megapixels * 1e6) ** 0.5)
        _measure_growth([_synthetic(np.random.default_rng(0), side, side)], "one frame")


def _memory(frames: int) -> None:
    """What an evaluator holds, above what is there after the first frame."""
    rng = np.random.default_rng(0)
    evaluator = Evaluator()
    evaluator.update(*_synthetic(rng, 256, 256), "first")
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for index in range(1, frames):
        evaluator.update(*_synthetic(rng, 256, 256), str(index))
    result = evaluator.result()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _print(
        what="peak memory of Evaluator above the first frame",
        frames=frames,
        megapixels=round(result.target_curve.pixels / 1e6, 1),
        megabytes=round((peak - start) / 1024, 1),
        exact_levels=result.hse.exact,
    )


def _compare(
    name: str, label: Callable[[npt.NDArray[np.bool_]], Any], frames: list[Frame], runs: int
) -> None:
    ours, theirs = [], []
    target_curve(frames[:2])  # first use
    for _ in range(runs):
        curve, seconds = _timed(lambda: target_curve(frames))
        ours.append(seconds)
        counts, seconds = _timed(lambda: _one_by_one(frames, label))
        theirs.append(seconds)
    at = curve.at(THRESHOLDS)
    (all_levels, all_levels_cpu), (one_by_one, one_by_one_cpu) = np.min(ours, axis=0), np.min(theirs, axis=0)
    _print(
        what=f"curve over all levels against labelling at 100 thresholds, {name}",
        frames=len(frames),
        megapixels=round(curve.pixels / 1e6, 2),
        levels=len(curve.low),
        all_levels_s=round(all_levels, 3),
        one_by_one_s=round(one_by_one, 3),
        times_faster=round(one_by_one / all_levels, 1),
        times_faster_cpu=round(one_by_one_cpu / all_levels_cpu, 1),
        times_faster_by_run=[round(b / a, 1) for (a, _), (b, _) in zip(ours, theirs, strict=True)],
        identical=bool((np.stack([at.tp, at.fp, at.false_area]) == counts).all()),
    )


def _one_by_one(frames: list[Frame], label: Callable[[npt.NDArray[np.bool_]], Any]) -> npt.NDArray[np.int64]:
    """(3, 100) tp, fp, false pixels of `basicirstd`, by labelling every frame at every threshold."""
    counts = np.zeros((3, len(THRESHOLDS)), np.int64)
    for prob, mask in frames:
        _, targets, _ = label(mask)
        for index, threshold in enumerate(THRESHOLDS):
            areas, centres, labels = label(prob > threshold)
            free = np.ones(len(areas), bool)
            for target in targets:
                near = np.flatnonzero(free & (np.hypot(*(centres - target).T) < 3))
                if len(near) > 1:  # the first one in raster order, which not every labelling numbers first
                    near = [min(near, key=lambda number: int((labels == number + 1).argmax()))]
                free[near[:1]] = False
            counts[:, index] += (len(areas) - free.sum(), free.sum(), areas[free].sum())
    return counts


def _label_opencv(mask: npt.NDArray[np.bool_]) -> tuple[Any, Any, Any]:
    """Areas and centroids of a mask's components, and their labels from 1 (H, W)."""
    _, labels, stats, centres = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    return stats[1:, cv2.CC_STAT_AREA].astype(np.int64), centres[1:], labels


def _label_scipy(mask: npt.NDArray[np.bool_]) -> tuple[Any, Any, Any]:
    labels, count = ndimage.label(mask, EIGHT)
    y, x = np.nonzero(mask)
    label = labels[y, x] - 1
    areas = np.bincount(label, minlength=count)
    sums = [np.bincount(label, weights=values, minlength=count) for values in (x, y)]
    return areas, np.stack(sums, axis=1) / areas[:, None], labels


def _measure_growth(frames: list[Frame], kind: str) -> None:
    curve, first = _timed(lambda: target_curve(frames))
    _, second = _timed(lambda: target_curve(frames))
    seconds, cpu = np.minimum(first, second)
    _print(
        what=f"curve over all levels, {kind}",
        megapixels=round(curve.pixels / 1e6, 1),
        levels=len(curve.low),
        seconds=round(seconds, 3),
        seconds_per_megapixel=round(seconds / curve.pixels * 1e6, 4),
        cpu_seconds_per_megapixel=round(cpu / curve.pixels * 1e6, 4),
    )


def _timed(work: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """The result, and the seconds on the wall and of the processor (all threads)."""
    start, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, (time.perf_counter() - start, time.process_time() - cpu)


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


def _dense(prob: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> Frame:
    """The same map on a smooth background that has a score of its own at every pixel, as a sigmoid gives."""
    noise = np.random.default_rng(prob.size).random(prob.shape, np.float32)
    background = cv2.GaussianBlur(noise, (0, 0), 1.5)
    return np.maximum(prob, background * np.float32(0.1) + np.float32(1e-4)), mask


def _until(frames: Iterator[Frame], pixels: float) -> list[Frame]:
    taken: list[Frame] = []
    while sum(prob.size for prob, _ in taken) < pixels:
        taken.append(next(frames))
    return taken


def _print(**values: object) -> None:
    print(json.dumps(values | {"machine": f"{platform.machine()}, numpy {np.__version__}"}), flush=True)


if __name__ == "__main__":
    main()
