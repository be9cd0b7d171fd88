"""Labelled frames in memory, the random views that a network is trained on, and which labels are used.

Bright spots of target-free frames: the most target-like places, around which crops can be cut.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from dimpoint.datasets.check import POINT_TOLERANCE
from dimpoint.datasets.dataset import (
    DataSet,
    Labels,
    Sample,
    combined_hash,
    hash_array,
    hash_label,
    validation_part,
)
from dimpoint.datasets.masks import centroids
from dimpoint.datasets.reading import reader_notes
from dimpoint.datasets.splits import divide, thumbnail
from dimpoint.errors import ConfigError, DataError
from dimpoint.metrics.points import match_points
from dimpoint.model.validity import Mask, filled, valid_pixels
from dimpoint.targets import make_target
from dimpoint.training.copies import TargetCut, cut_targets, set_targets
from dimpoint.training.losses import ignored_pixels, without_ignored
from dimpoint.training.recipe import Recipe
from dimpoint.training.views import Label, TrainingView, training_view

if TYPE_CHECKING:
    from dimpoint.sources import Picture

Array = npt.NDArray[np.float32]
_CACHE_BYTES = 4 << 30  # frames beyond this are read again whenever they are drawn


@dataclass(frozen=True)
class LabelledFrame:
    """A sample with its labels and intensity limits; its counts, too, while the memory budget lasts.

    Parameters
    ----------
    sample : Sample
        The files.
    group : str
        Name of its data set.
    points : (N, 2) float32 array
        x, y of the targets, in pixels.
    limits : tuple of float
        Counts that become 0 and 1.
    kept : (H, W) array or None
        The counts, if they are kept in memory.
    mask : (H, W) bool or float32 array, optional
        Only where the target map is the mask itself; values in 0..1 where soft labels grow.
    deep : tuple of float, optional
        Limits of the same frame in a deep encoding (`IntensityRule.deep_limits`).
    hashes : tuple of str
        Of the frame and of its label.
    notes : tuple of str
        Of the frame's reader.
    valid : (H, W) bool array, optional
        Pixels that are measurements. Default: all.
    """

    sample: Sample
    group: str
    points: npt.NDArray[np.float32]
    limits: tuple[float, float]
    kept: npt.NDArray[Any] | None = field(repr=False)
    mask: Label | None = field(repr=False, default=None)
    deep: tuple[float, float] | None = None
    hashes: tuple[str, str] = ("", "")
    notes: tuple[str, ...] = ()
    valid: Mask | None = field(repr=False, default=None)

    def counts(self) -> npt.NDArray[Any]:
        """The counts, (H, W) uint8, uint16 or float32, with invalid pixels interpolated."""
        if self.kept is not None:
            return self.kept
        return filled(self.sample.read_frame(), self.valid)


def load_frames(sets: Sequence[DataSet], recipe: Recipe) -> tuple[list[LabelledFrame], list[LabelledFrame]]:
    """Read the training and validation frames of data sets.

    Each set contributes to both. A set with a split `validation` holds out that split; others hold out a part
    of their frames as `recipe.validation_by` says. In a refit only frames without targets are held out.

    Parameters
    ----------
    sets : sequence of DataSet
        The data.
    recipe : Recipe
        How frames are read and held out.

    Returns
    -------
    train, validation : list of LabelledFrame

    Raises
    ------
    ConfigError
        If no training frame is left.
    DataError, FrameError
        The first error of a file.
    """
    train: list[LabelledFrame] = []
    validation: list[LabelledFrame] = []
    left = _CACHE_BYTES
    for part in sets:
        own = validation_part(part, labels_of(recipe))
        frames: dict[Sample, LabelledFrame] = {}
        thumbnails = []
        for sample in dict.fromkeys([*part, *(own or ())]):
            picture = sample.read_picture()
            left -= picture.pixels.nbytes
            frames[sample] = _labelled(sample, picture, part.name, recipe, keep=left >= 0)
            thumbnails.append(thumbnail(picture.pixels))
        if own is None:
            _, held = divide(part.samples, thumbnails, recipe.validation, recipe.seed, recipe.validation_by)
        else:
            held = list(own)
        kept_out = {sample for sample in held if not (recipe.refit and len(frames[sample].points))}
        train += [frame for sample, frame in frames.items() if sample not in kept_out]
        validation += [frames[sample] for sample in held if sample in kept_out]
    if not train:
        raise ConfigError("every frame is in a split 'validation': nothing is left to train on")
    return train, validation


def _labelled(sample: Sample, picture: Picture, group: str, recipe: Recipe, *, keep: bool) -> LabelledFrame:
    counts = picture.pixels
    is_target = recipe.target.kind == "mask" and not recipe.grows
    read = is_target or (sample.points is None and sample.mask_path is not None)
    mask = sample.read_mask_with_notes((counts.shape[0], counts.shape[1]))[0] if read else None
    by_ids = sample.reading.mask_values == "instances"
    points = sample.read_points() if mask is None or by_ids else centroids(mask)
    hashes = hash_array(counts), hash_label(sample, mask)
    valid = valid_pixels(counts, picture.valid)
    counts = filled(counts, valid)
    intensity = recipe.input.intensity
    limits = intensity.limits(counts, valid)
    deep = intensity.deep_limits(counts, valid) if recipe.augmentation.encoding else None
    kept = counts if keep else None
    target_mask = mask if is_target else None
    return LabelledFrame(sample, group, points, limits, kept, target_mask, deep, hashes, picture.notes, valid)


def describe_frames(
    sets: Sequence[DataSet], frames: Sequence[LabelledFrame], validation: Sequence[LabelledFrame]
) -> list[str]:
    """What readers say about the frames, and how many there are."""
    notes = reader_notes((frame.sample.name, frame.notes) for frame in (*frames, *validation))
    names = ", ".join(part.name for part in sets)
    return [*notes, f"{len(frames)} training and {len(validation)} validation frames from {names}"]


def fingerprints(sets: Sequence[DataSet], frames: Sequence[LabelledFrame]) -> dict[str, str]:
    """`DataSet.fingerprint` of each set by name, from the hashes of frames that were read already."""
    hashes = {frame.sample: frame.hashes for frame in frames}
    named: dict[str, list[tuple[str, str, str]]] = {}
    for part in sets:  # two may have the same name
        named.setdefault(part.name, []).extend((one.name, *hashes[one]) for one in part)
    return {name: combined_hash(rows) for name, rows in named.items()}


class TrainingViews(Dataset[tuple[Any, ...]]):
    """Random views of frames; view number i depends on the recipe's seed and on i alone.

    Worker processes and restarts therefore do not change what a network sees.

    Parameters
    ----------
    frames : sequence of LabelledFrame
        The frames to draw from.
    recipe : Recipe
        How views are drawn.
    extra : callable, optional
        Takes a frame in network range and its view; what it returns is added to each item of a batch.
    """

    def __init__(
        self,
        frames: Sequence[LabelledFrame],
        recipe: Recipe,
        extra: Callable[[Array, TrainingView], Any] | None = None,
    ) -> None:
        self.frames = list(frames)
        self.recipe = recipe
        self.extra = extra
        self._weights = np.array([recipe.weights.get(frame.group, 1.0) for frame in frames], np.float64)
        if self._weights.sum() <= 0:
            raise DataError("the recipe's 'weights' exclude every frame")
        self._cumulative = np.cumsum(self._weights / self._weights.sum())
        self._bright = {
            number: bright_spots(frame.counts())
            for number, frame in enumerate(frames)
            if recipe.view.near_bright and not len(frame.points)
        }
        self.hard: dict[int, Array] = {}  # by number of the frame: false objects (`dimpoint.training.mining`)
        self._cuts = _cuts_by_group(frames, recipe) if recipe.augmentation.copy_probability else {}

    def draw_from(self, numbers: Collection[int]) -> None:
        """Draw from these frames only, by their weights; from all frames if their weights are 0."""
        chosen = np.zeros(len(self.frames))
        chosen[sorted(numbers)] = self._weights[sorted(numbers)]
        if chosen.sum() > 0:
            self._cumulative = np.cumsum(chosen / chosen.sum())

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """A view, (1, size, size) float32 in network range, and its target, (1, h, w)."""
        rng = np.random.default_rng((self.recipe.seed, index))
        drawn = int(np.searchsorted(self._cumulative, rng.random(), side="right"))
        number = min(drawn, len(self.frames) - 1)
        frame = self.frames[number]
        share, limits = self.recipe.augmentation.encoding, frame.limits
        if share and frame.deep is not None and rng.random() < share:
            limits = frame.deep
        counts = frame.counts()
        pixels = self.recipe.input.unit_range(counts, limits, counts.shape)
        points, bright = frame.points, self._bright.get(number)
        if self._cuts and len(points) and rng.random() < self.recipe.augmentation.copy_probability:
            pixels, points = self._with_copies(pixels, frame, rng)
        ignored = ignored_pixels(frame.sample.ignore, pixels.shape)
        hard, share = self.hard.get(number), self.recipe.view.near_false
        if hard is not None and len(hard) and rng.random() < share:
            view = training_view(pixels, points, self.recipe, rng, frame.mask, hard, ignored, near_bright=1)
        else:
            view = training_view(pixels, points, self.recipe, rng, frame.mask, bright, ignored)
        target = make_target(view.pixels, view.points, self.recipe.target, view.mask)
        target = without_ignored(target, view.ignored, self.recipe.target.stride)
        both = torch.from_numpy(view.pixels)[None], torch.from_numpy(target)[None]
        return both if self.extra is None else (*both, self.extra(pixels, view))

    def _with_copies(
        self, pixels: Array, frame: LabelledFrame, rng: np.random.Generator
    ) -> tuple[Array, npt.NDArray[np.float32]]:
        change, group = self.recipe.augmentation, frame.group
        if group not in self._cuts or rng.random() < change.copy_foreign:
            names = sorted(self._cuts)
            group = names[rng.integers(len(names))]
        count = int(rng.integers(1, change.copy_targets + 1))
        return set_targets(pixels, frame.points, self._cuts[group], rng, count)


def _cuts_by_group(frames: Sequence[LabelledFrame], recipe: Recipe) -> dict[str, list[TargetCut]]:
    """The cut-out targets of each data set that has any."""
    cuts: dict[str, list[TargetCut]] = {}
    for frame in frames:
        if len(frame.points):
            pixels = recipe.input.intensity.apply(frame.counts(), frame.limits)
            if found := cut_targets(pixels, frame.points):
                cuts.setdefault(frame.group, []).extend(found)
    return cuts


class CountingSampler(Sampler[int]):
    """Consecutive numbers of views: epoch e of n views is e * n .. (e + 1) * n - 1, split among processes.

    Parameters
    ----------
    per_epoch : int
        Views of an epoch, of all processes together.
    rank, world : int
        This process and the number of processes. Default: 0 of 1.
    epoch, seen : int
        Where a resumed run continues: the epoch, and how many of this process's views it has seen. Default:
        0.
    """

    def __init__(self, per_epoch: int, rank: int = 0, world: int = 1, epoch: int = 0, seen: int = 0) -> None:
        self.per_epoch, self.rank, self.world = per_epoch, rank, world
        self.epoch, self._seen = epoch, {epoch: seen}

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        first = self.epoch * self.per_epoch
        seen = self._seen.get(self.epoch, 0) * self.world
        return iter(range(first + seen + self.rank, first + self.per_epoch, self.world))

    def __len__(self) -> int:
        return self.per_epoch // self.world


def training_loader(
    views: TrainingViews, workers: int, rank: int = 0, world: int = 1, start: tuple[int, int] = (0, 0)
) -> DataLoader[tuple[Any, ...]]:
    """A loader of batches: views (N, 1, size, size), targets (N, 1, h, w), and what `extra` adds.

    Parameters
    ----------
    views : TrainingViews
        The views.
    workers : int
        Worker processes.
    rank, world : int
        This process and the number of processes. Default: 0 of 1.
    start : tuple of int
        Epoch and batch at which a resumed run continues. Default: (0, 0).
    """
    recipe = views.recipe
    per_epoch = recipe.steps(len(views)) * recipe.batch * world
    return DataLoader(
        views,
        batch_size=recipe.batch,
        sampler=CountingSampler(per_epoch, rank, world, start[0], start[1] * recipe.batch),
        generator=torch.Generator(),  # the network's random numbers do not depend on the loader
        num_workers=workers,
        persistent_workers=workers > 0,
        drop_last=True,
    )


def labels_of(recipe: Recipe) -> Labels:
    """The labels that are used: masks for a mask target, otherwise the recipe's choice.

    Where masks grow from points, a set without points uses the centroids of its masks.
    """
    if recipe.grows:
        return "auto"
    return "masks" if recipe.target.kind == "mask" else recipe.labels


def disagreements(sets: Sequence[DataSet], labels: Labels) -> Iterator[str]:
    """One line for every data set whose points and masks disagree.

    They disagree where a frame's points and the centroids of its mask cannot be paired within 3 pixels.

    Parameters
    ----------
    sets : sequence of DataSet
        Opened with all their labels.
    labels : {"auto", "masks", "points"}
        The labels that are used, which the line names.
    """
    used = "masks" if labels == "masks" else "points"
    for part in sets:
        both = [sample for sample in part if sample.points is not None and sample.mask_path is not None]
        apart = [sample.name for sample in both if not _agree(sample)]
        if apart:
            yield (
                f"{part.name}: points and masks disagree in {len(apart)} of {len(both)} frames "
                f"(first '{apart[0]}'); the {used} are used; for a list: dimpoint data check {part.root}"
            )


def _agree(sample: Sample) -> bool:
    assert sample.points is not None
    centres = centroids(sample.read_mask())
    if len(centres) != len(sample.points):
        return False
    match = match_points(sample.points, [1.0] * len(sample.points), centres, POINT_TOLERANCE)
    return len(match.distances) == len(centres)


_NARROW, _WIDE = 1.0, 3.0  # sigma of the two blurs, pixels; their difference responds to small spots
_LEAST = 1e-4  # least response, relative to the largest count
_APART = 15  # pixels, side of the square in which a spot is the maximum


def bright_spots(frame: npt.NDArray[Any], count: int = 60) -> npt.NDArray[np.float32]:
    """The places where a frame stands out most against its surroundings.

    Parameters
    ----------
    frame : (H, W) array
        Counts.
    count : int
        Most spots. Default: 60.

    Returns
    -------
    (N, 2) float32 array
        x, y, best first: maxima of a difference of Gaussians. A flat frame has none.
    """
    pixels = frame.astype(np.float32)
    response = cv2.GaussianBlur(pixels, (0, 0), _NARROW) - cv2.GaussianBlur(pixels, (0, 0), _WIDE)
    highest = cv2.dilate(response, np.ones((_APART, _APART), np.uint8))
    least = _LEAST * np.abs(pixels).max()  # below it the blurs differ by rounding
    rows, columns = np.nonzero((response == highest) & (response > least))
    best = np.argsort(-response[rows, columns], kind="stable")[:count]
    return np.stack([columns[best], rows[best]], axis=1).astype(np.float32)
