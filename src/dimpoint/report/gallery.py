"""The worst misses and false alarms as enlarged crops, with targets and predictions marked."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.evaluation.run import FrameResult
from dimpoint.model.intensity import IntensityRule

SIDE = 64  # side of a crop, pixels of the frame
MOST = 12  # crops of each kind

_STRETCH = IntensityRule(kind="percentile", low=0.5, high=99.9, clip=True)


@dataclass(frozen=True)
class Mark:
    """A mark in a crop.

    x, y: pixels from the crop's top-left corner. what: "truth" (found target), "missed" (missed target),
    "hit" (matched prediction) or "false" (false alarm). score: text beside a prediction.
    """

    x: float
    y: float
    what: str
    score: str = ""


@dataclass(frozen=True)
class Crop:
    """A part of a frame; image: PNG as data URI, width x height pixels.

    frame: the frame's name in its data set; file: with the data set. x, y: of the error, pixels of the frame.
    """

    frame: str
    file: str
    x: float
    y: float
    caption: str
    image: str
    width: int
    height: int
    marks: tuple[Mark, ...]


def worst_misses(frames: Sequence[FrameResult], most: int = MOST) -> list[Crop]:
    """Missed targets, highest local signal-to-clutter ratio first."""
    found = []
    for frame in frames:
        for target in frame.missed:
            scr, size = frame.table.scr[target], frame.table.size[target]
            parts = [_known("SCR {:.1f}", scr), _known("{:.0f} px", size)]
            caption = ", ".join(part for part in parts if part) or "target"
            x, y = frame.truth_xy[target].tolist()
            found.append(_Place(_rank(scr), frame, x, y, caption))
    return _crops(found, most)


def worst_false_alarms(frames: Sequence[FrameResult], most: int = MOST) -> list[Crop]:
    """False alarms, highest score first."""
    found = []
    for frame in frames:
        for index in frame.false:
            score = float(frame.scores[index])
            x, y = frame.pred_xy[index].tolist()
            found.append(_Place(score, frame, x, y, f"score {score:.2f}"))
    return _crops(found, most)


class _Place(NamedTuple):
    """Place and severity of an error."""

    rank: float
    frame: FrameResult
    x: float
    y: float
    caption: str


def _crops(places: list[_Place], most: int) -> list[Crop]:
    """Crops of the worst errors; errors near one that is already shown get no crop of their own."""
    shown: list[_Place] = []
    crops: list[Crop] = []
    for place in sorted(places, key=lambda each: (-each.rank, each.frame.frame.key, each.y, each.x)):
        if len(crops) == most:
            break
        if any(place.frame is other.frame and _near(place, other) for other in shown):
            continue
        crop = _crop(place.frame, place.x, place.y, place.caption)
        if crop is not None:
            shown.append(place)
            crops.append(crop)
    return crops


def _near(one: _Place, other: _Place) -> bool:
    return max(abs(one.x - other.x), abs(one.y - other.y)) < SIDE / 4


def _rank(value: float) -> float:
    return -1.0 if np.isnan(value) else float(value)


def _known(form: str, value: float) -> str:
    return "" if np.isnan(value) else form.format(value)


def _crop(frame: FrameResult, x: float, y: float, what: str) -> Crop | None:
    pixels = frame.read_pixels()
    if pixels is None:
        return None
    height, width = (min(SIDE, length) for length in pixels.shape)
    left = _start(x, width, pixels.shape[1])
    top = _start(y, height, pixels.shape[0])
    part = pixels[top : top + height, left : left + width]
    return Crop(
        frame=frame.frame.name,
        file=frame.frame.key,
        x=x,
        y=y,
        caption=f"{what}, at ({x:.1f}, {y:.1f})",
        image=_png(part),
        width=width,
        height=height,
        marks=tuple(_marks(frame, left, top, width, height)),
    )


def _start(centre: float, length: int, whole: int) -> int:
    return int(min(max(round(centre) - length // 2, 0), whole - length))


def _marks(frame: FrameResult, left: int, top: int, width: int, height: int) -> list[Mark]:
    false, missed = set(frame.false.tolist()), set(frame.missed.tolist())
    marks = [
        Mark(x - left + 0.5, y - top + 0.5, "missed" if index in missed else "truth")
        for index, (x, y) in enumerate(frame.truth_xy.tolist())
    ]
    for index, ((x, y), score) in enumerate(zip(frame.pred_xy.tolist(), frame.scores.tolist(), strict=True)):
        what = "false" if index in false else "hit"
        marks.append(Mark(x - left + 0.5, y - top + 0.5, what, f"{score:.2f}"))
    return [mark for mark in marks if 0 <= mark.x <= width and 0 <= mark.y <= height]


def _png(part: npt.NDArray[Any]) -> str:
    """Counts stretched from the crop's 0.5th to its 99.9th percentile, as a data URI."""
    grey = np.round(_STRETCH.apply(part) * 255).astype(np.uint8)
    encoded = cv2.imencode(".png", grey)[1].tobytes()
    return "data:image/png;base64," + base64.b64encode(encoded).decode("ascii")
