"""Maps -> peaks: the published rule against golden values, ours against what a user expects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial import KDTree

from dimpoint.inference.decode import PUBLISHED, decode
from dimpoint.model.record import DecodeRule

OURS = DecodeRule(kind="peaks", threshold=0.3, min_distance=2.0)
MEANS = DecodeRule(threshold=0.3, min_distance=2.0, score_sigma=1.8, response_sigma=1.25)
AREAS = DecodeRule(kind="components", threshold=0.5)
LAW = settings(deadline=None, derandomize=True, max_examples=200)
GOLDEN_FRAMES = ("Misc_1", "Misc_10", "Misc_100", "Misc_200", "Misc_300")


def picture(rows: list[str]) -> npt.NDArray[np.float32]:
    """A map drawn in digits, tenths; `.` is 0."""
    return np.array([[int(c) if c != "." else 0 for c in row] for row in rows], np.float32) / 10


def gaussians(
    shape: tuple[int, int], xy: npt.ArrayLike, heights: npt.ArrayLike = 1.0, sigma: float = 1.5
) -> npt.NDArray[np.float32]:
    y, x = np.mgrid[: shape[0], : shape[1]]
    centres = np.asarray(xy, float).reshape(-1, 2)
    result = np.zeros(shape)
    for (cx, cy), height in zip(centres, np.broadcast_to(heights, len(centres)), strict=True):
        result = np.maximum(result, height * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2)))
    return result.astype(np.float32)


def rounded(xy: npt.NDArray[np.float32]) -> list[tuple[float, float]]:
    return [(round(float(x), 2), round(float(y), 2)) for x, y in xy]


# The published rule


def from_warp(xy: npt.NDArray[np.float32], height: int, width: int) -> npt.NDArray[np.float32]:
    """Map pixels of the authors' 512x512 warp -> frame pixels (see the reference values' README)."""
    scale = min(512 / height, 512 / width)
    size = np.array([width, height])
    margin = (512 - size * scale) / 2
    return ((xy * 4 - margin) * (size - 1) / (511 - 2 * margin)).astype(np.float32)


@pytest.mark.parametrize("name", GOLDEN_FRAMES)
def test_published_rule_gives_the_authors_points(
    name: str, shared_reference: Path, shared_data: Path
) -> None:
    golden = np.load(shared_reference / "spire" / "golden.npz")
    frame = cv2.imread(str(shared_data / "NUAA-SIRST" / "images" / f"{name}.png"), cv2.IMREAD_GRAYSCALE)
    peaks = decode(golden[f"{name}_logits"], PUBLISHED)
    points = from_warp(peaks.xy, *frame.shape)
    np.testing.assert_allclose(points, golden[f"{name}_points_xy"], atol=1e-4)
    np.testing.assert_array_equal(peaks.scores, golden[f"{name}_scores"])


@pytest.mark.parametrize(
    ("heights", "kept"),
    [
        ([], 0),  # nothing there
        ([0.34], 0),  # below the threshold
        ([1.0, 0.7], 2),  # 0.3 of the larger apart: both
        ([1.0, 0.6], 1),  # 0.4 apart: the dim one goes
        ([0.9, 0.7, 0.6], 3),  # 0.6 is within 0.35 x 0.9 of 0.9
        ([0.9] * 9, 8),  # the cap
    ],
)
def test_published_rule_drops_dim_and_ninth_peaks(heights: list[float], kept: int) -> None:
    positions = [(10 + 12 * (i % 5), 10 + 12 * (i // 5)) for i in range(len(heights))]
    response = gaussians((40, 80), positions, heights)
    assert len(decode(response, PUBLISHED).scores) == kept


def test_published_rule_moves_a_quarter_pixel_towards_the_higher_neighbour() -> None:
    response = picture([".....", ".258.", ".496.", ".132.", "....."])
    (peak,) = decode(response, PUBLISHED).xy
    assert peak.tolist() == [2.25, 1.75]


# Ours: which maxima are targets


@pytest.mark.parametrize(
    ("rows", "points"),
    [
        ([".....", ".....", "....."], []),  # nothing there
        (["33333", "33333", "33333"], []),  # the threshold itself is not above it
        ([".....", "..9..", "....."], [(2, 1)]),  # one pixel
        ([".....", "..99.", "....."], [(2.5, 1)]),  # two equal pixels: between them
        (["......", ".9999.", ".9999.", "......"], [(2.5, 1.5)]),  # a saturated block: its middle
        (["9"], [(0, 0)]),  # a map of one pixel
        (["999"], [(1, 0)]),  # a flat map
        (["9...", "....", "...8"], [(0, 0), (3, 2)]),  # corners, best first
        ([".........", ".9.....4.", "........."], [(1, 1), (7, 1)]),  # a dim one far from a bright one
        ([".......", ".9.4...", "......."], [(1, 1), (3, 1)]),  # a dim one beside a bright one
        (["........", ".5556...", "........"], [(3.5, 1)]),  # a flat shoulder is no target of its own
        ([".....", ".9.9.", "....."], [(1, 1), (3, 1)]),  # two pixels apart: as near as two can be
    ],
)
def test_every_regional_maximum_is_one_detection(rows: list[str], points: list[tuple[float, float]]) -> None:
    found = decode(picture(rows), OURS)
    assert len(found.xy) == len(points)
    assert found.areas is None
    np.testing.assert_allclose(found.xy, np.reshape(points, (-1, 2)), atol=0.51)


def test_plateau_is_found_at_its_centroid() -> None:
    response = picture(["......", ".9999.", ".9999.", "......"])
    assert rounded(decode(response, OURS).xy) == [(2.5, 1.5)]


def test_target_between_two_equal_pixels_keeps_its_position_along_them() -> None:
    response = gaussians((20, 20), [(9.5, 8.3)])
    assert rounded(decode(response, OURS).xy) == [(9.5, 8.3)]


@pytest.mark.parametrize(
    ("distance", "kept"),
    [(1.0, [9, 8, 7]), (5.0, [9, 7]), (20.0, [9])],  # peaks of 0.9, 0.8 and 0.7, four pixels apart
)
def test_the_better_of_two_near_peaks_stays(distance: float, kept: list[int]) -> None:
    response = gaussians((20, 30), [(6, 10), (10, 10), (14, 10)], [0.9, 0.8, 0.7], sigma=0.8)
    found = decode(response, OURS.model_copy(update={"min_distance": distance}))
    assert [round(float(score) * 10) for score in found.scores] == kept


def test_a_suppressed_peak_suppresses_nothing() -> None:
    """8 falls to 9, so 7, which only 8 is near to, stays."""
    response = gaussians((20, 30), [(6, 10), (10, 10), (14, 10)], [0.9, 0.8, 0.7], sigma=0.8)
    found = decode(response, OURS.model_copy(update={"min_distance": 5.0}))
    assert [round(float(x)) for x in found.xy[:, 0]] == [6, 14]


def test_cap_is_applied_only_if_the_rule_has_one() -> None:
    response = gaussians((100, 100), [(5 + 10 * i, 5 + 10 * j) for i in range(9) for j in range(9)])
    assert len(decode(response, OURS).scores) == 81
    assert len(decode(response, OURS.model_copy(update={"max_targets": 3})).scores) == 3


def test_maxima_are_found_across_the_bands_of_a_huge_map(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    response = rng.random((50, 20)).astype(np.float32)
    whole = decode(response, OURS)
    monkeypatch.setattr("dimpoint.inference.decode._BAND_PIXELS", 60)  # bands of three rows
    assert len(whole.scores) > 20
    np.testing.assert_array_equal(decode(response, OURS).xy, whole.xy)


# Ours: where they are


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0])
def test_subpixel_position_of_a_gaussian(sigma: float) -> None:
    rng = np.random.default_rng(1)
    centres = np.array([(20 + 40 * i, 20 + 40 * j) for i in range(12) for j in range(12)])
    centres = centres + rng.uniform(-0.5, 0.5, centres.shape)
    found = decode(gaussians((480, 480), centres, sigma=sigma), OURS).xy
    assert len(found) == len(centres)
    distances = np.linalg.norm(found[:, None] - centres[None], axis=2).min(axis=1)
    assert np.median(distances) < 0.01
    assert distances.max() < 0.02


def test_position_where_the_profile_bends_up_is_its_centroid() -> None:
    """The columns around the 0.9 sum to 2.0, 0.9 and 2.1: no parabola has its maximum there."""
    response = picture([".....", ".6.6.", ".898.", ".6.7.", "....."])
    (x, _), *_ = decode(response, OURS).xy
    assert float(x) == pytest.approx(2 + (2.1 - 2.0) / 5, abs=1e-3)


def test_position_is_never_further_than_the_next_pixel_from_its_maximum() -> None:
    """A noise map has maxima of any shape, negative and zero neighbours among them."""
    response = np.random.default_rng(2).normal(0, 1, (64, 64)).astype(np.float32)
    found = decode(response, OURS.model_copy(update={"min_distance": 0.1}))
    nearest = response[np.round(found.xy[:, 1]).astype(int), np.round(found.xy[:, 0]).astype(int)]
    on_maximum = nearest == found.scores
    assert 0.7 < on_maximum.mean() < 1
    rows, columns = np.nonzero(np.isin(response, found.scores))
    maxima = np.stack([columns, rows], axis=1)
    apart = np.abs(found.xy[:, None] - maxima[None]).max(axis=2).min(axis=1)
    assert apart.max() <= 0.75


# The score by a mean


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.5, 0.5), (0.3, -0.2)])
def test_an_ideal_response_scores_one_wherever_its_centre_lies(offset: tuple[float, float]) -> None:
    response = gaussians((40, 40), [(20 + offset[0], 20 + offset[1])], sigma=1.25)
    assert decode(response, MEANS).scores[0] == pytest.approx(1, abs=0.07)
    by_height = decode(response, OURS).scores[0]
    assert by_height == pytest.approx(np.exp(-(np.hypot(*offset) ** 2) / (2 * 1.25**2)), abs=1e-5)


def test_a_wide_low_response_scores_above_a_thin_high_one() -> None:
    """Both are 0.6 high: a target of uncertain place, and a spike."""
    wide = gaussians((40, 80), [(20, 20)], 0.6, sigma=2.5)
    thin = gaussians((40, 80), [(60, 20)], 0.6, sigma=0.7)
    found = decode(np.maximum(wide, thin), MEANS.model_copy(update={"threshold": 0.1}))
    assert rounded(found.xy) == [(20.0, 20.0), (60.0, 20.0)]
    assert found.scores[0] > 2.5 * found.scores[1]


def test_a_mean_never_exceeds_one_and_the_threshold_is_on_the_mean() -> None:
    response = np.zeros((30, 30), np.float32)
    response[15, 15] = 0.9  # one pixel of noise: its mean is low
    assert len(decode(response, MEANS).scores) == 0
    assert len(decode(response, OURS).scores) == 1
    assert decode(np.ones((30, 30), np.float32), MEANS).scores.tolist() == [1.0]


# Laws

maps = arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    elements=st.sampled_from([0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0]),  # few levels: plateaus are common
)
rules = st.sampled_from([OURS, PUBLISHED, AREAS])


@LAW
@given(maps, st.sampled_from([OURS, MEANS, PUBLISHED, AREAS]))
def test_best_first_above_the_threshold_and_on_the_map(
    response: npt.NDArray[np.float32], rule: DecodeRule
) -> None:
    found = decode(response, rule)
    assert found.xy.shape == (len(found.scores), 2)
    assert (np.diff(found.scores) <= 0).all()
    assert (found.scores > rule.threshold).all()
    height, width = response.shape
    assert (np.abs(found.xy - [(width - 1) / 2, (height - 1) / 2]) <= [width / 2, height / 2]).all()


@LAW
@given(maps)
def test_no_two_are_nearer_than_the_least_distance(response: npt.NDArray[np.float32]) -> None:
    xy = decode(response, OURS).xy
    apart = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    assert (apart[~np.eye(len(xy), dtype=bool)] >= OURS.min_distance - 1e-4).all()


@LAW
@given(maps)
def test_the_maximum_of_a_map_is_always_found(response: npt.NDArray[np.float32]) -> None:
    found = decode(response, OURS)
    expected = [float(response.max())] if response.max() > OURS.threshold else []
    assert [float(score) for score in found.scores[:1]] == expected


def brute_force_maxima(response: npt.NDArray[np.float32], threshold: float) -> list[tuple[float, int]]:
    """Score and size of each plateau that no neighbour tops, by flood fill."""
    height, width = response.shape
    seen = np.zeros(response.shape, bool)
    result = []
    for start in np.ndindex(response.shape):
        if seen[start] or response[start] <= threshold:
            continue
        level, plateau, stack, is_top = response[start], 0, [start], True
        seen[start] = True
        while stack:
            y, x = stack.pop()
            plateau += 1
            for ny in range(max(y - 1, 0), min(y + 2, height)):
                for nx in range(max(x - 1, 0), min(x + 2, width)):
                    is_top &= bool(response[ny, nx] <= level)
                    if response[ny, nx] == level and not seen[ny, nx]:
                        seen[ny, nx] = True
                        stack.append((ny, nx))
        if is_top:
            result.append((float(level), plateau))
    return result


@LAW
@given(maps)
def test_as_many_as_a_flood_fill_finds(response: npt.NDArray[np.float32]) -> None:
    together = OURS.model_copy(update={"min_distance": 1e-3})
    found = decode(response, together)
    expected = brute_force_maxima(response, OURS.threshold)
    assert sorted(float(score) for score in found.scores) == sorted(level for level, _ in expected)


@LAW
@given(maps, rules)
def test_mirrored_map_gives_mirrored_targets(response: npt.NDArray[np.float32], rule: DecodeRule) -> None:
    """Where no cap and no suppression has to choose between equals."""
    free = rule.model_copy(update={"max_targets": None, "min_distance": 1e-3})
    found = decode(response, free)
    mirrored = decode(np.ascontiguousarray(response[:, ::-1]), free)
    back = np.stack([response.shape[1] - 1 - mirrored.xy[:, 0], mirrored.xy[:, 1]], axis=1)
    order, back_order = (np.lexsort(np.round(xy, 3).T) for xy in (found.xy, back))
    np.testing.assert_allclose(found.xy[order], back[back_order], atol=1e-4)


@LAW
@given(maps, st.floats(0.3, 0.9))
def test_a_higher_threshold_keeps_the_best(response: npt.NDArray[np.float32], threshold: float) -> None:
    found = decode(response, OURS)
    fewer = decode(response, OURS.model_copy(update={"threshold": threshold}))
    np.testing.assert_array_equal(fewer.xy, found.xy[: len(fewer.xy)])
    np.testing.assert_array_equal(fewer.scores, found.scores[found.scores > threshold])


# Components


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["...", "..."], []),  # nothing there
        (["555", "555"], []),  # the threshold itself is not above it
        (["999", "999"], [(1, 0.5, 9, 6)]),  # everything
        ([".6..", "..9.", "...."], [(1.5, 0.5, 9, 2)]),  # touching at a corner: one; plain centroid
        (["6.9", "6..", "..."], [(2, 0, 9, 1), (0, 0.5, 6, 2)]),  # two, best first
    ],
)
def test_components_have_centroid_best_probability_and_area(
    rows: list[str], expected: list[tuple[float, float, int, int]]
) -> None:
    found = decode(picture(rows), AREAS)
    assert found.areas is not None
    table = np.column_stack([found.xy, np.round(found.scores * 10), found.areas])
    np.testing.assert_allclose(table, np.reshape(expected, (-1, 4)), atol=1e-6)


# Hostile maps


@pytest.mark.parametrize(("rule", "most"), [(OURS, 1), (MEANS, 1), (PUBLISHED, 8), (AREAS, 1)])
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 1), (1, 9), (9, 1)])
def test_degenerate_maps(shape: tuple[int, int], rule: DecodeRule, most: int) -> None:
    """A flat map is one plateau; the published rule takes each of its pixels, up to the cap."""
    assert len(decode(np.zeros(shape, np.float32), rule).scores) == 0
    assert len(decode(np.ones(shape, np.float32), rule).scores) == min(shape[0] * shape[1], most)


@pytest.mark.parametrize("distance", [2.0, 30.0, 1e6])
def test_suppression_of_ten_thousand_specks_looks_at_few_pairs(
    distance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All pairs would be 50 million; each speck may be met by the few that stay around it."""
    met = 0

    class CountingTree(KDTree):
        def query_ball_point(self, *args: Any, **options: Any) -> Any:
            nonlocal met
            near = super().query_ball_point(*args, **options)
            met += len(near)
            return near

    monkeypatch.setattr("scipy.spatial.KDTree", CountingTree)
    response = np.zeros((512, 512), np.float32)
    rng = np.random.default_rng(3)
    response.ravel()[rng.choice(response.size, 10_000, replace=False)] = rng.uniform(0.4, 1, 10_000)
    found = decode(response, OURS.model_copy(update={"min_distance": distance}))
    assert float(found.scores[0]) == float(response.max())
    assert 0 < met <= 6 * 10_000


def test_published_scores_may_exceed_one(shared_reference: Path) -> None:
    """The authors' network has no sigmoid; decoding passes its heights on."""
    golden: Any = np.load(shared_reference / "spire" / "golden.npz")
    assert float(decode(golden["Misc_100_logits"], PUBLISHED).scores[0]) > 1
