"""What cached features differ from encoding each view, and what both cost, one JSON line for a kind of view.

    python benchmarks/feature_cache.py --foundation FOLDER_OR_ID --data NUAA-SIRST [--frames 40] [--size 256]

Each view of a training frame is cut out of the frame and encoded (direct), and read from the frame's cached
grid. For each tap: `cosine` of the two tokens of a cell after the mean token of all views is taken off, mean
over cells, and `error`, the root of the squared differences over that of the squared direct tokens, the mean
token taken off too. `other` is the cosine of direct tokens of two different frames: what chance gives.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dimpoint.datasets.dataset import open_dataset, training_split
from dimpoint.fdep.cache import FeatureCache
from dimpoint.fdep.encoder import FoundationEncoder
from dimpoint.model.intensity import IntensityRule

Affine = npt.NDArray[np.float64]
Shape = tuple[int, ...]


def about(centre: Affine, linear: Affine, size: int) -> Affine:
    """The map that takes a place of the frame to the view's middle."""
    middle = np.full(2, (size - 1) / 2)
    return np.hstack([linear, (middle - linear @ centre)[:, None]])


def inside(shape: Shape, size: int, step: int, rng: np.random.Generator) -> Affine:
    """The middle of a random crop within the frame (from its corner, where it is smaller), at steps."""
    corner = [int(rng.integers(max(0, side - size) // step + 1)) * step for side in shape[::-1]]
    return np.array(corner) + (size - 1) / 2


def turn(angle: float, scale: float = 1.0, flip: float = 1.0) -> Affine:
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return scale * np.array([[flip * cos, -sin], [flip * sin, cos]])


def kinds(patch: int, size: int) -> dict[str, Callable[[Shape, np.random.Generator], Affine]]:
    """The affine maps of each kind of view."""
    one = np.eye(2)

    def border(shape: Shape, rng: np.random.Generator) -> Affine:
        place = rng.uniform(0, 1, 2) * (np.array(shape[::-1]) - 1)
        place[rng.integers(2)] = 0.0
        return about(place.round() + 0.5, one, size)

    return {
        "crop along the cells": lambda shape, rng: about(inside(shape, size, patch, rng), one, size),
        "crop": lambda shape, rng: about(inside(shape, size, 1, rng), one, size),
        "flip and quarter turn": lambda shape, rng: about(
            inside(shape, size, 1, rng), turn(90.0 * rng.integers(4), flip=-1.0).round(), size
        ),
        "scale 0.75 to 1.4": lambda shape, rng: about(
            inside(shape, size, 1, rng), turn(0, math.exp(rng.uniform(*np.log([0.75, 1.4])))), size
        ),
        "free turn": lambda shape, rng: about(inside(shape, size, 1, rng), turn(rng.uniform(-45, 45)), size),
        "half beyond the border": border,
        "crop with contrast, offset and noise": lambda shape, rng: about(
            inside(shape, size, 1, rng), one, size
        ),
    }


def look(pixels: npt.NDArray[np.float32], affine: Affine, size: int) -> npt.NDArray[np.float32]:
    return cv2.warpAffine(
        pixels, affine, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )


def compare(read: Tensor, direct: Tensor) -> dict[str, float]:
    """Tokens (views, D, cells, cells) of one tap, from the cache and from the encoder."""
    mean = direct.mean(dim=(0, 2, 3), keepdim=True)
    read, direct = read - mean, direct - mean
    error = (read - direct).square().sum().sqrt() / direct.square().sum().sqrt()
    similar = torch.cosine_similarity
    return {
        "cosine": round(similar(read, direct, dim=1).mean().item(), 3),
        "error": round(error.item(), 3),
        "other": round(similar(direct, direct.roll(1, 0), dim=1).mean().item(), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--foundation", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--intensity", default="display", choices=["dtype", "percentile", "display"])
    parser.add_argument(
        "--one-orientation", action="store_true", help="flipped views read the unflipped frame's features"
    )
    arguments = parser.parse_args()
    size = arguments.size
    rule = IntensityRule(kind=arguments.intensity, low=1, high=99)
    samples = list(open_dataset(arguments.data, training_split(arguments.data)))
    samples = samples[:: max(1, len(samples) // arguments.frames)][: arguments.frames]
    frames = [rule.apply(one.read_frame()) for one in samples]
    encoder = FoundationEncoder(arguments.foundation)
    with tempfile.TemporaryDirectory() as folder:
        cache = FeatureCache(Path(folder), encoder, 1 << 40, orientations=not arguments.one_orientation)
        begin = time.perf_counter()
        for pixels in frames:
            cache.get(pixels)
        filled = time.perf_counter() - begin
        files = sum(file.stat().st_size for file in Path(folder).rglob("*.safetensors"))
        fixed = {
            "foundation": Path(arguments.foundation).name,
            "data": arguments.data.name,
            "frames": len(frames),
            "size": size,
        }
        costs = {
            "ms_to_fill_a_frame": round(1e3 * filled / len(frames), 1),
            "mb_a_frame": round(files / 1e6 / len(frames), 2),
        }
        print(json.dumps(fixed | costs))
        for name, draw in kinds(encoder.patch, size).items():
            print(json.dumps(fixed | measure(name, draw, frames, encoder, cache, size)), flush=True)


def measure(
    name: str,
    draw: Callable[[Shape, np.random.Generator], Affine],
    frames: list[npt.NDArray[np.float32]],
    encoder: FoundationEncoder,
    cache: FeatureCache,
    size: int,
) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    direct, read, spent = [], [], {"direct": 0.0, "cached": 0.0}
    for pixels in frames:
        affine = draw(pixels.shape, rng)
        view = look(pixels, affine, size)
        if "contrast" in name:
            view = view * math.exp(rng.uniform(-0.4, 0.4)) + rng.uniform(-0.2, 0.2)
            view = (view + 0.04 * rng.uniform() * rng.standard_normal(view.shape)).astype(np.float32)
        begin = time.perf_counter()
        direct.append(encoder(torch.from_numpy(view)[None, None]))
        middle = time.perf_counter()
        spent["direct"] += middle - begin
        cells = [grid.shape[-1] for grid in direct[-1]]
        cache.view(pixels, affine, size, cells)  # fills the cache: reading is timed
        begin = time.perf_counter()
        read.append(cache.view(pixels, affine, size, cells))
        spent["cached"] += time.perf_counter() - begin
    taps = [
        compare(torch.stack(ours), torch.cat(theirs))
        for ours, theirs in zip(zip(*read, strict=True), zip(*direct, strict=True), strict=True)
    ]
    return {
        "view": name,
        **{key: [tap[key] for tap in taps] for key in taps[0]},
        **{f"ms_{key}": round(1e3 * value / len(frames), 1) for key, value in spent.items()},
    }


if __name__ == "__main__":
    main()
