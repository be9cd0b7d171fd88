"""`Detections`: the targets found in one frame, and their files on disk."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.atomic import write_text
from dimpoint.errors import DataError, DimpointError

CSV_COLUMNS = ("file", "x", "y", "score", "area")


@dataclass(frozen=True, eq=False)
class Detections:
    """Targets of one frame, best first.

    xy: (N, 2) float32, pixels of the original frame; the centre of the top-left pixel is (0, 0).
    scores: (N,) float32 in 0..1. areas: (N,) float32 pixels, or None where the model gives no extent.
    Two are equal if all but the model's name is.
    """

    xy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    areas: npt.NDArray[np.float32] | None = None
    file: str = ""
    width: int = 0
    height: int = 0
    model: str = field(default="")

    def __len__(self) -> int:
        return len(self.scores)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Detections):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        """The frame's entry in `detections.json`: file, width, height, detections (x, y, score, area?).

        Numbers are the shortest decimals that give the same float32 back.
        """
        columns = [("x", self.xy[:, 0]), ("y", self.xy[:, 1]), ("score", self.scores)]
        if self.areas is not None:
            columns.append(("area", self.areas))
        values = [[_shortest(value) for value in column] for _, column in columns]
        names = [name for name, _ in columns]
        found = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
        return {"file": self.file, "width": self.width, "height": self.height, "detections": found}

    def to_coco(self) -> dict[str, Any]:
        """This frame as a COCO keypoints file's content; see `coco_content`."""
        return coco_content([self])

    def to_csv(self) -> str:
        """One line for each target under the header `file,x,y,score,area` (area empty where unknown)."""
        return csv_text([self])

    def save(self, path: str | Path) -> None:
        """Write the frame's targets: `.json` as `detections.json` is laid out, `.csv` as `to_csv` says.

        Raises DimpointError for another suffix or a place that cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() == ".json":
            write_detections(path, self.model, [self])
        elif path.suffix.lower() == ".csv":
            write_text(path, self.to_csv())
        else:
            raise DataError(f"{path}: detections are saved as .json or .csv")

    def plot(self, frame: npt.NDArray[Any], out: str | Path | None = None) -> npt.NDArray[np.uint8]:
        """The frame with its targets circled, (kH, kW, 3) uint8 in BGR order.

        frame: (H, W) uint8, uint16 or float32. out: an image file to write as well.
        """
        from dimpoint.inference.overlay import draw, write_picture

        picture = draw(frame, self.xy, self.scores)
        if out is not None:
            write_picture(Path(out), picture)
        return picture


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
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._begin = f'{{"model": {json.dumps(model, ensure_ascii=False)}, "images": ['
        self._whole = 0  # bytes up to the end of the last whole entry

    def __enter__(self) -> DetectionsWriter:
        self._new_folder = not self.path.parent.exists()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._temporary.open("wb", buffering=0)
            self._append(self._begin)
        except OSError as error:
            with suppress(OSError):
                self._temporary.unlink()
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
        rest = memoryview(text.encode())
        while rest:
            rest = rest[self._file.write(rest) :]
        self._whole = self._file.tell()


def write_detections(path: Path, model: str, items: Iterable[Detections]) -> None:
    """Write `detections.json` whole or not at all; raises DimpointError if it cannot be written."""
    entries = ",\n".join(json.dumps(item.to_dict(), ensure_ascii=False) for item in items)
    name = json.dumps(model, ensure_ascii=False)
    write_text(path, f'{{"model": {name}, "images": [\n{entries}\n]}}\n')


def read_detections(path: str | Path) -> list[Detections]:
    """Read `detections.json`; raises DataError naming the file, image and key that is wrong."""
    path = Path(path)
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON file ({error})") from None
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        raise DataError(f"{path}: no detections file; expected an object with a list 'images'")
    model = str(content.get("model", ""))
    return [_from_dict(entry, model, f"{path}: image {number}") for number, entry in enumerate(images, 1)]


def coco_content(items: Sequence[Detections]) -> dict[str, Any]:
    """The content of a COCO keypoints file, as `dimpoint.datasets.coco` reads it back as points.

    One annotation per target with `num_keypoints: 1`, `keypoints: [x, y, 2]`, its `score`, and the
    `area` where it is known; a point has no extent, so `bbox` is 5 px wide and high around it and `area` 25.
    """
    from dimpoint.datasets.coco import POINT_SIDE, point_box

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, item in enumerate(items, 1):
        entry = item.to_dict()
        images.append({"id": image_id, "file_name": item.file, "width": item.width, "height": item.height})
        for found in entry["detections"]:
            x, y = found["x"], found["y"]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "num_keypoints": 1,
                    "keypoints": [x, y, 2],
                    "bbox": point_box(x, y),
                    "area": found.get("area", POINT_SIDE**2),
                    "iscrowd": 0,
                    "score": found["score"],
                }
            )
    category = {"id": 1, "name": "target", "keypoints": ["centre"], "skeleton": []}
    return {"images": images, "annotations": annotations, "categories": [category]}


def csv_text(items: Iterable[Detections]) -> str:
    """All targets of several frames, one line each under the header `file,x,y,score,area`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for item in items:
        writer.writerows({"file": item.file, **found} for found in item.to_dict()["detections"])
    return text.getvalue()


def _unwritable(path: Path, error: OSError) -> DimpointError:
    return DimpointError(f"{path}: cannot be written: {error.strerror}")


def _shortest(value: np.float32) -> float:
    return float(str(value))


def _from_dict(entry: Any, model: str, where: str) -> Detections:
    try:
        file, width, height, found = (entry[key] for key in ("file", "width", "height", "detections"))
        rows = [(one["x"], one["y"], one["score"], one.get("area", np.nan)) for one in found]
        table = np.array(rows, np.float32).reshape(-1, 4)
    except KeyError as error:
        raise DataError(f"{where}: key {error} is missing") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{where}: not as a detections file has it ({error})") from None
    if not np.isfinite(table[:, :3]).all():
        raise DataError(f"{where}: x, y and score must be finite numbers")
    has_areas = len(table) > 0 and bool(np.isfinite(table[:, 3]).all())
    return Detections(
        xy=np.ascontiguousarray(table[:, :2]),
        scores=np.ascontiguousarray(table[:, 2]),
        areas=np.ascontiguousarray(table[:, 3]) if has_areas else None,
        file=file,
        width=width,
        height=height,
        model=model,
    )
