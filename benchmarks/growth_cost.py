"""What growing masks costs: processor seconds of an epoch from points and on full masks, a JSON line a host.

    python benchmarks/growth_cost.py --data NUAA-SIRST [--hosts acm] [--threads 1]

In one process and in turn: an epoch of steps on full masks, one on grown masks, and an update of all labels
with its record and picture; medians over the rounds. `ratio` is that of a whole run of the recipe's epochs
with its updates. Reading, validation and export are the same for both and are left out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from dimpoint.networks import create
from dimpoint.training.fit import TrainingData
from dimpoint.training.frames import TrainingViews, load_frames
from dimpoint.training.growing import GrowingLabels
from dimpoint.training.module import DetectionModule, describe_model
from dimpoint.training.recipe import Recipe, load_recipe
from dimpoint.training.run_folder import RunFolder


def views_of(data: Path, recipe: Recipe) -> TrainingViews:
    return TrainingViews(load_frames(TrainingData([data]).open("masks"), recipe)[0], recipe)


def epoch(module: DetectionModule, views: TrainingViews, optimizer: torch.optim.Optimizer) -> None:
    """One epoch in bfloat16, as `dimpoint train` runs it."""
    batch = views.recipe.batch
    for start in range(0, len(views) // batch * batch, batch):
        frames, targets = zip(*(views[start + k] for k in range(batch)), strict=True)
        with torch.autocast("cpu", torch.bfloat16):
            loss = module.step_loss(torch.as_tensor(np.stack(frames)), torch.as_tensor(np.stack(targets)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def seconds(work: Callable[[], None]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


def measure(host: str, data: Path, rounds: int) -> dict[str, Any]:
    plain, grown = (views_of(data, load_recipe(host, [f"labels={kind}"])) for kind in ("masks", "points"))
    network = create(grown.recipe.network.name, **grown.recipe.network.options)
    network = network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    meta = describe_model(network, grown.recipe, TrainingData([data]).open("masks"), host, None)
    module = DetectionModule(network, grown.recipe, meta, [], 1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    rule, epochs = grown.recipe.growth, grown.recipe.epochs
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        growing = GrowingLabels(grown, RunFolder(Path(folder)), lambda _: None)
        due = [number for number in range(epochs) if growing.due(number)]
        for number in due[:rounds]:
            trainer: Any = SimpleNamespace(current_epoch=number)
            taken.append(
                (
                    seconds(lambda: epoch(module, plain, optimizer)),
                    seconds(lambda: epoch(module, grown, optimizer)),
                    seconds(lambda trainer=trainer: growing.on_train_epoch_start(trainer, module)),
                )
            )
    masks, points, update = np.median(taken, axis=0).tolist()
    whole = points + update * len(due) / epochs
    return {
        "benchmark": "growth cost",
        "data": data.resolve().name,
        "host": host,
        "setting": rule.setting,
        "masks_cpu_s": round(masks, 2),
        "points_cpu_s": round(whole, 2),
        "update_cpu_s": round(update, 2),
        "ratio": round(whole / masks, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="a data set with masks")
    parser.add_argument("--hosts", nargs="+", default=["acm"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for host in args.hosts:
        print(json.dumps(measure(host, args.data, args.rounds)), flush=True)


if __name__ == "__main__":
    main()
