"""A labelling project: a folder that is a dimpoint data set at any moment.

PROJECT/labels.db     every label with its history
PROJECT/images/       a copy of each labelled frame, counts unchanged
PROJECT/points.json   the labels of these frames as COCO keypoints, written again after each change
PROJECT/runs/         models that were trained from the page
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.datasets.coco import PointImage, write_points
from dimpoint.errors import DataError, DimpointError
from dimpoint.inference.detector import Detector
from dimpoint.labelling.frames import FrameReader, copy_name, list_frames, write_copy
from dimpoint.labelling.store import Labels, LabelStore

PROPOSAL_FLOOR = 0.05  # proposals of a lower score are not offered
_MOST_PROPOSALS = 200
_KEPT_PROPOSALS = 2000
_WRITE_AFTER = 0.5  # seconds from a change to the new points.json


class Project:
    """The labels, frames and models of one project folder, for one server.

    folder: made if it is not there. sources: files, folders, patterns or videos to add; may be empty for a
    project that exists. model: proposes targets; None for the shipped default.
    Raises DimpointError where the folder cannot be written or another server has it open, DataError for a
    damaged store, FrameError for sources without a frame.
    """

    def __init__(
        self,
        folder: Path,
        sources: Sequence[Path] = (),
        *,
        model: str | Path | None = None,
        recursive: bool = False,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.folder = folder
        self._lock_file = _locked(folder)
        self.store = LabelStore(folder / "labels.db")
        try:
            if sources:
                self.store.add_frames(list_frames(sources, recursive=recursive, note=note))
            if not self.store.count()["all"]:
                raise DataError(f"{folder}: the project has no frames yet; name files, folders or videos")
        except BaseException:
            self.close()
            raise
        self.reader = FrameReader()
        self._detector: Detector | None = None
        self._model = model
        self._proposals: OrderedDict[int, list[tuple[float, float, float]]] = OrderedDict()
        self._detecting = threading.Lock()
        self._exporting = threading.Lock()
        self._timer: threading.Timer | None = None
        self.export()

    def close(self) -> None:
        """Write what is due and give the project free."""
        timer = getattr(self, "_timer", None)
        if timer is not None:
            timer.cancel()
            self.export()
        self.store.close()
        os.close(self._lock_file)

    def pixels(self, frame: int) -> npt.NDArray[Any]:
        """The counts of a frame, (H, W) uint8, uint16 or float32; raises FrameError, DataError."""
        source = self.store.source(frame)
        copies = [self.folder / "images" / f"{source.name}{suffix}" for suffix in (".png", ".npy")]
        return self.reader.read(source, next((copy for copy in copies if copy.is_file()), None))

    def save(self, frame: int, labels: Labels) -> Labels:
        """Store a frame's labels; see `LabelStore.save`. The data set on disk follows within a second."""
        pixels = self.pixels(frame)
        height, width = pixels.shape
        if labels.points or labels.status == "empty":
            source = self.store.source(frame)
            copy = self.folder / "images" / copy_name(source, pixels)
            if not copy.is_file():
                write_copy(copy, pixels)
        stored = self.store.save(frame, labels, (height, width))
        self._export_soon()
        return stored

    def _export_soon(self) -> None:
        with self._exporting:
            if self._timer is None or not self._timer.is_alive():
                self._timer = threading.Timer(_WRITE_AFTER, self.export)
                self._timer.daemon = True
                self._timer.start()

    def export(self) -> Path:
        """Write `points.json` from the store; returns its path."""
        with self._exporting:
            images = [
                PointImage(
                    _copy_of(self.folder, source.name),
                    width,
                    height,
                    np.array(labels.points, np.float32).reshape(-1, 2),
                    np.array(labels.regions, np.float32).reshape(-1, 4),
                )
                for source, labels, (height, width) in self.store.labelled()
            ]
            path = self.folder / "points.json"
            write_points(path, images)
            return path

    @property
    def model_name(self) -> str:
        """The model that proposes."""
        return self._open_detector().meta.name

    @property
    def threshold(self) -> float:
        """The threshold that the model's record states."""
        return self._open_detector().meta.decode.threshold

    def use_model(self, model: str | Path | None) -> None:
        """Let another model propose from now on."""
        with self._detecting:
            self._model, self._detector = model, None
            self._proposals.clear()

    def _open_detector(self) -> Detector:
        if self._detector is None:
            self._detector = Detector(self._model, threshold=PROPOSAL_FLOOR)
        return self._detector

    def proposals(self, frame: int) -> list[tuple[float, float, float]]:
        """What the model finds in a frame: (x, y, score), best first, down to a low score."""
        if frame in self._proposals:
            return self._proposals[frame]
        pixels = self.pixels(frame)
        with self._detecting:
            found = self._open_detector()(pixels)
            name = self.model_name
        values = zip(found.xy.tolist(), found.scores.tolist(), strict=True)
        listed = [(x, y, score) for (x, y), score in values][:_MOST_PROPOSALS]
        self._proposals[frame] = listed
        if len(self._proposals) > _KEPT_PROPOSALS:
            self._proposals.popitem(last=False)
        self.store.set_doubt(frame, doubt(listed, self.threshold), name)
        return listed

    def scan(self, count: int) -> int:
        """Let the model look at up to `count` more unlabelled frames, for the queue of doubtful ones."""
        done = 0
        for frame in self.store.unscanned(self.model_name, count):
            try:
                self.proposals(frame)
                done += 1
            except DimpointError:
                self.store.set_doubt(frame, 0.0, self.model_name)
        return done


def doubt(found: Sequence[tuple[float, float, float]], threshold: float) -> float:
    """How doubtful a model is of a frame, 0 to 1: that of its most doubtful detection.

    A detection whose score is the threshold has doubt 1; it falls linearly to 0 at scores of 0 and 1.
    """
    scores = [score for _, _, score in found]
    return max((min(score / threshold, (1 - score) / (1 - threshold)) for score in scores), default=0.0)


def _copy_of(folder: Path, name: str) -> str:
    return f"{name}.npy" if (folder / "images" / f"{name}.npy").is_file() else f"{name}.png"


def _locked(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise DimpointError(
            f"{folder}: the project cannot be opened for writing ({error.strerror})"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise DimpointError(f"{folder}: another dimpoint label has this project open") from None
    return handle
