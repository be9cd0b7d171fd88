"""The documented example of a user's own network is the one that runs, and it runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "own_network.py"


def test_the_page_shows_the_example_that_runs() -> None:
    page = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    shown = page.partition("```python\n")[2].partition("```")[0].strip()
    assert shown.startswith("class ThreeScales(HostNetwork)")
    assert shown in EXAMPLE.read_text(encoding="utf-8")


def test_the_example_trains_exports_and_detects(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE), str(tmp_path / "own"), "--epochs", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "targets, found at" in done.stdout
    assert (tmp_path / "own" / "run" / "model.onnx").is_file()
