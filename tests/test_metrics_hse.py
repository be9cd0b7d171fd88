"""HSE, dimpoint reading 1: its laws, its parts, its bad cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from dimpoint.metrics.components import Components, above, centroid_distances
from dimpoint.metrics.exact.matching import batches
from dimpoint.metrics.hse import LEVELS, Hse, HseConfig, HseSamples, hse
from dimpoint.metrics.pixel import PixelCounts, count_pixels
from metrics_scenes import LAW, SEEDS, Frame, drawn, frame, frames, picture


def _close(one: Hse, other: Hse) -> bool:
    parts = [
        [each.hse, each.pixel, each.target, each.iou, each.niou, *each.f1.values()] for each in (one, other)
    ]
    return bool(np.allclose(*parts, rtol=0, atol=1e-9, equal_nan=True))


def _random(seed: int) -> list[Frame]:
    """Random frames, one of them with a target at least."""
    pairs = frames(seed)
    pairs[0][1][0, 0] = True
    return pairs


def test_1_for_a_perfect_map() -> None:
    mask = drawn("##...", "....#", ".....")
    empty = drawn("...")
    result = hse([(mask.astype(np.float32), mask), (empty.astype(np.float32), empty)])
    assert (result.hse, result.pixel, result.target, result.iou, result.niou) == (1, 1, 1, 1, 1)
    assert result.f1 == {1: 1, 2: 1, 3: 1, 4: 1, 5: 1}
    assert (result.name, result.exact) == ("dimpoint reading 1", True)


def test_0_without_any_prediction() -> None:
    result = hse([(picture("...."), drawn("##.."))])
    assert (result.hse, result.pixel, result.target) == (0, 0, 0)


def test_not_defined_without_any_target() -> None:
    assert math.isnan(hse([(picture("..5."), drawn("...."))]).hse)
    assert math.isnan(hse([]).hse)


def test_a_case_by_hand() -> None:
    """A target pixel at 0.8 and, 2 px away, a false one at 0.4: for t < 0.4 both are there, then one."""
    result = hse([(picture("8.4"), drawn("#.."))])
    iou = 0.4 * 1 / 2 + 0.4 * 1
    f1 = 0.4 * 2 / 3 + 0.4 * 1
    assert result.iou == result.niou == pytest.approx(iou, abs=1e-7)
    assert result.f1 == {radius: pytest.approx(f1, abs=1e-7) for radius in (1, 2, 3, 4, 5)}
    assert result.hse == pytest.approx((iou + f1) / 2, abs=1e-7)


def test_the_match_radius_counts() -> None:
    result = hse([(picture("...#"), drawn("#..."))])
    assert result.f1 == {1: 0, 2: 0, 3: 1, 4: 1, 5: 1}
    assert result.target == 0.6


def _f1(pairs: list[Frame], threshold: float, radius: float) -> float:
    """F1 by its meaning, for frames in which no two targets can want the same object."""
    found = objects = targets = 0
    for prob, mask in pairs:
        truth, pred = Components.of(mask), Components.of(above(prob, threshold))
        found += int((centroid_distances(truth, pred) <= radius).any(axis=1).sum())
        objects, targets = objects + len(pred), targets + len(truth)
    return 2 * found / (objects + targets)


def _lone_target(seed: int) -> list[Frame]:
    prob, mask = frame(np.random.default_rng(seed))
    mask[:] = False
    mask[-1, -1] = True
    return [(prob, mask)]


@LAW
@given(SEEDS)
def test_the_integral_is_the_limit_of_finer_and_finer_sampling(seed: int) -> None:
    """Exact integration against the mean over midpoints between all neighbouring levels, weighted."""
    pairs = _lone_target(seed)
    result = hse(pairs)
    levels = np.unique(np.concatenate([[0, 1], *(prob.ravel() for prob, _ in pairs)]).astype(np.float64))
    middles, widths = (levels[1:] + levels[:-1]) / 2, np.diff(levels)
    pixels = [PixelCounts.total(count_pixels(prob, mask, t) for prob, mask in pairs) for t in middles]
    assert result.iou == pytest.approx(float(widths @ [counts.iou for counts in pixels]), abs=1e-6)
    assert result.niou == pytest.approx(float(widths @ [counts.niou for counts in pixels]), abs=1e-6)
    for radius, value in result.f1.items():
        assert value == pytest.approx(float(widths @ [_f1(pairs, t, radius) for t in middles]), abs=1e-6)


@LAW
@given(SEEDS)
def test_sampled_levels_come_close_and_more_levels_do_not_change_the_exact_value(seed: int) -> None:
    """More distinct levels in the data, at which nothing happens, leave the integral as it is."""
    pairs = _random(seed)
    exact = hse(pairs)
    fine = hse(pairs, HseConfig(levels=tuple((np.arange(2000) + 0.5) / 2000)))
    assert fine.hse == pytest.approx(exact.hse, abs=0.02)
    more = [(np.pad(prob, ((0, 1), (0, 1))), np.pad(mask, ((0, 1), (0, 1)))) for prob, mask in pairs]
    assert _close(hse(more), exact)


@LAW
@given(SEEDS)
def test_flips_change_nothing(seed: int) -> None:
    pairs = _random(seed)
    result = hse(pairs)
    for axis in (0, 1):
        assert _close(hse([(np.flip(prob, axis), np.flip(mask, axis)) for prob, mask in pairs]), result)


@LAW
@given(SEEDS)
def test_order_and_repetition_of_frames_change_nothing(seed: int) -> None:
    pairs = _random(seed)
    assert _close(hse(pairs[::-1]), hse(pairs))
    assert _close(hse(pairs * 2), hse(pairs))


@LAW
@given(SEEDS)
def test_f1_grows_with_the_match_radius(seed: int) -> None:
    f1 = list(hse(_random(seed)).f1.values())
    assert f1 == sorted(f1)


@LAW
@given(SEEDS, st.floats(0, 1))
def test_the_pixel_part_grows_when_a_pixel_gets_better(seed: int, better: float) -> None:
    """Raising a true pixel or lowering another never lowers HSE_pixel (HSE_target it may: objects merge)."""
    pairs = _random(seed)
    rng = np.random.default_rng(seed)
    prob, mask = pairs[0]
    changed = prob.copy()
    y, x = (int(rng.integers(length)) for length in prob.shape)
    changed[y, x] = max(prob[y, x], better) if mask[y, x] else min(prob[y, x], better)
    assert hse([(changed, mask), *pairs[1:]]).pixel >= hse(pairs).pixel - 1e-9


@LAW
@given(SEEDS, st.floats(0.05, 1))
def test_a_map_of_one_score_scales_with_it(seed: int, score: float) -> None:
    """A mask at score s is right for t < s and empty above, so every part is s times that of the mask."""
    rng = np.random.default_rng(seed)
    mask, truth = rng.random((2, 12, 14)) < 0.05
    assume(truth.any())
    whole, scaled = hse([(mask.astype(float), truth)]), hse([(mask * score, truth)])
    assert scaled.hse == pytest.approx(score * whole.hse)
    assert scaled.pixel == pytest.approx(score * whole.pixel)


def test_weights_and_radii_come_from_the_configuration() -> None:
    pairs = [(picture("8.4"), drawn("#.."))]
    base = hse(pairs)
    config = HseConfig(radii=(2, 8), iou_weight=1, pixel_weight=0.25)
    result = hse(pairs, config)
    assert result.f1.keys() == {2, 8}
    assert result.pixel == base.iou
    assert result.hse == pytest.approx(0.25 * base.iou + 0.75 * result.target)


def test_radii_beyond_the_usual_reach_are_honoured() -> None:
    twelve_apart = picture("............#"), drawn("#............")
    assert hse([twelve_apart], HseConfig(radii=(11, 12))).f1 == {11: 0, 12: 1}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"radii": (0, 1)}, "match radii must be above 0 pixels"),
        ({"radii": ()}, "at least 1 item"),
        ({"levels": (0.5, 1.5)}, "levels must be thresholds in 0..1"),
        ({"levels": ()}, "at least one"),
        ({"pixel_weight": 2}, "less than or equal to 1"),
        ({"name": "the paper's"}, "dimpoint reading 1"),
        ({"weigths": 1}, "Extra inputs are not permitted"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        HseConfig.model_validate(settings)


@LAW
@given(SEEDS)
def test_samples_for_intervals_are_hse_at_their_levels(seed: int) -> None:
    pairs = _random(seed)
    samples = HseSamples(HseConfig())
    for batch in batches(pairs, 5, pixels=300):
        samples.add(batch)
    at_levels = hse(pairs, HseConfig(levels=tuple(LEVELS)))
    assert samples.number(np.ones((1, len(pairs))))[0] == pytest.approx(at_levels.hse, abs=1e-6)
    doubled = samples.number(np.full((1, len(pairs)), 2.0))
    assert doubled[0] == pytest.approx(at_levels.hse, abs=1e-6)


def test_a_sampled_threshold_is_not_above_itself() -> None:
    samples = HseSamples(HseConfig())
    for batch in batches([(np.array([[LEVELS[49]]]), np.array([[True]]))]):
        samples.add(batch)
    assert samples.number(np.ones((1, 1)))[0] == pytest.approx(0.49)  # the 49 thresholds below, not the 50th
