"""Decoding as a graph: response map -> positions and scores, as in `dimpoint.inference.decode`."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from dimpoint.inference import decode
from dimpoint.model.record import DecodeRule
from dimpoint.whole.graph import Graph, Value

_FAR = 1e9  # map pixels: no detection is near such a place

_Floats = npt.NDArray[np.float64]
Found = tuple[Value, Value]  # positions (N, 2) float64, map pixels; scores (N,) float32


def peaks(graph: Graph, response: Value, rule: DecodeRule, threshold: Value) -> Found:
    """Find the peaks of a map.

    Parameters
    ----------
    graph : Graph
        The graph.
    response : Value
        (h, w) float32.
    rule : DecodeRule
        Of kind `peaks` or `published`.
    threshold : Value
        (1,) float32.

    Returns
    -------
    xy, scores : Value
        (N, 2) float64 in map pixels, and (N,) float32, best first.
    """
    if rule.calibration is None:
        return _plain(graph, response, rule, threshold)
    before, after = np.array(rule.calibration).T
    xy, scores = _plain(graph, response, rule, _interpolated(graph, threshold, after, before))
    scores = _interpolated(graph, scores, before, after)
    kept = scores > threshold
    return _kept(graph, xy, kept), _kept(graph, scores, kept)


def _interpolated(graph: Graph, values: Value, before: _Floats, after: _Floats) -> Value:
    """`numpy.interp`: (N,) float32 through knots."""
    exact = values.cast("f8").reshape(-1, 1)
    steps = (exact - graph.constant(before[:-1], "f8")).clip(0.0, graph.constant(np.diff(before), "f8"))
    rises = steps * graph.constant(np.diff(after) / np.diff(before), "f8")
    return (rises.sum(1) + float(after[0])).cast("f4")


def _plain(graph: Graph, response: Value, rule: DecodeRule, threshold: Value) -> Found:
    published = rule.kind == "published"
    lowest = threshold if published or rule.score_sigma is None else threshold * decode.LEAST_HEIGHT
    member = _maxima(graph, response, lowest)
    rows, columns = _rows_and_columns(graph, member)
    patches = _patches(graph, response, rows, columns, 1)
    heights = patches.part(1, 1, 2).part(2, 1, 2).reshape(-1)
    if published:
        return _published(graph, rule, graph.stack(columns, rows).cast("f8"), heights, patches)
    xy = graph.stack(columns, rows).cast("f8") + _offsets(graph, patches)
    equal = patches.equals(heights.reshape(-1, 1, 1))
    tied = (equal.cast("i4").sum(1, 2) > 1).any()
    xy, heights = graph.choose(
        tied,
        lambda: _merged(graph, member, (rows, columns), equal, (xy, heights)),
        lambda: (xy, heights),
    )
    scores = heights
    if rule.score_sigma is not None:
        scores = _mean_scores(graph, response, xy, rule.score_sigma, rule.response_sigma)
        above = scores > threshold
        xy, scores = _kept(graph, xy, above), _kept(graph, scores, above)
    xy, scores = _sorted(graph, xy, scores)
    (stays,) = graph.choose(
        scores.size(0) > 1,
        lambda: [_suppressed(graph, response, xy, rule.min_distance)],
        lambda: [graph.full(scores.size(0), 1, "bool")],
    )
    xy, scores = _kept(graph, xy, stays), _kept(graph, scores, stays)
    return xy.part(0, 0, rule.max_targets), scores.part(0, 0, rule.max_targets)


def _published(graph: Graph, rule: DecodeRule, xy: Value, heights: Value, patches: Value) -> Found:
    """SPIRE's rule: the relative height, the cap, a quarter pixel to the higher neighbour."""
    order = _order(graph, heights, 1).part(
        0, 0, None if rule.max_height_gap is not None else rule.max_targets
    )
    xy, heights, patches = xy.take(order), heights.take(order), patches.take(order)
    if rule.max_height_gap is not None:
        lowest = graph.join(heights.part(0, 0, 1), graph.constant(0.0, "f4")).max() * (
            1 - rule.max_height_gap
        )
        high = heights >= lowest
        xy, heights, patches = (_kept(graph, one, high) for one in (xy, heights, patches))
    near = [((1, 2), (1, 0)), ((2, 1), (0, 1))]
    shifts = [_pixel(patches, *high) - _pixel(patches, *low) for high, low in near]
    moved = xy + graph.stack(*(graph.op("Sign", shift) for shift in shifts)).cast("f8") / 4.0
    return moved.part(0, 0, rule.max_targets), heights.part(0, 0, rule.max_targets)


def _pixel(patches: Value, row: int, column: int) -> Value:
    return patches.part(1, row, row + 1).part(2, column, column + 1).reshape(-1)


def _maxima(graph: Graph, response: Value, threshold: Value) -> Value:
    """The pixels above the threshold that equal their 3x3 maximum, (h, w) bool."""
    return response.equals(_widest(graph, response)) & (response > threshold)


def _widest(graph: Graph, array: Value) -> Value:
    """The 3x3 maximum of (h, w) float32."""
    axes = graph.constant([0, 1], "i8")
    pooled = graph.op("MaxPool", graph.op("Unsqueeze", array, axes), kernel_shape=[3, 3], pads=[1] * 4)
    return graph.op("Squeeze", pooled, axes)


def _rows_and_columns(graph: Graph, mask: Value) -> tuple[Value, Value]:
    """Rows and columns of the true pixels of a mask, (h, w), in raster order: (N,) int64 each."""
    places = graph.op("NonZero", mask)
    return places.part(0, 0, 1).reshape(-1), places.part(0, 1, 2).reshape(-1)


def _patches(graph: Graph, array: Value, rows: Value, columns: Value, reach: int) -> Value:
    """The neighbourhoods of N pixels, (N, 2 * reach + 1, 2 * reach + 1), mirrored at the borders."""
    around = graph.constant(np.arange(-reach, reach + 1), "i8")
    y, x = (
        _mirrored_once(graph, place.reshape(-1, 1) + around, array.size(axis))
        for axis, place in ((0, rows), (1, columns))
    )
    side = 2 * reach + 1
    return array.flat().take(y.reshape(-1, side, 1) * array.size(1) + x.reshape(-1, 1, side))


def _mirrored_once(graph: Graph, index: Value, size: Value) -> Value:
    near = graph.op("Abs", index)
    return ((size - 1) - graph.op("Abs", (size - 1) - near)).maximum(0)


def _offsets(graph: Graph, patches: Value) -> Value:
    """Sub-pixel centres, (N, 2) float64 x, y, of (N, 3, 3) neighbourhoods."""
    floor = (_pixel(patches, 1, 1) * decode.LOG_FLOOR).maximum(float(np.finfo(np.float32).tiny))
    positive = patches.maximum(floor.reshape(-1, 1, 1)).cast("f8")
    offsets = graph.stack(*(_vertex(graph, positive.sum(axis)) for axis in (1, 2)))
    return offsets.clip(-decode.FARTHEST, decode.FARTHEST)


def _vertex(graph: Graph, profile: Value) -> Value:
    """The vertex of a parabola through the logarithms of (N, 3) values; the centroid if it opens upwards."""
    logs = graph.op("Log", profile)
    left, middle, right = (_column(logs, number) for number in range(3))
    curvature = left - middle * 2.0 + right
    bends_down = curvature < -1e-9
    centroid = (_column(profile, 2) - _column(profile, 0)) / profile.sum(1)
    vertex = (left - right) / (curvature.where(bends_down, -1.0) * 2.0)
    return vertex.where(bends_down, centroid)


def _merged(
    graph: Graph, member: Value, pixels: tuple[Value, Value], equal: Value, found: Found
) -> tuple[Value, Value]:
    """One position and score for each plateau of equal maxima; none for the flat part of a slope."""
    rows, columns = pixels
    xy, heights = found
    label = _patches(graph, _labels(graph, member), rows, columns, 0).reshape(-1)
    _, _, group, size = graph.ops("Unique", label, dtypes=("f4", "i8", "i8", "i8"))
    beside = ~_patches(graph, member, rows, columns, 1)
    on_slope = (equal & beside).cast("i4").max(1, 2)

    def of_groups(values: Value, reduction: str) -> Value:
        empty = graph.full(size.size(0), 0, values.dtype)
        return graph.op("ScatterElements", empty, group, values, axis=0, reduction=reduction)

    means = [of_groups(_column(xy, axis), "add") / size.cast("f8") for axis in (0, 1)]
    top = of_groups(on_slope, "max") < 1
    scores = of_groups(heights, "max")
    return _kept(graph, graph.stack(*means), top), _kept(graph, scores, top)


def _labels(graph: Graph, member: Value) -> Value:
    """A number for each 8-connected region of (h, w) bool, 0 elsewhere; float32, exact below 2^24."""
    mask = member.cast("f4")
    shape = graph.op("Shape", member)
    number = graph.count_to(graph.op("Size", member).reshape(1)).cast("f4") + 1.0
    start = graph.op("Reshape", number, shape) * mask

    def spread(label: Value) -> tuple[Value, list[Value]]:
        wider = _widest(graph, label) * mask
        return (wider > label).any(), [wider]

    return graph.loop(graph.constant(1, "bool"), [start], spread)[0]


def _mean_scores(graph: Graph, response: Value, xy: Value, sigma: float, response_sigma: float) -> Value:
    """Gaussian means of the response around positions, over that of an ideal response; at most 1."""
    reach = math.ceil(2.5 * sigma)
    profile = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    profile /= profile.sum()
    ideal = response_sigma**2 / (response_sigma**2 + sigma**2)
    weights = graph.constant(np.outer(profile, profile) / ideal, "f8")
    columns, rows = (graph.op("Round", _column(xy, axis)).cast("i8") for axis in (0, 1))
    patches = _patches(graph, response, rows, columns, reach).cast("f8")
    return (patches * weights).sum(1, 2).cast("f4").minimum(1.0)


def _sorted(graph: Graph, xy: Value, scores: Value) -> Found:
    """Sort by score, highest first; ties by y, then x."""
    for axis in (0, 1):  # each sort leaves equal values as they are, so that the last counts first
        order = _order(graph, _column(xy, axis), 0)
        xy, scores = xy.take(order), scores.take(order)
    order = _order(graph, scores, 1)
    return xy.take(order), scores.take(order)


def _order(graph: Graph, values: Value, largest: int) -> Value:
    """The stable order that sorts (N,) values."""
    count = values.size(0)
    return graph.ops("TopK", values, count, dtypes=(None, "i8"), axis=0, largest=largest, sorted=1)[1]


def _suppressed(graph: Graph, response: Value, xy: Value, min_distance: float) -> Value:
    """Which of (N, 2) positions, best first, are kept: no better kept one is nearer than `min_distance`.

    A map holds the rank of the position at each pixel, so that each position only checks its neighbourhood.
    """
    reach = math.ceil(min_distance) + 1
    around = np.arange(-reach, reach + 1)
    columns, rows = (graph.op("Round", _column(xy, axis)).cast("i8") + reach for axis in (0, 1))
    width = response.size(1) + 2 * reach
    pixel = rows * width + columns
    rank = graph.count_to(xy.size(0))
    nobody = xy.size(0)
    empty = graph.full((response.size(0) + 2 * reach) * width, 0, "i8") + nobody
    ranks = graph.op("ScatterElements", empty, pixel, rank, axis=0, reduction="min")
    down, right = (graph.constant(one.ravel(), "i8") for one in np.meshgrid(around, around, indexing="ij"))
    other = ranks.take(pixel.reshape(-1, 1) + down * width + right)
    places = graph.join(xy, graph.constant([[_FAR, _FAR]], "f8"))
    apart = places.take(other) - graph.op("Unsqueeze", xy, graph.constant(1, "i8"))
    near = ((apart * apart).sum(2) < min_distance**2) & (other < rank.reshape(-1, 1))
    nothing = graph.constant(0, "bool")

    def settle(stays: Value) -> tuple[Value, list[Value]]:
        beaten = (near & graph.join(stays, nothing).take(other)).any(1)
        return (beaten.equals(stays)).any(), [~beaten]

    return graph.loop(near.any(), [graph.full(xy.size(0), 1, "bool")], settle)[0]


def _column(array: Value, number: int) -> Value:
    """One column of (N, K)."""
    return array.part(1, number, number + 1).reshape(-1)


def _kept(graph: Graph, array: Value, mask: Value) -> Value:
    return graph.op("Compress", array, mask, axis=0)
