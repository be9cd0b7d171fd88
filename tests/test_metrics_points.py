"""Protocol `spire` on points: what matches, what is counted, and what every threshold gives."""

from __future__ import annotations

import math
import time
from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dimpoint.errors import DataError
from dimpoint.metrics.points import PointCounts, ScoredFrame, match_points, sweep

LAW = settings(deadline=None, derandomize=True, max_examples=60)

MATCHES = [
    # what is shown, predictions (x, y, score), truth, expected pairs (prediction, truth)
    ("nothing on either side", [], [], []),
    ("no prediction", [], [(3, 3)], []),
    ("no truth", [(3, 3, 1)], [], []),
    ("a hit", [(3, 4, 0.5)], [(3, 3)], [(0, 0)]),
    ("exactly 5 px away counts", [(3, 4, 0.5)], [(0, 0)], [(0, 0)]),
    ("beyond 5 px does not", [(3, 4.01, 0.5)], [(0, 0)], []),
    ("the nearest, not the strongest", [(2, 0, 0.9), (1, 0, 0.1)], [(0, 0)], [(1, 0)]),
    ("equally near: the stronger", [(-1, 0, 0.1), (1, 0, 0.9)], [(0, 0)], [(1, 0)]),
    ("equally near and strong: the first", [(-1, 0, 0.5), (1, 0, 0.5)], [(0, 0)], [(0, 0)]),
    ("one prediction serves one target", [(1, 0, 0.5)], [(0, 0), (2, 0)], [(0, 0)]),
    ("an earlier target takes what a later one is nearer to", [(2, 0, 1)], [(0, 0), (2, 0)], [(0, 0)]),
    ("a later target takes what is left", [(1, 0, 1), (4, 0, 1)], [(0, 0), (1, 0)], [(0, 0), (1, 1)]),
]


@pytest.mark.parametrize(
    ("predictions", "truth", "expected"), [case[1:] for case in MATCHES], ids=lambda _: ""
)
def test_what_matches(
    predictions: list[tuple[float, float, float]],
    truth: list[tuple[float, float]],
    expected: list[tuple[int, int]],
) -> None:
    xy = [point[:2] for point in predictions]
    match = match_points(xy, [point[2] for point in predictions], truth)
    assert match.pairs.tolist() == [list(pair) for pair in expected]
    assert len(match.false) == len(predictions) - len(expected)
    assert len(match.missed) == len(truth) - len(expected)


def test_counts_and_ratios() -> None:
    found = match_points([(0, 1), (20, 0), (40, 0)], [1, 1, 1], [(0, 0), (20, 3), (60, 60)])
    nothing = match_points([], [], [])
    counts = PointCounts.of_frame(found, (100, 50)) + PointCounts.of_frame(nothing, (10, 10))
    assert (counts.tp, counts.fp, counts.fn, counts.frames, counts.pixels) == (2, 1, 1, 2, 5100)
    assert counts.precision == counts.recall == counts.f1 == 2 / 3
    assert counts.fa_objects == 1 / 5100
    assert counts.false_per_frame == 0.5
    assert (counts.distance_mean, counts.distance_median) == (2, 2)
    assert counts.distance_95 == pytest.approx(2.9)


def test_ratios_without_anything_below_the_line_are_not_defined() -> None:
    empty = PointCounts.of_frame(match_points([], [], []), (5, 5))
    for name in ("precision", "recall", "f1", "distance_mean", "distance_median", "distance_95"):
        assert math.isnan(empty.to_dict()[name])
    assert empty.fa_objects == 0
    assert math.isnan(PointCounts().fa_objects)


def test_counts_add_up_in_any_grouping() -> None:
    parts = [PointCounts.of_frame(match_points([(0, d)], [1], [(0, 0)]), (4, 4)) for d in range(8)]
    for total in (sum(parts), reduce(add, parts), PointCounts.total(parts)):
        assert (total.tp, total.fp, total.fn, total.frames) == (6, 2, 2, 8)
        assert total.distances.tolist() == [0, 1, 2, 3, 4, 5]


BAD = [
    ([(0, 0)], [1, 2], [], "each point needs one score"),
    ([(0, 0, 0)], [1], [], r"must have shape \(N, 2\), x and y"),
    ([(0, math.nan)], [1], [], "predicted points: a coordinate is NaN"),
    ([], [], [(0, math.inf)], "true points: a coordinate is NaN or infinite"),
    ([(0, 0)], [math.nan], [], "a score is NaN"),
]


@pytest.mark.parametrize(("xy", "scores", "truth", "message"), BAD)
def test_bad_points_are_refused(
    xy: list[tuple[float, ...]], scores: list[float], truth: list[tuple[float, float]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        match_points(xy, scores, truth)


def _frames(seed: int, count: int) -> list[ScoredFrame]:
    """Crowded frames on an integer grid, with many equal distances and equal scores."""
    rng = np.random.default_rng(seed)
    return [
        ScoredFrame(
            rng.integers(0, 14, (n := int(rng.integers(0, 25)), 2)),
            rng.integers(0, 9, n) / 8,
            rng.integers(0, 14, (int(rng.integers(0, 9)), 2)),
        )
        for _ in range(count)
    ]


def _matched_anew(frames: list[ScoredFrame], threshold: float) -> PointCounts:
    parts = []
    for frame in frames:
        kept = np.asarray(frame.scores) >= threshold
        match = match_points(np.asarray(frame.pred_xy)[kept], np.asarray(frame.scores)[kept], frame.truth_xy)
        parts.append(PointCounts.of_frame(match, (14, 14)))
    return PointCounts.total(parts)


@LAW
@given(st.integers(0, 2**32), st.integers(0, 4))
def test_sweep_equals_matching_anew_at_every_threshold(seed: int, count: int) -> None:
    frames = _frames(seed, count)
    swept = sweep(frames, pixels=14 * 14 * count)
    scores = np.concatenate([np.empty(0), *(np.asarray(frame.scores) for frame in frames)])
    assert swept.thresholds.tolist() == np.unique(scores)[::-1].tolist()
    for index, threshold in enumerate(swept.thresholds):
        anew = _matched_anew(frames, threshold)
        assert (swept.tp[index], swept.fp[index], swept.fn[index]) == (anew.tp, anew.fp, anew.fn)
        assert swept.f1[index] == anew.f1
        assert swept.precision[index] == anew.precision
        assert swept.fa_objects[index] == anew.fa_objects
        np.testing.assert_equal(swept.recall[index], anew.recall)


def test_best_threshold() -> None:
    frames = [ScoredFrame([(0, 0), (9, 9)], [0.9, 0.2], [(0, 1)]), ScoredFrame([(5, 5)], [0.4], [(5, 5)])]
    swept = sweep(frames)
    assert swept.thresholds.tolist() == [0.9, 0.4, 0.2]
    assert swept.tp.tolist() == [1, 2, 2]
    assert swept.fp.tolist() == [0, 0, 1]
    assert swept.false_per_frame.tolist() == [0, 0, 0.5]
    assert swept.thresholds[swept.best()] == 0.4


def test_no_predictions_leave_no_threshold_to_choose() -> None:
    swept = sweep([ScoredFrame([], [], [(0, 0)])])
    assert len(swept.thresholds) == 0
    with pytest.raises(DataError, match="no prediction in any frame"):
        swept.best()


@LAW
@given(st.integers(0, 2**32))
def test_more_predictions_never_lose_a_target(seed: int) -> None:
    swept = sweep(_frames(seed, 3))
    assert (np.diff(swept.tp) >= 0).all()
    assert (np.diff(swept.fp) >= 0).all()


@LAW
@given(st.integers(0, 2**32), st.integers(-50, 50), st.integers(-50, 50), st.sampled_from([-1, 1]))
def test_shifted_and_flipped_points_match_alike(seed: int, dx: int, dy: int, sign: int) -> None:
    frame = _frames(seed, 1)[0]
    before = match_points(frame.pred_xy, frame.scores, frame.truth_xy)
    move = (lambda xy: np.asarray(xy) * (sign, 1) + (dx, dy)) if np.size(frame.pred_xy) else np.asarray
    after = match_points(move(frame.pred_xy), frame.scores, move(frame.truth_xy))
    assert after.pairs.tolist() == before.pairs.tolist()


def test_ten_thousand_specks_take_bounded_time() -> None:
    """Every target sees hundreds of predictions; anything quadratic would take minutes."""
    rng = np.random.default_rng(0)
    predictions, truth = rng.uniform(0, 100, (10_000, 2)), rng.uniform(0, 100, (100, 2))
    scores = rng.uniform(size=10_000)
    start = time.perf_counter()
    match = match_points(predictions, scores, truth)
    swept = sweep([ScoredFrame(predictions, scores, truth)])
    assert time.perf_counter() - start < 20  # it takes a small part of one second
    assert swept.tp[-1] == len(match.pairs) == 100
