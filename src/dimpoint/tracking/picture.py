"""Tracks drawn on frames: a picture of all tracks, and an annotated video."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.atomic import replacing
from dimpoint.errors import DimpointError, MissingExtraError
from dimpoint.inference.overlay import RADIUS, Box, draw, outlined, overlap
from dimpoint.sources import Frame
from dimpoint.tracking.result import Tracks
from dimpoint.tracking.track import Point, Track

Picture = npt.NDArray[np.uint8]

_TRAIL = 1.5  # seconds
_BEHIND = 40  # points of a trail that an id may not cover
_SIZE = 0.45  # of the font
_STATIC = (160, 160, 160)  # BGR
_SHIFT = 4  # binary digits of OpenCV's sub-pixel coordinates
_ENCODERS = ("libx264", "libopenh264", "mpeg4")
_TICKS = Fraction(1, 90000)  # seconds, of the annotated video's times


def colour_of(one: Track) -> tuple[int, int, int]:
    """The colour of a track, BGR: by its id, grey for a static one."""
    if one.state == "static":
        return _STATIC
    red, green, blue = colorsys.hsv_to_rgb((one.id * 0.381966) % 1.0, 0.6, 1.0)
    return int(255 * blue), int(255 * green), int(255 * red)


def draw_all(frame: npt.NDArray[Any], tracks: Tracks) -> Picture:
    """All confirmed and static tracks on one frame, (H, W) -> (kH, kW, 3) uint8 in BGR order.

    Positions are those of the frames where they were measured: with a moving camera they are not in place.
    """
    shown = [one for one in tracks if one.state != "tentative"]
    return _drawn(frame, [(one.trimmed(), colour_of(one), _words(one)) for one in shown])


def draw_frame(frame: npt.NDArray[Any], tracks: Sequence[Track], number: int, time: float) -> Picture:
    """The tracks that have a point in frame `number`, with trails of 1.5 seconds, ids and scores."""
    marks = []
    for one in tracks:
        trail = [point for point in one.points if point.frame <= number and time - point.time <= _TRAIL]
        if one.state != "tentative" and trail and trail[-1].frame == number:
            words = f"{_words(one)} {trail[-1].score:.2f}" if trail[-1].measured else f"{_words(one)} ..."
            marks.append((trail, colour_of(one), words))
    return _drawn(frame, marks)


def write_video(path: Path, frames: Iterable[tuple[int, Frame]], tracks: Tracks) -> str:
    """Write the frames with their tracks as a video; gives the encoder's name.

    frames: those that were tracked, in order, with number and time. Raises MissingExtraError without PyAV,
    DimpointError where the file cannot be written.
    """
    by_frame = _by_frame(tracks)

    def pictures() -> Iterator[tuple[float, Picture]]:
        for number, frame in frames:
            time = frame.time or 0.0
            yield time, draw_frame(frame.pixels, by_frame.get(number, ()), number, time)

    return write_pictures(path, pictures())


def write_pictures(path: Path, pictures: Iterable[tuple[float, Picture]]) -> str:
    """Write pictures (H, W, 3) in BGR order, each with its time in seconds, as a video; gives the encoder.

    All have the size of the first; others are cut or padded. Errors as of `write_video`.
    """
    try:
        import av
    except ImportError:
        raise MissingExtraError("an annotated video", "av", "video") from None
    encoder = next((name for name in _ENCODERS if name in av.codecs_available), None)
    if encoder is None:
        raise DimpointError(f"{path}: FFmpeg has none of the encoders {', '.join(_ENCODERS)}")
    try:
        with replacing(path) as temporary, av.open(str(temporary), "w") as container:
            stream: Any = None
            size = (0, 0)
            for time, picture in pictures:
                if stream is None:
                    stream = container.add_stream(encoder, rate=30)
                    size = (picture.shape[1] // 2 * 2, picture.shape[0] // 2 * 2)
                    stream.width, stream.height = size
                    stream.pix_fmt = "yuv420p"
                    stream.codec_context.time_base = _TICKS
                image = av.VideoFrame.from_ndarray(_fitted(picture, size), format="bgr24")
                image.pts, image.time_base = round(time / _TICKS), _TICKS
                container.mux(stream.encode(image))
            if stream is not None:
                container.mux(stream.encode(None))
    except av.error.FFmpegError as error:
        raise DimpointError(f"{path}: cannot be written: {error}") from None
    return encoder


def _by_frame(tracks: Tracks) -> dict[int, list[Track]]:
    found: dict[int, list[Track]] = {}
    for one in tracks:
        for point in one.trimmed():
            found.setdefault(point.frame, []).append(one)
    return found


def _fitted(picture: Picture, size: tuple[int, int]) -> Picture:
    """Cut and padded with black to a size: frames of another size than the first stay in scale."""
    fitted = np.zeros((size[1], size[0], 3), np.uint8)
    part = picture[: size[1], : size[0]]
    fitted[: part.shape[0], : part.shape[1]] = part
    return fitted


def _words(one: Track) -> str:
    return f"{one.id} static" if one.state == "static" else f"{one.id}"


def _drawn(
    frame: npt.NDArray[Any], marks: Sequence[tuple[Sequence[Point], tuple[int, int, int], str]]
) -> Picture:
    """A frame with trails, of which each has its points, colour and words."""
    none = np.zeros(0, np.float32)
    picture = draw(frame, none.reshape(0, 2), none)
    times = picture.shape[1] / frame.shape[1]
    marks = [mark for mark in marks if mark[0]]
    trails = [
        (np.array([(point.x, point.y) for point in points]) + 0.5) * times - 0.5 for points, _, _ in marks
    ]
    taken: list[Box] = [
        (x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS) for x, y in (xy[-1] for xy in trails)
    ]
    for xy, (_, colour, _) in zip(trails, marks, strict=True):
        fixed = np.round(xy * 2**_SHIFT).astype(np.int32)
        cv2.polylines(
            picture, [fixed], isClosed=False, color=colour, thickness=1, lineType=cv2.LINE_AA, shift=_SHIFT
        )
        cv2.circle(picture, fixed[-1].tolist(), RADIUS << _SHIFT, colour, 1, cv2.LINE_AA, _SHIFT)
    for xy, (_, colour, words) in zip(trails, marks, strict=True):
        outlined(picture, words, _beside(picture, xy, words, taken), _SIZE, colour)
    return picture


def _beside(picture: Picture, xy: npt.NDArray[Any], words: str, taken: list[Box]) -> tuple[int, int]:
    """Where words about a trail begin: beside its end, clear of the trail and of boxes that are taken."""
    rows, columns = picture.shape[:2]
    (width, height), _ = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, _SIZE, 1)
    (x, y), gap = xy[-1], RADIUS + 3
    right, left = (x + gap, y + height / 2), (x - gap - width, y + height / 2)
    sides = [left, right] if xy[-_BEHIND:, 0].mean() > x + 4 else [right, left]
    boxes: list[Box] = []
    for at, bottom in (*sides, (x - width / 2, y - gap), (x - width / 2, y + gap + height)):
        bottom = min(max(bottom, height + 1), rows - 2)
        boxes.append((at, bottom - height, at + width, bottom + 1))
    inside = [box for box in boxes if box[0] >= 0 and box[2] <= columns] or [
        (0, boxes[0][1], width, boxes[0][3])
    ]
    free = (box for box in inside if not any(overlap(box, other) for other in taken))
    box = next(free, inside[0])
    taken.append(box)
    return int(box[0]), int(box[3] - 1)
