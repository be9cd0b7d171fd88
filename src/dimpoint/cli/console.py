"""Where tables are printed."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_WIDEST = 240  # columns


def table_console() -> Console:
    """Standard output: a terminal has its own width, a file or a pipe gets tables as wide as they are."""
    from rich.console import Console

    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if known else _WIDEST)
