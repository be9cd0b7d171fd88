"""The runtime keeps to itself: no file in the user's folders, no connection."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import numpy as np, dimpoint
assert len(dimpoint.load(threads=1)(np.zeros((64, 64), np.uint8))) == 0
"""


def _run(home: Path, before: list[str]) -> subprocess.CompletedProcess[str]:
    home.mkdir()
    folders = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "XDG_DATA_HOME": str(home / "data")}
    rest = {key: value for key, value in os.environ.items() if not key.startswith(("ORT_", "XDG_"))}
    command = [*before, sys.executable, "-c", _PROGRAM]
    return subprocess.run(command, env=rest | folders, capture_output=True, text=True, check=False)


def test_detecting_writes_nothing_into_an_empty_home(tmp_path: Path) -> None:
    done = _run(tmp_path / "home", [])
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "home").rglob("*"))


def test_detecting_opens_no_connection(tmp_path: Path) -> None:
    """Every socket call of the process and its threads is recorded by strace."""
    log = tmp_path / "calls"
    strace = ["strace", "-f", "-e", "trace=connect,sendto,socket", "-o", str(log)]
    try:
        subprocess.run([*strace, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("strace cannot trace here")
    done = _run(tmp_path / "home", strace)
    assert done.returncode == 0, done.stderr
    assert "AF_INET" not in log.read_text()
