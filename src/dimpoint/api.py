"""Training and export for notebooks and for the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dimpoint.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from dimpoint.datasets.reading import Reading
    from dimpoint.model.record import ModelMeta
    from dimpoint.training.trainer import Machine


def train(
    recipe: str,
    *,
    data: str | Path | Sequence[str | Path],
    out: str | Path,
    split: str | None = None,
    init: str | Path | None = None,
    foundation: str | None = None,
    minutes: float | None = None,
    resume: bool = False,
    reading: Reading | None = None,
    machine: Machine | None = None,
    say: Callable[[str], None] = print,
    **options: Any,
) -> Path:
    """Train a detector, as `dimpoint train` does.

    Parameters
    ----------
    recipe : str
        A shipped recipe (`dimpoint recipes`) or a YAML file.
    data : path, or several
        Data sets: folders or COCO files.
    out : path
        The run's folder, new or empty.
    split : str, optional
        The split to train on; by default `train`, or all frames of a set without lists.
    init : str or path, optional
        A model to start from: a shipped name, a .safetensors file or a run.
    foundation : str, optional
        For recipes `fdep-...`: a Hugging Face backbone.
    minutes : float, optional
        About how long to train; by default as many epochs as the recipe has.
    resume : bool
        Go on with the run in `out`.
    reading : Reading, optional
        What masks and points mean where that is not plain.
    machine : Machine, optional
        Accelerator, devices, precision, threads and workers.
    say : callable
        Called with each line of news.
    **options
        Keys of the recipe; two underscores stand for the point: `optimizer__lr=1e-3`.

    Returns
    -------
    Path
        The trained `model.onnx`, which `dimpoint.load` takes.

    Raises
    ------
    MissingExtraError
        Without the training packages.
    ConfigError, DataError
        For a wrong recipe or option, and for data that cannot be trained on.
    """
    require_packages("training", ("torch", "lightning"))
    from dimpoint.datasets.reading import AS_WRITTEN
    from dimpoint.model.files import resolve_weights
    from dimpoint.training.fit import ANY_MACHINE, Sources, fit
    from dimpoint.training.recipe import load_recipe

    if foundation and load_recipe(recipe).foundation is None:
        raise ConfigError(f"recipe {recipe} learns without a foundation model; with one: fdep-{recipe}")
    changes = [f"foundation.source={foundation}"] if foundation else []
    changes += [f"{key.replace('__', '.')}={_yaml(value)}" for key, value in options.items()]
    chosen = load_recipe(recipe, changes)
    source = init or chosen.init
    roots = [data] if isinstance(data, str | Path) else data
    return fit(
        chosen,
        Sources([Path(root) for root in roots], split, reading or AS_WRITTEN),
        Path(out),
        machine=machine or ANY_MACHINE,
        resume=resume,
        init=resolve_weights(source) if source and not resume else None,
        minutes=minutes,
        say=say,
    )


def export(
    model: str | Path,
    out: str | Path,
    *,
    half: bool = False,
    threshold: float | None = None,
    say: Callable[[str], None] = print,
) -> ModelMeta:
    """Write a model as one file: weights, normalisation, threshold and licence.

    Parameters
    ----------
    model : str or path
        A shipped model's name, a training run's folder or a .safetensors file.
    out : path
        The file to write: .onnx to detect with, or .safetensors.
    half : bool
        Weights as float16, half the size; .safetensors only.
    threshold : float, optional
        Least score of a detection, 0..1, instead of the model's own. Its stored scores are left out then.
    say : callable
        Called with news where a run is finished first.

    Returns
    -------
    ModelMeta
        The record of the written model.

    Raises
    ------
    MissingExtraError
        Without the training packages.
    ConfigError, ModelFileError
        For another suffix, and for a model that is not there.
    """
    out = Path(out)
    check_suffix(out)
    if half and out.suffix != ".safetensors":
        raise ConfigError(f"--half: {out} would hold float32; write a .safetensors first, and export that")
    require_packages("dimpoint export", EXPORT_PACKAGES)
    from dimpoint.model.checkpoint import load_model
    from dimpoint.model.files import resolve_weights

    weights = resolve_weights(model)
    if weights.is_dir():  # a run that was stopped before its end
        from dimpoint.training.fit import finish

        finish(weights, say)
        weights = weights / "model.safetensors"
    network, meta = load_model(weights)
    if threshold is not None:
        meta = meta.model_copy(update={"decode": meta.decode.at(threshold), "scores": {}})
    write_model(network, meta, out, half=half)
    return meta


EXPORT_PACKAGES = ("torch", "safetensors", "onnx", "onnxscript")


def check_suffix(out: Path) -> None:
    """Raise ConfigError unless a model can be written to the file."""
    if out.suffix not in (".onnx", ".safetensors"):
        raise ConfigError(f"{out}: write a .onnx or a .safetensors file")


def require_packages(what: str, packages: Sequence[str]) -> None:
    """Raise MissingExtraError for the first package of the training extra that is not installed."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtraError(what, package, "train")


def write_model(network: Any, meta: ModelMeta, out: Path, *, half: bool = False) -> None:
    """Write a network and its record in the format of the file's suffix."""
    if out.suffix == ".onnx":
        from dimpoint.model.export import export_onnx

        export_onnx(network, meta, out)
    else:
        from dimpoint.model.checkpoint import save_model

        save_model(out, network, meta, half=half)


def _yaml(value: Any) -> str:
    """A value as `dimpoint train --set` takes it."""
    import json

    return value if isinstance(value, str) else json.dumps(value)
