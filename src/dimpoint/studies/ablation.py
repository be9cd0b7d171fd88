"""Ablation of FDEP: the same runs with and without it, and with two controls, over several seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.errors import ConfigError
from dimpoint.evaluation.predictions import ModelPredictor
from dimpoint.evaluation.run import SetResult, evaluate
from dimpoint.evaluation.summary import without_nan
from dimpoint.evaluation.truth import TruthFrame
from dimpoint.metrics.bootstrap import Interval, bootstrap
from dimpoint.metrics.counts import Counts
from dimpoint.studies.runs import check_apart, check_foundation, train_once
from dimpoint.training.fit import Machine, TrainingData
from dimpoint.training.recipe import Recipe, load_recipe
from dimpoint.training.start import new_network

PLAIN = "plain"
ARMS: Mapping[str, tuple[str, ...]] = {
    PLAIN: (),
    "fdep": ("foundation.fusion=samf",),
    "add": ("foundation.fusion=add",),
    "random": ("foundation.randomise=true",),
}
"""Each arm's changes: `plain` trains the host alone, `fdep` with the foundation model, `add` with its tokens
added instead of modulated, `random` with a frozen model of the same shape and random weights: the control."""

PROTOCOL = "basicirstd"


@dataclass(frozen=True)
class Number:
    """A number of the table; times: factor for display."""

    key: str
    label: str
    pixels: bool
    times: float = 100.0


NUMBERS = (
    Number("iou", "IoU %", True),
    Number("niou", "nIoU %", True),
    Number("recall", "Pd %", False),
    Number("fa_pixels", "Fa 1e-6", False, 1e6),
    Number("f1", "F1 %", False),
)


@dataclass(frozen=True)
class Row:
    """The result of an arm.

    Parameters
    ----------
    arm : str
        Name of the arm.
    mean, deviation : dict of str to float
        Mean and standard deviation of each number over the seeds; the deviation is NaN for one seed.
    difference : dict of str to Interval, or None
        Difference of the means from `plain`, with paired 95 % bootstrap intervals over frames; None for
        `plain`.
    values : dict of str to list of float
        Each number by seed.
    """

    arm: str
    mean: dict[str, float]
    deviation: dict[str, float]
    difference: dict[str, Interval] | None
    values: dict[str, list[float]]


@dataclass(frozen=True)
class Study:
    """Settings of an ablation.

    Parameters
    ----------
    host : str
        Recipe of the encoder-decoder network.
    foundation : str
        Folder or id of the foundation model.
    sources : Sources
        Training data.
    out : Path
        Folder of the runs.
    seeds : int, default 3
        Number of runs per arm.
    changes : tuple of str
        Changes of the recipe, KEY=VALUE, in every arm; those of section `foundation` only in arms that have
        one.
    machine : Machine
        Device and threads.
    """

    host: str
    foundation: str
    sources: TrainingData
    out: Path
    seeds: int = 3
    changes: tuple[str, ...] = ()
    machine: Machine = field(default_factory=Machine)

    def recipes(self, arm: str) -> list[Recipe]:
        """The arm's recipes, one per seed; ConfigError for an unknown arm."""
        if arm not in ARMS:
            raise ConfigError(f"no arm '{arm}'; known: {', '.join(ARMS)}")
        taught = [change for change in self.changes if change.startswith("foundation.")]
        changes = [change for change in self.changes if change not in taught]
        name = self.host
        if arm != PLAIN:
            name = f"fdep-{self.host}"
            changes += [f"foundation.source={self.foundation}", *taught, *ARMS[arm]]
            changes.append(f"foundation.cache_folder={self.out / 'features'}")
        return [load_recipe(name, [*changes, f"seed={seed}"]) for seed in range(self.seeds)]

    def models(self, arm: str, log: Callable[[str], None]) -> list[Path]:
        """Train the arm's models, one per seed, and return their files; ConfigError for an unknown arm."""
        return [
            train_once(recipe, self.sources, self.folder(arm, seed), self.machine, log)
            for seed, recipe in enumerate(self.recipes(arm))
        ]

    def folder(self, arm: str, seed: int) -> Path:
        """The folder of a run."""
        return self.out / f"{arm}-{seed}"

    def check(self, arms: Sequence[str], frames: Sequence[TruthFrame]) -> None:
        """Check all arms before any is trained.

        Raises
        ------
        ConfigError
            If an arm is unknown, the host gives no maps, evaluated frames have no masks or would be trained
            on, or the foundation model cannot be used.
        DataError
            If the data lack the labels that the host needs.
        """
        recipes = {arm: self.recipes(arm) for arm in arms}
        every = [recipe for own in recipes.values() for recipe in own]
        if any(recipe.target.kind != "mask" for recipe in every):
            raise ConfigError(
                f"--host {self.host}: gives points, but an ablation evaluates probability maps; take the "
                "recipe of a network that `dimpoint networks` lists as probability at 1/1"
            )
        if not all(frame.has_mask for frame in frames):
            raise ConfigError(f"protocol {PROTOCOL} needs masks, and some evaluated frames have none")
        check_apart(every, self.sources, frames)
        waiting = []
        for arm, own in recipes.items():
            for seed, recipe in enumerate(own):
                if (self.folder(arm, seed) / "model.onnx").is_file():
                    check_foundation(self.folder(arm, seed), recipe)
                elif recipe.foundation is not None:
                    waiting.append(recipe)
        if waiting:
            from dimpoint.training.fdep import open_teacher

            open_teacher(waiting[0], new_network(waiting[0]), self.out)


def run_study(
    study: Study, arms: Sequence[str], frames: Sequence[TruthFrame], log: Callable[[str], None]
) -> list[Row]:
    """Train the missing runs, arm by arm, and evaluate every model on `frames`; raises as `Study.check`."""
    arms = list(dict.fromkeys(arm.strip() for arm in arms))
    study.check(arms, frames)
    results = {}
    for arm in arms:
        models = study.models(arm, log)
        results[arm] = [
            evaluate(ModelPredictor(model, threads=study.machine.threads), frames, (PROTOCOL,)).pooled
            for model in models
        ]
    return [summarise(arm, results[arm], None if arm == PLAIN else results.get(PLAIN)) for arm in arms]


def summarise(arm: str, results: Sequence[SetResult], plain: Sequence[SetResult] | None = None) -> Row:
    """The row of one arm.

    Parameters
    ----------
    arm : str
        Its name.
    results : sequence of SetResult
        One for each seed, evaluated under `PROTOCOL` with true masks.
    plain : sequence of SetResult, optional
        Results of the arm that it is compared with, on the same frames. Default: no comparison.

    Returns
    -------
    Row
        With a `difference` if `plain` is given.
    """
    values = {
        number.key: [_value(number, _parts(number, each)) * number.times for each in results]
        for number in NUMBERS
    }
    difference = None
    if plain is not None:
        difference = {number.key: _difference(number, results, plain) for number in NUMBERS}
    return Row(
        arm,
        {key: fmean(each) for key, each in values.items()},
        {key: _deviation(each) for key, each in values.items()},
        difference,
        values,
    )


def _deviation(values: Sequence[float]) -> float:
    """Standard deviation; NaN for one value and for undefined ones, for which `stdev` raises."""
    return stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else math.nan


def _parts(number: Number, result: SetResult) -> Sequence[Counts]:
    """The counts of each frame from which the number is computed."""
    assert result.maps is not None
    assert result.threshold is not None
    if number.pixels:
        return result.maps.pixels(result.threshold)
    return result.maps.targets(PROTOCOL, result.threshold)


def _value(number: Number, parts: Sequence[Counts]) -> float:
    return float(getattr(type(parts[0]).total(parts), number.key))


def _difference(number: Number, results: Sequence[SetResult], plain: Sequence[SetResult]) -> Interval:
    ours = [_parts(number, each) for each in results]
    theirs = [_parts(number, each) for each in plain]

    def difference(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        means = [
            np.mean([getattr(type(parts[0]).resampled(parts, weights), number.key) for parts in arm], axis=0)
            for arm in (ours, theirs)
        ]
        difference: npt.NDArray[np.float64] = (means[0] - means[1]) * number.times
        return difference

    return bootstrap(len(ours[0]), difference)


def to_record(study: Study, rows: Sequence[Row], frames: int) -> dict[str, Any]:
    """A JSON-compatible dict, with null for undefined numbers."""
    record: dict[str, Any] = {
        "host": study.host,
        "foundation": study.foundation,
        "seeds": study.seeds,
        "frames": frames,
        "protocol": PROTOCOL,
        "difference": "minus plain; paired 95 % bootstrap over frames of the difference of the seeds' means",
        "arms": {
            row.arm: {
                "values": row.values,
                "mean": row.mean,
                "deviation": row.deviation,
                "difference": None
                if row.difference is None
                else {key: [each.value, each.low, each.high] for key, each in row.difference.items()},
            }
            for row in rows
        },
    }
    finite: dict[str, Any] = without_nan(record)
    return finite
