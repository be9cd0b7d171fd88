"""Pictures in colours -> one channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.format import VideoFormat

Pixels = npt.NDArray[Any]
_COLOURED = 10  # see colour_notes


def grey_of_bgr(picture: Pixels) -> Pixels:
    """A decoded picture, (H, W) or (H, W, 3 or 4) in the order B, G, R, alpha -> (H, W), same type.

    Alpha is ignored. Equal colour channels give that channel exactly, otherwise the grey value is
    0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), rounded for integers.
    """
    if picture.ndim == 2:
        return picture
    if equal_channels(picture):
        return picture[..., 0]
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(picture[..., :3]), cv2.COLOR_BGR2GRAY))


def colour_notes(picture: Pixels) -> tuple[str, ...]:
    """A note for a decoded picture with real colours, (H, W, 3 or 4): its grey values may not be counts.

    Real colours: the channels of more than a tenth of the pixels lie apart by more than a tenth of the range.
    Grey pictures that JPEG or a white balance tinted stay below that.
    """
    if picture.ndim == 2 or picture.dtype.kind != "u" or equal_channels(picture):
        return ()
    colours = picture[..., :3]
    apart = colours.max(axis=2) - colours.min(axis=2)
    if float((apart > np.iinfo(picture.dtype).max / _COLOURED).mean()) <= 1 / _COLOURED:
        return ()
    return (
        "a picture in colours: their brightness (luma) is read, which follows the temperature only where the "
        "colours do not stand for it; save false-colour pictures again as grey counts",
    )


def equal_channels(picture: Pixels) -> bool:
    first = picture[..., 0]
    return np.array_equal(first, picture[..., 1]) and np.array_equal(first, picture[..., 2])


def grey_of_video(frame: VideoFrame) -> Pixels:
    """One channel of a decoded video frame.

    - Grey formats (gray, gray10, gray12, gray14, gray16) and the luma of YUV formats give the counts as
      stored: 8 bits as uint8, more as uint16, neither scaled nor clipped. So luma of the limited range
      (16..235) keeps that range, and what lies outside it.
    - RGB and palette formats become grey as in image files.
    """
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
