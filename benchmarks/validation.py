"""A run's model on the frames that its training held out, by data set and threshold, one JSON line each.

    python benchmarks/validation.py RUN [--thresholds 0.3 0.4 ...]

The held-out frames are found again from the run's recipe and data. Use it to choose a threshold: no test
split is opened. `empty` is false objects per target-free frame. The last line is the threshold that the
shipped default's rule chooses: of the multiples of 0.005 within 0.005 of the best F1 the one with the fewest
objects in target-free frames, and of those the lowest.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from dimpoint.evaluation.summary import without_nan
from dimpoint.inference.detections import Detections
from dimpoint.inference.detector import Detector
from dimpoint.metrics.points import PointCounts, match_points
from dimpoint.training.fit import TrainingData
from dimpoint.training.frames import LabelledFrame, load_frames
from dimpoint.training.recipe import load_recipe

Found = list[tuple[LabelledFrame, tuple[int, int], Detections]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--model", type=Path, help="another model than the run's model.onnx")
    parser.add_argument("--thresholds", type=float, nargs="+", default=np.arange(0.3, 0.85, 0.05).round(2))
    parser.add_argument("--by-height", action="store_true", help="score peaks by height, not by mean")
    arguments = parser.parse_args()
    recipe = load_recipe(str(arguments.run / "recipe.yaml"))
    sources = json.loads((arguments.run / "run.json").read_text(encoding="utf-8"))["sources"]
    sets = TrainingData([Path(root) for root in sources["roots"]], sources["split"]).open()
    _, validation = load_frames(sets, recipe)
    detector = Detector(arguments.model or arguments.run / "model.onnx", threshold=0.05)
    if arguments.by_height:
        detector.rule = detector.rule.model_copy(update={"score_sigma": None})
    found: Found = []
    for frame in validation:
        counts = frame.counts()
        found.append((frame, counts.shape, detector(counts)))
    groups = {group: [f for f in found if f[0].group == group] for group in {f[0].group for f in found}}
    for group, part in [*sorted(groups.items()), ("all", found)]:
        for threshold in arguments.thresholds:
            row = {"data": group, "threshold": float(threshold), **score(part, threshold)}
            print(json.dumps(without_nan(row)), flush=True)
    if any(len(frame.points) for frame, _, _ in found):  # a refit holds out none with targets
        print(json.dumps({"data": "all", "chosen": True, **choose(found)}))


def choose(found: Found) -> dict[str, float | int | None]:
    """The shipped default's threshold and what it gives."""
    rows = [{"threshold": t, **score(found, t)} for t in np.arange(0.3, 0.96, 0.005).round(3).tolist()]
    best = max(row["f1"] or 0 for row in rows)
    good = [row for row in rows if (row["f1"] or 0) >= best - 0.005]
    return min(good, key=lambda row: (row["empty"] or 0, row["threshold"]))


def score(found: Found, threshold: float) -> dict[str, float | int | None]:
    parts = []
    empty, false = 0, 0
    for frame, shape, detections in found:
        kept = detections.scores > threshold
        match = match_points(detections.xy[kept], detections.scores[kept], frame.points)
        parts.append(PointCounts.of_frame(match, shape))
        empty += not len(frame.points)
        false += 0 if len(frame.points) else len(match.false)
    total = PointCounts.total(parts)
    return {
        "frames": total.frames,
        "targets": total.tp + total.fn,
        "f1": round(total.f1, 4),
        "precision": round(total.precision, 4),
        "recall": round(total.recall, 4),
        "distance": round(total.distance_mean, 3),
        "empty": round(false / empty, 3) if empty else None,
    }


if __name__ == "__main__":
    main()
