"""Random crops of unlabelled frames for pretraining: crop number i is a function of seed and i alone."""

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
from torch import Tensor

from dimpoint.datasets.dataset import Sample, hash_array, open_dataset, training_split
from dimpoint.errors import DataError
from dimpoint.model.intensity import IntensityRule

_MEMORY_BYTES = 4 << 30  # frames beyond this are read from disk each time
_CONTRAST, _OFFSET = 0.4, 0.2  # counts times exp(u) plus v, u and v uniform within +- these [own]


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
