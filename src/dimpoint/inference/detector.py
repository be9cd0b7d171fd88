"""`Detector`: frames of any size in, targets out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.errors import ConfigError, DimpointError, FrameError, ModelFileError
from dimpoint.inference.backends import PROCESSORS, Backend, open_backend
from dimpoint.inference.decode import decode
from dimpoint.inference.detections import Detections
from dimpoint.inference.maps import (
    Span,
    Tile,
    core,
    from_fit,
    in_frame,
    on_valid_pixels,
    plan_tiles,
    sigmoid,
    source,
    upsampled,
)
from dimpoint.inference.stream import predict, with_progress
from dimpoint.model.intensity import POLARITIES, Polarity
from dimpoint.model.record import ModelMeta
from dimpoint.model.validity import Mask, filled, valid_pixels
from dimpoint.sources.frames import Frame, Sources, as_array, as_sources, count_frames, frames_from
from dimpoint.sources.picture import as_frame

# Of a network at work. Point networks take up to 300; of the full-resolution hosts acm 220, mlclnet 1400.
_BYTES_PER_PIXEL = {"response": 512, "probability": 2048}

_WIDEST_MARGIN = (
    256  # input pixels; what deep networks see from farther away is next to nothing, its cost is not
)

_BORDERS = {"mirror": cv2.BORDER_REFLECT_101, "mean": cv2.BORDER_CONSTANT}

_Limits = tuple[float, float]


@dataclass(frozen=True, eq=False)
class _Measured:
    """A frame, smooth values in place of its invalid pixels, the mask of the others, and its limits."""

    pixels: npt.NDArray[Any]
    valid: Mask | None
    limits: _Limits

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pixels.shape


class Detector:
    """Finds the targets of a frame with a model.

    model: a shipped model's name, an ONNX model file, a backend, or None for the shipped default.
    threshold: detection threshold, scores above it count; None: the model's own. threads: processor
    threads; None takes all cores. memory_mb: what the network may use for one run, roughly; a frame that
    needs more is cut into overlapping tiles, whose responses are put together before decoding, so that a seam
    neither loses nor doubles a target. Where a network looks at the whole of its input (spire's
    squeeze-excitation), or farther than the 256 pixels that tiles overlap by at most (the large hosts), a
    tile's responses differ a little from the whole frame's. device: where the network runs, see
    `dimpoint.inference.backends.open_backend`. polarity: `black-hot` for frames in which hot is dark.

    A detector can be pickled: the copy opens the same model file again.

    Raises ModelFileError for a model that is not there or cannot be used, ConfigError for a wrong option.
    """

    def __init__(
        self,
        model: str | Path | Backend | None = None,
        *,
        threshold: float | None = None,
        threads: int | None = None,
        memory_mb: int = 1024,
        device: str = "cpu",
        polarity: Polarity = "white-hot",
    ) -> None:
        if polarity not in POLARITIES:
            raise ConfigError(f"polarity must be {' or '.join(POLARITIES)}, got {polarity!r}")
        self.polarity = polarity
        if memory_mb < 1:
            raise ConfigError(f"memory_mb must be at least 1, got {memory_mb}")
        if threads is not None and threads < 1:
            raise ConfigError(f"threads must be at least 1, got {threads}")
        self.threads = threads
        self._options: dict[str, Any] = {
            "threshold": threshold,
            "memory_mb": memory_mb,
            "polarity": polarity,
        }
        self._backend = _backend(model, threads, device)
        self._options["device"] = self.device
        self.meta: ModelMeta = self._backend.meta
        self.rule = self.meta.decode if threshold is None else self.meta.decode.at(threshold)
        self._pixels = memory_mb * 2**20 // _BYTES_PER_PIXEL[self.meta.kind]

    @property
    def backend(self) -> Backend:
        """What runs the network."""
        return self._backend

    def __repr__(self) -> str:
        meta = self.meta
        return f"Detector({meta.name!r}, network {meta.network}, threshold {self.rule.threshold:.4g})"

    def __reduce__(self) -> tuple[Any, ...]:
        path = getattr(self._backend, "path", None)
        if path is None:
            raise ConfigError("this detector runs a network in memory; open a model file to pickle it")
        return _open, (Path(path).absolute(), {**self._options, "threads": self.threads})

    @property
    def path(self) -> Path | None:
        """The model file; None for a network in memory."""
        path = getattr(self._backend, "path", None)
        return None if path is None else Path(path)

    @property
    def device(self) -> str:
        """Where the network runs, as `device` names it: what `auto` took."""
        return str(getattr(self._backend, "device", "cpu"))

    def side_by_side(self, frames: int) -> Detector | None:
        """This detector for so many frames at a time, from as many threads, a thread of the processor each.

        None where frames do not run side by side: on a GPU, in torch, and in memory.
        """
        if self.path is None or self.path.suffix.lower() != ".onnx" or self.device not in PROCESSORS:
            return None
        backend = open_backend(self.path, 1, self.device, frames)
        options = {key: value for key, value in self._options.items() if key != "device"}
        return Detector(backend, threads=1, **options)

    def shares_memory(self, shape: tuple[int, ...], count: int) -> bool:
        """Whether `count` frames of a shape fit into the memory for one run."""
        _, size = self._kind(shape[:2])
        return math.prod(size) * count <= self._pixels

    def predict(
        self,
        source: Sources,
        *,
        recursive: bool = False,
        batch: int = 1,
        progress: bool = False,
        on_error: Callable[[str, DimpointError], None] | None = None,
    ) -> Iterator[Detections]:
        """The targets of every frame of files, folders, patterns, videos and arrays, in order.

        source: what `dimpoint.sources.frames_from` takes: one source or a list of them; `recursive` enters
        sub-folders. batch: frames that run together, on a GPU. progress: show a bar on the terminal.
        on_error: called with the file and the error for what cannot be read, which is then passed over;
        without it the error is raised. `Detections.file` says which frame each result is of.

        Raises FrameError for a source that holds no frames.
        """
        frames = frames_from(as_sources(source), recursive=recursive, on_error=on_error)
        total = count_frames(as_sources(source), recursive=recursive) if progress else None
        return predict(self, with_progress(frames, total) if progress else frames, batch, on_error)

    def __call__(self, frame: Any, valid: Mask | None = None) -> Detections:
        """The targets of a frame, (H, W) uint8, uint16 or float32, or what `as_frame` takes.

        Lists of numbers, PIL pictures in grey and torch tensors on the processor are taken as arrays. A path
        is read if it names one picture.

        valid: (H, W) bool, False for pixels that are no measurement. Those are no targets, do not move the
        range, and are seen as smooth continuations of their surroundings. NaN and infinite pixels, and what
        `dimpoint.model.validity.valid_pixels` finds in deep frames, are treated alike.

        Raises FrameError for an array that is no frame: empty, of another shape or type, nowhere finite.
        """
        measured = self._measured(as_array(frame), valid)
        return self._detections(measured, self._response(measured))

    def probability_map(self, frame: npt.NDArray[Any], valid: Mask | None = None) -> npt.NDArray[np.float32]:
        """The probability of a target at every pixel of a frame, (H, W) -> (H, W) float32 in 0..1.

        frame, valid: as of a call; the probability of an invalid pixel is 0.

        Raises FrameError as a call does, ConfigError for a model that gives points and no map of this size.
        """
        if self.meta.kind != "probability" or self.meta.stride != 1:
            raise ConfigError(
                f"model '{self.meta.name}' responds to points; only a segmentation network gives a "
                "probability for every pixel"
            )
        measured = self._measured(as_array(frame), valid)
        height, width = measured.shape
        scale = self.meta.input.scale_of(measured.shape)
        seen_height, seen_width = self.meta.input.size_of(measured.shape, scale)
        on_frame = self._response(measured)[:seen_height, :seen_width].clip(0, 1)
        fitted = self.meta.input.fit_map(measured.shape)
        if fitted is not None:
            how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            on_frame = _float32(cv2.warpAffine(on_frame, fitted, (width, height), flags=how))
        elif scale > 1:
            on_frame = _float32(cv2.resize(on_frame, (width, height), interpolation=cv2.INTER_AREA))
        return on_frame if measured.valid is None else on_frame * measured.valid

    def detect_many(self, frames: Iterable[npt.NDArray[Any] | Frame], batch: int = 1) -> Iterator[Detections]:
        """The targets of each frame, in order; up to `batch` frames of one padded size run together.

        frames: arrays, or what `dimpoint.sources.frames_from` gives, whose masks count then.
        On a processor one frame at a time is as fast as any batch, and its answer comes sooner.
        """
        if batch < 1:
            raise ConfigError(f"batch must be at least 1, got {batch}")
        waiting: list[_Measured] = []
        for number, item in enumerate(frames):
            array, valid = (item.pixels, item.valid) if isinstance(item, Frame) else (as_array(item), None)
            measured = self._measured(array, valid, f"frame number {number}")
            scale, size = self._kind(measured.shape)
            most = min(batch, self._pixels // math.prod(size))
            if waiting and ((scale, size) != self._kind(waiting[0].shape) or len(waiting) >= most):
                yield from self._together(waiting)
                waiting = []
            waiting.append(measured)
        if waiting:
            yield from self._together(waiting)

    def _measured(self, array: npt.NDArray[Any], valid: Mask | None = None, name: str = "frame") -> _Measured:
        """A frame with what is known of its pixels, and its limits."""
        frame = as_frame(array, name)
        if valid is not None:
            valid = np.asarray(valid, np.bool_)
            if valid.shape != frame.shape:
                raise FrameError(f"{name}: the mask has shape {valid.shape}, the frame {frame.shape}")
            if not valid.any():
                raise FrameError(f"{name}: no pixel is valid")
        if frame.dtype == np.float32 and np.shape(array) == frame.shape:
            finite = np.isfinite(array)
            valid = finite if valid is None else valid & finite
        black_hot = self.polarity == "black-hot"
        valid = valid_pixels(frame, valid, black_hot=black_hot)
        frame = filled(frame, valid)
        intensity = self.meta.input.intensity
        limits = intensity.limits(frame, valid)
        if black_hot:
            limits = intensity.reversed_limits(limits, frame.dtype)
        return _Measured(frame, valid, limits)

    def _together(self, frames: list[_Measured]) -> Iterator[Detections]:
        if len(frames) == 1:
            yield self._detections(frames[0], self._response(frames[0]))
            return
        responses = []
        for scale in self.meta.input.scales_of(frames[0].shape):
            height, width = self._padded(frames[0].shape, scale)
            whole = Tile(Span(0, height, 0, height), Span(0, width, 0, width))
            responses.append(self._run(np.stack([self._input(frame, whole, scale) for frame in frames])))
        for frame, *both in zip(frames, *responses, strict=True):
            yield self._detections(frame, self._blended(both))

    def _response(self, frame: _Measured) -> npt.NDArray[np.float32]:
        """The map of the padded frame."""
        return self._blended([self._tiled(frame, scale) for scale in self.meta.input.scales_of(frame.shape)])

    def _blended(self, responses: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        """The response at the frame's magnification, averaged with that of the frame as it is, if any."""
        magnified, *others = responses
        if not others:
            return magnified
        (native,) = others
        share = self.meta.input.native_share
        raised = upsampled(native, self.meta.input.scale, self.meta.stride, magnified.shape)
        return (1 - share) * magnified + share * raised

    def _tiled(self, frame: _Measured, scale: int) -> npt.NDArray[np.float32]:
        """The map of the padded, magnified frame, whole or put together from the cores of its tiles."""
        height, width = self._padded(frame.shape, scale)
        margin = min(self.meta.receptive_radius, _WIDEST_MARGIN)
        most = self._pixels if self.meta.input.fit is None else height * width
        tiles = plan_tiles(height, width, pixels=most, margin=margin, multiple=self._unit)
        if len(tiles) == 1:
            return self._run_one(self._input(frame, tiles[0], scale))
        stride = self.meta.stride
        response = np.empty((height // stride, width // stride), np.float32)
        for tile in tiles:
            part = self._run_one(self._input(frame, tile, scale))
            response[core(tile.rows, stride), core(tile.columns, stride)] = part[
                core(tile.rows, stride, tile.rows.start), core(tile.columns, stride, tile.columns.start)
            ]
        return response

    def _input(self, frame: _Measured, tile: Tile, scale: int) -> npt.NDArray[np.float32]:
        """What the network sees of a tile, (1, height, width): counts mapped, fitted or magnified, padded.

        Only this part of the frame becomes float32.
        """
        rule = self.meta.input
        fitted = rule.fit_map(frame.shape)
        if fitted is not None:
            height, width = rule.size_of(frame.shape, scale)
            # Counts, not the network's range: SPIRE's warp rounds them, and so decides between equal peaks.
            counts = cv2.warpAffine(frame.pixels, fitted, (width, height), borderValue=frame.limits[0])
            part = rule.unit_range(np.asarray(counts), frame.limits, frame.shape)
        else:
            rows = source(tile.rows, scale, frame.shape[0])
            columns = source(tile.columns, scale, frame.shape[1])
            part = rule.unit_range(frame.pixels[rows, columns], frame.limits, frame.shape)
            if scale > 1:
                part = _float32(cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR))
            top, left = tile.rows.start - rows.start * scale, tile.columns.start - columns.start * scale
            part = part[top : top + _length(tile.rows), left : left + _length(tile.columns)]
        below = _length(tile.rows) - part.shape[0]
        right = _length(tile.columns) - part.shape[1]
        if below or right:
            border, value = _BORDERS[self.meta.input.padding], self.meta.mean[0]
            part = _float32(cv2.copyMakeBorder(part, 0, below, 0, right, border, value=value))
        return part[None]

    def _run_one(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(1, H, W) -> (H / stride, W / stride)."""
        response: npt.NDArray[np.float32] = self._run(pixels[None])[0]
        return response

    def _run(self, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, 1, H, W) -> (N, H / stride, W / stride) responses or probabilities."""
        count, _, height, width = inputs.shape
        outputs = self._backend.run(np.ascontiguousarray(inputs))
        expected = (count, 1, height // self.meta.stride, width // self.meta.stride)
        if outputs.shape != expected:
            raise ModelFileError(
                f"model '{self.meta.name}': output of shape {outputs.shape} for input {inputs.shape}, "
                f"its metadata (stride {self.meta.stride}) says {expected}"
            )
        if not np.isfinite(outputs).all():
            raise ModelFileError(f"model '{self.meta.name}': NaN or infinite output; its weights are damaged")
        responses = outputs[:, 0]
        return sigmoid(responses) if self.meta.activation == "sigmoid" else responses

    def _detections(self, frame: _Measured, response: npt.NDArray[np.float32]) -> Detections:
        """Decode the part of the map that lies on the frame, not on its padding."""
        scale, stride = self.meta.input.scale_of(frame.shape), self.meta.stride
        height, width = self.meta.input.size_of(frame.shape, scale)
        peaks = decode(response[: -(-height // stride), : -(-width // stride)], self.rule)
        fitted = self.meta.input.fit_map(frame.shape)
        if fitted is None:
            found = in_frame(peaks, frame.shape, stride, scale, self.meta.name)
        else:
            found = from_fit(peaks, frame.shape, stride, fitted, self.meta.name)
        return found if frame.valid is None else on_valid_pixels(found, frame.valid)

    @property
    def _unit(self) -> int:
        """Padded sizes and tile starts are multiples of this: whole map and, magnified, frame pixels."""
        return math.lcm(self.meta.multiple, self.meta.stride, self.meta.input.scale)

    def _kind(self, shape: tuple[int, ...]) -> tuple[int, tuple[int, int]]:
        """Frames of one kind can run together: one magnification, one padded size (as it is, too)."""
        scale = self.meta.input.scale_of(shape)
        return scale, self._padded(shape, scale)

    def _padded(self, shape: tuple[int, ...], scale: int) -> tuple[int, int]:
        height, width = (
            -(-side // self._unit) * self._unit for side in self.meta.input.size_of(shape, scale)
        )
        return height, width


def _backend(model: str | Path | Backend | None, threads: int | None, device: str) -> Backend:
    if model is None or isinstance(model, str | Path):
        return open_backend(model, threads, device)
    return model


def _open(path: Path, options: dict[str, Any]) -> Detector:
    return Detector(path, **options)


def _float32(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """OpenCV's results, whose type its annotations do not tell."""
    return np.asarray(array, np.float32)


def _length(span: Span) -> int:
    return span.stop - span.start
