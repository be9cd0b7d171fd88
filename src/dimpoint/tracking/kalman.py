"""Constant-velocity Kalman filter of N targets at once.

State (x, y, vx, vy) in pixels and pixels a second; process noise is white acceleration. Equations:
Bar-Shalom, Li, Kirubarajan, Estimation with Applications to Tracking and Navigation, 5.2 (filter) and 6.2.2
(process noise).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def start(xy: Array, noise: float, speed: float) -> tuple[Array, Array]:
    """The state of new targets whose velocity is not known.

    Parameters
    ----------
    xy : (N, 2) array
        Positions, pixels.
    noise : float
        Standard deviation of a position, pixels.
    speed : float
        Standard deviation of a velocity, pixels a second.

    Returns
    -------
    mean : (N, 4) array
    covariance : (N, 4, 4) array
    """
    mean = np.concatenate([xy, np.zeros_like(xy)], axis=1)
    variance = np.array([noise, noise, speed, speed]) ** 2
    return mean, np.broadcast_to(np.diag(variance), (len(xy), 4, 4)).copy()


def predict(mean: Array, covariance: Array, dt: float, acceleration: float) -> tuple[Array, Array]:
    """The state after some time.

    Parameters
    ----------
    mean, covariance : (N, 4) and (N, 4, 4) arrays
        The state now.
    dt : float
        Seconds.
    acceleration : float
        Root of the spectral density of the white acceleration, pixels / s^1.5.

    Returns
    -------
    mean, covariance : (N, 4) and (N, 4, 4) arrays
    """
    move = np.eye(4)
    move[0, 2] = move[1, 3] = dt
    noise = np.zeros((4, 4))
    noise[[0, 1], [0, 1]] = dt**3 / 3
    noise[[0, 1, 2, 3], [2, 3, 0, 1]] = dt**2 / 2
    noise[[2, 3], [2, 3]] = dt
    return mean @ move.T, move @ covariance @ move.T + acceleration**2 * noise


def carry(mean: Array, covariance: Array, matrix: Array) -> tuple[Array, Array]:
    """The states in the next frame's pixels, where the camera moved by a (2, 3) matrix."""
    linear = matrix[:, :2]
    both = np.zeros((4, 4))
    both[:2, :2] = both[2:, 2:] = linear
    moved = mean @ both.T
    moved[:, :2] += matrix[:, 2]
    return moved, both @ covariance @ both.T


def innovation(mean: Array, covariance: Array, xy: Array, noise: float) -> tuple[Array, Array]:
    """Squared Mahalanobis distance (N, M) of M measurements from N predictions, and log det S (N,)."""
    spread = covariance[:, :2, :2] + noise**2 * np.eye(2)
    difference = xy[None] - mean[:, None, :2]
    solved = np.einsum("nij,nmj->nmi", np.linalg.inv(spread), difference)
    squared: Array = np.einsum("nmi,nmi->nm", difference, solved)
    return squared, np.linalg.slogdet(spread)[1]


def update(mean: Array, covariance: Array, xy: Array, noise: float) -> tuple[Array, Array]:
    """The states after a measurement (N, 2) each."""
    spread = covariance[:, :2, :2] + noise**2 * np.eye(2)
    gain = covariance[:, :, :2] @ np.linalg.inv(spread)
    after = mean + np.einsum("nij,nj->ni", gain, xy - mean[:, :2])
    reduced = covariance - gain @ covariance[:, :2, :]
    return after, (reduced + reduced.transpose(0, 2, 1)) / 2
