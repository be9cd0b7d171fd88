"""Measures of tracks: by hand, and against py-motmetrics 1.4.0, TrackEval 1.3.0 and Stone Soup 1.9.1.

`track_golden.py` made `track_golden.json` with these packages.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dimpoint.errors import ConfigError
from dimpoint.tracking.hota import hota_counts
from dimpoint.tracking.measures import clear, gospa, measure, ospa, pair
from track_scenes import DISTANCE, SEEDS, crossing

GOLDEN = json.loads((Path(__file__).parent / "track_golden.json").read_text("utf-8"))
CLOSE = {"rel": 1e-9, "abs": 1e-12}


@pytest.mark.parametrize("seed", SEEDS)
def test_clear_and_identity_equal_motmetrics(seed):
    golden = GOLDEN[str(seed)]
    got = measure(*crossing(seed), distance=DISTANCE)
    assert got.matches - got.switches == golden["num_matches"]  # it counts a switch apart from the matches
    for ours, theirs in (
        ("switches", "num_switches"),
        ("misses", "num_misses"),
        ("false_positives", "num_false_positives"),
        ("fragmentations", "num_fragmentations"),
        ("mota", "mota"),
        ("idf1", "idf1"),
    ):
        assert getattr(got, ours) == pytest.approx(golden[theirs], **CLOSE), ours
    frames = pair(*crossing(seed))
    found = clear(frames, DISTANCE)
    assert found.total_distance / found.matches == pytest.approx(golden["motp"], **CLOSE)


@pytest.mark.parametrize("seed", SEEDS)
def test_ospa_and_gospa_equal_stone_soup(seed):
    got = measure(*crossing(seed), distance=DISTANCE)
    assert (got.ospa, got.gospa) == pytest.approx((GOLDEN[str(seed)]["ospa"], GOLDEN[str(seed)]["gospa"]))


@pytest.mark.parametrize("seed", SEEDS)
def test_hota_equals_trackeval(seed):
    counts = hota_counts(pair(*crossing(seed)), DISTANCE)
    detected = counts.true / (counts.true + counts.missed + counts.false)
    associated = counts.associated / np.maximum(counts.true, 1)
    golden = GOLDEN[str(seed)]
    assert detected.mean() == pytest.approx(golden["deta"], **CLOSE)
    assert associated.mean() == pytest.approx(golden["assa"], **CLOSE)
    assert np.sqrt(detected * associated).mean() == pytest.approx(golden["hota"], **CLOSE)
    assert (counts.similar / counts.true).mean() == pytest.approx(golden["loca"], **CLOSE)


@pytest.mark.parametrize(
    ("place", "distance"),
    [
        ((10, 10), 0),  # a point
        ((10, 13), 3),
        ((4, 4, 12, 12), 0),  # inside a box
        ((12, 4, 20, 12), 2),  # left of it
        ((13, 14, 20, 20), 5),  # from its corner
    ],
)
def test_distance_from_points_and_boxes(place, distance):
    (frame,) = pair([{1: place}], [{1: (10, 10)}])
    assert frame.distances.tolist() == [[distance]]


@pytest.mark.parametrize(
    ("truth", "tracks", "mota", "idf1", "switches"),
    [
        ([], [], None, None, 0),
        ([{}], [{}], None, None, 0),
        ([{1: (0, 0)}], [{}], 0, 0, 0),
        ([{}], [{1: (0, 0)}], None, 0, 0),
        ([{1: (0, 0)}] * 4, [{7: (1, 0)}] * 4, 1, 1, 0),
        ([{1: (0, 0)}] * 4, [{7: (1, 0)}] * 2 + [{8: (1, 0)}] * 2, 0.75, 0.5, 1),
        ([{1: (0, 0)}] * 2, [{7: (9, 0)}] * 2, -1, 0, 0),
    ],
    ids=["no frames", "empty", "missed", "false", "perfect", "one switch", "too far"],
)
def test_small_cases(truth, tracks, mota, idf1, switches):
    got = measure(truth, tracks, distance=5.0)
    assert (got.mota, got.idf1, got.switches) == (mota, idf1, switches)


def places(*xy):
    return np.array(xy, float).reshape(-1, 2)


@pytest.mark.parametrize(
    ("truth", "found", "expected_ospa", "expected_gospa"),
    [
        (places(), places(), 0, 0),
        (places((0, 0)), places(), 10, (100 / 2) ** 0.5),
        (places((0, 0)), places((3, 4)), 5, 5),
        (places((0, 0)), places((30, 40)), 10, 10),  # at the cut-off: a miss and a false one
        (places((0, 0), (50, 0)), places((3, 4)), ((25 + 100) / 2) ** 0.5, (25 + 50) ** 0.5),
    ],
    ids=["empty", "missed", "near", "far", "one of two"],
)
def test_ospa_and_gospa_by_hand(truth, found, expected_ospa, expected_gospa):
    assert ospa(truth, found, 10.0) == pytest.approx(expected_ospa)
    assert gospa(truth, found, 10.0) == pytest.approx(expected_gospa)


@pytest.mark.parametrize(("distance", "count"), [(0, 1), (-1, 1), (5, 2)])
def test_what_cannot_be_compared(distance, count):
    with pytest.raises(ConfigError):
        measure([{}], [{}] * count, distance=distance)
