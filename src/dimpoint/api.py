"""Training and export, for notebooks and for the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dimpoint.errors import ConfigError, MissingExtraError
from dimpoint.text import counted

if TYPE_CHECKING:
    from dimpoint.datasets.reading import Reading
    from dimpoint.model.record import ModelMeta
    from dimpoint.training.fit import TrainingData
    from dimpoint.training.recipe import Recipe
    from dimpoint.training.trainer import Machine


def train(
    recipe: str | None = None,
    *,
    data: str | Path | Sequence[str | Path] = (),
    out: str | Path | None = None,
    resume: str | Path | None = None,
    split: str | None = None,
    init: str | Path | None = None,
    foundation: str | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    validation_by: str | None = None,
    labels: str | None = None,
    export_labels: str | Path | None = None,
    changes: Sequence[str] = (),
    reading: Reading | None = None,
    machine: Machine | None = None,
    log: Callable[[str], None] = print,
    **options: Any,
) -> Path:
    """Train a detector; `dimpoint train` calls this function.

    Parameters
    ----------
    recipe : str
        A shipped recipe (`dimpoint recipes` lists them) or a YAML file.
    data : path, or several
        Data sets: folders or COCO files.
    out : path
        The run's folder, new or empty.
    resume : path, optional
        Folder of a run to continue, instead of `recipe`, `data` and `out`. Only `machine`, `export_labels`
        and `log` may be given with it.
    split : str, optional
        The split to train on. Default: `train`, or all frames of a data set without split lists.
    init : str or path, optional
        The model whose weights training starts from: a shipped name, a .safetensors file or a run's folder.
        Default: the recipe's.
    foundation : str, optional
        For recipes `fdep-...`: a Hugging Face backbone, a folder or a hub id.
    epochs : int, optional
        Length in epochs. Default: the recipe's.
    minutes : float, optional
        Approximate length in minutes, instead of `epochs`.
    validation_by : {"scene", "time", "random"}, optional
        How frames are held out. Default: the recipe's.
    labels : {"auto", "masks", "points"}, optional
        Which labels are used. With `points`, an encoder-decoder network is trained on masks that grow from
        the points.
        Default: the recipe's.
    export_labels : path, optional
        After training, write a data set with the masks that grew from points to this new folder.
    changes : sequence of str
        Changes of the recipe as in `dimpoint train --set`, such as `"optimizer.lr=1e-3"`. Default: none.
    reading : Reading, optional
        How masks and points are read where the files are ambiguous.
    machine : Machine, optional
        Accelerator, devices, precision, threads and workers. Default: all automatic.
    log : callable
        Called with each line of progress. Default: `print`.
    **options
        Keys of the recipe, with two underscores for each dot: `optimizer__lr=1e-3`.

    Returns
    -------
    Path
        The trained `model.onnx`, for `dimpoint.load`.

    Raises
    ------
    MissingExtraError
        If the training packages are not installed.
    ConfigError, DataError
        If the recipe, an option or the data are wrong.

    Examples
    --------
    >>> import dimpoint
    >>> model = dimpoint.train(
    ...     "spire-sirst", data="examples/scenes", out="run", minutes=5
    ... )  # doctest: +SKIP
    >>> dimpoint.load(model)  # doctest: +SKIP
    Detector('spire-sirst', network spire-lite, threshold 0.41)
    """
    require_packages("training", TRAINING_PACKAGES)
    from dimpoint.training.fit import ANY_MACHINE, fit
    from dimpoint.training.label_export import check_export

    machine = machine or ANY_MACHINE
    if export_labels is not None:
        check_export(Path(export_labels))
    if resume is not None:
        others = (recipe, data, out, split, init, foundation, epochs, minutes, validation_by, labels, reading)
        if any(others) or changes or options:
            raise ConfigError("--resume takes recipe and data from the run; do not give them again")
        chosen, sources = _of_run(Path(resume))
        _check_growing(chosen, export_labels)
        trained = fit(chosen, sources, Path(resume), machine=machine, resume=True, log=log)
        return _with_labels(trained, sources, export_labels, log)
    if not recipe or not data or out is None:
        raise ConfigError("training needs a recipe, data and out, or resume alone")
    from dimpoint.datasets.reading import AS_WRITTEN
    from dimpoint.model.files import resolve_weights
    from dimpoint.training.fit import TrainingData
    from dimpoint.training.recipe import load_recipe

    if foundation and load_recipe(recipe).foundation is None:
        raise ConfigError(f"recipe {recipe} uses no foundation model; use fdep-{recipe}")
    if epochs is not None and minutes is not None:
        raise ConfigError("--epochs and --minutes: give one of them")
    named = {"foundation.source": foundation, "validation_by": validation_by, "epochs": epochs}
    named |= {"labels": labels}
    given = {key: value for key, value in named.items() if value is not None}
    given |= {key.replace("__", "."): value for key, value in options.items()}
    chosen = load_recipe(recipe, [*changes, *(f"{key}={_yaml(value)}" for key, value in given.items())])
    if not chosen.grows and any(_section(key) == "growth" for key in [*changes, *given]):
        raise ConfigError("growth.*: masks grow from points only; give --labels points and a recipe of masks")
    source = init or chosen.init
    _check_growing(chosen, export_labels)
    roots = [data] if isinstance(data, str | Path) else data
    sources = TrainingData([Path(root) for root in roots], split, reading or AS_WRITTEN)
    trained = fit(
        chosen,
        sources,
        Path(out),
        machine=machine,
        init=resolve_weights(source) if source else None,
        minutes=minutes,
        log=log,
    )
    return _with_labels(trained, sources, export_labels, log)


def _section(change: str) -> str:
    return change.partition("=")[0].partition(".")[0]


def _check_growing(recipe: Recipe, export_labels: str | Path | None) -> None:
    if export_labels is not None and not recipe.grows:
        raise ConfigError("--export-labels needs a run whose masks grow from points (--labels points)")


def _with_labels(
    trained: Path, sources: TrainingData, out: str | Path | None, log: Callable[[str], None]
) -> Path:
    """Export the labels of the run of `trained` if `out` is given; return `trained`."""
    if out is not None:
        from dimpoint.training.label_export import export_labels
        from dimpoint.training.run_folder import RunFolder

        count = export_labels(RunFolder(trained.parent), sources.open(), Path(out), log)
        log(f"{out}: {counted(count, 'training frame')} with masks; held-out frames are not among them")
    return trained


def _of_run(folder: Path) -> tuple[Recipe, TrainingData]:
    """The recipe and the data of a run that is continued."""
    from dimpoint.datasets.reading import Reading
    from dimpoint.training.fit import TrainingData
    from dimpoint.training.run_folder import RunFolder

    run = RunFolder(folder)
    known = run.read_record()["sources"]
    reading = Reading.from_record(known.get("reading"))
    return run.read_recipe(), TrainingData([Path(root) for root in known["roots"]], known["split"], reading)


def export(
    model: str | Path,
    out: str | Path,
    *,
    half: bool = False,
    threshold: float | None = None,
    log: Callable[[str], None] = print,
) -> ModelMeta:
    """Write a model as one file: weights, normalisation, threshold and licence.

    Parameters
    ----------
    model : str or path
        A shipped model's name, a training run's folder or a .safetensors file.
    out : path
        The file to write: .onnx to detect with, or .safetensors.
    half : bool
        Weights as float16, half the size; .safetensors only. Default: False.
    threshold : float, optional
        Detections have scores above this, 0..1. Default: the model's own. With another one, the stored scores
        of the model are removed.
    log : callable
        Called with each line of progress if a run must be finished first. Default: `print`.

    Returns
    -------
    ModelMeta
        The record of the written model.

    Raises
    ------
    MissingExtraError
        If the training packages are not installed.
    ConfigError, ModelFileError
        For another suffix, and if there is no such model.

    Examples
    --------
    >>> import dimpoint
    >>> dimpoint.export("spire-lite", "small.safetensors", half=True).name  # doctest: +SKIP
    'spire-lite'
    """
    out = Path(out)
    check_suffix(out)
    if half and out.suffix != ".safetensors":
        raise ConfigError(f"--half: only for .safetensors, which can then be exported to {out}")
    require_packages("dimpoint export", EXPORT_PACKAGES)
    from dimpoint.model.checkpoint import load_model
    from dimpoint.model.files import resolve_weights

    weights = resolve_weights(model)
    if weights.is_dir():  # a run that was stopped before its end
        from dimpoint.training.fit import finish

        finish(weights, log)
        weights = weights / "model.safetensors"
    network, meta = load_model(weights)
    if threshold is not None:
        meta = meta.model_copy(update={"decode": meta.decode.at(threshold), "scores": {}})
    write_model(network, meta, out, half=half)
    return meta


TRAINING_PACKAGES = ("torch", "lightning")
EXPORT_PACKAGES = ("torch", "safetensors", "onnx", "onnxscript")


def check_suffix(out: Path) -> None:
    """Raise ConfigError unless `out` is an .onnx or a .safetensors file."""
    if out.suffix not in (".onnx", ".safetensors"):
        raise ConfigError(f"{out}: write a .onnx or a .safetensors file")


def require_packages(what: str, packages: Sequence[str]) -> None:
    """Raise MissingExtraError for the first package of the extra `train` that is not installed.

    Parameters
    ----------
    what : str
        What needs the packages.
    packages : sequence of str
        Names of modules.
    """
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtraError(what, package, "train")


def write_model(network: Any, meta: ModelMeta, out: Path, *, half: bool = False) -> None:
    """Write a network and its record; the suffix decides the format.

    Parameters
    ----------
    network : nn.Module
        The network.
    meta : ModelMeta
        Its record.
    out : Path
        An .onnx or a .safetensors file.
    half : bool
        Weights as float16, .safetensors only. Default: False.
    """
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
