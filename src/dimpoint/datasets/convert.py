"""Convert masks and labels of other tools to points, and points to labels of other tools."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from dimpoint.atomic import replacing_folder, write_text
from dimpoint.datasets.boxes import Labels, spot_in_box
from dimpoint.datasets.coco import PointImage, read_point_file, write_points
from dimpoint.datasets.coordinates import hint, is_inside
from dimpoint.datasets.cvat import cvat_text
from dimpoint.datasets.dataset import Sample, open_dataset
from dimpoint.datasets.formats import TITLES, find_other_labels, image_name, read_labels
from dimpoint.datasets.label_studio import label_studio_text
from dimpoint.datasets.layout import NAMED_SUFFIXES, Layout, find_layout
from dimpoint.datasets.plausibility import demand_plausible, place_doubts
from dimpoint.datasets.reading import AS_WRITTEN, Reading, check_size, frame_size
from dimpoint.errors import ConfigError, DataError
from dimpoint.sources.files import natural_key
from dimpoint.text import counted

FORMATS = ("labelme", "cvat", "label-studio", "voc", "yolo")
_LABEL = "target"
_NOT_XML = re.compile(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def points_from_masks(
    root: Path | str,
    out: Path | str | None = None,
    progress: Callable[[int, int], None] | None = None,
    reading: Reading = AS_WRITTEN,
    note: Callable[[str], None] | None = None,
) -> tuple[Path, int, int]:
    """Write a COCO keypoints file from the masks of a data set, one point per 8-connected component.

    Parameters
    ----------
    root : path
        The data set.
    out : path, optional
        The file to write. Default: `points.json` in the data set.
    progress : callable, optional
        Called with the number of frames done and the number of all frames.
    reading : Reading, optional
        How masks are read.
    note : callable, optional
        Called with notes for the user.

    Returns
    -------
    tuple of Path, int, int
        The file, and the numbers of frames and points.

    Raises
    ------
    DataError
        If a frame has no mask, a mask is wrong, or the file exists.
    """
    path = Path(root) / "points.json" if out is None else Path(out)
    if path.exists():
        raise DataError(f"{path}: already exists; remove it, or name another file with --out")
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


@dataclass
class Converted:
    """The result of `convert_labels`.

    Parameters
    ----------
    path : Path
        The file written.
    images, points : int
        Numbers of images and points.
    centres, snapped : int
        How many of the points are centres of boxes, and spots inside boxes.
    skipped : list of str
        Label files or images without a frame of that name, and the number of images that nobody labelled.
    labels : Counter
        Number of objects by label.
    notes : list of str
        Signs that the points mean something else.
    """

    path: Path
    images: int = 0
    points: int = 0
    centres: int = 0  # points at box centres
    snapped: int = 0  # points at spots in boxes
    skipped: list[str] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def convert_labels(
    root: Path,
    out: Path | None = None,
    kind: str | None = None,
    *,
    snap: bool = False,
    categories: Sequence[str] = (),
    reading: Reading = AS_WRITTEN,
) -> Converted:
    """Write a COCO keypoints file from labels of another tool.

    Parameters
    ----------
    root : Path
        The data set with its labels.
    out : Path, optional
        The file to write. Default: `points.json` in the data set.
    kind : str, optional
        A key of `dimpoint.datasets.formats.TITLES`. Default: the format that is found.
    snap : bool, default False
        Place the point at the bright spot in a box instead of its centre.
    categories : sequence of str
        The labels that are targets. Default: all.
    reading : Reading, optional
        How frames are read.

    Returns
    -------
    Converted

    Raises
    ------
    DataError
        If there are no such labels, several formats, labels of frames of another size, or the file exists.
    """
    if not root.is_dir():
        fault = "not a folder" if root.exists() else "no such folder"
        raise DataError(f"{root}: {fault}; give the folder of a data set")
    path = root / "points.json" if out is None else out
    if path.exists():
        raise DataError(f"{path}: already exists; remove it, or name another file with --out")
    found = find_other_labels(root, kind)
    if not found:
        raise DataError(
            f"{root}: no labels found in a known format: {', '.join(TITLES)}; "
            "a CSV file has the header file,x,y or file,x,y,width,height"
        )
    if len(found) > 1:
        held = ", ".join(f"{one.title} ({counted(len(one.files), 'file')})" for one in found)
        raise DataError(f"{root}: holds labels in several formats: {held}; choose one with --from")
    layout = find_layout(root)
    done = Converted(path)
    merged: dict[str, PointImage] = {}
    size_of = partial(layout.size_of, reading=reading)
    unlabelled: list[str] = []
    for file in found[0].files:
        name_of_file = image_name(root, file)
        for labels in read_labels(found[0].format, file, size_of, name_of_file, unlabelled.append):
            name = _frame_name(layout, labels)
            if name is None:
                done.skipped.append(f"{file.name}: no frame '{labels.name}'")
                continue
            if name in merged:
                raise DataError(f"{file}: frame '{name}' is labelled twice")
            merged[name] = _converted(labels, file, layout, name, snap, categories, done, reading)
    if not merged and done.skipped:
        raise DataError(
            f"{root}: none of the {len(done.skipped)} labelled images is a frame of {layout.frame_folder}: "
            f"{done.skipped[0]}"
        )
    if not merged and unlabelled:
        raise DataError(f"{root}: nothing is labelled: {unlabelled[0]}")
    done.skipped += unlabelled
    write_points(path, [merged[name] for name in sorted(merged)])
    samples = [
        Sample(name, layout.frame(name), None, label.points, reading=reading)
        for name, label in merged.items()
    ]
    done.notes += [doubt.message for doubt in place_doubts(samples, reading)]
    done.images, done.points = len(merged), sum(len(image.points) for image in merged.values())
    return done


def _frame_name(layout: Layout, labels: Labels) -> str | None:
    """The frame of labels, by its name; a video's frame by its number, if the folder has as many frames."""
    name = layout.name_of(labels.name)
    if name is None and labels.place is not None and labels.of == len(layout.frames):
        return sorted(layout.frames, key=lambda one: natural_key(Path(one)))[labels.place]
    return name


def _converted(
    labels: Labels,
    file: Path,
    layout: Layout,
    name: str,
    snap: bool,
    categories: Sequence[str],
    done: Converted,
    reading: Reading,
) -> PointImage:
    path = layout.frame(name)
    height, width = frame_size(path, reading)
    check_size(path, (height, width), labels.size, file.name, reading)
    frame = None
    if snap and labels.boxes:
        frame = Sample(name, path, None, None, reading=reading).read_frame()
    points: list[tuple[float, float]] = []
    for x, y, label in labels.points:
        done.labels[label] += 1
        if not categories or label in categories:
            points.append((x, y))
    for left, top, right, bottom, label in labels.boxes:
        done.labels[label] += 1
        if categories and label not in categories:
            continue
        spot = None if frame is None else spot_in_box(frame, np.array([left, top, right, bottom]))
        done.snapped += spot is not None
        done.centres += spot is None
        points.append(spot or ((left + right) / 2, (top + bottom) / 2))
    outside = [point for point in points if not is_inside(*point, width, height)]
    if outside:
        x, y = outside[0]
        other = hint([(*point, (height, width)) for point in points], labels=False)
        raise DataError(f"{path}: a label at ({x:g}, {y:g}) is outside the {width}x{height} frame{other}")
    array = np.asarray(points, np.float32).reshape(-1, 2)
    regions = [region[:4] for region in labels.regions if not categories or region[4] in categories]
    ignore = np.asarray(regions, np.float32).reshape(-1, 4)
    return PointImage(path.relative_to(layout.frame_folder).as_posix(), width, height, array, ignore)


def export_labels(source: Path, out: Path, kind: str, side: float = 5.0) -> tuple[int, int, int]:
    """Write the COCO points of a data set or file in the format of another tool.

    Parameters
    ----------
    source : Path
        Data set or COCO file.
    out : Path
        File or folder to write, which must not exist.
    kind : str
        One of `FORMATS`.
    side : float, default 5
        Side length of the boxes of VOC and YOLO, pixels.

    Returns
    -------
    tuple of int
        Numbers of images and points, and of ignore regions, which none of the formats holds.

    Raises
    ------
    ConfigError, DataError
        As `write_labels` does; DataError also without a point file.
    """
    layout = None if source.is_file() else find_layout(source)
    files = [source] if layout is None else list(layout.point_files)
    size_of = None if layout is None else layout.size_of
    images = [image for file in files for image in read_point_file(file, size_of=size_of).images]
    if not images:
        raise DataError(f"{source}: no COCO points; make them from masks with dimpoint data points")
    write_labels(kind, images, out, side)
    points, regions = sum(len(each.points) for each in images), sum(len(each.ignore) for each in images)
    return len(images), points, regions


def write_labels(kind: str, images: Sequence[PointImage], out: Path, side: float = 5.0) -> int:
    """Write labels in format `kind`: one file for CVAT and Label Studio, a folder for the others.

    Parameters
    ----------
    kind : str
        One of `FORMATS`.
    images : sequence of PointImage
        The labels.
    out : Path
        File or folder to write, which must not exist.
    side : float, default 5
        Side length of the boxes of VOC and YOLO, pixels.

    Returns
    -------
    int
        The number of files.

    Raises
    ------
    ConfigError
        If the format is unknown.
    DataError
        If `out` exists, or the format cannot hold the name of an image; nothing is written.
    """
    if kind not in FORMATS:
        raise ConfigError(f"--to: '{kind}' is none of {', '.join(FORMATS)}")
    if out.exists():
        raise DataError(f"{out}: already exists; name another --out")
    if kind in ("cvat", "voc"):
        wrong = next((image.file_name for image in images if _NOT_XML.search(image.file_name)), None)
        if wrong is not None:
            raise DataError(f"image {wrong!r}: XML cannot hold this name; rename the file, or export to yolo")
    if kind in ("cvat", "label-studio"):
        write_text(out, (cvat_text if kind == "cvat" else label_studio_text)(images, _LABEL))
        return 1
    writers: dict[str, Callable[[PointImage], str]] = {
        ".json": _labelme,
        ".xml": partial(_voc, side=side),
        ".txt": partial(_yolo, side=side),
    }
    suffix = {"labelme": ".json", "voc": ".xml", "yolo": ".txt"}[kind]
    files = _files(images, suffix)
    with replacing_folder(out) as folder:
        for file, image in files.items():
            write_text(folder / file, writers[suffix](image))
    return len(files)


def _files(images: Sequence[PointImage], suffix: str) -> dict[PurePosixPath, PointImage]:
    """The images by label file, a path below the folder to write; DataError if one has none of its own."""
    files: dict[PurePosixPath, PointImage] = {}
    for image in images:
        path = PurePosixPath(image.file_name.replace("\\", "/"))
        rooted = path.is_absolute() or str(path)[1:2] == ":"
        if rooted or ".." in path.parts or "\0" in path.name or not path.name:
            raise DataError(
                f"image '{image.file_name}': labels cannot be written under this name; it must be a path "
                "below the frame folder, without '..'"
            )
        stem = path.name.removesuffix(path.suffix) if path.suffix.lower() in NAMED_SUFFIXES else path.name
        file = path.with_name(f"{stem}{suffix}")
        if file in files:
            raise DataError(
                f"images '{files[file].file_name}' and '{image.file_name}' would both be written to {file}; "
                "rename one of them, or export to cvat or label-studio"
            )
        files[file] = image
    return files


def _places(image: PointImage) -> list[tuple[float, float]]:
    return [(float(str(x)), float(str(y))) for x, y in image.points]


def _labelme(image: PointImage) -> str:
    shapes: list[dict[str, Any]] = [
        {"label": _LABEL, "points": [[x, y]], "group_id": None, "shape_type": "point", "flags": {}}
        for x, y in _places(image)
    ]
    content: dict[str, Any] = {
        "version": "5.4.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": image.file_name,
        "imageData": None,
        "imageHeight": image.height,
        "imageWidth": image.width,
    }
    return json.dumps(content, indent=1) + "\n"


def _voc(image: PointImage, side: float) -> str:
    half = (side - 1) / 2
    lines = [
        "<annotation>",
        f"  <filename>{quoteattr(image.file_name)[1:-1]}</filename>",
        f"  <size><width>{image.width}</width><height>{image.height}</height><depth>1</depth></size>",
    ]
    for x, y in _places(image):
        sides = {"xmin": x - half, "ymin": y - half, "xmax": x + half, "ymax": y + half}
        box = "".join(f"<{name}>{value!r}</{name}>" for name, value in sides.items())
        lines.append(f"  <object><name>{_LABEL}</name><bndbox>{box}</bndbox></object>")
    return "\n".join([*lines, "</annotation>", ""])


def _yolo(image: PointImage, side: float) -> str:
    width, height = image.width, image.height
    return "".join(
        f"0 {(x + 0.5) / width:.9f} {(y + 0.5) / height:.9f} {side / width:.9f} {side / height:.9f}\n"
        for x, y in _places(image)
    )
