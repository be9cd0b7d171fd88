"""The mean of the weights of several model files of one network.

    python benchmarks/mean_weights.py A.safetensors B.safetensors --out C.safetensors

Everything else of the record is the first file's. Weights are as `dimpoint train` writes them; running
statistics of norms are averaged, too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from dimpoint.model.checkpoint import load_model, save_model
from dimpoint.model.files import resolve_weights


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", help="shipped names, runs or .safetensors files")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    loaded = [load_model(resolve_weights(model)) for model in options.models]
    network, meta = loaded[0]
    for (_, other), name in zip(loaded, options.models, strict=True):
        if (other.network, other.options) != (meta.network, meta.options):
            parser.error(f"{name}: holds {other.network} {other.options}, not {meta.network} {meta.options}")
    states = [each.state_dict() for each, _ in loaded]
    means = {
        key: torch.stack([state[key] for state in states]).mean(dim=0) if value.is_floating_point() else value
        for key, value in states[0].items()
    }
    network.load_state_dict(means)
    save_model(options.out, network, meta)


if __name__ == "__main__":
    main()
