"""Decoding of a video's packets: frames, and those that damage reaches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream


@dataclass(frozen=True)
class Lost:
    """Frames that damage reaches, by their times."""

    times: Sequence[float | None]
    reason: str


def decoded(
    container: InputContainer, stream: VideoStream, accept_damaged: bool
) -> Iterator[VideoFrame | Lost]:
    """All frames; after damage nothing is decoded up to the next key frame, on which others build.

    Some codecs would conceal damage by repeating older pixels.
    """
    import av

    lost: list[float | None] = []
    reason = ""
    resumed: int | None = None  # the time of the key frame after damage: frames before it build on lost ones
    for packet in container.demux(stream):
        end = packet.size == 0  # the decoder gives what it still holds
        if lost and not end:
            if packet.is_corrupt or not packet.is_keyframe:
                lost.append(seconds_of(packet.pts, stream))
                continue
            yield Lost(lost, reason)
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
                yield Lost([frame.time], reason)
            else:
                lost.append(frame.time)
                fault = fault or "a damaged frame"
        if fault and not end:
            reason = fault
            if not lost:
                lost.append(seconds_of(packet.pts, stream))
            for frame in _drained(stream):
                if frame.is_corrupt:
                    lost.append(frame.time)
                else:
                    yield frame
    if lost:
        yield Lost(lost, reason)


def _drained(stream: VideoStream) -> list[VideoFrame]:
    """The frames that the decoder still holds; after that it can begin anew."""
    import av

    try:
        frames = stream.decode(None)
    except av.error.FFmpegError:
        frames = []
    except AttributeError:  # a stream that names no codec
        return []
    stream.codec_context.flush_buffers()
    return frames


def seconds_of(pts: int | None, stream: VideoStream) -> float | None:
    return None if pts is None or stream.time_base is None else float(pts * stream.time_base)
