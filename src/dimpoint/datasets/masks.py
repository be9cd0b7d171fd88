"""Masks: reading their values, 8-connected components and their centroids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects

from dimpoint.datasets.reading import AS_WRITTEN, Reading
from dimpoint.errors import DataError, FrameError

T = TypeVar("T", np.bool_, np.int32)

MASK_THRESHOLD = 127  # mask values above this are targets
_MOST_INSTANCES = 10_000
ASPECT_TOLERANCE = 0.02  # relative difference of aspect ratios up to which masks are resized


def binarise(mask: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Convert a (H, W) mask to bool; uint8 counts above 127, the usual threshold of public data sets."""
    return mask if mask.dtype == np.bool_ else mask > MASK_THRESHOLD


def centroids(mask: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Centroids of the 8-connected components of a mask.

    Parameters
    ----------
    mask : (H, W) bool or uint8
        Target pixels; uint8 counts above 127.

    Returns
    -------
    (N, 2) float32
        x, y in pixels, in raster order of the components.

    Examples
    --------
    >>> import numpy as np
    >>> from dimpoint.datasets.masks import centroids
    >>> mask = np.zeros((8, 8), bool)
    >>> mask[2, 3:5] = True
    >>> centroids(mask).tolist()
    [[3.5, 2.0]]
    """
    binary = binarise(mask).astype(np.uint8)
    _, _, _, centres = cv2.connectedComponentsWithStats(binary, connectivity=8)
    return centres[1:].astype(np.float32).reshape(-1, 2)


@dataclass(frozen=True, eq=False)
class Levels:
    """The content of a mask file.

    Parameters
    ----------
    values : (H, W) array
        Values; of colours the brightest channel.
    ids : (H, W) array
        Equal where the file has the same value or colour.
    alpha : (H, W) array, optional
        Alpha channel.
    coloured : bool, default False
        Whether the channels differ.
    """

    values: npt.NDArray[Any]
    ids: npt.NDArray[Any]
    alpha: npt.NDArray[Any] | None = None
    coloured: bool = False


def read_levels(path: Path) -> Levels:
    """Read a mask file with values, colours and alpha; FrameError if it is unreadable."""
    from dimpoint.sources import ReadOptions
    from dimpoint.sources.readers import read_stored

    picture = (
        _npy_mask(path) if path.suffix.lower() == ".npy" else read_stored(path, ReadOptions(colour="luma"))
    )
    if picture.ndim == 2:
        return Levels(picture, picture)
    alpha = picture[..., 3] if picture.shape[2] == 4 else None
    brightest = np.asarray(picture[..., :3].max(axis=2))
    if (picture[..., :3] == brightest[..., None]).all():
        return Levels(brightest, brightest, alpha)
    ids = picture[..., :3].astype(np.int64) @ np.array([1, 1 << 16, 1 << 32])
    return Levels(brightest, ids, alpha, coloured=True)


def read_mask_image(path: Path) -> npt.NDArray[Any]:
    """Read the values of a mask file, (H, W); colours are reduced as in frames.

    Raises FrameError if the file is unreadable.
    """
    from dimpoint.sources import ReadOptions, read_image

    if path.suffix.lower() == ".npy":
        return _npy_mask(path)
    return read_image(path, ReadOptions(colour="luma"))


def _npy_mask(path: Path) -> npt.NDArray[Any]:
    from dimpoint.sources.containers import read_npy
    from dimpoint.sources.picture import OpenFile

    with OpenFile(path):  # refuses pipes and folders
        values = read_npy(path)
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "buif":
        raise FrameError(f"{path}: a mask must be a 2-D array of numbers, got {values.dtype} {values.shape}")
    return values


def read_mask_file(path: Path, reading: Reading = AS_WRITTEN) -> npt.NDArray[np.bool_]:
    """Read a mask file as (H, W) bool by `reading`; by default values above 127 are targets.

    Raises
    ------
    FrameError
        If the file is unreadable.
    DataError
        If there are values but none above the threshold, as in a 0/1 mask, whose targets would be lost.
    """
    return apply_reading(read_levels(path), reading, path)


def apply_reading(levels: Levels, reading: Reading, file: Path | str) -> npt.NDArray[np.bool_]:
    """The target pixels of a mask, (H, W) bool, by `reading`; DataError if it does not apply."""
    values = levels.values
    if reading.mask_values == "alpha":
        if levels.alpha is None:
            raise DataError(f"{file}: --mask-values alpha, but this mask has no alpha channel")
        mask = binarise(levels.alpha)
    elif reading.mask_values in ("nonzero", "instances"):
        mask = np.asarray(values > 0, np.bool_)
    elif (listed := reading.listed()) is not None:
        mask = np.isin(values, listed)
    else:
        mask = np.asarray(binarise(values), np.bool_)
        if not reading.accept and not mask.any() and values.any():
            raise DataError(
                f"{file}: mask values reach only {values.max():g}, but a target is above {MASK_THRESHOLD}; "
                "if every value above 0 is a target: --mask-values nonzero (or instances, alpha, or the "
                "values themselves, such as 2,3)"
            )
    return ~mask if reading.invert else mask


def as_mask(levels: Levels, reading: Reading, file: Path | str) -> npt.NDArray[np.bool_]:
    """Like `apply_reading`, but without a choice it also accepts a mask of 0 and one small value.

    Raises DataError if there are several values and none is above the threshold.
    """
    if reading.mask_values is not None:
        return apply_reading(levels, reading, file)
    mask = clean_mask(levels.values, file)
    return ~mask if reading.invert else mask


def instance_centroids(levels: Levels) -> npt.NDArray[np.float32]:
    """Centroids of all objects, (N, 2) float32 x, y, if every value is an object of its own."""
    return label_centroids(instance_labels(levels))


def label_centroids(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """Centroids of the objects 1 to N of a label image, (N, 2) float32 x, y."""
    rows, columns = np.nonzero(labels)
    numbers = labels[rows, columns]
    counts = np.bincount(numbers)
    present = np.flatnonzero(counts)
    sums = [np.bincount(numbers, weights=values)[present] for values in (columns, rows)]
    return (np.stack(sums, axis=1) / counts[present, None]).astype(np.float32).reshape(-1, 2)


def instance_labels(levels: Levels) -> npt.NDArray[np.int32]:
    """The objects of a mask with instance ids, (H, W): 0 is none, 1 to N are objects.

    Unconnected regions of one value are separate objects. Raises DataError for more than 10,000 values.
    """
    marked = levels.values > 0
    numbers = np.unique(levels.ids[marked])
    if len(numbers) > _MOST_INSTANCES:
        raise DataError(f"{len(numbers)} different values in one mask; instance ids must be integers")
    order = np.where(marked, np.searchsorted(numbers, levels.ids) + 1, 0).astype(np.int32)
    labels, before = np.zeros(order.shape, np.int32), 0
    for number, (rows, columns) in enumerate(find_objects(order), 1):
        part = (order[rows, columns] == number).astype(np.uint8)
        count, parts = cv2.connectedComponents(part, connectivity=8)
        labels[rows, columns] += np.where(part, np.asarray(parts) + before, 0).astype(np.int32)
        before += count - 1
    return labels


def lost_spots(levels: Levels) -> tuple[int, int]:
    """The number of marked spots of a mask, and how many have no pixel above the threshold."""
    values = levels.values
    marked = (values > 0).astype(np.uint8)
    count, labels = cv2.connectedComponents(marked, connectivity=8)
    kept = np.unique(np.asarray(labels)[np.asarray(binarise(values), np.bool_)])
    return count - 1, count - 1 - int((kept > 0).sum())


def clean_mask(values: npt.NDArray[Any], file: str | Path) -> npt.NDArray[np.bool_]:
    """Mask values as bool at threshold 127; a mask of 0 and one small value is accepted as well.

    Raises DataError if there are several values and none is above the threshold.
    """
    mask = binarise(values)
    if mask.any() or not values.any():
        return mask
    if len(np.unique(values)) == 2:
        return np.asarray(values > values.min(), np.bool_)
    raise DataError(f"{file}: several mask values, none above {MASK_THRESHOLD}")


def is_binary(values: npt.NDArray[Any]) -> bool:
    """Whether a mask holds only 0 and the full value (255, or the full value of its type or depth)."""
    full = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 255
    return values.dtype == np.bool_ or bool(((values == 0) | (values == 255) | (values == full)).all())


def fit_mask(mask: npt.NDArray[T], size: tuple[int, int], file: str | Path) -> npt.NDArray[T]:
    """Resize a mask, (H, W) bool or numbers of objects, to its frame's size by nearest neighbour.

    Raises DataError that names both sizes if the aspect ratios differ by more than 2 %.
    """
    if mask.shape == size:
        return mask
    (height, width), (frame_height, frame_width) = mask.shape, size
    ratio = (width * frame_height) / (height * frame_width)
    if not 1 / (1 + ASPECT_TOLERANCE) <= ratio <= 1 + ASPECT_TOLERANCE:
        raise DataError(
            f"{file}: the mask is {width}x{height} but its frame is {frame_width}x{frame_height}, another "
            "shape; make them agree, or leave the frame out with: dimpoint data check --repair"
        )
    values: npt.NDArray[np.float32] = mask.astype(np.float32)
    resized = cv2.resize(values, (frame_width, frame_height), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(resized).astype(mask.dtype)
