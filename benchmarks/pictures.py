"""Makes the pictures of docs/images with the shipped models: example scenes, synthetic scenes and a CC0 clip.

python benchmarks/pictures.py [NAME ...]

Names: detections, kinds, crops, tracks, curves, report (the last one needs Chromium and playwright).
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

import dimpoint
from dimpoint.datasets.dataset import open_dataset
from dimpoint.inference.detector import Detector
from dimpoint.synthetic.scenes import SceneConfig, make_scene

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
    """Six of the example scenes with what is found."""
    detector = Detector()
    pictures = []
    for sample in open_dataset(SCENES).samples[:6]:
        frame = sample.read_frame()
        pictures.append(detector(frame).draw(frame))
    return _save("detections.jpg", _sheet(pictures, 3, (400, 320)))


def kinds() -> Path:
    """A synthetic scene of each background, 8 and 16 bit: found targets as circles, true ones as squares."""
    detector = Detector()
    pictures = []
    for bits in (8, 16):
        for number, background in enumerate(("cloud", "sea", "ground")):
            config = SceneConfig(
                width=320, height=256, bits=bits, background=background, count=(2, 4), empty_share=0.0
            )
            scene = make_scene(config, np.random.default_rng(100 + number + bits))
            picture = detector(scene.frame).draw(scene.frame)
            scale = picture.shape[1] / scene.frame.shape[1]
            for x, y in (scene.points + 0.5) * scale:
                corner = np.array([x, y]) - 9 * scale
                cv2.rectangle(
                    picture,
                    tuple(np.rint(corner).astype(int).tolist()),
                    tuple(np.rint(corner + 18 * scale).astype(int).tolist()),
                    (255, 200, 80),
                    max(1, round(scale / 2)),
                    cv2.LINE_AA,
                )
            _write(picture, f"{background}, {bits} bit")
            pictures.append(picture)
    return _save("kinds.jpg", _sheet(pictures, 3, (400, 320)))


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
    from dimpoint.synthetic.scenes import write_dataset

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
