"""The torchmetrics wrapper gives what the functions give."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dimpoint.errors import ConfigError, DataError
from dimpoint.metrics.pixel import PixelCounts, count_pixels
from dimpoint.metrics.protocols import TargetCounts, count_targets

torch = pytest.importorskip("torch")
pytest.importorskip("torchmetrics")

from dimpoint.metrics.torch import SirstMetric  # noqa: E402


def _batch(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probs = rng.random((3, 1, 16, 20), np.float32) ** 4
    return probs, rng.random(probs.shape) < 0.01


def test_batches_add_up_to_what_the_functions_give() -> None:
    metric = SirstMetric(protocol="spire", threshold=0.4)
    pixels, targets = [], []
    for seed in range(3):
        probs, masks = _batch(seed)
        metric.update(torch.from_numpy(probs), torch.from_numpy(masks))
        pixels += [count_pixels(prob[0], mask[0], 0.4) for prob, mask in zip(probs, masks, strict=True)]
        targets += [count_targets(p[0], m[0], "spire", 0.4) for p, m in zip(probs, masks, strict=True)]
    found = {name: float(value) for name, value in metric.compute().items()}
    pixel, target = PixelCounts.total(pixels), TargetCounts.total(targets)
    for name in ("iou", "niou", "precision", "recall", "f1"):
        assert found[f"pixel_{name}"] == pytest.approx(getattr(pixel, name))
    for name in ("pd", "fa_pixels", "fa_objects", "false_per_frame", "precision", "f1", "distance_mean"):
        assert found[f"target_{name}"] == pytest.approx(getattr(target, name))


def test_float_masks_bfloat16_and_frames_without_a_channel() -> None:
    probs, masks = _batch(0)
    one, other = SirstMetric(), SirstMetric()
    coarse = torch.from_numpy(probs).bfloat16()
    one.update(coarse, torch.from_numpy(masks).float())
    other.update(coarse.float()[:, 0], torch.from_numpy(masks)[:, 0])
    assert {name: str(value) for name, value in one.compute().items()} == {
        name: str(value) for name, value in other.compute().items()
    }


def test_eight_bit_masks_count_above_127_as_everywhere() -> None:
    prob, mask = np.array([[0.9, 0.9], [0, 0]], np.float32), np.array([[100, 200], [0, 0]], np.uint8)
    metric = SirstMetric()
    metric.update(torch.from_numpy(prob)[None], torch.from_numpy(mask)[None])
    assert metric.compute()["pixel_iou"] == count_pixels(prob, mask).iou == 0.5


def test_batches_of_another_shape_are_refused() -> None:
    metric, masks = SirstMetric(), torch.zeros(2, 8, 9, dtype=torch.bool)
    with pytest.raises(DataError, match=r"got \(2, 2, 8, 9\); of several channels give that of the targets"):
        metric.update(torch.zeros(2, 2, 8, 9), masks)
    with pytest.raises(DataError, match=r"got \(8, 9\)"):
        metric.update(torch.zeros(8, 9), masks[0])
    with pytest.raises(DataError, match="1 maps and 2 masks"):
        metric.update(torch.zeros(1, 8, 9), masks)


def test_reset_and_merge_as_torchmetrics_has_them() -> None:
    one, other = SirstMetric(), SirstMetric()
    for metric, seed in ((one, 0), (other, 1)):
        probs, masks = _batch(seed)
        metric.update(torch.from_numpy(probs), torch.from_numpy(masks))
    both = SirstMetric()
    for seed in (0, 1):
        probs, masks = _batch(seed)
        both.update(torch.from_numpy(probs), torch.from_numpy(masks))
    assert one.metric_state["pixel_sums"] is not None
    sums = one.pixel_sums + other.pixel_sums
    assert sums.tolist() == pytest.approx(both.pixel_sums.tolist())
    one.reset()
    assert one.pixel_sums.sum() == 0


def test_nothing_seen_is_not_defined() -> None:
    metric = SirstMetric()
    metric.update(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))
    assert math.isnan(metric.compute()["target_pd"])


def test_bad_input_is_refused() -> None:
    metric = SirstMetric()
    with pytest.raises(DataError, match=r"sample 1 of the batch: .*these look like logits"):
        metric.update(
            torch.stack([torch.zeros(1, 4, 4), torch.full((1, 4, 4), -2.0)]), torch.zeros(2, 1, 4, 4)
        )
    with pytest.raises(ConfigError, match="unknown protocol"):
        SirstMetric(protocol="iou")
