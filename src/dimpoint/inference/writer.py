"""`detections.json`, written frame by frame."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from dimpoint.atomic import new_file
from dimpoint.errors import DimpointError
from dimpoint.inference.detections import Detections


class DetectionsWriter:
    """Writes `detections.json` frame by frame: `{"model": ..., "images": [one entry per frame]}`.

    A context manager. The file takes its place when the block ends, by error and Ctrl-C too: then it holds
    the frames that were added; an error before the first leaves nothing. Where the disk fills up, the
    frames that fit are kept, and DimpointError says so. Opening raises DimpointError if the folder cannot
    be written, before any work is lost.
    """

    def __init__(self, path: Path, model: str) -> None:
        self.path = path
        self.frames = 0
        self._temporary = path
        self._begin = f'{{"model": {json.dumps(model, ensure_ascii=False)}, "images": ['
        self._whole = 0  # bytes up to the end of the last whole entry

    def __enter__(self) -> DetectionsWriter:
        self._new_folder = not self.path.parent.exists()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._temporary, handle = new_file(self.path)
            self._file = os.fdopen(handle, "wb", buffering=0)
            self._append(self._begin)
        except OSError as error:
            if self._temporary != self.path:
                self._temporary.unlink(missing_ok=True)
            raise _unwritable(self.path, error) from None
        return self

    def add(self, detections: Detections) -> None:
        """Add a frame; raises DimpointError if the disk is full."""
        entry = json.dumps(detections.to_dict(), ensure_ascii=False)
        try:
            self._append((",\n" if self.frames else "\n") + entry)
        except OSError as error:
            raise DimpointError(
                f"{self.path}: cannot write on ({error.strerror}); the file holds the first "
                f"{self.frames} frames"
            ) from None
        self.frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._file:
                self._back_to_whole()
                self._append("\n]}\n")
                os.fsync(self._file.fileno())
            if error is not None and self.frames == 0:
                self._temporary.unlink()
                if self._new_folder:
                    with suppress(OSError):  # it may hold something by now
                        self.path.parent.rmdir()
            else:
                self._temporary.replace(self.path)
        except OSError as problem:
            raise _unwritable(self.path, problem) from error

    def _back_to_whole(self) -> None:
        """Forget what a full disk or Ctrl-C has left of an entry."""
        self._file.truncate(self._whole)
        self._file.seek(self._whole)

    def _append(self, text: str) -> None:
        rest = memoryview(text.encode("utf-8", "backslashreplace"))
        while rest:
            rest = rest[self._file.write(rest) :]
        self._whole = self._file.tell()


def _unwritable(path: Path, error: OSError) -> DimpointError:
    return DimpointError(f"{path}: cannot be written: {error.strerror}")
