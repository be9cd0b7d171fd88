"""Read labels of other tools: VOC, YOLO, labelme, CVAT, Label Studio, COCO boxes and CSV.

Coordinates have the centre of the top-left pixel at (0, 0), and boxes are given by their outermost pixels, so
that a box's centre is the mean of its sides. COCO, CVAT and Label Studio give the edges of boxes, the right
one a pixel further; VOC gives pixels; YOLO gives fractions of the frame's width and height.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from dimpoint import limits
from dimpoint.datasets.boxes import Labels
from dimpoint.datasets.coco import read_json
from dimpoint.datasets.cvat import read_cvat
from dimpoint.datasets.lists import decoded, read_lines
from dimpoint.errors import DataError
from dimpoint.sources.files import is_junk

Size = Callable[[str], tuple[int, int] | None]  # of an image by its name: (height, width)


@dataclass(frozen=True)
class Found:
    """Label files of one format in a data set."""

    format: str
    title: str
    files: tuple[Path, ...]


TITLES = {
    "voc": "VOC XML",
    "cvat": "CVAT XML",
    "yolo": "YOLO text",
    "labelme": "labelme JSON",
    "label-studio": "Label Studio JSON",
    "coco": "COCO boxes",
    "csv": "CSV",
}
_FOLDERS = ("", "annotations", "labels", "label", "xml", "labelme", "anns", "images", "image")
_CSV_KEYS = ("file", "frame", "filename", "file_name", "image", "name")
_VOC_SIDES = ("xmin", "ymin", "xmax", "ymax")
_PROBED = 5  # files of each kind that are inspected


def find_other_labels(root: Path, kind: str | None = None) -> list[Found]:
    """Find labels of other tools by the first lines of a few files of each folder; kind: the only format.

    With "yolo", all text files of a label folder are taken, so that reading them reports what is wrong.
    """
    if kind == "yolo":
        folders = [folder for folder in _label_folders(root) if folder != root]
        texts = [path for folder in folders for path in sorted(folder.glob("*.txt"))]
        return [Found(kind, TITLES[kind], tuple(texts))] if texts else []
    return [one for one in _found(root) if kind in (None, one.format)]


def _found(root: Path) -> list[Found]:
    found: dict[str, list[Path]] = {}
    for folder in _label_folders(root):
        for suffix in (".xml", ".json", ".txt", ".csv"):
            files = sorted(path for path in folder.glob(f"*{suffix}") if path.is_file())
            probed = [format_of(path) for path in files[:_PROBED]]
            for kind in dict.fromkeys(kind for kind in probed if kind is not None):
                found.setdefault(kind, []).extend(files if set(probed) == {kind} else _of_kind(files, kind))
    return [Found(kind, TITLES[kind], tuple(files)) for kind, files in found.items()]


def _of_kind(files: Sequence[Path], kind: str) -> list[Path]:
    """The files of one format; an empty text file is a YOLO frame without targets."""
    empty = [path for path in files if kind == "yolo" and path.stat().st_size == 0]
    return sorted({*empty, *(path for path in files if format_of(path) == kind)})


def _label_folders(root: Path) -> Iterator[Path]:
    wanted = set(_FOLDERS)
    yield root
    for path in sorted(root.iterdir()):
        if path.is_dir() and path.name.casefold() in wanted and not is_junk(path.name):
            yield path


def format_of(path: Path) -> str | None:
    """The format of a label file by its content; None if it is none of these, or native points."""
    try:
        with path.open("rb") as file:
            head = decoded(file.read(4096), "replace")
    except OSError:
        return None
    if path.suffix.lower() == ".xml":
        if "<annotations" in head:
            return "cvat"
        return "voc" if "<annotation" in head else None
    if path.suffix.lower() == ".txt":
        return "yolo" if _is_yolo(head) else None
    if path.suffix.lower() == ".csv":
        columns = _csv_columns(next(iter(head.splitlines()), ""))[0]
        known = {"x", "y"} <= columns.keys() or columns.keys() >= set(_VOC_SIDES)
        labels = known and columns.keys() & set(_CSV_KEYS) and "score" not in columns
        sides = columns.keys() & {"width", "height"}
        return "csv" if labels and len(sides) != 1 else None  # with scores it holds detections
    if '"shapes"' in head:
        return "labelme"
    if head.lstrip().startswith("["):
        return "label-studio"
    return _coco_kind(path) if '"images"' in head else None


def _coco_kind(path: Path) -> str | None:
    """`coco` for files with only boxes or outlines; files with keypoints are native."""
    try:
        content = read_json(path)
        annotations = content["annotations"]
        boxes = annotations and all("keypoints" not in one for one in annotations)
        return "coco" if boxes and ("bbox" in annotations[0] or "segmentation" in annotations[0]) else None
    except (DataError, KeyError, TypeError):
        return None


def _is_yolo(head: str) -> bool:
    lines = [line.split() for line in head.splitlines()[:3] if line.strip()]
    try:
        return bool(lines) and all(
            (len(line) in (5, 6) or (len(line) >= 9 and len(line) % 2))
            and all(-0.1 <= float(value) <= 1.1 for value in line[1:5])
            for line in lines
        )
    except ValueError:
        return False


def read_labels(kind: str, path: Path, size: Size) -> list[Labels]:
    """Read the labels of a file; kind: a key of `TITLES`; size: maps an image's name to (height, width).

    Raises DataError that names the file and place if it is not of this format.
    """
    readers: dict[str, Callable[[Path, Size], list[Labels]]] = {
        "voc": _read_voc,
        "cvat": lambda path, _: list(read_cvat(_xml(path), path)),
        "yolo": _read_yolo,
        "labelme": _read_labelme,
        "label-studio": _read_label_studio,
        "coco": _read_coco,
        "csv": _read_csv,
    }
    try:
        labels = readers[kind](path, size)
    except (
        LookupError,
        TypeError,
        ValueError,
        OverflowError,
        AttributeError,
        RecursionError,
        StopIteration,
        csv.Error,
    ) as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise DataError(f"{path}: not a {TITLES[kind]} file as its tool writes it ({reason})") from None
    count = sum(len(one.points) + len(one.boxes) for one in labels)
    limits.check("annotations", count, f"{path}: annotations", DataError)
    for one in labels:
        for place in (*one.points, *one.boxes):
            if not all(abs(value) < 1e9 for value in place[:-1] if isinstance(value, float)):
                raise DataError(f"{path}: image '{one.name}': {place[:-1]} is not a position in a frame")
    return labels


def _xml(path: Path) -> ElementTree.Element:
    try:
        text = limits.read_bytes(path, "label_bytes", DataError)
        if b"<!ENTITY" in text:
            raise DataError(f"{path}: an XML file that defines entities is not read")
        return ElementTree.fromstring(text)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: not an XML file ({error})") from None


def _read_voc(path: Path, size: Size) -> list[Labels]:
    root = _xml(path)
    # The file's own name is used: `filename` inside often belongs to another machine.
    labels = Labels(path.stem)
    for entry in root.iter("object"):
        box = entry.find("bndbox")
        turned = entry.find("robndbox")  # a rotated box of roLabelImg
        if box is None and turned is not None:
            x, y, w, h = (float(turned.findtext(key) or "") for key in ("cx", "cy", "w", "h"))
            half = ((w - 1) / 2, (h - 1) / 2)
            name = entry.findtext("name") or ""
            labels.boxes.append((x - half[0], y - half[1], x + half[0], y + half[1], name))
            continue
        if box is None:
            raise ValueError("an object without bndbox")
        left, top, right, bottom = (float(box.findtext(side) or "") for side in _VOC_SIDES)
        labels.boxes.append((left, top, right, bottom, entry.findtext("name") or ""))
    return [labels]


def _around(places: Sequence[tuple[float, float]]) -> tuple[float, float, float, float]:
    """The box around places: left, top, right, bottom."""
    xs, ys = [x for x, _ in places], [y for _, y in places]
    return min(xs), min(ys), max(xs), max(ys)


def _read_yolo(path: Path, size: Size) -> list[Labels]:
    shape = size(path.stem)
    if shape is None:
        return [Labels(path.stem)]  # reported as a label without frame
    height, width = shape
    labels = Labels(path.stem)
    lines = limits.read_bytes(path, "label_bytes", DataError).decode("utf-8-sig").splitlines()
    for number, line in enumerate(lines, 1):
        if parts := line.split():
            box = _yolo_box([float(value) for value in parts[1:]], f"{path}, line {number}")
            left, top, right, bottom = (
                value * side for value, side in zip(box, (width, height) * 2, strict=True)
            )
            # a box of n pixels has sides n - 1 pixels apart
            across, down = min(0.5, (right - left) / 2), min(0.5, (bottom - top) / 2)
            labels.boxes.append((left + across, top + down, right - across, bottom - down, parts[0]))
    return [labels]


def _yolo_box(values: list[float], where: str) -> tuple[float, float, float, float]:
    """Left, top, right, bottom (fractions of the frame) of a box, a box with confidence, or an outline."""
    if not all(-0.01 <= value <= 1.01 for value in values[:4]):
        raise DataError(
            f"{where}: {values[:4]} are not fractions of the frame's width and height (0..1), as YOLO needs"
        )
    if len(values) in (4, 5):
        x, y, w, h = values[:4]
        return x - w / 2, y - h / 2, x + w / 2, y + h / 2
    if len(values) >= 8 and len(values) % 2 == 0:
        return _around(list(zip(values[::2], values[1::2], strict=True)))
    known = "4 (a box), 5 (box, confidence) or the pairs of an outline of 4 or more corners"
    raise DataError(f"{where}: {len(values)} numbers after the class; expected {known}")


def _read_labelme(path: Path, size: Size) -> list[Labels]:
    labels = Labels(path.stem)
    for shape in read_json(path)["shapes"]:
        places = [(float(x), float(y)) for x, y in shape["points"]]
        label, kind = str(shape.get("label", "")), shape.get("shape_type", "polygon")
        if kind == "circle":
            labels.points.append((*places[0], label))
        elif kind in ("point", "points"):
            labels.points += [(*place, label) for place in places]
        elif places:
            labels.boxes.append((*_around(places), label))
    return [labels]


def _read_label_studio(path: Path, size: Size) -> list[Labels]:
    found = []
    for task in read_json(path):
        data = task.get("data", {})
        name = next((str(value) for value in data.values() if isinstance(value, str)), "")
        name = str(task.get("file_upload") or name).rsplit("/", 1)[-1]
        labels = Labels(name)
        for result in (one for part in task.get("annotations", [])[:1] for one in part["result"]):
            if "value" in result and result.get("type") not in _NO_SHAPES:
                _add_studio_shape(labels, result, path)
        found.append(labels)
    return found


_NO_SHAPES = ("choices", "textarea", "rating", "number", "taxonomy")  # labels of the whole image


def _add_studio_shape(labels: Labels, result: dict[str, Any], path: Path) -> None:
    """Add one shape. Coordinates are percent of the image; rotation is about the upper left corner."""
    value, kind = result["value"], str(result["type"]).removesuffix("labels")
    width, height = float(result["original_width"]), float(result["original_height"])
    names = next((value[key] for key in value if key.endswith("labels")), None) or [""]
    label = str(names[0])
    if kind == "polygon":
        places = [(x / 100 * width, y / 100 * height) for x, y in value["points"]]
        labels.boxes.append((*_around(places), label))
        return
    if kind not in ("keypoint", "rectangle", "ellipse"):
        raise DataError(
            f"{path}: image '{labels.name}' has a shape of type '{result['type']}'; keypoints, rectangles, "
            "ellipses and polygons are read"
        )
    x, y = value["x"] / 100 * width, value["y"] / 100 * height
    if kind != "rectangle":
        labels.points.append((x, y, label))
        return
    across, down = value["width"] / 100 * width, value["height"] / 100 * height
    turn = math.radians(float(value.get("rotation") or 0))
    if turn:
        sides = [(0.0, 0.0), (across - 1, 0.0), (0.0, down - 1), (across - 1, down - 1)]
        cos, sin = math.cos(turn), math.sin(turn)
        labels.boxes.append(
            (*_around([(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in sides]), label)
        )
    else:
        labels.boxes.append((x, y, x + across - 1, y + down - 1, label))


def _csv_columns(head: str) -> tuple[dict[str, int], str]:
    """The columns of a CSV file by name, in lower case, and what separates them."""
    separator = max(",;\t", key=head.count)
    names = [name.strip().casefold() for name in next(csv.reader([head], delimiter=separator), [])]
    return {name: place for place, name in reversed(list(enumerate(names)))}, separator


def _read_csv(path: Path, size: Size) -> list[Labels]:
    """One target a line; a line without numbers is a frame without targets.

    Columns are separated by commas, semicolons or tabs, and numbers may have decimal commas.
    """
    lines = read_lines(path)
    columns, separator = _csv_columns(lines[0][1])
    key = columns[next(name for name in _CSV_KEYS if name in columns)]
    corners = "x" not in columns
    names = _VOC_SIDES if corners else ("x", "y", "width", "height") if "width" in columns else ("x", "y")
    found: dict[str, Labels] = {}
    rows = csv.reader((text for _, text in lines[1:]), delimiter=separator, skipinitialspace=True)
    for (number, _), row in zip(lines[1:], rows, strict=False):
        cells = [cell.strip() for cell in row] + [""] * (len(columns) - len(row))
        name = cells[key].removeprefix("'") if cells[key][1:2] in ("=", "+", "-", "@") else cells[key]
        labels = found.setdefault(name, Labels(name))
        written = [cells[columns[each]] for each in names]
        if not any(written):
            continue
        try:
            x, y, *rest = (float(text.replace(",", ".")) for text in written)
        except ValueError:
            what = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
            raise DataError(
                f"{path}, line {number}: {what} are numbers, got {', '.join(written)!r}"
            ) from None
        if not rest:
            labels.points.append((x, y, ""))
        elif not corners and min(rest) <= 0:
            raise DataError(
                f"{path}, line {number}: width and height are above 0, got {rest[0]:g}, {rest[1]:g}"
            )
        elif corners:
            labels.boxes.append((min(x, rest[0]), min(y, rest[1]), max(x, rest[0]), max(y, rest[1]), ""))
        else:
            labels.boxes.append((x, y, x + rest[0] - 1, y + rest[1] - 1, ""))
    return list(found.values())


def _read_coco(path: Path, size: Size) -> list[Labels]:
    content = read_json(path)
    names = {one["id"]: str(one["name"]) for one in content.get("categories", [])}
    images = {one["id"]: Labels(str(one["file_name"])) for one in content["images"]}
    for one in content["annotations"]:
        if one.get("iscrowd") == 1 or one["image_id"] not in images:
            continue
        if "bbox" in one:
            x, y, w, h = map(float, one["bbox"])
        else:
            numbers = [float(value) for part in one["segmentation"] for value in part]
            xs, ys = numbers[::2], numbers[1::2]
            x, y, w, h = min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
        box = (x, y, x + max(w - 1, 0), y + max(h - 1, 0), names.get(one.get("category_id"), ""))
        images[one["image_id"]].boxes.append(box)
    return list(images.values())
