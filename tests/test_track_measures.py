"""Measures of tracks: by hand, and against values that py-motmetrics 1.4.0 gave for the same sequences."""

from __future__ import annotations

import numpy as np
import pytest

from dimpoint.errors import ConfigError
from dimpoint.tracking.measures import gospa, measure, ospa


def scene(seed: int):
    """Three objects that cross, and tracks with noise, gaps, switches and false points."""
    rng = np.random.default_rng(seed)
    truth, tracks = [], []
    for n in range(60):
        real = {1: (10.0 + n, 20.0 + 0.5 * n), 2: (70.0 - n, 20.0 + 0.5 * n), 3: (40.0, 80.0 - n)}
        if n < 10:
            del real[3]
        found = {}
        for one, (x, y) in real.items():
            if rng.random() < 0.85:
                name = one if n < 30 or one == 3 else one + 10 * (seed % 2)
                found[name] = (x + rng.normal(0, 1.2), y + rng.normal(0, 1.2))
        if rng.random() < 0.3:
            found[99] = (rng.uniform(0, 80), rng.uniform(0, 80))
        truth.append(real)
        tracks.append(found)
    return truth, tracks


GOLDEN = {  # seed: matches, misses, false positives, switches, fragmentations, MOTA, IDF1
    0: (144, 26, 15, 0, 20, 0.7588235294117647, 0.8753799392097265),
    1: (150, 20, 15, 2, 16, 0.7823529411764706, 0.591044776119403),
    2: (145, 25, 20, 0, 23, 0.7352941176470589, 0.8656716417910447),
    3: (142, 28, 17, 2, 23, 0.7235294117647059, 0.5714285714285714),
}


@pytest.mark.parametrize("seed", sorted(GOLDEN))
def test_equal_to_motmetrics(seed):
    got = measure(*scene(seed), distance=4.0)
    names = ("matches", "misses", "false_positives", "switches", "fragmentations", "mota", "idf1")
    assert tuple(getattr(got, name) for name in names) == pytest.approx(GOLDEN[seed], abs=1e-9)


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
