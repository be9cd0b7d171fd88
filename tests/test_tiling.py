"""Tiles: cores that cover the input once, far enough from the edges of their tiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dimpoint.inference.maps import Span, plan_tiles

LAW = settings(deadline=None, derandomize=True)


@st.composite
def plans(draw: st.DrawFn) -> dict[str, int]:
    multiple = draw(st.sampled_from([2, 8, 32]))
    sides = st.integers(1, 900 // multiple).map(lambda n: n * multiple)
    return {
        "height": draw(sides),
        "width": draw(sides),
        "pixels": draw(st.integers(4_000, 400_000)),
        "margin": draw(st.integers(0, 70)),
        "multiple": multiple,
    }


@LAW
@given(plans())
def test_cores_cover_every_pixel_once(plan: dict[str, int]) -> None:
    covered = np.zeros((plan["height"], plan["width"]), np.uint8)
    for tile in plan_tiles(**plan):
        rows, columns = tile.rows, tile.columns
        covered[rows.core_start : rows.core_stop, columns.core_start : columns.core_stop] += 1
    assert (covered == 1).all()


@LAW
@given(plans())
def test_a_core_keeps_the_margin_from_every_edge_inside_the_frame(plan: dict[str, int]) -> None:
    for tile in plan_tiles(**plan):
        for span, length in ((tile.rows, plan["height"]), (tile.columns, plan["width"])):
            assert span.start == 0 or span.core_start - span.start >= plan["margin"]
            assert span.stop == length or span.stop - span.core_stop >= plan["margin"]
            assert 0 <= span.start <= span.core_start < span.core_stop <= span.stop <= length


@LAW
@given(plans())
def test_tiles_have_one_size_and_lie_on_the_multiple(plan: dict[str, int]) -> None:
    """One size lets the runtime use its memory again; the multiple keeps map pixels whole."""
    tiles = plan_tiles(**plan)
    assert len({(t.rows.stop - t.rows.start, t.columns.stop - t.columns.start) for t in tiles}) == 1
    for span in {span for tile in tiles for span in (tile.rows, tile.columns)}:
        assert not any(value % plan["multiple"] for value in vars(span).values())


@LAW
@given(plans())
def test_tiles_stay_within_the_budget_unless_the_margin_forbids(plan: dict[str, int]) -> None:
    margin = -(-plan["margin"] // plan["multiple"]) * plan["multiple"]
    least = 4 * margin + plan["multiple"]
    tile = plan_tiles(**plan)[0]
    held = (tile.rows.stop - tile.rows.start) * (tile.columns.stop - tile.columns.start)
    assert held <= max(plan["pixels"], least * least)


@pytest.mark.parametrize(
    ("height", "width", "count"),
    [
        (512, 512, 1),  # fits
        (1024, 1024, 1),  # fits exactly
        (1024, 1032, 2),  # eight columns too many
        (16, 60_000, 1),  # long, but small
        (10_000, 10_000, 144),  # cores of 864 in tiles of 1024: 12 x 12
    ],
)
def test_number_of_tiles(height: int, width: int, count: int) -> None:
    assert len(plan_tiles(height, width, pixels=1024 * 1024, margin=80, multiple=8)) == count


def test_cores_meet_in_the_middle_of_the_overlap() -> None:
    first, second = (tile.columns for tile in plan_tiles(8, 96, pixels=8 * 64, margin=8, multiple=8))
    assert (first, second) == (Span(0, 64, 0, 48), Span(32, 96, 48, 96))
