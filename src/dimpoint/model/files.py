"""The shipped models, and how a user names a model."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from pathlib import Path

from dimpoint.errors import ModelFileError
from dimpoint.model.record import ModelMeta

DEFAULT = "spire-lite"
SUFFIXES = (".onnx", ".safetensors")
_INT8 = "-int8"  # ending of the name of an int8 model
WEIGHTS = Path(__file__).parents[1] / "weights"


@dataclass(frozen=True)
class ShippedModel:
    """A shipped model: NAME.onnx for detection, NAME.safetensors for training, NAME.md its card.

    An int8 model, NAME-int8, is made of the model NAME and has no weights to train.

    Parameters
    ----------
    name : str
        Its name.
    meta : ModelMeta
        Its record.
    is_default : bool
        Whether it is used when no model is named.
    """

    name: str
    meta: ModelMeta
    is_default: bool


def model_names() -> list[str]:
    """The names of the shipped models, sorted."""
    return sorted(path.stem for path in WEIGHTS.glob("*.onnx"))


def shipped_models() -> list[ShippedModel]:
    """The shipped models, by name."""
    from dimpoint.model.onnx_file import read_meta

    return [
        ShippedModel(
            name=name,
            meta=read_meta(_file(name)),
            is_default=name == DEFAULT,
        )
        for name in model_names()
    ]


def default_model() -> Path:
    """The file of the default model. Raises ModelFileError if it is missing."""
    path = _file(DEFAULT)
    if not path.is_file():
        raise ModelFileError(
            f"the default model '{DEFAULT}' is not installed ({path} is missing): reinstall dimpoint, or "
            "name a model file with --model FILE.onnx"
        )
    return path


def resolve_model(model: str | Path | None) -> Path:
    """The file of a model for detection: an ONNX file if there is one, else safetensors weights.

    Parameters
    ----------
    model : str, Path or None
        A shipped model's name, an .onnx or .safetensors file, a training run's folder, or None for the
        default. A shipped name takes precedence over a file of that name.

    Returns
    -------
    Path

    Raises
    ------
    ModelFileError
        If there is no such model; the message suggests similar names.

    Examples
    --------
    >>> resolve_model("spire-lite").name
    'spire-lite.onnx'
    """
    if model is None:
        return default_model()
    path = _named(model)
    if not path.is_dir():
        return path
    for file in (path / "model.onnx", path / "model.safetensors"):
        if file.is_file():
            return file
    raise ModelFileError(f"{path}: {_lacking(path)}")


def resolve_weights(model: str | Path) -> Path:
    """The .safetensors file of a model, for training and export.

    Parameters
    ----------
    model : str or Path
        As `resolve_model`.

    Returns
    -------
    Path
        The file, or the folder of a run that is not finished.

    Raises
    ------
    ModelFileError
        If there are no such weights.
    """
    path = _named(model)
    if path.parent == WEIGHTS:
        weights = path.with_suffix(".safetensors")
        if not weights.is_file() and path.stem.endswith(_INT8):
            whole = path.stem.removesuffix(_INT8)
            raise ModelFileError(f"'{path.stem}' is int8 and cannot be trained or exported; give {whole}")
        return weights
    if path.is_dir():
        weights = path / "model.safetensors"
        if weights.is_file():
            return weights
        if (path / "run.json").is_file():
            return path
        raise ModelFileError(f"{path}: {_lacking(path)}")
    if path.suffix.lower() == ".onnx":
        twin = path.with_suffix(".safetensors")
        other = twin if twin.is_file() else "its .safetensors file, or its run"
        raise ModelFileError(f"{path}: an ONNX file cannot be trained or exported; give {other}")
    return path


def _named(model: str | Path) -> Path:
    """The file of a shipped model's name, or an existing path."""
    if isinstance(model, str) and model in model_names():
        return _file(model)
    path = Path(model)
    if path.exists():
        return path
    if path.suffix or len(path.parts) != 1:
        raise ModelFileError(f"{path}: no such model file or folder{_neighbours(path)}")
    raise ModelFileError(f"no model '{model}'; {_known(str(model))}")


def _neighbours(path: Path) -> str:
    """Models with similar names in the folder of a path that does not exist."""
    try:
        beside = [each.name for each in path.parent.iterdir() if each.is_dir() or each.suffix in SUFFIXES]
    except OSError:
        return f"; there is no folder {path.parent}"
    near = _nearest(path.name, beside)
    return f"; did you mean {' or '.join(str(path.parent / name) for name in near)}?" if near else ""


def _lacking(folder: Path) -> str:
    """What is missing in a folder without a model, and what to do."""
    if (folder / "run.json").is_file():
        return (
            "this training run has no model.onnx or model.safetensors yet; finish it with: "
            f"dimpoint train --resume {folder}, or take its best checkpoint with: "
            f"dimpoint export {folder} --out {folder / 'model.onnx'}"
        )
    inside = sorted(each.name for each in folder.iterdir() if each.suffix in SUFFIXES)
    if inside:
        return f"not a training run (no run.json), but it contains {', '.join(inside[:5])}: name one of them"
    return (
        "no model in this folder (none of model.onnx, model.safetensors, run.json); a model is a name "
        f"({', '.join(model_names())}), an .onnx or .safetensors file, or a training run's folder"
    )


def model_card(name: str) -> str:
    """The card of a shipped model in Markdown. Raises ModelFileError."""
    if name not in model_names():
        raise ModelFileError(f"no shipped model '{name}'; {_known(name)}")
    try:
        return (WEIGHTS / f"{name}.md").read_text("utf-8")
    except OSError as error:
        raise ModelFileError(f"the card of model '{name}' cannot be read ({error.strerror})") from None


def _file(name: str) -> Path:
    return WEIGHTS / f"{name}.onnx"


def _known(name: str) -> str:
    names = model_names()
    if not names:
        return "none ships with this installation; name a model file such as model.onnx"
    near = _nearest(name, names)
    hint = f"did you mean {' or '.join(repr(one) for one in near)}? " if near else ""
    return (
        f"{hint}shipped are {', '.join(names)}; anything else is the path of an .onnx or .safetensors file "
        "or of a training run's folder"
    )


def _nearest(name: str, names: list[str]) -> list[str]:
    """The name that differs in letter case alone, or else the two most similar."""
    same = [each for each in names if each.lower() == name.lower()]
    return same or difflib.get_close_matches(name, names, n=2, cutoff=0.5)


def sha256_of(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
