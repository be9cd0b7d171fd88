"""Checkpoints published by authors: renaming of their tensors, and how they expect frames."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from dimpoint.errors import ConfigError
from dimpoint.model.input_rule import InputRule
from dimpoint.model.intensity import IntensityRule
from dimpoint.model.record import DecodeRule


@dataclass(frozen=True)
class Source:
    """One kind of published checkpoint.

    Parameters
    ----------
    state : str
        Key of the weights in the checkpoint.
    renames : tuple of (str, str)
        Patterns and replacements, applied in order to each tensor's name.
    meta : mapping
        Fields of the record that the network does not determine itself.
    unused : str, optional
        Pattern of the names of tensors that the authors' network never uses.
    sizes : mapping
        Width and height that frames are fitted into, for weights known by their `fingerprint`. Default: none.
    """

    state: str
    renames: tuple[tuple[str, str], ...]
    meta: Mapping[str, Any]
    unused: str | None = None
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def rename(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The used tensors under our names; a name without a pattern is kept."""
        return {self._rename(name): tensor for name, tensor in tensors.items() if not self._is_unused(name)}

    def _is_unused(self, name: str) -> bool:
        return self.unused is not None and re.search(self.unused, name) is not None

    def _rename(self, name: str) -> str:
        for pattern, replacement in self.renames:
            name = re.sub(pattern, replacement, name)
        return name


# ShuffleUnit: the authors' flat list of layers is our three conv_norm pairs.
_SHUFFLE_LAYERS = {0: "0.0", 1: "0.1", 3: "1.0", 4: "1.1", 5: "2.0", 6: "2.1"}

_SPIRE = Source(
    state="model",
    renames=(
        (r"^conv1\.", "stem.0.0."),
        (r"^bn1\.", "stem.0.1."),
        (r"^conv2\.", "stem.1.0."),
        (r"^bn2\.", "stem.1.1."),
        (r"^layer1\.0\.(conv|bn)1\.", r"layer1.0.body.0.\1."),
        (r"^layer1\.0\.(conv|bn)2\.", r"layer1.0.body.1.\1."),
        (r"^layer1\.0\.(conv|bn)3\.", r"layer1.0.body.2.\1."),
        (r"^(layer1\.0\.body\.\d)\.conv\.", r"\1.0."),
        (r"^(layer1\.0\.body\.\d)\.bn\.", r"\1.1."),
        (r"^layer1\.0\.downsample\.", "layer1.0.shortcut."),
        (r"^transition1\.0\.", "transition."),
        (r"^(stage[24])\.(?:0\.)?branches\.0\.", r"\1.blocks."),
        (r"\.depthwise_convs\.", ".depthwise.0."),
        (r"^(stage[24]\.blocks\.\d)\.bn\.", r"\1.depthwise.1."),
        (r"\.spatial_weighting\.0\.fc\.0\.", ".weighting.gate.1."),
        (r"\.spatial_weighting\.0\.fc\.2\.", ".weighting.gate.3."),
        (r"\.local_attention\.", ".refine."),
        *((rf"\.branch2\.{theirs}\.", f".body.{ours}.") for theirs, ours in _SHUFFLE_LAYERS.items()),
        (r"^final_layer\.", "head."),
    ),
    meta={
        "input": InputRule(intensity=IntensityRule(kind="dtype"), fit=(512, 512)),
        "decode": DecodeRule(kind="published", threshold=0.35, max_targets=8, max_height_gap=0.35),
        "licence": "weights by the authors of SPIRE (arXiv 2604.05363), under the authors' terms",
    },
    sizes={"7d0d998863aeda55": (512, 512), "992955f3658a59d9": (640, 640)},
)

# ACM and ALCNet as LESPS and BasicIRSTD save them. The stem is one flat list there.
_STEM_LAYERS = {0: "0", 1: "1.0", 2: "1.1", 4: "2.0", 5: "2.1", 7: "3.0", 8: "3.1"}
_ASYMBI_RENAMES = (
    *((rf"^model\.stem\.{theirs}\.", f"encoder.stem.{ours}.") for theirs, ours in _STEM_LAYERS.items()),
    (r"^model\.(layer[123]\.\d)\.", r"encoder.\1."),
    (r"^model\.", ""),
    (r"\.conv1\.", ".body.0.0."),
    (r"\.bn1\.", ".body.0.1."),
    (r"\.conv2\.", ".body.1.0."),
    (r"\.bn2\.", ".body.1.1."),
    (r"\.downsample\.", ".shortcut."),
    (r"^head\.block\.", "head."),
)
# Their networks see (count - mean) / std of 8-bit frames, with the mean and deviation of SIRST3's counts,
# padded with zeros to multiples of 32.
_SIRST3_MEAN, _SIRST3_STD = 95.010, 41.511
_ASYMBI_META = {
    "input": InputRule(intensity=IntensityRule(kind="display", low=1, high=99), padding="mean"),
    "mean": [_SIRST3_MEAN / 255],
    "std": [_SIRST3_STD / 255],
    "multiple": 32,
    "decode": DecodeRule(kind="components", threshold=0.5),
    "training_data": ["SIRST3"],
}

_LICENCE = "weights of {} by the authors of LESPS and BasicIRSTD, under the authors' terms"

_ACM = Source("state_dict", _ASYMBI_RENAMES, {**_ASYMBI_META, "licence": _LICENCE.format("ACM")})
_ALCNET = Source(
    "state_dict",
    _ASYMBI_RENAMES,
    {**_ASYMBI_META, "licence": _LICENCE.format("ALCNet")},
    unused=r"^model\.uplayer",
)

SOURCES: dict[str, Source] = {"spire": _SPIRE, "acm": _ACM, "alcnet": _ALCNET}


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """16 digits that identify weights by their names and values, independent of the file."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def source(network: str) -> Source:
    """How published checkpoints of `network` are read. Raises ConfigError if it cannot be imported."""
    if network not in SOURCES:
        raise ConfigError(f"no checkpoint of '{network}' can be imported; known: {', '.join(SOURCES)}")
    return SOURCES[network]
