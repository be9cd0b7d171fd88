"""Many training runs in one folder: finished ones are kept, interrupted ones go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dimpoint.errors import ConfigError
from dimpoint.training.fit import Machine, Sources, finish, fit
from dimpoint.training.recipe import Recipe, load_recipe


def train_once(
    recipe: Recipe, sources: Sources, out: Path, machine: Machine, say: Callable[[str], None]
) -> Path:
    """The trained model.onnx of the run in `out`: begun, gone on with or finished already.

    Raises ConfigError if `out` holds a run of another recipe.
    """
    begun = (out / "run.json").is_file()
    if begun and load_recipe(str(out / "recipe.yaml")) != recipe:
        raise ConfigError(f"{out}: holds a run of another recipe; choose another --out")
    model = out / "model.onnx"
    if model.is_file():
        return model
    say(f"{out.name}: {'going on' if begun else 'training'}")
    fit(recipe, sources, out, machine=machine, resume=begun, say=lambda line: say(f"{out.name}: {line}"))
    return model if model.is_file() else finish(out, say)
