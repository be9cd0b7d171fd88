"""Makes the pictures of docs/images with the shipped models: example scenes, synthetic scenes and a CC0 clip.

python benchmarks/pictures.py [NAME ...]

Names: detections, kinds, crops, tracks, curves, report (the last one needs Chromium and playwright).
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

import dimpoint
from dimpoint.datasets.dataset import open_dataset
from dimpoint.evaluation.run import FrameResult
from dimpoint.inference.detector import Detector
from dimpoint.report.overlays import draw_result, legend_strip
from dimpoint.synthetic.scenes import SceneConfig, write_dataset

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
SCENES = ROOT / "examples" / "scenes"
CLIP = ROOT / "examples" / "clips" / "two_drones.mp4"
MOST_BYTES = 300_000

Picture = npt.NDArray[np.uint8]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="pictures to make; all if left out")
    names = parser.parse_args().names or list(MAKERS)
    for name in names:
        print(MAKERS[name](), flush=True)


def detections() -> Path:
    """Six of the example scenes: found targets, missed ones and false objects, with a legend."""
    evaluation = dimpoint.evaluate(None, SCENES)
    return _save("detections.jpg", _evaluated_sheet(evaluation.results[0].pooled.frames[:6]))


def kinds() -> Path:
    """A synthetic scene of each background, 8 and 16 bit, with what is found, missed and false in it."""
    pictures = []
    with tempfile.TemporaryDirectory() as folder:
        for bits in (8, 16):
            for number, background in enumerate(("cloud", "sea", "ground")):
                config = SceneConfig(
                    width=320, height=256, bits=bits, background=background, count=(2, 4), empty_share=0.0
                )
                data = Path(folder) / f"{background}-{bits}"
                write_dataset(data, config, 1, seed=100 + number + bits, test_fraction=0)
                (frame,) = dimpoint.evaluate(None, data).results[0].pooled.frames
                pictures.append((frame, f"{background}, {bits} bit"))
        return _save("kinds.jpg", _evaluated_sheet(*zip(*pictures, strict=True)))


def _evaluated_sheet(frames: Sequence[FrameResult], titles: Sequence[str] = ()) -> Picture:
    """Evaluated frames side by side, with one legend below."""
    pictures = []
    for number, frame in enumerate(frames):
        pixels = frame.read_pixels()
        assert pixels is not None
        picture = draw_result(frame, pixels, legend=False)
        if titles:
            _write(picture, titles[number])
        pictures.append(picture)
    sheet = _sheet(pictures, 3, (400, 320))
    return np.vstack([sheet, legend_strip(sheet.shape[1])])


def crops() -> Path:
    """Found targets of the example scenes, eight times enlarged, each with its score."""
    detector, side, tiles = Detector(), 24, []
    for sample in open_dataset(SCENES):
        frame = sample.read_frame()
        padded = np.pad(frame, side, mode="reflect")
        for found in list(detector(frame))[:2]:
            x, y = round(found.x) + side, round(found.y) + side
            part = padded[y - side // 2 : y + side // 2, x - side // 2 : x + side // 2].astype(np.float64)
            low, high = np.percentile(part, [1, 99.8])
            grey = np.clip((part - low) / max(high - low, 1) * 255, 0, 255).astype(np.uint8)
            tile = cv2.resize(grey, None, fx=8, fy=8, interpolation=cv2.INTER_NEAREST)
            picture = cv2.cvtColor(tile, cv2.COLOR_GRAY2BGR)
            _write(picture, f"{found.score:.2f}", 0.55)
            tiles.append(picture)
    return _save("crops.jpg", _sheet(tiles[: len(tiles) // 6 * 6], 6, (192, 192)))


def tracks() -> Path:
    """The example clip with its tracks, as `dimpoint track` draws them."""
    from typer.testing import CliRunner

    from dimpoint.cli import build_app

    with tempfile.TemporaryDirectory() as folder:
        done = CliRunner().invoke(build_app(), ["track", str(CLIP), "--out", folder])
        assert done.exit_code == 0, done.output
        return _save("tracks.jpg", cv2.imread(f"{folder}/tracks.png"))


def curves() -> Path:
    """Free response and precision over recall of both shipped models on 60 synthetic scenes."""
    from matplotlib.figure import Figure

    with tempfile.TemporaryDirectory() as folder:
        evaluation = _evaluated(Path(folder))
        figure = Figure(figsize=(10, 4), layout="constrained", dpi=100)
        for axes, kind in zip(figure.subplots(1, 2), ("free-response", "precision-recall"), strict=True):
            evaluation.plot(kind, axes)
        figure.savefig(IMAGES / "curves.png")
    return _checked(IMAGES / "curves.png")


def report() -> Path:
    """The top of the page that `dimpoint evaluate --report` writes, in Chromium."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = _evaluated(Path(folder)).report(Path(folder) / "report")
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        page = browser.new_page(viewport={"width": 1100, "height": 1500})
        page.goto(page_file.as_uri())
        page.screenshot(path=str(Path(folder) / "page.png"))
        browser.close()
        return _save("report.jpg", cv2.imread(str(Path(folder) / "page.png")))


def _evaluated(folder: Path) -> Any:
    with contextlib.chdir(folder):  # so that reports show the set's name alone
        data = Path("synthetic-scenes")
        write_dataset(data, SceneConfig(width=320, height=256), 60, seed=3)
        return dimpoint.evaluate(["spire-lite", "sshdnet-small"], data)


def _sheet(pictures: list[Picture], columns: int, size: tuple[int, int]) -> Picture:
    """Pictures side by side, each of `size` (width, height), with a thin line between."""
    line = {"borderType": cv2.BORDER_CONSTANT, "value": (255, 255, 255)}
    made = [
        cv2.copyMakeBorder(cv2.resize(each, size, interpolation=cv2.INTER_AREA), 0, 4, 0, 4, **line)
        for each in pictures
    ]
    rows = [np.hstack(made[start : start + columns]) for start in range(0, len(made), columns)]
    return np.vstack(rows)[:-4, :-4]


def _write(picture: Picture, text: str, size: float = 0.8) -> None:
    place = (8, picture.shape[0] - 10)
    for colour, width in (((0, 0, 0), 4), ((255, 255, 255), 1)):
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, colour, width, cv2.LINE_AA)


def _save(name: str, picture: Picture) -> Path:
    """Write a JPEG of the highest quality that stays below the limit."""
    for quality in range(90, 30, -5):
        content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(content) < MOST_BYTES:
            break
    (IMAGES / name).write_bytes(content)
    return _checked(IMAGES / name)


def _checked(file: Path) -> Path:
    assert file.stat().st_size < MOST_BYTES, f"{file}: {file.stat().st_size} bytes"
    return file


MAKERS: dict[str, Callable[[], Path]] = {
    each.__name__: each for each in (detections, kinds, crops, tracks, curves, report)
}


if __name__ == "__main__":
    main()
