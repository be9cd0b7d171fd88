"""Your own encoder-decoder network: trained, exported and used like the built-in ones.

    python examples/own_network.py OUT [--foundation FOLDER_OR_ID] [--epochs 30] [--seed 0]

Makes synthetic scenes, trains the network below on their masks (with --foundation: FDEP teaches it), and
detects in the test frames with the exported model.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dimpoint.datasets.dataset import open_dataset
from dimpoint.inference.detector import Detector
from dimpoint.networks import NETWORKS
from dimpoint.networks.base import HostNetwork
from dimpoint.networks.blocks import conv_norm
from dimpoint.synthetic.scenes import SceneConfig, write_dataset
from dimpoint.training.fit import Machine, TrainingData, fit
from dimpoint.training.recipe import load_recipe


class ThreeScales(HostNetwork):
    """A minimal encoder-decoder: three scales, each with a skip connection."""

    multiple = 4  # frames are padded to a multiple of this
    deepest_channels = 48  # of the last feature, for FDEP
    deepest_stride = 4

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.deepest_channels = 4 * width
        self.stem = conv_norm(1, width, 3)
        self.down = nn.ModuleList(conv_norm(width << i, width << (i + 1), 3, stride=2) for i in range(2))
        self.up = nn.ModuleList(conv_norm(width << (i + 1), width << i, 1) for i in range(2))
        self.head = nn.Conv2d(width, 1, 3, padding=1)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Features at 1, 1/2 and 1/4, from shallow to deep."""
        features = [self.stem(x)]
        for down in self.down:
            features.append(down(features[-1]))
        return features

    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        """One map of logits; with deep supervision several, finest first."""
        y = features[2]
        for level in (1, 0):
            enlarged = F.interpolate(self.up[level](y), scale_factor=2.0, mode="bilinear")
            y = features[level] + enlarged
        return [self.head(y)]


NETWORKS["three-scales"] = ThreeScales


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--foundation", help="a Hugging Face backbone that teaches the network (FDEP)")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="auto", help="auto, 32-true, bf16-mixed")
    arguments = parser.parse_args()

    scenes = arguments.out / "scenes"
    config = SceneConfig.model_validate({"width": 128, "height": 128, "targets": {"scr": (10, 20)}})
    write_dataset(scenes, config, 40, seed=0)

    changes = ["network.name=three-scales", "name=three-scales", f"epochs={arguments.epochs}"]
    changes += ["view.size=64", "batch=8", "steps_per_epoch=20", "validate_every=5", "optimizer.lr=5e-3"]
    changes += ["schedule.warmup_steps=10", "ema=0.9", f"seed={arguments.seed}"]
    changes += ["loss.kind=[mask-focal, soft-iou]"]  # soft IoU alone can stall in a small network
    if arguments.foundation:
        changes.append(f"foundation.source={arguments.foundation}")
    recipe = load_recipe("fdep-host" if arguments.foundation else "host", changes)
    machine = Machine(devices=1, precision=arguments.precision)
    model = fit(recipe, TrainingData([scenes]), arguments.out / "run", machine=machine)

    detector = Detector(model)
    for sample in open_dataset(scenes, "test"):
        found, truth = detector(sample.read_frame()).xy, sample.read_points()
        print(f"{sample.name}: targets at {truth.round(1).tolist()}, found at {found.round(1).tolist()}")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
