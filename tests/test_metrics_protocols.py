"""Target protocols and hIoU: hand-made cases, laws, and the values of an independent package."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given

from dimpoint.metrics.components import Components, above
from dimpoint.metrics.pixel import ErrorCounts, count_errors
from dimpoint.metrics.protocols import PROTOCOLS, TargetCounts, count_targets
from metrics_scenes import LAW, SEEDS, Frame, drawn, frame, picture

TENTHS = np.linspace(0, 1, 10, endpoint=False)


def _counts(protocol: str, prob: npt.NDArray[Any], mask: npt.NDArray[Any]) -> tuple[int, int, int, int]:
    counts = count_targets(prob, mask, protocol)
    return counts.tp, counts.fp, counts.fn, counts.false_pixels


# Each case: prediction, truth, and tp, fp, fn, false pixels for each protocol.
SAME = ["basicirstd", "dnanet-legacy", "spire", "opdc"]
CASES: dict[str, tuple[list[str], list[str], dict[str, tuple[int, int, int, int]]]] = {
    "neither prediction nor truth": (["....."], ["....."], dict.fromkeys(SAME, (0, 0, 0, 0))),
    "no prediction": (["....."], ["#...#"], dict.fromkeys(SAME, (0, 0, 2, 0))),
    "no truth": (["##..#"], ["....."], dict.fromkeys(SAME, (0, 2, 0, 3))),
    "a one-pixel target": (["..#.."], ["..#.."], dict.fromkeys(SAME, (1, 0, 0, 0))),
    "targets on the border": (["#...#"], ["#...#"], dict.fromkeys(SAME, (2, 0, 0, 0))),
    "corners touch: one target": (["#.", ".#"], ["#.", ".#"], dict.fromkeys(SAME, (1, 0, 0, 0))),
    "two pixels apart is near for all": (["..#.."], ["#...."], dict.fromkeys(SAME, (1, 0, 0, 0))),
    "three pixels apart is near for spire only": (
        ["...#."],
        ["#...."],
        dict.fromkeys(SAME, (0, 1, 1, 1)) | {"spire": (1, 0, 0, 0)},
    ),
    "five pixels apart still is": (
        [".....#"],
        ["#....."],
        dict.fromkeys(SAME, (0, 1, 1, 1)) | {"spire": (1, 0, 0, 0)},
    ),
    "six are not": (["......#"], ["#......"], dict.fromkeys(SAME, (0, 1, 1, 1))),
    "the first, not the nearest, is taken; then the area 1 of the other is forgotten": (
        [".#.#.."],
        ["...#.."],
        dict.fromkeys(SAME, (1, 1, 0, 1)) | {"dnanet-legacy": (1, 0, 0, 0)},
    ),
    "a false alarm of another area is not forgotten": (
        ["#......##"],
        ["#........"],
        dict.fromkeys(SAME, (1, 1, 0, 2)),
    ),
    "greedy in order loses a target that an assignment keeps": (
        ["..#.#..."],
        ["..#.#.#."],  # the second target takes the second object; nothing is left for the third
        dict.fromkeys(SAME, (2, 0, 1, 0)),
    ),
    "one object on two targets serves one": (
        ["######"],
        ["##..##"],
        dict.fromkeys(SAME, (1, 0, 1, 0)),
    ),
    "large overlap but far centroids: opdc keeps it": (
        ["##############"],
        ["#######......."],
        dict.fromkeys(SAME, (0, 1, 1, 14)) | {"spire": (1, 0, 0, 0), "opdc": (1, 0, 0, 0)},
    ),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("case", CASES)
def test_what_each_protocol_counts(case: str, protocol: str) -> None:
    prob, mask, expected = CASES[case]
    assert _counts(protocol, picture(*prob), drawn(*mask)) == expected[protocol]


def test_the_threshold_itself_is_not_above_the_threshold() -> None:
    assert _counts("basicirstd", picture("..5.."), drawn("..#..")) == (0, 0, 1, 0)


def test_components_come_in_raster_order() -> None:
    """OpenCV labels by blocks of 2x2 pixels, so the lower component would come first."""
    mask = drawn("....#", "#....")
    assert Components.of(mask).centroids.tolist() == [[4, 0], [0, 1]]


def test_touching_targets_are_one() -> None:
    assert len(Components.of(drawn(".##.", "..#."))) == 1


def test_ratios_of_target_counts() -> None:
    counts = count_targets(picture("##...#"), drawn("##...."), "basicirstd")
    counts += count_targets(picture("......"), drawn(".....#"), "basicirstd")
    assert (counts.pd, counts.precision, counts.f1) == (0.5, 0.5, 0.5)
    assert (counts.fa_pixels, counts.fa_objects, counts.false_per_frame) == (1 / 12, 1 / 12, 0.5)
    assert counts.hiou == 1 / 3
    assert math.isnan(count_targets(picture("."), drawn("."), "basicirstd").pd)


ERRORS = [
    # what is shown, prediction, truth, parts that are not 0
    ("perfect", ["#.#"], ["#.#"], {"hiou": 1, "seg_iou": 1, "loc_iou": 1}),
    (
        "half of the target",
        ["##.."],
        ["####"],
        {"hiou": 0.5, "seg_iou": 0.5, "loc_iou": 1, "seg_perception": 0.5},
    ),
    (
        "as much background",
        ["##"],
        ["#."],
        {"hiou": 0.5, "seg_iou": 0.5, "loc_iou": 1, "seg_interference": 0.5},
    ),
    (
        "over two targets",
        ["###"],
        ["#.#"],
        {
            "hiou": 1 / 6,
            "seg_iou": 1 / 3,
            "seg_merging": 1 / 3,
            "seg_interference": 1 / 3,
            "loc_iou": 0.5,
            "loc_single_to_multiple": 0.5,
        },
    ),
    (
        "two parts of one target",
        ["#.#"],
        ["###"],
        {
            "hiou": 1 / 6,
            "seg_iou": 1 / 3,
            "seg_perception": 2 / 3,
            "loc_iou": 0.5,
            "loc_multiple_to_single": 0.5,
        },
    ),
    (
        "an object of its own",
        ["#....#"],
        ["#....."],
        {"hiou": 0.5, "seg_iou": 1, "loc_iou": 0.5, "loc_interference": 0.5},
    ),
    (
        "a missed target",
        ["#....."],
        ["#....#"],
        {"hiou": 0.5, "seg_iou": 1, "loc_iou": 0.5, "loc_perception": 0.5},
    ),
]


@pytest.mark.parametrize(
    ("prob", "mask", "parts"), [case[1:] for case in ERRORS], ids=[case[0] for case in ERRORS]
)
def test_where_hiou_is_lost(prob: list[str], mask: list[str], parts: dict[str, float]) -> None:
    found = count_errors(picture(*prob), drawn(*mask)).to_dict()
    assert {name: value for name, value in found.items() if value} == pytest.approx(parts)


@LAW
@given(SEEDS)
def test_each_factor_of_hiou_and_its_errors_add_up_to_1(seed: int) -> None:
    prob, mask = frame(np.random.default_rng(seed))
    errors = count_errors(prob, mask)
    if errors.tp:
        seg = errors.seg_iou + errors.seg_merging + errors.seg_interference + errors.seg_perception
        assert seg == pytest.approx(1)
        assert errors.hiou == pytest.approx(errors.seg_iou * errors.loc_iou)
        assert errors.hiou == pytest.approx(count_targets(prob, mask, "opdc").hiou)
    if errors.tp + errors.fp + errors.fn:
        loc = (
            errors.loc_iou
            + errors.loc_single_to_multiple
            + errors.loc_multiple_to_single
            + errors.loc_interference
            + errors.loc_perception
        )
        assert loc == pytest.approx(1)


@LAW
@given(SEEDS)
def test_a_margin_around_the_frame_changes_no_match(seed: int) -> None:
    prob, mask = frame(np.random.default_rng(seed))
    for protocol in PROTOCOLS:
        padded = _counts(protocol, np.pad(prob, ((3, 1), (2, 5))), np.pad(mask, ((3, 1), (2, 5))))
        assert padded == _counts(protocol, prob, mask)


@LAW
@given(SEEDS)
def test_a_flipped_frame_has_the_same_misfits(seed: int) -> None:
    """Which objects fit none does not depend on order; who of equals is matched does, in every protocol."""
    prob, mask = frame(np.random.default_rng(seed))
    errors, flipped = count_errors(prob, mask), count_errors(prob[::-1, ::-1], mask[::-1, ::-1])
    assert flipped.tp + flipped.fp == errors.tp + errors.fp
    assert (flipped.interference, flipped.perception) == (errors.interference, errors.perception)


@pytest.mark.parametrize("turn", [np.fliplr, np.flipud, np.transpose])
def test_a_match_at_exactly_5_px_stays_one_in_a_flipped_frame(turn: Callable[[Any], Any]) -> None:
    """In rounded centroids the distance is more than 5 in one of the frames."""
    prob, mask = np.zeros((24, 40)), np.zeros((24, 40), np.bool_)
    mask[[15, 16, 17, 17, 18], [18, 18, 18, 19, 19]] = True
    prob[[15, 16, 17, 17, 18], [24, 24, 23, 24, 22]] = 1
    counts, turned = count_targets(prob, mask, "spire"), count_targets(turn(prob), turn(mask), "spire")
    assert (counts.tp, turned.tp) == (1, 1)
    assert counts.distances.tolist() == turned.distances.tolist() == [5]


@LAW
@given(SEEDS)
def test_every_protocol_accounts_for_every_object(seed: int) -> None:
    prob, mask = frame(np.random.default_rng(seed))
    pred, truth = Components.of(above(prob, 0.5)), Components.of(mask)
    for protocol in PROTOCOLS:
        counts = count_targets(prob, mask, protocol)
        assert counts.tp + counts.fn == len(truth)
        assert counts.tp + counts.fp == len(pred) or protocol == "dnanet-legacy"
    legacy, basic = count_targets(prob, mask, "dnanet-legacy"), count_targets(prob, mask, "basicirstd")
    assert legacy.tp == basic.tp
    assert legacy.false_pixels <= basic.false_pixels


def test_ten_thousand_specks_take_bounded_time() -> None:
    prob = np.zeros((256, 256), np.float32)
    prob[::2, ::2] = 1  # 16,384 objects
    mask = np.zeros((256, 256), np.bool_)
    mask[1:-1:20, 1:-1:20] = True
    start = time.perf_counter()
    for protocol in PROTOCOLS:
        assert count_targets(prob, mask, protocol).tp == 169
    count_errors(prob, mask)
    assert time.perf_counter() - start < 30  # it takes about a second


@pytest.fixture(scope="module")
def golden(shared_reference: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((shared_reference / "metrics" / "golden.json").read_text())
    return values


@pytest.fixture(scope="module")
def real_frames(shared_reference: Path, golden: dict[str, Any]) -> list[Frame]:
    arrays = np.load(shared_reference / "metrics" / "predictions.npz")
    return [(arrays[name], arrays[f"{name}_mask"]) for name in golden["images"]]


@pytest.mark.parametrize("index", range(10))
def test_basicirstd_equals_the_reference(
    index: int, golden: dict[str, Any], real_frames: list[Frame]
) -> None:
    expected = golden["values"]["thresholds_0.0_to_0.9_step_0.1"]["distance_greedy_lt3px"]
    counts = _total("basicirstd", real_frames, TENTHS[index])
    assert counts.tp == expected["tp"][index]
    assert counts.fp == expected["fp"][index]
    assert counts.fn == expected["fn"][index]
    assert counts.false_pixels == expected["fp_area"][index]
    assert counts.pixels == expected["total_area"]
    assert counts.pd == pytest.approx(expected["pd"][index], abs=1e-12)
    assert counts.fa_pixels == pytest.approx(expected["fa"][index], abs=1e-12)


@pytest.mark.parametrize("index", range(10))
def test_opdc_equals_the_reference_but_for_its_phantoms(
    index: int, golden: dict[str, Any], real_frames: list[Frame]
) -> None:
    """On a frame without any prediction the reference counts one phantom object as false; we count none."""
    expected = golden["values"]["thresholds_0.0_to_0.9_step_0.1"]["opdc"]
    counts = _total("opdc", real_frames, TENTHS[index])
    phantoms = _phantoms(real_frames, TENTHS[index])
    assert (counts.tp, counts.fn) == (expected["tp"][index], expected["fn"][index])
    assert counts.fp == expected["fp"][index] - phantoms
    assert counts.pd == pytest.approx(expected["probability_detection"][index], abs=1e-12)
    assert counts.fa_pixels == pytest.approx(expected["false_alarm"][index], abs=1e-12)
    objects = counts.tp + counts.fp + counts.fn
    assert counts.overlap / (objects + phantoms) == pytest.approx(expected["hiou"][index], abs=1e-12)


@pytest.mark.parametrize("index", range(10))
def test_error_split_equals_the_reference_but_for_its_phantoms(
    index: int, golden: dict[str, Any], real_frames: list[Frame]
) -> None:
    expected = golden["values"]["thresholds_0.0_to_0.9_step_0.1"]["hiou_error_analysis"]
    errors = ErrorCounts.total(count_errors(prob, mask, TENTHS[index]) for prob, mask in real_frames)
    phantoms = _phantoms(real_frames, TENTHS[index])
    objects = errors.tp + errors.fp + errors.fn + phantoms
    ours = {
        "seg_iou": errors.seg_iou,
        "seg_mrg_err": errors.seg_merging,
        "seg_itf_err": errors.seg_interference,
        "seg_pcp_err": errors.seg_perception,
        "loc_iou": errors.tp / objects,
        "loc_s2m_err": errors.single_to_multiple / objects,
        "loc_m2s_err": errors.multiple_to_single / objects,
        "loc_itf_err": (errors.interference + phantoms) / objects,
        "loc_pcp_err": errors.perception / objects,
    }
    assert ours == {name: pytest.approx(values[index], abs=1e-12) for name, values in expected.items()}


def test_the_phantoms_matter(golden: dict[str, Any], real_frames: list[Frame]) -> None:
    """At threshold 0.5 six frames have no prediction: 22 false objects in the reference are 16."""
    assert golden["values"]["threshold_0.5"]["opdc"]["fp"] == [22]
    assert _phantoms(real_frames, 0.5) == 6
    assert _total("opdc", real_frames, 0.5).fp == 16


def _total(protocol: str, frames: list[Frame], threshold: float) -> TargetCounts:
    return TargetCounts.total(count_targets(prob, mask, protocol, threshold) for prob, mask in frames)


def _phantoms(frames: list[Frame], threshold: float) -> int:
    return sum(not above(prob, threshold).any() for prob, _ in frames)
