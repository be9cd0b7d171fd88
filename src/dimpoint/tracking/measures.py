"""How good the tracks of one clip are, against labels of its frames: each measure with its source.

A labelled object and a track's point match within a distance in pixels, one to one. The distance of a point
from a labelled point is Euclidean; from a box it is that from the box's nearest edge, and 0 inside.

- CLEAR matching keeps the pairs of the frame before where they still match, and gives the others the least
  total distance; MOTA = 1 - (misses + false positives + switches) / labelled points, MOTP is the mean
  distance of the pairs (Bernardin, Stiefelhagen 2008, https://doi.org/10.1155/2008/246309);
- fragmentations: an object is covered again after a gap; mostly tracked: in at least 0.8 of its frames,
  mostly lost: in less than 0.2 (Li, Huang, Nevatia 2009, https://doi.org/10.1109/CVPR.2009.5206735);
- IDF1 = 2 IDTP / (labelled points + track points), IDTP from the best assignment of whole objects to whole
  tracks (Ristani et al. 2016, https://arxiv.org/abs/1609.01775);
- OSPA of order p with cut-off c, mean over frames (Schuhmacher, Vo, Vo 2008,
  https://doi.org/10.1109/TSP.2008.920469); GOSPA with alpha 2 (Rahmathullah, Garcia-Fernandez, Svensson 2017,
  https://arxiv.org/abs/1601.05585).

`dimpoint.tracking.hota` has HOTA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from dimpoint.errors import ConfigError
from dimpoint.text import counted

Array = npt.NDArray[np.float64]
Objects = Mapping[int, Sequence[float]]
"""The objects of one frame: id -> x, y, or for a labelled box left, top, right, bottom."""


class Pairing(NamedTuple):
    """One frame: ids of its labelled objects (N) and of its tracks (M), and distances (N, M) in pixels."""

    truth: list[int]
    found: list[int]
    distances: Array


@dataclass
class Clear:
    """CLEAR matching of a clip. pairs: for each frame, object -> track; seen: frames of each object."""

    matches: int = 0
    switches: int = 0
    fragmentations: int = 0
    total_distance: float = 0.0
    pairs: list[dict[int, int]] = field(default_factory=list)
    seen: dict[int, int] = field(default_factory=dict)
    covered: dict[int, int] = field(default_factory=dict)  # frames of each object in which it is matched


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

    Parameters
    ----------
    truth : sequence of mappings
        For each frame the labelled objects: id -> (x, y), or (left, top, right, bottom) of a box, in pixels.
    tracks : sequence of mappings
        For each frame the points of the tracks: id -> (x, y), in pixels.
    distance : float
        Largest distance of a matching pair in pixels; also the cut-off of OSPA and GOSPA.
    order : int
        Order p of OSPA and GOSPA.

    Returns
    -------
    TrackMeasures
        Counts, MOTA, IDF1, and the mean OSPA and GOSPA of the frames.

    Raises
    ------
    ConfigError
        If the numbers of frames differ, or for a distance that is not above 0 or an order below 1.
    """
    check_distance(distance, order)
    frames = pair(truth, tracks)
    found = clear(frames, distance)
    points = sum(len(frame.truth) for frame in frames), sum(len(frame.found) for frame in frames)
    wrong = points[0] - found.matches + points[1] - found.matches + found.switches
    identified = identified_points(frames, distance)
    both = sum(points)
    return TrackMeasures(
        len(frames),
        *points,
        found.matches,
        points[0] - found.matches,
        points[1] - found.matches,
        found.switches,
        found.fragmentations,
        1 - wrong / points[0] if points[0] else None,
        2 * identified / both if both else None,
        _mean([ospa_of(frame.distances, distance, order) for frame in frames]),
        _mean([gospa_of(frame.distances, distance, order) for frame in frames]),
    )


def check_distance(distance: float, order: int = 2) -> None:
    """Check the settings of the measures.

    Parameters
    ----------
    distance : float
        Largest distance of a matching pair in pixels.
    order : int
        Order p of OSPA and GOSPA.

    Raises
    ------
    ConfigError
        For a distance that is not above 0, or an order below 1.
    """
    if not (distance > 0 and np.isfinite(distance)) or order < 1:
        raise ConfigError(f"distance must be above 0 and order at least 1, got {distance} and {order}")


def pair(truth: Sequence[Objects], tracks: Sequence[Objects]) -> list[Pairing]:
    """The frames of a clip with all distances.

    Parameters
    ----------
    truth, tracks : sequence of mappings
        As of `measure`.

    Returns
    -------
    list of Pairing
        One for each frame.

    Raises
    ------
    ConfigError
        If the numbers of frames differ.
    """
    if len(truth) != len(tracks):
        raise ConfigError(f"truth has {counted(len(truth), 'frame')}, the tracks {len(tracks)}")
    return [
        Pairing(list(real), list(found), _distances(_places(real), _places(found)))
        for real, found in zip(truth, tracks, strict=True)
    ]


def clear(frames: Sequence[Pairing], distance: float) -> Clear:
    """CLEAR matching: pairs of the frame before that still match stay, the others by least total distance.

    Parameters
    ----------
    frames : sequence of Pairing
        As `pair` gives them.
    distance : float
        Largest distance of a pair in pixels.

    Returns
    -------
    Clear
        The pairs of each frame, and what follows from them.

    Notes
    -----
    Bernardin, Stiefelhagen 2008, https://doi.org/10.1155/2008/246309.
    """
    result = Clear()
    last: dict[int, int] = {}  # object -> track of its last match
    gap: set[int] = set()  # objects that were matched before and are not now
    before: dict[int, int] = {}
    for frame in frames:
        pairs = _clear_pairs(frame, before, distance)
        for one, track in pairs.items():
            result.switches += one in last and last[one] != track
            result.fragmentations += one in gap
            result.covered[one] = result.covered.get(one, 0) + 1
            result.total_distance += float(frame.distances[frame.truth.index(one), frame.found.index(track)])
            last[one] = track
            gap.discard(one)
        for one in frame.truth:
            result.seen[one] = result.seen.get(one, 0) + 1
            if one not in pairs and one in last:
                gap.add(one)
        before = pairs
        result.matches += len(pairs)
        result.pairs.append(pairs)
    return result


def identified_points(frames: Sequence[Pairing], distance: float) -> int:
    """IDTP: the most matching points that an assignment of whole objects to whole tracks reaches.

    Parameters
    ----------
    frames : sequence of Pairing
        As `pair` gives them.
    distance : float
        Largest distance of a pair in pixels.

    Returns
    -------
    int
        Number of points.

    Notes
    -----
    Ristani et al. 2016, https://arxiv.org/abs/1609.01775.
    """
    ones = sorted({one for frame in frames for one in frame.truth})
    others = sorted({one for frame in frames for one in frame.found})
    if not ones or not others:
        return 0
    row, column = ({name: at for at, name in enumerate(names)} for names in (ones, others))
    shared = np.zeros((len(ones), len(others)))
    for frame in frames:
        if frame.distances.size:
            at = np.ix_([row[one] for one in frame.truth], [column[one] for one in frame.found])
            shared[at] += frame.distances <= distance
    return int(shared[linear_sum_assignment(-shared)].sum())


def ospa(truth: Array, found: Array, cutoff: float, order: int = 2) -> float:
    """Optimal sub-pattern assignment (OSPA) of two sets of positions.

    Parameters
    ----------
    truth : (N, 2) array
        Labelled positions, pixels.
    found : (M, 2) array
        Positions of tracks, pixels.
    cutoff : float
        Cut-off c, pixels.
    order : int
        Order p.

    Returns
    -------
    float
        0 to `cutoff`, pixels; 0 for two empty sets.

    Notes
    -----
    Schuhmacher, Vo, Vo 2008, https://doi.org/10.1109/TSP.2008.920469.
    """
    return ospa_of(_distances(truth, found), cutoff, order)


def gospa(truth: Array, found: Array, cutoff: float, order: int = 2) -> float:
    """Generalised OSPA (GOSPA) with alpha 2, not normalised by the number of positions.

    Takes what `ospa` takes; 0 or more, pixels.

    Notes
    -----
    Rahmathullah, Garcia-Fernandez, Svensson 2017, https://arxiv.org/abs/1601.05585.
    """
    return gospa_of(_distances(truth, found), cutoff, order)


def ospa_of(distances: Array, cutoff: float, order: int = 2) -> float:
    """`ospa` from distances (N, M) of N labelled objects from M tracks, pixels."""
    most = max(distances.shape)
    if most == 0:
        return 0.0
    missing = cutoff**order * abs(distances.shape[0] - distances.shape[1])
    return float(((_least_total(distances, cutoff, order) + missing) / most) ** (1 / order))


def gospa_of(distances: Array, cutoff: float, order: int = 2) -> float:
    """`gospa` from distances (N, M) of N labelled objects from M tracks, pixels."""
    missing = cutoff**order / 2 * abs(distances.shape[0] - distances.shape[1])
    return float((_least_total(distances, cutoff, order) + missing) ** (1 / order))


def _least_total(distances: Array, cutoff: float, order: int) -> float:
    if not distances.size:
        return 0.0
    cost = np.minimum(distances, cutoff) ** order
    return float(cost[linear_sum_assignment(cost)].sum())


def _places(objects: Objects) -> Array:
    """(N, 4): left, top, right, bottom; of a point twice the same."""
    places = [(*place, *place) if len(place) == 2 else tuple(place) for place in objects.values()]
    return np.array(places, np.float64).reshape(-1, 4)


def _distances(one: Array, other: Array) -> Array:
    """(N, M) of points (N, 2) or boxes (N, 4) from points; 0 inside a box."""
    low, high = one[:, None, :2], one[:, None, -2:]
    at = other[None, :, :2]
    off = np.maximum(np.maximum(low - at, at - high), 0.0)
    distances: Array = np.hypot(off[..., 0], off[..., 1])
    return distances


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def _clear_pairs(frame: Pairing, before: dict[int, int], distance: float) -> dict[int, int]:
    if not frame.distances.size:
        return {}
    row = {one: at for at, one in enumerate(frame.truth)}
    column = {track: at for at, track in enumerate(frame.found)}
    near = frame.distances <= distance
    pairs = {
        one: track
        for one, track in before.items()
        if one in row and track in column and near[row[one], column[track]]
    }
    taken = set(pairs.values())
    rows = [at for one, at in row.items() if one not in pairs]
    columns = [at for track, at in column.items() if track not in taken]
    if not rows or not columns:
        return pairs
    cost = frame.distances[np.ix_(rows, columns)].copy()
    cost[cost > distance] = 1e6
    for one, other in zip(*linear_sum_assignment(cost), strict=True):
        if cost[one, other] <= distance:
            pairs[frame.truth[rows[one]]] = frame.found[columns[other]]
    return pairs
