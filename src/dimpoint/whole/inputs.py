"""The network's input as a graph: hot pixels, magnification, padding, and averaging of responses."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from dimpoint.model import input_rule
from dimpoint.model.input_rule import InputRule
from dimpoint.whole.graph import Graph, Value

_CUBIC = -0.75  # OpenCV's


def small(graph: Graph, frame: Value, rule: InputRule) -> Value | None:
    """Whether a frame, (H, W), is magnified, (1,) bool; None if the rule treats all frames alike."""
    if rule.scale == 1 or rule.magnify_below is None:
        return None
    return frame.size(0) * frame.size(1) < rule.magnify_below


def without_hot_pixels(graph: Graph, frame: Value) -> Value:
    """`dimpoint.model.input_rule.replace_hot_pixels` of (H, W) float32."""
    ringed = _surrounded(graph, frame, -np.inf)
    nine = [
        ringed.part(0, down, None if down == 2 else down - 2).part(
            1, right, None if right == 2 else right - 2
        )
        for down in range(3)
        for right in range(3)
    ]
    highest = graph.op("Max", *nine[:4], *nine[5:])
    one = graph.constant(1, "i8")
    wide = mirrored(graph, mirrored(graph, frame, 0, 1, one), 1, 1, one)
    sums = graph.op("Conv", _image(graph, wide), graph.constant(np.ones((1, 1, 3, 3)), "f4"))
    mean = (_map(graph, sums) - frame) / 8.0
    alone = frame - highest
    hot = (alone > input_rule.HOT_LEAST) & (alone > (frame - mean) * input_rule.HOT_SHARE)
    return mean.where(hot, frame)


def _surrounded(graph: Graph, frame: Value, value: float) -> Value:
    pads = graph.constant([1, 1, 1, 1], "i8")
    return graph.op("Pad", frame, pads, graph.constant(value, "f4").reshape())


def mirrored(graph: Graph, array: Value, axis: int, before: int, after: Value) -> Value:
    """The array with mirrored elements at the ends of an axis; the edge is not repeated.

    Parameters
    ----------
    graph : Graph
        The graph.
    array : Value
        Any shape.
    axis : int
        The axis.
    before : int
        Elements at its start.
    after : Value
        Elements at its end, (1,) int64.
    """
    size = array.size(axis)
    parts = [array, array.take(mirror(graph, graph.count_to(after) + size, size), axis)]
    if before:
        index = graph.constant(np.arange(-before, 0), "i8")
        parts.insert(0, array.take(mirror(graph, index, size), axis))
    return graph.join(*parts, axis=axis)


def mirror(graph: Graph, index: Value, size: Value) -> Value:
    """Any index -> 0..size - 1, mirrored at both ends as often as necessary."""
    period = ((size - 1) * 2).maximum(1)
    turned = graph.op("Mod", index, period)
    return turned.minimum(period - turned)


def magnified(graph: Graph, frame: Value) -> Value:
    """(H, W) -> (2H, 2W), linear, with the same centre."""
    scales = graph.constant([1, 1, 2, 2], "f4")
    how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return _map(graph, graph.op("Resize", _image(graph, frame), None, scales, **how))


def padded(graph: Graph, seen: Value, unit: int, rule: InputRule, mean: float) -> Value:
    """Pad to multiples of `unit` at the right and below.

    Parameters
    ----------
    graph : Graph
        The graph.
    seen : Value
        (h, w) float32 in network range.
    unit : int
        As `unit_of` returns it.
    rule : InputRule
        Its `padding` is used.
    mean : float
        Value of the padding `mean`.

    Returns
    -------
    Value
        (1, 1, h', w').
    """
    for axis in (0, 1):
        more = graph.op("Mod", -seen.size(axis), graph.constant(unit, "i8"))
        if rule.padding == "mirror":
            seen = mirrored(graph, seen, axis, 0, more)
        else:
            zero = graph.constant(0, "i8")
            pads = graph.join(zero, zero, *((more, zero) if axis == 0 else (zero, more)))
            seen = graph.op("Pad", seen, pads, graph.constant(mean, "f4").reshape())
    return _image(graph, seen)


def blended(graph: Graph, response: Value, native: Value, rule: InputRule, stride: int) -> Value:
    """The weighted mean of the responses of a frame, magnified and at its own scale.

    Parameters
    ----------
    graph : Graph
        The graph.
    response, native : Value
        (1, 1, h, w) float32, of the magnified frame and of the frame at its own scale.
    rule : InputRule
        Its `native_share` is the weight of `native`.
    stride : int
        Input pixels per map pixel.
    """
    share = rule.native_share
    raised = _upsampled(graph, native, stride)
    for axis in (2, 3):
        raised = raised.part(axis, 0, response.size(axis))
    return response * (1 - share) + raised * share


def _upsampled(graph: Graph, native: Value, stride: int) -> Value:
    """`dimpoint.inference.maps.upsampled`: twice the size, cubic, of (1, 1, h, w).

    Even and odd pixels lie at two fixed positions between those of the map, so each of the four kinds is one
    5x5 filter.
    """
    shift = (1 / 2 - 1) / (2 * stride)
    taps = [_cubic_taps(shift), _cubic_taps(0.5 + shift)]
    kernel = np.stack([np.outer(down, right) for down in taps for right in taps])[:, None]
    pads = graph.constant([0, 0, 2, 2, 0, 0, 2, 2], "i8")
    around = graph.op("Pad", native, pads, mode="edge")
    phases = graph.op("Conv", around, graph.constant(kernel, "f4"))
    return graph.op("DepthToSpace", phases, blocksize=2)


def _cubic_taps(position: float) -> npt.NDArray[np.float64]:
    """Weights of the pixels -2..2 for a position near 0."""
    distance = np.abs(np.arange(-2, 3) - position)
    near = (_CUBIC + 2) * distance**3 - (_CUBIC + 3) * distance**2 + 1
    far = _CUBIC * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    taps: npt.NDArray[np.float64] = np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
    return taps


def unit_of(multiple: int, stride: int, rule: InputRule) -> int:
    """Padded sizes are multiples of this, as in `Detector`."""
    return math.lcm(multiple, stride, rule.scale)


def _image(graph: Graph, array: Value) -> Value:
    """(H, W) -> (1, 1, H, W)."""
    return graph.op("Unsqueeze", array, graph.constant([0, 1], "i8"))


def _map(graph: Graph, image: Value) -> Value:
    """(1, 1, H, W) -> (H, W)."""
    return graph.op("Squeeze", image, graph.constant([0, 1], "i8"))
