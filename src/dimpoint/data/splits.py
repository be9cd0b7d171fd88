"""A validation part, split off the training data; the test set is never touched."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from dimpoint.data.dataset import Sample
from dimpoint.data.similar import scene_numbers
from dimpoint.errors import ConfigError


def hold_out(
    samples: Sequence[Sample],
    fraction: float,
    seed: int,
    groups: Callable[[Sample], str] | None = None,
) -> tuple[list[Sample], list[Sample]]:
    """Split samples into (train, validation), each in the order given.

    The `fraction` (0 < fraction < 1; at least one sample) of names with the least sha256 of seed and name
    is held out: the same seed gives the same frames, whatever the order of the samples. groups: a sample's
    group, such as its sequence; a group stays together, and whole groups are held out until the fraction
    is reached. Raises ConfigError if the fraction is out of range or nothing would be left to train on.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"the validation fraction must lie between 0 and 1, got {fraction}")
    keys = [sample.name if groups is None else groups(sample) for sample in samples]
    sizes: dict[str, int] = {}
    for key in keys:
        sizes[key] = sizes.get(key, 0) + 1
    wanted = max(1, round(fraction * len(samples)))
    held: set[str] = set()
    count = 0
    for key in sorted(sizes, key=lambda key: _rank(seed, key)):
        if count >= wanted:
            break
        held.add(key)
        count += sizes[key]
    if count >= len(samples):
        raise ConfigError(
            f"{len(samples)} samples in {len(sizes)} groups leave nothing to train on "
            f"with a validation fraction of {fraction}"
        )
    pairs = list(zip(samples, keys, strict=True))
    return [s for s, key in pairs if key not in held], [s for s, key in pairs if key in held]


def hold_out_scenes(
    samples: Sequence[Sample],
    thumbnails: Sequence[npt.NDArray[np.float32]],
    fraction: float,
    seed: int,
) -> tuple[list[Sample], list[Sample]]:
    """`hold_out` with the frames of one scene kept together; thumbnails: of each sample (`data.similar`)."""
    scenes = dict(zip(samples, map(str, scene_numbers(thumbnails)), strict=True))
    return hold_out(samples, fraction, seed, scenes.__getitem__)


def _rank(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{key}".encode()).digest()
