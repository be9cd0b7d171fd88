"""`Network`: what every network states about itself, for training, export and detection."""

from __future__ import annotations

from typing import Literal

from torch import nn


class Network(nn.Module):
    """A module that maps standardised frames (N, `channels`, H, W) to maps (N, 1, H / stride, W / stride).

    A subclass sets what differs from the values here; the fields are those of `ModelMeta`.
    """

    channels: int = 1
    stride: int = 1
    multiple: int = 32  # H and W must be multiples of this
    kind: Literal["response", "probability"] = "response"
    activation: Literal["none", "sigmoid"] = "none"  # what the output still needs
    receptive_radius: int = 64  # input pixels around a target that its response depends on
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
