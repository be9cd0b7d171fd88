"""What people hand to a detector in a notebook -> numpy arrays: lists, tensors, PIL pictures, paths."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from dimpoint.errors import FrameError
from dimpoint.sources.arrays import Pixels
from dimpoint.sources.frames import Frame, Sources
from dimpoint.sources.readers import read_image

_RIGHT = "a frame is an array (height, width) of uint8, uint16 or float32"


def as_array(value: Any) -> Pixels:
    """An array of a frame: a numpy array, a torch tensor on the processor, a PIL picture, nested lists.

    A tensor (1, H, W) is one frame. A path of one picture is read. Integers in lists become uint8 or uint16
    where they fit, other numbers float32.

    Raises FrameError, which says what to do, for anything else.
    """
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, Frame):
        return value.pixels
    if isinstance(value, str | os.PathLike):
        if Path(value).is_dir():
            raise FrameError(f"{value}: a folder; its frames: detector.predict({os.fspath(value)!r})")
        return read_image(value)
    if value is None:
        raise FrameError(f"the frame is None; {_RIGHT}. cv2.imread gives None for what it cannot read")
    kind = type(value).__module__.partition(".")[0]
    if kind == "torch":
        return _of_tensor(value)
    if kind == "PIL":
        return _of_pil(value)
    if isinstance(value, list | tuple):
        return _of_list(value)
    if hasattr(value, "__array__"):
        return np.asarray(value)
    raise FrameError(f"a {type(value).__name__} is no frame; {_RIGHT}")


def as_sources(value: Any) -> Sources:
    """What `frames_from` takes: tensors and PIL pictures, alone or in a list, become arrays."""
    if isinstance(value, list | tuple):
        return [each if isinstance(each, str | os.PathLike) else as_array(each) for each in value]
    return value if isinstance(value, str | os.PathLike) else as_array(value)


def _of_tensor(tensor: Any) -> Pixels:
    if tensor.device.type != "cpu":
        raise FrameError(f"the tensor is on {tensor.device}; give tensor.cpu()")
    tensor = tensor.detach()
    if str(tensor.dtype) == "torch.bfloat16":
        tensor = tensor.float()
    array: Pixels = tensor.numpy()
    return array[0] if array.ndim == 3 and array.shape[0] == 1 else array


def _of_pil(picture: Any) -> Pixels:
    if picture.mode in ("L", "I;16", "I;16L", "I;16B", "F"):
        return np.asarray(picture)
    if picture.mode == "I":
        return _smallest(np.asarray(picture))
    if picture.mode in ("RGB", "RGBA"):
        return np.asarray(picture)
    raise FrameError(f"a PIL picture of mode {picture.mode}; give picture.convert('L')")


def _of_list(values: Any) -> Pixels:
    try:
        array = np.asarray(values)
    except ValueError:
        raise FrameError(f"a list with rows of different lengths is no frame; {_RIGHT}") from None
    if array.dtype.kind not in "uif":
        raise FrameError(f"a list of {array.dtype} is no frame; {_RIGHT}")
    return _smallest(array)


def _smallest(array: Pixels) -> Pixels:
    """Counts in the smallest frame type that holds them."""
    if array.dtype.kind in "ui" and array.size and array.min() >= 0:
        for dtype in (np.uint8, np.uint16):
            if array.max() <= np.iinfo(dtype).max:
                return array.astype(dtype)
    return array.astype(np.float32)
