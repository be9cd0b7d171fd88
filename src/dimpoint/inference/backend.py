"""What runs a network on prepared frames: ONNX Runtime for everybody, torch for training."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dimpoint.errors import ConfigError, ModelFileError
from dimpoint.model.onnx_file import import_runtime
from dimpoint.model.record import ModelMeta


class Backend(Protocol):
    """A network and the record that says how to feed and read it."""

    meta: ModelMeta

    def run(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, 1, H, W) in network range, H and W multiples of `meta.multiple` -> (N, 1, h, w) raw outputs.

        h = H / `meta.stride`, w = W / `meta.stride`; `meta.activation` is still due.
        """


_PROVIDERS = {  # device -> ONNX Runtime's name of it, and the package that brings it
    "cpu": ("CPUExecutionProvider", "onnxruntime"),
    "cuda": ("CUDAExecutionProvider", "onnxruntime-gpu"),
    "directml": ("DmlExecutionProvider", "onnxruntime-directml"),
    "openvino": ("OpenVINOExecutionProvider", "onnxruntime-openvino"),
    "coreml": ("CoreMLExecutionProvider", "onnxruntime"),
}


def open_backend(model: str | Path | None, threads: int | None = None, device: str = "cpu") -> Backend:
    """What runs a model: ONNX Runtime for an ONNX file, torch for safetensors weights.

    model: as `dimpoint.model.files.resolve_model` has it. threads: of the processor; None takes all cores.
    device: `cpu`, `cuda`, `directml`, `openvino`, `coreml`, or `auto` for the fastest that is there.
    Raises ModelFileError for a model that is not there, cannot be used, or needs torch where there is none,
    ConfigError for a device that is not there, with the package to install.
    """
    from dimpoint.model.files import resolve_model

    if device != "auto" and device not in _PROVIDERS:
        raise ConfigError(f"device '{device}' is not known; choose from auto, {', '.join(_PROVIDERS)}")
    path = resolve_model(model)
    if path.suffix.lower() != ".safetensors":
        from dimpoint.inference.onnx_backend import OnnxBackend

        return OnnxBackend(path, threads=threads, providers=_providers(device))
    if find_spec("torch") is None or find_spec("safetensors") is None:
        raise ModelFileError(
            f"{path}: safetensors weights run with PyTorch, which is not installed (pip install "
            f"'dimpoint[train]'); where it is, make a model that runs without it: dimpoint export {path} "
            f"--out {path.with_suffix('.onnx').name}"
        )
    from dimpoint.inference.torch_backend import open_weights

    return open_weights(path, threads, device)


def _providers(device: str) -> list[str]:
    """ONNX Runtime's execution providers for a device, the processor behind it."""
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
            f"pip install {package}; or take device='cpu'"
        )
    return [name, cpu]
