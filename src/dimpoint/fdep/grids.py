"""Token grids of whole frames, and how views read them.

A frame's grid extends over its mirror image by `margin` pixels; farther out the grid itself is mirrored. The
cells of a view read it bilinearly through the affine map of the view.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

Pixels = npt.NDArray[np.float32]
Affine = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Corners = tuple[Tensor, Tensor]

ORIENTATIONS = tuple(
    np.array(rows, float)
    for first in (1, -1)
    for second in (1, -1)
    for rows in ([[first, 0], [0, second]], [[0, first], [second, 0]])
)
"""The eight flips and quarter turns of a frame as (2, 2) maps of (x, y); the first is the identity."""


@dataclass(frozen=True)
class FrameGrids:
    """The token grids of one frame.

    Parameters
    ----------
    taps : tuple of (h_t, w_t, D_t) float16 Tensor
        Grids over the frame and its margin.
    before : tuple of int
        Margin at the top and at the left, pixels.
    covered : tuple of int
        Height and width that a grid covers, margins included, pixels.
    """

    taps: tuple[Tensor, ...]
    before: tuple[int, int]
    covered: tuple[int, int]

    @property
    def nbytes(self) -> int:
        return sum(grid.nbytes for grid in self.taps)


def padding(side: int, cell: float, margin: int) -> tuple[int, int]:
    """Margins of a side such that whole cells cover the sum.

    Parameters
    ----------
    side : int
        Length of the frame's side, pixels.
    cell : float
        Pixels of a cell: the encoder's patch over its magnification. If it is not an integer, cells are
        stretched by less than a pixel over the whole side.
    margin : int
        Least margin, pixels.

    Returns
    -------
    before, after : int
    """
    before = math.ceil(math.ceil(margin / cell) * cell)
    whole = math.ceil(math.ceil((before + side + margin) / cell) * cell)
    return before, whole - before - side


def mirrored(pixels: Pixels, before: tuple[int, int], covered: tuple[int, int]) -> Pixels:
    """The frame (H, W) with its mirror image around it; border pixels are not repeated."""
    (top, left), (height, width) = before, covered
    below, right = height - top - pixels.shape[0], width - left - pixels.shape[1]
    return np.pad(pixels, ((top, below), (left, right)), mode="reflect")


def orientation(affine: Affine) -> Affine:
    """The orientation of a view.

    Parameters
    ----------
    affine : (2, 3) or (2, 2) array
        Map from frame pixels to view pixels.

    Returns
    -------
    (2, 2) array
        The one of `ORIENTATIONS` after which the view only crops, scales, and rotates by at most 45 degrees.
    """
    (xx, xy), (yx, yy) = affine[:, :2]
    if abs(xy) + abs(yx) > abs(xx) + abs(yy):
        return np.array([[0.0, _sign(xy)], [_sign(yx), 0.0]])
    return np.array([[_sign(xx), 0.0], [0.0, _sign(yy)]])


def oriented(pixels: Pixels, turn: Affine) -> Pixels:
    """The frame (H, W) flipped and rotated by one of `ORIENTATIONS`."""
    turned = pixels.T if turn[0, 1] else pixels
    return np.ascontiguousarray(turned[:: int(turn[1].sum()), :: int(turn[0].sum())])


def upright(pixels: Pixels, affine: Affine) -> tuple[Pixels, Affine]:
    """Flip and rotate a frame into the orientation of a view.

    Parameters
    ----------
    pixels : (H, W) float32 array
        The frame.
    affine : (2, 3) array
        Map from frame pixels to view pixels.

    Returns
    -------
    pixels : float32 array
        The oriented frame.
    affine : (2, 3) array
        Map from it to the view.
    """
    turn = orientation(affine)
    frame = oriented(pixels, turn)
    # Frame pixel p is now at turn @ p + shift: a flipped axis counts from its other end.
    shift = np.where(turn.sum(axis=1) < 0, (frame.shape[1] - 1, frame.shape[0] - 1), 0)
    linear = affine[:, :2] @ turn.T
    return frame, np.hstack([linear, (affine[:, 2] - linear @ shift)[:, None]])


def _sign(value: float) -> int:
    return -1 if value < 0 else 1


def sample(
    grids: FrameGrids, affine: Affine, view_size: int, cells: int | Sequence[int]
) -> tuple[Tensor, ...]:
    """Read the grids of a view.

    Parameters
    ----------
    grids : FrameGrids
        Grids of the frame.
    affine : (2, 3) array
        Map from frame pixels to view pixels, as in `training.views`.
    view_size : int
        Side of the view, pixels.
    cells : int or sequence of int
        Cells along a side of the result, for all taps or for each. Cell (i, j) is read where the centre of
        that part of the view lies in the frame.

    Returns
    -------
    tuple of (D_t, cells, cells) float32 Tensor
        One for each tap.
    """
    counts = [cells] * len(grids.taps) if isinstance(cells, int) else list(cells)
    corners: dict[tuple[int, int, int], Corners] = {}  # taps of one shape are read at the same positions
    read = []
    for grid, count in zip(grids.taps, counts, strict=True):
        height, width, _ = grid.shape
        key = (height, width, count)
        if key not in corners:
            rows, columns = _places(grids, (height, width), affine, view_size, count)
            corners[key] = _corners(rows, columns, height, width)
        read.append(_read(grid, corners[key], count))
    return tuple(read)


def _places(
    grids: FrameGrids, shape: Sequence[int], affine: Affine, view_size: int, cells: int
) -> tuple[Affine, Affine]:
    """(rows, columns), each (cells * cells), of a view's cells in a grid, in cells, centres at integers."""
    steps = (np.arange(cells) + 0.5) * view_size / cells - 0.5
    x, y = (axis.ravel() for axis in np.meshgrid(steps, steps))
    back = np.linalg.inv(affine[:, :2])
    points = back @ np.stack([x - affine[0, 2], y - affine[1, 2]])
    rows = (points[1] + grids.before[0] + 0.5) * shape[0] / grids.covered[0] - 0.5
    columns = (points[0] + grids.before[1] + 0.5) * shape[1] / grids.covered[1] - 0.5
    # Rounding avoids interpolation at positions that are cells in exact arithmetic.
    return _mirror(rows.round(6), shape[0]), _mirror(columns.round(6), shape[1])


def _mirror(places: Affine, count: int) -> Affine:
    """Positions reflected into 0 .. count - 1, at the centres of the first and the last cell."""
    span = count - 1
    if span == 0:
        return np.zeros_like(places)
    folded: Affine = span - np.abs(places % (2 * span) - span)
    return folded


def _corners(rows: Affine, columns: Affine, height: int, width: int) -> Corners:
    """The four cells around each position: indices (K, 4) into the flattened grid, and weights (K, 4)."""
    (top, down), (left, right) = _neighbours(rows, height), _neighbours(columns, width)
    corners = [(row, column) for row in (top, down) for column in (left, right)]
    indices = np.stack([row[0] * width + column[0] for row, column in corners], axis=1)
    weights = np.stack([row[1] * column[1] for row, column in corners], axis=1)
    return torch.from_numpy(indices), torch.from_numpy(weights)


def _read(grid: Tensor, corners: Corners, cells: int) -> Tensor:
    """Bilinear reading of (h, w, D) -> (D, cells, cells) float32."""
    indices, weights = corners
    flat = grid.reshape(-1, grid.shape[-1]).float()
    read = F.embedding_bag(indices, flat, per_sample_weights=weights.float(), mode="sum")
    return read.T.reshape(-1, cells, cells)


def _neighbours(places: Affine, count: int) -> tuple[tuple[Indices, Affine], tuple[Indices, Affine]]:
    """The cells on both sides of each position along one axis, with their weights."""
    below = places.astype(np.int64)
    beyond = places - below
    return (below, 1 - beyond), (np.minimum(below + 1, count - 1), beyond)
