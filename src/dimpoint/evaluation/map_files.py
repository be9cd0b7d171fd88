"""Probability maps and masks in files: what their values mean, decided over all files together."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.datasets.masks import read_mask_image
from dimpoint.errors import ConfigError, DataError
from dimpoint.metrics.components import Map, check_map

VALUES = {
    "0-1": "1 is predicted, 0 is not",
    "0-100": "probabilities in percent",
    "0-255": "probabilities times 255",
    "0-65535": "probabilities times 65535",
    "labels": "every value above 0 is predicted",
    "alpha": "the alpha channel holds probabilities times 255",
}
_FULL = {"0-1": 1, "0-100": 100, "0-255": 255, "0-65535": 65535}

_FEW = 32  # pictures whose values are all below it are more likely labels than probabilities
_LOW = 2**14  # 16-bit values that are all below are more likely of another scale, such as 0 to 1000
_COLOUR = 16  # smallest difference of colour channels; less is compression noise
_THREADS = 8


@dataclass(frozen=True)
class _Kind:
    """Properties of one file; values: the distinct integers of a map, if they are few."""

    file: Path
    full: int | None = None  # of integers: the largest value of their type
    highest: int = 0
    values: frozenset[int] | None = None
    colour: bool = False
    alpha: bool = False
    stretched: bool = False  # grey from exactly 0 to full scale, stored as RGBA


def check_values(values: str | None) -> None:
    """Raise ConfigError unless `values` is a known way of reading maps."""
    if values is not None and values not in VALUES:
        known = ", ".join(f"{name} ({text})" for name, text in VALUES.items())
        raise ConfigError(f"--predictions-values: '{values}' is none of {known}")


def survey(files: Sequence[Path], values: str | None = None) -> None:
    """Inspect all files and raise DataError unless the meaning of their values is clear.

    Refused are colour pictures, alpha channels that hold a map, and integers that may be 0/1 masks, labels,
    or values of another bit depth.

    Parameters
    ----------
    files : sequence of Path
        Maps or masks.
    values : {"0-1", "0-255", "0-65535", "labels", "alpha"}, optional
        The meaning, if the files leave it open.
    """
    check_values(values)
    with ThreadPoolExecutor(_THREADS) as pool:
        kinds = list(pool.map(_inspect, files))
    colours = [kind for kind in kinds if kind.colour and values != "alpha"]
    if colours:
        raise DataError(
            f"{_which(colours, kinds)} are colour pictures, which cannot be read as probabilities; save grey "
            "maps, without a colour map"
        )
    clear = [kind for kind in kinds if kind.alpha]
    if clear and values is None:
        raise DataError(
            f"{_which(clear, kinds)} have an alpha channel that is not the same everywhere; if it holds "
            "the map: --predictions-values alpha; if the grey values do: --predictions-values 0-255"
        )
    if values is None and len(kinds) > 1 and all(kind.stretched for kind in kinds):
        raise DataError(
            f"{_which(kinds, kinds)} reach from exactly 0 to the full value and have colours and alpha, "
            "as matplotlib's imsave does, which stretches each map by itself: scores of two maps then "
            "mean different things. Save probabilities times 255 (imsave with vmin=0, vmax=1), or say "
            "--predictions-values 0-255 if they are"
        )
    whole = [kind for kind in kinds if kind.full is not None]
    if values is None:
        _refuse_unclear(whole)
    elif values in _FULL:
        beyond = [kind for kind in whole if kind.highest > _FULL[values]]
        if beyond:
            raise DataError(
                f"{_which(beyond, kinds)} have values above {_FULL[values]}, up to "
                f"{max(kind.highest for kind in beyond)}; "
                f"--predictions-values {values} does not fit"
            )


def _refuse_unclear(whole: Sequence[_Kind]) -> None:
    """Raise DataError if integer values may have several meanings, over all files together."""
    highest = max((kind.highest for kind in whole), default=0)
    if highest == 0:
        return
    largest = max(kind.full or 0 for kind in whole)
    where = f"{whole[0].file.parent}: the values of these {len(whole)} pictures"
    if highest == 1:
        raise DataError(
            f"{where} are only 0 and 1; save masks as 0 and 255, probabilities times 255 (8 bit) or 65535 "
            "(16 bit), or give --predictions-values 0-1"
        )
    if highest < _FEW:
        raise DataError(
            f"{where} reach only {highest}: numbers of objects (--predictions-values labels), or very low "
            f"probabilities (--predictions-values {'0-65535' if largest > 255 else '0-255'})?"
        )
    if largest > 255 and highest <= 255:
        raise DataError(
            f"{where} are 16 bit but reach only {highest}: 8-bit values (--predictions-values 0-255), or low "
            "probabilities (--predictions-values 0-65535)?"
        )
    if largest > 255 and highest < _LOW:
        raise DataError(
            f"{where} are 16 bit but reach only {highest}: save probabilities times 65535; if they are, "
            "and so low: --predictions-values 0-65535"
        )
    several = [kind.values for kind in whole]
    levels = frozenset[int]().union(*(each for each in several if each is not None))
    if None not in several and len(levels - {0}) == 1 and highest <= largest // 2:
        raise DataError(
            f"{where} are only 0 and {highest}, and {highest} of {largest} is below a half: a mask "
            "(--predictions-values labels), or probabilities (--predictions-values "
            f"{'0-65535' if largest > 255 else '0-255'})?"
        )
    if largest == 255 and highest <= 100:
        raise DataError(
            f"{where} reach only {highest}: percent (--predictions-values 0-100), or low probabilities times "
            "255 (--predictions-values 0-255)?"
        )


def read_map(path: Path, values: str | None = None) -> Map:
    """Read a probability map or mask as (H, W) in 0..1.

    8 and 16 bit pictures are divided by 255 and 65535; .npy files are used as they are.

    Parameters
    ----------
    path : Path
        The file.
    values : str, optional
        Another way of reading; see `survey`.

    Raises
    ------
    DataError
        If the file is not a map.
    """
    if values == "alpha":
        channels = _channels(path)
        if channels is None or channels.ndim != 3 or channels.shape[2] != 4:
            raise DataError(f"{path}: not a picture with an alpha channel")
        return channels[..., 3].astype(np.float32) / np.float32(np.iinfo(channels.dtype).max)
    found = read_mask_image(path)
    if values == "labels" and found.dtype.kind == "u":
        return (found > 0).astype(np.float32)
    if found.dtype.kind == "u":
        full = np.iinfo(found.dtype).max if values is None else _FULL.get(values, np.iinfo(found.dtype).max)
        return found.astype(np.float32) / np.float32(full)
    return _checked(found, path)


def _checked(values: npt.NDArray[Any], file: Path) -> Map:
    """Float maps unchanged; DataError if the values are not probabilities."""
    if values.dtype.kind == "i":
        raise DataError(f"{file}: expected probabilities in 0..1 as float32, got {values.dtype}")
    return check_map(values, str(file))


def _inspect(file: Path) -> _Kind:
    channels = _channels(file)
    colour = alpha = False
    if channels is not None and channels.ndim == 3:
        parts = [channels[..., index].astype(np.int64) for index in range(min(channels.shape[2], 3))]
        colour = max(int(np.abs(part - parts[0]).max()) for part in parts) > _COLOUR
        alpha = channels.shape[2] == 4 and bool((channels[..., 3] != channels[0, 0, 3]).any())
    values = read_mask_image(file)
    if values.dtype.kind != "u":
        _checked(values, file)
        return _Kind(file, colour=colour, alpha=alpha)
    levels = np.unique(values)
    full = int(np.iinfo(values.dtype).max)
    rgba = channels is not None and channels.ndim == 3 and channels.shape[2] == 4 and not (colour or alpha)
    stretched = rgba and len(levels) > 2 and (int(levels[0]), int(levels[-1])) == (0, full)
    few = frozenset(levels.tolist()) if len(levels) <= _FEW else None
    return _Kind(file, full, int(levels[-1]), few, colour, alpha, stretched)


def _channels(file: Path) -> npt.NDArray[Any] | None:
    """A picture as stored, with colour and alpha; None if the file is not a picture."""
    if file.suffix.lower() == ".npy":
        return None
    try:
        content = np.fromfile(file, np.uint8)
        found = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if len(content) else None
    except (OSError, cv2.error):
        return None  # the error is reported when the values are read
    return None if found is None else np.asarray(found)


def _which(some: Sequence[_Kind], every: Sequence[_Kind]) -> str:
    return f"{some[0].file.parent}: {len(some)} of {len(every)} files (such as {some[0].file.name})"
