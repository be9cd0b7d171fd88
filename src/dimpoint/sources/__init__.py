"""Frames from image files, folders, globs, videos and arrays."""

from __future__ import annotations

from dimpoint.sources.arrays import as_frame
from dimpoint.sources.files import FRAME_SUFFIXES, SUPPORTED_FORMATS, FoundFiles, find_files
from dimpoint.sources.frames import Frame, Source, Sources, count_frames, frames_from
from dimpoint.sources.picture import Picture, Reader, ReadOptions
from dimpoint.sources.readers import read_image

__all__ = [
    "FRAME_SUFFIXES",
    "SUPPORTED_FORMATS",
    "FoundFiles",
    "Frame",
    "Picture",
    "ReadOptions",
    "Reader",
    "Source",
    "Sources",
    "as_frame",
    "count_frames",
    "find_files",
    "frames_from",
    "read_image",
]
