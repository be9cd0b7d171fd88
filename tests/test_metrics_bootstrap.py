"""Bootstrap intervals and paired differences: right in size, seeded, and honest where nothing is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dimpoint.errors import DataError
from dimpoint.metrics.bootstrap import Difference, bootstrap, difference, interval
from dimpoint.metrics.points import PointCounts, match_points
from dimpoint.metrics.protocols import TargetCounts


def _frames(found: int, missed: int) -> list[TargetCounts]:
    """Frames with one target each."""
    one = {"frames": 1, "pixels": 100}
    return [TargetCounts(tp=1, **one)] * found + [TargetCounts(fn=1, **one)] * missed


def test_the_interval_of_a_share_has_the_binomial_width() -> None:
    """Of 400 targets 300 are found: the standard error is sqrt(0.75 * 0.25 / 400) = 0.0217."""
    result = interval(_frames(300, 100), lambda counts: counts.pd)
    assert result.value == 0.75
    assert result.low == pytest.approx(0.75 - 1.96 * 0.0217, abs=0.005)
    assert result.high == pytest.approx(0.75 + 1.96 * 0.0217, abs=0.005)


def test_less_confidence_is_a_narrower_interval() -> None:
    wide = interval(_frames(30, 10), lambda counts: counts.pd, confidence=0.99)
    narrow = interval(_frames(30, 10), lambda counts: counts.pd, confidence=0.5)
    assert wide.low < narrow.low < 0.75 < narrow.high < wide.high


def test_the_seed_decides() -> None:
    errors = np.random.default_rng(0).random(40)
    parts = [PointCounts(tp=1, distance_sum=error) for error in errors]
    one, same, other = (interval(parts, lambda counts: counts.distance_mean, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other


@pytest.mark.parametrize(
    "name", ["f1", "precision", "recall", "fa_objects", "false_per_frame", "distance_mean", "pd", "hiou"]
)
def test_every_ratio_is_the_same_formula_for_draws(name: str) -> None:
    """Frames that are all alike leave nothing to chance: the interval is the value itself."""
    frame = TargetCounts(tp=3, fp=1, fn=2, frames=1, pixels=50, distance_sum=6.0, false_pixels=4, overlap=1.5)
    result = interval([frame] * 9, lambda counts: getattr(counts, name), resamples=50)
    assert result.low == result.value == result.high == getattr(frame, name)


def test_a_ratio_that_is_never_defined_has_no_interval() -> None:
    result = interval([TargetCounts(frames=1)] * 3, lambda counts: counts.precision)
    assert math.isnan(result.value)
    assert math.isnan(result.low)
    assert math.isnan(result.high)


def test_draws_in_which_a_ratio_is_not_defined_are_left_out() -> None:
    """One frame of three has a prediction; draws without it have no precision."""
    parts = [TargetCounts(tp=1, frames=1), TargetCounts(fn=1, frames=1), TargetCounts(fn=1, frames=1)]
    result = interval(parts, lambda counts: counts.precision)
    assert (result.value, result.low, result.high) == (1, 1, 1)


def test_a_method_differs_from_itself_by_nothing() -> None:
    result = difference(_frames(5, 5), _frames(5, 5), lambda counts: counts.pd)
    assert (result.value, result.low, result.high, result.significant) == (0, 0, 0, False)


def test_pairing_sees_what_two_intervals_do_not() -> None:
    """B finds all that A finds and 12 targets of 200 more: the intervals overlap, the difference is sure."""
    a, b = _frames(100, 100), _frames(112, 88)
    one, other = (interval(parts, lambda counts: counts.pd) for parts in (a, b))
    assert one.high > other.low
    result = difference(b, a, lambda counts: counts.pd)
    assert result.value == pytest.approx(0.06)
    assert 0 < result.low < 0.06 < result.high
    assert result.significant


def test_one_frame_more_is_no_significant_difference() -> None:
    result = difference(_frames(51, 49), _frames(50, 50), lambda counts: counts.pd)
    assert result.value == pytest.approx(0.01)
    assert not result.significant


def test_one_frame_gives_no_interval() -> None:
    results = (
        interval(_frames(1, 0), lambda counts: counts.pd),
        difference(_frames(1, 0), _frames(0, 1), lambda counts: counts.pd),
        bootstrap(1, lambda weights: weights.sum(axis=1)),
    )
    for result in results:
        assert (result.value, math.isnan(result.low), math.isnan(result.high)) == (1, True, True)
    assert not results[1].significant


def test_significance_is_an_interval_without_0() -> None:
    assert Difference(-0.2, -0.3, -0.1).significant
    assert not Difference(0.1, 0.0, 0.2).significant
    assert not Difference(math.nan, math.nan, math.nan).significant


def test_any_number_can_be_drawn() -> None:
    values = np.arange(50.0)
    result = bootstrap(50, lambda weights: weights @ values / weights.sum(axis=1), seed=3)
    assert result.value == 24.5
    assert result.low == pytest.approx(24.5 - 1.96 * values.std() / 50**0.5, abs=0.6)


def test_points_have_intervals_too() -> None:
    parts = [PointCounts.of_frame(match_points([(0, d)], [1], [(0, 0)]), (9, 9)) for d in (1, 2, 3, 9)]
    result = interval(parts, lambda counts: counts.distance_mean)
    assert result.value == 2
    assert 1 <= result.low < 2 < result.high <= 3


def test_bad_input_is_refused() -> None:
    with pytest.raises(DataError, match="no frame"):
        interval([], lambda counts: counts.f1)
    with pytest.raises(DataError, match="3 frames against 4; a comparison needs the same frames"):
        difference(_frames(3, 0), _frames(3, 1), lambda counts: counts.f1)
    with pytest.raises(DataError, match="confidence must be between 0 and 1, got 95"):
        interval(_frames(3, 1), lambda counts: counts.f1, confidence=95)
