"""SPIRE's network is the published one: size, cost, and the authors' own outputs with their weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dimpoint.model.checkpoint import import_model
from dimpoint.networks import Network, create
from dimpoint.networks.base import count_macs, count_parameters
from spire_reference import FRAMES, WEIGHTS, golden, warped_frame


@pytest.fixture(scope="module")
def authors(shared_reference: Path) -> Network:
    return import_model("spire", shared_reference / WEIGHTS)[0]


def test_parameters_as_published() -> None:
    assert count_parameters(create("spire")) == 294_753


@pytest.mark.parametrize(("size", "giga"), [(512, 4.84), (640, 7.56)])
def test_cost_as_published(size: int, giga: float) -> None:
    assert round(count_macs(create("spire"), size, size) / 1e9, 2) == giga


@pytest.mark.parametrize(("seed", "height", "width"), [(0, 256, 256), (1, 192, 320)])
def test_golden_noise(authors: Network, shared_reference: Path, seed: int, height: int, width: int) -> None:
    noise = np.random.default_rng(seed).standard_normal((1, 3, height, width)).astype(np.float32)
    with torch.inference_mode():
        got = authors(torch.from_numpy(noise)).numpy()
    np.testing.assert_allclose(got, golden(shared_reference)[f"logits_seed{seed}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", FRAMES)
def test_golden_frames(authors: Network, shared_reference: Path, shared_data: Path, name: str) -> None:
    frame = warped_frame(shared_data, name, colour=True)
    standardised = (frame - np.float32(authors.mean)) / np.float32(authors.std)
    with torch.inference_mode():
        got = authors(torch.from_numpy(standardised).permute(2, 0, 1)[None])[0, 0].numpy()
    np.testing.assert_allclose(got, golden(shared_reference)[f"{name}_logits"], rtol=0, atol=1e-4)
