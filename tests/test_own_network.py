"""The documented example of a user's own network is the one that runs, and it learns."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from torch import Tensor, nn

from dimpoint.errors import ConfigError
from dimpoint.metrics.points import PointCounts, match_points
from dimpoint.networks import NETWORKS
from dimpoint.networks.base import HostNetwork, Network
from dimpoint.training.recipe import load_recipe
from dimpoint.training.start import new_network

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "own_network.py"
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}  # several would only get in each other's way
LINE = re.compile(r"\S+: targets at (\[.*\]), found at (\[.*\])")


def test_the_page_shows_the_example_that_runs() -> None:
    page = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    shown = page.partition("```python\n")[2].partition("```")[0].strip()
    assert shown.startswith("class ThreeScales(HostNetwork)")
    assert shown in EXAMPLE.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "precision"),
    [
        (0, "auto"),  # as documented
        (0, "32-true"),  # processors without bfloat16
        (1, "32-true"),
        (2, "32-true"),
    ],
)
def test_the_example_learns_exports_and_detects(tmp_path: Path, seed: int, precision: str) -> None:
    """In a third of its default length it finds targets of frames that it was not trained on."""
    options = ["--epochs", "10", "--seed", str(seed), "--precision", precision]
    command = [sys.executable, str(EXAMPLE), str(tmp_path / "own"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ONE_THREAD)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "own" / "run" / "model.onnx").is_file()
    counts = []
    for line in done.stdout.splitlines():
        if parts := LINE.fullmatch(line):
            truth, found = (ast.literal_eval(text) for text in parts.groups())
            counts.append(PointCounts.of_frame(match_points(found, [1.0] * len(found), truth), (128, 128)))
    total = PointCounts.total(counts)
    assert total.tp + total.fn >= 5, done.stdout
    assert total.f1 > 0.4, done.stdout


class Own(HostNetwork):
    """One convolution."""

    multiple = 4
    deepest_channels = deepest_stride = 1

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, 1, 3, padding=1)

    def encode(self, x: Tensor) -> list[Tensor]:
        return [x]

    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        return [self.head(features[0])]


class NoHead(Own):
    def __init__(self) -> None:
        super().__init__()
        self.last, self.head = self.head, nn.Identity()

    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        return [self.last(features[0])]


class NoBias(Own):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, 1, 3, padding=1, bias=False)


class NoDecoder(Own):
    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        raise NotImplementedError


class Smaller(Own):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, 1, 3)


class Bare(Own):
    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        return self.head(features[0])


class NoMap(Own):
    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        return []


class OtherStride(Network):
    multiple, stride = 4, 2

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (NoHead, "NoHead: has no module 'head' with a Conv2d that gives the logits"),
        (NoBias, "NoBias: the convolution that gives the logits needs a bias"),
        (NoDecoder, r"'own' cannot run on a frame \(1, 1, 32, 64\): NotImplementedError"),
        (Smaller, r"'own' must give a list of logits, .* of shape \(1, 1, 32, 64\) .*, got \(1, 1, 30, 62\)"),
        (Bare, "'own' must give a list of logits, .* got a Tensor"),
        (NoMap, "'own' must give a list of logits, .* got a list"),
        (OtherStride, r"must give a map of shape \(1, 1, 16, 32\) .* by its stride 2, got \(1, 1, 32, 64\)"),
    ],
)
def test_a_network_that_cannot_be_trained_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, network: type[Network], message: str
) -> None:
    monkeypatch.setitem(NETWORKS, "own", network)
    name = "spire-sirst" if network is OtherStride else "host"
    recipe = load_recipe(name, ["network.name=own", "network.options={}"])
    with pytest.raises(ConfigError, match=message):
        new_network(recipe)


def test_a_network_is_tried_without_being_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "own", Own)
    network = new_network(load_recipe("host", ["network.name=own"]))
    assert network.training
    assert all(weight.grad is None for weight in network.parameters())
