"""FDEP in training: a frozen foundation model beside the network, and two losses in one backward pass.

After arXiv 2512.05511. Checkpoints hold the network and the fusion, never the foundation model; the trained
model file holds the network alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from dimpoint.errors import ConfigError
from dimpoint.fdep.cache import FeatureCache
from dimpoint.fdep.encoder import FoundationEncoder
from dimpoint.fdep.fusion import fusion, two_paths
from dimpoint.fdep.grids import ORIENTATIONS, Affine, oriented
from dimpoint.networks import Network
from dimpoint.networks.base import HostNetwork
from dimpoint.training.frames import Array, LabelledFrame
from dimpoint.training.module import DetectionModule
from dimpoint.training.recipe import Augmentation, FoundationChoice, Recipe
from dimpoint.training.views import TrainingView

Grids = tuple[Tensor, ...]


@dataclass(frozen=True)
class Teacher:
    """The frozen foundation encoder, its cached features, and the trainable fusion.

    Parameters
    ----------
    encoder : FoundationEncoder
        The encoder.
    cache : FeatureCache or None
        Features on disk and in memory; None: computed for each view.
    fusion : nn.Module
        Trained together with the network.
    cells : int
        Cells along a side of the token grids of a view.
    """

    encoder: FoundationEncoder
    cache: FeatureCache | None
    fusion: nn.Module
    cells: int

    def record(self) -> dict[str, Any]:
        """The entry about the foundation model in run.json."""
        return {
            "source": self.encoder.source,
            "key": self.encoder.key,
            "channels": list(self.encoder.channels),
            "licence": self.encoder.licence_notice,
        }

    def check(self, recorded: dict[str, Any], out: Path) -> None:
        """Raise ConfigError unless the run in `out` was started with this foundation model."""
        ours = self.record()
        if recorded.get("channels") != ours["channels"]:
            raise ConfigError(
                f"{out}: the run was started with a foundation model of {recorded.get('channels')} channels, "
                f"{self.encoder.source} has {ours['channels']}"
            )
        if recorded["key"] != ours["key"]:
            raise ConfigError(f"{out}: {self.encoder.source} changed since the run began; start a new run")

    def prepare(self, frames: Sequence[LabelledFrame], recipe: Recipe, log: Callable[[str], None]) -> None:
        """Compute the features of all frames in advance."""
        if self.cache is None:
            return
        turns = orientations_of(recipe.augmentation) if self.cache.orientations else ORIENTATIONS[:1]
        for number, frame in enumerate(frames, start=1):
            for limits in sorted({frame.limits, frame.deep or frame.limits}):
                counts = frame.counts()
                pixels = recipe.input.unit_range(counts, limits, counts.shape)
                for turn in turns:
                    self.cache.get(oriented(pixels, turn))
            if number % 100 == 0 or number == len(frames):
                log(f"features of the foundation model: {number} of {len(frames)} frames")

    def features(self, pixels: Array, view: TrainingView) -> Grids:
        """Features of a view from the cache: (cells, cells, D) for each tap, channels last."""
        assert self.cache is not None
        grids = self.cache.view(pixels, view.affine, len(view.pixels), self.cells)
        return tuple(grid.permute(1, 2, 0) for grid in grids)


def open_teacher(recipe: Recipe, network: Network, out: Path, device: str = "cpu") -> Teacher:
    """Open the foundation model of the recipe's section `foundation`.

    Parameters
    ----------
    recipe : Recipe
        The recipe.
    network : Network
        The host that is trained.
    out : Path
        The run's folder, which holds the cache unless the recipe names another folder.
    device : str
        Where whole frames are encoded for the cache. Default: `cpu`.

    Returns
    -------
    Teacher

    Raises
    ------
    ConfigError
        If the network has no encoder and decoder, or the foundation model is not named, missing, or no
        backbone.
    """
    choice = recipe.foundation
    assert choice is not None
    if not isinstance(network, HostNetwork):
        raise ConfigError(
            f"network '{recipe.network.name}' has no separate encoder and decoder, which FDEP needs; take a "
            "network that `dimpoint networks` lists as probability at 1/1"
        )
    lacking = [name for name in ("deepest_channels", "deepest_stride") if not hasattr(network, name)]
    if lacking:
        raise ConfigError(
            f"network '{recipe.network.name}' has no attribute {lacking[0]}, which FDEP needs: of the last "
            "feature that its encode() returns"
        )
    if not choice.source:
        raise ConfigError(
            "FDEP needs a foundation model: give --foundation with a Hugging Face folder or hub id "
            "(such as facebook/dinov2-small), or make one from your frames with: dimpoint pretrain"
        )
    encoder = FoundationEncoder(
        choice.source,
        taps=choice.taps,
        magnification=choice.magnification,
        randomise=recipe.seed if choice.randomise else None,
    )
    grid = round(recipe.view.size * choice.magnification / encoder.patch)
    return Teacher(
        encoder,
        _cache(choice, encoder, out, device) if choice.cache else None,
        fusion(choice.fusion, network.deepest_channels, encoder.channels),
        max(1, min(grid, recipe.view.size // network.deepest_stride)),
    )


def orientations_of(change: Augmentation) -> list[Affine]:
    """The orientations (flips and quarter turns) that views are drawn in."""
    turned = change.quarter_turns or (change.rotation > 45 and change.rotation_probability > 0)
    flips = (1, -1) if change.flips else (1,)
    return [
        turn for turn in ORIENTATIONS if round(np.linalg.det(turn)) in flips and (turned or turn[1, 1] > 0)
    ]


def _cache(choice: FoundationChoice, encoder: FoundationEncoder, out: Path, device: str) -> FeatureCache:
    folder = Path(choice.cache_folder) if choice.cache_folder else out / "features"
    limit = int(choice.cache_gb * 1e9)
    return FeatureCache(folder, encoder, limit, orientations=choice.cache_orientations, device=device)


class FdepModule(DetectionModule):
    """Trains a host along two paths, with and without the fusion (CO-ISD); the light path is validated.

    Parameters
    ----------
    *args
        As `DetectionModule`.
    teacher : Teacher
        The foundation model.
    """

    def __init__(self, *args: Any, teacher: Teacher) -> None:
        super().__init__(*args)
        self.fusion = teacher.fusion
        self._encoder = teacher.encoder  # not an nn.Module, so checkpoints do not contain its weights

    def step_loss(self, frames: Tensor, targets: Tensor, grids: Grids | None = None) -> Tensor:
        """The weighted sum of both paths' losses.

        grids: (N, cells, cells, D) for each tap, as `Teacher.features` returns them; None: the views are
        encoded.
        """
        choice = self.recipe.foundation
        assert choice is not None
        assert isinstance(self.network, HostNetwork)
        tokens = self._encoder(frames) if grids is None else tuple(grid.permute(0, 3, 1, 2) for grid in grids)
        main, light = two_paths(self.network, self.fusion, self.standardised(frames), tokens)
        return choice.main * self.loss(main, targets) + choice.light * self.loss(light, targets)
