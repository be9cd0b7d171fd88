"""Detection in many frames, in order: frames are processed in parallel, one thread each, while more are read.

On a processor, N frames with one thread each are faster than one frame with N threads at a time, because no
thread waits for another within a layer. The results are the same.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeAlias

from dimpoint.errors import DimpointError, FrameError, one_line
from dimpoint.inference.backends import PROCESSORS
from dimpoint.inference.detections import Detections
from dimpoint.limits import limit
from dimpoint.sources.frames import Frame, frames_from
from dimpoint.sources.picture import PLAIN, ReadOptions

if TYPE_CHECKING:
    from dimpoint.inference.detector import Detector

_AHEAD = 2  # frames read in advance for each one that is processed
_MEMORY = "needs more memory than there is"


@dataclass(frozen=True)
class Failure:
    """A file, page or video frame that could not be read, or is not a frame.

    Parameters
    ----------
    file : str
        Its name.
    reason : str
        The error.
    path : Path
        The file that holds it.
    """

    file: str
    reason: str
    path: Path


Event: TypeAlias = tuple[Frame, Detections] | Failure


def detect_stream(detector: Detector, frames: Iterable[Frame | Failure]) -> Iterator[Event]:
    """Detect the targets in each frame, in order; failures are passed on in their place.

    A frame that the detector refuses becomes a `Failure`. A frame that is too large to share the memory runs
    alone, with all threads. At most three frames per thread are in memory.

    Parameters
    ----------
    detector : Detector
        The detector.
    frames : iterable of Frame or Failure
        As `read_files` returns them.

    Yields
    ------
    tuple of (Frame, Detections), or Failure

    Raises
    ------
    ModelFileError
        If the model cannot run.
    """
    workers = detector.threads or usable_cores()
    single = detector.side_by_side(workers) if workers > 1 else None
    if detector.device not in PROCESSORS:  # one frame at a time, while the next ones are read
        workers, single = 1, detector
    if single is None:
        for item in frames:
            yield item if isinstance(item, Failure) else _found(detector, item)
        return
    waiting: deque[Future[Event] | Failure] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in frames:
                if isinstance(item, Failure):
                    waiting.append(item)
                elif detector.shares_memory(item.pixels.shape, workers):
                    waiting.append(pool.submit(_found, single, item))
                else:
                    yield from (_result(each) for each in waiting)
                    waiting.clear()
                    yield _found(detector, item)
                while waiting and (len(waiting) > workers * (1 + _AHEAD) or _is_done(waiting[0])):
                    yield _result(waiting.popleft())
            while waiting:
                yield _result(waiting.popleft())
        finally:
            for each in waiting:
                if isinstance(each, Future):
                    each.cancel()


def predict(
    detector: Detector,
    frames: Iterable[Frame],
    batch: int,
    on_error: Callable[[str, DimpointError], None] | None,
) -> Iterator[Detections]:
    """Detect the targets in frames, in order; see `Detector.predict`.

    Parameters
    ----------
    detector : Detector
        The detector.
    frames : iterable of Frame
        The frames.
    batch : int
        Frames that run together.
    on_error : callable or None
        Called with file and error for a frame that is refused; None: the error is raised.

    Yields
    ------
    Detections
        Named after their frames.
    """
    if batch != 1:
        yield from detector.detect_many(frames, batch, on_error)
        return
    for event in detect_stream(detector, frames):
        if not isinstance(event, Failure):
            yield event[1]
        elif on_error is None:
            raise FrameError(event.reason)
        else:
            on_error(event.file, FrameError(event.reason))


def with_progress(frames: Iterable[Frame], total: int | None) -> Iterator[Frame]:
    """The same frames, counted by a progress bar on the terminal."""
    from rich.progress import track

    yield from track(frames, "detecting", total=total)


def read_files(
    files: Sequence[Path], skip: Sequence[int] = (), options: ReadOptions = PLAIN
) -> Iterator[Frame | Failure]:
    """Read the frames of files in order, with a `Failure` in place of everything that cannot be read.

    Parameters
    ----------
    files : sequence of Path
        The files.
    skip : sequence of int
        How many frames and failures of each of the first files to skip. Default: none.
    options : ReadOptions
        How files are read.

    Yields
    ------
    Frame or Failure
        A frame that takes longer than the limit `read_seconds` is skipped with the rest of its file.
    """
    for number, file in enumerate(files):
        known = skip[number] if number < len(skip) else 0
        if known and number < len(skip) - 1:
            continue
        yield from islice(_read(file, options), known, None)


def _read(file: Path, options: ReadOptions) -> Iterator[Frame | Failure]:
    failures: list[Failure] = []
    frames = frames_from(
        [file],
        on_error=lambda name, error: failures.append(Failure(name, str(error), file)),
        options=options,
    )
    thread = _ReadingThread()
    try:
        while True:
            frame = None
            try:
                frame = thread.run(lambda: next(frames, None), limit("read_seconds"))
            except MemoryError:
                failures.append(Failure(str(file), f"{file}: {_MEMORY}", file))
            except Exception as error:  # damaged files raise errors of many kinds
                failures.append(Failure(str(file), f"{file}: cannot be read ({_brief(error)})", file))
            yield from tuple(failures)
            failures.clear()
            if frame is None:
                return
            yield frame
    finally:
        thread.end()


class _TooSlowError(Exception):
    """Reading a frame took too long."""


class _ReadingThread:
    """A thread that reads, so that a decoder which never returns can be given up.

    An exception stops Python code. Nothing stops compiled code: its thread is left behind and ends with the
    process. It must have released the GIL, as the decoders of OpenCV, PyAV, NumPy and imagecodecs do.
    """

    def __init__(self) -> None:
        self._tasks: SimpleQueue[Callable[[], Frame | None] | None] = SimpleQueue()
        self._results: SimpleQueue[tuple[Frame | None, BaseException | None]] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="dimpoint-read", daemon=True)
        self._thread.start()

    def run(self, task: Callable[[], Frame | None], seconds: int) -> Frame | None:
        """What `task` returns or raises. After `seconds` _TooSlowError, and the thread is of no more use."""
        self._tasks.put(task)
        try:
            result, error = self._results.get(timeout=seconds)
        except Empty:
            self._stop()
            raise _TooSlowError(f"reading took more than {seconds} s") from None
        if error is not None:
            raise error
        return result

    def end(self) -> None:
        self._tasks.put(None)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                self._results.put((task(), None))
            except BaseException as error:
                self._results.put((None, error))
            del task  # the frame and the file are the caller's

    def _stop(self) -> None:
        identity = self._thread.ident
        if identity is not None:
            raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
            raise_in(ctypes.c_ulong(identity), ctypes.py_object(SystemExit))


def _brief(error: Exception) -> str:
    text = one_line(error, 200)
    return text if isinstance(error, _TooSlowError) else f"{type(error).__name__}: {text}"


def usable_cores() -> int:
    """Number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _found(detector: Detector, frame: Frame) -> Event:
    try:
        found = detector(frame)
    except FrameError as error:
        return Failure(frame.file, str(error), frame.path or Path(frame.file))
    except MemoryError:
        return Failure(frame.file, f"{frame.file}: {_MEMORY}", frame.path or Path(frame.file))
    return frame, replace(found, file=frame.file, geo=frame.geo)


def _is_done(item: Future[Event] | Failure) -> bool:
    return isinstance(item, Failure) or item.done()


def _result(item: Future[Event] | Failure) -> Event:
    return item if isinstance(item, Failure) else item.result()
