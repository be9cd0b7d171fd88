"""Screenshots of the labelling page's screens and dialogs, to look at, and the pictures of the docs.

    python benchmarks/label_screens.py --out screens [--size 1366x768] [--docs]

Frames are those of the clip in examples/ (CC0). --docs writes docs/images/label.png from the screens of
1366x768; label-training.png is the screen before-after. A training of --minutes runs for some of them.
Needs Chromium and playwright.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from label_server import Running, label_server

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "examples" / "clips" / "two_drones.mp4"
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync")


class Screens:
    """Takes pictures of one page, numbered in their order."""

    def __init__(self, page: Any, out: Path) -> None:
        self.page, self.out, self.count = page, out, 0

    def take(self, name: str) -> None:
        self.count += 1
        file = self.out / f"{self.count:02d}-{name}.png"
        self.page.wait_for_timeout(400)
        self.page.screenshot(path=str(file))
        print(file, flush=True)

    def close(self) -> None:
        self.page.keyboard.press("Escape")
        self.page.wait_for_timeout(200)


def labelled(running: Running, page: Any, frames: range) -> None:
    """Take what the model proposes as the labels of some frames."""
    for frame in frames:
        found = running.client.get(f"/api/frames/{frame}/proposals").json()
        points = [[round(one["x"], 2), round(one["y"], 2)] for one in found if one["score"] > 0.6]
        version = running.client.get(f"/api/frames/{frame}").json()["labels"]["version"]
        body = {
            "version": version,
            "status": "targets" if points else "empty",
            "points": points,
            "author": "Ann",
        }
        running.client.put(f"/api/frames/{frame}", json=body)
    page.reload()
    page.locator("#name").wait_for()


def walk(browser: Any, size: tuple[int, int], out: Path, minutes: float) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "my-project"
        with label_server(project, CLIP) as running:
            page = browser.new_page(viewport={"width": size[0], "height": size[1]})
            page.set_default_timeout(120_000)
            screens = Screens(page, out)
            page.goto(running.address)
            page.locator("#name", has_text="two_drones").wait_for()
            page.locator("#proposal-count", has_text="(").wait_for()
            screens.take("first")
            page.keyboard.press("a")
            page.keyboard.press("Tab")
            screens.take("labelled")
            page.keyboard.press("c")
            page.locator("#strip figure").first.wait_for()
            screens.take("carried")
            page.click("#banner button >> text=Close")
            assert not page.locator("#strip figure").count()
            for key in "li":
                page.keyboard.press(key)
            page.wait_for_timeout(800)
            screens.take("local-contrast")
            for key in "li":
                page.keyboard.press(key)
            page.keyboard.press("?")
            screens.take("keys")
            screens.close()
            page.click("#labels-open")
            screens.take("import-export")
            screens.close()
            page.click("#train-open")
            screens.take("training-none")
            screens.close()
            labelled(running, page, range(2, 13))
            wrong = running.client.get("/api/frames/5").json()["labels"]
            wrong["points"] = [[60.0, 200.0], *wrong["points"][1:]]
            running.client.put("/api/frames/5", json={**wrong, "author": "Bob"})
            page.keyboard.press("g")
            page.locator("#mistakes-list button").first.wait_for()
            screens.take("mistakes")
            page.locator("#mistakes-list button").first.click()
            page.locator("#proposal-count").wait_for()
            page.wait_for_timeout(800)
            screens.take("mistake-opened")
            now = running.client.get("/api/frames/5").json()["labels"]
            running.client.put("/api/frames/5", json={**now, "author": "Ann"})
            page.keyboard.press("u")
            page.locator("#banner", has_text="Conflict").wait_for()
            screens.take("conflict")
            page.get_by_role("button", name="Load theirs").click()
            page.keyboard.press("h")
            page.locator("#history-list button").first.wait_for()
            screens.take("history")
            screens.close()
            page.click("#labels-open")
            page.locator("#agreement p").first.wait_for()
            screens.take("agreement")
            screens.close()
            if minutes:
                page.click("#train-open")
                page.fill("#minutes", f"{minutes:g}")
                page.click("#train-start")
                page.locator("#train-log", has_text="epoch").wait_for(timeout=1_200_000)
                screens.take("training")
                page.locator("#changes p").first.wait_for(timeout=1_200_000)
                screens.take("before-after")
                screens.close()
            page.locator("#rows .frame").nth(14).click()
            page.locator("#name", has_text="000014").wait_for()
            resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            page.keyboard.press("e")
            page.locator("#banner", has_text="Not saved").wait_for()
            screens.take("not-saved")
            running.process.kill()
            page.keyboard.press("n")
            page.keyboard.press("u")
            page.locator("#banner", has_text="does not answer").wait_for()
            screens.take("no-server")
            page.close()


def training_of(browser: Any, project: Path, out: Path) -> None:
    """What the last training of a project changed."""
    out.mkdir(parents=True, exist_ok=True)
    with label_server(project) as running:
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.goto(running.address)
        page.locator("#name", has_text="_").wait_for()
        page.click("#train-open")
        page.locator("#changes p").first.wait_for(timeout=600_000)
        Screens(page, out).take("training-of-project")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--size", action="append", metavar="WIDTHxHEIGHT", help="default: 1366x768 and 1080x1920"
    )
    parser.add_argument("--project", type=Path, help="only what the last training of this project changed")
    parser.add_argument("--docs", action="store_true", help="write the pictures of the documentation")
    parser.add_argument("--minutes", type=float, default=1, help="of the training; 0 for none")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(_FLAGS))
        if options.project is not None:
            training_of(browser, options.project, options.out)
            return
        for size in options.size or ["1366x768", "1080x1920"]:
            width, height = (int(value) for value in size.split("x"))
            walk(browser, (width, height), options.out / size, options.minutes)
        browser.close()
    if options.docs:
        (shown,) = (options.out / "1366x768").glob("*-labelled.png")
        shutil.copyfile(shown, ROOT / "docs" / "images" / "label.png")


if __name__ == "__main__":
    main()
