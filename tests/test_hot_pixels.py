"""Lone hot pixels: what no optics could have made is replaced, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dimpoint.datasets.dataset import open_dataset
from dimpoint.inference.detector import Detector
from dimpoint.model.input_rule import replace_hot_pixels
from dimpoint.model.intensity import IntensityRule
from tiny_models import blob_meta, write_model

RULE = IntensityRule(kind="display", low=1, high=99)


def test_a_lone_pixel_becomes_its_neighbours_mean() -> None:
    frame = np.random.default_rng(0).normal(0.3, 0.01, (40, 50)).astype(np.float32)
    hot = frame.copy()
    places = [(0, 0), (0, 20), (39, 49), (10, 10), (20, 30)]
    for place in places:
        hot[place] += 0.6
    out = replace_hot_pixels(hot)
    changed = {tuple(place) for place in np.argwhere(out != hot).tolist()}
    assert changed == set(places)
    np.testing.assert_allclose(out, frame, atol=0.06)
    assert out[10, 10] == pytest.approx((frame[9:12, 9:12].sum() - frame[10, 10]) / 8, abs=1e-6)
    assert out.dtype == np.float32


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 2)])
def test_flat_and_tiny_frames_stay(shape: tuple[int, int]) -> None:
    frame = np.full(shape, 0.5, np.float32)
    np.testing.assert_array_equal(replace_hot_pixels(frame), frame)


@pytest.mark.parametrize("sigma", [0.7, 1.0, 1.5])
@pytest.mark.parametrize("offset", [0.0, 0.25, 0.5])
def test_what_optics_spread_stays(sigma: float, offset: float) -> None:
    y, x = np.mgrid[:21, :21]
    spot = np.exp(-((x - 10 - offset) ** 2 + (y - 10) ** 2) / (2 * sigma**2)).astype(np.float32)
    np.testing.assert_array_equal(replace_hot_pixels(spot), spot)


@pytest.mark.parametrize("name", ["NUDT-SIRST", "NUAA-SIRST"])
def test_no_labelled_target_is_touched(name: str, shared_data: Path) -> None:
    touched = pixels = 0
    for sample in open_dataset(shared_data / name, "train"):
        frame = RULE.apply(sample.read_frame())
        rows, columns = np.nonzero(replace_hot_pixels(frame) != frame)
        pixels += len(rows)
        for x, y in sample.read_points():
            touched += int((np.hypot(columns - x, rows - y) < 3).any())
    assert touched == 0
    assert pixels > 10 if name == "NUAA-SIRST" else pixels == 0


def test_they_are_replaced_where_the_record_says_so_in_magnified_frames(tmp_path: Path) -> None:
    frame = np.zeros((40, 40), np.float32)
    frame[20, 20] = 5.0
    found = {}
    for replace in (False, True):
        for scale in (1, 2):
            record = blob_meta(scale=scale, replace_hot_pixels=replace, intensity=IntensityRule(kind="dtype"))
            model = write_model(tmp_path / f"{replace}{scale}.onnx", record)
            found[replace, scale] = len(Detector(model, threads=1)(frame))
    assert found == {(False, 1): 1, (False, 2): 1, (True, 1): 1, (True, 2): 0}
