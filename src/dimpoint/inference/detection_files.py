"""Files of detections, read back and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint import limits
from dimpoint.errors import DataError
from dimpoint.inference.detections import Detections


def read_detections(path: str | Path) -> list[Detections]:
    """Read `detections.json`; raises DataError naming the file, image and key that is wrong."""
    path = Path(path)
    try:
        content = json.loads(limits.read_bytes(path, "label_bytes", DataError))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON file ({str(error)[:200]})") from None
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        raise DataError(f"{path}: no detections file; expected an object with a list 'images'")
    model = str(content.get("model", ""))
    return [_from_dict(entry, model, f"{path}: image {number}") for number, entry in enumerate(images, 1)]


def _from_dict(entry: Any, model: str, where: str) -> Detections:
    try:
        file, width, height, found = (entry[key] for key in ("file", "width", "height", "detections"))
        rows = [(one["x"], one["y"], one["score"], one.get("area", np.nan)) for one in found]
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused below
            table = np.array(rows, np.float32).reshape(-1, 4)
    except KeyError as error:
        raise DataError(f"{where}: key {error} is missing") from None
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"{where}: not as a detections file has it ({str(error)[:200]})") from None
    if not np.isfinite(table[:, :3]).all():
        raise DataError(f"{where}: x, y and score must be finite numbers")
    _check_content(table, file, (width, height), where)
    has_areas = len(table) > 0 and bool(np.isfinite(table[:, 3]).all())
    return Detections(
        xy=np.ascontiguousarray(table[:, :2]),
        scores=np.ascontiguousarray(table[:, 2]),
        areas=np.ascontiguousarray(table[:, 3]) if has_areas else None,
        file=file,
        width=width,
        height=height,
        model=model,
    )


def _check_content(table: npt.NDArray[np.float32], file: Any, size: tuple[Any, Any], where: str) -> None:
    """Refuse detections that no detector gives: scores outside 0..1 and points far outside the frame."""
    if not isinstance(file, str):
        raise DataError(f"{where}: key 'file' must be a string, got {str(file)[:80]!r}")
    if not all(isinstance(side, int) and not isinstance(side, bool) and 0 <= side < 2**31 for side in size):
        raise DataError(f"{where}: width and height must be numbers of pixels")
    limits.check("points_per_frame", len(table), f"{where}: detections", DataError)
    scores = table[:, 2]
    if len(table) and not (scores.min() >= 0 and scores.max() <= 1):
        worst = scores[np.argmax(np.abs(scores - 0.5))]
        raise DataError(f"{where}: a score lies in 0..1, got {worst:g}")
    low, high = table[:, :2].min(0, initial=0), table[:, :2].max(0, initial=0)
    margin = 1000 + np.array(size)
    if len(table) and min(size) > 0 and not ((low >= -margin).all() and (high <= 2 * margin).all()):
        far = table[np.argmax(np.abs(table[:, :2]).max(1))]
        place = f"({far[0]:g}, {far[1]:g})"
        raise DataError(f"{where}: a detection at {place} is far outside of {size[0]}x{size[1]}")
