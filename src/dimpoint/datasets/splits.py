"""Split a data set: hold out frames for validation or testing, and find frames in two splits.

By scene: near duplicates stay on one side. By time: the last frames of each sequence, for data that show one
scene. At random: for unrelated frames.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from scipy.sparse.csgraph import connected_components

from dimpoint.atomic import write_text
from dimpoint.datasets.dataset import DataSet, Sample
from dimpoint.datasets.layout import Layout
from dimpoint.datasets.lists import SplitFile
from dimpoint.errors import ConfigError, DataError
from dimpoint.text import counted

_VIDEO_FRAME = re.compile(r"(.+)_\d{6}")  # as frames of a video are named


def hold_out(
    samples: Sequence[Sample],
    fraction: float,
    seed: int,
    groups: Callable[[Sample], str] | None = None,
) -> tuple[list[Sample], list[Sample]]:
    """Split samples into (train, validation), each in the given order.

    The names with the smallest SHA-256 of seed and name are held out, so that the same seed gives the same
    frames in any order of the samples.

    Parameters
    ----------
    samples : sequence of Sample
        The frames.
    fraction : float
        Fraction to hold out, 0 to 1, exclusive; at least one sample.
    seed : int
        Seed of the choice.
    groups : callable, optional
        Maps a sample to its group, such as its sequence. Groups stay together, and whole groups are held out
        until the fraction is reached.

    Returns
    -------
    tuple of list of Sample
        The samples to train on, and those held out.

    Raises
    ------
    ConfigError
        If the fraction is out of range, or nothing would be left to train on.

    Examples
    --------
    >>> from dimpoint.datasets.dataset import open_dataset
    >>> from dimpoint.datasets.splits import hold_out
    >>> train, held = hold_out(open_dataset("examples/scenes").samples, 0.25, seed=0)
    >>> len(train), len(held)
    (6, 2)
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"the validation fraction must be between 0 and 1, got {fraction}")
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
            f"{counted(len(samples), 'frame')} in {counted(len(sizes), 'group')}: nothing is left to train "
            f"on if {fraction:g} of them are held out"
        )
    pairs = list(zip(samples, keys, strict=True))
    return [s for s, key in pairs if key not in held], [s for s, key in pairs if key in held]


def hold_out_scenes(
    samples: Sequence[Sample],
    thumbnails: Sequence[npt.NDArray[np.float32]],
    fraction: float,
    seed: int,
) -> tuple[list[Sample], list[Sample]]:
    """`hold_out` with the frames of one scene kept together; thumbnails: one per sample (`thumbnail`)."""
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
    """Split samples into (kept, held out), each in the given order.

    Parameters
    ----------
    samples : sequence of Sample
        The frames.
    thumbnails : sequence of (256,) float32
        One per sample (`thumbnail`); used by "scene".
    fraction : float
        Fraction to hold out, 0 to 1, exclusive.
    seed : int
        Seed of "scene" and "random".
    by : {"scene", "time", "random"}
        Keep scenes together, hold out the end of each sequence, or choose at random.

    Raises
    ------
    ConfigError
        If nothing would be left to train on; the message names an alternative.
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

    A sequence is a folder below the frame folder, or the frames of one video in a folder, named NAME_000012;
    the other frames of a folder are one sequence. Numbers in names are compared as numbers. Sequences of one
    frame are trained on. Raises ConfigError like `hold_out`.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"the validation fraction must be between 0 and 1, got {fraction}")
    sequences: dict[str, list[Sample]] = {}
    for sample in samples:
        folder, _, name = sample.name.rpartition("/")
        video = _VIDEO_FRAME.fullmatch(name)
        sequences.setdefault(f"{folder}/{video[1] if video else ''}", []).append(sample)
    held: set[str] = set()
    for sequence in sequences.values():
        if len(sequence) > 1:
            count = min(max(1, round(fraction * len(sequence))), len(sequence) - 1)
            held |= {one.name for one in sorted(sequence, key=lambda one: _in_time(one.name))[-count:]}
    if not held:
        raise ConfigError(
            f"{counted(len(samples), 'frame')}, no two of one sequence: none can be held out by time"
        )
    return [s for s in samples if s.name not in held], [s for s in samples if s.name in held]


def _in_time(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts `f9` before `f10`."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def write_split(
    dataset: DataSet, parts: Mapping[str, float], seed: int, by: By, progress: Callable[[], None]
) -> dict[str, Path]:
    """Write the split lists img_idx/PART_NAME.txt for `train` and each of `parts`.

    Parameters
    ----------
    dataset : DataSet
        A data set without split lists.
    parts : mapping of str to float
        Name and fraction of each part, such as {"test": 0.2}.
    seed : int
        Seed of the choice.
    by : {"scene", "time", "random"}
        See `divide`.
    progress : callable
        Called after each frame.

    Returns
    -------
    dict of str to Path
        The lists.

    Raises
    ------
    ConfigError
        If there are split lists already, the fractions do not fit, or a part would be empty; nothing is
        written.
    DataError
        If the name of a frame does not fit into a line; nothing is written.
    """
    folder, name = dataset.root / "img_idx", dataset.name
    there = sorted(folder.glob("*.txt"))
    if there:
        raise ConfigError(f"{there[0]}: a split list exists already and is not overwritten; move it away")
    if sum(parts.values()) >= 1:
        raise ConfigError(f"the shares add up to {sum(parts.values()):g}; nothing is left to train on")
    for sample in dataset:
        if not _fits_a_line(sample.name):
            raise DataError(
                f"{sample.frame_path}: a split list cannot hold this name; rename the file: UTF-8, one line, "
                "no space at its ends"
            )
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


def _fits_a_line(name: str) -> bool:
    return name.encode("utf-8", "replace").decode() == name and name.splitlines() == [name.strip()]


def _rank(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{key}".encode("utf-8", "surrogateescape")).digest()


_SIDE = 16


def scene_numbers(thumbnails: Sequence[npt.NDArray[np.float32]], correlation: float = 0.95) -> list[int]:
    """A number for each frame, equal for frames of one scene.

    Two frames show one scene if their thumbnails correlate by more than `correlation`, directly or through a
    chain of such frames. Memory grows with the square of the number of frames (10,000 frames: 0.5 GB).
    """
    if not thumbnails:
        return []
    stacked = np.stack(thumbnails)
    _, labels = connected_components(stacked @ stacked.T > correlation, directed=False)
    numbers: list[int] = labels.tolist()
    return numbers


def thumbnail(frame: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """A (H, W) frame as 16x16 values, (256,) float32 of mean 0 and length 1 (all 0 for a flat frame)."""
    shrunk = cv2.resize(frame.astype(np.float32), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    small = shrunk.ravel().astype(np.float32)
    small -= small.mean()
    length = float(np.linalg.norm(small))
    small *= 1 / length if length > 1e-6 else 0.0
    return small


@dataclass(frozen=True)
class Overlap:
    """A frame `name` of split `group` with the same pixels as frame `other` of `other_group`."""

    name: str
    group: str
    other: str
    other_group: str


def split_groups(layout: Layout) -> dict[str, list[str]]:
    """The frames of each purpose (`train`, `test`, …), from all its split lists.

    Without split lists all frames are one group. `test` is first and `train` last, so that a frame in both
    counts as a test frame.
    """
    if not layout.splits:
        return {"frames": list(layout.frames)}
    groups: dict[str, dict[str, None]] = {}
    for split in layout.splits:
        found = (layout.listed(entry) for _, entry in split.entries)
        groups.setdefault(group_of(split), {}).update((name, None) for name in found if name is not None)
    order = sorted(groups, key=lambda group: (group == "train", group != "test", group))
    return {group: list(groups[group]) for group in order}


def group_of(split: SplitFile) -> str:
    """`train`, `val` or `test`, or else the list's name up to the first `_`."""
    return split.purpose or split.stem.split("_")[0]


def find_overlaps(groups: dict[str, list[str]], digests: dict[str, str | None]) -> list[Overlap]:
    """Every frame that repeats the pixels of an earlier one, in the same or an earlier group."""
    first: dict[str, tuple[str, str]] = {}
    overlaps = []
    for group, names in groups.items():
        for name in names:
            digest = digests[name]
            if digest is None:
                continue
            if digest in first:
                overlaps.append(Overlap(name, group, *first[digest]))
            else:
                first[digest] = (name, group)
    return overlaps
