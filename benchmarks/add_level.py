"""The weights of a spire-lite model with one more, coarser level, which adds nothing before it is trained.

    python benchmarks/add_level.py --model spire-lite --channels 128 --out start.safetensors

prints the network's options, which a training needs (`--init start.safetensors --set "network.options=..."`).
The last batch normalisations of the new path have weights of 0, so that the file gives the responses of the
model. A training can use the wider context from there on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn

from dimpoint.model.checkpoint import load_model, save_model
from dimpoint.model.files import resolve_weights
from dimpoint.networks.spire_lite import SpireLite


def widened(network: SpireLite, options: dict[str, list[int]]) -> SpireLite:
    """A network with these options, of which the first levels have the weights of `network`."""
    wide = SpireLite(**options)
    state = wide.state_dict()
    wide.load_state_dict({**state, **network.state_dict()})
    for part in (wide.lateral[-1], wide.refine[-1]):
        last = [each for each in part.modules() if isinstance(each, nn.BatchNorm2d)][-1]
        nn.init.zeros_(last.weight)
    return wide


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="spire-lite", help="shipped name, run or .safetensors file")
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--units", type=int, default=2, help="residual units of the new level")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.manual_seed(0)
    network, meta = load_model(resolve_weights(args.model))
    assert isinstance(network, SpireLite), "only for spire-lite"
    options = {
        "widths": [*meta.options.get("widths", (16, 32, 64, 96)), args.channels],
        "depths": [*meta.options.get("depths", (1, 1, 1, 2)), args.units],
    }
    wide = widened(network, options)
    changes = {"options": options, "multiple": wide.multiple, "receptive_radius": wide.receptive_radius}
    changes["parameters"] = sum(each.numel() for each in wide.parameters())
    save_model(args.out, wide, meta.model_copy(update={**changes, "name": args.out.stem}))
    print(f"{args.out}: {options}")


if __name__ == "__main__":
    main()
