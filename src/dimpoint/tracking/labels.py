"""Labelled objects of a clip, frame by frame, from CSV, COCO, MOTChallenge text or `tracks.json`.

Boxes are kept as left, top, right, bottom, points as x, y, in pixels whose top-left centre is (0, 0). Where a
file has no ids, boxes of following frames are joined to objects: see `join`.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from dimpoint import limits
from dimpoint.datasets.coco import id_key, read_json
from dimpoint.datasets.formats import whole_names
from dimpoint.errors import DataError
from dimpoint.tracking.result import read_tracks

Place = tuple[float, ...]
"""x, y of a point, or left, top, right, bottom of a box."""

_ID_COLUMNS = ("id", "track_id", "object", "object_id")
_ID_KEYS = ("track_id", "instance_id", "object_id")
_FRAME_KEYS = ("frame_index", "frame_id", "frame")
_REACH = 12.0  # pixels that a centre may move from one frame to the next, beside the box's size
_REACH_GAP = 4.0  # pixels more for each frame without a box
_LONGEST_GAP = 15  # frames
_DIGITS = 18  # of the number of a frame


@dataclass(eq=False)
class ClipLabels:
    """The labelled objects of one clip.

    frames: frame number -> object -> place. labelled: the frames that are labelled, those without an object
    among them; None where the file does not say, and every frame of the clip counts as labelled. joined:
    whether the objects' ids are not the file's own. named: whether frames have the numbers in the names of
    picture files, which need not count from 0.
    """

    path: Path
    frames: dict[int, dict[int, Place]] = field(default_factory=dict)
    labelled: set[int] | None = None
    joined: bool = False
    named: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The highest labelled frame number, -1 without any."""
        return max([*self.frames, *(self.labelled or ())], default=-1)


def read_labels(path: Path) -> ClipLabels:
    """The labels of one clip.

    - CSV with a header: `frame` from 0, `x`, `y`, with `width` and `height` a box whose left upper corner is
      x, y; objects by a column `id`, `track_id`, `object` or `object_id`;
    - MOTChallenge text: frame from 1, id, left, top, width, height, the corner of the first pixel being
      (1, 1); a seventh value of 0 says that the line does not count;
    - COCO: `bbox` or `keypoints`, objects by `track_id`, `instance_id` or `object_id`; frames by the image's
      `frame_index`, `frame_id` or `frame`, else by the last number of its `file_name`;
    - `tracks.json`: its confirmed tracks; so are those of `tracks.csv`, by its column `state`.

    An empty file `.txt` is MOTChallenge text of a clip without objects.

    Raises DataError, naming file, line and key, for anything else.
    """
    if path.suffix.lower() == ".json":
        return _read_json(path)
    try:
        text = limits.read_bytes(path, "label_bytes", DataError).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: no text; labels are CSV, MOTChallenge text, COCO or tracks.json") from None
    if path.suffix.lower() == ".txt" and not text.strip():
        return ClipLabels(path)
    first = text.split("\n", 1)[0]
    mot = re.fullmatch(r"\s*\d+(\s*,\s*[-+.\deE]+){5,}\s*", first) is not None
    rows = _mot_rows(path, text) if mot else _csv_rows(path, text)
    labels = ClipLabels(path)
    try:
        labels.frames, labels.joined = _collect(path, rows)
    except csv.Error as error:
        raise DataError(f"{path}: not CSV ({error})") from None
    return labels


def from_zero(labels: ClipLabels, last: int) -> ClipLabels:
    """Labels by the names of picture files, numbered as `dimpoint track` numbers the pictures: from 0.

    Only where the names have as many numbers as the clip has frames, and end behind its frame `last`: then
    they can mean nothing else.
    """
    first = min(labels.labelled or (), default=0)
    if not labels.named or first == 0 or labels.last - first != last:
        return labels
    frames = {number - first: objects for number, objects in labels.frames.items()}
    labelled = {number - first for number in labels.labelled or ()}
    note = f"{labels.path.name} names its first picture {first}: taken as frame 0 of the clip"
    return replace(labels, frames=frames, labelled=labelled, notes=[*labels.notes, note])


def join(frames: dict[int, list[Place]]) -> dict[int, dict[int, Place]]:
    """Objects from places without ids: frame -> object -> place.

    A place goes on with the nearest object (least total distance of centres) that lies within 12 pixels and
    the box's longer side, and 4 pixels more for each frame that it was not seen, at most 15 frames.
    """
    found: dict[int, dict[int, Place]] = {}
    open_: dict[int, tuple[int, Place]] = {}  # object -> frame and place where it was last
    count = 0
    for number in sorted(frames):
        open_ = {one: last for one, last in open_.items() if number - last[0] <= _LONGEST_GAP + 1}
        here = frames[number]
        taken = _nearest(number, here, open_)
        found[number] = {}
        for at, place in enumerate(here):
            if at not in taken:
                count += 1
            one = taken.get(at, count)
            found[number][one] = place
            open_[one] = (number, place)
    return found


def centre(place: Place) -> tuple[float, float]:
    """The point, or the middle of the box."""
    return (place[0] + place[-2]) / 2, (place[1] + place[-1]) / 2


def _nearest(number: int, here: list[Place], open_: dict[int, tuple[int, Place]]) -> dict[int, int]:
    if not here or not open_:
        return {}
    cost = np.full((len(here), len(open_)), 1e9)
    for row, place in enumerate(here):
        side = max(place[-2] - place[0], place[-1] - place[1], 0.0)
        for column, (then, before) in enumerate(open_.values()):
            off = math.dist(centre(place), centre(before))
            if off <= _REACH + side + _REACH_GAP * (number - then - 1):
                cost[row, column] = off
    names = list(open_)
    pairs = zip(*linear_sum_assignment(cost), strict=True)
    return {int(row): names[column] for row, column in pairs if cost[row, column] < 1e9}


_Row = tuple[int, str | None, Place]


def _collect(path: Path, rows: Iterable[_Row]) -> tuple[dict[int, dict[int, Place]], bool]:
    """The objects of each frame; ids are numbered, and joined where no row has one."""
    named: dict[int, dict[int, Place]] = {}
    bare: dict[int, list[Place]] = {}
    numbers: dict[str, int] = {}
    for frame, name, place in rows:
        if name is None:
            bare.setdefault(frame, []).append(place)
            continue
        one = numbers.setdefault(name, len(numbers) + 1)
        objects = named.setdefault(frame, {})
        if one in objects:
            raise DataError(f"{path}: frame {frame} has the object {name} twice")
        objects[one] = place
    if bare and named:
        raise DataError(f"{path}: some labels have an id of their object and some have none")
    return (join(bare), True) if bare else (named, False)


def _csv_rows(path: Path, text: str) -> Iterable[_Row]:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    names = whole_names([name.strip() for name in rows.fieldnames or ()])
    rows.fieldnames = names
    missing = [name for name in ("frame", "x", "y") if name not in names]
    if missing or ("width" in names) != ("height" in names):
        lacking = missing[0] if missing else "width" if "height" in names else "height"
        raise DataError(
            f"{path}: no column '{lacking}'; labels of a clip are CSV (frame, x, y, width, height), "
            "MOTChallenge text, COCO or tracks.json"
        )
    key = next((name for name in _ID_COLUMNS if name in names), None)
    for row in rows:
        if row.get("state") in ("static", "tentative"):
            continue
        read = _reader(path, f"line {rows.line_num}", row)
        x, y = read("x"), read("y")
        place: Place = (x, y)
        if "width" in names:
            place = _box(path, f"line {rows.line_num}", x, y, read("width"), read("height"))
        yield (
            _frame(path, f"line {rows.line_num}", read("frame")),
            ((key and row[key]) or "").strip() or None,
            place,
        )


def _mot_rows(path: Path, text: str) -> Iterable[_Row]:
    for line, row in enumerate(csv.reader(io.StringIO(text, newline="")), 1):
        if not row:
            continue
        if len(row) < 6:
            raise DataError(f"{path}, line {line}: MOTChallenge text has at least 6 values, got {len(row)}")
        read = _reader(path, f"line {line}", dict(enumerate(row)))
        if len(row) > 6 and read(6) == 0:
            continue
        place = _box(path, f"line {line}", read(2) - 1.5, read(3) - 1.5, read(4), read(5))
        name = None if read(1) == -1 else row[1].strip()
        yield _frame(path, f"line {line}", read(0) - 1), name, place


def _reader(path: Path, where: str, row: dict[Any, Any]) -> Callable[[Any], float]:
    def read(key: Any) -> float:
        try:
            value = float(row[key])
        except (TypeError, ValueError, OverflowError):
            value = math.nan
        if not math.isfinite(value):
            what = f"value {key + 1}" if isinstance(key, int) else key
            raise DataError(f"{path}, {where}: {what} must be a number, got {repr(row[key])[:80]}")
        return value

    return read


def _frame(path: Path, where: str, value: float) -> int:
    if not 0 <= value < 10**_DIGITS or value != int(value):
        raise DataError(f"{path}, {where}: {value:g} is no number of a frame")
    return int(value)


def _box(path: Path, where: str, x: float, y: float, width: float, height: float) -> Place:
    if width < 0 or height < 0:
        raise DataError(f"{path}, {where}: a box of {width:g}x{height:g}")
    return (x, y, x + width, y + height)


def _read_json(path: Path) -> ClipLabels:
    content = read_json(path)
    if isinstance(content, dict) and "tracks" in content:
        labels = ClipLabels(path)
        for one in read_tracks(path).of("confirmed"):
            for point in one.trimmed():
                labels.frames.setdefault(point.frame, {})[one.id] = (point.x, point.y)
        return labels
    try:
        images, annotations = content["images"], list(content["annotations"])
        numbers = {id_key(one["id"]): _image_frame(path, one) for one in images}
    except (KeyError, TypeError):
        raise DataError(f"{path}: is neither COCO ('images', 'annotations') nor tracks.json") from None
    if len(set(numbers.values())) != len(numbers):
        raise DataError(f"{path}: two images have one frame number; labels are those of one clip")
    rows = [row for at, one in enumerate(annotations) for row in _coco_rows(path, at, one, numbers)]
    frames, joined = _collect(path, rows)
    named = not any(key in one for key in _FRAME_KEYS for one in images) and not any(
        "#" in Path(str(one["file_name"])).name for one in images
    )
    return ClipLabels(path, frames, set(numbers.values()), joined, named)


def _image_frame(path: Path, image: dict[str, Any]) -> int:
    where = f"image {image['id']!r}"
    for key in _FRAME_KEYS:
        if key in image:
            return _frame(path, where, _reader(path, where, image)(key))
    name = Path(str(image["file_name"])).name
    found = re.findall(r"\d+", name.rpartition("#")[2] if "#" in name else Path(name).stem)
    if not found:
        raise DataError(f"{path}, {where}: neither 'frame_index' nor a number in 'file_name' tells the frame")
    if len(found[-1]) > _DIGITS:
        raise DataError(f"{path}, {where}: {found[-1][:80]} is no number of a frame")
    return int(found[-1])


def _coco_rows(path: Path, at: int, one: Any, numbers: dict[str, int]) -> Iterable[_Row]:
    where = f"annotation {one.get('id', at)!r}" if isinstance(one, dict) else f"annotation {at}"
    if not isinstance(one, dict) or id_key(one.get("image_id")) not in numbers:
        raise DataError(f"{path}, {where}: no image of its 'image_id'")
    if one.get("iscrowd") == 1:
        return
    key = next((key for key in _ID_KEYS if one.get(key) is not None), None)
    name = None if key is None else str(one[key])
    box = not one.get("keypoints")
    values = one.get("bbox" if box else "keypoints")
    if not isinstance(values, list) or len(values) < (4 if box else 3):
        raise DataError(f"{path}, {where}: neither 'bbox' nor 'keypoints' is a list of numbers")
    read = _reader(path, where, dict(enumerate(values)))
    frame = numbers[id_key(one["image_id"])]
    if box:
        yield frame, name, _box(path, where, read(0), read(1), read(2), read(3))
        return
    several = len(values) > 3
    for start in range(0, len(values) - 2, 3):
        if read(start + 2) > 0:
            yield frame, None if several else name, (read(start), read(start + 1))
