"""The frames that a training run held out for validation, found again from what the run recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from dimpoint.data.dataset import DataSet, open_dataset, training_split
from dimpoint.data.similar import thumbnail
from dimpoint.data.splits import hold_out_scenes
from dimpoint.errors import DataError
from dimpoint.evaluation.truth import TruthFrame, frames_of

if TYPE_CHECKING:
    from dimpoint.training.recipe import Recipe

HELD_OUT = "held-out"


def held_out_frames(run: Path) -> list[TruthFrame]:
    """The validation frames of a run's folder, of all its data sets; of a refit those without targets.

    They are chosen by the run's seed, as in training. Raises DataError if the folder is no run, or if its
    data are not where they were or not as many.
    """
    from dimpoint.training.recipe import load_recipe

    file = run / "run.json"
    if not file.is_file():
        raise DataError(f"{HELD_OUT}: {run} is no training run's folder (no run.json)")
    try:
        record = json.loads(file.read_text("utf-8"))
        roots, split = record["sources"]["roots"], record["sources"]["split"]
        counts = [entry["frames"] for entry in record["data"].values()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file}: not a run's record ({error!r})") from None
    recipe = load_recipe(str(run / "recipe.yaml"))
    sets = [open_dataset(root, split or training_split(root)) for root in roots]
    if [len(part) for part in sets] != counts:
        raise DataError(f"{file}: its data sets had {counts} frames, now {[len(part) for part in sets]}")
    return [frame for part in sets for frame in _held(part, recipe)]


def _held(part: DataSet, recipe: Recipe) -> list[TruthFrame]:
    thumbnails = [thumbnail(sample.read_frame()) for sample in part]
    held = hold_out_scenes(part.samples, thumbnails, recipe.validation, recipe.seed)[1]
    if recipe.refit:
        held = [sample for sample in held if not len(sample.read_points())]
    return frames_of(held, part.name)
