"""How long synthetic scenes take, and how they compare with a real data set. Prints JSON lines.

python benchmarks/synthetic_scenes.py [--data DIR ...]

The first lines are median CPU milliseconds per 256x256 scene and per call of `paste_targets`. The next give,
for 300 synthetic frames and for each data set DIR (layout images/ and masks/), percentiles over frames and
targets: mean and std of a frame, slope of its power spectrum, area of a mask, and local SCR.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np

from dimpoint.datasets.dataset import open_dataset
from dimpoint.synthetic.planting import SCR_WINDOW, paste_targets
from dimpoint.synthetic.scenes import SceneConfig, make_scene, make_scenes

PERCENTS = (10, 50, 90)
Frames = Iterable[tuple[np.ndarray, np.ndarray]]  # frame, mask


def milliseconds(work: Callable[[np.random.Generator], object], runs: int) -> float:
    spent = []
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        start = time.process_time()
        work(rng)
        spent.append(time.process_time() - start)
    return round(1000 * float(np.median(spent)), 2)


def spectral_slope(frame: np.ndarray) -> float:
    side = min(frame.shape)
    window = np.hanning(side)
    part = frame[:side, :side] - frame[:side, :side].mean()
    power = np.abs(np.fft.fft2(part * window[:, None] * window)) ** 2
    f = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side))
    edges = np.geomspace(0.01, 0.3, 12)
    band = np.digitize(f, edges)
    levels = [np.log(power[band == i].mean() + 1e-9) for i in range(1, 12)]
    return float(-np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), levels, 1)[0])


def local_scr(
    frame: np.ndarray, labels: np.ndarray, near: np.ndarray, label: int, centre: np.ndarray
) -> float:
    half = SCR_WINDOW // 2
    x, y = np.rint(centre).astype(int)
    window = np.s_[max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1]
    clutter = frame[window][~near[window]]
    if not clutter.size:
        return float("nan")
    return float((frame[labels == label].max() - clutter.mean()) / max(clutter.std(), 1.0))


def describe(name: str, frames: Frames) -> dict[str, object]:
    values: dict[str, list[float]] = {"mean": [], "std": [], "slope": [], "area": [], "scr": []}
    for frame, mask in frames:
        counts = frame.astype(np.float64)
        values["mean"].append(counts.mean())
        values["std"].append(counts.std())
        values["slope"].append(spectral_slope(counts))
        binary = mask.astype(np.uint8)
        count, labels, stats, centres = cv2.connectedComponentsWithStats(binary, connectivity=8)
        near = cv2.dilate(binary, np.ones((7, 7), np.uint8)) > 0
        values["area"] += stats[1:, cv2.CC_STAT_AREA].tolist()
        values["scr"] += [local_scr(counts, labels, near, i, centres[i]) for i in range(1, count)]
    percentiles = {key: np.nanpercentile(v, PERCENTS).round(2).tolist() for key, v in values.items() if v}
    return {"frames": name, "percentiles": list(PERCENTS), **percentiles}


def real_frames(folder: Path, most: int) -> Frames:
    samples = open_dataset(folder, labels="masks").samples
    for sample in samples[:: max(1, len(samples) // most)]:
        yield sample.read_frame(), sample.read_mask()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="real data sets with masks")
    folders = parser.parse_args().data
    for kind in ("cloud", "sea", "ground"):
        config = SceneConfig(background=kind)
        time_taken = milliseconds(lambda rng, config=config: make_scene(config, rng), 60)
        print(json.dumps({"scene": kind, "size": [256, 256], "cpu_milliseconds": time_taken}))
    crop = make_scene(SceneConfig(empty_share=1), np.random.default_rng(0)).frame.astype(np.float32) / 255
    time_taken = milliseconds(lambda rng: paste_targets(crop, rng, 3, saturation=1.0), 200)
    print(json.dumps({"paste": 3, "size": [256, 256], "cpu_milliseconds": time_taken}))
    scenes = ((scene.frame, scene.mask) for scene in make_scenes(SceneConfig(), 300, 5))
    print(json.dumps(describe("synthetic", scenes)))
    for folder in folders:
        print(json.dumps(describe(folder.name, real_frames(folder, 300))))


if __name__ == "__main__":
    main()
