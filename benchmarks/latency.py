"""Array to points, one frame at a time: the published way in torch against `Detector`, side by side.

    python benchmarks/latency.py --weights SPIRE.pth --frames FOLDER [--model NAME_OR_FILE]...

Prints one JSON line for each variant. `published` is SPIRE's network in eager torch with the authors'
decoding written in Python, as they publish it; `spire` is the same weights as an ONNX model in
`Detector`; each --model is another model in `Detector`. The variants take turns on every frame, so that
a busy machine slows them alike; `ratio` is a variant's median time over that of `published`,
`ratio_least` the same of the least times, which a busy machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F  # noqa: N812

from dimpoint.inference.detector import Detector
from dimpoint.model.checkpoint import import_model
from dimpoint.model.export import export_onnx
from dimpoint.networks import Network

Points = npt.NDArray[np.float32]
Variant = Callable[[npt.NDArray[Any]], Points]

REST = 0.05  # seconds before a run, in which the threads of the last one, that wait spinning, go to sleep


def published(network: Network) -> Variant:
    """SPIRE as published, for frames that need no warp: three channels, eager torch, decoding in Python."""
    mean, std = np.asarray(network.mean, np.float32), np.asarray(network.std, np.float32)

    def detect(frame: npt.NDArray[Any]) -> Points:
        colour = cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB).astype(np.float32) / 255
        inputs = torch.from_numpy((colour - mean) / std).permute(2, 0, 1)[None]
        with torch.inference_mode():
            return _published_decoding(network(inputs))

    return detect


def _published_decoding(response: torch.Tensor) -> Points:
    """3x3 maxima above 0.35, the relative-height rule, at most 8, a quarter pixel to the higher neighbour."""
    peaks = response * (F.max_pool2d(response, 3, 1, 1) == response)
    heat = response[0, 0].numpy()
    rows, columns = np.nonzero(peaks[0, 0].numpy() > 0.35)
    kept: list[float] = []
    points = []
    for height, x, y in sorted(zip(heat[rows, columns], columns, rows, strict=True), reverse=True):
        if len(kept) < 8 and all(abs(height - other) <= 0.35 * max(height, other) for other in kept):
            kept.append(height)
            points.append(_shifted(heat, int(x), int(y)))
    return np.asarray(points, np.float32).reshape(-1, 2) * 4


def _shifted(heat: npt.NDArray[np.float32], x: int, y: int) -> tuple[float, float]:
    inside_x, inside_y = 0 < x < heat.shape[1] - 1, 0 < y < heat.shape[0] - 1
    shift_x = np.sign(heat[y, x + 1] - heat[y, x - 1]) / 4 if inside_x else 0.0
    shift_y = np.sign(heat[y + 1, x] - heat[y - 1, x]) / 4 if inside_y else 0.0
    return x + float(shift_x), y + float(shift_y)


def detector(model: str | Path, threads: int) -> Variant:
    """A model in `Detector`."""
    found = Detector(model, threads=threads)
    return lambda frame: found(frame).xy


def read_frames(folder: Path, size: int, most: int) -> list[npt.NDArray[Any]]:
    """The first `most` frames of size x size in a folder, grey, 8 bit."""
    read = (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted(folder.iterdir()))
    frames = [frame for frame in read if frame is not None and frame.shape == (size, size)][:most]
    if not frames:
        raise SystemExit(f"{folder}: no {size}x{size} frame")
    return frames


def compare(
    variants: dict[str, Variant], frames: list[npt.NDArray[Any]], repeats: int
) -> tuple[dict[str, list[float]], dict[str, list[Points]]]:
    """Milliseconds of every run and the points of every frame, by variant; the first round only warms up."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    points: dict[str, list[Points]] = {
        name: [detect(frame) for frame in frames] for name, detect in variants.items()
    }
    for _ in range(repeats):
        for frame in frames:
            for name, detect in variants.items():
                time.sleep(REST)
                start = time.perf_counter()
                detect(frame)
                times[name].append((time.perf_counter() - start) * 1e3)
    return times, points


def farthest(points: list[Points], reference: list[Points]) -> float | None:
    """Largest distance of the same points in two variants, pixels; None where their numbers differ."""
    if any(len(one) != len(other) for one, other in zip(points, reference, strict=True)):
        return None
    ordered = [
        one[np.lexsort(one.T)] - other[np.lexsort(other.T)]
        for one, other in zip(points, reference, strict=True)
    ]
    return float(np.abs(np.concatenate(ordered)).max(initial=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--weights", type=Path, required=True, help="the authors' SPIRE checkpoint")
    parser.add_argument("--frames", type=Path, required=True, help="a folder of pictures")
    parser.add_argument("--model", action="append", default=[], help="another model, by name or file")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--most", type=int, default=10, help="frames to use")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    frames = read_frames(arguments.frames, arguments.size, arguments.most)
    network, meta = import_model("spire", arguments.weights)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "spire.onnx"
        export_onnx(network, meta, model)
        variants = {"published": published(network), "spire": detector(model, arguments.threads)}
        variants |= {name: detector(name, arguments.threads) for name in arguments.model}
        times, points = compare(variants, frames, arguments.repeats)
    base, base_least = float(np.median(times["published"])), min(times["published"])
    for name, taken in times.items():
        line = {
            "benchmark": "latency",
            "variant": name,
            "size": arguments.size,
            "frames": len(frames),
            "threads": arguments.threads,
            "ms": round(float(np.median(taken)), 2),
            "ms_least": round(min(taken), 2),
            "ratio": round(float(np.median(taken)) / base, 3),
            "ratio_least": round(min(taken) / base_least, 3),
            "points": sum(len(one) for one in points[name]),
            "farthest_from_published_px": farthest(points[name], points["published"]),
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main()
