"""How the rule for colours reads colour-mapped frames that were made noisy and compressed.

    python benchmarks/false_colours.py

Scenes of this package in all colour maps of OpenCV, in others of matplotlib that the rule does not know, and
in one like those of thermal cameras; noise of 0, 8 and 16 levels; PNG, and JPEG of quality 95 (full colour
resolution), 90, 75 and 50 (half of it). For each map: how many are undone, refused, or read as brightness,
and the least correlation of what is read with the true levels, both smoothed by 2 px, because strong
compression takes the noise away. An undone map below 0.9 is a wrong reading; there must be none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import cv2
import matplotlib
import numpy as np

from dimpoint.errors import FrameError
from dimpoint.sources.colours import colour_maps, one_channel
from dimpoint.synthetic.scenes import SceneConfig, make_scene

UNKNOWN = (
    *("nipy_spectral", "gist_rainbow", "coolwarm", "seismic", "Spectral", "terrain", "CMRmap", "gist_heat"),
    *("cubehelix", "afmhot", "gnuplot2", "brg"),
)
IRON = [[0, 0, 0], [160, 0, 60], [60, 0, 220], [0, 120, 255], [0, 220, 255], [255, 255, 255]]  # B, G, R


def maps() -> dict[str, np.ndarray]:
    """(256, 3) B, G, R of each level."""
    found = dict(colour_maps())
    level = np.linspace(0, 1, 256)
    found["like a thermal camera's"] = np.stack(
        [np.interp(level, np.linspace(0, 1, len(IRON)), [one[c] for one in IRON]) for c in range(3)], axis=1
    ).astype(np.uint8)
    for name in UNKNOWN:
        table = matplotlib.colormaps[name](np.arange(256))[:, 2::-1]
        found[f"{name} (matplotlib)"] = (255 * table).round().astype(np.uint8)
    return found


def packed(picture: np.ndarray) -> Iterator[np.ndarray]:
    """The picture as it is, and as four JPEGs."""
    yield picture
    full, half = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    for quality, sampling in ((95, full), (90, half), (75, half), (50, half)):
        options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
        yield cv2.imdecode(cv2.imencode(".jpg", picture, options)[1], cv2.IMREAD_UNCHANGED)


def main() -> None:
    rng = np.random.default_rng(0)
    config = SceneConfig(height=160, width=160, background="mixed", bits=8)
    scenes = [make_scene(config, np.random.default_rng(seed)).frame for seed in range(3)]
    levels = [cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX) for scene in scenes]
    wrong = 0
    for name, table in maps().items():
        counts: Counter[str] = Counter()
        least = {"undone": 1.0, "brightness": 1.0}
        for scene in levels:
            for noise in (0, 8, 16):
                noisy = (scene + rng.normal(0, noise, scene.shape)).clip(0, 255).astype(np.uint8)
                for picture in packed(table[noisy]):
                    try:
                        read, notes = one_channel(picture, name)
                    except FrameError:
                        counts["refused"] += 1
                        continue
                    kind = "undone" if notes and "undone" in notes[0] else "brightness"
                    counts[kind] += 1
                    smooth = [cv2.GaussianBlur(one, (0, 0), 2).ravel() for one in (read, noisy)]
                    least[kind] = min(least[kind], float(np.corrcoef(*smooth)[0, 1]))
        wrong += counts["undone"] > 0 and least["undone"] < 0.9
        shown = "  ".join(
            f"{kind} {count}" + f" (least correlation {least.get(kind, 1):.2f})" * (kind in least)
            for kind, count in sorted(counts.items())
        )
        print(f"{name:28} {shown}", flush=True)
    print(f"maps that were undone wrongly: {wrong}")


if __name__ == "__main__":
    main()
