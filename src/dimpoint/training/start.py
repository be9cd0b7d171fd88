"""What training starts from: a new network, the weights of a model file, or those that a run has stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dimpoint.errors import ConfigError
from dimpoint.model.checkpoint import load_model
from dimpoint.model.files import sha256_of
from dimpoint.model.record import ModelMeta
from dimpoint.networks import Network, create
from dimpoint.networks.base import HostNetwork, check_outputs
from dimpoint.training.recipe import Recipe
from dimpoint.training.run_folder import RunFolder, read_start


def new_network(recipe: Recipe) -> Network:
    """The recipe's network with its initial weights."""
    network = create(recipe.network.name, **recipe.network.options)
    if type(network).__module__.partition(".")[0] != "dimpoint":
        check_outputs(network, recipe.network.name)
    if recipe.network.prior is not None:
        if not isinstance(network, HostNetwork):
            raise ConfigError(f"network.prior: '{recipe.network.name}' is not an encoder-decoder network")
        network.start_from(recipe.network.prior)
    return network


@dataclass(frozen=True)
class Parent:
    """A model file that training starts from.

    Parameters
    ----------
    file : Path
        The file.
    network : Network
        With its weights.
    meta : ModelMeta
        Its record.
    """

    file: Path
    network: Network
    meta: ModelMeta

    @classmethod
    def read(cls, file: Path) -> Parent:
        return cls(file, *load_model(file))

    def record(self) -> dict[str, Any]:
        """The entry in run.json."""
        return {
            "name": self.meta.name,
            "file": str(self.file.resolve()),
            "sha256": sha256_of(self.file),
            "decode": self.meta.decode.model_dump(mode="json"),
        }


def with_options_of(meta: ModelMeta, recipe: Recipe, log: Callable[[str], None]) -> Recipe:
    """The recipe with the network options of a model, unless it has options of its own."""
    if recipe.network.options or not meta.options or meta.network != recipe.network.name:
        return recipe
    options = ", ".join(f"{key} {value}" for key, value in meta.options.items())
    log(f"network options of {meta.name}: {options}")
    network = recipe.network.model_copy(update={"options": meta.options})
    return recipe.model_copy(update={"network": network})


def load_parent(network: Network, recipe: Recipe, parent: Parent) -> None:
    """Load the weights of a model file."""
    meta = parent.meta
    if (meta.network, meta.options) != (recipe.network.name, recipe.network.options):
        raise ConfigError(
            f"{parent.file}: holds {meta.network} with {meta.options}, the recipe {recipe.network.name} with "
            f"{recipe.network.options}; for the file's network give --set network.name={meta.network} --set "
            f'"network.options={meta.options}"'
        )
    network.load_state_dict(parent.network.state_dict())


def load_start(
    network: Network,
    recipe: Recipe,
    folder: RunFolder,
    parent: dict[str, Any] | None,
    log: Callable[[str], None],
) -> None:
    """Load the initial weights of a run without a checkpoint: stored, of its parent, or from its seed."""
    weights = read_start(folder)
    if weights is not None:
        network.load_state_dict(weights)
        log(f"no checkpoint: starting again from {folder.start}")
    elif parent is not None:
        file = Path(parent["file"])
        if not file.is_file() or sha256_of(file) != parent["sha256"]:
            raise ConfigError(
                f"{folder.path}: was started from {file}, which is missing or has changed, and "
                f"{folder.start} is damaged; start a new run"
            )
        load_parent(network, recipe, Parent.read(file))
        log(f"no checkpoint: starting again from {file}")
    else:
        log("no checkpoint: starting again from the seed's weights")
