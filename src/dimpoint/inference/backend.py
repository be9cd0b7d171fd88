"""What runs a network on prepared frames: ONNX Runtime for everybody, torch for training."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from dimpoint.model.record import ModelMeta


class Backend(Protocol):
    """A network and the record that says how to feed and read it."""

    meta: ModelMeta

    def run(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, 1, H, W) in network range, H and W multiples of `meta.multiple` -> (N, 1, h, w) raw outputs.

        h = H / `meta.stride`, w = W / `meta.stride`; `meta.activation` is still due.
        """
