"""Label Studio's JSON: tasks with their annotations, and points written for its import."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from dimpoint.datasets.boxes import Labels, pixel_box
from dimpoint.datasets.coco import PointImage, SizeOf, read_json
from dimpoint.datasets.layout import NAMED_SUFFIXES
from dimpoint.errors import DataError
from dimpoint.text import counted

_NO_SHAPES = ("choices", "textarea", "rating", "number", "taxonomy")  # labels of the whole image


def read_label_studio(path: Path, size: SizeOf, note: Callable[[str], None]) -> list[Labels]:
    """The labels of a file's tasks: of each, the first annotation that was not cancelled.

    A task without one is unlabelled; `note` is called with the number of these. Coordinates are percent of
    the frame, whose (height, width) `size` gives. Raises DataError for a shape that is not read.
    """
    found, unlabelled = [], 0
    for task in read_json(path):
        annotations = [one for one in task.get("annotations") or () if not one.get("was_cancelled")]
        if not annotations:
            unlabelled += 1
            continue
        labels = Labels(_image_of(task))
        if frame := size(labels.name):  # others are reported as labels without frame
            for result in annotations[0]["result"]:
                if "value" in result and result.get("type") not in _NO_SHAPES:
                    _add_shape(labels, result, frame, path)
        found.append(labels)
    if unlabelled:
        note(f"{path.name}: {counted(unlabelled, 'task')} without an annotation")
    return found


def _image_of(task: dict[str, Any]) -> str:
    """The image's path: the value `image`, else the first that ends like an image, else the uploaded file."""
    data = task.get("data") or {}
    texts = [data[key] for key in sorted(data, key=lambda key: key != "image") if isinstance(data[key], str)]
    names = [_path_in(text) for text in (*texts, task.get("file_upload") or "")]
    return next((name for name in names if PurePosixPath(name).suffix.lower() in NAMED_SUFFIXES), names[0])


def _path_in(text: str) -> str:
    """The path in the address of a file in local storage; other addresses as they are."""
    _, local, path = text.rpartition("/data/local-files/?d=")
    return unquote(path) if local else text


def _add_shape(labels: Labels, result: dict[str, Any], frame: tuple[int, int], path: Path) -> None:
    """Add one shape. All but keypoints give pixels' edges; a rectangle turns about its upper left corner."""
    value, kind = result["value"], str(result["type"]).removesuffix("labels")
    across, down = frame[1] / 100, frame[0] / 100
    names = next((value[key] for key in value if key.endswith("labels")), None) or [""]
    label = str(names[0])
    if kind == "polygon":
        labels.boxes.append((*pixel_box([(x * across, y * down) for x, y in value["points"]]), label))
        return
    if kind not in ("keypoint", "rectangle", "ellipse"):
        raise DataError(
            f"{path}: image '{labels.name}' has a shape of type '{result['type']}'; keypoints, rectangles, "
            "ellipses and polygons are read"
        )
    x, y = value["x"] * across, value["y"] * down
    if kind == "keypoint":
        labels.points.append((x, y, label))
    elif kind == "ellipse":
        labels.points.append((x - 0.5, y - 0.5, label))
    else:
        width, height = value["width"] * across, value["height"] * down
        turn = math.radians(float(value.get("rotation") or 0))
        cos, sin = math.cos(turn), math.sin(turn)
        sides = [(0.0, 0.0), (width, 0.0), (0.0, height), (width, height)]
        labels.boxes.append(
            (*pixel_box([(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in sides]), label)
        )


def label_studio_text(images: Sequence[PointImage], label: str) -> str:
    """Points as a list of annotated tasks with keypoints."""
    return json.dumps([_task(image, label) for image in images], indent=1) + "\n"


def _task(image: PointImage, label: str) -> dict[str, Any]:
    result = [
        {
            "original_width": image.width,
            "original_height": image.height,
            "image_rotation": 0,
            "value": {
                "x": 100 * float(str(x)) / image.width,
                "y": 100 * float(str(y)) / image.height,
                "width": 0.5,
                "keypointlabels": [label],
            },
            "from_name": "label",
            "to_name": "image",
            "type": "keypointlabels",
        }
        for x, y in image.points
    ]
    return {"data": {"image": image.file_name}, "annotations": [{"result": result}]}
