"""The report: one page that holds its figures, tables and pictures, and asks no network for anything."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from dimpoint.cli import build_app
from dimpoint.errors import DimpointError, MissingExtraError
from evaluation_sets import all_points, detections, make_maps, make_model, make_set

CHROMIUM = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


class Page(HTMLParser):
    """What stands on a page: headings, table rows by the table's caption or class, tags, links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.rows: list[list[str]] = []
        self._into: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("h1", "h2", "h3"):
            self.headings.append("")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self._into = {"td": self.rows[-1:] and self.rows[-1], "th": self.rows[-1:] and self.rows[-1]}.get(
            tag, self.headings if tag in ("h1", "h2", "h3") else None
        )

    def handle_data(self, data: str) -> None:
        if self._into:
            self._into[-1] += data.strip()

    def handle_endtag(self, tag: str) -> None:
        self._into = None

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)

    def links(self) -> list[str]:
        return [
            value or "" for _, attributes in self.tags for key, value in attributes.items() if key in LINKS
        ]


LINKS = ("href", "src", "xlink:href", "action", "data", "srcset")


def report(folder: Path, *arguments: object) -> str:
    result = CliRunner().invoke(
        build_app(), ["evaluate", *map(str, arguments), "--report", str(folder)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    assert str(folder / "index.html") in result.output.replace("\n", "")
    return (folder / "index.html").read_text()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make_set(root / "SET")
    make_set(root / "OTHER", ("bright", "dim"))
    make_model(root / "blob.onnx")
    make_maps(root / "maps")
    return root


@pytest.fixture(scope="module")
def text(world: Path) -> str:
    """The report of a model on two data sets."""
    sets = ("--data", world / "SET", "--data", world / "OTHER", "--split", "test")
    return report(world / "report", "--model", world / "blob.onnx", *sets)


def test_headline_numbers_with_protocol_and_threshold(text: str) -> None:
    page = Page(text)
    assert page.headings[0] == "blob"
    assert "Protocol <b>spire</b>; scores above 0.3 count (the model&#39;s own)." in text
    rows = {row[0]: row[1:] for row in page.rows if row}
    assert rows["found / missed / false"] == ["3 / 1 / 1", "3 / 0 / 0", "6 / 1 / 1"]
    assert rows["F1"][0].startswith("0.750 [")
    assert rows["best F1 *"]
    assert "(in hindsight); not a score to report" in text


def test_figures_and_rows_of_every_breakdown_are_there(text: str) -> None:
    page = Page(text)
    for name in ("Free response", "Precision and recall", "Reliability of the scores"):
        assert name in page.headings
    labels = [attributes.get("aria-label", "") for tag, attributes in page.tags if tag == "svg"]
    for part in ("target size", "local signal-to-clutter", "distance to the border", "targets in the frame"):
        assert any(f"Found targets by {part}" in (label or "") for label in labels)
        assert any(heading.startswith(f"By {part}") for heading in page.headings)
    rows = [row for row in page.rows if row]
    assert ["4-9", "7", "6", "0.857"] in rows  # by size: seven targets of 9 pixels, one of them lost
    assert ["0", "0", "0", "-", "1", "1.000"] in rows  # the frame without a target has the false alarm
    assert ["OTHER", "3", "3", "1.000", "2", "0.000"] in rows


def test_the_gallery_shows_the_miss_and_the_false_alarm(text: str) -> None:
    assert "Worst misses" in text
    assert re.search(r"<b>SET/lost</b><br>SCR [\d.]+, 9 px, at \(50.0, 40.0\)", text)
    assert re.search(r"<b>SET/empty</b><br>score 0.\d\d, at \((9.9|10.0|10.1), (29.9|30.0|30.1)\)", text)
    page = Page(text)
    images = [attributes for tag, attributes in page.tags if tag == "image"]
    assert len(images) == 2
    for attributes in images:
        data = (attributes["href"] or "").removeprefix("data:image/png;base64,")
        content = np.frombuffer(base64.b64decode(data), np.uint8)
        picture = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
        assert picture is not None
        assert picture.shape == (48, 64)


def test_nothing_comes_from_a_network(text: str) -> None:
    page = Page(text)
    assert all(link.startswith(("#", "data:")) for link in page.links())
    assert page.count("script") == page.count("link") == page.count("iframe") == 0
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert all(part.startswith("#") for part in re.findall(r"url\(([^)]*)\)", text))


def test_ids_are_unique_and_references_lead_somewhere(text: str) -> None:
    """Several figures in one page must not share clip paths."""
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)
    assert {link[1:] for link in Page(text).links() if link.startswith("#")} <= set(ids)


def test_maps_bring_their_curves(world: Path) -> None:
    arguments = ("--predictions", world / "maps", "--data", world / "SET", "--protocol", "all")
    text = report(world / "maps-report", *arguments)
    page = Page(text)
    assert {"Pd and Fa", "Pixels: precision and recall", "Pixels: ROC"} <= set(page.headings)
    for name in ("spire", "basicirstd", "dnanet-legacy", "opdc"):
        assert f"<caption>protocol {name}</caption>" in text
    assert "HSE" in text


def test_areas_that_are_not_defined_are_a_dash(tmp_path: Path) -> None:
    """Without targets there is no recall, hence no area."""
    data, maps = make_set(tmp_path / "SET", ("empty",)), make_maps(tmp_path / "maps", ("empty",))
    text = report(tmp_path / "r", "--predictions", maps, "--data", data, "--split", "test")
    rows = Page(text).rows
    assert ["ROC area, all thresholds", "-"] in rows
    assert ["PR area, all thresholds", "-"] in rows
    assert text.count("area -") == 2
    assert not re.search(r"\bnan\b", text)


def test_the_same_input_gives_the_same_page(world: Path, text: str) -> None:
    sets = ("--data", world / "SET", "--data", world / "OTHER", "--split", "test")
    assert report(world / "again", "--model", world / "blob.onnx", *sets) == text


def test_an_incomplete_evaluation_says_so_on_top(world: Path, tmp_path: Path) -> None:
    maps = make_maps(tmp_path / "maps", ("bright",))
    text = report(tmp_path / "r", "--predictions", maps, "--data", world / "SET", "--allow-missing")
    assert '<p class="warning">INCOMPLETE: only 1 of 4 frames are scored' in text
    assert text.index("INCOMPLETE") < text.index("Numbers")


def test_names_are_shown_as_text(tmp_path: Path) -> None:
    """A file name is no markup."""
    data = make_set(tmp_path / "<b>SET")
    text = report(tmp_path / "r", "--model", make_model(tmp_path / "m.onnx"), "--data", data)
    assert "<b>SET" not in text
    assert "&lt;b&gt;SET" in text


def test_nothing_found_and_nothing_to_find(tmp_path: Path) -> None:
    data = make_set(tmp_path / "SET", ("empty",))
    nothing = detections(tmp_path / "nothing.json", {"empty.png": []})
    text = report(tmp_path / "r", "--predictions", nothing, "--data", data, "--split", "test")
    assert "No missed targets." in text
    assert "No false alarms." in text


def test_labels_without_frames_have_no_pictures(world: Path, tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    truth = tmp_path / "alone" / "truth.json"
    made = CliRunner().invoke(build_app(), ["data", "points", str(world / "SET"), "--out", str(truth)])
    assert made.exit_code == 0
    points = {name: found[1:] for name, found in all_points().items()}
    text = report(tmp_path / "r", "--predictions", detections(tmp_path / "d.json", points), "--data", truth)
    assert "missed targets; the data hold no frames to show them" in text


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_without_the_report_packages_nothing_is_computed(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    import dimpoint.report.html as html

    found = html.find_spec
    monkeypatch.setattr(html, "find_spec", lambda name: None if name == package else found(name))
    with pytest.raises(
        MissingExtraError, match=rf"the report needs the package '{package}'.*dimpoint\[report\]"
    ):
        report(tmp_path, "--model", world / "blob.onnx", "--data", world / "SET")


def test_a_folder_that_cannot_be_written(world: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DimpointError, match="cannot be written"):
        report(tmp_path / "file" / "report", "--model", world / "blob.onnx", "--data", world / "SET")


@pytest.mark.parametrize("way", ["screen", "print"])
def test_a_browser_shows_it(text: str, world: Path, tmp_path: Path, way: str) -> None:
    """Rendered in a real browser: the page is not blank, no wider than a laptop's screen, and prints."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not installed; the report must be looked at in a browser")
        pytest.skip("chromium is not installed")
    out = tmp_path / ("page.png" if way == "screen" else "page.pdf")
    shot = f"--screenshot={out}" if way == "screen" else f"--print-to-pdf={out}"
    command = [browser, *CHROMIUM, f"--user-data-dir={tmp_path / 'profile'}", shot, "--window-size=1280,2400"]
    page = (world / "report" / "index.html").resolve()
    done = subprocess.run([*command, f"file://{page}"], capture_output=True, timeout=120, check=False)
    assert out.is_file(), done.stderr.decode()[-500:]
    if way == "print":
        assert out.read_bytes().startswith(b"%PDF")
        return
    picture = cv2.imread(str(out))
    assert picture is not None
    assert picture.shape[1] == 1280
    rows = (picture.min(axis=2) < 200).any(axis=1)
    assert rows[:200].any()  # the head
    assert rows[1200:2000].mean() > 0.3  # figures and tables below
    assert (picture[:, -4:] > 250).all()  # nothing runs off the right side
