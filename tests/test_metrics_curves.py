"""Target curves over every score level: equal to labelling anew at each threshold, whatever the map."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from dimpoint.errors import DataError
from dimpoint.metrics.components import Components, above, centroid_distances
from dimpoint.metrics.curves import Curve, target_curve
from dimpoint.metrics.exact import compiled
from dimpoint.metrics.exact.component_tree import component_tree
from dimpoint.metrics.exact.levels import GRID, LevelSums
from dimpoint.metrics.exact.matching import batches
from dimpoint.metrics.protocols import TargetCounts, count_targets
from metrics_scenes import LAW, SEEDS, Frame, drawn, frame, frames, picture


@pytest.fixture(scope="module", params=["arrays", "compiled"], autouse=True)
def _machinery(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything holds without numba, and with it also for few pixels."""
    if request.param == "compiled":
        pytest.importorskip("numba")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "LEAST", 0 if request.param == "compiled" else 2**62)
        yield


def _same_as_labelling(curve: Curve, pairs: list[Frame], thresholds: list[float]) -> None:
    at = curve.at(thresholds)
    for index, threshold in enumerate(thresholds):
        counts = TargetCounts.total(
            count_targets(prob, mask, "basicirstd", threshold) for prob, mask in pairs
        )
        assert (at.tp[index], at.fp[index], at.fn[index]) == (counts.tp, counts.fp, counts.fn)
        assert at.false_area[index] == counts.false_pixels
        for ours, theirs in ((at.recall, counts.pd), (at.fa, counts.fa_pixels), (at.f1, counts.f1)):
            np.testing.assert_equal(ours[index], theirs)
        np.testing.assert_equal(at.false_per_frame[index], counts.false_per_frame)
        np.testing.assert_equal(at.precision[index], counts.precision)


@LAW
@given(SEEDS)
def test_the_curve_equals_labelling_at_each_threshold(seed: int) -> None:
    pairs = frames(seed)
    curve = target_curve(pairs)
    levels = np.unique(np.concatenate([[0.0], *(prob.ravel() for prob, _ in pairs)]))
    assert curve.low.tolist() == levels[::-1].tolist()
    chosen = levels[:: max(len(levels) // 15, 1)].tolist()
    _same_as_labelling(curve, pairs, [*np.linspace(0, 1, 11).tolist(), *chosen])


def test_real_maps_at_100_thresholds(shared_reference: Path) -> None:
    arrays = np.load(shared_reference / "metrics" / "predictions.npz")
    names = [name for name in arrays.files if not name.endswith("_mask")][:8]
    pairs = [(arrays[name], arrays[f"{name}_mask"]) for name in names]
    _same_as_labelling(target_curve(pairs), pairs, np.linspace(0, 1, 100, endpoint=False).tolist())


HOSTILE = {
    "every pixel the same": np.full((20, 30), 0.7, np.float32),
    "all ones": np.ones((20, 30), np.float32),
    "a ramp: one object that grows by one pixel at each level": np.linspace(
        0.01, 1, 600, dtype=np.float32
    ).reshape(20, 30),
    "a comb: many ridges that meet late": np.where(
        np.arange(20)[:, None] % 2 == 0,
        np.linspace(1, 0.6, 30, dtype=np.float32),
        np.float32(0.1) * (np.arange(30) == 0).astype(np.float32),
    ).astype(np.float32),
    "rings around the target: centroids inside, pixels outside": np.float32(0.9)
    * (np.maximum(abs(np.arange(20)[:, None] - 10), abs(np.arange(30) - 15)) % 3 == 0).astype(np.float32),
    "the least positive scores": np.full((20, 30), np.nextafter(np.float32(0), np.float32(1))),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_maps(kind: str) -> None:
    prob = HOSTILE[kind]
    mask = np.zeros(prob.shape, np.bool_)
    mask[9:12, 14:17] = mask[0, 0] = mask[19, 29] = True  # in the middle and on the border
    curve = target_curve([(prob, mask)])
    _same_as_labelling(curve, [(prob, mask)], curve.low[:: max(len(curve.low) // 40, 1)].tolist())


EMPTY = [
    ("no prediction", picture("...."), drawn("#..."), 0.0),
    ("no truth", picture("..5."), drawn("...."), math.nan),
    ("neither", picture("...."), drawn("...."), math.nan),
]


@pytest.mark.parametrize(
    ("prob", "mask", "pd"), [case[1:] for case in EMPTY], ids=[case[0] for case in EMPTY]
)
def test_empty_sides(prob: np.ndarray, mask: np.ndarray, pd: float) -> None:
    curve = target_curve([(prob, mask)])
    assert curve.low[-1] == 0
    np.testing.assert_equal(curve.recall[-1], pd)
    assert curve.fp[-1] == (prob > 0).any()


def test_a_long_object_whose_brightest_end_is_far_from_the_target() -> None:
    """Its centroid comes to the target only when all of its 41 pixels are there."""
    prob = np.full((1, 41), np.float32(0.3))
    prob[0, 0] = 0.9
    mask = np.zeros(prob.shape, np.bool_)
    mask[0, 20] = True
    at = target_curve([(prob, mask)]).at([0.5, 0.1])
    assert (at.tp.tolist(), at.fp.tolist()) == ([0, 1], [1, 0])


def test_no_frames_give_an_empty_curve() -> None:
    curve = target_curve([])
    assert curve.low.tolist() == [0]
    assert math.isnan(curve.fa[0])


def test_two_targets_want_the_same_object() -> None:
    """Above 0.5 there is one object for two targets; below, each has its own."""
    prob, mask = picture("9.5", "...", "..."), drawn("#.#", "...", "...")
    curve = target_curve([(prob, mask)]).at([0.6, 0.3])
    assert (curve.tp.tolist(), curve.fp.tolist()) == ([1, 2], [0, 0])


@LAW
@given(SEEDS)
def test_pd_and_false_objects_do_not_depend_on_batches(seed: int) -> None:
    pairs = frames(seed)
    one = target_curve(pairs)
    parts = [target_curve([pair]).at(one.low) for pair in pairs]
    assert one.tp.tolist() == sum(part.tp for part in parts).tolist()
    assert one.false_area.tolist() == sum(part.false_area for part in parts).tolist()
    assert [len(batch.probs) for batch in batches(pairs, pixels=1)] == [1] * len(pairs)


@LAW
@given(SEEDS, st.integers(0, 4), st.integers(0, 4))
def test_a_margin_changes_only_the_number_of_pixels(seed: int, left: int, top: int) -> None:
    prob, mask = frame(np.random.default_rng(seed))
    curve = target_curve([(prob, mask)])
    margin = ((top, 1), (left, 2))
    moved = target_curve([(np.pad(prob, margin), np.pad(mask, margin))])
    assert moved.tp.tolist() == curve.tp.tolist()
    assert moved.fp.tolist() == curve.fp.tolist()
    assert moved.false_area.tolist() == curve.false_area.tolist()


@LAW
@given(SEEDS)
def test_a_monotone_change_of_scores_moves_only_the_thresholds(seed: int) -> None:
    pairs = frames(seed)
    curve = target_curve(pairs)
    halved = target_curve([(prob / 2, mask) for prob, mask in pairs])
    assert halved.tp.tolist() == curve.tp.tolist()
    assert halved.fp.tolist() == curve.fp.tolist()
    assert halved.low.tolist() == (curve.low / 2).tolist()


@LAW
@given(SEEDS)
def test_the_most_matches_at_every_threshold_and_radius(seed: int) -> None:
    """HSE's matching, against scipy's maximum matching on labels made anew."""
    pairs = frames(seed)
    for radius in (1, 3, 5):
        sums = LevelSums(1, limit=None)
        for batch in batches(pairs, 5, pixels=400):
            levels, weights, _ = batch.found(radius)
            sums.add(levels, weights[None])
        for threshold in (0, 0.25, 0.4, 0.5, 0.8):
            expected = 0
            for prob, mask in pairs:
                near = (
                    centroid_distances(Components.of(mask), Components.of(above(prob, threshold))) <= radius
                )
                expected += (maximum_bipartite_matching(csr_array(near)) >= 0).sum() if near.size else 0
            assert sums.at([threshold])[0, 0] == expected


@LAW
@given(SEEDS)
def test_births_less_merges_are_the_objects(seed: int) -> None:
    probs = [prob for prob, _ in frames(seed)]
    tree = component_tree(probs)
    for threshold in (0, 0.25, 0.5, 0.75):
        objects = sum(len(Components.of(above(prob, threshold))) for prob in probs)
        assert (tree.births > threshold).sum() - (tree.merges > threshold).sum() == objects


def test_ten_thousand_specks() -> None:
    """Also with hundreds of crowded targets."""
    rng = np.random.default_rng(0)
    prob = np.zeros((256, 256), np.float32)
    prob.ravel()[rng.permutation(prob.size)[:10_000]] = rng.random(10_000, np.float32)
    crowd = rng.random(prob.shape) < 0.01
    for mask in (np.zeros_like(crowd), crowd):
        curve = target_curve([(prob, mask)])
        _same_as_labelling(curve, [(prob, mask)], [0.0, 0.5, 0.9])


class TestLevelSums:
    """The step functions under all curves."""

    def test_a_level_counts_below_itself(self) -> None:
        sums = LevelSums(1)
        sums.add(np.array([0.5, 0.5, 1.0]), np.array([[1, 2, 4]]))
        assert sums.at([0, 0.4, 0.5, 0.9, 1])[0].tolist() == [7, 7, 4, 4, 0]
        thresholds, values = sums.steps()
        assert (thresholds.tolist(), values[0].tolist()) == ([0, 0.5, 1], [7, 4, 0])

    def test_weights_must_fit(self) -> None:
        with pytest.raises(DataError, match=r"weights \[2\] do not fit 3 levels"):
            LevelSums(1).add(np.zeros(3), np.zeros((1, 2)))

    @LAW
    @given(SEEDS)
    def test_few_levels_are_exact_and_many_are_exact_on_the_grid(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        levels = rng.random(200).astype(rng.choice([np.float32, np.float64]))
        weights = rng.integers(-3, 9, (2, 200))
        exact, coarse, merged, part = (LevelSums(2, limit=limit) for limit in (None, 50, 50, 50))
        exact.add(levels, weights)
        for start in range(0, 200, 7):
            coarse.add(levels[start : start + 7], weights[:, start : start + 7])
        merged.add(levels[:20], weights[:, :20])
        part.add(levels[20:], weights[:, 20:])
        merged.merge(part)
        grid = np.concatenate([np.arange(0, 1, 1 / 64), np.ceil(levels * GRID) / GRID])
        assert exact.exact
        assert not coarse.exact
        assert not merged.exact
        assert exact.at(levels).tolist() == [
            [int(row[levels > level].sum()) for level in levels] for row in weights
        ]
        assert coarse.at(grid).tolist() == merged.at(grid).tolist() == exact.at(grid).tolist()
        assert coarse.steps()[0].tolist() == merged.steps()[0].tolist()


class TestEndsOfCurves:
    """Below the last score nothing changes, and a limit that no row keeps is an error."""

    CURVE = Curve(
        "own",
        "objects",
        low=np.array([0.9, 0.5]),
        high=np.array([1.0, 0.9]),
        tp=np.array([1, 2]),
        fp=np.array([5, 7]),
        false_area=np.array([5, 7]),
        targets=3,
        frames=10,
        pixels=100,
    )

    def test_thresholds_below_the_end(self) -> None:
        at = self.CURVE.at([0.95, 0.6, 0.5, 0.1, 0])
        assert (at.tp.tolist(), at.fp.tolist()) == ([1, 2, 2, 2, 2], [5, 7, 7, 7, 7])

    def test_limits_on_false_alarms(self) -> None:
        assert self.CURVE.choose("false-alarms-per-frame", 0.6) == 0
        assert self.CURVE.choose("fa", 0.07) == 1
        with pytest.raises(DataError, match=r"--fa 0.01 is not met .* at the highest, 0.9, it is 0.05"):
            self.CURVE.choose("fa", 0.01)
