"""Video files -> frames, one at a time.

- Grey formats (gray, gray10, gray12, gray14, gray16) and the luma of YUV formats give the counts as stored:
  8 bits as uint8, more as uint16, neither scaled nor clipped. So luma of the limited range (16..235) keeps
  that range, and what lies outside it.
- RGB and palette formats become grey as in image files.

Rotation tags are not applied, as in image files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dimpoint.errors import DimpointError, FrameError, MissingExtraError
from dimpoint.sources.colours import grey_of_bgr
from dimpoint.sources.files import SUPPORTED_FORMATS
from dimpoint.sources.picture import PLAIN, Picture, Pixels, ReadOptions, as_frame, file_head

if TYPE_CHECKING:
    from types import ModuleType

    from av import VideoFrame
    from av.container import InputContainer
    from av.video.format import VideoFormat
    from av.video.stream import VideoStream


def read_video(path: Path) -> Iterator[Pixels]:
    """The pixels of `video_frames`, of the first video stream."""
    return (picture.pixels for _, picture in video_frames(path))


def video_frames(path: Path, options: ReadOptions = PLAIN) -> Iterator[tuple[int, Picture]]:
    """The frames of one video stream, (H, W) uint8, uint16 or float32, in order, each with its number.

    Numbers count from 0 by presentation time, so that frames that were dropped in recording do not shift
    those after them; a video without a constant rate is counted frame by frame. Which of several streams is
    read, and which numbers are missing, stands in the notes. One frame is in memory at a time.

    Raises FrameError where the file is no video, at the first damaged frame (but not with
    `options.accept_damaged`), and after the last frame of a file that was cut; MissingExtraError without
    PyAV.
    """
    file_head(path)  # says better than FFmpeg why a file cannot be opened
    av = import_av()
    number = 0
    try:
        with av.open(_url(path), options=_OPTIONS) as container:
            stream = _video_stream(container, path, options.stream)
            notes = _stream_notes(container, stream)
            time = None
            last = -1
            for frame in _whole_frames(container, stream, options.accept_damaged):
                place = max(_place(frame, stream, number), last + 1)
                missing = (_missing(last + 1, place),) if place > last + 1 else ()
                pixels = as_frame(grey_of_video(frame), f"{path}, frame {place}")
                yield place, Picture(pixels, None, (*notes, *missing), frame.time)
                number += 1
                last = place
                time = frame.time
            _check_complete(container, stream, time)
    except (av.error.FFmpegError, _DamageError) as error:
        raise FrameError(_complaint(path, number, error)) from error


def count_video_frames(path: Path, options: ReadOptions = PLAIN) -> int | None:
    """The number of frames that the header states; None if it states none or cannot be read."""
    try:
        file_head(path)
        av = import_av()
    except DimpointError:
        return None
    try:
        with av.open(_url(path), options=_OPTIONS) as container:
            return _video_stream(container, path, options.stream).frames or None
    except (av.error.FFmpegError, FrameError):
        return None


class _DamageError(Exception):
    """A frame or packet that FFmpeg marks as damaged, or a file that ends too early."""


_CONSTANT = 0.6  # of the finest rate, that the mean rate has where frames are dropped and no more
_OFF_GRID = 0.1  # frames, that a time may lie beside the grid of the rate
_MOST_DROPPED = 100_000  # frames; a larger gap is a clock that jumped
_OPTIONS = {"protocol_whitelist": "file"}  # a play list in a file must not fetch anything


def _url(path: Path) -> str:
    """The path as FFmpeg takes it: a colon in a name does not make it a protocol's name."""
    return f"file:{path}"


def import_av() -> ModuleType:
    """PyAV; MissingExtraError without it."""
    try:
        import av
    except ImportError:
        raise MissingExtraError("reading video", "av", "video") from None
    return av


def _video_stream(container: InputContainer, path: Path, wanted: int | None = None) -> VideoStream:
    streams = container.streams.video
    if not streams:
        raise FrameError(f"{path}: holds no video stream; what is read: {SUPPORTED_FORMATS}")
    if wanted is not None and not 0 <= wanted < len(streams):
        raise FrameError(f"{path}: --stream {wanted}, but its video streams are {_streams(container)}")
    return streams[wanted or 0]


def _streams(container: InputContainer) -> str:
    """The video streams as a user can tell them apart: "0 (320x240 gray), 1 (200x160 gray16le)"."""
    return ", ".join(
        f"{number} ({stream.width}x{stream.height} {stream.pix_fmt})"
        for number, stream in enumerate(container.streams.video)
    )


def _stream_notes(container: InputContainer, stream: VideoStream) -> tuple[str, ...]:
    streams = list(container.streams.video)
    if len(streams) < 2:
        return ()
    return (f"video stream {streams.index(stream)} is read of {_streams(container)}; --stream chooses",)


def _place(frame: VideoFrame, stream: VideoStream, number: int) -> int:
    """The number of a frame by its time, or `number` where the stream has no constant rate."""
    base, average = stream.base_rate, stream.average_rate
    if not base or not average or average < _CONSTANT * base or frame.time is None:
        return number
    start = float(stream.start_time * stream.time_base) if stream.start_time and stream.time_base else 0.0
    place = (frame.time - start) * float(base)
    return (
        round(place) if abs(place - round(place)) < _OFF_GRID and place - number < _MOST_DROPPED else number
    )


def _missing(first: int, end: int) -> str:
    numbers = str(first) if end == first + 1 else f"{first} to {end - 1}"
    return f"the video lacks frames {numbers} (dropped in recording); numbers follow presentation time"


def _whole_frames(
    container: InputContainer, stream: VideoStream, accept_damaged: bool
) -> Iterator[VideoFrame]:
    """Decode up to the first damage, which some codecs would conceal by repeating older pixels."""
    for packet in container.demux(stream):
        if packet.is_corrupt and not accept_damaged:
            yield from stream.decode(None)  # the frames that the decoder still holds are whole
            raise _DamageError("a damaged packet")
        for frame in stream.decode(packet):
            if frame.is_corrupt and not accept_damaged:
                raise _DamageError("a damaged frame")
            yield frame


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
        raise _DamageError(f"the file is cut, about {missing:.0f} frames are missing")


def _complaint(path: Path, number: int, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    if number == 0:
        return f"{path}: no video that can be read ({reason}); what is read: {SUPPORTED_FORMATS}"
    return f"{path}: the video is damaged after {number} frames ({reason}); copy or save it again"


def grey_of_video(frame: VideoFrame) -> Pixels:
    """One channel of a decoded frame, as the head of this file says."""
    pixel = frame.format
    bits = max(component.bits for component in pixel.components)
    if pixel.is_rgb or pixel.has_palette:
        rgb = frame.to_ndarray(format="rgb24" if bits <= 8 else "rgb48le")
        return grey_of_bgr(rgb[..., ::-1])
    if _first_plane_is_counts(pixel):
        return _stored_counts(frame)
    if len(pixel.components) <= 2:  # black and white, or grey beside alpha
        return _stored_counts(frame.reformat(format="gray" if bits <= 8 else "gray16le"))
    return _stored_counts(_planar(frame, bits))


def _first_plane_is_counts(pixel: VideoFormat) -> bool:
    """Whether the first plane holds grey or luma alone, and in the low bits of its words."""
    planar_luma = pixel.name.startswith("yuv") and pixel.is_planar and "msb" not in pixel.name
    return pixel.name.startswith("gray") or planar_luma


def _planar(frame: VideoFrame, bits: int) -> VideoFrame:
    """Packed and semi-planar YUV, such as yuyv422 and p010, as planar YUV with the same luma."""
    from av.video.reformatter import ColorRange

    return frame.reformat(
        format="yuv444p" if bits <= 8 else f"yuv444p{bits}le",
        src_color_range=ColorRange.JPEG,  # one range on both sides, so that nothing is scaled
        dst_color_range=ColorRange.JPEG,
    )


def _stored_counts(frame: VideoFrame) -> Pixels:
    """The first plane of a frame; its rows may be padded."""
    kind = "f" if frame.format.name.startswith("grayf") else "u"
    order = ">" if frame.format.is_big_endian else "<"
    dtype = np.dtype(f"{order}{kind}{(frame.format.components[0].bits + 7) // 8}")
    plane = frame.planes[0]
    rows: Pixels = np.frombuffer(memoryview(plane), dtype).reshape(
        frame.height, plane.line_size // dtype.itemsize
    )
    return rows[:, : frame.width].copy()
