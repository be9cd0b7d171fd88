"""Golden values of track measures from independent implementations; prints `track_golden.json`.

    python tests/track_golden.py > tests/track_golden.json

Needs motmetrics (CLEAR, IDF1), trackeval (HOTA) and stonesoup (OSPA, GOSPA), which the tests do not need.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta

import numpy as np

from track_scenes import DISTANCE, SEEDS, Scene, crossing

REACH = DISTANCE


def clear_values(truth: Scene, tracks: Scene) -> dict[str, float]:
    import motmetrics

    table = motmetrics.MOTAccumulator(auto_id=True)
    for real, found in zip(truth, tracks, strict=True):
        far = distances(real, found)
        far[far > DISTANCE] = np.nan
        table.update(list(real), list(found), far)
    names = [
        *("num_matches", "num_switches", "num_misses", "num_false_positives", "num_fragmentations"),
        *("mota", "motp", "idf1", "mostly_tracked", "mostly_lost"),
    ]
    values = motmetrics.metrics.create().compute(table, metrics=names, name="all")
    return {name: float(values[name].iloc[0]) for name in names}


def hota_values(truth: Scene, tracks: Scene) -> dict[str, float]:
    from trackeval.metrics import HOTA

    ones = {name: at for at, name in enumerate(sorted({one for frame in truth for one in frame}))}
    others = {name: at for at, name in enumerate(sorted({one for frame in tracks for one in frame}))}
    data = {
        "num_gt_dets": sum(map(len, truth)),
        "num_tracker_dets": sum(map(len, tracks)),
        "num_gt_ids": len(ones),
        "num_tracker_ids": len(others),
        "gt_ids": [np.array([ones[one] for one in frame], int) for frame in truth],
        "tracker_ids": [np.array([others[one] for one in frame], int) for frame in tracks],
        "similarity_scores": [
            np.maximum(0, 1 - distances(real, found) / REACH)
            for real, found in zip(truth, tracks, strict=True)
        ],
    }
    values = HOTA().eval_sequence(data)
    return {name.lower(): float(np.mean(values[name])) for name in ("HOTA", "DetA", "AssA", "LocA")}


def ospa_values(truth: Scene, tracks: Scene) -> dict[str, float]:
    from stonesoup.measures import Euclidean
    from stonesoup.metricgenerator.ospametric import GOSPAMetric, OSPAMetric
    from stonesoup.types.state import State

    begin = datetime(2026, 1, 1)
    measure = Euclidean([0, 1])
    ospa = OSPAMetric(c=DISTANCE, p=2, measure=measure)
    gospa = GOSPAMetric(c=DISTANCE, p=2, measure=measure)
    found = {"ospa": [], "gospa": []}
    for number, frames in enumerate(zip(truth, tracks, strict=True)):
        when = begin + timedelta(seconds=number)
        real, got = (
            [State(np.array([[x], [y]]), timestamp=when) for x, y in frame.values()] for frame in frames
        )
        if not real and not got:
            found["ospa"].append(0.0)
            found["gospa"].append(0.0)
            continue
        found["ospa"].append(float(ospa.compute_OSPA_distance(got, real).value))
        value = gospa.compute_gospa_metric(got, real)
        value = value[0] if isinstance(value, tuple) else value
        found["gospa"].append(float(value.value["distance"]))
    return {name: float(np.mean(values)) for name, values in found.items()}


def distances(real: dict, found: dict) -> np.ndarray:
    one = np.array(list(real.values()), float).reshape(-1, 1, 2)
    other = np.array(list(found.values()), float).reshape(1, -1, 2)
    return np.hypot(*np.moveaxis(one - other, 2, 0))


def main() -> None:
    golden = {}
    for seed in SEEDS:
        scene = crossing(seed)
        golden[str(seed)] = clear_values(*scene) | hota_values(*scene) | ospa_values(*scene)
    json.dump(golden, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
