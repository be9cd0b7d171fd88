"""Video files -> frames, one at a time.

Which counts come out of which pixel format, `colours.grey_of_video` says.

Rotation tags are not applied, as in image files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dimpoint.errors import DimpointError, FrameError, MissingExtraError
from dimpoint.sources.colours import VideoColours
from dimpoint.sources.containers import lacks_index, open_container, y16_size
from dimpoint.sources.files import SUPPORTED_FORMATS
from dimpoint.sources.picture import PLAIN, OpenFile, Picture, Pixels, ReadOptions, as_frame
from dimpoint.text import counted

if TYPE_CHECKING:
    from types import ModuleType

    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream


def read_video(path: Path) -> Iterator[Pixels]:
    """The pixels of every frame of the first video stream; FrameError at the first that cannot be read."""
    for _, found in video_frames(path):
        if isinstance(found, FrameError):
            raise found
        yield found.pixels


def video_frames(path: Path, options: ReadOptions = PLAIN) -> Iterator[tuple[int, Picture | FrameError]]:
    """The frames of one video stream in order, each with its number, or why it cannot be read.

    Numbers count from 0 by presentation time, so that frames that were dropped in recording do not shift
    those after them; a video without a constant rate is counted frame by frame. Which of several streams is
    read, and which numbers are missing, stands in the notes. One frame is in memory at a time.

    Damage costs the frames that it reaches: in most codecs those up to the next key frame. They are one
    FrameError, which names the file and the numbers, at the first of them. With `options.accept_damaged` what
    the decoder makes of them is taken.

    Raises FrameError where the file is no video, and after the last frame of a file that was cut;
    MissingExtraError without PyAV.
    """
    with OpenFile(path):  # says better than FFmpeg why a file cannot be opened
        pass
    av = import_av()
    given = 0
    try:
        with open_container(path) as container:
            stream = _video_stream(container, path, options.stream)
            notes = _stream_notes(container, stream)
            if stream.codec_context is None:
                yield from _y16_frames(container, stream, path)
                return
            numbering = _Numbering(stream)
            colours = VideoColours(str(path), options.colour)
            end, damaged = None, False
            for found in _decoded(container, stream, options.accept_damaged):
                damaged = isinstance(found, _Lost)
                if isinstance(found, _Lost):
                    first, last = numbering.lost(found.times)
                    yield first, FrameError(_lost_text(path, first, last, found.reason))
                else:
                    number, gap = numbering.next(found.time)
                    missing = (_missing(*gap),) if gap is not None else ()
                    pixels = as_frame(colours.grey(found), f"{path}, frame {number}")
                    said = (colours.note,) if colours.note else ()
                    yield number, Picture(pixels, None, (*notes, *missing, *said), found.time)
                    given += 1
                    end = found.time
            # of PNG a packet whose head is damaged is not there at all
            if (damaged or stream.codec_context.name == "png") and stream.frames > numbering.count:
                raise _DamageError(_cut(stream.frames - numbering.count))
            _check_complete(container, stream, end)
    except (av.error.FFmpegError, _DamageError) as error:
        raise FrameError(_complaint(path, given, error)) from error


def _y16_frames(
    container: InputContainer, stream: VideoStream, path: Path
) -> Iterator[tuple[int, Picture | FrameError]]:
    """The 16-bit counts of an AVI file of type Y16, which FFmpeg lists and does not decode."""
    width, height = y16_size(path)
    numbering = _Numbering(stream)
    for packet in container.demux(stream):
        if packet.size == 0:
            continue
        time = _time(packet.pts, stream)
        number, gap = numbering.next(time)
        if packet.size == 2 * width * height and not packet.is_corrupt:
            counts = np.frombuffer(bytes(packet), "<u2").reshape(height, width)
            notes = (_missing(*gap),) if gap is not None else ()
            yield number, Picture(as_frame(counts, f"{path}, frame {number}"), None, notes, time)
        else:
            said = f"{packet.size:,} bytes, not those of {width}x{height} counts"
            yield number, FrameError(_lost_text(path, number, number, said))


class VideoReader:
    """The frames of one video by number, in any order, by seeking to the key frame before the wanted one.

    Parameters
    ----------
    path
        The video.
    options
        How it is read; `stream` and `colour` count.

    Attributes
    ----------
    numbers
        The numbers of its frames, those of `video_frames`: by presentation time, with gaps where frames were
        dropped in recording.

    Raises
    ------
    FrameError
        If the file is no video. MissingExtraError without PyAV.

    Notes
    -----
    Not for several threads at once: each needs its own, or a lock.
    """

    def __init__(self, path: Path, options: ReadOptions = PLAIN) -> None:
        with OpenFile(path):
            pass
        av = import_av()
        self.path = path
        try:
            with open_container(path) as container:
                stream = _video_stream(container, path, options.stream)
                numbering = _Numbering(stream)
                times = {packet.pts for packet in container.demux(stream) if packet.pts is not None}
                base = float(stream.time_base or 1)
                self._times = {numbering.next(time * base)[0]: time for time in sorted(times)}
            self._container = open_container(path)
        except av.error.FFmpegError as error:
            raise FrameError(_complaint(path, 0, error)) from error
        self._stream = _video_stream(self._container, path, options.stream)
        self._decoder = self._container.decode(self._stream)
        self._colours = VideoColours(str(path), options.colour)
        self.numbers = tuple(self._times)
        self._after = -1  # the time that the decoder stands behind; -1: at the beginning

    def read(self, number: int) -> Picture:
        """A frame by its number. Raises FrameError if there is none of this number, or if it is damaged."""
        av = import_av()
        if number not in self._times:
            raise FrameError(f"{self.path}: has no frame {number}, but {counted(len(self.numbers), 'frame')}")
        wanted = self._times[number]
        place = self.numbers.index(number)
        before = self._times[self.numbers[place - 1]] if place else -1
        try:
            if before != self._after:
                self._container.seek(wanted, stream=self._stream, backward=True)
                self._decoder = self._container.decode(self._stream)
            self._after = -2
            for frame in self._decoder:
                if frame.pts is not None and frame.pts >= wanted:
                    self._after = frame.pts
                    grey = self._colours.grey(frame)
                    return Picture(as_frame(grey, f"{self.path}, frame {number}"), time=frame.time)
        except av.error.FFmpegError as error:
            raise FrameError(f"{self.path}: frame {number} cannot be read ({error.strerror})") from None
        raise FrameError(f"{self.path}: frame {number} cannot be read; the video ends before it")

    def close(self) -> None:
        """Close the file."""
        self._container.close()


def count_video_frames(path: Path, options: ReadOptions = PLAIN) -> int | None:
    """The number of frames that the header states; None if it states none or cannot be read."""
    try:
        with OpenFile(path):
            av = import_av()
    except DimpointError:
        return None
    try:
        with open_container(path) as container:
            return _video_stream(container, path, options.stream).frames or None
    except (av.error.FFmpegError, FrameError):
        return None


class _DamageError(Exception):
    """A frame or packet that FFmpeg marks as damaged, or a file that ends too early."""


_CONSTANT = 0.6  # of the finest rate, that the mean rate has where frames are dropped and no more
_OFF_GRID = 0.1  # frames, that a time may lie beside the grid of the rate
_MOST_DROPPED = 100_000  # frames; a larger gap is a clock that jumped


def import_av() -> ModuleType:
    try:
        import av
    except ImportError:
        raise MissingExtraError("reading video", "av", "video") from None
    return av


def _video_stream(container: InputContainer, path: Path, wanted: int | None = None) -> VideoStream:
    streams = container.streams.video
    if not streams and not lacks_index(path):
        raise FrameError(f"{path}: holds no video stream; what is read: {SUPPORTED_FORMATS}")
    if not streams:
        raise FrameError(_complaint(path, 0, ValueError()))
    if wanted is not None and not 0 <= wanted < len(streams):
        raise FrameError(f"{path}: --stream {wanted}, but its video streams are {_streams(container)}")
    return streams[wanted or 0]


def _streams(container: InputContainer) -> str:
    """The video streams as a user can tell them apart: "0 (320x240 gray), 1 (200x160 gray16le)"."""
    return ", ".join(f"{number} ({_kind(stream)})" for number, stream in enumerate(container.streams.video))


def _kind(stream: VideoStream) -> str:
    if stream.codec_context is None:
        return "of an unknown type"
    return f"{stream.width}x{stream.height} {stream.pix_fmt}"


def _stream_notes(container: InputContainer, stream: VideoStream) -> tuple[str, ...]:
    streams = list(container.streams.video)
    if len(streams) < 2:
        return ()
    return (f"video stream {streams.index(stream)} is read of {_streams(container)}; --stream chooses",)


class _Numbering:
    """Numbers of frames in the order of presentation: by time, or counted without a constant rate."""

    def __init__(self, stream: VideoStream) -> None:
        base, average = stream.base_rate, stream.average_rate
        constant = bool(base and average and average >= _CONSTANT * base)
        self._rate = float(base) if constant and base else None
        start = stream.start_time
        self._start = float(start * stream.time_base) if start and stream.time_base else 0.0
        self.count = 0  # frames so far, lost ones among them
        self._last = -1

    def next(self, time: float | None) -> tuple[int, tuple[int, int] | None]:
        """The number of the next frame, and the numbers (first, end) that are missing before it."""
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

    def _place(self, time: float | None) -> int:
        if self._rate is None or time is None:
            return self.count
        place = (time - self._start) * self._rate
        if not math.isfinite(place):  # a damaged file states no time base
            return self.count
        on_grid = abs(place - round(place)) < _OFF_GRID
        return round(place) if on_grid and place - self.count < _MOST_DROPPED else self.count


def _missing(first: int, end: int) -> str:
    numbers = str(first) if end == first + 1 else f"{first} to {end - 1}"
    return f"the video lacks frames {numbers} (dropped in recording); numbers follow presentation time"


@dataclass(frozen=True)
class _Lost:
    """Frames that damage reaches, by their times."""

    times: Sequence[float | None]
    reason: str


def _lost_text(path: Path, first: int, last: int, reason: str) -> str:
    frames = f"frame {first}" if first == last else f"frames {first} to {last}"
    return (
        f"{path}: {frames} cannot be read ({reason}); copy or save it again, or take what the decoder makes "
        "of it with --accept-damaged"
    )


def _decoded(
    container: InputContainer, stream: VideoStream, accept_damaged: bool
) -> Iterator[VideoFrame | _Lost]:
    """All frames; after damage nothing is decoded up to the next key frame, on which others build.

    Some codecs would conceal damage by repeating older pixels.
    """
    av = import_av()
    lost: list[float | None] = []
    reason = ""
    resumed: int | None = None  # the time of the key frame after damage: frames before it build on lost ones
    for packet in container.demux(stream):
        end = packet.size == 0  # the decoder gives what it still holds
        if lost and not end:
            if packet.is_corrupt or not packet.is_keyframe:
                lost.append(_time(packet.pts, stream))
                continue
            yield _Lost(lost, reason)
            lost, resumed = [], packet.pts
        elif lost:
            break
        frames: list[VideoFrame] = []
        fault = "" if accept_damaged or not packet.is_corrupt else "a damaged packet"
        if not fault:
            try:
                frames = stream.decode(packet)
            except av.error.FFmpegError as error:
                fault = error.strerror or str(error)
        for frame in frames:
            if not frame.is_corrupt or accept_damaged:
                yield frame
            elif resumed is not None and frame.pts is not None and frame.pts < resumed:
                yield _Lost([frame.time], reason)
            else:
                lost.append(frame.time)
                fault = fault or "a damaged frame"
        if fault and not end:
            reason = fault
            if not lost:
                lost.append(_time(packet.pts, stream))
            for frame in _drained(stream):
                if frame.is_corrupt:
                    lost.append(frame.time)
                else:
                    yield frame
    if lost:
        yield _Lost(lost, reason)


def _drained(stream: VideoStream) -> list[VideoFrame]:
    """The frames that the decoder still holds; after that it can begin anew."""
    av = import_av()
    try:
        frames = stream.decode(None)
    except av.error.FFmpegError:
        frames = []
    except AttributeError:  # a stream that names no codec
        return []
    stream.codec_context.flush_buffers()
    return frames


def _time(pts: int | None, stream: VideoStream) -> float | None:
    return None if pts is None or stream.time_base is None else float(pts * stream.time_base)


def _check_complete(container: InputContainer, stream: VideoStream, time: float | None) -> None:
    """Compare the time of the last frame with the length that the header of a Matroska file states.

    FFmpeg reports a cut in other containers itself. With sound, the length may be that of the sound.
    """
    if time is None:
        raise _DamageError("no frame in it")
    if "matroska" not in container.format.name or len(container.streams) > 1:
        return
    if container.duration is None or not stream.average_rate:
        return
    missing = (container.duration / 1e6 - time) * float(stream.average_rate) - 1
    if missing > 2:  # the length of the last frame is a guess
        raise _DamageError(_cut(round(missing)))


def _cut(missing: int) -> str:
    return f"the file is cut, about {counted(missing, 'frame is', 'frames are')} missing"


def _complaint(path: Path, number: int, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    if number == 0 and not path.stat().st_size:
        reason = "the file is empty"
    if number == 0 and lacks_index(path):
        return (
            f"{path}: an MP4 or MOV file that was cut off: its index (moov) is missing; copy or save it again"
        )
    if number == 0:
        return f"{path}: no video that can be read ({reason}); what is read: {SUPPORTED_FORMATS}"
    return f"{path}: the video ends after {number} readable frames ({reason}); copy or save it again"
