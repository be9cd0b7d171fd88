"""What is evaluated: a model at work, or predictions that lie on disk, both frame by frame."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from dimpoint.errors import DataError
from dimpoint.evaluation.truth import TruthFrame
from dimpoint.inference.backend import Backend, open_backend
from dimpoint.inference.detector import Detector
from dimpoint.metrics.components import Map
from dimpoint.model.files import resolve_model
from dimpoint.model.record import ModelMeta

Floats = npt.NDArray[np.float64]
Kind = Literal["points", "maps"]

_MOST_WORKERS = 8
_LARGE = 2**21  # pixels; of larger frames one is predicted at a time, which bounds the memory
FLOOR = 0.02  # a model's detections of a lower score are not looked at; curves end there


@dataclass(frozen=True, eq=False)
class PredictedPoints:
    """xy (N, 2) float64, frame pixels; scores (N,) float64."""

    xy: Floats
    scores: Floats


Prediction = PredictedPoints | Map


class Predictor(Protocol):
    """Something that predicts. `points` give positions with scores, `maps` a value for every pixel.

    threshold: what a score or a pixel must be above to count, None to take all points as given.
    floor: all points of a higher score are told; None if nobody knows how many were left out.
    """

    name: str
    kind: Kind
    threshold: float | None
    threshold_origin: str
    floor: float | None
    meta: ModelMeta | None

    def predict(self, frame: TruthFrame, pixels: npt.NDArray[Any] | None) -> Prediction:
        """The prediction for a frame, whose pixels are given where there are any."""


class ModelPredictor:
    """A model, named as `dimpoint.model.files.resolve_model` has it, that predicts several frames at a time.

    threshold: instead of its own. threads: of the processor; None takes all cores. frames: how many will be
    predicted; fewer than there are threads, and each frame has several.
    """

    def __init__(
        self,
        model: str | Path | Detector | None,
        threshold: float | None = None,
        threads: int | None = None,
        frames: int | None = None,
    ) -> None:
        self.path: Path | None = None
        self.workers = 1
        if isinstance(model, Detector):
            backend = model.backend
            threshold = model.rule.threshold if threshold is None else threshold
        else:
            self.path = resolve_model(model)
            self.workers, backend = _open(self.path, threads or os.cpu_count() or 1, frames)
        own = Detector(backend, threshold=threshold)
        self.meta: ModelMeta | None = own.meta
        self.name = own.meta.name
        self.kind: Kind = "maps" if own.meta.kind == "probability" else "points"
        self.threshold: float | None = own.rule.threshold
        self.threshold_origin = (
            "the model's own" if threshold in (None, own.meta.decode.threshold) else "as asked"
        )
        lowest = min(FLOOR, own.rule.threshold)
        self.floor: float | None = lowest
        # Of two detections the lower never hides the higher, so a lower threshold only adds detections.
        self._detector = Detector(backend, threshold=lowest)
        self._one_large = Lock()

    def predict(self, frame: TruthFrame, pixels: npt.NDArray[Any] | None) -> Prediction:
        if pixels is None:
            raise DataError(f"{frame.path}: only its label is there; a model needs the frame itself")
        with self._one_large if pixels.size > _LARGE else nullcontext():
            if self.kind == "maps":
                return self._detector.probability_map(pixels)
            found = self._detector(pixels)
        return PredictedPoints(found.xy.astype(np.float64), found.scores.astype(np.float64))


def _open(path: Path, cores: int, frames: int | None) -> tuple[int, Backend]:
    """How many frames are predicted at a time, and what predicts them.

    A small network gains less from several threads a frame than from several frames with one thread each.
    """
    together = path.suffix.lower() != ".safetensors"  # torch has threads of its own
    most = min(cores, _MOST_WORKERS, cores if frames is None else frames) if together else 1
    workers = max(1, most)
    return workers, open_backend(path, max(1, cores // workers))
