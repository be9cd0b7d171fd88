"""What clumsy clicks cost: training points moved and left out, one JSON line for each case.

    python benchmarks/noisy_labels.py --data NUDT-SIRST --out noisy --epochs 10

A case MOVE:DROP moves every training point by MOVE pixels in a random direction (never out of the frame)
and leaves out DROP per cent of the points, seeded; the frames that a run holds out have the same noise, as
they would have at a user's. The test labels stay as they are. `loss` is what F1 loses against the case 0:0
of the same recipe, where that has been run. Finished runs are kept and interrupted ones go on, so a case
can be run alone (--cases 2:0), and the same command prints them all again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.datasets.coco import PointImage, write_points
from dimpoint.datasets.dataset import open_dataset
from dimpoint.datasets.layout import find_layout
from dimpoint.datasets.reading import frame_size
from dimpoint.evaluation.summary import without_nan
from dimpoint.evaluation.truth import TruthFrame, open_truth
from dimpoint.studies.benchmark import Benchmark, run_benchmark
from dimpoint.studies.runs import Budget
from dimpoint.training.fit import Machine, TrainingData

CASES = ("0:0", "1:0", "2:0", "3:0", "0:10", "0:20")
REPORTED = ("precision", "recall", "f1", "fa", "distance", "epochs", "minutes")

Points = npt.NDArray[np.float32]


def noisy(
    points: Points, size: tuple[int, int], move: float, drop: float, rng: np.random.Generator
) -> Points:
    """(N, 2) points moved by `move` pixels and each left out with probability `drop`.

    Every point draws the same random numbers in every case, so that 2 px is 1 px twice as far, and what is
    left out at 10 % is left out at 20 % too.
    """
    angle, chance = rng.uniform(0, 2 * np.pi, len(points)), rng.uniform(size=len(points))
    moved = points + move * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    height, width = size
    return moved.clip(0, (width - 1, height - 1))[chance >= drop].astype(np.float32)


def write_case(root: Path, out: Path, move: float, drop: float, seed: int) -> Path:
    """A data set of the training frames of `root`, without masks, with noisy points; made once."""
    folder = out / f"{root.resolve().name}-{move:g}-{100 * drop:g}"
    if (folder / "points.json").is_file():
        return folder
    (folder / "img_idx").mkdir(parents=True, exist_ok=True)
    if not (folder / "images").exists():
        (folder / "images").symlink_to(find_layout(root).frame_folder.resolve(), target_is_directory=True)
    rng = np.random.default_rng(seed)
    images, names = [], []
    for sample in open_dataset(root, "train"):
        height, width = frame_size(sample.frame_path)
        points = noisy(sample.read_points(), (height, width), move, drop, rng)
        images.append(PointImage(sample.name + sample.frame_path.suffix, width, height, points))
        names.append(sample.name)
    (folder / "img_idx" / f"train_{folder.name}.txt").write_text("\n".join(names) + "\n")
    write_points(folder / "points.json", images)
    return folder


def run_case(case: str, recipe: str, frames: list[TruthFrame], args: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate one recipe on one case."""
    move, drop = (float(part) for part in case.split(":"))
    out = args.out / f"seed-{args.seed}"
    data = write_case(args.data, out / "data", move, drop / 100, args.seed)
    study = Benchmark(
        (recipe,),
        TrainingData([data]),
        out / f"{move:g}-{drop:g}",
        (*args.set, f"seed={args.seed}"),
        Budget(args.epochs),  # not minutes: every case must see as many views as the others
        Machine(threads=args.threads),
    )
    (row,) = run_benchmark(study, frames, lambda _: None)
    values = asdict(row)
    return {"recipe": row.recipe, "move": move, "drop": drop} | {key: values[key] for key in REPORTED}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="a data set with train and test splits")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipes", nargs="+", default=["spire-sirst", "sshdnet-small"])
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="MOVE:DROP", help="pixels : per cent")
    parser.add_argument("--epochs", type=int, help="of every case; default: the recipe's")
    parser.add_argument("--set", action="append", default=[], help="a change of every recipe")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    frames = open_truth([args.data], "test")
    for recipe in args.recipes:
        clean = None
        for case in args.cases:
            values = run_case(case, recipe, frames, args)
            clean = values["f1"] if case == "0:0" else clean
            loss = None if clean is None else round(clean - values["f1"], 4)
            rounded = {k: round(v, 9) if isinstance(v, float) else v for k, v in values.items()}
            print(json.dumps(without_nan({"benchmark": "noisy labels", **rounded, "loss": loss})), flush=True)


if __name__ == "__main__":
    main()
