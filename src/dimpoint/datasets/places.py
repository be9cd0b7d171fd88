"""Whether labels lie on spots of their frames, as they are written or by another reading of coordinates.

A spot is a place where the difference of Gaussians is among the strongest 5 % of the frame. Of the labels of
NUAA-SIRST, NUDT-SIRST, IRSTD-1K and SIRST-v2, 93 to 100 % lie on spots; of the same labels read wrongly, 4 to
14 % do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import comb

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.datasets.coordinates import OTHER_RULES, CoordinateRule, Points, all_inside
from dimpoint.datasets.dataset import Sample
from dimpoint.errors import DimpointError

_STRONGEST = 0.95  # rank of the response in the frame
_SIGMAS = (0.8, 1.6, 3.2, 6.4)
_REACH = 2  # pixels around a label
_BY_CHANCE = 0.1  # fraction of wrong places on spots
_PROBABILITY = 3e-5  # of a sign by chance
_CELL = 8.0  # pixels; labels of several frames in one cell are one place: the clutter there may stand still
_NEAR = 6.0  # pixels; two readings of a label that are closer do not differ
_ENOUGH = 32  # labels at different places
_MOST_FRAMES = 32
_MOST_PIXELS = 2**25  # of all frames together
_WINDOW = 4  # pixels around a label
_LEAST = 10  # labels
_SHIFT = 0.6  # pixels in both directions; it is 0.25 at most in the data sets above
_SURE = 0.2  # pixels; largest standard error of a shift


@dataclass(frozen=True)
class Placement:
    """How labels lie on their frames.

    Parameters
    ----------
    places : int
        Different places of labels that were looked at.
    rule : CoordinateRule, optional
        The reading by which labels lie on spots, while few do as they are written.
    given, otherwise, compared : int
        Labels on spots as they are written, and by that reading, of those that it moves.
    shift : tuple of float, optional
        x, y from labels to spots in pixels, if all labels lie beside spots in one direction.
    """

    places: int
    rule: CoordinateRule | None = None
    given: int = 0
    otherwise: int = 0
    compared: int = 0
    shift: tuple[float, float] | None = None


class _Counts:
    """Labels on spots by one reading, each place once: (on a spot as given, on a spot by the reading)."""

    def __init__(self, rule: CoordinateRule) -> None:
        self.rule = rule
        self.places: dict[tuple[int, int], tuple[bool, bool]] = {}
        self.possible = True

    def add(
        self, points: Points, size: tuple[int, int], is_spot: Callable[[Points], npt.NDArray[np.bool_]]
    ) -> None:
        read = self.rule.to_pixels(points, size)
        self.possible &= all_inside(read, size)
        if not self.possible:
            return
        moved = np.hypot(*(read - points).T) > _NEAR
        pairs = zip(is_spot(points[moved]), is_spot(read[moved]), strict=True)
        for (x, y), pair in zip((points[moved] // _CELL).astype(int), pairs, strict=True):
            self.places.setdefault((int(x), int(y)), (bool(pair[0]), bool(pair[1])))

    def result(self) -> tuple[int, int, int]:
        """Labels on spots as given, by the reading, and all."""
        given = sum(first for first, _ in self.places.values())
        return given, sum(second for _, second in self.places.values()), len(self.places)

    def is_right(self) -> bool:
        given, otherwise, count = self.result()
        return (
            self.possible
            and count > 0
            and otherwise >= 2 * given
            and _chance(otherwise, count) < _PROBABILITY
        )


def _chance(hits: int, count: int) -> float:
    """The probability of so many hits, or more, at wrong places."""
    return sum(
        comb(count, k) * _BY_CHANCE**k * (1 - _BY_CHANCE) ** (count - k) for k in range(hits, count + 1)
    )


def placement(samples: Sequence[Sample]) -> Placement:
    """Compare labels with their frames, over frames that are spread evenly; unreadable ones are skipped.

    Parameters
    ----------
    samples : sequence of Sample
        Labelled frames.
    """
    counts = [_Counts(rule) for rule in OTHER_RULES]
    places: set[tuple[int, int]] = set()
    shifts: list[tuple[float, float]] = []
    room, used = _MOST_PIXELS, 0
    for sample in _spread(samples):
        try:
            points = np.asarray(sample.read_points(), np.float64)
            frame = sample.read_frame() if len(points) else None
        except (DimpointError, OSError):
            continue
        if frame is None:
            continue
        room -= frame.size
        used += 1
        if (room < 0 and used > 1) or used > _MOST_FRAMES or len(places) >= _ENOUGH:
            break
        places |= {(int(x), int(y)) for x, y in points // _CELL}
        response = _response(frame)
        size = (frame.shape[0], frame.shape[1])
        reached = np.asarray(cv2.dilate(response, np.ones((2 * _REACH + 1,) * 2, np.uint8)))
        strongest = float(np.quantile(reached[::2, ::2], _STRONGEST))
        for count in counts:
            count.add(points, size, lambda xy, r=reached, s=strongest: _values(r, xy) > s)  # type: ignore[misc]
        shifts += _shifts(frame, points)
    right = max((count for count in counts if count.is_right()), key=lambda c: c.result()[1], default=None)
    if right is None:
        return Placement(len(places), shift=_common(shifts))
    return Placement(len(places), right.rule, *right.result())


def _spread(samples: Sequence[Sample]) -> Iterable[Sample]:
    """The samples in an order that is spread over all of them from the start."""
    count = len(samples)
    step = next((s for s in range(max(1, int(count * 0.382)), count) if np.gcd(s, count) == 1), 1)
    return (samples[index * step % count] for index in range(count))


def _response(frame: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    blurred = [cv2.GaussianBlur(frame.astype(np.float32), (0, 0), sigma) for sigma in _SIGMAS]
    bands = [np.abs(fine - coarse) for fine, coarse in pairwise(blurred)]
    return np.asarray(np.max([band / (band.std() + 1e-6) for band in bands], axis=0), np.float32)


def _values(response: npt.NDArray[np.float32], xy: Points) -> npt.NDArray[np.float32]:
    height, width = response.shape
    columns, rows = np.rint(xy).astype(int).T if len(xy) else np.zeros((2, 0), int)
    return np.asarray(response[rows.clip(0, height - 1), columns.clip(0, width - 1)])


def _shifts(frame: npt.NDArray[np.generic], points: Points) -> Iterable[tuple[float, float]]:
    """From each label to the centroid of the strongest response within 4 px."""
    pixels = frame.astype(np.float32)
    response = np.abs(cv2.GaussianBlur(pixels, (0, 0), 1.2) - cv2.GaussianBlur(pixels, (0, 0), 4))
    height, width = response.shape
    rows, columns = np.mgrid[-_WINDOW : _WINDOW + 1, -_WINDOW : _WINDOW + 1]
    for x, y in points:
        column, row = round(x), round(y)
        if not (_WINDOW <= column < width - _WINDOW and _WINDOW <= row < height - _WINDOW):
            continue
        window = response[row - _WINDOW : row + _WINDOW + 1, column - _WINDOW : column + _WINDOW + 1]
        weights = np.maximum(window - window.max() / 2, 0)
        if (total := weights.sum()) > 0:
            yield (
                column + float((weights * columns).sum() / total) - x,
                row + float((weights * rows).sum() / total) - y,
            )


def _common(shifts: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """The median of shifts that are alike and not small in both directions."""
    if len(shifts) < _LEAST:
        return None
    values = np.asarray(shifts)
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    middle, mean = np.median(values, axis=0), values.mean(axis=0)
    both = np.abs([middle, mean]).min(axis=0)
    if (error > _SURE).any() or (both < _SHIFT).any():
        return None
    return float(middle[0]), float(middle[1])
