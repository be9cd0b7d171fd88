"""Detection on a Ray cluster: files -> pieces of equal length -> actors that each hold the model -> parts.

A piece is a stretch of the sorted list of files, and one part of the results. An actor writes the part of its
piece whole, under a name that the piece decides. A piece that is done twice, after the death of a worker or a
machine, therefore neither doubles nor loses a frame. The manifest is written when every piece is done.
"""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from dimpoint.cluster.storage import Results, address_of, open_results, read_addresses
from dimpoint.errors import ConfigError, DimpointError, MissingExtraError, one_line
from dimpoint.inference.detector import Detector
from dimpoint.inference.journal import json_line, stamp
from dimpoint.inference.parts import (
    MANIFEST,
    UNFINISHED,
    row_of,
    row_of_failure,
)
from dimpoint.inference.stream import Failure, detect_stream, read_files
from dimpoint.sources import PLAIN, Frame, ReadOptions

FILES_IN_A_PIECE = 500
_LEAST_PIECES = 64
_PLAN = "plan.unfinished.jsonl"
_MOST_LISTED = 20


@dataclass(frozen=True)
class Job:
    """What every actor needs.

    Parameters
    ----------
    out : str
        The results folder, on a disk that all machines share, or an address; see `dimpoint.cluster.storage`.
    model : str
        File of the model, on such a disk.
    options : dict
        Of `Detector`.
    reading : ReadOptions
        How files are read.
    kind : {"parquet", "jsonl"}
    """

    out: str
    model: str
    options: dict[str, Any]
    reading: ReadOptions = PLAIN
    kind: str = "parquet"


def plan(files: Sequence[Path | str], length: int | None = None) -> list[dict[str, Any]]:
    """The pieces of a run: their numbers and the names of their files.

    Parameters
    ----------
    files : sequence of Path or str
    length : int, optional
        Files of a piece; by default 500, fewer where that would give less than 64 pieces.

    Examples
    --------

    >>> [piece["files"] for piece in plan([Path("a"), Path("b"), Path("c")], length=2)]
    [['a', 'b'], ['c']]
    """
    length = length or max(1, min(FILES_IN_A_PIECE, len(files) // _LEAST_PIECES))
    return [
        {"piece": number, "files": [str(file) for file in files[start : start + length]]}
        for number, start in enumerate(range(0, len(files), length))
    ]


class PieceDetector:
    """The work of one actor: the model is loaded once, then pieces come one after another."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.detector = Detector(job.model, threads=1, **job.options)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """A batch of pieces -> a record of each as JSON, once its part is written."""
        pieces = zip(batch["piece"], batch["files"], strict=True)
        return {"record": [json.dumps(self.work(int(piece), json.loads(files))) for piece, files in pieces]}

    def work(self, piece: int, files: Sequence[str]) -> dict[str, Any]:
        """Detect in the files of a piece, write its part, and say what is in it."""
        rows: list[dict[str, Any]] = []
        failures = []
        for event in detect_stream(self.detector, _frames(files, self.job.reading)):
            if isinstance(event, Failure):
                rows.append(row_of_failure(event.file, event.reason))
                failures.append((event.file, event.reason))
            else:
                rows.append(row_of(event[1]))
        name = f"part-{piece:06d}.{self.job.kind}"
        open_results(self.job.out).write_part(name, rows)
        part = {
            "file": name,
            "frames": len(rows) - len(failures),
            "targets": sum(len(row["detections"]) for row in rows),
            "unreadable": len(failures),
        }
        return {"piece": piece, "part": part, "failures": failures[:_MOST_LISTED]}


def _frames(files: Sequence[str], reading: ReadOptions) -> Iterator[Frame | Failure]:
    if files and address_of(files[0]):
        return read_addresses(files, reading)
    return read_files([Path(file) for file in files], (), reading)


def detect_on_ray(
    files: Sequence[Path | str],
    job: Job,
    settings: dict[str, Any],
    *,
    stamps: Sequence[list[Any]] | None = None,
    address: str = "local",
    model_name: str = "",
    overwrite: bool = False,
    step: Callable[[int], None] = lambda frames: None,
) -> dict[str, Any]:
    """Detect in files on a Ray cluster and write parts and a manifest.

    Parameters
    ----------
    files : sequence of Path, or of str for addresses
        In order; every machine must reach them under these names.
    job : Job
    settings : dict
        What the results depend on, JSON values; an interrupted run is gone on with only under the same.
    stamps : sequence of list, optional
        Address, size and modification time of each file, as `list_address` gives them; left out for paths.
    address : str
        `local` starts Ray on this machine; else that of a running cluster, as `ray.init` takes it.
    overwrite : bool
        Discard what is in the folder.
    step : callable
        Called with the number of frames of each finished piece.

    Returns
    -------
    dict
        The manifest, with `failures`: the first 20 files that could not be read and why.

    Raises
    ------
    MissingExtraError
        Without Ray.
    ConfigError
        If the folder holds a finished run, or an unfinished one of other files or settings.
    """
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise MissingExtraError("detect --ray", "ray", "ray")
    folder = open_results(job.out)
    done = _open_run(folder, job.out, stamps or map(stamp, map(Path, files)), settings, overwrite)
    pieces = [piece for piece in plan(files) if piece["piece"] not in done]
    for record in _run(pieces, job, address) if pieces else ():
        done[record["piece"]] = record
        folder.note(record)
        step(record["part"]["frames"])
    parts = [done[number]["part"] for number in sorted(done)]
    counts = {name: sum(part[name] for part in parts) for name in ("frames", "targets", "unreadable")}
    manifest = {"model": model_name, "format": job.kind, "settings": settings, **counts, "parts": parts}
    folder.write_lines(MANIFEST, [json.dumps(manifest, indent=1).encode() + b"\n"])
    folder.remove(name for name in folder.names() if ".unfinished." in name)
    failures = [failure for number in sorted(done) for failure in done[number]["failures"]]
    return manifest | {"failures": failures[:_MOST_LISTED]}


def _run(pieces: list[dict[str, Any]], job: Job, address: str) -> Iterator[dict[str, Any]]:
    """The records of pieces, as they are done."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to Ray's makers
    ray: Any = import_module("ray")
    import_module("ray.data")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ours = not ray.is_initialized()
    if ours:
        if address == "local":
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        else:
            try:
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, ValueError, RuntimeError) as error:
                reason = one_line(error, 200)
                raise ConfigError(f"--ray {address}: no cluster answers ({reason})") from None
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        rows = [{"piece": piece["piece"], "files": json.dumps(piece["files"])} for piece in pieces]
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        data = ray.data.from_items(rows, override_num_blocks=min(len(rows), max(200, 4 * cores)))
        records = data.map_batches(
            PieceDetector,
            fn_constructor_args=(job,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=cores),
            num_cpus=1,
        )
        for row in records.iter_rows():
            yield json.loads(row["record"])
    except ray.exceptions.RayError as error:
        raise DimpointError(f"the Ray cluster: {' '.join(str(error).split())[-300:]}") from None
    finally:
        if ours:
            ray.shutdown()


def _open_run(
    folder: Results, name: str, stamps: Iterable[list[Any]], settings: dict[str, Any], overwrite: bool
) -> dict[int, dict[str, Any]]:
    """Begin a run or go on with one: the records of the pieces that are done."""
    there = folder.names()
    if overwrite:
        ours = {each for each in there if each == MANIFEST or each.startswith("part-")}
        folder.remove(ours | {each for each in there if ".unfinished." in each})
        there = set()
    if MANIFEST in there:
        raise ConfigError(f"{name} holds the parts of a finished run; give another --out, or --overwrite")
    if _PLAN not in there:
        if UNFINISHED in there:
            raise ConfigError(f"{name} holds an unfinished run without --ray; finish it, or --overwrite")
        folder.write_lines(_PLAN, (json_line(each) + b"\n" for each in chain([settings], stamps)))
        return {}
    _check_same(name, folder.read(_PLAN), settings, stamps)
    return {record["piece"]: record for record in folder.notes() if record["part"]["file"] in there}


def _check_same(name: str, plan: bytes, settings: dict[str, Any], stamps: Iterable[list[Any]]) -> None:
    """Raise ConfigError, naming the first difference, unless the plan is of the same settings and files."""
    lines = io.BytesIO(plan)
    before = json.loads(next(lines))
    for key in sorted({*before, *settings}):
        old, new = before.get(key), settings.get(key)
        if old != new:
            raise ConfigError(
                f"{name} holds an unfinished run of other settings: {key} is {old!r} there and {new!r} "
                "here; give the same, or discard that run with --overwrite"
            )
    for number, (line, known) in enumerate(zip_longest(lines, stamps), 1):
        if line is None or known is None or json.loads(line) != known:
            file = known[0] if known is not None else json.loads(line)[0]
            raise ConfigError(
                f"{name} holds an unfinished run of other files: file {number}, {file}, is new, gone "
                "or has changed; give the same files, or discard that run with --overwrite"
            )
