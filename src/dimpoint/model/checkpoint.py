"""Model files for training: safetensors weights with the model's record.

Nothing is unpickled here, except somebody else's checkpoint by torch's loader for weights alone.
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
_MOST_NAMES = 5  # tensors that an error names


def stamped(network: nn.Module, meta: ModelMeta) -> ModelMeta:
    """The record with what is known when a model file is written: package version and parameters."""
    known = {"package_version": dimpoint.__version__, "parameters": count_parameters(network)}
    return meta.model_copy(update=known)


def save_model(path: Path, network: nn.Module, meta: ModelMeta, *, half: bool = False) -> None:
    """Write a network's weights and record as safetensors, whole or not at all.

    half: kernels and matrices in float16, for half the size; biases and batch statistics keep float32.
    Raises DimpointError, naming the file, where it cannot be written.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    if half:
        state = {name: tensor.half() if tensor.ndim > 1 else tensor for name, tensor in state.items()}
    content = safetensors.torch.save(state, {METADATA_KEY: stamped(network, meta).to_json()})
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def save_tensors(content: object, path: Path) -> None:
    """`torch.save`, which raises OSError where the disk is full, as other writers do."""
    try:
        torch.save(content, path)
    except RuntimeError as error:  # torch's own writer knows no system errors
        raise OSError(errno.ENOSPC, "the file could not be written whole; is the disk full?") from error


def load_model(path: Path) -> tuple[Network, ModelMeta]:
    """The network, with its weights and in evaluation mode, and the record of a safetensors model file.

    A network of `module:Class` is imported only for a file in a training run's folder, or where that module
    is loaded already: a model file alone does not choose what code runs.
    Raises ModelFileError for a file that is missing, is no dimpoint model, is from a newer version, is a
    pickle, or lacks tensors that the network needs.
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
            f"{path}: its network is {network}, code that this file does not bring; import {module} in "
            "Python first, or name the training run's folder"
        )


def import_model(
    network: str, path: Path, *, scale: int | None = None, fit: tuple[int, int] | None = None
) -> tuple[Network, ModelMeta]:
    """A network with the weights of a checkpoint by its authors, and a record for it.

    path: a PyTorch checkpoint, read by `torch.load(weights_only=True)` so that no code in it runs, or the
    same tensors as safetensors. scale: magnification of frames in use, 1 or 2, instead of fitting them. fit:
    width and height that frames are fitted into in use. Without both, as the weights were trained, where
    they are known, else as the network's authors do.
    Raises ConfigError for a network that cannot be imported, ModelFileError for a file that does not fit.
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
    """The fields of a record that the network itself decides."""
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
    """A file's name without what says its type: `a-0.5.pth.tar` -> `a-0.5`."""
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
    """Raise ModelFileError for what is or may be a pickle, by its name and by its first bytes."""
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
    """The tensors under `key` of a PyTorch checkpoint; anything but plain weights is refused unrun."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception:  # damaged bytes lead the unpickler to errors of every kind
        raise ModelFileError(
            f"{path}: refused: no PyTorch checkpoint, or one with more than weights in it (none was run)"
        ) from None
    state = content.get(key) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelFileError(f"{path}: a checkpoint with weights under the key '{key}' was expected")
    return dict(state)


def _fill(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load the weights; raises ModelFileError that names tensors that lack, are too many, or do not fit."""
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
    told = [f"{what}: {_some(found)}" for what, found in problems.items() if found]
    if told:
        raise ModelFileError(f"{path}: the weights do not fit the network; tensors {'; '.join(told)}")
    network.load_state_dict(dict(tensors))
    network.eval()


def _some(found: Iterable[str]) -> str:
    listed = sorted(found)
    more = f" and {len(listed) - _MOST_NAMES} more" if len(listed) > _MOST_NAMES else ""
    return ", ".join(listed[:_MOST_NAMES]) + more
