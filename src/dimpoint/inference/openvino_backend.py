"""ONNX model files, run by OpenVINO; and the int8 model that `auto` takes."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.errors import MissingExtraError, ModelFileError
from dimpoint.model.onnx_file import read_meta, read_property
from dimpoint.model.record import ModelMeta

INT8_KEY = "dimpoint-int8"  # metadata of an int8 model: the model that it was made of, and its measured loss


class OpenvinoBackend:
    """A model file in float32, or in int8 where the file says so; see `dimpoint.inference.backends.Backend`.

    threads: of the processor for a frame; None takes all cores. frames: that run side by side, from as many
    threads of the program; more than these wait.
    Raises MissingExtraError without OpenVINO, ModelFileError for a file that it cannot run.
    """

    device = "openvino"

    def __init__(self, path: Path, threads: int | None = None, frames: int = 1) -> None:
        if find_spec("openvino") is None:
            raise MissingExtraError("device 'openvino'", "openvino", "openvino")
        import openvino

        self.path = path
        self.meta: ModelMeta = read_meta(path)
        # On some processors OpenVINO would compute in bfloat16, which changes responses by 0.003.
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        options["ENABLE_CPU_PINNING"] = False  # several models and programs would wait for the same core
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads * frames
        if frames > 1:
            options["NUM_STREAMS"] = frames
        self._requests: SimpleQueue[Any] = SimpleQueue()  # each for one frame at a time
        core = openvino.Core()
        try:
            model = core.compile_model(core.read_model(path), "CPU", options)
            for _ in range(frames):
                self._requests.put(model.create_infer_request())
        except Exception as error:  # OpenVINO raises RuntimeError and its own kinds
            raise ModelFileError(f"{path}: OpenVINO cannot run it: {_brief(error)}") from None

    def run(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See `Backend`; raises ModelFileError if the graph cannot take the frames."""
        request = self._requests.get()
        try:
            response: npt.NDArray[np.float32] = np.array(request.infer({0: frames})[0])
        except Exception as error:
            raise ModelFileError(
                f"{self.path}: cannot run on {frames.shape} input: {_brief(error)}"
            ) from None
        finally:
            self._requests.put(request)
        return response


def int8_model(path: Path) -> Path | None:
    """The int8 model to run with OpenVINO in place of a model file, None where there is none or it is slow.

    A file that is int8 itself, or NAME-int8.onnx beside it if that was made of this very file.
    """
    if find_spec("openvino") is None or not computes_int8():
        return None
    if read_property(path, INT8_KEY):
        return path
    beside = path.with_name(f"{path.stem}-int8.onnx")
    if not beside.is_file():
        return None
    made_of = json.loads(read_property(beside, INT8_KEY) or "{}").get("source")
    return beside if made_of == hashlib.sha256(path.read_bytes()).hexdigest() else None


def computes_int8() -> bool:
    """Whether the processor has VNNI or AMX instructions; False where that is not known."""
    try:
        flags = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return False
    return any(name in flags for name in ("avx512_vnni", "avx_vnni", "amx_int8"))


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
