"""Changes of an ONNX graph around quantisation that make its int8 form faster and keep what it computes.

- The first two convolutions and the last one have few channels, and processors compute with 16 or more at
  once. `in_blocks` writes them for blocks of pixels: the same sums with more channels.
- `unsigned` replaces signed activations by unsigned ones with another zero point, which are the same numbers.
  OpenVINO runs convolutions of signed activations with a zero point in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_HEAD = (4, 2)  # sides of the last convolution's blocks, best first
_UNIT = {"strides": [1, 1], "pads": [1, 1, 1, 1], "dilations": [1, 1], "group": 1}  # of a 3x3 convolution
_HALVING = {"strides": [2, 2], "pads": [0, 0, 0, 0], "dilations": [1, 1], "group": 1}


def in_blocks(model: Any, multiple: int) -> None:
    """Write the first two convolutions and the last one for blocks of pixels, if their shapes allow it.

    A 3x3 convolution, ReLU and a 2x2 convolution with stride 2 become a 4x4 convolution with stride 2, ReLU
    and a 1x1 convolution. A 3x3 convolution to one channel at the graph's end becomes one with stride 4 to 16
    channels, which are then put side by side as blocks of 4x4 pixels.

    Parameters
    ----------
    model : onnx.ModelProto
        In float32; is changed.
    multiple : int
        Height and width of the graph's output are multiples of this.
    """
    layers = [node for node in model.graph.node if node.op_type == "Conv"]
    weights = {each.name: each for each in model.graph.initializer}
    if len(layers) > 2:
        _stem(model.graph, weights, layers[0], layers[1])
    side = next((side for side in _HEAD if multiple % side == 0), 1)
    if layers and side > 1:
        _head(model.graph, weights, layers[-1], side)
    del model.graph.value_info[:]  # shapes between the nodes, which are others now


def unsigned(model: Any) -> None:
    """Replace signed activations of a quantised model by unsigned ones.

    Parameters
    ----------
    model : onnx.ModelProto
        With QuantizeLinear nodes; is changed.
    """
    from onnx import numpy_helper

    weights = {each.name: each for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear" or len(node.input) < 3 or node.input[2] not in weights:
            continue
        zero = weights[node.input[2]]
        value = numpy_helper.to_array(zero)
        if value.dtype == np.int8 and value.ndim == 0:
            shifted = np.array(int(value) + 128, np.uint8)
            zero.CopyFrom(numpy_helper.from_array(shifted, zero.name))
    del model.graph.value_info[:]


def _stem(graph: Any, weights: dict[str, Any], first: Any, second: Any) -> None:
    relu = _only_user(graph, first.output[0])
    joined = relu is not None and relu.op_type == "Relu" and _only_user(graph, relu.output[0]) is second
    if not (joined and _is(first, _UNIT) and _is(second, _HALVING)):
        return
    fine, coarse = _weight(graph, weights, first), _weight(graph, weights, second)
    if fine is None or coarse is None or fine.shape[2:] != (3, 3) or coarse.shape[2:] != (2, 2):
        return
    channels = len(fine)
    wide = np.zeros((4 * channels, fine.shape[1], 4, 4), np.float32)
    for number in range(4):  # pixels of a block of 2x2, row by row
        down, right = divmod(number, 2)
        wide[number * channels : (number + 1) * channels, :, down : down + 3, right : right + 3] = fine
    _set(weights, first, wide, 4, {"kernel_shape": [4, 4], "strides": [2, 2], "pads": [1, 1, 1, 1]})
    point = coarse.transpose(0, 2, 3, 1).reshape(len(coarse), 4 * channels, 1, 1)
    _set(weights, second, point, 1, {"kernel_shape": [1, 1], "strides": [1, 1], "pads": [0, 0, 0, 0]})


def _head(graph: Any, weights: dict[str, Any], last: Any, side: int) -> None:
    from onnx import helper

    weight, output = _weight(graph, weights, last), last.output[0]
    after = _only_user(graph, output)
    end = after.output[0] if after is not None and after.op_type == "Sigmoid" else output
    if end not in [each.name for each in graph.output] or not _is(last, _UNIT):
        return
    if weight is None or len(weight) != 1 or weight.shape[2:] != (3, 3):
        return
    wide = np.zeros((side * side, weight.shape[1], side + 2, side + 2), np.float32)
    for number in range(side * side):
        down, right = divmod(number, side)
        wide[number, :, down : down + 3, right : right + 3] = weight[0]
    shape = {"kernel_shape": [side + 2] * 2, "strides": [side] * 2, "pads": [1, 1, 1, 1]}
    _set(weights, last, wide, side * side, shape)
    last.output[0] = f"{output}_blocks"
    apart = helper.make_node("DepthToSpace", [last.output[0]], [output], f"{output}_apart", blocksize=side)
    graph.node.insert(list(graph.node).index(last) + 1, apart)


def _only_user(graph: Any, value: str) -> Any | None:
    """The node that uses a value, if there is just one."""
    users = [node for node in graph.node if value in node.input]
    return users[0] if len(users) == 1 and value not in [each.name for each in graph.output] else None


def _is(layer: Any, expected: dict[str, Any]) -> bool:
    """Whether a convolution has these attributes, all of them written out, and a bias."""
    from onnx import helper

    there = {each.name: helper.get_attribute_value(each) for each in layer.attribute}
    same = all(there.get(key) == value for key, value in expected.items())
    return same and there.get("auto_pad", b"NOTSET") == b"NOTSET" and len(layer.input) == 3


def _weight(graph: Any, weights: dict[str, Any], layer: Any) -> npt.NDArray[np.float32] | None:
    """The weight of a convolution, if weight and bias are in the file and no other node uses them."""
    from onnx import numpy_helper

    if any(name not in weights or _only_user(graph, name) is None for name in layer.input[1:]):
        return None
    found = numpy_helper.to_array(weights[layer.input[1]])
    return found if found.ndim == 4 and found.dtype == np.float32 else None


def _set(
    weights: dict[str, Any], layer: Any, weight: npt.NDArray[np.float32], copies: int, shape: dict[str, Any]
) -> None:
    """Replace weight and attributes of a convolution, and repeat its bias."""
    from onnx import helper, numpy_helper

    bias = np.tile(numpy_helper.to_array(weights[layer.input[2]]), copies)
    for name, values in ((layer.input[1], weight), (layer.input[2], bias)):
        weights[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))
    del layer.attribute[:]
    layer.attribute.extend(helper.make_attribute(key, value) for key, value in shape.items())
