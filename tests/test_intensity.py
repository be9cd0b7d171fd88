"""Sensor counts -> network range: what each rule maps to 0 and 1, and what it must never do."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from dimpoint.errors import FrameError
from dimpoint.model.intensity import IntensityRule, check_frame, percentiles

FAST = settings(derandomize=True, deadline=None, max_examples=60)
INTEGER_FRAMES = st.sampled_from([np.uint8, np.uint16]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))
)
PERCENTILE = IntensityRule(kind="percentile", low=1, high=99)


def ramp(top: int, dtype: type) -> np.ndarray:
    return np.arange(top + 1, dtype=dtype)[None]


@pytest.mark.parametrize(
    ("rule", "frame", "zero", "one"),
    [
        # dtype: the whole range of the type
        (IntensityRule(), np.array([[0, 255]], np.uint8), 0, 255),
        (IntensityRule(), np.array([[0, 65535]], np.uint16), 0, 65535),
        (IntensityRule(), np.array([[0.0, 1.0]], np.float32), 0, 1),
        # dtype does not look at the frame: few counts of 16 bits stay few
        (IntensityRule(), np.array([[7000, 7100]], np.uint16), 0, 65535),
        # range: fixed counts, whatever the frame or its type holds
        (IntensityRule(kind="range", low=7000, high=9000), np.array([[0, 8000]], np.uint16), 7000, 9000),
        (IntensityRule(kind="range", low=-40, high=85), np.array([[20.5]], np.float32), -40, 85),
        # percentile 0 and 100: the least and the largest count
        (IntensityRule(kind="percentile", low=0, high=100), ramp(99, np.uint16), 0, 99),
        (IntensityRule(kind="percentile", low=0, high=100), ramp(99, np.uint8).astype(np.float32), 0, 99),
        # percentiles between: 101 counts, so that the rank is the count
        (IntensityRule(kind="percentile", low=1, high=99), ramp(100, np.uint8), 1, 99),
    ],
)
def test_the_limits_become_zero_and_one(rule, frame, zero, one):
    assert rule.limits(frame) == pytest.approx((zero, one))
    expected = (frame.astype(np.float64) - zero) / (one - zero)
    mapped = rule.apply(frame)
    assert mapped.dtype == np.float32
    assert mapped.shape == frame.shape
    np.testing.assert_allclose(mapped, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_no_two_counts_become_one_value(dtype):
    """Bits are never cut: 65536 counts stay 65536 values, in order."""
    mapped = IntensityRule().apply(ramp(int(np.iinfo(dtype).max), dtype))
    assert (np.diff(mapped) > 0).all()
    assert (mapped[0, 0], mapped[0, -1]) == (0.0, 1.0)


def test_values_beyond_the_limits_stay_beyond_unless_clipped():
    frame = np.array([[0, 100, 150, 200, 400]], np.uint16)
    limits = {"kind": "range", "low": 100, "high": 200}
    np.testing.assert_allclose(IntensityRule(**limits).apply(frame), [[-1, 0, 0.5, 1, 3]])
    np.testing.assert_allclose(IntensityRule(**limits, clip=True).apply(frame), [[0, 0, 0.5, 1, 1]])


class TestFlatFrames:
    """A frame whose percentiles nearly coincide must not have its noise blown up."""

    @pytest.mark.parametrize(
        ("frame", "limits"),
        [
            # one count: four counts around it (the default of min_span)
            (np.full((8, 8), 100, np.uint8), (98, 102)),
            (np.full((8, 8), 30000, np.uint16), (29998, 30002)),
            # at the ends of the type the limits lie outside it; nothing wraps around
            (np.zeros((8, 8), np.uint8), (-2, 2)),
            (np.full((8, 8), 65535, np.uint16), (65533, 65537)),
            # noise of two counts is still less than four
            (np.tile(np.array([99, 101], np.uint8), (8, 4)), (98, 102)),
            # exactly four counts are kept as they are
            (np.tile(np.array([98, 102], np.uint8), (8, 4)), (98, 102)),
            # a single pixel
            (np.array([[7]], np.uint16), (5, 9)),
        ],
    )
    def test_integers_are_spread_over_min_span(self, frame, limits):
        assert PERCENTILE.limits(frame) == limits

    def test_min_span_is_chosen_by_the_rule(self):
        rule = IntensityRule(kind="percentile", low=0, high=100, min_span=50)
        assert rule.limits(np.array([[100, 110]], np.uint16)) == (80, 130)

    @pytest.mark.parametrize("value", [0.0, 1.0, 300.0, -55.5, 1e-9, 1e9, -1e38])
    def test_a_constant_float_frame_becomes_one_half(self, value):
        mapped = PERCENTILE.apply(np.full((8, 8), value, np.float32))
        np.testing.assert_allclose(mapped, 0.5, atol=1e-6)

    def test_a_float_target_on_a_constant_background_stays_in_range(self):
        frame = np.zeros((64, 64), np.float32)
        frame[20, 30] = 5.0
        mapped = PERCENTILE.apply(frame)
        assert mapped[20, 30] == 1.0
        assert mapped.sum() == 1.0

    def test_float_units_do_not_matter(self):
        """Radiances of 1e-8 are as good as counts of thousands."""
        frame = np.random.default_rng(0).random((32, 32), np.float32)
        expected = PERCENTILE.apply(frame)
        for unit in (1e-8, 1e-3, 1e6):
            np.testing.assert_allclose(PERCENTILE.apply(frame * np.float32(unit)), expected, atol=1e-5)


class TestPercentiles:
    @FAST
    @given(frame=INTEGER_FRAMES, percent=st.floats(0, 100))
    def test_of_integers_equal_numpy_lower(self, frame, percent):
        expected = np.percentile(frame, percent, method="lower")
        assert percentiles(frame, (percent,)) == (expected,)

    def test_of_floats_equal_numpy(self):
        frame = np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)
        expected = np.percentile(frame, (1, 50, 99.5))
        np.testing.assert_allclose(percentiles(frame, (1, 50, 99.5)), expected)

    def test_over_more_rows_than_one_histogram_takes(self):
        frame = np.random.default_rng(0).integers(0, 65536, (1300, 7)).astype(np.uint16)
        expected = np.percentile(frame, (0, 0.1, 50, 99.9, 100), method="lower")
        assert percentiles(frame, (0, 0.1, 50, 99.9, 100)) == tuple(expected)

    def test_of_a_large_frame_take_little_memory(self):
        frame = np.zeros((4000, 2000), np.uint16)  # 16 MB; as the int64 of a histogram 64 MB
        tracemalloc.start()
        percentiles(frame, (1.0, 99.0))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 16e6

    def test_of_a_view_equal_those_of_its_copy(self):
        frame = np.random.default_rng(0).integers(0, 255, (60, 80)).astype(np.uint8)
        view = frame[::2, 10:50:3]
        assert percentiles(view, (5.0, 95.0)) == percentiles(view.copy(), (5.0, 95.0))


class TestLaws:
    @FAST
    @given(frame=INTEGER_FRAMES)
    def test_order_of_counts_is_kept(self, frame):
        for rule in (IntensityRule(), PERCENTILE, IntensityRule(kind="range", low=10, high=20)):
            mapped = rule.apply(frame).ravel()
            order = np.argsort(frame, axis=None, kind="stable")
            assert (np.diff(mapped[order]) >= 0).all()

    @FAST
    @given(frame=INTEGER_FRAMES, clip=st.booleans())
    def test_a_part_mapped_with_the_frames_limits_equals_the_part_of_the_mapped_frame(self, frame, clip):
        rule = IntensityRule(kind="percentile", low=2, high=98, clip=clip)
        part = np.s_[: frame.shape[0] // 2 + 1, frame.shape[1] // 2 :]
        whole = rule.apply(frame)
        np.testing.assert_array_equal(rule.apply(frame[part], rule.limits(frame)), whole[part])

    @FAST
    @given(frame=INTEGER_FRAMES)
    def test_percentile_limits_do_not_change_under_flips(self, frame):
        assert PERCENTILE.limits(frame) == PERCENTILE.limits(frame[::-1, ::-1])

    @FAST
    @given(frame=INTEGER_FRAMES)
    def test_clipped_values_lie_in_unit_range(self, frame):
        mapped = IntensityRule(kind="percentile", low=20, high=80, clip=True).apply(frame)
        assert mapped.min() >= 0
        assert mapped.max() <= 1

    @FAST
    @given(frame=INTEGER_FRAMES, shift=st.integers(0, 1000))
    def test_percentile_rule_does_not_see_an_offset(self, frame, shift):
        counts = frame.astype(np.uint16) % 60000
        shifted = (counts + shift).astype(np.uint16)
        np.testing.assert_allclose(PERCENTILE.apply(shifted), PERCENTILE.apply(counts), atol=1e-3)


def test_the_frame_itself_is_not_changed():
    frame = np.random.default_rng(0).random((8, 8), np.float32)
    before = frame.copy()
    IntensityRule(kind="range", low=0.2, high=0.4, clip=True).apply(frame)
    np.testing.assert_array_equal(frame, before)


BAD_FRAMES = [
    pytest.param(np.zeros((3, 4, 5), np.uint8), r"2-D.*\(3, 4, 5\)", id="3-D"),
    pytest.param(np.zeros(5, np.uint8), "2-D", id="1-D"),
    pytest.param(np.uint8(3).reshape(()), "2-D", id="0-D"),
    pytest.param(np.zeros((0, 0), np.uint8), "empty", id="0x0"),
    pytest.param(np.zeros((5, 0), np.float32), "empty", id="5x0"),
    pytest.param(np.zeros((2, 2), np.int16), "int16", id="int16"),
    pytest.param(np.zeros((2, 2), np.float64), "float64", id="float64"),
    pytest.param(np.zeros((2, 2), bool), "bool", id="bool"),
    pytest.param(np.array([[0, np.nan]], np.float32), "NaN", id="NaN"),
    pytest.param(np.array([[0, -np.inf]], np.float32), "infinite", id="infinity"),
]


@pytest.mark.parametrize(("frame", "message"), BAD_FRAMES)
def test_what_is_no_frame_is_refused(frame, message):
    with pytest.raises(FrameError, match=message):
        check_frame(frame)
    with pytest.raises(FrameError, match=message):
        IntensityRule().apply(frame)
    with pytest.raises(FrameError, match=message):
        IntensityRule().apply(frame, limits=(0.0, 1.0))
    with pytest.raises(FrameError, match=message):
        PERCENTILE.limits(frame)


@pytest.mark.parametrize(
    "frame",
    [np.zeros((1, 1), np.uint8), np.zeros((1, 9), np.uint16), np.full((2, 2), 3e38, np.float32)],
    ids=["1x1", "1x9", "large but finite"],
)
def test_small_and_large_frames_are_accepted(frame):
    check_frame(frame)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"kind": "range", "low": 5, "high": 5}, "must be below"),
        ({"kind": "range", "low": 6, "high": 5}, "must be below"),
        ({"kind": "percentile", "low": -1, "high": 99}, r"0\.\.100"),
        ({"kind": "percentile", "low": 1, "high": 101}, r"0\.\.100"),
        ({"kind": "percentile", "low": 1, "high": 99, "min_span": 0}, "greater than 0"),
        ({"kind": "quantile"}, "percentile"),
        ({"hight": 3}, "hight"),
        # infinity would not survive the JSON of a model file
        ({"kind": "range", "low": 0, "high": float("inf")}, "finite"),
        ({"kind": "range", "low": float("nan"), "high": 1}, "finite"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(settings_, message):
    with pytest.raises(ValidationError, match=message):
        IntensityRule(**settings_)


def test_dtype_ignores_low_and_high():
    assert IntensityRule(kind="dtype", low=9, high=3).limits(np.zeros((2, 2), np.uint8)) == (0, 255)


@pytest.mark.parametrize(
    "rule",
    [
        IntensityRule(),
        IntensityRule(kind="range", low=-1.5, high=2e4, clip=True),
        IntensityRule(kind="percentile", low=0.1, high=99.9, min_span=8),
    ],
)
def test_a_rule_travels_through_json(rule):
    assert IntensityRule.model_validate(json.loads(rule.model_dump_json())) == rule


DISPLAY = IntensityRule(kind="display", low=1, high=99)


def scene(*, noise: float = 0.0) -> np.ndarray:
    """An 8-bit scene of a slope with a spot, as float64 counts."""
    y, x = np.mgrid[:96, :128]
    slope = 60 + 0.5 * x + 0.3 * y + 70 * np.exp(-((x - 40) ** 2 + (y - 50) ** 2) / 4)
    return np.round(slope + noise * np.random.default_rng(0).standard_normal(slope.shape))


class TestDisplay:
    """8-bit frames are taken as they are; of deeper ones the encoding's own gain and offset drop out."""

    @pytest.mark.parametrize(
        ("gain", "offset", "dtype"),
        [
            (4, 0, np.uint16),
            (24, 3000, np.uint16),
            (200, 14000, np.uint16),
            (7.3, 100, np.uint16),  # rounded to integers
            (1 / 255, 0, np.float32),
            (0.04, 273.15, np.float32),
            (1, -273.15, np.float32),
        ],
    )
    def test_an_8_bit_frame_in_a_deeper_type_keeps_its_contrast(self, gain, offset, dtype):
        counts = scene(noise=1)
        deep = counts * gain + offset
        deep = np.round(deep) if dtype == np.uint16 else deep
        low, high = DISPLAY.limits(deep.astype(dtype))
        assert (high - low) / gain == pytest.approx(255, rel=2e-3)
        assert low <= offset + gain * counts.min()
        assert high >= offset + gain * counts.max()

    def test_8_bit_counts_in_a_wider_type_are_8_bit_counts(self):
        assert DISPLAY.limits(scene().astype(np.uint16)) == (0, 255)

    @FAST
    @given(gain=st.integers(1, 40), offset=st.integers(0, 20000), seed=st.integers(0, 9))
    def test_gain_and_offset_of_a_raw_frame_drop_out(self, gain, offset, seed):
        """A raw frame has more levels than 8 bits; times a gain, its mapped frame is the same."""
        raw = np.round(scene() * 5 + np.random.default_rng(seed).normal(0, 9, (96, 128))).astype(np.uint16)
        mapped = DISPLAY.apply(raw)
        again = DISPLAY.apply((raw * gain + offset).astype(np.uint16))
        np.testing.assert_allclose(again, mapped, atol=2e-4)
        as_float = (raw.astype(np.float64) * gain + offset).astype(np.float32)
        np.testing.assert_allclose(DISPLAY.apply(as_float), mapped, atol=2e-2)

    def test_a_raw_frame_lies_where_8_bit_frames_lie(self):
        raw = np.random.default_rng(0).normal(7000, 300, (200, 200)).astype(np.uint16)
        low, middle, high = np.percentile(DISPLAY.apply(raw), (1, 50, 99))
        assert 0.1 < low < middle < high < 0.8
        assert middle == pytest.approx(0.43, abs=0.02)

    def test_a_lone_pixel_does_not_move_the_range(self):
        raw = np.random.default_rng(0).normal(7000, 300, (200, 200)).astype(np.uint16)
        limits = DISPLAY.limits(raw)
        raw[20, 30], raw[60, 70] = 0, 65535
        assert DISPLAY.limits(raw) == pytest.approx(limits, rel=1e-3)

    @pytest.mark.parametrize(
        "frame",
        [
            np.full((8, 8), 3000, np.uint16),
            np.zeros((8, 8), np.float32),
            np.full((8, 8), -1e30, np.float32),
            np.array([[7]], np.uint16),
            np.array([[700, 800]], np.uint16),
            np.pad(np.full((1, 1), 9.0, np.float32), 9),  # one pixel on a constant frame
        ],
        ids=["constant", "zero", "huge", "one-pixel", "two-pixels", "one-spot"],
    )
    def test_frames_with_next_to_no_counts_stay_finite(self, frame):
        mapped = DISPLAY.apply(frame)
        assert np.isfinite(mapped).all()
        assert np.abs(mapped).max() < 4

    def test_pixels_outside_the_mask_do_not_count(self):
        raw = np.random.default_rng(0).normal(7000, 300, (80, 90)).astype(np.uint16)
        bordered = np.pad(raw, 30)
        for rule in (DISPLAY, PERCENTILE):
            assert rule.limits(bordered, bordered > 0) == rule.limits(raw)

    def test_deep_limits_are_those_of_the_same_frame_by_a_deep_sensor(self):
        counts = scene(noise=1).astype(np.uint8)
        assert DISPLAY.limits(counts) == (0, 255)
        low, high = DISPLAY.deep_limits(counts)
        other = DISPLAY.deep_limits(counts.astype(np.uint16) * 24 + 3000)
        assert other == pytest.approx((low * 24 + 3000, high * 24 + 3000), rel=1e-6)
        assert PERCENTILE.deep_limits(counts) == PERCENTILE.limits(counts)
