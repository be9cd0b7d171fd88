"""Which training target is best? Trains one network with each, and scores the validation part.

    python benchmarks/target_kinds.py --data ../shared/data/NUAA-SIRST --data ../shared/data/NUDT-SIRST

Every run sees the same views of the same training frames (test splits are never opened), and is scored
on the same held-out part of them by the protocol `spire` at its own best threshold. One JSON line each.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from pathlib import Path

from dimpoint.training.fit import Machine, TrainingData, train
from dimpoint.training.recipe import load_recipe

KINDS = ("gaussian", "prps", "gaussian-published", "prps-published")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--recipe", default="spire-sirst")
    parser.add_argument("--epochs", type=int, default=12, help="of 200 steps of 16 views")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--kinds", nargs="+", default=KINDS)
    args = parser.parse_args()
    for kind in args.kinds:
        changes = [f"target.kind={kind}", f"epochs={args.epochs}", f"seed={args.seed}"]
        recipe = load_recipe(args.recipe, [*changes, f"validate_every={args.epochs}", "weights={}"])
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            machine = Machine(accelerator="cpu", threads=args.threads)
            train(recipe, TrainingData(args.data), out, machine=machine, log=lambda _: None)
            with (out / "csv" / "metrics.csv").open() as file:
                last = [row for row in csv.DictReader(file) if row["val/f1"]][-1]
        values = {
            key: round(float(last[f"val/{key}"]), 4) for key in ("f1", "precision", "recall", "distance")
        }
        minutes = round((time.perf_counter() - started) / 60, 1)
        print(json.dumps({"target": kind, "seed": args.seed, **values, "minutes": minutes}), flush=True)


if __name__ == "__main__":
    main()
