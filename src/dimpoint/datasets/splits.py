"""A validation part, split off the training data; the test set is never touched.

Frames of one scene: near duplicates that must not be split between training and validation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy.sparse.csgraph import connected_components

from dimpoint.datasets.dataset import Sample
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


_SIDE = 16


def scene_numbers(thumbnails: Sequence[npt.NDArray[np.float32]], correlation: float = 0.95) -> list[int]:
    """A number for each frame, equal for frames of one scene.

    Two frames show one scene if their thumbnails correlate by more than `correlation`; chains of such
    frames are one scene too. Memory grows with the square of the number of frames (10,000: 0.5 GB).
    """
    if not thumbnails:
        return []
    stacked = np.stack(thumbnails)
    _, labels = connected_components(stacked @ stacked.T > correlation, directed=False)
    numbers: list[int] = labels.tolist()
    return numbers


def thumbnail(frame: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """(H, W) frame -> (256,) float32 of mean 0 and length 1 (all 0 for a flat frame)."""
    shrunk = cv2.resize(frame.astype(np.float32), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    small = shrunk.ravel().astype(np.float32)
    small -= small.mean()
    length = float(np.linalg.norm(small))
    small *= 1 / length if length > 1e-6 else 0.0
    return small
