"""The threshold of a trained model, how sure its score is, and whether it beats what it started from.

With few held-out targets the threshold of the best F1 fits these targets rather than the model: it is taken
from the model that the training started from, or chosen on some of the frames and scored on the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dimpoint.inference.backends import TorchBackend
from dimpoint.inference.detector import Detector
from dimpoint.metrics.bootstrap import Interval, difference, interval
from dimpoint.metrics.points import PointCounts, ScoredFrame, match_points, spared, sweep
from dimpoint.model.checkpoint import load_model
from dimpoint.model.record import DecodeRule, ModelMeta
from dimpoint.networks import Network
from dimpoint.training.frames import LabelledFrame
from dimpoint.training.recipe import Recipe
from dimpoint.training.validation import LOWEST_THRESHOLD, describe

FEW_TARGETS = 50  # with fewer the best threshold on them is not taken as it is
_FOLDS = 10


@dataclass(frozen=True)
class HeldOut:
    """What a model finds in labelled frames, down to a low threshold. shapes: (height, width) of each."""

    frames: tuple[ScoredFrame, ...]
    shapes: tuple[tuple[int, int], ...]

    @property
    def targets(self) -> int:
        return sum(len(np.asarray(frame.truth_xy)) for frame in self.frames)

    def counts(self, threshold: float) -> list[PointCounts]:
        """Of each frame, protocol `spire`; a detection counts if its score is above the threshold."""
        return [_counts(*pair, threshold) for pair in zip(self.frames, self.shapes, strict=True)]


@dataclass(frozen=True)
class Choice:
    """A threshold, where it comes from, and the counts of each held-out frame."""

    threshold: float
    origin: str
    counts: tuple[PointCounts, ...]

    @property
    def f1(self) -> Interval:
        """With its 95 % interval over frames."""
        return interval(self.counts, lambda counts: counts.f1)

    @property
    def targets(self) -> int:
        total = PointCounts.total(self.counts)
        return total.tp + total.fn

    def record(self) -> dict[str, Any]:
        """For the model's record."""
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
    """Run a detector on frames; what lies in their ignore regions is left out."""
    scored, shapes = [], []
    for frame in frames:
        counts = frame.counts()
        found = detector(counts)
        counted = ~spared(found.xy, frame.points, frame.sample.ignore)
        scored.append(ScoredFrame(found.xy[counted], found.scores[counted], frame.points))
        shapes.append((counts.shape[0], counts.shape[1]))
    return HeldOut(tuple(scored), tuple(shapes))


def choose(found: HeldOut, fallback: float, inherited: tuple[float, str] | None) -> Choice | None:
    """The threshold for a model by what it finds in held-out frames; None with many targets.

    With many the threshold of the best F1, which the checkpoint has, is right. inherited: the threshold of
    the model that the training started from, and its name. fallback: for a model that finds nothing.
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
    """For people: `(95 % 0.812 to 0.943)`; nothing where it is not defined."""
    return f" (95 % {f1.low:.3f} to {f1.high:.3f})" if f1.low == f1.low else ""


def _middle(frames: Sequence[ScoredFrame], fallback: float) -> float:
    """Midway between the lowest score that the best F1 keeps and the highest that it leaves out."""
    curve = sweep(frames)
    if not len(curve.thresholds) or not curve.truths:
        return fallback
    best = curve.best()
    below = curve.thresholds[best + 1] if best + 1 < len(curve.thresholds) else LOWEST_THRESHOLD
    return round(float(curve.thresholds[best] + below) / 2, 3)


@dataclass(frozen=True)
class Trained:
    """A network whose training ended. found: the values of its last validation; steps: it was trained for."""

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
        """Whether the held-out frames chose the checkpoint."""
        return not self.recipe.refit and self.recipe.checkpoint == "best"


def assess(
    trained: Trained, held: Sequence[LabelledFrame], parent: Mapping[str, Any] | None
) -> tuple[ModelMeta, list[str]]:
    """The record with threshold and scores, and what to say: the score, warnings, the comparison.

    parent: what the run's record says of the model that the training started from.
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
    if parent is not None and DecodeRule(**parent["decode"]).at(threshold) == meta.decode.at(threshold):
        inherited = parent["decode"]["threshold"], parent["name"]
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
    """What the model that the training started from finds at its own threshold; None if it is gone."""
    file = Path(parent["file"])
    if not file.is_file() or sha256_of(file) != parent["sha256"]:
        return None
    network, meta = load_model(file)
    return detect_held_out(Detector(TorchBackend(network, meta)), held).counts(0.0)


def sha256_of(file: Path) -> str:
    """Of the file's bytes, hex."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _counts(frame: ScoredFrame, shape: tuple[int, int], threshold: float) -> PointCounts:
    scores = np.asarray(frame.scores)
    kept = scores > threshold
    return PointCounts.of_frame(
        match_points(np.asarray(frame.pred_xy)[kept], scores[kept], frame.truth_xy), shape
    )


def warnings_of(counts: Sequence[PointCounts], trained: Trained) -> list[str]:
    """What a user must know before trusting a run: nothing found, or a score that stands on few targets."""
    total = PointCounts.total(counts)
    targets = total.tp + total.fn
    if targets and not total.tp:
        stalls = "the loss soft-iou alone, which can stall: --set 'loss.kind=[mask-focal, soft-iou]'; "
        return [
            f"warning: the model finds none of the {targets} held-out targets after {trained.steps} steps. "
            f"Usual causes: {stalls if trained.recipe.loss.kinds == ('soft-iou',) else ''}too short "
            "a training (--epochs, --minutes); labels that do not fit the frames (dimpoint data check); "
            "targets darker than their surroundings; too high a learning rate (--set optimizer.lr=1e-3)"
        ]
    if targets < FEW_TARGETS:
        return [
            f"warning: this score stands on {targets} targets in {len(counts)} held-out frames; "
            "another choice of frames gives another score, and more labelled frames a surer one"
        ]
    return []


def compare(
    new: Sequence[PointCounts], old: Sequence[PointCounts], parent: str, chosen_here: bool
) -> tuple[dict[str, Any], list[str]]:
    """A model and the one that it started from on the same held-out frames: a record, and sentences.

    chosen_here: whether the new model's checkpoint was chosen on these frames, which favours it.
    """
    apart = difference(new, old, lambda counts: counts.f1)
    first, second = PointCounts.total(new), PointCounts.total(old)
    found = [f"F1 {total.f1:.4f} ({total.tp} found, {total.fp} false)" for total in (first, second)]
    lines = [
        f"on the same {len(new)} held-out frames with {first.tp + first.fn} targets: {found[0]}, "
        f"{parent} {found[1]}; difference {apart.value:+.4f}, 95 % {apart.low:+.4f} to {apart.high:+.4f}"
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
        lines.append(
            f"no gain is shown, the interval holds 0: keep {parent} unless a test on other frames shows one"
        )
        verdict = "open"
    record = {"parent": parent, "difference": apart.value, "low": apart.low, "high": apart.high}
    defined = {key: value for key, value in record.items() if value == value}
    return defined | {"verdict": verdict}, lines
