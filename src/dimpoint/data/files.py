"""Writing files whole: nothing half-written is ever seen under the final name."""

from __future__ import annotations

import os
from pathlib import Path

from dimpoint.errors import DataError


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file: a temporary file beside it, then a rename. Raises DataError if that fails."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, "utf-8", newline="\n")
        temporary.replace(path)
    except OSError as error:
        _remove(temporary)
        raise DataError(f"{path}: cannot be written ({error.strerror})") from None


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # the folder itself is unusable, so there is nothing to remove
        return
