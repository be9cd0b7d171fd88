"""What runs a network on prepared frames: ONNX Runtime for everybody, torch for training."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dimpoint.errors import ModelFileError
from dimpoint.model.record import ModelMeta


class Backend(Protocol):
    """A network and the record that says how to feed and read it."""

    meta: ModelMeta

    def run(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, 1, H, W) in network range, H and W multiples of `meta.multiple` -> (N, 1, h, w) raw outputs.

        h = H / `meta.stride`, w = W / `meta.stride`; `meta.activation` is still due.
        """


def open_backend(model: str | Path | None, threads: int | None = None) -> Backend:
    """What runs a model: ONNX Runtime for an ONNX file, torch for safetensors weights.

    model: as `dimpoint.model.files.resolve_model` has it. threads: of the processor; None takes all cores.
    Raises ModelFileError for a model that is not there, cannot be used, or needs torch where there is none.
    """
    from dimpoint.model.files import resolve_model

    path = resolve_model(model)
    if path.suffix.lower() != ".safetensors":
        from dimpoint.inference.onnx_backend import OnnxBackend

        return OnnxBackend(path, threads=threads)
    if find_spec("torch") is None or find_spec("safetensors") is None:
        raise ModelFileError(
            f"{path}: safetensors weights run with PyTorch, which is not installed (pip install "
            f"'dimpoint[train]'); where it is, make a model that runs without it: dimpoint export {path} "
            f"--out {path.with_suffix('.onnx').name}"
        )
    from dimpoint.inference.torch_backend import open_weights

    return open_weights(path, threads)
