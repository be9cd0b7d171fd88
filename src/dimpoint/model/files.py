"""The models that ship with the package, and how a model is named on the command line."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from dimpoint.errors import ModelFileError
from dimpoint.model.record import ModelMeta

DEFAULT = "spire-lite"
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


def resolve_model(name_or_file: str | Path) -> Path:
    """The file of a shipped model's name or of a path; a name goes before a file of the same name.

    Raises ModelFileError with the nearest names if there is neither.
    """
    if isinstance(name_or_file, str) and name_or_file in model_names():
        return _file(name_or_file)
    path = Path(name_or_file)
    if path.exists():
        return path
    if path.suffix or len(path.parts) != 1:
        raise ModelFileError(f"{path}: no such model file")
    raise ModelFileError(f"no model '{name_or_file}'; {_known(str(name_or_file))}")


def resolve_weights(name_or_file: str | Path) -> Path:
    """The .safetensors file of a shipped model's name, or the path itself."""
    path = resolve_model(name_or_file)
    return path.with_suffix(".safetensors") if path.parent == WEIGHTS else path


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
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(one) for one in near)}? " if near else ""
    return f"{hint}shipped are {', '.join(names)}; anything else is the path of a model file"
