"""ONNX model files, run by OpenVINO; and the int8 twin that `auto` takes."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.errors import MissingExtraError, ModelFileError
from dimpoint.model.onnx_file import read_meta, read_property
from dimpoint.model.record import ModelMeta

INT8_KEY = "dimpoint-int8"  # metadata of an int8 model: the model that it was made of, and its measured loss


class OpenvinoBackend:
    """A model file in float32, or in int8 where the file says so; see `dimpoint.inference.backends.Backend`.

    threads: of the processor; None takes all cores.
    Raises MissingExtraError without OpenVINO, ModelFileError for a file that it cannot run.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        if find_spec("openvino") is None:
            raise MissingExtraError("device 'openvino'", "openvino", "openvino")
        import openvino

        self.path = path
        self.meta: ModelMeta = read_meta(path)
        # On some processors OpenVINO would compute in bfloat16, which changes responses by 0.003.
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        core = openvino.Core()
        try:
            self._request = core.compile_model(core.read_model(path), "CPU", options).create_infer_request()
        except Exception as error:  # OpenVINO raises RuntimeError and its own kinds
            raise ModelFileError(f"{path}: OpenVINO cannot run it: {_brief(error)}") from None

    def run(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See `Backend`; raises ModelFileError if the graph cannot take the frames."""
        try:
            outputs = self._request.infer({0: frames})
        except Exception as error:
            raise ModelFileError(
                f"{self.path}: cannot run on {frames.shape} input: {_brief(error)}"
            ) from None
        response: npt.NDArray[np.float32] = np.array(outputs[0])
        return response


def int8_twin(path: Path) -> Path | None:
    """NAME.int8.onnx beside a model file, if it was made of it and is fast on this processor."""
    twin = path.with_name(f"{path.stem}.int8.onnx")
    if not twin.is_file() or find_spec("openvino") is None or not _computes_int8():
        return None
    made_of = json.loads(read_property(twin, INT8_KEY) or "{}").get("source")
    return twin if made_of == hashlib.sha256(path.read_bytes()).hexdigest() else None


def _computes_int8() -> bool:
    """Whether the processor has VNNI or AMX instructions; False where that is not known."""
    try:
        flags = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return False
    return any(name in flags for name in ("avx512_vnni", "avx_vnni", "amx_int8"))


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
