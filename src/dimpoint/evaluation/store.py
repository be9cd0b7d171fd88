"""Write an operating point into an ONNX model file, without the onnx package.

An ONNX file is one protobuf message. Its metadata are entries of field 14, each a key (field 1) and a value
(field 2); only those entries are replaced, and every other byte stays (onnx.proto, `ModelProto`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dimpoint.atomic import replacing
from dimpoint.backends.onnx import OnnxBackend, read_meta
from dimpoint.errors import ConfigError, ModelFileError
from dimpoint.evaluation.operating import OperatingPoint
from dimpoint.model_meta import METADATA_KEY, ModelMeta

_METADATA = 14
_KEY, _VALUE = 1, 2
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5


def store_threshold(model: Path, out: Path, point: OperatingPoint) -> None:
    """Write `model` with the chosen threshold as its own, and the point beside its scores, to `out`.

    out may be the model itself. Raises ConfigError unless out ends in .onnx, ModelFileError for a model that
    cannot be read back, DimpointError where the file cannot be written; `out` is then as it was.
    """
    if out.suffix.lower() != ".onnx":
        raise ConfigError(f"--store {out}: the model is written as a .onnx file")
    meta = read_meta(model)
    rule = meta.decode.model_copy(update={"threshold": point.threshold})
    scores = {**meta.scores, "operating_point": point.to_record()}
    changed = meta.model_copy(update={"decode": rule, "scores": scores})
    content = _with_metadata(model.read_bytes(), METADATA_KEY, changed.to_json(), model)
    with replacing(out) as temporary:
        temporary.write_bytes(content)
        _check(temporary, changed, out)


def _check(written: Path, expected: ModelMeta, out: Path) -> None:
    if OnnxBackend(written, threads=1).meta != expected:
        raise ModelFileError(f"{out}: not written: the metadata do not read back as they were written")


def _with_metadata(content: bytes, key: str, value: str, file: Path) -> bytes:
    """The model with one metadata entry replaced or added."""
    kept = bytearray()
    for number, whole, payload in _fields(content, file):
        if number != _METADATA or _entry_key(payload, file) != key:
            kept += whole
    entry = _field(_KEY, key.encode()) + _field(_VALUE, value.encode())
    return bytes(kept + _field(_METADATA, entry))


def _entry_key(entry: bytes, file: Path) -> str:
    keys = [payload for number, _, payload in _fields(entry, file) if number == _KEY]
    return keys[-1].decode(errors="replace") if keys else ""


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
        raise ModelFileError(f"{file}: not an ONNX file, or cut off") from None


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
