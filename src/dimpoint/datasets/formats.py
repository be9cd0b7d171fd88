"""Read labels of other tools: VOC, YOLO, labelme, CVAT, Label Studio, COCO boxes and CSV.

Coordinates have the centre of the top-left pixel at (0, 0), and boxes are given by their outermost pixels, so
that a box's centre is the mean of its sides. COCO, CVAT, Label Studio, YOLO and CSV give the edges of boxes,
with the corner of the top-left pixel at (0, 0); VOC and labelme give pixels. Points are taken as written.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import filterfalse, islice
from pathlib import Path
from xml.etree import ElementTree

from dimpoint import limits
from dimpoint.datasets.boxes import Labels, pixel_box, recorded_size
from dimpoint.datasets.coco import SizeOf, id_key, read_json
from dimpoint.datasets.cvat import read_cvat
from dimpoint.datasets.label_studio import read_label_studio
from dimpoint.datasets.lists import decoded, read_lines
from dimpoint.errors import DataError
from dimpoint.sources.files import is_junk, walk


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
_SIDES = {"w": "width", "h": "height"}  # of boxes, in columns of CSV files
_SUFFIXES = (".xml", ".json", ".txt", ".csv")
_PROBED = 5  # files of each kind that are inspected
_BLANK = 100  # bytes; a larger file is not blank


def find_other_labels(root: Path, kind: str | None = None) -> list[Found]:
    """Find labels of other tools by the first lines of a few files of each folder; kind: the only format.

    With "yolo", all text files of a label folder are taken, so that reading them reports what is wrong.
    """
    if kind == "yolo":
        folders = [folder for folder in _label_folders(root) if folder != root]
        texts = [path for folder in folders for path in walk(folder, True, (".txt",)).files]
        return [Found(kind, TITLES[kind], tuple(texts))] if texts else []
    return [one for one in _found(root) if kind in (None, one.format)]


def _found(root: Path) -> list[Found]:
    found: dict[str, list[Path]] = {}
    for folder in _label_folders(root):
        texts = walk(folder, folder != root, _SUFFIXES).files
        for suffix in _SUFFIXES:
            files = [path for path in texts if path.suffix.lower() == suffix]
            probed = [format_of(path) for path in islice(filterfalse(_is_blank, files), _PROBED)]
            for kind in dict.fromkeys(kind for kind in probed if kind is not None):
                found.setdefault(kind, []).extend(files if set(probed) == {kind} else _of_kind(files, kind))
    return [Found(kind, TITLES[kind], tuple(files)) for kind, files in found.items()]


def _of_kind(files: Sequence[Path], kind: str) -> list[Path]:
    """The files of one format; an empty text file is a YOLO frame without targets."""
    return [path for path in files if format_of(path) == kind or (kind == "yolo" and _is_blank(path))]


def _is_blank(path: Path) -> bool:
    try:
        return path.stat().st_size <= _BLANK and not path.read_bytes().strip()
    except OSError:
        return False


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


def image_name(root: Path, path: Path) -> str:
    """The image that a label file of the data set in `root` belongs to: its path below the label folder."""
    parts = path.relative_to(root).with_suffix("").parts
    return "/".join(parts[1:] or parts)


def read_labels(
    kind: str,
    path: Path,
    size: SizeOf,
    name: str | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> list[Labels]:
    """Read the labels of a file; kind: a key of `TITLES`; size: maps an image's name to (height, width).

    name: the image, for formats with one file for each; default: the file's name. note: called with a line
    on images that the file leaves unlabelled. Raises DataError that names the file and place if it is not
    of this format.
    """
    image = path.stem if name is None else name
    readers: dict[str, Callable[[], Iterable[Labels]]] = {
        "voc": lambda: _read_voc(path, image),
        "cvat": lambda: read_cvat(_xml(path), path),
        "yolo": lambda: _read_yolo(path, image, size),
        "labelme": lambda: _read_labelme(path, image),
        "label-studio": lambda: read_label_studio(path, size, note),
        "coco": lambda: _read_coco(path),
        "csv": lambda: _read_csv(path),
    }
    try:
        labels = list(readers[kind]())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
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
        for place in (*one.points, *one.boxes, *one.regions):
            if not all(abs(value) < 1e9 for value in place[:-1] if isinstance(value, float)):
                raise DataError(f"{path}: image '{one.name}': {place[:-1]} is not a position in a frame")
    return labels


def _xml(path: Path) -> ElementTree.Element:
    text = limits.read_bytes(path, "label_bytes", DataError)
    if b"<!ENTITY" in text:
        raise DataError(f"{path}: an XML file that defines entities is not read")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: not an XML file ({error})") from None


def _read_voc(path: Path, name: str) -> list[Labels]:
    root = _xml(path)
    # The file's own name is used: `filename` inside often belongs to another machine.
    size = recorded_size(root.findtext("size/height"), root.findtext("size/width"))
    labels = Labels(name, size=size)
    for entry in root.iter("object"):
        box = entry.find("bndbox")
        turned = entry.find("robndbox")  # a rotated box of roLabelImg
        if box is None and turned is not None:
            x, y, w, h = (float(turned.findtext(key) or "") for key in ("cx", "cy", "w", "h"))
            half = ((w - 1) / 2, (h - 1) / 2)
            label = entry.findtext("name") or ""
            labels.boxes.append((x - half[0], y - half[1], x + half[0], y + half[1], label))
            continue
        if box is None:
            raise ValueError("an object without bndbox")
        left, top, right, bottom = (float(box.findtext(side) or "") for side in _VOC_SIDES)
        labels.boxes.append((left, top, right, bottom, entry.findtext("name") or ""))
    return [labels]


def _read_yolo(path: Path, name: str, size: SizeOf) -> list[Labels]:
    labels, shape = Labels(name), size(name)
    if shape is None:
        return [labels]  # reported as a label without frame
    height, width = shape
    lines = limits.read_bytes(path, "label_bytes", DataError).decode("utf-8-sig").splitlines()
    for number, line in enumerate(lines, 1):
        if parts := line.split():
            corners = _yolo_corners([float(value) for value in parts[1:]], f"{path}, line {number}")
            labels.boxes.append((*pixel_box([(x * width, y * height) for x, y in corners]), parts[0]))
    return [labels]


def _yolo_corners(values: list[float], where: str) -> list[tuple[float, float]]:
    """Corners (fractions of the frame) of a box, a box with confidence, or an outline."""
    if not all(-0.01 <= value <= 1.01 for value in values[:4]):
        raise DataError(
            f"{where}: {values[:4]} are not fractions of the frame's width and height (0..1), as YOLO needs"
        )
    if len(values) in (4, 5):
        x, y, w, h = values[:4]
        return [(x - w / 2, y - h / 2), (x + w / 2, y + h / 2)]
    is_pose = len(values) % 3 == 1 and all(seen in (0, 1, 2) for seen in values[6::3])  # x, y, seen
    within = all(-0.01 <= value <= 1.01 for value in values)
    if len(values) >= 8 and len(values) % 2 == 0 and within and not is_pose:
        return list(zip(values[::2], values[1::2], strict=True))
    known = (
        "4 (a box), 5 (box, confidence) or the pairs, 0..1, of an outline of 4 or more corners; no keypoints"
    )
    raise DataError(f"{where}: {len(values)} numbers after the class; expected {known}")


def _read_labelme(path: Path, name: str) -> list[Labels]:
    content = read_json(path)
    labels = Labels(name, size=recorded_size(content.get("imageHeight"), content.get("imageWidth")))
    for shape in content["shapes"]:
        places = [(float(x), float(y)) for x, y in shape["points"]]
        label, kind = str(shape.get("label", "")), shape.get("shape_type", "polygon")
        if kind == "circle":
            labels.points.append((*places[0], label))
        elif kind in ("point", "points"):
            labels.points += [(*place, label) for place in places]
        elif places:
            xs, ys = zip(*places, strict=True)
            labels.boxes.append((min(xs), min(ys), max(xs), max(ys), label))
    return [labels]


def _csv_columns(head: str) -> tuple[dict[str, int], str]:
    """The columns of a CSV file by name, in lower case and without abbreviation, and what separates them."""
    separator = max(",;\t", key=head.count)
    names = [name.strip().casefold() for name in next(csv.reader([head], delimiter=separator), [])]
    return {name: place for place, name in reversed(list(enumerate(whole_names(names))))}, separator


def whole_names(columns: Sequence[str]) -> list[str]:
    """Names of columns, with w and h as width and height where those are not there, too."""
    return [name if _SIDES.get(name, "") in columns else _SIDES.get(name, name) for name in columns]


def _read_csv(path: Path) -> list[Labels]:
    """One target a line; a line without numbers is a frame without targets.

    Columns are separated by commas, semicolons or tabs, and numbers may have decimal commas.
    """
    lines = read_lines(path, strip=False)
    columns, separator = _csv_columns(lines[0][1])
    key = columns[next(name for name in _CSV_KEYS if name in columns)]
    corners = "x" not in columns
    names = _VOC_SIDES if corners else ("x", "y", "width", "height") if "width" in columns else ("x", "y")
    sized = corners and {"width", "height"} <= columns.keys()  # of the frame
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
        if sized:
            labels.size = recorded_size(cells[columns["height"]], cells[columns["width"]])
        if not rest:
            labels.points.append((x, y, ""))
        elif not corners and min(rest) <= 0:
            raise DataError(
                f"{path}, line {number}: width and height are above 0, got {rest[0]:g}, {rest[1]:g}"
            )
        elif corners:
            labels.boxes.append((min(x, rest[0]), min(y, rest[1]), max(x, rest[0]), max(y, rest[1]), ""))
        else:
            labels.boxes.append((*pixel_box([(x, y), (x + rest[0], y + rest[1])]), ""))
    return list(found.values())


def _read_coco(path: Path) -> list[Labels]:
    content = read_json(path)
    names = {id_key(one["id"]): str(one["name"]) for one in content.get("categories", [])}
    images: dict[str, Labels] = {}
    for one in content["images"]:
        if id_key(one["id"]) in images:
            raise DataError(f"{path}: image id {one['id']}: another image has the same id")
        size = recorded_size(one.get("height"), one.get("width"))
        images[id_key(one["id"])] = Labels(str(one["file_name"]), size=size)
    for one in content["annotations"]:
        where = f"{path}: annotation id {one.get('id')}"
        labels = images.get(id_key(one["image_id"]))
        if labels is None:
            raise DataError(f"{where}: image_id {one['image_id']} is unknown; no image has that id")
        if "bbox" in one:
            x, y, w, h = map(float, one["bbox"])
            if min(w, h) < 0:
                raise DataError(f"{where}: bbox is x, y, width, height with sizes of at least 0")
            corners = [(x, y), (x + w, y + h)]
        else:
            numbers = [float(value) for part in one["segmentation"] for value in part]
            corners = list(zip(numbers[::2], numbers[1::2], strict=True))
        label = names.get(id_key(one.get("category_id")), "")
        if one.get("iscrowd") == 1:
            xs, ys = zip(*corners, strict=True)
            labels.regions.append((min(xs) - 0.5, min(ys) - 0.5, max(xs) - 0.5, max(ys) - 0.5, label))
        else:
            labels.boxes.append((*pixel_box(corners), label))
    return list(images.values())
