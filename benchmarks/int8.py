"""Array to points of one frame in float32 and int8, in ONNX Runtime and OpenVINO, side by side in one run.

    python benchmarks/int8.py [--int8 NAME_OR_FILE] [--model NAME_OR_FILE] [--weights SPIRE.pth] [--size 512]
    python benchmarks/int8.py --data NUAA-SIRST --data NUDT-SIRST ...

`published` (with --weights) is SPIRE's network in eager torch with its authors' decoding, as in
benchmarks/latency.py. The variants take turns; a busy machine disturbs the least times (`ms_least`) less
than the medians, and the processor time (`cpu_ms_least`) least. Prints one JSON line for each variant.
With `--warm 40`, the default, the times are those within a stream, for whose size OpenVINO has compiled the
graph; `--warm 0` gives those of a first frame.

With --data, instead: F1 on the frames that `dimpoint export --int8` holds out of each data set (those that
trainings hold out by default), one line for a data set and one for all.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.evaluation.int8 import held_out, measure
from dimpoint.inference.backends import open_backend
from dimpoint.inference.detector import Detector

Variant = Callable[[npt.NDArray[Any]], Any]


def variants(arguments: argparse.Namespace) -> dict[str, Variant]:
    threads, found = arguments.threads, {}
    if arguments.weights:
        import torch

        from dimpoint.model.checkpoint import import_model
        from latency import published

        torch.set_num_threads(threads)
        found["published"] = published(import_model("spire", arguments.weights)[0])
    for name, model in (("float32", arguments.model), ("int8", arguments.int8)):
        for device, runtime in (("cpu", "onnxruntime"), ("openvino", "openvino")):
            found[f"{name} {runtime}"] = Detector(model, device=device, threads=threads)
    return found


def accuracy(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """F1 in float32 and int8, by data set."""
    runtimes = {"onnxruntime": "cpu", "openvino": "openvino"}
    whole = open_backend(arguments.model, 1)
    backends = {name: open_backend(arguments.int8, 1, device) for name, device in runtimes.items()}
    parts = {root.name: held_out([root])[1] for root in arguments.data}
    if len(parts) > 1:
        parts["all"] = [sample for part in parts.values() for sample in part]
    for name, held in parts.items():
        found = {runtime: measure(whole, backend, held) for runtime, backend in backends.items()}
        first = next(iter(found.values()))
        line = {"benchmark": "int8 accuracy", "data": name, "frames": first.frames, "targets": first.targets}
        line["float32"] = round(first.float32, 4)
        yield line | {f"int8 {runtime}": round(each.int8, 4) for runtime, each in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--int8", default="spire-lite-int8", help="a model of dimpoint export --int8")
    parser.add_argument("--data", type=Path, action="append", default=[], help="measure F1 instead")
    parser.add_argument("--model", default="spire-lite")
    parser.add_argument("--weights", type=Path, help="the authors' SPIRE checkpoint")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument(
        "--warm", type=int, default=40, help="frames of each variant before; 0: a first frame"
    )
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    cv2.setNumThreads(arguments.threads)
    if arguments.data:
        for line in accuracy(arguments):
            print(json.dumps(line))
        return
    frame = np.random.default_rng(0).normal(90, 12, (arguments.size, arguments.size)).clip(0, 255)
    frame = cv2.GaussianBlur(frame, None, 2).astype(np.uint8)
    every = variants(arguments)
    times: dict[str, list[float]] = {name: [] for name in every}
    cpu: dict[str, float] = {}
    for _ in range(arguments.warm):
        for name, variant in every.items():
            if name != "published":
                variant(frame)
    time.sleep(2 if arguments.warm else 0)  # OpenVINO compiles the graph for this size beside the frames
    for variant in every.values():
        variant(frame)
    for _ in range(arguments.repeats):
        for name, variant in every.items():
            time.sleep(0.03)  # the last one's threads, which wait spinning, go to sleep
            start, used = time.perf_counter(), time.process_time()
            variant(frame)
            used = time.process_time() - used
            times[name].append((time.perf_counter() - start) * 1e3)
            cpu[name] = min(cpu.get(name, np.inf), used * 1e3)
    base = min(next(iter(times.values())))
    for name, taken in times.items():
        line = {
            "benchmark": "int8",
            "variant": name,
            "size": arguments.size,
            "threads": arguments.threads,
            "ms": round(float(np.median(taken)), 2),
            "ms_least": round(min(taken), 2),
            "cpu_ms_least": round(cpu[name], 2),
            "ratio_least": round(min(taken) / base, 3),
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main()
