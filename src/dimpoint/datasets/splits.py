"""A part of the frames that is held out: for validation, or as a test split (`dimpoint data split`).

By scene: near duplicates must not be split between the parts. By time: the last frames of each sequence, for
data that show one scene. At random: for frames that have nothing to do with each other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from scipy.sparse.csgraph import connected_components

from dimpoint.atomic import write_text
from dimpoint.datasets.dataset import DataSet, Sample
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


By = Literal["scene", "time", "random"]


def divide(
    samples: Sequence[Sample],
    thumbnails: Sequence[npt.NDArray[np.float32]],
    fraction: float,
    seed: int,
    by: By,
) -> tuple[list[Sample], list[Sample]]:
    """Split samples into (kept, held out), each in the order given; see `By` in the module's head.

    thumbnails: of each sample, for `scene`. Raises ConfigError, with what would do, if nothing would be left.
    """
    if by == "time":
        return hold_out_last(samples, fraction)
    if by == "random":
        return hold_out(samples, fraction, seed)
    try:
        return hold_out_scenes(samples, thumbnails, fraction, seed)
    except ConfigError as error:
        if len(samples) < 2 or not 0 < fraction < 1:
            raise
        scenes = len(set(scene_numbers(thumbnails)))
        raise ConfigError(
            f"{len(samples)} frames show {scenes} scene{'s' * (scenes > 1)}: holding out whole scenes would "
            "leave nothing to train on. For a fixed camera hold out the last frames of each sequence: "
            "dimpoint train ... --validation-by time (dimpoint data split ... --by time)"
        ) from error


def hold_out_last(samples: Sequence[Sample], fraction: float) -> tuple[list[Sample], list[Sample]]:
    """Split samples into (train, validation): the last frames of each sequence, in the order of their names.

    A sequence is a folder below the frames' folder, or all frames that lie in none; numbers in names count
    as numbers. A sequence of one frame is trained on. Raises ConfigError as `hold_out` does.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"the validation fraction must lie between 0 and 1, got {fraction}")
    sequences: dict[str, list[Sample]] = {}
    for sample in samples:
        sequences.setdefault(sample.name.rpartition("/")[0], []).append(sample)
    held: set[str] = set()
    for sequence in sequences.values():
        if len(sequence) > 1:
            count = min(max(1, round(fraction * len(sequence))), len(sequence) - 1)
            held |= {one.name for one in sorted(sequence, key=lambda one: _in_time(one.name))[-count:]}
    if not held:
        raise ConfigError(
            f"{len(samples)} samples in {len(sequences)} sequences of one frame: none can be held out by time"
        )
    return [s for s in samples if s.name not in held], [s for s in samples if s.name in held]


def _in_time(name: str) -> list[tuple[int, int, str]]:
    """Sorts `f9` before `f10`."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def write_split(
    dataset: DataSet, parts: Mapping[str, float], seed: int, by: By, progress: Callable[[], None]
) -> dict[str, Path]:
    """Write img_idx/PART_NAME.txt for `train` and each of `parts` (its name, and its share of the frames).

    Raises ConfigError before anything is written if the data set has split lists, if shares do not fit, or
    if nothing would be left of a part.
    """
    folder, name = dataset.root / "img_idx", dataset.name
    there = sorted(folder.glob("*.txt"))
    if there:
        raise ConfigError(f"{there[0]}: there is a split list already; nothing is overwritten, move it away")
    if sum(parts.values()) >= 1:
        raise ConfigError(f"the shares add up to {sum(parts.values()):g}; nothing is left to train on")
    left = list(dataset.samples)
    seen: dict[str, npt.NDArray[np.float32]] = {}
    if by == "scene":
        for sample in left:
            seen[sample.name] = thumbnail(sample.read_frame())
            progress()
    names: dict[str, list[str]] = {}
    for part, share in parts.items():
        fraction = share * len(dataset) / len(left)
        left, held = divide(left, [seen[one.name] for one in left] if seen else [], fraction, seed, by)
        names[part] = [one.name for one in held]
    names = {"train": [one.name for one in left]} | names
    files = {part: folder / f"{part}_{name}.txt" for part in names}
    for part, file in files.items():
        write_text(file, "".join(f"{one}\n" for one in names[part]))
    return files


def _rank(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{key}".encode("utf-8", "surrogateescape")).digest()


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
