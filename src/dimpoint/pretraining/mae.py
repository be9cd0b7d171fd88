"""A masked autoencoder (He et al., arXiv 2111.06377) around transformers' DINOv2 class, and its crops.

As in the paper, section 3: 75 % of the patches are dropped before encoding, a light decoder puts one learned
token into each gap, positions are fixed sines and cosines, and the loss is the squared error of the dropped
patches' pixels, each patch standardised by itself. Our own: the decoder's width and depth, and a lower limit
of a patch's deviation: a patch of empty sky holds only noise, which would otherwise be scaled up to the level
of a target. Crop number i depends on seed and i alone.
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
from dimpoint.datasets.reading import AS_WRITTEN, Reading, reader_notes
from dimpoint.errors import DataError
from dimpoint.model.intensity import IntensityRule
from dimpoint.model.validity import filled, valid_pixels

_MEMORY_BYTES = 4 << 30  # frames beyond this are read from disk each time
_CONTRAST, _OFFSET = 0.4, 0.2  # multiply by exp(u), add v; u and v uniform in +- these
DROPPED = 0.75
_DECODER_LAYERS = 2
_NOISE = 0.02  # least deviation that a patch is divided by, network range


@dataclass(frozen=True)
class _Frame:
    sample: Sample
    limits: tuple[float, float]
    kept: npt.NDArray[Any] | None = field(repr=False)

    def counts(self) -> npt.NDArray[Any]:
        """The counts, (H, W), with invalid pixels interpolated."""
        if self.kept is not None:
            return self.kept
        counts = self.sample.read_frame()
        return filled(counts, valid_pixels(counts))


class Crops:
    """Random crops of the training frames: a set's `train` split, or all frames of a set without split lists.

    Parameters
    ----------
    roots : sequence of Path
        Data sets.
    intensity : IntensityRule
        Counts -> network range.
    size : int
        Side of the crops, pixels.
    seed : int
        Of all random choices.
    reading : Reading
        How frames and labels are read. Default: as the files say.

    Attributes
    ----------
    hashes, counts : dict
        Content hash and number of frames of each set, by name.
    mean, std : float
        Of all frames in network range, each frame with equal weight.

    Raises
    ------
    DataError, FrameError
        If the data cannot be read.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        intensity: IntensityRule,
        size: int,
        seed: int,
        reading: Reading = AS_WRITTEN,
    ) -> None:
        self.intensity, self.size, self.seed = intensity, size, seed
        self.hashes: dict[str, str] = {}
        self.taken: list[str] = []  # which frames of each set are used, and how its layout is read
        self.counts: dict[str, int] = {}
        self._frames: list[_Frame] = []
        self._left, self._reading = _MEMORY_BYTES, reading
        moments = [moment for root in roots for moment in self._load(root)]
        if not moments:
            raise DataError("no frames to train on; give --data")
        mean, square = np.mean(moments, axis=0)
        self.mean = float(mean)
        # A lower limit for constant frames.
        self.std = max(math.sqrt(max(0.0, square - mean**2)), 1e-3)

    def __len__(self) -> int:
        return len(self._frames)

    def batch(self, first: int, count: int, patches: int, kept: int) -> tuple[Tensor, Tensor]:
        """Crops number `first` to `first + count - 1`.

        Parameters
        ----------
        first, count : int
            Which crops.
        patches, kept : int
            Patches of a crop, and how many of them are kept.

        Returns
        -------
        frames : (count, 1, size, size) float32 Tensor
            In network range.
        numbers : (count, kept) int64 Tensor
            The kept patches of each crop.
        """
        generators = [np.random.default_rng((self.seed, first + number)) for number in range(count)]
        frames = np.stack([self._crop(rng) for rng in generators])
        numbers = np.stack([rng.permutation(patches)[:kept] for rng in generators])
        return torch.from_numpy(frames)[:, None], torch.from_numpy(numbers)

    def _load(self, root: Path) -> list[tuple[float, float]]:
        """Read a set's frames; return the mean and the mean square of each."""
        part = open_dataset(root, training_split(root), reading=self._reading)
        self.taken += [part.taken, *part.layout_notes]
        if part.name in self.hashes:
            raise DataError(f"{root}: another data set has the same name, '{part.name}'")
        digest = hashlib.sha256()
        moments, read = [], []
        for sample in part:
            picture = sample.read_picture()
            counts = picture.pixels
            read.append((sample.name, picture.notes))
            digest.update(hash_array(counts).encode())
            valid = valid_pixels(counts)
            counts = filled(counts, valid)
            limits = self.intensity.limits(counts, valid)
            pixels = self.intensity.apply(counts, limits).astype(np.float64)
            moments.append((float(pixels.mean()), float(np.square(pixels).mean())))
            self._left -= counts.nbytes
            self._frames.append(_Frame(sample, limits, counts if self._left >= 0 else None))
        self.taken += reader_notes(read)
        self.hashes[part.name], self.counts[part.name] = digest.hexdigest(), len(part)
        return moments

    def _crop(self, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """A random square of a frame: flipped, rotated by quarter turns, with random contrast and offset."""
        frame = self._frames[rng.integers(len(self._frames))]
        counts = frame.counts()
        rows, columns = (
            slice(start := int(rng.integers(max(1, side - self.size + 1))), start + self.size)
            for side in counts.shape
        )
        pixels = self.intensity.apply(counts[rows, columns], frame.limits)
        if min(pixels.shape) < self.size:  # a frame smaller than the crop is mirrored
            pixels = np.pad(pixels, [(0, self.size - side) for side in pixels.shape], mode="reflect")
        pixels = np.rot90(pixels, int(rng.integers(4)))
        if rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        factor, offset = math.exp(rng.uniform(-_CONTRAST, _CONTRAST)), rng.uniform(-_OFFSET, _OFFSET)
        changed: npt.NDArray[np.float32] = pixels * np.float32(factor) + np.float32(offset)
        return changed


class MaskedAutoencoder(nn.Module):
    """A vision transformer, `encoder`, with a light decoder that is used in training only.

    Parameters
    ----------
    size : int
        Side of the crops, pixels; a multiple of `patch`.
    patch : int
        Side of a patch, pixels.
    hidden : int
        Channels of a token; a multiple of 8 and of 2 * `heads`.
    layers, heads : int
        Of the encoder.
    """

    def __init__(self, size: int, patch: int, hidden: int, layers: int, heads: int) -> None:
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
        """The mean loss of the dropped patches.

        Parameters
        ----------
        pixels : (N, C, size, size) Tensor
            Standardised crops.
        frames : (N, 1, size, size) Tensor
            The same crops in network range.
        kept : (N, K) int64 Tensor
            Numbers of the patches that the encoder sees, row by row.
        """
        rebuilt = self.decode(self.encode(pixels, kept), kept).float()
        error = (rebuilt - standardised_patches(frames, self.patch)).square().mean(dim=2)
        dropped = torch.ones_like(error).scatter_(1, kept, 0.0)
        return (error * dropped).sum() / dropped.sum()

    def encode(self, pixels: Tensor, kept: Tensor) -> Tensor:
        """(N, 1 + K, hidden): the class token and the kept patches after the final norm."""
        embeddings = self.encoder.embeddings
        positions = embeddings.position_embeddings
        tokens = embeddings.patch_embeddings(pixels) + positions[:, 1:]
        tokens = tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[2]))
        first = (embeddings.cls_token + positions[:, :1]).expand(len(tokens), -1, -1)
        out = self.encoder.encoder(torch.cat((first.to(tokens.dtype), tokens), dim=1))
        normalised: Tensor = self.encoder.layernorm(out.last_hidden_state)
        return normalised

    def decode(self, tokens: Tensor, kept: Tensor) -> Tensor:
        """(N, patches, patch * patch): predicted standardised pixels of every patch."""
        tokens = self.narrow(tokens)
        where = kept[..., None].expand(-1, -1, tokens.shape[2])
        gaps = self.gap.to(tokens.dtype).expand(len(tokens), self.patches, -1)
        patches = gaps.scatter(1, where, tokens[:, 1:]) + self.positions
        everything = torch.cat((tokens[:, :1].to(patches.dtype), patches), dim=1)
        rebuilt: Tensor = self.decoder(everything)
        return rebuilt[:, 1:]


def sines(side: int, channels: int) -> Tensor:
    """Fixed position embeddings of a square grid, half of the channels for each axis.

    Parameters
    ----------
    side : int
        Cells along a side.
    channels : int
        A multiple of 4.

    Returns
    -------
    (side * side, channels) Tensor
        Sines and cosines of wavelengths from 2 pi to 20,000 pi cells (arXiv 1706.03762, section 3.5).
    """
    rates = 10_000.0 ** -(torch.arange(channels // 4) / (channels // 4))
    angles = torch.arange(side)[:, None] * rates
    axis = torch.cat((angles.sin(), angles.cos()), dim=1)
    rows = axis[:, None].expand(side, side, -1)
    columns = axis[None].expand(side, side, -1)
    return torch.cat((rows, columns), dim=2).reshape(side * side, -1)


def standardised_patches(frames: Tensor, patch: int) -> Tensor:
    """(N, 1, H, W) -> (N, patches, patch * patch), each with mean 0 and deviation 1, less where flat."""
    count, _, height, width = frames.shape
    grid = frames.reshape(count, height // patch, patch, width // patch, patch).transpose(2, 3)
    patches = grid.reshape(count, -1, patch * patch)
    centred = patches - patches.mean(dim=2, keepdim=True)
    deviation = centred.square().mean(dim=2, keepdim=True).sqrt()
    return centred / deviation.clamp_min(_NOISE)
