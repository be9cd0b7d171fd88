"""Read and check files of detections: JSON, JSON Lines, Parquet, runs in parts and their shards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from dimpoint import limits
from dimpoint.errors import DataError, MissingExtraError, one_line
from dimpoint.inference.detections import Detections
from dimpoint.sources.georeference import Georeference
from dimpoint.text import counted

_ESCAPE = re.compile(r"\\u(dc[89a-f][0-9a-f])")  # of a byte that is not UTF-8, as `parquet_table` writes it
_BATCH = 500  # rows of a Parquet file in memory
_JOURNAL = "detections.unfinished.jsonl"
_UNFINISHED = ("parts.unfinished.jsonl", "plan.unfinished.jsonl", _JOURNAL)


def read_detections(path: str | Path) -> list[Detections]:
    """Read the detections of many frames.

    Parameters
    ----------
    path : str or Path
        `detections.json`, a `.jsonl` or `.parquet` file, the folder of a run, or a folder that holds all
        shards of a run, which are joined in order.

    Returns
    -------
    list of Detections
        One for each frame. Files that could not be read are left out.

    Raises
    ------
    DataError
        Names the file, the frame and the key that is wrong, or the shards that are missing or unfinished.

    Examples
    --------
    >>> import dimpoint
    >>> found = dimpoint.read_detections("results")  # doctest: +SKIP
    >>> sum(len(each) for each in found)  # doctest: +SKIP
    12
    """
    return list(iterate_detections(path))


def iterate_detections(path: str | Path) -> Iterator[Detections]:
    """As `read_detections`, one frame at a time, with at most one part of a run in memory."""
    path = Path(path)
    if path.is_dir():
        for file, frames in _files_of(path):
            count = 0
            for found in iterate_detections(file):
                count += 1
                yield found
            if frames is not None and count != frames:
                held = counted(count, "frame")
                raise DataError(f"{file}: holds {held}, and {frames} by its manifest; copy the part again")
    elif path.suffix.lower() == ".jsonl":
        yield from _read_lines(path)
    elif path.suffix.lower() == ".parquet":
        yield from _read_parquet(path)
    else:
        yield from _read_json(path)


def holds_detections(path: Path) -> bool:
    """Whether this path is a run's folder, that of its shards, or a results file other than JSON."""
    if path.is_dir():
        names = ("detections.json", "manifest.json", *_UNFINISHED, "*/manifest.json")
        return any(next(path.glob(name), None) is not None for name in names)
    return path.suffix.lower() in (".jsonl", ".parquet")


def _files_of(folder: Path) -> list[tuple[Path, int | None]]:
    """The files of a run's folder, or of its shards in order; and how many frames each has, if that is known.

    Frames that could not be read are not counted.
    """
    file = folder / "detections.json"
    if file.is_file():
        if (folder / _JOURNAL).exists():
            raise DataError(
                f"{folder}: this run is not finished; repeat the command to continue it, or give {file}, "
                "which may lack frames or be of an earlier run"
            )
        return [(file, None)]
    for name in _UNFINISHED:
        for left in sorted(folder.rglob(name)):
            raise DataError(f"{left.parent}: this run is not finished; repeat the command to continue it")
    manifests = [folder / "manifest.json"]
    if not manifests[0].is_file():
        manifests = sorted(folder.glob("*/manifest.json"))
    if not manifests:
        raise DataError(f"{folder}: no detections; expected detections.json, or manifest.json and its parts")
    runs = [(_read_manifest(file), file.parent) for file in manifests]
    if len(runs) > 1 or _shard(runs[0][0])[1] > 1:
        runs = _in_order(runs, folder)
    files = [
        (place / str(part["file"]), part["frames"] if isinstance(part.get("frames"), int) else None)
        for content, place in runs
        for part in content["parts"]
    ]
    for file, _ in files:
        if not file.is_file():
            raise DataError(f"{file}: this part is missing")
    return files


def _in_order(runs: list[tuple[dict[str, Any], Path]], folder: Path) -> list[tuple[dict[str, Any], Path]]:
    """Shards by number. Raises DataError unless they are all shards of one run."""
    count = _shard(runs[0][0])[1]
    common = {key: value for key, value in runs[0][0]["settings"].items() if key != "--shard"}
    numbered: dict[int, tuple[dict[str, Any], Path]] = {}
    for content, place in runs:
        number, others = _shard(content)
        for key in sorted({*common, *content["settings"]} - {"--shard"}):
            if common.get(key) != content["settings"].get(key):
                raise DataError(f"{place}: not the same run as {runs[0][1]}: {key} differs")
        if others != count:
            raise DataError(f"{place}: shard {number}/{others}, where {runs[0][1]} is one of {count}")
        if number in numbered:
            raise DataError(f"{place}: shard {number}/{count} is also in {numbered[number][1]}")
        numbered[number] = content, place
    missing = [str(number) for number in range(1, count + 1) if number not in numbered]
    if missing:
        raise DataError(f"{folder}: shards {', '.join(missing[:20])} of {count} are missing")
    return [numbered[number] for number in sorted(numbered)]


def _shard(manifest: dict[str, Any]) -> tuple[int, int]:
    number, _, count = str(manifest["settings"].get("--shard") or "1/1").partition("/")
    return int(number), int(count)


def _read_manifest(file: Path) -> dict[str, Any]:
    content = _json_of(file)
    try:
        _shard(content)
        names = [part["file"] for part in content["parts"]]
        if not all(name == Path(name).name for name in names):
            raise ValueError("a part is not in this folder")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{file}: not the manifest of a run ({str(error)[:200]})") from None
    return dict(content)


def _read_json(path: Path) -> Iterator[Detections]:
    content = _json_of(path)
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        raise DataError(f"{path}: not a detections file; expected an object with a list 'images'")
    model = str(content.get("model", ""))
    for number, entry in enumerate(images, 1):
        where = f"{path}: image {number}"
        yield _checked(from_entry(entry, model, where), where)


def _json_of(path: Path) -> Any:
    try:
        return json.loads(limits.read_bytes(path, "label_bytes", DataError))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON file ({str(error)[:200]})") from None


def _read_lines(path: Path) -> Iterator[Detections]:
    most = limits.limit("label_bytes")
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(most + 1):
                number += 1
                where = f"{path}, line {number}"
                limits.check("label_bytes", len(line), f"{where}: bytes", DataError)
                try:
                    entry = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{where}: not JSON ({str(error)[:200]})") from None
                yield from _from_row(entry, where)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _read_parquet(path: Path) -> Iterator[Detections]:
    if find_spec("pyarrow") is None:
        raise MissingExtraError("Parquet", "pyarrow", "archive")
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                for entry in batch.to_pylist():
                    number += 1
                    if isinstance(entry.get("file"), str):
                        entry["file"] = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), entry["file"])
                    yield from _from_row(entry, f"{path}, row {number}")
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or one_line(error, 200)
        raise DataError(f"{path}: cannot be read ({reason})") from None


def _from_row(entry: Any, where: str) -> Iterator[Detections]:
    """The detections of a line or row; nothing for a file that could not be read."""
    if not isinstance(entry, dict):
        raise DataError(f"{where}: not an entry of a part; expected an object")
    if entry.get("error") is None:
        yield _checked(from_entry(entry, str(entry.get("model") or ""), where), where)


def from_entry(entry: Any, model: str, where: str) -> Detections:
    """The detections of a frame's entry, which `Detections.to_dict` gave.

    Parameters
    ----------
    entry : dict
        The entry.
    model : str
        Name of the model.
    where : str
        Names the entry in errors.

    Raises
    ------
    DataError
        If it is of another form.
    """
    try:
        file, width, height, found = (entry[key] for key in ("file", "width", "height", "detections"))
        rows = [(one["x"], one["y"], one["score"], _area(one.get("area"))) for one in found]
        with np.errstate(over="ignore"):  # overflow becomes infinite and is refused below
            table = np.array(rows, np.float32).reshape(-1, 4)
        geo = Georeference.from_record(entry.get("geo"))
    except KeyError as error:
        raise DataError(f"{where}: key {error} is missing") from None
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"{where}: not an entry of a detections file ({str(error)[:200]})") from None
    if not np.isfinite(table[:, :3]).all():
        raise DataError(f"{where}: x, y and score must be finite numbers")
    if not isinstance(file, str):
        raise DataError(f"{where}: key 'file' must be a string, got {str(file)[:80]!r}")
    sides = (width, height)
    if not all(isinstance(side, int) and not isinstance(side, bool) and 0 <= side < 2**31 for side in sides):
        raise DataError(f"{where}: width and height must be numbers of pixels")
    has_areas = len(table) > 0 and bool(np.isfinite(table[:, 3]).all())
    return Detections(
        xy=np.ascontiguousarray(table[:, :2]),
        scores=np.ascontiguousarray(table[:, 2]),
        areas=np.ascontiguousarray(table[:, 3]) if has_areas else None,
        file=file,
        width=width,
        height=height,
        model=model,
        geo=geo,
    )


def _checked(found: Detections, where: str) -> Detections:
    """Refuse what no detector gives: scores outside 0..1, points far outside the frame, too many points."""
    size = np.array([found.width, found.height])
    if len(found) > found.width * found.height:  # a detector gives one for a pixel at most
        limits.check("points_per_frame", len(found), f"{where}: detections", DataError)
    scores = found.scores
    if len(found) and not (scores.min() >= 0 and scores.max() <= 1):
        worst = scores[np.argmax(np.abs(scores - 0.5))]
        raise DataError(f"{where}: a score lies in 0..1, got {worst:g}")
    low, high = found.xy.min(0, initial=0), found.xy.max(0, initial=0)
    margin = 1000 + size
    if len(found) and size.min() > 0 and not ((low >= -margin).all() and (high <= 2 * margin).all()):
        far = found.xy[np.argmax(np.abs(found.xy).max(1))]
        place = f"({far[0]:g}, {far[1]:g})"
        raise DataError(f"{where}: a detection at {place} is far outside of {size[0]}x{size[1]}")
    return found


def _area(value: Any) -> Any:
    return np.nan if value is None else value
