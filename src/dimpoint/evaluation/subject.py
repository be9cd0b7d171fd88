"""What is evaluated: models or predictions with their frames, opened, checked, and read frame by frame."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from dimpoint.datasets.dataset import hash_frames
from dimpoint.datasets.reading import AS_WRITTEN, Reading
from dimpoint.errors import ConfigError, DataError, ModelFileError
from dimpoint.evaluation.predictions import (
    FilePredictor,
    ModelPredictor,
    PredictedPoints,
    Prediction,
    Predictor,
)
from dimpoint.evaluation.truth import Points, TruthFrame, open_truth
from dimpoint.inference.detector import Detector
from dimpoint.metrics.breakdown import TargetTable, describe_points, describe_targets
from dimpoint.metrics.components import Components
from dimpoint.metrics.points import spared
from dimpoint.model.files import resolve_model
from dimpoint.model.record import HASH_DIGITS
from dimpoint.text import counted

_RESULTS = (".json", ".jsonl", ".parquet")
_CHECKED = 40  # evaluated frames whose pixels are compared with those that the model was trained on


@dataclass(frozen=True, eq=False)
class Subject:
    """A predictor, the frames to evaluate it on, and notes on what was ignored."""

    predictor: Predictor
    frames: list[TruthFrame]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Data:
    """The data sets of an evaluation.

    Parameters
    ----------
    roots : tuple of Path
        Folders or COCO files.
    split : str, optional
        Name of a split. Default: all frames.
    allow_missing : bool, default False
        Evaluate the frames that have a prediction, even if others have none.
    reading : Reading
        How labels are read.
    prediction_values : str, optional
        How predicted maps are read; see `map_files.survey`.
    """

    roots: tuple[Path, ...]
    split: str | None = None
    allow_missing: bool = False
    reading: Reading = AS_WRITTEN
    prediction_values: str | None = None

    def frames(self, notes: list[str] | None = None) -> list[TruthFrame]:
        """The frames; a description of them is appended to `notes`."""
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
    device: str = "cpu",
) -> Subject:
    """A model on data; see `ModelPredictor`."""
    notes: list[str] = []
    if not isinstance(model, Detector):
        resolve_model(model)  # a wrong name is an error before the data are read
    frames = data.frames(notes)
    predictor = ModelPredictor(model, threshold, threads, len(frames), device)
    return Subject(predictor, frames, (*notes, *_trained_on(predictor, frames)))


def _trained_on(predictor: ModelPredictor, frames: list[TruthFrame]) -> Iterator[str]:
    """A warning if the model was trained on evaluated frames, checked on a sample of them."""
    known = set(predictor.meta.training_frames) if predictor.meta is not None else set()
    looked_at = frames[:: -(-len(frames) // _CHECKED)] if known else []
    samples = [frame.sample for frame in looked_at if frame.sample is not None]
    seen = sum(sha256[:HASH_DIGITS] in known for sha256 in hash_frames(samples))
    if seen:
        share = "all" if seen == len(frames) else f"{seen} of {len(samples)}"
        of = " that were checked" if len(samples) < len(frames) else ""
        yield (
            f"WARNING: {predictor.name} was trained on {share} of these frames{of}, so the numbers are too "
            "good to be true of new data; evaluate frames that it has not seen (--split test, or --data)"
        )


def open_predictions(
    path: Path, data: Data, threshold: float | None = None, name: str | None = None
) -> Subject:
    """Open predictions on disk with the frames that they belong to; name: in the results, else the path.

    Raises
    ------
    DataError
        If frames have no prediction or predictions no frame, unless missing ones are allowed.
    """
    notes: list[str] = []
    frames = data.frames(notes)
    predictor = FilePredictor(path, frames, data.others(), threshold, data.prediction_values, name)
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


def named_path(given: Path) -> tuple[str | None, Path]:
    """Name and path of `NAME=PATH`; a path that exists as it is given has no name."""
    name, sign, path = str(given).partition("=")
    if not sign or not name or not path or given.exists():
        return None, given
    return name, Path(path)


def open_either(
    given: str | Path | Detector | None,
    data: Data,
    threshold: float | None = None,
    threads: int | None = None,
    device: str = "cpu",
) -> Subject:
    """A model (None, name, file, run folder, `Detector`) or predictions on disk, whichever it is."""
    if given is None or isinstance(given, Detector):
        return open_model(given, data, threshold, threads, device)
    if not isinstance(given, str | Path):
        raise ConfigError(
            f"a {type(given).__name__} can not be evaluated; give a model (name, file, run folder, Detector) "
            "or the path of predictions"
        )
    path = Path(given)
    if path.suffix.lower() in _RESULTS or (path.is_dir() and not _is_run(path)):
        return open_predictions(path, data, threshold)
    try:
        return open_model(given, data, threshold, threads, device)
    except ModelFileError as error:
        if path.exists():
            raise
        raise ConfigError(f"'{given}' is neither a model nor predictions: {error}") from None


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("model.onnx", "model.safetensors", "run.json"))


def same_frames(*subjects: Subject) -> tuple[list[TruthFrame], list[str]]:
    """The frames that all subjects have, and a note if those are not all; DataError if there are none."""
    shared = set.intersection(*({frame.key for frame in subject.frames} for subject in subjects))
    common = [frame for frame in subjects[0].frames if frame.key in shared]
    if not common:
        names = " and ".join(subject.predictor.name for subject in subjects)
        raise DataError(f"{names} have no frame in common")
    left = any(len(subject.frames) > len(common) for subject in subjects)
    which = "both" if len(subjects) == 2 else "all"
    return common, [f"INCOMPLETE: {len(common)} frames that {which} have are compared"] if left else []


Item = TypeVar("Item")
Made = TypeVar("Made")

_MEMORY_BYTES = 2**30  # of predictions that are kept from choosing a threshold to judging it
_MOST_WORKERS = 8


@dataclass(frozen=True, eq=False)
class Observed:
    """One frame with its label and prediction, read once and not yet matched.

    Parameters
    ----------
    frame : TruthFrame
        The frame.
    shape : tuple of int
        Height and width.
    pixels, mask : (H, W) array or None
        The frame and its mask.
    digest : bytes or None
        Hash of the pixels.
    objects : Components or None
        The mask's components, if the mask is the label.
    truth_xy : (T, 2) float64
        x, y of the targets, pixels.
    known : TargetTable
        Properties of the targets.
    predicted : PredictedPoints or (H, W) array
        The prediction.
    notes : list of str
        Notes on the mask.
    read : list of str
        Notes of the reader on the frame.
    """

    frame: TruthFrame
    shape: tuple[int, int]
    pixels: npt.NDArray[Any] | None
    digest: bytes | None
    mask: npt.NDArray[np.bool_] | None
    objects: Components | None
    truth_xy: Points
    known: TargetTable
    predicted: Prediction
    notes: list[str]
    read: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Memory of the arrays, bytes."""
        held = [self.pixels, self.mask, self.predicted]
        return sum(each.nbytes for each in held if isinstance(each, np.ndarray))


class Memory:
    """Keeps up to 1 GiB of frames and predictions, so that choosing a threshold on the evaluated frames does
    not need a second prediction.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, str, bool], Observed] = {}
        self._left = _MEMORY_BYTES

    def observe(self, predictor: Predictor, frame: TruthFrame, by_mask: bool) -> Observed:
        """`observe`, or the stored result for the same predictor and frame."""
        key = id(predictor), f"{frame.path}\n{frame.key}", by_mask
        known = self._kept.get(key)
        if known is not None:
            return replace(known, frame=frame)
        observed = observe(predictor, frame, by_mask)
        if observed.nbytes <= self._left:
            self._left -= observed.nbytes
            self._kept[key] = observed
        return observed


def observe(predictor: Predictor, frame: TruthFrame, by_mask: bool) -> Observed:
    """Read a frame with its label and its prediction.

    by_mask: use the mask as the label even if there are points. Raises the first error of frame, label or
    prediction.
    """
    picture = frame.read_picture()
    pixels, valid, read = (
        (None, None, ()) if picture is None else (picture.pixels, picture.valid, picture.notes)
    )
    size = None if pixels is None else (pixels.shape[0], pixels.shape[1])
    predicted = predictor.predict(frame, pixels, valid)
    label = frame.read_mask(size) if by_mask or frame.points is None else None
    mask, notes = (None, []) if label is None else label
    objects = None if mask is None else frame.objects(mask)
    masked = by_mask and objects is not None
    truth = objects.centroids if masked and objects is not None else frame.true_points(objects)
    shape = objects.shape if objects is not None else size or frame.shape()
    if objects is not None:
        known = describe_targets(objects, pixels, frame.data_set)
    else:
        known = describe_points(truth, shape, pixels, frame.data_set)
    if isinstance(predicted, PredictedPoints) and len(frame.ignore):
        predicted = without_spared(predicted, truth, frame)
    digest = _digest(pixels)
    return Observed(frame, shape, pixels, digest, mask, objects, truth, known, predicted, notes, read)


def without_spared(predicted: PredictedPoints, truth: Points, frame: TruthFrame) -> PredictedPoints:
    """The points that count: those outside ignore regions, and those near a target."""
    counted = ~spared(predicted.xy, truth, frame.ignore)
    return PredictedPoints(predicted.xy[counted], predicted.scores[counted])


def workers_for(predictor: Predictor, frames: int) -> int:
    """How many frames are processed at a time."""
    cores = getattr(predictor, "workers", None) or min(os.cpu_count() or 1, _MOST_WORKERS)
    return max(1, min(cores, frames))


def in_order(work: Callable[[Item], Made], items: Sequence[Item], workers: int) -> Iterator[Made]:
    """Apply `work` to the items, `workers` at a time; yields results in order, raises the first error."""
    if workers == 1:
        yield from map(work, items)
        return
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for left in waiting:
                left.cancel()


def duplicate_notes(observed: Sequence[tuple[TruthFrame, bytes | None]]) -> list[str]:
    """A note on frames with equal pixels, which count twice; observed: frames and digests in order."""
    first: dict[bytes, TruthFrame] = {}
    pairs = []
    for frame, digest in observed:
        if digest is not None and first.setdefault(digest, frame) is not frame:
            pairs.append((first[digest], frame))
    if not pairs:
        return []
    one, other = pairs[0]
    count = len(pairs)
    same = counted(
        count,
        "frame has the pixels of another one and counts again",
        "frames have the pixels of another one and count again",
    )
    return [f"{same}: {other.key} is {one.key}"]


def _digest(pixels: npt.NDArray[Any] | None) -> bytes | None:
    if pixels is None:
        return None
    digest = hashlib.sha256(f"{pixels.dtype}{pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()
