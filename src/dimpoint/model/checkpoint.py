"""Model files for training: safetensors weights with the model's record.

Nothing is unpickled, except published checkpoints by PyTorch's loader for weights only.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

import dimpoint
from dimpoint.atomic import replacing
from dimpoint.errors import ConfigError, ModelFileError
from dimpoint.model.imports import fingerprint, source
from dimpoint.model.input_rule import InputRule
from dimpoint.model.onnx_file import is_pickle
from dimpoint.model.record import METADATA_KEY, ModelMeta, parse_meta
from dimpoint.networks import Network, create
from dimpoint.networks.base import count_parameters

_PICKLE_SUFFIXES = (".pt", ".pth", ".ckpt", ".tar", ".pkl")
_MOST_NAMES = 5  # tensors named in an error


def stamped(network: nn.Module, meta: ModelMeta) -> ModelMeta:
    """The record with package version and number of parameters, which are known on writing."""
    known = {"package_version": dimpoint.__version__, "parameters": count_parameters(network)}
    return meta.model_copy(update=known)


def save_model(path: Path, network: nn.Module, meta: ModelMeta, *, half: bool = False) -> None:
    """Write a network's weights and record as safetensors, atomically.

    Parameters
    ----------
    path : Path
        The file.
    network : nn.Module
        The network.
    meta : ModelMeta
        Its record.
    half : bool
        Store kernels and matrices in float16, which halves the size; biases and batch statistics stay
        float32. Default: False.

    Raises
    ------
    DimpointError
        If the file cannot be written.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    if half:
        state = {name: tensor.half() if tensor.ndim > 1 else tensor for name, tensor in state.items()}
    content = safetensors.torch.save(state, {METADATA_KEY: stamped(network, meta).to_json()})
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def save_tensors(content: object, path: Path) -> None:
    """`torch.save`, but with OSError if the disk is full, like other writers."""
    try:
        torch.save(content, path)
    except RuntimeError as error:  # torch's writer hides the system's error
        raise OSError(errno.ENOSPC, "the file could not be written completely; is the disk full?") from error


def load_model(path: Path) -> tuple[Network, ModelMeta]:
    """Load a safetensors model file.

    A network given as `module:Class` is imported only for a file in a training run's folder, or if that
    module is already loaded: a model file alone does not decide which code runs.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    network : Network
        In evaluation mode.
    meta : ModelMeta
        Its record.

    Raises
    ------
    ModelFileError
        If the file is missing, not a dimpoint model, from a newer version, a pickle, or lacks tensors.
    """
    _refuse_pickle(path)
    tensors, metadata = _read_safetensors(path)
    meta = parse_meta(metadata.get(METADATA_KEY), str(path))
    _refuse_foreign_code(meta.network, path)
    try:
        network = create(meta.network, **meta.options)
    except ConfigError as error:
        raise ModelFileError(f"{path}: {error}") from None
    _fill(network, tensors, path)
    return network, meta


def _refuse_foreign_code(network: str, path: Path) -> None:
    module = network.partition(":")[0]
    if ":" in network and module not in sys.modules and not (path.parent / "run.json").is_file():
        raise ModelFileError(
            f"{path}: its network {network} is not part of dimpoint; import {module} in Python first, or "
            "name the training run's folder"
        )


def import_model(
    network: str, path: Path, *, scale: int | None = None, fit: tuple[int, int] | None = None
) -> tuple[Network, ModelMeta]:
    """Load a checkpoint published by a network's authors.

    Parameters
    ----------
    network : str
        Name of the network, such as `spire`.
    path : Path
        A PyTorch checkpoint, read with `weights_only=True` so that no code in it runs, or the same tensors as
        safetensors.
    scale : {1, 2}, optional
        Magnify frames by this factor instead of fitting them.
    fit : tuple of int, optional
        Width and height that frames are fitted into. Default, without `scale`: as these weights were trained
        if they are known, else as the authors do.

    Returns
    -------
    network : Network
        With the weights, in evaluation mode.
    meta : ModelMeta
        A record for it.

    Raises
    ------
    ConfigError
        If the network cannot be imported.
    ModelFileError
        If the file does not fit it.
    """
    origin = source(network)
    if path.suffix == ".safetensors":
        _refuse_pickle(path)
        tensors, metadata = _read_safetensors(path)
        if METADATA_KEY in metadata:
            raise ModelFileError(
                f"{path}: a dimpoint model already; use dimpoint export {path} --out model.onnx"
            )
    else:
        tensors = _read_checkpoint(path, origin.state)
    built = create(network)
    _fill(built, origin.rename(tensors), path)
    fields = {"name": _model_name(path), "network": network, **traits(built), **origin.meta}
    rule: InputRule = fields.get("input", InputRule())
    if scale is not None:
        seen: dict[str, Any] = {"fit": None, "scale": scale}
    else:
        seen = {"fit": fit or origin.sizes.get(fingerprint(tensors), rule.fit)}
    fields["input"] = InputRule.model_validate({**rule.model_dump(), **seen})
    meta = ModelMeta.model_validate(fields)
    return built, stamped(built, meta)


def traits(network: Network) -> dict[str, Any]:
    """The fields of a record that the network itself determines."""
    return {
        "kind": network.kind,
        "activation": network.activation,
        "channels": network.channels,
        "mean": list(network.mean),
        "std": list(network.std),
        "stride": network.stride,
        "multiple": network.multiple,
        "receptive_radius": network.receptive_radius,
    }


def _model_name(path: Path) -> str:
    """A file's name without the suffixes of its type: `a-0.5.pth.tar` -> `a-0.5`."""
    while path.suffix in (*_PICKLE_SUFFIXES, ".safetensors"):
        path = path.with_suffix("")
    return path.name


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a dict
            return tensors, file.metadata() or {}
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror or error})") from None
    except safetensors.SafetensorError as error:
        raise ModelFileError(f"{path}: not a safetensors file, or a damaged one ({error})") from None


def _refuse_pickle(path: Path) -> None:
    """Raise ModelFileError for anything that may be a pickle, by its name and first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror})") from None
    if is_pickle(head) or path.suffix in _PICKLE_SUFFIXES:
        raise ModelFileError(
            f"{path}: a PyTorch checkpoint or pickle, which is never opened as a model because it could run "
            "code; give a .safetensors model, or convert a published checkpoint with dimpoint import"
        )


def _read_checkpoint(path: Path, key: str) -> dict[str, Tensor]:
    """The tensors under `key` of a PyTorch checkpoint; anything but plain weights is refused."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception:  # damaged files raise errors of many kinds
        raise ModelFileError(
            f"{path}: refused: not a PyTorch checkpoint, or it contains more than weights (no code was run)"
        ) from None
    state = content.get(key) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelFileError(f"{path}: a checkpoint with weights under the key '{key}' was expected")
    return dict(state)


def _fill(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load the weights. Raises ModelFileError that names missing, unexpected and misshapen tensors."""
    wanted = network.state_dict()
    wrong_shape = [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in wanted.keys() & tensors.keys()
        if tensors[name].shape != wanted[name].shape
    ]
    problems = {
        "missing": wanted.keys() - tensors.keys(),
        "unexpected": tensors.keys() - wanted.keys(),
        "of another shape": wrong_shape,
    }
    lines = [f"{what}: {_some(found)}" for what, found in problems.items() if found]
    if lines:
        raise ModelFileError(f"{path}: the weights do not fit the network; tensors {'; '.join(lines)}")
    network.load_state_dict(dict(tensors))
    network.eval()


def _some(found: Iterable[str]) -> str:
    listed = sorted(found)
    more = f" and {len(listed) - _MOST_NAMES} more" if len(listed) > _MOST_NAMES else ""
    return ", ".join(listed[:_MOST_NAMES]) + more
