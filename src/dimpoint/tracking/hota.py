"""HOTA: how well points are detected and joined, at once, over localisation thresholds.

Luiten et al. 2021, https://arxiv.org/abs/2009.07736. The similarity of an object and a track's point is
max(0, 1 - distance / reach), as TrackEval has it for positions; alpha runs from 0.05 to 0.95 in steps of
0.05. At each alpha DetA = TP / (TP + FN + FP), AssA is the mean over true positives of
TPA / (TPA + FNA + FPA), and HOTA = sqrt(DetA * AssA); each is then the mean over alpha.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from dimpoint.tracking.measures import Array, Pairing

ALPHAS: Array = np.arange(1, 20, dtype=np.float64) * 0.05
_TINY = float(np.finfo(float).eps)


@dataclass(frozen=True, eq=False)
class HotaCounts:
    """Counts of one clip for each alpha, (19,), which add up over clips.

    true: true positives. missed, false: the others. associated: sum over true positives of their association
    accuracy. similar: sum over true positives of their similarity.
    """

    true: Array
    missed: Array
    false: Array
    associated: Array
    similar: Array


def hota_counts(frames: Sequence[Pairing], reach: float) -> HotaCounts:
    """The counts of a clip.

    Parameters
    ----------
    frames : sequence of Pairing
        As `dimpoint.tracking.measures.pair` gives them.
    reach : float
        Distance in pixels at which the similarity is 0.

    Returns
    -------
    HotaCounts
        For the 19 values of alpha.

    Notes
    -----
    Luiten et al. 2021, https://arxiv.org/abs/2009.07736.
    """
    similarities = [np.maximum(0.0, 1.0 - frame.distances / reach) for frame in frames]
    ones, others = _numbered([frame.truth for frame in frames]), _numbered([frame.found for frame in frames])
    truth = sum(len(frame.truth) for frame in frames)
    found = sum(len(frame.found) for frame in frames)
    alignment, counts = _alignment(frames, similarities, ones, others)
    matches = np.zeros((len(ALPHAS), len(ones), len(others)))
    true, similar = np.zeros(len(ALPHAS)), np.zeros(len(ALPHAS))
    for frame, similarity in zip(frames, similarities, strict=True):
        if not similarity.size:
            continue
        rows = np.array([ones[one] for one in frame.truth])
        columns = np.array([others[one] for one in frame.found])
        at, to = linear_sum_assignment(-alignment[np.ix_(rows, columns)] * similarity)
        reached = similarity[at, to] >= ALPHAS[:, None] - _TINY
        true += reached.sum(axis=1)
        similar += (reached * similarity[at, to]).sum(axis=1)
        matches[:, rows[at], columns[to]] += reached
    union = np.maximum(1.0, counts[0][:, None] + counts[1] - matches)
    associated: Array = (matches * matches / union).sum(axis=(1, 2))
    return HotaCounts(true, truth - true, found - true, associated, similar)


def hota_numbers(totals: Mapping[str, Array]) -> dict[str, Array]:
    """HOTA, DetA, AssA and LocA, means over alpha.

    Parameters
    ----------
    totals : mapping
        The fields of `HotaCounts` by name, summed over clips: (..., 19) each.

    Returns
    -------
    dict
        "hota", "deta", "assa" and "loca": (...) each, 0..1.
    """
    true = totals["true"]
    detected = true / np.maximum(1, true + totals["missed"] + totals["false"])
    associated = totals["associated"] / np.maximum(1, true)
    similar = np.maximum(1e-10, totals["similar"]) / np.maximum(1e-10, true)
    parts = {"hota": np.sqrt(detected * associated), "deta": detected, "assa": associated, "loca": similar}
    return {key: part.mean(axis=-1) for key, part in parts.items()}


def _numbered(frames: list[list[int]]) -> dict[int, int]:
    return {one: at for at, one in enumerate(sorted({one for frame in frames for one in frame}))}


def _alignment(
    frames: Sequence[Pairing], similarities: list[Array], ones: dict[int, int], others: dict[int, int]
) -> tuple[Array, tuple[Array, Array]]:
    """How alike whole objects and whole tracks are, 0..1, and in how many frames each is."""
    shared = np.zeros((len(ones), len(others)))
    counts = np.zeros(len(ones)), np.zeros(len(others))
    for frame, similarity in zip(frames, similarities, strict=True):
        rows = [ones[one] for one in frame.truth]
        columns = [others[one] for one in frame.found]
        counts[0][rows] += 1
        counts[1][columns] += 1
        if similarity.size:
            union = similarity.sum(axis=0)[None] + similarity.sum(axis=1)[:, None] - similarity
            part = np.divide(similarity, union, out=np.zeros_like(similarity), where=union > _TINY)
            shared[np.ix_(rows, columns)] += part
    whole = counts[0][:, None] + counts[1] - shared
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0), counts
