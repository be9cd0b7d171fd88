"""A torch network as a backend of the `Detector`: validation in training runs what users will run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dimpoint.errors import ConfigError
from dimpoint.model.checkpoint import load_model
from dimpoint.model.record import ModelMeta
from dimpoint.networks.base import standardise


def computes_bfloat16(device: str) -> bool:
    """Whether the hardware behind a device type, `cpu` or `cuda`, computes in bfloat16 itself."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def open_weights(path: Path, threads: int | None = None, device: str = "cpu") -> TorchBackend:
    """A safetensors model file. threads: of all torch work; None leaves it as it is.

    device: cpu, cuda, or auto for cuda where there is one.
    Raises ModelFileError as `load_model` does, ConfigError for a device that is not there.
    """
    if device not in ("cpu", "auto", "cuda"):
        raise ConfigError(f"{path}: safetensors weights run on cpu or cuda, not on {device}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda': PyTorch finds no such device here; take device='cpu'")
    network, meta = load_model(path)
    if threads:
        torch.set_num_threads(threads)
    if device != "cpu" and torch.cuda.is_available():
        network = network.to("cuda")
    return TorchBackend(network, meta, path)


class TorchBackend:
    """Runs a network where its parameters are; see `dimpoint.inference.backend`."""

    def __init__(self, network: nn.Module, meta: ModelMeta, path: Path | None = None) -> None:
        self.network = network
        self.meta = meta
        self.path = path

    def run(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, 1, H, W) float32 in network range -> (N, 1, H / stride, W / stride) raw outputs."""
        device = next(self.network.parameters()).device
        inputs = torch.from_numpy(frames).to(device)
        with torch.inference_mode():
            outputs = self.network(standardise(inputs, self.meta.mean, self.meta.std))
        result: npt.NDArray[Any] = outputs.float().cpu().numpy()
        return result
