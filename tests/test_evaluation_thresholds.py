"""Thresholds chosen for a goal: which one, on which frames, and how a model file stores it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from data_sets import frame, mask, save, split
from dimpoint.cli import build_app
from dimpoint.errors import ConfigError, DataError, DimpointError, ModelFileError
from dimpoint.evaluation.thresholds import store_threshold
from dimpoint.evaluation.truth import held_out_frames
from dimpoint.metrics.curves import Curve, Goal, curve_of_points, target_curve
from dimpoint.metrics.points import PointCounts, ScoredFrame, match_points, sweep
from dimpoint.metrics.protocols import TargetCounts, count_targets
from dimpoint.model.onnx_file import read_meta
from evaluation_sets import all_points, detections, make_maps, make_model, make_set

LAW = settings(deadline=None, derandomize=True, max_examples=60)

# Two frames: hits at 0.9, 0.6 and 0.3, false alarms at 0.8, 0.4 and 0.2; one of four targets is never found.
FRAMES = [
    ScoredFrame([(0, 0), (30, 0), (0, 30)], [0.9, 0.8, 0.6], [(0, 0), (0, 30)]),
    ScoredFrame([(0, 0), (30, 0), (0, 30)], [0.3, 0.4, 0.2], [(0, 0), (60, 60)]),
]


def curve() -> Curve:
    return curve_of_points(sweep(FRAMES, pixels=1000), floor=0.02)


GOALS = [
    # goal, value, hits and false alarms there, scores between which the threshold lies
    ("false-alarms-per-frame", 0.0, (1, 0), (0.8, 0.9)),
    ("false-alarms-per-frame", 0.5, (2, 1), (0.4, 0.6)),
    ("false-alarms-per-frame", 0.9, (2, 1), (0.4, 0.6)),
    ("false-alarms-per-frame", 9.0, (3, 3), (0.02, 0.2)),
    ("fa", 0.002, (3, 2), (0.2, 0.3)),
    ("pd", 0.0, (0, 0), (0.9, 1.0)),
    ("pd", 0.25, (1, 0), (0.8, 0.9)),
    ("pd", 0.5, (2, 1), (0.4, 0.6)),
    ("pd", 0.75, (3, 2), (0.2, 0.3)),
    ("f1", 0.0, (3, 2), (0.2, 0.3)),
]


@pytest.mark.parametrize(("goal", "value", "counts", "between"), GOALS)
def test_the_threshold_that_serves_a_goal(
    goal: Any, value: float, counts: tuple[int, int], between: tuple[float, float]
) -> None:
    swept = curve()
    row = swept.choose(goal, value)
    assert (swept.tp[row], swept.fp[row]) == counts
    assert between[0] <= swept.threshold(row, goal) < between[1]


def test_where_in_its_range_the_threshold_lies() -> None:
    """Between the scores 0.6 and 0.4: low for limited false alarms, high for a demanded recall."""
    swept = curve()
    row = swept.choose("pd", 0.5)
    goals: tuple[Goal, ...] = ("fa", "false-alarms-per-frame", "pd", "f1")
    assert [swept.threshold(row, goal) for goal in goals] == [0.4, 0.4, 0.599, 0.5]


def test_goals_that_cannot_be_served() -> None:
    with pytest.raises(DataError, match=r"--pd 0.9 is not reached at any threshold; the most is 0.75"):
        curve().choose("pd", 0.9)
    for goal, value in (("pd", 1.1), ("fa", -1.0), ("false-alarms-per-frame", float("nan"))):
        with pytest.raises(ConfigError, match=f"--{goal}"):
            curve().choose(goal, value)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="the most is nan"):
        curve_of_points(sweep([ScoredFrame([(0, 0)], [0.5], [])]), 0.02).choose("pd", 0.5)


def test_nothing_predicted_at_all() -> None:
    swept = curve_of_points(sweep([ScoredFrame([], [], [(0, 0)])], pixels=10), None)
    assert swept.choose("fa", 1e-6) == 0
    assert 0 <= swept.threshold(0) <= 1


def test_predictions_without_a_floor_are_all_kept_by_the_last_row() -> None:
    """Nobody knows what was left out below the lowest score, so the threshold stays just below that."""
    swept = curve_of_points(sweep(FRAMES), None)
    threshold = swept.threshold(len(swept.low) - 1)
    assert 0.199 < threshold < 0.2


@LAW
@given(st.integers(0, 2**32), st.integers(0, 99), st.sampled_from(["pd", "fa", "f1"]))
def test_the_threshold_gives_what_its_row_says(seed: int, pick: int, goal: Goal) -> None:
    rng = np.random.default_rng(seed)
    frames = [
        ScoredFrame(
            rng.integers(0, 14, (n := int(rng.integers(0, 12)), 2)),
            rng.integers(1, 40, n) / 40,
            rng.integers(0, 14, (int(rng.integers(0, 6)), 2)),
        )
        for _ in range(3)
    ]
    swept = curve_of_points(sweep(frames), 0.01)
    row = pick % len(swept.low)
    threshold = swept.threshold(row, goal)
    parts = []
    for each in frames:
        above = np.asarray(each.scores) > threshold
        match = match_points(np.asarray(each.pred_xy)[above], np.asarray(each.scores)[above], each.truth_xy)
        parts.append(PointCounts.of_frame(match, (14, 14)))
    total = PointCounts.total(parts)
    assert (total.tp, total.fp) == (swept.tp[row], swept.fp[row])


@LAW
@given(st.integers(0, 2**32), st.integers(0, 99), st.sampled_from(["pd", "fa", "f1"]))
def test_so_it_does_for_maps(seed: int, pick: int, goal: Goal) -> None:
    rng = np.random.default_rng(seed)
    pairs = [
        ((rng.integers(0, 30, (9, 11)) / 29).astype(np.float32), rng.random((9, 11)) < 0.1) for _ in range(2)
    ]
    swept = target_curve(pairs)
    row = pick % len(swept.low)
    threshold = swept.threshold(row, goal)
    total = TargetCounts.total(count_targets(prob, true, "basicirstd", threshold) for prob, true in pairs)
    expected = (swept.tp[row], swept.fp[row], swept.false_area[row])
    assert (total.tp, total.fp, total.false_pixels) == expected


# --- the command ---


def run(*arguments: object) -> str:
    result = CliRunner().invoke(build_app(), ["evaluate", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Test frames `bright` and `lost`, train frames `dim` and `empty`."""
    return make_set(tmp_path / "SET", ("bright", "lost"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path / "blob.onnx")


def test_chosen_on_one_split_and_told_for_another(data: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "numbers.json"
    text = run(
        *("--model", model, "--data", data, "--split", "test", "--json", out),
        *("--false-alarms-per-frame", "0", "--calibrate-split", "train"),
    )
    assert f"chosen on {data}, split train (2 frames, 1 target)" in text.replace("\n", " ")
    assert "WARNING" not in text
    found = json.loads(out.read_text())
    point = found["operating_point"]
    # the false spot on `empty` answers with 0.54, the target on `dim` with 0.45
    assert (point["recall"], point["false_per_frame"], point["shared"]) == (0, 0, 0)
    assert found["threshold"] == point["threshold"] > 0.5
    spire = found["pooled"]["protocols"]["spire"]
    assert (spire["tp"], spire["fn"], spire["frames"]) == (2, 1, 2)


def test_choosing_on_the_evaluated_data_is_said_plainly(data: Path, model: Path) -> None:
    text = run("--model", model, "--data", data, "--split", "test", "--pd", "1")
    assert "chosen on the evaluated data" in text
    assert "WARNING: 2 of these 2 frames are evaluated as well" in text
    # also where the overlap is only a part of what it is chosen on, and by another path
    text = run("--model", model, "--data", data, "--split", "test", "--pd", "0.5", "--calibrate", data)
    assert "WARNING: 2 of these 4 frames are evaluated as well" in text


def test_a_threshold_is_chosen_for_predictions_too(data: Path, tmp_path: Path) -> None:
    file = detections(tmp_path / "d.json", all_points())
    options = ("--data", data, "--split", "test", "--calibrate-split", "train")
    text = run("--predictions", file, *options, "--pd", "1")
    assert "recall 1.000" in text
    text = run("--predictions", make_maps(tmp_path / "maps"), *options, "--fa", "1e-5")
    assert "false pixels per pixel (protocol basicirstd)" in text


def test_a_model_file_stores_the_chosen_threshold(data: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned.onnx"
    before = model.read_bytes()
    options = ("--data", data, "--split", "test", "--calibrate-split", "train", "--pd", "1")
    text = run("--model", model, *options, "--store", out)
    assert "stored:" in text
    assert model.read_bytes() == before
    old, new = read_meta(model), read_meta(out)
    point = new.scores["operating_point"]
    assert new.decode.threshold == point["threshold"] != old.decode.threshold
    assert (point["goal"], point["value"], point["chosen_on"]) == ("pd", 1.0, f"{data}, split train")
    assert new.model_copy(update={"decode": old.decode, "scores": old.scores}) == old
    assert onnx.load(out).graph == onnx.load(model).graph
    onnx.checker.check_model(onnx.load(out))
    told = json.loads(run("--model", out, "--data", data, "--json", "-"))
    assert (told["threshold"], told["threshold_origin"]) == (point["threshold"], "the model's own")


def test_a_model_may_be_written_over_itself(data: Path, model: Path) -> None:
    for goal in ("0.5", "1"):  # twice: the entry is replaced, not added
        run("--model", model, "--data", data, "--pd", goal, "--store", model)
    entries = [entry.key for entry in onnx.load(model).metadata_props]
    assert entries == ["dimpoint"]
    assert read_meta(model).scores["operating_point"]["value"] == 1
    assert sorted(path.name for path in model.parent.glob("*.onnx")) == ["blob.onnx"]


def test_other_metadata_stay(data: Path, model: Path) -> None:
    content = onnx.load(model)
    entry = content.metadata_props.add()
    entry.key, entry.value = "author", "somebody"
    onnx.save(content, str(model))
    run("--model", model, "--data", data, "--pd", "1", "--store", model)
    assert {entry.key for entry in onnx.load(model).metadata_props} == {"author", "dimpoint"}


def test_a_model_that_cannot_be_stored_stays_as_it_was(data: Path, model: Path, tmp_path: Path) -> None:
    options = ("--data", data, "--pd", "1")
    with pytest.raises(DimpointError, match=r"--store .*tuned.txt: the file name must end in .onnx"):
        run("--model", model, *options, "--store", tmp_path / "tuned.txt")
    with pytest.raises(DimpointError, match="cannot be written"):
        run("--model", model, *options, "--store", model / "tuned.onnx")
    file = detections(tmp_path / "d.json", all_points())
    with pytest.raises(DimpointError, match="--store needs --model"):
        run("--predictions", file, *options, "--store", tmp_path / "tuned.onnx")
    assert not (tmp_path / "tuned.onnx").exists()


def test_a_damaged_model_is_not_rewritten(data: Path, model: Path, tmp_path: Path) -> None:
    """Protobuf that ends early, or has a field of no known kind, is refused, and nothing is written."""
    from dimpoint.model.onnx_file import with_metadata

    whole = model.read_bytes()
    for damaged in (whole[:-3], whole + b"\x0b", whole + b"\x72\xff"):
        with pytest.raises(ModelFileError, match="not an ONNX file, or truncated"):
            with_metadata(damaged, "dimpoint", "{}", model)
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(whole[:-3])
    point = _point(data, model)
    with pytest.raises(ModelFileError):
        store_threshold(cut, tmp_path / "out.onnx", point)
    assert not (tmp_path / "out.onnx").exists()


def _point(data: Path, model: Path) -> Any:
    from dimpoint.evaluation.subject import Data, open_model
    from dimpoint.evaluation.thresholds import choose_threshold

    subject = open_model(model, Data((data,)))
    return choose_threshold(subject, "pd", 1.0, chosen_on="test frames", evaluated=[])


OPTIONS = [
    (("--pd", "1", "--fa", "1e-6"), "give only one of"),
    (("--pd", "1", "--threshold", "0.5"), "give only one of"),
    (("--calibrate-split", "train"), "need one of"),
    (("--store", "x.onnx"), "need one of"),
    (("--pd", "2"), "--pd 2.0: a part in 0..1"),
    (("--pd", "1", "--calibrate-split", "val"), "no split 'val'"),
    (("--pd", "1", "--calibrate-split", "held-out"), r"not the folder of a training run \(no run.json\)"),
]


@pytest.mark.parametrize(("options", "message"), OPTIONS, ids=lambda value: str(value)[:30])
def test_options_that_do_not_go_together(data: Path, model: Path, options: Any, message: str) -> None:
    with pytest.raises(DimpointError, match=message):
        run("--model", model, "--data", data, *options)


# --- the frames that a run held out ---


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A run's folder as training leaves it, with the filter as its model, on twelve frames."""
    from dimpoint.training.recipe import load_recipe

    data = tmp_path / "TWELVE"
    names = [f"{index:02}" for index in range(12)]
    for index, name in enumerate(names):
        save(data / "images" / f"{name}.png", frame(index // 2))  # two frames of each scene
        save(data / "masks" / f"{name}.png", mask((3, 4)))
    split(data, "train_X", *names)
    run_folder = tmp_path / "run"
    make_model(run_folder / "model.onnx")
    recipe = load_recipe("spire-sirst", ["validation=0.3"])
    (run_folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    record = {"sources": {"roots": [str(data)], "split": None}, "data": {"TWELVE": {"frames": 12}}}
    (run_folder / "run.json").write_text(json.dumps(record))
    return run_folder


def test_held_out_frames_are_those_of_training(trained: Path) -> None:
    from dimpoint.datasets.dataset import open_dataset
    from dimpoint.training.frames import load_frames
    from dimpoint.training.recipe import load_recipe

    recipe = load_recipe(str(trained / "recipe.yaml"))
    sets = [open_dataset(json.loads((trained / "run.json").read_text())["sources"]["roots"][0], "train")]
    expected = [each.sample.name for each in load_frames(sets, recipe)[1]]
    found = [each.name for each in held_out_frames(trained)]
    assert found == expected
    assert 0 < len(found) < 12
    assert len(found) % 2 == 0  # scenes stay together


def test_a_threshold_chosen_on_held_out_frames(trained: Path, data: Path) -> None:
    options = ("--false-alarms-per-frame", "0.5", "--calibrate-split", "held-out")
    text = run("--model", trained, "--data", data, "--split", "test", *options)
    assert "chosen on the frames held out by" in text
    assert "WARNING" not in text


def test_a_run_whose_data_have_changed(trained: Path) -> None:
    record = json.loads((trained / "run.json").read_text())
    record["data"]["TWELVE"]["frames"] = 13
    (trained / "run.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"had \[13\] frames, now \[12\]"):
        held_out_frames(trained)
    (trained / "run.json").write_text("{}")
    with pytest.raises(DataError, match="not a run's record"):
        held_out_frames(trained)


def _record(run_folder: Path, root: Path, *names: str) -> None:
    """Make the run's record list these frames as held out, as training does."""
    from dimpoint.datasets.dataset import hash_frames, open_dataset

    samples = [sample for sample in open_dataset(root) if sample.name in names]
    entries = [
        {"name": sample.name, "sha256": digest}
        for sample, digest in zip(samples, hash_frames(samples), strict=True)
    ]
    record = json.loads((run_folder / "run.json").read_text()) | {"held_out": {"TWELVE": entries}}
    (run_folder / "run.json").write_text(json.dumps(record))


class TestHeldOutByNameAndHash:
    """`trained` has twelve frames; two of each scene have the same pixels."""

    @pytest.fixture
    def root(self, trained: Path) -> Path:
        return Path(json.loads((trained / "run.json").read_text())["sources"]["roots"][0])

    def test_the_recorded_frames_are_taken_whatever_the_recipe_says(self, trained: Path, root: Path) -> None:
        _record(trained, root, "03", "07")
        (trained / "recipe.yaml").unlink()
        assert [frame.name for frame in held_out_frames(trained)] == ["03", "07"]

    def test_frames_that_came_later_change_nothing(self, trained: Path, root: Path) -> None:
        _record(trained, root, "03")
        save(root / "images" / "99.png", frame(99))
        assert [frame.name for frame in held_out_frames(trained)] == ["03"]

    def test_a_renamed_frame_is_found_by_its_pixels(self, trained: Path, root: Path) -> None:
        save(root / "images" / "13.png", frame(13))
        _record(trained, root, "13")
        (root / "images" / "13.png").rename(root / "images" / "renamed.png")
        assert [frame.name for frame in held_out_frames(trained)] == ["renamed"]

    def test_changed_and_lost_frames_are_refused(self, trained: Path, root: Path) -> None:
        save(root / "images" / "13.png", frame(13))
        _record(trained, root, "13")
        save(root / "images" / "13.png", frame(14))
        with pytest.raises(DataError, match="'13' has other pixels now"):
            held_out_frames(trained)
        (root / "images" / "13.png").unlink()
        with pytest.raises(DataError, match="'13' does not exist any more"):
            held_out_frames(trained)

    @pytest.mark.parametrize("held", [{}, [], {"TWELVE": ["03"]}, {"TWELVE": [{"name": "03"}]}])
    def test_a_damaged_record(self, trained: Path, held: object) -> None:
        record = json.loads((trained / "run.json").read_text()) | {"held_out": held}
        (trained / "run.json").write_text(json.dumps(record))
        with pytest.raises(DataError, match="not a run's record"):
            held_out_frames(trained)


def test_reliability_counts_each_object_in_the_bin_of_its_score() -> None:
    score, right, count = curve().reliability(bins=2)
    assert score == pytest.approx([(0.2 + 0.3 + 0.4) / 3, (0.6 + 0.8 + 0.9) / 3])
    assert right == pytest.approx([1 / 3, 2 / 3])
    assert count.tolist() == [3, 3]


def test_reliability_of_nothing_is_empty() -> None:
    nothing = curve_of_points(sweep([ScoredFrame([], [], [(1, 1)])], pixels=10), floor=0.02)
    assert [len(column) for column in nothing.reliability()] == [0, 0, 0]
