"""What coordinates of points may mean: pixels from 0 at the top left, or something else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Size = tuple[int, int]


@dataclass(frozen=True)
class CoordinateRule:
    """A meaning of coordinates.

    Parameters
    ----------
    text : str
        Completes "points are read …".
    to_pixels : callable
        Maps (N, 2) x, y and the frame's (height, width) to pixels from 0 at the top left.
    option : str
        The value of `--points` that reads them so; empty if there is none.
    """

    text: str
    to_pixels: Callable[[Points, Size], Points]
    option: str = ""


def _columns(x: Points, y: Points) -> Points:
    return np.column_stack([x, y])


ONE_BASED = CoordinateRule("counted from 1", lambda xy, _: xy - 1, "one-based")
OTHER_RULES = (
    CoordinateRule("with x and y swapped", lambda xy, _: xy[:, ::-1], "swapped"),
    CoordinateRule(
        "in percent of the frame", lambda xy, size: xy * (size[1] / 100, size[0] / 100), "percent"
    ),
    CoordinateRule(
        "as fractions of the frame, 0 to 1", lambda xy, size: xy * (size[1], size[0]), "normalised"
    ),
    CoordinateRule(
        "counted from the bottom left",
        lambda xy, size: _columns(xy[:, 0], size[0] - 1 - xy[:, 1]),
        "bottom-left",
    ),
    CoordinateRule("counted from the top right", lambda xy, size: _columns(size[1] - 1 - xy[:, 0], xy[:, 1])),
    CoordinateRule("counted from the bottom right", lambda xy, size: np.subtract(size[::-1], 1) - xy),
    CoordinateRule(
        "with x and y swapped, counted from the bottom left",
        lambda xy, size: _columns(xy[:, 1], size[0] - 1 - xy[:, 0]),
    ),
    CoordinateRule(
        "with x and y swapped, counted from the top right",
        lambda xy, size: _columns(size[1] - 1 - xy[:, 1], xy[:, 0]),
    ),
)
BY_OPTION = {rule.option: rule for rule in (*OTHER_RULES, ONE_BASED) if rule.option}


def is_inside(x: float, y: float, width: int, height: int) -> bool:
    """Whether a point lies on the frame, whose pixels extend half a pixel around their centres."""
    return -0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5


def all_inside(xy: Points, size: Size) -> bool:
    """The same of all points, (N, 2), on a frame of (height, width)."""
    return bool(((xy >= -0.5) & (xy <= np.subtract(size[::-1], 0.5))).all())


def hint(written: Iterable[tuple[float, float, Size]], *, labels: bool) -> str:
    """The readings by which all points lie inside their frames, as the end of a sentence; or nothing.

    written: x and y as they are written, and the frame's (height, width). labels: options read them so.
    """
    places: dict[Size, list[tuple[float, float]]] = {}
    for x, y, size in written:
        places.setdefault(size, []).append((x, y))
    fitting = [
        rule
        for rule in BY_OPTION.values()
        if all(all_inside(rule.to_pixels(np.array(xy), size), size) for size, xy in places.items())
    ]
    texts = [rule.text + f" (--points {rule.option})" * labels for rule in fitting]
    return f"; all points are inside if they are read {' or '.join(texts)}" if texts else ""
