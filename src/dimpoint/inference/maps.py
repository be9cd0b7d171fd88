"""Frames, network inputs and maps: checking frames, tiles of a large frame, and conversion of coordinates.

A large frame is cut into overlapping tiles of one size. Each has a core, and the cores cover the frame
exactly once. A tile extends beyond its core by at least the margin, or to the frame's end; with a margin as
wide as the network's receptive field, the response of a core equals that of the whole frame.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.errors import FrameError, ModelFileError
from dimpoint.inference.backends import Backend
from dimpoint.inference.decode import Peaks
from dimpoint.inference.detections import Detections
from dimpoint.model.input_rule import InputRule, round_up
from dimpoint.model.intensity import IntensityRule
from dimpoint.model.validity import Mask, filled, valid_pixels
from dimpoint.sources.picture import as_frame, finite_counts, unmasked

_LEAST_MARGINS = 4  # least length of a tile in margins, to limit the overlap
_BESIDE = 2.0  # pixels; detections this close beside a fitted frame are moved onto it
_BORDERS = {"mirror": cv2.BORDER_REFLECT_101, "mean": cv2.BORDER_CONSTANT}
_AROUND = np.ones((3, 3), np.uint8)


@dataclass(frozen=True, eq=False)
class Measured:
    """A checked frame.

    Parameters
    ----------
    pixels : (H, W) array
        Counts, interpolated at invalid pixels.
    valid : (H, W) bool array or None
        Pixels that are measurements; None: all.
    limits : tuple of float
        Counts that become 0 and 1.
    """

    pixels: npt.NDArray[Any]
    valid: Mask | None
    limits: tuple[float, float]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pixels.shape


def measured(
    array: npt.NDArray[Any],
    intensity: IntensityRule,
    valid: Mask | None = None,
    name: str = "frame",
    *,
    black_hot: bool = False,
) -> Measured:
    """Check a frame, and find its valid pixels and its limits.

    Parameters
    ----------
    array : array
        Anything that `dimpoint.sources.picture.as_frame` takes.
    intensity : IntensityRule
        How counts become network range.
    valid : (H, W) bool array, optional
        False for pixels that are known not to be measurements.
    name : str
        Name of the frame in errors. Default: `frame`.
    black_hot : bool
        Whether hot objects are dark. Default: False.

    Raises
    ------
    FrameError
        If the array is not a frame, or no pixel is valid.
    """
    array, valid = unmasked(array, valid)
    frame = as_frame(array, name)
    if valid is not None:
        valid = np.asarray(valid, np.bool_)
        if valid.shape != frame.shape:
            raise FrameError(f"{name}: the mask has shape {valid.shape}, the frame {frame.shape}")
        if not valid.any():
            raise FrameError(f"{name}: no pixel is valid")
    if frame.dtype == np.float32 and np.shape(array) == frame.shape:
        finite = finite_counts(array)
        valid = finite if valid is None else valid & finite
    valid = valid_pixels(frame, valid, black_hot=black_hot)
    frame = filled(frame, valid)
    limits = intensity.limits(frame, valid)
    if black_hot:
        limits = intensity.reversed_limits(limits, frame.dtype)
    return Measured(frame, valid, limits)


@dataclass(frozen=True)
class Span:
    """One axis of a tile.

    Parameters
    ----------
    start, stop : int
        Pixels of the input that are read.
    core_start, core_stop : int
        Those of them whose responses are kept.
    """

    start: int
    stop: int
    core_start: int
    core_stop: int


@dataclass(frozen=True)
class Tile:
    """A tile of the network's input.

    Parameters
    ----------
    rows, columns : Span
        Its extent.
    """

    rows: Span
    columns: Span


def plan_tiles(height: int, width: int, *, pixels: int, margin: int, multiple: int) -> list[Tile]:
    """Tiles of a network input, row by row, all of one size.

    Parameters
    ----------
    height, width : int
        Size of the input, multiples of `multiple`.
    pixels : int
        Most pixels of a tile; a wide margin takes precedence.
    margin : int
        Least distance of a core from tile edges inside the input, pixels.
    multiple : int
        Starts and sizes of tiles are multiples of this.

    Returns
    -------
    list of Tile
    """
    margin = round_up(margin, multiple)
    if height * width <= pixels:
        tile_height, tile_width = height, width
    else:
        least = _LEAST_MARGINS * margin + multiple
        square = max(least, _round_down(math.isqrt(pixels), multiple))
        tile_height = min(height, square)
        tile_width = min(width, max(least, _round_down(pixels // tile_height, multiple)))
        tile_height = min(height, max(tile_height, _round_down(pixels // tile_width, multiple)))
    columns = list(_spans(width, tile_width, margin, multiple))
    return [Tile(rows, span) for rows in _spans(height, tile_height, margin, multiple) for span in columns]


def _spans(length: int, tile: int, margin: int, multiple: int) -> Iterator[Span]:
    """Equal tiles distributed evenly over the length; cores meet in the middle of each overlap."""
    if tile >= length:
        yield Span(0, length, 0, length)
        return
    count = math.ceil((length - 2 * margin) / (tile - 2 * margin))
    starts = [_round_down(i * (length - tile) // (count - 1), multiple) for i in range(count)]
    seams = [
        _round_down((start + tile + following) // 2, multiple)
        for start, following in itertools.pairwise(starts)
    ]
    for start, core_start, core_stop in zip(starts, [0, *seams], [*seams, length], strict=True):
        yield Span(start, start + tile, core_start, core_stop)


def _round_down(value: int, multiple: int) -> int:
    return value // multiple * multiple


def core(span: Span, stride: int, origin: int = 0) -> slice:
    """The map pixels of a span's core, counted from the input pixel `origin`."""
    return slice((span.core_start - origin) // stride, (span.core_stop - origin) // stride)


def source(span: Span, scale: int, size: int) -> slice:
    """The frame pixels that a span of the input depends on, and two more on each side.

    Magnified pixels are interpolated, and replacing hot pixels needs their neighbours.
    """
    return slice(max(span.start // scale - 2, 0), min(-(-span.stop // scale) + 2, size))


def network_input(
    rule: InputRule, frame: Measured, tile: Tile, scale: int, mean: float
) -> npt.NDArray[np.float32]:
    """The network's input for a tile: counts mapped, fitted or magnified, and padded.

    Parameters
    ----------
    rule : InputRule
        The model's input rule.
    frame : Measured
        The whole frame; only the part in the tile becomes float32.
    tile : Tile
        Part of the padded, magnified frame.
    scale : int
        Magnification.
    mean : float
        Value of the padding `mean`.

    Returns
    -------
    (1, height, width) float32 array
    """
    height, width = _length(tile.rows), _length(tile.columns)
    fitted = rule.fit_map(frame.shape)
    if fitted is not None:
        fit_height, fit_width = rule.size_of(frame.shape, scale)
        # Warp the counts, not network range: SPIRE's warp rounds them, which decides between equal peaks.
        counts = cv2.warpAffine(frame.pixels, fitted, (fit_width, fit_height), borderValue=frame.limits[0])
        part = rule.unit_range(np.asarray(counts), frame.limits, frame.shape)
    else:
        rows = source(tile.rows, scale, frame.shape[0])
        columns = source(tile.columns, scale, frame.shape[1])
        part = rule.unit_range(frame.pixels[rows, columns], frame.limits, frame.shape)
        if scale > 1:
            large = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
            part = np.asarray(large, np.float32)
        top, left = tile.rows.start - rows.start * scale, tile.columns.start - columns.start * scale
        part = part[top : top + height, left : left + width]
    below, right = height - part.shape[0], width - part.shape[1]
    if below or right:
        border = _BORDERS[rule.padding]
        padded = cv2.copyMakeBorder(part, 0, below, 0, right, border, value=mean)
        part = np.asarray(padded, np.float32)
    return part[None]


def _length(span: Span) -> int:
    return span.stop - span.start


def upsampled(
    native: npt.NDArray[np.float32], scale: int, stride: int, shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """Resample the map of a frame at its own scale onto the map of the magnified frame.

    Parameters
    ----------
    native : (h, w) float32 array
        Map of the frame at its own scale.
    scale : int
        Magnification of the other frame.
    stride : int
        Input pixels per map pixel.
    shape : tuple of int
        Height and width of the result.

    Returns
    -------
    (H, W) float32 array
        Cubic interpolation.
    """
    shift = (1 / scale - 1) / (2 * stride)
    onto = np.array([[1 / scale, 0, shift], [0, 1 / scale, shift]])
    how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    size = (shape[1], shape[0])
    warped = cv2.warpAffine(native, onto, size, flags=how, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, np.float32)


def run_network(backend: Backend, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Responses or probabilities of prepared frames.

    Parameters
    ----------
    backend : Backend
        The network.
    inputs : (N, 1, H, W) float32 array
        As `network_input` prepares them.

    Returns
    -------
    (N, H / stride, W / stride) float32 array

    Raises
    ------
    ModelFileError
        If the outputs have another shape than the record says, or are not finite.
    """
    meta, (count, _, height, width) = backend.meta, inputs.shape
    outputs = backend.run(np.ascontiguousarray(inputs))
    expected = (count, 1, height // meta.stride, width // meta.stride)
    if outputs.shape != expected:
        raise ModelFileError(
            f"model '{meta.name}': output of shape {outputs.shape} for input {inputs.shape}, "
            f"its metadata (stride {meta.stride}) says {expected}"
        )
    if not np.isfinite(outputs).all():
        raise ModelFileError(f"model '{meta.name}': NaN or infinite output; its weights are damaged")
    responses = outputs[:, 0]
    return sigmoid(responses) if meta.activation == "sigmoid" else responses


def sigmoid(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    from scipy.special import expit

    probabilities: npt.NDArray[np.float32] = expit(logits)
    return probabilities


def on_valid_pixels(found: Detections, valid: Mask) -> Detections:
    """The detections that are neither on an invalid pixel nor next to one."""
    inside = np.asarray(cv2.erode(valid.view(np.uint8), _AROUND)).view(np.bool_)
    columns, rows = np.round(found.xy).astype(int).T
    kept = inside[rows, columns]
    areas = None if found.areas is None else found.areas[kept]
    return replace(found, xy=found.xy[kept], scores=found.scores[kept], areas=areas)


def in_frame(peaks: Peaks, shape: tuple[int, ...], stride: int, scale: int, model: str) -> Detections:
    """Detections in frame coordinates.

    Parameters
    ----------
    peaks : Peaks
        In map pixels.
    shape : tuple of int
        Height and width of the frame.
    stride : int
        Input pixels per map pixel.
    scale : int
        Magnification of the frame.
    model : str
        Name of the model.

    Returns
    -------
    Detections
    """
    height, width = shape
    xy = (peaks.xy * stride + 0.5) / scale - 0.5
    xy = np.clip(xy, 0, np.array([width - 1, height - 1]))
    areas = None if peaks.areas is None else peaks.areas * np.float32((stride / scale) ** 2)
    scores = np.clip(peaks.scores, 0, 1)
    return Detections(xy.astype(np.float32), scores, areas, width=width, height=height, model=model)


def from_fit(
    peaks: Peaks, shape: tuple[int, ...], stride: int, fitted: npt.NDArray[np.float64], model: str
) -> Detections:
    """Detections of a frame that was fitted into another size; those beside the frame are left out.

    Parameters
    ----------
    peaks, shape, stride, model
        As `in_frame`.
    fitted : (2, 3) array
        Map from frame pixels to input pixels.
    """
    height, width = shape
    last = np.array([width - 1, height - 1])
    spread = np.array([fitted[0, 0], fitted[1, 1]])
    xy = (peaks.xy * stride - fitted[:, 2]) / spread
    kept = ((xy > -_BESIDE) & (xy < last + _BESIDE)).all(axis=1)
    areas = None if peaks.areas is None else peaks.areas[kept] * np.float32(stride**2 / spread.prod())
    xy = np.clip(xy[kept], 0, last).astype(np.float32)
    scores = np.clip(peaks.scores[kept], 0, 1)
    return Detections(xy, scores, areas, width=width, height=height, model=model)


def at_frame_size(
    response: npt.NDArray[np.float32], shape: tuple[int, ...], rule: InputRule
) -> npt.NDArray[np.float32]:
    """A map of the padded input, on the pixels of a frame of (height, width)."""
    scale = rule.scale_of(shape)
    height, width = rule.size_of(shape, scale)
    seen, size = response[:height, :width], (shape[1], shape[0])
    fitted = rule.fit_map(shape)
    if fitted is not None:
        seen = np.asarray(cv2.warpAffine(seen, fitted, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP))
    elif scale > 1:
        seen = np.asarray(cv2.resize(seen, size, interpolation=cv2.INTER_AREA))
    return seen.astype(np.float32, copy=False)
