"""What FDEP costs: nothing in use, and how much in training with and without cached features.

    python benchmarks/fdep_cost.py --data NUAA-SIRST --foundation FOLDER [--use PLAIN.onnx FDEP.onnx]

Training: the plain host's step, FDEP's with cached features and FDEP's that encodes every view take turns on
the same views, loading included, after the cache is filled; `ratio` is over the plain step. Use: with --use,
the two model files take turns on the same frames; ratio 1 is no cost. One JSON line each.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

from dimpoint.datasets.dataset import open_dataset
from dimpoint.inference.detector import Detector
from dimpoint.networks import create
from dimpoint.training.fdep import FdepModule, open_teacher
from dimpoint.training.frames import TrainingViews, load_frames
from dimpoint.training.module import DetectionModule, describe_model
from dimpoint.training.recipe import load_recipe


def training_step(name: str, changes: list[str], data: list[Path], out: Path) -> Callable[[int], None]:
    """A function that takes step number n of the recipe, from drawing the views to the optimiser's step."""
    recipe = load_recipe(name, changes)
    sets = [open_dataset(root, "train", "masks") for root in data]
    frames, _ = load_frames(sets, recipe)
    torch.manual_seed(0)
    network = create(recipe.network.name)
    meta = describe_model(network, recipe, sets)
    teacher = open_teacher(recipe, network, out) if recipe.foundation else None
    if teacher is not None:
        teacher.prepare(frames, recipe, lambda _: None)
    views = TrainingViews(frames, recipe, teacher.features if teacher and teacher.cache else None)
    network = network.train().to(memory_format=torch.channels_last)
    arguments = (network, recipe, meta, [], 1)
    module = FdepModule(*arguments, teacher=teacher) if teacher else DetectionModule(*arguments)
    (optimizer,), _ = module.configure_optimizers()

    def step(number: int) -> None:
        first = number * recipe.batch
        batch: Any = default_collate([views[first + i] for i in range(recipe.batch)])
        with torch.autocast("cpu", torch.bfloat16):
            loss = module.step_loss(*batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def train_cost(arguments: argparse.Namespace, out: Path) -> None:
    teacher = [f"foundation.source={arguments.foundation}", f"foundation.cache_folder={out / 'features'}"]
    size = [f"batch={arguments.batch}"]
    taught = f"fdep-{arguments.host}"
    steps = {
        "plain": training_step(arguments.host, size, arguments.data, out),
        "fdep, cached": training_step(taught, [*size, *teacher], arguments.data, out),
        "fdep, every view encoded": training_step(
            taught, [*size, *teacher, "foundation.cache=false"], arguments.data, out
        ),
    }
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(arguments.rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step(number)
            if number:  # the first round warms up
                taken[name].append(time.perf_counter() - started)
    plain = float(np.median(taken["plain"]))
    for name, times in taken.items():
        median = float(np.median(times))
        line = {"host": arguments.host, "training": name, "step_s": round(median, 3)}
        print(json.dumps(line | {"ratio": round(median / plain, 2)}), flush=True)


def use_cost(models: list[Path], threads: int, rounds: int) -> None:
    detectors = [Detector(model, threads=threads) for model in models]
    frame = np.random.default_rng(0).integers(0, 255, (512, 512), np.uint8)
    taken: list[list[float]] = [[], []]
    for number in range(rounds * 10 + 1):
        for detector, times in zip(detectors, taken, strict=True):
            started = time.perf_counter()
            detector(frame)
            if number:
                times.append(time.perf_counter() - started)
    medians = [float(np.median(times)) for times in taken]
    for model, detector, median in zip(models, detectors, medians, strict=True):
        line = {"use": str(model), "parameters": detector.meta.parameters, "ms": round(1000 * median, 2)}
        print(json.dumps(line | {"ratio": round(median / medians[0], 3)}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--foundation", required=True)
    parser.add_argument("--host", default="acm")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument(
        "--use", type=Path, nargs=2, metavar="MODEL", help="the plain and the FDEP-trained model"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        train_cost(arguments, Path(folder))
    if arguments.use:
        use_cost(arguments.use, arguments.threads, arguments.rounds)


if __name__ == "__main__":
    main()
