"""Where the tests find real data and reference values: `../shared` beside the checkout."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spot_scenes import make_spots

CHROMIUM = shutil.which("chromium")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync")
QUIET = ("--disable-background-networking", "--disable-component-update")
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


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set of spots, new for each file of tests."""
    return make_spots(tmp_path_factory.mktemp("data") / "SPOTS")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright."""
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not installed")
        pytest.skip("chromium is not installed")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *QUIET])
        yield browser
        browser.close()
