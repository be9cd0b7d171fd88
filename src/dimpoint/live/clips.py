"""Clips around alarms: frames of the last seconds are kept in memory, and written when an alarm is raised."""

from __future__ import annotations

import ctypes
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from dimpoint.errors import DimpointError
from dimpoint.live.capture import Captured
from dimpoint.live.rules import ClipRule
from dimpoint.tracking.picture import Picture, draw_frame, write_pictures
from dimpoint.tracking.track import Track

_BEHIND = 1.0  # seconds that writing stays behind, so that the tracks of a frame are known
_HELD = 0.5  # seconds that a track's place is shown on frames that nobody looked at
_LOST = 5.0  # seconds without a frame after which a clip ends
_LONGEST_END = 10.0  # seconds that clips may take to be written once watching ends


class Ring:
    """The frames of the last seconds: `before` seconds and at most `memory_mb`, but always the latest one."""

    def __init__(self, before: float, memory_mb: int) -> None:
        self._before, self._bytes = before, memory_mb << 20
        self._frames: deque[Captured] = deque()
        self._size = 0
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        """How far it reaches back."""
        with self._lock:
            return self._frames[-1].time - self._frames[0].time if self._frames else 0.0

    def add(self, frame: Captured) -> None:
        """Keep a frame; the oldest ones go."""
        with self._lock:
            self._frames.append(frame)
            self._size += frame.pixels.nbytes
            while len(self._frames) > 1 and (
                frame.time - self._frames[0].time > self._before or self._size > self._bytes
            ):
                self._size -= self._frames.popleft().pixels.nbytes

    def frames(self) -> list[Captured]:
        """The frames that it holds, oldest first."""
        with self._lock:
            return list(self._frames)


class _Clip:
    """A clip in the making."""

    def __init__(self, path: Path, track: Track, frames: list[Captured], until: float, latest: float) -> None:
        self.path, self.tracks, self.until, self.latest = path, [track], until, latest
        self.frames = deque(frames)
        self.ended = False


class ClipWriter:
    """Writes one clip at a time, in a thread; an alarm while one is written makes that one longer.

    Parameters
    ----------
    rule : ClipRule
        How long clips are, seconds, and how much memory they may take, MB.
    folder : Path
        For the files.
    note : callable
        Called with a line of text when a clip is written or cannot be written.
    """

    def __init__(self, rule: ClipRule, folder: Path, note: Callable[[str], None]) -> None:
        self._rule, self._folder, self._note = rule, folder, note
        self.ring = Ring(rule.before, rule.memory_mb)
        self._most = max(rule.memory_mb << 20, 1)
        self.written = 0
        self.failed = 0
        self.dropped = 0
        self._clip: _Clip | None = None
        self._now = 0.0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, frame: Captured) -> None:
        """Take in a frame; called for every decoded one."""
        self.ring.add(frame)
        with self._changed:
            self._now = frame.time
            clip = self._clip
            if clip is None or clip.ended:
                return
            if frame.time > clip.until or (
                clip.frames and frame.pixels.shape != clip.frames[-1].pixels.shape
            ):
                clip.ended = True
            elif sum(one.pixels.nbytes for one in clip.frames) > 2 * self._most:
                self.dropped += 1  # the disk or the encoder is too slow
            else:
                clip.frames.append(frame)
            self._changed.notify_all()

    def begin(self, name: str, track: Track) -> Path | None:
        """Begin a clip for an alarm, or make the one at work longer.

        Parameters
        ----------
        name : str
            Of a new file, without suffix.
        track : Track
            Drawn into the clip.

        Returns
        -------
        Path or None
            The file that will have the alarm; None if no clip can begin now.
        """
        with self._changed:
            if self._clip is not None:
                if self._clip.ended:
                    return None  # the one before is still being written
                self._clip.until = min(self._now + self._rule.after, self._clip.latest)
                if track not in self._clip.tracks:
                    self._clip.tracks.append(track)
                return self._clip.path
            frames = self.ring.frames()
            if not frames:
                return None
            path = self._folder / f"{name}.mp4"
            now = frames[-1].time
            self._clip = _Clip(path, track, frames, now + self._rule.after, now + self._rule.most)
            self._thread = threading.Thread(target=self._write, args=(self._clip,), name="clip", daemon=True)
            self._thread.start()
            return path

    def goes_on(self, tracks: list[Track]) -> None:
        """Make the clip longer while one of its tracks goes on."""
        with self._changed:
            clip = self._clip
            if clip is not None and any(one in clip.tracks for one in tracks):
                clip.until = min(self._now + self._rule.after, clip.latest)

    def close(self) -> None:
        """Write what the clip at work has, for at most ten seconds."""
        with self._changed:
            if self._clip is not None:
                self._clip.ended = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_LONGEST_END)

    def _write(self, clip: _Clip) -> None:
        try:
            begin = clip.frames[0].time
            self._folder.mkdir(parents=True, exist_ok=True)
            write_pictures(clip.path, self._pictures(clip, begin))
            self.written += 1
            self._note(f"clip: {clip.path}")
        except (DimpointError, OSError) as error:
            self.failed += 1
            self._note(f"clip not written, watching goes on: {error}")
        finally:
            with self._changed:
                self._clip = None
            _give_back()

    def _pictures(self, clip: _Clip, begin: float) -> Iterator[tuple[float, Picture]]:
        while True:
            with self._changed:
                while not clip.ended and not (
                    clip.frames and self._now - clip.frames[0].time >= min(_BEHIND, self._rule.after)
                ):
                    if not self._changed.wait(_LOST):
                        clip.ended = True  # the source is gone
                if not clip.frames:
                    return
                frame, tracks = clip.frames.popleft(), tuple(clip.tracks)
            yield frame.time - begin, _drawn(frame, tracks)
            time.sleep(0)  # watching comes first


def _give_back() -> None:
    """Return freed memory to the system; glibc keeps what encoders leave in the heaps of their threads."""
    with suppress(OSError, AttributeError, TypeError):  # another C library, or none that can be asked
        ctypes.CDLL(None).malloc_trim(0)


def _drawn(frame: Captured, tracks: Sequence[Track]) -> Picture:
    """A frame with the tracks of its alarms as they were then."""
    shown = []
    for one in tracks:
        points = [point for point in list(one.points) if point.frame <= frame.number]
        if points and frame.time - points[-1].time <= _HELD:
            last = replace(points[-1], frame=frame.number)
            shown.append(replace(one, points=[*points[:-1], last]))
    return draw_frame(frame.pixels, shown, frame.number, frame.time)
