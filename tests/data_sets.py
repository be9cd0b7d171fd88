"""Tiny data sets on disk for the tests of `dimpoint.data`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

SIZE = (12, 16)  # height, width of every made frame


def frame(seed: int, size: tuple[int, int] = SIZE) -> npt.NDArray[np.uint8]:
    """A frame of noise; another seed gives other pixels."""
    return np.random.default_rng(seed).integers(0, 200, size, dtype=np.uint8)


def mask(*targets: tuple[int, int], size: tuple[int, int] = SIZE) -> npt.NDArray[np.uint8]:
    """A mask with a one-pixel target at each (x, y)."""
    values = np.zeros(size, np.uint8)
    for x, y in targets:
        values[y, x] = 255
    return values


def save(path: Path, values: npt.NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), values)


def make(root: Path, count: int = 4, *, train: int = 2, masks: bool = True) -> Path:
    """A clean set of frames a, b, c, …, each with one target; the first `train` are the train split."""
    names = [chr(ord("a") + i) for i in range(count)]
    for i, name in enumerate(names):
        save(root / "images" / f"{name}.png", frame(i))
        if masks:
            save(root / "masks" / f"{name}.png", mask((i + 1, i + 2)))
    if train:
        split(root, "train_X", *names[:train])
        split(root, "test_X", *names[train:])
    return root


def split(root: Path, stem: str, *lines: str) -> None:
    path = root / "img_idx" / f"{stem}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def coco(*points: tuple[float, float, int], file_name: str = "a.png") -> dict[str, Any]:
    """A COCO file of one image with one annotation per point (x, y, v)."""
    return {
        "images": [{"id": 7, "file_name": file_name, "width": SIZE[1], "height": SIZE[0]}],
        "annotations": [
            {
                "id": 100 + i,
                "image_id": 7,
                "category_id": 1,
                "num_keypoints": int(v > 0),
                "keypoints": [x, y, v],
            }
            for i, (x, y, v) in enumerate(points)
        ],
        "categories": [{"id": 1, "name": "target"}],
    }


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path
