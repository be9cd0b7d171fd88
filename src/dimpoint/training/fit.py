"""Training: from a recipe and data to model files in a run's folder."""

from __future__ import annotations

import datetime
import json
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from dimpoint.datasets.dataset import DataSet, Labels, open_dataset, training_split
from dimpoint.datasets.plausibility import demand_plausible
from dimpoint.datasets.reading import AS_WRITTEN, Reading
from dimpoint.errors import ConfigError, DataError, MissingExtraError
from dimpoint.model.checkpoint import save_model
from dimpoint.model.export import export_onnx
from dimpoint.model.record import HASH_DIGITS, ModelMeta, parse_meta
from dimpoint.networks import Network, create
from dimpoint.training.choosing import Trained, assess
from dimpoint.training.frames import (
    LabelledFrame,
    TrainingViews,
    describe_frames,
    disagreements,
    fingerprints,
    labels_of,
    load_frames,
    training_loader,
)
from dimpoint.training.growing import GrowingLabels
from dimpoint.training.mining import Mining
from dimpoint.training.module import DetectionModule, describe_model
from dimpoint.training.recipe import Recipe, load_recipe, recipe_names
from dimpoint.training.run_folder import Position, RunFolder, names_and_hashes, record_of
from dimpoint.training.start import Parent, load_parent, load_start, new_network, with_options_of
from dimpoint.training.trainer import Machine as Machine
from dimpoint.training.trainer import (
    TimeLimit,
    check_machine,
    device_of,
    is_helper,
    make_trainer,
    measure,
    plan,
)

if TYPE_CHECKING:
    from dimpoint.training.fdep import Teacher

ANY_MACHINE = Machine()


@dataclass(frozen=True)
class TrainingData:
    """The data of a run.

    Parameters
    ----------
    roots : sequence of Path
        Folders or COCO files.
    split : str, optional
        The split to train on. Default: a set's `train` split, or all frames of a set without split lists.
    reading : Reading
        How labels are read. Default: as the files say.
    """

    roots: Sequence[Path]
    split: str | None = None
    reading: Reading = AS_WRITTEN

    def to_record(self) -> dict[str, Any]:
        """The entry in run.json."""
        roots = [str(root) for root in self.roots]
        return {"roots": roots, "split": self.split, "reading": self.reading.to_record()}

    def open(self, labels: Labels = "auto") -> list[DataSet]:
        """Open the data sets with the labels `auto`, `masks` or `points`."""
        splits = [self.split or training_split(root) for root in self.roots]
        return [open_dataset(*one, labels, self.reading) for one in zip(self.roots, splits, strict=True)]


def fit(
    recipe: Recipe,
    sources: TrainingData,
    out: Path,
    *,
    machine: Machine = ANY_MACHINE,
    resume: bool = False,
    init: Path | None = None,
    minutes: float | None = None,
    log: Callable[[str], None] = print,
) -> Path:
    """Train a model and write its files; `dimpoint.train` calls this function.

    Parameters
    ----------
    recipe : Recipe
        All settings.
    sources : TrainingData
        The data.
    out : Path
        The run's folder.
    machine : Machine
        Hardware settings. Default: all automatic.
    resume : bool
        Continue the run in `out`; a finished run is left as it is. Default: False.
    init : Path, optional
        A .safetensors model of the same network whose weights training starts from.
    minutes : float, optional
        Length of this call, including reading the data. Default: the recipe's epochs.
    log : callable
        Called with each line of progress. Default: `print`.

    Returns
    -------
    Path
        The trained `model.onnx`. With several devices every process calls this function, and only the first
        one logs and writes.

    Raises
    ------
    ConfigError, DataError
        If the recipe is wrong, the data changed, or `out` is in use.
    """
    folder = RunFolder(out)
    if is_helper():
        log = _silent
    elif resume and _complete(folder, recipe):
        log(f"{out}: this run is finished, epochs: {recipe.epochs}: {folder.onnx}")
        return folder.onnx
    held = train(recipe, sources, out, machine=machine, resume=resume, init=init, minutes=minutes, log=log)
    return folder.onnx if is_helper() else finish(out, log, held)


def train(
    recipe: Recipe,
    sources: TrainingData,
    out: Path,
    *,
    machine: Machine = ANY_MACHINE,
    resume: bool = False,
    init: Path | None = None,
    minutes: float | None = None,
    log: Callable[[str], None] = print,
) -> list[LabelledFrame]:
    """Train into the run folder `out`, without writing model files; parameters and errors as `fit`.

    A resumed run continues from its newest checkpoint and ends as an uninterrupted one does.

    Returns
    -------
    list of LabelledFrame
        The held-out frames.
    """
    started = time.monotonic()
    folder = RunFolder(out)
    if not resume and not is_helper():
        folder.check_unused()
    record = folder.read_record() if resume else {}
    lightning.seed_everything(recipe.seed, verbose=False)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    if machine.threads:
        torch.set_num_threads(machine.threads)
    check_machine(machine)
    first = None if init is None else Parent.read(init)
    if first is not None:
        recipe = with_options_of(first.meta, recipe, log)
    log("reading and hashing the data")
    sets = _open_sets(recipe, sources, log)
    newest = folder.newest() if resume else None
    network = new_network(recipe)
    parent = record.get("init")
    if first is not None and not resume:
        load_parent(network, recipe, first)
        parent = first.record()
    if resume and newest is None:
        load_start(network, recipe, folder, parent, log)
    meta = describe_model(network, recipe, sets, folder.name, parent["name"] if parent else None)
    teacher = _teacher(recipe, network, out, device_of(machine))
    frames, validation = load_frames(sets, recipe)
    for line in describe_frames(sets, frames, validation):
        log(line)
    if not is_helper():
        hashes = fingerprints(sets, [*frames, *validation])
        if resume:
            folder.check_data(hashes)
            if teacher is not None:
                teacher.check(record.get("foundation", {}), out)
    if teacher is not None:
        teacher.prepare(frames, recipe, log)
    views = TrainingViews(frames, recipe, teacher.features if teacher and teacher.cache else None)
    more: list[Callback] = []
    if recipe.view.near_false:
        if machine.workers:
            raise ConfigError("view.near_false needs --workers 0")
        more.append(Mining(views, recipe.view.mine_every, recipe.seed, log))
    growing = None
    if recipe.grows:
        if machine.workers:
            raise ConfigError("labels that grow from points need --workers 0")
        growing = GrowingLabels(views, folder, log)
        more.append(growing)
    if newest is not None:
        for note in newest.notes():
            log(note)
        log(f"continuing from {newest.file}: {newest.position} of {recipe.epochs} are done")
        if folder.finished(recipe, newest):
            if growing is not None:
                growing.load_state_dict(newest.content["callbacks"][growing.state_key])
                growing.write()
            return validation
    position = Position() if newest is None else newest.position
    if not resume:
        steps, validating = recipe.steps(len(views)), 0.0
        if is_helper():
            recipe = folder.await_recipe()  # with the epochs planned by the first process
        else:
            trial = _module(network, recipe, meta, validation, 1, teacher)
            costs = measure(trial, views, validation, machine)
            spent, validating = time.monotonic() - started, costs.frame * len(validation)
            recipe = plan(recipe, costs, steps, len(validation), minutes, log, spent)
        views.recipe = recipe
        seen = [frame.hashes[0][:HASH_DIGITS] for frame in frames]
        meta = meta.model_copy(update={"recipe": recipe.model_dump(mode="json"), "training_frames": seen})
        if limit := minutes or recipe.most_minutes:
            more.append(TimeLimit(started + 60 * limit - validating))
    if not resume and not is_helper():
        record = record_of(recipe, sources.to_record(), sets, hashes)
        record["held_out"] = names_and_hashes(validation, sets)
        record["model"] = meta.model_dump(mode="json")
        record |= {"init": parent} if parent else {}
        record |= {"foundation": teacher.record()} if teacher is not None else {}
        folder.write_record(recipe, record)
        folder.write_start(network.state_dict())
    trainer = make_trainer(recipe, folder, machine, log, position, more)
    loader = training_loader(
        views,
        machine.workers,
        trainer.global_rank,
        trainer.world_size,
        (position.epochs, position.batches),
    )
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    module = _module(network, recipe, meta, validation, len(loader) * recipe.epochs, teacher)
    numbers: Any = range(len(validation))  # a loader takes any sequence
    trainer.fit(
        module,
        loader,
        DataLoader(numbers, batch_size=None, generator=torch.Generator()) if validation else None,
        ckpt_path=None if newest is None else str(newest.file),
        weights_only=True,
    )
    if growing is not None:
        growing.write()
    return validation


def finish(out: Path, log: Callable[[str], None] = print, held: Sequence[LabelledFrame] = ()) -> Path:
    """Write `model.safetensors` and `model.onnx` of a run from its best or last checkpoint.

    Parameters
    ----------
    out : Path
        The run's folder.
    log : callable
        Called with each line of the result. Default: `print`.
    held : sequence of LabelledFrame
        Held-out frames. With them, the threshold is chosen again where they have few targets, the score gets
        its interval, and a fine-tuned model is compared with its parent. Default: none.

    Returns
    -------
    Path
        The written `model.onnx`.

    Raises
    ------
    ConfigError
        If there is no checkpoint, or its weights do not fit the network.
    """
    folder = RunFolder(out)
    record = folder.read_record()
    recipe = folder.read_recipe()
    chosen = folder.chosen(last=recipe.refit or recipe.checkpoint == "last")
    if chosen is None:
        raise ConfigError(f"{out}: no checkpoint yet; continue with: dimpoint train --resume {out}")
    for note in chosen.notes():
        log(note)
    network = create(recipe.network.name, **recipe.network.options)
    state = chosen.content["state_dict"]
    own = {key.removeprefix("network."): state[key] for key in state if key.startswith("network.")}
    try:
        network.load_state_dict(own)
    except RuntimeError:
        raise ConfigError(
            f"{chosen.file}: its weights do not fit the network {recipe.network.name} of this version; "
            "finish the run with the version that started it (named in run.json)"
        ) from None
    network.eval()
    meta = parse_meta(json.dumps(record["model"]), str(folder.record_file))
    meta = meta.model_copy(update={"date": datetime.date.today().isoformat()})
    trained = Trained(network, meta, recipe, chosen.content.get("validation", {}), chosen.position.steps)
    meta, lines = assess(trained, held, record.get("init"))
    save_model(folder.safetensors, network, meta)
    export_onnx(network, meta, folder.onnx)
    log(f"{lines[0]}: {folder.onnx}")
    for line in lines[1:]:
        log(line)
    return folder.onnx


def _teacher(recipe: Recipe, network: Network, out: Path, device: str) -> Teacher | None:
    if recipe.foundation is None:
        return None
    if find_spec("transformers") is None:
        raise MissingExtraError("training with a foundation model", "transformers", "foundation")
    from dimpoint.training.fdep import open_teacher

    return open_teacher(recipe, network, out, device)


def _module(
    network: Network,
    recipe: Recipe,
    meta: ModelMeta,
    validation: Sequence[LabelledFrame],
    steps: int,
    teacher: Teacher | None,
) -> DetectionModule:
    if teacher is None:
        return DetectionModule(network, recipe, meta, validation, steps)
    from dimpoint.training.fdep import FdepModule

    return FdepModule(network, recipe, meta, validation, steps, teacher=teacher)


def _open_sets(recipe: Recipe, sources: TrainingData, log: Callable[[str], None]) -> list[DataSet]:
    """Open the data sets with the labels that are used, and log their notes."""
    labels, sets = labels_of(recipe), sources.open()
    for part in sets:
        log(part.taken)
    _check_weights(sets, recipe)
    if recipe.grows:
        _check_names(sets)
    for note in disagreements(sets, labels):
        log(note)
    if labels != "auto":
        try:
            sets = sources.open(labels)
        except DataError as error:
            every = [sample.points for part in sets for sample in part]
            pointed = labels == "masks" and all(points is not None for points in every)
            hint = "; --labels points lets masks grow from the points" if pointed else ""
            raise DataError(f"{error}{hint}") from None
    for note in [*(note for part in sets for note in part.notes()), *demand_plausible(sets)]:
        log(note)
    return sets


def _check_names(sets: Sequence[DataSet]) -> None:
    """Raise ConfigError if two sets have the same name, by which their labels are kept."""
    names = [part.name for part in sets]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"{', '.join(twice)}: two data sets have this name, and grown labels are kept by it; rename a "
            "folder, or link to it under another name"
        )


def _check_weights(sets: Sequence[DataSet], recipe: Recipe) -> None:
    """Raise ConfigError if a weight names no data set; the sets of shipped recipes need not be there."""
    names = {part.name for part in sets}
    for name in recipe.weights.keys() - names:
        if not any(name in load_recipe(shipped).weights for shipped in recipe_names()):
            raise ConfigError(f"weights.{name}: no data set has this name, only {', '.join(sorted(names))}")


def _complete(folder: RunFolder, recipe: Recipe) -> bool:
    """Whether all epochs are trained and everything is written."""
    newest = folder.newest()
    if newest is None or not folder.onnx.is_file() or not folder.finished(recipe, newest):
        return False
    # A time limit may have ended the run before, with a model that is older than its last checkpoint.
    late = folder.onnx.stat().st_mtime < newest.file.stat().st_mtime
    return not late and (not recipe.grows or folder.labels.is_dir())


def _silent(_: str) -> None: ...
