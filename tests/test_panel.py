"""The panel of held-out frames: which frames it takes, and what it does without some of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from spot_scenes import make_spots
from tiny_models import write_model

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import panel
import parts


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["panel.py", *map(str, arguments)])
    panel.main()


def test_missing_parts_are_named_and_the_rest_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_spots(tmp_path / "NUDT-SIRST")
    model = write_model(tmp_path / "blob.onnx")
    run(monkeypatch, "--data", tmp_path, "--model", model, "--save", tmp_path / "scores.json")
    printed = capsys.readouterr()
    assert printed.err.count("not there, left out") == len(panel.sources(tmp_path)) - 1
    assert "IR-video: not there" in printed.err
    lines = [json.loads(line) for line in printed.out.splitlines()]
    rows = {line["part"]: line for line in lines if "part" in line}
    assert rows["NUDT-SIRST"]["frames"] == rows["NUDT-SIRST-16bit"]["frames"] == 1  # 15 % of nine
    run(monkeypatch, "--load", tmp_path / "scores.json", "--threshold", model and 0.3)
    again = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert again[1:] == lines[1:]


def outcome(hits: list[float], false: list[float], truths: int) -> panel.Outcome:
    scores = np.array(hits), np.full(len(hits), 1.0), np.array(false)
    return panel.Outcome("part", "unit", truths, 2.0, *scores)


@pytest.mark.parametrize(
    ("false", "rate", "threshold"),
    [
        ([], 1, 0),  # none: everything may pass
        ([0.9, 0.5, 0.3], 0.5, 0.5),  # one in two megapixels: above 0.5 lies one
        ([0.9, 0.5, 0.3], 0.1, 0.9),  # none at all
        ([0.9, 0.5, 0.3], 9, 0),
    ],
)
def test_the_threshold_of_a_false_alarm_rate(false: list[float], rate: float, threshold: float) -> None:
    assert panel.threshold_for([outcome([], false, 0)], rate, lambda o: o.megapixels) == threshold


@pytest.mark.parametrize(
    ("hits", "false", "truths", "expected"),
    [
        ([0.9, 0.8], [], 2, 1.0),
        ([0.9, 0.8], [], 4, 0.5),
        ([0.9, 0.7], [0.8], 2, (1 + 2 / 3) / 2),
        ([], [0.5], 1, 0.0),
        ([], [], 1, 0.0),
    ],
)
def test_average_precision(hits: list[float], false: list[float], truths: int, expected: float) -> None:
    assert panel.average_precision([outcome(hits, false, truths)]) == pytest.approx(expected)


def test_groups_are_held_out_whole_and_the_largest_never() -> None:
    sizes = {"all drones": 40, **{f"group {n}": 5 for n in range(12)}}
    held = parts.hold_out(sizes, 0.25)
    assert "all drones" not in held
    assert 25 <= sum(sizes[key] for key in held) < 30
    assert parts.hold_out(dict(reversed(sizes.items())), 0.25) == held
