"""Predictions for labelled frames: of a model, or from files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from threading import Lock
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from dimpoint.datasets.coco import id_key, read_points
from dimpoint.datasets.layout import images_by_name
from dimpoint.errors import ConfigError, DataError
from dimpoint.evaluation.map_files import read_map, survey
from dimpoint.evaluation.truth import TruthFrame, frame_stem
from dimpoint.inference.backends import Backend, open_backend
from dimpoint.inference.detection_files import holds_detections, read_detections
from dimpoint.inference.detector import Detector
from dimpoint.metrics.components import Map, Mask
from dimpoint.model.files import resolve_model
from dimpoint.model.record import ModelMeta
from dimpoint.sources.files import plain_name
from dimpoint.text import counted

Floats = npt.NDArray[np.float64]
Kind = Literal["points", "maps"]

_MOST_WORKERS = 8
_LARGE = 2**21  # pixels; of larger frames one is predicted at a time, which bounds the memory
FLOOR = 0.02  # detections of a lower score, before a calibration, are ignored; curves end there


@dataclass(frozen=True, eq=False)
class PredictedPoints:
    """Predicted points of a frame: xy (N, 2) float64, pixels; scores (N,) float64."""

    xy: Floats
    scores: Floats


Prediction = PredictedPoints | Map


class Predictor(Protocol):
    """Interface of anything that predicts: points with scores, or a map with a value for every pixel.

    Attributes
    ----------
    name : str
        Name for tables.
    kind : {"points", "maps"}
        What is predicted.
    threshold : float or None
        Scores or pixels above it count; None: all points count.
    threshold_origin : str
        Where the threshold comes from.
    floor : float or None
        All points of a higher score are given; None if unknown.
    meta : ModelMeta or None
        The model's record.
    """

    name: str
    kind: Kind
    threshold: float | None
    threshold_origin: str
    floor: float | None
    meta: ModelMeta | None

    def predict(
        self, frame: TruthFrame, pixels: npt.NDArray[Any] | None, valid: Mask | None = None
    ) -> Prediction:
        """Predict for a frame; pixels: (H, W), if there are any; valid: those known to be measurements."""


class ModelPredictor:
    """A model, named as `dimpoint.model.files.resolve_model` has it, that predicts several frames at a time.

    threshold: instead of its own. threads: of the processor; None takes all cores. frames: how many will be
    predicted; fewer than there are threads, and each frame has several. device: where the network runs.
    """

    def __init__(
        self,
        model: str | Path | Detector | None,
        threshold: float | None = None,
        threads: int | None = None,
        frames: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.path: Path | None = None
        self.workers = 1
        if isinstance(model, Detector):
            threshold = model.rule.threshold if threshold is None else threshold
            own = model.at(threshold)
        else:
            self.path = resolve_model(model)
            self.workers, backend = _open(self.path, threads or os.cpu_count() or 1, frames, device)
            own = Detector(backend, threshold=threshold)
        self.meta: ModelMeta | None = own.meta
        self.name = own.meta.name
        self.kind: Kind = "maps" if own.meta.kind == "probability" else "points"
        self.threshold: float | None = own.rule.threshold
        self.threshold_origin = (
            "the model's own" if threshold in (None, own.meta.decode.threshold) else "as asked"
        )
        lowest = min(float(own.rule.calibrated(FLOOR)), own.rule.threshold)
        self.floor: float | None = lowest
        # Of two detections the lower never hides the higher, so a lower threshold only adds detections.
        self.detector = own.at(lowest)
        self._one_large = Lock()

    def predict(
        self, frame: TruthFrame, pixels: npt.NDArray[Any] | None, valid: Mask | None = None
    ) -> Prediction:
        if pixels is None:
            raise DataError(f"{frame.path}: only its label is there; a model needs the frame itself")
        with self._one_large if pixels.size > _LARGE else nullcontext():
            if self.kind == "maps":
                return self.detector.probability_map(pixels, valid)
            found = self.detector(pixels, valid)
        return PredictedPoints(found.xy.astype(np.float64), found.scores.astype(np.float64))


def _open(path: Path, cores: int, frames: int | None, device: str) -> tuple[int, Backend]:
    """The number of frames to predict at a time, and the backend.

    A small network gains less from several threads per frame than from several frames with one thread each.
    """
    together = path.suffix.lower() != ".safetensors"  # torch has threads of its own
    most = min(cores, _MOST_WORKERS, cores if frames is None else frames) if together else 1
    workers = max(1, most)
    return workers, open_backend(path, max(1, cores // workers), device, workers)


P = TypeVar("P")

MASK_THRESHOLD = 0.5  # of probability maps and masks, unless another one is asked for
_LISTED = 5  # names in a message
_LAYOUT_FOLDERS = {"images", "masks"}  # part of the layout, not of a frame's name


@dataclass(frozen=True)
class Pairing(Generic[P]):
    """Which prediction belongs to which frame.

    Parameters
    ----------
    found : dict of int to prediction
        By the frame's index.
    missing : list of str
        Frames without a prediction.
    extra : list of str
        Predictions without a frame.
    elsewhere : list of str
        Predictions of frames in other splits.
    """

    found: dict[int, P]  # by the frame's place in the list
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def fault(self) -> str | None:
        """A description of what does not match, or None."""
        faults = []
        if self.missing:
            without = counted(len(self.missing), "frame has no prediction", "frames have no prediction")
            faults.append(f"{without} ({_some(self.missing)})")
        if self.extra:
            without = counted(len(self.extra), "prediction belongs", "predictions belong")
            faults.append(f"{without} to no frame ({_some(self.extra)})")
        if faults and self.elsewhere:
            others = counted(len(self.elsewhere), "prediction is of a frame", "predictions are of frames")
            faults.append(f"{others} outside the split ({_some(self.elsewhere)}): is it the right split?")
        return "; ".join(faults) or None


class FilePredictor:
    """Predictions in files, paired with their frames.

    Parameters
    ----------
    path : Path
        Points or a folder of maps; see `docs/evaluation.md`.
    frames : sequence of TruthFrame
        The frames to evaluate.
    others : sequence of TruthFrame
        Frames of the same data sets outside the split; predictions of them are ignored.
    threshold : float, optional
        Scores or pixels above it count. Default: all points, and 0.5 for maps.
    values : str, optional
        How maps are read, one of `map_files.VALUES`. Default: as `map_files.survey` finds plain.
    name : str, optional
        In the results. Default: the path.

    Raises
    ------
    DataError
        If the predictions are unreadable or fit no frame.
    """

    meta: ModelMeta | None = None
    floor: float | None = None

    def __init__(
        self,
        path: Path,
        frames: Sequence[TruthFrame],
        others: Sequence[TruthFrame] = (),
        threshold: float | None = None,
        values: str | None = None,
        name: str | None = None,
    ) -> None:
        self.path = path
        self.name = name or str(path)
        if not path.exists():
            raise DataError(f"{path}: no such file or folder of predictions")
        in_folder = path.is_dir() and not holds_detections(path)
        self.kind: Kind = "maps" if in_folder else "points"
        if self.kind == "maps" and threshold is not None and not 0 <= threshold <= 1:
            raise ConfigError(f"threshold must lie in 0..1, got {threshold}")
        if threshold is not None and not np.isfinite(threshold):
            raise ConfigError(f"threshold must be a finite number, got {threshold}")
        entries: dict[str, PredictedPoints | Path] = {}
        entries |= _map_files(path) if self.kind == "maps" else _read_points(path)
        self.pairing = pair(entries, frames, others)
        if not self.pairing.found:
            hint = "" if self.pairing.elsewhere else "; predictions are named like the frames"
            raise DataError(f"{path}: {self.pairing.fault()}{hint}")
        if self.kind == "maps":
            survey([entry for entry in self.pairing.found.values() if isinstance(entry, Path)], values)
        elif values is not None:
            raise ConfigError(f"--predictions-values says how maps are read, and {path} holds points")
        self.values = values
        self._by_frame = {frames[index].key: entry for index, entry in self.pairing.found.items()}
        self.threshold = MASK_THRESHOLD if self.kind == "maps" and threshold is None else threshold
        self.threshold_origin = "as asked" if threshold is not None else "usual for maps"
        if self.threshold is None:
            self.threshold_origin = "none: every predicted point counts"

    def has(self, frame: TruthFrame) -> bool:
        """Whether there is a prediction for this frame."""
        return frame.key in self._by_frame

    def predict(self, frame: TruthFrame, pixels: Any = None, valid: Any = None) -> Prediction:
        entry = self._by_frame[frame.key]
        return entry if isinstance(entry, PredictedPoints) else read_map(entry, self.values)


def pair(
    entries: Mapping[str, P], frames: Sequence[TruthFrame], others: Sequence[TruthFrame] = ()
) -> Pairing[P]:
    """Pair predictions, given by path, with the frames whose paths end alike.

    If names repeat in several data sets, the folders above decide. Raises DataError if a prediction fits
    several frames, or two predictions fit one frame.
    """
    known = [*frames, *others]
    by_last: dict[str, list[int]] = {}
    for index, frame in enumerate(known):
        by_last.setdefault(_parts(frame.path)[-1], []).append(index)
    chosen: dict[int, str] = {}
    extra: list[str] = []
    for name in entries:
        place = _frame_of(name, known, by_last)
        if place is None:
            extra.append(name)
        elif place in chosen:
            raise DataError(f"'{chosen[place]}' and '{name}' are both predictions for {known[place].path}")
        else:
            chosen[place] = name
    return Pairing(
        found={index: entries[name] for index, name in chosen.items() if index < len(frames)},
        missing=[frame.key for i, frame in enumerate(frames) if i not in chosen],
        extra=extra,
        elsewhere=[name for index, name in chosen.items() if index >= len(frames)],
    )


def _frame_of(name: str, known: Sequence[TruthFrame], by_last: Mapping[str, list[int]]) -> int | None:
    parts = _parts(PurePosixPath(name.replace("\\", "/")))
    fits = [
        (_shared(parts, _parts(known[index].path)), index)
        for index in by_last.get(parts[-1], [])
        if _shared(parts, _parts(known[index].path))
        >= min(len(parts), len(PurePosixPath(known[index].name).parts))
    ]
    if not fits:
        return None
    most = max(shared for shared, _ in fits)
    best = [index for shared, index in fits if shared == most]
    if len(best) > 1:
        raise DataError(
            f"prediction '{name}' fits {known[best[0]].path} and {known[best[1]].path}; put the predictions "
            "of each data set in a folder of its name"
        )
    return best[0]


def _parts(path: PurePath) -> list[str]:
    """The folders and the stem of a path, from the top."""
    path = type(path)(plain_name(str(path)))
    stem = frame_stem(path.name)
    return [part for part in path.parent.parts if part not in _LAYOUT_FOLDERS] + [stem]


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """The number of equal parts, counted from the end."""
    count = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        count += 1
    return count


def _map_files(folder: Path) -> dict[str, Path]:
    files = images_by_name(folder, nested=True)
    if not files:
        raise DataError(
            f"{folder}: no predictions here; a run of dimpoint detect, or maps and masks (.png .npy)"
        )
    every = [file for several in files.values() for file in several]
    return {file.relative_to(folder).as_posix(): file for file in every}


def _read_points(file: Path) -> dict[str, PredictedPoints]:
    """The points of a run of `dimpoint detect`, of a file of it, or of a COCO keypoints file, by image."""
    if file.suffix.lower() == ".csv":
        raise DataError(
            f"{file}: a CSV file does not list the frames without detections, which count, too; predictions "
            "are read from detections.json, .jsonl, .parquet, COCO files and folders of maps"
        )
    if not holds_detections(file):
        content = _json_of(file)
        if isinstance(content, dict) and "annotations" in content:
            return _coco_points(file, content["annotations"])
    pairs = [(item.file, _as_points(item.xy, item.scores)) for item in read_detections(file)]
    return _unique(pairs, file)


def _json_of(file: Path) -> Any:
    try:
        content = json.loads(file.read_text("utf-8-sig"))
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not a JSON file ({error})") from None
    if isinstance(content, list):
        raise DataError(
            f"{file}: a list; a COCO results list does not say which files it means: give the whole COCO "
            "object with 'images' and 'annotations', or a detections.json"
        )
    return content


def _coco_points(file: Path, annotations: Iterable[Any]) -> dict[str, PredictedPoints]:
    """Points with the `score` of their annotations (default 1); one score may belong to several points."""
    images = read_points(file)
    entries = json.loads(file.read_text("utf-8-sig"))["images"]
    ids = {entry["file_name"]: id_key(entry["id"]) for entry in entries}
    scores: dict[str, list[float]] = {}
    for number, annotation in enumerate(annotations):
        score = annotation.get("score", 1.0)
        if isinstance(score, bool) or not isinstance(score, int | float) or not np.isfinite(score):
            raise DataError(f"{file}: annotation number {number + 1}: score {score!r} is no finite number")
        crowd = annotation.get("iscrowd") == 1
        labelled = 0 if crowd else sum(v > 0 for v in annotation["keypoints"][2::3])
        scores.setdefault(id_key(annotation["image_id"]), []).extend([float(score)] * labelled)
    pairs = [
        (each.file_name, _as_points(each.points, scores.get(ids[each.file_name], []))) for each in images
    ]
    return _unique(pairs, file)


def _as_points(xy: npt.ArrayLike, scores: npt.ArrayLike) -> PredictedPoints:
    return PredictedPoints(np.asarray(xy, np.float64).reshape(-1, 2), np.asarray(scores, np.float64))


def _unique(pairs: Iterable[tuple[str, PredictedPoints]], file: Path) -> dict[str, PredictedPoints]:
    entries: dict[str, PredictedPoints] = {}
    for name, points in pairs:
        if name in entries:
            raise DataError(f"{file}: image '{name}' is there twice; every frame is counted once")
        entries[name] = points
    return entries


def _some(names: Sequence[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
