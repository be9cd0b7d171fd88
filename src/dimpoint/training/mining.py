"""Hard backgrounds: where the model that training starts from raises false alarms."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dimpoint.atomic import write_text
from dimpoint.backends import Backend
from dimpoint.detector import Detector
from dimpoint.training.frames import LabelledFrame

Points = npt.NDArray[np.float32]
_THRESHOLD = 0.2  # what nearly is a false alarm is worth a look too
_CLEAR = 10.0  # pixels: nearer to a target it may be a part of it


def find_false_alarms(backend: Backend, frames: Sequence[LabelledFrame]) -> list[Points]:
    """The detections of each frame that are far from all its targets, (M, 2) x, y, best first."""
    detector = Detector(backend, threshold=_THRESHOLD)
    false = []
    for frame in frames:
        found = detector(frame.counts())
        apart = np.linalg.norm(found.xy[:, None] - frame.points[None], axis=2)
        false.append(found.xy[apart.min(axis=1, initial=np.inf) > _CLEAR])
    return false


def save_points(path: Path, points: Sequence[Points]) -> None:
    """Keep the points of each frame, in the order of the frames, for a resumed run."""
    write_text(path, json.dumps([part.round(2).tolist() for part in points]))


def load_points(path: Path) -> list[Points]:
    """What `save_points` kept."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return [np.array(part, np.float32).reshape(-1, 2) for part in content]
