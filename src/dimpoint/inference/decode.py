"""Decoding: response or probability map -> peaks with position, score and, for probability maps, area.

Three rules (`DecodeRule.kind`), which all keep only values strictly above the threshold:

- `published`: SPIRE's rule (arXiv 2604.05363), with its authors' values in `PUBLISHED`.
- `peaks`: our rule for response maps. Every regional maximum counts, without a relative-height rule or a cap,
  so that a dim target beside a bright one is kept; positions are sub-pixel. The score is the height of the
  peak or, with `score_sigma`, a Gaussian mean of the response around it, because a network that is certain of
  a target but not of its position gives a low, broad response. A `calibration` maps scores to the fraction of
  such detections that are targets.
- `components`: for probability maps. 8-connected components at their unweighted centroid, as is usual.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.model.record import DecodeRule

_Float = npt.NDArray[np.float64]
_Index = npt.NDArray[np.int64]
_Scalar = TypeVar("_Scalar", bound=np.generic)

PUBLISHED = DecodeRule(kind="published", threshold=0.35, max_targets=8, max_height_gap=0.35)
"""SPIRE's decoding with its authors' values (arXiv 2604.05363)."""

_AROUND = np.ones((3, 3), np.uint8)
_BAND_PIXELS = 1 << 20  # maxima are found in bands of rows, which bounds the memory for a huge map
LOG_FLOOR = 1e-3  # relative to the peak; smaller neighbours are noise
LEAST_HEIGHT = 0.5  # relative to the threshold; lower peaks are skipped where `score_sigma` is set
FARTHEST = 0.75  # map pixels, largest distance of a position from its maximum


@dataclass(frozen=True)
class Peaks:
    """Peaks of a map, best first.

    Parameters
    ----------
    xy : (N, 2) float32 array
        x, y in map pixels; the centre of the top-left pixel is (0, 0).
    scores : (N,) float32 array
        In 0..1.
    areas : (N,) float32 array, optional
        Map pixels, only for `components`.
    """

    xy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    areas: npt.NDArray[np.float32] | None = None


def decode(response: npt.NDArray[np.float32], rule: DecodeRule) -> Peaks:
    """Find the peaks of a map.

    Parameters
    ----------
    response : (h, w) float32 array
        Response or probability map.
    rule : DecodeRule
        Kind, threshold and options.

    Returns
    -------
    Peaks

    Examples
    --------
    >>> import numpy as np
    >>> from dimpoint.inference.decode import decode
    >>> from dimpoint.model.record import DecodeRule
    >>> response = np.zeros((9, 9), np.float32)
    >>> response[4, 3:6] = 0.5, 0.9, 0.5
    >>> decode(response, DecodeRule(threshold=0.35)).xy
    array([[4., 4.]], dtype=float32)
    """
    if rule.calibration is not None:
        return _calibrated(response, rule)
    if rule.kind == "components":
        return _components(response, rule)
    if rule.kind == "published":
        return _published(response, rule)
    return _peaks(response, rule)


def _calibrated(response: npt.NDArray[np.float32], rule: DecodeRule) -> Peaks:
    """Peaks at the threshold that the calibration maps to the rule's; their scores are then calibrated."""
    found = decode(response, rule.uncalibrated())
    scores = rule.calibrated(found.scores).astype(np.float32)
    kept = scores > rule.threshold  # the threshold may be below the lowest knot, or affected by rounding
    return Peaks(found.xy[kept], scores[kept])


def _published(response: npt.NDArray[np.float32], rule: DecodeRule) -> Peaks:
    """3x3 maxima, best first, the relative-height rule, the cap, and a quarter pixel towards the higher
    neighbour.

    A peak differs from each kept one by at most `max_height_gap` of the larger. In descending order of height
    only the first and highest one matters.
    """
    rows, columns = _maxima(response, rule.threshold)
    heights = response[rows, columns]
    best = np.argsort(-heights, kind="stable")
    if rule.max_height_gap is not None and len(best):
        lowest = (1 - rule.max_height_gap) * heights[best[0]]
        best = best[heights[best] >= lowest]
    best = best[: rule.max_targets]
    rows, columns = rows[best], columns[best]
    patches = _patches(response, rows, columns)
    shift_x = np.sign(patches[:, 1, 2] - patches[:, 1, 0]) / 4
    shift_y = np.sign(patches[:, 2, 1] - patches[:, 0, 1]) / 4
    xy = np.stack([columns + shift_x, rows + shift_y], axis=1)
    return Peaks(xy.astype(np.float32), heights[best])


def _peaks(response: npt.NDArray[np.float32], rule: DecodeRule) -> Peaks:
    lowest = rule.threshold if rule.score_sigma is None else rule.threshold * LEAST_HEIGHT
    rows, columns = _maxima(response, lowest)
    patches = _patches(response, rows, columns)
    xy = np.stack([columns, rows], axis=1) + _offsets(patches)
    scores = response[rows, columns]
    tied = (patches == scores[:, None, None]).sum(axis=(1, 2)) > 1
    if tied.any():
        plateaus = _merge_plateaus(response.shape, rows[tied], columns[tied], patches[tied], xy[tied])
        xy = np.concatenate([xy[~tied], plateaus[0]])
        scores = np.concatenate([scores[~tied], plateaus[1]])
    if rule.score_sigma is not None:
        scores = _mean_scores(response, xy, rule.score_sigma, rule.response_sigma)
        xy, scores = xy[scores > rule.threshold], scores[scores > rule.threshold]
    best = np.lexsort((xy[:, 0], xy[:, 1], -scores))
    xy, scores = xy[best], scores[best]
    kept = _suppress(xy, rule.min_distance)[: rule.max_targets]
    return Peaks(xy[kept].astype(np.float32), scores[kept])


def _mean_scores(
    response: npt.NDArray[np.float32], xy: _Float, sigma: float, response_sigma: float
) -> npt.NDArray[np.float32]:
    """Gaussian means of the response around (N, 2) positions, over that of an ideal response; at most 1.

    The mean of a Gaussian of height 1 and sigma r, weighted by one of sigma s, is r^2 / (r^2 + s^2).
    """
    reach = math.ceil(2.5 * sigma)
    profile = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    profile /= profile.sum()
    columns, rows = xy.round().astype(np.int64).T
    means = np.einsum("nyx,y,x->n", _patches(response, rows, columns, reach), profile, profile)
    ideal = response_sigma**2 / (response_sigma**2 + sigma**2)
    scores: npt.NDArray[np.float32] = np.minimum(means / ideal, 1).astype(np.float32)
    return scores


def _components(response: npt.NDArray[np.float32], rule: DecodeRule) -> Peaks:
    binary = (response > rule.threshold).view(np.uint8)
    if not binary.any():
        none = np.zeros(0, np.float32)
        return Peaks(none.reshape(0, 2), none, none)
    _, labels, stats, centres = cv2.connectedComponentsWithStats(binary, connectivity=8)
    rows, columns = np.nonzero(binary)
    label: _Index = np.asarray(labels)[rows, columns].astype(np.int64)
    scores = np.zeros(len(stats), np.float32)
    np.maximum.at(scores, label, response[rows, columns])
    best = 1 + np.argsort(-scores[1:], kind="stable")[: rule.max_targets]  # 0 is the background
    areas = stats[best, cv2.CC_STAT_AREA].astype(np.float32)
    return Peaks(centres[best].astype(np.float32), scores[best], areas)


def _maxima(response: npt.NDArray[np.float32], threshold: float) -> tuple[_Index, _Index]:
    """Rows and columns, in raster order, of the pixels above the threshold that equal their 3x3 maximum."""
    found = [np.zeros((2, 0), np.int64)]
    for top, bottom in _bands(*response.shape):
        above = max(top - 1, 0)
        part = response[above : bottom + 1]
        is_maximum = part > threshold
        if not is_maximum.any():
            continue
        is_maximum &= part == cv2.dilate(part, _AROUND)
        # Flat indices: numpy's nonzero of a plane takes several times as long.
        places = np.flatnonzero(is_maximum[top - above : bottom - above])
        rows, columns = np.divmod(places, response.shape[1])
        found.append(np.stack([rows + top, columns]))
    rows, columns = np.concatenate(found, axis=1)
    return rows, columns


def _bands(height: int, width: int) -> Iterator[tuple[int, int]]:
    if height and width:
        step = max(1, _BAND_PIXELS // width)
        for top in range(0, height, step):
            yield top, min(top + step, height)


def _patches(
    values: npt.NDArray[_Scalar], rows: _Index, columns: _Index, reach: int = 1
) -> npt.NDArray[_Scalar]:
    """The neighbourhoods of N pixels, (N, 2 * reach + 1, 2 * reach + 1), mirrored at the borders."""
    y, x = _around(rows, values.shape[0], reach), _around(columns, values.shape[1], reach)
    return values[y[:, :, None], x[:, None, :]]


def _around(index: _Index, size: int, reach: int) -> _Index:
    """Index - reach .. index + reach, mirrored at 0 and size - 1: (N,) -> (N, 2 * reach + 1)."""
    near = np.abs(index[:, None] + np.arange(-reach, reach + 1))
    mirrored: _Index = size - 1 - np.abs(size - 1 - near)
    return mirrored.clip(0)


def _offsets(patches: npt.NDArray[np.float32]) -> _Float:
    """Sub-pixel centres of (N, 3, 3) neighbourhoods: (N, 2) x, y from the middle pixel.

    The sums of columns and rows are profiles of the peak in x and y; a parabola through the logarithm of a
    profile is exact for a Gaussian.
    """
    floor = np.maximum(LOG_FLOOR * patches[:, 1, 1], np.finfo(np.float32).tiny)
    positive = np.maximum(patches, floor[:, None, None]).astype(np.float64)
    offsets = [_vertex(positive.sum(axis=axis)) for axis in (1, 2)]
    return np.stack(offsets, axis=1).clip(-FARTHEST, FARTHEST)


def _vertex(profile: _Float) -> _Float:
    """The vertex of a parabola through the logarithms of (N, 3) values; the centroid if it opens upwards."""
    left, middle, right = np.log(profile).T
    curvature = left - 2 * middle + right
    bends_down = curvature < -1e-9
    centroid = (profile[:, 2] - profile[:, 0]) / profile.sum(axis=1)
    vertex = (left - right) / (2 * np.where(bends_down, curvature, -1))
    offset: _Float = np.where(bends_down, vertex, centroid)
    return offset


def _merge_plateaus(
    shape: tuple[int, ...],
    rows: _Index,
    columns: _Index,
    patches: npt.NDArray[np.float32],
    xy: _Float,
) -> tuple[_Float, npt.NDArray[np.float32]]:
    """One position and score for each plateau of equal maxima.

    The flat part of a slope is not a maximum: one of its pixels has an equal neighbour that is not a maximum.
    """
    member = np.zeros(shape, np.bool_)
    member[rows, columns] = True
    _, labels = cv2.connectedComponents(member.view(np.uint8), connectivity=8)
    label = labels[rows, columns]
    height = patches[:, 1, 1]
    equal = patches == height[:, None, None]
    on_slope = (equal & ~_patches(member, rows, columns)).any(axis=(1, 2))
    size = np.bincount(label)
    top = size > 0
    top[label[on_slope]] = False
    mean = [np.bincount(label, weights=axis)[top] / size[top] for axis in xy.T]
    scores = np.zeros(len(size), np.float32)
    scores[label] = height
    return np.stack(mean, axis=1), scores[top]


def _suppress(xy: _Float, min_distance: float) -> _Index:
    """Greedy non-maximum suppression of (N, 2) positions, best first: the indices of those that are kept.

    A position is kept unless a better kept one is nearer than `min_distance`. Only kept positions search
    their neighbourhood, so the cost does not grow with the square of N.
    """
    from scipy.spatial import KDTree

    if len(xy) < 2:
        return np.arange(len(xy))
    radius = np.nextafter(min_distance, 0)
    tree = KDTree(xy)
    distances = np.asarray(tree.query(xy, k=2, distance_upper_bound=min_distance)[0])
    stays = np.ones(len(xy), np.bool_)
    for index in np.flatnonzero(np.isfinite(distances[:, 1])):
        if stays[index]:
            near = np.asarray(tree.query_ball_point(xy[index], radius))
            stays[near[near > index]] = False
    return np.flatnonzero(stays)
