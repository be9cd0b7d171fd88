"""Frames of a camera without falling behind: read in a thread, opened again when lost."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from dimpoint.errors import DimpointError
from dimpoint.live.cameras import Camera, RefusedError, Shot
from dimpoint.model.validity import Mask
from dimpoint.sources.colours import Pixels

_FRESH = 0.25  # seconds that a frame may wait while newer ones are there
_MOST_WAITING = 32  # frames
_FIRST_PAUSE = 1.0  # seconds before the source is opened again
_REFUSED_PAUSE = 30.0  # the same, where it refused
_LONGEST_PAUSE = 60.0
_PROVEN = 10.0  # seconds of frames after which the pauses begin anew
_JUMP = 5.0  # seconds that presentation times may run ahead of arrival before they count as jumped
_OUTAGE = 2.0  # seconds without a frame that count as a gap
_TIMES_USUAL = 4  # and so many times the usual step of a slow source
_USUAL = 0.04  # seconds between frames while nothing is known


@dataclass(frozen=True, eq=False)
class Captured:
    """One frame with its place in time.

    number: counts every frame that was decoded. time: seconds, always increasing, by presentation times
    where the source has them. wall: the time of day of its arrival, seconds since 1970. gap: seconds without
    a frame before it, 0 where that is usual. valid: as of the `Shot`.
    """

    pixels: Pixels
    number: int
    time: float
    wall: float
    arrived: float
    gap: float = 0.0
    name: str = ""
    valid: Mask | None = None


class LiveClock:
    """One time that always increases, from presentation times that may jump, run backwards or be missing."""

    def __init__(self) -> None:
        self._time: float | None = None
        self._presented: float | None = None
        self._arrived = 0.0
        self._usual = _USUAL

    def __call__(self, presented: float | None, arrived: float) -> float:
        """The time of the next frame. presented: as the source says. arrived: by `time.monotonic`."""
        if self._time is None:
            step = 0.0
        else:
            waited = max(arrived - self._arrived, 0.0)
            step = waited
            if presented is not None and self._presented is not None:
                step = presented - self._presented
                if not 0 < step <= waited + _JUMP:
                    step = max(waited, self._usual)
                else:
                    self._usual = min(step, 1.0)
            step = max(step, 1e-4)
        self._time = step if self._time is None else self._time + step
        self._presented, self._arrived = presented, arrived
        return self._time

    def reopened(self) -> None:
        """The source was opened again: its times begin anew."""
        self._presented = None


def frames_per_second(recent: Sequence[float]) -> float:
    """The rate of frames from the times of the latest ones, seconds; 0 where it is not known."""
    times = list(recent)
    return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else 0.0


@dataclass
class Health:
    """How the source is: state is `connecting`, `watching`, `waiting` (to open it again) or `ended`."""

    state: str = "connecting"
    frames: int = 0
    passed_over: int = 0
    reconnects: int = 0
    failures: int = 0  # in a row
    error: str = ""
    given_up: bool = False
    last_frame: float | None = None  # by time.monotonic
    size: tuple[int, int] | None = None
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=60))

    @property
    def rate(self) -> float:
        """Frames a second that arrive."""
        return frames_per_second(self.recent)


class Capture:
    """Reads a camera in a thread of its own; `take` gives the newest frame.

    Frames may wait for a quarter of a second, so that a burst loses none; an older one is passed over for the
    next, and counted.

    Parameters
    ----------
    camera : Camera
        What is read.
    note : callable
        Called with a line of text when something happens.
    attempts : int, optional
        Failures in a row after which the source is given up. Default: never.
    each : callable, optional
        Called in the thread with every decoded frame.
    """

    def __init__(
        self,
        camera: Camera,
        *,
        note: Callable[[str], None],
        attempts: int | None = None,
        each: Callable[[Captured], None] | None = None,
    ) -> None:
        self.camera, self.health = camera, Health()
        self._note, self._attempts, self._each = note, attempts, each
        self._clock = LiveClock()
        self._waiting: deque[Captured] = deque()
        self._changed = threading.Condition()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self, patience: float = 2.0) -> None:
        """Stop reading; a read that hangs is left alone."""
        self._ending.set()
        self._thread.join(patience)

    @property
    def ended(self) -> bool:
        """Whether no frame will come any more."""
        return self.health.state == "ended"

    @property
    def passed_over(self) -> int:
        """Frames that nobody looked at, because newer ones were there."""
        return self.health.passed_over + self.camera.passed_over

    def take(self, patience: float) -> Captured | None:
        """The next frame that is fresh enough; None if none arrives within `patience` seconds."""
        with self._changed:
            if not self._waiting:
                self._changed.wait(patience)
            if not self._waiting:
                return None
            now, gap = time.monotonic(), 0.0
            while len(self._waiting) > 1 and now - self._waiting[0].arrived > _FRESH:
                gap = max(gap, self._waiting.popleft().gap)
                self.health.passed_over += 1
            frame = self._waiting.popleft()
        return frame if gap <= frame.gap else _with_gap(frame, gap)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        health = self.health
        try:
            while not self._ending.is_set():
                begin, frames = time.monotonic(), health.frames
                try:
                    for shot in self.camera.shots(self._ending.is_set, self._note):
                        self._put(shot)
                        if self._ending.is_set():
                            return
                    if self._ending.is_set():
                        return
                    error: Exception = DimpointError("the source ended")
                except DimpointError as found:
                    error = found
                except Exception as found:  # a fault of a decoder must not end the watch
                    error = DimpointError(f"{type(found).__name__} while reading")
                if health.frames > frames and time.monotonic() - begin > _PROVEN:
                    pause = _FIRST_PAUSE
                if health.frames > frames:
                    health.failures = 0
                health.failures += 1
                if isinstance(error, RefusedError):
                    pause = max(pause, _REFUSED_PAUSE)
                if self._attempts is not None and health.failures >= self._attempts:
                    health.error, health.given_up = str(error), True
                    tried = "1 attempt" if health.failures == 1 else f"{health.failures} attempts"
                    self._note(f"{self.camera.shown}: {error}; given up after {tried}")
                    return
                self._wait(str(error), pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        finally:
            with self._changed:
                health.state = "ended"
                self._changed.notify_all()

    def _wait(self, error: str, pause: float) -> None:
        health = self.health
        if error != health.error or health.state == "watching":
            self._note(f"{self.camera.shown}: {error}; opened again in {pause:g} s")
        health.error, health.state = error, "waiting"
        self._ending.wait(pause)
        self._clock.reopened()

    def _put(self, shot: Shot) -> None:
        health = self.health
        last = health.last_frame
        if health.state == "waiting":
            health.reconnects += 1
            self._note(f"{self.camera.shown}: frames arrive again")
        elif health.state == "connecting":
            height, width = shot.pixels.shape
            self._note(f"{self.camera.shown}: watching, frames of {width}x{height}")
        health.state, health.last_frame, health.error = "watching", shot.arrived, ""
        size = (shot.pixels.shape[0], shot.pixels.shape[1])
        if health.size is not None and health.size != size:
            self._note(f"{self.camera.shown}: frames are {size[1]}x{size[0]} from now on")
        health.size = size
        wall = time.time()
        moment = self._clock(shot.time, shot.arrived)
        gap = 0.0 if last is None else shot.arrived - last
        if gap < max(_OUTAGE, _TIMES_USUAL / health.rate if health.rate else 0.0):
            gap = 0.0
        frame = Captured(shot.pixels, health.frames, moment, wall, shot.arrived, gap, shot.name, shot.valid)
        health.frames += 1
        health.recent.append(shot.arrived)
        if self._each is not None:
            self._each(frame)
        with self._changed:
            self._waiting.append(frame)
            if len(self._waiting) > _MOST_WAITING:
                oldest = self._waiting.popleft()
                health.passed_over += 1
                if oldest.gap > self._waiting[0].gap:
                    self._waiting[0] = _with_gap(self._waiting[0], oldest.gap)
            self._changed.notify_all()


def _with_gap(frame: Captured, gap: float) -> Captured:
    return replace(frame, gap=gap)
