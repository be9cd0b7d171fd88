"""Hugging Face backbones from a local folder or the hub, with errors that say what would be right."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from dimpoint.errors import ConfigError, MissingExtraError

try:
    from huggingface_hub.errors import StrictDataclassError
    from transformers import MODEL_FOR_BACKBONE_MAPPING, AutoConfig, ImageProcessingMixin
    from transformers.utils import logging as hub_logging
except ModuleNotFoundError as error:
    if error.name not in ("huggingface_hub", "transformers"):
        raise
    raise MissingExtraError("a foundation encoder", "transformers", "foundation") from None

# What transformers raises for content that is no model of its kind.
_BAD = (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError, StrictDataclassError)


def load_backbone(source: str, taps: Sequence[int] | int, randomise: int | None) -> tuple[nn.Module, Any]:
    """A backbone that gives the features of `taps`, and its configuration.

    source: a folder as `save_pretrained` writes it, or a hub id, looked for in the local cache first.
    taps: see `choose_taps`. randomise: a seed for fresh weights; only the configuration is read then.
    torch's random state is left as it was. Raises ConfigError for anything that is no backbone.
    """
    config = _from_source(source, AutoConfig.from_pretrained, trust_remote_code=False)
    if type(config) not in MODEL_FOR_BACKBONE_MAPPING or len(getattr(config, "stage_names", [])) < 2:
        raise ConfigError(
            f"{source}: a '{config.model_type}' model is no image backbone; "
            "take DINOv2, DINOv3 or another that transformers' AutoBackbone knows"
        )
    config.out_indices = choose_taps(taps, len(config.stage_names) - 1)
    kind: Any = MODEL_FOR_BACKBONE_MAPPING[type(config)]
    with torch.random.fork_rng(devices=[]):
        if randomise is None:
            return _with_weights(source, kind, config), config
        torch.manual_seed(randomise)
        return kind(config), config


def choose_taps(taps: Sequence[int] | int, layers: int) -> list[int]:
    """The numbers of the layers (of stages, in a ConvNeXt) whose outputs are read, 1 to `layers`.

    A number of taps is spread evenly and ends with the last layer: 4 of 12 are 3, 6, 9 and 12 (our choice;
    the paper does not say which). A sequence is taken as it is. Raises ConfigError if it does not fit.
    """
    if isinstance(taps, int):
        if not 1 <= taps <= layers:
            raise ConfigError(f"taps: {taps} of {layers} layers; take 1 to {layers}")
        return [math.ceil(layers * number / taps) for number in range(1, taps + 1)]
    chosen = list(taps)
    if not chosen or chosen != sorted(set(chosen)) or not 1 <= chosen[0] <= chosen[-1] <= layers:
        raise ConfigError(
            f"taps: {chosen}; give layer numbers from 1 to {layers}, each once, in rising order"
        )
    return chosen


def recorded_statistics(source: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """The mean and deviation of `source`'s preprocessor_config.json; None if there is no such record."""
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
        raise ConfigError(f"{source}: image_mean and image_std of its preprocessor are no numbers") from None


def _from_source(source: str, read: Any, **options: Any) -> Any:
    """Read from a folder, or for a hub id from the local cache, else from the hub."""
    folder = Path(source)
    if folder.is_dir():
        return _attempt(source, read, local_files_only=True, **options)
    if folder.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1 or folder.exists():
        raise ConfigError(f"{source}: no such folder; give a folder that save_pretrained wrote, or a hub id")
    try:
        return _attempt(source, read, local_files_only=True, **options)
    except ConfigError:
        return _attempt(source, read, **options)


def _attempt(source: str, read: Any, **options: Any) -> Any:
    try:
        with quiet():
            return read(source, **options)
    except _BAD as error:
        reason = " ".join(str(error).split())
    if Path(source).is_dir():
        what = "no model folder" if not (Path(source) / "config.json").is_file() else "no readable model"
        raise ConfigError(f"{source}: {what} as save_pretrained writes it: {reason}")
    gated = " (its licence must be accepted on its hub page first)" if "dinov3" in source.lower() else ""
    raise ConfigError(
        f"{source}: no such folder, and as a hub id neither in the local cache nor to be had from the hub"
        f"{gated}; fetch it where there is a network with `hf download {source} --local-dir FOLDER` and give "
        f"that folder. Reason: {reason}"
    )


def _with_weights(source: str, kind: Any, config: Any) -> nn.Module:
    """The backbone with the weights of `source`, every one of them."""
    backbone, report = _from_source(
        source,
        kind.from_pretrained,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        output_loading_info=True,
    )
    # A mask token serves training alone, and some published files leave it out.
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
    """Silence the library's bars and reports: what is wrong is said in our errors."""
    verbosity, bars = hub_logging.get_verbosity(), hub_logging.is_progress_bar_enabled()
    hub_logging.set_verbosity(logging.ERROR)
    hub_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        hub_logging.set_verbosity(verbosity)
        if bars:
            hub_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
