"""Small frames that the tests of the metrics share: sparse, noisy, smooth and quantised maps, crowds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

Frame = tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]

LAW = settings(deadline=None, derandomize=True, max_examples=30)
SEEDS = st.integers(0, 2**32)


def frame(rng: np.random.Generator) -> Frame:
    """A random map of one of four kinds, with up to one target pixel in ten."""
    shape = tuple(rng.integers(1, 30, 2))
    noise = rng.random(shape)
    smooth = gaussian_filter(noise, 1.5)
    kinds = (
        rng.integers(0, 4, shape) / 4,  # plateaus, equal scores everywhere
        noise,  # every pixel its own score
        (smooth - smooth.min()) / max(np.ptp(smooth), 1e-9),  # hills and saddles
        noise * (rng.random(shape) < 0.3),  # specks
    )
    prob = kinds[rng.integers(len(kinds))].astype(rng.choice([np.float32, np.float64]))
    return prob, rng.random(shape) < rng.choice([0, 0.03, 0.1])


def frames(seed: int) -> list[Frame]:
    """One to four random frames of different sizes."""
    rng = np.random.default_rng(seed)
    return [frame(rng) for _ in range(rng.integers(1, 5))]


def picture(*rows: str) -> npt.NDArray[np.float32]:
    """Probabilities drawn with digits (tenths), `#` (1) and anything else (0)."""
    return np.array(
        [[1.0 if c == "#" else int(c) / 10 if c.isdigit() else 0 for c in row] for row in rows], "f4"
    )


def drawn(*rows: str) -> npt.NDArray[np.bool_]:
    """A mask drawn with `#`."""
    return np.array([[c == "#" for c in row] for row in rows])
