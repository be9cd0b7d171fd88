"""`examples/whole/` finds what `Detector` finds: Python, Node.js, and the page in Chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from dimpoint.inference.detector import Detector
from dimpoint.whole.export import export_whole

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples" / "whole"
SCENE = ROOT / "examples" / "scenes" / "images" / "000001.png"
CHROMIUM = shutil.which("chromium")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync")

pytestmark = pytest.mark.slow


def node_modules(package: str) -> Path:
    """Where npm put a package: DIMPOINT_NODE_MODULES or the checkout's node_modules."""
    folder = Path(os.environ.get("DIMPOINT_NODE_MODULES", ROOT / "node_modules"))
    if not (folder / package).is_dir():
        pytest.skip(f"no {folder / package}: npm install {package}")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "whole.onnx"
    export_whole("spire-lite", out)
    return out


def expected(frame: npt.NDArray[Any]) -> npt.NDArray[Any]:
    found = Detector(threads=1)(frame)
    assert len(found)
    return np.column_stack([found.xy, found.scores])


def assert_printed(text: str, frame: npt.NDArray[Any]) -> None:
    rows = [[float(word) for word in line.split()] for line in text.splitlines()]
    np.testing.assert_allclose(rows, expected(frame), atol=0.02)


def test_python(model: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "detect.py"), str(model), str(SCENE)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert_printed(done.stdout, cv2.imread(str(SCENE), cv2.IMREAD_UNCHANGED))


def test_node(model: Path, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    (tmp_path / "node_modules").symlink_to(node_modules("onnxruntime-node"))
    shutil.copy(EXAMPLES / "detect.mjs", tmp_path)
    frame = cv2.imread(str(SCENE), cv2.IMREAD_UNCHANGED)
    frame.tofile(tmp_path / "frame.raw")
    command = [node, "detect.mjs", str(model), "frame.raw", *map(str, frame.shape)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert_printed(done.stdout, frame)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def address(model: Path, tmp_path: Path) -> Iterator[str]:
    """The page, served as its README says."""
    shipped = node_modules("onnxruntime-web") / "onnxruntime-web" / "dist"
    for name in ("index.html", "detect.js"):
        shutil.copy(EXAMPLES / name, tmp_path)
    shutil.copy(model, tmp_path / "whole.onnx")
    (tmp_path / "ort").mkdir()
    for file in (shipped / "ort.wasm.min.js", *shipped.glob("ort-wasm-simd-threaded.*")):
        shutil.copy(file, tmp_path / "ort")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_page(address: str, tmp_path: Path) -> None:
    """Two pictures and a file that is none; nothing is loaded from elsewhere."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    sync_api = pytest.importorskip("playwright.sync_api")
    deep = cv2.imread(str(SCENE), cv2.IMREAD_UNCHANGED)
    eight = cv2.normalize(deep, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "scene.png"), eight)
    cv2.imwrite(str(tmp_path / "empty.png"), np.full((40, 60), 90, np.uint8))
    (tmp_path / "note.txt").write_text("no picture")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        page.set_default_timeout(60_000)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.locator("#state", has_text="Ready.").wait_for()
        files = [str(tmp_path / name) for name in ("note.txt", "empty.png", "scene.png")]
        page.set_input_files("#files", files)
        page.locator("figcaption", has_text="scene.png").wait_for()
        rows = page.locator("figure").first.locator("td").all_inner_texts()
        found = np.array(rows, float).reshape(-1, 3)
        np.testing.assert_allclose(found, expected(eight), atol=0.02)
        assert page.locator("figcaption", has_text="empty.png: 0 targets").count() == 1
        assert "not a picture" in page.locator("p.error").inner_text()
        page.locator("#least").fill("1")
        assert page.locator("figcaption").first.inner_text() != f"scene.png: {len(found)} targets"
        page.screenshot(path=os.environ.get("DIMPOINT_PAGE_PICTURE", str(tmp_path / "page.png")))
        browser.close()
    assert all(url.startswith((address, "blob:")) for url in asked), asked
