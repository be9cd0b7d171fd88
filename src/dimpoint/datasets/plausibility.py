"""Checks whether labels probably mean something else than they say, and which option reads them right.

`doubts` examines all labels of a data set before any is used; `check`, `train`, `evaluate` and `points` share
it. A severe doubt stops them until a `Reading` states what the labels mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dimpoint.datasets.coco import PointFile
from dimpoint.datasets.dataset import THREADS, DataSet, Sample
from dimpoint.datasets.formats import find_other_labels
from dimpoint.datasets.masks import Levels, apply_reading, binarise, lost_spots, read_levels
from dimpoint.datasets.places import placement
from dimpoint.datasets.reading import Reading
from dimpoint.errors import DataError, DimpointError
from dimpoint.text import counted

FEW = 0.1  # fraction of the masks; a doubt about fewer is a note, about more it is severe
MOSTLY = 0.5  # masks with a larger marked fraction are probably inverted
LARGE = 0.1  # masks with a larger marked fraction get a note: targets are a few pixels
NO_TARGETS = {
    "background",
    "clutter",
    "distractor",
    "dontcare",
    "false alarm",
    "ignore",
    "ignored",
    "negative",
    "noise",
    "nontarget",
    "none",
    "unknown",
}
_ONE = 0.4  # pixels from a shift of one
ACCEPT = "or --accept-labels if they are right"


@dataclass(frozen=True)
class Doubt:
    """Labels that probably mean something else.

    Parameters
    ----------
    kind : str
        The kind of finding, as `dimpoint data check` lists it.
    severe : bool
        The labels must not be used before the user decides.
    message : str
        What was found, and the options that decide it.
    losing : bool, default False
        Reading the labels without a choice would lose marked pixels.
    by_file : bool, default False
        `check` reports the files one by one.
    """

    kind: str
    severe: bool
    message: str
    losing: bool = False
    by_file: bool = False


@dataclass(frozen=True)
class MaskSummary:
    """Statistics of one mask.

    Parameters
    ----------
    path : Path
        The file.
    share : float or None
        Fraction of the frame that is target by the reading; None if the mask is unreadable.
    spots, lost : int
        Marked spots, and how many of them are below the threshold.
    faint : float
        The largest value if values are marked but none is above the threshold, else 0.
    alpha : bool
        The colours are constant but the alpha channel is not.
    values : int
        Number of different values above 0.
    coloured : bool
        Whether the channels differ.
    """

    path: Path
    share: float | None
    spots: int = 0
    lost: int = 0
    faint: float = 0.0  # the largest value, where values are marked but none is above the threshold
    alpha: bool = False  # the colours are constant and the alpha is not
    values: int = 0  # different values above 0
    coloured: bool = False


def doubts(data: DataSet) -> list[Doubt]:
    """All doubts about the labels of a data set, severe ones first; unreadable masks are skipped."""
    reading = data.reading
    found = [doubt for file in data.point_files for doubt in point_doubts(file, reading)]
    used = [sample for sample in data if sample.mask_path is not None and sample.points is None]
    with ThreadPoolExecutor(THREADS) as pool:
        masks = list(pool.map(lambda sample: _summary(sample, reading), used))
    found += mask_doubts(masks, reading)
    if not data.point_files and data.root.is_dir():
        found += other_labels(data.root, unlabelled=not any(_is_labelled(sample) for sample in data))
    found += place_doubts(data.samples, reading)
    return sorted(found, key=lambda doubt: not doubt.severe)


def other_labels(root: Path, *, unlabelled: bool) -> list[Doubt]:
    """Unused labels of other tools in the folder; severe if there are no others."""
    return [
        Doubt(
            "other-labels",
            unlabelled,
            f"{one.title} labels ({counted(len(one.files), 'file')}, first "
            f"{one.files[0].relative_to(root)}) are not read; make points of them: "
            f"dimpoint data convert {root}",
        )
        for one in find_other_labels(root)
    ]


def place_doubts(samples: Sequence[Sample], reading: Reading) -> list[Doubt]:
    """Labels that lie beside the spots of their frames; see `dimpoint.datasets.places`."""
    if reading.accept:
        return []
    points = [sample for sample in samples if sample.points is not None and len(sample.points)]
    masks = [sample for sample in samples if sample.points is None and sample.mask_path is not None]
    found = []
    for what, labelled in (("points", points), ("masks", masks)):
        seen = placement(labelled)
        if seen.rule is not None:
            remedy = "save the masks as the frames are"
            if what == "points":
                option = seen.rule.option
                remedy = f"--points {option}" if option else "write them in pixels from the top left"
            text = (
                f"{seen.given} of {seen.compared} targets by {what} lie on spots of their frames, and "
                f"{seen.otherwise} if the {what} are read {seen.rule.text}: {remedy}, {ACCEPT}"
            )
            found.append(Doubt(f"{what}-elsewhere", True, text))
        if seen.shift is not None:
            x, y = seen.shift
            text = (
                f"the targets by {what} lie beside the spots of their frames, all in one direction: "
                f"spots are {abs(x):.1f} px {'right' if x > 0 else 'left'} and {abs(y):.1f} px "
                f"{'below' if y > 0 else 'above'}"
            )
            if what == "points":
                counted = max(abs(x + 1), abs(y + 1)) < _ONE
                text += (
                    "; if they are counted from 1: --points one-based"
                    if counted
                    else ("; if they are corners of boxes, write the centres")
                )
            found.append(Doubt(f"{what}-shifted", False, text))
    return found


def demand_plausible(sets: Sequence[DataSet]) -> list[str]:
    """Check the labels of data sets.

    Returns
    -------
    list of str
        Notes on unlikely labels.

    Raises
    ------
    DataError
        For the first severe doubt, unless the set is read with `accept`.
    """
    notes = []
    for part in sets:
        found = doubts(part)
        severe = [doubt for doubt in found if doubt.severe]
        if severe and not part.reading.accept:
            more = f" (and {len(severe) - 1} more doubts; dimpoint data check lists them)" * (len(severe) > 1)
            raise DataError(f"{part.root}: {severe[0].message}{more}")
        notes += [f"{part.name}: {doubt.message}" for doubt in found]
    return notes


def _is_labelled(sample: Sample) -> bool:
    return sample.points is not None or sample.mask_path is not None


def _summary(sample: Sample, reading: Reading) -> MaskSummary:
    assert sample.mask_path is not None
    try:
        return summarise_mask(sample.mask_path, read_levels(sample.mask_path), reading)
    except DimpointError:
        return MaskSummary(sample.mask_path, None)


def summarise_mask(path: Path, levels: Levels, reading: Reading) -> MaskSummary:
    """Compute the statistics that `mask_doubts` needs."""
    marked = binarise(levels.values)
    faint, spots, lost = 0.0, int(marked.any()), 0
    alpha = levels.alpha is not None and levels.alpha.min() < levels.alpha.max()
    if reading.mask_values is None and not (marked == (levels.values > 0)).all():
        spots, lost = _spots(path, levels)
        faint = 0.0 if marked.any() else float(levels.values.max())
    try:
        mask = apply_reading(levels, reading, path)
    except DataError:
        mask = np.zeros(levels.values.shape, np.bool_)
    return MaskSummary(
        path,
        share=float(mask.mean()),
        spots=spots,
        lost=lost,
        faint=faint,
        alpha=bool(alpha and levels.values.min() == levels.values.max()),
        values=len(np.unique(levels.ids[levels.values > 0])) if lost else 0,
        coloured=levels.coloured,
    )


def _spots(path: Path, levels: Levels) -> tuple[int, int]:
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        return lost_spots(levels)
    values = np.where(levels.values > 32, levels.values, 0)  # compression leaves faint rings around targets
    return lost_spots(Levels(values, values))


def mask_doubts(masks: Sequence[MaskSummary], reading: Reading) -> list[Doubt]:
    """Unlikely properties of the masks of a set, considered together."""
    read = [mask for mask in masks if mask.share is not None]
    if not read:
        return []
    found = [*_alpha_doubts(read, reading), *_level_doubts(read, reading), *_share_doubts(read, reading)]
    if not any(mask.share for mask in read) and not found:
        found.append(Doubt("no-target", False, f"no target in any of the {len(read)} masks"))
    return found


def _alpha_doubts(masks: Sequence[MaskSummary], reading: Reading) -> Iterable[Doubt]:
    carrying = [mask for mask in masks if mask.alpha]
    if carrying and reading.mask_values is None:
        text = (
            f"{_count(carrying, masks)} one colour all over and differ in their alpha channel only, which "
            "probably is the mask: --mask-values alpha, or binary to read the colour"
        )
        yield Doubt("mask-alpha", True, text, losing=True)


def _level_doubts(masks: Sequence[MaskSummary], reading: Reading) -> Iterable[Doubt]:
    if reading.mask_values is not None:
        return
    faint = [mask for mask in masks if mask.faint]
    losing = [mask for mask in masks if mask.lost and not mask.faint]
    marked = sum(mask.spots > 0 for mask in masks)
    if faint:
        several = any(mask.values > 1 for mask in faint)
        probably = "ids of objects: --mask-values instances" if several else "0 and 1: --mask-values nonzero"
        text = (
            f"{_count(faint, masks)} values but none above 127 (at most {max(m.faint for m in faint):g}), "
            f"probably {probably}; for classes the values of targets, such as --mask-values 2,3"
        )
        yield Doubt("mask-levels", True, text, losing=several, by_file=True)
    if losing:
        severe = len(losing) > FEW * marked
        spots = f"{sum(mask.lost for mask in losing)} of {sum(mask.spots for mask in losing)} marked spots"
        several = sum(mask.values for mask in losing) > len(losing)
        probably = "ids of objects or classes" if several else "several grey levels"
        choice = "choose with --mask-values instances, nonzero or binary"
        rest = f": {choice}" if severe else ", which are no targets without --mask-values nonzero"
        text = f"{_count(losing, masks)} {probably} with {spots} at or below the threshold 127{rest}"
        yield Doubt("mask-levels", severe, text, losing=True, by_file=True)


def _share_doubts(masks: Sequence[MaskSummary], reading: Reading) -> Iterable[Doubt]:
    mostly = [mask for mask in masks if (mask.share or 0) > MOSTLY and not mask.alpha]
    large = [mask for mask in masks if LARGE < (mask.share or 0) <= MOSTLY]
    if mostly:
        whole = all(mask.share == 1 for mask in mostly)
        remedy = "without --invert-masks" if reading.invert else "--invert-masks"
        guess = "no masks" if whole else f"inverted: {remedy}"
        text = (
            f"{_count(mostly, masks)} most of the frame as target (up to "
            f"{max(m.share or 0 for m in mostly):.0%}), probably {guess}, {ACCEPT}"
        )
        yield Doubt("mask-share", len(mostly) > FEW * len(masks), text, losing=True)
    if large:
        yield Doubt(
            "mask-share",
            False,
            f"{_count(large, masks)} more than a tenth of the frame as target; targets of a few pixels are "
            "what is looked for",
        )


def _count(some: Sequence[MaskSummary], masks: Sequence[MaskSummary]) -> str:
    return f"{len(some)} of {len(masks)} masks ({some[0].path.name}, …) have"


def point_doubts(file: PointFile, reading: Reading) -> list[Doubt]:
    """Unlikely properties of a COCO file."""
    name, facts = file.path.name, file.facts
    found: list[Doubt] = []
    points = sum(len(image.points) for image in file.images)
    inside = all(((image.points >= 0) & (image.points <= 1)).all() for image in file.images)
    if points and inside and "normalised" not in reading.points and not reading.accept:
        found.append(
            Doubt(
                "points-normalised",
                True,
                f"{name}: all {points} points lie within the first pixel (0..1, 0..1), probably parts of the "
                f"frame's width and height: --points normalised, {ACCEPT}",
            )
        )
    if facts.unlabelled and not points:
        found.append(
            Doubt(
                "points-unlabelled",
                True,
                f"{name}: all {facts.unlabelled} points have visibility 0 (not labelled) and none counts; if "
                f"they are targets: --points unlabelled, {ACCEPT}",
            )
        )
    found += _category_doubts(name, facts.categories, reading)
    if facts.merged:
        found.append(
            Doubt(
                "points-repeated",
                False,
                f"{name}: {counted(facts.merged, 'point repeats another', 'points repeat others')} "
                "and count once",
            )
        )
    if facts.unsized:
        found.append(
            Doubt(
                "points-size",
                False,
                f"{name}: {facts.unsized} of {len(file.images)} images have no size; the frames' is taken",
            )
        )
    if not points and not facts.unlabelled and file.images:
        found.append(
            Doubt(
                "no-target",
                False,
                f"{name}: no points for any of its {len(file.images)} images; if they have targets, the "
                "export put them elsewhere (dimpoint data convert reads CVAT, Label Studio and others)",
            )
        )
    return found


def _category_doubts(name: str, categories: Counter[str], reading: Reading) -> Iterable[Doubt]:
    if reading.categories or len(categories) == 0:
        return
    shown = ", ".join(f"{category} ({count})" for category, count in categories.most_common(8))
    odd = [category for category in categories if _plain(category) in {_plain(word) for word in NO_TARGETS}]
    if odd:
        yield Doubt(
            "categories",
            True,
            f"{name}: category '{odd[0]}' does not sound like a target; categories: {shown}; name those that "
            f"are: --categories NAME,NAME, {ACCEPT}",
        )
    elif len(categories) > 1:
        yield Doubt("categories", False, f"{name}: all categories are targets: {shown}; --categories chooses")


def _plain(category: str) -> str:
    return "".join(letter for letter in category.casefold() if letter.isalnum()).removesuffix("s")
