"""How often labels are said to lie elsewhere: true labels, faint and dark targets, and labels read wrongly.

    python benchmarks/label_places.py DATASET …

Of 100 frames of each data set, subsets of 5, 10 and 20 are drawn. Targets are weakened by painting over them
(OpenCV's `inpaint`) and adding a part of the difference. Prints the number of subsets with a doubt.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import cv2
import numpy as np

from dimpoint.datasets import places
from dimpoint.datasets.dataset import open_dataset

SUBSETS = {5: 60, 10: 40, 20: 40}  # frames: subsets
WRONG = {
    "x and y swapped": lambda xy, _: xy[:, ::-1],
    "percent": lambda xy, size: xy * 100 / np.array(size[::-1]),
    "from the bottom": lambda xy, size: np.column_stack([xy[:, 0], size[0] - 1 - xy[:, 1]]),
    "from 1": lambda xy, _: xy + 1,
}


@dataclass(frozen=True)
class Memory:
    """A sample that is read already."""

    frame: np.ndarray
    points: np.ndarray

    def read_frame(self) -> np.ndarray:
        return self.frame

    def read_points(self) -> np.ndarray:
        return self.points


def weakened(frame: np.ndarray, mask: np.ndarray, part: float, rng: np.random.Generator) -> np.ndarray:
    """The frame with `part` of the contrast of its targets, and noise of one level."""
    eight = frame if frame.dtype == np.uint8 else cv2.convertScaleAbs(frame, alpha=255 / 65535)
    wide = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5)))
    without = cv2.inpaint(eight, wide, 3, cv2.INPAINT_TELEA).astype(np.float32)
    noise = rng.normal(0, 1, frame.shape)
    return np.where(wide > 0, without + part * (eight - without) + noise, eight).astype(np.float32)


def said(samples: list[Memory], rng: np.random.Generator) -> str:
    total = elsewhere = shifted = 0
    for frames, subsets in SUBSETS.items():
        for _ in range(subsets):
            drawn = [samples[i] for i in rng.choice(len(samples), min(frames, len(samples)), replace=False)]
            found = places.placement(drawn)  # type: ignore[arg-type]
            total += 1
            elsewhere += found.rule is not None
            shifted += found.shift is not None
    return f"of {total} subsets {elsewhere} elsewhere, {shifted} shifted"


def main() -> None:
    rng = np.random.default_rng(0)
    for root in sys.argv[1:]:
        data = open_dataset(root)
        labelled = [s for s in data.samples[:: max(1, len(data) // 100)] if len(s.read_points())]
        samples = [Memory(s.read_frame(), s.read_points().astype(np.float64)) for s in labelled]
        print(f"{data.name}: true labels: {said(samples, rng)}", flush=True)
        for part in (0.3, 0.1, 0.0, -0.3):
            weak = [
                replace(one, frame=weakened(one.frame, s.read_mask(), part, rng))
                for one, s in zip(samples, labelled, strict=True)
            ]
            print(f"{data.name}: contrast x {part}: {said(weak, rng)}", flush=True)
        for name, change in WRONG.items():
            wrong = [replace(one, points=change(one.points, one.frame.shape)) for one in samples]
            print(f"{data.name}: {name}: {said(wrong, rng)}", flush=True)


if __name__ == "__main__":
    main()
