"""What is evaluated: a model at work, or predictions that lie on disk, both frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from dimpoint.errors import DataError
from dimpoint.evaluation.truth import TruthFrame
from dimpoint.inference.backend import open_backend
from dimpoint.inference.detector import Detector
from dimpoint.metrics.components import Map
from dimpoint.model.files import resolve_model
from dimpoint.model.record import ModelMeta

Floats = npt.NDArray[np.float64]
Kind = Literal["points", "maps"]

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
    """A model, named as `dimpoint.model.files.resolve_model` has it. threshold: instead of its own."""

    def __init__(
        self, model: str | Path | None, threshold: float | None = None, threads: int | None = None
    ) -> None:
        self.path = resolve_model(model)
        backend = open_backend(self.path, threads)
        own = Detector(backend, threshold=threshold)
        self.meta: ModelMeta | None = own.meta
        self.name = own.meta.name
        self.kind: Kind = "maps" if own.meta.kind == "probability" else "points"
        self.threshold: float | None = own.rule.threshold
        self.threshold_origin = "the model's own" if threshold is None else "as asked"
        lowest = min(FLOOR, own.rule.threshold)
        self.floor: float | None = lowest
        # Of two detections the lower never hides the higher, so a lower threshold only adds detections.
        self._detector = Detector(backend, threshold=lowest)

    def predict(self, frame: TruthFrame, pixels: npt.NDArray[Any] | None) -> Prediction:
        if pixels is None:
            raise DataError(f"{frame.path}: only its label is there; a model needs the frame itself")
        if self.kind == "maps":
            return self._detector.probability_map(pixels)
        found = self._detector(pixels)
        return PredictedPoints(found.xy.astype(np.float64), found.scores.astype(np.float64))
