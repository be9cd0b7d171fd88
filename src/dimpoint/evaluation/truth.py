"""The labelled frames of one or several data sets, and the frames that a training run held out."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dimpoint.datasets.coco import NO_REGIONS, read_point_file
from dimpoint.datasets.dataset import (
    DataSet,
    Sample,
    hash_frames,
    open_dataset,
    training_split,
)
from dimpoint.datasets.plausibility import demand_plausible
from dimpoint.datasets.reading import AS_WRITTEN, Reading, frame_size
from dimpoint.datasets.splits import hold_out_scenes, thumbnail
from dimpoint.errors import DataError
from dimpoint.metrics.components import Components

if TYPE_CHECKING:
    from dimpoint.sources import Picture
    from dimpoint.training.recipe import Recipe

Points = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TruthFrame:
    """A labelled frame.

    Parameters
    ----------
    data_set : str
        Name of its data set in the results.
    name : str
        Name of the frame.
    path : Path
        Path of the frame, as far as it is known.
    sample : Sample, optional
        The sample; None for an image that only a COCO file lists, which has no pixels.
    points : (T, 2) float64, optional
        Labelled points, pixels.
    size : tuple of int, optional
        Height and width, if known.
    ignore : (M, 4) float32
        Left, top, right, bottom of regions in which predictions do not count (`metrics.points.spared`).
    """

    data_set: str
    name: str
    path: Path
    sample: Sample | None = None
    points: Points | None = None
    size: tuple[int, int] | None = field(default=None, repr=False)
    ignore: npt.NDArray[np.float32] = field(default_factory=NO_REGIONS.copy, repr=False)

    @property
    def key(self) -> str:
        """DATA_SET/NAME, unique in an evaluation."""
        return f"{self.data_set}/{self.name}"

    @property
    def has_mask(self) -> bool:
        """Whether the frame has a mask."""
        return self.sample is not None and self.sample.mask_path is not None

    def read_picture(self) -> Picture | None:
        """The frame with the mask of its measured pixels, or None if there is only its label."""
        return None if self.sample is None else self.sample.read_picture()

    def read_pixels(self) -> npt.NDArray[Any] | None:
        """The frame, (H, W), or None if there is only its label."""
        picture = self.read_picture()
        return None if picture is None else picture.pixels

    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.size if self.size is not None else frame_size(self.path)

    def read_mask(self, size: tuple[int, int] | None) -> tuple[npt.NDArray[np.bool_], list[str]] | None:
        """The mask and notes on it, or None if there is none; see `Sample.read_mask_with_notes`."""
        if self.sample is None or self.sample.mask_path is None:
            return None
        return self.sample.read_mask_with_notes(size)

    def objects(self, mask: npt.NDArray[np.bool_]) -> Components:
        """The objects of its mask: components, or where it has instance ids the objects of these."""
        labels = None if self.sample is None else self.sample.read_instances((mask.shape[0], mask.shape[1]))
        return Components.of(mask) if labels is None else Components.labelled(labels)

    def true_points(self, components: Components | None) -> Points:
        """(T, 2) float64 x, y: the labelled points, or else the centroids of the mask's objects.

        Raises DataError if the frame has neither.
        """
        if self.points is not None:
            return self.points
        if components is None:
            raise DataError(f"{self.path}: this frame has no label (no mask, not in a COCO file)")
        return components.centroids


def open_truth(
    roots: Sequence[Path],
    split: str | None = None,
    notes: list[str] | None = None,
    reading: Reading = AS_WRITTEN,
) -> list[TruthFrame]:
    """Open the labelled frames of data sets.

    Parameters
    ----------
    roots : sequence of Path
        Folders, or COCO keypoints files with or without their frames.
    split : str, optional
        Name of a split; see `dimpoint.datasets.dataset.open_dataset`. Default: all frames.
    notes : list of str, optional
        Gets notes on the frames taken, the layout and unlikely labels.
    reading : Reading, optional
        How labels are read. Default: as they are written.

    Returns
    -------
    list of TruthFrame

    Raises
    ------
    DataError
        If a root is not a data set, or labels are wrong.

    Examples
    --------
    >>> from pathlib import Path
    >>> from dimpoint.evaluation.truth import open_truth
    >>> frames = open_truth([Path("examples/scenes")], "test")
    >>> frames[0].key, frames[0].true_points(None).shape
    ('scenes/000007', (4, 2))
    """
    names = _names(roots)
    notes = [] if notes is None else notes
    frames = [
        frame
        for root, name in zip(roots, names, strict=True)
        for frame in _open(root, name, split, notes, reading)
    ]
    if not frames:
        raise DataError("no data set given; add --data DIR")
    return frames


def frames_of(samples: Sequence[Sample], data_set: str) -> list[TruthFrame]:
    """The samples of a data set as labelled frames."""
    return [
        TruthFrame(
            data_set,
            sample.name,
            sample.frame_path,
            sample,
            None if sample.points is None else sample.points.astype(np.float64),
            ignore=sample.ignore,
        )
        for sample in samples
    ]


def _open(root: Path, name: str, split: str | None, notes: list[str], reading: Reading) -> list[TruthFrame]:
    if root.suffix.lower() == ".json" and root.is_file() and not _has_frames(root):
        return _from_points(root, name, split, notes, reading)
    part = open_dataset(root, split, reading=reading)
    notes += [part.taken, *part.layout_notes, *demand_plausible([part])]
    return frames_of(part.samples, name)


def _has_frames(point_file: Path) -> bool:
    """Whether a COCO file belongs to a data set, judged by its first image."""
    try:
        open_dataset(point_file)
    except DataError:
        return any((folder / "images").is_dir() for folder in (point_file.parent, point_file.parent.parent))
    return True


def _from_points(
    file: Path, name: str, split: str | None, notes: list[str], reading: Reading
) -> list[TruthFrame]:
    if split is not None:
        raise DataError(f"{file}: no frames lie beside this file, so it has no splits; leave --split out")
    points = read_point_file(file, reading)
    notes += demand_plausible([DataSet(name, file, None, (), point_files=(points,), reading=reading)])
    return [
        TruthFrame(
            data_set=name,
            name=frame_stem(PurePosixPath(image.file_name).as_posix()),
            path=Path(image.file_name),
            points=image.points.astype(np.float64),
            size=(image.height, image.width),
            ignore=image.ignore,
        )
        for image in points.images
    ]


def _names(roots: Sequence[Path]) -> list[str]:
    """A name for each data set: its folder's name, or the whole path if two would be equal."""
    paths = [root.resolve() for root in roots]
    if len(set(paths)) < len(paths):
        raise DataError("a data set is named twice; every frame would count twice")
    short = [path.stem if path.suffix.lower() == ".json" else path.name for path in paths]
    return [name if short.count(name) == 1 else str(root) for name, root in zip(short, roots, strict=True)]


def frame_stem(name: str) -> str:
    """A frame's name without the file's suffix; `clip.mp4#000012` is unchanged."""
    if re.search(r"\.\w+#\d+$", name):
        return name
    return name.removesuffix(PurePosixPath(name).suffix)


HELD_OUT = "held-out"


def held_out_frames(run: Path) -> list[TruthFrame]:
    """The frames that a training run held out, of all its data sets.

    The run's record, `run.json`, has the name and pixel hash of each frame; renamed frames are found by
    their hash.

    Raises
    ------
    DataError
        If the folder is not a run, or a frame is missing or has other pixels.
    """
    file = run / "run.json"
    if not file.is_file():
        raise DataError(f"{HELD_OUT}: {run} is not the folder of a training run (no run.json)")
    try:
        record = json.loads(file.read_text("utf-8"))
        roots, held = record["sources"]["roots"], record.get("held_out")
        reading = Reading.from_record(record["sources"].get("reading"))
        if held is None:
            return _held_out_by_seed(run, record)
        entries = [[(entry["name"], entry["sha256"]) for entry in held[name]] for name in record["data"]]
        parts = [(Path(root), wanted) for root, wanted in zip(roots, entries, strict=True)]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{file}: not a run's record ({error!r})") from None
    sets = [(open_dataset(root, reading=reading), wanted) for root, wanted in parts]
    return [frame for part, wanted in sets for frame in _by_name_and_hash(part, wanted, file)]


def _by_name_and_hash(part: DataSet, wanted: Sequence[tuple[str, str]], file: Path) -> list[TruthFrame]:
    by_name = {sample.name: sample for sample in part}
    kept = [by_name[name] for name, _ in wanted if name in by_name]
    hashes = dict(zip((sample.name for sample in kept), hash_frames(kept), strict=True))
    elsewhere: dict[str, Sample] | None = None
    found = []
    for name, sha256 in wanted:
        if hashes.get(name) != sha256:
            if elsewhere is None:
                elsewhere = dict(zip(hash_frames(part), part, strict=True))
            if sha256 not in elsewhere:
                what = "has other pixels now" if name in hashes else "does not exist any more"
                raise DataError(f"{file}: held-out frame '{name}' {what} in {part.root}")
        found.append(by_name[name] if hashes.get(name) == sha256 else (elsewhere or {})[sha256])
    return frames_of(found, part.name)


def _held_out_by_seed(run: Path, record: dict[str, Any]) -> list[TruthFrame]:
    """The held-out frames of a run whose record does not list them, chosen by its seed as in training."""
    from dimpoint.training.recipe import load_recipe

    roots, split = record["sources"]["roots"], record["sources"]["split"]
    counts = [entry["frames"] for entry in record["data"].values()]
    recipe = load_recipe(str(run / "recipe.yaml"))
    sets = [open_dataset(root, split or training_split(root)) for root in roots]
    if [len(part) for part in sets] != counts:
        raise DataError(
            f"{run / 'run.json'}: its data sets had {counts} frames, now {[len(part) for part in sets]}"
        )
    return [frame for part in sets for frame in _held(part, recipe)]


def _held(part: DataSet, recipe: Recipe) -> list[TruthFrame]:
    thumbnails = [thumbnail(sample.read_frame()) for sample in part]
    held = hold_out_scenes(part.samples, thumbnails, recipe.validation, recipe.seed)[1]
    if recipe.refit:
        held = [sample for sample in held if not len(sample.read_points())]
    return frames_of(held, part.name)
