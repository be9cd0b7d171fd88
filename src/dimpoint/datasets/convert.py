"""Point labels from masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dimpoint.datasets.coco import PointImage, write_points
from dimpoint.datasets.dataset import Sample, open_dataset
from dimpoint.datasets.layout import find_layout
from dimpoint.datasets.plausibility import demand_plausible
from dimpoint.datasets.reading import AS_WRITTEN, Reading
from dimpoint.errors import DataError


def points_from_masks(
    root: Path | str,
    out: Path | str | None = None,
    progress: Callable[[int, int], None] | None = None,
    reading: Reading = AS_WRITTEN,
    note: Callable[[str], None] | None = None,
) -> tuple[Path, int, int]:
    """Write the COCO keypoints file of a data set's masks, one point per 8-connected component.

    out: the file to write, by default `points.json` in the data set. progress is called with (frames
    done, frames in all), note with what a user should know. reading: what masks mean. Returns the file, the
    number of frames and the number of points. Raises
    DataError if a frame has no mask, a mask is wrong, or the file is there already.
    """
    path = Path(root) / "points.json" if out is None else Path(out)
    if path.exists():
        raise DataError(f"{path}: is there already; remove it, or name another file with --out")
    dataset = open_dataset(root, labels="masks", reading=reading)
    for line in [*dataset.layout_notes, *demand_plausible([dataset])]:
        if note is not None:
            note(line)
    folder = find_layout(dataset.root).frame_folder
    images = []
    for sample in dataset:
        images.append(_point_image(sample, folder))
        if progress is not None:
            progress(len(images), len(dataset))
    write_points(path, images)
    return path, len(images), sum(len(image.points) for image in images)


def _point_image(sample: Sample, folder: Path) -> PointImage:
    height, width = sample.read_mask().shape
    file_name = sample.frame_path.relative_to(folder).as_posix()
    return PointImage(file_name, width, height, sample.read_points())
