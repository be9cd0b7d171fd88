"""A data set for tests of training: frames with one bright spot each."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def make_spots(root: Path, without: int = 0) -> Path:
    """Twelve 64x48 frames with a bright 3x3 spot each, with masks and a train split of nine.

    without: how many of the first have no spot.
    """
    for folder in ("images", "masks", "img_idx"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"f{i:02d}" for i in range(12)]
    for name in names:
        frame = rng.normal(90, 4, (48, 64))
        x, y = rng.integers(8, 56), rng.integers(8, 40)
        mask = np.zeros((48, 64), np.uint8)
        mask[y - 1 : y + 2, x - 1 : x + 2] = 255 if int(name[1:]) >= without else 0
        frame[mask > 0] += 90
        cv2.imwrite(str(root / "images" / f"{name}.png"), np.clip(frame, 0, 255).astype(np.uint8))
        cv2.imwrite(str(root / "masks" / f"{name}.png"), mask)
    (root / "img_idx" / f"train_{root.name}.txt").write_text("\n".join(names[:9]))
    (root / "img_idx" / f"test_{root.name}.txt").write_text("\n".join(names[9:]))
    return root
