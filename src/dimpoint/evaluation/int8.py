"""`dimpoint export --int8`: quantise a model after training, and measure what that costs."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.atomic import replacing
from dimpoint.datasets.dataset import Sample, open_dataset, training_split
from dimpoint.datasets.plausibility import demand_plausible
from dimpoint.datasets.reading import AS_WRITTEN, Reading
from dimpoint.datasets.splits import hold_out_scenes, thumbnail
from dimpoint.errors import ConfigError, DataError, MissingExtraError, ModelFileError, one_line
from dimpoint.evaluation.int8_graph import in_blocks, unsigned
from dimpoint.inference.backends import Backend, OnnxBackend
from dimpoint.inference.detector import Detector
from dimpoint.inference.openvino_backend import INT8_KEY, OpenvinoBackend
from dimpoint.metrics.points import match_points
from dimpoint.model.files import resolve_model, sha256_of
from dimpoint.model.onnx_file import read_property, with_metadata
from dimpoint.model.record import METADATA_KEY, ModelMeta
from dimpoint.text import counted

_HELD_OUT = (
    0.15  # as trainings hold out by default: of a data set that trained the model the very same scenes
)
_MOST = 60  # frames of the calibration: more hardly change the ranges
_LEAST = 10  # labelled frames
_MANY_LAYERS = 8  # convolutions of a network whose first and last ones stay in float32


@dataclass(frozen=True)
class Measured:
    """F1 on the held-out frames, before and after."""

    frames: int
    targets: int
    float32: float
    int8: float

    @property
    def loss(self) -> float:
        return self.float32 - self.int8


def export_int8(
    model: str | Path,
    out: Path,
    data: Path | Sequence[Path],
    *,
    max_loss: float = 0.005,
    reading: Reading = AS_WRITTEN,
    say: Callable[[str], None] = print,
) -> ModelMeta:
    """Write the int8 version of a model, which OpenVINO runs fast, if it finds as much as the model does.

    Parameters
    ----------
    model : str or path
        A shipped model's name, an .onnx file or a training run's folder.
    out : path
        The .onnx file to write.
    data : path, or several
        Labelled data sets: their frames for training, or all without split lists. 15 % of each, by scene, are
        held out and measure F1 (protocol `spire`); of the others up to 60 calibrate.
    max_loss : float
        The largest loss of F1, 0..1.
    reading : Reading, optional
        How labels are read.
    say : callable
        Called with the measured figures.

    Raises
    ------
    MissingExtraError
        Without nncf, openvino or onnx.
    ConfigError, DataError, ModelFileError
        For wrong options, for data with too few labelled frames, and for a model that cannot be quantised
        or would lose more; `out` is then as it was.
    """
    if out.suffix != ".onnx":
        raise ConfigError(f"{out}: an int8 model is an .onnx file")
    if not 0 <= max_loss <= 1:
        raise ConfigError(f"--max-loss must lie in 0..1, got {max_loss}")
    for package in ("nncf", "openvino", "onnx"):
        if find_spec(package) is None:
            raise MissingExtraError("dimpoint export --int8", package, "int8")
    source = resolve_model(model)
    if source.suffix.lower() != ".onnx":
        raise ModelFileError(f"{source}: int8 is made of an .onnx file; write it with dimpoint export first")
    if read_property(source, INT8_KEY):
        raise ModelFileError(f"{source}: is int8 already; give the model that it was made of")
    backend = OnnxBackend(source)
    calibration, held = held_out([data] if isinstance(data, Path) else data, reading)
    content = _quantised(source, _inputs(backend, calibration), backend.meta.multiple // backend.meta.stride)
    name = backend.meta.name
    own = {"name": f"{name}-int8", "parent": name, "scores": {}}  # the source's scores are not its own
    meta = backend.meta.model_copy(update=own)
    with replacing(out) as temporary:
        temporary.write_bytes(with_metadata(content, METADATA_KEY, meta.to_json(), out))
        measured = measure(backend, OpenvinoBackend(temporary), held)
        say(
            f"{counted(measured.frames, 'held-out frame')}, {counted(measured.targets, 'target')}: "
            f"F1 {measured.float32:.4f} in float32, {measured.int8:.4f} in int8"
        )
        if not measured.loss <= max_loss:
            raise ModelFileError(
                f"{out}: not written: int8 loses {measured.loss:.4f} of F1, more than --max-loss {max_loss:g}"
            )
        record = {
            "source": sha256_of(source),
            "frames": measured.frames,
            "f1": measured.int8,
            "f1_float32": measured.float32,
        }
        temporary.write_bytes(with_metadata(temporary.read_bytes(), INT8_KEY, json.dumps(record), out))
    return meta


def held_out(data: Sequence[Path], reading: Reading) -> tuple[list[Sample], list[Sample]]:
    """Frames to calibrate with, as many of each data set, and those held out."""
    calibration: list[Sample] = []
    held: list[Sample] = []
    for root in data:
        found = open_dataset(root, training_split(root), reading=reading)
        demand_plausible([found])
        samples = found.samples
        if len(samples) < _LEAST:
            raise DataError(f"{root}: {len(samples)} labelled frames; int8 needs at least {_LEAST}")
        thumbnails = [thumbnail(sample.read_frame()) for sample in samples]
        others, scenes = hold_out_scenes(samples, thumbnails, _HELD_OUT, 0)
        most = max(1, _MOST // len(data))
        calibration += others[:: max(1, len(others) // most)][:most]
        held += scenes
    return calibration, held


class _Recording:
    """Runs a backend and keeps what it is given."""

    def __init__(self, backend: Backend) -> None:
        self.meta, self._backend = backend.meta, backend
        self.inputs: list[npt.NDArray[np.float32]] = []

    def run(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        self.inputs.append(frames.copy())
        return self._backend.run(frames)


def _inputs(backend: Backend, samples: Sequence[Sample]) -> list[npt.NDArray[np.float32]]:
    """What the network sees of the frames."""
    recording = _Recording(backend)
    detector = Detector(recording)
    for sample in samples:
        detector(sample.read_frame())
    return recording.inputs


def _quantised(source: Path, inputs: Sequence[npt.NDArray[np.float32]], multiple: int) -> bytes:
    """The graph with quantisation nodes, by NNCF. `multiple`: as for `in_blocks`."""
    os.environ.setdefault("NNCF_CI", "1")  # NNCF reports its use to its makers otherwise
    import nncf
    import onnx
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(logging.ERROR)
    network = onnx.load(source)
    in_blocks(network, multiple)
    name = network.graph.input[0].name
    data = nncf.Dataset(inputs, lambda frames: {name: frames})
    layers = [node.name for node in network.graph.node if node.op_type == "Conv"]
    # The first layer and the last two decide about dim targets and scores, and cost little. Sums and what is
    # resized stay in float32, so that errors do not add up along the residual connections. The whole range of
    # the calibration counts: the usual one cuts off what is rare, which is the targets.
    kept = [layers[0], *layers[-2:]] if len(layers) >= _MANY_LAYERS else []
    whole = RangeEstimatorParametersSet.MINMAX
    try:
        model: Any = nncf.quantize(
            network,
            data,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(inputs),
            ignored_scope=nncf.IgnoredScope(names=kept, types=["Add", "Resize"], validate=False),
            advanced_parameters=AdvancedQuantizationParameters(activations_range_estimator_params=whole),
        )
    except Exception as error:  # NNCF's errors have no common base
        reason = one_line(error)
        raise ModelFileError(f"{source}: cannot be quantised: {reason}") from None
    if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise ModelFileError(f"{source}: not written as int8: nothing in it can be quantised")
    unsigned(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def measure(float32: Backend, int8: Backend, held: Sequence[Sample]) -> Measured:
    """F1 of a model and of its int8 version on the same frames, each at its threshold."""
    one, other = Detector(float32), Detector(int8)
    found, targets = np.zeros((2, 2)), 0
    for sample in held:
        truth = sample.read_points().astype(np.float64)
        targets += len(truth)
        picture = sample.read_picture()
        for row, detector in enumerate((one, other)):
            detections = detector(picture.pixels, picture.valid)
            match = match_points(detections.xy, detections.scores, truth)
            found[row] += len(truth) - len(match.missed), len(match.false)
    hits, false = found.T
    f1 = 2 * hits / np.maximum(hits + false + targets, 1)
    return Measured(len(held), targets, float(f1[0]), float(f1[1]))
