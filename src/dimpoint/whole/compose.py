"""The complete graph around a network: intensity, input, network, peaks, pixels of the frame."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
from onnx import helper, version_converter

from dimpoint import __version__
from dimpoint.errors import ModelFileError
from dimpoint.model.record import WHOLE_KEY, ModelMeta
from dimpoint.whole import inputs
from dimpoint.whole.counts import unit_range
from dimpoint.whole.decoding import peaks
from dimpoint.whole.graph import OPSET, Graph, Value

DIFFERS_KEY = "dimpoint-whole-differs"
"""Metadata key of `DIFFERS`, as a JSON list."""
DIFFERS = (
    "16-bit frames with padded borders, telemetry rows or no-data regions: crop these off first, or targets "
    "are lost (Detector finds and leaves out such pixels)",
    "frames above 2 million pixels run in one piece and need the memory for it (Detector cuts tiles)",
    "hot is bright; invert black-hot frames first",
)
"""In what a whole file differs from `Detector`."""

INPUT, THRESHOLD, OUTPUT = "frame", "threshold", "targets"

_TYPES = {"uint8": ("u1", onnx.TensorProto.UINT8), "uint16": ("u2", onnx.TensorProto.UINT16)}


def compose(network: Any, meta: ModelMeta, counts: str) -> Any:
    """Build the ONNX model that takes raw frames and returns targets.

    Parameters
    ----------
    network : onnx.ModelProto
        The network's graph, from a model file.
    meta : ModelMeta
        The record of that file.
    counts : {"uint8", "uint16"}
        Type of the frames.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    ModelFileError
        If the network uses other operators than those of ONNX up to `OPSET`.
    """
    network = _at_opset(network, meta.name)
    graph = Graph()
    dtype, element = _TYPES[counts]
    frame = Value(graph, INPUT, dtype)
    threshold = Value(graph, THRESHOLD, "f4")
    response, scale = _response(graph, frame, _Network(graph, network), meta)
    xy, scores = peaks(graph, response, meta.decode, threshold)
    targets = _in_frame(graph, frame, xy, scores, scale, meta.stride)
    graph.nodes.append(helper.make_node("Identity", [targets.name], [OUTPUT]))
    values = [
        helper.make_tensor_value_info(INPUT, element, ["H", "W"]),
        helper.make_tensor_value_info(THRESHOLD, onnx.TensorProto.FLOAT, [1]),
    ]
    outputs = [helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, ["N", 3])]
    own = onnx.numpy_helper.from_array(np.array([meta.decode.threshold], np.float32), THRESHOLD)
    weights = [*network.graph.initializer, *graph.constants.values(), own]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "dimpoint", values, outputs, weights),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=min(network.ir_version, 10),
        producer_name="dimpoint",
        producer_version=__version__,
    )
    helper.set_model_props(model, {WHOLE_KEY: meta.to_json(), DIFFERS_KEY: json.dumps(DIFFERS)})
    return model


def _at_opset(network: Any, name: str) -> Any:
    """The network in the operator set of the rest of the graph."""
    opsets = {one.domain: one.version for one in network.opset_import}
    own = opsets.pop("", opsets.pop("ai.onnx", 0))
    if opsets or not 0 < own <= OPSET or network.functions:
        raise ModelFileError(
            f"model '{name}': --whole needs a graph of ONNX's standard operators of at most version {OPSET}, "
            f"this one has { ({'ai.onnx': own} | opsets) }"
        )
    return network if own == OPSET else version_converter.convert_version(network, OPSET)


class _Network:
    """Copies of a network's graph that share its weights."""

    def __init__(self, graph: Graph, model: Any) -> None:
        self._graph, self._model, self._copies = graph, model, 0
        self._weights = {one.name for one in model.graph.initializer}

    def __call__(self, images: Value) -> Value:
        """(1, 1, h, w) in network range -> its map, (1, 1, h / stride, w / stride)."""
        self._copies += 1
        model = self._model.graph
        named = {model.input[0].name: images.name}

        def name(old: str) -> str:
            return (
                old if not old or old in self._weights else named.setdefault(old, f"pass{self._copies}/{old}")
            )

        for node in model.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"pass{self._copies}/{node.name}" if node.name else ""
            copy.input[:] = [name(one) for one in node.input]
            copy.output[:] = [name(one) for one in node.output]
            self._graph.nodes.append(copy)
        return Value(self._graph, name(model.output[0].name), "f4")


def _response(graph: Graph, frame: Value, network: _Network, meta: ModelMeta) -> tuple[Value, Value]:
    """The map of the frame without its padding, (h, w), and the magnification of the frame, (1,)."""
    rule = meta.input
    unit = inputs.unit_of(meta.multiple, meta.stride, rule)
    seen = unit_range(graph, frame, rule.intensity)

    def magnified() -> list[Value]:
        clean = inputs.without_hot_pixels(graph, seen) if rule.replace_hot_pixels else seen
        return [inputs.magnified(graph, clean), clean]

    small = inputs.small(graph, frame, rule)
    one, two = graph.constant(1, "i8"), graph.constant(2, "i8")
    if rule.scale == 1:
        largest, native, scale = seen, seen, one
    elif small is None:
        (largest, native), scale = magnified(), two
    else:
        largest, native = graph.choose(small, magnified, lambda: [seen, seen])
        scale = two.where(small, one)
    response = network(inputs.padded(graph, largest, unit, rule, meta.mean[0]))
    if rule.scale > 1 and rule.native_share:
        response = _with_native(graph, network, (response, native), small, unit, meta)
    for axis, place in ((0, 2), (1, 3)):
        seen_size = frame.size(axis) * scale + (meta.stride - 1)
        response = response.part(place, 0, seen_size / meta.stride)
    response = graph.op("Squeeze", response, graph.constant([0, 1], "i8"))
    return (graph.op("Sigmoid", response) if meta.activation == "sigmoid" else response), scale


def _with_native(
    graph: Graph,
    network: _Network,
    seen: tuple[Value, Value],
    small: Value | None,
    unit: int,
    meta: ModelMeta,
) -> Value:
    """The response averaged with that of the frame at its own scale.

    For a frame that is not magnified there is no second response. The network then runs on the smallest
    input, and its output is dropped: inside a branch it would run slower, because runtimes prepare weights
    for the main graph only.
    """
    response, native = seen

    def padded() -> list[Value]:
        return [inputs.padded(graph, native, unit, meta.input, meta.mean[0])]

    def nothing() -> list[Value]:
        return [graph.full(graph.constant([1, 1, unit, unit], "i8"), 0.0, "f4")]

    def blend(second: Value) -> list[Value]:
        return [inputs.blended(graph, response, second, meta.input, meta.stride)]

    if small is None:
        return blend(network(padded()[0]))[0]
    second = network(graph.choose(small, padded, nothing)[0])
    return graph.choose(small, lambda: blend(second), lambda: [response])[0]


def _in_frame(graph: Graph, frame: Value, xy: Value, scores: Value, scale: Value, stride: int) -> Value:
    """Map pixels -> pixels of the frame, with scores: (N, 3) float32."""
    last = graph.join(frame.size(1), frame.size(0)).cast("f8") - 1.0
    places = ((xy * float(stride) + 0.5) / scale.cast("f8") - 0.5).clip(0.0, last)
    return graph.join(places.cast("f4"), scores.clip(0.0, 1.0).reshape(-1, 1), axis=1)
