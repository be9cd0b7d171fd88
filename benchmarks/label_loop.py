"""The whole loop once: label frames, train from the page, evaluate. A JSON line has the seconds of each part.

    python benchmarks/label_loop.py --data IR-video --clips A B --work DIR [--minutes 5] [--picture PNG]

The simulated labeller of `label_study.py` clicks the true points of --frames frames, in random order. A
browser then opens the page, starts a training of at most --minutes (the page's default if left out) and
waits for what it changed. The default and the new model are evaluated on the untouched rest. --picture: a
screenshot of the changes.

Needs Chromium and playwright.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from label_server import label_server
from label_study import Study, clips, judge


def trained(project: Path, minutes: float | None, picture: Path | None) -> None:
    """Train from the page, as a person does."""
    from playwright.sync_api import sync_playwright

    patience = 60_000 * ((minutes or 15) + 30)
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    with sync_playwright() as playwright, label_server(project) as running:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.set_default_timeout(patience)
        page.goto(running.address)
        page.locator("#name", has_text="_").wait_for()
        page.click("#train-open")
        if minutes is not None:
            page.fill("#minutes", f"{minutes:g}")
        page.click("#train-start")
        page.locator("#changes p").first.wait_for()
        page.wait_for_timeout(500)
        if picture is not None:
            page.screenshot(path=str(picture))
        with page.expect_response("**/api/model"):
            page.click("#train-use")
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of the clips")
    parser.add_argument("--clips", nargs=2, required=True, metavar="NAME")
    parser.add_argument("--work", type=Path, required=True, help="folder of the project, new")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    material = clips(options.data, options.clips, every=3)
    marks = [time.monotonic()]
    study = Study(material, options.work, "random", 0)
    study.label_until(options.frames)
    study.project.export()
    study.project.close()
    marks.append(time.monotonic())
    trained(options.work, options.minutes, options.picture)
    marks.append(time.monotonic())
    after = judge(options.work / "runs" / "001" / "model.onnx", material.rest())
    marks.append(time.monotonic())
    before = judge(None, material.rest())
    parts = ("label_s", "train_s", "evaluate_s")
    spent = {part: round(end - begin) for part, begin, end in zip(parts, marks[:-1], marks[1:], strict=True)}
    spent["total_s"] = round(marks[3] - marks[0])
    line = {"labelled": options.frames, **spent, "load": round(os.getloadavg()[0], 1)}
    print(json.dumps(line | {"before": before, "after": after}))


if __name__ == "__main__":
    main()
