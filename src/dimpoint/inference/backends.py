"""Backends that run a network on prepared frames: ONNX Runtime, OpenVINO, and PyTorch for weights."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from dimpoint.errors import ConfigError, ModelFileError, one_line
from dimpoint.inference.openvino_backend import OpenvinoBackend, int8_model
from dimpoint.model.files import resolve_model
from dimpoint.model.onnx_file import INPUT, check_kind, import_runtime
from dimpoint.model.record import METADATA_KEY, WHOLE_KEY, ModelMeta, parse_meta

if TYPE_CHECKING:
    from torch import nn

_QUIET = 4  # ONNX Runtime logs fatal messages only; failures are raised as errors
_PROVIDERS = {  # device -> ONNX Runtime's execution provider, and the package that contains it
    "cpu": ("CPUExecutionProvider", "onnxruntime"),
    "cuda": ("CUDAExecutionProvider", "onnxruntime-gpu"),
    "tensorrt": ("TensorrtExecutionProvider", "onnxruntime-gpu"),
    "directml": ("DmlExecutionProvider", "onnxruntime-directml"),
    "coreml": ("CoreMLExecutionProvider", "onnxruntime"),
}


PROCESSORS = ("cpu", "openvino")  # devices on which frames run in parallel, one thread each
DEVICES = ("auto", *_PROVIDERS, "openvino")


class Backend(Protocol):
    """A network and its record.

    Attributes
    ----------
    meta : ModelMeta
        The record, which states how to prepare frames and how to decode maps.
    device : str, optional
        The device that runs it, one of `DEVICES`.
    """

    meta: ModelMeta

    def run(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Run the network.

        Parameters
        ----------
        frames : (N, 1, H, W) float32 array
            In network range; H and W are multiples of `meta.multiple`.

        Returns
        -------
        (N, 1, H / stride, W / stride) float32 array
            Raw outputs, to which `meta.activation` is still to be applied.
        """


def open_backend(
    model: str | Path | None, threads: int | None = None, device: str = "cpu", frames: int = 1
) -> Backend:
    """Open a model: ONNX Runtime or OpenVINO for an ONNX file, PyTorch for safetensors weights.

    Parameters
    ----------
    model : str, Path or None
        As in `dimpoint.model.files.resolve_model`.
    threads : int, optional
        Processor threads for one frame. Default: all cores.
    device : {"cpu", "cuda", "tensorrt", "directml", "openvino", "coreml", "auto"}
        `auto` selects a GPU if ONNX Runtime finds one, else OpenVINO with the int8 model of the file if the
        processor supports int8, else `cpu`; the backend's `device` states which. Default: `cpu`.
    frames : int
        Largest number of simultaneous calls of `run`, from as many threads. Default: 1.

    Returns
    -------
    Backend

    Raises
    ------
    ModelFileError
        If the model does not exist, cannot be used, or needs PyTorch, which is not installed.
    ConfigError
        If the device is not available; the message names the package to install.
    """
    check_device(device)
    path = resolve_model(model)
    if path.suffix.lower() == ".safetensors":
        if find_spec("torch") is None or find_spec("safetensors") is None:
            raise ModelFileError(
                f"{path}: safetensors weights run with PyTorch, which is not installed (pip install "
                f"'dimpoint[train]'); a machine that has it can convert them: dimpoint export {path} "
                f"--out {path.with_suffix('.onnx').name}"
            )
        return _open_weights(path, threads, device)
    if device == "openvino":
        return OpenvinoBackend(path, threads, frames)
    providers = _providers(device)
    backend = OnnxBackend(path, threads=threads, providers=providers)
    if device == "auto" and backend.device == "cpu" and (int8 := int8_model(path)):
        return OpenvinoBackend(int8, threads, frames)
    if device not in ("auto", backend.device):
        raise ConfigError(
            f"device '{device}': ONNX Runtime cannot start {providers[0]} (a driver or a library is missing, "
            "or there is no such device); use device='cpu'"
        )
    return backend


def check_device(device: str) -> None:
    """Raise ConfigError unless `device` is one of `DEVICES`."""
    if device not in DEVICES:
        raise ConfigError(f"unknown device '{device}'; choose from {', '.join(DEVICES)}")


def _providers(device: str) -> list[str]:
    """ONNX Runtime's execution providers for a device, followed by the processor."""
    cpu = _PROVIDERS["cpu"][0]
    if device == "cpu":
        return [cpu]
    there = import_runtime().get_available_providers()
    if device == "auto":
        known = [name for key in ("cuda", "directml", "coreml") if (name := _PROVIDERS[key][0]) in there]
        return [*known, cpu]
    name, package = _PROVIDERS[device]
    if name not in there:
        raise ConfigError(
            f"device '{device}': the installed ONNX Runtime has no {name}; pip uninstall onnxruntime, then "
            f"pip install {package}; or use device='cpu'"
        )
    return [name, cpu]


class OnnxBackend:
    """An ONNX model file run by ONNX Runtime.

    The graph has one input `frame`, (N, 1, H, W) float32, and an output (N, 1, H / stride, W / stride), named
    by the record's kind, `response` or `probability`. Mean, standard deviation and the repetition of channels
    are inside the graph.

    Parameters
    ----------
    path : Path
        The model file.
    threads : int, optional
        Processor threads. Default: all cores.
    providers : sequence of str
        ONNX Runtime's execution providers, preferred first. Default: the processor.

    Raises
    ------
    ModelFileError
        If the file is not a dimpoint model, or is newer than this version.
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
        try:
            properties = self._session.get_modelmeta().custom_metadata_map
        except UnicodeDecodeError:
            raise ModelFileError(f"{path}: its metadata is not UTF-8; the file is damaged") from None
        if WHOLE_KEY in properties:
            raise ModelFileError(
                f"{path}: written by dimpoint export --whole, which ONNX Runtime runs without dimpoint; give "
                "the model that it was made from"
            )
        self.meta: ModelMeta = parse_meta(properties.get(METADATA_KEY), str(path))
        taken = self._session.get_providers()[0]
        self.device = next((key for key, (name, _) in _PROVIDERS.items() if name == taken), "cpu")
        _check_graph(path, self._session, self.meta.kind)

    def run(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See `Backend.run`. Raises ModelFileError if the graph cannot take the frames."""
        try:
            outputs = self._session.run([self.meta.kind], {INPUT: frames})
        except Exception as error:  # the runtime's exceptions have no common base
            raise ModelFileError(
                f"{self.path}: cannot run on {frames.shape} input: {one_line(error)}"
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
        raise ModelFileError(
            f"{path}: not an ONNX model that ONNX Runtime can load: {one_line(error)}"
        ) from None


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


def computes_bfloat16(device: str) -> bool:
    """Whether the hardware of a device, `cpu` or `cuda`, computes in bfloat16."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def _open_weights(path: Path, threads: int | None, device: str) -> TorchBackend:
    """Open a safetensors model file with PyTorch.

    device: cpu, cuda, or auto for cuda where available. Raises ModelFileError as `load_model` does, and
    ConfigError if the device is not available.
    """
    import torch

    from dimpoint.model.checkpoint import load_model

    if device not in ("cpu", "auto", "cuda"):
        raise ConfigError(f"{path}: safetensors weights run on cpu or cuda, not on {device}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda': PyTorch finds no such device; use device='cpu'")
    network, meta = load_model(path)
    if threads:
        torch.set_num_threads(threads)
    if device != "cpu" and torch.cuda.is_available():
        network = network.to("cuda")
    return TorchBackend(network, meta, path)


class TorchBackend:
    """A PyTorch network, run on the device of its parameters.

    Parameters
    ----------
    network : nn.Module
        The network.
    meta : ModelMeta
        Its record.
    path : Path, optional
        Its file.
    """

    def __init__(self, network: nn.Module, meta: ModelMeta, path: Path | None = None) -> None:
        self.network = network
        self.meta = meta
        self.path = path
        self.device: str = next(network.parameters()).device.type

    def run(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See `Backend.run`."""
        import torch

        from dimpoint.networks.base import standardise

        device = next(self.network.parameters()).device
        inputs = torch.from_numpy(frames).to(device)
        with torch.inference_mode():
            outputs = self.network(standardise(inputs, self.meta.mean, self.meta.std))
        result: npt.NDArray[Any] = outputs.float().cpu().numpy()
        return result
