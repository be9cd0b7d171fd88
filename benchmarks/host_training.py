"""What every host costs at 256x256: time and memory of a training step of 8 frames, time of one frame in use.

    python benchmarks/host_training.py --threads 2 [--networks acm unet ...] [--precision float32]

Each network runs in a process of its own; its memory is that process's highest less what it held before the
first step. Training runs in bfloat16 unless told otherwise, use (`frame_ms`) in PyTorch and float32. One JSON
line each.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np
import torch

from dimpoint.networks import create, names
from dimpoint.networks.base import HostNetwork
from dimpoint.training.losses import deep_supervision, soft_iou_loss

SIZE, BATCH = 256, 8


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, threads: int, steps: int, bf16: bool) -> dict[str, object]:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = create(name).train().to(memory_format=torch.channels_last)
    assert isinstance(network, HostNetwork)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    frames = torch.rand(BATCH, network.channels, SIZE, SIZE)
    targets = (torch.rand(BATCH, 1, SIZE, SIZE) > 0.999).float()
    before = peak_mb()
    taken = []
    for _ in range(steps + 1):
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            outputs = network.decode(network.encode(frames))
        loss = deep_supervision(soft_iou_loss, [output.float() for output in outputs], targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        taken.append(time.perf_counter() - started)
    step = float(np.median(taken[1:]))  # the first one warms up
    memory = peak_mb() - before
    return {
        "network": name,
        "precision": "bfloat16" if bf16 else "float32",
        "threads": threads,
        "step_s": round(step, 3),
        "frames_per_s": round(BATCH / step, 2),
        "memory_mb": round(memory),
        "frame_ms": round(frame_milliseconds(network, frames[:1], steps), 1),
    }


def frame_milliseconds(network: HostNetwork, frame: torch.Tensor, rounds: int) -> float:
    """Median over the rounds after the first."""
    taken = []
    network.eval()
    with torch.inference_mode():
        for _ in range(rounds + 1):
            started = time.perf_counter()
            network(frame)
            taken.append(time.perf_counter() - started)
    return 1000 * float(np.median(taken[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    hosts = [name for name in names() if isinstance(create_on_meta(name), HostNetwork)]
    parser.add_argument("--networks", nargs="+", default=hosts, choices=hosts)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--precision", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    bf16 = arguments.precision == "bfloat16"
    for name in arguments.networks:
        if arguments.here:
            print(json.dumps(measure(name, arguments.threads, arguments.steps, bf16)), flush=True)
            continue
        settings = ["--threads", str(arguments.threads), "--steps", str(arguments.steps)]
        own = [sys.executable, __file__, "--here", "--networks", name, "--precision", arguments.precision]
        subprocess.run([*own, *settings], check=True)


def create_on_meta(name: str) -> object:
    with torch.device("meta"):
        return create(name)


if __name__ == "__main__":
    main()
