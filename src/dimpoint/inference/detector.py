"""`Detector`: targets of frames of any size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.errors import ConfigError, FrameError
from dimpoint.inference.backends import PROCESSORS, Backend, open_backend
from dimpoint.inference.decode import decode
from dimpoint.inference.detections import Detections
from dimpoint.inference.maps import (
    Measured,
    Span,
    Tile,
    at_frame_size,
    core,
    from_fit,
    in_frame,
    measured,
    network_input,
    on_valid_pixels,
    plan_tiles,
    run_network,
    upsampled,
)
from dimpoint.inference.stream import predict, with_progress
from dimpoint.model.input_rule import round_up
from dimpoint.model.intensity import POLARITIES, Polarity
from dimpoint.model.record import ModelMeta
from dimpoint.model.validity import Mask
from dimpoint.sources.frames import Frame, OnError, Sources, as_sources, count_frames, frames_from, opened

# Of a running network. Point networks take up to 300; of the full-resolution hosts acm 220, mlclnet 1400.
_BYTES_PER_PIXEL = {"response": 512, "probability": 2048}

_WIDEST_MARGIN = 256  # input pixels; deep networks hardly depend on pixels farther away


class Detector:
    """Finds the targets in frames with a model.

    A frame that needs more memory than `memory_mb` is cut into overlapping tiles. Their responses are joined
    before decoding, so that a seam neither loses nor doubles a target. Where a network sees its whole input
    (the squeeze-excitation of spire) or more than 256 pixels around (the large hosts), the responses of tiles
    differ slightly from those of the whole frame.

    A detector can be pickled: the copy opens the same model file again.

    Parameters
    ----------
    model : str, Path or Backend, optional
        Name of a shipped model, path of a model file or a training run, or a backend. Default: the shipped
        default.
    threshold : float, optional
        Detections have scores above this, 0..1. Default: the model's own.
    threads : int, optional
        Processor threads. Default: all cores.
    memory_mb : int
        Approximate memory of the network, MiB. Default: 1024.
    device : str
        Where the network runs, see `dimpoint.inference.backends.open_backend`. Default: `cpu`.
    polarity : {"white-hot", "black-hot"}
        `black-hot` where hot objects are dark. Default: `white-hot`.
    calibrated : bool
        Whether scores go through the calibration of the model's record, if it has one. Without it scores, and
        `threshold`, are the network's own. Default: True.

    Raises
    ------
    ModelFileError
        If the model does not exist or cannot be used.
    ConfigError
        If an option is out of range.

    Examples
    --------
    >>> import cv2
    >>> from dimpoint import Detector
    >>> frame = cv2.imread("examples/scenes/images/000003.png", cv2.IMREAD_UNCHANGED)
    >>> len(Detector("spire-lite")(frame))
    1
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
        calibrated: bool = True,
    ) -> None:
        if polarity not in POLARITIES:
            raise ConfigError(f"polarity must be {' or '.join(POLARITIES)}, got {polarity!r}")
        self.polarity = polarity
        if memory_mb < 1:
            raise ConfigError(f"memory_mb must be at least 1, got {memory_mb}")
        if threads is not None and threads < 1:
            raise ConfigError(f"threads must be at least 1, got {threads}")
        self.threads = threads
        options: dict[str, Any] = {"threshold": threshold, "memory_mb": memory_mb}
        self._options = {**options, "polarity": polarity, "calibrated": calibrated}
        self._backend = _backend(model, threads, device)
        self.meta: ModelMeta = self._backend.meta
        rule = self.meta.decode if calibrated else self.meta.decode.uncalibrated()
        self.rule = rule if threshold is None else rule.at(threshold)
        self._pixels = memory_mb * 2**20 // _BYTES_PER_PIXEL[self.meta.kind]

    @property
    def backend(self) -> Backend:
        """The backend that runs the network."""
        return self._backend

    def __repr__(self) -> str:
        meta = self.meta
        return f"Detector({meta.name!r}, network {meta.network}, threshold {self.rule.threshold:.4g})"

    def __reduce__(self) -> tuple[Any, ...]:
        path = getattr(self._backend, "path", None)
        if path is None:
            raise ConfigError("this detector runs a network in memory; open a model file to pickle it")
        options = {**self._options, "device": self.device, "threads": self.threads}
        return _open, (Path(path).absolute(), options)

    @property
    def path(self) -> Path | None:
        """The model file; None for a network in memory."""
        path = getattr(self._backend, "path", None)
        return None if path is None else Path(path)

    @property
    def device(self) -> str:
        """The device that runs the network; with `auto`, the one that was selected."""
        return str(getattr(self._backend, "device", "cpu"))

    def side_by_side(self, frames: int) -> Detector | None:
        """This detector for `frames` frames in parallel, one processor thread each.

        None where frames do not run in parallel: on a GPU, with PyTorch, and for a network in memory.
        """
        if self.path is None or self.path.suffix.lower() != ".onnx" or self.device not in PROCESSORS:
            return None
        return Detector(open_backend(self.path, 1, self.device, frames), threads=1, **self._options)

    def at(self, threshold: float) -> Detector:
        """This detector with another threshold, 0..1."""
        return Detector(self._backend, threads=self.threads, **{**self._options, "threshold": threshold})

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
        on_error: OnError | None = None,
    ) -> Iterator[Detections]:
        """Detect the targets in every frame of files, folders, patterns, videos and arrays, in order.

        Parameters
        ----------
        source : path, array or list of these
            Everything that `dimpoint.sources.frames_from` takes.
        recursive : bool
            Search sub-folders, too. Default: False.
        batch : int
            Frames that run together, for a GPU. Default: 1.
        progress : bool
            Show a progress bar on the terminal. Default: False.
        on_error : callable, optional
            Called with file and error for everything that cannot be read, which is then skipped. Default: the
            error is raised.

        Yields
        ------
        Detections
            Of one frame; `Detections.file` names it.

        Raises
        ------
        FrameError
            If a source holds no frames, or cannot be read.

        Examples
        --------
        >>> import dimpoint
        >>> found = list(dimpoint.load("spire-lite").predict("examples/scenes/images"))
        >>> len(found), found[0].file
        (8, 'examples/scenes/images/000001.png')
        """
        frames = frames_from(as_sources(source), recursive=recursive, on_error=on_error)
        total = count_frames(as_sources(source), recursive=recursive) if progress else None
        return predict(self, with_progress(frames, total) if progress else frames, batch, on_error)

    def __call__(self, frame: Any, valid: Mask | None = None) -> Detections:
        """Detect the targets in a frame.

        Parameters
        ----------
        frame : (H, W) array
            uint8, uint16 or float32; other integers up to 24 bits and floats become float32. Also masked
            arrays, lists (smallest type is taken), greyscale PIL images, CPU tensors, and a file's path.
        valid : (H, W) bool array, optional
            False for pixels that are not measurements. They hold no targets, do not change the intensity
            range, and are interpolated for the network. NaN, infinite and masked values, and what
            `dimpoint.model.validity.valid_pixels` finds in deep frames are treated alike. Default: all pixels
            are valid.

        Returns
        -------
        Detections

        Raises
        ------
        FrameError
            If the array is empty, has another shape or type, or no finite value.
        """
        checked = self._measured(frame, valid)
        return self._detections(checked, self._response(checked))

    def probability_map(self, frame: npt.NDArray[Any], valid: Mask | None = None) -> npt.NDArray[np.float32]:
        """The probability of a target at every pixel, for segmentation networks.

        Parameters
        ----------
        frame, valid
            As for a call.

        Returns
        -------
        (H, W) float32 array
            In 0..1; 0 at invalid pixels.

        Raises
        ------
        FrameError
            As for a call.
        ConfigError
            If the model gives responses to points.
        """
        if self.meta.kind != "probability" or self.meta.stride != 1:
            raise ConfigError(
                f"model '{self.meta.name}' gives responses to points; only segmentation networks give a "
                "probability for every pixel"
            )
        checked = self._measured(frame, valid)
        on_frame = at_frame_size(self._response(checked).clip(0, 1), checked.shape, self.meta.input)
        return on_frame if checked.valid is None else on_frame * checked.valid

    def detect_many(
        self, frames: Iterable[npt.NDArray[Any] | Frame], batch: int = 1, on_error: OnError | None = None
    ) -> Iterator[Detections]:
        """Detect the targets in many frames, in order, up to `batch` frames of one padded size together.

        Parameters
        ----------
        frames : iterable of array or Frame
            Arrays, or what `dimpoint.sources.frames_from` returns, with its masks and names.
        batch : int
            Frames that run together. On a processor, one frame at a time is as fast as any batch. Default: 1.
        on_error : callable, optional
            Called with name and error for a frame that is refused, which is then skipped.

        Yields
        ------
        Detections
        """
        if batch < 1:
            raise ConfigError(f"batch must be at least 1, got {batch}")
        waiting: list[tuple[Measured, dict[str, Any]]] = []
        for number, item in enumerate(frames):
            known = {"file": item.file, "geo": item.geo} if isinstance(item, Frame) else {}
            name = str(known.get("file", f"frame number {number}"))
            try:
                frame = self._measured(item, name=name)
            except FrameError as error:
                yield from self._together(waiting)
                waiting = []
                if on_error is None:
                    raise
                on_error(name, error)
                continue
            kind = self._kind(frame.shape)
            most = min(batch, self._pixels // math.prod(kind[1]))
            if waiting and (kind != self._kind(waiting[0][0].shape) or len(waiting) >= most):
                yield from self._together(waiting)
                waiting = []
            waiting.append((frame, known))
        yield from self._together(waiting)

    def _measured(self, frame: Any, valid: Mask | None = None, name: str = "frame") -> Measured:
        given = opened(frame)
        if isinstance(given, Frame):
            name, valid, given = given.file, given.valid if valid is None else valid, given.pixels
        black_hot = self.polarity == "black-hot"
        return measured(given, self.meta.input.intensity, valid, name, black_hot=black_hot)

    def _together(self, waiting: Sequence[tuple[Measured, dict[str, Any]]]) -> Iterator[Detections]:
        frames = [frame for frame, _ in waiting]
        if len(frames) < 2:
            maps = [self._response(frame) for frame in frames]
        else:
            runs = (self._whole(frames, scale) for scale in self.meta.input.scales_of(frames[0].shape))
            maps = [self._blended(both) for both in zip(*runs, strict=True)]
        for (frame, known), response in zip(waiting, maps, strict=True):
            yield replace(self._detections(frame, response), **known)

    def _whole(self, frames: Sequence[Measured], scale: int) -> npt.NDArray[np.float32]:
        height, width = self._padded(frames[0].shape, scale)
        tile = Tile(Span(0, height, 0, height), Span(0, width, 0, width))
        return run_network(self._backend, np.stack([self._input(frame, tile, scale) for frame in frames]))

    def _response(self, frame: Measured) -> npt.NDArray[np.float32]:
        """The map of the padded frame."""
        return self._blended([self._tiled(frame, scale) for scale in self.meta.input.scales_of(frame.shape)])

    def _blended(self, responses: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        """The response at the frame's magnification, averaged with that at its own scale, if any."""
        magnified, *others = responses
        if not others:
            return magnified
        (native,) = others
        share = self.meta.input.native_share
        raised = upsampled(native, self.meta.input.scale, self.meta.stride, magnified.shape)
        return (1 - share) * magnified + share * raised

    def _tiled(self, frame: Measured, scale: int) -> npt.NDArray[np.float32]:
        """The map of the padded, magnified frame, computed whole or joined from the cores of its tiles."""
        height, width = self._padded(frame.shape, scale)
        margin = min(self.meta.receptive_radius, _WIDEST_MARGIN)
        most = self._pixels if self.meta.input.fit is None else height * width
        tiles = plan_tiles(height, width, pixels=most, margin=margin, multiple=self._unit)
        if len(tiles) == 1:
            return _float32(run_network(self._backend, self._input(frame, tiles[0], scale)[None])[0])
        stride = self.meta.stride
        response = np.empty((height // stride, width // stride), np.float32)
        for tile in tiles:
            part = run_network(self._backend, self._input(frame, tile, scale)[None])[0]
            response[core(tile.rows, stride), core(tile.columns, stride)] = part[
                core(tile.rows, stride, tile.rows.start), core(tile.columns, stride, tile.columns.start)
            ]
        return response

    def _input(self, frame: Measured, tile: Tile, scale: int) -> npt.NDArray[np.float32]:
        return network_input(self.meta.input, frame, tile, scale, self.meta.mean[0])

    def _detections(self, frame: Measured, response: npt.NDArray[np.float32]) -> Detections:
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
        """Frames of one kind can run together: they have the same magnification and padded size."""
        scale = self.meta.input.scale_of(shape)
        return scale, self._padded(shape, scale)

    def _padded(self, shape: tuple[int, ...], scale: int) -> tuple[int, int]:
        height, width = (round_up(side, self._unit) for side in self.meta.input.size_of(shape, scale))
        return height, width


def _backend(model: str | Path | Backend | None, threads: int | None, device: str) -> Backend:
    if model is None or isinstance(model, str | Path):
        return open_backend(model, threads, device)
    return model


def _open(path: Path, options: dict[str, Any]) -> Detector:
    return Detector(path, **options)


def _float32(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """OpenCV's results as float32; its annotations do not state the type."""
    return np.asarray(array, np.float32)
