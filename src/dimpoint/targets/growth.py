"""Masks from points: a region around each point, which is corrected by the network during training.

`first_regions` gives each point a region by the frame's contrast. `grow` moves the regions towards the
network's prediction, as LESPS does (arXiv 2304.01484): a threshold that rises with the region, only pixels
connected with the region, the mean of label and prediction, but never below what fading leaves. A region
never leaves its window, never takes pixels that are nearer to another point, and always keeps the pixel of
its point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy import ndimage

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_SURE = 1.0  # the pixel of a point
_LIKELY = 0.8  # the rest of a first region
_IN = 0.5  # a pixel belongs to the mask above this
_RING = 3  # pixels: smallest distance of the background from the region's seed
_EIGHT = np.ones((3, 3), np.bool_)
_SMALL = 150.0  # pixels: a spot of this size may be a target in any frame

# What `lesps` changes; the fields' defaults are those of `progressive`.
_LESPS: dict[str, Any] = {"easy": 1.0, "decay": 1.0, "first": 0.1, "soft": True}


class Growth(BaseModel):
    """How masks grow from points during training; the section `growth` of a recipe.

    `setting` selects the defaults: `lesps` uses all frames at once and trains on the labels' values, which
    only rise; `progressive` begins with easy frames, adds a frame when the network finds its targets, and
    lets pixels fade that the network does not predict (similar to PAL, arXiv 2412.11154).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    setting: Literal["progressive", "lesps"] = Field("progressive", description="defaults of the other keys")
    start: Literal["region", "point"] = Field(
        "region", description="first label: a region by contrast, or the point's pixel alone"
    )
    level: float = Field(
        0.4, gt=0, lt=1, description="`region`: pixels above background + this times the target's height"
    )
    snap: int = Field(
        3, ge=0, description="largest distance of a point from its target's brightest pixel, pixels"
    )
    reach: int = Field(16, ge=2, description="a region stays within this of its point in x and y, pixels")
    first: float = Field(0.2, ge=0, lt=1, description="fraction of the epochs before the first update")
    last: float = Field(1.0, ge=0, le=1, description="fraction of the epochs after which labels stay")
    every: int = Field(5, ge=1, description="epochs between two updates of the labels")
    threshold: float = Field(
        0.5, gt=0, lt=1, description="fraction of the highest prediction in the window; T_b of LESPS"
    )
    slope: float = Field(0.5, ge=0, le=1, description="rise of the threshold with the region; k of LESPS")
    largest: float = Field(
        0.0015,
        gt=0,
        le=1,
        description="fraction of the frame at which a region has the highest threshold; r of LESPS",
    )
    contrast: float = Field(
        0.3, ge=0, lt=1, description="a pixel joins only above background + this times the target's height"
    )
    decay: float = Field(
        0.97, gt=0, le=1, description="factor applied to a label's pixels that are not predicted"
    )
    easy: float = Field(
        0.7, gt=0, le=1, description="fraction of the frames with targets that are used at first"
    )
    soft: bool = Field(
        False, description="train on the labels' values themselves, 0..1, instead of on the mask above 0.5"
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        if isinstance(values, str):
            values = {"setting": values}
        if not isinstance(values, dict):
            return values
        return (_LESPS if values.get("setting") == "lesps" else {}) | values

    @model_validator(mode="after")
    def _updates(self) -> Growth:
        if self.last < self.first:
            raise ValueError(f"last ({self.last}) must be at least first ({self.first}), else no label grows")
        return self


@dataclass(frozen=True, eq=False)
class Region:
    """The label of one point: a window of the frame with a value in 0..1 for each pixel.

    Parameters
    ----------
    seed : tuple of int
        Row and column of the point's pixel, in the frame.
    top, left : int
        Position of the window in the frame.
    values : (h, w) float32 array
        A pixel belongs to the mask if its value is above 0.5.
    near : (h, w) bool array
        Pixels that may belong to this point.
    background, height, noise : float
        Median of the counts around the first label, height of the brightest pixel above it, and standard
        deviation.
    """

    seed: tuple[int, int]
    top: int
    left: int
    values: Array
    near: Mask
    background: float
    height: float
    noise: float

    @property
    def window(self) -> tuple[slice, slice]:
        rows, columns = self.values.shape
        return slice(self.top, self.top + rows), slice(self.left, self.left + columns)

    @property
    def pixels(self) -> Mask:
        """(h, w) bool: the window's pixels that belong to the mask."""
        inside: Mask = self.values > _IN
        return inside

    @property
    def contrast(self) -> float:
        """Height of the brightest pixel over the noise of the window's other counts."""
        return self.height / max(self.noise, 1e-6)

    def with_values(self, values: Array) -> Region:
        return replace(self, values=values)


def first_regions(frame: npt.NDArray[Any], points: npt.NDArray[Any], rule: Growth) -> list[Region]:
    """A region for each point of a frame.

    Parameters
    ----------
    frame : (H, W) array
        Counts.
    points : (N, 2) array
        x, y in pixels.
    rule : Growth
        `start`, `level`, `snap` and `reach` are used.

    Returns
    -------
    list of Region
        In the order of the points. Two points in one region share it: each pixel goes to the nearer one. A
        point without a region gets its own pixel.
    """
    pixels = frame.astype(np.float32)
    places = [
        (min(max(round(y), 0), frame.shape[0] - 1), min(max(round(x), 0), frame.shape[1] - 1))
        for x, y in points.tolist()
    ]
    seeds = [_seed(pixels, number, places, rule.snap) for number in range(len(places))]
    return [_first(pixels, number, seeds, rule) for number in range(len(seeds))]


def mask_of(regions: Sequence[Region], shape: tuple[int, ...]) -> Mask:
    """(H, W) bool: the pixels of all regions of a frame of `shape`."""
    mask = np.zeros(shape, np.bool_)
    for region in regions:
        mask[region.window] |= region.pixels
    return mask


def values_of(regions: Sequence[Region], shape: tuple[int, ...]) -> Array:
    """(H, W) float32: the value of each pixel in 0..1, the highest where the windows of regions overlap."""
    values = np.zeros(shape, np.float32)
    for region in regions:
        np.maximum(values[region.window], region.values, out=values[region.window])
    return values


def grow(frame: npt.NDArray[Any], prediction: Array, regions: Sequence[Region], rule: Growth) -> list[Region]:
    """The regions after one update.

    Parameters
    ----------
    frame : (H, W) array
        Counts.
    prediction : (H, W) float32 array
        The network's probability of each pixel.
    regions : list of Region
        The labels that it was trained with.
    rule : Growth
        The thresholds.

    Returns
    -------
    list of Region
        In the same order.
    """
    return [_grown(frame, prediction, region, rule) for region in regions]


def finds(prediction: Array, regions: Sequence[Region]) -> bool:
    """Whether the network finds every target of a frame.

    Parameters
    ----------
    prediction : (H, W) float32 array
        Probabilities.
    regions : sequence of Region
        Labels of the frame.

    Returns
    -------
    bool
        True if the prediction exceeds 0.5 somewhere in each region.
    """
    return all((prediction[r.window][r.pixels] > _IN).any() for r in regions)


def difficulty(regions: Sequence[Region]) -> float:
    """Noise over height of a frame's faintest target; 0 without targets."""
    return max((region.noise / max(region.height, 1e-6) for region in regions), default=0.0)


def swallows(region: Region, shape: tuple[int, ...], rule: Growth) -> bool:
    """Whether a region covers bright ground rather than a spot.

    Parameters
    ----------
    region : Region
        The label of one point.
    shape : tuple of int
        Height and width of its frame.
    rule : Growth
        `largest` is used.

    Returns
    -------
    bool
        True if the region reaches two or more sides of its window that are inside the frame, or is larger
        than a spot may be: four times `largest` of the frame, and at least 150 pixels.
    """
    pixels, (rows, columns) = region.pixels, region.values.shape
    sides = (
        (pixels[0], region.top > 0),
        (pixels[-1], region.top + rows < shape[0]),
        (pixels[:, 0], region.left > 0),
        (pixels[:, -1], region.left + columns < shape[1]),
    )
    reached = sum(bool(side.any()) for side, inside in sides if inside)
    return reached > 1 or float(pixels.sum()) > _most(rule, shape)


def _seed(frame: Array, number: int, places: list[tuple[int, int]], snap: int) -> tuple[int, int]:
    """Row and column of the brightest pixel within `snap` of a place; if several, the nearest.

    A peak that is nearer to this place than to any other goes first, so that of two touching targets the
    fainter one keeps its own. Places without a peak of their own share one.
    """
    row, column = places[number]
    top, left = max(row - snap, 0), max(column - snap, 0)
    around = frame[top : row + snap + 1, left : column + snap + 1]
    rows, columns = np.indices(around.shape) + np.array([top, left])[:, None, None]
    own = _nearest(rows, columns, number, places)
    for allowed in (own, np.ones_like(own)):
        brightest = np.argwhere(allowed & (around == around[allowed].max())) + np.array([top, left])
        r, c = brightest[np.hypot(*(brightest - (row, column)).T).argmin()].tolist()
        if frame[max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2].max() <= frame[r, c]:
            break  # a peak, not the flank of another
    return r, c


def _first(frame: Array, number: int, seeds: list[tuple[int, int]], rule: Growth) -> Region:
    row, column = seeds[number]
    top, left = max(row - rule.reach, 0), max(column - rule.reach, 0)
    window = frame[top : row + rule.reach + 1, left : column + rule.reach + 1]
    rows, columns = np.indices(window.shape) + np.array([top, left])[:, None, None]
    ring = np.hypot(rows - row, columns - column) > _RING
    background = float(np.median(window[ring])) if ring.any() else float(np.median(window))
    height = float(frame[row, column]) - background
    near = _nearest(rows, columns, number, seeds)
    values = np.zeros(window.shape, np.float32)
    if rule.start == "region" and height > 0:
        spot, _ = ndimage.label((window > background + rule.level * height) & near, _EIGHT)
        inside = spot == spot[row - top, column - left]
        if inside.sum() <= _most(rule, frame.shape):
            values[inside & (spot > 0)] = _LIKELY
    values[row - top, column - left] = _SURE
    outside = window[values <= _IN]
    noise = float(outside.std()) if len(outside) else 0.0
    return Region((row, column), top, left, values, near, background, height, noise)


def _most(rule: Growth, shape: tuple[int, ...]) -> float:
    """Largest spot in pixels; a larger one is background."""
    return max(4 * rule.largest * shape[0] * shape[1], _SMALL)


def _nearest(
    rows: npt.NDArray[Any], columns: npt.NDArray[Any], number: int, seeds: list[tuple[int, int]]
) -> Mask:
    """The pixels to which no other seed is nearer; ties go to the first seed."""
    row, column = seeds[number]
    own = (rows - row) ** 2 + (columns - column) ** 2
    near = np.ones(rows.shape, np.bool_)
    for other, (r, c) in enumerate(seeds):
        if other != number and (r, c) != (row, column):
            distance = (rows - r) ** 2 + (columns - c) ** 2
            near &= (own < distance) | ((own == distance) & (number < other))
    return near


def _grown(frame: npt.NDArray[Any], prediction: Array, region: Region, rule: Growth) -> Region:
    here, row, column = prediction[region.window], region.seed[0] - region.top, region.seed[1] - region.left
    size = float(region.pixels.sum()) / (rule.largest * frame.shape[0] * frame.shape[1])
    threshold = float(here[region.near].max()) * min(
        rule.threshold + rule.slope * (1 - rule.threshold) * size, 1.0
    )
    allowed = region.near
    if region.height > 0 and rule.contrast:
        allowed = allowed & (frame[region.window] > region.background + rule.contrast * region.height)
    found, _ = ndimage.label((here >= threshold) & allowed & (here > 0), _EIGHT)
    own = np.unique(found[region.pixels])
    joined = np.isin(found, own[own > 0])
    faded = region.values * rule.decay
    # A weak prediction of a target must not cost it more than no prediction at all.
    values = np.where(joined, np.maximum((region.values + here) / 2, faded), faded).astype(np.float32)
    values[row, column] = _SURE
    return region.with_values(values)
