"""Video files -> frames, one at a time.

Which counts come out of which pixel format, `colours.grey_of_video` says.

Rotation tags are not applied, as in image files.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from dimpoint.errors import DimpointError, FrameError, MissingExtraError
from dimpoint.sources.colours import VideoColours
from dimpoint.sources.containers import lacks_index, open_container, y16_size
from dimpoint.sources.decoding import Lost, decoded, seconds_of
from dimpoint.sources.files import SUPPORTED_FORMATS
from dimpoint.sources.numbering import Numbering, note_of_gap
from dimpoint.sources.picture import PLAIN, OpenFile, Picture, Pixels, ReadOptions, as_frame
from dimpoint.text import counted

if TYPE_CHECKING:
    from types import ModuleType

    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream


_Start: TypeAlias = int | Literal["here", "first frame"]  # int: time in units of the stream


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
                for number, found in _y16_frames(container, stream, path):
                    yield number, found
                    given += isinstance(found, Picture)
                return
            numbering = Numbering(container, stream)
            colours = VideoColours(str(path), options.colour)
            end, damaged = None, False
            for shown in decoded(container, stream, options.accept_damaged):
                damaged = isinstance(shown, Lost)
                if isinstance(shown, Lost):
                    first, last = numbering.lost(shown.times)
                    yield first, FrameError(_lost_text(path, first, last, shown.reason))
                else:
                    number, gap = numbering.next(shown.time)
                    dropped = (note_of_gap(*gap),) if gap is not None else ()
                    pixels = as_frame(colours.grey(shown), f"{path}, frame {number}")
                    said = (colours.note,) if colours.note else ()
                    end = numbering.time(number, shown.time)
                    yield number, Picture(pixels, None, (*notes, *dropped, *said, *_turn_notes(shown)), end)
                    given += 1
            if not given:
                raise _DamageError("no frame in it")
            _check_count(container, stream, numbering, damaged)
            _check_length(container, stream, end)
    except (av.error.FFmpegError, _DamageError) as error:
        raise FrameError(_complaint(path, given, error)) from error


def _y16_frames(
    container: InputContainer, stream: VideoStream, path: Path
) -> Iterator[tuple[int, Picture | FrameError]]:
    """The 16-bit counts of an AVI file of type Y16, which FFmpeg lists and does not decode."""
    width, height = y16_size(path)
    numbering = Numbering(container, stream)
    for packet in container.demux(stream):
        if packet.size == 0:
            continue
        time = seconds_of(packet.pts, stream)
        number, gap = numbering.next(time)
        if packet.size == 2 * width * height and not packet.is_corrupt:
            counts = np.frombuffer(bytes(packet), "<u2").reshape(height, width)
            notes = (note_of_gap(*gap),) if gap is not None else ()
            yield number, Picture(as_frame(counts, f"{path}, frame {number}"), None, notes, time)
        else:
            said = f"{packet.size:,} bytes, not those of {width}x{height} counts"
            yield number, FrameError(_lost_text(path, number, number, said))
    _check_count(container, stream, numbering, False)


class VideoReader:
    """The frames of one video by number, in any order.

    A frame is decoded from a key frame before it, or from the first frame where a file cannot be searched.

    Parameters
    ----------
    path
        The video.
    options
        How it is read; `stream`, `colour` and `accept_damaged` count.

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
        self.path, self._options = path, options
        try:
            with open_container(path) as container:
                stream = _video_stream(container, path, options.stream)
                if stream.codec_context is None:
                    raise FrameError(f"{path}: frames of this type are read in order only; save it as FFV1")
                self._numbering = Numbering(container, stream)
                packets = [(one.pts, one.dts) for one in container.demux(stream) if one.size]
                times = None if self._numbering.counts else _in_order(packets)
                if times is None:
                    self.numbers = tuple(_decoded_numbers(path, options))
                else:
                    seconds = (seconds_of(time, stream) for time in times)
                    self.numbers = tuple(self._numbering.next(each)[0] for each in seconds)
            self._open()
        except av.error.FFmpegError as error:
            raise FrameError(_complaint(path, 0, error)) from error
        # the decoder of pictures with a palette loses it on a jump
        self._times = None if self._stream.pix_fmt == "pal8" else times
        self._places = {number: place for place, number in enumerate(self.numbers)}
        self._colours = VideoColours(str(path), options.colour)

    def read(self, number: int) -> Picture:
        """A frame by its number. Raises FrameError if there is none of this number, or if it is damaged."""
        av = import_av()
        if number not in self._places:
            raise FrameError(f"{self.path}: has no frame {number}, but {counted(len(self.numbers), 'frame')}")
        reason = ""
        for start in self._starts(self._places[number]):
            try:
                frame = self._find(self._places[number], start)
            except av.error.FFmpegError as error:
                frame, reason = None, error.strerror
            else:
                reason = "the decoder does not give it"
            if frame is not None:
                grey = as_frame(self._colours.grey(frame), f"{self.path}, frame {number}")
                return Picture(grey, time=self._numbering.time(number, frame.time))
        raise FrameError(f"{self.path}: frame {number} cannot be read ({reason})")

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _open(self) -> None:
        self._container = open_container(self.path)
        self._stream = _video_stream(self._container, self.path, self._options.stream)
        self._decoder = decoded(self._container, self._stream, self._options.accept_damaged)
        self._next: int | None = 0  # the place of the frame that the decoder gives next; None: unknown

    def _starts(self, place: int) -> Iterator[_Start]:
        """From where a frame is decoded, one after another until it is met.

        A jump in MPEG-TS and MPEG-PS may end behind the key frame.
        """
        if self._next is not None and (self._next == place or (self._times is None and self._next < place)):
            yield "here"
        if self._times is not None and self._stream.time_base:
            for seconds in _BACK:
                yield max(self._times[place] - round(seconds / self._stream.time_base), self._times[0])
        yield "first frame"

    def _find(self, place: int, start: _Start) -> VideoFrame | None:
        """The frame at a place, decoded from one of its `_starts`; None if that is behind it."""
        begun = not isinstance(start, int)
        if start == "first frame":
            self.close()
            self._open()
        elif isinstance(start, int):
            self._container.seek(start, stream=self._stream, backward=True)
            self._decoder = decoded(self._container, self._stream, self._options.accept_damaged)
        at, self._next = self._next or 0, None
        time = None if self._times is None else self._times[place]
        for shown in self._decoder:
            if isinstance(shown, Lost):
                if begun and time is not None and seconds_of(time, self._stream) in shown.times:
                    number = self.numbers[place]
                    raise FrameError(_lost_text(self.path, number, number, shown.reason))
                continue
            begun = begun or shown.key_frame  # frames before it may build on what was not decoded
            if begun and (at == place if time is None else shown.pts == time):
                self._next = place + 1
                return shown
            if time is not None and shown.pts is not None and shown.pts > time:
                return None
            at += 1
        return None


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


def _in_order(packets: Sequence[tuple[int | None, int | None]]) -> list[int] | None:
    """The presentation times of packets (pts, dts), sorted; None where they do not tell frames apart."""
    times = {pts for pts, _ in packets if pts is not None}
    decoded = [dts for _, dts in packets if dts is not None]
    goes_back = any(after < before for before, after in itertools.pairwise(decoded))
    return None if goes_back or len(times) < len(packets) else sorted(times)


def _decoded_numbers(path: Path, options: ReadOptions) -> Iterator[int]:
    """The numbers of the frames that can be read."""
    with suppress(FrameError):  # after the last frame of a file that was cut
        for number, found in video_frames(path, options):
            if isinstance(found, Picture):
                yield number


class _DamageError(Exception):
    """A frame or packet that FFmpeg marks as damaged, or a file that ends too early."""


_BACK = (0, 1, 4, 16, 64)  # seconds before a frame, from which its key frame is looked for


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


def _turn_notes(frame: VideoFrame) -> tuple[str, ...]:
    degrees = abs(getattr(frame, "rotation", 0))  # PyAV before 14 does not know it
    if not degrees:
        return ()
    return (f"players turn this video by {degrees} degrees; positions are of the pixels as stored",)


def _lost_text(path: Path, first: int, last: int, reason: str) -> str:
    frames = f"frame {first}" if first == last else f"frames {first} to {last}"
    return (
        f"{path}: {frames} cannot be read ({reason}); copy or save it again, or take what the decoder makes "
        "of it with --accept-damaged"
    )


def _check_count(container: InputContainer, stream: VideoStream, numbering: Numbering, damaged: bool) -> None:
    """Compare the frames with the number in the header, where FFmpeg is silent about a cut.

    That is in AVI, where frames that were dropped in recording are counted, too, and behind damage. Of PNG a
    packet whose head is damaged is not there at all.
    """
    is_png = stream.codec_context is not None and stream.codec_context.name == "png"
    if container.format.name == "avi" and not is_png:
        known = numbering.end
    elif damaged or is_png:
        known = numbering.count
    else:
        return
    if stream.frames > known:
        raise _DamageError(_cut(stream.frames - known))


def _check_length(container: InputContainer, stream: VideoStream, time: float | None) -> None:
    """Compare the time of the last frame with the length that the header of a Matroska file states.

    With sound, the length may be that of the sound.
    """
    if time is None or "matroska" not in container.format.name or len(container.streams) > 1:
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
