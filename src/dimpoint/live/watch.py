"""`Watcher`: a camera, a tracker, rules and what they set off, in one loop that never falls behind."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from dimpoint.errors import DimpointError
from dimpoint.inference.detector import Detector
from dimpoint.live.cameras import Camera
from dimpoint.live.capture import Capture, Captured, frames_per_second
from dimpoint.live.clips import ClipWriter
from dimpoint.live.command import CommandRunner
from dimpoint.live.events import EventStore
from dimpoint.live.judge import Judge, Sight
from dimpoint.live.rules import AlarmRule, Rules
from dimpoint.live.webhook import WebhookQueue
from dimpoint.sources import Frame
from dimpoint.tracking.memory import CameraMemory, read_memory
from dimpoint.tracking.stream import Finder, Follower
from dimpoint.tracking.track import Track
from dimpoint.tracking.tracker import Tracker

SETTLED = 2.5  # seconds after which a spot that rests is known as such
HISTORY = 300  # points of a track that are kept in memory
_PATIENCE = 0.2  # seconds that the loop waits for a frame
_SAVE_EVERY = 60.0  # seconds between two copies of the camera memory
_MOST_SIZES = 4  # frame sizes of which the resting spots are kept
_LATEST = 120  # points that scores are averaged over
_SPEED_OVER = 1.0  # seconds over which a speed is measured


@dataclass
class Totals:
    """What has been counted since the start."""

    searched: int = 0
    tracks: int = 0
    alarms: int = 0
    refused: int = 0  # frames that the detector refused
    last_alarm: dict[str, Any] | None = None
    latency: float = 0.0  # seconds from a frame's arrival to the end of its work, smoothed
    going: int = 0
    static: int = 0
    started: float = field(default_factory=time.time)
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=60))  # when frames were searched

    @property
    def rate(self) -> float:
        """Frames a second that are searched."""
        return frames_per_second(self.recent)


@dataclass
class Outputs:
    """Where events and alarms go; each may be left out. say: one line for each alarm."""

    say: Callable[[str], None]
    store: EventStore | None = None
    webhook: WebhookQueue | None = None
    command: CommandRunner | None = None
    clips: ClipWriter | None = None


class Watcher:
    """Watches one camera until it is told to stop.

    Parameters
    ----------
    camera : Camera
        A stream, a device or a folder (`dimpoint.live.cameras`, `dimpoint.live.folder`).
    finder : callable
        A `Detector`, or any function of a frame (H, W) that gives `Detections`.
    outputs : Outputs
        Where events and alarms go.
    note : callable
        Called with a line of text when something happens.
    rules : Rules, optional
        What raises an alarm. Default: every confirmed track, after 2.5 s.
    memory_file : Path, optional
        Resting spots of the camera: read at the start, written each minute and at the end.
    attempts : int, optional
        Failures in a row after which the camera is given up. Default: never.

    Raises
    ------
    DataError
        For a memory file that cannot be used.
    """

    def __init__(
        self,
        camera: Camera,
        finder: Finder,
        outputs: Outputs,
        *,
        note: Callable[[str], None],
        rules: Rules | None = None,
        memory_file: Path | None = None,
        attempts: int | None = None,
    ) -> None:
        self.camera, self.outputs, self.totals, self._note = camera, outputs, Totals(), note
        if rules is None:
            rules = Rules(alarms=[AlarmRule(name="track", min_duration=SETTLED)])
        self._judge = Judge(rules)
        self._memory_file = memory_file
        memory = CameraMemory() if memory_file is None else read_memory(memory_file)
        self._memories: dict[tuple[int, int], CameraMemory] = {}
        self._file_size = memory.size
        if memory.size is not None:
            self._memories[memory.size] = memory
        self.tracker = Tracker(None, memory, HISTORY)
        self._follow = Follower(finder, self.tracker)
        each = None if outputs.clips is None else outputs.clips.add
        self.capture = Capture(camera, note=note, attempts=attempts, each=each)
        self._size: tuple[int, int] | None = None
        self._offset: float | None = None  # of the tracks' times against the time of day
        self._saved = time.monotonic()
        self._known: set[int] = set()  # ids of tracks that are counted
        self._told = ""

    def run(self, stop: Callable[[], bool], each: Callable[[], None] | None = None) -> None:
        """Watch until `stop` says so or the camera is given up.

        Parameters
        ----------
        stop : callable
            Whether to stop; asked after every frame.
        each : callable, optional
            Called after every frame, and at least five times a second.
        """
        self.capture.start()
        try:
            while not stop():
                frame = self.capture.take(_PATIENCE)
                if frame is not None:
                    self._step(frame)
                elif self.capture.ended:
                    return
                self._save_in_time()
                if each is not None:
                    each()
        finally:
            self._end()

    def _step(self, frame: Captured) -> None:
        size = (frame.pixels.shape[0], frame.pixels.shape[1])
        changed = size != self._size
        if changed:
            self._resize(size)
        self._offset = self._offset_of(frame)
        cut = frame.gap > 0
        if cut:
            self._interrupted(frame)
        shot = Frame(frame.name or self.camera.shown, frame.pixels, valid=frame.valid)
        try:
            tracks, _ = self._follow(shot, frame.time, number=frame.number, cut=cut or changed)
        except DimpointError as error:
            self.totals.refused += 1
            if str(error) != self._told:
                self._told = str(error)
                self._note(f"frame {frame.number} is passed over: {error}")
            return
        self.totals.searched += 1
        self.totals.recent.append(time.monotonic())
        self._record(tracks, (size[1], size[0]))
        self._raise_alarms(tracks, frame, (size[1], size[0]))
        spent = time.monotonic() - frame.arrived
        self.totals.latency += 0.1 * (spent - self.totals.latency) if self.totals.latency else spent

    def _offset_of(self, frame: Captured) -> float:
        """Time of day less stream time: arrival is late by what the network takes, so the least of late."""
        offset = frame.wall - frame.time
        if self._offset is None or abs(offset - self._offset) > 2.0:
            return offset
        return min(offset, self._offset + 1e-3)

    def _resize(self, size: tuple[int, int]) -> None:
        """Frames of another size: another memory, and zones that may have to be scaled."""
        self._size = size
        if size not in self._memories:
            if self._file_size is not None and self._memory_file is not None:
                kept = f"{self._file_size[1]}x{self._file_size[0]}"
                self._note(f"the camera memory is for {kept}: not used for frames of {size[1]}x{size[0]}")
            unused = self.tracker.memory if self.tracker.memory.size is None else CameraMemory()
            unused.size = size
            while len(self._memories) >= _MOST_SIZES:
                self._memories.pop(next(iter(self._memories)))
            self._memories[size] = unused
        if self._file_size is None:
            self._file_size = size
        self.tracker.memory = self._memories[size]
        self.tracker.memory.new_scene()
        for words in self._judge.remarks((size[1], size[0])):
            self._note(words)

    def _interrupted(self, frame: Captured) -> None:
        if self.outputs.store is not None:
            self.outputs.store.interruption(frame.wall - frame.gap, frame.wall, "no frames")

    def _record(self, tracks: list[Track], size: tuple[int, int]) -> None:
        gone = self.tracker.release()
        self.totals.going = sum(one.state == "confirmed" for one in tracks)
        self.totals.static = len(tracks) - self.totals.going
        for one in tracks:
            if one.id not in self._known:
                self._known.add(one.id)
                self.totals.tracks += 1
        self._known.difference_update(one.id for one in gone)
        if self.outputs.store is not None:
            self.outputs.store.take(tracks, self._offset or 0.0, size)
            self.outputs.store.take(gone, self._offset or 0.0, size, ended=True)
        if self.outputs.clips is not None:
            self.outputs.clips.goes_on([one for one in tracks if one.state == "confirmed"])

    def _raise_alarms(self, tracks: list[Track], frame: Captured, size: tuple[int, int]) -> None:
        seen = {one.id: one for one in tracks if one.state == "confirmed"}
        waiting = {one.id for one in (*self.tracker.finished, *tracks)}
        sights = [sight_of(one) for one in seen.values()]
        for rule, sight in self._judge.alarms(
            sights, frame.wall, size, waiting, lambda number: self.tracker.rests(seen[number])
        ):
            self._alarm(rule, sight, seen[sight.track], frame)

    def _alarm(self, rule: AlarmRule, sight: Sight, track: Track, frame: Captured) -> None:
        moment = datetime.fromtimestamp(frame.wall).astimezone()
        record: dict[str, Any] = {
            "id": uuid.uuid4().hex,
            "rule": rule.name,
            "source": self.camera.shown,
            "time": round(frame.wall, 3),
            "clock": moment.isoformat(timespec="milliseconds"),
            "track": sight.track,
            "frame": frame.number,
            "x": round(sight.x, 2),
            "y": round(sight.y, 2),
            "speed": round(sight.speed, 2),
            "score": round(sight.score, 4),
            "duration": round(sight.duration, 3),
            "width": frame.pixels.shape[1],
            "height": frame.pixels.shape[0],
            "clip": None,
        }
        outputs = self.outputs
        if outputs.clips is not None:
            name = f"{moment:%Y%m%d-%H%M%S}-{record['id'][:8]}"
            clip = outputs.clips.begin(name, track)
            record["clip"] = None if clip is None else str(clip)
        self.totals.alarms += 1
        self.totals.last_alarm = record
        outputs.say(alarm_line(record))
        if outputs.store is not None:
            outputs.store.alarm(record, track)
        if outputs.webhook is not None:
            outputs.webhook.put(record)
        if outputs.command is not None:
            outputs.command.put(record)

    def _save_in_time(self) -> None:
        if self._memory_file is not None and time.monotonic() - self._saved >= _SAVE_EVERY:
            self._save()

    def _save(self) -> None:
        self._saved = time.monotonic()
        if self._memory_file is None or self._file_size is None:
            return
        try:
            self._memories[self._file_size].save(self._memory_file)
        except (DimpointError, KeyError) as error:
            self._note(f"the camera memory is not written: {error}")

    def _end(self) -> None:
        """Everything that goes on ends: tracks are stored, the clip is written, the queue stays on disk."""
        self.capture.stop()
        outputs = self.outputs
        if outputs.store is not None:
            size = self._size or (0, 0)
            going = [*self.tracker.finished, *self.tracker.tracks]
            outputs.store.take(going, self._offset or 0.0, (size[1], size[0]), ended=True)
        for one in (outputs.clips, outputs.command, outputs.webhook, outputs.store):
            if one is not None:
                one.close()
        self._save()


def sight_of(track: Track) -> Sight:
    """What rules look at: place, speed over the last second, mean score of the latest measured points."""
    last = track.points[-1]
    latest = track.points[-_LATEST:]
    recent = [point for point in latest if last.time - point.time <= _SPEED_OVER]
    scores = [point.score for point in latest if point.measured]
    vx = sum(point.vx for point in recent) / len(recent)
    vy = sum(point.vy for point in recent) / len(recent)
    mean = sum(scores) / len(scores) if scores else 0.0
    speed = (vx * vx + vy * vy) ** 0.5
    return Sight(track.id, last.x, last.y, speed, mean, last.time - track.points[0].time)


def alarm_line(record: dict[str, Any]) -> str:
    """An alarm as one line."""
    return (
        f"ALARM {record['clock']} {record['rule']}: track {record['track']} at ({record['x']:.1f}, "
        f"{record['y']:.1f}), {record['speed']:.0f} px/s, score {record['score']:.2f}, "
        f"{record['duration']:.1f} s"
    )


def open_detector(
    model: str | Path | None, *, score: float, threads: int | None, device: str, polarity: Any
) -> Detector:
    """The detector that gives candidates.

    Parameters
    ----------
    model : str or Path, optional
        Name or file of the model. Default: the shipped one.
    score : float
        Least score of a candidate, 0..1, without the model's calibration.
    threads : int, optional
        Of the processor. Default: all cores.
    device : str
        Where the model runs, such as "cpu" or "auto".
    polarity : {"white-hot", "black-hot"}
        Whether targets are bright or dark.

    Returns
    -------
    Detector
        With `score` as its threshold.

    Raises
    ------
    DimpointError
        For a model, device or polarity that cannot be used.
    """
    return Detector(
        model, threshold=score, threads=threads, device=device, polarity=polarity, calibrated=False
    )
