"""COCO keypoints files: the native point labels.

Native, and written: one annotation per target with `num_keypoints: 1` and `keypoints: [x, y, v]`. Read as
well: all points of an image in one annotation, K triples and `num_keypoints: K`. v = 0 means not labelled,
the point is ignored; (0, 0) with v > 0 is the centre of the top-left pixel.

Ignore regions are COCO's crowd annotations: `iscrowd: 1` and a `bbox`. Whether they hold targets is unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from dimpoint.atomic import write_text
from dimpoint.errors import DataError

NO_REGIONS: npt.NDArray[np.float32] = np.zeros((0, 4), np.float32)

_LARGEST = 1e9  # far beyond any frame; not a number and infinity are refused by it too
_TYPES: dict[str, tuple[type, str]] = {
    "id": (int, "an integer"),
    "image_id": (int, "an integer"),
    "width": (int, "an integer"),
    "height": (int, "an integer"),
    "file_name": (str, "a string"),
    "keypoints": (list, "a list of numbers"),
    "bbox": (list, "a list of numbers"),
}


@dataclass(frozen=True)
class PointImage:
    """The labels of one image. points: (N, 2) float32 x, y; N = 0 says that it has no target.

    ignore: (M, 4) float32 left, top, right, bottom, in the coordinates of points: regions without labels.
    """

    file_name: str
    width: int
    height: int
    points: npt.NDArray[np.float32] = field(compare=False)
    ignore: npt.NDArray[np.float32] = field(compare=False, default_factory=NO_REGIONS.copy)


class Problem(NamedTuple):
    """Something wrong with a COCO file: a point outside its frame, or anything else about the file."""

    kind: Literal["point-file", "point-outside"]
    message: str


def read_points(path: Path) -> list[PointImage]:
    """The images of a COCO keypoints file with their points, in the file's order.

    Raises DataError naming the file, the image or annotation id and the key that is wrong: no JSON,
    a missing key, a wrong type, an unknown image_id, a point outside the frame.
    """
    images, problems = parse_points(path)
    if problems:
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise DataError(f"{path}: {problems[0].message}{more}")
    return images


def parse_points(path: Path) -> tuple[list[PointImage], list[Problem]]:
    """The images of a COCO keypoints file with the points that are right, and everything that is wrong."""
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        return [], [_broken(f"cannot be read ({error.strerror})")]
    except (ValueError, RecursionError) as error:
        return [], [_broken(f"not a JSON file ({error})")]
    if not isinstance(content, dict):
        return [], [_broken("not a COCO file: expected an object with 'images' and 'annotations'")]
    for key in ("images", "annotations"):
        if not isinstance(content.get(key), list):
            return [], [_broken(f"key '{key}' is missing or is not a list")]
    images, problems = _parse_images(content["images"])
    points: dict[int, list[tuple[float, float]]] = {key: [] for key in images}
    regions: dict[int, list[tuple[float, ...]]] = {key: [] for key in images}
    for index, annotation in enumerate(content["annotations"]):
        if isinstance(annotation, dict) and annotation.get("iscrowd") == 1:
            found = _add_region(annotation, regions)
        else:
            found = _add(annotation, images, points)
        where = _where("annotation", annotation, index)
        problems += [Problem(kind, f"{where}: {message}") for kind, message in found]
    labelled = [
        replace(
            image,
            points=_as_array(points[key]),
            ignore=np.asarray(regions[key], np.float32).reshape(-1, 4),
        )
        for key, image in images.items()
    ]
    return labelled, problems


def write_points(path: Path, images: Sequence[PointImage]) -> None:
    """Write a COCO keypoints file, one annotation per target or ignore region, category `target`.

    A point has no extent: `bbox` is [x, y, 0, 0] and `area` 0, which keeps COCO readers that expect these
    keys working. Same input, same bytes; the file appears complete or not at all. Raises DimpointError if
    it cannot be written.
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
                "bbox": [x, y, 0, 0],
                "area": 0,
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
        lines = ",\n".join("  " + json.dumps(entry, ensure_ascii=False) for entry in entries)
        parts.append(f'"{key}": [\n{lines}\n]' if entries else f'"{key}": []')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _parse_images(entries: list[Any]) -> tuple[dict[int, PointImage], list[Problem]]:
    images: dict[int, PointImage] = {}
    seen: set[str] = set()
    problems = []
    for index, entry in enumerate(entries):
        problem = _type_problem(entry, ("id", "file_name", "width", "height"))
        if problem is None and entry["id"] in images:
            problem = "another image has the same id"
        if problem is None and entry["file_name"] in seen:
            problem = f"another image has the same file_name '{entry['file_name']}'"
        if problem is None and (entry["width"] < 1 or entry["height"] < 1):
            problem = f"{entry['width']}x{entry['height']} is no frame size"
        if problem is not None:
            problems.append(_broken(f"{_where('image', entry, index)}: {problem}"))
            continue
        seen.add(entry["file_name"])
        images[entry["id"]] = PointImage(entry["file_name"], entry["width"], entry["height"], _as_array([]))
    return images, problems


def _add(
    annotation: Any, images: dict[int, PointImage], points: dict[int, list[tuple[float, float]]]
) -> list[Problem]:
    """Add an annotation's labelled points to those of its image; returns what is wrong with it."""
    problem = _type_problem(annotation, ("image_id", "keypoints"))
    if problem is not None:
        return [_broken(problem)]
    image = images.get(annotation["image_id"])
    if image is None:
        return [_broken(f"image_id {annotation['image_id']} is unknown; no image has that id")]
    numbers = annotation["keypoints"]
    if not all(_is_number(value) for value in numbers):
        return [_broken("keypoints must be numbers of pixels")]
    triples = [tuple(numbers[i : i + 3]) for i in range(0, len(numbers), 3)]
    if len(numbers) % 3 or any(v not in (0, 1, 2) for _, _, v in triples):
        return [_broken(f"keypoints must be triples x, y, v with v = 0, 1 or 2; got {numbers}")]
    labelled = [(float(x), float(y)) for x, y, v in triples if v > 0]
    if annotation.get("num_keypoints", len(labelled)) not in (len(labelled), len(triples)):
        return [_broken(f"num_keypoints is {annotation['num_keypoints']!r}, keypoints holds {len(labelled)}")]
    inside = [point for point in labelled if is_inside(*point, image.width, image.height)]
    points[annotation["image_id"]] += inside
    return [
        Problem(
            "point-outside", f"keypoints: ({x:g}, {y:g}) is outside the {image.width}x{image.height} frame"
        )
        for x, y in labelled
        if (x, y) not in inside
    ]


def _add_region(annotation: dict[str, Any], regions: dict[int, list[tuple[float, ...]]]) -> list[Problem]:
    """Add an ignore region to those of its image; returns what is wrong with it."""
    problem = _type_problem(annotation, ("image_id", "bbox"))
    if problem is not None:
        return [_broken(problem)]
    if annotation["image_id"] not in regions:
        return [_broken(f"image_id {annotation['image_id']} is unknown; no image has that id")]
    box = annotation["bbox"]
    if len(box) != 4 or not all(_is_number(value) for value in box) or min(box[2:]) < 0:
        return [_broken(f"bbox must be x, y, width, height in pixels, none of the sizes below 0; got {box}")]
    x, y, width, height = map(float, box)
    regions[annotation["image_id"]].append((x, y, x + width, y + height))
    return []


def is_inside(x: float, y: float, width: int, height: int) -> bool:
    """Whether a point lies on the frame's pixels, which reach half a pixel around their centres."""
    return -0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5


def _type_problem(entry: Any, keys: Iterable[str]) -> str | None:
    if not isinstance(entry, dict):
        return "expected an object"
    for key in keys:
        if key not in entry:
            return f"key '{key}' is missing"
        kind, says = _TYPES[key]
        if not isinstance(entry[key], kind) or isinstance(entry[key], bool):
            return f"key '{key}' must be {says}, got {entry[key]!r}"
    return None


def _where(what: str, entry: Any, index: int) -> str:
    if isinstance(entry, dict) and "id" in entry:
        return f"{what} id {entry['id']!r}"
    return f"{what} number {index + 1}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _as_array(points: list[tuple[float, float]]) -> npt.NDArray[np.float32]:
    return np.asarray(points, np.float32).reshape(-1, 2)


def _broken(message: str) -> Problem:
    return Problem("point-file", message)
