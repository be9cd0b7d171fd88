"""Breakdowns: what is known of each target, and detection by class."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dimpoint.errors import DataError
from dimpoint.metrics.breakdown import (
    TargetTable,
    breakdown,
    describe_points,
    describe_targets,
    local_scr,
    with_match,
)
from dimpoint.metrics.components import Components
from dimpoint.metrics.points import match_points
from dimpoint.metrics.protocols import PROTOCOLS
from metrics_scenes import drawn, picture


def _table(prob: list[str], mask: list[str], source: str = "a") -> TargetTable:
    pred, truth = Components.of(picture(*prob) > 0.5), Components.of(drawn(*mask))
    return with_match(describe_targets(truth, source=source), PROTOCOLS["basicirstd"].match(pred, truth))


def test_what_is_known_of_each_target() -> None:
    table = _table(["#.......", "........", "......##"], ["#.......", "...##...", "........"])
    assert table.size.tolist() == [1, 2]
    assert table.border.tolist() == [0, 1]
    assert table.targets.tolist() == [2, 2]
    assert table.found.tolist() == [True, False]
    assert (table.frame_targets.tolist(), table.frame_false.tolist()) == ([2], [1])


def test_detection_by_size() -> None:
    table = _table(["##......#"], ["##......."]) + _table(["........."], ["#......##"])
    rows = breakdown(table, "size", edges=(1, 2, 3))
    assert [(row.label, row.targets, row.found, row.pd) for row in rows] == [("1", 1, 0, 0), ("2", 2, 1, 0.5)]
    assert all(row.frames is None for row in rows)


def test_detection_by_source_with_false_alarms() -> None:
    table = (
        _table(["#....#"], ["#....."], "b") + _table(["......"], ["#....."], "a") + _table(["#"], ["."], "c")
    )
    rows = {row.label: row for row in breakdown(table, "source")}
    assert list(rows) == ["a", "b", "c"]
    assert (rows["b"].targets, rows["b"].found, rows["b"].frames, rows["b"].false) == (1, 1, 1, 1)
    assert (rows["a"].pd, rows["a"].false_per_frame) == (0, 0)
    assert math.isnan(rows["c"].pd)  # no target in c, but a false alarm
    assert rows["c"].false_per_frame == 1


def test_detection_by_number_of_targets_keeps_empty_frames() -> None:
    table = _table(["#.#..#"], ["......"]) + _table(["#....."], ["#....."]) + _table(["......"], ["#....#"])
    rows = [(row.label, row.frames, row.targets, row.found, row.false) for row in breakdown(table, "targets")]
    assert rows == [("0", 1, 0, 0, 3), ("1", 1, 1, 1, 0), ("2", 1, 2, 0, 0)]


def test_the_last_class_is_open_and_labels_read_well() -> None:
    table = TargetTable(size=np.array([1.0, 5, 500]), found=np.array([True, True, False]))
    assert [row.label for row in breakdown(table, "size")] == ["1-3", "4-9", ">= 81"]
    table = TargetTable(border=np.array([0.5, 70]), found=np.array([True, True]))
    assert [row.label for row in breakdown(table, "border")] == ["0-4", ">= 64"]


def test_targets_of_unknown_contrast_are_a_class_of_their_own() -> None:
    rows = breakdown(_table(["#"], ["#"]), "scr")
    assert [(row.label, row.targets, row.found) for row in rows] == [("unknown", 1, 1)]


def test_every_target_is_in_one_class() -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((40, 50)) < 0.03
    truth = Components.of(mask)
    table = with_match(
        describe_targets(truth, rng.random(mask.shape)), PROTOCOLS["spire"].match(truth, truth)
    )
    for by in ("size", "scr", "border", "targets", "source"):
        rows = breakdown(table, by)
        assert sum(row.targets for row in rows) == len(truth)
        assert sum(row.found for row in rows) == len(truth)


def test_infinite_contrast_is_in_the_last_class() -> None:
    table = TargetTable(scr=np.array([np.inf, 9.0]), found=np.array([False, True]))
    assert [(row.label, row.targets, row.found) for row in breakdown(table, "scr")] == [(">= 8", 2, 1)]


def test_a_point_just_outside_the_frame_is_in_the_first_class_of_the_border() -> None:
    table = describe_points([(-0.3, 10), (9, 19.4)], (20, 20))
    assert table.border.tolist() == [0, 0]
    assert [(row.label, row.targets) for row in breakdown(table, "border")] == [("0-4", 2)]


def test_nothing_gives_no_rows() -> None:
    assert breakdown(TargetTable(), "size") == []
    assert breakdown(TargetTable(), "source") == []


@pytest.mark.parametrize("edges", [(), (3, 2), (1, 1)])
def test_edges_must_rise(edges: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match="breakdown by size: rising numbers"):
        breakdown(TargetTable(), "size", edges=edges)


class TestLocalScr:
    """|mean of target - mean of clutter| / std of clutter, in the bounding box grown by 20 px."""

    def test_by_hand(self) -> None:
        image = np.zeros((100, 100))
        image[::2] = 2  # clutter: mean 1, std 1
        mask = np.zeros((100, 100), np.bool_)
        mask[50:52, 50] = True
        image[mask] = 7
        image[0] = 1000  # out of the window
        assert local_scr(image, Components.of(mask))[0] == pytest.approx(6, rel=1e-3)

    def test_dark_targets_have_contrast_too(self) -> None:
        image = np.tile([0.0, 2.0], (9, 5))
        image[4, 4] = -4
        mask = np.zeros(image.shape, np.bool_)
        mask[4, 4] = True
        assert local_scr(image, Components.of(mask))[0] == pytest.approx(5, rel=0.02)

    def test_other_targets_are_no_clutter(self) -> None:
        image = np.tile([0, 2], (9, 5)).astype(np.uint8)
        mask = np.zeros(image.shape, np.bool_)
        mask[4, 4] = mask[4, 7] = True
        image[mask] = 255
        assert local_scr(image, Components.of(mask)).min() > 250

    def test_sixteen_bits_do_not_overflow(self) -> None:
        image = np.tile([0, 65535], (9, 5)).astype(np.uint16)
        mask = np.zeros(image.shape, np.bool_)
        mask[4, 4] = True
        assert local_scr(image, Components.of(mask))[0] == pytest.approx(1, rel=0.03)

    def test_flat_or_missing_clutter(self) -> None:
        everywhere, corner = np.ones((3, 3), np.bool_), np.zeros((3, 3), np.bool_)
        corner[0, 0] = True
        flat = np.zeros((3, 3))
        assert math.isnan(local_scr(flat, Components.of(everywhere))[0])  # no clutter
        assert math.isnan(local_scr(flat, Components.of(corner))[0])  # no contrast on flat clutter
        assert math.isinf(local_scr(corner * 1.0, Components.of(corner))[0])

    def test_another_size_is_refused(self) -> None:
        with pytest.raises(DataError, match=r"the image has shape \(3, 4\) but its truth \(3, 3\)"):
            local_scr(np.zeros((3, 4)), Components.of(np.zeros((3, 3), np.bool_)))


def test_points_are_described_by_the_pixels_around_them() -> None:
    image = np.tile([0.0, 2.0], (60, 30))
    image[29:32, 29:32] = 8
    truth = [(30.2, 29.9), (0, 0)]
    table = with_match(describe_points(truth, image.shape, image, "a"), match_points([(30, 31)], [1], truth))
    assert np.isnan(table.size).all()
    assert table.scr[0] == pytest.approx(7, rel=0.01)
    assert table.border.tolist() == [pytest.approx(28.8), 0]
    assert table.found.tolist() == [True, False]
    assert [row.label for row in breakdown(table, "size")] == ["unknown"]
    assert len(describe_points([], (5, 5), np.zeros((5, 5))).found) == 0
