"""ONNX models small enough to reason about, for tests of what surrounds a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from dimpoint.model.input_rule import InputRule
from dimpoint.model.intensity import IntensityRule
from dimpoint.model.record import METADATA_KEY, DecodeRule, ModelMeta

RADIUS = 6  # input pixels that the blob filter looks around


def blob_kernel(sigma: float = 1.5, wide: float = 3.0) -> npt.NDArray[np.float32]:
    """A narrow Gaussian less a wide one, (13, 13), sum 0: a flat frame gives no response inside."""
    y, x = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]
    narrow, broad = (np.exp(-(x**2 + y**2) / (2 * s * s)) for s in (sigma, wide))
    kernel = narrow / narrow.sum() - broad / broad.sum()
    return (kernel / kernel.max() / 5).astype(np.float32)


def blob_meta(**changes: Any) -> ModelMeta:
    """The record of a blob filter with stride 2, whose spots of height 1 respond with about 0.9.

    changes: fields of the record, or of its `input`.
    """
    rule = {key: changes.pop(key) for key in list(changes) if key in InputRule.model_fields}
    values: dict[str, Any] = {
        "name": "blob",
        "network": "blob",
        "stride": 2,
        "multiple": 8,
        "receptive_radius": RADIUS,
        "input": InputRule(**({"intensity": IntensityRule(kind="dtype")} | rule)),
        "decode": DecodeRule(kind="peaks", threshold=0.3),
        "licence": "Apache-2.0",
        "date": "2025-01-01",
    }
    return ModelMeta(**(values | changes))


def write_model(
    path: Path,
    meta: ModelMeta | None = None,
    *,
    kernel: npt.NDArray[np.float32] | None = None,
    bias: float = 0.0,
    metadata: str | None = None,
    names: tuple[str, str] | None = None,
) -> Path:
    """Write one convolution of the record's stride as a model file.

    metadata: other text than the record's; "" for none. names: of input and output, if not the right ones.
    """
    meta = meta or blob_meta()
    names = names or ("frame", meta.kind)
    kernel = blob_kernel() if kernel is None else kernel
    sizes: list[str | int] = ["n", 1, "h", "w"]
    node = helper.make_node(
        "Conv",
        [names[0], "kernel", "bias"],
        [names[1]],
        strides=[meta.stride] * 2,
        pads=[len(kernel) // 2] * 4,
    )
    graph = helper.make_graph(
        [node],
        "filter",
        [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info(names[1], TensorProto.FLOAT, ["n", 1, "mh", "mw"])],
        [
            numpy_helper.from_array(kernel[None, None], "kernel"),
            numpy_helper.from_array(np.array([bias], np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    text = meta.to_json() if metadata is None else metadata
    if text:
        helper.set_model_props(model, {METADATA_KEY: text})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def spots(
    shape: tuple[int, int], xy: npt.ArrayLike, *, height: float = 1.0, sigma: float = 1.2
) -> npt.NDArray[np.float32]:
    """A dark frame with Gaussian spots at (N, 2) positions x, y."""
    frame = np.zeros(shape, np.float32)
    for x, y in np.asarray(xy, float).reshape(-1, 2):
        top, left = max(0, round(y) - 8), max(0, round(x) - 8)
        rows, columns = np.mgrid[top : min(shape[0], round(y) + 9), left : min(shape[1], round(x) + 9)]
        spot = height * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
        frame[rows, columns] = np.maximum(frame[rows, columns], spot.astype(np.float32))
    return frame
