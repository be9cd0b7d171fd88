"""The evaluator: a stream gives what all frames at once give, in bounded memory, in any grouping."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from dimpoint.errors import ConfigError, DataError
from dimpoint.metrics.accumulate import Evaluator, MapMetrics
from dimpoint.metrics.breakdown import breakdown
from dimpoint.metrics.curves import target_curve
from dimpoint.metrics.hse import HseConfig, hse
from dimpoint.metrics.pixel import ErrorCounts, PixelCounts, count_errors, count_pixels, pixel_curve
from dimpoint.metrics.protocols import PROTOCOLS, TargetCounts, count_targets
from metrics_scenes import LAW, SEEDS, Frame, drawn, frames, picture


def _evaluated(pairs: list[Frame], **options: Any) -> Evaluator:
    evaluator = Evaluator(protocols=list(PROTOCOLS), **options)
    for index, (prob, mask) in enumerate(pairs):
        evaluator.update(prob, mask, f"{index:03}")
    return evaluator


def _numbers(evaluation: MapMetrics) -> list[Any]:
    """Everything that must not depend on order or grouping."""
    curve, pixel = evaluation.target_curve, evaluation.pixel_curve
    counts = [TargetCounts.total(evaluation.targets(name, 0.5)).to_dict() for name in PROTOCOLS]
    return [
        evaluation.names,
        [curve.low.tolist(), curve.tp.tolist(), curve.fp.tolist(), curve.false_area.tolist()],
        [pixel.tp.tolist(), pixel.fp.tolist(), pixel.iou_frames.tolist(), pixel.iou_sum.round(9).tolist()],
        str(counts),
        round(evaluation.hse.hse, 9),
        str(evaluation.hse_samples.number(np.eye(len(evaluation.names))).round(6)),
    ]


@LAW
@given(SEEDS)
def test_a_stream_gives_what_the_functions_give(seed: int) -> None:
    pairs = frames(seed)
    pairs[0][1][0, 0] = True
    result = _evaluated(pairs, thresholds=(0.3, 0.5)).result()
    for protocol in PROTOCOLS:
        streamed = TargetCounts.total(result.targets(protocol, 0.3))
        direct = TargetCounts.total(count_targets(prob, mask, protocol, 0.3) for prob, mask in pairs)
        assert str(streamed.to_dict()) == str(direct.to_dict())
    pixels = PixelCounts.total(count_pixels(prob, mask, 0.3) for prob, mask in pairs)
    assert str(PixelCounts.total(result.pixels(0.3)).to_dict()) == str(pixels.to_dict())
    errors = ErrorCounts.total(count_errors(prob, mask, 0.3) for prob, mask in pairs)
    assert str(ErrorCounts.total(result.errors(0.3)).to_dict()) == str(errors.to_dict())
    assert result.target_curve.tp.tolist() == target_curve(pairs).tp.tolist()
    assert result.pixel_curve.tp.tolist() == pixel_curve(pairs).tp.tolist()
    assert result.hse.hse == pytest.approx(hse(pairs).hse, abs=1e-12)


@LAW
@given(SEEDS)
def test_order_grouping_and_processes_change_nothing(seed: int) -> None:
    pairs = [*frames(seed), *frames(seed + 1)]
    pairs[0][1][0, 0] = True
    whole = _evaluated(pairs).result()
    parts = [Evaluator(protocols=list(PROTOCOLS)) for _ in range(3)]
    for index in reversed(range(len(pairs))):
        parts[index % 3].update(*pairs[index], f"{index:03}")
    first, *others = (pickle.loads(pickle.dumps(part)) for part in parts)  # as between processes
    for other in others:
        first.merge(other)
    assert _numbers(first.result()) == _numbers(whole)


def test_a_result_can_be_asked_for_in_between() -> None:
    evaluator = Evaluator()
    evaluator.update(picture("#..."), drawn("#..."), "a")
    assert evaluator.result().hse.hse == 1
    evaluator.update(picture("...."), drawn("#..."), "b")
    assert evaluator.result().hse.hse == pytest.approx((1 / 2 + 2 / 3) / 2)  # IoU, nIoU 1/2; F1 2/3
    assert evaluator.result().target_curve.targets == 2
    assert len(evaluator) == 2


def test_the_callers_arrays_may_change_afterwards() -> None:
    prob, mask = picture("#..."), drawn("#...")
    evaluator = Evaluator()
    evaluator.update(prob, mask, "a")
    prob[:], mask[:] = 0, False
    assert evaluator.result().target_curve.tp.tolist() == [0, 1]


def test_a_frame_counts_once() -> None:
    evaluator, other = Evaluator(), Evaluator()
    for part in (evaluator, other):
        part.update(picture("#..."), drawn("#..."), "a")
    with pytest.raises(DataError, match="frame 'a' was given twice"):
        evaluator.update(picture("...."), drawn("...."), "a")
    with pytest.raises(DataError, match="frame 'a' is in both parts"):
        evaluator.merge(other)
    assert evaluator.result().target_curve.frames == 1


def test_a_bad_frame_leaves_no_trace() -> None:
    evaluator = Evaluator()
    with pytest.raises(DataError, match=r"frame 'x\.png': values from 0 to 3"):
        evaluator.update(picture("...") + 3 * picture("..#"), drawn("..."), "x.png")
    with pytest.raises(DataError, match="the image has shape"):
        evaluator.update(picture("..."), drawn("#.."), "y.png", image=np.zeros((2, 2)))
    assert len(evaluator) == 0
    assert evaluator.result().target_curve.frames == 0


def test_settings_must_fit() -> None:
    with pytest.raises(DataError, match="different thresholds, protocols or HSE settings"):
        Evaluator().merge(Evaluator(hse=HseConfig(radii=(1,))))
    with pytest.raises(ConfigError, match="unknown protocol 'best'"):
        Evaluator(protocols=["best"])
    with pytest.raises(DataError, match=r"outside 0\.\.1"):
        Evaluator(thresholds=[50])
    result = Evaluator().result()
    with pytest.raises(DataError, match=r"threshold 0\.4 was not evaluated"):
        result.pixels(0.4)
    with pytest.raises(DataError, match="protocol 'spire' was not evaluated; evaluated: basicirstd"):
        _evaluated_once().targets("spire", 0.5)


def _evaluated_once() -> MapMetrics:
    evaluator = Evaluator()
    evaluator.update(picture("#..."), drawn("#..."), "a")
    return evaluator.result()


def test_breakdowns_come_with_images_and_sources() -> None:
    evaluator = Evaluator()
    image = np.random.default_rng(0).random((1, 4))
    evaluator.update(picture("#..."), drawn("#..."), "a", image, "NUAA")
    evaluator.update(picture("...."), drawn("#..."), "b", image, "NUDT")
    table = evaluator.result().table("basicirstd", 0.5)
    assert [(row.label, row.pd) for row in breakdown(table, "source")] == [("NUAA", 1), ("NUDT", 0)]
    assert not np.isnan(table.scr).any()


def test_intervals_of_hse_lie_around_it() -> None:
    rng = np.random.default_rng(1)
    evaluator, worse = Evaluator(), Evaluator()
    for index in range(40):
        mask = np.zeros((16, 16), np.bool_)
        mask[8, 8] = True
        prob = mask * rng.random(mask.shape)
        evaluator.update(prob, mask, f"{index:02}")
        worse.update(prob * 0.5, mask, f"{index:02}")
    good, bad = evaluator.result(), worse.result()
    found = good.hse_samples.interval(good.hse, resamples=400)
    assert found.value == good.hse.hse
    assert good.hse.hse - 0.2 < found.low < good.hse.hse < found.high < good.hse.hse + 0.2
    apart = good.hse_samples.difference(bad.hse_samples, good.hse, bad.hse, resamples=400)
    assert apart.significant
    assert apart.value == good.hse.hse - bad.hse.hse
    with pytest.raises(DataError, match="40 frames against 1"):
        good.hse_samples.difference(_evaluated_once().hse_samples, good.hse, bad.hse)


def test_memory_does_not_grow_with_the_score_levels() -> None:
    """A small limit on the levels shows it: five times the frames, hardly more memory."""
    rng = np.random.default_rng(0)
    evaluator = Evaluator(limit=2000)
    mask = np.zeros((64, 64), np.bool_)
    mask[32, 32] = True
    tracemalloc.start()
    held = []
    for index in range(100):
        prob = rng.random(mask.shape, np.float32) / 100  # 4096 new levels in each frame, 2621 of the grid
        evaluator.update(prob, mask, str(index))
        if index in (19, 99):
            assert not evaluator.result().target_curve.exact
            held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert held[1] - held[0] < 2e6  # all levels of 80 frames would be 20 MB


def test_the_metrics_need_no_torch() -> None:
    code = "import sys, dimpoint.metrics.accumulate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
