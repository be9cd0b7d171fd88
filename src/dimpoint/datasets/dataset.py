"""Data sets: frames with their masks or points, by split, and hashes of their content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from dimpoint.datasets.coco import NO_REGIONS, PointFile, PointImage, read_point_file
from dimpoint.datasets.layout import Layout, find_layout
from dimpoint.datasets.lists import ALL, describe
from dimpoint.datasets.masks import (
    centroids,
    fit_mask,
    instance_labels,
    label_centroids,
    read_levels,
    read_mask_file,
)
from dimpoint.datasets.reading import AS_WRITTEN, Reading, check_size, frame_options, frame_size
from dimpoint.errors import ConfigError, DataError
from dimpoint.text import counted

if TYPE_CHECKING:
    from dimpoint.sources import Picture

Labels = Literal["auto", "masks", "points"]


@dataclass(frozen=True)
class Sample:
    """One frame and its labels.

    Parameters
    ----------
    name : str
        Path below the frame folder without suffix.
    frame_path : Path
        The frame's file.
    mask_path : Path or None
        The mask's file.
    points : (N, 2) float32, or None
        x, y of the targets from a COCO file; None without one.
    ignore : (M, 4) float32
        Left, top, right, bottom of regions in which targets are unknown.
    size : tuple of int, optional
        Height and width of the frame by the COCO file.
    reading : Reading
        How the mask and the points are read.
    """

    name: str
    frame_path: Path
    mask_path: Path | None
    points: npt.NDArray[np.float32] | None = field(compare=False)
    ignore: npt.NDArray[np.float32] = field(compare=False, default_factory=NO_REGIONS.copy)
    reading: Reading = field(compare=False, default=AS_WRITTEN)
    size: tuple[int, int] | None = field(compare=False, default=None)

    def read_frame(self) -> npt.NDArray[Any]:
        """Read the frame, (H, W) uint8, uint16 or float32; FrameError if it is unreadable.

        Pixels that the file says are no measurement have smooth values.
        """
        return self.read_picture().pixels

    def read_picture(self) -> Picture:
        """The same with its reader's notes, such as that colours were made grey.

        Raises DataError if the frame has another size than the COCO file says.
        """
        from dimpoint.model.validity import filled
        from dimpoint.sources.readers import read_picture

        picture = read_picture(self.frame_path, frame_options(self.reading))
        check_size(self.frame_path, picture.pixels.shape, self.size, "the point file", self.reading)
        if picture.valid is None:
            return picture
        return replace(picture, pixels=filled(picture.pixels, picture.valid))

    def read_mask(self) -> npt.NDArray[np.bool_]:
        """Read the mask, (H, W) bool, at the frame's size; see `read_mask_with_notes`."""
        return self.read_mask_with_notes()[0]

    def read_mask_with_notes(
        self, size: tuple[int, int] | None = None
    ) -> tuple[npt.NDArray[np.bool_], list[str]]:
        """Read the mask, (H, W) bool, at the frame's size; also returns notes.

        A mask of another size but the same shape (aspect ratios within 2 %) is resized by nearest neighbour,
        with a note. size: the frame's height and width, if known; this saves opening the frame. Raises
        DataError if there is no mask, or it has another shape.
        """
        if self.mask_path is None:
            raise DataError(f"{self.frame_path}: this frame has no mask")
        mask = read_mask_file(self.mask_path, self.reading)
        wanted = frame_size(self.frame_path, self.reading) if size is None else size
        fitted = fit_mask(mask, wanted, self.mask_path)
        note = _resized(self.mask_path, (mask.shape[0], mask.shape[1]), wanted)
        return fitted, [] if note is None else [note]

    def notes(self) -> list[str]:
        """The notes of `read_mask_with_notes`, from the headers of the files where they give the sizes."""
        if self.mask_path is None or self.points is not None:
            return []
        note = _resized(self.mask_path, frame_size(self.mask_path), frame_size(self.frame_path, self.reading))
        return [] if note is None else [note]

    def read_points(self) -> npt.NDArray[np.float32]:
        """The targets' positions, (N, 2) float32 x, y: the COCO points, or else the mask's centroids.

        Raises DataError if the frame has neither.
        """
        if self.points is not None:
            return self.points
        if self.mask_path is None:
            raise DataError(f"{self.frame_path}: this frame has no label (no mask, not in a COCO file)")
        labels = self.read_instances(frame_size(self.frame_path, self.reading))
        return centroids(self.read_mask()) if labels is None else label_centroids(labels)

    def read_instances(self, size: tuple[int, int]) -> npt.NDArray[np.int32] | None:
        """The objects of a mask with instance ids, (H, W) at the frame's size: 0 is none, 1 to N are objects.

        None if masks are not read so. size: (height, width) of the frame.
        """
        if self.mask_path is None or self.reading.mask_values != "instances" or self.reading.invert:
            return None
        return fit_mask(instance_labels(read_levels(self.mask_path)), size, self.mask_path)


@dataclass(frozen=True)
class DataSet:
    """A sequence of samples: one folder, or one split of it, in the split's order (all frames: by name).

    taken: one line that states which frames these are, and from which lists. point_files: the parsed COCO
    files, for `dimpoint.datasets.plausibility`. reading: how labels and frames are read.
    """

    name: str
    root: Path
    split: str | None
    samples: tuple[Sample, ...]
    taken: str = ""
    layout_notes: tuple[str, ...] = ()
    point_files: tuple[PointFile, ...] = field(default=(), repr=False, compare=False)
    reading: Reading = AS_WRITTEN

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: int | str) -> Sample:
        """A sample by index or name; IndexError or KeyError if there is none."""
        if not isinstance(key, str):
            return self.samples[key]
        for sample in self.samples:
            if sample.name == key:
                return sample
        raise KeyError(f"no frame '{key}' in {self.name}; the names are like '{self.samples[0].name}'")

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def notes(self) -> list[str]:
        """Notes that matter for results on these samples, such as masks that are resized."""
        return [*self.layout_notes, *(note for sample in self.samples for note in sample.notes())]

    def fingerprint(self) -> str:
        """SHA-256 (hex) of names, decoded frames and labels, independent of their order and file format.

        Raises FrameError or DataError if a frame or label is unreadable.
        """
        names = [sample.name for sample in self.samples]
        return combined_hash(zip(names, hash_frames(self.samples), hash_labels(self.samples), strict=True))


def open_dataset(
    root: Path | str, split: str | None = None, labels: Labels = "auto", reading: Reading = AS_WRITTEN
) -> DataSet:
    """Open a data set: a folder in the layout of `dimpoint.datasets.layout`, or a COCO keypoints file.

    Parameters
    ----------
    root : path
        Folder or .json file.
    split : str, optional
        Purpose of split lists (`train`, `val`, `test`: all lists for it together), or the stem or path of a
        list. Default, and "all": all frames (of a .json file: all its images).
    labels : {"auto", "masks", "points"}, default "auto"
        "auto" uses the labels that exist. "masks" ignores COCO files and "points" ignores masks; both require
        that label for every frame.
    reading : Reading, optional
        How ambiguous masks and points are read. Default: as they are written.

    Returns
    -------
    DataSet
        A sequence of samples.

    Raises
    ------
    ConfigError
        For another value of `labels`.
    DataError
        If a file is wrong; the message names the file and the line, id or key.

    Examples
    --------
    >>> from dimpoint.datasets.dataset import open_dataset
    >>> dataset = open_dataset("examples/scenes", "test")
    >>> sample = dataset[0]
    >>> sample.read_frame().dtype, sample.read_points().shape
    (dtype('uint16'), (4, 2))
    """
    if labels not in get_args(Labels):
        raise ConfigError(f"labels: {labels!r} is none of {', '.join(get_args(Labels))}")
    path = Path(root)
    opened_file = path.suffix.lower() == ".json" and path.is_file()
    layout = find_layout(_root_of(path) if opened_file else path)
    point_files = (path,) if opened_file else layout.point_files
    files = (
        ()
        if labels == "masks"
        else tuple(
            read_point_file(file, reading, partial(layout.size_of, reading=reading)) for file in point_files
        )
    )
    points = _points_by_name(layout, files)
    wanted = None if split == ALL and not any(one.stem == ALL for one in layout.splits) else split
    if wanted is not None:
        names = split_names(layout, wanted)
    else:
        names = list(points) if opened_file and labels != "masks" else list(layout.frames)
    samples = tuple(
        Sample(
            name=name,
            frame_path=layout.frame(name),
            mask_path=None if labels == "points" else layout.mask(name),
            points=points[name].points if name in points else None,
            ignore=points[name].ignore if name in points else NO_REGIONS,
            reading=reading,
            size=(points[name].height, points[name].width) if name in points else None,
        )
        for name in names
    )
    _demand_labels(samples, labels, layout.root)
    title = layout.root.resolve().name
    taken = f"{title}: {_taken(layout, wanted, len(names))}"
    return DataSet(title, layout.root, split, samples, taken, _notes(layout), files, reading)


def _taken(layout: Layout, split: str | None, count: int) -> str:
    if split is not None:
        return f"{counted(count, 'frame')} of split '{split}': {describe(layout.chosen_splits(split))}"
    others = (
        f"; split lists here: {describe(layout.splits)}" if layout.splits else ", there are no split lists"
    )
    return f"all {count} frames{others}"


def _notes(layout: Layout) -> tuple[str, ...]:
    passed = layout.passed_over()
    return (*layout.notes, f"{layout.root}: passed over: {passed}") if passed else layout.notes


def training_split(root: Path | str) -> str | None:
    """The split to train on by default: `train`, or None (all frames) if there are no lists.

    Raises
    ------
    DataError
        If there are split lists but none for training, or none that is understood.
    """
    path = Path(root)
    if not path.is_dir():
        return None
    layout = find_layout(path)
    if not layout.splits and not layout.unread_lists:
        return None
    layout.chosen_splits("train")
    return "train"


def validation_part(dataset: DataSet, labels: Labels) -> DataSet | None:
    """The split `validation` of the data set's folder with these labels, or None if there is none."""
    splits = find_layout(dataset.root).splits
    if not any(file.stem == "validation" or file.stem.startswith("validation_") for file in splits):
        return None
    return open_dataset(dataset.root, "validation", labels, dataset.reading)


def split_names(layout: Layout, split: str) -> list[str]:
    """The frames of a split, each once, in the files' order; DataError if one does not exist."""
    names: dict[str, None] = {}
    for file in layout.chosen_splits(split):
        for line, entry in file.entries:
            name = layout.listed(entry)
            if name is None:
                what = "entry" if file.path.suffix.lower() == ".json" else "line"
                raise DataError(f"{file.path}, {what} {line}: no frame '{entry}' in {layout.frame_folder}")
            names[name] = None
    if not names:
        raise DataError(f"{layout.root}: split '{split}' is empty")
    return list(names)


def _resized(mask: Path, found: tuple[int, int], wanted: tuple[int, int]) -> str | None:
    """A note if the mask's size (height, width) differs from its frame's, else None."""
    if found == wanted:
        return None
    return f"{mask}: mask of {found[1]}x{found[0]} resized to its frame's {wanted[1]}x{wanted[0]}"


def _root_of(point_file: Path) -> Path:
    folder = point_file.parent
    return folder.parent if folder.name == "annotations" else folder


def _points_by_name(layout: Layout, point_files: Iterable[PointFile]) -> dict[str, PointImage]:
    points: dict[str, PointImage] = {}
    source: dict[str, Path] = {}
    for file in point_files:
        for image in file.images:
            name = layout.name_of(image.file_name)
            if name is None:
                alike = layout.alike(image.file_name)
                several = f"; it may be {' or '.join(alike[:3])}: write the path below it" if alike else ""
                raise DataError(
                    f"{file.path}: image '{image.file_name}' is not in {layout.frame_folder}{several}"
                )
            if name in source:
                raise DataError(
                    f"{file.path}: image '{image.file_name}' is labelled in {source[name]} already"
                )
            points[name], source[name] = image, file.path
    return points


def _demand_labels(samples: tuple[Sample, ...], labels: Labels, root: Path) -> None:
    if labels == "auto":
        return
    without = [s.name for s in samples if (s.mask_path if labels == "masks" else s.points) is None]
    if without:
        what = "mask" if labels == "masks" else "points in a COCO file"
        raise DataError(
            f"{root}: {len(without)} of {len(samples)} frames have no {what}, e.g. '{without[0]}'"
        )


THREADS = min(8, os.cpu_count() or 1)  # decoding releases the interpreter lock


def hash_array(values: npt.NDArray[Any]) -> str:
    """SHA-256 (hex) of an array's type, shape and values."""
    digest = hashlib.sha256(f"{values.dtype.newbyteorder('<').str}{values.shape}".encode())
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    digest.update(np.ascontiguousarray(little).data)
    return digest.hexdigest()


def hash_frames(samples: Iterable[Sample]) -> list[str]:
    """SHA-256 (hex) of each sample's decoded frame; FrameError if one is unreadable."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda sample: hash_array(sample.read_frame()), samples))


def hash_labels(samples: Iterable[Sample]) -> list[str]:
    """SHA-256 (hex) of each sample's points, else of its mask; "" without a label."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(hash_label, samples))


def combined_hash(lines: Iterable[tuple[str, str, str]]) -> str:
    """SHA-256 (hex) of (name, frame hash, label hash) of samples, independent of their order."""
    return hashlib.sha256(
        "\n".join("\t".join(line) for line in sorted(lines)).encode("utf-8", "surrogateescape")
    ).hexdigest()


def hash_label(sample: Sample, mask: npt.NDArray[np.bool_] | None = None) -> str:
    """SHA-256 (hex) of a sample's points, else of its mask (given if already read); "" without a label."""
    if sample.points is not None:
        regions = hash_array(sample.ignore) if len(sample.ignore) else ""
        return hash_array(sample.points) + regions
    if sample.mask_path is None:
        return ""
    return hash_array(sample.read_mask() if mask is None else mask)
