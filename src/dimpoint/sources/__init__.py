"""Frames from image files, folders, globs, videos and arrays."""

from __future__ import annotations

from dimpoint.sources.images import read_image

__all__ = ["read_image"]
