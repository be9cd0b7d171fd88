"""Give a model calibrated scores and its threshold, from its own scores on the panel.

    python benchmarks/panel.py --data DATA --model RUN --save scores.json
    python benchmarks/calibrate_scores.py --scores scores.json --model RUN --out NAME
        [--rate 0.5 | --threshold T] [--half]

Writes NAME.safetensors and NAME.onnx. The calibration is an isotonic regression over the detections in the
panel's labelled scenes, target-free frames and clips; 16-bit copies, planted targets and aerial frames are
not used. The threshold is the one at which the panel's `background` holds `--rate` false objects a
megapixel, or `--threshold` (on the scores before); on the new scale it is rounded up to 0.005. The JSON line
tells how far calibrated scores are from the part that is right (mean over tenths of the score above 0.1,
by number) where the map was fitted on one half of the scenes and seen on the other.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np

from dimpoint.evaluation.thresholds import isotonic_knots
from dimpoint.model.checkpoint import load_model, save_model
from dimpoint.model.export import export_onnx
from dimpoint.model.files import resolve_weights
from panel import Outcome, calibration, loaded, threshold_for
from parts import LABELLED

MIX = (*LABELLED, "SIRST-v2-empty", "HIT-UAV", "IR-video", "AntiUAV-video")
BACKGROUND = ("SIRST-v2-empty", "HIT-UAV")


def knots_of(outcomes: list[Outcome]) -> tuple[tuple[float, float], ...]:
    scores = np.concatenate([*(o.hits for o in outcomes), *(o.false for o in outcomes)])
    right = np.arange(len(scores)) < sum(len(o.hits) for o in outcomes)
    return isotonic_knots(scores, right)


def mapped(outcomes: list[Outcome], knots: tuple[tuple[float, float], ...]) -> list[Outcome]:
    before, after = np.array(knots).T

    def scores(values: np.ndarray) -> np.ndarray:
        return np.interp(values, before, after)

    return [
        Outcome(o.part, o.unit, o.truths, o.megapixels, scores(o.hits), o.errors, scores(o.false))
        for o in outcomes
    ]


def error(outcomes: list[Outcome], halves: tuple[set[str], set[str]]) -> float:
    """Mean distance of score and part that is right, fitted on one half of the units, seen on the other."""
    apart, total = 0.0, 0.0
    for fitted in halves:
        knots = knots_of([o for o in outcomes if o.unit in fitted])
        for score, right, count in calibration(mapped([o for o in outcomes if o.unit not in fitted], knots)):
            if score > 0.1:
                apart, total = apart + abs(score - right) * count, total + count
    return apart / max(total, 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scores", type=Path, required=True, action="append")
    parser.add_argument(
        "--model", required=True, help="a run's folder or a .safetensors file, not calibrated"
    )
    parser.add_argument("--out", type=Path, required=True, help="without a suffix")
    parser.add_argument("--rate", type=float, default=0.5, help="false objects a megapixel of `background`")
    parser.add_argument("--threshold", type=float, help="on the scores before, instead of --rate")
    parser.add_argument("--half", action="store_true", help="kernels in float16 in NAME.safetensors")
    parser.add_argument("--trained-on", nargs="+", help="for the record, instead of the run's")
    options = parser.parse_args()
    outcomes = [o for file in options.scores for o in loaded(file) if o.part in MIX]
    knots = knots_of(outcomes)
    background = [o for o in outcomes if o.part in BACKGROUND]
    raw = options.threshold
    if raw is None:
        raw = threshold_for(background, options.rate, lambda o: o.megapixels)
        if not raw:
            parser.error("`background` holds fewer false objects than --rate; give --threshold")
    before, after = np.array(knots).T
    threshold = math.ceil(float(np.interp(raw, before, after)) / 0.005 - 1e-9) * 0.005
    network, meta = load_model(resolve_weights(options.model))
    rule = meta.decode.model_copy(update={"calibration": knots}).at(round(threshold, 3))
    changes = {"decode": rule, "training_data": options.trained_on or meta.training_data}
    meta = meta.model_copy(update=changes)
    save_model(options.out.with_suffix(".safetensors"), network, meta, half=options.half)
    export_onnx(network, meta, options.out.with_suffix(".onnx"))
    units = sorted({o.unit for o in outcomes})
    halves = set(units[::2]), set(units[1::2])
    line = {"threshold_before": round(raw, 4), "threshold": rule.threshold, "knots": len(knots)}
    print(json.dumps({**line, "calibration_error": round(error(outcomes, halves), 4), "map": knots}))


if __name__ == "__main__":
    main()
