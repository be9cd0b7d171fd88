"""Benchmark of recipes: trained with one budget, evaluated on the same frames, in one table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from dimpoint.errors import ConfigError
from dimpoint.evaluation.predictions import ModelPredictor
from dimpoint.evaluation.run import evaluate
from dimpoint.evaluation.subject import Subject
from dimpoint.evaluation.summary import measured_numbers, without_nan
from dimpoint.evaluation.thresholds import apply_threshold, choose_threshold
from dimpoint.evaluation.truth import TruthFrame, held_out_frames
from dimpoint.inference.detector import Detector
from dimpoint.metrics.protocols import get_protocol
from dimpoint.model.checkpoint import load_model
from dimpoint.model.input_rule import round_up
from dimpoint.networks.base import count_macs
from dimpoint.studies.runs import Budget, check_apart, clock, train_once, training_seconds
from dimpoint.text import counted, printable
from dimpoint.training.fit import Machine, TrainingData
from dimpoint.training.recipe import Recipe, load_recipe

_TIMED_FRAMES, _TIMED_ROUNDS = 8, 5


@dataclass(frozen=True)
class Row:
    """The result of a recipe.

    Parameters
    ----------
    recipe, network : str
        Names of the recipe and its network.
    labels : {"points", "masks"}
        Labels it was trained on.
    epochs : int
        Training length.
    threshold : float
        Threshold of the best F1 on the run's held-out frames.
    precision, recall, f1 : float
        Results on the evaluated frames.
    f1_interval : tuple of float
        95 % bootstrap interval over frames.
    fa : float
        False objects, or their pixels, per pixel, depending on the protocol.
    distance : float
        Mean localisation error, pixels.
    parameters, macs : int
        Size of the network; multiply-adds for a frame of the first evaluated frame's size.
    ms : float
        Median time from array to targets in ONNX Runtime, milliseconds.
    minutes : float
        Training time.
    """

    recipe: str
    network: str
    labels: str
    epochs: int
    threshold: float
    precision: float
    recall: float
    f1: float
    f1_interval: tuple[float, float]
    fa: float
    distance: float
    parameters: int
    macs: int
    ms: float
    minutes: float


@dataclass(frozen=True)
class Benchmark:
    """Settings of a benchmark: recipes, data, folder, changes of every recipe, budget, machine, protocol."""

    recipes: tuple[str, ...]
    sources: TrainingData
    out: Path
    changes: tuple[str, ...] = ()
    budget: Budget = field(default_factory=Budget)
    machine: Machine = field(default_factory=Machine)
    protocol: str = "spire"

    def load(self) -> dict[str, Recipe]:
        """The recipes by the names of their folders; ConfigError if two have the same name."""
        loaded: dict[str, Recipe] = {}
        for given in self.recipes:
            name = Path(given).stem
            if name in loaded:
                raise ConfigError(f"two recipes are called '{name}'; each needs a folder of its own")
            loaded[name] = load_recipe(given, self.changes)
        return loaded

    def check(self, frames: Sequence[TruthFrame]) -> None:
        """Check all recipes before any is trained.

        Raises
        ------
        ConfigError
            If evaluated frames would be trained on, or the protocol does not fit.
        DataError
            If the data lack the labels that a recipe needs.
        """
        self._check_protocol(frames)
        check_apart(self.load().values(), self.sources, frames)

    def _check_protocol(self, frames: Sequence[TruthFrame]) -> None:
        if get_protocol(self.protocol).match_points is not None:
            return
        pointing = [name for name, recipe in self.load().items() if recipe.target.kind != "mask"]
        if pointing:
            raise ConfigError(
                f"--protocol {self.protocol} needs probability maps, but {', '.join(pointing)} gives points; "
                "points are compared with --protocol spire"
            )
        if not all(frame.has_mask for frame in frames):
            raise ConfigError(f"--protocol {self.protocol} needs masks, and some evaluated frames have none")


def run_benchmark(
    benchmark: Benchmark, frames: Sequence[TruthFrame], log: Callable[[str], None]
) -> list[Row]:
    """Train the missing runs, recipe by recipe, and evaluate all on `frames`; raises as `Benchmark.check`."""
    benchmark.check(frames)
    rows = []
    for name, recipe in benchmark.load().items():
        out = benchmark.out / name
        with clock(out):
            train_once(recipe, benchmark.sources, out, benchmark.machine, log, benchmark.budget)
        log(f"{name}: evaluating")
        rows.append(score(out, frames, benchmark.machine.threads, benchmark.protocol))
    return rows


def score(
    run: Path, frames: Sequence[TruthFrame], threads: int | None = None, protocol: str = "spire"
) -> Row:
    """Evaluate a finished run on `frames`, at the threshold of the best F1 on its held-out frames."""
    recipe = load_recipe(str(run / "recipe.yaml"))
    predictor = ModelPredictor(run, threads=threads)
    held = Subject(predictor, held_out_frames(run))
    words = f"the frames held out by {run.name}"
    apply_threshold(held, choose_threshold(held, "f1", 0.0, chosen_on=words, evaluated=frames))
    result = evaluate(predictor, frames, protocol).pooled
    total = result.total(protocol)
    interval = measured_numbers(result, protocol)["f1"]
    network, meta = load_model(run / "model.safetensors")
    shape = frames[0].shape()
    rule = meta.input
    seen = [[round_up(side, meta.multiple) for side in rule.size_of(shape, s)] for s in rule.scales_of(shape)]
    assert predictor.threshold is not None
    return Row(
        recipe=run.name,
        network=meta.network,
        labels=trained_on(recipe),
        epochs=recipe.epochs,
        threshold=predictor.threshold,
        precision=total.precision,
        recall=total.recall,
        f1=total.f1,
        f1_interval=(interval.low, interval.high),
        fa=float(getattr(total, f"fa_{get_protocol(protocol).fa_counts}")),
        distance=total.distance_mean,
        parameters=meta.parameters or 0,
        macs=sum(count_macs(network, height, width) for height, width in seen),
        ms=_milliseconds(run / "model.onnx", frames, threads),
        minutes=training_seconds(run) / 60,
    )


def trained_on(recipe: Recipe) -> str:
    """The labels of a recipe's training: masks that grow from points are trained on points."""
    return "masks" if recipe.target.kind == "mask" and not recipe.grows else "points"


def to_record(benchmark: Benchmark, rows: Sequence[Row], frames: Sequence[TruthFrame]) -> dict[str, Any]:
    """A JSON-compatible dict, with null for undefined numbers."""
    height, width = frames[0].shape()
    record: dict[str, Any] = without_nan(
        {
            "data": [str(root) for root in benchmark.sources.roots],
            "frames": len(frames),
            "frame_size": [height, width],
            "protocol": benchmark.protocol,
            "fa": _fa(benchmark.protocol),
            "threshold": "of the best F1 on the frames that each run held out",
            "budget": str(benchmark.budget),
            "changes": list(benchmark.changes),
            "threads": benchmark.machine.threads,
            "rows": [asdict(row) for row in rows],
        }
    )
    return record


def _milliseconds(model: Path, frames: Sequence[TruthFrame], threads: int | None) -> float:
    detector = Detector(model, threads=threads)
    arrays = [pixels for frame in frames[:_TIMED_FRAMES] if (pixels := frame.read_pixels()) is not None]
    times = []
    for number in range(_TIMED_ROUNDS + 1):
        for pixels in arrays:
            started = time.perf_counter()
            detector(pixels)
            if number:  # the first round warms up
                times.append(1e3 * (time.perf_counter() - started))
    return median(times)


def _fa(protocol: str) -> str:
    """The definition of a protocol's Fa."""
    return f"false {get_protocol(protocol).fa_counts} per pixel"


def _three(value: float) -> str:
    return f"{value:.3f}"


_FORMS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("recipe", "recipe", str),
    ("labels", "labels", str),
    ("precision", "precision", _three),
    ("recall", "recall", _three),
    ("f1", "F1", _three),
    ("f1_interval", "95 %", lambda ends: "-" if None in ends else f"{ends[0]:.3f} .. {ends[1]:.3f}"),
    ("fa", "Fa, per pixel", "{:.1e}".format),
    ("distance", "error, px", "{:.2f}".format),
    ("parameters", "parameters", "{:,}".format),
    ("macs", "GMACs", lambda macs: f"{macs / 1e9:.2f}"),
    ("ms", "CPU ms", "{:.1f}".format),
    ("minutes", "training, min", "{:.1f}".format),
)

COLUMNS = tuple(label for _, label, _ in _FORMS)


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row of the record as text, in the order of `COLUMNS`; `-` for undefined numbers."""
    return ["-" if row[key] is None else form(row[key]) for key, _, form in _FORMS]


def heading(record: Mapping[str, Any]) -> str:
    """One line on the data, protocol and budget."""
    data = ", ".join(record["data"])
    return (
        f"{data}, split {record['split']}: {counted(record['frames'], 'frame')}, "
        f"protocol {record['protocol']}, trained for {record['budget']}"
    )


def markdown(record: Mapping[str, Any]) -> str:
    """The table in Markdown, with its heading and the meaning of the columns."""
    height, width = record["frame_size"]
    threads = "all cores" if record["threads"] is None else f"{record['threads']} thread(s)"
    changed = "".join(f" `--set {change}`" for change in record["changes"])
    lines = [
        printable(f"{heading(record)}.{changed}"),
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|---|---|" + "---:|" * (len(COLUMNS) - 2),
        *("| " + " | ".join(_cell(text) for text in cells(row)) + " |" for row in record["rows"]),
        "",
        f"Each at the threshold {record['threshold']}. 95 %: bootstrap over frames. Fa: "
        f"{_fa(record['protocol'])}. Error: mean distance of a found target. "
        f"GMACs: convolutions, one {height}x{width} frame. CPU ms: array to targets in ONNX "
        f"Runtime, median, {threads}.",
    ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Text as a cell of a Markdown table."""
    return printable(text).replace("|", "\\|")
