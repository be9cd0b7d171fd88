"""Operating points: a threshold chosen for a goal on one set of frames, recorded with what it was chosen on.

`store_threshold` writes one into an ONNX model file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.errors import ConfigError, DataError
from dimpoint.evaluation.run import counts_points, evaluate
from dimpoint.evaluation.subject import Memory, Subject
from dimpoint.evaluation.summary import threshold_digits, without_nan
from dimpoint.evaluation.truth import TruthFrame
from dimpoint.metrics.curves import Goal
from dimpoint.model.onnx_file import read_meta, write_with_record


@dataclass(frozen=True)
class OperatingPoint:
    """A chosen threshold and what it gives on the frames that it was chosen on.

    chosen_on: those frames in words; shared: how many of them are evaluated as well. fa counts `fa_unit`.
    """

    goal: Goal
    value: float
    threshold: float
    protocol: str
    chosen_on: str
    frames: int
    targets: int
    shared: int
    recall: float
    precision: float
    f1: float
    false_per_frame: float
    fa: float
    fa_unit: str

    @property
    def origin(self) -> str:
        """Where the threshold comes from, in words."""
        return f"chosen for {_goal_text(self)} on {self.chosen_on}"

    def sentences(self) -> list[str]:
        """What was chosen on which frames, with a warning where these are evaluated as well."""
        lines = [
            f"Operating point for {_goal_text(self)}: threshold {threshold_digits(self.threshold)}, "
            f"chosen on {self.chosen_on} ({self.frames} frames, {self.targets} targets), where it gives "
            f"recall {self.recall:.3f}, precision {self.precision:.3f}, {self.false_per_frame:.4g} false "
            f"objects per frame and Fa {self.fa:.2e} {self.fa_unit} per pixel (protocol {self.protocol})."
        ]
        if self.shared:
            lines.append(
                f"WARNING: {self.shared} of these {self.frames} frames are evaluated as well, so the numbers "
                "are too good to be true of new data; choose on a validation split with --calibrate-split or "
                "--calibrate."
            )
        return lines

    def to_record(self) -> dict[str, Any]:
        """For JSON and the model file; what is not defined is null."""
        record: dict[str, Any] = without_nan(asdict(self))
        return record


def _goal_text(point: OperatingPoint) -> str:
    texts = {
        "false-alarms-per-frame": f"at most {point.value:g} false objects per frame",
        "fa": f"Fa of at most {point.value:g} {point.fa_unit} per pixel",
        "pd": f"Pd of at least {point.value:g}",
        "f1": "the best F1",
    }
    return texts[point.goal]


def choose_threshold(
    subject: Subject,
    goal: Goal,
    value: float,
    *,
    chosen_on: str,
    evaluated: Sequence[TruthFrame],
    progress: Callable[[], None] = lambda: None,
    memory: Memory | None = None,
) -> OperatingPoint:
    """Find the threshold that serves a goal on the subject's frames; `evaluated`: those it is judged on.

    memory: keeps the predictions for judging them.

    Points go by protocol `spire`, maps by `basicirstd`. Raises as `evaluate` and `Curve.choose` do.
    """
    protocol = "spire" if counts_points(subject.predictor, subject.frames) else "basicirstd"
    curve = evaluate(subject.predictor, subject.frames, [protocol], progress, memory).pooled.curve
    row = curve.choose(goal, value)
    judged = {frame.path.resolve() for frame in evaluated}
    recall, precision, f1, rate, fa = (
        float(each[row])
        for each in (curve.recall, curve.precision, curve.f1, curve.false_per_frame, curve.fa)
    )
    return OperatingPoint(
        goal=goal,
        value=value,
        threshold=curve.threshold(row, goal),
        protocol=protocol,
        chosen_on=chosen_on,
        frames=curve.frames,
        targets=curve.targets,
        shared=sum(frame.path.resolve() in judged for frame in subject.frames),
        recall=recall,
        precision=precision,
        f1=f1,
        false_per_frame=rate,
        fa=fa,
        fa_unit=f"false {curve.fa_unit}",
    )


def apply_point(subject: Subject, point: OperatingPoint) -> None:
    """Judge the subject at the chosen threshold from now on."""
    subject.predictor.threshold = point.threshold
    subject.predictor.threshold_origin = point.origin


def store_threshold(model: Path, out: Path, point: OperatingPoint) -> None:
    """Write `model` with the chosen threshold as its own, and the point beside its scores, to `out`.

    out may be the model itself. Raises ConfigError unless out ends in .onnx, ModelFileError for a model that
    cannot be read back, DimpointError where the file cannot be written; `out` is then as it was.
    """
    if out.suffix.lower() != ".onnx":
        raise ConfigError(f"--store {out}: the model is written as a .onnx file")
    meta = read_meta(model)
    rule = meta.decode.model_copy(update={"threshold": point.threshold})
    scores = {**meta.scores, "operating_point": point.to_record()}
    write_with_record(meta.model_copy(update={"decode": rule, "scores": scores}), model, out)


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

    Parameters
    ----------
    scores : sequence of (N,) float
        Scores of each frame's detections, in footage without targets.
    per_frame : float
        False alarms per frame, above 0.
    insist : bool, default False
        Also where the scores look as if the footage held targets.

    Raises
    ------
    ConfigError
        For a rate that is not above 0.
    DataError
        For footage without frames, too short for the rate, or that seems to hold targets.

    Examples
    --------
    >>> import numpy as np
    >>> from dimpoint.evaluation.operating import threshold_for_rate
    >>> threshold_for_rate([np.array([0.5]), np.array([0.3]), np.array([]), np.array([0.2])], 0.25)
    FalseAlarms(threshold=0.3, frames=4, false=1)
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

    Parameters
    ----------
    scores : (N,) float
        Of detections, 0..1.
    right : (N,) bool
        Whether each is a target.

    Raises
    ------
    DataError
        Without detections of both kinds.

    Examples
    --------
    >>> import numpy as np
    >>> from dimpoint.evaluation.operating import isotonic_knots
    >>> scores = np.repeat([0.2, 0.8], 100)
    >>> isotonic_knots(scores, np.arange(200) % 100 < np.repeat([10, 90], 100))[1:-1]
    ((0.2, 0.1), (0.8, 0.9))
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
