"""Random views of frames for training, with their labels.

A single affine map combines scale, rotation, flip and crop, so that a frame is resampled at most once; points
and mask are moved by the same map. Crops continue beyond the frame's border with its mirror image, labels
included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.model.input_rule import fit_map
from dimpoint.synthetic.planting import paste_targets
from dimpoint.training.recipe import Augmentation, Recipe, View

Array = npt.NDArray[np.float32]
Affine = npt.NDArray[np.float64]  # (2, 3), frame pixels -> view pixels
Label = npt.NDArray[Any]  # bool, a mask; or float32, values in 0..1
_MOST_HOT = 6  # hot pixels in one view
_MARGIN = 6.0  # pixels; targets this far outside a view still reach into it


@dataclass(frozen=True, eq=False)
class TrainingView:
    """A network input and its labels.

    Parameters
    ----------
    pixels : (size, size) float32 array
        What the network sees.
    points : (N, 2) float32 array
        x, y of the targets, in pixels of the view.
    mask : (size, size) bool or float32 array, or None
        The target mask, or its values in 0..1, if the frame has one.
    affine : (2, 3) float64 array
        Map from frame pixels to view pixels.
    ignored : (size, size) bool array, optional
        Pixels of ignore regions. Default: none.
    """

    pixels: Array
    points: Array
    mask: Label | None
    affine: Affine
    ignored: npt.NDArray[np.bool_] | None = None


def training_view(
    frame: Array,
    points: Array,
    recipe: Recipe,
    rng: np.random.Generator,
    mask: Label | None = None,
    bright: Array | None = None,
    ignored: npt.NDArray[np.bool_] | None = None,
    near_bright: float | None = None,
) -> TrainingView:
    """Draw a random view of a frame.

    Parameters
    ----------
    frame : (H, W) float32 array
        Output of `InputRule.unit_range`.
    points : (N, 2) float32 array
        x, y of the targets, in pixels.
    recipe : Recipe
        The sections `view`, `augmentation` and `input` are used.
    rng : numpy.random.Generator
        Source of randomness; draws do not depend on `mask`.
    mask : (H, W) bool or float32 array, optional
        A mask, or values in 0..1. Resampled by nearest neighbour.
    bright : (M, 2) float32 array, optional
        x, y of spots around which crops are cut instead of around targets.
    ignored : (H, W) bool array, optional
        Resampled as the mask is.
    near_bright : float, optional
        Fraction of crops around a spot of `bright`. Default: the recipe's `view.near_bright`.

    Returns
    -------
    TrainingView
    """
    view, change = recipe.view, recipe.augmentation
    linear = random_linear(change, rng)
    if view.kind == "letterbox":
        affine = _letterbox(frame.shape, linear, view.size)
    else:
        of_bright = view.near_bright if near_bright is None else near_bright
        near, share = (points, view.near_target) if bright is None else (bright, of_bright)
        scale = recipe.input.scale_of(frame.shape)
        if scale > 1 and recipe.input.native_share and rng.random() < recipe.input.native_share:
            scale = 1
        affine = _crop(frame.shape, near, share, linear * scale, view.size, rng)
    warped = cv2.warpAffine(
        frame,
        affine,
        (view.size, view.size),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101 if view.kind == "crop" else cv2.BORDER_CONSTANT,
    )
    seen = warped.astype(np.float32, copy=False)
    around = _with_mirrored(points, frame.shape) if view.kind == "crop" else points
    moved = _inside(_move(around, affine), view.size)
    if change.paste_probability and rng.random() < change.paste_probability:
        count = int(rng.integers(1, change.paste_targets + 1))
        seen, pasted = paste_targets(seen, rng, count, avoid=moved, saturation=1.0)
        moved = np.concatenate([moved, pasted])
    warped_mask = None if mask is None else _warp_mask(mask, affine, view)
    warped_ignored = None if ignored is None else _warp_mask(ignored, affine, view)
    return TrainingView(_change_counts(seen, change, rng), moved, warped_mask, affine, warped_ignored)


def _warp_mask(mask: Label, affine: Affine, view: View) -> Label:
    """A mask, or a map of values in 0..1, moved by the affine map, by nearest neighbour."""
    warped = cv2.warpAffine(
        mask.view(np.uint8) if mask.dtype == np.bool_ else mask,
        affine,
        (view.size, view.size),
        flags=cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_REFLECT_101 if view.kind == "crop" else cv2.BORDER_CONSTANT,
    )
    return warped.astype(mask.dtype)


def random_linear(change: Augmentation, rng: np.random.Generator) -> Affine:
    """Draw the 2x2 part of the affine map: scale, rotation and flip."""
    scale, angle, flip = 1.0, 0.0, 1.0
    if rng.random() < change.scale_probability:
        scale = math.exp(rng.uniform(*np.log(change.scale)))
    if change.quarter_turns:
        angle += 90.0 * int(rng.integers(4))
    if change.rotation and rng.random() < change.rotation_probability:
        angle += rng.uniform(-change.rotation, change.rotation)
    if change.flips and rng.random() < 0.5:
        flip = -1.0
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return scale * np.array([[flip * cos, -sin], [flip * sin, cos]])


def _crop(
    shape: tuple[int, ...],
    near: Array,
    share: float,
    linear: Affine,
    size: int,
    rng: np.random.Generator,
) -> Affine:
    """Place a square: a fraction `share` of them around a point of `near`, the others anywhere."""
    height, width = shape
    middle = np.full(2, (size - 1) / 2)
    if len(near) and rng.random() < share:
        centre = near[rng.integers(len(near))].astype(np.float64)
        middle += rng.uniform(-0.45, 0.45, 2) * size
    else:
        centre = rng.uniform(0, 1, 2) * (width - 1, height - 1)
    if np.array_equal(np.abs(linear).round(9), np.abs(linear).round()):
        # Flips and quarter turns alone must not resample, so pixels stay on the grid. Magnified frames are
        # resampled at the same positions as in `Detector`.
        scale = abs(linear).max().round()
        linear, centre, middle = linear.round(), np.round(centre), np.round(middle) + (scale - 1) / 2
    return _about(centre, middle, linear)


def _letterbox(shape: tuple[int, ...], linear: Affine, size: int) -> Affine:
    """Fit the whole frame into the square, as `InputRule.fit` does, and transform it about the centre."""
    height, width = shape
    fitted = fit_map(shape, (size, size))
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    return _about(centre, np.full(2, (size - 1) / 2), linear @ fitted[:, :2])


def _about(centre: Affine, middle: Affine, linear: Affine) -> Affine:
    """The affine map with this linear part that takes `centre` to `middle`."""
    return np.hstack([linear, (middle - linear @ centre)[:, None]])


def _move(points: Array, affine: Affine) -> Array:
    return (points @ affine[:, :2].T + affine[:, 2]).astype(np.float32)


def _inside(points: Array, size: int) -> Array:
    near: Array = points[((points > -_MARGIN) & (points < size - 1 + _MARGIN)).all(axis=1)]
    return near


def _with_mirrored(points: Array, shape: tuple[int, ...]) -> Array:
    """The points and their mirror images across the frame's four borders."""
    if not len(points):
        return points
    height, width = shape
    across = np.concatenate([points, *((2 * x, 0) + points * (-1, 1) for x in (0, width - 1))])
    return np.concatenate([across, *((0, 2 * y) + across * (1, -1) for y in (0, height - 1))]).astype(
        np.float32
    )


def _change_counts(seen: Array, change: Augmentation, rng: np.random.Generator) -> Array:
    """Random contrast, offset, noise and hot pixels."""
    factor = np.float32(math.exp(rng.uniform(-change.contrast, change.contrast)))
    seen = seen * factor + np.float32(rng.uniform(-change.offset, change.offset))
    if change.noise and rng.random() < change.noise_probability:
        sigma = np.float32(rng.uniform(0, change.noise))
        seen = seen + sigma * rng.standard_normal(seen.shape, np.float32)
    if change.hot_pixels and rng.random() < change.hot_pixels:
        number = int(rng.integers(1, _MOST_HOT + 1))
        rows, columns = rng.integers(seen.shape, size=(number, 2)).T
        seen[rows, columns] += rng.uniform(0.05, 0.8, number).astype(np.float32)
    return seen
