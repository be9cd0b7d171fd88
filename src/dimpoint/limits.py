"""The one set of limits on what files may hold, so that a small file cannot fill the memory.

Every limit is far above what real data needs, and an environment variable raises it: `DIMPOINT_MAX_` and the
limit's name, such as `DIMPOINT_MAX_FRAME_PIXELS=5e9`. docs/reliability.md lists them.
"""

from __future__ import annotations

import os
from pathlib import Path

from dimpoint.errors import ConfigError, DimpointError

DEFAULTS = {
    "frame_pixels": 2**28,  # of one frame as decoded: 16,384 x 16,384
    "frame_bytes": 2**31,  # of one picture as decoded, all channels
    "file_bytes": 2**30,  # of a picture that is read whole
    "label_bytes": 2**28,  # of a label file, list, recipe or record that is read whole
    "archive_ratio": 500,  # bytes that come out of an archive for each one in it, beyond the first 64 MiB
    "annotations": 2_000_000,  # of one label file
    "points_per_frame": 20_000,  # labels or detections of one frame
    "yaml_nodes": 100_000,  # of a recipe, aliases counted each time they are used
    "depth": 100,  # levels of lists and mappings within each other
    "read_seconds": 60,  # to read one frame in `dimpoint detect`
    "record_number": 2**20,  # any number in a model's or encoder's record that sets a size
}
_FREE_ARCHIVE = 2**26


def limit(name: str) -> int:
    """The value of a limit. Raises ConfigError if its environment variable is no positive number."""
    variable = variable_of(name)
    text = os.environ.get(variable)
    if text is None:
        return DEFAULTS[name]
    try:
        value = int(float(text))
    except (ValueError, OverflowError):
        value = 0
    if value < 1:
        raise ConfigError(f"{variable}: '{text}' is no positive number")
    return value


def variable_of(name: str) -> str:
    """The environment variable that sets a limit."""
    return f"DIMPOINT_MAX_{name.upper()}"


def check(name: str, value: int, what: str, error: type[DimpointError] = DimpointError) -> None:
    """Raise `error` if `value` is above the limit `name`. what: the file and what there is too much of."""
    if value > limit(name):
        raise error(
            f"{what}: {value:,} is more than the limit of {limit(name):,} ({name.replace('_', ' ')}); "
            f"if the file is right, raise it: {variable_of(name)}={value}"
        )


def check_archive(packed: int, unpacked: int, what: str, error: type[DimpointError] = DimpointError) -> None:
    """Raise `error` if an archive of `packed` bytes holds out of proportion more, `unpacked` bytes."""
    if unpacked > _FREE_ARCHIVE:
        check(
            "archive_ratio",
            -(-unpacked // max(1, packed)),
            f"{what}: unpacked bytes for each packed one",
            error,
        )


def read_bytes(path: Path, name: str, error: type[DimpointError] = DimpointError) -> bytes:
    """The bytes of a file, if it is no larger than the limit `name`. Raises OSError as `open` does."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        check(name, size, f"{path}: bytes", error)
        data = file.read(limit(name) + 1)
    check(name, len(data), f"{path}: bytes", error)
    return data


def read_text(path: Path, error: type[DimpointError] = DimpointError) -> str:
    """The text of a UTF-8 file of at most `label_bytes`; `error` if it cannot be read or is none."""
    try:
        return read_bytes(path, "label_bytes", error).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as problem:
        raise error(f"{path}: not a readable UTF-8 text ({problem})") from None


def check_yaml(text: str, what: str, error: type[DimpointError] = DimpointError) -> None:
    """Raise `error` if a YAML text, with its aliases written out, holds too many nodes or levels.

    Only events are read, so that a text that unfolds to gigabytes is refused before it is built. Raises
    yaml.YAMLError for what is no YAML.
    """
    import yaml

    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []  # anchor, nodes before it
    total = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            total += sizes.get(str(event.anchor), 1)
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, total))
            total += 1
            check("depth", len(open_nodes), f"{what}: levels within each other", error)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = total - before
        check("yaml_nodes", total, f"{what}: entries with aliases written out", error)


def check_numbers(content: object, what: str, error: type[DimpointError] = DimpointError) -> None:
    """Raise `error` if a record of JSON values holds an integer above `record_number`, or is too deep.

    For records whose numbers set the sizes of what is built from them.
    """
    pending: list[tuple[object, str, int]] = [(content, "", 1)]
    while pending:
        value, place, depth = pending.pop()
        check("depth", depth, f"{what}: levels within each other", error)
        if isinstance(value, dict):
            pending += [(inner, f"{place}.{key}".strip("."), depth + 1) for key, inner in value.items()]
        elif isinstance(value, list):
            pending += [(inner, place, depth + 1) for inner in value]
        elif isinstance(value, int) and not isinstance(value, bool):
            check("record_number", abs(value), f"{what}: {place[:80]}", error)
