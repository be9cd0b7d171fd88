"""`dimpoint compare`: paired differences, and the plain word when they say nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from data_sets import save
from dimpoint.cli import build_app
from dimpoint.errors import DimpointError
from evaluation_sets import SIZE, all_points, detections, make_maps, make_model, make_set

FRAMES = 40


def run(*arguments: object) -> str:
    result = CliRunner().invoke(build_app(), ["compare", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def record(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(
        build_app(), ["compare", *map(str, arguments), "--json", "-"], catch_exceptions=False
    )
    content: dict[str, Any] = json.loads(result.output)
    return content


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty frames with one target each, and predictions that find all, nearly all and half of them."""
    root = tmp_path_factory.mktemp("many")
    names = [f"{index:02}" for index in range(FRAMES)]
    for name in names:
        save(root / "SET" / "images" / f"{name}.png", np.full(SIZE, int(name), np.uint8))
        mask = np.zeros(SIZE, np.uint8)
        mask[20, 30] = 255
        save(root / "SET" / "masks" / f"{name}.png", mask)
    for found in (40, 39, 20):
        entries = {f"{name}.png": [(30.0, 20.0, 0.9)] * (int(name) < found) for name in names}
        detections(root / f"{found}.json", entries)
    return root


def test_one_threshold_for_both(many: Path) -> None:
    found = record(many / "40.json", many / "20.json", "--data", many / "SET", "--threshold", "0.95")
    assert (found["first"]["threshold"], found["second"]["threshold"]) == (0.95, 0.95)
    numbers = found["comparisons"][0]["numbers"]
    assert (numbers["recall"]["first"], numbers["recall"]["second"]) == (0, 0)  # all scores are 0.9


def test_a_clear_difference(many: Path) -> None:
    found = record(many / "40.json", many / "20.json", "--data", many / "SET")
    numbers = found["comparisons"][0]["numbers"]
    assert (numbers["recall"]["first"], numbers["recall"]["second"]) == (1, 0.5)
    assert numbers["recall"]["difference"] == 0.5
    assert numbers["recall"]["interval"][0] > 0.3
    assert (numbers["f1"]["significant"], numbers["f1"]["better"]) == (True, "first")
    text = run(many / "20.json", many / "40.json", "--data", many / "SET")
    assert "B is better than A in F1 on SET (40 frames), protocol spire: -0.333 [" in text


def test_a_difference_that_the_frames_do_not_show(many: Path) -> None:
    numbers = record(many / "40.json", many / "39.json", "--data", many / "SET")["comparisons"][0]["numbers"]
    assert numbers["recall"]["difference"] == pytest.approx(1 / FRAMES)
    assert (numbers["recall"]["significant"], numbers["recall"]["better"]) == (False, None)
    text = run(many / "40.json", many / "39.json", "--data", many / "SET")
    assert "No significant difference in F1 on SET (40 frames), protocol spire: +0.013 [+0.000," in text


def test_one_frame_shows_no_method_to_be_better(tmp_path: Path) -> None:
    data = make_set(tmp_path / "SET", ("bright",))
    good, bad = (
        detections(tmp_path / name, {"bright.png": found})
        for name, found in (("good.json", [(20.0, 20.0, 0.9), (40.0, 30.0, 0.9)]), ("bad.json", []))
    )
    sides = (good, bad, "--data", data, "--split", "test")
    numbers = record(*sides)["comparisons"][0]["numbers"]
    assert (numbers["recall"]["difference"], numbers["recall"]["interval"]) == (1, [None, None])
    assert not any(number["significant"] for number in numbers.values())
    text = run(*sides)
    assert "F1 differs by +1.000 on SET (1 frame), protocol spire: too few frames for an interval." in text
    assert "is better" not in text


def test_a_method_equals_itself(many: Path) -> None:
    numbers = record(many / "20.json", many / "20.json", "--data", many / "SET")["comparisons"][0]["numbers"]
    for number in numbers.values():
        assert number["difference"] in (0, None)
        assert not number["significant"]


def test_fewer_false_alarms_are_better(many: Path, tmp_path: Path) -> None:
    """Where less is better a negative difference speaks for A."""
    worse = json.loads((many / "40.json").read_text())
    for image in worse["images"]:
        image["detections"].append({"x": 5, "y": 5, "score": 0.5})
    (tmp_path / "worse.json").write_text(json.dumps(worse))
    numbers = record(many / "40.json", tmp_path / "worse.json", "--data", many / "SET")["comparisons"][0][
        "numbers"
    ]
    assert numbers["false_per_frame"]["difference"] == -1
    assert numbers["false_per_frame"]["better"] == numbers["fa_objects"]["better"] == "first"


def test_a_model_against_predictions_and_each_set_beside_all(tmp_path: Path) -> None:
    first, second = make_set(tmp_path / "A"), make_set(tmp_path / "B")
    model = make_model(tmp_path / "blob.onnx")
    entries = all_points()
    file = detections(
        tmp_path / "d.json", {f"{part}/{name}": found for part in "AB" for name, found in entries.items()}
    )
    found = record(model, file, "--data", first, "--data", second)
    assert [each["data_set"] for each in found["comparisons"]] == ["A", "B", "all together"]
    assert found["first"] == {"evaluated": "blob", "threshold": 0.3, "threshold_origin": "the model's own"}
    numbers = found["comparisons"][2]["numbers"]
    assert (numbers["recall"]["first"], numbers["recall"]["second"]) == (0.75, 1)


def test_maps_compare_pixels_and_hse(tmp_path: Path) -> None:
    data = make_set(tmp_path / "SET")
    maps = make_maps(tmp_path / "maps")
    found = record(data / "masks", maps, "--data", data, "--protocol", "all")["comparisons"]
    protocols = {"spire", "basicirstd", "dnanet-legacy", "opdc", "pixels"}
    assert {each["protocol"] for each in found} == protocols
    pixels = found[-1]["numbers"]
    assert (pixels["iou"]["first"], pixels["hse"]["first"]) == (1, 1)
    assert pixels["iou"]["difference"] == pytest.approx(1 - 27 / 37)


def test_points_and_maps_share_what_points_can_serve(tmp_path: Path) -> None:
    data = make_set(tmp_path / "SET")
    model, maps = make_model(tmp_path / "blob.onnx"), make_maps(tmp_path / "maps")
    assert [
        each["protocol"] for each in record(model, maps, "--data", data, "--protocol", "all")["comparisons"]
    ] == ["spire"]
    with pytest.raises(DimpointError, match="--protocol opdc counts pixels"):
        run(maps, model, "--data", data, "--protocol", "opdc")


def test_only_common_frames_and_never_silently(tmp_path: Path) -> None:
    data = make_set(tmp_path / "SET")
    maps, part = make_maps(tmp_path / "maps"), make_maps(tmp_path / "part", ("bright", "dim"))
    with pytest.raises(DimpointError, match="2 frames have no prediction"):
        run(maps, part, "--data", data)
    text = run(maps, part, "--data", data, "--allow-missing")
    assert "INCOMPLETE: 2 frames that both have are compared" in text
    notes = record(maps, part, "--data", data, "--allow-missing")["notes"]
    assert "INCOMPLETE: 2 frames that both have are compared" in notes


@pytest.mark.parametrize("second", [False, True])
def test_what_is_unlikely_of_either_side_is_said(many: Path, tmp_path: Path, second: bool) -> None:
    detections(tmp_path / "b.json", {f"{name:02}.png": [(20.0, 30.0, 0.9)] for name in range(FRAMES)})
    sides = (many / "40.json", tmp_path / "b.json")[:: 1 if second else -1]
    said = "none of the 40 targets is found by the 40 predictions"
    assert said in run(*sides, "--data", many / "SET")
    assert any(note.startswith(said) for note in record(*sides, "--data", many / "SET")["notes"])


def test_what_is_neither_a_model_nor_predictions(tmp_path: Path) -> None:
    data = make_set(tmp_path / "SET")
    with pytest.raises(DimpointError, match="'no-such-model' is neither a model nor predictions"):
        run("no-such-model", data / "masks", "--data", data)


@pytest.mark.parametrize("command", ["evaluate", "compare", "benchmark", "ablate", "train", "export"])
def test_every_command_that_reads_labels_has_the_options_of_reading(command: str) -> None:
    shown = CliRunner().invoke(build_app(), [command, "--help"], env={"COLUMNS": "200"}).output
    for option in ("--mask-values", "--invert-masks", "--categories", "--accept-labels"):
        assert option in shown, option


def test_both_sides_are_judged_by_the_labels_as_they_are_to_be_read(many: Path, tmp_path: Path) -> None:
    """Masks with inverted values: refused as they stand, right with --invert-masks."""
    data = tmp_path / "SET"
    for index in range(FRAMES):
        save(data / "images" / f"{index:02}.png", np.full(SIZE, index, np.uint8))
        mask = np.full(SIZE, 255, np.uint8)
        mask[20, 30] = 0
        save(data / "masks" / f"{index:02}.png", mask)
    sides = (many / "40.json", many / "20.json", "--data", data)
    refused = CliRunner().invoke(build_app(), ["compare", *map(str, sides)])
    assert isinstance(refused.exception, DimpointError)
    assert "--invert-masks" in str(refused.exception)
    found = record(*sides, "--invert-masks")
    assert found["comparisons"][0]["numbers"]["recall"]["second"] == 0.5
