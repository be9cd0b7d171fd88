"""`dimpoint benchmark`: one table of several recipes, resumable, within a budget, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from dimpoint.cli import build_app
from dimpoint.errors import ConfigError, DataError, DimpointError, MissingExtraError
from dimpoint.networks import create
from dimpoint.networks.base import count_macs, count_parameters
from dimpoint.studies import runs as module
from dimpoint.studies.benchmark import COLUMNS, cells, markdown, trained_on
from dimpoint.studies.runs import Budget, train_once
from dimpoint.synthetic.scenes import SceneConfig, write_dataset
from dimpoint.training.fit import Machine, TrainingData
from dimpoint.training.frames import labels_of
from dimpoint.training.recipe import Recipe, load_recipe

SIZE = 48
CPU = Machine(accelerator="cpu", devices=1, precision="32-true", threads=1)
SHORT = {
    "view": {"size": 32},
    "batch": 2,
    "steps_per_epoch": 2,
    "epochs": 1,
    "validate_every": 1,
    "validation": 0.3,
    "weights": {},
}
POINTS = {"base": "spire-sirst", "network": {"options": {"widths": [4, 8], "depths": [1, 1]}}, **SHORT}
MASKS = {"base": "unet", "network": {"options": {"widths": [4, 8]}}, **SHORT}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten frames of 48x48, four of them the test split, with masks and points."""
    root = tmp_path_factory.mktemp("data") / "SCENES"
    write_dataset(root, SceneConfig(height=SIZE, width=SIZE), 10, test_fraction=0.4)
    return root


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A recipe on points and one on masks, as files."""
    folder = tmp_path_factory.mktemp("recipes")
    files = []
    for name, content in (("on-points", POINTS), ("on-masks", MASKS)):
        files.append(folder / f"{name}.yaml")
        files[-1].write_text(yaml.safe_dump(content))
    return str(files[0]), str(files[1])


def test_masks_that_grow_from_points_are_trained_on_points() -> None:
    changes = ([], ["labels=points"])
    assert [trained_on(load_recipe("unet", change)) for change in changes] == ["masks", "points"]
    assert trained_on(load_recipe("spire-sirst")) == "points"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(build_app(), ["benchmark", *map(str, arguments), "--threads", "1"])


def finished(out: Path, recipe: Recipe, sources: TrainingData) -> None:
    """Write what a finished run leaves, with an empty model."""
    data = {part.name: {"sha256": part.fingerprint()} for part in sources.open(labels_of(recipe))}
    record = {"sources": sources.to_record(), "data": data, "model": {}}
    (out / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    (out / "run.json").write_text(json.dumps(record))
    (out / "model.onnx").touch()


Done = tuple[Path, dict[str, Any], str]


@pytest.fixture(scope="module")
def done(scenes: Path, recipes: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The folder of a finished benchmark, its record, and what it printed."""
    out = tmp_path_factory.mktemp("benchmark") / "out"
    result = run(*recipes, "--data", scenes, "--out", out)
    assert result.exit_code == 0, result.output
    return out, json.loads((out / "benchmark.json").read_text()), result.output


class TestTable:
    def test_a_row_for_each_recipe_in_order(self, done: Done) -> None:
        rows = done[1]["rows"]
        assert [(row["recipe"], row["network"], row["labels"]) for row in rows] == [
            ("on-points", "spire-lite", "points"),
            ("on-masks", "unet", "masks"),
        ]

    def test_costs_are_those_of_the_networks(self, done: Done) -> None:
        # small frames are seen magnified and as they are with the points' recipe, and cost both
        for row, options, scales in zip(done[1]["rows"], (POINTS, MASKS), ((2, 1), (1,)), strict=True):
            network = create(row["network"], **options["network"]["options"])  # type: ignore[index]
            assert row["parameters"] == count_parameters(network)
            assert row["macs"] == sum(count_macs(network, scale * SIZE, scale * SIZE) for scale in scales)
            assert row["ms"] > 0
            assert row["minutes"] > 0

    def test_says_what_was_done(self, done: Done, scenes: Path) -> None:
        record = done[1]
        assert record["data"] == [str(scenes)]
        assert (record["split"], record["frames"], record["frame_size"]) == ("test", 4, [SIZE, SIZE])
        assert (record["protocol"], record["threads"]) == ("spire", 1)

    def test_markdown_holds_the_same_rows(self, done: Done) -> None:
        out, record, _ = done
        text = (out / "benchmark.md").read_text()
        for row in record["rows"]:
            assert "| " + " | ".join(cells(row)) + " |" in text
        assert "threshold of the best F1 on the frames that each run held out" in text

    def test_the_terminal_shows_every_value_in_full(self, done: Done) -> None:
        """80 columns, as a terminal or a log has."""
        _, record, printed = done
        for label, *values in zip(COLUMNS, *map(cells, record["rows"]), strict=True):
            for value in values:
                assert all(word in printed for word in value.split()), (label, value)

    def test_what_is_not_defined_is_a_dash(self) -> None:
        row = {
            "recipe": "r", "labels": "points", "precision": None, "recall": 0.0, "f1": 0.5,
            "f1_interval": [None, None], "fa": 0.0, "distance": None, "parameters": 1234, "macs": 5e8,
            "ms": 1.25, "minutes": None,
        }  # fmt: skip
        assert dict(zip(COLUMNS, cells(row), strict=True)) == {
            "recipe": "r", "labels": "points", "precision": "-", "recall": "0.000", "F1": "0.500",
            "95 %": "-", "Fa, per pixel": "0.0e+00", "error, px": "-", "parameters": "1,234",
            "GMACs": "0.50", "CPU ms": "1.2", "training, min": "-",
        }  # fmt: skip
        record = {
            "data": ["A", "B"], "split": "test", "frames": 3, "frame_size": [8, 9], "protocol": "spire",
            "budget": "2 epochs", "changes": ["batch=4"], "threads": None, "threshold": "t", "rows": [row],
        }  # fmt: skip
        text = markdown(record)
        assert text.startswith(
            "A, B, split test: 3 frames, protocol spire, trained for 2 epochs. `--set batch=4`"
        )
        assert "one 8x9 frame" in text
        assert "all cores" in text


class TestGoingOn:
    def test_finished_runs_are_not_trained_again(
        self, done: Done, scenes: Path, recipes: tuple[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def train_again(*arguments: object, **options: object) -> None:
            raise AssertionError("trained again")

        monkeypatch.setattr("dimpoint.studies.runs.fit", train_again)
        out, before, _ = done
        again = run(*recipes, "--data", scenes, "--out", out)
        assert again.exit_code == 0, again.output
        after = json.loads((out / "benchmark.json").read_text())
        for record in (before, after):
            for row in record["rows"]:
                row.pop("ms")
        assert after == before

    def test_another_recipe_in_its_place_is_refused(
        self, done: Done, scenes: Path, recipes: tuple[str, str]
    ) -> None:
        result = run(*recipes, "--data", scenes, "--out", done[0], "--epochs", "3")
        assert_refused(result, ConfigError, "holds a run of another recipe; what differs: epochs;")

    def test_a_finished_run_on_other_data_is_refused(
        self, done: Done, scenes: Path, recipes: tuple[str, str], tmp_path: Path
    ) -> None:
        out = done[0]
        other = tmp_path / "OTHER"
        write_dataset(other, SceneConfig(height=SIZE, width=SIZE), 10, seed=1, test_fraction=0.4)
        result = run(*recipes, "--data", other, "--out", out)
        assert_refused(result, ConfigError, f"{out / 'on-points'}: holds a run on other data")
        assert "what differs: OTHER, SCENES;" in str(result.exception)
        result = run(*recipes, "--data", scenes, "--out", out, "--mask-values", "instances")
        assert_refused(result, ConfigError, "what differs: mask_values of the reading;")

    @pytest.mark.parametrize(
        ("known", "asked", "message"),
        [
            (Budget(minutes=5), Budget(minutes=60), "trained for 5 minutes, not for 60 minutes"),
            (Budget(), Budget(minutes=60), "trained for the recipe's own epochs, not for 60 minutes"),
            (Budget(minutes=5), Budget(epochs=3), "trained for 5 minutes, not for 3 epochs"),
        ],
    )
    def test_a_run_of_another_length_is_refused(
        self,
        tmp_path: Path,
        scenes: Path,
        monkeypatch: pytest.MonkeyPatch,
        known: Budget,
        asked: Budget,
        message: str,
    ) -> None:
        recipe, data = load_recipe("spire-sirst"), TrainingData([scenes])
        monkeypatch.setattr(module, "fit", lambda recipe, sources, out, **_: finished(out, recipe, sources))
        train_once(recipe, data, tmp_path, CPU, print, known)
        assert train_once(recipe, data, tmp_path, CPU, print, known) == tmp_path / "model.onnx"
        with pytest.raises(ConfigError, match=message):
            train_once(recipe, data, tmp_path, CPU, print, asked)

    @pytest.mark.parametrize(
        ("budget", "changed", "kept"),
        [
            # what is asked for, what the run's own recipe has instead, whether it is the same run
            (Budget(minutes=5), {"epochs": 17, "steps_per_epoch": 3}, True),  # planned by the run itself
            (Budget(minutes=5), {"seed": 1}, False),
            (Budget(), {"epochs": 17}, False),
            (Budget(epochs=17), {"epochs": 17}, True),
            (Budget(epochs=16), {"epochs": 17}, False),
            (Budget(), {"description": "of an earlier version"}, True),
        ],
    )
    def test_a_run_is_kept_if_its_recipe_is_the_same(
        self, tmp_path: Path, scenes: Path, budget: Budget, changed: dict[str, Any], kept: bool
    ) -> None:
        recipe = load_recipe("spire-sirst")
        finished(tmp_path, recipe.model_copy(update=changed), TrainingData([scenes]))
        if kept:
            found = train_once(recipe, TrainingData([scenes]), tmp_path, CPU, print, budget)
            assert found == tmp_path / "model.onnx"
        else:
            with pytest.raises(ConfigError, match="a run of another recipe"):
                train_once(recipe, TrainingData([scenes]), tmp_path, CPU, print, budget)

    def test_training_time_adds_up(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = iter([0.0, 30.0, 100.0, 112.5])
        monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
        with pytest.raises(KeyboardInterrupt), module.clock(tmp_path):
            raise KeyboardInterrupt
        with module.clock(tmp_path):
            pass
        (tmp_path / "model.onnx").touch()
        monkeypatch.setattr(module.time, "monotonic", lambda: 1e9)
        with module.clock(tmp_path):  # finished before: nothing is trained
            pass
        assert module.training_seconds(tmp_path) == 42.5


class TestBudget:
    @pytest.mark.parametrize(
        ("budget", "options"),
        [
            # budget, (epochs, minutes) that the training is called with; the recipe has 7 epochs
            (Budget(), (7, None)),
            (Budget(epochs=3), (3, None)),
            (Budget(minutes=2.5), (7, 2.5)),  # the training itself finds the epochs that fit
        ],
    )
    def test_what_the_training_is_asked_for(
        self,
        budget: Budget,
        options: tuple[int, float | None],
        scenes: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        asked = []

        def training(recipe: Recipe, sources: TrainingData, out: Path, **options: Any) -> None:
            asked.append((recipe.epochs, options["minutes"]))
            out.mkdir(exist_ok=True)
            (out / "model.onnx").touch()

        monkeypatch.setattr(module, "fit", training)
        recipe = load_recipe("spire-sirst", ["epochs=7"])
        train_once(recipe, TrainingData([scenes]), tmp_path / "run", CPU, lambda _: None, budget)
        assert asked == [options]

    @pytest.mark.slow
    def test_minutes_of_a_real_run(self, scenes: Path, recipes: tuple[str, str], tmp_path: Path) -> None:
        """The run plans its epochs and ends; asked for again it is finished."""
        said: list[str] = []
        recipe = load_recipe(recipes[1])
        for _ in range(2):
            train_once(
                recipe, TrainingData([scenes]), tmp_path / "run", CPU, said.append, Budget(minutes=0.05)
            )
        assert sum("s a step" in line for line in said) == 1


def assert_refused(result: Result, error: type[DimpointError], message: str) -> None:
    assert isinstance(result.exception, error), result.output
    assert message in str(result.exception)


class TestRefused:
    # (recipes, further arguments, what the message says)
    @pytest.mark.parametrize(
        ("names", "more", "message"),
        [
            (["spire-sirst", "spire-sirst"], [], "two recipes are called 'spire-sirst'"),
            (["spire-sirts"], [], "did you mean 'spire-sirst'"),
            (["spire-sirst"], ["--set", "epoch=1"], "did you mean 'epochs'"),
            (["spire-sirst"], ["--epochs", "1", "--minutes", "1"], "give either --epochs or --minutes"),
            (["spire-sirst"], ["--train-split", "test"], "4 of 4 frames would be trained on and evaluated"),
        ],
    )
    def test_before_anything_is_trained(
        self, scenes: Path, tmp_path: Path, names: Sequence[str], more: Sequence[str], message: str
    ) -> None:
        result = run(*names, "--data", scenes, "--out", tmp_path / "out", *more)
        assert_refused(result, ConfigError, message)
        assert not (tmp_path / "out").exists()

    def test_a_recipe_without_its_labels(
        self, scenes: Path, recipes: tuple[str, str], tmp_path: Path
    ) -> None:
        """Masks lack: nothing is trained, not even the recipe that would do with points."""
        bare = tmp_path / "BARE"
        bare.mkdir()
        for name in ("images", "img_idx", "points.json"):
            (bare / name).symlink_to(scenes / name)
        result = run(*recipes, "--data", bare, "--out", tmp_path / "out")
        assert_refused(result, DataError, "have no mask")
        assert not (tmp_path / "out").exists()

    def test_without_the_training_packages(
        self, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("dimpoint.api.find_spec", lambda package: None)
        result = run("spire-sirst", "--data", scenes, "--out", tmp_path / "out")
        assert_refused(result, MissingExtraError, "pip install 'dimpoint[train]'")


class TestProtocols:
    """Every protocol that the recipes can serve; what they cannot is told before any training."""

    def test_maps_are_judged_by_a_protocol_of_maps(
        self, scenes: Path, recipes: tuple[str, str], tmp_path: Path
    ) -> None:
        out = tmp_path / "runs"
        options = ("--data", scenes, "--out", out, "--protocol", "opdc", "--threads", "1")
        done = run(recipes[1], *options)
        assert done.exit_code == 0, done.output
        record = json.loads((out / "benchmark.json").read_text())
        assert (record["protocol"], record["fa"]) == ("opdc", "false pixels per pixel")
        assert "Fa: false pixels per pixel." in (out / "benchmark.md").read_text()

    @pytest.mark.parametrize(
        ("protocol", "message"), [("opdc", "on-points gives points"), ("spyre", "did you mean 'spire'")]
    )
    def test_what_cannot_be_served(
        self, scenes: Path, recipes: tuple[str, str], tmp_path: Path, protocol: str, message: str
    ) -> None:
        done = run(*recipes, "--data", scenes, "--out", tmp_path / "runs", "--protocol", protocol)
        assert isinstance(done.exception, ConfigError)
        assert message in str(done.exception)
        assert not (tmp_path / "runs").exists()
