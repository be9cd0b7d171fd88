"""Where a cluster reads frames and writes results: folders, or addresses such as s3://bucket/frames.

pyarrow opens S3, GCS, Azure and HDFS addresses, fsspec any other whose package is installed. Objects are
written whole or not at all, and are never appended to.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from dimpoint.atomic import replacing
from dimpoint.errors import FrameError, one_line
from dimpoint.inference.parts import UNFINISHED, write_part
from dimpoint.inference.stream import Failure, read_files
from dimpoint.sources import PLAIN, Frame, ReadOptions
from dimpoint.sources.files import is_junk, natural_key
from dimpoint.sources.readers import frame_suffixes

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://")
_AHEAD = 4  # files that are fetched while one is searched
_RECORD = "record-{:06d}.unfinished.json"


def address_of(source: str | os.PathLike[str]) -> str | None:
    """The address that a source is, or None for a path.

    >>> address_of("s3://bucket/frames"), address_of("frames")
    ('s3://bucket/frames', None)
    """
    text = os.fspath(source)
    return text if _ADDRESS.match(text) else None


def local_path(source: str | os.PathLike[str]) -> Path | None:
    """The path of a local source, file:// addresses among them; None for another address."""
    address = address_of(source)
    if address is None:
        return Path(source)
    return Path(unquote(urlsplit(address).path)) if address.startswith("file:") else None


def open_address(address: str) -> tuple[Any, str]:
    """The pyarrow file system of an address, and the path in it. Raises FrameError if none opens it."""
    import pyarrow as pa
    from pyarrow import fs

    with _told(address, "opened"):
        with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
            system, path = fs.FileSystem.from_uri(address)
            return system, path
        from fsspec.core import url_to_fs

        system, path = url_to_fs(address)
    return fs.PyFileSystem(fs.FSSpecHandler(system)), path


def list_address(address: str, *, recursive: bool) -> list[list[Any]]:
    """Address, size and modification time (ns) of each frame file at an address, in natural order.

    Raises FrameError if nothing is there, or no frames are.
    """
    from pyarrow import fs

    system, path = open_address(address)
    with _told(address, "listed"):
        here = system.get_file_info(path)
        if here.type == fs.FileType.File:
            return [[address, here.size, here.mtime_ns]]
        if here.type == fs.FileType.NotFound:
            raise FrameError(f"{address}: no such file or folder")
        found = system.get_file_info(fs.FileSelector(path, recursive=recursive))
    suffixes, length = frame_suffixes(), len(path.rstrip("/")) + 1
    stamps = []
    for each in found:
        inside = PurePosixPath(each.path[length:])
        if each.type != fs.FileType.File or inside.suffix.lower() not in suffixes:
            continue
        if not any(is_junk(part) for part in inside.parts):
            stamps.append([f"{address.rstrip('/')}/{inside}", each.size, each.mtime_ns])
    if not stamps:
        enter = "" if recursive else " (--recursive enters folders)"
        raise FrameError(f"no frames at {address}{enter}")
    return sorted(stamps, key=lambda stamp: natural_key(Path(stamp[0])))


def read_addresses(addresses: Sequence[str], options: ReadOptions = PLAIN) -> Iterator[Frame | Failure]:
    """`read_files` of addresses: each is fetched to a temporary file while those before it are searched."""
    waiting: deque[tuple[str, TemporaryDirectory[str], Future[Path]]] = deque()
    rest = iter(addresses)
    with ThreadPoolExecutor(_AHEAD) as pool:

        def fetch_next() -> None:
            if (address := next(rest, None)) is not None:
                folder = TemporaryDirectory(prefix="dimpoint-")
                waiting.append((address, folder, pool.submit(_fetch, address, Path(folder.name))))

        try:
            for _ in range(_AHEAD + 1):
                fetch_next()
            while waiting:
                address, folder, fetched = waiting.popleft()
                with folder:
                    yield from _read_fetched(address, fetched, options)
                fetch_next()
        finally:
            for _, folder, fetched in waiting:
                fetched.cancel()
                with suppress(Exception):
                    fetched.result()
                folder.cleanup()


def _fetch(address: str, folder: Path) -> Path:
    system, path = open_address(address)
    file = folder / PurePosixPath(path).name
    with system.open_input_stream(path) as source, file.open("wb") as target:
        while block := source.read(1 << 20):
            target.write(block)
    return file


def _read_fetched(address: str, fetched: Future[Path], options: ReadOptions) -> Iterator[Frame | Failure]:
    try:
        file = fetched.result()
    except Exception as error:  # whatever a store's client raises
        yield Failure(address, f"{address}: cannot be read ({_brief(error)})", Path(address))
        return
    for item in read_files([file], (), options):
        name = item.file.replace(str(file), address)
        if isinstance(item, Failure):
            yield replace(item, file=name, reason=item.reason.replace(str(file), address))
        else:
            yield replace(item, file=name)


class Results(Protocol):
    """A folder of results, on a disk or at an address. Files appear whole or not at all."""

    def names(self) -> set[str]:
        """The names of its files."""

    def read(self, name: str) -> bytes:
        """The content of a file."""

    def write_lines(self, name: str, lines: Iterable[bytes]) -> None:
        """Write a file."""

    def write_part(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        """Write a part; see `dimpoint.inference.parts.write_part`."""

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, those that are there."""

    def note(self, record: dict[str, Any]) -> None:
        """Keep the record of a finished piece."""

    def notes(self) -> list[dict[str, Any]]:
        """The records that were kept."""


def open_results(out: str) -> Results:
    """The folder of results at a path or an address."""
    path = local_path(out)
    return AddressResults(out) if path is None else FolderResults(path)


class FolderResults:
    """A folder on a disk; records of finished pieces are lines of a journal."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> set[str]:
        with suppress(FileNotFoundError):
            return set(os.listdir(self.path))  # noqa: PTH208  (names alone)
        return set()

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def write_lines(self, name: str, lines: Iterable[bytes]) -> None:
        with replacing(self.path / name) as temporary, temporary.open("wb") as file:
            file.writelines(lines)

    def write_part(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        write_part(self.path / name, rows)

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def note(self, record: dict[str, Any]) -> None:
        with (self.path / UNFINISHED).open("a+b", buffering=0) as journal:
            cut_off = False
            if journal.seek(0, os.SEEK_END):
                journal.seek(-1, os.SEEK_END)
                cut_off = journal.read(1) != b"\n"  # of the record before
            journal.write(b"\n" * cut_off + json.dumps(record).encode() + b"\n")

    def notes(self) -> list[dict[str, Any]]:
        found = []
        with suppress(FileNotFoundError):
            for line in (self.path / UNFINISHED).read_bytes().splitlines():
                with suppress(ValueError):  # cut off by a full disk or a kill: the piece is done again
                    found.append(json.loads(line))
        return found


class AddressResults:
    """A folder at an address; records of finished pieces are objects of their own."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._system, self._path = open_address(address.rstrip("/"))

    def names(self) -> set[str]:
        from pyarrow import fs

        with _told(self.address, "listed"):
            found = self._system.get_file_info(fs.FileSelector(self._path, allow_not_found=True))
        return {each.base_name for each in found if each.type == fs.FileType.File}

    def read(self, name: str) -> bytes:
        place = f"{self.address}/{name}"
        with _told(place, "read"), self._system.open_input_stream(f"{self._path}/{name}") as file:
            content: bytes = file.read()
        return content

    def write_lines(self, name: str, lines: Iterable[bytes]) -> None:
        content = io.BytesIO()
        content.writelines(lines)
        self._write(name, content.getvalue())

    def write_part(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        with TemporaryDirectory(prefix="dimpoint-") as folder:
            part = Path(folder) / name
            write_part(part, rows)
            self._write(name, part.read_bytes())

    def remove(self, names: Iterable[str]) -> None:
        for name in sorted(set(names) & self.names()):
            with _told(f"{self.address}/{name}", "removed"):
                self._system.delete_file(f"{self._path}/{name}")

    def note(self, record: dict[str, Any]) -> None:
        self._write(_RECORD.format(record["piece"]), json.dumps(record).encode())

    def notes(self) -> list[dict[str, Any]]:
        kept = sorted(name for name in self.names() if name.startswith("record-"))
        return [json.loads(self.read(name)) for name in kept]

    def _write(self, name: str, content: bytes) -> None:
        with _told(f"{self.address}/{name}", "written"):
            self._system.create_dir(self._path, recursive=True)
            with self._system.open_output_stream(f"{self._path}/{name}") as file:  # whole once it is closed
                file.write(content)


@contextmanager
def _told(address: str, what: str) -> Iterator[None]:
    """Turn the errors of pyarrow and fsspec into a FrameError that names the address."""
    import pyarrow as pa

    try:
        yield
    except (ImportError, OSError, ValueError, pa.ArrowException) as error:
        raise FrameError(f"{address}: cannot be {what} ({_brief(error)})") from None


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(error, 200)}"
