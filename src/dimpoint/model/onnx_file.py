"""ONNX model files: detection of the file type, the record in the metadata, and the runtime.

An ONNX file is one protobuf message. Its metadata are entries of field 14, each with a key (field 1) and a
value (field 2). Only these entries are replaced; every other byte is kept (onnx.proto, `ModelProto`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from dimpoint.atomic import replacing
from dimpoint.errors import ModelFileError
from dimpoint.model.record import METADATA_KEY, ModelMeta, parse_meta

INPUT = "frame"

_METADATA = 14
_KEY, _VALUE = 1, 2
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5


def read_meta(path: Path) -> ModelMeta:
    """The record of an ONNX model file, read without building its graph.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, or not a dimpoint model.
    """
    return parse_meta(read_property(path, METADATA_KEY), str(path))


def read_property(path: Path, key: str) -> str | None:
    """One entry of a file's metadata, None if it is missing. Raises ModelFileError as `read_meta`."""
    check_kind(path)
    for number, _, payload in _fields(path.read_bytes(), path):
        if number == _METADATA and _entry(payload, _KEY, path) == key:
            return _entry(payload, _VALUE, path)
    return None


def import_runtime() -> ModuleType:
    """Import ONNX Runtime with its telemetry disabled; no other code imports it.

    By default the library writes a device id below the user's cache folder when it is loaded, and queues
    events for its developers. It reads the environment variable once, when it is loaded.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    if hasattr(onnxruntime, "disable_telemetry_events"):  # if other code loaded it first
        onnxruntime.disable_telemetry_events()
    module: ModuleType = onnxruntime
    return module


def check_kind(path: Path) -> None:
    """Raise ModelFileError for files that are not ONNX, by their first bytes; nothing is unpickled."""
    if path.is_dir():
        raise ModelFileError(
            f"{path}: a folder, not a model file; export a training run with: "
            f"dimpoint export {path} --out model.onnx"
        )
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror})") from None
    if not head:
        raise ModelFileError(f"{path}: not a model, the file is empty")
    if is_pickle(head):
        raise ModelFileError(
            f"{path}: a PyTorch checkpoint or pickle, which is never opened because it could run code; "
            "detection needs an ONNX model: export the training run with dimpoint export, or convert "
            "the authors' weights with dimpoint import"
        )
    if _is_safetensors(head) or path.suffix == ".safetensors":
        raise ModelFileError(
            f"{path}: safetensors weights are for training; convert them with "
            f"dimpoint export {path} --out model.onnx (needs: pip install 'dimpoint[train]')"
        )


def is_pickle(head: bytes) -> bool:
    """Whether the first bytes, 9 or more, are those of a pickle or a PyTorch checkpoint."""
    return head[:4] == b"PK\x03\x04" or (head[:1] == b"\x80" and not _is_safetensors(head))


def _is_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{"  # after a length, whose first byte may be any


def with_metadata(content: bytes, key: str, value: str, file: Path) -> bytes:
    """Replace or add one metadata entry of a model.

    Parameters
    ----------
    content : bytes
        The model file.
    key, value : str
        The entry.
    file : Path
        Name of the file in errors.

    Returns
    -------
    bytes
        All other bytes are unchanged.
    """
    kept = bytearray()
    for number, whole, payload in _fields(content, file):
        if number != _METADATA or _entry(payload, _KEY, file) != key:
            kept += whole
    entry = _field(_KEY, key.encode()) + _field(_VALUE, value.encode())
    return bytes(kept + _field(_METADATA, entry))


def write_with_record(meta: ModelMeta, source: Path, out: Path) -> None:
    """Write an ONNX model file with another record.

    Parameters
    ----------
    meta : ModelMeta
        The record.
    source : Path
        The model file.
    out : Path
        The file to write; may be `source`. It is not changed if writing fails.

    Raises
    ------
    ModelFileError
        If the record cannot be read back.
    DimpointError
        If the file cannot be written.
    """
    content = with_metadata(source.read_bytes(), METADATA_KEY, meta.to_json(), source)
    with replacing(out) as temporary:
        temporary.write_bytes(content)
        if read_meta(temporary) != meta:
            raise ModelFileError(f"{out}: not written: the metadata cannot be read back")


def _entry(entry: bytes, wanted: int, file: Path) -> str:
    """The key or the value of a metadata entry."""
    found = [payload for number, _, payload in _fields(entry, file) if number == wanted]
    return found[-1].decode(errors="replace") if found else ""


def _fields(content: bytes, file: Path) -> Iterator[tuple[int, bytes, bytes]]:
    """(number, the whole field, its payload) of each field of a message."""
    position = 0
    try:
        while position < len(content):
            start = position
            tag, position = _varint(content, position)
            begin, position = _payload(content, position, tag & 7)
            if position > len(content):
                raise IndexError
            yield tag >> 3, content[start:position], content[begin:position]
    except (IndexError, ValueError):
        raise ModelFileError(f"{file}: not an ONNX file, or truncated") from None


def _payload(content: bytes, position: int, kind: int) -> tuple[int, int]:
    """Where the payload of a field begins and ends."""
    if kind == _VARINT:
        return position, _varint(content, position)[1]
    if kind == _LENGTH:
        length, begin = _varint(content, position)
        return begin, begin + length
    sizes: dict[int, int] = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}
    if kind not in sizes:
        raise ValueError(kind)
    return position, position + sizes[kind]


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _field(number: int, payload: bytes) -> bytes:
    return _encoded(number << 3 | _LENGTH) + _encoded(len(payload)) + payload


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
