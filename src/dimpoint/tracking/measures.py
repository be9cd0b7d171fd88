"""How good tracks are, against points or boxes a frame: each measure with its source.

A truth object and a track point match within a distance (pixels), one to one, with least total distance.
CLEAR matching keeps the pairs of the frame before where they still match (Bernardin, Stiefelhagen 2008).

- MOTA = 1 - (misses + false positives + switches) / truth points (Bernardin, Stiefelhagen 2008);
- IDF1 = 2 IDTP / (truth points + track points), IDTP from the best assignment of whole truth objects to whole
  tracks (Ristani et al. 2016);
- fragmentations: a truth object is covered again after a gap (Li, Huang, Nevatia 2009);
- OSPA of order p with cut-off c, mean over frames (Schuhmacher, Vo, Vo 2008); GOSPA with alpha 2
  (Rahmathullah, Garcia-Fernandez, Svensson 2017).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from dimpoint.errors import ConfigError

Array = npt.NDArray[np.float64]
Objects = Mapping[int, tuple[float, float]]
"""The objects of one frame: id -> x, y."""


@dataclass(frozen=True)
class TrackMeasures:
    """Counts and ratios of one clip; a ratio without a denominator is None."""

    frames: int
    truth_points: int
    track_points: int
    matches: int
    misses: int
    false_positives: int
    switches: int
    fragmentations: int
    mota: float | None
    idf1: float | None
    ospa: float
    gospa: float

    def to_dict(self) -> dict[str, Any]:
        """All values by name."""
        return asdict(self)


def measure(
    truth: Sequence[Objects], tracks: Sequence[Objects], *, distance: float = 5.0, order: int = 2
) -> TrackMeasures:
    """Compare tracks with the truth, frame by frame.

    truth, tracks: for each frame the objects by id. distance: the farthest that a pair matches, pixels; also
    the cut-off of OSPA and GOSPA. order: of OSPA and GOSPA. Raises ConfigError for another number of frames
    or a distance that is not above 0.
    """
    if len(truth) != len(tracks):
        raise ConfigError(f"truth has {len(truth)} frames, the tracks {len(tracks)}")
    if not distance > 0 or order < 1:
        raise ConfigError(f"distance must be above 0 and order at least 1, got {distance} and {order}")
    last: dict[int, int] = {}  # truth id -> track id of its last match
    before: dict[int, int] = {}  # pairs of the frame before
    seen_gap: dict[int, bool] = {}
    matches = switches = fragmentations = 0
    for real, found in zip(truth, tracks, strict=True):
        pairs = _clear_pairs(real, found, before, distance)
        for one, track in pairs.items():
            switches += one in last and last[one] != track
            fragmentations += seen_gap.get(one, False)
            last[one], seen_gap[one] = track, False
        for one in real:
            if one not in pairs and one in last:
                seen_gap[one] = True
        before = pairs
        matches += len(pairs)
    points = sum(map(len, truth)), sum(map(len, tracks))
    wrong = points[0] - matches + points[1] - matches + switches
    identified = _identified(truth, tracks, distance)
    both = sum(points)
    return TrackMeasures(
        len(truth),
        *points,
        matches,
        points[0] - matches,
        points[1] - matches,
        switches,
        fragmentations,
        1 - wrong / points[0] if points[0] else None,
        2 * identified / both if both else None,
        _mean([ospa(_places(a), _places(b), distance, order) for a, b in zip(truth, tracks, strict=True)]),
        _mean([gospa(_places(a), _places(b), distance, order) for a, b in zip(truth, tracks, strict=True)]),
    )


def ospa(truth: Array, found: Array, cutoff: float, order: int = 2) -> float:
    """Optimal sub-pattern assignment of (N, 2) and (M, 2) positions, pixels."""
    most = max(len(truth), len(found))
    if most == 0:
        return 0.0
    missing = cutoff**order * abs(len(truth) - len(found))
    return float(((_least_total(truth, found, cutoff, order) + missing) / most) ** (1 / order))


def gospa(truth: Array, found: Array, cutoff: float, order: int = 2) -> float:
    """Generalised OSPA with alpha 2 of (N, 2) and (M, 2) positions: not normalised by their number."""
    missing = cutoff**order / 2 * abs(len(truth) - len(found))
    return float((_least_total(truth, found, cutoff, order) + missing) ** (1 / order))


def _least_total(truth: Array, found: Array, cutoff: float, order: int) -> float:
    if not len(truth) or not len(found):
        return 0.0
    cost = np.minimum(_distances(truth, found), cutoff) ** order
    return float(cost[linear_sum_assignment(cost)].sum())


def _distances(one: Array, other: Array) -> Array:
    distances: Array = np.hypot(*np.moveaxis(one[:, None] - other[None], 2, 0))
    return distances


def _places(objects: Objects) -> Array:
    return np.array(list(objects.values()), np.float64).reshape(-1, 2)


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def _clear_pairs(real: Objects, found: Objects, before: dict[int, int], distance: float) -> dict[int, int]:
    """CLEAR matching: pairs of the frame before that still match stay, the others by least total distance."""
    pairs = {}
    for one, track in before.items():
        if one in real and track in found and np.hypot(*np.subtract(real[one], found[track])) <= distance:
            pairs[one] = track
    taken = set(pairs.values())
    free, open_ = [one for one in real if one not in pairs], [track for track in found if track not in taken]
    if not free or not open_:
        return pairs
    cost = _distances(_places({one: real[one] for one in free}), _places({t: found[t] for t in open_}))
    cost[cost > distance] = 1e6
    for row, column in zip(*linear_sum_assignment(cost), strict=True):
        if cost[row, column] <= distance:
            pairs[free[row]] = open_[column]
    return pairs


def _identified(truth: Sequence[Objects], tracks: Sequence[Objects], distance: float) -> int:
    """IDTP: most matching points that an assignment of whole truth objects to whole tracks reaches."""
    ones = sorted({one for frame in truth for one in frame})
    others = sorted({one for frame in tracks for one in frame})
    if not ones or not others:
        return 0
    row, column = ({name: at for at, name in enumerate(names)} for names in (ones, others))
    shared = np.zeros((len(ones), len(others)))
    for real, found in zip(truth, tracks, strict=True):
        if real and found:
            near = _distances(_places(real), _places(found)) <= distance
            shared[np.ix_([row[one] for one in real], [column[one] for one in found])] += near
    return int(shared[linear_sum_assignment(-shared)].sum())
