"""CVAT's XML: pictures with their shapes, tracks of a video, and points written for its import."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from dimpoint.datasets.boxes import Labels, pixel_box, recorded_size
from dimpoint.datasets.coco import PointImage
from dimpoint.errors import DataError

_WHOLE = (
    "and neither those behind it nor that it is outside; export it from CVAT as 'CVAT for video 1.1', which "
    "lists every frame of a track"
)
_MOST_FRAMES = 10_000_000  # of a video; more is no count


def read_cvat(root: ElementTree.Element, path: Path) -> Iterator[Labels]:
    """The labels of a file's pictures, or of the frames of its video.

    A video's frames are named as CVAT exports them, `frame_000007`, and carry their number in the video. Each
    has labels, none where no track is in it, if the file says how long the video is.

    Raises DataError for a shape that is not read, and for tracks of which only key frames are listed.
    """
    if next(root.iter("track"), None) is not None:
        yield from _frames_of_tracks(root, path)
        return
    for image in root.iter("image"):
        size = recorded_size(image.get("height"), image.get("width"))
        labels = Labels(image.attrib["name"], size=size)
        for shape in image:
            _add_shape(labels, shape, path)
        yield labels


def _frames_of_tracks(root: ElementTree.Element, path: Path) -> Iterator[Labels]:
    first, step, count = _video(root)
    numbers = range(first, first + count * step, step)
    frames = {number: Labels("", place=place) for place, number in enumerate(numbers)}
    for track in root.iter("track"):
        last: int | None = None
        for shape in track:
            if "frame" not in shape.attrib:
                continue
            number = int(shape.attrib["frame"])
            if last is not None and number > last + step:
                raise DataError(f"{path}: track {track.get('id')} lists frames {last} and {number}, {_WHOLE}")
            last = None if shape.get("outside") == "1" else number
            if last is not None:
                labels = frames.setdefault(number, Labels("", place=None if count else number))
                shape.set("label", track.get("label", ""))
                _add_shape(labels, shape, path)
        if last is not None and count and last < numbers[-1]:
            raise DataError(f"{path}: track {track.get('id')} lists frame {last} as its last, {_WHOLE}")
    for number, labels in sorted(frames.items()):
        labels.name, labels.of = f"frame_{number:06d}", count
        yield labels


def _video(root: ElementTree.Element) -> tuple[int, int, int]:
    """The number of a video's first frame, the step between frames, and how many there are; 0: not said."""
    for task in (*root.iter("task"), *root.iter("job")):
        count = int(task.findtext("size") or 0)
        first = int(task.findtext("start_frame") or 0)
        step = (task.findtext("frame_filter") or "").removeprefix("step=")
        if 0 <= count <= _MOST_FRAMES:
            return first, int(step) if step.isdecimal() and int(step) else 1, count
    return 0, 1, 0


def _add_shape(labels: Labels, shape: ElementTree.Element, path: Path) -> None:
    """Add one shape: points as they are, an ellipse's centre, boxes, outlines and masks as boxes.

    CVAT gives pixels' edges, but a point is taken as written.
    """
    values, label = shape.attrib, shape.attrib.get("label", "")
    if shape.tag == "points":
        labels.points += [(x, y, label) for x, y in _places(values["points"])]
    elif shape.tag == "ellipse":
        labels.points.append((float(values["cx"]) - 0.5, float(values["cy"]) - 0.5, label))
    elif shape.tag == "box":  # its rotation is about its centre, which stays
        left, top, right, bottom = (float(values[side]) for side in ("xtl", "ytl", "xbr", "ybr"))
        labels.boxes.append((*pixel_box([(left, top), (right, bottom)]), label))
    elif shape.tag in ("polygon", "polyline"):
        labels.boxes.append((*pixel_box(_places(values["points"])), label))
    elif shape.tag == "mask":
        left, top, width, height = (float(values[key]) for key in ("left", "top", "width", "height"))
        labels.boxes.append((left, top, left + width - 1, top + height - 1, label))
    elif shape.tag in ("cuboid", "skeleton"):
        raise DataError(
            f"{path}: image '{labels.name}' has a {shape.tag}; points, boxes and outlines are read"
        )


def _places(text: str) -> list[tuple[float, float]]:
    pairs = (pair.split(",") for pair in text.split(";"))
    return [(float(x), float(y)) for x, y in pairs]


def cvat_text(images: Sequence[PointImage], label: str) -> str:
    """Points as a file of `CVAT for images 1.1`, with the description of the task that importers ask for."""
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<annotations>",
        "  <version>1.1</version>",
        f"  <meta><task><name>dimpoint</name><size>{len(images)}</size><mode>annotation</mode>",
        f"    <labels><label><name>{label}</name><attributes></attributes></label></labels>",
        "  </task></meta>",
    ]
    for number, image in enumerate(images):
        size = f'width="{image.width}" height="{image.height}"'
        lines.append(f'  <image id="{number}" name={quoteattr(image.file_name)} {size}>')
        for x, y in image.points:
            place = f'points="{float(str(x))!r},{float(str(y))!r}"'
            lines.append(
                f'    <points label="{label}" source="manual" occluded="0" {place} z_order="0"></points>'
            )
        lines.append("  </image>")
    return "\n".join([*lines, "</annotations>", ""])
