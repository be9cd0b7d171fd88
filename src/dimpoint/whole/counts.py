"""The intensity rule as a graph: counts -> network range (`dimpoint.model.intensity`)."""

from __future__ import annotations

import numpy as np

from dimpoint.model import display, intensity
from dimpoint.model.intensity import IntensityRule
from dimpoint.whole.graph import Graph, Value

_LEVELS_OF_16_BIT = 65536
_Limits = tuple[Value, Value]


def unit_range(graph: Graph, counts: Value, rule: IntensityRule) -> Value:
    """Map counts to network range.

    Parameters
    ----------
    graph : Graph
        The graph.
    counts : Value
        (H, W) uint8 or uint16.
    rule : IntensityRule
        The model's rule.

    Returns
    -------
    Value
        (H, W) float32.
    """
    low, high = _limits(graph, counts, rule)
    seen = (counts.cast("f4") - low.cast("f4")) * (graph.constant(1.0, "f8") / (high - low)).cast("f4")
    if rule.kind == "display" and counts.dtype != "u1":
        seen = seen.clip(*intensity.DEEP)
    return seen.clip(0.0, 1.0) if rule.clip else seen


def _limits(graph: Graph, counts: Value, rule: IntensityRule) -> _Limits:
    """The counts that become 0 and 1, (1,) float64 each."""
    if rule.kind == "range":
        return _fixed(graph, rule.low, rule.high)
    if rule.kind == "dtype" or (rule.kind == "display" and counts.dtype == "u1"):
        return _fixed(graph, 0.0, 255.0 if counts.dtype == "u1" else 65535.0)
    if rule.kind == "percentile":
        low, high = _percentiles(graph, _histogram(graph, counts), (rule.low, rule.high))
        middle, half = (low + high) / 2.0, (high - low).maximum(rule.min_span) / 2.0
        return middle - half, middle + half
    eight_bit = counts.cast("f4").max() <= 255.0
    chosen = graph.choose(
        eight_bit, lambda: _fixed(graph, 0.0, 255.0), lambda: _display_limits(graph, counts, rule)
    )
    return chosen[0], chosen[1]


def _fixed(graph: Graph, low: float, high: float) -> _Limits:
    return graph.constant(low, "f8"), graph.constant(high, "f8")


def _histogram(graph: Graph, counts: Value) -> Value:
    """The number of pixels of each count, (65536,) int32."""
    index = counts.cast("i4").flat()
    ones = graph.full(graph.op("Shape", index), 1, "i4")
    empty = graph.full(graph.constant(_LEVELS_OF_16_BIT, "i8"), 0, "i4")
    return graph.op("ScatterElements", empty, index, ones, axis=0, reduction="add")


def _percentiles(graph: Graph, histogram: Value, percents: tuple[float, float]) -> _Limits:
    """The counts at the ranks, rounded down, as `dimpoint.model.intensity.percentiles`."""
    cumulative = graph.op("CumSum", histogram, graph.constant(0, "i8").reshape())
    last = cumulative.part(0, -1).cast("f8") - 1.0
    ranks = [graph.op("Floor", last * (percent / 100)).cast("i4") for percent in percents]
    low, high = ((cumulative <= rank).cast("i4").sum().cast("f8") for rank in ranks)
    return low, high


def _display_limits(graph: Graph, counts: Value, rule: IntensityRule) -> _Limits:
    """`dimpoint.model.display.display_limits` of a deep frame."""
    histogram = _histogram(graph, counts)
    percentiles = _percentiles(graph, histogram, (rule.low, rule.high))
    levels = graph.op("NonZero", histogram).reshape(-1).cast("f8")
    ends = levels.part(0, 0, 1), levels.part(0, -1)
    low, high = _extremes(graph, counts.cast("f4"), ends)
    span, reach = percentiles[1] - percentiles[0], high - low
    spread = reach.minimum(span * display.WIDEST) * span / (display.RANGE * display.SPAN)
    distance = graph.op("Sqrt", spread).where(span > 0.0, reach / display.RANGE)
    distance = distance.maximum(rule.min_span / display.SPAN)
    middle = (percentiles[0] + percentiles[1]) / 2.0
    step = _step_of_8_bit(graph, levels)
    recovered = step > 0.0
    distance = (step * 255.0).where(recovered, distance)
    zero = middle - distance * display.MIDDLE
    within = zero.maximum(ends[1] - distance).minimum(ends[0])
    zero = within.where(recovered, zero)
    return zero, zero + distance


def _extremes(graph: Graph, counts: Value, ends: _Limits) -> _Limits:
    """The least and largest count that two neighbouring pixels reach; `ends` if there are none."""
    pairs = [(counts.part(axis, 0, -1), counts.part(axis, 1)) for axis in (0, 1)]
    infinity = graph.constant(np.inf, "f4")
    lows = [one.maximum(other).flat() for one, other in pairs]
    highs = [one.minimum(other).flat() for one, other in pairs]
    low = graph.join(*lows, infinity).min().cast("f8")
    high = graph.join(*highs, -infinity).max().cast("f8")
    alone = low >= high
    return ends[0].where(alone, low), ends[1].where(alone, high)


def _step_of_8_bit(graph: Graph, levels: Value) -> Value:
    """The gain of an 8-bit frame in a deeper type, (1,) float64; 0 for other frames."""
    count = levels.size(0)
    few = (count >= display.FEW_LEVELS) & (count <= display.LEVELS)
    (step,) = graph.choose(few, lambda: [_step(graph, levels)], lambda: [graph.constant(0.0, "f8")])
    steps = (levels.part(0, -1) - levels.part(0, 0, 1)) / step.maximum(1.0)
    fits = (steps >= display.LEAST_RANGE * 255) & (steps <= 255.5)
    return step.where(fits, 0.0)


def _step(graph: Graph, levels: Value) -> Value:
    """The common step of 8 to 256 levels, or 0."""
    gaps = levels.part(0, 1) - levels.part(0, 0, -1)
    least = gaps.min()
    divisor = _common_divisor(graph, gaps.cast("i8"))
    (step,) = graph.choose(
        (divisor < display.LEAST_STEP) & (least >= 2 * display.LEAST_STEP - 1),
        lambda: [_rounded_step(graph, levels, gaps, least)],
        lambda: [divisor.where(divisor >= display.LEAST_STEP, 0.0)],
    )
    return step


def _common_divisor(graph: Graph, gaps: Value) -> Value:
    """The greatest common divisor of (N,) int64, at least 1, as (1,) float64.

    The least gap times the number of gaps is at most 65535, and so is the number of divisions.
    """
    candidates = graph.count_to(gaps.min()) + 1
    rest = graph.op("Mod", gaps.reshape(1, -1), candidates.reshape(-1, 1))
    divides = rest.max(1).equals(0)
    return candidates.where(divides, 1).max().cast("f8")


def _rounded_step(graph: Graph, levels: Value, gaps: Value, least: Value) -> Value:
    """The step of rounded levels, from a straight line through them, or 0."""
    short = (gaps < least * 1.5).cast("f8")
    step = (gaps * short).sum() / short.sum()
    for _ in range(2):
        steps = graph.op("CumSum", graph.op("Round", gaps / step), graph.constant(0, "i8").reshape())
        numbers = graph.join(graph.constant(0.0, "f8"), steps)
        count = numbers.size(0).cast("f8")
        centre, mean = numbers.sum() / count, levels.sum() / count
        beside = numbers - centre
        step = (beside * (levels - mean)).sum() / (beside * beside).sum()
        first = mean - step * centre
    off = graph.op("Abs", levels - first - step * numbers).max()
    return step.where(off <= (step / 5.0).minimum(0.75), 0.0)
