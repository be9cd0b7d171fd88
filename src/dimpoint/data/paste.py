"""Training augmentation: dim targets pasted onto real frames."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from dimpoint.data.planting import plant
from dimpoint.data.spots import TargetConfig
from dimpoint.errors import ConfigError, FrameError
from dimpoint.intensity import check_frame

DIM_TARGETS = TargetConfig(scr=(3.0, 12.0))


def paste_targets(
    frame: npt.NDArray[np.float32],
    rng: np.random.Generator,
    count: int,
    config: TargetConfig = DIM_TARGETS,
    *,
    avoid: npt.NDArray[np.floating] | None = None,
    least_std: float = 1 / 255,
    saturation: float = math.inf,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """A copy of `frame` with up to `count` targets more; fewer where they would not fit or not be seen.

    frame: (H, W) float32, on any scale. avoid: (N, 2) x, y of its own targets, from which new ones keep
    `config.separation`. least_std: local clutter counts as at least this, on the frame's scale; the default,
    one count of 255, suits a unit range. saturation: no target is brighter, on the frame's scale.
    Returns the new frame and the new targets' true centres, (M, 2) float32 x, y, without `avoid`.
    Raises FrameError if `frame` is no float32 frame and ConfigError if `least_std` is not above 0.
    """
    check_frame(frame)
    if frame.dtype != np.float32:
        raise FrameError(f"targets are pasted onto float32 frames, got {frame.dtype}")
    if not least_std > 0:
        raise ConfigError(f"least_std must be above 0, got {least_std}")
    out = frame.copy()
    planted = plant(out, rng, count, config, least_std=least_std, ceiling=saturation, avoid=avoid)
    return out, planted.points
