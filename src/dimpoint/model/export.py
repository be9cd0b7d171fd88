"""Export of networks as ONNX model files."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dimpoint.atomic import replacing
from dimpoint.errors import ModelFileError
from dimpoint.model.checkpoint import stamped
from dimpoint.model.input_rule import round_up
from dimpoint.model.onnx_file import INPUT, import_runtime
from dimpoint.model.record import METADATA_KEY, ModelMeta
from dimpoint.networks.base import standardise

TOLERANCE = 1e-4  # largest difference of a response between torch and ONNX Runtime
_OPSET = 18
_SIZES = ((1, 256, 256), (2, 192, 320), (1, 512, 640))  # batch, height, width of the comparison


class ExportError(ModelFileError):
    """The ONNX graph does not compute what the network computes."""


class _Runtime(nn.Module):
    """The exported module: frames in network range in, final responses out."""

    def __init__(self, network: nn.Module, meta: ModelMeta) -> None:
        super().__init__()
        self.network = network
        self.mean, self.std = meta.mean, meta.std
        self.sigmoid = meta.activation == "sigmoid"

    def forward(self, frame: Tensor) -> Tensor:
        """(N, 1, H, W) -> (N, 1, H / stride, W / stride)."""
        output: Tensor = self.network(standardise(frame, self.mean, self.std))
        return output.sigmoid() if self.sigmoid else output


def export_onnx(network: nn.Module, meta: ModelMeta, path: Path) -> None:
    """Write a network and its record as an ONNX model file, atomically.

    The graph takes `frame`, (N, 1, H, W) float32 in network range, with any N and any multiples of
    `meta.multiple` as H and W, and returns `response` or `probability`, as `meta.kind` says. Repetition of
    channels, standardisation and the sigmoid are inside the graph.

    Parameters
    ----------
    network : nn.Module
        The network; a copy is exported.
    meta : ModelMeta
        Its record.
    path : Path
        The file to write.

    Raises
    ------
    ExportError
        If PyTorch and ONNX Runtime differ by more than 1e-4 at one of three sizes.
    DimpointError
        If the file cannot be written.
    """
    if not len(meta.mean) == len(meta.std) == meta.channels:
        raise ExportError(
            f"{path}: not written: mean and std need a value for each of {meta.channels} channels"
        )
    module = _Runtime(copy.deepcopy(network).cpu().float(), meta).eval()
    module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    model = _graph(module, meta)
    record = stamped(network, meta).model_copy(update={"activation": "none"})
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, record.to_json()
    content: bytes = model.SerializeToString(deterministic=True)
    _check(content, module, meta, path)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _graph(module: _Runtime, meta: ModelMeta) -> Any:
    """The ONNX model, with batch normalisation folded into convolutions."""
    batch, height, width = (torch.export.Dim(name, min=1) for name in ("N", "h", "w"))
    step = meta.multiple
    shape = {0: batch, 2: step * height, 3: step * width}
    with _quiet():
        program = torch.onnx.export(
            module,
            (torch.zeros(2, 1, 6 * step, 8 * step),),
            dynamo=True,
            input_names=[INPUT],
            output_names=[meta.kind],
            dynamic_shapes={"frame": shape},
            opset_version=_OPSET,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip(model)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's messages."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _strip(model: Any) -> None:
    """Remove notes, which contain traces of the exporting code, and name the free dimensions."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    del graph.value_info[:]
    for value, names in ((graph.input[0], "NCHW"), (graph.output[0], "Nchw")):
        for dimension, name in zip(value.type.tensor_type.shape.dim, names, strict=True):
            if not dimension.HasField("dim_value"):
                dimension.dim_param = name


def _check(content: bytes, module: _Runtime, meta: ModelMeta, path: Path) -> None:
    """Raise ExportError unless ONNX Runtime returns what PyTorch returns."""
    onnxruntime = import_runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    for batch, height, width in _SIZES:
        shape = batch, 1, *(round_up(size, meta.multiple) for size in (height, width))
        frames = generator.random(shape, np.float32)
        with torch.inference_mode():
            expected = module(torch.from_numpy(frames)).numpy()
        (got,) = session.run(None, {INPUT: frames})
        difference = float(np.abs(got - expected).max()) if got.shape == expected.shape else float("nan")
        if not difference <= TOLERANCE:
            raise ExportError(
                f"{path}: not written: torch and ONNX Runtime differ by {difference:.2g} at {shape}, "
                f"more than {TOLERANCE:g} (output shapes {expected.shape} and {got.shape})"
            )
