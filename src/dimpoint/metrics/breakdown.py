"""Detection by size, local contrast, distance to the border, number of targets, and data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dimpoint.errors import DataError
from dimpoint.metrics.components import Components, Ints
from dimpoint.metrics.counts import Counts, ratio
from dimpoint.metrics.points import PointMatch
from dimpoint.metrics.protocols import TargetMatch

Floats = npt.NDArray[np.float64]
By = Literal["size", "scr", "border", "targets", "source"]

SCR_MARGIN = 20  # pixels by which the bounding box grows on each side for the local SCR

EDGES: dict[str, tuple[float, ...]] = {
    "size": (1, 4, 10, 17, 26, 50, 81),  # pixels
    "scr": (0, 1, 2, 3, 5, 8),
    "border": (0, 4, 8, 16, 32, 64),  # pixels
    "targets": (1, 2, 3, 4, 6, 11),
}


@dataclass(frozen=True, eq=False)
class TargetTable(Counts):
    """A row for each of T true objects and each of F frames; tables add up with `+`. NaN: unknown.

    Parameters
    ----------
    size : (T,) float64
        Area, pixels.
    scr : (T,) float64
        Local signal-to-clutter ratio; see `local_scr`.
    border : (T,) float64
        Distance of the centroid from the nearest edge of the frame, pixels; 0 for a point outside.
    targets : (T,) float64
        Number of targets in the frame.
    source : (T,) str
        Name of the data set.
    found : (T,) bool
        Whether the target was found.
    frame_targets, frame_source, frame_false : (F,) arrays
        Number of targets, data set and number of false alarms of each frame.
    """

    size: Floats = field(default_factory=lambda: np.empty(0))
    scr: Floats = field(default_factory=lambda: np.empty(0))
    border: Floats = field(default_factory=lambda: np.empty(0))
    targets: Floats = field(default_factory=lambda: np.empty(0))
    source: npt.NDArray[np.str_] = field(default_factory=lambda: np.empty(0, "U1"))
    found: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    frame_targets: Floats = field(default_factory=lambda: np.empty(0))
    frame_source: npt.NDArray[np.str_] = field(default_factory=lambda: np.empty(0, "U1"))
    frame_false: Floats = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class BreakdownRow:
    """A class of targets: its label, the numbers of targets and of found targets.

    frames, false: number of frames of the class, and of false alarms in them; None for classes that are not
    made of whole frames.
    """

    label: str
    targets: int
    found: int
    frames: int | None = None
    false: int | None = None

    @property
    def pd(self) -> float:
        """Found targets / targets."""
        return ratio(self.found, self.targets)

    @property
    def false_per_frame(self) -> float:
        """False alarms per frame; NaN if they are not counted."""
        if self.frames is None or self.false is None:
            return float("nan")
        return ratio(self.false, self.frames)


def describe_targets(
    truth: Components, image: npt.NDArray[Any] | None = None, source: str = ""
) -> TargetTable:
    """Describe the true objects of one frame, none of them found yet.

    Parameters
    ----------
    truth : Components
        The true objects.
    image : (H, W) array, optional
        The frame, for the SCR.
    source : str
        Name of the data set.

    Returns
    -------
    TargetTable

    Raises
    ------
    DataError
        If the image and the mask differ in size.
    """
    pixels = [truth.pixels[truth.labels == index] for index in range(len(truth))]
    scr = np.full(len(truth), np.nan) if image is None else _local_scr(image, truth.shape, pixels)
    return _table(truth.centroids, truth.shape, truth.areas.astype(np.float64), scr, source)


def describe_points(
    truth_xy: npt.ArrayLike,
    shape: tuple[int, int],
    image: npt.NDArray[Any] | None = None,
    source: str = "",
) -> TargetTable:
    """Like `describe_targets`, for true points (T, 2) x, y in a frame of `shape` (height, width).

    The size is unknown (NaN), and the SCR uses the 3x3 pixels around each point.
    """
    xy = np.asarray(truth_xy, np.float64).reshape(-1, 2)
    scr = np.full(len(xy), np.nan)
    if image is not None:
        scr = _local_scr(image, shape, [_square(point, shape) for point in xy])
    return _table(xy, shape, np.full(len(xy), np.nan), scr, source)


def with_match(table: TargetTable, match: TargetMatch | PointMatch) -> TargetTable:
    """The table of one frame, completed by its detections and number of false alarms."""
    found = np.zeros(len(table.found), np.bool_)
    found[match.pairs[:, 1]] = True
    return replace(table, found=found, frame_false=np.array([float(len(match.false))]))


def local_scr(image: npt.NDArray[Any], truth: Components) -> Floats:
    """Local signal-to-clutter ratio of each true object.

    It is ``|mean of target - mean of clutter| / std of clutter``.

    Clutter is what no target covers in the target's bounding box, grown by 20 px on each side and clipped to
    the frame.

    Parameters
    ----------
    image : (H, W) array
        The frame, in any unit.
    truth : Components
        The true objects.

    Returns
    -------
    (N,) float64
        Infinite on perfectly flat clutter; NaN without clutter, or without contrast on flat clutter.

    Raises
    ------
    DataError
        If the image and the mask differ in size.
    """
    return _local_scr(
        image, truth.shape, [truth.pixels[truth.labels == index] for index in range(len(truth))]
    )


def _local_scr(image: npt.NDArray[Any], shape: tuple[int, int], targets: list[Ints]) -> Floats:
    """`local_scr` of targets given as flat indices of their pixels."""
    if image.shape != shape:
        raise DataError(f"the image has shape {image.shape} but its truth {shape}; both must be the frame's")
    background = np.ones(shape, np.bool_)
    for pixels in targets:
        background.ravel()[pixels] = False
    return np.array([_contrast(image, background, pixels) for pixels in targets], np.float64)


def _contrast(image: npt.NDArray[Any], background: npt.NDArray[np.bool_], pixels: Ints) -> float:
    window = _window(pixels, background.shape)
    clutter = image[window][background[window]].astype(np.float64)
    if not len(clutter):
        return float("nan")
    signal = abs(float(image.ravel()[pixels].astype(np.float64).mean() - clutter.mean()))
    spread = float(clutter.std())
    if spread:
        return signal / spread
    return float("inf") if signal else float("nan")


def _table(xy: Floats, shape: tuple[int, int], size: Floats, scr: Floats, source: str) -> TargetTable:
    x, y = xy.T
    count = len(xy)
    return TargetTable(
        size=size,
        scr=scr,
        border=np.minimum.reduce([x, y, shape[1] - 1 - x, shape[0] - 1 - y]).clip(min=0),
        targets=np.full(count, float(count)),
        source=np.full(count, source),
        found=np.zeros(count, np.bool_),
        frame_targets=np.array([float(count)]),
        frame_source=np.array([source]),
        frame_false=np.zeros(1),
    )


def breakdown(table: TargetTable, by: By, edges: Sequence[float] | None = None) -> list[BreakdownRow]:
    """Detection by classes of targets.

    Parameters
    ----------
    table : TargetTable
        The targets.
    by : {"size", "scr", "border", "targets", "source"}
        The property that defines the classes. "targets" and "source" also count false alarms, since their
        classes are made of whole frames; "targets" has a class for frames without targets.
    edges : sequence of float, optional
        Rising lower bounds of the classes; the last class has no upper bound.

    Returns
    -------
    list of BreakdownRow
        Without empty classes; targets with an unknown value come last, as "unknown".

    Raises
    ------
    DataError
        If the edges do not rise.

    Examples
    --------
    >>> import numpy as np
    >>> from dimpoint.metrics.breakdown import TargetTable, breakdown
    >>> table = TargetTable(size=np.array([4.0, 30.0, 40.0]), found=np.array([False, True, True]))
    >>> [(row.label, row.found, row.targets) for row in breakdown(table, "size", [0, 10])]
    [('0-9', 0, 1), ('>= 10', 2, 2)]
    """
    if by == "source":
        return [_source_row(table, name) for name in np.unique(table.frame_source).tolist()]
    bounds = list(EDGES[by] if edges is None else edges)
    if bounds != sorted(set(bounds)) or not bounds:
        raise DataError(f"edges {bounds} of the breakdown by {by}: rising numbers, at least one, are right")
    values = getattr(table, by)
    rows = [_row(table, "unknown", np.isnan(values))]
    classes: list[tuple[float, float | None]] = list(zip(bounds, [*bounds[1:], None], strict=True))
    if by == "targets":
        classes.insert(0, (0, bounds[0]))
    rows[:0] = [_class_row(table, by, values, low, high) for low, high in classes]
    return [row for row in rows if row.targets or row.frames]


def _class_row(table: TargetTable, by: By, values: Floats, low: float, high: float | None) -> BreakdownRow:
    frames = _between(table.frame_targets, low, high) if by == "targets" else None
    return _row(table, _label(by, low, high), _between(values, low, high), frames)


def _between(values: Floats, low: float, high: float | None) -> npt.NDArray[np.bool_]:
    """Which values are at least `low` and below `high`, if there is one."""
    return (values >= low) if high is None else (values >= low) & (values < high)


def _source_row(table: TargetTable, name: str) -> BreakdownRow:
    return _row(table, name, table.source == name, table.frame_source == name)


def _row(
    table: TargetTable,
    label: str,
    there: npt.NDArray[np.bool_],
    frames: npt.NDArray[np.bool_] | None = None,
) -> BreakdownRow:
    return BreakdownRow(
        label=label,
        targets=int(there.sum()),
        found=int(table.found[there].sum()),
        frames=None if frames is None else int(frames.sum()),
        false=None if frames is None else int(table.frame_false[frames].sum()),
    )


def _label(by: By, low: float, high: float | None) -> str:
    if high is None:
        return f">= {low:g}"
    if by in ("size", "targets"):  # whole numbers
        return f"{low:g}" if high - low <= 1 else f"{low:g}-{high - 1:g}"
    return f"{low:g}-{high:g}"


def _window(pixels: Ints, shape: tuple[int, ...]) -> tuple[slice, slice]:
    y, x = np.divmod(pixels, shape[1])
    rows = slice(max(int(y.min()) - SCR_MARGIN, 0), int(y.max()) + SCR_MARGIN + 1)
    return rows, slice(max(int(x.min()) - SCR_MARGIN, 0), int(x.max()) + SCR_MARGIN + 1)


def _square(point: Floats, shape: tuple[int, int]) -> Ints:
    """Flat indices of the 3x3 pixels around a point, inside the frame."""
    x, y = np.clip(np.rint(point).astype(np.int64), 0, [shape[1] - 1, shape[0] - 1])
    rows = np.arange(max(y - 1, 0), min(y + 2, shape[0]))
    columns = np.arange(max(x - 1, 0), min(x + 2, shape[1]))
    square: Ints = (rows[:, None] * shape[1] + columns).ravel()
    return square
