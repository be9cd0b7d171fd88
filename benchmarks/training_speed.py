"""Training frames/s, ours against a plain loop, side by side in turns, one JSON line for each network.

    python benchmarks/training_speed.py [--networks spire spire-lite] [--threads 2]

Both train the same network on the same 256x256 views with the same loss and optimiser. `plain` is float32,
eager, default memory layout, and a target generator that evaluates a Gaussian on the whole map for every
point in a Python loop. `ours` is what `dimpoint train` does: bfloat16 autocast where the processor has it,
channels-last, Gaussians written into small windows. Reading files is left out of both.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from dimpoint.networks import create
from dimpoint.networks.base import standardise
from dimpoint.targets import make_target
from dimpoint.training.losses import mse_loss, soft_focal_loss
from dimpoint.training.recipe import Recipe, load_recipe
from dimpoint.training.views import training_view

Array = npt.NDArray[np.float32]


def plain_target(view: Array, points: Array, recipe: Recipe) -> Array:
    """A Gaussian on the whole map for each point, one after the other."""
    stride, sigma = recipe.target.stride, recipe.target.sigma
    rows, columns = np.mgrid[: view.shape[0] // stride, : view.shape[1] // stride]
    target = np.zeros(rows.shape, np.float32)
    for x, y in points / stride:
        gaussian = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
        target = np.maximum(target, gaussian).astype(np.float32)
    return target


def steps(
    name: str, recipe: Recipe, ours: bool, make: Callable[[Array, Array], Array]
) -> Callable[[np.random.Generator], None]:
    """A function that takes one training step on a batch of fresh views."""
    network = create(name).train()
    if ours:
        network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    loss_of = soft_focal_loss if network.activation == "sigmoid" else mse_loss
    frames = np.random.default_rng(0).random((16, 512, 512), np.float32)
    places = np.random.default_rng(1).uniform(0, 511, (16, 3, 2)).astype(np.float32)

    def step(rng: np.random.Generator) -> None:
        drawn = rng.integers(len(frames), size=recipe.batch)
        views = [training_view(frames[index], places[index], recipe, rng) for index in drawn]
        inputs = torch.from_numpy(np.stack([view.pixels for view in views]))[:, None]
        made = [make(view.pixels, view.points) for view in views]
        targets = torch.from_numpy(np.stack(made))[:, None]
        with torch.autocast("cpu", torch.bfloat16, enabled=ours):
            outputs = network(standardise(inputs, network.mean, network.std))
        loss = loss_of(outputs.float(), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", nargs="+", default=["spire", "spire-lite"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.networks:
        stride = create(name).stride
        recipe = load_recipe("spire-sirst", ["view.size=256", "batch=8", f"target.stride={stride}"])
        variants = {
            "plain": steps(name, recipe, False, lambda v, p, r=recipe: plain_target(v, p, r)),
            "ours": steps(name, recipe, True, lambda v, p, r=recipe: make_target(v, p, r.target)),
        }
        times: dict[str, list[float]] = {variant: [] for variant in variants}
        for number in range(arguments.rounds + 1):
            for variant, step in variants.items():
                started = time.perf_counter()
                step(np.random.default_rng(number))
                if number:  # the first round warms up
                    times[variant].append(time.perf_counter() - started)
        speed = {variant: round(8 / float(np.median(taken)), 1) for variant, taken in times.items()}
        ratio = round(speed["ours"] / speed["plain"], 2)
        line = {"benchmark": "training speed", "network": name, "threads": arguments.threads}
        print(json.dumps(line | {"frames_per_s": speed, "ratio": ratio}), flush=True)


if __name__ == "__main__":
    main()
