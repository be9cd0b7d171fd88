"""The frozen foundation encoder of FDEP: frames -> token grids of several layers.

Known from the paper (arXiv 2512.05511): a frozen transformer of the DINO family with four taps. Own choices:
which taps, the statistics, the magnification and the input size, none of which is published.

Backbones are read from a local folder or the Hugging Face hub.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dimpoint import limits
from dimpoint.errors import ConfigError, MissingExtraError
from dimpoint.networks.base import standardise

try:
    from huggingface_hub.errors import StrictDataclassError
    from transformers import MODEL_FOR_BACKBONE_MAPPING, AutoConfig, ImageProcessingMixin
    from transformers.utils import logging as hub_logging
except ModuleNotFoundError as error:
    if error.name not in ("huggingface_hub", "transformers"):
        raise
    raise MissingExtraError("a foundation encoder", "transformers", "foundation") from None

_HUB_SECONDS = 3.0  # to connect to the hub
# What transformers raises for unreadable content.
_BAD = (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError, StrictDataclassError)


def _check_sizes(source: str) -> None:
    """Refuse the record of a local model with absurd sizes before anything is built from it."""
    record = Path(source) / "config.json"
    if not record.is_file():
        return
    try:
        content = json.loads(limits.read_bytes(record, "label_bytes", ConfigError))
    except (OSError, ValueError, RecursionError):
        return  # the error is raised when it is read
    limits.check_numbers(content, str(record), ConfigError)


def load_backbone(source: str, taps: Sequence[int] | int, randomise: int | None) -> tuple[nn.Module, Any]:
    """Load an image backbone.

    Parameters
    ----------
    source : str
        A folder written by `save_pretrained`, or a hub id, which is looked up in the local cache first.
    taps : int or sequence of int
        As in `choose_taps`.
    randomise : int or None
        Seed of random weights; only the configuration is read then. None: the source's weights.

    Returns
    -------
    backbone : nn.Module
        Returns the features of the taps. PyTorch's random state is not changed.
    config : PretrainedConfig
        Its configuration.

    Raises
    ------
    ConfigError
        If the source cannot be read or is not an image backbone.
    """
    _check_sizes(source)
    config = _from_source(source, AutoConfig.from_pretrained, trust_remote_code=False)
    if type(config) not in MODEL_FOR_BACKBONE_MAPPING or len(getattr(config, "stage_names", [])) < 2:
        raise ConfigError(
            f"{source}: a '{config.model_type}' model is not an image backbone; "
            "use DINOv2, DINOv3 or another that transformers' AutoBackbone supports"
        )
    config.out_indices = choose_taps(taps, len(config.stage_names) - 1)
    kind: Any = MODEL_FOR_BACKBONE_MAPPING[type(config)]
    with torch.random.fork_rng(devices=[]):
        if randomise is None:
            return _with_weights(source, kind, config), config
        torch.manual_seed(randomise)
        return kind(config), config


def choose_taps(taps: Sequence[int] | int, layers: int) -> list[int]:
    """Numbers of the layers (in a ConvNeXt: stages) whose outputs are read.

    Parameters
    ----------
    taps : int or sequence of int
        How many, spaced evenly up to the last layer, or which layers, counted from 1.
    layers : int
        Number of layers.

    Returns
    -------
    list of int

    Raises
    ------
    ConfigError
        If `taps` does not fit the number of layers.

    Examples
    --------
    >>> choose_taps(4, 12)
    [3, 6, 9, 12]
    """
    if isinstance(taps, int):
        if not 1 <= taps <= layers:
            raise ConfigError(f"taps: {taps} of {layers} layers; choose 1 to {layers}")
        return [math.ceil(layers * number / taps) for number in range(1, taps + 1)]
    chosen = list(taps)
    if not chosen or chosen != sorted(set(chosen)) or not 1 <= chosen[0] <= chosen[-1] <= layers:
        raise ConfigError(
            f"taps: {chosen}; give layer numbers from 1 to {layers}, each once, in ascending order"
        )
    return chosen


def recorded_statistics(source: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation in preprocessor_config.json of `source`; None if there is none."""
    try:
        record, _ = _from_source(source, ImageProcessingMixin.get_image_processor_dict)
    except ConfigError:
        if (Path(source) / "preprocessor_config.json").exists():
            raise
        return None
    if "image_mean" not in record or "image_std" not in record:
        return None
    try:
        return tuple(map(float, record["image_mean"])), tuple(map(float, record["image_std"]))
    except (TypeError, ValueError):
        raise ConfigError(f"{source}: image_mean and image_std of its preprocessor are not numbers") from None


def _from_source(source: str, read: Any, **options: Any) -> Any:
    """Read from a folder; a hub id is read from the local cache, otherwise from the hub."""
    folder = Path(source)
    if folder.is_dir():
        return _attempt(source, read, local_files_only=True, **options)
    if folder.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1 or folder.exists():
        raise ConfigError(f"{source}: no such folder; give a folder written by save_pretrained, or a hub id")
    try:
        return _attempt(source, read, local_files_only=True, **options)
    except ConfigError:
        if not _hub_answers():
            raise
        return _attempt(source, read, **options)


def _hub_answers() -> bool:
    """Whether the hub can be reached; its own client would try for half a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if any(name.upper() in ("HTTPS_PROXY", "ALL_PROXY") for name in os.environ):
        return True  # only the proxy can tell
    address = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    try:
        port = address.port or (80 if address.scheme == "http" else 443)
        socket.create_connection((address.hostname or "", port), timeout=_HUB_SECONDS).close()
    except (OSError, ValueError):
        return False
    return True


def _attempt(source: str, read: Any, **options: Any) -> Any:
    try:
        with quiet():
            return read(source, **options)
    except _BAD as error:
        reason = " ".join(str(error).split())
    if Path(source).is_dir():
        what = "not a model" if not (Path(source) / "config.json").is_file() else "not a readable model"
        raise ConfigError(f"{source}: {what} written by save_pretrained: {reason}")
    gated = " (its licence must be accepted on its hub page first)" if "dinov3" in source.lower() else ""
    raise ConfigError(
        f"{source}: no such folder, and not available as a hub id, neither in the local cache nor on the hub"
        f"{gated}; download it on a machine with a network, `hf download {source} --local-dir FOLDER`, and "
        f"give that folder. Reason: {reason}"
    )


def _with_weights(source: str, kind: Any, config: Any) -> nn.Module:
    """The backbone with all weights of `source`."""
    backbone, report = _from_source(
        source,
        kind.from_pretrained,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        output_loading_info=True,
    )
    # The mask token is used in pretraining only; some published files omit it.
    missing = sorted(name for name in report["missing_keys"] if not name.endswith("mask_token"))
    if missing:
        raise ConfigError(
            f"{source}: its weights are not those of a '{config.model_type}' backbone; "
            f"{len(missing)} are missing, e.g. {missing[0]}"
        )
    loaded: nn.Module = backbone
    return loaded


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the library's progress bars and reports."""
    verbosity, bars = hub_logging.get_verbosity(), hub_logging.is_progress_bar_enabled()
    hub_logging.set_verbosity(logging.ERROR)
    hub_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        hub_logging.set_verbosity(verbosity)
        if bars:
            hub_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_DINOV3 = (
    "DINOv3 weights are under Meta's DINOv3 License, not an open-source one; read it before use: "
    "https://ai.meta.com/resources/models-and-libraries/dinov3-license/"
)
_NO_FEATURES = ("transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype")
_log = logging.getLogger("dimpoint")


class FoundationEncoder:
    """A Hugging Face image backbone with frozen weights (FDEP, arXiv 2512.05511).

    It is not an `nn.Module`, so that it is not part of checkpoints, optimisers or exports, and `train()` does
    not affect it. It computes on the device of its input.

    Parameters
    ----------
    source : str
        A folder written by `save_pretrained`, or a hub id.
    taps : int or sequence of int
        Number of layers that are read, or their numbers; see `choose_taps`. Default: 4.
    magnification : float
        Of the frame before it is encoded. Default: 1.
    mean, std : sequence of float, optional
        Of each input channel, in network range. Default: from the source's preprocessor record, else
        ImageNet's.
    randomise : int, optional
        Seed; random weights instead of the source's, for control experiments.

    Attributes
    ----------
    channels : tuple of int
        Channels of each token grid.
    taps : tuple of int
        The layers that are read, counted from 1.
    patch : int
        Inputs are resized to multiples of this, pixels.
    key : str
        Hash of the weights and of every setting that changes the features.
    licence_notice : str or None
        Notice on the licence of the weights; logged when they are loaded.

    Raises
    ------
    ConfigError
        If the source cannot be read, or an option does not fit it.
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
        """Encode frames, (N, 1, H, W) in network range, without gradients.

        A frame is repeated to the backbone's channels, standardised, and resized to the nearest multiple of
        `patch` in each direction. Class and register tokens are dropped.

        Returns
        -------
        tuple of Tensor
            For each tap a grid (N, D_t, h_t, w_t) float32.

        Raises
        ------
        ConfigError
            For another shape.
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
        """Size (height, width) that a frame is resized to: magnified, to a multiple of `patch`."""
        rows, columns = (
            max(1, round(side * self.magnification / self.patch)) * self.patch for side in (height, width)
        )
        return rows, columns

    @cached_property
    def key(self) -> str:
        """SHA-256 of weights and settings, in hexadecimal."""
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
        """Return itself: it never changes, and copies of a module should not double its memory."""
        return self


def _patch(config: Any) -> int:
    """Side of a cell of the coarsest grid in input pixels: the patch, or a hierarchical backbone's stride."""
    patch = getattr(config, "patch_size", 4)  # ConvNeXt: the stem has stride 4
    sides = set(patch) if isinstance(patch, list | tuple) else {patch}
    if len(sides) > 1:
        raise ConfigError(f"backbones with patches that are not square are not supported: {patch} pixels")
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
