"""Points -> training targets: our own, and the published ones against the reference maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dimpoint.errors import DataError
from dimpoint.targets import TargetRule, make_target
from spire_reference import LABELLED, golden, warped_frame

KINDS = ("gaussian", "prps", "gaussian-published", "prps-published")
OURS = KINDS[:2]
NOISE = np.random.default_rng(0).random((64, 96), np.float32)


def points_of(*points: tuple[float, float]) -> npt.NDArray[np.float32]:
    return np.array(points, np.float32).reshape(-1, 2)


def target(points: npt.NDArray[Any], kind: str = "gaussian", **rule: Any) -> npt.NDArray[np.float32]:
    return make_target(NOISE, points, TargetRule.model_validate({"kind": kind, **rule}))


inside = st.tuples(st.floats(0, 95, width=32), st.floats(0, 63, width=32))


class TestPublished:
    """Equal to the maps that the authors' code gives for frames in their 512x512 warp."""

    @pytest.mark.parametrize("name", LABELLED)
    @pytest.mark.parametrize("kind", ["prps", "gaussian"])
    def test_golden(self, shared_reference: Path, shared_data: Path, name: str, kind: str) -> None:
        values = golden(shared_reference)
        rule = TargetRule.model_validate({"kind": f"{kind}-published"})
        got = make_target(warped_frame(shared_data, name), values[f"{name}_label_xy_512"], rule)
        np.testing.assert_allclose(got, values[f"{name}_{kind}_official"], rtol=0, atol=1e-6)

    @pytest.mark.parametrize("kind", ["gaussian-published", "prps-published"])
    @pytest.mark.parametrize("point", [(0, 20), (20, 0), (0, 0)])
    def test_points_at_zero_are_dropped(self, kind: str, point: tuple[float, float]) -> None:
        assert not target(points_of(point), kind).any()

    def test_overlaps_are_averaged(self) -> None:
        one, two = points_of((40, 32)), points_of((48, 32))
        both = target(np.concatenate((one, two)), "gaussian-published")
        alone = target(one, "gaussian-published"), target(two, "gaussian-published")
        assert both[8, 11] == pytest.approx((alone[0][8, 11] + alone[1][8, 11]) / 2)

    @pytest.mark.parametrize("point", [(-3, 20), (20, 64), (96, 5), (1e30, 5)])
    def test_prps_drops_points_outside(self, point: tuple[float, float]) -> None:
        assert not target(points_of(point), "prps-published").any()

    def test_flat_patch_is_the_plain_gaussian(self) -> None:
        flat = np.full((64, 96), 0.5, np.float32)
        prps = make_target(flat, points_of((40, 32)), TargetRule(kind="prps-published"))
        gaussian = target(points_of((40, 32)), "gaussian-published")
        np.testing.assert_allclose(prps, gaussian, atol=2e-3)  # published: its extremes are taken out twice

    def test_prps_needs_a_frame_as_large_as_its_patch(self) -> None:
        with pytest.raises(DataError, match="at least 13 pixels"):
            make_target(NOISE[:12], points_of((5, 5)), TargetRule(kind="prps-published"))


class TestGaussian:
    # (point in input pixels, stride, map pixel, value there) for sigma 2 map pixels
    CASES = (
        ((40, 32), 4, (10, 8), 1.0),  # on a map pixel
        ((42, 32), 4, (10, 8), np.exp(-0.25 / 8)),  # between two: both neighbours see it equally
        ((42, 32), 4, (11, 8), np.exp(-0.25 / 8)),
        ((41, 33), 2, (20, 16), np.exp(-(0.25 + 0.25) / 8)),  # stride 2
        ((7.25, 3.5), 1, (7, 3), np.exp(-(0.0625 + 0.25) / 8)),  # stride 1
        ((0, 0), 4, (0, 0), 1.0),  # the corner is a place like any other
        ((-4, 8), 4, (0, 2), np.exp(-1 / 8)),  # outside: what reaches in counts
        ((40, 32), 4, (16, 14), np.exp(-72 / 8)),  # the corner of the square is still filled ...
        ((40, 32), 4, (17, 8), 0.0),  # ... and nothing beyond it
    )

    @pytest.mark.parametrize(("point", "stride", "pixel", "value"), CASES)
    def test_value(
        self, point: tuple[float, float], stride: int, pixel: tuple[int, int], value: float
    ) -> None:
        got = target(points_of(point), stride=stride)
        assert got[pixel[1], pixel[0]] == pytest.approx(value, rel=1e-5)

    def test_overlaps_keep_the_highest(self) -> None:
        one, two = points_of((40, 32)), points_of((47, 33))
        both = target(np.concatenate((one, two)))
        np.testing.assert_array_equal(both, np.maximum(target(one), target(two)))

    @given(point=inside, across=st.integers(-3, 3), down=st.integers(-3, 3))
    def test_shift_by_the_stride_shifts_the_map(
        self, point: tuple[float, float], across: int, down: int
    ) -> None:
        moved = (point[0] + 4 * across, point[1] + 4 * down)
        big = np.zeros((160, 192), np.float32)
        rule = TargetRule()
        start = make_target(big, np.array([point]) + 48, rule)
        end = make_target(big, np.array([moved]) + 48, rule)
        np.testing.assert_allclose(np.roll(start, (down, across), (0, 1)), end, atol=1e-6)

    @given(points=st.lists(inside, max_size=5))
    def test_mirrored_points_give_the_mirrored_map(self, points: list[tuple[float, float]]) -> None:
        frame = np.zeros((65, 97), np.float32)  # its last pixels are map pixels, as its first
        array = np.array(points, np.float64).reshape(-1, 2)
        got = make_target(frame, np.array([96, 64]) - array, TargetRule())
        mirrored = make_target(frame, array, TargetRule())[::-1, ::-1]
        # A point halfway between map pixels has its square to the right, so that one column is cut.
        np.testing.assert_allclose(got, mirrored, atol=np.exp(-(6.49**2) / 8))


class TestOurPrps:
    def test_flat_frame_is_the_gaussian(self) -> None:
        flat = np.full((64, 96), 0.5, np.float32)
        points = points_of((41.3, 30.2), (0, 0), (-5, 70))
        got = make_target(flat, points, TargetRule(kind="prps"))
        np.testing.assert_allclose(got, target(points), rtol=1e-6)

    @pytest.mark.parametrize("point", [(0, 20), (20, 0), (0, 0), (95, 63)])
    def test_border_points_are_points(self, point: tuple[float, float]) -> None:
        highest = target(points_of(point)).max()
        assert highest > 0.8
        assert target(points_of(point), "prps").max() == pytest.approx(highest)

    @pytest.mark.parametrize(("low", "high"), [(0, 4), (100, 0.5)])
    def test_counts_do_not_matter(self, low: float, high: float) -> None:
        points = points_of((40, 32), (70, 20))
        other = make_target(NOISE * np.float32(high) + np.float32(low), points, TargetRule(kind="prps"))
        np.testing.assert_allclose(other, target(points, "prps"), atol=2e-3)

    @pytest.mark.parametrize("stride", [1, 2, 4])
    def test_bright_spot_keeps_its_sub_pixel_centre(self, stride: int) -> None:
        x, y = np.arange(96), np.arange(64)[:, None]
        spot = np.exp(-((x - 41.3) ** 2 + (y - 30.6) ** 2) / 8).astype(np.float32)
        got = make_target(spot, points_of((41.3, 30.6)), TargetRule(kind="prps", stride=stride))
        rows, columns = np.indices(got.shape)
        centre = np.array([(got * columns).sum(), (got * rows).sum()]) / got.sum() * stride
        np.testing.assert_allclose(centre, (41.3, 30.6), atol=0.1 * stride)

    def test_dark_pixels_weigh_nothing(self) -> None:
        frame = np.zeros((64, 96), np.float32)
        frame[:, 40:] = 1.0
        got = make_target(frame, points_of((40, 32)), TargetRule(kind="prps"))
        assert got[8, 10:].max() == pytest.approx(1.0)
        assert not got[:, :9].any()


class TestEveryKind:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("empty", [np.zeros((0, 2)), np.zeros(0), []])
    def test_no_point_no_response(self, kind: str, empty: Any) -> None:
        got = target(empty, kind)
        assert got.shape == (16, 24)
        assert got.dtype == np.float32
        assert not got.any()

    # (frame height, width, stride, map shape): rounded up, as strided convolutions do
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        ("height", "width", "stride", "shape"),
        [(64, 96, 4, (16, 24)), (33, 30, 4, (9, 8)), (33, 31, 2, (17, 16)), (20, 21, 1, (20, 21))],
    )
    def test_shape(self, kind: str, height: int, width: int, stride: int, shape: tuple[int, int]) -> None:
        rule = TargetRule.model_validate({"kind": kind, "stride": stride})
        got = make_target(NOISE[:height, :width], points_of((10, 12)), rule)
        assert got.shape == shape
        assert got.max() > 0.9

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        ("points", "message"),
        [
            ([[np.nan, 3.0]], "finite"),
            ([[np.inf, 3.0]], "finite"),
            ([[1.0, 2.0, 3.0]], r"\(N, 2\)"),
            ([1.0, 2.0], r"\(N, 2\)"),  # one point without its row
        ],
    )
    def test_bad_points(self, kind: str, points: Any, message: str) -> None:
        with pytest.raises(DataError, match=message):
            target(np.array(points), kind)

    @pytest.mark.parametrize("kind", KINDS)
    def test_far_points_do_no_harm(self, kind: str) -> None:
        assert not target(points_of((1e30, 5), (-1e30, 5), (5, 3e9)), kind).any()

    @settings(deadline=None)
    @given(points=st.lists(inside, min_size=1, max_size=6), kind=st.sampled_from(OURS))
    def test_ours_lie_in_range_whatever_the_order(self, points: list[tuple[float, float]], kind: str) -> None:
        array = np.array(points)
        got = target(array, kind)
        assert got.min() >= 0
        assert got.max() <= 1
        np.testing.assert_array_equal(got, target(array[::-1], kind))

    @settings(deadline=None)
    @given(points=st.lists(inside, min_size=1, max_size=6), kind=st.sampled_from(OURS))
    def test_one_more_point_lowers_nothing(self, points: list[tuple[float, float]], kind: str) -> None:
        array = np.array(points)
        assert (target(array, kind) >= target(array[:-1], kind)).all()

    @pytest.mark.parametrize("kind", KINDS)
    def test_inputs_stay_as_they_were(self, kind: str) -> None:
        frame, points = NOISE.copy(), points_of((40, 32))
        make_target(frame, points, TargetRule.model_validate({"kind": kind}))
        np.testing.assert_array_equal(frame, NOISE)
        np.testing.assert_array_equal(points, points_of((40, 32)))


@pytest.mark.parametrize(
    "wrong", [{"kind": "gausian"}, {"stride": 0}, {"sigma": 0}, {"radius": 0}, {"sigmas": 2}]
)
def test_wrong_rules_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TargetRule.model_validate(wrong)
