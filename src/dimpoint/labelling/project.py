"""A labelling project: a folder that is a dimpoint data set at any moment.

PROJECT/labels.db     every label with its history
PROJECT/images/       a copy of each frame with an answer, counts unchanged
PROJECT/withdrawn/    copies of frames whose answer was taken back
PROJECT/points.json   the labels of these frames as COCO keypoints, written again after each change
PROJECT/runs/         models that were trained from the page
"""

from __future__ import annotations

import os
import shutil
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
from dimpoint.labelling.store import ANSWERS, Labels, LabelStore, SourceFrame
from dimpoint.sources import PLAIN, ReadOptions
from dimpoint.text import counted

PROPOSAL_FLOOR = 0.05  # proposals of a lower score are not offered
_MOST_PROPOSALS = 200
_KEPT_PROPOSALS = 2000
_SCANNED_AHEAD = 32  # frames that the model sees in the background while one is labelled
_ASIDE = "withdrawn"
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
        Called with a line about each file that cannot be read, and one about how many frames are added to
        a project that has some.
    options
        How the sources are read. Default: as they stand.

    Raises
    ------
    DimpointError
        If the folder cannot be written, or another server has it open.
    DataError
        If the store is damaged, the project has no frames, or the folder holds another data set's points.
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
        if (folder / "points.json").exists() and not (folder / "labels.db").exists():
            raise DataError(
                f"{folder}: holds a points.json but no labels.db, so dimpoint label did not make it and "
                "would overwrite its points; take another folder as project, and import points.json there"
            )
        is_new = not folder.exists()
        self._lock_file = _locked(folder)
        self.store = LabelStore(folder / "labels.db")
        try:
            if sources:
                known = self.store.sources()
                listed = list_frames(sources, recursive=recursive, note=note, known=known)
                added = self.store.add_frames(listed)
                if known:
                    note(f"{counted(added, 'frame')} added, {len(listed) - added} known already")
            if not self.store.count()["all"]:
                raise DataError(f"{folder}: the project has no frames yet; name files, folders or videos")
        except BaseException:
            self.close()
            if is_new:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        self.reader = FrameReader(options=options)
        self._detector: Detector | None = None
        self._model = model
        self._proposals: OrderedDict[int, list[tuple[float, float, float]]] = OrderedDict()
        self._worker = ThreadPoolExecutor(1, "detection", _give_way)
        self._scanning = threading.Lock()
        self._closing = False
        self._exporting, self._moving = threading.Lock(), threading.Lock()
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
        return self.reader.read(source, self._copy(source))

    def save(self, frame: int, labels: Labels) -> Labels:
        """Store a frame's labels, as `LabelStore.save` does. `points.json` follows within a second."""
        pixels, source = self.pixels(frame), self.store.source(frame)
        height, width = pixels.shape
        with self._moving:
            if (labels.points or labels.status == "empty") and self._copy(source) is None:
                write_copy(self.folder / _ASIDE / copy_name(source, pixels), pixels)
            stored = self.store.save(frame, labels, (height, width))
            self._place(source, answered=stored.status in ANSWERS)
        self._export_soon()
        return stored

    def _copy(self, source: SourceFrame) -> Path | None:
        """The project's copy of a frame, in `images/` or set aside."""
        names = [f"{source.name}{suffix}" for suffix in (".png", ".npy")]
        copies = (self.folder / place / name for place in ("images", _ASIDE) for name in names)
        return next((copy for copy in copies if copy.is_file()), None)

    def _place(self, source: SourceFrame, *, answered: bool) -> None:
        """Move a frame's copy into `images/` or out of it, never the file that the frame comes from."""
        copy, folder = self._copy(source), self.folder / ("images" if answered else _ASIDE)
        if copy is None or copy.parent == folder or copy.resolve() == Path(source.source):
            return
        try:
            folder.mkdir(exist_ok=True)
            copy.replace(folder / copy.name)
        except OSError as error:
            raise DimpointError(f"{copy}: cannot be moved to {folder} ({error.strerror})") from None

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
        """Write `points.json` from the store, and keep in `images/` what it lists; returns its path."""
        with self._exporting:
            with self._moving:
                labelled = self.store.labelled()
                aside = {copy.stem for copy in (self.folder / _ASIDE).glob("*")}
                for source in self.store.withdrawn():
                    self._place(source, answered=False)
                for source, _, _ in labelled:
                    if source.name in aside:  # a killed server has left it there
                        self._place(source, answered=True)
            images = [
                PointImage(
                    _copy_of(self.folder, source.name),
                    width,
                    height,
                    np.array(labels.points, np.float32).reshape(-1, 2),
                    np.array(labels.regions, np.float32).reshape(-1, 4),
                )
                for source, labels, (height, width) in labelled
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

    def of_one(score: float) -> float:
        if score == threshold:
            return 1.0
        return score / threshold if score < threshold else (1 - score) / (1 - threshold)

    return max((of_one(score) for _, _, score in found), default=0.0)


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
