"""Labels of other tools into a project and out of it, and how well two labellers agree."""

from __future__ import annotations

import csv
import io
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations, takewhile
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import numpy as np

from dimpoint.datasets.boxes import spot_in_box
from dimpoint.datasets.coco import PointImage, read_points
from dimpoint.datasets.convert import FORMATS, write_labels
from dimpoint.datasets.coordinates import is_inside
from dimpoint.datasets.formats import format_of, read_labels
from dimpoint.datasets.layout import NAMED_SUFFIXES
from dimpoint.datasets.masks import centroids, read_mask_file
from dimpoint.errors import ConfigError, DataError, FrameError
from dimpoint.labelling.frames import safe_stem
from dimpoint.labelling.project import Project
from dimpoint.labelling.store import Labels
from dimpoint.metrics.points import match_points
from dimpoint.text import csv_cell

EXPORTS = ("coco", *FORMATS, "csv", "masks")
_MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".npy", ".gif")
_MOST_NAMED = 20
_Region = tuple[float, float, float, float]


@dataclass
class Imported:
    """Result of an import.

    labelled: frames that got labels, with `points` targets. kept: frames that had an answer, which stays.
    outside: labels outside their frame. beside: frames with labels of which none is inside; they get no
    answer. unknown: up to 20 of the `unknown_count` names without a frame.
    """

    labelled: int = 0
    points: int = 0
    kept: int = 0
    outside: int = 0
    beside: int = 0
    unknown_count: int = 0
    unknown: list[str] = field(default_factory=list)


@dataclass
class _Found:
    """The labels of one frame in a file, in its pixels. size: (height, width) of the frame by the file.

    boxes, regions: (left, top, right, bottom).
    """

    name: str
    points: list[tuple[float, float]] = field(default_factory=list)
    boxes: list[_Region] = field(default_factory=list)
    regions: list[_Region] = field(default_factory=list)
    size: tuple[int, int] | None = None


def import_labels(project: Project, file: Path, author: str, *, snap: bool = True) -> Imported:
    """Take labels from a file for the frames of the same names that have no answer yet.

    Labels outside their frame are left out and counted; a frame that has no others gets no answer.

    Parameters
    ----------
    project
        The project that takes them.
    file
        COCO keypoints or boxes, CVAT, Label Studio, labelme, VOC, YOLO, CSV of points or boxes, or a mask
        named like its frame.
    author
        Name that the labels carry.
    snap
        Turn a box into the centroid of the spot in it. Default: yes; its centre without a spot, or if False.

    Returns
    -------
    Imported

    Raises
    ------
    DataError
        If the file has none of these formats, or says another size than a frame has; then nothing is taken.
    """
    done = Imported()
    ready: dict[int, Labels] = {}
    for found in _labels_in(project, file):
        frame = _frame_of(project, found.name)
        if frame is None:
            done.unknown_count += 1
            done.unknown += [found.name[:200]] if len(done.unknown) < _MOST_NAMED else []
            continue
        current = project.store.labels(frame)
        if current.status != "unlabelled" or frame in ready:
            done.kept += 1
            continue
        _check_size(project, frame, found, file)
        labels = _placed(project, frame, found, snap, done)
        given = found.points or found.boxes
        if (given and not labels[0]) or (found.regions and not any(labels)):
            done.beside += 1
            continue
        ready[frame] = Labels(current.version, "empty", *labels, author=author)
    for frame, taken in ready.items():
        project.save(frame, taken)
        done.labelled += 1
        done.points += len(taken.points)
    return done


def _frame_of(project: Project, name: str) -> int | None:
    """The frame that a label file names; of files of one name that in the folders of the name, if one is."""
    path = PurePosixPath(name.replace("\\", "/"))
    whole = [] if path.suffix.lower() in NAMED_SUFFIXES else [safe_stem(f"{path.name}.png")]
    found = (project.store.find(stem) for stem in (*whole, safe_stem(name)))
    frame = next((one for one in found if one is not None), None)
    if frame is None or not _folders(path):
        return frame
    stem, alike = project.store.source(frame).name, [frame]
    while (other := project.store.find(f"{stem}-{len(alike) + 1}")) is not None:
        alike.append(other)
    shared = {
        one: _shared(_folders(path), _folders(source))
        for one in alike
        if safe_stem((source := PurePath(project.store.source(one).source)).name) == stem
    }
    most = max(shared.values(), default=0)
    best = [one for one, count in shared.items() if count == most]
    return best[0] if len(best) == 1 else frame


def _folders(path: PurePath) -> list[str]:
    """The folders above a file, without `images`, where the project keeps its copies."""
    return [part for part in path.parent.parts if part not in ("images", "/")]


def _shared(one: list[str], other: list[str]) -> int:
    """The number of equal parts, counted from the end."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _check_size(project: Project, frame: int, found: _Found, file: Path) -> None:
    size = _size(project, frame)
    if found.size is not None and found.size != size:
        raise DataError(
            f"{file.name}: image '{found.name}' has {found.size[1]}x{found.size[0]} pixels there, its frame "
            f"here {size[1]}x{size[0]}: the labels are of other pixels; nothing is taken"
        )


def _labels_in(project: Project, file: Path) -> Iterator[_Found]:
    if file.suffix.lower() in _MASK_SUFFIXES:
        try:
            places = centroids(read_mask_file(file))
        except FrameError as error:
            raise DataError(str(error)) from None
        yield _Found(file.name, [(float(x), float(y)) for x, y in places])
        return
    kind = format_of(file)
    if kind is None and file.suffix.lower() == ".json":
        for image in read_points(file):
            regions: list[_Region] = [(a, b, c, d) for a, b, c, d in image.ignore.tolist()]
            points = [(x, y) for x, y in image.points.tolist()]
            yield _Found(image.file_name, points, [], regions, (image.height, image.width))
        return
    if kind is None and zipfile.is_zipfile(file):
        raise DataError(f"{file.name}: a ZIP archive; unpack it and choose the files in it")
    if kind is None:
        raise DataError(
            f"{file.name}: labels are COCO, CVAT, Label Studio, labelme, VOC, YOLO or CSV files, or masks"
        )

    def size(stem: str) -> tuple[int, int] | None:
        frame = _frame_of(project, stem)
        return None if frame is None else _size(project, frame)

    for one in read_labels(kind, file, size):
        boxes = [(left, top, right, bottom) for left, top, right, bottom, _ in one.boxes]
        regions = [(left, top, right, bottom) for left, top, right, bottom, _ in one.regions]
        yield _Found(one.name, [(x, y) for x, y, _ in one.points], boxes, regions, one.size)


def _size(project: Project, frame: int) -> tuple[int, int]:
    height, width = project.pixels(frame).shape
    return height, width


def _placed(
    project: Project, frame: int, found: _Found, snap: bool, done: Imported
) -> tuple[tuple[tuple[float, float], ...], tuple[_Region, ...]]:
    """Points and regions inside the frame."""
    height, width = _size(project, frame)
    pixels = project.pixels(frame) if snap and found.boxes else None
    points = list(found.points)
    for box in found.boxes:
        spot = None if pixels is None else _spot(pixels, box)
        points.append(spot or ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
    inside = tuple(point for point in points if is_inside(*point, width, height))
    done.outside += len(points) - len(inside)
    regions = []
    for left, top, right, bottom in found.regions:
        region = max(left, -0.5), max(top, -0.5), min(right, width - 0.5), min(bottom, height - 0.5)
        if region[0] < region[2] and region[1] < region[3]:
            regions.append(region)
    return inside, tuple(regions)


def _spot(pixels: Any, box: _Region) -> tuple[float, float] | None:
    height, width = pixels.shape
    if box[2] < 0 or box[3] < 0 or box[0] > width - 1 or box[1] > height - 1:
        return None
    return spot_in_box(pixels, np.array(box))


def export_labels(project: Project, kind: str) -> tuple[str, bytes, int]:
    """The project's labels in the format of another tool.

    Parameters
    ----------
    project
        The project.
    kind
        One of `EXPORTS`. coco is points.json; masks have one white pixel for each target.

    Returns
    -------
    tuple of str, bytes and int
        A file name and its content, a ZIP archive for formats with a file for each frame; and the number of
        ignore regions that are left out, because only coco has them.

    Raises
    ------
    ConfigError
        If there is no such format.
    """
    if kind not in EXPORTS:
        raise ConfigError(f"format: '{kind[:40]}' is none of {', '.join(EXPORTS)}")
    points = project.export()
    if kind == "coco":
        return "points.json", points.read_bytes(), 0
    images = read_points(points)
    regions = sum(len(image.ignore) for image in images)
    if kind == "csv":
        return "points.csv", _csv(images).encode(), regions
    with tempfile.TemporaryDirectory(prefix="dimpoint-") as folder:
        out = Path(folder) / "labels"
        if kind == "masks":
            _write_masks(images, out)
        else:
            write_labels(kind, images, out)
        if out.is_file():
            return f"{kind}{'.xml' if kind == 'cvat' else '.json'}", out.read_bytes(), regions
        return f"{kind}.zip", _zipped(out), regions


def _csv(images: list[PointImage]) -> str:
    """One line for each target; a frame without any has a line without x and y."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "x", "y"])
    for image in images:
        places = [[str(x), str(y)] for x, y in image.points] or [["", ""]]
        writer.writerows([csv_cell(image.file_name), *place] for place in places)
    return text.getvalue()


def _write_masks(images: list[PointImage], out: Path) -> None:
    import cv2

    out.mkdir()
    for image in images:
        mask = np.zeros((image.height, image.width), np.uint8)
        for x, y in image.points:
            mask[
                min(max(round(float(y)), 0), image.height - 1), min(max(round(float(x)), 0), image.width - 1)
            ] = 255
        cv2.imwrite(str(out / f"{Path(image.file_name).stem}.png"), mask)


def _zipped(folder: Path) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    return content.getvalue()


@dataclass(frozen=True)
class Agreement:
    """Agreement of two labellers on the frames that both labelled.

    frames: how many. same: frames with the same answer, the same targets or none. matched, first_only,
    second_only: targets of both, and of one alone. f1: 2 matched / all targets of both, None without any.
    distance: median distance of matched points, pixels.
    """

    first: str
    second: str
    frames: int
    same: int
    matched: int
    first_only: int
    second_only: int
    f1: float | None
    distance: float | None


def agreements(project: Project, radius: float = 3.0) -> list[Agreement]:
    """The agreement of each pair of named labellers, by the last answer of each on a frame.

    Parameters
    ----------
    project
        The project.
    radius
        Largest distance of two points of one target, pixels. Default: 3.

    Returns
    -------
    list of Agreement
        One for each pair that has labelled a common frame.
    """
    answers: dict[str, dict[int, Labels]] = {}
    for frame, labels in project.store.answers():
        answers.setdefault(labels.author, {})[frame] = labels
    pairs = combinations(sorted(name for name in answers if name), 2)
    found = (_agreement(first, second, answers, radius) for first, second in pairs)
    return [one for one in found if one.frames]


def _agreement(first: str, second: str, answers: dict[str, dict[int, Labels]], radius: float) -> Agreement:
    common = sorted(answers[first].keys() & answers[second].keys())
    same = matched = only_first = only_second = 0
    distances: list[float] = []
    for frame in common:
        ours, theirs = answers[first][frame].points, answers[second][frame].points
        match = match_points(theirs, np.ones(len(theirs)), ours, radius)
        matched += len(match.pairs)
        only_first += len(match.missed)
        only_second += len(match.false)
        same += not len(match.missed) and not len(match.false)
        distances += match.distances.tolist()
    total = 2 * matched + only_first + only_second
    return Agreement(
        first,
        second,
        len(common),
        same,
        matched,
        only_first,
        only_second,
        2 * matched / total if total else None,
        float(np.median(distances)) if distances else None,
    )
