"""Signs in the results that predictions or labels mean something else than their format says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dimpoint.datasets.coordinates import OTHER_RULES
from dimpoint.metrics.points import match_points
from dimpoint.text import counted

if TYPE_CHECKING:
    from dimpoint.evaluation.run import FrameResult

_LEAST = 5  # targets, and predictions, that a sign takes
_BY_CHANCE = 0.05  # of the targets, at most, are near a prediction of their frame by chance
_COVERED = 0.5  # of the pixels
_STRETCHED = 10  # maps
_BETWEEN = 0.05  # of the pixels; the maps of a network are nearly 0 almost everywhere
_DISTANCE = 5.0  # pixels


class Doubts:
    """Collects the signs frame by frame.

    Parameters
    ----------
    threshold : float or None
        Pixels of maps, and predictions, above it count.
    """

    def __init__(self, threshold: float | None) -> None:
        self.threshold = -np.inf if threshold is None else threshold
        self.targets = self.found = self.predicted = self.missed = self.repeated = 0
        self.matches = {
            which: dict.fromkeys((rule.text for rule in OTHER_RULES), 0)
            for which in ("predictions", "labels")
        }
        self.covered: list[float] = []
        self.full, self.between, self.highest = 0, 0.0, 0.0

    def add(self, result: FrameResult, predicted: Any) -> None:
        """Take in a frame: its result, and what was predicted, a map (H, W) or points."""
        if isinstance(predicted, np.ndarray):
            self._add_map(predicted)
        self.targets += len(result.truth_xy)
        self.found += len(result.pairs)
        self.predicted += len(result.pred_xy)
        self.repeated += len(result.pred_xy) - len(np.unique(result.pred_xy, axis=0))
        if len(result.pairs) or not len(result.truth_xy):
            return
        self.missed += len(result.truth_xy)
        near = len(result.pred_xy) * np.pi * _DISTANCE**2 / (result.shape[0] * result.shape[1])
        if 0 < near <= _BY_CHANCE:
            self._read_otherwise(result.pred_xy, result.truth_xy, result.shape)

    def notes(self) -> Iterator[str]:
        """One line for each sign."""
        if self.covered and np.mean(self.covered) > _COVERED:
            yield (
                f"the predicted maps mark {np.mean(self.covered):.0%} of the pixels as target; if they are "
                "inverted (1 - p), write p"
            )
        if self.full == len(self.covered) >= _STRETCHED and self.between > _BETWEEN * self.full:
            yield (
                f"each of the {self.full} maps reaches from 0 to the highest value, as if it was stretched "
                "on its own: one threshold then means something else in each of them"
            )
        if self.covered and max(self.covered) == 0:
            yield (
                f"no pixel of the {len(self.covered)} maps is above the threshold of {self.threshold:g}; the "
                f"highest value is {self.highest:.3g}"
            )
        if self.repeated:
            yield (
                f"{self.repeated} predictions lie exactly where another of their frame does, and count as "
                "false; write each target once"
            )
        explained = self._explained()
        if self.found == 0 and min(self.targets, self.predicted) >= _LEAST:
            yield (
                f"none of the {counted(self.targets, 'target')} is found by the "
                f"{counted(self.predicted, 'prediction')}; "
                f"{explained or 'do they belong to these frames, at this size?'}"
            )
        elif self.found and explained:
            where = "in frames in which none is found"
            yield f"{counted(self.missed, f'target is {where}', f'targets are {where}')}; {explained}"

    def _add_map(self, predicted: npt.NDArray[Any]) -> None:
        low, high = float(predicted.min()), float(predicted.max())
        self.highest = max(self.highest, high)
        self.covered.append(float((predicted > self.threshold).mean()))
        self.full += low == 0 and high > 0.99
        self.between += float(((predicted > 0.02) & (predicted < 0.98)).mean())

    def _read_otherwise(
        self, predicted: npt.NDArray[Any], truth: npt.NDArray[Any], shape: tuple[int, int]
    ) -> None:
        for rule in OTHER_RULES:
            for which, ours, theirs in (
                ("predictions", rule.to_pixels(predicted, shape), truth),
                ("labels", predicted, rule.to_pixels(truth, shape)),
            ):
                match = match_points(ours, np.ones(len(ours)), theirs, _DISTANCE)
                self.matches[which][rule.text] += len(match.pairs)

    def _explained(self) -> str:
        """The reading under which most of the missed targets are found, if that is more than half of them."""
        best, which, name = max(
            (count, which, name) for which, counts in self.matches.items() for name, count in counts.items()
        )
        return f"{best} are, if {which} are read {name}" if best > max(self.missed / 2, _LEAST - 1) else ""
