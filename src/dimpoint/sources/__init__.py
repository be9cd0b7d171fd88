"""Frames from image files, folders, patterns, videos and arrays. Other rooms import from here."""

from __future__ import annotations

from dimpoint.sources.files import (
    FRAME_SUFFIXES,
    IMAGE_SUFFIXES,
    SUPPORTED_FORMATS,
    VIDEO_SUFFIXES,
    FoundFiles,
    find_files,
)
from dimpoint.sources.frames import (
    Frame,
    Source,
    Sources,
    as_array,
    as_sources,
    count_frames,
    frames_from,
    source_files,
)
from dimpoint.sources.picture import PLAIN, Picture, RawFormat, Reader, ReadOptions, as_frame
from dimpoint.sources.readers import read_image

__all__ = [
    "FRAME_SUFFIXES",
    "IMAGE_SUFFIXES",
    "PLAIN",
    "SUPPORTED_FORMATS",
    "VIDEO_SUFFIXES",
    "FoundFiles",
    "Frame",
    "Picture",
    "RawFormat",
    "ReadOptions",
    "Reader",
    "Source",
    "Sources",
    "as_array",
    "as_frame",
    "as_sources",
    "count_frames",
    "find_files",
    "frames_from",
    "read_image",
    "source_files",
]
