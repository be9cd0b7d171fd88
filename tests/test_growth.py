"""Masks that grow from points: first regions, updates, and what they may never do."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from dimpoint.targets.growth import (
    Growth,
    Region,
    difficulty,
    finds,
    first_regions,
    grow,
    mask_of,
    swallows,
    values_of,
)

SHAPE = (64, 64)


def spot(*places: tuple[float, float], sigma: float = 1.5, height: float = 100.0) -> np.ndarray:
    """A dark, slightly noisy frame with Gaussian spots at x, y."""
    rows, columns = np.indices(SHAPE)
    frame = 20 + np.random.default_rng(0).normal(0, 1, SHAPE)
    for x, y in places:
        frame += height * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return frame.astype(np.float32)


def disc(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.indices(SHAPE)
    return np.hypot(columns - x, rows - y) <= radius


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def regions_at(frame: np.ndarray, *places: tuple[float, float], **settings: object) -> list[Region]:
    return first_regions(frame, np.array(places, np.float32).reshape(-1, 2), Growth(**settings))  # type: ignore[arg-type]


class TestFirstRegions:
    def test_a_spot_gives_the_pixels_above_the_level(self) -> None:
        # 0.4 of the height of a Gaussian of sigma 1.5 lies 2.03 pixels from its centre
        mask = mask_of(regions_at(spot((30, 20)), (30, 20)), SHAPE)
        assert iou(mask, disc(30, 20, 2.03)) > 0.9

    @pytest.mark.parametrize("off", [(3, 0), (-2, 2), (0, -3), (3, 3)], ids=str)
    def test_a_point_off_by_three_pixels_gives_the_same_region(self, off: tuple[int, int]) -> None:
        frame = spot((30, 20))
        exact = mask_of(regions_at(frame, (30, 20)), SHAPE)
        coarse = mask_of(regions_at(frame, (30 + off[0], 20 + off[1])), SHAPE)
        assert np.array_equal(exact, coarse)

    def test_a_first_label_may_be_the_pixel_of_the_point_alone(self) -> None:
        mask = mask_of(regions_at(spot((30, 20)), (30, 20), start="point"), SHAPE)
        assert np.argwhere(mask).tolist() == [[20, 30]]

    @pytest.mark.parametrize(
        ("frame", "point"),
        [
            (np.full(SHAPE, 7, np.uint8), (30, 20)),  # no spot at all
            (np.zeros(SHAPE, np.float32), (0, 0)),
            (spot((30, 20)), (63, 63)),  # on the background, in a corner
        ],
        ids=["flat", "black", "background"],
    )
    def test_a_point_without_a_spot_keeps_a_small_label(
        self, frame: np.ndarray, point: tuple[int, int]
    ) -> None:
        assert 1 <= mask_of(regions_at(frame, point), SHAPE).sum() <= 30

    @pytest.mark.parametrize("point", [(-4, -4), (70, 70), (0, 63), (31.6, -0.4)], ids=str)
    def test_a_point_at_the_border_or_beyond_has_its_region_inside(self, point: tuple[float, float]) -> None:
        assert mask_of(regions_at(spot((30, 20)), point), SHAPE).any()

    def test_two_points_on_one_spot_share_it(self) -> None:
        frame = spot((30, 20), (33, 20))
        left, right = regions_at(frame, (30, 20), (33, 20), snap=1)
        both = mask_of([left, right], SHAPE)
        assert left.pixels.sum() + right.pixels.sum() == both.sum()
        assert both[20, 30]
        assert both[20, 33]

    def test_two_points_on_one_target_label_it_as_one_point_does(self) -> None:
        frame, rule = spot((30, 20)), Growth()
        once, twice = regions_at(frame, (30, 20)), regions_at(frame, (29, 20), (32, 21))
        assert np.array_equal(mask_of(once, SHAPE), mask_of(twice, SHAPE))
        prediction = np.where(disc(30, 20, 3), 0.9, 0.0).astype(np.float32)
        once, twice = (grow(frame, prediction, regions, rule) for regions in (once, twice))
        assert np.array_equal(mask_of(once, SHAPE), mask_of(twice, SHAPE))

    def test_touching_targets_stay_two_regions(self) -> None:
        frame = spot((30, 20), (35, 20))
        left, right = regions_at(frame, (30, 20), (35, 20))
        assert not mask_of([left], SHAPE)[:, 33:].any()
        assert not mask_of([right], SHAPE)[:, :32].any()

    def test_of_two_touching_targets_the_fainter_one_keeps_its_peak(self) -> None:
        frame = spot((30, 20)) + 0.6 * (spot((34, 20)) - spot())
        bright, faint = regions_at(frame, (30, 20), (34, 20))
        assert (bright.seed, faint.seed) == ((20, 30), (20, 34))

    def test_a_saturated_blob_gives_its_plateau(self) -> None:
        frame = np.where(disc(30, 20, 5), 255, 20).astype(np.uint8)
        assert np.array_equal(mask_of(regions_at(frame, (30, 20)), SHAPE), disc(30, 20, 5))

    def test_a_spot_as_large_as_the_background_is_no_target(self) -> None:
        frame = np.full(SHAPE, 20, np.uint8)
        frame[:, :40] = 200  # a wall; a point at its edge
        assert mask_of(regions_at(frame, (39, 20)), SHAPE).sum() <= 30

    def test_no_points_give_an_empty_mask(self) -> None:
        assert not mask_of(regions_at(spot()), SHAPE).any()


class TestGrow:
    def test_a_point_becomes_the_predicted_region(self) -> None:
        rule = Growth(setting="lesps")
        frame, true = spot((30, 20), sigma=2.0), disc(30, 20, 3)
        regions = regions_at(frame, (30, 20), setting="lesps", start="point")
        for _ in range(4):
            regions = grow(frame, np.where(true, 0.9, 0.05).astype(np.float32), regions, rule)
        assert iou(mask_of(regions, SHAPE), true) > 0.9

    def test_soft_values_rise_before_a_pixel_is_in_the_mask(self) -> None:
        """With a prediction of 0.4 no pixel joins the mask, but the values that are trained on follow it."""
        frame, true = spot((30, 20), sigma=2.0), disc(30, 20, 2)
        regions = regions_at(frame, (30, 20), setting="lesps", start="point")
        for _ in range(8):
            regions = grow(
                frame, np.where(true, 0.4, 0.0).astype(np.float32), regions, Growth(setting="lesps")
            )
        values = values_of(regions, SHAPE)
        assert mask_of(regions, SHAPE).sum() == 1
        assert values[20, 30] == 1
        others = true & (values < 1)
        assert np.allclose(values[others], 0.4, atol=0.01)
        assert not values[~true].any()

    def test_where_windows_overlap_the_higher_value_counts(self) -> None:
        first, second = regions_at(spot((30, 20), (34, 20)), (30, 20), (34, 20))
        low = first.with_values(np.full_like(first.values, 0.2))
        high = second.with_values(np.full_like(second.values, 0.7))
        assert values_of([high, low], SHAPE)[20, 32] == np.float32(0.7)
        assert values_of([], SHAPE).sum() == 0

    def test_too_large_a_region_shrinks_to_the_prediction(self) -> None:
        frame = np.where(disc(30, 20, 6), 120, 20).astype(np.float32)
        regions, rule = regions_at(frame, (30, 20)), Growth()
        prediction = np.where(disc(30, 20, 3), 0.95, 0.02).astype(np.float32)
        for _ in range(20):
            regions = grow(frame, prediction, regions, rule)
        assert iou(mask_of(regions, SHAPE), disc(30, 20, 3)) > 0.9

    def test_a_false_object_nearby_is_not_joined(self) -> None:
        frame = spot((30, 20), (40, 20))
        prediction = np.where(disc(30, 20, 2) | disc(40, 20, 2), 0.9, 0.0).astype(np.float32)
        regions = grow(frame, prediction, regions_at(frame, (30, 20)), Growth())
        assert not mask_of(regions, SHAPE)[:, 36:].any()

    @pytest.mark.parametrize("setting", ["progressive", "lesps"])
    @pytest.mark.parametrize("peak", [0.01, 0.1, 0.2, 0.4])
    def test_a_weak_prediction_costs_no_more_than_none(self, peak: float, setting: str) -> None:
        frame, true = np.where(disc(30, 20, 3), 120, 20).astype(np.float32), disc(30, 20, 3)
        rule = Growth(setting=setting)  # type: ignore[arg-type]
        weak = none = regions_at(frame, (30, 20))
        for _ in range(12):
            weak = grow(frame, np.where(true, peak, 0.0).astype(np.float32), weak, rule)
            none = grow(frame, np.zeros(SHAPE, np.float32), none, rule)
        assert np.array_equal(mask_of(weak, SHAPE), true)
        assert (values_of(weak, SHAPE) >= values_of(none, SHAPE)).all()

    def test_the_prediction_of_a_neighbour_sets_no_threshold(self) -> None:
        both = disc(24, 20, 2) | disc(36, 20, 2)
        frame = np.where(both, 120, 20).astype(np.float32)
        seen = np.where(disc(24, 20, 2), 0.95, np.where(disc(36, 20, 2), 0.45, 0.0)).astype(np.float32)
        alone = np.where(disc(36, 20, 2), 0.45, 0.0).astype(np.float32)
        regions = apart = regions_at(frame, (24, 20), (36, 20))
        for _ in range(25):
            regions, apart = grow(frame, seen, regions, Growth()), grow(frame, alone, apart, Growth())
        assert np.array_equal(regions[1].values, apart[1].values)

    def test_a_dark_pixel_does_not_join(self) -> None:
        frame = np.where(disc(30, 20, 2), 120, 20).astype(np.float32)
        everywhere = np.where(disc(30, 20, 8), 0.9, 0.0).astype(np.float32)
        regions, rule = regions_at(frame, (30, 20)), Growth()
        for _ in range(6):
            regions = grow(frame, everywhere, regions, rule)
        assert np.array_equal(mask_of(regions, SHAPE), disc(30, 20, 2))

    @pytest.mark.parametrize(("height", "joins"), [(0.25, False), (0.35, True)])
    def test_a_blurred_prediction_takes_no_faint_rim(self, height: float, joins: bool) -> None:
        """A network that blurs predicts a small target too large; its rim joins from 0.3 of the height on."""
        small, rim = disc(30, 20, 1), disc(30, 20, 3)
        frame = np.where(small, 120, np.where(rim, 20 + 100 * height, 20)).astype(np.float32)
        regions = regions_at(frame, (30, 20))
        for _ in range(6):
            regions = grow(frame, np.where(rim, 0.9, 0.0).astype(np.float32), regions, Growth())
        assert np.array_equal(mask_of(regions, SHAPE), rim if joins else small)

    @pytest.mark.parametrize("setting", ["progressive", "lesps"])
    @pytest.mark.parametrize("value", [0.0, 1.0, 1e-9], ids=str)
    def test_no_target_is_lost_and_none_leaves_its_window(self, setting: str, value: float) -> None:
        rule = Growth(setting=setting, reach=5)  # type: ignore[arg-type]
        frame = spot((30, 20), (50, 50))
        regions = first_regions(frame, np.array([[30, 20], [50, 50], [51, 50]], np.float32), rule)
        for _ in range(100):
            regions = grow(frame, np.full(SHAPE, value, np.float32), regions, rule)
        mask = mask_of(regions, SHAPE)
        assert all(mask[region.seed] for region in regions)
        rows, columns = np.nonzero(mask)
        beside = np.array([np.hypot(rows - r, columns - c) for r, c in (r.seed for r in regions)]).min(axis=0)
        assert beside.max() <= np.hypot(5, 5)


class TestBrightGround:
    @pytest.mark.parametrize("setting", ["progressive", "lesps"])
    @pytest.mark.parametrize(
        ("frame", "point"),
        [
            (spot((30, 20)), (30, 20)),
            (np.where(disc(30, 20, 6), 255, 20), (30, 20)),
            (np.where(disc(0, 0, 6), 255, 20), (0, 0)),  # cut by two borders of the frame
            (np.full(SHAPE, 7), (30, 20)),
        ],
        ids=["spot", "blob", "corner", "flat"],
    )
    def test_a_spot_is_no_ground(self, frame: np.ndarray, point: tuple[int, int], setting: str) -> None:
        (region,) = regions_at(frame, point, setting=setting)
        assert not swallows(region, SHAPE, Growth(setting=setting))  # type: ignore[arg-type]

    @pytest.mark.parametrize("steep", [0, 1], ids=["level", "diagonal"])
    def test_a_bright_line_is_ground(self, steep: int) -> None:
        rows, columns = np.indices(SHAPE)
        frame = np.where(abs(rows - 32 - steep * (columns - 32)) <= 1, 200, 20)
        (region,) = regions_at(frame, (32, 32))
        assert swallows(region, SHAPE, Growth())

    def test_a_label_that_grows_larger_than_a_spot_is_ground(self) -> None:
        frame = np.where(disc(32, 32, 9), 120, 20).astype(np.float32)
        (region,) = regions_at(frame, (32, 32), setting="lesps", start="point")
        rule = Growth(setting="lesps")
        assert not swallows(region, SHAPE, rule)
        for _ in range(9):
            (region,) = grow(frame, np.where(disc(32, 32, 9), 0.9, 0).astype(np.float32), [region], rule)
        assert swallows(region, SHAPE, rule)


class TestEasyFrames:
    def test_a_bright_target_is_easier_than_a_faint_one(self) -> None:
        bright, faint = spot((30, 20), height=100), spot((30, 20), height=8)
        easy, hard = (difficulty(regions_at(frame, (30, 20))) for frame in (bright, faint))
        assert easy < hard

    def test_a_frame_without_targets_is_easy(self) -> None:
        assert difficulty([]) == 0

    @pytest.mark.parametrize(("seen", "found"), [((30, 20), True), ((40, 40), False)], ids=str)
    def test_a_target_is_found_where_the_prediction_is_high(self, seen: tuple[int, int], found: bool) -> None:
        regions = regions_at(spot((30, 20)), (30, 20))
        assert finds(disc(*seen, 2).astype(np.float32), regions) is found


class TestSettings:
    def test_own_values_go_over_those_of_the_setting(self) -> None:
        assert Growth(setting="lesps").decay == 1
        own = Growth(setting="lesps", start="point", decay=0.9)
        assert (own.start, own.decay, own.soft) == ("point", 0.9, True)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"setting": "pal"},
            {"level": 0},
            {"every": 0},
            {"reach": 1},
            {"speed": 3},
            {"first": 1.0},
            {"first": 0.5, "last": 0.2},
            {"last": 0.1},  # before the first update by the defaults
        ],
        ids=str,
    )
    def test_a_wrong_setting_is_named(self, wrong: dict[str, object]) -> None:
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            Growth(**wrong)  # type: ignore[arg-type]
