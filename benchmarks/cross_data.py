"""Does a recipe carry over to frames of another origin? Trains on all data sets but one and looks at it.

    python benchmarks/cross_data.py --data NUAA-SIRST --data NUDT-SIRST --data IRSTD-1K --out cross

Looked at are the training frames of the data set that was left out: test splits are never opened. The
threshold is that of the best F1 on the frames that the run itself held out, as it would be at a user's;
`best_f1` is what the best threshold would have given. One JSON line for each data set and recipe. Finished
runs are kept and interrupted ones go on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from dimpoint.evaluation.predictions import ModelPredictor
from dimpoint.evaluation.run import evaluate
from dimpoint.evaluation.summary import best_f1, without_nan
from dimpoint.evaluation.truth import open_truth
from dimpoint.studies.benchmark import Benchmark, run_benchmark
from dimpoint.studies.runs import Budget
from dimpoint.training.fit import Machine, TrainingData


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, action="append", required=True, help="at least two")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipes", nargs="+", default=["spire-sirst"])
    parser.add_argument("--minutes", type=float, help="of each training; default: the recipe's epochs")
    parser.add_argument("--left-out", nargs="+", metavar="NAME", help="only these; default: each in turn")
    parser.add_argument("--set", action="append", default=[], help="a change of every recipe")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    names = [root.resolve().name for root in args.data]
    for root, name in zip(args.data, names, strict=True):
        if args.left_out and name not in args.left_out:
            continue
        others = [other for other in args.data if other != root]
        frames = open_truth([root], "train")
        study = Benchmark(
            tuple(args.recipes),
            TrainingData(others),
            args.out / f"without-{name}",
            tuple(args.set),
            Budget(minutes=args.minutes),
            Machine(threads=args.threads),
        )
        for row in run_benchmark(study, frames, lambda _: None):
            values = {key: getattr(row, key) for key in ("f1", "precision", "recall", "distance")}
            predictor = ModelPredictor(study.out / row.recipe, threads=args.threads)
            best = best_f1(evaluate(predictor, frames, ("spire",)).pooled)
            values["best_f1"] = 0.0 if best is None else best.f1
            rounded = {key: round(value, 4) for key, value in values.items()}
            about = {"benchmark": "cross data", "recipe": row.recipe, "left_out": name, "epochs": row.epochs}
            print(json.dumps(without_nan({**about, **rounded})), flush=True)


if __name__ == "__main__":
    main()
