"""Frames of a source -> tracks: candidates, camera motion and tracker run together, one frame at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dimpoint.errors import ConfigError, DataError, DimpointError, FrameError
from dimpoint.inference.detections import Detections
from dimpoint.inference.detector import Detector
from dimpoint.model.intensity import Polarity
from dimpoint.sources import Frame, Sources, frames_from
from dimpoint.sources.frames import OnError, OnPassed
from dimpoint.sources.picture import PLAIN, ReadOptions
from dimpoint.text import counted
from dimpoint.tracking.memory import CameraMemory, brightness, read_memory
from dimpoint.tracking.motion import Motion, MotionEstimator
from dimpoint.tracking.result import ASSUMED_RATE, MotionRow, Span, Tracks
from dimpoint.tracking.track import Track, TrackerSettings
from dimpoint.tracking.tracker import Tracker

CANDIDATE_SCORE = 0.3
"""Least score of a candidate; far below a detection's: persistence confirms what one frame cannot."""

_MOST_NOTES = 50
_MOST_ZOOM = math.log(4.0)


class Finder(Protocol):
    """What gives candidates: a `Detector`, or any function of a frame."""

    def __call__(self, frame: npt.NDArray[np.generic], /) -> Detections: ...


@dataclass
class Clock:
    """Times that always increase: the source's own where it has them, else counted by a rate.

    rate: frames a second, None where the user gave none. counted: frames without a time. backwards: frames
    whose time did not increase and was replaced by the last one plus the usual step.
    """

    rate: float | None = None
    counted: int = 0
    backwards: int = 0
    _last: float | None = None
    _shift: float = 0.0
    _step: float | None = None

    def __post_init__(self) -> None:
        if self.rate is not None and not (math.isfinite(self.rate) and self.rate > 0):
            raise ConfigError(f"fps must be above 0, got {self.rate}")

    def __call__(self, time: float | None, *, new_source: bool, steps: int = 1) -> float:
        """The time of the next frame, seconds. new_source: its own times begin again.

        steps: frames since the last one, more than 1 where some are missing or cannot be read.
        """
        step = self._step or 1 / (self.rate or ASSUMED_RATE)
        last = self._last
        if time is None or self.rate is not None:
            self.counted += time is None and self.rate is None
            now = 0.0 if last is None else last + steps / (self.rate or ASSUMED_RATE)
        else:
            if new_source:
                self._shift = 0.0 if last is None else last + step - time
            now = time + self._shift
            if last is not None and now <= last:
                self.backwards += 1
                now = last + step
            elif last is not None and not new_source:
                self._step = now - last
        self._last = now
        return now

    def notes(self) -> list[str]:
        """What a reader of the times should know."""
        notes = []
        if self.counted:
            rate = f"{ASSUMED_RATE:g} frames/s assumed (--fps says otherwise)"
            times = counted(self.counted, "frame has no time of its own", "frames have no time of their own")
            notes.append(f"{times}: {rate}")
        if self.backwards:
            notes.append(
                counted(self.backwards, "frame has", "frames have")
                + " a time that does not increase: replaced by the usual step"
            )
        return notes


class Follower:
    """Takes one frame after another: candidates, camera motion, tracker.

    finder: gives the candidates of a frame. The scene begins anew where the camera's motion has added up to a
    zoom that leaves nothing of the first frame, so that endless streams do not end in rounding errors.
    """

    def __init__(self, finder: Finder, tracker: Tracker) -> None:
        self.finder, self.tracker = finder, tracker
        self._estimate = MotionEstimator()
        self._zoom = 0.0  # logarithm of what the motions add up to

    def __call__(
        self, frame: Frame, time: float, *, number: int | None = None, cut: bool = False
    ) -> tuple[list[Track], Motion]:
        """The confirmed and static tracks that go on after this frame, and the camera's motion.

        time: seconds, later than before. number: of the frame. cut: another scene begins with this frame.
        """
        motion = self._estimate(frame.pixels, frame.valid)
        scale = abs(float(np.linalg.det(motion.matrix[:, :2])))
        self._zoom += 0.5 * math.log(max(scale, 1e-6))
        if cut or abs(self._zoom) > _MOST_ZOOM:
            motion = Motion(np.eye(2, 3), "cut")
        if motion.how == "cut":
            self._zoom = 0.0
        found = self._candidates(frame, motion)
        light = brightness(frame.pixels, found.xy)
        return self.tracker.update(found, time, motion=motion, frame=number, light=light), motion

    def _candidates(self, frame: Frame, motion: Motion) -> Detections:
        if motion.how in ("frozen", "blank"):
            none = np.zeros(0, np.float32)
            height, width = frame.pixels.shape
            return Detections(none.reshape(0, 2), none, width=width, height=height)
        if frame.valid is not None and isinstance(self.finder, Detector):
            return self.finder(frame.pixels, frame.valid)
        return self.finder(frame.pixels)


@dataclass
class _Reading:
    """What reading met since the last frame: things that cannot be read, and the end of a source."""

    unread: int = 0
    another: bool = False


@dataclass
class Run:
    """The frames of a source with the tracks that go on; iterate it once, then take `result()`.

    Each step gives (frame, tracks): the `Frame`, its `time` filled in, and the confirmed and static tracks.
    one_camera: whether several sources are of one camera, so that its resting spots are known in all of them.
    on_error: called with a frame that holds no measurement; without it the error is raised.
    """

    frames: Iterator[Frame]
    finder: Finder
    tracker: Tracker
    clock: Clock
    source: str = ""
    model: str = ""
    count: int = 0
    number: int = -1  # of the last frame
    motions: list[MotionRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    span: Span | None = None
    reading: _Reading = field(default_factory=_Reading)
    one_camera: bool = False
    on_error: OnError | None = None

    def __iter__(self) -> Iterator[tuple[Frame, list[Track]]]:
        follow = Follower(self.finder, self.tracker)
        before: Frame | None = None
        base = 0
        for frame in self.frames:
            if not has_measurements(frame):
                self._refuse(frame)
                continue
            new_source = before is not None and self._begins(frame, before)
            self._take_notes(frame, before)
            before = frame
            if new_source:
                base = self.number + 1
                if not self.one_camera:
                    self.tracker.memory.spots = []
            # a picture that cannot be read has a number, and takes its time, like the others
            following = self.number + 1 + (self.reading.unread if frame.index is None else 0)
            number = max(following, base + (frame.index or 0))
            steps = 1 if new_source else number - self.number
            self.number, self.reading.unread, self.reading.another = number, 0, False
            time = self.clock(frame.time, new_source=self.count == 0 or new_source, steps=steps)
            self._check_size(frame)
            tracks, motion = follow(frame, time, number=number, cut=new_source)
            if motion.how != "still":
                self.motions.append(MotionRow(number, time, motion.how, motion.matrix))
            self.count += 1
            self.span = ((number, time) if self.span is None else self.span[0], (number, time))
            yield replace(frame, time=time), tracks

    def _refuse(self, frame: Frame) -> None:
        """Tell of a frame without any measurement as of one that cannot be read; raise without `on_error`."""
        error = FrameError(f"{frame.file}: no pixel is valid")
        if self.on_error is None:
            raise error
        self.on_error(frame.file, error)

    def _begins(self, frame: Frame, before: Frame) -> bool:
        """Whether another source begins: a folder, a video, or a stack of frames."""
        if self.reading.another:
            return True
        return frame.index is not None and _source_of(frame) != _source_of(before)

    def _take_notes(self, frame: Frame, before: Frame | None) -> None:
        for note in frame.notes:
            if (before is None or note not in before.notes) and len(self.notes) < _MOST_NOTES:
                self.notes.append(f"{frame.file if frame.path is None else frame.path}: {note}")

    def _check_size(self, frame: Frame) -> None:
        memory, shape = self.tracker.memory, frame.pixels.shape
        if memory.size is None:
            memory.size = (shape[0], shape[1])
        elif memory.size != shape:
            height, width = memory.size
            if memory.kept:
                raise DataError(
                    f"{frame.file}: is {shape[1]}x{shape[0]}, the camera memory is for {width}x{height}"
                )
            memory.size, memory.spots = (shape[0], shape[1]), []

    def result(self) -> Tracks:
        """The tracks so far; tentative ones get numbers after those of the others."""
        notes = [*self.notes, *self.clock.notes()]
        if self.tracker.passed_over:
            most = self.tracker.settings.most_candidates
            notes.append(
                f"{self.tracker.passed_over} candidates beyond the best {most} of a frame passed over"
            )
        tracks = [copy(one) for one in self.tracker.all_tracks()]
        used = max((one.id for one in tracks), default=0)
        for number, one in enumerate((one for one in tracks if one.state == "tentative"), used + 1):
            one.id = number
        return Tracks(tracks, self.source, self.model, self.count, self.motions, notes, span=self.span)


def track(
    source: Sources,
    *,
    model: str | Path | None = None,
    finder: Finder | None = None,
    fps: float | None = None,
    candidate_score: float = CANDIDATE_SCORE,
    settings: TrackerSettings | None = None,
    camera_memory: Path | None = None,
    threads: int | None = None,
    device: str = "cpu",
    polarity: Polarity = "white-hot",
    recursive: bool = False,
    exclude: tuple[Path, ...] = (),
    on_error: OnError | None = None,
    on_passed: OnPassed | None = None,
    options: ReadOptions = PLAIN,
) -> Run:
    """Track the targets of a video or of frames: `for frame, tracks in dimpoint.track("clip.mp4")`.

    Parameters
    ----------
    source : str, Path, array or list of these
        Video, folder, pattern, multi-page TIFF file or stack (N, H, W); see `dimpoint.sources.frames_from`.
    model : str or Path, optional
        Name or file of the model; the shipped default if left out.
    finder : callable, optional
        Instead of a model, what gives the candidates of a frame: (H, W) array -> `Detections`.
    fps : float, optional
        Frames a second; replaces the times of a video. Left out, the video's presentation times count, and 25
        frames a second where there are none, which the result's notes say.
    candidate_score : float
        Least score of a candidate, 0..1. Scores in tracking are the network's own, without the calibration
        that a model's record may hold.
    settings : TrackerSettings, optional
        Of the tracker.
    camera_memory : Path, optional
        File with the resting spots of this camera; it is read if it is there, and not written.
    threads : int, optional
        Threads of the processor; all cores if left out.
    device : str
        Where the model runs; see `dimpoint.inference.backends.open_backend`.
    polarity : {"white-hot", "black-hot"}
        "black-hot" inverts frames in which targets are dark.
    recursive, exclude, on_error, on_passed, options
        As of `dimpoint.sources.frames_from`.

    Returns
    -------
    Run
        Iterate it for (frame, tracks), once; `result()` gives the `Tracks`.

    Raises
    ------
    DimpointError
        For a source, model, option or memory that cannot be used: which one, and what would be right.
    """
    if not 0 <= candidate_score < 1:
        raise ConfigError(f"the least score of a candidate must be in 0..1, got {candidate_score}")
    clock = Clock(fps)
    memory = CameraMemory() if camera_memory is None else read_memory(camera_memory)
    name = ""
    if finder is None:
        detector = Detector(
            model,
            threshold=candidate_score,
            threads=threads,
            device=device,
            polarity=polarity,
            calibrated=False,  # the tracker weighs the network's own scores
        )
        finder, name = detector, detector.meta.name
    reading = _Reading()

    def told(file: str, error: DimpointError) -> None:
        reading.unread += 1
        if on_error is not None:
            on_error(file, error)

    tell = None if on_error is None else told
    parts = [
        frames_from(
            part,
            recursive=recursive,
            exclude=exclude,
            on_error=tell,
            on_passed=on_passed,
            options=options,
        )
        for part in _parts(source)
    ]
    return Run(
        _joined(parts, reading),
        finder,
        Tracker(settings, memory),
        clock,
        _named(source),
        name,
        reading=reading,
        one_camera=camera_memory is not None,
        on_error=tell,
    )


def has_measurements(frame: Frame) -> bool:
    """Whether some pixel of a frame is valid: others are left out of a run."""
    return frame.valid is None or bool(frame.valid.any())


def _parts(source: Sources) -> list[Sources]:
    """Sources that are read one after another: each folder alone, files and arrays with those beside them.

    Files stay together because a shell gives the pictures of a sequence one by one.
    """
    if not isinstance(source, list | tuple):
        return [source]
    parts: list[Sources] = []
    for folder, group in groupby(source, lambda one: isinstance(one, str | Path) and Path(one).is_dir()):
        found = list(group)
        parts += found if folder else [found]
    return parts


def _joined(parts: list[Iterator[Frame]], reading: _Reading) -> Iterator[Frame]:
    for number, frames in enumerate(parts):
        reading.another, reading.unread = number > 0, 0
        yield from frames


def _source_of(frame: Frame) -> tuple[Path | None, str]:
    """The file, or the array by its name, that holds a numbered frame."""
    return frame.path, "" if frame.index is None else frame.file.rpartition("#")[0]


def _named(source: Sources) -> str:
    if isinstance(source, np.ndarray):
        return "array"
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, list | tuple):
        return ", ".join(_named(one) for one in source)
    return str(source)
