"""False objects of the network in training, found again and again: what its next views are cut around.

They are looked for where a detection is false for certain: in frames without targets, and in frames with
ignore regions, outside those and away from the points. Frames of other data sets may hold targets without
a label, and are left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning
import numpy as np
import numpy.typing as npt
from lightning.pytorch.callbacks import Callback

from dimpoint.inference.backends import TorchBackend
from dimpoint.inference.detector import Detector
from dimpoint.metrics.points import spared
from dimpoint.training.frames import LabelledFrame, TrainingViews
from dimpoint.training.module import DetectionModule

LEAST_SCORE = 0.3
MOST_OF_A_FRAME = 20
FRAMES_AT_ONCE = 300  # frames looked at in one round; the others keep what was found in them before
_CLEAR = 8.0  # pixels between a false object and a labelled point


def false_objects(detector: Detector, frame: LabelledFrame) -> npt.NDArray[np.float32]:
    """Where the detector sees targets in a frame that are none: at most 20 x, y, best first."""
    found = detector(frame.counts()).xy
    near = np.asarray(np.hypot(*np.moveaxis(found[:, None] - frame.points, 2, 0)) <= _CLEAR).any(axis=1)
    ignored = spared(found, frame.points, frame.sample.ignore)
    return found[~near & ~ignored][:MOST_OF_A_FRAME]


class Mining(Callback):
    """Fills `TrainingViews.hard` before every `every`-th epoch; what it found goes with the checkpoints."""

    def __init__(self, views: TrainingViews, every: int, seed: int, log: Callable[[str], None]) -> None:
        self.views = views
        self.every = every
        self.seed = seed
        self.log = log
        self.certain = [
            number
            for number, frame in enumerate(views.frames)
            if not len(frame.points) or len(frame.sample.ignore)
        ]

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.current_epoch % self.every or not self.certain:
            return
        assert isinstance(pl_module, DetectionModule)
        rng = np.random.default_rng((self.seed, trainer.current_epoch))
        count = min(FRAMES_AT_ONCE, len(self.certain))
        backend = TorchBackend(pl_module.network, pl_module.meta)
        pl_module.network.eval()
        detector = Detector(backend, threshold=LEAST_SCORE)
        for number in sorted(rng.choice(self.certain, count, replace=False).tolist()):
            self.views.hard[number] = false_objects(detector, self.views.frames[number])
        pl_module.network.train()
        total = sum(map(len, self.views.hard.values()))
        self.log(f"{total} false objects in {len(self.views.hard)} frames are looked at more closely")

    def state_dict(self) -> dict[str, Any]:
        return {"hard": {number: spots.tolist() for number, spots in self.views.hard.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.views.hard = {
            number: np.array(spots, np.float32).reshape(-1, 2) for number, spots in state_dict["hard"].items()
        }
