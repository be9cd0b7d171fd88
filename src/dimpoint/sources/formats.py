"""Which files hold frames."""

from __future__ import annotations

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".npy")
VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".ts", ".wmv")
FRAME_SUFFIXES = IMAGE_SUFFIXES + VIDEO_SUFFIXES

SUPPORTED_IMAGES = (
    "PNG, JPEG, BMP, TIFF (8 or 16 bits unsigned, or float32) and .npy (2-D uint8, uint16 or float32)"
)
SUPPORTED_FORMATS = f"{SUPPORTED_IMAGES}; video: {', '.join(suffix[1:] for suffix in VIDEO_SUFFIXES)}"

MAX_PIXELS = 2**30  # what OpenCV reads as well; a header that claims more is damaged or hostile
