"""ONNX model files, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.errors import ModelFileError
from dimpoint.model.onnx_file import INPUT, check_kind, import_runtime
from dimpoint.model.record import METADATA_KEY, ModelMeta, parse_meta

_QUIET = 4  # ONNX Runtime's log: only what is fatal, since its failures are raised and told once


class OnnxBackend:
    """A model file: input `frame` (N, 1, H, W) float32, output (N, 1, H / stride, W / stride).

    The output is named by the record's kind, `response` or `probability`. Mean, standard deviation and
    the repetition of channels are inside the graph. threads: of the processor; None takes all cores.
    providers: ONNX Runtime execution providers, the preferred first.
    Raises ModelFileError if the file is no dimpoint model or is newer than this version.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        self.path = path
        self._session = _open_session(path, threads, providers)
        properties = self._session.get_modelmeta().custom_metadata_map
        self.meta: ModelMeta = parse_meta(properties.get(METADATA_KEY), str(path))
        _check_graph(path, self._session, self.meta.kind)

    def run(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See `Backend`; raises ModelFileError if the graph cannot take the frames."""
        try:
            outputs = self._session.run([self.meta.kind], {INPUT: frames})
        except Exception as error:  # the runtime's exceptions have no common base
            raise ModelFileError(
                f"{self.path}: cannot run on {frames.shape} input: {_brief(error)}"
            ) from None
        response: npt.NDArray[np.float32] = outputs[0]
        return response


def _open_session(path: Path, threads: int | None, providers: Sequence[str]) -> Any:
    check_kind(path)
    onnxruntime = import_runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = _QUIET
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:  # the runtime's exceptions have no common base
        raise ModelFileError(f"{path}: not an ONNX model that can be run: {_brief(error)}") from None


def _check_graph(path: Path, session: Any, output: str) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    names = [value.name for value in inputs], [value.name for value in outputs]
    if names[0] != [INPUT] or output not in names[1]:
        raise ModelFileError(
            f"{path}: a dimpoint model has one input '{INPUT}' and an output '{output}', "
            f"this one has {names[0]} and {names[1]}"
        )
    if inputs[0].type != "tensor(float)":
        raise ModelFileError(f"{path}: input '{INPUT}' must be tensor(float), it is {inputs[0].type}")


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
