"""The results folder of `dimpoint detect`: a journal while it runs, `detections.json` and its kin at the end.

    detections.unfinished.jsonl    while a run is not finished: its settings, then one line for each frame
    detections.json                the result; detections.csv and detections.coco.json where asked for
    overlays/, overlays.csv        pictures, and which frame each of them shows

Each line is written when its frame is done: a run that is killed loses only the frames that are at work.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from dimpoint.atomic import remove_temporary, replacing, write_text
from dimpoint.errors import ConfigError, DimpointError
from dimpoint.inference.detection_files import read_detections
from dimpoint.inference.detections import Detections, coco_content, csv_text
from dimpoint.text import csv_cell

FORMATS = {"json": "detections.json", "csv": "detections.csv", "coco": "detections.coco.json"}
_SYNC_SECONDS = 2.0


@dataclass
class Progress:
    """What an unfinished run has done.

    inputs: name, size and modification time of each file with a line, in order; lines: how many each has.
    failures: (name, reason). pictures: names of the overlays. notes: what readers say, and of which files.
    """

    inputs: list[list[Any]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    frames: int = 0
    targets: int = 0
    without_targets: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)


class ResultsFolder:
    """Where the results of one run go. settings: what its results depend on, JSON values."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.file = path / FORMATS["json"]
        self.overlays = path / "overlays"
        self.settings = settings
        self.done = Progress()
        self._journal = path / "detections.unfinished.jsonl"
        self._handle: int | None = None
        self._whole = 0  # bytes up to the end of the last whole line
        self._synced = monotonic()
        self._new_folder = False

    @property
    def unfinished(self) -> bool:
        """Whether a run in this folder was stopped before its end."""
        return self._journal.is_file()

    def begin(self) -> None:
        """Start a new run. Raises DimpointError if the folder cannot be written, before any work is lost."""
        self._new_folder = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
            with suppress(FileNotFoundError):
                self._journal.unlink()
            self._handle = os.open(self._journal, flags, 0o666)
            self._lock()
            self._append({"settings": self.settings})
        except OSError as error:
            raise DimpointError(f"{self.file}: cannot be written: {error.strerror}") from None

    def resume(self) -> None:
        """Go on with the unfinished run: `done` says what it has. Raises ConfigError if it differs."""
        try:
            self._handle = os.open(self._journal, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            self._lock()
            with os.fdopen(os.dup(self._handle), "rb") as file:
                lines = [line for line in file if line.endswith(b"\n")]
            records = [json.loads(line) for line in lines]
        except OSError as error:
            raise DimpointError(f"{self._journal}: cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise ConfigError(f"{self._journal}: damaged ({error}); discard it with --overwrite") from None
        if not records:  # killed before the first line was written
            self.close()
            self.begin()
            return
        before = records[0].get("settings", {}) if isinstance(records[0], dict) else {}
        for key in sorted({*before, *self.settings}):
            if before.get(key) != self.settings.get(key):
                raise ConfigError(
                    f"{self.path} holds an unfinished run of other settings: {key} is {before.get(key)!r} "
                    f"there and {self.settings.get(key)!r} here; give the same, or discard that run with "
                    "--overwrite"
                )
        for record in records[1:]:
            self._count(record)
        self._whole = sum(len(line) for line in lines)
        os.ftruncate(self._handle, self._whole)
        os.lseek(self._handle, self._whole, os.SEEK_SET)
        remove_temporary(self.path)
        remove_temporary(self.overlays)

    def same_inputs(self, files: list[Path]) -> None:
        """Raise ConfigError unless the files of the unfinished run come first here, unchanged."""
        for number, before in enumerate(self.done.inputs):
            if number >= len(files) or str(files[number]) != before[0]:
                there = "is not among the files here" if number >= len(files) else f"is now {files[number]}"
                change = f"its file {number + 1}, {before[0]}, {there}"
            elif stamp(files[number]) != before:
                change = f"{before[0]} has changed since"
            else:
                continue
            raise ConfigError(
                f"{self.path} holds an unfinished run of other files: {change}; give the same files, or "
                "discard that run with --overwrite"
            )

    def add(
        self, source: Path, found: Detections, picture: str | None = None, notes: Sequence[str] = ()
    ) -> None:
        """Add a frame of a file; raises DimpointError if the disk is full.

        picture: the name of its overlay. notes: what its reader says of it.
        """
        record = {"input": stamp(source), "entry": found.to_dict(), "picture": picture}
        self._add(record | ({"notes": list(notes)} if notes else {}))

    def add_failure(self, source: Path, name: str, reason: str) -> None:
        """Add what could not be read."""
        self._add({"input": stamp(source), "failed": name, "reason": reason})

    def discard(self) -> None:
        """Leave nothing of a run that has no frame."""
        self.close()
        with suppress(OSError):
            self._journal.unlink()
            if self._new_folder:
                self.path.rmdir()

    def finish(self, model: str, formats: set[str], *, whole: bool) -> bool:
        """Write `detections.json` and the other formats from the journal; `whole` ends the run.

        What an earlier run left here under our names is replaced or removed. Returns whether there was any.
        """
        earlier = self.file.exists()
        old = set(self._listed())
        with replacing(self.file) as temporary, temporary.open("wb") as file:
            file.write(f'{{"model": {json.dumps(model, ensure_ascii=True)}, "images": ['.encode())
            between = b"\n"
            for record in self._entries():
                file.write(between + _line(record["entry"]))
                between = b",\n"
            file.write(b"\n]}\n")
        for kind in ("csv", "coco"):
            if kind not in formats:
                (self.path / FORMATS[kind]).unlink(missing_ok=True)
        if formats - {"json"}:
            self._write_others(formats)
        for name in old.difference(self.done.pictures):
            (self.overlays / name).unlink(missing_ok=True)
        self._list_pictures()
        self.close()
        if whole:
            self._journal.unlink()
        return earlier

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _write_others(self, formats: set[str]) -> None:
        items = read_detections(self.file)
        if "csv" in formats:
            write_text(self.path / FORMATS["csv"], csv_text(items))
        if "coco" in formats:
            write_text(self.path / FORMATS["coco"], json.dumps(coco_content(items)))

    def _listed(self) -> Iterator[str]:
        """The pictures that an earlier run wrote."""
        try:
            text = (self.path / "overlays.csv").read_text("utf-8", errors="replace")
        except OSError:
            return
        for row in csv.DictReader(io.StringIO(text)):
            name = (row.get("picture") or "").removeprefix("'")
            if name == Path(name).name and name.endswith(".png"):
                yield name

    def _list_pictures(self) -> None:
        """Write which frame each picture shows; nothing where there are none."""
        listing = self.path / "overlays.csv"
        if not self.done.pictures:
            listing.unlink(missing_ok=True)
            return
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["picture", "frame"])
        shown = (
            (csv_cell(one["picture"]), csv_cell(one["entry"]["file"]))
            for one in self._entries()
            if one.get("picture")
        )
        writer.writerows(shown)
        write_text(listing, text.getvalue())

    def _entries(self) -> Iterator[dict[str, Any]]:
        with self._journal.open("rb") as file:
            for line in file:
                if line.endswith(b"\n") and "entry" in (record := json.loads(line)):
                    yield record

    def _add(self, record: dict[str, Any]) -> None:
        try:
            self._append(record)
        except OSError as error:
            raise DimpointError(
                f"{self.file}: cannot write on ({error.strerror}); the file holds the first "
                f"{self.done.frames} frames"
            ) from None
        self._count(record)

    def _count(self, record: dict[str, Any]) -> None:
        done = self.done
        if not done.inputs or done.inputs[-1] != record["input"]:
            done.inputs.append(record["input"])
            done.lines.append(0)
        done.lines[-1] += 1
        if "failed" in record:
            done.failures.append((record["failed"], record["reason"]))
            return
        found = len(record["entry"]["detections"])
        done.frames += 1
        done.targets += found
        done.without_targets += not found
        for note in record.get("notes", ()):
            files = done.notes.setdefault(note, [])
            if record["input"][0] not in files[-1:]:
                files.append(record["input"][0])
        if record["picture"]:
            done.pictures.append(record["picture"])

    def _append(self, record: dict[str, Any]) -> None:
        """Write a line, whole or not at all."""
        handle = self._open_handle()
        rest = memoryview(_line(record) + b"\n")
        try:
            while rest:
                rest = rest[os.write(handle, rest) :]
        except BaseException:  # a full disk, or a signal between two writes
            os.ftruncate(handle, self._whole)
            os.lseek(handle, self._whole, os.SEEK_SET)
            raise
        self._whole = os.lseek(handle, 0, os.SEEK_CUR)
        if monotonic() - self._synced > _SYNC_SECONDS:
            os.fsync(handle)
            self._synced = monotonic()

    def _lock(self) -> None:
        """Raise ConfigError while another run writes here."""
        try:
            import fcntl
        except ImportError:  # Windows
            return
        try:
            fcntl.flock(self._open_handle(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{self.path}: another run is writing here; give another --out") from None

    def _open_handle(self) -> int:
        if self._handle is None:
            raise DimpointError(f"{self._journal}: not open")
        return self._handle


def stamp(file: Path) -> list[Any]:
    """Name, size and modification time of a file, as JSON values."""
    try:
        found = file.stat()
    except (OSError, ValueError):
        return [str(file), None, None]
    return [str(file), found.st_size, found.st_mtime_ns]


def _line(value: Any) -> bytes:
    """JSON in UTF-8; bytes of names that are not UTF-8 as escapes, which give the same name back."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")
