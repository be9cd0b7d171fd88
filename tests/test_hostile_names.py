"""Names of others in the output of evaluate, compare and reports: no escapes, forged lines or formulas."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dimpoint.cli import build_app
from dimpoint.report.figures import literal
from dimpoint.studies.benchmark import COLUMNS, markdown
from evaluation_sets import make_maps, make_set

NAMES = [
    "\x1b[31mred\x1b]0;title\x07",
    "one\nF1 1.000 [forged]",
    "\x9b2Jc1",  # the one-byte form of ESC [
    "a\u202ebc",  # turns the direction of writing
    "[bold]markup[/italic]",  # no markup of the terminal library
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "$x_{$",  # half a formula
    "_hidden",  # matplotlib leaves such labels out
    '"><script>alert(1)</script>',
    "a & b % {c}",
]


def _run(*arguments: object) -> str:
    result = CliRunner().invoke(build_app(), list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def _clean(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize("name", NAMES)
def test_names_of_data_sets_and_predictions(name: str, tmp_path: Path) -> None:
    folder = name.replace("/", "\u2215")
    data = make_set(tmp_path / "data" / folder)
    maps = make_maps(tmp_path / "maps" / folder)
    out = tmp_path / "out"
    files = ("--csv", out / "t.csv", "--latex", out / "t.tex", "--report", out / "page")
    printed = _run("evaluate", "--data", data, "--predictions", maps, "--protocol", "basicirstd", *files)
    assert _clean(printed)
    assert not any(line.startswith("F1 1.000") for line in printed.splitlines())
    with (out / "t.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert {len(row) for row in rows} == {7}
    for row in rows[1:]:
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row[:4])
        assert all(_is_number(cell) for cell in row[5:] if cell)
    page = (out / "page" / "index.html").read_text("utf-8")
    assert "<script>alert" not in page
    assert "\x1b" not in page
    assert _clean((out / "t.tex").read_text("utf-8"))
    compared = _run("compare", maps, maps, "--data", data, "--protocol", "basicirstd")
    assert _clean(compared)
    record = _run("compare", maps, maps, "--data", data, "--json", "-")
    assert _clean(record)
    assert json.loads(record)["comparisons"][0]["data_set"] == folder


def _is_number(text: str) -> bool:
    float(text)
    return True


@pytest.mark.parametrize(
    ("name", "shown"), [("a", "a"), ("$x_{$", r"\$x_{\$"), ("_a", " _a"), ("a\nb", r"a\nb")]
)
def test_names_in_figures(name: str, shown: str) -> None:
    assert literal(name) == shown


def test_a_recipe_named_like_two_cells() -> None:
    numbers = ("precision", "recall", "f1", "fa", "distance", "ms", "minutes", "parameters", "macs")
    row = dict.fromkeys(numbers, 0.5) | {"f1_interval": [0.1, 0.2]}
    row |= {"recipe": "a|b\n| forged |", "labels": "points"}
    record = {
        "data": ["A"], "split": "test", "frames": 3, "frame_size": [8, 9], "protocol": "spire",
        "budget": "2 epochs", "changes": [], "threads": None, "threshold": "t", "rows": [row],
    }  # fmt: skip
    lines = markdown(record).splitlines()
    assert r"a\|b\n\| forged \|" in lines[4]
    assert lines[4].replace(r"\|", "").count("|") == len(COLUMNS) + 1
