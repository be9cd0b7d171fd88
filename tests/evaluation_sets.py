"""A small labelled world for the tests of evaluation: spots on dark frames, their masks, and a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_sets import save, split
from tiny_models import blob_meta, spots, write_model

SIZE = (48, 64)  # height, width

# name -> targets (x, y, height of the spot); the model responds with about 0.9 times the height
SCENES: dict[str, list[tuple[int, int, float]]] = {
    "bright": [(20, 20, 1.0), (40, 30, 0.8)],
    "dim": [(30, 12, 0.5)],
    "empty": [],
    "lost": [(50, 40, 0.2)],  # answered by 0.18, below the model's threshold of 0.3
}
FALSE = {"empty": (10, 30, 0.6)}  # a spot that no mask has


def make_set(root: Path, test: tuple[str, ...] = tuple(SCENES)) -> Path:
    """A data set whose test split is `test` and whose train split is the rest."""
    for name, targets in SCENES.items():
        save(root / "images" / f"{name}.png", frame(name))
        save(root / "masks" / f"{name}.png", mask(targets))
    split(root, "test_X", *test)
    if len(test) < len(SCENES):
        split(root, "train_X", *(name for name in SCENES if name not in test))
    return root


def frame(name: str) -> npt.NDArray[np.uint8]:
    pixels = np.zeros(SIZE, np.float32)
    for x, y, height in [*SCENES[name], *([FALSE[name]] if name in FALSE else [])]:
        pixels = np.maximum(pixels, spots(SIZE, [(x, y)], height=height))
    return np.rint(pixels * 255).astype(np.uint8)


def mask(targets: list[tuple[int, int, float]]) -> npt.NDArray[np.uint8]:
    """3x3 pixels for each target."""
    values = np.zeros(SIZE, np.uint8)
    for x, y, _ in targets:
        values[y - 1 : y + 2, x - 1 : x + 2] = 255
    return values


def make_model(path: Path) -> Path:
    return write_model(path, blob_meta())


def make_maps(folder: Path, names: tuple[str, ...] = tuple(SCENES)) -> Path:
    """Probability maps, 8 bit: each target's mask with its height, and the false spot as one pixel."""
    for name in names:
        values = np.zeros(SIZE, np.uint8)
        for x, y, height in SCENES[name]:
            values[y - 1 : y + 2, x - 1 : x + 2] = round(height * 255)
        if name in FALSE:
            x, y, height = FALSE[name]
            values[y, x] = round(height * 255)
        save(folder / f"{name}.png", values)
    return folder


def detections(path: Path, entries: dict[str, list[tuple[float, float, float]]]) -> Path:
    """A detections.json with (x, y, score) by file."""
    images: list[dict[str, Any]] = [
        {
            "file": file,
            "width": SIZE[1],
            "height": SIZE[0],
            "detections": [{"x": x, "y": y, "score": score} for x, y, score in found],
        }
        for file, found in entries.items()
    ]
    path.write_text(json.dumps({"model": "somebody's", "images": images}))
    return path


def all_points(suffix: str = ".png") -> dict[str, list[tuple[float, float, float]]]:
    """What the model finds, as entries for `detections`."""
    spots_of = {name: [*SCENES[name], *([FALSE[name]] if name in FALSE else [])] for name in SCENES}
    return {f"{name}{suffix}": [(float(x), float(y), h) for x, y, h in s] for name, s in spots_of.items()}
