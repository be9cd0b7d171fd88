"""Writing files whole, under the name that the data modules know."""

from __future__ import annotations

from dimpoint.atomic import write_text

__all__ = ["write_text"]
