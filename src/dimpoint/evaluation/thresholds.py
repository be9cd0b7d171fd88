"""Thresholds chosen for a goal (F1, recall or false alarms), on labelled frames or on target-free footage."""

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
from dimpoint.text import counted


@dataclass(frozen=True)
class ChosenThreshold:
    """A threshold chosen for a goal, with its results on the frames that it was chosen on.

    Parameters
    ----------
    goal : {"f1", "pd", "fa", "false-alarms-per-frame"}
        What the threshold was chosen for.
    value : float
        The limit that the goal sets; 0 for "f1".
    threshold : float
        Scores above it count.
    protocol : str
        The protocol whose curve was used.
    chosen_on : str
        Description of the frames.
    frames, targets : int
        Numbers of frames and targets there.
    shared : int
        How many of these frames are evaluated as well.
    recall, precision, f1, false_per_frame, fa : float
        Results on these frames.
    fa_unit : str
        What `fa` counts per pixel: "false objects" or "false pixels".
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
        """Description of how the threshold was chosen."""
        return f"chosen for {_goal_text(self)} on {self.chosen_on}"

    def sentences(self) -> list[str]:
        """The threshold, its goal and its results, with a warning if it was chosen on evaluated frames."""
        lines = [
            f"Threshold {threshold_digits(self.threshold)} for {_goal_text(self)}, "
            f"chosen on {self.chosen_on} ({counted(self.frames, 'frame')}, "
            f"{counted(self.targets, 'target')}), where it gives recall {self.recall:.3f}, "
            f"precision {self.precision:.3f}, {self.false_per_frame:.4g} false objects per frame "
            f"and Fa {self.fa:.2e} {self.fa_unit} per pixel (protocol {self.protocol})."
        ]
        if self.shared:
            lines.append(
                f"WARNING: {self.shared} of these {self.frames} frames are evaluated as well, so the results "
                "are better than on new data; choose the threshold on other frames with --calibrate-split or "
                "--calibrate."
            )
        return lines

    def to_record(self) -> dict[str, Any]:
        """A JSON-compatible dict, with null for undefined numbers; model files store it too."""
        record: dict[str, Any] = without_nan(asdict(self))
        return record


def _goal_text(chosen: ChosenThreshold) -> str:
    texts = {
        "false-alarms-per-frame": f"at most {chosen.value:g} false objects per frame",
        "fa": f"Fa of at most {chosen.value:g} {chosen.fa_unit} per pixel",
        "pd": f"Pd of at least {chosen.value:g}",
        "f1": "the best F1",
    }
    return texts[chosen.goal]


def choose_threshold(
    subject: Subject,
    goal: Goal,
    value: float,
    *,
    chosen_on: str,
    evaluated: Sequence[TruthFrame],
    progress: Callable[[], None] = lambda: None,
    memory: Memory | None = None,
) -> ChosenThreshold:
    """Choose the threshold that meets a goal on the frames of a subject.

    Points use the curve of protocol `spire`, maps that of `basicirstd`.

    Parameters
    ----------
    subject : Subject
        Model or predictions, and the labelled frames to choose on.
    goal : {"f1", "pd", "fa", "false-alarms-per-frame"}
        See `Curve.choose`.
    value : float
        The recall, Fa or number of false alarms per frame; not used for "f1".
    chosen_on : str
        Description of the frames, for the report.
    evaluated : sequence of TruthFrame
        The frames that will be evaluated, to count those that are used for both.
    progress : callable, optional
        Called after each frame.
    memory : Memory, optional
        Keeps the predictions, so that evaluating the same frames does not compute them again.

    Returns
    -------
    ChosenThreshold

    Raises
    ------
    ConfigError
        If `value` is out of range.
    DataError
        If a frame or prediction is wrong, or no threshold reaches the recall.

    Examples
    --------
    >>> from pathlib import Path
    >>> from dimpoint.evaluation.subject import Data, open_model
    >>> from dimpoint.evaluation.thresholds import choose_threshold
    >>> subject = open_model("spire-lite", Data((Path("examples/scenes"),), split="train"))
    >>> chosen = choose_threshold(subject, "pd", 0.5, chosen_on="the training split", evaluated=[])
    >>> chosen.recall >= 0.5, chosen.protocol
    (True, 'spire')
    """
    protocol = "spire" if counts_points(subject.predictor, subject.frames) else "basicirstd"
    curve = evaluate(subject.predictor, subject.frames, [protocol], progress, memory).pooled.curve
    row = curve.choose(goal, value)
    judged = {frame.path.resolve() for frame in evaluated}
    recall, precision, f1, rate, fa = (
        float(each[row])
        for each in (curve.recall, curve.precision, curve.f1, curve.false_per_frame, curve.fa)
    )
    return ChosenThreshold(
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


def apply_threshold(subject: Subject, chosen: ChosenThreshold) -> None:
    """Evaluate the subject at the chosen threshold from now on."""
    subject.predictor.threshold = chosen.threshold
    subject.predictor.threshold_origin = chosen.origin


def store_threshold(model: Path, out: Path, chosen: ChosenThreshold) -> None:
    """Write a copy of an ONNX model whose threshold is the chosen one; the network is unchanged.

    Parameters
    ----------
    model : Path
        The .onnx file.
    out : Path
        The .onnx file to write, which may be `model` itself. After an error it is unchanged.
    chosen : ChosenThreshold
        Stored in the model's record beside its scores.

    Raises
    ------
    ConfigError
        If `out` does not end in .onnx.
    ModelFileError
        If the model cannot be read.
    DimpointError
        If the file cannot be written.
    """
    check_store(out)
    meta = read_meta(model)
    rule = meta.decode.model_copy(update={"threshold": chosen.threshold})
    scores = {**meta.scores, "operating_point": chosen.to_record()}
    write_with_record(meta.model_copy(update={"decode": rule, "scores": scores}), model, out)


def check_store(out: Path) -> None:
    """Raise ConfigError if `store_threshold` would refuse this name."""
    if out.suffix.lower() != ".onnx":
        raise ConfigError(f"--store {out}: the file name must end in .onnx")


SURE = 0.9  # a detection with a higher score is probably a target
_SURE_FRAMES = 0.01  # fraction of target-free frames that may hold such a detection
_STEP = 1e-4  # smallest rise between two knots
_LEAST_OF_A_KNOT = 50  # detections

Knots = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class FalseAlarms:
    """False alarms at a threshold in footage without targets.

    Parameters
    ----------
    threshold : float
        Scores above it are false alarms.
    frames, false : int
        Numbers of frames and of false alarms.
    """

    threshold: float
    frames: int
    false: int

    @property
    def per_frame(self) -> float:
        """False alarms per frame."""
        return self.false / self.frames


def threshold_for_rate(
    scores: Sequence[npt.NDArray[np.floating]], per_frame: float, *, insist: bool = False
) -> FalseAlarms:
    """The lowest threshold that gives at most `per_frame` detections per frame.

    Parameters
    ----------
    scores : sequence of (N,) float
        Scores of the detections in each frame of footage without targets, 0..1.
    per_frame : float
        False alarms per frame, above 0.
    insist : bool, default False
        Accept footage whose scores suggest that it contains targets.

    Returns
    -------
    FalseAlarms

    Raises
    ------
    ConfigError
        If the rate is not above 0.
    DataError
        If there are no frames, too few for the rate, no threshold below 1 keeps to it, or the footage seems
        to contain targets.

    Examples
    --------
    >>> import numpy as np
    >>> from dimpoint.evaluation.thresholds import threshold_for_rate
    >>> threshold_for_rate([np.array([0.5]), np.array([0.3]), np.array([]), np.array([0.2])], 0.25)
    FalseAlarms(threshold=0.3, frames=4, false=1)
    """
    if not 0 < per_frame < float("inf"):
        raise ConfigError(f"the false-alarm rate must be above 0, got {per_frame:g}")
    frames = len(scores)
    if not frames:
        raise DataError("no frames to choose a threshold on")
    allowed = int(per_frame * frames + 1e-9)
    if allowed < 1:
        raise DataError(
            f"{counted(frames, 'frame is', 'frames are')} too few for {per_frame:.3g} false alarms per frame "
            f"(possible: {1 / frames:.3g} or more); give at least {int(np.ceil(1 / per_frame - 1e-9))} frames"
        )
    sure = sum(bool((np.asarray(each) > SURE).any()) for each in scores)
    if sure > _SURE_FRAMES * frames and not insist:
        raise DataError(
            f"{sure} of {frames} frames have detections with scores above {SURE:g}: the footage seems to "
            "contain targets, which would count as false alarms; give other footage, or add --insist if "
            "there are none"
        )
    falling = np.sort(np.concatenate([np.zeros(0), *scores]))[::-1]
    threshold = float(falling[allowed]) if len(falling) > allowed else 0.0
    threshold = float(np.ceil(threshold * 1000 - 1e-6)) / 1000
    if threshold >= 1:
        raise DataError(
            f"no threshold below 1 gives {allowed} or fewer false alarms in {counted(frames, 'frame')}: too "
            "many detections have the highest scores, and the model would find nothing; allow a higher rate"
        )
    return FalseAlarms(threshold, frames, int((falling > threshold).sum()))


def isotonic_knots(scores: npt.NDArray[np.floating], right: npt.NDArray[np.bool_]) -> Knots:
    """Isotonic calibration: knots of a rising, piecewise linear map from score to precision.

    Parameters
    ----------
    scores : (N,) float
        Scores of detections, 0..1.
    right : (N,) bool
        Whether each detection is a target.

    Returns
    -------
    tuple of (score, precision)
        From (0, 0) to (1, 1).

    Raises
    ------
    DataError
        Unless there are both targets and false detections.

    Examples
    --------
    >>> import numpy as np
    >>> from dimpoint.evaluation.thresholds import isotonic_knots
    >>> scores = np.repeat([0.2, 0.8], 100)
    >>> isotonic_knots(scores, np.arange(200) % 100 < np.repeat([10, 90], 100))[1:-1]
    ((0.2, 0.1), (0.8, 0.9))
    """
    if not right.any() or right.all():
        raise DataError("calibration needs both true and false detections")
    order = np.argsort(scores, kind="stable")
    blocks: list[list[float]] = []  # sum of scores, true detections, detections
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
