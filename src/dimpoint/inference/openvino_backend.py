"""OpenVINO backend for ONNX model files, and the int8 model that `auto` selects."""

from __future__ import annotations

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dimpoint.errors import MissingExtraError, ModelFileError, one_line
from dimpoint.model.files import sha256_of
from dimpoint.model.input_rule import round_up
from dimpoint.model.onnx_file import read_meta, read_property
from dimpoint.model.record import ModelMeta

INT8_KEY = "dimpoint-int8"  # metadata of an int8 model: its source, and the measured loss of F1


_FIRST = Lock()
_Shape: TypeAlias = tuple[int, ...]
_MOST_SHAPES = 16  # that a graph is compiled for; each takes memory
# Heights and widths of cameras and data sets, pixels. The list is fixed, because responses to a frame must
# not depend on the frames before it.
_SIDES = (
    *(
        120,
        128,
        160,
        192,
        200,
        240,
        256,
        288,
        320,
        336,
        348,
        384,
        464,
        480,
        512,
        576,
        600,
        640,
        720,
        768,
        800,
    ),
    *(960, 1024, 1080, 1200, 1280, 1536, 1600, 1920, 2048),
)


class OpenvinoBackend:
    """An ONNX model file run by OpenVINO, in float32, or in int8 for an int8 model.

    The graph is compiled for any shape, and once more for each usual shape when its first frame comes, which
    takes about 0.25 s and runs faster. In float32 the responses are the same; in int8 they differ by up to
    0.005, where another order of sums rounds to another step.

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
        with _FIRST:  # OpenVINO deadlocks where two threads convert their first array at the same time
            openvino.Tensor(np.zeros(1, np.float32)).data.sum()
            self._core = _core()
        # On some processors OpenVINO's default is bfloat16, which changes responses by 0.003.
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        options["ENABLE_CPU_PINNING"] = False  # pinned, several models and programs would share a core
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads * frames
        if frames > 1:
            options["NUM_STREAMS"] = frames
        self._frames, self._options = frames, options
        multiple = self.meta.multiple
        self._sides = {round_up(side * scale, multiple) for side in _SIDES for scale in (1, 2)}
        self._lock = Lock()
        self._fixed: dict[_Shape, SimpleQueue[Any]] = {}
        try:
            self._graph = self._core.read_model(path)
            self._requests = self._compiled(self._graph)
        except Exception as error:  # OpenVINO raises RuntimeError and its own kinds
            raise ModelFileError(f"{path}: OpenVINO cannot load it: {one_line(error)}") from None

    def run(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See `Backend.run`. Raises ModelFileError if the graph cannot take the frames."""
        requests = self._requests_for(frames.shape)
        request = requests.get()
        try:
            found = request.infer({0: frames}, share_inputs=True, share_outputs=True)
            response: npt.NDArray[np.float32] = np.array(found[0])  # the next run writes to the same memory
        except Exception as error:
            raise ModelFileError(
                f"{self.path}: cannot run on {frames.shape} input: {one_line(error)}"
            ) from None
        finally:
            requests.put(request)
        return response

    def _requests_for(self, shape: _Shape) -> SimpleQueue[Any]:
        """Requests for frames of a shape; compiles the graph for a usual shape that is new."""
        if not self._sides.issuperset(shape[2:]):
            return self._requests
        with self._lock:
            if shape not in self._fixed and len(self._fixed) < _MOST_SHAPES:
                graph = self._graph.clone()
                try:
                    graph.reshape(list(shape))
                    self._fixed[shape] = self._compiled(graph)
                except Exception:  # the graph for any shape goes on
                    self._fixed[shape] = self._requests
            return self._fixed.get(shape, self._requests)

    def _compiled(self, graph: Any) -> SimpleQueue[Any]:
        """Requests of a compiled graph; each serves one frame at a time."""
        model = self._core.compile_model(graph, "CPU", self._options)
        requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self._frames):
            requests.put(model.create_infer_request())
        return requests


@cache
def _core() -> Any:
    """OpenVINO's core, one for the process.

    Each core sets up a stack for signal handlers. If the older of two cores goes first, a stack that has been
    freed is set up again, and the next signal, such as Ctrl-C, kills the process.
    """
    import openvino

    return openvino.Core()


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
