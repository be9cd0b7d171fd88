"""COCO points -> the label formats of other tools: labelme, CVAT, Label Studio, VOC, YOLO.

The inverse of `dimpoint.datasets.formats`: what is written reads back as the same points. VOC and YOLO know
boxes only; a point becomes a square around it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from xml.sax.saxutils import quoteattr

from dimpoint.atomic import write_text
from dimpoint.datasets.coco import PointImage
from dimpoint.errors import ConfigError, DataError

FORMATS = ("labelme", "cvat", "label-studio", "voc", "yolo")
_LABEL = "target"


def write_labels(kind: str, images: Sequence[PointImage], out: Path, side: float = 5.0) -> int:
    """Write the labels of images in format `kind`: a file for CVAT and Label Studio, else a folder.

    side: of the boxes of VOC and YOLO, pixels. Returns the number of files. Raises ConfigError for an unknown
    format and DataError if `out` is there already.
    """
    if kind not in FORMATS:
        raise ConfigError(f"--to: '{kind}' is none of {', '.join(FORMATS)}")
    if out.exists():
        raise DataError(f"{out}: is there already; name another --out")
    if kind == "cvat":
        write_text(out, _cvat(images))
        return 1
    if kind == "label-studio":
        write_text(out, json.dumps([_task(image) for image in images], indent=1) + "\n")
        return 1
    for image in images:
        stem = PurePosixPath(image.file_name).with_suffix("").as_posix()
        suffix = {"labelme": ".json", "voc": ".xml", "yolo": ".txt"}[kind]
        write_text(out / f"{stem}{suffix}", _one_file(kind, image, side))
    return len(images)


def _one_file(kind: str, image: PointImage, side: float) -> str:
    if kind == "labelme":
        return _labelme(image)
    return _voc(image, side) if kind == "voc" else _yolo(image, side)


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


def _cvat(images: Sequence[PointImage]) -> str:
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>"]
    for number, image in enumerate(images):
        size = f'width="{image.width}" height="{image.height}"'
        lines.append(f'  <image id="{number}" name={quoteattr(image.file_name)} {size}>')
        lines += [
            f'    <points label="{_LABEL}" source="manual" occluded="0" points="{x!r},{y!r}" z_order="0">'
            "</points>"
            for x, y in _places(image)
        ]
        lines.append("  </image>")
    return "\n".join([*lines, "</annotations>", ""])


def _task(image: PointImage) -> dict[str, Any]:
    result = [
        {
            "original_width": image.width,
            "original_height": image.height,
            "image_rotation": 0,
            "value": {
                "x": 100 * x / image.width,
                "y": 100 * y / image.height,
                "width": 0.5,
                "keypointlabels": [_LABEL],
            },
            "from_name": "label",
            "to_name": "image",
            "type": "keypointlabels",
        }
        for x, y in _places(image)
    ]
    return {"data": {"image": image.file_name}, "annotations": [{"result": result}]}


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
        f"0 {x / width:.9f} {y / height:.9f} {side / width:.9f} {side / height:.9f}\n"
        for x, y in _places(image)
    )
