"""Files of counts without a header: shape and type are the user's (`--raw-shape 512x640 --raw-type u16`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.errors import ConfigError, FrameError

RAW_SUFFIXES = (".raw", ".bin", ".y16", ".y12", ".dat")
_TYPES: dict[str, np.dtype[Any] | None] = {
    "u8": np.dtype("u1"),
    "u16": np.dtype("<u2"),
    "u16be": np.dtype(">u2"),
    "i16": np.dtype("<i2"),
    "i16be": np.dtype(">i2"),
    "f32": np.dtype("<f4"),
    "u12p": None,  # two counts in three bytes, the low bits first
}
_REMEDY = "say what it holds: --raw-shape HEIGHTxWIDTH --raw-type " + "|".join(_TYPES)


@dataclass(frozen=True)
class RawFormat:
    """Counts one after another, frame after frame, behind `offset` bytes."""

    height: int
    width: int
    type: str = "u16"
    offset: int = 0

    @classmethod
    def of_options(cls, shape: str | None, type_: str | None, offset: int = 0) -> RawFormat | None:
        """The format that `--raw-shape` and `--raw-type` name; None without a shape.

        Raises ConfigError for a shape or type that is none.
        """
        if shape is None:
            if type_ is not None:
                raise ConfigError("--raw-type needs --raw-shape HEIGHTxWIDTH")
            return None
        sides = re.fullmatch(r"([1-9]\d{0,5})\s*[xX,]\s*([1-9]\d{0,5})", shape.strip())
        if sides is None:
            raise ConfigError(f"--raw-shape: '{shape}' is no HEIGHTxWIDTH, such as 512x640")
        chosen = (type_ or "u16").lower()
        if chosen not in _TYPES:
            raise ConfigError(f"--raw-type: '{type_}' is none of {', '.join(_TYPES)}")
        return cls(int(sides[1]), int(sides[2]), chosen, offset)

    @property
    def frame_bytes(self) -> int:
        counts = self.height * self.width
        dtype = _TYPES[self.type]
        return counts * 3 // 2 if dtype is None else counts * dtype.itemsize

    def decode(self, data: bytes) -> npt.NDArray[Any]:
        """The counts of one frame, (H, W)."""
        dtype = _TYPES[self.type]
        if dtype is not None:
            return np.frombuffer(data, dtype).reshape(self.height, self.width)
        first, middle, last = np.frombuffer(data, np.uint8).astype(np.uint16).reshape(-1, 3).T
        pairs = np.stack([first | ((middle & 15) << 8), (middle >> 4) | (last << 4)], axis=1)
        return pairs.reshape(self.height, self.width)


def raw_frames(path: Path, raw: RawFormat | None) -> int:
    """How many frames a file of this format holds; FrameError if that is not a whole number."""
    if raw is None:
        raise FrameError(f"{path}: counts without a header; {_REMEDY}")
    size = path.stat().st_size - raw.offset
    if size <= 0 or size % raw.frame_bytes or (raw.type == "u12p" and raw.height * raw.width % 2):
        raise FrameError(
            f"{path}: {size} bytes are no whole number of {raw.height}x{raw.width} frames of type {raw.type} "
            f"({raw.frame_bytes} bytes each); {_REMEDY}"
        )
    return size // raw.frame_bytes
