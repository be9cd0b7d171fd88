"""Read frames, several at a time: the label and the prediction of each, before anything is counted."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from dimpoint.evaluation.predictions import PredictedPoints, Prediction, Predictor
from dimpoint.evaluation.truth import Points, TruthFrame
from dimpoint.metrics.breakdown import TargetTable, describe_points, describe_targets
from dimpoint.metrics.components import Components
from dimpoint.metrics.points import spared

Item = TypeVar("Item")
Made = TypeVar("Made")

_MEMORY_BYTES = 2**30  # of predictions that are kept from choosing a threshold to judging it
_MOST_WORKERS = 8


@dataclass(frozen=True, eq=False)
class Observed:
    """One frame, read once: label and prediction, nothing matched yet.

    pixels, mask: (H, W), None where there are none. truth_xy: (T, 2). objects: the mask's components, where
    the mask is the label. known: what `describe_targets` says of the targets. digest: of the pixels.
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

    @property
    def nbytes(self) -> int:
        held = [self.pixels, self.mask, self.predicted]
        return sum(each.nbytes for each in held if isinstance(each, np.ndarray))


class Memory:
    """Keeps what was observed, up to 1 GiB, so that a threshold that is chosen on the evaluated frames does
    not cost a second prediction of each."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, str, bool], Observed] = {}
        self._left = _MEMORY_BYTES

    def observe(self, predictor: Predictor, frame: TruthFrame, by_mask: bool) -> Observed:
        """`observe`, or what it gave before for the same predictor and frame."""
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
    """Read a frame with its label and its prediction. by_mask: the mask is the label, whatever else there is.

    Raises the first error of frame, label or prediction.
    """
    pixels = frame.read_pixels()
    size = None if pixels is None else (pixels.shape[0], pixels.shape[1])
    predicted = predictor.predict(frame, pixels)
    label = frame.read_mask(size) if by_mask or frame.points is None else None
    mask, notes = (None, []) if label is None else label
    objects = None if mask is None else Components.of(mask)
    masked = by_mask and objects is not None
    truth = objects.centroids if masked and objects is not None else frame.true_points(objects)
    shape = objects.shape if objects is not None else size or frame.shape()
    if objects is not None:
        known = describe_targets(objects, pixels, frame.data_set)
    else:
        known = describe_points(truth, shape, pixels, frame.data_set)
    if isinstance(predicted, PredictedPoints) and len(frame.ignore):
        predicted = without_spared(predicted, truth, frame)
    return Observed(frame, shape, pixels, _digest(pixels), mask, objects, truth, known, predicted, notes)


def without_spared(predicted: PredictedPoints, truth: Points, frame: TruthFrame) -> PredictedPoints:
    """The points that count: those outside the frame's ignore regions, and those near a target."""
    counted = ~spared(predicted.xy, truth, frame.ignore)
    return PredictedPoints(predicted.xy[counted], predicted.scores[counted])


def workers_for(predictor: Predictor, frames: int) -> int:
    """How many frames are worked on at a time."""
    cores = getattr(predictor, "workers", None) or min(os.cpu_count() or 1, _MOST_WORKERS)
    return max(1, min(cores, frames))


def in_order(work: Callable[[Item], Made], items: Sequence[Item], workers: int) -> Iterator[Made]:
    """`work` of each item, in order, `workers` of them at a time; raises the first item's error."""
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
    """A note on frames with the same pixels, which count twice; `observed`: frames and digests in order."""
    first: dict[bytes, TruthFrame] = {}
    pairs = []
    for frame, digest in observed:
        if digest is not None and first.setdefault(digest, frame) is not frame:
            pairs.append((first[digest], frame))
    if not pairs:
        return []
    one, other = pairs[0]
    count = len(pairs)
    return [f"{count} frames have the pixels of another one and count again: {other.key} is {one.key}"]


def _digest(pixels: npt.NDArray[Any] | None) -> bytes | None:
    if pixels is None:
        return None
    digest = hashlib.sha256(f"{pixels.dtype}{pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()
