"""The results folder of `dimpoint detect`: a journal during the run, `detections.json` and others at its end.

    detections.unfinished.jsonl    while a run is unfinished: its settings, then one line for each frame
    detections.json                the result; also detections.csv, .coco.json and .geojson if requested
    overlays/, overlays.csv        pictures, and which frame each of them shows

Each line is written when its frame is done: a run that is killed loses only the frames in progress.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dimpoint.atomic import remove_temporary, replacing, write_text
from dimpoint.errors import ConfigError, DimpointError
from dimpoint.inference.detection_files import from_entry
from dimpoint.inference.detections import Detections, coco_content, csv_text, geojson_content
from dimpoint.inference.journal import Journal, JournaledFolder, json_line, other_files, stamp
from dimpoint.text import counted, csv_cell

FORMATS = {
    "json": "detections.json",
    "csv": "detections.csv",
    "coco": "detections.coco.json",
    "geojson": "detections.geojson",
}


class ResultsFolder(JournaledFolder):
    """The results of one run in one file, `detections.json`.

    Parameters
    ----------
    path : Path
        The folder.
    settings : dict
        What the results depend on, JSON values.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        journal = Journal(path / "detections.unfinished.jsonl", settings)
        super().__init__(path, path / FORMATS["json"], journal)
        self.placed: int | None = None  # targets with longitude and latitude, where GeoJSON was written

    def _restore(self) -> None:
        try:
            for record in self._journal.records():
                self._count(record)
        except (LookupError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{self._journal.path}: damaged ({error!r}); discard it with --overwrite"
            ) from None
        remove_temporary(self.overlays)

    def same_inputs(self, files: list[Path]) -> None:
        """Raise ConfigError unless `files` begins with the unchanged files of the unfinished run."""
        for number, before in enumerate(self.done.inputs):
            if error := other_files(self.path, number, before, files):
                raise error

    def rest(self, files: list[Path]) -> tuple[list[Path], list[int]]:
        """The files to read, and how many frames and failures of each of the first ones to skip."""
        return files, self.done.lines

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
            Name of its overlay.
        notes : sequence of str
            Notes of the reader. Default: none.

        Raises
        ------
        DimpointError
            If the disk is full.
        """
        record = {"input": stamp(source), "entry": found.to_dict(), "picture": picture}
        self._add(record | ({"notes": list(notes)} if notes else {}))

    def add_failure(self, source: Path, name: str, reason: str) -> None:
        """Add a file, page or video frame that could not be read."""
        self._add({"input": stamp(source), "failed": name, "reason": reason})

    def finish(self, model: str, formats: set[str], *, whole: bool) -> bool:
        """Write `detections.json` and the other formats from the journal; `whole` ends the run.

        Earlier results under the same names are replaced or removed. Returns whether there were any.
        """
        earlier = self.file.exists()
        old = set(self._listed())
        with replacing(self.file) as temporary, temporary.open("wb") as file:
            file.write(f'{{"model": {json.dumps(model, ensure_ascii=True)}, "images": ['.encode())
            between = b"\n"
            for record in self._entries():
                file.write(between + json_line(record["entry"]))
                between = b",\n"
            file.write(b"\n]}\n")
        for kind in FORMATS.keys() - {"json"}:
            if kind not in formats:
                (self.path / FORMATS[kind]).unlink(missing_ok=True)
        if formats - {"json"}:
            self._write_others(formats)
        for name in old.difference(self.done.pictures):
            (self.overlays / name).unlink(missing_ok=True)
        self._list_pictures()
        self.close()
        if whole:
            self._journal.path.unlink()
        return earlier

    def close(self) -> None:
        self._journal.close()

    def _write_others(self, formats: set[str]) -> None:
        where = str(self._journal.path)
        items = [from_entry(record["entry"], "", where) for record in self._entries()]
        if "csv" in formats:
            write_text(self.path / FORMATS["csv"], csv_text(items))
        if "coco" in formats:
            write_text(self.path / FORMATS["coco"], json.dumps(coco_content(items)))
        if "geojson" in formats:
            content = geojson_content(items)
            self.placed = len(content["features"])
            write_text(self.path / FORMATS["geojson"], json.dumps(content))

    def _listed(self) -> Iterator[str]:
        """The pictures of an earlier run."""
        try:
            text = (self.path / "overlays.csv").read_text("utf-8", errors="replace")
        except OSError:
            return
        for row in csv.DictReader(io.StringIO(text)):
            name = (row.get("picture") or "").removeprefix("'")
            if name == Path(name).name and name.endswith(".png"):
                yield name

    def _list_pictures(self) -> None:
        """Write which frame each picture shows, if there are any."""
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
        return (record for record in self._journal.records() if "entry" in record)

    def _add(self, record: dict[str, Any]) -> None:
        try:
            self._journal.append(record)
        except OSError as error:
            raise DimpointError(
                f"{self.file}: cannot be written ({error.strerror}); the file holds the first "
                f"{counted(self.done.frames, 'frame')}"
            ) from None
        self._count(record)

    def _count(self, record: dict[str, Any]) -> None:
        done = self.done
        if not done.inputs or done.inputs[-1] != record["input"]:
            done.inputs.append(record["input"])
            done.lines.append(0)
        done.lines[-1] += 1
        if "failed" in record:
            done.failures.append((str(record["failed"]), str(record["reason"])))
            done.failed += 1
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
