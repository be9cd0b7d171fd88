"""Makes docs/images/detections.png: what the shipped default finds in the example scenes.

python benchmarks/pictures.py
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from dimpoint.datasets.dataset import open_dataset
from dimpoint.inference.detector import Detector

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = 3


def main() -> None:
    detector = Detector()
    pictures = []
    for sample in open_dataset(ROOT / "examples" / "scenes").samples[: 2 * COLUMNS]:
        frame = sample.read_frame()
        pictures.append(detector(frame).draw(frame))
    rows = [np.hstack(pictures[i : i + COLUMNS]) for i in range(0, len(pictures), COLUMNS)]
    sheet = np.vstack(rows)
    out = ROOT / "docs" / "images" / "detections.png"
    out.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(out), cv2.resize(sheet, None, fx=0.625, fy=0.625, interpolation=cv2.INTER_AREA))
    print(out)


if __name__ == "__main__":
    main()
