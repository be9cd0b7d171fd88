"""COCO keypoints files: the native format of point labels.

Written: one annotation per target with `num_keypoints: 1` and `keypoints: [x, y, v]`. Also read: all points
of an image in one annotation, K triples and `num_keypoints: K`. v = 0 means not labelled; the point is
ignored. (0, 0) with v > 0 is the centre of the top-left pixel.

Ignore regions are COCO's crowd annotations, `iscrowd: 1` with a `bbox`: it is unknown whether they contain
targets.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from dimpoint import limits
from dimpoint.atomic import write_text
from dimpoint.datasets.coordinates import hint, is_inside
from dimpoint.datasets.reading import AS_WRITTEN, Reading
from dimpoint.errors import DataError

SizeOf = Callable[[str], tuple[int, int] | None]
NO_REGIONS: npt.NDArray[np.float32] = np.zeros((0, 4), np.float32)

_LARGEST = 1e9  # far beyond any frame; not a number and infinity are refused by it too
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "id": ((int, float, str), "an integer"),
    "image_id": ((int, float, str), "an integer"),
    "width": ((int, float), "an integer"),
    "height": ((int, float), "an integer"),
    "file_name": ((str,), "a string"),
    "keypoints": ((list,), "a list of numbers"),
    "bbox": ((list,), "a list of numbers"),
}


@dataclass(frozen=True)
class PointImage:
    """The labels of one image.

    points: (N, 2) float32 x, y; N = 0 for an image without targets. ignore: (M, 4) float32 left, top, right,
    bottom of regions without labels, in the coordinates of points.
    """

    file_name: str
    width: int
    height: int
    points: npt.NDArray[np.float32] = field(compare=False)
    ignore: npt.NDArray[np.float32] = field(compare=False, default_factory=NO_REGIONS.copy)


class Problem(NamedTuple):
    """An error in a COCO file: a point outside its frame, or any other."""

    kind: Literal["point-file", "point-outside"]
    message: str


@dataclass(frozen=True)
class Facts:
    """Statistics of a COCO file for `dimpoint.datasets.plausibility`.

    unlabelled: points of visibility 0. merged: points at exactly the same place as another point of the
    frame. unsized: images whose size is not in the file. categories: number of annotations with points, by
    category name.
    """

    unlabelled: int = 0
    merged: int = 0
    unsized: int = 0
    categories: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class PointFile:
    """A parsed COCO file: the images with their valid points, all problems, and statistics."""

    path: Path
    images: list[PointImage]
    problems: list[Problem]
    facts: Facts = Facts()


def read_points(path: Path, reading: Reading = AS_WRITTEN) -> list[PointImage]:
    """The images of a COCO keypoints file with all their points, in the order of the file.

    Unlike `read_point_file`, it keeps points at the same place apart, as needed for predictions.
    """
    return _right(parse_points(path, reading, merge=False)).images


def read_point_file(path: Path, reading: Reading = AS_WRITTEN, size_of: SizeOf | None = None) -> PointFile:
    """Read a COCO keypoints file; labels at exactly the same place of a frame count once.

    size_of: maps the file name of an image without a size to its (height, width), or None. Raises DataError
    that names the file, id and key if the file is not valid, or a point is outside its frame.
    """
    return _right(parse_points(path, reading, size_of=size_of))


def _right(file: PointFile) -> PointFile:
    if file.problems:
        more = f" (and {len(file.problems) - 1} more problems)" if len(file.problems) > 1 else ""
        raise DataError(f"{file.path}: {file.problems[0].message}{more}")
    return file


def parse_points(
    path: Path, reading: Reading = AS_WRITTEN, *, merge: bool = True, size_of: SizeOf | None = None
) -> PointFile:
    """Parse a COCO keypoints file into its valid points and all its problems."""
    try:
        content = read_json(path)
    except DataError as error:
        return PointFile(path, [], [_broken(str(error).removeprefix(f"{path}: "))])
    if not isinstance(content, dict):
        return PointFile(
            path, [], [_broken("not a COCO file: expected an object with 'images' and 'annotations'")]
        )
    for key in ("images", "annotations"):
        if not isinstance(content.get(key), list):
            hint = _other_format(content)
            return PointFile(path, [], [_broken(f"key '{key}' is missing or is not a list{hint}")])
    # some tools write no size, null or 0 for what they do not know
    images = [one for one in content["images"] if isinstance(one, dict)]
    unsized = [one for one in images if not (one.get("width") or one.get("height"))]
    for one in unsized:
        if size_of is not None and (size := size_of(str(one.get("file_name")))):
            one["height"], one["width"] = size
    return _Parser(path, content, reading).result(merge, len(unsized))


class _Parser:
    """Parses the entries of one file."""

    def __init__(self, path: Path, content: dict[str, Any], reading: Reading) -> None:
        self.path, self.reading = path, reading
        self.names = _category_names(content.get("categories"))
        self.images, self.wrong_ids, self.problems = _parse_images(content["images"])
        self.points: dict[str, list[tuple[float, float]]] = {key: [] for key in self.images}
        self.regions: dict[str, list[tuple[float, ...]]] = {key: [] for key in self.images}
        self.written: list[tuple[float, float, tuple[int, int]]] = []
        self.unlabelled = 0
        self.categories: Counter[str] = Counter()
        annotations = content["annotations"]
        limits.check("annotations", len(annotations), f"{path}: annotations", DataError)
        for index, annotation in enumerate(annotations):
            where = _where("annotation", annotation, index)
            self.problems += [Problem(kind, f"{where}: {text}") for kind, text in self._add(annotation)]

    def result(self, merge: bool, unsized: int) -> PointFile:
        images, merged = [], 0
        for key, image in self.images.items():
            points = self.points[key]
            limits.check(
                "points_per_frame", len(points), f"{self.path}: points of '{image.file_name}'", DataError
            )
            once = list(dict.fromkeys(points)) if merge else points
            merged += len(points) - len(once)
            ignore = np.asarray(self.regions[key], np.float32).reshape(-1, 4)
            images.append(replace(image, points=_as_array(once), ignore=ignore))
        facts = Facts(self.unlabelled, merged, unsized, self.categories)
        outside = [place for place, one in enumerate(self.problems) if one.kind == "point-outside"]
        if outside and not self.reading.points - {"unlabelled"}:
            first = self.problems[outside[0]]
            self.problems[outside[0]] = first._replace(
                message=first.message + hint(self.written, labels=merge)
            )
        return PointFile(self.path, images, self.problems, facts)

    def _add(self, annotation: Any) -> list[Problem]:
        """Add an annotation to its image; returns its problems."""
        crowd = isinstance(annotation, dict) and annotation.get("iscrowd") == 1
        if problem := _type_problem(annotation, ("image_id", "bbox" if crowd else "keypoints")):
            return [_broken(problem + _boxes_hint(annotation))]
        key = id_key(annotation["image_id"])
        if key not in self.images:
            text = f"image_id {annotation['image_id']} is unknown; no image has that id"
            return [] if key in self.wrong_ids else [_broken(text)]
        category = self.names.get(id_key(annotation.get("category_id")), "")
        if self.reading.categories and category not in self.reading.categories:
            return []
        return self._add_region(annotation, key) if crowd else self._add_points(annotation, key, category)

    def _add_points(self, annotation: dict[str, Any], key: str, category: str) -> list[Problem]:
        numbers, image = annotation["keypoints"], self.images[key]
        if not all(_is_number(value) for value in numbers):
            return [_broken("keypoints must be a flat list of numbers x, y, v")]
        triples = [tuple(numbers[i : i + 3]) for i in range(0, len(numbers), 3)]
        if len(numbers) % 3 or any(v not in (0, 1, 2) for _, _, v in triples):
            shown = str(numbers[:6])[:-1] + (", …]" if len(numbers) > 6 else "]")
            return [_broken(f"keypoints must be triples x, y, v with v = 0, 1 or 2; got {shown}")]
        counted = [(float(x), float(y)) for x, y, v in triples if v > 0]
        if annotation.get("num_keypoints", len(counted)) not in (len(counted), len(triples)):
            text = f"num_keypoints is {annotation['num_keypoints']!r}, keypoints holds {len(counted)}"
            return [_broken(text)]
        self.unlabelled += len(triples) - len(counted)
        if "unlabelled" in self.reading.points:
            counted = [(float(x), float(y)) for x, y, _ in triples]
        if counted:
            self.categories[category] += 1
        size = (image.height, image.width)
        self.written += [(x, y, size) for x, y in counted]
        if self.reading.points - {"unlabelled"}:
            counted = [self.reading.to_pixels(x, y, size) for x, y in counted]
        problems = []
        for x, y in counted:
            if is_inside(x, y, image.width, image.height):
                self.points[key].append((x, y))
            else:
                text = f"keypoints: ({x:g}, {y:g}) is outside the {image.width}x{image.height} frame"
                problems.append(Problem("point-outside", text))
        return problems

    def _add_region(self, annotation: dict[str, Any], key: str) -> list[Problem]:
        box = annotation["bbox"]
        if len(box) != 4 or not all(_is_number(value) for value in box) or min(box[2:]) < 0:
            text = f"bbox must be x, y, width, height in pixels with sizes of at least 0, got {box[:5]}"
            return [_broken(text)]
        x, y, width, height = map(float, box)
        self.regions[key].append((x, y, x + width, y + height))
        return []


POINT_SIDE = 5  # pixels; of the box that a point is written with


def point_box(x: float, y: float) -> list[float]:
    """The COCO box (left, top, width, height) written around a point."""
    return [round(x - POINT_SIDE / 2, 6), round(y - POINT_SIDE / 2, 6), POINT_SIDE, POINT_SIDE]


def write_points(path: Path, images: Sequence[PointImage]) -> None:
    """Write a COCO keypoints file: one annotation of category `target` per target or ignore region.

    Points get a `bbox` of 5 by 5 px and an `area` of 25: COCO readers expect these keys, and pycocotools
    scores an area of 0 as 0. The same input gives the same bytes, and the file is replaced atomically.
    Raises DimpointError if it cannot be written.
    """
    annotations = [
        (image_id, [float(str(value)) for value in point])  # the shortest decimals that keep the float32
        for image_id, image in enumerate(images, 1)
        for point in image.points
    ]
    regions = [
        (image_id, [float(str(value)) for value in region])
        for image_id, image in enumerate(images, 1)
        for region in image.ignore
    ]
    content = {
        "images": [
            {"id": image_id, "file_name": image.file_name, "width": image.width, "height": image.height}
            for image_id, image in enumerate(images, 1)
        ],
        "annotations": [
            {
                "id": number,
                "image_id": image_id,
                "category_id": 1,
                "num_keypoints": 1,
                "keypoints": [x, y, 2],
                "bbox": point_box(x, y),
                "area": POINT_SIDE**2,
                "iscrowd": 0,
            }
            for number, (image_id, (x, y)) in enumerate(annotations, 1)
        ]
        + [
            {
                "id": number,
                "image_id": image_id,
                "category_id": 1,
                "num_keypoints": 0,
                "keypoints": [0, 0, 0],
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top),
                "iscrowd": 1,
            }
            for number, (image_id, (left, top, right, bottom)) in enumerate(regions, len(annotations) + 1)
        ],
        "categories": [{"id": 1, "name": "target", "keypoints": ["centre"], "skeleton": []}],
    }
    write_text(path, _one_entry_per_line(content))


def _one_entry_per_line(content: dict[str, list[dict[str, Any]]]) -> str:
    parts = []
    for key, entries in content.items():
        lines = ",\n".join("  " + _json(entry) for entry in entries)
        parts.append(f'"{key}": [\n{lines}\n]' if entries else f'"{key}": []')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _json(entry: dict[str, Any]) -> str:
    """Compact JSON; characters of file names that are not valid Unicode are escaped."""
    text = json.dumps(entry, ensure_ascii=False)
    return text if text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text) else json.dumps(entry)


def _parse_images(entries: list[Any]) -> tuple[dict[str, PointImage], set[str], list[Problem]]:
    """The images by id, the ids of invalid images, and the problems."""
    images: dict[str, PointImage] = {}
    wrong: set[str] = set()
    seen: set[str] = set()
    problems = []
    for index, entry in enumerate(entries):
        problem = _type_problem(entry, ("id", "file_name", "width", "height"))
        if problem is None and id_key(entry["id"]) in images:
            problem = "another image has the same id"
        if problem is None and entry["file_name"] in seen:
            problem = f"another image has the same file_name '{entry['file_name']}'"
        if problem is None and not all(1 <= entry[side] <= _LARGEST for side in ("width", "height")):
            problem = f"{str(entry['width'])[:20]}x{str(entry['height'])[:20]} is not a frame size"
        if problem is not None:
            problems.append(_broken(f"{_where('image', entry, index)}: {problem}"))
            wrong.add(id_key(entry.get("id")) if isinstance(entry, dict) else "")
            continue
        seen.add(entry["file_name"])
        size = int(entry["width"]), int(entry["height"])
        images[id_key(entry["id"])] = PointImage(entry["file_name"], *size, _as_array([]))
    return images, wrong, problems


def id_key(value: Any) -> str:
    """A key for an id, equal for 1, 1.0 and "1"."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)[:100]


def _category_names(entries: Any) -> dict[str, str]:
    if not isinstance(entries, list):
        return {}
    return {id_key(one.get("id")): str(one.get("name")) for one in entries if isinstance(one, dict)}


def _boxes_hint(annotation: Any) -> str:
    if isinstance(annotation, dict) and "keypoints" not in annotation:
        for key, what in (("bbox", "boxes"), ("segmentation", "outlines")):
            if key in annotation:
                return f"; it has {what}: convert them with dimpoint data convert"
    return ""


def _other_format(content: dict[str, Any]) -> str:
    if "shapes" in content:
        return "; this is a labelme file: convert it with dimpoint data convert"
    return ""


def _type_problem(entry: Any, keys: Iterable[str]) -> str | None:
    if not isinstance(entry, dict):
        return "expected an object"
    for key in keys:
        if key not in entry:
            return f"key '{key}' is missing"
        kinds, expected = _TYPES[key]
        value = entry[key]
        if not isinstance(value, kinds) or isinstance(value, bool):
            return f"key '{key}' must be {expected}, got {repr(value)[:80]}"
        if isinstance(value, str) and any("\ud800" <= letter < "\udc80" for letter in value):
            return f"key '{key}' holds half a character (a lone surrogate): {value[:80]!r}"
        if isinstance(value, float) and not value.is_integer():
            return f"key '{key}' must be {expected}, got {value!r}"
    return None


def _where(what: str, entry: Any, index: int) -> str:
    if isinstance(entry, dict) and "id" in entry:
        return f"{what} id {repr(entry['id'])[:40]}"
    return f"{what} number {index + 1}"


def read_json(path: Path) -> Any:
    """The content of a JSON file; DataError if it is unreadable, too large or not JSON."""
    try:
        return json.loads(limits.read_bytes(path, "label_bytes", DataError))  # also UTF-16
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON file ({str(error)[:200]})") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _as_array(points: list[tuple[float, float]]) -> npt.NDArray[np.float32]:
    return np.asarray(points, np.float32).reshape(-1, 2)


def _broken(message: str) -> Problem:
    return Problem("point-file", message)
