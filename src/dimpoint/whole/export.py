"""`dimpoint export --whole`: a model file -> one ONNX file that takes raw frames and gives targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import helper

from dimpoint import __version__
from dimpoint.atomic import replacing
from dimpoint.errors import ModelFileError
from dimpoint.model.onnx_file import import_runtime, read_meta
from dimpoint.model.record import ModelMeta
from dimpoint.whole import looks
from dimpoint.whole.counts import unit_range
from dimpoint.whole.decoding import peaks
from dimpoint.whole.graph import OPSET, Graph, Value

INPUT, THRESHOLD, OUTPUT = "frame", "threshold", "targets"
METADATA_KEY = "dimpoint-whole"  # not that of a model file: `Detector` cannot open a whole one

Counts = Literal["uint8", "uint16"]
_TYPES: dict[Counts, tuple[str, int]] = {
    "uint8": ("u1", onnx.TensorProto.UINT8),
    "uint16": ("u2", onnx.TensorProto.UINT16),
}


def export_whole(source: Path, out: Path, *, counts: Counts = "uint16", threshold: float | None = None) -> ModelMeta:
    """Write the whole way from a raw frame to its targets as one ONNX file.

    The graph has the inputs `frame`, (H, W) uint8 or uint16 of any size, and `threshold`, (1,) float32, which
    may be left out, and the output `targets`, (N, 3) float32: x, y in pixels of the frame and score, best
    first.

    Parameters
    ----------
    source : path
        A dimpoint ONNX model file.
    out : path
        The file to write.
    counts : "uint16" or "uint8"
        The type of the frames. With `uint16`, a frame whose counts are all below 256 is an 8-bit frame.
    threshold : float, optional
        The default of the input `threshold`; else the model's own.

    Returns
    -------
    ModelMeta
        The record of the model.

    Raises
    ------
    ModelFileError
        For a model that cannot be written so, with the reason; `out` is then as it was.
    """
    meta = read_meta(source)
    if threshold is not None:
        meta = meta.model_copy(update={"decode": meta.decode.at(threshold)})
    check(meta, source)
    model = compose(onnx.load(source), meta, counts)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    _try(content, out)
    with replacing(out) as temporary:
        temporary.write_bytes(content)
    return meta


def check(meta: ModelMeta, source: Path) -> None:
    """Raise ModelFileError for a model of which something cannot be put inside, with what and why."""
    refused = None
    if meta.input.fit is not None:
        refused = (
            f"it fits frames into {meta.input.fit[0]}x{meta.input.fit[1]} by a warp that rounds counts "
            "(input.fit), which ONNX's operators do not do alike"
        )
    elif meta.decode.kind == "components":
        refused = "its targets are the connected regions of a probability map (decode.kind components)"
    if refused:
        raise ModelFileError(f"{source}: not exported whole: {refused}; export it without --whole")


def compose(network: Any, meta: ModelMeta, counts: Counts) -> Any:
    """The ONNX model around a network's graph."""
    opsets = {one.domain: one.version for one in network.opset_import}
    if opsets.get("", opsets.get("ai.onnx")) != OPSET or set(opsets) - {"", "ai.onnx"}:
        raise ModelFileError(f"model '{meta.name}': needs a graph of opset {OPSET}, its has {opsets}")
    graph = Graph()
    dtype, element = _TYPES[counts]
    frame = Value(graph, INPUT, dtype)
    threshold = Value(graph, THRESHOLD, "f4")
    response, scale = _response(graph, frame, _Network(graph, network), meta)
    xy, scores = peaks(graph, response, meta.decode, threshold)
    targets = _in_frame(graph, frame, xy, scores, scale, meta.stride)
    graph.nodes.append(helper.make_node("Identity", [targets.name], [OUTPUT]))
    inputs = [
        helper.make_tensor_value_info(INPUT, element, ["H", "W"]),
        helper.make_tensor_value_info(THRESHOLD, onnx.TensorProto.FLOAT, [1]),
    ]
    outputs = [helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, ["N", 3])]
    own = onnx.numpy_helper.from_array(np.array([meta.decode.threshold], np.float32), THRESHOLD)
    weights = [*network.graph.initializer, *graph.constants.values(), own]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "dimpoint", inputs, outputs, weights),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=min(network.ir_version, 10),
        producer_name="dimpoint",
        producer_version=__version__,
    )
    helper.set_model_props(model, {METADATA_KEY: meta.to_json()})
    return model


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
            return old if not old or old in self._weights else named.setdefault(old, f"look{self._copies}/{old}")

        for node in model.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"look{self._copies}/{node.name}" if node.name else ""
            copy.input[:] = [name(one) for one in node.input]
            copy.output[:] = [name(one) for one in node.output]
            self._graph.nodes.append(copy)
        return Value(self._graph, name(model.output[0].name), "f4")


def _response(graph: Graph, frame: Value, network: _Network, meta: ModelMeta) -> tuple[Value, Value]:
    """The map of the frame without its padding, (h, w), and how many times the frame is magnified, (1,)."""
    rule = meta.input
    unit = looks.unit_of(meta.multiple, meta.stride, rule)
    seen = unit_range(graph, frame, rule.intensity)

    def magnified() -> list[Value]:
        clean = looks.without_hot_pixels(graph, seen) if rule.replace_hot_pixels else seen
        return [looks.magnified(graph, clean), clean]

    small = looks.small(graph, frame, rule)
    one, two = graph.constant(1, "i8"), graph.constant(2, "i8")
    if rule.scale == 1:
        largest, native, scale = seen, seen, one
    elif small is None:
        (largest, native), scale = magnified(), two
    else:
        largest, native = graph.choose(small, magnified, lambda: [seen, seen])
        scale = two.where(small, one)
    response = network(looks.padded(graph, largest, unit, rule, meta.mean[0]))
    if rule.scale > 1 and rule.native_share:
        response = _with_native(graph, network, (response, native), small, unit, meta)
    for axis, place in ((0, 2), (1, 3)):
        seen_size = frame.size(axis) * scale + (meta.stride - 1)
        response = response.part(place, 0, seen_size / meta.stride)
    response = graph.op("Squeeze", response, graph.constant([0, 1], "i8"))
    return (graph.op("Sigmoid", response) if meta.activation == "sigmoid" else response), scale


def _with_native(
    graph: Graph, network: _Network, seen: tuple[Value, Value], small: Value | None, unit: int, meta: ModelMeta
) -> Value:
    """The response blended with that of the frame as it is.

    A frame that is not magnified has no second look. The network then runs on the least input there is, and
    its response is dropped: inside a branch it would run slower, because runtimes prepare weights for the
    main graph only.
    """
    response, native = seen

    def look() -> list[Value]:
        return [looks.padded(graph, native, unit, meta.input, meta.mean[0])]

    def nothing() -> list[Value]:
        return [graph.full(graph.constant([1, 1, unit, unit], "i8"), 0.0, "f4")]

    def blend(second: Value) -> list[Value]:
        return [looks.blended(graph, response, second, meta.input, meta.stride)]

    if small is None:
        return blend(network(look()[0]))[0]
    second = network(graph.choose(small, look, nothing)[0])
    return graph.choose(small, lambda: blend(second), lambda: [response])[0]


def _in_frame(graph: Graph, frame: Value, xy: Value, scores: Value, scale: Value, stride: int) -> Value:
    """Map pixels -> pixels of the frame, with scores: (N, 3) float32."""
    last = graph.join(frame.size(1), frame.size(0)).cast("f8") - 1.0
    places = ((xy * float(stride) + 0.5) / scale.cast("f8") - 0.5).clip(0.0, last)
    return graph.join(places.cast("f4"), scores.clip(0.0, 1.0).reshape(-1, 1), axis=1)


def _try(content: bytes, out: Path) -> None:
    """Raise ModelFileError unless ONNX Runtime loads the graph."""
    runtime = import_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions have no common base
        raise ModelFileError(f"{out}: not written: {' '.join(str(error).split())[:300]}") from None
