"""The benchmarks: none imports what is gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
def test_every_benchmark_can_be_imported() -> None:
    names = ", ".join(sorted(file.stem for file in FOLDER.glob("*.py")))
    ended = subprocess.run(
        [sys.executable, "-c", f"import {names}"], cwd=FOLDER, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
