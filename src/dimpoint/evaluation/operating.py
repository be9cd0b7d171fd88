"""Operating points: a threshold that serves a goal on one set of frames, told with what it was chosen on.

`store_threshold` writes one into an ONNX model file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dimpoint.errors import ConfigError
from dimpoint.evaluation.curve import Goal
from dimpoint.evaluation.observe import Memory
from dimpoint.evaluation.run import counts_points, evaluate
from dimpoint.evaluation.subject import Subject
from dimpoint.evaluation.summary import threshold_digits, without_nan
from dimpoint.evaluation.truth import TruthFrame
from dimpoint.model.onnx_file import read_meta, stored_with


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
        """What was chosen on what; plainly, where that is the evaluated data."""
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
    stored_with(meta.model_copy(update={"decode": rule, "scores": scores}), model, out)
