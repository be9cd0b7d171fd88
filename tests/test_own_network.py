"""The documented example of a user's own network is the one that runs, and it learns."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dimpoint.metrics.points import PointCounts, match_points

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "own_network.py"
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}  # several would only get in each other's way
LINE = re.compile(r"\S+: targets at (\[.*\]), found at (\[.*\])")


def test_the_page_shows_the_example_that_runs() -> None:
    page = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    shown = page.partition("```python\n")[2].partition("```")[0].strip()
    assert shown.startswith("class ThreeScales(HostNetwork)")
    assert shown in EXAMPLE.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "precision"),
    [
        (0, "auto"),  # as documented
        (0, "32-true"),  # processors without bfloat16
        (1, "32-true"),
        (2, "32-true"),
    ],
)
def test_the_example_learns_exports_and_detects(tmp_path: Path, seed: int, precision: str) -> None:
    """In a third of its default length it finds targets of frames that it was not trained on."""
    options = ["--epochs", "10", "--seed", str(seed), "--precision", precision]
    command = [sys.executable, str(EXAMPLE), str(tmp_path / "own"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ONE_THREAD)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "own" / "run" / "model.onnx").is_file()
    counts = []
    for line in done.stdout.splitlines():
        if parts := LINE.fullmatch(line):
            truth, found = (ast.literal_eval(text) for text in parts.groups())
            counts.append(PointCounts.of_frame(match_points(found, [1.0] * len(found), truth), (128, 128)))
    total = PointCounts.total(counts)
    assert total.tp + total.fn >= 5, done.stdout
    assert total.f1 > 0.4, done.stdout
