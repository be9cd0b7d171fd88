"""`dimpoint evaluate`: models and anybody's predictions against labels, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from data_sets import save
from dimpoint.cli import build_app
from dimpoint.datasets.coco import PointImage, write_points
from dimpoint.datasets.dataset import open_dataset
from dimpoint.errors import DimpointError
from evaluation_sets import SIZE, all_points, detections, make_maps, make_model, make_set


def run(*arguments: object) -> str:
    """What the command prints; its DimpointError is raised."""
    result = CliRunner().invoke(build_app(), ["evaluate", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def record(*arguments: object) -> dict[str, Any]:
    text = run(*arguments, "--json", "-")
    content: dict[str, Any] = json.loads(text)
    return content


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_set(tmp_path / "SET")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path / "blob.onnx")


def test_a_model_is_counted_at_its_own_threshold(data: Path, model: Path) -> None:
    found = record("--model", model, "--data", data, "--split", "test")
    assert (found["evaluated"], found["threshold"], found["threshold_origin"]) == (
        "blob",
        0.3,
        "the model's own",
    )
    spire = found["pooled"]["protocols"]["spire"]
    # three of four targets answer above 0.3, and the spot without a mask too
    assert (spire["tp"], spire["fn"], spire["fp"], spire["frames"]) == (3, 1, 1, 4)
    assert spire["f1"] == pytest.approx(0.75)
    assert spire["fa_objects"] == pytest.approx(1 / (4 * SIZE[0] * SIZE[1]))
    assert spire["distance_mean"] < 0.2
    low, high = spire["intervals"]["f1"]
    assert low <= spire["f1"] <= high


def test_another_threshold(data: Path, model: Path) -> None:
    """Each threshold gives what the model gives when it is told so."""
    for threshold, counts in ((0.1, (4, 1)), (0.3, (3, 1)), (0.6, (2, 0)), (0.99, (0, 0))):
        spire = record("--model", model, "--data", data, "--threshold", threshold)["pooled"]["protocols"][
            "spire"
        ]
        assert (spire["tp"], spire["fp"]) == counts


def test_the_best_threshold_is_marked_as_hindsight(data: Path, model: Path) -> None:
    best = record("--model", model, "--data", data)["pooled"]["best_f1"]
    assert best["chosen_on"] == "the evaluated data"
    assert best["f1"] == pytest.approx(8 / 9)  # all four targets with one false object
    assert 0.02 < best["threshold"] < 0.3
    assert "(in hindsight); not a score to report" in " ".join(run("--model", model, "--data", data).split())


def test_a_run_folder_means_its_model(data: Path, tmp_path: Path) -> None:
    make_model(tmp_path / "run" / "model.onnx")
    assert record("--model", tmp_path / "run", "--data", data)["evaluated"] == "blob"
    with pytest.raises(DimpointError, match=r"no model in this folder.*a training run's folder"):
        run("--model", data, "--data", data)


def test_several_data_sets_and_all_together(tmp_path: Path, model: Path) -> None:
    first, second = make_set(tmp_path / "A"), make_set(tmp_path / "B", ("dim", "empty"))
    found = record("--model", model, "--data", first, "--data", second, "--split", "test")
    assert [(part["name"], part["frames"]) for part in found["data"]] == [("A", 4), ("B", 2)]
    parts = [part["protocols"]["spire"]["tp"] for part in found["data"]]
    assert parts == [3, 1]
    assert found["pooled"]["protocols"]["spire"]["tp"] == 4
    assert "2 frames have the pixels of another one and count again" in found["notes"][0]
    with pytest.raises(DimpointError, match="named twice"):
        run("--model", model, "--data", first, "--data", first)


def test_the_table_names_protocol_threshold_and_intervals(data: Path, model: Path, tmp_path: Path) -> None:
    text = run("--model", model, "--data", data, "--json", tmp_path / "numbers.json")
    for part in ("protocol spire", "above 0.3 count (the model's own)", "3 / 1 / 1", "0.750 [", "bootstrap"):
        assert part in text
    assert json.loads((tmp_path / "numbers.json").read_text())["pooled"]["frames"] == 4


def test_resized_masks_are_told(data: Path, model: Path) -> None:
    save(data / "masks" / "empty.png", np.zeros((96, 128), np.uint8))
    text = " ".join(run("--model", model, "--data", data).split())
    assert "empty.png: mask of 128x96 resized to its frame's 64x48" in text.replace("\n", " ")


def test_frames_without_any_target(tmp_path: Path, model: Path) -> None:
    """Recall is not defined without a target; null in JSON, a dash in the table."""
    data = make_set(tmp_path / "SET", ("empty",))
    spire = record("--model", model, "--data", data, "--split", "test")["pooled"]["protocols"]["spire"]
    assert (spire["recall"], spire["fp"], spire["precision"]) == (None, 1, 0)
    assert "recall (Pd)" in run("--model", model, "--data", data, "--split", "test")


# --- predictions on disk ---


def test_detections_json_equals_the_model(data: Path, tmp_path: Path) -> None:
    file = detections(tmp_path / "detections.json", all_points())
    found = record("--predictions", file, "--data", data)
    spire = found["pooled"]["protocols"]["spire"]
    assert (spire["tp"], spire["fp"], spire["distance_mean"]) == (4, 1, 0)
    assert found["threshold"] is None  # every point that is given counts
    spire = record("--predictions", file, "--data", data, "--threshold", "0.5")["pooled"]["protocols"][
        "spire"
    ]
    assert (spire["tp"], spire["fp"]) == (2, 1)  # 0.5 itself is not above 0.5


def test_the_folder_that_detect_wrote(data: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(
        build_app(), ["detect", str(data / "images"), "--model", str(model), "--out", str(out)]
    )
    assert done.exit_code == 0
    spire = record("--predictions", out, "--data", data)["pooled"]["protocols"]["spire"]
    assert spire == record("--model", model, "--data", data)["pooled"]["protocols"]["spire"]


def test_coco_points_with_and_without_scores(data: Path, tmp_path: Path) -> None:
    entries = all_points()
    names = list(entries)
    images = [
        {"id": i, "file_name": name, "width": SIZE[1], "height": SIZE[0]} for i, name in enumerate(names)
    ]
    points = [(i, point) for i, name in enumerate(names) for point in entries[name]]
    for scored in (True, False):
        annotations = [
            {"id": n, "image_id": i, "category_id": 1, "num_keypoints": 1, "keypoints": [x, y, 2]}
            | ({"score": score} if scored else {})
            for n, (i, (x, y, score)) in enumerate(points)
        ]
        file = tmp_path / f"coco-{scored}.json"
        file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": []}))
        spire = record("--predictions", file, "--data", data, "--threshold", 0.55)["pooled"]["protocols"][
            "spire"
        ]
        assert (spire["tp"], spire["fp"]) == ((2, 1) if scored else (4, 1))


def test_two_coco_files_need_no_frames(data: Path, tmp_path: Path) -> None:
    alone = tmp_path / "elsewhere"
    alone.mkdir()
    result = CliRunner().invoke(
        build_app(), ["data", "points", str(data), "--out", str(alone / "truth.json")]
    )
    assert result.exit_code == 0, result.output
    file = detections(tmp_path / "detections.json", all_points())
    found = record("--predictions", file, "--data", alone / "truth.json")
    assert found["pooled"]["protocols"]["spire"]["tp"] == 4
    assert found["pooled"]["name"] == "truth"
    with pytest.raises(DimpointError, match="a model needs the frame itself"):
        run("--model", make_model(tmp_path / "blob.onnx"), "--data", alone / "truth.json")


def test_maps_under_every_protocol(data: Path, tmp_path: Path) -> None:
    maps = make_maps(tmp_path / "maps")
    found = record("--predictions", maps, "--data", data, "--protocol", "all")["pooled"]
    assert set(found["protocols"]) == {"spire", "basicirstd", "dnanet-legacy", "opdc"}
    for counts in found["protocols"].values():  # 0.2 is not above 0.5, and 0.6 is false
        assert (counts["tp"], counts["fn"], counts["fp"]) == (3, 1, 1)
    assert found["protocols"]["basicirstd"]["fa_pixels"] == pytest.approx(1 / (4 * SIZE[0] * SIZE[1]))
    assert found["pixels"]["tp"] == 27
    assert found["pixels"]["iou"] == pytest.approx(27 / 37)
    assert found["hse"]["name"] == "dimpoint reading 1"
    text = run("--predictions", maps, "--data", data, "--protocol", "opdc")
    for part in (
        "hIoU",
        "where hIoU is lost",
        "single-to-multiple",
        "HSE (dimpoint reading 1)",
        "F1 within 5 px",
    ):
        assert part in text


def test_the_best_f1_of_points_and_of_maps_stands_under_its_own_protocol(data: Path, tmp_path: Path) -> None:
    maps, points = make_maps(tmp_path / "maps"), detections(tmp_path / "d.json", all_points())
    methods = ("--predictions", f"maps={maps}", "--predictions", f"points={points}")
    run(*methods, "--data", data, "--csv", tmp_path / "x.csv")
    rows = [line.split(",") for line in (tmp_path / "x.csv").read_text().replace('"', "").splitlines()]
    best = {(",".join(row[1:-5]), row[-5]): row[-3] for row in rows if row[1].startswith(("best", "at thr"))}
    scores = [json.loads(run(*methods[at : at + 2], "--data", data, "--json", "-")) for at in (0, 2)]
    of_maps, of_points = (f"{each['pooled']['best_f1']['f1']:.3f}" for each in scores)
    assert [each["pooled"]["best_f1"]["protocol"] for each in scores] == ["basicirstd", "spire"]
    assert (best["best F1 *", "points"], best["best F1 *", "maps"]) == (of_points, "")
    assert (best["best F1, basicirstd *", "points"], best["best F1, basicirstd *", "maps"]) == ("", of_maps)
    assert best["at threshold *", "maps"] == best["at threshold, basicirstd *", "points"] == ""
    assert best["at threshold *", "points"]
    assert best["at threshold, basicirstd *", "maps"]


def test_maps_in_other_forms_count_alike(data: Path, tmp_path: Path) -> None:
    """16-bit PNG, float .npy: the same numbers as 8 bit; a mask is a map of 0 and 1."""
    import cv2

    eight = make_maps(tmp_path / "maps")
    (tmp_path / "npy").mkdir()
    for file in eight.iterdir():
        values = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        assert values is not None
        save(tmp_path / "deep" / file.name, values.astype(np.uint16) * 257)
        np.save(tmp_path / "npy" / f"{file.stem}.npy", values.astype(np.float32) / 255)
    expected = record("--predictions", eight, "--data", data, "--protocol", "all")["pooled"]
    for folder in ("deep", "npy"):
        assert (
            record("--predictions", tmp_path / folder, "--data", data, "--protocol", "all")["pooled"]
            == expected
        )
    perfect = record("--predictions", data / "masks", "--data", data, "--protocol", "all")["pooled"]
    assert perfect["pixels"]["iou"] == perfect["hse"]["hse"] == perfect["protocols"]["opdc"]["hiou"] == 1


def test_points_refuse_protocols_that_count_pixels(data: Path, model: Path) -> None:
    with pytest.raises(DimpointError, match=r"--protocol opdc counts pixels.*--protocol spire"):
        run("--model", model, "--data", data, "--protocol", "opdc")
    with pytest.raises(DimpointError, match="unknown protocol 'spyre'"):
        run("--model", model, "--data", data, "--protocol", "spyre")
    assert list(record("--model", model, "--data", data, "--protocol", "all")["pooled"]["protocols"]) == [
        "spire"
    ]


# --- nothing is scored silently on a subset ---


def test_a_missing_prediction_is_refused_and_named(data: Path, tmp_path: Path) -> None:
    maps = make_maps(tmp_path / "maps", ("bright", "dim"))
    save(maps / "other.png", np.zeros(SIZE, np.uint8))
    with pytest.raises(DimpointError) as refused:
        run("--predictions", maps, "--data", data)
    for part in (
        "2 frames have no prediction (SET/empty, SET/lost)",
        "1 prediction belongs to no frame (other.png)",
    ):
        assert part in str(refused.value)
    text = run("--predictions", maps, "--data", data, "--allow-missing")
    kept = record("--predictions", maps, "--data", data, "--allow-missing")["notes"]
    assert any(note.startswith("INCOMPLETE: only ") for note in kept)
    assert "INCOMPLETE: only 2 of 4 frames are scored" in " ".join(text.split())


def test_predictions_of_another_split_are_left_aside_and_told(tmp_path: Path) -> None:
    data = make_set(tmp_path / "SET", ("bright", "dim"))
    text = run("--predictions", make_maps(tmp_path / "maps"), "--data", data, "--split", "test")
    assert "2 predictions are of frames outside split test" in " ".join(text.split())


def test_predictions_of_another_split_alone_are_told(tmp_path: Path) -> None:
    data = make_set(tmp_path / "SET", ("bright", "dim"))
    maps = make_maps(tmp_path / "maps", ("empty",))
    with pytest.raises(DimpointError, match=r"1 prediction is of a frame outside the split \(empty.png\)"):
        run("--predictions", maps, "--data", data, "--split", "test")


def test_same_names_in_two_sets_are_told_apart_by_folder(tmp_path: Path) -> None:
    first, second = make_set(tmp_path / "A"), make_set(tmp_path / "B")
    maps = tmp_path / "maps"
    make_maps(maps / "A")
    make_maps(maps / "B")
    found = record("--predictions", maps, "--data", first, "--data", second)
    assert [part["frames"] for part in found["data"]] == [4, 4]
    with pytest.raises(DimpointError, match="in a folder of its name"):
        run("--predictions", make_maps(tmp_path / "flat"), "--data", first, "--data", second)


BAD = [
    # what is in the folder as bright.npy or .png, what is told
    ("logits", np.full(SIZE, -3, np.float32), "look like logits"),
    ("not a number", np.full(SIZE, np.nan, np.float32), "NaN at x=0, y=0"),
    ("8-bit values as float", np.full(SIZE, 255, np.float32), "divide by 255"),
    ("another size", np.zeros((10, 10), np.float32), "the map is 10x10 but its mask is 64x48"),
    ("signed", np.zeros(SIZE, np.int32), "probabilities in 0..1 as float32"),
]


@pytest.mark.parametrize(("values", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_maps_are_refused(data: Path, tmp_path: Path, values: np.ndarray[Any, Any], message: str) -> None:
    maps = make_maps(tmp_path / "maps")
    (maps / "bright.png").unlink()
    np.save(maps / "bright.npy", values)
    with pytest.raises(DimpointError, match=message) as refused:
        run("--predictions", maps, "--data", data)
    assert "bright" in str(refused.value)


def test_masks_of_zero_and_one_are_refused(data: Path, tmp_path: Path) -> None:
    for name in ("bright", "dim", "empty", "lost"):
        save(tmp_path / "maps" / f"{name}.png", np.eye(*SIZE, dtype=np.uint8))
    with pytest.raises(DimpointError, match="only 0 and 1; save masks as 0 and 255"):
        run("--predictions", tmp_path / "maps", "--data", data)


def test_bad_choices(data: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "empty").mkdir()
    cases = [
        (("--predictions", tmp_path / "nowhere"), "no such file or folder"),
        (("--predictions", tmp_path / "list.json"), "a list; a COCO results list"),
        (("--predictions", tmp_path / "empty"), "no predictions here"),
        (("--model", model, "--split", "val"), "no split 'val'"),
        (("--model", model, "--threshold", "2"), "threshold must lie in 0..1"),
        (("--predictions", make_maps(tmp_path / "maps"), "--threshold", "2"), "threshold must lie in 0..1"),
    ]
    for arguments, message in cases:
        with pytest.raises(DimpointError, match=message):
            run(*arguments, "--data", data)


def test_two_predictions_for_one_frame(data: Path, tmp_path: Path) -> None:
    file = detections(tmp_path / "d.json", all_points() | {"other/bright.png": []})
    with pytest.raises(DimpointError, match="are both predictions for"):
        run("--predictions", file, "--data", data)


def test_evaluation_loads_neither_torch_nor_figures(data: Path, model: Path) -> None:
    """The runtime side: no training packages, and no plotting unless a report is asked for."""
    code = (
        "import sys; from dimpoint.cli import build_app;"
        f"arguments = ['evaluate', '--model', {str(model)!r}, '--data', {str(data)!r}];"
        "build_app()(arguments, standalone_mode=False);"
        "assert not {'torch', 'onnx', 'matplotlib', 'jinja2'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "protocol spire" in done.stdout


def test_what_is_found_in_an_ignore_region_does_not_count(data: Path, model: Path) -> None:
    """The false spot of `empty` lies in one, and so does a labelled target of `bright`."""
    images = [
        PointImage(f"{s.name}.png", SIZE[1], SIZE[0], s.read_points(), np.array(REGIONS[s.name], np.float32))
        for s in open_dataset(data)
    ]
    write_points(data / "points.json", images)
    spire = record("--model", model, "--data", data, "--split", "test")["pooled"]["protocols"]["spire"]
    assert (spire["tp"], spire["fn"], spire["fp"]) == (3, 1, 0)


REGIONS = {
    "bright": [[15, 15, 25, 25]],
    "dim": [[0, 0, 9, 9]],
    "empty": [[5, 25, 15, 35]],
    "lost": [[0, 0, 1, 1]],
}
