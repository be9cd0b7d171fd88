"""Numbers of video frames in the order of presentation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_CONSTANT = 0.6  # of the finest rate, that the mean rate has where frames are dropped and no more
_OFF_GRID = 0.1  # frames, that a time may lie beside the grid of the rate
_MOST_DROPPED = 100_000  # frames; a larger gap is a clock that jumped


class Numbering:
    """Numbers by presentation time; counted without a constant rate, and once times go back.

    Parameters
    ----------
    container
        The opened file.
    stream
        Its video stream.

    Attributes
    ----------
    count
        Frames so far, lost ones among them.
    counts
        Whether times say nothing: AVI stores frames in the order of decoding, and no times of presentation.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        base, average = stream.base_rate, stream.average_rate
        constant = bool(base and average and average >= _CONSTANT * base)
        self._rate = float(base) if constant and base else None
        start = stream.start_time
        self._start = float(start * stream.time_base) if start and stream.time_base else 0.0
        codec = stream.codec_context
        self.counts = container.format.name == "avi" and codec is not None and codec.has_b_frames
        self.count = 0
        self._last = -1
        self._latest = -math.inf  # seconds
        self._went_back = False

    @property
    def end(self) -> int:
        """Frames up to the latest, dropped ones among them."""
        latest = self._on_grid(self._latest) if self.counts else None
        return max(self.count, self._last + 1, latest or 0)

    def next(self, time: float | None) -> tuple[int, tuple[int, int] | None]:
        """The number of the next frame, and the numbers (first, end) that are missing before it."""
        if time is not None:
            self._went_back |= time < self._latest
            self._latest = max(self._latest, time)
        place = max(self._place(time), self._last + 1)
        gap = (self._last + 1, place) if place > self._last + 1 else None
        self.count += 1
        self._last = place
        return place, gap

    def lost(self, times: Sequence[float | None]) -> tuple[int, int]:
        """The first and the last number of frames that cannot be read."""
        numbers = []
        for time in sorted(times, key=lambda time: time or 0.0):
            numbers.append(self._place(time))
            self.count += 1
        self._last = max(self._last, *numbers)
        return numbers[0], numbers[-1]

    def time(self, number: int, time: float | None) -> float | None:
        """The presentation time of a frame in seconds, given the one that its file states."""
        return number / self._rate if self.counts and self._rate else time

    def _place(self, time: float | None) -> int:
        place = None if self.counts or self._went_back else self._on_grid(time)
        return self.count if place is None or place - self.count >= _MOST_DROPPED else place

    def _on_grid(self, time: float | None) -> int | None:
        """The place of a time at the constant rate; None where there is none."""
        if self._rate is None or time is None:
            return None
        place = (time - self._start) * self._rate
        if not math.isfinite(place):  # a damaged file states no time base
            return None
        return round(place) if abs(place - round(place)) < _OFF_GRID else None


def note_of_gap(first: int, end: int) -> str:
    """The note about numbers that are missing before a frame."""
    numbers = str(first) if end == first + 1 else f"{first} to {end - 1}"
    return f"the video lacks frames {numbers} (dropped in recording); numbers follow presentation time"
