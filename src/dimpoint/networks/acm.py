"""ACM, asymmetric contextual modulation (arXiv 2009.14530), as the public benchmarks run it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from dimpoint.networks.asymbi import WIDTHS, AsymBiFusion, AsymBiHost, basic_blocks, double, head


class ACM(AsymBiHost):
    """A small residual U-Net whose skips are fused by asymmetric contextual modulation.

    397,823 parameters and 0.343 G multiply-adds of convolutions at 256x256 with one input channel. Training
    needs batches of at least two frames (`AsymBiFusion`).
    """

    receptive_radius = 280  # without the fusions' means, which cover the whole input

    def __init__(self, channels: int = 1) -> None:
        depth = 3
        super().__init__(channels, depth)
        fine, middle, deep = WIDTHS
        self.deconv2 = double(deep, middle)
        self.fuse2 = AsymBiFusion(middle)
        self.uplayer2 = basic_blocks(middle, middle, depth)
        self.deconv1 = double(middle, fine)
        self.fuse1 = AsymBiFusion(fine)
        self.uplayer1 = basic_blocks(fine, fine, depth)
        self.head = head(fine)

    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps at 1/4, 1/8 and 1/16 -> one map of logits (N, 1, H, W)."""
        at_4, at_8, at_16 = features
        middle = self.uplayer2(self.fuse2(self.deconv2(at_16), at_8))
        fine = self.uplayer1(self.fuse1(self.deconv1(middle), at_4))
        return [F.interpolate(self.head(fine), scale_factor=4.0, mode="bilinear", align_corners=False)]
