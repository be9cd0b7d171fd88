"""A file of `dimpoint export --whole` against `Detector`: agreement and time, side by side.

    python benchmarks/whole.py --data FOLDER... [--model NAME_OR_FILE] [--each 70]

Takes up to `--each` pictures of every folder, evenly spread. 8-bit frames also run as 16-bit ones, times 37
plus 1000. Prints one JSON line: frames, those that differ by more than 0.02 px or 0.001 in score, the largest
differences, and the times. The two take turns on every frame; `ratio` is the median over frames of
the ratio of their least times.

    python benchmarks/whole.py --data FOLDER --list

prints one line for each picture as it is instead: how many targets `Detector` finds, how many of them the
file finds within 1 px, and how many others; then the same without a border of 16 pixels (`cropped`), where
`Detector` sees the whole frame.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.inference.detector import Detector
from dimpoint.model.onnx_file import import_runtime
from dimpoint.sources import read_image
from dimpoint.whole.export import export_whole

Frame = npt.NDArray[Any]
CROPPED = 16  # pixels
SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".jpg")


def read_frames(folders: list[Path], each: int) -> Iterator[Frame]:
    for folder in folders:
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        files = [path for path in files if "mask" not in str(path.relative_to(folder)).lower()]
        for path in files[:: max(1, len(files) // each)][:each]:
            frame = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            if frame is None:
                continue
            frame = frame if frame.ndim == 2 else np.ascontiguousarray(frame[..., 0])
            yield frame
            if frame.dtype == np.uint8:
                yield frame.astype(np.uint16) * 37 + 1000


def open_whole(path: Path, threads: int) -> Callable[[Frame], Frame]:
    runtime = import_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(frame: Frame) -> Frame:
        targets: Frame = session.run(None, {"frame": frame.astype(np.uint16)})[0]
        return targets

    return run


def listed(
    run: Callable[[Frame], Frame], detector: Detector, folders: list[Path]
) -> Iterator[dict[str, Any]]:
    """What each picture's targets are to `Detector`, and to the file with and without a border."""
    for file in sorted(path for folder in folders for path in folder.rglob("*")):
        if file.suffix.lower() not in SUFFIXES:
            continue
        frame = read_image(file)
        if frame.dtype not in (np.uint8, np.uint16):
            continue
        expected = detector(frame).xy
        line: dict[str, Any] = {"file": file.name, "type": str(frame.dtype), "detector": len(expected)}
        inner = np.ascontiguousarray(frame[CROPPED:-CROPPED, CROPPED:-CROPPED])
        for name, found in (("whole", run(frame)[:, :2]), ("cropped", run(inner)[:, :2] + CROPPED)):
            near = np.hypot(*(found[:, None] - expected[None]).T) < 1
            line[name] = {"same": int(near.any(axis=1).sum()), "others": int((~near.any(axis=0)).sum())}
        yield line


def least_time(call: Callable[[], Any], rest: float = 0.01) -> float:
    time.sleep(rest)
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of pictures")
    parser.add_argument("--model", default="spire-lite")
    parser.add_argument("--each", type=int, default=70)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--list", action="store_true", help="one line for each picture")
    arguments = parser.parse_args()
    cv2.setNumThreads(arguments.threads)
    detector = Detector(arguments.model, threads=arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        export_whole(arguments.model, Path(folder) / "whole.onnx")
        run = open_whole(Path(folder) / "whole.onnx", arguments.threads)
    if arguments.list:
        for line in listed(run, detector, arguments.data):
            print(json.dumps(line))
        return
    frames = points = differing = 0
    farthest, score, ratios, sizes = 0.0, 0.0, [], set()
    for frame in read_frames(arguments.data, arguments.each):
        found, expected = run(frame), detector(frame)
        frames, points = frames + 1, points + len(expected)
        sizes.add(frame.shape)
        if found.shape != (len(expected), 3):
            differing += 1
        elif len(expected):
            apart = float(np.abs(found[:, :2] - expected.xy).max())
            off = float(np.abs(found[:, 2] - expected.scores).max())
            farthest, score = max(farthest, apart), max(score, off)
            differing += apart > 0.02 or off > 1e-3
        taken = [
            (least_time(lambda frame=frame: run(frame)), least_time(lambda frame=frame: detector(frame)))
            for _ in range(arguments.repeats)
        ]
        whole, ours = np.min(taken, axis=0)
        ratios.append(whole / ours)
    line = {
        "benchmark": "whole",
        "model": arguments.model,
        "frames": frames,
        "sizes": len(sizes),
        "points": points,
        "differing": int(differing),
        "farthest_px": round(farthest, 4),
        "score_off": round(score, 6),
        "threads": arguments.threads,
        "ratio": round(float(np.median(ratios)), 3),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
