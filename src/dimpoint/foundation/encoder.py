"""The frozen foundation encoder: frames -> token grids of several layers, never trained, never saved.

[known] a frozen transformer of the DINO family with four taps. [own] which taps, the statistics, the
magnification and the input's size: none of them is published.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from dimpoint.errors import ConfigError
from dimpoint.foundation.loading import load_backbone, recorded_statistics
from dimpoint.networks.standardise import standardise

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_DINOV3 = (
    "DINOv3 weights are under Meta's DINOv3 License, not an open-source one; read it before use: "
    "https://ai.meta.com/resources/models-and-libraries/dinov3-license/"
)
_NO_FEATURES = ("transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype")
_log = logging.getLogger("dimpoint")


class FoundationEncoder:
    """Any Hugging Face image backbone, frozen (FDEP, arXiv 2512.05511).

    It is no `nn.Module`: a module that holds it does not register it, so that it gets into no checkpoint,
    no optimiser and no export, and nobody's train() reaches it. It computes where its input lies.

    - `channels`: of the token grids, one number a tap.
    - `taps`: the layers that are read, counted from 1.
    - `patch`: pixels to whose multiple the input is resized.
    - `key`: a hash of the weights and of every setting that changes the features.
    - `licence_notice`: what a user must be told of the weights' licence, or None. Logged when loaded.
    """

    def __init__(
        self,
        source: str,
        *,
        taps: Sequence[int] | int = 4,
        magnification: float = 1.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        randomise: int | None = None,
    ) -> None:
        """source: a folder as `save_pretrained` writes it, or a hub id.

        taps: how many, evenly spaced with the last layer among them, or which layers, counted from 1.
        magnification: of the frame before the encoder sees it. mean, std: of each input channel, in
        network range; default: the source's own preprocessor record, else ImageNet's. randomise: a seed;
        the same architecture with fresh weights, for the control experiment. Raises ConfigError.
        """
        if not (math.isfinite(magnification) and magnification > 0):
            raise ConfigError(f"the encoder's magnification must be above 0, got {magnification}")
        backbone, config = load_backbone(source, taps, randomise)
        self._backbone = backbone.float().eval().requires_grad_(False)
        self._settings = {name: value for name, value in config.to_dict().items() if name not in _NO_FEATURES}
        self.source = source
        self.magnification = magnification
        self.taps: tuple[int, ...] = tuple(config.out_indices)
        self.channels: tuple[int, ...] = tuple(backbone.channels)  # type: ignore[arg-type]
        self.patch = _patch(config)
        self.mean, self.std = _statistics(source, mean, std, config.num_channels)
        published = config.model_type.startswith("dinov3") and randomise is None
        self.licence_notice = f"{source}: {_DINOV3}" if published else None
        if self.licence_notice:
            _log.warning(self.licence_notice)

    @torch.no_grad()
    def __call__(self, frames: Tensor) -> tuple[Tensor, ...]:
        """(N, 1, H, W) in network range -> a grid (N, D_t, h_t, w_t) float32 for each tap, without gradients.

        The frame is repeated to the backbone's channels, standardised, and resized to the nearest multiple
        of `patch` in each direction. Class and register tokens are dropped. Raises ConfigError for another
        shape.
        """
        if frames.ndim != 4 or frames.shape[1] != 1 or not frames.numel():
            raise ConfigError(f"the encoder takes frames (N, 1, H, W), got {tuple(frames.shape)}")
        pixels = standardise(frames.float(), self.mean, self.std)
        size = self.input_size(frames.shape[-2], frames.shape[-1])
        if size != tuple(frames.shape[-2:]):
            pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
        backbone = self._backbone.to(frames.device)
        if backbone.training:
            backbone.eval()
        return tuple(grid.float() for grid in backbone(pixel_values=pixels).feature_maps)

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that a frame is resized to: magnified, then the nearest multiple of `patch`."""
        rows, columns = (
            max(1, round(side * self.magnification / self.patch)) * self.patch for side in (height, width)
        )
        return rows, columns

    @cached_property
    def key(self) -> str:
        """SHA-256, in hexadecimal, of weights and settings: equal keys, equal features but for rounding."""
        settings = {
            "config": self._settings,
            "taps": self.taps,
            "magnification": self.magnification,
            "mean": self.mean,
            "std": self.std,
        }
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
        for name, value in sorted(self._backbone.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.cpu().numpy().tobytes())
        return digest.hexdigest()

    def __deepcopy__(self, memo: dict[int, Any]) -> FoundationEncoder:
        """Itself: it never changes, and averaged copies of a training module must not double its memory."""
        return self


def _patch(config: Any) -> int:
    """Input pixels that the coarsest grid's cells measure: the patch, or a hierarchical backbone's stride."""
    patch = getattr(config, "patch_size", 4)  # ConvNeXt: the stem has stride 4
    sides = set(patch) if isinstance(patch, list | tuple) else {patch}
    if len(sides) > 1:
        raise ConfigError(f"a backbone with patches of {patch} pixels, which are no squares, does not serve")
    halvings = max(0, len(getattr(config, "depths", None) or ()) - 1)
    return int(sides.pop()) << halvings


def _statistics(
    source: str, mean: Sequence[float] | None, std: Sequence[float] | None, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    known = recorded_statistics(source) if mean is None or std is None else None
    default_mean, default_std = known or (IMAGENET_MEAN, IMAGENET_STD)
    centre = tuple(default_mean if mean is None else mean)
    spread = tuple(default_std if std is None else std)
    if len(centre) != channels or len(spread) != channels:
        raise ConfigError(
            f"{source}: the backbone takes {channels} channels, but mean has {len(centre)} values and std "
            f"{len(spread)}; give one for each channel"
        )
    if not all(math.isfinite(value) for value in centre + spread) or min(spread) <= 0:
        raise ConfigError(f"{source}: mean must be finite and std above 0, got {centre} and {spread}")
    return centre, spread
