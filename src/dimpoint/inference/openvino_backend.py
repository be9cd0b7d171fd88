"""OpenVINO backend for ONNX model files, and the int8 model that `auto` selects."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.errors import MissingExtraError, ModelFileError, one_line
from dimpoint.model.files import sha256_of
from dimpoint.model.onnx_file import read_meta, read_property
from dimpoint.model.record import ModelMeta

INT8_KEY = "dimpoint-int8"  # metadata of an int8 model: its source, and the measured loss of F1


class OpenvinoBackend:
    """An ONNX model file run by OpenVINO, in float32, or in int8 for an int8 model.

    Parameters
    ----------
    path : Path
        The model file.
    threads : int, optional
        Processor threads for one frame. Default: all cores.
    frames : int
        Frames that run in parallel, from as many threads; further calls wait. Default: 1.

    Raises
    ------
    MissingExtraError
        If OpenVINO is not installed.
    ModelFileError
        If OpenVINO cannot run the file.
    """

    device = "openvino"

    def __init__(self, path: Path, threads: int | None = None, frames: int = 1) -> None:
        if find_spec("openvino") is None:
            raise MissingExtraError("device 'openvino'", "openvino", "openvino")
        import openvino

        self.path = path
        self.meta: ModelMeta = read_meta(path)
        # On some processors OpenVINO's default is bfloat16, which changes responses by 0.003.
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        options["ENABLE_CPU_PINNING"] = False  # pinned, several models and programs would share a core
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads * frames
        if frames > 1:
            options["NUM_STREAMS"] = frames
        self._requests: SimpleQueue[Any] = SimpleQueue()  # each serves one frame at a time
        core = openvino.Core()
        try:
            model = core.compile_model(core.read_model(path), "CPU", options)
            for _ in range(frames):
                self._requests.put(model.create_infer_request())
        except Exception as error:  # OpenVINO raises RuntimeError and its own kinds
            raise ModelFileError(f"{path}: OpenVINO cannot load it: {one_line(error)}") from None

    def run(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See `Backend.run`. Raises ModelFileError if the graph cannot take the frames."""
        request = self._requests.get()
        try:
            response: npt.NDArray[np.float32] = np.array(request.infer({0: frames})[0])
        except Exception as error:
            raise ModelFileError(
                f"{self.path}: cannot run on {frames.shape} input: {one_line(error)}"
            ) from None
        finally:
            self._requests.put(request)
        return response


def int8_model(path: Path) -> Path | None:
    """The int8 model that OpenVINO should run in place of a model file.

    Parameters
    ----------
    path : Path
        An ONNX model file.

    Returns
    -------
    Path or None
        `path` if it is int8 itself, or NAME-int8.onnx beside it if it was made from this very file. None
        without such a model, or where int8 is not fast.
    """
    if find_spec("openvino") is None or not computes_int8():
        return None
    if read_property(path, INT8_KEY):
        return path
    beside = path.with_name(f"{path.stem}-int8.onnx")
    if not beside.is_file():
        return None
    made_of = json.loads(read_property(beside, INT8_KEY) or "{}").get("source")
    return beside if made_of == sha256_of(path) else None


def computes_int8() -> bool:
    """Whether the processor has VNNI or AMX instructions; False where that is unknown."""
    try:
        flags = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return False
    return any(name in flags for name in ("avx512_vnni", "avx_vnni", "amx_int8"))
