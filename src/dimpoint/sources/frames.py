"""Everything that holds frames -> one stream of frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dimpoint.errors import DimpointError, FrameError
from dimpoint.sources.colours import one_channel
from dimpoint.sources.containers import is_stack
from dimpoint.sources.files import UNREADABLE, VIDEO_SUFFIXES, FoundFiles, find_files
from dimpoint.sources.georeference import Georeference
from dimpoint.sources.picture import FRAME_TYPES, PLAIN, Picture, Pixels, ReadOptions, picture_of
from dimpoint.sources.readers import frame_suffixes, open_pages, read_picture
from dimpoint.sources.video import count_video_frames, video_frames

Source: TypeAlias = str | os.PathLike[str] | npt.NDArray[Any]
Sources: TypeAlias = Source | Sequence[Source]
OnError: TypeAlias = Callable[[str, DimpointError], None]
OnPassed: TypeAlias = Callable[[str, FoundFiles], None]
_RIGHT = f"a frame is an array (height, width) of {FRAME_TYPES}"


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame and where it comes from.

    file: as the user would recognise it: the path as given, "clip.mp4#000123" for a video frame or a
    page of a TIFF, "array", "array[2]" or "array#000005" for arrays.
    pixels: (H, W) uint8, uint16 or float32. path: the file, None for an array.
    index: the number of the frame, page or stack layer from 0; None where there is only one.
    valid: (H, W) bool, False for pixels that the file says are no measurement; None where it says nothing.
    notes: what a user should know about this file.
    time: presentation time of a video frame in seconds; None where the source has no times.
    geo: where the pixels lie on the map; None where the file says nothing.
    """

    file: str
    pixels: Pixels
    path: Path | None = None
    index: int | None = None
    valid: npt.NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()
    time: float | None = None
    geo: Georeference | None = None


@dataclass(frozen=True)
class _Item:
    name: str
    content: Path | Pixels


def frames_from(
    sources: Sources,
    *,
    recursive: bool = False,
    exclude: Sequence[Path] = (),
    on_error: OnError | None = None,
    on_passed: OnPassed | None = None,
    options: ReadOptions = PLAIN,
) -> Iterator[Frame]:
    """The frames of files, folders, globs, videos and arrays, in order, one in memory at a time.

    sources: one source or a sequence of them. A path, folder or glob gives the files of `find_files`
    (`recursive` enters sub-folders, `exclude` leaves folders out), a multi-page TIFF or a video all its
    frames. on_passed: called with a source and its `FoundFiles` where files were passed over.
    A 2-D array is one frame. A 3-D array is a stack (N, H, W), unless its last axis is 4 or less:
    then it is one picture, see `as_frame`; so are arrays in files. options: how files are read where that is
    a choice.

    on_error: called with the name and the error of a file, page or video frame that cannot be read; reading
    goes on behind it. Without it the error is raised. Missing paths are met at the call, damage while
    iterating.

    Raises FrameError, which names the file and what would be right; MissingExtraError for video
    without PyAV.
    """
    return _read(list(_items(sources, recursive, exclude, on_error, on_passed)), on_error, options)


def source_files(
    sources: Sequence[str | os.PathLike[str]],
    *,
    recursive: bool = False,
    exclude: Sequence[Path] = (),
    on_error: OnError | None = None,
    on_passed: OnPassed | None = None,
) -> list[Path]:
    """The files that `frames_from` reads, in order; the options are the same."""
    items = _items(list(sources), recursive, exclude, on_error, on_passed)
    return [item.content for item in items if isinstance(item.content, Path)]


def count_frames(
    sources: Sources,
    *,
    recursive: bool = False,
    exclude: Sequence[Path] = (),
    options: ReadOptions = PLAIN,
) -> int | None:
    """How many frames `frames_from` will give, from headers alone; None if a video does not say.

    For a progress bar: a damaged file may count although it cannot be read; what is missing does not.
    """
    total = 0
    for item in _items(sources, recursive, exclude, _ignore, None):
        count = _count(item.content, options)
        if count is None:
            return None
        total += count
    return total


def _items(
    sources: Sources,
    recursive: bool,
    exclude: Sequence[Path],
    on_error: OnError | None,
    on_passed: OnPassed | None,
) -> Iterator[_Item]:
    """Files and arrays in order, by name."""
    if isinstance(sources, str | os.PathLike | np.ndarray):
        named: list[tuple[str, Source]] = [("array", sources)]
    elif isinstance(sources, Sequence):
        named = [(f"array[{position}]", source) for position, source in enumerate(sources)]
    else:
        raise FrameError(_not_a_source(sources))
    for name, source in named:
        if isinstance(source, np.ndarray):
            yield _Item(name, source)
        elif isinstance(source, str | os.PathLike):
            found = _found(source, recursive, exclude, on_error)
            if found.passed and on_passed is not None:
                on_passed(os.fspath(source), found)
            yield from (_Item(str(path), path) for path in found.files)
        else:
            raise FrameError(_not_a_source(source))


def _not_a_source(source: object) -> str:
    return (
        "a source is a path, a folder, a glob or a numpy array, or a list of these; "
        f"got {type(source).__name__}"
    )


def _found(
    source: str | os.PathLike[str], recursive: bool, exclude: Sequence[Path], on_error: OnError | None
) -> FoundFiles:
    """The files of a source; what cannot be entered is reported, or raised without `on_error`."""
    try:
        found = find_files(source, recursive=recursive, suffixes=frame_suffixes(), exclude=exclude)
        closed = [path for path, reason in found.passed if reason == UNREADABLE]
    except FrameError as error:
        if on_error is None:
            raise
        on_error(os.fspath(source), error)
        return FoundFiles([], [])
    for path in closed:
        refused = FrameError(f"{path}: no permission to read this folder")
        if on_error is None:
            raise refused
        on_error(str(path), refused)
    return found


def _ignore(_name: str, _error: DimpointError) -> None:
    """Counting passes over what reading will report."""


def _read(items: list[_Item], on_error: OnError | None, options: ReadOptions) -> Iterator[Frame]:
    for item in items:
        try:
            for each in _frames_of(item, options):
                if isinstance(each, Frame):
                    yield each
                elif on_error is None:
                    raise each.error
                else:
                    on_error(each.name, each.error)
        except DimpointError as error:
            if on_error is None:
                raise
            on_error(item.name, error)


@dataclass(frozen=True)
class _Unreadable:
    """A page or video frame that cannot be read; those after it can."""

    name: str
    error: DimpointError


def _frames_of(item: _Item, options: ReadOptions) -> Iterator[Frame | _Unreadable]:
    """The frames of one item; an error that ends it is raised, others stand in their place."""
    name, content = item.name, item.content
    if isinstance(content, np.ndarray):
        for index, layer in _layers(content, name):
            picture = picture_of(layer, _numbered(name, index))
            yield _frame(name, picture, None, index)
    elif _is_video(content):
        for index, found in video_frames(content, options):
            if isinstance(found, FrameError):
                yield _Unreadable(_numbered(name, index), found)
            else:
                yield _frame(name, found, content, index)
    else:
        with open_pages(content, options) as pages:
            for number in range(pages.count):
                index = number if pages.count > 1 else None
                try:
                    picture = pages.read(number)
                except DimpointError as error:
                    yield _Unreadable(_numbered(name, index), error)
                    continue
                yield _frame(name, picture, content, index)


def _frame(name: str, picture: Picture, path: Path | None, index: int | None) -> Frame:
    return Frame(
        _numbered(name, index),
        picture.pixels,
        path,
        index,
        picture.valid,
        picture.notes,
        picture.time,
        picture.geo,
    )


def _count(content: Path | Pixels, options: ReadOptions) -> int | None:
    if isinstance(content, np.ndarray):
        return len(content) if is_stack(content) else 1
    if _is_video(content):
        return count_video_frames(content, options)
    try:
        with open_pages(content, options) as pages:
            return int(pages.count)
    except DimpointError:
        return 0


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def _layers(array: Pixels, name: str) -> Iterator[tuple[int | None, Pixels]]:
    if not is_stack(array):
        yield None, array
    elif len(array):
        yield from enumerate(array)
    else:
        raise FrameError(f"{name}: holds no frame: shape {array.shape}")


def _numbered(name: str, index: int | None) -> str:
    return name if index is None else f"{name}#{index:06d}"


def as_array(value: Any) -> Pixels:
    """An array of a frame: a numpy array, a torch tensor on the processor, a PIL picture, nested lists.

    A tensor (1, H, W) is one frame. A path of one picture is read. Integers in lists become uint8 or uint16
    where they fit.

    Raises FrameError, which says what to do, for anything else.
    """
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, str | os.PathLike):
        value = opened(value)
    if isinstance(value, Frame):
        return value.pixels
    if value is None:
        raise FrameError(f"the frame is None; {_RIGHT}. cv2.imread gives None for what it cannot read")
    kind = type(value).__module__.partition(".")[0]
    if kind == "torch":
        return _of_tensor(value)
    if kind == "PIL":
        return _of_pil(value)
    if isinstance(value, list | tuple):
        return _of_list(value)
    if hasattr(value, "__array__"):
        return value if isinstance(value, np.ma.MaskedArray) else np.asarray(value)
    raise FrameError(f"a {type(value).__name__} is no frame; {_RIGHT}")


def opened(value: Any) -> Frame | Pixels:
    """The frame of a path of one picture, with the mask of its measured pixels; others as `as_array` does."""
    if isinstance(value, Frame):
        return value
    if not isinstance(value, str | os.PathLike):
        return as_array(value)
    if Path(value).is_dir():
        raise FrameError(f"{value}: a folder; its frames: detector.predict({os.fspath(value)!r})")
    return _frame(os.fspath(value), read_picture(Path(value)), Path(value), None)


def as_sources(value: Any) -> Sources:
    """What `frames_from` takes: tensors and PIL pictures, alone or in a list, become arrays."""
    if isinstance(value, list | tuple):
        return [each if isinstance(each, str | os.PathLike) else as_array(each) for each in value]
    return value if isinstance(value, str | os.PathLike) else as_array(value)


def _of_tensor(tensor: Any) -> Pixels:
    if tensor.device.type != "cpu":
        raise FrameError(f"the tensor is on {tensor.device}; give tensor.cpu()")
    tensor = tensor.detach()
    if str(tensor.dtype) == "torch.bfloat16":
        tensor = tensor.float()
    array: Pixels = tensor.numpy()
    return array[0] if array.ndim == 3 and array.shape[0] == 1 else array


def _of_pil(picture: Any) -> Pixels:
    if picture.mode in ("L", "I;16", "I;16L", "I;16B", "F"):
        return np.asarray(picture)
    if picture.mode == "I":
        return _smallest(np.asarray(picture))
    if picture.mode in ("RGB", "RGBA"):
        return one_channel(np.asarray(picture)[..., 2::-1], "the PIL picture")[0]
    raise FrameError(f"a PIL picture of mode {picture.mode}; give picture.convert('L')")


def _of_list(values: Any) -> Pixels:
    try:
        array = np.asarray(values)
    except ValueError:
        raise FrameError(f"a list with rows of different lengths is no frame; {_RIGHT}") from None
    if array.dtype.kind not in "uif":
        raise FrameError(f"a list of {array.dtype} is no frame; {_RIGHT}")
    return _smallest(array)


def _smallest(array: Pixels) -> Pixels:
    """Counts in the smallest unsigned frame type that holds them; other numbers as they are."""
    if array.dtype.kind in "ui" and array.size and array.min() >= 0:
        for dtype in (np.uint8, np.uint16):
            if array.max() <= np.iinfo(dtype).max:
                return array.astype(dtype)
    return array
