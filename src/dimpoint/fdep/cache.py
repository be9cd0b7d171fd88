"""Features of whole frames, computed once: kept in memory within a budget, and on disk in float16.

A frame is encoded once per orientation of the views (once in total without `orientations`), with its mirror
image around it, and views read its grid (`grids.sample`). Differences from encoding each view:

- **Context**: a token has seen the whole frame and its margin, not the view alone; position embeddings are
  those of its place in the frame, and a learned embedding is stretched more over a large frame than over a
  view.
- **Resampling**: rotations by arbitrary angles, scaling and crops between cells interpolate neighbouring
  tokens bilinearly.
- **Orientation**, without `orientations`: features are flipped and rotated instead of the frame, which is
  wrong where tokens encode their position.
- **Counts**: contrast, offset, noise and pasted targets are drawn after the features are read, so the
  encoder has not seen them.
- **Mirror**: beyond the margin the grid is mirrored, not the frame.
- **float16**: values are rounded to 11 bits and clipped at +-65504.

`benchmarks/feature_cache.py` measures the difference.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor
from torch.utils.data import get_worker_info

from dimpoint.atomic import replacing
from dimpoint.datasets.dataset import hash_array
from dimpoint.errors import DimpointError, FrameError
from dimpoint.fdep.encoder import FoundationEncoder
from dimpoint.fdep.grids import Affine, FrameGrids, Pixels, mirrored, padding, sample, upright

_LARGEST = float(torch.finfo(torch.float16).max)


class FeatureCache:
    """Token grids by the content of frames; each frame, encoder and setting has its own key.

    Files are stored in `folder`/KEY/, one for each frame, and are written atomically, so that several
    processes can share them. Problems with files do not stop a training run: a damaged or foreign file is
    computed again; beyond `limit_bytes`, or on a full disk, no more files are written, which is reported
    once.

    Parameters
    ----------
    folder : Path
        Root of the cache.
    encoder : FoundationEncoder
        The encoder.
    limit_bytes : int
        Largest size of all files below `folder`.
    memory_bytes : int
        Largest size of the grids in memory. Default: 2 GiB.
    margin : int
        Least width of the mirror image around a frame, pixels. Default: 32.
    orientations : bool
        Encode a frame in each orientation of its views, instead of flipping and rotating features. Default:
        True.
    device : torch.device or str
        Where frames are encoded. Default: `cpu`.
    log : callable
        Called with one line about a full cache or disk. Default: `print`.
    """

    def __init__(
        self,
        folder: Path,
        encoder: FoundationEncoder,
        limit_bytes: int,
        *,
        memory_bytes: int = 2 << 30,
        margin: int = 32,
        orientations: bool = True,
        device: torch.device | str = "cpu",
        log: Callable[[str], None] = print,
    ) -> None:
        self.encoder = encoder
        self.margin = margin
        self.orientations = orientations
        self.device = torch.device(device)
        self.key = hashlib.sha256(f"{encoder.key} {margin}".encode()).hexdigest()
        self.folder = folder / self.key[:16]
        self.limit_bytes = limit_bytes
        self.memory_bytes = memory_bytes
        self._log = log
        self._writing = True
        self._on_disk = sum(file.stat().st_size for file in folder.glob("*/[!.]*.safetensors"))
        self._kept: OrderedDict[str, FrameGrids] = OrderedDict()
        self._in_memory = 0

    def get(self, pixels: Pixels) -> FrameGrids:
        """The grids of a frame, (H, W) float32 in network range. Raises FrameError for another array."""
        if pixels.ndim != 2 or pixels.size == 0 or pixels.dtype != np.float32:
            raise FrameError(f"the feature cache takes (H, W) float32, got {pixels.shape} {pixels.dtype}")
        name = hash_array(pixels)
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        file = self.folder / f"{name}.safetensors"
        grids = self._read(file, name)
        if grids is None:
            grids = self._encode(pixels)
            self._write(file, name, grids)
        self._keep(name, grids)
        return grids

    def view(
        self, pixels: Pixels, affine: Affine, view_size: int, cells: int | Sequence[int]
    ) -> tuple[Tensor, ...]:
        """The grids of a view of a frame; other parameters and result as `grids.sample`."""
        if self.orientations:
            pixels, affine = upright(pixels, affine)
        return sample(self.get(pixels), affine, view_size, cells)

    def _encode(self, pixels: Pixels) -> FrameGrids:
        cell = self.encoder.patch / self.encoder.magnification
        sides = [padding(side, cell, self.margin) for side in pixels.shape]
        before = (sides[0][0], sides[1][0])
        covered = (sum(sides[0]) + pixels.shape[0], sum(sides[1]) + pixels.shape[1])
        # A worker process that loads views cannot use the graphics card of its parent.
        device = self.device if get_worker_info() is None else torch.device("cpu")
        frame = torch.from_numpy(mirrored(pixels, before, covered))[None, None].to(device)
        # Without autocast, so that stored features do not depend on the run.
        with torch.autocast(device.type, enabled=False):
            taps = self.encoder(frame)
        return FrameGrids(tuple(_stored(grid[0]) for grid in taps), before, covered)

    def _keep(self, name: str, grids: FrameGrids) -> None:
        self._kept[name] = grids
        self._in_memory += grids.nbytes
        while self._in_memory > self.memory_bytes:
            self._in_memory -= self._kept.popitem(last=False)[1].nbytes

    def _read(self, file: Path, name: str) -> FrameGrids | None:
        """The grids of a file; None if it is missing, damaged, or of another frame or encoder."""
        try:
            content = file.read_bytes()
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            record = json.loads(header["__metadata__"]["grids"])
            tensors = load_tensors(content)
            grids = FrameGrids(
                tuple(tensors[str(tap)] for tap in self.encoder.taps),
                tuple(record["before"]),
                tuple(record["covered"]),
            )
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return grids if record == self._record(name, grids) else None

    def _write(self, file: Path, name: str, grids: FrameGrids) -> None:
        if not self._writing:
            return
        if self._on_disk + grids.nbytes > self.limit_bytes:
            self._stop(f"{self.folder.parent} is at its limit of {self.limit_bytes / 1e9:.1f} GB")
            return
        tensors = {str(tap): grid for tap, grid in zip(self.encoder.taps, grids.taps, strict=True)}
        content = save_tensors(tensors, {"grids": json.dumps(self._record(name, grids))})
        try:
            with replacing(file) as temporary:
                temporary.write_bytes(content)
        except DimpointError as error:
            self._stop(str(error))
        else:
            self._on_disk += len(content)

    def _record(self, name: str, grids: FrameGrids) -> dict[str, object]:
        """The header of a file: key, frame, margins, and checksum of the features."""
        checksum = 0
        for grid in grids.taps:
            checksum = zlib.crc32(grid.numpy().data, checksum)
        return {
            "key": self.key,
            "frame": name,
            "before": list(grids.before),
            "covered": list(grids.covered),
            "crc32": checksum,
        }

    def _stop(self, why: str) -> None:
        self._writing = False
        self._log(f"feature cache: {why}; further frames are encoded again when they are not in memory")


def _stored(grid: Tensor) -> Tensor:
    """(D, h, w) -> (h, w, D) float16 in main memory; a cell's channels are adjacent, for fast reading."""
    return grid.clamp(-_LARGEST, _LARGEST).permute(1, 2, 0).to("cpu", torch.float16).contiguous()
