"""Hard negative mining: false objects of the network in training, around which later views are cut.

False objects are collected where a detection is certainly false: in frames without targets, and outside
the ignore regions of frames that have some. Other frames may hold unlabelled targets and are left out.
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
FRAMES_AT_ONCE = 300  # frames searched in one update; the others keep what was found before
_CLEAR = 8.0  # pixels, least distance of a false object from a labelled point


def false_objects(detector: Detector, frame: LabelledFrame) -> npt.NDArray[np.float32]:
    """Detections in a frame that are certainly false.

    Parameters
    ----------
    detector : Detector
        Runs the network in training.
    frame : LabelledFrame
        A frame without targets, or with ignore regions.

    Returns
    -------
    (N, 2) float32 array
        x, y in pixels, best score first, N at most 20.
    """
    found = detector(frame.counts(), frame.valid).xy
    near = np.asarray(np.hypot(*np.moveaxis(found[:, None] - frame.points, 2, 0)) <= _CLEAR).any(axis=1)
    ignored = spared(found, frame.points, frame.sample.ignore)
    return found[~near & ~ignored][:MOST_OF_A_FRAME]


class Mining(Callback):
    """Callback that updates `TrainingViews.hard` before every `every`-th epoch.

    Its state is saved in checkpoints.

    Parameters
    ----------
    views : TrainingViews
        The views of the run.
    every : int
        Epochs between updates.
    seed : int
        Of the choice of frames.
    log : callable
        Called with a line that counts the false objects.
    """

    def __init__(self, views: TrainingViews, every: int, seed: int, log: Callable[[str], None]) -> None:
        self.views = views
        self.every = every
        self.seed = seed
        self._report = log
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
        self._report(f"{total} false objects in {len(self.views.hard)} frames are used as hard negatives")

    def state_dict(self) -> dict[str, Any]:
        return {"hard": {number: spots.tolist() for number, spots in self.views.hard.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.views.hard = {
            number: np.array(spots, np.float32).reshape(-1, 2) for number, spots in state_dict["hard"].items()
        }
