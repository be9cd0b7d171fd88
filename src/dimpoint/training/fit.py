"""A run: a folder that holds the recipe, the data's hashes, checkpoints, logs and the trained model."""

from __future__ import annotations

import datetime
import json
import logging
import math
import platform
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import torch
import yaml
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader

import dimpoint
from dimpoint.atomic import write_text
from dimpoint.datasets.dataset import DataSet, Labels, hash_array, open_dataset, training_split
from dimpoint.errors import ConfigError, DataError, MissingExtraError
from dimpoint.inference.torch_backend import computes_bfloat16
from dimpoint.model.checkpoint import load_model, save_model, traits
from dimpoint.model.export import export_onnx
from dimpoint.model.record import ModelMeta
from dimpoint.networks import Network, create
from dimpoint.networks.base import HostNetwork
from dimpoint.networks.complexity import count_parameters
from dimpoint.training.frames import (
    LabelledFrame,
    TrainingViews,
    disagreements,
    labels_of,
    load_frames,
    training_loader,
)
from dimpoint.training.mining import Mining
from dimpoint.training.module import DetectionModule
from dimpoint.training.progress import Bar, Report, RunLog
from dimpoint.training.recipe import Recipe, load_recipe
from dimpoint.training.validation import describe, monitored

if TYPE_CHECKING:
    from dimpoint.training.fdep import Teacher

_VERSIONS = ("dimpoint", "torch", "lightning", "numpy", "opencv-python-headless")


@dataclass(frozen=True)
class Machine:
    """How a run uses the machine; none of it changes what is trained, but for rounding."""

    accelerator: str = "auto"
    devices: int | str = "auto"
    precision: str = "auto"
    threads: int | None = None
    workers: int = 0


@dataclass(frozen=True)
class Sources:
    """The data of a run: folders (or COCO files) and which split of them is trained on."""

    roots: Sequence[Path]
    split: str | None = None

    def open(self, labels: Labels = "auto") -> list[DataSet]:
        """The samples of `split`; without one a set's `train` split, or all its frames."""
        return [open_dataset(root, self.split or training_split(root), labels) for root in self.roots]


def fit(
    recipe: Recipe,
    sources: Sources,
    out: Path,
    *,
    machine: Machine = Machine(),
    resume: bool = False,
    init: Path | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Train (see `train`), and return the path of the trained `model.onnx` in the run folder `out`.

    On several devices every further process runs this same call; the first one alone says and writes.
    """
    if is_helper():
        say = _silent
    train(recipe, sources, out, machine=machine, resume=resume, init=init, say=say)
    return out / "model.onnx" if is_helper() else finish(out, say)


def train(
    recipe: Recipe,
    sources: Sources,
    out: Path,
    *,
    machine: Machine = Machine(),
    resume: bool = False,
    init: Path | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Train into the run folder `out`: checkpoints and logs.

    With `resume` the run goes on after its last validation and ends as an uninterrupted one does. With
    `init`, a .safetensors model of the same network, it starts from that model's weights (fine-tuning).
    Raises ConfigError or DataError for a wrong recipe, data that changed, or an `out` that is in use.
    """
    lightning.seed_everything(recipe.seed, verbose=False)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    if machine.threads:
        torch.set_num_threads(machine.threads)
    say("reading and hashing the data")
    labels, sets = labels_of(recipe), sources.open()
    for part in sets:
        say(part.taken)
    for note in disagreements(sets, labels):
        say(note)
    if labels != "auto":
        sets = sources.open(labels)
    for note in (note for part in sets for note in part.notes()):
        say(note)
    network = _start_network(recipe, init)
    meta = describe_model(network, recipe, sets)
    teacher = _teacher(recipe, network, out)
    _prepare_folder(out, recipe, meta, sources, sets, resume, teacher)
    frames, validation = load_frames(sets, recipe)
    if not resume and not is_helper():
        _record_held_out(out, validation)
    names = ", ".join(part.name for part in sets)
    say(f"{len(frames)} training and {len(validation)} validation frames from {names}")
    if teacher is not None:
        teacher.prepare(frames, recipe, say)
    views = TrainingViews(frames, recipe, teacher.look if teacher and teacher.cache else None)
    more: list[Callback] = []
    if recipe.view.near_false:
        if machine.workers:
            raise ConfigError("view.near_false: false objects are mined in the training process; --workers 0")
        more.append(Mining(views, recipe.view.mine_every, recipe.seed, say))
    trainer = _trainer(recipe, out, machine, say, more)
    loader = training_loader(views, machine.workers, trainer.global_rank, trainer.world_size)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    module = _module(network, recipe, meta, validation, len(loader) * recipe.epochs, teacher)
    last = out / "checkpoints" / "last.ckpt"
    numbers: Any = range(len(validation))  # a sequence is data set enough for a loader
    trainer.fit(
        module,
        loader,
        DataLoader(numbers, batch_size=None) if validation else None,
        ckpt_path=str(last) if resume and last.is_file() else None,
        weights_only=True,
    )


def finish(out: Path, say: Callable[[str], None] = print) -> Path:
    """Write `model.safetensors` and `model.onnx` of a run from its best checkpoint, of a refit its last."""
    recipe = load_recipe(str(out / "recipe.yaml"))
    file = out / "checkpoints" / ("last.ckpt" if recipe.refit else "best.ckpt")
    if not file.is_file():
        raise ConfigError(f"{out}: no checkpoint yet; go on with: dimpoint train --resume {out}")
    checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    network = create(recipe.network.name, **recipe.network.options)
    state = checkpoint["state_dict"]
    own = {key.removeprefix("network."): state[key] for key in state if key.startswith("network.")}
    network.load_state_dict(own)
    network.eval()
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    found = checkpoint["validation"]
    meta = ModelMeta.model_validate(run["model"])
    threshold = meta.decode.threshold if recipe.refit else _just_below(found["threshold"])
    meta = meta.model_copy(
        update={
            "decode": meta.decode.at(threshold),
            "scores": {"validation": found},
            "date": datetime.date.today().isoformat(),
        }
    )
    save_model(out / "model.safetensors", network, meta)
    export_onnx(network, meta, out / "model.onnx")
    say(f"{describe(found)}: {out / 'model.onnx'}")
    return out / "model.onnx"


def _just_below(score: float) -> float:
    """The threshold, to three decimals, that keeps a detection of this score: what is kept lies above it."""
    return max(0.0, (math.ceil(score * 1000) - 1) / 1000)


def _teacher(recipe: Recipe, network: Network, out: Path) -> Teacher | None:
    if recipe.foundation is None:
        return None
    if find_spec("transformers") is None:
        raise MissingExtraError("training with a foundation model", "transformers", "foundation")
    from dimpoint.training.fdep import open_teacher

    return open_teacher(recipe, network, out)


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


def _start_network(recipe: Recipe, init: Path | None) -> Network:
    """The recipe's network with fresh weights, or with those of the model file `init`."""
    network = create(recipe.network.name, **recipe.network.options)
    if recipe.network.prior is not None:
        if not isinstance(network, HostNetwork):
            raise ConfigError(f"network.prior: '{recipe.network.name}' is no encoder-decoder host")
        network.start_from(recipe.network.prior)
    if init is not None:
        known, meta = load_model(init)
        if (meta.network, meta.options) != (recipe.network.name, recipe.network.options):
            raise ConfigError(
                f"{init}: holds {meta.network} with options {meta.options}, but the recipe trains "
                f"{recipe.network.name} with {recipe.network.options}"
            )
        network.load_state_dict(known.state_dict())
    return network


def describe_model(network: Network, recipe: Recipe, sets: Sequence[DataSet]) -> ModelMeta:
    """The record that the run's model files will carry."""
    if network.stride != recipe.target.stride:
        raise ConfigError(
            f"target.stride is {recipe.target.stride}, but {recipe.network.name} gives a map at stride "
            f"{network.stride}: set target.stride={network.stride}"
        )
    return ModelMeta(
        name=recipe.name,
        package_version=dimpoint.__version__,
        network=recipe.network.name,
        options=recipe.network.options,
        **traits(network),
        intensity=recipe.intensity,
        input_scale=recipe.input_scale,
        magnify_below=recipe.magnify_below,
        replace_hot_pixels=recipe.replace_hot_pixels,
        native_share=recipe.native_share,
        decode=recipe.decode,
        training_data=[f"{part.name} ({len(part)} frames)" for part in sets],
        recipe=recipe.model_dump(mode="json"),
        parameters=count_parameters(network),
    )


def _trainer(
    recipe: Recipe, out: Path, machine: Machine, say: Callable[[str], None], more: Sequence[Callback] = ()
) -> lightning.Trainer:
    callbacks: list[Callback] = [Report(say, monitored(recipe), chooses=not recipe.refit), *more]
    if not recipe.refit:
        callbacks.append(_keep(out, recipe, "best", monitor=f"val/{monitored(recipe)}", mode="max"))
    callbacks.append(_keep(out, recipe, "last"))
    if recipe.ema is not None:
        callbacks.append(WeightAveraging(avg_fn=_average(recipe.ema)))
    if sys.stderr.isatty():
        callbacks.append(Bar(monitored(recipe)))
    return lightning.Trainer(
        accelerator=machine.accelerator,
        devices=machine.devices,
        precision=_precision(machine),  # type: ignore[arg-type]
        max_epochs=recipe.epochs,
        check_val_every_n_epoch=recipe.validate_every,
        gradient_clip_val=recipe.optimizer.clip,
        callbacks=callbacks,
        logger=[
            RunLog(out),
            TensorBoardLogger(out, name="", version="tensorboard"),
        ],
        num_sanity_val_steps=0,
        enable_progress_bar=False,  # Bar is ours
        use_distributed_sampler=False,
        enable_model_summary=False,
        log_every_n_steps=20,
    )


def _average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """An exponential moving average that forgets the first weights soon: its decay rises from 0.1."""

    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        now = min(decay, (1 + float(count)) / (10 + float(count)))
        return now * averaged + (1 - now) * current

    return average


def _keep(out: Path, recipe: Recipe, name: str, **choice: Any) -> ModelCheckpoint:
    """Write checkpoints/NAME.ckpt after each validation; with a `monitor`, only if it is the best so far."""
    return ModelCheckpoint(
        out / "checkpoints",
        filename=name,
        every_n_epochs=recipe.validate_every,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
        **choice,
    )


def _precision(machine: Machine) -> str:
    """`auto`: bfloat16 where the hardware computes in it, else float32."""
    if machine.precision != "auto":
        return machine.precision
    if machine.accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if computes_bfloat16("cuda") else "16-mixed"
    return "bf16-mixed" if computes_bfloat16("cpu") else "32-true"


def _record_held_out(out: Path, validation: Sequence[LabelledFrame]) -> None:
    """Add to run.json the name and content hash of each held-out frame, by data set."""
    record = out / "run.json"
    content = json.loads(record.read_text(encoding="utf-8"))
    held: dict[str, list[dict[str, str]]] = {name: [] for name in content["data"]}
    for frame in validation:
        entry = {"name": frame.sample.name, "sha256": hash_array(frame.counts())}
        held.setdefault(frame.group, []).append(entry)
    write_text(record, json.dumps(content | {"held_out": held}, indent=1))


def is_helper() -> bool:
    """Whether this process is a further one of a run on several devices."""
    return getattr(rank_zero_only, "rank", 0) > 0


def _silent(_: str) -> None:
    return


def _prepare_folder(
    out: Path,
    recipe: Recipe,
    meta: ModelMeta,
    sources: Sources,
    sets: Sequence[DataSet],
    resume: bool,
    teacher: Teacher | None,
) -> None:
    """Write recipe.yaml and run.json, or check that they still hold."""
    if is_helper():
        return
    hashes = {part.name: part.fingerprint() for part in sets}
    record = out / "run.json"
    if resume:
        if not record.is_file():
            raise ConfigError(f"{out}: no run to resume (no run.json)")
        story = json.loads(record.read_text(encoding="utf-8"))
        known = story["data"]
        changed = [name for name, value in hashes.items() if known.get(name, {}).get("sha256") != value]
        if changed or len(known) != len(hashes):
            raise DataError(f"{out}: the data changed since the run began: {', '.join(changed or known)}")
        if teacher is not None:
            teacher.check(story.get("foundation", {}), out)
        return
    if record.exists():
        raise ConfigError(f"{out}: holds a run already; go on with --resume, or choose another --out")
    (out / "checkpoints").mkdir(parents=True, exist_ok=True)
    content = {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seed": recipe.seed,
        "versions": {name: version(name) for name in _VERSIONS} | {"python": platform.python_version()},
        "sources": {"roots": [str(root) for root in sources.roots], "split": sources.split},
        "data": {
            part.name: {"root": str(part.root), "frames": len(part), "sha256": hashes[part.name]}
            for part in sets
        },
        "model": meta.model_dump(mode="json"),
    }
    if teacher is not None:
        content["foundation"] = teacher.record()
    write_text(out / "recipe.yaml", yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    write_text(record, json.dumps(content, indent=1))
