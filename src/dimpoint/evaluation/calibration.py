"""Scores that mean something, and thresholds for a false-alarm rate.

`isotonic_knots` turns scores into the part of the detections of such a score that are targets (isotonic
regression by pool-adjacent-violators). `threshold_for_rate` finds the threshold at which footage without
targets keeps a false-alarm rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dimpoint.errors import ConfigError, DataError

SURE = 0.9  # a detection of a higher score looks like a target
_SURE_FRAMES = 0.01  # part of the frames that may hold one in footage without targets
_STEP = 1e-4  # the least rise between two knots
_LEAST_OF_A_KNOT = 50  # detections

Knots = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class FalseAlarms:
    """What a threshold lets through in footage without targets."""

    threshold: float
    frames: int
    false: int

    @property
    def per_frame(self) -> float:
        return self.false / self.frames


def threshold_for_rate(
    scores: Sequence[npt.NDArray[np.floating]], per_frame: float, *, insist: bool = False
) -> FalseAlarms:
    """The lowest threshold with at most `per_frame` detections a frame above it.

    scores: of each frame's detections, in footage without targets. per_frame: above 0. insist: also where
    the scores look as if the footage held targets.
    Raises ConfigError for a rate that is not above 0, DataError for footage without frames, too short for
    the rate (the one that it supports is named), or that seems to hold targets.
    """
    if not 0 < per_frame < float("inf"):
        raise ConfigError(f"a false-alarm rate is a number above 0, got {per_frame:g}")
    frames = len(scores)
    if not frames:
        raise DataError("no frame: there is nothing to set a threshold on")
    allowed = int(per_frame * frames + 1e-9)
    if allowed < 1:
        raise DataError(
            f"{frames} frames are too few for {per_frame:.3g} false alarms a frame: they support "
            f"{1 / frames:.3g} or more; give at least {int(np.ceil(1 / per_frame - 1e-9))} frames"
        )
    sure = sum(bool((np.asarray(each) > SURE).any()) for each in scores)
    if sure > _SURE_FRAMES * frames and not insist:
        raise DataError(
            f"{sure} of {frames} frames hold detections with scores above {SURE:g}: the footage looks as if "
            "it had targets in it, which would be taken for false alarms; give other footage, or insist if "
            "you are sure that there are none (--insist)"
        )
    falling = np.sort(np.concatenate([np.zeros(0), *scores]))[::-1]
    threshold = float(falling[allowed]) if len(falling) > allowed else 0.0
    threshold = min(float(np.ceil(threshold * 1000 - 1e-6)) / 1000, 1.0)
    return FalseAlarms(threshold, frames, int((falling > threshold).sum()))


def isotonic_knots(scores: npt.NDArray[np.floating], right: npt.NDArray[np.bool_]) -> Knots:
    """Knots (score, part that is right) of a rising, piecewise linear map through 0 and 1.

    scores: (N,) in 0..1 of detections. right: (N,), whether each is a target. Raises DataError without
    detections of both kinds.
    """
    if not right.any() or right.all():
        raise DataError("a calibration needs detections that are targets and detections that are none")
    order = np.argsort(scores, kind="stable")
    blocks: list[list[float]] = []  # sum of scores, right ones, detections
    for first in range(0, len(order), _LEAST_OF_A_KNOT):
        part = order[first : first + _LEAST_OF_A_KNOT]
        blocks.append([float(scores[part].sum()), float(right[part].sum()), float(len(part))])
        while len(blocks) > 1 and blocks[-2][1] / blocks[-2][2] >= blocks[-1][1] / blocks[-1][2]:
            last = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
    knots = [(0.0, 0.0)]
    for total, hits, count in blocks:
        score, share = total / count, hits / count
        if score >= knots[-1][0] + _STEP and score <= 1 - _STEP:
            knots.append((round(score, 5), round(min(max(share, knots[-1][1] + _STEP), 1 - _STEP), 5)))
    return (*knots, (1.0, 1.0))
