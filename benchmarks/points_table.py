"""Hosts trained from points against the same hosts trained on full masks: runs, and their table.

    python benchmarks/points_table.py train --data NUAA-SIRST --work work --epochs 33 --hosts acm
    python benchmarks/points_table.py table --data NUAA-SIRST --work work --hosts acm

`train` trains every host on the training split as each arm says: `masks` (full masks), `progressive` and
`lesps` (points, with `growth.setting`), `lesps-focal` (with a focal loss instead), `fdep` (progressive,
with the foundation model `--foundation`), and `coarse` (progressive, with points that are off by up to 3
pixels in x and in y, uniformly and by the run's seed, also in the held-out frames; in a copy of the data set
beside the runs). Otherwise points are the centroids of the masks. Runs are kept in WORK/DATA/HOST-ARM-SEED:
finished ones are skipped, stopped ones continue. All other settings are those of the recipe; nothing is
chosen by the test split.

Each finished run is evaluated on the test split (protocol `basicirstd`) and gives one JSON line. `cpu_s`:
processor seconds of an epoch, with its share of reading, validation and export; null for a continued run.
`labels_iou`: mean IoU of the grown labels with the true masks of the training frames.

`table` prints the means over the finished seeds, and the difference from `masks` on the same seeds with its
paired 95 % bootstrap interval over frames.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dimpoint.datasets.coco import PointImage, write_points
from dimpoint.datasets.dataset import open_dataset
from dimpoint.datasets.layout import find_layout
from dimpoint.datasets.reading import frame_size
from dimpoint.evaluation.predictions import ModelPredictor
from dimpoint.evaluation.run import SetResult, evaluate
from dimpoint.evaluation.truth import TruthFrame, open_truth
from dimpoint.studies.ablation import NUMBERS, PROTOCOL, summarise
from dimpoint.studies.runs import Budget, train_once
from dimpoint.training.fit import Machine, TrainingData
from dimpoint.training.recipe import load_recipe

MASKS = "masks"
ARMS = {
    MASKS: ("labels=masks",),
    "progressive": ("labels=points", "growth.setting=progressive"),
    "lesps": ("labels=points", "growth.setting=lesps"),
    "lesps-focal": ("labels=points", "growth.setting=lesps", "loss.kind=mask-focal"),
    "fdep": ("labels=points", "growth.setting=progressive"),
    "coarse": ("labels=points", "growth.setting=progressive"),
}
OFF = 3.0  # pixels in x and y; the greatest error of a coarse point


def folder_of(args: argparse.Namespace, host: str, arm: str, seed: int) -> Path:
    folder: Path = args.work / args.data.resolve().name / f"{host}-{arm}-{seed}"
    return folder


def coarse_copy(root: Path, folder: Path, seed: int) -> Path:
    """A data set of the training frames of `root` with their masks, and points that are off; made once."""
    out = folder / root.resolve().name
    if (out / "points.json").is_file():
        return out
    layout, rng = find_layout(root), np.random.default_rng(seed)
    (out / "img_idx").mkdir(parents=True, exist_ok=True)
    for name, source in (("images", layout.frame_folder), ("masks", root / "masks")):
        if not (out / name).exists():
            (out / name).symlink_to(source.resolve(), target_is_directory=True)
    images, names = [], []
    for sample in open_dataset(root, "train", labels="masks"):
        height, width = frame_size(sample.frame_path)
        points = sample.read_points()
        moved = (points + rng.uniform(-OFF, OFF, points.shape)).clip(0, (width - 1, height - 1))
        images.append(PointImage(sample.frame_path.name, width, height, moved.astype(np.float32)))
        names.append(sample.name)
    (out / "img_idx" / f"train_{out.name}.txt").write_text("\n".join(names) + "\n")
    write_points(out / "points.json", images)
    return out


def train(args: argparse.Namespace, host: str, arm: str, seed: int) -> None:
    """Train or continue one run; its processor time is kept beside it."""
    out = folder_of(args, host, arm, seed)
    if (out / "model.onnx").is_file():
        return
    changes = [*ARMS[arm], *args.set, f"seed={seed}"]
    if arm == "fdep":
        changes += [
            f"foundation.source={args.foundation}",
            f"foundation.cache_folder={args.work / 'features'}",
        ]
    recipe = load_recipe(f"fdep-{host}" if arm == "fdep" else host, changes)
    fresh, before = not out.exists(), time.process_time()
    root = coarse_copy(args.data, out.parent / f"coarse-{seed}", seed) if arm == "coarse" else args.data
    sources, machine = TrainingData([root]), Machine(threads=args.threads)
    train_once(recipe, sources, out, machine, lambda line: print(line, flush=True), Budget(args.epochs))
    seconds = (time.process_time() - before) / (args.epochs or recipe.epochs)
    (out / "cost.json").write_text(json.dumps({"cpu_s": round(seconds, 2) if fresh else None}) + "\n")


def measure(out: Path, frames: Sequence[TruthFrame]) -> SetResult:
    return evaluate(ModelPredictor(out / "model.onnx"), frames, (PROTOCOL,)).pooled


def line_of(args: argparse.Namespace, host: str, arm: str, seed: int, result: SetResult) -> dict[str, Any]:
    """The numbers of one run."""
    out = folder_of(args, host, arm, seed)
    record = out / "labels.json"
    labels = json.loads(record.read_text())[-1] if record.is_file() else {}
    values = summarise(arm, [result]).mean
    return {
        "benchmark": "points table",
        "data": args.data.resolve().name,
        "host": host,
        "arm": arm,
        "seed": seed,
        "epochs": load_recipe(str(out / "recipe.yaml")).epochs,
        "frames": len(result.frames),
        **{number.key: round(values[number.key], 3) for number in NUMBERS},
        "labels_iou": labels.get("iou"),
        "labels_missed": labels.get("missed"),
        **(json.loads((out / "cost.json").read_text()) if (out / "cost.json").is_file() else {}),
    }


def table(args: argparse.Namespace, frames: Sequence[TruthFrame]) -> None:
    """Print a Markdown table of the finished runs."""
    heads = [number.label for number in NUMBERS]
    print(
        "| " + " | ".join(["host", "trained on", "seeds", *heads, "IoU minus masks", "Pd minus masks"]) + " |"
    )
    print("|---" * (len(heads) + 5) + "|")
    for host in args.hosts:
        results: dict[str, dict[int, SetResult]] = {}
        for arm in args.arms:
            done = [s for s in args.seeds if (folder_of(args, host, arm, s) / "model.onnx").is_file()]
            results[arm] = {seed: measure(folder_of(args, host, arm, seed), frames) for seed in done}
        for arm, runs in results.items():
            if not runs:
                continue
            means = summarise(arm, list(runs.values())).mean
            plain = results.get(MASKS, {})
            both = sorted(runs.keys() & plain.keys()) if arm != MASKS else []
            apart = ["", ""]
            if both:
                row = summarise(arm, [runs[s] for s in both], [plain[s] for s in both])
                assert row.difference is not None
                found = [row.difference[key] for key in ("iou", "recall")]
                apart = [f"{each.value:+.1f} ({each.low:+.1f} to {each.high:+.1f})" for each in found]
            cells = [f"{means[number.key]:.1f}" for number in NUMBERS]
            print("| " + " | ".join([host, arm, str(len(runs)), *cells, *apart]) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["train", "table"])
    parser.add_argument(
        "--data", type=Path, required=True, help="a data set with masks, train and test splits"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--hosts", nargs="+", default=["acm"])
    parser.add_argument("--arms", nargs="+", default=[MASKS, "progressive", "lesps"], choices=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="of every run; default: the recipe's")
    parser.add_argument("--set", action="append", default=[], help="a change of every recipe")
    parser.add_argument("--foundation", help="folder or id of the foundation model of the arm fdep")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if args.command == "train" and "fdep" in args.arms and not args.foundation:
        parser.error("the arm fdep needs --foundation")
    frames = open_truth([args.data], "test")
    if args.command == "table":
        table(args, frames)
        return
    for seed in args.seeds:
        for host in args.hosts:
            for arm in args.arms:
                train(args, host, arm, seed)
                result = measure(folder_of(args, host, arm, seed), frames)
                print(json.dumps(line_of(args, host, arm, seed, result)), flush=True)


if __name__ == "__main__":
    main()
