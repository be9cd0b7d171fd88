"""Target protocols of the literature: which object matches which target, and what a false alarm is.

All work on 8-connected components in raster order, compare centroids, and match one to one.

`basicirstd`
    Each target in order takes the first predicted object that is free and nearer than 3 px. A false alarm is
    an unmatched object; Fa counts its pixels. (XinyiYing/BasicIRSTD, `PD_FA`.)

`dnanet-legacy`
    The same, but an unmatched object is not counted if its area equals that of a matched object of the same
    frame: a known bug, kept to reproduce published tables. (YeRen123455/Infrared-Small-Target-Detection,
    `PD_FA`.)

`spire`
    Each target in order takes the nearest free object at most 5 px away; Fa counts false objects. (SPIRE,
    arXiv 2604.05363; see `dimpoint.metrics.points`.)

`opdc`
    A minimum-distance assignment keeps the pairs with IoU >= 0.5; a second one of the rest keeps the pairs
    nearer than 3 px. (Pang et al., NeurIPS 2025, arXiv 2509.16888; their package adds a phantom object on
    frames without predictions or without targets, dimpoint does not.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from dimpoint.errors import ConfigError
from dimpoint.extensions import extension_names, load_extension
from dimpoint.metrics.components import (
    Components,
    Floats,
    Ints,
    above,
    centroid_distances,
    check_pair,
    check_threshold,
    pair_distances,
)
from dimpoint.metrics.counts import ratio
from dimpoint.metrics.points import (
    PointCounts,
    PointMatch,
    PointSweep,
    ScoredFrame,
    match_points,
    sweep,
)
from dimpoint.text import nearest

ENTRY_POINTS = "dimpoint.protocols"
NEAR = 3.0  # pixels; upper limit of the distance for `basicirstd`, `dnanet-legacy` and `opdc`
OVERLAP = 0.5  # smallest IoU of pairs in the first assignment of `opdc`


@dataclass(frozen=True, eq=False)
class TargetMatch:
    """Matches between the objects and targets of one frame.

    Parameters
    ----------
    pairs : (K, 2) int64
        Index of the predicted and of the true object.
    false : (F,) int64
        Indices of the false alarms.
    """

    pairs: Ints
    false: Ints


Matcher = Callable[[Components, Components], TargetMatch]


PointMatcher = Callable[[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike], PointMatch]


@dataclass(frozen=True)
class Protocol:
    """A named way to match predictions with targets and to count them.

    A new protocol is a file with one such object, registered by one line: in `PROTOCOLS`, or in another
    package's entry points `dimpoint.protocols`, or given as `module:object`.

    Parameters
    ----------
    name, description : str
        For tables and reports; the description is one or two sentences.
    match : callable
        Maps the predicted and true `Components` of a frame to a `TargetMatch`; `MatchingPoints` makes one
        from a matcher of points.
    fa_counts : {"objects", "pixels"}
        What Fa counts per evaluated pixel.
    match_points : callable, optional
        Maps pred_xy (N, 2), scores (N,) and truth_xy (T, 2) to a `PointMatch`. None: the protocol needs maps
        and masks.
    curve : {"basicirstd", "own"}
        The curve over all thresholds for maps: that of `basicirstd`, which is exact, or the protocol's own,
        sampled at 100 thresholds.
    sweep : callable, optional
        Maps scored frames to a `PointSweep`, exact at every score. None: a sampled curve.
    numbers : tuple of str
        Further properties of `TargetCounts` to show, such as "hiou".
    """

    name: str
    description: str
    match: Matcher
    fa_counts: Literal["pixels", "objects"]
    match_points: PointMatcher | None = None
    curve: Literal["own", "basicirstd"] = "own"
    sweep: Callable[[Sequence[ScoredFrame]], PointSweep] | None = None
    numbers: tuple[str, ...] = ()


@dataclass(frozen=True)
class MatchingPoints:
    """Match objects by their centroids with a matcher of points."""

    match: PointMatcher

    def __call__(self, pred: Components, truth: Components) -> TargetMatch:
        found = self.match(pred.centroids, np.zeros(len(pred)), truth.centroids)
        return TargetMatch(found.pairs, found.false)


@dataclass(frozen=True, eq=False)
class TargetCounts(PointCounts):
    """Counts of objects over some frames under a protocol; see `PointCounts` for the inherited fields.

    Parameters
    ----------
    false_pixels : int
        Area of the false objects, pixels.
    overlap : float
        Sum of the IoU of the matched pairs.
    """

    false_pixels: int = 0
    overlap: float = 0.0

    @property
    def pd(self) -> float:
        """Probability of detection: found targets / all targets."""
        return self.recall

    @property
    def fa_pixels(self) -> float:
        """Pixels of false objects / all pixels."""
        return ratio(self.false_pixels, self.pixels)

    @property
    def fa_pixels_e6(self) -> float:
        """Pixels of false objects per million pixels, the usual unit of Fa."""
        return 1e6 * self.fa_pixels

    @property
    def hiou(self) -> float:
        """Hierarchical IoU: mean IoU of the matched pairs times tp / (tp + fp + fn)."""
        return ratio(self.overlap, self.tp + self.fp + self.fn)

    def to_dict(self) -> dict[str, float]:
        """Counts and ratios by name."""
        own = ("false_pixels", "pd", "fa_pixels", "hiou")
        return super().to_dict() | {name: getattr(self, name) for name in own}


def count_targets(
    prob: npt.NDArray[Any], mask: npt.NDArray[Any], protocol: str, threshold: float = 0.5
) -> TargetCounts:
    """Count the objects of one frame: the 8-connected components of prob > threshold and of the mask.

    Parameters
    ----------
    prob : (H, W) float
        Probability map, 0..1.
    mask : (H, W) bool or uint8
        True pixels; uint8 counts above 127.
    protocol : str
        A name that `protocol_names` lists, or `module:object`.
    threshold : float, default 0.5
        Pixels above it are predicted.

    Raises
    ------
    ConfigError
        For an unknown protocol.
    DataError
        For a bad map or mask.

    Examples
    --------
    >>> import numpy as np
    >>> from dimpoint.metrics.protocols import count_targets
    >>> prob, mask = np.zeros((9, 20)), np.zeros((9, 20), bool)
    >>> mask[4, 4] = True
    >>> prob[4, 5], prob[2, 15] = 0.9, 0.6
    >>> counts = count_targets(prob, mask, "basicirstd")
    >>> counts.tp, counts.fp, counts.pd, counts.distance_mean
    (1, 1, 1.0, 1.0)
    """
    rule = get_protocol(protocol)
    values, truth = check_pair(prob, mask)
    found = above(values, check_threshold(threshold))
    return count_components(Components.of(found), Components.of(truth), rule)


def count_components(pred: Components, truth: Components, protocol: Protocol) -> TargetCounts:
    """The counts of one frame from its predicted and true objects."""
    return count_match(protocol.match(pred, truth), pred, truth)


def count_match(
    match: TargetMatch, pred: Components, truth: Components, shared: Ints | None = None
) -> TargetCounts:
    """The counts of one frame from its matches; shared: the objects' `overlaps`, if known."""
    found, target = match.pairs.T
    distance = pair_distances(truth, pred, target, found)
    return TargetCounts(
        tp=len(match.pairs),
        fp=len(match.false),
        fn=len(truth) - len(match.pairs),
        frames=1,
        pixels=pred.shape[0] * pred.shape[1],
        distance_sum=float(distance.sum()),
        distances=distance,
        false_pixels=int(pred.areas[match.false].sum()),
        overlap=float(ious(pred, truth, shared)[target, found].sum()),
    )


def ious(pred: Components, truth: Components, shared: Ints | None = None) -> Floats:
    """(T, P) float64: IoU of each true with each predicted object; shared: their `overlaps`, if known."""
    shared = overlaps(pred, truth) if shared is None else shared
    union = truth.areas[:, None] + pred.areas - shared
    return shared / union


def overlaps(pred: Components, truth: Components) -> Ints:
    """(T, P) int64: number of common pixels of each true and each predicted object."""
    _, here, there = np.intersect1d(truth.pixels, pred.pixels, assume_unique=True, return_indices=True)
    shared = np.zeros((len(truth), len(pred)), np.int64)
    np.add.at(shared, (truth.labels[here], pred.labels[there]), 1)
    return shared


def _basicirstd(pred: Components, truth: Components) -> TargetMatch:
    near = centroid_distances(truth, pred) < NEAR
    taken: set[int] = set()
    pairs = []
    for target, row in enumerate(near):
        found = next((int(index) for index in np.flatnonzero(row) if index not in taken), None)
        if found is not None:
            taken.add(found)
            pairs.append((found, target))
    return _with_false(pairs, len(pred))


def _dnanet_legacy(pred: Components, truth: Components) -> TargetMatch:
    match = _basicirstd(pred, truth)
    matched_areas = pred.areas[match.pairs[:, 0]]
    return TargetMatch(match.pairs, match.false[~np.isin(pred.areas[match.false], matched_areas)])


def _spire(pred: Components, truth: Components) -> TargetMatch:
    measure = partial(pair_distances, truth, pred)
    match = match_points(pred.centroids, np.zeros(len(pred)), truth.centroids, measure=measure)
    return TargetMatch(match.pairs, match.false)


def _opdc(pred: Components, truth: Components) -> TargetMatch:
    return opdc_match(centroid_distances(truth, pred), ious(pred, truth))


def opdc_match(distance: Floats, overlap: Floats) -> TargetMatch:
    """Protocol `opdc` on the (T, P) distances and IoUs of true and predicted objects."""
    target, found = linear_sum_assignment(distance)
    kept = overlap[target, found] >= OVERLAP
    rest_target = np.setdiff1d(np.arange(distance.shape[0]), target[kept])
    rest_found = np.setdiff1d(np.arange(distance.shape[1]), found[kept])
    rest = distance[np.ix_(rest_target, rest_found)]
    row, column = linear_sum_assignment(rest)
    near = rest[row, column] < NEAR
    pairs = np.concatenate(
        [
            np.stack([found[kept], target[kept]], axis=1),
            np.stack([rest_found[column[near]], rest_target[row[near]]], axis=1),
        ]
    )
    return _with_false(pairs[np.argsort(pairs[:, 1])], distance.shape[1])


def _with_false(pairs: npt.ArrayLike, predicted: int) -> TargetMatch:
    """A match in which every predicted object without a target is a false alarm."""
    matched = np.asarray(pairs, np.int64).reshape(-1, 2)
    return TargetMatch(matched, np.setdiff1d(np.arange(predicted), matched[:, 0]))


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "basicirstd",
            "Each target takes the first free object whose centroid is nearer than 3 px. Fa counts the "
            "pixels of false objects.",
            _basicirstd,
            "pixels",
            curve="basicirstd",
        ),
        Protocol(
            "dnanet-legacy",
            "As basicirstd, but a false object is ignored when its area equals that of a matched one: a "
            "known bug, kept to reproduce published tables.",
            _dnanet_legacy,
            "pixels",
            curve="basicirstd",
        ),
        Protocol(
            "spire",
            "Each target takes the nearest free prediction at most 5 px away, one to one. Fa counts false "
            "objects per pixel.",
            _spire,
            "objects",
            match_points=match_points,
            curve="basicirstd",
            sweep=sweep,
        ),
        Protocol(
            "opdc",
            "Minimum-distance assignment keeps pairs with IoU of at least 0.5, a second one of the rest "
            "keeps pairs nearer than 3 px. hIoU is the summed IoU of the pairs per object, found, missed or "
            "false.",
            _opdc,
            "pixels",
            curve="basicirstd",
            numbers=("hiou",),
        ),
    )
}


def protocol_names() -> list[str]:
    """The names of the built-in protocols, then those of other packages."""
    return list(dict.fromkeys([*PROTOCOLS, *extension_names(ENTRY_POINTS)]))


def get_protocol(name: str) -> Protocol:
    """Look up a protocol by name, by an entry point of another package, or as `module:object`.

    Raises
    ------
    ConfigError
        If there is no such protocol, or it is not a `Protocol`.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    found = load_extension(name, ENTRY_POINTS)
    if found is None:
        near = nearest(name, protocol_names())
        hint = f"; did you mean '{near}'?" if near else ""
        raise ConfigError(f"unknown protocol '{name}'{hint}; known: {', '.join(protocol_names())}")
    if not isinstance(found, Protocol):
        raise ConfigError(f"protocol '{name}' is {found!r}, not a dimpoint.metrics.protocols.Protocol")
    if PROTOCOLS.setdefault(found.name, found) != found:  # registers it under its own name
        raise ConfigError(f"protocol '{name}' has the name '{found.name}' of another protocol")
    return found
