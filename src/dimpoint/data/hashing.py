"""Hashes of what frames and labels hold, not of how their files are packed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from dimpoint.data.dataset import Sample

THREADS = min(8, os.cpu_count() or 1)  # decoding an image releases the interpreter's lock


def hash_array(values: npt.NDArray[Any]) -> str:
    """sha256 (hex) of an array's type, shape and values."""
    digest = hashlib.sha256(f"{values.dtype.newbyteorder('<').str}{values.shape}".encode())
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    digest.update(np.ascontiguousarray(little).data)
    return digest.hexdigest()


def hash_frames(samples: Iterable[Sample]) -> list[str]:
    """sha256 (hex) of each sample's decoded frame. Raises FrameError if one cannot be read."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda sample: hash_array(sample.read_frame()), samples))


def hash_labels(samples: Iterable[Sample]) -> list[str]:
    """sha256 (hex) of each sample's points, else of its mask; empty where it has no label."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(_hash_label, samples))


def _hash_label(sample: Sample) -> str:
    if sample.points is not None:
        return hash_array(sample.points)
    return hash_array(sample.read_mask()) if sample.mask_path is not None else ""
