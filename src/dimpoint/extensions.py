"""Other packages: protocols and networks that they bring, by entry point or as `module:object`; versions.

Entry points are read from the metadata of what is installed; nothing is imported until its name is asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

from dimpoint.errors import ConfigError


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """Versions of those packages that are installed; one that is only on the path has none."""
    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def extension_names(group: str) -> list[str]:
    """The names that installed packages offer under an entry-point group, sorted."""
    return sorted({point.name for point in entry_points(group=group)})


def load_extension(name: str, group: str) -> Any:
    """What a name of an entry-point group, or `module:object`, stands for; None if it stands for nothing.

    A module is looked for in the current folder, too. Raises ConfigError where it cannot be imported.
    """
    for point in entry_points(group=group):
        if point.name == name:
            name = point.value
            break
    module, colon, attribute = name.partition(":")
    if not colon:
        return None
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:  # the code is another's: whatever it raises is told in one line
        raise ConfigError(f"'{name}' cannot be imported: {error!r}") from error
    return found
