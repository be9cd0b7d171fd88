"""Where the tests find real data and reference values: `../shared` beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parents[2] / "shared"

collect_ignore = ["rtsp_server.py"]  # a program of its own, which needs GStreamer


def _shared(part: str) -> Path:
    folder = _SHARED / part
    if not folder.is_dir():
        reason = f"{folder} is not there: real data and reference values live beside the checkout"
        if os.environ.get("CI") and not os.environ.get("GITHUB_ACTIONS"):  # a public runner has no such data
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    return _shared("data")


@pytest.fixture(scope="session")
def shared_reference() -> Path:
    return _shared("reference")
