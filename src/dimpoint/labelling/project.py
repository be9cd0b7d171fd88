"""A labelling project: a folder that is a dimpoint data set at any moment.

PROJECT/labels.db     every label with its history
PROJECT/images/       a copy of each labelled frame, counts unchanged
PROJECT/points.json   the labels of these frames as COCO keypoints, written again after each change
PROJECT/runs/         models that were trained from the page
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.atomic import lock
from dimpoint.datasets.coco import PointImage, write_points
from dimpoint.errors import DataError, DimpointError
from dimpoint.inference.detector import Detector
from dimpoint.labelling.frames import FrameReader, copy_name, list_frames, write_copy
from dimpoint.labelling.store import Labels, LabelStore
from dimpoint.sources import PLAIN, ReadOptions

PROPOSAL_FLOOR = 0.05  # proposals of a lower score are not offered
_MOST_PROPOSALS = 200
_KEPT_PROPOSALS = 2000
_SCANNED_AHEAD = 32  # frames that the model sees in the background while one is labelled
_WRITE_AFTER = 0.5  # seconds from a change to the new points.json


class Project:
    """The labels, frames and models of one project folder, for one server.

    Parameters
    ----------
    folder
        The project's folder; it is made if it does not exist.
    sources
        Files, folders, patterns or videos to add. Default: none, for a project that exists.
    model
        Name or file of the model that proposes targets. Default: the shipped default.
    recursive
        Enter sub-folders of the sources. Default: no.
    note
        Called with a line about each file that cannot be read.
    options
        How the sources are read. Default: as they stand.

    Raises
    ------
    DimpointError
        If the folder cannot be written, or another server has it open.
    DataError
        If the store is damaged, or the project has no frames.
    FrameError
        If the sources have no frame.
    """

    def __init__(
        self,
        folder: Path,
        sources: Sequence[Path] = (),
        *,
        model: str | Path | None = None,
        recursive: bool = False,
        note: Callable[[str], None] = lambda _: None,
        options: ReadOptions = PLAIN,
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
        self.reader = FrameReader(options=options)
        self._detector: Detector | None = None
        self._model = model
        self._proposals: OrderedDict[int, list[tuple[float, float, float]]] = OrderedDict()
        self._worker = ThreadPoolExecutor(1, "detection", _give_way)
        self._scanning = threading.Lock()
        self._closing = False
        self._exporting = threading.Lock()
        self._timer: threading.Timer | None = None
        self.export()

    def close(self) -> None:
        """Write what is due and release the project."""
        self._closing = True
        self.write_due()
        if hasattr(self, "_worker"):
            self._worker.shutdown(cancel_futures=True)
        self.store.close()
        os.close(self._lock_file)

    def pixels(self, frame: int) -> npt.NDArray[Any]:
        """The counts of a frame, (H, W) uint8, uint16 or float32.

        Raises FrameError if it cannot be read, DataError for an unknown id.
        """
        source = self.store.source(frame)
        copies = [self.folder / "images" / f"{source.name}{suffix}" for suffix in (".png", ".npy")]
        return self.reader.read(source, next((copy for copy in copies if copy.is_file()), None))

    def save(self, frame: int, labels: Labels) -> Labels:
        """Store a frame's labels, as `LabelStore.save` does. `points.json` follows within a second."""
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

    def write_due(self) -> None:
        """Write `points.json` now if a change waits for it."""
        timer = getattr(self, "_timer", None)
        if timer is not None:
            timer.cancel()
            self.export()

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
        """Name of the model that proposes targets."""
        return self._detector_at_hand().meta.name

    @property
    def threshold(self) -> float:
        """The detection threshold in the model's record."""
        return self._detector_at_hand().meta.decode.threshold

    def use_model(self, model: str | Path | None) -> None:
        """Use another model for proposals; raises ModelFileError if it cannot be opened."""
        self._worker.submit(self._open, model).result()

    def _detector_at_hand(self) -> Detector:
        """The present model, without waiting for the detection at work."""
        return self._detector or self._worker.submit(self._open, self._model).result()

    def _open(self, model: str | Path | None) -> Detector:
        threads = max(1, (os.cpu_count() or 2) - 1)  # frames are read and sent at the same time
        self._detector = Detector(model, threshold=PROPOSAL_FLOOR, threads=threads)
        self._model = model
        self._proposals.clear()
        return self._detector

    def proposals(self, frame: int) -> list[tuple[float, float, float]]:
        """The model's detections in a frame above a low score: (x, y, score), highest score first."""
        known = self._proposals.get(frame)
        if known is not None:
            return known
        return self._worker.submit(self._detect, frame, self.pixels(frame)).result()

    def _detect(self, frame: int, pixels: npt.NDArray[Any]) -> list[tuple[float, float, float]]:
        if frame in self._proposals:
            return self._proposals[frame]
        detector = self._detector or self._open(self._model)
        found = detector(pixels)
        values = zip(found.xy.tolist(), found.scores.tolist(), strict=True)
        listed = [(x, y, score) for (x, y), score in values][:_MOST_PROPOSALS]
        self._proposals[frame] = listed
        if len(self._proposals) > _KEPT_PROPOSALS:
            self._proposals.popitem(last=False)
        self.store.set_doubt(frame, doubt(listed, detector.meta.decode.threshold), detector.meta.name)
        return listed

    def most_doubtful(self, after: int | None = None) -> int | None:
        """The unlabelled frame that a label helps most, as `LabelStore.most_doubtful` chooses it.

        It is one of the frames that the model has seen; the model sees more of them in the background.
        """
        found = self.store.most_doubtful(after)
        if found in (None, after):
            self.scan(1)
            found = self.store.most_doubtful(after)
        if self._scanning.acquire(blocking=False):
            threading.Thread(target=self._scan_ahead, daemon=True).start()
        return found

    def _scan_ahead(self) -> None:
        try:
            with suppress(DimpointError, RuntimeError):  # the project is closed meanwhile
                for _ in range(_SCANNED_AHEAD):
                    if self._closing or not self.scan(1):
                        return
        finally:
            self._scanning.release()

    def scan(self, count: int) -> int:
        """Run the model on up to `count` unlabelled frames that it has not seen; returns how many."""
        frames = self.store.unscanned(self.model_name, count)
        for frame in frames:
            try:
                self.proposals(frame)
            except DimpointError:
                self.store.set_doubt(frame, 0.0, self.model_name)
        return len(frames)


def _give_way() -> None:
    """Let this thread and those that it starts run after the others, where the system has priorities."""
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def doubt(found: Sequence[tuple[float, float, float]], threshold: float) -> float:
    """Doubt of a model about a frame: that of its most doubtful detection, 0 for a frame without any.

    The doubt of a detection is 1 where its score is the threshold, and falls linearly to 0 at 0 and 1.

    Parameters
    ----------
    found
        (x, y, score) of the detections.
    threshold
        The model's detection threshold.

    Returns
    -------
    float
        0 to 1.
    """
    scores = [score for _, _, score in found]
    return max((min(score / threshold, (1 - score) / (1 - threshold)) for score in scores), default=0.0)


def _copy_of(folder: Path, name: str) -> str:
    return f"{name}.npy" if (folder / "images" / f"{name}.npy").is_file() else f"{name}.png"


def _locked(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
    except OSError as error:
        raise DimpointError(
            f"{folder}: the project cannot be opened for writing ({error.strerror})"
        ) from None
    if lock(handle) is False:
        os.close(handle)
        raise DimpointError(f"{folder}: another dimpoint label has this project open")
    return handle
