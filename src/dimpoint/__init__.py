"""dimpoint: find dim point targets in infrared frames.

The public names are imported when they are first used, so that `import dimpoint` is fast.

>>> import cv2, dimpoint
>>> frame = cv2.imread("examples/scenes/images/000003.png", cv2.IMREAD_UNCHANGED)
>>> dimpoint.load()(frame).xy.shape  # x and y of one target
(1, 2)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from dimpoint import networks as networks
    from dimpoint.api import export as export
    from dimpoint.api import train as train
    from dimpoint.datasets.dataset import open_dataset as open_dataset
    from dimpoint.errors import DimpointError as DimpointError
    from dimpoint.inference.detection_files import read_detections as read_detections
    from dimpoint.inference.detections import Detections as Detections
    from dimpoint.inference.detector import Detector as Detector
    from dimpoint.model.intensity import Polarity
    from dimpoint.report.evaluation import Compared as Compared
    from dimpoint.report.evaluation import Evaluation as Evaluation
    from dimpoint.report.evaluation import compare as compare
    from dimpoint.report.evaluation import evaluate as evaluate
    from dimpoint.tracking.clips import evaluate_tracks as evaluate_tracks
    from dimpoint.tracking.result import Tracks as Tracks
    from dimpoint.tracking.result import read_tracks as read_tracks
    from dimpoint.tracking.stream import track as track
    from dimpoint.tracking.tracker import Tracker as Tracker

__version__ = "0.2.0.dev0"

_HOMES = {
    "Compared": "dimpoint.report.evaluation",
    "Detections": "dimpoint.inference.detections",
    "Detector": "dimpoint.inference.detector",
    "DimpointError": "dimpoint.errors",
    "Evaluation": "dimpoint.report.evaluation",
    "compare": "dimpoint.report.evaluation",
    "evaluate": "dimpoint.report.evaluation",
    "evaluate_tracks": "dimpoint.tracking.clips",
    "export": "dimpoint.api",
    "open_dataset": "dimpoint.datasets.dataset",
    "Tracker": "dimpoint.tracking.tracker",
    "Tracks": "dimpoint.tracking.result",
    "read_detections": "dimpoint.inference.detection_files",
    "read_tracks": "dimpoint.tracking.result",
    "track": "dimpoint.tracking.stream",
    "train": "dimpoint.api",
}
_MODULES = ("networks",)

__all__ = [
    "Compared",
    "Detections",
    "Detector",
    "DimpointError",
    "Evaluation",
    "Tracker",
    "Tracks",
    "compare",
    "evaluate",
    "evaluate_tracks",
    "export",
    "load",
    "networks",
    "open_dataset",
    "read_detections",
    "read_tracks",
    "track",
    "train",
]


def load(
    model: str | Path | None = None,
    *,
    threshold: float | None = None,
    threads: int | None = None,
    memory_mb: int = 1024,
    polarity: Polarity = "white-hot",
    device: str = "cpu",
) -> Detector:
    """Load a model for detection.

    Parameters
    ----------
    model
        Name of a shipped model (`dimpoint models` lists them), path of an ONNX or safetensors file, or
        folder of a training run. Default: the shipped default model.
    threshold
        Detection threshold, 0..1: scores above it count. Default: the model's own.
    threads
        Number of processor threads. Default: all cores.
    memory_mb
        Approximate memory for one run of the network, MiB; larger frames are processed in tiles.
        Default: 1024.
    polarity
        `black-hot` where hot objects are dark. Default: `white-hot`.
    device
        Where the network runs: `cpu`, `cuda`, `tensorrt`, `directml`, `openvino`, `coreml`, or `auto`; the
        detector's `device` states what `auto` selected. Default: `cpu`.

    Returns
    -------
    Detector

    Raises
    ------
    ModelFileError
        If there is no such model, or it cannot be used.
    ConfigError
        If an option is out of range.

    Examples
    --------
    >>> import dimpoint
    >>> detector = dimpoint.load("spire-lite", threshold=0.8)
    >>> detector.meta.name
    'spire-lite'
    """
    from dimpoint.inference.detector import Detector

    return Detector(
        model, threshold=threshold, threads=threads, memory_mb=memory_mb, polarity=polarity, device=device
    )


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"dimpoint.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'dimpoint' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
