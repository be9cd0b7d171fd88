"""Results of long runs in parts, JSON Lines or Parquet. Each part is written atomically; memory is constant.

    part-000000.parquet      some thousand frames, in order; or .jsonl
    parts.unfinished.jsonl   while a run is unfinished: its settings, then one line for each part
    manifest.json            after the run: settings, counts, and the list of parts

A part is written before its line; a continued run removes parts without a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dimpoint.atomic import replacing, write_text
from dimpoint.errors import ConfigError, DimpointError, MissingExtraError
from dimpoint.inference.detections import Detections
from dimpoint.inference.journal import Journal, JournaledFolder, json_line, other_files, stamp
from dimpoint.text import counted

KINDS = ("jsonl", "parquet")
MANIFEST = "manifest.json"
UNFINISHED = "parts.unfinished.jsonl"
_FRAMES, _TARGETS = 2000, 100_000  # a part ends at one of these numbers
_MOST_LISTED = 20  # failures and notes that are listed at the end


def row_of(found: Detections) -> dict[str, Any]:
    """A frame's entry in a part: as in `detections.json`, with the model's name and no error."""
    return {**found.to_dict(), "model": found.model, "error": None}


def row_of_failure(file: str, reason: str) -> dict[str, Any]:
    """The entry of a file that could not be read."""
    return {"file": file, "width": 0, "height": 0, "detections": [], "model": "", "error": reason}


def check_kind(kind: str) -> None:
    """Raise MissingExtraError if parts of this kind need a package that is not installed."""
    if kind == "parquet" and find_spec("pyarrow") is None:
        raise MissingExtraError("Parquet", "pyarrow", "archive")


def parquet_schema() -> Any:
    """The columns of a Parquet part: one row per frame, with its targets as a list and its georeference."""
    import pyarrow as pa

    numbers = [(name, pa.float32()) for name in ("x", "y", "score", "area")]
    numbers += [(name, pa.float64()) for name in ("map_x", "map_y", "lon", "lat")]
    return pa.schema(
        [
            ("file", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("detections", pa.list_(pa.struct(numbers))),
            ("model", pa.string()),
            ("error", pa.string()),
            ("geo", pa.struct([("crs", pa.string()), ("transform", pa.list_(pa.float64()))])),
        ]
    )


def parquet_table(rows: Sequence[dict[str, Any]]) -> Any:
    r"""The pyarrow table of entries. Bytes of names that are not UTF-8 become escapes such as \udce9.

    `dimpoint.read_detections` undoes them.
    """
    import pyarrow as pa

    clean = [
        {key: _utf8(value) if isinstance(value, str) else value for key, value in row.items()} for row in rows
    ]
    return pa.Table.from_pylist(clean, schema=parquet_schema())


def write_part(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write entries as a part, atomically.

    Parameters
    ----------
    path : Path
        A .jsonl or .parquet file.
    rows : sequence of dict
        Entries of `row_of` and `row_of_failure`.

    Raises
    ------
    DimpointError
        If it cannot be written.
    """
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            pq.write_table(parquet_table(rows), temporary, compression="zstd")
            return
        with temporary.open("wb") as file:
            for row in rows:
                file.write(json_line({key: value for key, value in row.items() if value is not None}) + b"\n")


class PartsFolder(JournaledFolder):
    """The results of one run in parts.

    Parameters
    ----------
    path : Path
        The folder.
    settings : dict
        What the results depend on, JSON values.
    kind : {"jsonl", "parquet"}
        Format of the parts.
    """

    def __init__(self, path: Path, settings: dict[str, Any], kind: str) -> None:
        super().__init__(path, path / MANIFEST, Journal(path / UNFINISHED, settings))
        self.kind = kind
        self.settings = settings
        self._start = (0, 0)  # number of the file to continue with, and its known entries
        self._parts: list[dict[str, Any]] = []
        self._failed = False
        self._clear()

    @property
    def finished(self) -> bool:
        """Whether this folder holds the parts of a finished run."""
        return self.file.is_file()

    def _remove_earlier(self) -> None:
        self.file.unlink(missing_ok=True)
        self._remove_results()

    def _remove_results(self) -> None:
        for part in self._on_disk():
            part.unlink()

    def _restore(self) -> None:
        for record in self._journal.records():
            self._parts.append(record["part"])
            done = self.done
            done.frames += record["part"]["frames"]
            done.targets += record["part"]["targets"]
            done.failed += record["part"]["unreadable"]
            done.without_targets += record["without_targets"]
            done.failures = (done.failures + [tuple(each) for each in record["failures"]])[:_MOST_LISTED]
        names = {part["file"] for part in self._parts}
        for part in self._on_disk():
            if part.name not in names:
                part.unlink()
        missing = names.difference(part.name for part in self._on_disk())
        if missing:
            raise ConfigError(
                f"{self.path / min(missing)}: this part is missing; start again with --overwrite"
            )

    def same_inputs(self, files: list[Path]) -> None:
        """Raise ConfigError unless `files` begins with the unchanged files of the unfinished run."""
        number, known, last = -1, 0, None
        for record in self._journal.records():
            for before, count in record["inputs"]:
                if before == last:
                    known += count
                    continue
                number, known, last = number + 1, count, before
                if error := other_files(self.path, number, before, files):
                    raise error
        self._start = max(number, 0), known

    def rest(self, files: list[Path]) -> tuple[list[Path], list[int]]:
        """The files to read, and how many frames and failures of the first one to skip."""
        start, known = self._start
        return files[start:], [known]

    def add(
        self, source: Path, found: Detections, picture: str | None = None, notes: Sequence[str] = ()
    ) -> None:
        """Add a frame.

        Parameters
        ----------
        source : Path
            The file that it was read from.
        found : Detections
            Its targets.
        picture : str, optional
            Not used: overlays are not written in parts.
        notes : sequence of str
            Notes of the reader. Default: none.

        Raises
        ------
        DimpointError
            If the disk is full.
        """
        self.done.frames += 1
        self.done.targets += len(found)
        self.done.without_targets += not len(found)
        self._targets += len(found)
        for note in notes:
            if note in self.done.notes or len(self.done.notes) < _MOST_LISTED:
                self.done.notes.setdefault(note, [str(source)])
        self._add(source, row_of(found))

    def add_failure(self, source: Path, name: str, reason: str) -> None:
        """Add a file, page or video frame that could not be read."""
        self.done.failed += 1
        if len(self.done.failures) < _MOST_LISTED:
            self.done.failures.append((name, reason))
        self._add(source, row_of_failure(name, reason))

    def finish(self, model: str, formats: set[str], *, whole: bool) -> bool:
        """Write the remaining entries as a part; `whole` ends the run with its manifest. Returns False."""
        if self._rows and not self._failed:
            self._flush()
        if whole:
            counts = {
                name: sum(part[name] for part in self._parts) for name in ("frames", "targets", "unreadable")
            }
            manifest = {"model": model, "format": self.kind, "settings": self.settings, **counts}
            write_text(self.file, json.dumps(manifest | {"parts": self._parts}, indent=1) + "\n")
            self._journal.path.unlink()
        self._journal.close()
        return False

    def _add(self, source: Path, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if not self._inputs or self._inputs[-1][0][0] != str(source):
            self._inputs.append([stamp(source), 0])
        self._inputs[-1][1] += 1
        if len(self._rows) >= _FRAMES or self._targets >= _TARGETS:
            self._flush()

    def _flush(self) -> None:
        failures = [[row["file"], row["error"]] for row in self._rows if row["error"] is not None]
        frames = [row for row in self._rows if row["error"] is None]
        part: dict[str, Any] = {
            "file": f"part-{len(self._parts):06d}.{self.kind}",
            "frames": len(frames),
            "targets": sum(len(row["detections"]) for row in frames),
            "unreadable": len(failures),
        }
        record = {
            "part": part,
            "without_targets": sum(not row["detections"] for row in frames),
            "failures": failures[:_MOST_LISTED],
            "inputs": self._inputs,
        }
        try:
            write_part(self.path / part["file"], self._rows)
            self._journal.append(record)
        except (OSError, DimpointError) as error:
            self._failed = True
            kept = sum(each["frames"] for each in self._parts)
            reason = getattr(error, "strerror", None) or error
            raise DimpointError(
                f"{self.path}: cannot be written ({reason}); the parts hold the first "
                f"{counted(kept, 'frame')}"
            ) from None
        self._parts.append(part)
        self._clear()

    def _clear(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._inputs: list[list[Any]] = []
        self._targets = 0

    def _on_disk(self) -> Iterator[Path]:
        for kind in KINDS:
            yield from sorted(self.path.glob(f"part-[0-9]*.{kind}"))


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
