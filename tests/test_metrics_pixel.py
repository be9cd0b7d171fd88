"""Pixel metrics at a threshold and at all of them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from dimpoint.metrics.pixel import PixelCounts, count_pixels, pixel_curve
from metrics_scenes import LAW, SEEDS, Frame, drawn, frames, picture

NAN = float("nan")

CASES = [
    # what is shown, prediction, truth, IoU, nIoU, precision, recall, F1
    ("perfect", "##..", "##..", 1, 1, 1, 1, 1),
    ("half found", "#...", "##..", 1 / 2, 1 / 2, 1, 1 / 2, 2 / 3),
    ("shifted", ".##.", "##..", 1 / 3, 1 / 3, 1 / 2, 1 / 2, 1 / 2),
    ("no prediction", "....", "##..", 0, 0, NAN, 0, 0),
    ("no truth", "##..", "....", 0, 0, 0, NAN, 0),
    ("neither: nothing is defined", "....", "....", NAN, NAN, NAN, NAN, NAN),
]


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_ratios_of_one_frame(case: tuple[str, str, str, float, float, float, float, float]) -> None:
    _, prob, mask, *expected = case
    counts = count_pixels(picture(prob), drawn(mask))
    found = [counts.iou, counts.niou, counts.precision, counts.recall, counts.f1]
    assert found == pytest.approx(expected, nan_ok=True)


def test_iou_pools_pixels_and_niou_averages_frames() -> None:
    parts = [
        count_pixels(picture("####"), drawn("####")),  # IoU 1 of 4 pixels
        count_pixels(picture("#..."), drawn(".#..")),  # IoU 0 of 2 pixels
        count_pixels(picture("...."), drawn("....")),  # neither: left out of nIoU
    ]
    total = PixelCounts.total(parts)
    assert (total.iou, total.niou) == (4 / 6, 1 / 2)
    assert (total.frames, total.pixels) == (3, 12)


def test_reference_values(shared_reference: Path) -> None:
    golden = json.loads((shared_reference / "metrics" / "golden.json").read_text())
    arrays = np.load(shared_reference / "metrics" / "predictions.npz")
    pairs = [(arrays[name], arrays[f"{name}_mask"]) for name in golden["images"]]
    expected = golden["values"]["pixel_threshold_0.5"]
    total = PixelCounts.total(count_pixels(prob, mask, 0.5) for prob, mask in pairs)
    assert (total.tp, total.fp, total.fn) == (expected["tp"], expected["fp"], expected["fn"])
    assert total.iou == pytest.approx(expected["iou"], abs=1e-12)
    assert total.niou == pytest.approx(expected["niou_skip_empty"], abs=1e-12)
    at = pixel_curve(pairs).at([0.5])
    assert (at.tp[0], at.fp[0]) == (total.tp, total.fp)
    assert at.niou[0] == pytest.approx(total.niou, abs=1e-12)


@LAW
@given(SEEDS)
def test_the_curve_equals_counting_at_each_threshold(seed: int) -> None:
    pairs = frames(seed)
    curve = pixel_curve(pairs)
    levels = np.unique(np.concatenate([[0.0], *(prob.ravel() for prob, _ in pairs)]))
    assert curve.thresholds.tolist() == levels[::-1].tolist()
    thresholds = np.concatenate([np.linspace(0, 1, 11), levels[:: max(len(levels) // 20, 1)]])
    at = curve.at(thresholds)
    for index, threshold in enumerate(thresholds):
        counts = PixelCounts.total(count_pixels(prob, mask, threshold) for prob, mask in pairs)
        assert (at.tp[index], at.fp[index]) == (counts.tp, counts.fp)
        assert at.iou_frames[index] == counts.iou_frames
        for name in ("iou", "niou", "precision", "recall", "f1"):
            expected = pytest.approx(getattr(counts, name), abs=1e-12, nan_ok=True)
            assert getattr(at, name)[index] == expected


def _pairwise_area(pairs: list[Frame]) -> float:
    """ROC area by its meaning: how often a true pixel scores above one that is not (ties count half)."""
    score = np.concatenate([prob.ravel() for prob, _ in pairs]).astype(np.float64)
    true = np.concatenate([mask.ravel() for _, mask in pairs])
    if true.all() or not true.any():
        return NAN
    above = score[true][:, None] - score[~true]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def _average_precision(pairs: list[Frame]) -> float:
    """PR area by its meaning: the mean over true pixels of the precision at their own score."""
    score = np.concatenate([prob.ravel() for prob, _ in pairs]).astype(np.float64)
    true = np.concatenate([mask.ravel() for _, mask in pairs])
    each = [true[score >= own].mean() for own in score[true]]
    return float(np.mean(each)) if each else NAN


@LAW
@given(SEEDS)
def test_areas_are_what_they_mean(seed: int) -> None:
    pairs = frames(seed)
    curve = pixel_curve(pairs)
    assert curve.roc_area == pytest.approx(_pairwise_area(pairs), nan_ok=True)
    assert curve.pr_area == pytest.approx(_average_precision(pairs), nan_ok=True)


def test_areas_of_a_perfect_map_are_1() -> None:
    curve = pixel_curve([(picture("9..8."), drawn("#..#."))])
    assert (curve.roc_area, curve.pr_area) == (1, 1)


def test_a_curve_without_any_prediction_still_has_its_end() -> None:
    curve = pixel_curve([(picture("...."), drawn("#..."))])
    assert curve.thresholds.tolist() == [0]
    assert curve.recall.tolist() == [0]
    assert (curve.roc_area, curve.pr_area) == (0.5, 0.25)


def test_areas_without_any_truth_are_not_defined() -> None:
    curve = pixel_curve([(picture("5..."), drawn("...."))])
    assert math.isnan(curve.roc_area)
    assert math.isnan(curve.pr_area)


@LAW
@given(SEEDS)
def test_counts_fall_as_the_threshold_rises(seed: int) -> None:
    curve = pixel_curve(frames(seed))
    assert (np.diff(curve.thresholds) < 0).all()
    assert (np.diff(curve.tp) >= 0).all()
    assert (np.diff(curve.fp) >= 0).all()


@LAW
@given(SEEDS)
def test_flips_and_shifts_change_nothing(seed: int) -> None:
    pairs = frames(seed)
    curve = pixel_curve(pairs)
    for moved in (
        [(prob[::-1], mask[::-1]) for prob, mask in pairs],
        [(prob[:, ::-1], mask[:, ::-1]) for prob, mask in pairs],
        [(np.roll(prob, (2, 3), (0, 1)), np.roll(mask, (2, 3), (0, 1))) for prob, mask in pairs],
    ):
        same = pixel_curve(moved)
        assert (same.tp.tolist(), same.fp.tolist()) == (curve.tp.tolist(), curve.fp.tolist())
        assert same.niou == pytest.approx(curve.niou, nan_ok=True)
