"""`dimpoint.evaluate` and `dimpoint.compare` in Python; several methods side by side."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

import dimpoint
from data_sets import save
from dimpoint.cli import build_app
from dimpoint.errors import ConfigError, DataError, MissingExtraError
from dimpoint.evaluation.summary import threshold_digits
from dimpoint.evaluation.tables import split_cell
from dimpoint.inference.detections import write_detections
from dimpoint.report import evaluation as module
from dimpoint.sources import read_image
from evaluation_sets import SIZE, all_points, detections, make_maps, make_model, make_set, mask
from tiny_models import spots


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make_set(root / "SET")
    make_model(root / "blob.onnx")
    make_maps(root / "maps")
    detections(root / "all.json", all_points())
    detections(root / "few.json", {name: found[:1] for name, found in all_points().items()})
    return root


def run(*arguments: object) -> str:
    result = CliRunner().invoke(build_app(), ["evaluate", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


class TestEvaluation:
    def test_a_model_by_file_by_detector_and_by_its_detections(self, world: Path) -> None:
        by_file = dimpoint.evaluate(world / "blob.onnx", world / "SET", split="test")
        by_detector = dimpoint.evaluate(dimpoint.load(world / "blob.onnx"), world / "SET", split="test")
        assert by_file.numbers == pytest.approx(by_detector.numbers, nan_ok=True)
        assert (by_file.numbers["tp"], by_file.numbers["fp"], by_file.numbers["fn"]) == (3, 1, 1)
        assert by_file.numbers["f1"] == pytest.approx(0.75)

    def test_a_detector_keeps_its_threshold(self, world: Path) -> None:
        strict = dimpoint.load(world / "blob.onnx", threshold=0.99)
        assert dimpoint.evaluate(strict, world / "SET").numbers["tp"] == 0

    def test_a_detector_keeps_its_polarity(self, world: Path, tmp_path: Path) -> None:
        shutil.copytree(world / "SET", tmp_path / "SET")
        for file in (tmp_path / "SET" / "images").iterdir():
            save(file, 255 - read_image(file))
        expected = dimpoint.evaluate(world / "blob.onnx", world / "SET").numbers
        dark = dimpoint.load(world / "blob.onnx", polarity="black-hot")
        assert dimpoint.evaluate(dark, tmp_path / "SET").numbers == pytest.approx(expected, nan_ok=True)
        assert expected["tp"] > 0

    def test_a_model_is_judged_by_what_it_detects_beside_no_data(self, world: Path, tmp_path: Path) -> None:
        """What touches pixels that are no measurements is no detection, and no false object either."""
        pixels = spots(SIZE, [(20, 20), (51, 24)])
        pixels[20:30, 52:] = -1
        (tmp_path / "images").mkdir()
        tags = [(42113, "s", 0, "-1", True)]
        tifffile.imwrite(tmp_path / "images" / "a.tif", pixels.astype(np.float32), extratags=tags)
        save(tmp_path / "masks" / "a.png", mask([(20, 20, 1.0)]))
        found = dimpoint.load(world / "blob.onnx").predict(tmp_path / "images")
        write_detections(tmp_path / "found.json", "blob", found)
        numbers = dimpoint.evaluate(world / "blob.onnx", tmp_path).numbers
        assert (numbers["tp"], numbers["fp"]) == (1, 0)
        assert numbers == pytest.approx(dimpoint.evaluate(tmp_path / "found.json", tmp_path).numbers)

    def test_repr_is_one_line(self, world: Path) -> None:
        text = repr(dimpoint.evaluate(world / "all.json", world / "SET"))
        assert text.startswith("<Evaluation on ")
        assert "4 frames, protocol spire" in text
        assert "F1 0.889" in text
        assert "\n" not in text

    def test_maps_have_iou_niou_and_hse(self, world: Path) -> None:
        numbers = dimpoint.evaluate(world / "maps", world / "SET", protocol="opdc").numbers
        assert numbers["iou"] == pytest.approx(27 / 37)
        assert {"niou", "hse", "hiou"} <= numbers.keys()

    def test_a_threshold_of_points_is_a_finite_number(self, world: Path) -> None:
        """Scores of COCO files may lie beyond 1; above NaN lies nothing."""
        with pytest.raises(ConfigError, match="threshold must be a finite number, got nan"):
            dimpoint.evaluate(world / "all.json", world / "SET", threshold=float("nan"))
        assert dimpoint.evaluate(world / "all.json", world / "SET", threshold=7).numbers["tp"] == 0

    def test_no_protocol_is_refused(self, world: Path) -> None:
        with pytest.raises(ConfigError, match="no protocol is given"):
            dimpoint.evaluate(world / "all.json", world / "SET", protocol=[])

    @pytest.mark.parametrize("protocol", ["opdc", ["opdc"], ("opdc",)])
    def test_a_protocol_given_as_text_is_one_name(self, world: Path, protocol: str) -> None:
        result = dimpoint.evaluate(world / "maps", world / "SET", protocol=protocol).results[0]
        assert result.protocols == ("opdc",)

    def test_the_low_level_function_takes_text_too(self, world: Path) -> None:
        from dimpoint.evaluation.run import evaluate
        from dimpoint.evaluation.subject import Data, open_predictions

        subject = open_predictions(world / "maps", Data((world / "SET",)))
        assert evaluate(subject.predictor, subject.frames, "opdc").protocols == ("opdc",)

    def test_to_dataframe(self, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        evaluation = dimpoint.evaluate([world / "all.json", world / "few.json"], world / "SET")
        frame = evaluation.to_dataframe()
        recall = frame[frame.quantity == "recall (Pd)"]
        assert recall.value.tolist() == [1.0, 0.75]
        assert (recall.low <= recall.value).all()
        monkeypatch.setattr(module, "find_spec", lambda name: None)
        with pytest.raises(MissingExtraError, match=r"pandas.*dimpoint\[notebook\]"):
            evaluation.to_dataframe()

    @pytest.mark.parametrize("kind", ["free-response", "precision-recall", "pd-fa"])
    def test_plot_gives_axes_with_a_line_for_each_method(self, world: Path, kind: str) -> None:
        axes = dimpoint.evaluate([world / "all.json", world / "few.json"], world / "SET").plot(kind)
        names = [line.get_label() for line in axes.get_lines() if not line.get_label().startswith("_")]
        assert names == [str(world / "all.json"), str(world / "few.json")]
        with pytest.raises(ConfigError, match="free-response, precision-recall, pd-fa"):
            dimpoint.evaluate(world / "all.json", world / "SET").plot("rock")

    def test_report(self, world: Path, tmp_path: Path) -> None:
        page = dimpoint.evaluate(world / "maps", world / "SET", protocol="basicirstd").report(tmp_path)
        text = page.read_text()
        tiles = text[text.index('class="tiles"') : text.index("Below each number")]
        for name in ("IoU", "nIoU", "HSE", "F1"):
            assert f"<span>{name}</span>" in tiles
        assert "Fa, in units of 1e-6" in text
        assert 'class="mark missed"' in text
        assert "missed target" in text

    @pytest.mark.parametrize("bad", [3, [], [3]])
    def test_what_cannot_be_evaluated(self, world: Path, bad: object) -> None:
        with pytest.raises(ConfigError, match="evaluate"):
            dimpoint.evaluate(bad, world / "SET")  # type: ignore[arg-type]

    def test_compare(self, world: Path) -> None:
        found = dimpoint.compare(world / "all.json", world / "few.json", world / "SET")
        assert [each.protocol for each in found.comparisons] == ["spire"]
        assert "difference in F1 on SET (4 frames)" in repr(found)
        same = dimpoint.compare(world / "all.json", world / "all.json", world / "SET")
        assert all(row.difference.value == 0 for row in same.comparisons[0].rows if row.first == row.first)


class TestSideBySide:
    def test_every_method_is_a_column(self, world: Path) -> None:
        both = ("--predictions", world / "all.json", "--predictions", world / "few.json")
        text = run(*both, "--model", world / "blob.onnx", "--data", world / "SET")
        row = next(line for line in text.splitlines() if "found / missed / false" in line)
        assert [cell.strip() for cell in row.split("│")[2:5]] == ["3 / 1 / 1", "4 / 0 / 1", "3 / 1 / 1"]

    def test_json_csv_and_latex(self, world: Path, tmp_path: Path) -> None:
        both = ("--predictions", world / "all.json", "--predictions", world / "few.json")
        files = ("--csv", tmp_path / "t.csv", "--latex", tmp_path / "t.tex", "--json", tmp_path / "t.json")
        run(*both, "--data", world / "SET", *files)
        records = json.loads((tmp_path / "t.json").read_text())["evaluations"]
        assert [each["pooled"]["protocols"]["spire"]["recall"] for each in records] == [1, 0.75]
        rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
        found = {row["method"]: row for row in rows if row["quantity"] == "recall (Pd)"}
        assert [float(each["value"]) for each in found.values()] == [1.0, 0.75]
        assert float(found[str(world / "few.json")]["low"]) < 0.75
        latex = (tmp_path / "t.tex").read_text()
        assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 1
        assert "recall (Pd)" in latex
        columns = {line.count(" & ") for line in latex.splitlines() if line.endswith(r"\\")}
        assert len(columns) == 1  # every row has as many cells as the head
        low = found[str(world / "few.json")]["low"]
        assert f"0.750 [{low}, " in latex  # with its interval

    def test_predictions_have_the_name_that_they_are_given(self, world: Path, tmp_path: Path) -> None:
        named = ("--predictions", f"ours={world / 'all.json'}", "--predictions", f"a=b={world / 'few.json'}")
        with pytest.raises(DataError, match=r"b=.*no such file"):  # the name ends at the first sign
            run(*named, "--data", world / "SET")
        (world / "x=1.json").write_bytes((world / "few.json").read_bytes())
        named = ("--predictions", f"ours={world / 'all.json'}", "--predictions", str(world / "x=1.json"))
        run(*named, "--data", world / "SET", "--csv", tmp_path / "t.csv")
        rows = csv.DictReader((tmp_path / "t.csv").read_text().splitlines())
        assert {row["method"] for row in rows} == {"ours", str(world / "x=1.json")}

    def test_record_and_report_say_what_was_evaluated(self, world: Path, tmp_path: Path) -> None:
        make_set(tmp_path / "SET")
        model = world / "blob.onnx"
        command = ("--model", model, "--data", tmp_path / "SET")
        run(*command, "--json", tmp_path / "a.json", "--report", tmp_path / "page")
        first = json.loads((tmp_path / "a.json").read_text())
        assert first["model_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
        labels = first["pooled"]["labels_sha256"]
        page = (tmp_path / "page" / "index.html").read_text()
        assert "Made by <code>dimpoint" in page
        assert f"<td>{labels[:12]}</td>" in page
        assert f"<td>{first['model_sha256'][:12]}</td>" in page
        save(tmp_path / "SET" / "masks" / "dim.png", mask([(31, 12, 0.5)]))
        run(*command, "--json", tmp_path / "b.json")
        second = json.loads((tmp_path / "b.json").read_text())
        assert second["pooled"]["labels_sha256"] != labels

    def test_one_figure_holds_the_curves_of_all(self, world: Path, tmp_path: Path) -> None:
        both = ("--predictions", world / "all.json", "--predictions", world / "few.json")
        run(*both, "--data", world / "SET", "--report", tmp_path)
        text = (tmp_path / "index.html").read_text()
        figure = text[text.index("<h3>Free response</h3>") : text.index("<h3>Precision and recall</h3>")]
        assert figure.count("all.json") >= 1
        assert figure.count("few.json") >= 1
        assert f"Worst misses: {world / 'few.json'}" in text

    def test_methods_of_one_name_are_numbered(self, world: Path) -> None:
        text = run(*("--predictions", world / "all.json") * 2, "--data", world / "SET")
        assert "all.json (1)" in text
        assert "all.json (2)" in text

    def test_a_threshold_is_chosen_for_one(self, world: Path) -> None:
        both = ("--predictions", world / "all.json", "--predictions", world / "few.json")
        with pytest.raises(ConfigError, match="one model or prediction at a time"):
            run(*both, "--data", world / "SET", "--pd", "0.5")


CELLS = [
    # a cell, its value and interval
    ("0.750 [0.500, 1.000]", ("0.750", "0.500", "1.000")),
    ("4.12e-07 [6.91e-08, 8.15e-07]", ("4.12e-07", "6.91e-08", "8.15e-07")),
    ("3 / 1 / 1", ("3 / 1 / 1", "", "")),
    ("-", ("", "", "")),
    ("0.35", ("0.35", "", "")),
]


@pytest.mark.parametrize(("cell", "parts"), CELLS)
def test_cells_are_taken_apart(cell: str, parts: tuple[str, str, str]) -> None:
    assert split_cell(cell) == parts


@pytest.mark.parametrize("value", [0.3, 0.655, 0.65512, 0.6551234, 0.65512341260910, 1.0, 0.0, 1e-4])
def test_a_printed_threshold_is_the_stored_one(value: float) -> None:
    assert float(threshold_digits(value)) == value
    assert len(threshold_digits(0.655)) == 5


def test_a_threshold_chosen_on_the_evaluated_frames_predicts_once(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dimpoint.evaluation.predictions import ModelPredictor

    calls = []
    predict = ModelPredictor.predict
    monkeypatch.setattr(ModelPredictor, "predict", lambda *arguments: calls.append(1) or predict(*arguments))
    run("--model", world / "blob.onnx", "--data", world / "SET", "--pd", "0.9")
    assert len(calls) == 4
