"""How fast the labelling page is: opening a project, and from a key press to the next frame on the screen.

    python benchmarks/label_speed.py --frames 100000 [--before OTHER/src]

A project of 100 and one of --frames frames of 640 x 512, and one of frames of 4096 x 3000, all 16 bit; a real
server on the loopback address and Chromium. Somebody looks at each frame for 0.4 s, at a large one for
--large-look seconds; on a busy machine that decides whether the next one has been read by then.
Measured in turn --repeats times, also with the code of another checkout. A line of JSON for each project and
code: milliseconds of a move (the least and the median over all, the highest of each repeat), seconds from the
start of the process to its address, seconds to open the store, and the load.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from dimpoint.labelling.store import LabelStore, SourceFrame
from label_server import label_server

_MOVE = """() => new Promise((done) => {
  const begin = performance.now(), name = document.getElementById("name");
  new MutationObserver((_, observer) => {
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - begin)));
  }).observe(name, { childList: true, characterData: true, subtree: true });
  document.getElementById("view").dispatchEvent(new KeyboardEvent("keydown", { key: "n", bubbles: true }));
})"""
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync")
_FILES = 40  # that the frames of a project are taken from


def make_project(folder: Path, frames: int, size: tuple[int, int]) -> Path:
    """A project whose frames are those of a few files, again and again."""
    images = folder / "frames"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    known = []
    for number in range(min(frames, _FILES)):
        path = images / f"{number}.png"
        cv2.imwrite(str(path), rng.normal(6000, 20, size).astype(np.uint16), [cv2.IMWRITE_PNG_COMPRESSION, 1])
        known.append((str(path.resolve()), path.stat()))
    (folder / "project").mkdir()
    store = LabelStore(folder / "project" / "labels.db")
    listed = []
    for number in range(frames):
        path, status = known[number % len(known)]
        listed.append(
            SourceFrame(f"f{number:06d}", path, None, status.st_size, status.st_mtime_ns, number // 30)
        )
    store.add_frames(listed)
    store.close()
    return folder / "project"


def measure(browser: Any, project: Path, moves: int, look: float) -> dict[str, Any]:
    begin = time.perf_counter()
    store = LabelStore(project / "labels.db")
    store.count()
    store.rows(0, 200)
    opened = time.perf_counter() - begin
    store.close()
    begin = time.perf_counter()
    with label_server(project) as running:
        address = time.perf_counter() - begin
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.set_default_timeout(300_000)
        page.goto(running.address)
        page.locator("#name", has_text="f000000").wait_for()
        page.locator("#model", has_text="from").wait_for()
        found = []
        for _ in range(moves):
            page.wait_for_timeout(1000 * look)
            found.append(page.evaluate(_MOVE))
        page.close()
        running.process.kill()  # it would finish the proposals of a large frame first
    return {"store_s": opened, "address_s": address, "ms": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--moves", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--large-look", type=float, default=1.5, metavar="SECONDS")
    parser.add_argument("--large-only", action="store_true", help="the frames of 4096x3000 alone")
    parser.add_argument("--before", type=Path, help="the folder src of another checkout")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    codes = {"now": os.environ.get("PYTHONPATH", "")}
    if options.before:
        codes = {"before": str(options.before.resolve()), **codes}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(_FLAGS))
        for name, frames, size, look in (
            ("100 of 640x512", 100, (512, 640), 0.4),
            (f"{options.frames} of 640x512", options.frames, (512, 640), 0.4),
            ("20 of 4096x3000", 20, (3000, 4096), options.large_look),
        ):
            if options.large_only and size[1] < 4096:
                continue
            project = make_project(Path(folder) / name.replace(" ", "-"), frames, size)
            measured: dict[str, list[dict[str, Any]]] = {code: [] for code in codes}
            for _ in range(options.repeats):
                for code, path in codes.items():
                    os.environ["PYTHONPATH"] = path  # of the server; the store here is the present one
                    measured[code].append(measure(browser, project, min(options.moves, frames - 2), look))
            for code, parts in measured.items():
                print(json.dumps({"project": name, "code": code, **_summary(parts)}), flush=True)
        browser.close()


def _summary(parts: list[dict[str, Any]]) -> dict[str, Any]:
    moves = [ms for part in parts for ms in part["ms"]]
    return {
        "least_ms": round(min(moves), 1),
        "median_ms": round(statistics.median(moves), 1),
        "highest_ms": [round(max(part["ms"]), 1) for part in parts],
        "address_s": round(min(part["address_s"] for part in parts), 2),
        "store_s": round(min(part["store_s"] for part in parts), 3),
        "load": round(os.getloadavg()[0], 1),
        "cores": os.cpu_count(),
    }


if __name__ == "__main__":
    main()
