"""Motion of the camera between two frames, from the frames alone.

Corners are followed by pyramidal Lucas-Kanade flow and a similarity (shift, roll, zoom) is fitted to them
with RANSAC. Where a frame has too few corners, such as clear sky, phase correlation gives the shift. A motion
by phase is taken only if it makes the frames clearly more alike than no motion does, one by features if it
makes them no less alike; otherwise the motion counts as unknown.
docs/tracking.md compares the methods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.model.validity import Mask, filled, valid_pixels

Matrix = npt.NDArray[np.float64]
Grey = npt.NDArray[np.uint8]
How = Literal["features", "phase", "still", "unknown", "cut", "frozen", "blank", "start"]

_WORKING_SIDE = 256  # pixels of the longer side; larger frames are reduced
_CORNERS = 56  # that are followed
_LK_END = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 12, 0.02)  # steps, pixels
_FEWEST = 12  # corners that must agree
_LEAST_SPREAD = 0.08  # standard deviation of their places, in frame sides: one moving object is no scene
_LEAST_PEAK = 0.15  # of phase correlation
_STILL = 0.2  # pixels of the working size: smaller motions are the method's own noise
_NO_WORSE = 1.02  # unlikeness with a motion by features, over that without
_BETTER = 0.85  # the same, by phase
_THUMBNAIL = 32
_CUT_CORRELATION = 0.5
_CUT_CHANGE = 8.0  # times the usual change between frames


@dataclass(frozen=True, eq=False)
class Motion:
    """How the camera moved from the frame before to this one.

    Attributes
    ----------
    matrix : (2, 3) array of float64
        Maps pixels of the frame before to pixels of this frame.
    how : str
        `features` or `phase` (measured that way), `still` (measured, and no motion is as good), `unknown`
        (it cannot be known; the matrix is the identity), `cut` (another scene), `frozen` (the same picture
        again), `blank` (one level everywhere), `start` (the first frame).
    """

    matrix: Matrix
    how: How

    @property
    def known(self) -> bool:
        """Whether the motion was measured."""
        return self.how in ("features", "phase", "still", "start")


class MotionEstimator:
    """Gives the camera's motion for each frame of a sequence, one call a frame."""

    def __init__(self) -> None:
        self._before: npt.NDArray[Any] | None = None
        self._detail: Grey | None = None
        self._limits: tuple[float, float] | None = None
        self._usual: float | None = None
        self._small: Grey | None = None  # of the last frame, for cuts
        self._valid: Mask | None = None  # pixels of the scene's first frame that are measurements

    def __call__(self, frame: npt.NDArray[Any], valid: Mask | None = None) -> Motion:
        """The motion from the last frame to this one, (H, W) uint8, uint16 or float32.

        valid: (H, W) bool, False for pixels that are known to be no measurements. They, and those that the
        first frame of the scene shows to be none, such as a border, would hide the scene's contrast.
        """
        if frame.dtype.kind == "f" and not np.isfinite(frame).all():
            known = frame[np.isfinite(frame)]
            frame = np.where(np.isfinite(frame), frame, np.median(known) if len(known) else 0)
        before, self._before = self._before, frame
        identity = np.eye(2, 3)
        if frame.max() == frame.min():
            self._before = before
            return Motion(identity, "blank")
        if before is None or before.shape != frame.shape or before.dtype != frame.dtype:
            self._restart(frame, valid)
            return Motion(identity, "start" if before is None else "cut")
        if np.array_equal(before, frame):
            return Motion(identity, "frozen")
        last = self._detail
        assert last is not None
        grey = self._reduced(self._measured(frame, valid))
        self._detail = detail_of(grey)
        matrix, how = _between(last, self._detail)
        if self._is_cut(grey, matrix):
            self._restart(frame, valid)
            return Motion(identity, "cut")
        scale = max(frame.shape) / max(grey.shape)
        return Motion(_at_scale(matrix, scale), how)

    def _restart(self, frame: npt.NDArray[Any], valid: Mask | None) -> None:
        self._limits = None
        self._usual = None
        self._valid = valid_pixels(frame, valid)
        grey = self._reduced(self._measured(frame, valid))
        self._small = _small(grey)
        self._detail = detail_of(grey)

    def _measured(self, frame: npt.NDArray[Any], valid: Mask | None) -> npt.NDArray[Any]:
        """The frame, smooth where it holds no measurements."""
        if valid is None or self._valid is None:
            return filled(frame, self._valid if valid is None else valid)
        return filled(frame, valid & self._valid)

    def _reduced(self, frame: npt.NDArray[Any]) -> Grey:
        """8 bits, at most the working size, by one gain for the whole scene."""
        scale = _WORKING_SIDE / max(frame.shape)
        small = frame
        if scale < 1:
            height, width = (max(1, round(side * scale)) for side in frame.shape)
            whole = int(1 / scale)  # means of whole pixels first, which is fast, then the rest
            if whole > 1:
                most = (max(frame.shape[1] // whole, width), max(frame.shape[0] // whole, height))
                small = np.asarray(cv2.resize(small, most, interpolation=cv2.INTER_AREA))
            small = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))
        if frame.dtype == np.uint8:
            return np.asarray(small, np.uint8)
        if self._limits is None:
            low, high = np.percentile(small, (0.5, 99.5))
            self._limits = float(low), max(float(high), float(low) + 1e-6)
        low, high = self._limits
        grey: Grey = np.clip((small.astype(np.float32) - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
        return grey

    def _is_cut(self, grey: Grey, matrix: Matrix) -> bool:
        """Whether another scene begins: far more change than usual, and no likeness."""
        last, self._small = self._small, _small(grey)
        assert last is not None
        now = self._small
        size = (now.shape[1], now.shape[0])
        reduced = _at_scale(matrix, size[0] / grey.shape[1])
        warped = cv2.warpAffine(last, reduced, size, borderMode=cv2.BORDER_REPLICATE)
        one, two = _thumbnail(np.asarray(warped)), _thumbnail(now)
        change = float(np.abs(one - two).mean())
        usual = self._usual
        spread = max(float(one.std()), float(two.std()))
        if usual is not None and change > _CUT_CHANGE * usual and change > 0.5 * spread and change > 2:
            flat = min(float(one.std()), float(two.std())) < 1e-6
            if flat or float(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < _CUT_CORRELATION:
                return True
        self._usual = (
            max(change, 0.1) if usual is None else 0.9 * usual + 0.1 * max(min(change, 4 * usual), 0.1)
        )
        return False


def detail_of(grey: Grey) -> Grey:
    """The local contrast of a frame, cut off at four times its usual size, as 8 bits.

    A bright target otherwise gives the strongest corners of a faint scene, and it moves on its own.
    """
    smooth = cv2.medianBlur(grey, 5)
    fine = smooth.astype(np.float32)
    mean = cv2.blur(fine, (41, 41))
    sample = np.abs(fine[::6, ::6] - mean[::6, ::6]).ravel()
    middle = float(np.partition(sample, len(sample) // 2)[len(sample) // 2])
    gain = 127 / (4 * max(1.4826 * middle, 0.25))
    # one call that scales, adds and cuts off to 0..255
    return np.asarray(cv2.addWeighted(fine, gain, mean, -gain, 128, dtype=cv2.CV_8U), np.uint8)


def _small(grey: Grey) -> Grey:
    """Of a quarter of the sides, which is enough to see whether two frames show one scene."""
    size = (max(1, grey.shape[1] // 4), max(1, grey.shape[0] // 4))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def _thumbnail(grey: npt.NDArray[Any]) -> Matrix:
    small = cv2.resize(grey, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float64)


def _between(last: Grey, grey: Grey) -> tuple[Matrix, How]:
    still = np.eye(2, 3)
    unmoved = float(cv2.norm(last, grey, cv2.NORM_L1)) / grey.size
    matrix = by_features(last, grey)
    if matrix is not None and _unlikeness(last, grey, matrix) <= _NO_WORSE * unmoved:
        return (still, "still") if _largest_shift(matrix, grey.shape) < _STILL else (matrix, "features")
    matrix = by_phase(last, grey)
    if matrix is None:
        return still, "unknown"
    if _unlikeness(last, grey, matrix) < _BETTER * unmoved:
        return matrix, "phase"
    return still, "still" if _largest_shift(matrix, grey.shape) < 0.5 else "unknown"


def by_features(last: Grey, grey: Grey) -> Matrix | None:
    """The similarity that most corners agree on, (2, 3); None if too few do or all stand in one place."""
    corners = cv2.goodFeaturesToTrack(
        last, maxCorners=_CORNERS, qualityLevel=0.02, minDistance=8, blockSize=5
    )
    if corners is None or len(corners) < _FEWEST:
        return None
    guess = np.zeros_like(np.asarray(corners))
    moved, found, _ = cv2.calcOpticalFlowPyrLK(
        last, grey, corners, guess, winSize=(15, 15), maxLevel=2, criteria=_LK_END
    )
    good = np.asarray(found).ravel() == 1
    if good.sum() < _FEWEST:
        return None
    one, two = np.asarray(corners)[good, 0], np.asarray(moved)[good, 0]
    cv2.setRNGSeed(0)
    matrix, inliers = cv2.estimateAffinePartial2D(one, two, ransacReprojThreshold=1.0, maxIters=200)
    if matrix is None:
        return None
    agree = np.asarray(inliers).ravel() == 1
    spread = one[agree].std(axis=0) / (grey.shape[1], grey.shape[0]) if agree.any() else np.zeros(2)
    if agree.sum() < max(_FEWEST, good.sum() / 2) or spread.max() < _LEAST_SPREAD:
        return None
    return np.asarray(matrix, np.float64)


def by_phase(last: Grey, grey: Grey) -> Matrix | None:
    """The shift by phase correlation, (2, 3); None if its peak is weak."""
    window = cv2.createHanningWindow((grey.shape[1], grey.shape[0]), cv2.CV_32F)
    shift, peak = cv2.phaseCorrelate(last.astype(np.float32), grey.astype(np.float32), window)
    if peak < _LEAST_PEAK:
        return None
    return np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float64)


def _unlikeness(last: npt.NDArray[Any], grey: npt.NDArray[Any], matrix: Matrix) -> float:
    size = (grey.shape[1], grey.shape[0])
    warped = cv2.warpAffine(last, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    return float(cv2.norm(np.asarray(warped, np.uint8), grey, cv2.NORM_L1)) / grey.size


def _largest_shift(matrix: Matrix, shape: tuple[int, ...]) -> float:
    height, width = shape
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], np.float64)
    return float(np.abs(corners @ matrix.T - corners[:, :2]).max())


def _at_scale(matrix: Matrix, scale: float) -> Matrix:
    """The motion of a reduced frame, in pixels of the full one; pixel centres are whole numbers."""
    linear = matrix[:, :2]
    centre = (scale - 1) / 2
    shift = scale * matrix[:, 2] + centre - linear @ np.full(2, centre)
    return np.column_stack([linear, shift])


def compose(first: Matrix, second: Matrix) -> Matrix:
    """The (2, 3) motion that applies `first`, then `second`."""
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]])


def apply(matrix: Matrix, xy: npt.NDArray[Any]) -> Matrix:
    """Points (N, 2) moved by a (2, 3) matrix."""
    moved: Matrix = np.asarray(xy, np.float64) @ matrix[:, :2].T + matrix[:, 2]
    return moved


def inverse(matrix: Matrix) -> Matrix:
    """The motion back."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])
