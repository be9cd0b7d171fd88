"""Base classes of all networks, and counts of parameters and multiply-adds."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dimpoint.errors import ConfigError

_CHECKED = 32  # pixels, least side of the frame on which a network is tried


class Network(nn.Module):
    """Maps standardised frames (N, `channels`, H, W) to maps (N, 1, H / stride, W / stride).

    A subclass overrides the class attributes that differ; they are fields of `ModelMeta`.

    Attributes
    ----------
    channels : int
        Input channels. Default: 1.
    stride : int
        Input pixels per map pixel. Default: 1.
    multiple : int
        H and W must be multiples of this. Default: 32.
    kind : {"response", "probability"}
        What the map holds. Default: `response`.
    activation : {"none", "sigmoid"}
        Activation that is still to be applied to the output. Default: `none`.
    receptive_radius : int
        Input pixels around a position that its response depends on. Default: 64.
    mean, std : tuple of float
        Of each input channel, in network range. Default: 0 and 1.
    """

    channels: int = 1
    stride: int = 1
    multiple: int = 32
    kind: Literal["response", "probability"] = "response"
    activation: Literal["none", "sigmoid"] = "none"
    receptive_radius: int = 64
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


class HostNetwork(Network):
    """A segmentation network in two halves: frames -> features -> logits at the frame's resolution.

    A subclass sets `multiple`, `deepest_channels` and `deepest_stride`, implements `encode` and `decode`, and
    has a module `head`, whose last convolution gives the logits and has a bias (or its own `heads`). The
    decoder sees the frame through the features alone, so that the last of them can be replaced by a tensor of
    equal shape (FDEP, arXiv 2512.05511).

    Parameters
    ----------
    channels : int
        Number of input channels; the grey frame is repeated. Default: 1.

    Attributes
    ----------
    deepest_channels, deepest_stride : int
        Channels of the last feature, and input pixels for each of its pixels.

    Raises
    ------
    ValueError
        If `channels` is below 1.
    """

    kind = "probability"
    activation = "sigmoid"
    stride = 1
    head: nn.Module
    deepest_channels: int
    deepest_stride: int

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}")
        self.channels = channels
        self.mean = self.mean * channels
        self.std = self.std * channels

    def encode(self, x: Tensor) -> list[Tensor]:
        """(N, channels, H, W), H and W multiples of `multiple` -> features, from shallow to deep."""
        raise NotImplementedError

    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features of `encode` -> logits (N, 1, H, W), finest first; several for deep supervision."""
        raise NotImplementedError

    def heads(self) -> list[nn.Conv2d]:
        """The convolutions that output logits; by default the last one of `head`.

        Raises ConfigError if there is none.
        """
        head = getattr(self, "head", None)
        layers = [] if head is None else [layer for layer in head.modules() if isinstance(layer, nn.Conv2d)]
        if not layers:
            raise ConfigError(
                f"network {type(self).__name__}: has no module 'head' with a Conv2d that gives the logits; "
                "name it so, or return the convolutions from its own heads()"
            )
        return layers[-1:]

    def start_from(self, prior: float) -> None:
        """Set the biases of the heads so that the untrained network outputs a probability of about `prior`.

        Targets cover about a thousandth of a frame. Starting at 0.5, an optimiser needs hundreds of steps to
        learn that targets are rare (arXiv 1708.02002, section 3.3).

        Parameters
        ----------
        prior : float
            Probability, above 0 and below 1.

        Raises
        ------
        ConfigError
            If a head has no bias.
        """
        for head in self.heads():
            if head.bias is None:
                raise ConfigError(
                    f"network {type(self).__name__}: the convolution that gives the logits needs a bias, "
                    "which starts the network at the recipe's network.prior"
                )
            nn.init.constant_(head.bias, math.log(prior / (1 - prior)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) of any size -> the finest logits, (N, 1, H, W).

        Other sizes than multiples of `multiple` are padded at the right and bottom by repeating the border,
        and the output is cropped. Raises ConfigError for an empty frame.
        """
        height, width = x.shape[-2:]
        if not (height and width):
            raise ConfigError(f"a frame of {height} x {width} pixels is empty")
        below, right = -height % self.multiple, -width % self.multiple
        if below or right:
            x = F.pad(x, (0, right, 0, below), mode="replicate")
        finest = self.decode(self.encode(x))[0]
        return finest[..., :height, :width] if below or right else finest


def check_outputs(network: Network, name: str) -> None:
    """Check on one empty frame that a network gives the map that its attributes state.

    Parameters
    ----------
    network : Network
        The network, whose state is not changed.
    name : str
        Its name, for errors.

    Raises
    ------
    ConfigError
        If it cannot run, or gives something else.
    """
    unit = math.lcm(network.multiple, network.stride)
    side = unit * -(-_CHECKED // unit)
    frame = torch.zeros(1, network.channels, side, 2 * side)
    expected = (1, 1, side // network.stride, 2 * side // network.stride)
    training = network.training
    network.eval()
    try:
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):
            if isinstance(network, HostNetwork):
                outputs: Any = network.decode(network.encode(frame))
                found = outputs[0] if isinstance(outputs, list | tuple) and outputs else outputs
                bare = found is outputs  # a list is meant, also of one map
            else:
                found, bare = network(frame), False
    except Exception as error:  # the code is another's: whatever it raises is told in one line
        raise ConfigError(
            f"network '{name}' cannot run on a frame {tuple(frame.shape)}: {error!r}"
        ) from error
    finally:
        network.train(training)
    if bare or not isinstance(found, Tensor) or tuple(found.shape) != expected:
        got = tuple(found.shape) if isinstance(found, Tensor) and not bare else f"a {type(found).__name__}"
        what = "a list of logits, finest first," if isinstance(network, HostNetwork) else "a map"
        raise ConfigError(
            f"network '{name}' must give {what} of shape {expected} for a frame {tuple(frame.shape)} by its "
            f"stride {network.stride}, got {got}"
        )


def standardise(frames: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Repeat frames to several channels and standardise them.

    Parameters
    ----------
    frames : (N, 1, H, W) Tensor
        In network range.
    mean, std : sequence of float
        One value for each of C channels.

    Returns
    -------
    (N, C, H, W) Tensor
        (frames - mean) / std.
    """
    shape = (1, len(mean), 1, 1)
    centre = torch.tensor(mean, dtype=frames.dtype, device=frames.device).view(shape)
    spread = torch.tensor(std, dtype=frames.dtype, device=frames.device).view(shape)
    return (frames - centre) / spread


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters; buffers such as running means do not count."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(network: Network, height: int, width: int) -> int:
    """Multiply-adds of all convolutions for one frame.

    As usual, norms, pooling, resizing and linear layers do not count. A transposed convolution is counted at
    its input. A copy of the network runs on PyTorch's meta device, which computes shapes only.

    Parameters
    ----------
    network : Network
        The network.
    height, width : int
        Size of the frame, pixels.

    Returns
    -------
    int
    """
    macs = 0

    def add(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        nonlocal macs
        assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
        # Each weight is used once at each position of the output (transposed: of the input).
        positions = output if isinstance(layer, nn.Conv2d) else inputs[0]
        macs += layer.weight.numel() * positions.shape[-2] * positions.shape[-1]

    shadow = copy.deepcopy(network).to("meta").eval()
    for layer in shadow.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(add)
        elif isinstance(layer, nn.BatchNorm2d | nn.GroupNorm):
            # A norm keeps the shape, and would take most of the time on the meta device.
            layer.forward = _same  # type: ignore[assignment]
    with torch.inference_mode():
        shadow(torch.zeros(1, network.channels, height, width, device="meta"))
    return macs


def _same(x: Tensor) -> Tensor:
    return x
