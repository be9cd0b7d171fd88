"""Thresholds on few targets, warnings, and the comparison with the model that a training started from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

import dimpoint
from dimpoint.datasets.coco import PointImage, write_points
from dimpoint.datasets.dataset import Sample, open_dataset
from dimpoint.metrics.points import PointCounts, ScoredFrame
from dimpoint.model.checkpoint import load_model, save_model
from dimpoint.model.onnx_file import read_meta
from dimpoint.training.choosing import FEW_TARGETS, HeldOut, Trained, choose, compare, warnings_of
from dimpoint.training.fit import TrainingData, fit
from dimpoint.training.frames import LabelledFrame, load_frames
from dimpoint.training.recipe import load_recipe
from dimpoint.training.validation import FalseObjects, PointScores, detect_in
from tiny_models import spots, write_model
from training_runs import CPU

FALLBACK = 0.5


def found(*frames: tuple[list[float], list[float]]) -> HeldOut:
    """Frames given as (scores of hits, scores of false objects); one without hits has a missed target."""
    scored = []
    for hits, false in frames:
        truth = [(20.0 * number, 0.0) for number in range(max(len(hits), 1))]
        xy = [*truth[: len(hits)], *((20.0 * number, 500.0) for number in range(len(false)))]
        scored.append(ScoredFrame(np.array(xy).reshape(-1, 2), np.array([*hits, *false]), np.array(truth)))
    return HeldOut(tuple(scored), ((600, 600),) * len(scored))


THRESHOLDS = [
    # frames, inherited, threshold, where it is from
    ([([0.9], [0.2]), ([0.8], [0.1]), ([0.9], [])], None, 0.5, "cross-validated over 3 parts"),
    ([([0.9], []), ([0.8], [])], None, 0.425, "cross-validated over 2 parts"),  # midway to the lowest kept
    ([([], []), ([], [])], None, FALLBACK, "cross-validated"),  # nothing found at all
    ([([0.9], [0.2]), ([0.8], [0.1])], (0.67, "spire-lite"), 0.67, "as in spire-lite: 2 held-out targets"),
]


@pytest.mark.parametrize(("frames", "inherited", "threshold", "origin"), THRESHOLDS)
def test_few_targets_do_not_choose_a_threshold_by_their_best_f1(
    frames: list[tuple[list[float], list[float]]],
    inherited: tuple[float, str] | None,
    threshold: float,
    origin: str,
) -> None:
    choice = choose(found(*frames), FALLBACK, inherited)
    assert choice is not None
    assert choice.threshold == threshold
    assert choice.origin.startswith(origin)


# Scores of a target and of a false object, between which the threshold lies
CLOSE = [(0.9998, 0.9996), (0.0504, 0.0502), (0.6558, 0.6552), (0.65, 0.64999), (1.0, 0.9999999)]
CLOSE += [(score, 0.06) for score in (0.655, 0.6550001, 0.65549, 0.6559, 1.0)]


@pytest.mark.parametrize(("target", "false"), CLOSE)
def test_a_threshold_with_few_digits_stays_between_the_scores(target: float, false: float) -> None:
    few = found(([target], [false]))
    choice = choose(few, FALLBACK, None)
    assert choice is not None
    assert false <= choice.threshold < target
    assert PointCounts.total(few.counts(choice.threshold)).f1 == 1


@pytest.mark.parametrize(("target", "false"), CLOSE)
def test_the_threshold_of_the_best_f1_gives_that_f1(target: float, false: float) -> None:
    xy = np.array([[10, 10], [30, 30]], np.float32)
    frame = LabelledFrame(Sample("a", Path("a.png"), None, xy[:1]), "SET", xy[:1], (0, 1), np.zeros((40, 40)))
    detections = SimpleNamespace(xy=xy, scores=np.array([target, false]))
    scores = PointScores(load_recipe("spire-sirst"))
    scores.add(lambda *_: detections, frame)  # type: ignore[arg-type]
    values = scores.values()
    assert values["f1"] == 1
    assert max(false, target - 0.001 - 1e-9) <= values["threshold"] < target


def test_held_out_frames_are_judged_by_what_is_detected_beside_no_data(tmp_path: Path) -> None:
    """A target that touches pixels that are no measurements is no detection."""
    pixels = spots((48, 64), [(20, 20), (51, 24)]).astype(np.float32)
    pixels[20:30, 52:] = -1
    images, tags = [], [(42113, "s", 0, "-1", True)]
    for number in range(4):
        pixels[0, 0] = number / 9  # another frame
        (tmp_path / "images").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "images" / f"{number}.tif", pixels, extratags=tags)
        images.append(PointImage(f"{number}.tif", 64, 48, np.array([[20, 20]], np.float32)))
    write_points(tmp_path / "points.json", images)
    detector = dimpoint.load(write_model(tmp_path / "blob.onnx"))
    recipe = load_recipe("spire-sirst", ["validation_by=random"])
    for frame in load_frames([open_dataset(tmp_path)], recipe)[1]:
        (expected,) = detector.predict(frame.sample.frame_path)
        assert len(expected) == 1
        np.testing.assert_allclose(detect_in(frame, detector)[0].pred_xy, expected.xy, atol=0.01)
        quiet = FalseObjects(0.3)
        quiet.add(detector, frame)
        assert quiet.values()["false_per_frame"] == 1  # the target, which a refit does not look for


def test_many_targets_keep_the_threshold_of_the_best_f1() -> None:
    many = found(*[([0.9], [0.2])] * FEW_TARGETS)
    assert choose(many, FALLBACK, (0.67, "spire-lite")) is None


def test_a_cross_validated_score_is_not_the_best_one() -> None:
    """Frame 1's target is kept only by a threshold that frame 1 itself chose."""
    choice = choose(found(([0.9], [0.6]), ([0.5], [])), FALLBACK, None)
    assert choice is not None
    assert choice.f1.value < 0.99


def counts(*hits: tuple[int, int, int]) -> list[PointCounts]:
    return [PointCounts(tp=tp, fp=fp, fn=fn, frames=1, pixels=100) for tp, fp, fn in hits]


VERDICTS = [
    # new model, old model, verdict, what is said
    ([(1, 0, 0)] * 20, [(0, 0, 1)] * 19 + [(1, 0, 0)], "new", "is better than spire-lite"),
    ([(0, 0, 1)] * 10, [(1, 0, 0)] * 10, "old", "keep spire-lite"),
    (
        [(1, 0, 0)] * 4,
        [(1, 0, 0)] * 4,
        "old",
        "keep spire-lite: the new model is not better",
    ),  # no difference
    ([(1, 0, 0)] * 4, [(1, 0, 0)] * 3 + [(0, 0, 1)], "open", "no significant gain"),
    ([(1, 0, 0)], [(1, 1, 0)], "open", "too few frames for an interval"),
    ([(0, 0, 0)] * 4, [(0, 0, 0)] * 4, "old", "keep spire-lite"),  # no targets: nothing is defined
]


@pytest.mark.parametrize(("new", "old", "verdict", "text"), VERDICTS)
def test_keeping_the_old_model_is_an_answer(
    new: list[tuple[int, int, int]], old: list[tuple[int, int, int]], verdict: str, text: str
) -> None:
    record, lines = compare(counts(*new), counts(*old), "spire-lite", chosen_here=False)
    assert record["verdict"] == verdict
    assert text in lines[-1]
    assert all(value == value for value in record.values())
    assert "nan to" not in "".join(lines)


SMALL = ["network.options={widths: [4, 8], depths: [1, 1]}", "view.size=32", "batch=2", "validation=0.3"]


def test_a_fine_tuned_model_is_compared_with_its_parent(scenes: Path, tmp_path: Path) -> None:
    short = [*SMALL, "epochs=1", "steps_per_epoch=1", "validate_every=1"]
    parent = tmp_path / "parent"
    recipe = load_recipe("spire-sirst", short)
    said: list[str] = []
    fit(recipe, TrainingData([scenes]), parent, machine=CPU, log=said.append)
    assert any(line.startswith("warning: the model finds none of the 3 held-out targets") for line in said)
    still = load_recipe("finetune", [*short, "optimizer.lr=1e-12"])
    said.clear()
    init = parent / "model.safetensors"
    fit(still, TrainingData([scenes]), tmp_path / "tuned", machine=CPU, init=init, log=said.append)
    meta = read_meta(tmp_path / "tuned" / "model.onnx")
    assert meta.parent == "parent"
    assert meta.decode.threshold == read_meta(parent / "model.onnx").decode.threshold  # inherited
    assert meta.scores["parent"]["verdict"] == "old"
    assert meta.scores["validation"]["targets"] == 3
    assert "as in parent: 3 held-out targets are too few" in meta.scores["validation"]["threshold_from"]
    assert any("keep parent" in line for line in said)


@pytest.mark.slow
def test_the_threshold_of_a_calibrated_parent_is_inherited_on_the_scale_of_the_network(
    scenes: Path, tmp_path: Path
) -> None:
    short = [*SMALL, "epochs=1", "steps_per_epoch=1", "validate_every=1"]
    parent = tmp_path / "parent"
    fit(load_recipe("spire-sirst", short), TrainingData([scenes]), parent, machine=CPU)
    network, meta = load_model(parent / "model.safetensors")
    rule = meta.decode.model_copy(
        update={"calibration": ((0.0, 0.0), (0.5, 0.1), (1.0, 1.0)), "threshold": 0.28}
    )
    save_model(tmp_path / "calibrated.safetensors", network, meta.model_copy(update={"decode": rule}))
    recipe = load_recipe("finetune", [*short, "optimizer.lr=1e-12"])
    init = tmp_path / "calibrated.safetensors"
    fit(recipe, TrainingData([scenes]), tmp_path / "tuned", machine=CPU, init=init)
    tuned = read_meta(tmp_path / "tuned" / "model.onnx")
    assert tuned.decode.calibration is None
    assert tuned.decode.threshold == pytest.approx(0.6)


WARNINGS = [
    # recipe, counts of each frame, what must be said, what must not
    ("unet", [(0, 0, 3)], ["none of the 3", "after 40 steps", "loss.kind=[mask-focal, soft-iou]"], []),
    ("spire-sirst", [(0, 5, 3)], ["none of the 3", "optimizer.lr"], ["soft-iou"]),
    ("spire-sirst", [(3, 0, 0), (1, 0, 0)], ["based on 4 targets in 2 held-out frames"], ["none"]),
    ("spire-sirst", [(1, 0, 0)] * FEW_TARGETS, [], ["warning"]),
]


@pytest.mark.parametrize(("recipe", "hits", "said", "unsaid"), WARNINGS)
def test_a_score_that_cannot_be_trusted_is_a_warning(
    recipe: str, hits: list[tuple[int, int, int]], said: list[str], unsaid: list[str]
) -> None:
    trained = Trained(None, None, load_recipe(recipe), {}, 40)  # type: ignore[arg-type]
    text = "\n".join(warnings_of(counts(*hits), trained))
    assert [part for part in said if part not in text] == []
    assert [part for part in unsaid if part in text] == []
