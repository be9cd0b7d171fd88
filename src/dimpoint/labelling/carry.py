"""One click labels a track: a point is carried through the next frames by template matching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.errors import DimpointError
from dimpoint.labelling.project import Project
from dimpoint.labelling.snap import snap

_HALF = 8  # the matched patch is 17 x 17 pixels
_SEARCH = 12  # pixels that a point may move from one frame to the next, beside its velocity
_LEAST = 0.5  # least correlation of a match


@dataclass(frozen=True)
class Step:
    """A carried point.

    frame: its id. x, y: pixels. match: normalised correlation of the patch, 0 to 1.
    """

    frame: int
    x: float
    y: float
    match: float


def carry(
    project: Project,
    frame: int,
    point: tuple[float, float],
    frames: int,
    *,
    back: bool = False,
    dark: bool = False,
) -> list[Step]:
    """Follow a point through the next frames until it is lost.

    A patch of 17 x 17 pixels around the point is matched by normalised correlation around the place where the
    point's velocity puts it, and the match moves to the centroid of its blob. The track ends at a correlation
    below 0.5, at a frame of another size or source file, and at an unreadable frame.

    Parameters
    ----------
    project
        The project of the frames.
    frame
        Id of the frame in which the point lies.
    point
        x and y, pixels.
    frames
        Follow it through at most so many frames.
    back
        Go back in time. Default: forward.
    dark
        The target is darker than its surroundings. Default: brighter.

    Returns
    -------
    list of Step
        One for each frame in which the point was found, in the order of the search.
    """
    steps: list[Step] = []
    source, pixels = project.store.source(frame), project.pixels(frame)
    place, velocity = np.array(point), np.zeros(2)
    for _ in range(frames):
        following = project.store.neighbour(frame, -1 if back else 1)
        if following is None:
            break
        if source.number is not None and project.store.source(following).source != source.source:
            break  # the next file is another clip
        try:
            seen = project.pixels(following)
        except DimpointError:
            break
        if seen.shape != pixels.shape:
            break
        found = _match(pixels, place, seen, place + velocity)
        if found is None:
            break
        x, y, match = found
        snapped = snap(seen, x, y, dark=dark)
        if snapped is not None and np.hypot(snapped[0] - x, snapped[1] - y) < 3:
            x, y = snapped
        velocity = 0.5 * velocity + 0.5 * (np.array([x, y]) - place)
        place, pixels, frame = np.array([x, y]), seen, following
        steps.append(Step(frame, x, y, match))
    return steps


def _match(
    before: npt.NDArray[Any], place: npt.NDArray[Any], after: npt.NDArray[Any], expected: npt.NDArray[Any]
) -> tuple[float, float, float] | None:
    """Where the patch around `place` lies in the next frame: x, y, correlation; None if it is lost."""
    height, width = before.shape
    column, row = (round(float(value)) for value in place)
    if not (_HALF <= column < width - _HALF and _HALF <= row < height - _HALF):
        return None
    patch = before[row - _HALF : row + _HALF + 1, column - _HALF : column + _HALF + 1].astype(np.float32)
    reach = _HALF + _SEARCH
    middle_x, middle_y = (round(float(value)) for value in expected)
    left, top = max(0, middle_x - reach), max(0, middle_y - reach)
    area = after[top : middle_y + reach + 1, left : middle_x + reach + 1].astype(np.float32)
    if min(area.shape) < patch.shape[0]:
        return None
    score = cv2.matchTemplate(area, patch, cv2.TM_CCOEFF_NORMED)
    _, best, _, (x, y) = cv2.minMaxLoc(score)
    if not best >= _LEAST:
        return None
    shift = place - (column, row)
    return float(left + x + _HALF + shift[0]), float(top + y + _HALF + shift[1]), float(best)
