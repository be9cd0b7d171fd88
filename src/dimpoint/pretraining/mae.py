"""A masked autoencoder around transformers' own DINOv2 class (He et al., arXiv 2111.06377), and its crops.

[known, section 3] 75 % of the patches are dropped before the encoder sees any, a light decoder puts one
learned token in each gap, positions are fixed sines and cosines, and the loss is the squared error of the
dropped patches' pixels, each patch standardised by itself. [own] the decoder's width and depth, and a floor
under a patch's deviation: a patch of empty sky holds only noise, which would otherwise be scaled up to the
level of a target. Crop number i is a function of seed and i alone.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import Dinov2Config, Dinov2Model

from dimpoint.datasets.dataset import Sample, hash_array, open_dataset, training_split
from dimpoint.errors import DataError
from dimpoint.model.intensity import IntensityRule

_MEMORY_BYTES = 4 << 30  # frames beyond this are read from disk each time
_CONTRAST, _OFFSET = 0.4, 0.2  # counts times exp(u) plus v, u and v uniform within +- these [own]
DROPPED = 0.75
_DECODER_LAYERS = 2
_NOISE = 0.02  # network range; least deviation by which a patch is divided


@dataclass(frozen=True)
class _Frame:
    sample: Sample
    limits: tuple[float, float]
    kept: npt.NDArray[Any] | None = field(repr=False)

    def counts(self) -> npt.NDArray[Any]:
        return self.sample.read_frame() if self.kept is None else self.kept


class Crops:
    """The training frames of data sets: those of a set's `train` split, or all of a set without one.

    `hashes` and `counts` are by the set's name: of the frames' contents, and how many. `mean`, `std`: of
    all frames in network range, each frame with equal weight.
    """

    def __init__(self, roots: Sequence[Path], intensity: IntensityRule, size: int, seed: int) -> None:
        """size: side of the crops. Raises DataError or FrameError for data that cannot be read."""
        self.intensity, self.size, self.seed = intensity, size, seed
        self.hashes: dict[str, str] = {}
        self.taken: list[str] = []  # which frames of each set, and what was understood of its layout
        self.counts: dict[str, int] = {}
        self._frames: list[_Frame] = []
        self._left = _MEMORY_BYTES
        moments = [moment for root in roots for moment in self._load(root)]
        if not moments:
            raise DataError("there are no frames to learn from; give --data")
        mean, square = np.mean(moments, axis=0)
        self.mean = float(mean)
        # A floor, so that constant frames do not divide by nothing.
        self.std = max(math.sqrt(max(0.0, square - mean**2)), 1e-3)

    def __len__(self) -> int:
        return len(self._frames)

    def batch(self, first: int, count: int, patches: int, kept: int) -> tuple[Tensor, Tensor]:
        """Crops number `first` to `first + count - 1`: (count, 1, size, size) float32 in network range.

        With them (count, kept) int64: which of a crop's `patches` are kept, drawn anew for each crop.
        """
        generators = [np.random.default_rng((self.seed, first + number)) for number in range(count)]
        frames = np.stack([self._crop(rng) for rng in generators])
        numbers = np.stack([rng.permutation(patches)[:kept] for rng in generators])
        return torch.from_numpy(frames)[:, None], torch.from_numpy(numbers)

    def _load(self, root: Path) -> list[tuple[float, float]]:
        """Read a set's frames; the mean and mean square of each."""
        part = open_dataset(root, training_split(root))
        self.taken += [part.taken, *part.layout_notes]
        if part.name in self.hashes:
            raise DataError(f"{root}: there is another data set of the name '{part.name}'")
        digest = hashlib.sha256()
        moments = []
        for sample in part:
            counts = sample.read_frame()
            digest.update(hash_array(counts).encode())
            limits = self.intensity.limits(counts)
            pixels = self.intensity.apply(counts, limits).astype(np.float64)
            moments.append((float(pixels.mean()), float(np.square(pixels).mean())))
            self._left -= counts.nbytes
            self._frames.append(_Frame(sample, limits, counts if self._left >= 0 else None))
        self.hashes[part.name], self.counts[part.name] = digest.hexdigest(), len(part)
        return moments

    def _crop(self, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """A square of a frame, flipped, turned by quarters, with another contrast and offset."""
        frame = self._frames[rng.integers(len(self._frames))]
        counts = frame.counts()
        rows, columns = (
            slice(start := int(rng.integers(max(1, side - self.size + 1))), start + self.size)
            for side in counts.shape
        )
        pixels = self.intensity.apply(counts[rows, columns], frame.limits)
        if min(pixels.shape) < self.size:  # a frame smaller than the crop: its mirror image goes on
            pixels = np.pad(pixels, [(0, self.size - side) for side in pixels.shape], mode="reflect")
        pixels = np.rot90(pixels, int(rng.integers(4)))
        if rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        factor, offset = math.exp(rng.uniform(-_CONTRAST, _CONTRAST)), rng.uniform(-_OFFSET, _OFFSET)
        changed: npt.NDArray[np.float32] = pixels * np.float32(factor) + np.float32(offset)
        return changed


class MaskedAutoencoder(nn.Module):
    """`encoder` is the result; the decoder is used in training only."""

    def __init__(self, size: int, patch: int, hidden: int, layers: int, heads: int) -> None:
        """size: of the training crops, a multiple of `patch`. hidden: a multiple of 8 and of 2 * heads."""
        super().__init__()
        config = Dinov2Config(
            image_size=size,
            patch_size=patch,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            use_mask_token=False,
        )
        self.encoder = Dinov2Model(config)
        side, narrow = size // patch, hidden // 2
        self.patch = patch
        self.patches = side * side
        positions = self.encoder.embeddings.position_embeddings
        positions.data = torch.cat((torch.zeros(1, hidden), sines(side, hidden)))[None]
        positions.requires_grad_(False)
        self.narrow = nn.Linear(hidden, narrow)
        self.gap = nn.Parameter(torch.zeros(1, 1, narrow))
        self.positions: Tensor
        self.register_buffer("positions", sines(side, narrow)[None])
        self.decoder = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    narrow,
                    heads,
                    4 * narrow,
                    dropout=0.0,
                    activation="gelu",
                    batch_first=True,
                    norm_first=True,
                )
                for _ in range(_DECODER_LAYERS)
            ),
            nn.LayerNorm(narrow),
            nn.Linear(narrow, patch * patch),
        )
        nn.init.trunc_normal_(self.gap, std=0.02)

    def forward(self, pixels: Tensor, frames: Tensor, kept: Tensor) -> Tensor:
        """The mean loss over the patches that were dropped.

        pixels: (N, C, size, size), standardised. frames: (N, 1, size, size), the same in network range.
        kept: (N, K) int64, the numbers of the patches that the encoder sees, row by row.
        """
        rebuilt = self.decode(self.encode(pixels, kept), kept).float()
        error = (rebuilt - standardised_patches(frames, self.patch)).square().mean(dim=2)
        dropped = torch.ones_like(error).scatter_(1, kept, 0.0)
        return (error * dropped).sum() / dropped.sum()

    def encode(self, pixels: Tensor, kept: Tensor) -> Tensor:
        """(N, 1 + K, hidden): the class token and the kept patches after the last layer's norm."""
        embeddings = self.encoder.embeddings
        positions = embeddings.position_embeddings
        tokens = embeddings.patch_embeddings(pixels) + positions[:, 1:]
        tokens = tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[2]))
        first = (embeddings.cls_token + positions[:, :1]).expand(len(tokens), -1, -1)
        out = self.encoder.encoder(torch.cat((first.to(tokens.dtype), tokens), dim=1))
        normalised: Tensor = self.encoder.layernorm(out.last_hidden_state)
        return normalised

    def decode(self, tokens: Tensor, kept: Tensor) -> Tensor:
        """(N, patches, patch * patch): every patch's standardised pixels as the decoder sees them."""
        tokens = self.narrow(tokens)
        where = kept[..., None].expand(-1, -1, tokens.shape[2])
        gaps = self.gap.to(tokens.dtype).expand(len(tokens), self.patches, -1)
        patches = gaps.scatter(1, where, tokens[:, 1:]) + self.positions
        everything = torch.cat((tokens[:, :1].to(patches.dtype), patches), dim=1)
        rebuilt: Tensor = self.decoder(everything)
        return rebuilt[:, 1:]


def sines(side: int, channels: int) -> Tensor:
    """(side * side, channels): fixed positions of a grid's cells, a half of the channels for each axis.

    Sines and cosines of wavelengths from 2 pi to 20,000 pi cells (arXiv 1706.03762, section 3.5).
    """
    rates = 10_000.0 ** -(torch.arange(channels // 4) / (channels // 4))
    angles = torch.arange(side)[:, None] * rates
    axis = torch.cat((angles.sin(), angles.cos()), dim=1)
    rows = axis[:, None].expand(side, side, -1)
    columns = axis[None].expand(side, side, -1)
    return torch.cat((rows, columns), dim=2).reshape(side * side, -1)


def standardised_patches(frames: Tensor, patch: int) -> Tensor:
    """(N, 1, H, W) -> (N, patches, patch * patch), each with mean 0 and deviation 1, or less where flat."""
    count, _, height, width = frames.shape
    grid = frames.reshape(count, height // patch, patch, width // patch, patch).transpose(2, 3)
    patches = grid.reshape(count, -1, patch * patch)
    centred = patches - patches.mean(dim=2, keepdim=True)
    deviation = centred.square().mean(dim=2, keepdim=True).sqrt()
    return centred / deviation.clamp_min(_NOISE)
