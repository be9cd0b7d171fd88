"""Bring together what is evaluated and what it is held against, and say what does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dimpoint.datasets.dataset import hash_frames
from dimpoint.datasets.reading import AS_WRITTEN, Reading
from dimpoint.errors import ConfigError, DataError, ModelFileError
from dimpoint.evaluation.prediction_files import FilePredictor
from dimpoint.evaluation.predictions import ModelPredictor, Predictor
from dimpoint.evaluation.truth import TruthFrame, open_truth
from dimpoint.inference.detector import Detector
from dimpoint.model.files import resolve_model
from dimpoint.model.record import TOLD

_LOOKED_AT = 40  # evaluated frames whose pixels are held against those that the model was trained on


@dataclass(frozen=True, eq=False)
class Subject:
    """A predictor, the frames that it is evaluated on, and notes on what was left aside."""

    predictor: Predictor
    frames: list[TruthFrame]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Data:
    """The data sets of an evaluation and which split of them; allow_missing: score a subset, and say so."""

    roots: tuple[Path, ...]
    split: str | None = None
    allow_missing: bool = False
    reading: Reading = AS_WRITTEN
    prediction_values: str | None = None

    def frames(self, notes: list[str] | None = None) -> list[TruthFrame]:
        """The frames; which ones were taken is added to `notes`."""
        return open_truth(self.roots, self.split, notes, self.reading)

    def others(self) -> list[TruthFrame]:
        """Frames of the same data sets that are not in the split."""
        if self.split is None:
            return []
        inside = {frame.key for frame in self.frames()}
        return [frame for frame in open_truth(self.roots, reading=self.reading) if frame.key not in inside]

    def __str__(self) -> str:
        names = ", ".join(str(root) for root in self.roots)
        return names if self.split is None else f"{names}, split {self.split}"


def open_model(
    model: str | Path | Detector | None,
    data: Data,
    threshold: float | None = None,
    threads: int | None = None,
) -> Subject:
    """A model on data; see `ModelPredictor`."""
    notes: list[str] = []
    if not isinstance(model, Detector):
        resolve_model(model)  # what is wrong with its name is told before the data are read
    frames = data.frames(notes)
    predictor = ModelPredictor(model, threshold, threads, len(frames))
    return Subject(predictor, frames, (*notes, *_trained_on(predictor, frames)))


def _trained_on(predictor: ModelPredictor, frames: list[TruthFrame]) -> Iterator[str]:
    """A warning if the model was trained on evaluated frames, by their pixels; a sample of them tells."""
    known = set(predictor.meta.training_frames) if predictor.meta is not None else set()
    looked_at = frames[:: -(-len(frames) // _LOOKED_AT)] if known else []
    samples = [frame.sample for frame in looked_at if frame.sample is not None]
    seen = sum(sha256[:TOLD] in known for sha256 in hash_frames(samples))
    if seen:
        share = "all" if seen == len(frames) else f"{seen} of {len(samples)}"
        of = " that were looked at" if len(samples) < len(frames) else ""
        yield (
            f"WARNING: {predictor.name} was trained on {share} of these frames{of}, so the numbers are too "
            "good to be true of new data; evaluate frames that it has not seen (--split test, or --data)"
        )


def open_predictions(path: Path, data: Data, threshold: float | None = None) -> Subject:
    """Predictions on disk, held against data.

    Raises DataError if frames have no prediction or predictions no frame, unless that is allowed.
    """
    notes: list[str] = []
    frames = data.frames(notes)
    predictor = FilePredictor(path, frames, data.others(), threshold, data.prediction_values)
    fault = predictor.pairing.fault()
    if fault is not None and not data.allow_missing:
        raise DataError(f"{path} against {data}: {fault}; --allow-missing scores the frames that have one")
    if fault is not None:
        scored = len(predictor.pairing.found)
        notes.append(f"INCOMPLETE: only {scored} of {len(frames)} frames are scored; {fault}")
    elsewhere = len(predictor.pairing.elsewhere)
    if elsewhere:
        notes.append(f"{elsewhere} predictions are of frames outside split {data.split}, and left aside")
    return Subject(predictor, [frame for frame in frames if predictor.has(frame)], tuple(notes))


def open_either(
    given: str | Path | Detector | None,
    data: Data,
    threshold: float | None = None,
    threads: int | None = None,
) -> Subject:
    """A model (None, name, file, run folder, `Detector`) or predictions on disk, whichever it is."""
    if given is None or isinstance(given, Detector):
        return open_model(given, data, threshold, threads)
    if not isinstance(given, str | Path):
        raise ConfigError(
            f"a {type(given).__name__} can not be evaluated; give a model (name, file, run folder, Detector) "
            "or the path of predictions"
        )
    path = Path(given)
    if path.suffix.lower() == ".json" or (path.is_dir() and not _is_run(path)):
        return open_predictions(path, data, threshold)
    try:
        return open_model(given, data, threshold, threads)
    except ModelFileError as error:
        if path.exists():
            raise
        raise ConfigError(f"'{given}' is neither a model nor predictions: {error}") from None


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("model.onnx", "model.safetensors", "run.json"))


def same_frames(*subjects: Subject) -> tuple[list[TruthFrame], list[str]]:
    """The frames that all can be evaluated on, and a note if those are not all; DataError without any."""
    shared = set.intersection(*({frame.key for frame in subject.frames} for subject in subjects))
    common = [frame for frame in subjects[0].frames if frame.key in shared]
    if not common:
        names = " and ".join(subject.predictor.name for subject in subjects)
        raise DataError(f"{names} have no frame in common")
    left = any(len(subject.frames) > len(common) for subject in subjects)
    which = "both" if len(subjects) == 2 else "all"
    return common, [f"INCOMPLETE: {len(common)} frames that {which} have are compared"] if left else []
