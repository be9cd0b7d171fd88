"""COCO keypoints files: the native point labels.

Native, and written: one annotation per target with `num_keypoints: 1` and `keypoints: [x, y, v]`. Read as
well: all points of an image in one annotation, K triples and `num_keypoints: K`. v = 0 means not labelled,
the point is ignored; (0, 0) with v > 0 is the centre of the top-left pixel.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.errors import DataError

_TYPES: dict[str, tuple[type, str]] = {
    "id": (int, "an integer"),
    "image_id": (int, "an integer"),
    "width": (int, "an integer"),
    "height": (int, "an integer"),
    "num_keypoints": (int, "an integer"),
    "file_name": (str, "a string"),
    "keypoints": (list, "a list of numbers"),
}


@dataclass(frozen=True)
class PointImage:
    """The labels of one image. points: (N, 2) float32 x, y; N = 0 says that it has no target."""

    file_name: str
    width: int
    height: int
    points: npt.NDArray[np.float32] = field(compare=False)


def read_points(path: Path) -> list[PointImage]:
    """The images of a COCO keypoints file with their points, in the file's order.

    Raises DataError naming the file, the image or annotation id and the key that is wrong: no JSON,
    a missing key, a wrong type, an unknown image_id, a point outside the frame.
    """
    images, problems = parse_points(path)
    if problems:
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise DataError(f"{path}: {problems[0]}{more}")
    return images


def parse_points(path: Path) -> tuple[list[PointImage], list[str]]:
    """The images of a COCO keypoints file, and everything that is wrong with it, one line each."""
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        return [], [f"cannot be read ({error.strerror})"]
    except (ValueError, RecursionError) as error:
        return [], [f"not a JSON file ({error})"]
    if not isinstance(content, dict):
        return [], ["not a COCO file: expected an object with 'images' and 'annotations'"]
    problems = [
        f"key '{key}' is missing or is not a list"
        for key in ("images", "annotations")
        if not isinstance(content.get(key), list)
    ]
    if problems:
        return [], problems
    images = _parse_images(content["images"], problems)
    points: dict[int, list[tuple[float, float]]] = {key: [] for key in images}
    for index, annotation in enumerate(content["annotations"]):
        where = _where("annotation", annotation, index)
        problem = _problem(annotation, ("image_id", "keypoints")) or _add(annotation, images, points)
        if problem:
            problems.append(f"{where}: {problem}")
    return [_with_points(entry, points[key]) for key, entry in images.items()], problems


def write_points(path: Path, images: Sequence[PointImage]) -> None:
    """Write a COCO keypoints file, one annotation per target, category `target`.

    A point has no extent: `bbox` is [x, y, 0, 0] and `area` 0, which keeps COCO readers that expect these
    keys working. Same input, same bytes; the file appears complete or not at all. Raises DataError if it
    cannot be written.
    """
    annotations = [
        (image_id, [float(str(value)) for value in point])  # the shortest decimals that keep the float32
        for image_id, image in enumerate(images, 1)
        for point in np.asarray(image.points, np.float32).reshape(-1, 2)
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
        ],
        "categories": [{"id": 1, "name": "target", "keypoints": ["centre"], "skeleton": []}],
    }
    write_text(path, _one_entry_per_line(content))


def write_text(path: Path, text: str) -> None:
    """Write a text file whole: a temporary file beside it, then a rename. Raises DataError if that fails."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, "utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(f"{path}: cannot be written ({error.strerror})") from None


def _one_entry_per_line(content: dict[str, list[dict[str, Any]]]) -> str:
    parts = []
    for key, entries in content.items():
        lines = ",\n".join("  " + json.dumps(entry, ensure_ascii=False) for entry in entries)
        parts.append(f'"{key}": [\n{lines}\n]' if entries else f'"{key}": []')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _parse_images(entries: list[Any], problems: list[str]) -> dict[int, PointImage]:
    images: dict[int, PointImage] = {}
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        where = _where("image", entry, index)
        problem = _problem(entry, ("id", "file_name", "width", "height"))
        if problem is None and entry["id"] in images:
            problem = "another image has the same id"
        if problem is None and entry["file_name"] in seen:
            problem = f"another image has the same file_name '{entry['file_name']}'"
        if problem is None and (entry["width"] < 1 or entry["height"] < 1):
            problem = f"size {entry['width']}x{entry['height']} is no frame size"
        if problem is not None:
            problems.append(f"{where}: {problem}")
            continue
        seen.add(entry["file_name"])
        none = np.zeros((0, 2), np.float32)
        images[entry["id"]] = PointImage(entry["file_name"], entry["width"], entry["height"], none)
    return images


def _add(
    annotation: dict[str, Any], images: dict[int, PointImage], points: dict[int, list[tuple[float, float]]]
) -> str | None:
    """Add an annotation's labelled points to its image; returns what is wrong, if anything is."""
    image = images.get(annotation["image_id"])
    if image is None:
        return f"image_id {annotation['image_id']} is unknown; no image has that id"
    numbers = annotation["keypoints"]
    if not all(_is_number(value) for value in numbers):
        return "keypoints must be finite numbers"
    if len(numbers) % 3:
        return f"keypoints must be triples x, y, v; got {len(numbers)} numbers"
    triples = [tuple(numbers[i : i + 3]) for i in range(0, len(numbers), 3)]
    if any(v not in (0, 1, 2) for _, _, v in triples):
        return "the visibility v of a keypoint is 0, 1 or 2"
    labelled = [(float(x), float(y)) for x, y, v in triples if v > 0]
    count = annotation.get("num_keypoints", len(labelled))
    if isinstance(count, bool) or not isinstance(count, int) or count not in (len(labelled), len(triples)):
        return f"num_keypoints is {count!r}, but keypoints holds {len(labelled)} labelled points"
    for x, y in labelled:
        if not is_inside(x, y, image.width, image.height):
            return f"keypoints: ({x:g}, {y:g}) lies outside the {image.width}x{image.height} frame"
    points[annotation["image_id"]] += labelled
    return None


def is_inside(x: float, y: float, width: int, height: int) -> bool:
    """Whether a point lies on the frame's pixels, which reach half a pixel around their centres."""
    return -0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5


def _problem(entry: Any, keys: Iterable[str]) -> str | None:
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
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _with_points(image: PointImage, points: list[tuple[float, float]]) -> PointImage:
    xy = np.asarray(points, np.float32).reshape(-1, 2)
    return PointImage(image.file_name, image.width, image.height, xy)
