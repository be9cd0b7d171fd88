"""The metrics as a torchmetrics `Metric`, for training loops. The only module here that needs torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torchmetrics import Metric

from dimpoint.errors import DataError
from dimpoint.metrics.components import Components, above, check_pair, check_threshold
from dimpoint.metrics.counts import Counts
from dimpoint.metrics.pixel import PixelCounts, count_mask_pixels
from dimpoint.metrics.protocols import TargetCounts, count_components, get_protocol

_PIXEL = ("iou", "niou", "precision", "recall", "f1")
_TARGET = ("pd", "fa_pixels", "fa_objects", "false_per_frame", "precision", "f1", "distance_mean")


class SirstMetric(Metric):
    """Pixel and target metrics at one threshold, summed over processes by torchmetrics.

    `compute()` returns float64 scalars, NaN if not defined: pixel_iou, pixel_niou, pixel_precision,
    pixel_recall, pixel_f1, target_pd, target_fa_pixels, target_fa_objects, target_false_per_frame,
    target_precision, target_f1 and target_distance_mean (pixels).

    Parameters
    ----------
    protocol : str, default "basicirstd"
        How objects are matched with targets.
    threshold : float, default 0.5
        Pixels above it are predicted.
    options
        Options of `torchmetrics.Metric`.

    Raises
    ------
    ConfigError
        If the protocol is unknown.
    DataError
        If the threshold is outside 0..1.
    """

    full_state_update = False
    is_differentiable = False
    pixel_sums: torch.Tensor
    target_sums: torch.Tensor

    def __init__(self, protocol: str = "basicirstd", threshold: float = 0.5, **options: Any) -> None:
        """options: as `torchmetrics.Metric` has them. Raises ConfigError and DataError as the metrics do."""
        super().__init__(**options)
        self.protocol = get_protocol(protocol)
        self.threshold = check_threshold(threshold)
        for name, kind in (("pixel_sums", PixelCounts), ("target_sums", TargetCounts)):
            zeros = torch.zeros(len(kind.numbers()), dtype=torch.float64)
            self.add_state(name, default=zeros, dist_reduce_fx="sum")

    def update(self, probs: torch.Tensor, masks: torch.Tensor) -> None:
        """Count a batch of probabilities (not logits) and masks, (N, 1, H, W) or (N, H, W).

        Masks of type uint8 count above 127, those of other types above 0. Raises DataError for another shape,
        such as one channel for each class, and, naming the sample, like `check_pair`.
        """
        if len(probs) != len(masks):
            raise DataError(f"{len(probs)} maps and {len(masks)} masks; each map needs one mask")
        for index, (prob, mask) in enumerate(zip(_frames(probs), _frames(masks), strict=True)):
            mask = mask if mask.dtype == np.uint8 else mask > 0
            values, truth = check_pair(prob, mask, f"sample {index} of the batch")
            found = above(values, self.threshold)
            target = count_components(Components.of(found), Components.of(truth), self.protocol)
            self.pixel_sums += self._tensor(count_mask_pixels(found, truth))
            self.target_sums += self._tensor(target)

    def compute(self) -> dict[str, torch.Tensor]:
        """The metrics of all batches, as float64 scalars."""
        pixel = _record(PixelCounts, self.pixel_sums)
        target = _record(TargetCounts, self.target_sums)
        values = {f"pixel_{name}": getattr(pixel, name) for name in _PIXEL}
        values |= {f"target_{name}": getattr(target, name) for name in _TARGET}
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}

    def _tensor(self, counts: Counts) -> torch.Tensor:
        values = [getattr(counts, name) for name in counts.numbers()]
        return torch.tensor(values, dtype=torch.float64, device=self.device)


def _record(kind: type[Counts], sums: torch.Tensor) -> Counts:
    return kind(**dict(zip(kind.numbers(), sums.tolist(), strict=True)))


def _frames(batch: torch.Tensor) -> Any:
    """A batch (N, 1, H, W) or (N, H, W) as N arrays (H, W)."""
    if batch.ndim not in (3, 4) or (batch.ndim == 4 and batch.shape[1] != 1):
        raise DataError(
            f"a batch must have the shape (N, 1, H, W) or (N, H, W), got {tuple(batch.shape)}; of several "
            "channels give that of the targets"
        )
    frames = batch.detach().cpu()
    if frames.dtype == torch.bfloat16:
        frames = frames.float()
    return (frames[:, 0] if frames.ndim == 4 else frames).numpy()
