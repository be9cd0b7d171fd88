"""The threshold of a trained model, the confidence interval of its score, and a comparison with its parent.

With few held-out targets, the threshold of the best F1 overfits them. It is then taken from the model that
training started from, or cross-validated over the held-out frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dimpoint.inference.backends import TorchBackend
from dimpoint.inference.detector import Detector
from dimpoint.metrics.bootstrap import Interval, difference, interval
from dimpoint.metrics.points import PointCounts, ScoredFrame, match_points, sweep
from dimpoint.model.checkpoint import load_model
from dimpoint.model.files import sha256_of
from dimpoint.model.record import DecodeRule, ModelMeta
from dimpoint.networks import Network
from dimpoint.text import counted
from dimpoint.training.frames import LabelledFrame
from dimpoint.training.recipe import Recipe
from dimpoint.training.validation import LOWEST_THRESHOLD, describe, detect_in, threshold_at

FEW_TARGETS = 50  # with fewer held-out targets the best threshold on them is unreliable
_FOLDS = 10


@dataclass(frozen=True)
class HeldOut:
    """Detections in labelled frames above a low threshold.

    Parameters
    ----------
    frames : tuple of ScoredFrame
        Detections and targets.
    shapes : tuple of (int, int)
        Height and width of each frame.
    """

    frames: tuple[ScoredFrame, ...]
    shapes: tuple[tuple[int, int], ...]

    @property
    def targets(self) -> int:
        return sum(len(np.asarray(frame.truth_xy)) for frame in self.frames)

    def counts(self, threshold: float) -> list[PointCounts]:
        """Counts of each frame by the protocol `spire`, of the detections with a score above `threshold`."""
        return [_counts(*pair, threshold) for pair in zip(self.frames, self.shapes, strict=True)]


@dataclass(frozen=True)
class Choice:
    """A chosen threshold.

    Parameters
    ----------
    threshold : float
        Detection threshold, 0..1.
    origin : str
        How it was chosen.
    counts : tuple of PointCounts
        Counts of each held-out frame at that threshold.
    """

    threshold: float
    origin: str
    counts: tuple[PointCounts, ...]

    @property
    def f1(self) -> Interval:
        """F1 with its 95 % interval over frames."""
        return interval(self.counts, lambda counts: counts.f1)

    @property
    def targets(self) -> int:
        total = PointCounts.total(self.counts)
        return total.tp + total.fn

    def record(self) -> dict[str, Any]:
        """The fields of a model record."""
        total, f1 = PointCounts.total(self.counts), self.f1
        numbers = {
            "f1": f1.value,
            "f1_low": f1.low,
            "f1_high": f1.high,
            "precision": total.precision,
            "recall": total.recall,
            "false_per_frame": total.false_per_frame,
            "distance": total.distance_mean,
        }
        defined = {name: float(value) for name, value in numbers.items() if value == value}
        return defined | {
            "threshold": self.threshold,
            "threshold_from": self.origin,
            "targets": self.targets,
            "frames": len(self.counts),
        }


def detect_held_out(detector: Detector, frames: Sequence[LabelledFrame]) -> HeldOut:
    """Detect targets in held-out frames; detections in ignore regions are left out.

    Parameters
    ----------
    detector : Detector
        With a low threshold.
    frames : sequence of LabelledFrame
        The frames.

    Returns
    -------
    HeldOut
    """
    found = [detect_in(frame, detector) for frame in frames]
    return HeldOut(tuple(scored for scored, _ in found), tuple(shape for _, shape in found))


def choose(found: HeldOut, fallback: float, inherited: tuple[float, str] | None) -> Choice | None:
    """Choose the threshold of a model from its detections in held-out frames.

    Parameters
    ----------
    found : HeldOut
        The detections.
    fallback : float
        Threshold for a model that finds nothing.
    inherited : tuple of (float, str) or None
        Threshold and name of the model that training started from.

    Returns
    -------
    Choice or None
        None with `FEW_TARGETS` or more targets, where the threshold of the best F1 is reliable.
    """
    if found.targets >= FEW_TARGETS:
        return None
    few = f"{found.targets} held-out targets are too few to choose one"
    if inherited is not None:
        threshold, name = inherited
        return Choice(threshold, f"as in {name}: {few}", tuple(found.counts(threshold)))
    folds = min(_FOLDS, len(found.frames))
    counts: dict[int, PointCounts] = {}
    for fold in range(folds):
        own = range(fold, len(found.frames), folds)
        others = [frame for number, frame in enumerate(found.frames) if number % folds != fold]
        threshold = _middle(others, fallback)
        for number in own:
            counts[number] = _counts(found.frames[number], found.shapes[number], threshold)
    origin = f"cross-validated over {folds} parts of the held-out frames"
    return Choice(_middle(found.frames, fallback), origin, tuple(counts[key] for key in sorted(counts)))


def text(f1: Interval) -> str:
    """A 95 % interval as text, such as ` (95 % 0.812 to 0.943)`; empty where it is undefined."""
    return f" (95 % {f1.low:.3f} to {f1.high:.3f})" if f1.low == f1.low else ""


def _middle(frames: Sequence[ScoredFrame], fallback: float) -> float:
    """Midway between the lowest score that the best F1 keeps and the highest score that it rejects."""
    curve = sweep(frames)
    if not len(curve.thresholds) or not curve.truths:
        return fallback
    return threshold_at(curve, curve.best())


@dataclass(frozen=True)
class Trained:
    """A network after training.

    Parameters
    ----------
    network : Network
        With the selected weights.
    meta : ModelMeta
        Its record.
    recipe : Recipe
        The recipe of the run.
    found : mapping
        Scores of its last validation.
    steps : int
        Training steps of these weights.
    """

    network: Network
    meta: ModelMeta
    recipe: Recipe
    found: Mapping[str, Any]
    steps: int

    @property
    def on_masks(self) -> bool:
        return self.recipe.target.kind == "mask"

    @property
    def chosen(self) -> bool:
        """Whether the held-out frames selected the checkpoint."""
        return not self.recipe.refit and self.recipe.checkpoint == "best"


def assess(
    trained: Trained, held: Sequence[LabelledFrame], parent: Mapping[str, Any] | None
) -> tuple[ModelMeta, list[str]]:
    """Choose the threshold of a trained network and score it.

    Parameters
    ----------
    trained : Trained
        The network.
    held : sequence of LabelledFrame
        Held-out frames.
    parent : mapping or None
        What the run's record holds about the model that training started from.

    Returns
    -------
    meta : ModelMeta
        The record with threshold and scores.
    lines : list of str
        Score, warnings, and the comparison with the parent.
    """
    recipe, meta = trained.recipe, trained.meta
    known = dict(trained.found)
    fixed = recipe.refit or trained.on_masks or "threshold" not in known
    threshold = meta.decode.threshold if fixed else known["threshold"]
    first = describe(known, refit=recipe.refit)
    if recipe.refit or not held:
        return _with(meta, threshold, {"validation": known}), [first]
    lowest = threshold if trained.on_masks else LOWEST_THRESHOLD
    found = detect_held_out(Detector(TorchBackend(trained.network, meta), threshold=lowest), held)
    inherited = None
    if parent is not None:
        rule = DecodeRule(**parent["decode"]).uncalibrated()
        if rule.at(threshold) == meta.decode.at(threshold):
            inherited = rule.threshold, parent["name"]
    choice = None if trained.on_masks else choose(found, meta.decode.threshold, inherited)
    if choice is None:
        counts = tuple(found.counts(0.0 if trained.on_masks else threshold))
        choice = Choice(
            threshold, "the recipe's" if fixed else "of the best F1 on the held-out frames", counts
        )
        first += (
            f", objects F1 {choice.f1.value:.4f}{text(choice.f1)}" if trained.on_masks else text(choice.f1)
        )
    else:
        first = f"validation F1 {choice.f1.value:.4f}{text(choice.f1)} at threshold {choice.threshold:.3f}, "
        first += choice.origin
    record = choice.record()
    known = {**record, **known} if trained.on_masks else {**known, **record}
    scores: dict[str, Any] = {"validation": known}
    lines = [first, *warnings_of(choice.counts, trained)]
    if parent is not None and (old := _old_counts(parent, held)) is not None:
        scores["parent"], more = compare(choice.counts, old, parent["name"], trained.chosen)
        lines += more
    return _with(meta, choice.threshold, scores), lines


def _with(meta: ModelMeta, threshold: float, scores: dict[str, Any]) -> ModelMeta:
    return meta.model_copy(update={"decode": meta.decode.at(threshold), "scores": scores})


def _old_counts(parent: Mapping[str, Any], held: Sequence[LabelledFrame]) -> list[PointCounts] | None:
    """Counts of the parent at its own threshold; None if its file is missing or has changed."""
    file = Path(parent["file"])
    if not file.is_file() or sha256_of(file) != parent["sha256"]:
        return None
    network, meta = load_model(file)
    return detect_held_out(Detector(TorchBackend(network, meta)), held).counts(0.0)


def _counts(frame: ScoredFrame, shape: tuple[int, int], threshold: float) -> PointCounts:
    scores = np.asarray(frame.scores)
    kept = scores > threshold
    return PointCounts.of_frame(
        match_points(np.asarray(frame.pred_xy)[kept], scores[kept], frame.truth_xy), shape
    )


def warnings_of(counts: Sequence[PointCounts], trained: Trained) -> list[str]:
    """Warnings about a run: no target found, or a score from few targets.

    Parameters
    ----------
    counts : sequence of PointCounts
        Of each held-out frame.
    trained : Trained
        The network.
    """
    total = PointCounts.total(counts)
    targets = total.tp + total.fn
    if targets and not total.tp:
        stalls = "the loss soft-iou alone, which can stall: --set 'loss.kind=[mask-focal, soft-iou]'; "
        return [
            f"warning: the model finds none of the {targets} held-out targets after {trained.steps} steps. "
            f"Usual causes: {stalls if trained.recipe.loss.kinds == ('soft-iou',) else ''}training "
            "too short (--epochs, --minutes); labels that do not fit the frames (dimpoint data check); "
            "targets darker than their surroundings; too high a learning rate (--set optimizer.lr=1e-3)"
        ]
    if targets < FEW_TARGETS:
        return [
            f"warning: this score is based on {counted(targets, 'target')} in "
            f"{counted(len(counts), 'held-out frame')} and depends on the choice of "
            "frames; label more frames for a reliable score"
        ]
    return []


def compare(
    new: Sequence[PointCounts], old: Sequence[PointCounts], parent: str, chosen_here: bool
) -> tuple[dict[str, Any], list[str]]:
    """Compare a model with its parent on the same held-out frames.

    Parameters
    ----------
    new, old : sequence of PointCounts
        Counts of each frame.
    parent : str
        Name of the parent.
    chosen_here : bool
        Whether the new checkpoint was selected on these frames, which favours it.

    Returns
    -------
    record : dict
        Difference of F1 with its 95 % interval, and `verdict`: `new`, `old` or `open`.
    lines : list of str
        The same as text.
    """
    apart = difference(new, old, lambda counts: counts.f1)
    first, second = PointCounts.total(new), PointCounts.total(old)
    found = [f"F1 {total.f1:.4f} ({total.tp} found, {total.fp} false)" for total in (first, second)]
    between = f", 95 % {apart.low:+.4f} to {apart.high:+.4f}" if apart.low == apart.low else ""
    lines = [
        f"on the same {counted(len(new), 'held-out frame')} with {counted(first.tp + first.fn, 'target')}: "
        f"{found[0]}, {parent} {found[1]}; difference {apart.value:+.4f}{between}"
    ]
    if chosen_here:
        lines.append("the checkpoint was chosen on these frames, which favours the new model")
    if apart.low > 0:
        lines.append(f"the new model is better than {parent} on these frames")
        verdict = "new"
    elif apart.value <= 0 or apart.value != apart.value:
        lines.append(f"keep {parent}: the new model is not better on these frames")
        verdict = "old"
    else:
        why = "the interval contains 0" if between else "too few frames for an interval"
        lines.append(f"no significant gain, {why}: keep {parent} unless a test on other frames shows one")
        verdict = "open"
    record = {"parent": parent, "difference": apart.value, "low": apart.low, "high": apart.high}
    defined = {key: value for key, value in record.items() if value == value}
    return defined | {"verdict": verdict}, lines
