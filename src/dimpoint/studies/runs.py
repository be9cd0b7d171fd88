"""The training runs of a study: finished runs are kept, interrupted ones continue."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from dimpoint.atomic import write_text
from dimpoint.datasets.dataset import combined_hash, hash_frames, hash_labels
from dimpoint.datasets.reading import Reading
from dimpoint.errors import ConfigError
from dimpoint.evaluation.truth import TruthFrame
from dimpoint.text import counted
from dimpoint.training.fit import Machine, TrainingData, finish, fit
from dimpoint.training.frames import labels_of
from dimpoint.training.recipe import Recipe, load_recipe
from dimpoint.training.run_folder import RunFolder
from dimpoint.training.start import new_network

_PLANNED = ("epochs", "steps_per_epoch")  # values that a run with a time limit sets itself
_CLOCK = "seconds.json"  # file in a run's folder with its training time
_BUDGET = "budget.json"  # file in a run's folder with its `Budget`


@dataclass(frozen=True)
class Budget:
    """The training length of each run.

    Parameters
    ----------
    epochs : int, optional
        The same number of epochs for every recipe.
    minutes : float, optional
        The number of epochs that fit into this time, by a few measured steps. Default: the recipe's own
        epochs.
    """

    epochs: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if self.epochs is not None and self.minutes is not None:
            raise ConfigError("give either --epochs or --minutes, not both")

    def __str__(self) -> str:
        if self.epochs is not None:
            return f"{counted(self.epochs, 'epoch')}"
        return "the recipe's own epochs" if self.minutes is None else f"{self.minutes:g} minutes"


RECIPES_OWN = Budget()


def train_once(
    recipe: Recipe,
    sources: TrainingData,
    out: Path,
    machine: Machine,
    log: Callable[[str], None],
    budget: Budget = RECIPES_OWN,
) -> Path:
    """Train or continue the run in `out` unless it is finished, and return its model.onnx.

    Raises ConfigError if `out` holds a run of another recipe or length, or a finished one on other data.
    """
    if budget.epochs is not None:
        recipe = recipe.model_copy(update={"epochs": budget.epochs})
    begun = (out / "run.json").is_file()
    if begun:
        _check_budget(out, budget)
        if different := _differences(load_recipe(str(out / "recipe.yaml")), recipe, budget):
            raise ConfigError(
                f"{out}: holds a run of another recipe; what differs: {', '.join(different)}; choose another "
                "--out"
            )
    model = out / "model.onnx"
    if model.is_file():
        _check_data(out, recipe, sources)
        check_foundation(out, recipe)
        return model
    if not begun:
        write_text(out / _BUDGET, json.dumps(asdict(budget)))
    log(f"{out.name}: {'continuing' if begun else 'training'}")
    fit(
        recipe,
        sources,
        out,
        machine=machine,
        resume=begun,
        minutes=budget.minutes,
        log=lambda line: log(f"{out.name}: {line}"),
    )
    return model if model.is_file() else finish(out, log)


def _differences(known: Recipe, recipe: Recipe, budget: Budget) -> list[str]:
    """The keys in which recipes differ, without the description and values that a run sets itself."""
    planned = budget.minutes is not None or recipe.most_minutes is not None
    ignored = {"description", *(_PLANNED if planned else ())}
    names = [name for name in Recipe.model_fields if name not in ignored]
    return [name for name in names if getattr(known, name) != getattr(recipe, name)]


def _check_budget(out: Path, budget: Budget) -> None:
    """Raise ConfigError if the run in `out` has another limit of minutes; runs of old versions tell none."""
    file = out / _BUDGET
    if not file.is_file():
        return
    try:
        known = Budget(**json.loads(file.read_text("utf-8")))
    except (ValueError, TypeError):
        raise ConfigError(f"{file}: damaged; choose another --out") from None
    if known.minutes != budget.minutes:
        raise ConfigError(f"{out}: holds a run trained for {known}, not for {budget}; choose another --out")


def _check_data(out: Path, recipe: Recipe, sources: TrainingData) -> None:
    """Raise ConfigError if the finished run in `out` was trained on other frames or labels."""
    record = RunFolder(out).read_record()
    known = {name: entry.get("sha256") for name, entry in record["data"].items()}
    rows: dict[str, list[tuple[str, str, str]]] = {}
    for part in sources.open(labels_of(recipe)):  # two may have the same name
        names = [sample.name for sample in part]
        rows.setdefault(part.name, []).extend(zip(names, hash_frames(part), hash_labels(part), strict=True))
    found = {name: combined_hash(lines) for name, lines in rows.items()}
    different = sorted(name for name in known | found if known.get(name) != found.get(name))
    read = Reading.from_record(record["sources"].get("reading")).to_record()
    now = sources.reading.to_record()
    different += [f"{key} of the reading" for key in now if key != "accept" and now[key] != read[key]]
    if different:
        raise ConfigError(
            f"{out}: holds a run on other data; what differs: {', '.join(different)}; choose another --out"
        )


def check_foundation(out: Path, recipe: Recipe) -> None:
    """Raise ConfigError if the finished run in `out` was taught by another model than the folder now holds.

    A hub id is not looked up, and a folder that is gone is not missed.
    """
    choice = recipe.foundation
    if choice is None or not choice.source or not Path(choice.source).is_dir():
        return
    from dimpoint.training.fdep import open_teacher

    teacher = open_teacher(recipe, new_network(recipe), out)
    teacher.check(RunFolder(out).read_record()["foundation"], out)


def check_apart(recipes: Iterable[Recipe], sources: TrainingData, frames: Sequence[TruthFrame]) -> None:
    """Check that no evaluated frame would be trained on, and that the data have the recipes' labels.

    Raises
    ------
    ConfigError
        If evaluated frames would be trained on.
    DataError
        If the data lack the labels that a recipe needs.
    """
    evaluated = {frame.path.resolve() for frame in frames}
    for labels in {labels_of(recipe) for recipe in recipes}:
        samples = [sample for part in sources.open(labels) for sample in part]
        both = sum(sample.frame_path.resolve() in evaluated for sample in samples)
        if both:
            raise ConfigError(
                f"{both} of {len(frames)} frames would be trained on and evaluated; "
                "name a split with --split that is not trained on"
            )
        for sample in samples:
            sample.read_points()


@contextmanager
def clock(out: Path) -> Iterator[None]:
    """Add the duration of the block to the training time of the run in `out`, if the block trains."""
    trained = (out / "model.onnx").is_file()
    started = time.monotonic()
    try:
        yield
    finally:
        if not trained and out.is_dir():
            seconds = time.monotonic() - started + (training_seconds(out) if (out / _CLOCK).is_file() else 0)
            write_text(out / _CLOCK, json.dumps({"training_seconds": round(seconds, 1)}))


def training_seconds(out: Path) -> float:
    """Training time of the run in `out` by `clock`, seconds; NaN if unknown."""
    file = out / _CLOCK
    return float(json.loads(file.read_text("utf-8"))["training_seconds"]) if file.is_file() else float("nan")
