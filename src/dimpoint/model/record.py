"""The record of a model file: the same in ONNX (`metadata_props`) and in safetensors."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dimpoint import limits
from dimpoint.errors import ConfigError, ModelFileError
from dimpoint.model.input_rule import InputRule, under_input

METADATA_KEY = "dimpoint"
WHOLE_KEY = "dimpoint-whole"  # metadata key of files written by `dimpoint export --whole`
HASH_DIGITS = 12  # digits of a frame's sha256 in `training_frames`
# 2: magnify_below, replace_hot_pixels; 3: native_share; 4: parent, decode.calibration; 5: input, frames
FORMAT_VERSION = 5

MOST_SIGMA = 16.0  # map pixels, of `score_sigma`: larger neighbourhoods of many peaks take gigabytes
MOST_MULTIPLE = 1024  # input pixels, that padded sides are multiples of


class DecodeRule(BaseModel):
    """How a response or probability map is decoded into detections; see `dimpoint.inference.decode`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["peaks", "published", "components"] = Field(
        "peaks",
        description="`peaks`: ours for response maps; `published`: SPIRE's rule; `components`: for masks",
    )
    threshold: float = Field(0.35, ge=0, le=1, description="detections have a response above this")
    min_distance: float = Field(
        2.0, gt=0, description="`peaks`: least distance between detections, map pixels"
    )
    score_sigma: float | None = Field(
        None,
        gt=0,
        le=MOST_SIGMA,
        description="`peaks`: sigma of the Gaussian mean that is the score; none: the height is",
    )
    response_sigma: float = Field(
        1.25,
        gt=0,
        le=MOST_SIGMA,
        description="`peaks`: sigma of a response whose score by `score_sigma` is 1, map pixels",
    )
    calibration: tuple[tuple[float, float], ...] | None = Field(
        None,
        description="`peaks`: knots (score before, score after) of a piecewise linear, increasing map of "
        "scores; none: scores are not changed. `threshold` applies to calibrated scores",
    )
    max_targets: int | None = Field(None, ge=1, description="most detections of a frame; none: no limit")
    max_height_gap: float | None = Field(
        None,
        ge=0,
        le=1,
        description="`published`: largest difference from each kept peak, as a fraction of the larger",
    )

    @model_validator(mode="after")
    def _rises(self) -> DecodeRule:
        if self.calibration is not None:
            before, after = zip(*self.calibration, strict=True) if self.calibration else ((), ())
            if len(before) < 2 or not all(_is_rising(values) for values in (before, after)):
                raise ValueError("calibration: needs two or more knots in 0..1 that increase in both scores")
            if self.kind != "peaks":
                raise ValueError("calibration: only for kind 'peaks'")
        return self

    def uncalibrated(self) -> DecodeRule:
        """The same detections, with the network's own scores and the threshold on their scale."""
        if self.calibration is None:
            return self
        before, after = zip(*self.calibration, strict=True)
        threshold = float(np.interp(self.threshold, after, before))
        return self.model_copy(update={"calibration": None, "threshold": threshold})

    def calibrated(self, scores: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Scores of the network's own scale on the scale of this rule."""
        values = np.asarray(scores, np.float64)
        if self.calibration is None:
            return values
        before, after = zip(*self.calibration, strict=True)
        return np.asarray(np.interp(values, before, after), np.float64)

    def at(self, threshold: float) -> DecodeRule:
        """The same rule with another threshold. Raises ConfigError unless it lies in 0..1."""
        try:
            return DecodeRule.model_validate({**self.model_dump(), "threshold": threshold})
        except ValidationError:
            raise ConfigError(f"threshold must lie in 0..1, got {threshold}") from None


def _is_rising(values: Sequence[float]) -> bool:
    inside = all(0 <= value <= 1 for value in values)  # false for NaN, too
    return inside and all(a < b for a, b in itertools.pairwise(values))


class ModelMeta(BaseModel):
    """The record that every model file contains.

    The network sees frames as `input` says, repeated to `channels` and standardised by `mean` and `std` (both
    are inside the ONNX graph). Its output is a map at 1/`stride` of that input: logits if `activation` is
    `sigmoid`, else responses. With a native share, a magnified frame is also processed at its own scale, and
    the two responses are averaged.
    """

    model_config = ConfigDict(extra="forbid")

    format_version: int = FORMAT_VERSION
    package_version: str = ""
    name: str
    parent: str | None = Field(None, description="the model that training started from")
    network: str
    options: dict[str, Any] = Field(default_factory=dict, description="the network's constructor arguments")
    kind: Literal["response", "probability"] = "response"
    activation: Literal["none", "sigmoid"] = "none"
    channels: int = Field(1, ge=1)
    mean: list[float] = Field(default_factory=lambda: [0.0])
    std: list[float] = Field(default_factory=lambda: [1.0])
    input: InputRule = Field(default_factory=InputRule)
    stride: int = Field(4, ge=1)
    multiple: int = Field(32, ge=1, description="padded height and width are multiples of this")
    receptive_radius: int = Field(ge=0, description="tiles overlap by at least this, input pixels")
    decode: DecodeRule = Field(default_factory=lambda: DecodeRule())
    parameters: int | None = Field(None, ge=0, description="number of trainable parameters")
    training_data: list[str] = Field(default_factory=list)
    training_frames: list[str] = Field(
        default_factory=list, description="first digits of the sha256 of each training frame"
    )
    recipe: dict[str, Any] = Field(default_factory=dict)
    scores: dict[str, Any] = Field(default_factory=dict)
    licence: str = "Apache-2.0"
    date: str = ""

    def to_json(self) -> str:
        return self.model_dump_json()


def parse_meta(text: str | None, file: str) -> ModelMeta:
    """Parse the record of a model file.

    Parameters
    ----------
    text : str or None
        JSON; None if the file has no record.
    file : str
        Name of the file in errors.

    Returns
    -------
    ModelMeta

    Raises
    ------
    ModelFileError
        If there is no record, it is damaged, or its format is newer than this version.
    """
    if not text:
        raise ModelFileError(f"{file}: not a dimpoint model (no '{METADATA_KEY}' metadata)")
    version = _format_version(text)
    if version is not None and version > FORMAT_VERSION:
        raise ModelFileError(
            f"{file}: model format {version} is newer than this dimpoint reads ({FORMAT_VERSION}); "
            "upgrade with: pip install -U dimpoint"
        )
    _check_sizes(text, file)
    try:
        meta = ModelMeta.model_validate_json(_upgraded(text, version))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        place = f" at '{where}'" if where else ""
        said = first["msg"].removeprefix("Value error, ")
        raise ModelFileError(f"{file}: damaged model metadata{place}: {said}") from None
    if not len(meta.mean) == len(meta.std) == meta.channels:
        raise ModelFileError(
            f"{file}: damaged model metadata: mean and std need a value for each of {meta.channels} "
            f"channels, got {len(meta.mean)} and {len(meta.std)}"
        )
    unit = math.lcm(meta.multiple, meta.stride)
    if unit > MOST_MULTIPLE:
        raise ModelFileError(
            f"{file}: damaged model metadata: padded sides are multiples of 'multiple' and 'stride', "
            f"{unit:,}; at most {MOST_MULTIPLE:,}"
        )
    return meta


_SIZES = ("options", "channels", "stride", "multiple", "receptive_radius", "input_scale")


def _check_sizes(text: str, file: str) -> None:
    """Refuse numbers that would make a network, a border or a tile of absurd size."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return  # the error is raised when it is parsed
    if isinstance(record, dict):
        sizes = {key: record[key] for key in _SIZES if key in record}
        limits.check_numbers(sizes, f"{file}: model metadata", ModelFileError)


def _format_version(text: str) -> int | None:
    try:
        version = json.loads(text).get("format_version")
    except (ValueError, AttributeError, RecursionError):
        return None
    return version if isinstance(version, int) else None


def _upgraded(text: str, version: int | None) -> str:
    """A record of a format before 5 in the present format."""
    if version is None or version >= 5:
        return text
    return json.dumps({**under_input(json.loads(text)), "format_version": FORMAT_VERSION})
