"""dimpoint: find dim point-like targets in infrared frames."""

from __future__ import annotations

__version__ = "0.1.0"
