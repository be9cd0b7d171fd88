"""ALCNet as in the public benchmarks: a feature pyramid on ACM's encoder.

LESPS, BasicIRSTD and PAL ported a baseline of the authors' repository under this name, and their published
scores are those of this network. It has neither the paper's attentional local contrast (arXiv 2012.08573,
cyclic shifts of the feature map) nor its bottom-up modulation. Layers that those ports build but never use
(92,928 parameters) are omitted.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from dimpoint.networks.asymbi import WIDTHS, AsymBiFusion, AsymBiHost, double, head


class ALCNet(AsymBiHost):
    """A feature pyramid on ACM's encoder, one block deeper a stage, with ACM's fusion.

    426,961 parameters and 0.295 G multiply-adds of convolutions at 256x256 with one input channel. Training
    needs batches of at least two frames (`AsymBiFusion`).
    """

    receptive_radius = 263  # without the fusions' means, which cover the whole input

    def __init__(self, channels: int = 1) -> None:
        super().__init__(channels, depth=4)
        fine, middle, deep = WIDTHS
        self.deconv2 = double(deep, middle)
        self.fuse23 = AsymBiFusion(middle)
        self.deconv1 = double(middle, fine)
        self.fuse12 = AsymBiFusion(fine)
        self.deconv0 = double(fine, fine // 2)
        self.head = head(fine // 2)

    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps at 1/4, 1/8 and 1/16 -> one map of logits (N, 1, H, W)."""
        at_4, at_8, at_16 = features
        middle = self.fuse23(self.deconv2(at_16), at_8)
        fine = self.deconv0(self.fuse12(self.deconv1(middle), at_4))
        return [F.interpolate(self.head(fine), scale_factor=2.0, mode="bilinear", align_corners=False)]
