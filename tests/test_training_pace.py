"""How long a run takes: --minutes, what is said before it starts, and that it ends in time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dimpoint.training import trainer
from dimpoint.training.fit import TrainingData, fit
from dimpoint.training.progress import Pace, duration
from dimpoint.training.recipe import load_recipe
from dimpoint.training.run_folder import RunFolder
from dimpoint.training.trainer import Costs, plan
from training_runs import CPU, logged

SMALL = [
    "network.options={widths: [4, 8], depths: [1, 1]}",
    "view.size=32",
    "batch=2",
    "steps_per_epoch=2",
    "validation=0.3",
    "validate_every=2",
]

LENGTHS = [
    # minutes, the recipe's epochs and most minutes, epochs that are trained: a step takes 1 s, an epoch 10
    (None, 7, None, 7),
    (1.0, 7, None, 5),  # 54 s: a tenth is left for what varies
    (10.0, 7, None, 54),
    (None, 7, 0.5, 2),
    (None, 7, 60.0, 7),  # a limit, not a length
    (1.0, 7, 0.1, 5),  # what is asked for goes before the recipe's limit
]


@pytest.mark.parametrize(("minutes", "epochs", "most", "trained"), LENGTHS)
def test_minutes_become_epochs(minutes: float | None, epochs: int, most: float | None, trained: int) -> None:
    limits = [f"most_minutes={most}"] if most else []
    recipe = load_recipe("demo", [f"epochs={epochs}", "steps_per_epoch=10", *limits])
    said: list[str] = []
    assert plan(recipe, Costs(1.0, 0.0), 10, 5, minutes, said.append).epochs == trained
    assert said == [f"{trained} epochs of 10 steps, 1.00 s a step: about {duration(10 * trained)}"]


def test_less_than_an_epoch_is_fewer_steps() -> None:
    recipe = load_recipe("demo", ["steps_per_epoch=50"])
    said: list[str] = []
    short = plan(recipe, Costs(10.0, 0.0), 50, 5, 1.0, said.append)
    assert (short.epochs, short.steps_per_epoch) == (1, 5)
    assert said == ["1 epoch of 5 steps, 10.00 s a step: about 50 s"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3000, "50 min"), (7200, "2.0 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_pace_counts_from_where_a_run_went_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    going = Pace(50)
    now[0] += 20
    assert going.left(60, 110) == pytest.approx(100)
    assert going.left(110, 110) == 0


def test_a_run_in_minutes_keeps_its_epochs_and_says_how_far_it_is(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer.Costs, "epochs", lambda *_: 5)
    monkeypatch.setattr(trainer, "SECONDS_BETWEEN_LINES", 0.0)
    said: list[str] = []
    fit(
        load_recipe("spire-sirst", SMALL),
        TrainingData([scenes]),
        tmp_path / "r",
        machine=CPU,
        minutes=9,
        log=said.append,
    )
    assert RunFolder(tmp_path / "r").read_recipe().epochs == 5
    assert any(line.startswith("5 epochs of 2 steps") for line in said)
    assert any(line.startswith("step 3/10 ") and line.endswith(" left") for line in said)


@pytest.mark.slow
def test_a_run_that_is_slower_than_measured_stops_and_has_a_model(scenes: Path, tmp_path: Path) -> None:
    recipe = load_recipe("spire-sirst", [*SMALL, "epochs=100000"])
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.Costs, "epochs", lambda *_: 100000)
        model = fit(
            recipe, TrainingData([scenes]), tmp_path / "r", machine=CPU, minutes=0.02, log=said.append
        )
    assert model.is_file()
    assert len(logged(tmp_path / "r", "val/f1")) >= 1
    assert any("validation F1" in line for line in said)


@pytest.mark.slow
def test_measuring_changes_nothing(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe("acm", [*SMALL[1:], "epochs=1"])  # with dropout and batch norm
    losses = []
    for name in ("measured", "not"):
        fit(recipe, TrainingData([scenes]), tmp_path / name, machine=CPU, log=lambda _: None)
        losses.append(logged(tmp_path / name, "train/loss_epoch"))
        monkeypatch.setattr("dimpoint.training.fit.measure", lambda *_: Costs(1.0, 1.0))
    assert losses[0] == losses[1]


def test_a_slow_machine_is_measured_by_one_step(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[object] = []
    collate = trainer.default_collate
    monkeypatch.setattr(trainer, "default_collate", lambda views: batches.append(views) or collate(views))
    monkeypatch.setattr(trainer, "_ENOUGH", 0.0)
    recipe = load_recipe("spire-sirst", [*SMALL, "epochs=1"])
    fit(recipe, TrainingData([scenes]), tmp_path / "r", machine=CPU, log=lambda _: None)
    assert len(batches) == 2  # one to warm up


@pytest.mark.parametrize(
    ("spent", "epochs", "steps"),
    [
        (0.0, 5, 10),  # 54 of 60 s are planned for
        (24.0, 3, 10),  # reading the data took so long
        (50.0, 1, 4),  # no whole epoch fits
        (90.0, 1, 1),  # late from the start
    ],
)
def test_what_is_spent_before_training_counts(spent: float, epochs: int, steps: int) -> None:
    recipe = load_recipe("spire-sirst", SMALL)
    found = trainer.plan(recipe, Costs(1.0, 0.0), 10, 0, 1.0, lambda _: None, spent)
    assert (found.epochs, found.steps_per_epoch if epochs == 1 else 10) == (epochs, steps)
