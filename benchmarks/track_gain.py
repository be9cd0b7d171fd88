"""What tracks find beyond single frames, at equal false alarms: one JSON line for each signal-to-noise ratio.

    python benchmarks/track_gain.py --backgrounds HIT-UAV-background [--picture docs/images/track_gain.png]

Made sequences: windows of 256x256 that pan and shake over real target-free frames (the choosing part of
parts.py), white noise of 4 counts, and two point targets (sigma 1.1 pixels) that fly at 12 to 30 pixels a
second. snr: a target's peak over the standard deviation of the 15x15 pixels around it, noise included. The
candidates are peaks of a matched filter, not a network's, which makes a run short and the ratio exact.

`track_pd`: targets in frames at which a confirmed track's point lies within 3 pixels; `false`: points of
confirmed tracks elsewhere, for each frame. `frame_pd`: the same of single candidates, at the threshold that
gives as many false ones. The scene's own spots (roofs, lamps) persist, too, and are tracks: `moving_` counts
only tracks whose mean velocity against the scene is 6 pixels a second or more, which single frames cannot
know. Of the first 0.5 s nothing counts.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.inference.detections import Detections
from dimpoint.tracking.motion import MotionEstimator
from dimpoint.tracking.tracker import Tracker
from parts import backgrounds

Array = npt.NDArray[np.float64]
SIDE, FRAMES, RATE, SKIP = 256, 90, 30.0, 15
SPOT, NOISE, REACH = 1.1, 4.0, 3.0
MOVES = 6.0  # pixels a second
LEAST, SURE = 2.8, 6.0  # of the filter's output: a candidate; one of score 1


def sequence(wide: npt.NDArray[np.uint8], snr: float, rng: np.random.Generator) -> tuple[list[Any], Array]:
    """Frames (uint8) and target places (FRAMES, 2, 2)."""
    y, x = np.mgrid[:SIDE, :SIDE]
    begin = rng.uniform(70, SIDE - 70, (2, 2))
    angle, rate = rng.uniform(0, 2 * np.pi, 2), rng.uniform(12, 30, 2) / RATE
    speed = np.column_stack([np.cos(angle), np.sin(angle)]) * rate[:, None]
    pan = rng.uniform(-0.8, 0.8, 2)
    middle = (np.array([wide.shape[1], wide.shape[0]]) - SIDE) / 2
    frames, places = [], []
    for n in range(FRAMES):
        at = middle + pan * (n - FRAMES / 2) + rng.normal(0, 0.7, 2)
        move = np.array([[1, 0, -at[0]], [0, 1, -at[1]]])
        view = cv2.warpAffine(wide.astype(np.float32), move, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)
        view = view * 0.7 + 30 + rng.normal(0, NOISE, view.shape)
        here = begin + speed * n
        for left, top in here:
            row, column = int(top), int(left)
            peak = snr * view[row - 7 : row + 8, column - 7 : column + 8].std()
            view += peak * np.exp(-((x - left) ** 2 + (y - top) ** 2) / (2 * SPOT**2))
        frames.append(view.clip(0, 255).astype(np.uint8))
        places.append(here)
    return frames, np.array(places)


def candidates(frame: npt.NDArray[np.uint8]) -> tuple[Array, Array]:
    """Peaks of the matched filter (N, 2), and their heights over the local noise (N,)."""
    grey = frame.astype(np.float32)
    found = cv2.GaussianBlur(grey, (0, 0), SPOT) - cv2.GaussianBlur(grey, (0, 0), 4.0)
    deviation = np.sqrt(cv2.blur(found * found, (31, 31)))
    height = found / np.maximum(deviation, 0.5)
    peak = (height >= cv2.dilate(height, np.ones((5, 5)))) & (height > LEAST)
    peak[:4], peak[-4:], peak[:, :4], peak[:, -4:] = False, False, False, False
    row, column = np.nonzero(peak)
    xy = [
        at + _offset(height[row - dy, column - dx], height[row, column], height[row + dy, column + dx])
        for at, dx, dy in ((column, 1, 0), (row, 0, 1))
    ]
    return np.column_stack(xy).astype(np.float64), height[row, column].astype(np.float64)


def _offset(before: Any, here: Any, after: Any) -> Any:
    """Where the top of a parabola through three values lies, -0.5..0.5 pixels."""
    return np.clip((before - after) / (2 * np.minimum(before - 2 * here + after, -1e-6)), -0.5, 0.5)


def near(xy: Array, targets: Array) -> npt.NDArray[np.bool_]:
    """(N, 2) points -> (N, 2): which lies at which target."""
    return np.hypot(*np.moveaxis(xy[:, None] - targets[None], 2, 0)) <= REACH


def run(
    frames: list[Any], places: Array
) -> tuple[dict[str, float], list[tuple[Array, npt.NDArray[np.bool_]]]]:
    estimate, tracker = MotionEstimator(), Tracker()
    single = []
    for number, frame in enumerate(frames):
        xy, height = candidates(frame)
        single.append((height, near(xy, places[number])))
        scores = np.clip(0.3 + 0.7 * (height - LEAST) / (SURE - LEAST), 0, 1)
        found = Detections(xy.astype(np.float32), scores.astype(np.float32))
        tracker.update(found, number / RATE, motion=estimate(frame))
    confirmed = [one for one in tracker.all_tracks() if one.state == "confirmed"]
    moving = [
        one
        for one in confirmed
        if np.hypot(*np.mean([(point.vx, point.vy) for point in one.trimmed()], axis=0)) >= MOVES
    ]
    count = {"targets": 2.0 * (FRAMES - SKIP)}
    for name, tracks in (("", confirmed), ("moving_", moving)):
        points: list[list[tuple[float, float]]] = [[] for _ in frames]
        for one in tracks:
            for point in one.trimmed():
                points[point.frame].append((point.x, point.y))
        at = [
            near(np.array(points[number], np.float64).reshape(-1, 2), places[number])
            for number in range(SKIP, FRAMES)
        ]
        count[f"{name}found"] = float(sum(each.any(axis=0).sum() for each in at))
        count[f"{name}false"] = float(sum((~each.any(axis=1)).sum() for each in at))
    return count, single[SKIP:]


def frame_pd(single: list[tuple[Array, npt.NDArray[np.bool_]]], false: float) -> float:
    """Of single candidates, at the threshold with `false` false ones in all."""
    wrong = np.sort(np.concatenate([height[~at.any(axis=1)] for height, at in single]))[::-1]
    allowed = int(false)
    threshold = wrong[allowed] if allowed < len(wrong) else LEAST
    found = sum((at[height > threshold]).any(axis=0).sum() for height, at in single)
    return float(found / (2 * len(single)))


def draw(path: Path, lines: list[dict[str, float]]) -> None:
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(6, 3.6), layout="constrained")).add_subplot()
    for key, words in (
        ("moving_track_pd", "moving tracks"),
        ("moving_frame_pd", "single frames, equal false alarms"),
    ):
        axes.plot([line["snr"] for line in lines], [line[key] for line in lines], "o-", label=words)
    axes.set(xlabel="signal-to-noise ratio of a target", ylabel="found, part of frames", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backgrounds", type=Path, required=True, help="the folder HIT-UAV-background")
    parser.add_argument("--sequences", type=int, default=8, help="of each ratio")
    parser.add_argument("--snr", type=float, nargs="+", default=[1.5, 2, 2.5, 3, 4, 5])
    parser.add_argument("--picture", type=Path, help="a PNG file for the curve")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    files = backgrounds(options.backgrounds)[0]
    step = max(1, len(files) // options.sequences)
    wides = [cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) for file in files[::step][: options.sequences]]
    lines = []
    for snr in options.snr:
        total: dict[str, float] = {}
        single: list[Any] = []
        for seed, wide in enumerate(wides):
            count, seen = run(*sequence(wide, snr, np.random.default_rng(seed)))
            total = {key: total.get(key, 0) + value for key, value in count.items()}
            single += seen
        line = {"snr": snr}
        for name in ("", "moving_"):
            line[f"{name}track_pd"] = round(total[f"{name}found"] / total["targets"], 3)
            line[f"{name}frame_pd"] = round(frame_pd(single, total[f"{name}false"]), 3)
            line[f"{name}false"] = round(total[f"{name}false"] / len(single), 3)
        lines.append(line)
        print(json.dumps(line), flush=True)
    if options.picture is not None:
        draw(options.picture, lines)


if __name__ == "__main__":
    main()
