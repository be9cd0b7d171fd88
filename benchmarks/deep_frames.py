"""The same frames as 8 bit and re-encoded in 12 to 16 bit and float32: does a model answer the same?

    python benchmarks/deep_frames.py --data NUAA-SIRST --data NUDT-SIRST [--model NAME] [--every 3] [--test]

Without --test, frames of the training parts that are held out by scene (40 %, seed 7). One JSON line for each
data set and encoding: F1, false objects and missed targets by the protocol `spire` at the model's threshold,
and the mean shift in px of the detections that are within 3 px of one of the 8-bit frame's. `dithered`
spreads each count over its gain at random, as a sensor does, so that nothing shows the 8 bits.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.datasets.dataset import Sample, open_dataset
from dimpoint.datasets.splits import hold_out_scenes, thumbnail
from dimpoint.inference.detections import Detections
from dimpoint.inference.detector import Detector
from dimpoint.metrics.points import PointCounts, match_points

Frame = npt.NDArray[Any]
NEAR = 3.0  # pixels


def integers(gain: float, offset: float, *, dithered: bool = False) -> Callable[[Frame], Frame]:
    def encode(frame: Frame) -> Frame:
        counts = frame * gain + offset
        if dithered:
            counts = counts + np.random.default_rng(0).uniform(0, gain, frame.shape)
        return np.round(counts).astype(np.uint16)

    return encode


def floats(gain: float, offset: float) -> Callable[[Frame], Frame]:
    return lambda frame: (frame * gain + offset).astype(np.float32)


ENCODINGS: dict[str, Callable[[Frame], Frame]] = {
    "8 bit": lambda frame: frame.astype(np.uint8),
    "12 bit, x4 + 1000": integers(4, 1000),
    "14 bit, x24 + 3000": integers(24, 3000),
    "16 bit, x7.3 + 20000": integers(7.3, 20000),
    "16 bit, x200 + 14000": integers(200, 14000),
    "16 bit, x24 + 3000, dithered": integers(24, 3000, dithered=True),
    "float32, 0..1": floats(1 / 255, 0),
    "float32, x0.05 - 20": floats(0.05, -20),
}


def samples_of(root: Path, test: bool) -> list[Sample]:
    """Frames of the test split, or the held-out ones of the training part."""
    if test:
        return list(open_dataset(root, "test"))
    every = list(open_dataset(root, "train"))
    return hold_out_scenes(every, [thumbnail(sample.read_frame()) for sample in every], 0.4, 7)[1]


def shifts(found: Detections, reference: Detections) -> list[float]:
    """How far each detection lies from the nearest of the reference, where that is near."""
    if not len(reference):
        return []
    nearest = [float(np.hypot(*(reference.xy - xy).T).min()) for xy in found.xy]
    return [distance for distance in nearest if distance <= NEAR]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--model", help="left out: the shipped default")
    parser.add_argument("--every", type=int, default=1, help="every n-th frame")
    parser.add_argument("--test", action="store_true", help="the test splits; nothing is chosen on them")
    arguments = parser.parse_args()
    detector = Detector(arguments.model)
    for root in arguments.data:
        counts: dict[str, list[PointCounts]] = {name: [] for name in ENCODINGS}
        moved: dict[str, list[float]] = {name: [] for name in ENCODINGS}
        for sample in samples_of(root, arguments.test)[:: arguments.every]:
            frame = sample.read_frame().astype(np.float64)
            truth = sample.read_points()
            reference = detector(ENCODINGS["8 bit"](frame))
            for name, encode in ENCODINGS.items():
                found = reference if name == "8 bit" else detector(encode(frame))
                match = match_points(found.xy, found.scores, truth)
                counts[name].append(PointCounts.of_frame(match, frame.shape))
                moved[name] += shifts(found, reference)
        for name, parts in counts.items():
            total = PointCounts.total(parts)
            line = {
                "data": root.name,
                "split": "test" if arguments.test else "held out",
                "model": detector.meta.name,
                "encoding": name,
                "frames": total.frames,
                "f1": round(total.f1, 4),
                "false": total.fp,
                "missed": total.fn,
                "shift_px": round(float(np.mean(moved[name])), 3) if moved[name] else None,
            }
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
