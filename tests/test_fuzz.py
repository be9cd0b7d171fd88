"""A seeded part of `benchmarks/fuzz.py`: damaged and hostile files give results or errors, no tracebacks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "fuzz.py"


@pytest.mark.slow
def test_no_traceback_no_hang_no_flood_of_memory() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--inputs", "1280", "--seed", "5"],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    result = json.loads(done.stdout)
    assert result["inputs"] == 1280
    assert result["by_kind"] == {}
