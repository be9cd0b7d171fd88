"""The models that ship with the package, and how a model is named on the command line."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from dimpoint.errors import ModelFileError
from dimpoint.model.record import ModelMeta

DEFAULT = "spire-lite"
SUFFIXES = (".onnx", ".safetensors")
WEIGHTS = Path(__file__).parents[1] / "weights"


@dataclass(frozen=True)
class ShippedModel:
    """A model in `weights/`: NAME.onnx to run, NAME.safetensors to train further, NAME.md its card."""

    name: str
    meta: ModelMeta
    is_default: bool


def model_names() -> list[str]:
    """The names of the shipped models, sorted."""
    return sorted(path.stem for path in WEIGHTS.glob("*.onnx"))


def shipped_models() -> list[ShippedModel]:
    """What the shipped model files say of themselves, by name."""
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
    """The file of the model that is used when none is named; raises ModelFileError if it is not installed."""
    path = _file(DEFAULT)
    if not path.is_file():
        raise ModelFileError(
            f"the default model '{DEFAULT}' is not installed ({path} is missing): reinstall dimpoint, or "
            "name a model file with --model FILE.onnx"
        )
    return path


def resolve_model(model: str | Path | None) -> Path:
    """The file that runs for what a user calls a model: an ONNX file, else safetensors weights.

    model: None for the shipped default, a shipped model's name, an .onnx or .safetensors file, or a training
    run's folder (its model.onnx, else its model.safetensors). A shipped name goes before a file of the same
    name. Raises ModelFileError that names what is near or what is missing.
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
    """The .safetensors file of what a user calls a model, for training and export; see `resolve_model`.

    The folder of a run that was not finished is returned as it is. Raises ModelFileError where there are no
    such weights.
    """
    path = _named(model)
    if path.parent == WEIGHTS:
        return path.with_suffix(".safetensors")
    if path.is_dir():
        weights = path / "model.safetensors"
        if weights.is_file():
            return weights
        if (path / "run.json").is_file():
            return path
        raise ModelFileError(f"{path}: {_lacking(path)}")
    if path.suffix.lower() == ".onnx":
        twin = path.with_suffix(".safetensors")
        other = twin if twin.is_file() else "the .safetensors that belongs to it, or its run"
        raise ModelFileError(f"{path}: an ONNX file cannot be trained further or exported; give {other}")
    return path


def _named(model: str | Path) -> Path:
    """The file of a shipped model's name, or a path that exists."""
    if isinstance(model, str) and model in model_names():
        return _file(model)
    path = Path(model)
    if path.exists():
        return path
    if path.suffix or len(path.parts) != 1:
        raise ModelFileError(f"{path}: no such model file or folder{_neighbours(path)}")
    raise ModelFileError(f"no model '{model}'; {_known(str(model))}")


def _neighbours(path: Path) -> str:
    """Models beside a path that is not there whose names are like its own."""
    try:
        beside = [each.name for each in path.parent.iterdir() if each.is_dir() or each.suffix in SUFFIXES]
    except OSError:
        return f"; there is no folder {path.parent}"
    near = _nearest(path.name, beside)
    return f"; did you mean {' or '.join(str(path.parent / name) for name in near)}?" if near else ""


def _lacking(folder: Path) -> str:
    """What a folder without a model lacks, and what to do."""
    if (folder / "run.json").is_file():
        return (
            "this training run has no model.onnx or model.safetensors yet; finish it with: "
            f"dimpoint train --resume {folder}, or take its best checkpoint with: "
            f"dimpoint export {folder} --out {folder / 'model.onnx'}"
        )
    inside = sorted(each.name for each in folder.iterdir() if each.suffix in SUFFIXES)
    if inside:
        return f"no training run (no run.json), but it holds {', '.join(inside[:5])}: name one of them"
    return (
        "no model in this folder (none of model.onnx, model.safetensors, run.json); a model is a name "
        f"({', '.join(model_names())}), an .onnx or .safetensors file, or a training run's folder"
    )


def model_card(name: str) -> str:
    """The card of a shipped model, Markdown: data, recipe, scores, licence. Raises ModelFileError."""
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
    """The one that differs in letter case alone, or else the two nearest."""
    same = [each for each in names if each.lower() == name.lower()]
    return same or difflib.get_close_matches(name, names, n=2, cutoff=0.5)
