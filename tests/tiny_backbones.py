"""Tiny backbones of the real Hugging Face classes, with random weights, saved as folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ConvNextConfig,
    DINOv3ConvNextModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
)

from dimpoint.fdep.encoder import quiet

LAYERS = 4
VIT: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "initializer_range": 0.2,  # so that weights matter beside the residual connections
}
PATCH = {"dinov2": 7, "dinov2-registers": 7, "dinov3-vit": 8, "dinov3-convnext": 32}
CHANNELS = dict.fromkeys(PATCH, (16,) * 4) | {"dinov3-convnext": (8, 8, 16, 24)}


def backbone(name: str, seed: int = 0, **changes: Any) -> Any:
    """A model of one of the names in `PATCH`, in eval mode; `changes` are for `dinov2`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if name == "dinov2":
            model: Any = Dinov2Model(
                Dinov2Config(image_size=28, patch_size=7, mlp_ratio=2, **(VIT | changes))
            )
        elif name == "dinov2-registers":
            config = Dinov2WithRegistersConfig(
                image_size=28, patch_size=7, mlp_ratio=2, num_register_tokens=3, **VIT
            )
            model = Dinov2WithRegistersModel(config)
        elif name == "dinov3-vit":
            model = DINOv3ViTModel(
                DINOv3ViTConfig(
                    image_size=32, patch_size=8, intermediate_size=32, num_register_tokens=3, **VIT
                )
            )
        else:
            model = DINOv3ConvNextModel(
                DINOv3ConvNextConfig(
                    hidden_sizes=[8, 8, 16, 24], depths=[1, 1, 1, 1], layer_scale_init_value=1.0
                )
            )
    return model.eval()


def saved(folder: Path, name: str = "dinov2", seed: int = 0, **changes: Any) -> str:
    """The folder, with such a model in it."""
    with quiet():
        backbone(name, seed, **changes).save_pretrained(folder)
    return str(folder)
