"""The page of `dimpoint label` in Chromium: mouse, keyboard, 16-bit windowing, conflicts, a killed server."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dimpoint.cli import build_app
from label_server import SPOTS, Running, label_server, write_frames

pytestmark = pytest.mark.slow


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with label_server(tmp_path / "project", write_frames(tmp_path / "frames", 4)) as running:
        yield running


def open_page(browser: Any, address: str) -> Any:
    """A page on the first frame, with its proposals there; a message in the console fails the test."""
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    page.set_default_timeout(20_000)
    page.on("pageerror", lambda error: pytest.fail(f"error in the page: {error}"))
    page.goto(address)
    page.locator("#name", has_text="0000").wait_for()
    page.locator("#proposal-count", has_text="3").wait_for()
    return page


def place(page: Any, x: float, y: float) -> tuple[float, float]:
    """Where a frame pixel of the 200 x 160 frames is on the screen, whole frame shown."""
    box = page.locator("#view").bounding_box()
    scale = min(box["width"] / 200, box["height"] / 160) * 0.98
    left, top = (box["width"] - 200 * scale) / 2, (box["height"] - 160 * scale) / 2
    return box["x"] + left + (x + 0.5) * scale, box["y"] + top + (y + 0.5) * scale


def saved(page: Any, status: str = "") -> None:
    """Wait until the page shows this status, which a click changes once it is answered, and has stored it."""
    page.locator("#status", has_text=status).wait_for()
    page.locator("#saved", has_text="saved").and_(page.get_by_text("saved", exact=True)).wait_for()


def labels(running: Running, frame: int) -> dict[str, Any]:
    answer: dict[str, Any] = running.client.get(f"/api/frames/{frame}").json()["labels"]
    return answer


def test_a_click_snaps_to_the_blob_and_undo_takes_it_back(browser: Any, running: Running) -> None:
    page = open_page(browser, running.address)
    page.mouse.click(*place(page, SPOTS[0][0] + 2, SPOTS[0][1] - 1))
    saved(page, "1 target")
    page.wait_for_timeout(300)
    saved(page)
    np.testing.assert_allclose(labels(running, 1)["points"], [SPOTS[0]], atol=0.3)
    page.keyboard.press("Control+z")
    page.locator("#status", has_text="No answer yet").wait_for()
    saved(page)
    page.keyboard.press("Control+Shift+z")
    page.locator("#status", has_text="1 target").wait_for()
    page.close()


def test_everything_by_keyboard_alone(browser: Any, running: Running) -> None:
    """A target set and moved, a frame without targets, and the next frame; the keys are shown on `?`."""
    page = open_page(browser, running.address)
    page.keyboard.press("s")  # no snapping
    page.keyboard.press("Enter")  # at the middle of the frame
    page.locator("#status", has_text="1 target").wait_for()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    saved(page)
    np.testing.assert_allclose(labels(running, 1)["points"], [(101, 80.1)], atol=0.011)
    page.keyboard.press("Delete")
    page.locator("#status", has_text="No answer yet").wait_for()
    page.keyboard.press("e")
    page.keyboard.press("n")
    page.locator("#name", has_text="0001").wait_for()
    saved(page)
    assert labels(running, 1)["status"] == "empty"
    page.keyboard.press("?")
    assert "no target in this frame" in page.locator("#keys").inner_text()
    page.close()


def test_proposals_are_accepted_and_rejected(browser: Any, running: Running) -> None:
    page = open_page(browser, running.address)
    page.mouse.move(*place(page, *SPOTS[2]))
    page.keyboard.press("x")
    page.locator("#proposal-count", has_text="2").wait_for()
    page.keyboard.press("a")
    saved(page, "2 targets")
    stored = labels(running, 1)
    np.testing.assert_allclose(stored["rejected"], [SPOTS[2]], atol=0.7)
    np.testing.assert_allclose(sorted(stored["points"]), sorted(SPOTS[:2]), atol=0.7)
    page.close()


def test_the_window_is_on_true_counts(browser: Any, running: Running) -> None:
    """Noise of 20 counts in 65,536 fills the range of grey once the window is narrow."""
    page = open_page(browser, running.address)

    def spread() -> float:
        import cv2

        png = np.frombuffer(page.locator("#view").screenshot(), np.uint8)
        grey = cv2.imdecode(png, cv2.IMREAD_GRAYSCALE)
        return float(grey[300:400, 300:500].std())

    page.click("#full")
    wide = spread()
    for _ in range(14):
        page.keyboard.press("[")
    page.keyboard.press("w")
    assert spread() > 3 * wide
    page.close()


def test_a_large_frame_is_shown_before_all_of_it_is_here(browser: Any, tmp_path: Path) -> None:
    """Its coarsest level comes first; then the counts under the pointer are those of the file."""
    import cv2

    (tmp_path / "frames").mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).normal(6000, 20, (1500, 2100)).astype(np.uint16)
        cv2.imwrite(str(tmp_path / "frames" / f"{number}.png"), pixels)
    with label_server(tmp_path / "project", tmp_path / "frames") as running:
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: pytest.fail(f"error in the page: {error}"))
        page.goto(running.address)
        page.locator("#name", has_text="2100 × 1500").wait_for()
        early, whole = page.evaluate("""async () => {
          const { load } = await import("./frames.js"), { early, image } = load(2);
          const seen = ({ width, height, least, most, sorted, levels }) => ({
            width, height, ends: [least, most], sample: sorted.length,
            levels: levels.map(({ width, height, counts }) => [width, height, counts && counts[0]]),
          });
          return [seen(await early), seen(await image)];
        }""")
        assert [level[:2] for level in whole["levels"]] == [[2100, 1500], [1050, 750], [525, 375]]
        assert [level[2] for level in early["levels"]] == [None, None, whole["levels"][2][2]]
        assert whole["levels"][0][2] == pixels[0, 0]
        assert whole["ends"] == early["ends"] == [pixels.min(), pixels.max()]
        page.keyboard.press("n")
        page.locator("#name", has_text="1").wait_for()
        box = page.locator("#view").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_function("/count [0-9]/.test(document.getElementById('cursor').textContent)")
        _, x, _, y, _, count = page.locator("#cursor").inner_text().split()
        assert int(count) == pixels[int(y), int(x)]
        page.close()


def test_two_pages_lose_nothing(browser: Any, running: Running) -> None:
    first, second = (open_page(browser, running.address) for _ in range(2))
    first.mouse.click(*place(first, *SPOTS[0]))
    saved(first, "1 target")
    second.keyboard.press("u")
    banner = second.locator("#banner", has_text="Conflict")
    banner.wait_for()
    assert labels(running, 1)["status"] == "targets"
    second.get_by_role("button", name="Load theirs").click()
    second.locator("#status", has_text="1 target").wait_for()
    first.close()
    second.close()


def ignore_region(page: Any) -> None:
    """Drag an ignore region from (100, 20) to (130, 50)."""
    page.keyboard.press("r")
    page.mouse.move(*place(page, 100, 20))
    page.mouse.down()
    page.mouse.move(*place(page, 130, 50), steps=5)
    page.mouse.up()
    saved(page)


def test_an_ignore_region_by_drag(browser: Any, running: Running) -> None:
    page = open_page(browser, running.address)
    ignore_region(page)
    np.testing.assert_allclose(labels(running, 1)["regions"], [(100, 20, 130, 50)], atol=0.6)
    page.close()


def test_a_point_is_carried_through_the_frames(browser: Any, running: Running) -> None:
    page = open_page(browser, running.address)
    page.mouse.click(*place(page, *SPOTS[1]))
    saved(page, "1 target")
    page.keyboard.press("c")
    page.locator("#banner button", has_text="Close").click()
    assert not page.locator("#strip figure").count()
    page.keyboard.press("c")
    page.locator("#banner button", has_text="Accept all").click()
    page.locator("#banner", has_text="3 frames labelled").wait_for()
    points = [labels(running, frame)["points"][0] for frame in (2, 3, 4)]
    np.testing.assert_allclose(points, [(SPOTS[1][0] + n, SPOTS[1][1]) for n in (1, 2, 3)], atol=0.3)
    page.close()


def test_clicks_survive_a_killed_server(browser: Any, tmp_path: Path) -> None:
    project, frames = tmp_path / "project", write_frames(tmp_path / "frames", 4)
    with label_server(project, frames) as running:
        page = open_page(browser, running.address)
        page.mouse.click(*place(page, *SPOTS[0]))
        saved(page, "1 target")
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()
        page.keyboard.press("e")
        page.locator("#banner", has_text="The server does not answer").wait_for()
        assert page.locator("#saved").inner_text() == "NOT saved"
        page.close()
    with label_server(project) as running:
        page = browser.new_page()
        page.goto(running.address)
        page.locator("#progress", has_text="1 of 4 labelled").wait_for()
        assert len(labels(running, 1)["points"]) == 1
        page.close()


@pytest.mark.parametrize("what", ["vanished", "changed"])
def test_a_frame_that_vanished_or_changed_is_said_and_passed(browser: Any, tmp_path: Path, what: str) -> None:
    frames = write_frames(tmp_path / "frames", 6)
    with label_server(tmp_path / "project", frames) as running:
        page = open_page(browser, running.address)
        file = frames / "0004.png"  # not read ahead from the first frame
        if what == "vanished":
            file.unlink()
        else:
            file.write_bytes((frames / "0005.png").read_bytes() + b" ")
        page.get_by_text("0004", exact=True).click()
        said = {"vanished": "the frame's file is gone", "changed": "has changed since it was added"}[what]
        page.locator("#banner", has_text=said).wait_for()
        page.locator("#banner button", has_text="Next frame").click()
        page.locator("#name", has_text="0005").wait_for()
        page.close()


def test_a_full_disk_is_said_and_nothing_acknowledged_is_lost(browser: Any, running: Running) -> None:
    """The server may not write another byte to its files; when it may again, one click saves the label."""
    page = open_page(browser, running.address)
    page.mouse.click(*place(page, *SPOTS[0]))
    saved(page, "1 target")
    page.wait_for_timeout(1500)  # points.json is written
    unlimited = resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (0, unlimited[1]))
    page.keyboard.press("n")
    page.locator("#name", has_text="0001").wait_for()
    page.keyboard.press("e")
    page.locator("#banner", has_text="Not saved").wait_for()
    assert page.locator("#saved").inner_text() == "NOT saved"
    assert len(labels(running, 1)["points"]) == 1
    assert labels(running, 2)["version"] == 0
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, unlimited)
    page.locator("#banner button", has_text="Try again").click()
    saved(page)
    assert labels(running, 2)["status"] == "empty"
    page.close()


def test_moving_on_does_not_wait_for_a_save(browser: Any, running: Running) -> None:
    """Label and next frame at once, and back: every label is there."""
    page = open_page(browser, running.address)
    for key in "enenp":
        page.keyboard.press(key)
    page.locator("#name", has_text="0001").wait_for()
    page.locator("#status", has_text="No target in this frame").wait_for()
    saved(page)
    assert [labels(running, frame)["status"] for frame in (1, 2, 3)] == ["empty", "empty", "unlabelled"]
    page.close()


def test_the_most_doubtful_frames_come_one_after_another(browser: Any, running: Running) -> None:
    page = open_page(browser, running.address)
    page.select_option("#order", "doubt")
    seen = []
    for _ in range(3):
        page.locator("#view").focus()
        page.keyboard.press("e")
        saved(page, "No target in this frame")
        before = page.locator("#name").text_content()
        page.keyboard.press("n")
        page.wait_for_function("was => document.getElementById('name').textContent !== was", arg=before)
        seen.append(page.locator("#name").text_content()[:4])
    assert sorted(seen) == ["0001", "0002", "0003"]
    page.keyboard.press("e")
    page.keyboard.press("n")
    page.locator("#banner", has_text="No other frame without a label is left").wait_for()
    page.close()


def test_the_export_is_what_was_clicked(browser: Any, running: Running, tmp_path: Path) -> None:
    page = open_page(browser, running.address)
    page.keyboard.press("a")
    saved(page, "3 targets")
    page.click("#labels-open")
    with page.expect_download() as download:
        page.click("#export")
    content = json.loads(Path(download.value.path()).read_text())
    points = sorted(each["keypoints"][:2] for each in content["annotations"])
    np.testing.assert_allclose(points, sorted(SPOTS), atol=0.7)
    page.close()


def test_an_export_without_ignore_regions_says_so(browser: Any, running: Running) -> None:
    page = open_page(browser, running.address)
    page.mouse.click(*place(page, *SPOTS[0]))
    saved(page, "1 target")
    ignore_region(page)
    page.click("#labels-open")
    page.select_option("#export-format", "yolo")
    with page.expect_download():
        page.click("#export")
    page.locator("#banner", has_text="Ignore regions left out: 1. The format yolo has none").wait_for()
    page.close()


def test_labels_of_another_tool_are_imported(browser: Any, running: Running, tmp_path: Path) -> None:
    file = tmp_path / "0002.txt"
    file.write_text(f"0 {SPOTS[0][0] / 200 + 0.01} {SPOTS[0][1] / 160} 0.05 0.05\n")
    page = open_page(browser, running.address)
    page.click("#labels-open")
    page.locator("#import-files").set_input_files([str(file)])
    page.locator("#import-done", has_text="1 frame labelled with 1 target.").wait_for()
    np.testing.assert_allclose(labels(running, 3)["points"], [(SPOTS[0][0] + 2, SPOTS[0][1])], atol=0.6)
    page.close()


def test_a_mistake_is_opened_by_one_click_and_corrected(browser: Any, running: Running) -> None:
    """A frame with one wrong and two missing labels: all are listed; the correction is in the history."""
    wrong = {"version": 0, "status": "targets", "points": [[20, 140]], "author": "Ann"}
    running.client.put("/api/frames/3", json=wrong)
    page = open_page(browser, running.address)
    page.click("#mistakes-open")
    page.locator("#mistakes-list button", has_text="missed").click()
    page.locator("#name", has_text="0002").wait_for()
    page.locator("#proposal-count", has_text="3").wait_for()
    page.keyboard.press("Delete")  # the label in question is selected
    page.keyboard.press("a")
    saved(page, "3 targets")
    history = running.client.get("/api/frames/3/history").json()
    assert (history[0]["author"], history[0]["points"]) == ("Ann", [[20, 140]])
    page.keyboard.press("h")
    page.locator("#history-list button", has_text="Ann · 1 target").click()  # what she said is back
    page.locator("#status", has_text="1 target").wait_for()
    page.keyboard.press("Control+z")
    saved(page, "3 targets")
    page.click("#mistakes-open")
    page.locator("#mistakes-note", has_text="agree on every labelled frame").wait_for()
    page.close()


def test_a_link_opens_a_frame_at_a_place(browser: Any, running: Running) -> None:
    page = browser.new_page()
    page.goto(f"{running.address}#frame=0003.png&x=40&y=30")
    page.locator("#name", has_text="0003").wait_for()
    page.close()


@pytest.fixture
def reported(tmp_path: Path) -> Path:
    """A report of the shipped model on frames whose labels have a miss, and lack two targets."""
    write_frames(tmp_path / "evaluated" / "images", 2)
    images = [{"id": n, "file_name": f"{n:04d}.png", "width": 200, "height": 160} for n in (0, 1)]
    points = [(0, *SPOTS[0]), (0, 20.0, 140.0), *((1, x + 1, y) for x, y in SPOTS)]
    annotations = [
        {"id": n, "image_id": image, "category_id": 1, "num_keypoints": 1, "keypoints": [x, y, 2]}
        for n, (image, x, y) in enumerate(points)
    ]
    labels = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "target"}]}
    (tmp_path / "evaluated" / "points.json").write_text(json.dumps(labels))
    return tmp_path / "evaluated"


def evaluate(data: Path, report: Path, *options: str) -> None:
    command = ["evaluate", "--data", str(data), "--report", str(report), *options]
    done = CliRunner().invoke(build_app(), command, catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_the_mistakes_of_a_report_are_listed_and_opened(browser: Any, tmp_path: Path, reported: Path) -> None:
    evaluate(reported, tmp_path / "report")
    options = ("--report", str(tmp_path / "report"))
    with label_server(tmp_path / "project", write_frames(tmp_path / "frames", 3), options=options) as running:
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.goto(running.address)
        page.locator("#mistakes-list button", has_text="missed").click()  # the list opens by itself
        page.locator("#name", has_text="0000").wait_for()
        assert centre(page) == pytest.approx((20, 140), abs=0.6)
        page.keyboard.press("g")
        page.locator("#mistakes-list button", has_text="false alarm").nth(1).wait_for()
        page.close()


def test_a_report_links_its_mistakes_to_the_running_page(
    browser: Any, running: Running, tmp_path: Path, reported: Path
) -> None:
    evaluate(reported, tmp_path / "report", "--label-page", running.address)
    report = browser.new_page()
    report.goto((tmp_path / "report" / "index.html").as_uri())
    with report.context.expect_page() as opened:
        report.locator("figure", has_text="(20.0, 140.0)").get_by_text("Correct the label").click()
    page = opened.value
    page.locator("#name", has_text="0000").wait_for()
    page.locator("#proposal-count", has_text="3").wait_for()
    assert centre(page) == pytest.approx((20, 140), abs=0.6)
    page.close()
    report.close()


def centre(page: Any) -> tuple[float, float]:
    """The frame pixel in the middle of the view, by what the pointer is told there."""
    box = page.locator("#view").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    words = page.locator("#cursor").inner_text().split()
    return float(words[1]), float(words[3])


def test_training_from_the_page(browser: Any, tmp_path: Path) -> None:
    """Labels by the server, a run of a few seconds by the button, and what it changed on the page."""
    with label_server(tmp_path / "project", write_frames(tmp_path / "frames", 8)) as running:
        page = open_page(browser, running.address)
        for frame in range(1, 9):
            points = [[x + frame - 1, y] for x, y in SPOTS]
            body = {"version": 0, "status": "targets", "points": points}
            assert running.client.put(f"/api/frames/{frame}", json=body).status_code == 200
        page.set_default_timeout(900_000)  # a training, whatever else runs
        page.click("#train-open")
        page.fill("#minutes", "0.1")
        page.click("#train-start")
        page.locator("#changes p", has_text="F1 on the").wait_for()
        assert "before" in page.locator("#changes p").first.inner_text()
        assert running.client.get("/api/training").json()["loss"]
        page.click("#train-use")
        page.locator("#model", has_text="from 001").wait_for()
        assert len(running.client.get("/api/frames/1/proposals").json()) >= 1
        page.close()
