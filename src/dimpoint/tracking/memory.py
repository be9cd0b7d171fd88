"""Spots that rest: defects of the sensor and lights of the scene, told from targets that hover.

A track is static when all of this holds:

1. it was there in the past: a candidate lay at its place in the first second of the scene, or a memory kept
   from earlier clips of the camera knows the place;
2. it rests: over at least two seconds, in pixels of the sensor or of the stabilised scene, its places scatter
   by less than 0.25 pixels (1.4826 times the median absolute deviation, the larger of x and y), and the
   medians of its two halves differ by less than 0.3;
3. it shines steadily: over the same time its brightness, the sum of 7x7 pixels above its surroundings,
   scatters by less than 2 %, noise and texture of the surroundings allowed for;
4. it has stayed there all its life: it never was farther than 1.5 pixels from its place.

What arrives, jitters as a hovering drone does, or flutters as a bird does, fails one of them and stays a
track. A static track that leaves its place is a track again. Nothing is deleted: static tracks stand in the
results with the reason.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from dimpoint.atomic import write_text
from dimpoint.errors import DataError
from dimpoint.tracking.motion import Matrix

Kind = Literal["sensor", "scene", "resting"]

_FORMAT = "dimpoint camera memory 1"
_SETTLE = 1.0  # seconds of a scene that count as its past
_LEAST_REST = 2.0  # seconds
_KNOWN_REST = 0.2  # seconds, at a place that the memory knows
_SCATTER = 0.25  # pixels
_DRIFT = 0.3  # pixels between the means of two halves
_FLICKER = 0.02  # of the brightness
_DOUBT = 2.0  # standard deviations of the surroundings' share in it
_INNER, _OUTER = 3, 7  # pixels from a spot: of its brightness, and of the ring around it
_SAME_PLACE = 2.0  # pixels
LEFT = 1.5  # pixels from its place: it moves
_CAMERA_MOVED = 2.0  # pixels: less, and sensor and scene cannot be told apart
_LEAST_FORGET = 60.0  # seconds unseen after which a spot is forgotten, or as long as it was seen
_MOST_SPOTS = 2000
_WINDOW = 256  # places of a track that are looked at


@dataclass
class Spot:
    """A place that rests.

    Attributes
    ----------
    x, y : float
        Pixels of the sensor.
    kind : {"sensor", "scene", "resting"}
        What it rests in; "resting" where the camera never moved and both are alike.
    seen, missed : float
        Seconds in which it was seen, and seconds since.
    from_file : bool
        Whether an earlier clip knew it.
    """

    x: float
    y: float
    kind: Kind
    seen: float = 0.0
    missed: float = 0.0
    from_file: bool = False


@dataclass
class Places:
    """Where a track was measured: times, sensor and scene pixels, brightness of the latest measurements."""

    rows: deque[tuple[float, float, float, float, float, float, float]] = field(
        default_factory=lambda: deque(maxlen=_WINDOW)
    )
    first: tuple[float, float, float, float] | None = None
    farthest: list[float] = field(
        default_factory=lambda: [0.0, 0.0]
    )  # from the first, in sensor and in scene

    def add(
        self, time: float, sensor: Sequence[float], scene: Sequence[float], light: Sequence[float]
    ) -> None:
        """Add one measurement; light: a row of `brightness`, NaN where it is not known."""
        (x, y), (across, down) = sensor, scene
        self.rows.append((time, x, y, across, down, light[0], light[1]))
        if self.first is None:
            self.first = x, y, across, down
        first, farthest = self.first, self.farthest
        farthest[0] = max(farthest[0], math.hypot(x - first[0], y - first[1]))
        farthest[1] = max(farthest[1], math.hypot(across - first[2], down - first[3]))


class CameraMemory:
    """The resting spots of one camera, learnt over a clip and kept in a small file between clips."""

    def __init__(self, spots: list[Spot] | None = None, size: tuple[int, int] | None = None) -> None:
        self.spots = spots or []
        self.size = size
        self._begin: float | None = None
        self._early: list[Matrix] = []
        self._travel = 0.0

    @property
    def kept(self) -> bool:
        """Whether some spot comes from earlier clips."""
        return any(spot.from_file for spot in self.spots)

    def new_scene(self) -> None:
        """Forget the first second: another scene begins. What the camera's file knows stays."""
        self._begin = None
        self._early = []
        self._travel = 0.0

    def observe(self, time: float, dt: float, sensor: Matrix, scene: Matrix, shift: float) -> None:
        """Take in the candidates of a frame, (N, 2) in sensor and in scene pixels, and the camera's shift."""
        if self._begin is None:
            self._begin = time
        self._travel = max(self._travel, shift)
        if time - self._begin <= _SETTLE and len(sensor):
            self._early.append(np.concatenate([sensor, scene], axis=1))
        for spot in self.spots:
            off = np.abs(sensor - (spot.x, spot.y)).max(axis=1) if len(sensor) else np.zeros(0)
            if (off < _SAME_PLACE).any():
                spot.seen += dt
                spot.missed = 0.0
            else:
                spot.missed += dt
        if any(spot.missed > max(_LEAST_FORGET, spot.seen) for spot in self.spots):
            self.spots = [spot for spot in self.spots if spot.missed <= max(_LEAST_FORGET, spot.seen)]

    def reason(self, places: Places) -> str | None:
        """Why a track counts as static, in words; None if it does not."""
        if places.first is None or len(places.rows) < 3 or min(places.farthest) > LEFT:
            return None
        rows = np.array(places.rows)
        duration = rows[-1, 0] - rows[0, 0]
        known = self._known(rows[-1, 1:3])
        if duration < (_KNOWN_REST if known else _LEAST_REST):
            return None
        rests = [_rests(rows[:, 1:3]), _rests(rows[:, 3:5])]
        rests = [rest and far <= LEFT for rest, far in zip(rests, places.farthest, strict=True)]
        if not any(rests) or _flickers(rows[:, 5:]):
            return None
        middle = _median(rows[:, 1:5])
        if not known and not self._was_there(middle, rests):
            return None
        kind: Kind = "resting"
        if self._travel > _CAMERA_MOVED:
            kind = "sensor" if rests[0] else "scene"
        if known is None and kind != "scene" and len(self.spots) < _MOST_SPOTS:
            self.spots.append(Spot(float(middle[0]), float(middle[1]), kind, seen=float(duration)))
        words = {
            "sensor": "rests on the sensor",
            "scene": "rests in the scene",
            "resting": "rests in the picture",
        }
        past = "known from the camera memory" if known and known.from_file else "there since the first second"
        return f"{words[kind]}, {past}"

    def _known(self, xy: Matrix) -> Spot | None:
        kept = (spot for spot in self.spots if abs(spot.x - xy[0]) + abs(spot.y - xy[1]) < _SAME_PLACE)
        return next(kept, None)

    def _was_there(self, middle: Matrix, rests: list[bool]) -> bool:
        if not self._early:
            return False
        early = np.concatenate(self._early)
        near = [np.hypot(*(early[:, at : at + 2] - middle[at : at + 2]).T) < _SAME_PLACE for at in (0, 2)]
        return any(rest and bool(there.any()) for rest, there in zip(rests, near, strict=True))

    def save(self, path: Path) -> None:
        """Write the spots that rest on the sensor or in the picture."""
        size = None if self.size is None else {"width": self.size[1], "height": self.size[0]}
        content = {"format": _FORMAT, "size": size, "spots": [_entry(spot) for spot in self.spots]}
        write_text(path, json.dumps(content, indent=1) + "\n")


def brightness(frame: npt.NDArray[np.generic], xy: npt.NDArray[np.generic]) -> Matrix:
    """How bright spots are, and how uncertain that is by their surroundings.

    Parameters
    ----------
    frame : (H, W) array
        uint8, uint16 or float32.
    xy : (N, 2) array
        Positions of the spots, pixels.

    Returns
    -------
    (N, 2) array
        In counts: the sum of 7x7 pixels above the median of a ring around them, and the standard deviation of
        that sum if its pixels were as noisy as those of the ring.
    """
    if not len(xy):
        return np.zeros((0, 2))
    offset = np.arange(-_OUTER, _OUTER + 1)
    middle = np.rint(np.asarray(xy, np.float64)).astype(int)
    row = (middle[:, 1, None] + offset).clip(0, frame.shape[0] - 1)
    column = (middle[:, 0, None] + offset).clip(0, frame.shape[1] - 1)
    patch = frame[row[:, :, None], column[:, None, :]].astype(np.float64)
    inner = slice(_OUTER - _INNER, _OUTER + _INNER + 1)
    ring = np.concatenate(
        [patch[:, [0, -1]].reshape(len(xy), -1), patch[:, :, [0, -1]].reshape(len(xy), -1)], 1
    )
    level = _median(ring.T)[:, None]
    side = 2 * _INNER + 1
    light = patch[:, inner, inner].sum(axis=(1, 2)) - side * side * level[:, 0]
    return np.stack([light, side * 1.4826 * _median(np.abs(ring - level).T)], axis=1)


def read_memory(path: Path) -> CameraMemory:
    """The memory that a file holds; an empty one if there is no such file.

    Raises DataError for a file that is no camera memory.
    """
    if not path.exists():
        return CameraMemory()
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(content["format"])
        size = content["size"]
        shape = None if size is None else (int(size["height"]), int(size["width"]))
        return CameraMemory([_spot(entry) for entry in content["spots"]], shape)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        raise DataError(
            f"{path}: is no camera memory, which `dimpoint track --camera-memory` writes"
        ) from None


def _spot(entry: dict[str, float | str]) -> Spot:
    kind = entry["kind"]
    if kind not in ("sensor", "scene", "resting"):
        raise ValueError(kind)
    x, y, seen, missed = (float(entry[key]) for key in ("x", "y", "seen", "missed"))
    if not np.isfinite([x, y, seen, missed]).all():
        raise ValueError("not finite")
    named: Kind = "sensor" if kind == "sensor" else "scene" if kind == "scene" else "resting"
    return Spot(x, y, named, seen, missed, from_file=True)


def _entry(spot: Spot) -> dict[str, float | str]:
    numbers = {key: round(getattr(spot, key), 3) for key in ("x", "y", "seen", "missed")}
    return {**numbers, "kind": spot.kind}


def _rests(xy: Matrix) -> bool:
    half = len(xy) // 2
    drift = np.abs(_median(xy[:half]) - _median(xy[half:])).max()
    scatter = 1.4826 * _median(np.abs(xy - _median(xy))).max()
    return bool(scatter < _SCATTER and drift < _DRIFT)


def _flickers(light: Matrix) -> bool:
    """Whether brightness scatters by more than its surroundings explain; not where it is not known."""
    middle, doubt = _median(light)
    scatter = 1.4826 * _median(np.abs(light[:, 0] - middle))
    return bool(scatter >= _FLICKER * abs(middle) + _DOUBT * doubt)


def _median(values: Matrix) -> Matrix:
    """`np.median` over the rows, NaN included: on so few values it takes a quarter of the time."""
    ordered = np.sort(values, axis=0)
    half = len(ordered) // 2
    middle = ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
    found: Matrix = np.where(np.isnan(ordered[-1]), np.nan, middle)
    return found
