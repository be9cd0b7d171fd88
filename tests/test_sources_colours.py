"""Pictures in colours: one rule for files, arrays and PIL pictures; video frames by the same colour maps."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cli_runs import run_command
from data_sets import mask, save
from dimpoint.cli import build_app
from dimpoint.datasets.check import check_dataset
from dimpoint.datasets.dataset import open_dataset
from dimpoint.datasets.reading import Reading
from dimpoint.errors import ConfigError, FrameError
from dimpoint.live.cameras import RefusedError, StreamCamera
from dimpoint.sources import ReadOptions, as_array, as_frame, frames_from, read_image
from dimpoint.sources.colours import colour_map_of, colour_maps, one_channel
from dimpoint.sources.video import VideoReader

RNG = np.random.default_rng(3)
LEVELS = cv2.GaussianBlur(RNG.integers(0, 256, (80, 100), dtype=np.uint8), (0, 0), 4)
LEVELS = cv2.normalize(LEVELS, None, 0, 255, cv2.NORM_MINMAX)
RINGS = ("hsv", "twilight", "twilight_shifted")  # both ends are equal
KNOWN = [name for name in colour_maps() if name not in RINGS]


SWAPPED = (
    "jet",
    "cool",
    "spring",
    "opencv_rainbow",
)  # with swapped channels these are another map, or themselves upside down


def coloured(name: str) -> np.ndarray:
    return colour_maps()[name][LEVELS]


def unknown_map() -> np.ndarray:
    return unknown_table()[LEVELS]


def unknown_table() -> np.ndarray:
    """Black, purple, red, yellow, white, as of thermal cameras, but none of the known maps."""
    points = np.array([[0, 0, 0], [160, 0, 60], [60, 0, 220], [0, 120, 255], [0, 255, 220], [255, 255, 255]])
    table = np.stack([np.interp(np.arange(256), np.linspace(0, 255, 6), points[:, c]) for c in range(3)], 1)
    return table.astype(np.uint8)


def natural() -> np.ndarray:
    """A scene in many colours."""
    return np.stack(
        [cv2.GaussianBlur(RNG.integers(0, 256, (80, 100), np.uint8), (0, 0), 1) for _ in range(3)], 2
    )


class TestKnownMaps:
    @pytest.mark.parametrize("name", KNOWN)
    def test_files_arrays_and_pil_give_the_same_levels(self, tmp_path: Path, name: str) -> None:
        picture = coloured(name)
        cv2.imwrite(str(tmp_path / "x.png"), picture)
        (frame,) = frames_from(tmp_path / "x.png")
        assert frame.notes == (f"the colour map '{name}' is undone: the levels of 256 are read",)
        same = np.array_equal(colour_maps()[name][frame.pixels], picture)
        assert same  # where two levels have one colour, either is right
        with_alpha = np.dstack([picture, np.full(LEVELS.shape, 255, np.uint8)])
        for array in (picture, picture[..., ::-1], with_alpha) if name not in SWAPPED else ():
            np.testing.assert_array_equal(as_frame(array, "x"), frame.pixels)
        pil = Image.fromarray(np.ascontiguousarray(picture[..., ::-1]))
        np.testing.assert_array_equal(as_array(pil), frame.pixels)

    @pytest.mark.parametrize("name", ["inferno", "viridis", "hot"])
    def test_a_good_jpeg_keeps_its_map(self, tmp_path: Path, name: str) -> None:
        cv2.imwrite(str(tmp_path / "x.jpg"), coloured(name), [cv2.IMWRITE_JPEG_QUALITY, 95])
        assert np.corrcoef(read_image(tmp_path / "x.jpg").ravel(), LEVELS.ravel())[0, 1] > 0.98

    def test_a_ring_of_hues_is_refused_and_can_be_insisted_on(self, tmp_path: Path) -> None:
        cv2.imwrite(str(tmp_path / "x.png"), coloured("hsv"))
        with pytest.raises(FrameError, match=r"x\.png: false colours as of the map 'hsv'.*--colour: luma"):
            read_image(tmp_path / "x.png")
        levels = read_image(tmp_path / "x.png", ReadOptions(colour="hsv"))
        np.testing.assert_array_equal(colour_maps()["hsv"][levels], coloured("hsv"))

    @pytest.mark.parametrize("name", [*colour_maps(), "unknown"])
    @pytest.mark.parametrize(("noise", "quality"), [(0, 75), (16, 50)])
    def test_compressed_and_noisy_colours_are_never_undone_wrongly(
        self, tmp_path: Path, name: str, noise: int, quality: int
    ) -> None:
        rng = np.random.default_rng(7)
        noisy = (LEVELS + rng.normal(0, noise, LEVELS.shape)).clip(0, 255).astype(np.uint8)
        table = unknown_table() if name == "unknown" else colour_maps()[name]
        cv2.imwrite(str(tmp_path / "x.jpg"), table[noisy], [cv2.IMWRITE_JPEG_QUALITY, quality])
        try:
            (frame,) = frames_from(tmp_path / "x.jpg")
        except FrameError as error:
            assert "--colour" in str(error)  # noqa: PT017
            return
        smooth = [cv2.GaussianBlur(one, (0, 0), 3).ravel() for one in (frame.pixels, noisy)]
        assert np.corrcoef(*smooth)[0, 1] > 0.9 or name == "twilight_shifted"  # pale
        assert "levels are off by ten and more" in frame.notes[0] or "natural" in frame.notes[0]

    def test_colours_that_lie_on_two_maps_are_refused(self, tmp_path: Path) -> None:
        """In autumn yellow is hotter than red, in jet colder: compressed, they cannot be told apart."""
        options = [cv2.IMWRITE_JPEG_QUALITY, 75]
        cv2.imwrite(str(tmp_path / "x.jpg"), coloured("autumn"), options)
        with pytest.raises(FrameError, match=r"as of the map '[a-z]+' or '[a-z]+', and which level"):
            read_image(tmp_path / "x.jpg")
        levels = read_image(tmp_path / "x.jpg", ReadOptions(colour="autumn"))
        assert np.corrcoef(levels.ravel(), LEVELS.ravel())[0, 1] > 0.98

    def test_an_array_in_jet_is_refused(self) -> None:
        with pytest.raises(FrameError, match="RGB or BGR"):
            as_frame(coloured("jet"), "x")


class TestOtherColours:
    def test_an_unknown_map_is_refused(self, tmp_path: Path) -> None:
        cv2.imwrite(str(tmp_path / "x.png"), unknown_map())
        with pytest.raises(FrameError, match="probably false ones of an unknown map"):
            read_image(tmp_path / "x.png")
        with pytest.raises(FrameError, match="unequal channels"):
            as_frame(unknown_map(), "x")
        luma = read_image(tmp_path / "x.png", ReadOptions(colour="luma"))
        np.testing.assert_array_equal(luma, cv2.cvtColor(unknown_map(), cv2.COLOR_BGR2GRAY))

    def test_natural_colours_are_told_in_files_and_refused_without_an_order(self, tmp_path: Path) -> None:
        picture = natural()
        cv2.imwrite(str(tmp_path / "x.png"), picture)
        (frame,) = frames_from(tmp_path / "x.png")
        assert "natural colours" in frame.notes[0]
        with pytest.raises(FrameError, match="RGB or BGR cannot be told apart"):
            as_frame(picture, "x")

    @pytest.mark.parametrize("tint", [(0, 0, 0), (4, 0, -5), (10, 0, 12)], ids=str)
    def test_nearly_grey_pictures_are_grey_without_a_note(
        self, tmp_path: Path, tint: tuple[int, ...]
    ) -> None:
        picture = (LEVELS[..., None].astype(int) + tint).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "x.png"), picture)
        (frame,) = frames_from(tmp_path / "x.png")
        assert frame.notes == ()
        np.testing.assert_array_equal(as_frame(picture, "x"), frame.pixels)

    def test_an_unknown_name(self) -> None:
        with pytest.raises(ConfigError, match="--colour: 'rust' is none of luma, jet"):
            one_channel(coloured("jet"), "x", "rust")

    @pytest.mark.parametrize(
        "picture", [natural(), unknown_map(), coloured("inferno")[..., ::-1]], ids=range(3)
    )
    def test_no_map_is_seen_where_there_is_none(self, picture: np.ndarray) -> None:
        assert colour_map_of(picture) == (None, False)


def write_video(path: Path, pictures: list[np.ndarray], codec: str = "ffv1") -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuvj444p"
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


class TestVideo:
    @pytest.mark.parametrize("codec", ["ffv1", "mjpeg"])
    def test_false_colours_are_refused(self, tmp_path: Path, codec: str) -> None:
        path = write_video(tmp_path / "x.mkv", [coloured("inferno")] * 2, codec)
        with pytest.raises(FrameError, match="a video in the false colours of 'inferno'; --colour inferno"):
            list(frames_from(path))
        frames = list(frames_from(path, options=ReadOptions(colour="inferno")))
        assert len(frames) == 2
        assert np.corrcoef(frames[1].pixels.ravel(), LEVELS.ravel())[0, 1] > 0.98

    def test_they_are_seen_behind_a_black_beginning(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "x.mkv", [np.zeros_like(coloured("jet"))] * 3 + [coloured("jet")] * 3)
        errors: list[str] = []
        assert len(list(frames_from(path, on_error=lambda _, error: errors.append(str(error))))) == 4
        assert len(errors) == 1
        assert "false colours of 'jet'" in errors[0]

    def test_natural_colours_are_told(self, tmp_path: Path) -> None:
        frames = list(frames_from(write_video(tmp_path / "x.mkv", [natural()] * 2)))
        assert all("natural colours" in frame.notes[0] for frame in frames)

    def test_frames_by_number_follow_the_same_rule(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "x.mkv", [coloured("hot")] * 3)
        with pytest.raises(FrameError, match="false colours of 'hot'"):
            VideoReader(path).read(1)
        levels = VideoReader(path, ReadOptions(colour="hot")).read(1).pixels
        np.testing.assert_array_equal(colour_maps()["hot"][levels], coloured("hot"))

    def test_a_camera_is_refused_with_the_remedy(self, tmp_path: Path, monkeypatch: Any) -> None:
        path = write_video(tmp_path / "x.mkv", [coloured("jet")] * 3)
        monkeypatch.setattr(StreamCamera, "_open", lambda self, av: av.open(str(path)))
        with pytest.raises(RefusedError, match="false colours of 'jet'; --colour jet"):
            list(StreamCamera(path).shots(lambda: False, print))
        shots = StreamCamera(path, options=ReadOptions(colour="jet")).shots(lambda: False, print)
        np.testing.assert_array_equal(colour_maps()["jet"][next(shots).pixels], coloured("jet"))

    def test_a_camera_in_natural_colours_is_told_once(self, tmp_path: Path, monkeypatch: Any) -> None:
        path = write_video(tmp_path / "x.mkv", [natural()] * 3)
        monkeypatch.setattr(StreamCamera, "_open", lambda self, av: av.open(str(path)))
        notes: list[str] = []
        shots = StreamCamera(path).shots(lambda: False, notes.append)
        assert [next(shots).pixels.shape for _ in range(3)] == [(80, 100)] * 3
        assert len(notes) == 1
        assert "natural colours" in notes[0]


class TestDataSets:
    """Frames of data sets follow the rule of `detect`, and its option."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        """Three frames in jet as noisy JPEGs, which are refused as they stand."""
        (tmp_path / "images").mkdir()
        for number in range(3):
            noise = np.random.default_rng(number).normal(0, 16, LEVELS.shape)
            picture = colour_maps()["jet"][(LEVELS + noise).clip(0, 255).astype(np.uint8)]
            cv2.imwrite(str(tmp_path / f"images/{number}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 50])
            save(tmp_path / f"masks/{number}.png", mask((10 * number + 5, 40), size=LEVELS.shape))
        return tmp_path

    def test_refused_until_it_is_chosen(self, root: Path) -> None:
        assert [f.kind for f in check_dataset(root).findings].count("unreadable-frame") == 3
        report = check_dataset(root, reading=Reading(colour="jet"))
        assert report.errors == 0
        assert {f.message for f in report.findings if f.kind == "frame-read"} == {
            "read as levels of the colour map 'jet'"
        }
        frame = open_dataset(root, reading=Reading(colour="luma")).samples[0].read_frame()
        np.testing.assert_array_equal(frame, read_image(root / "images/0.jpg", ReadOptions(colour="luma")))

    def test_evaluate_says_how_frames_were_read(self, root: Path, monkeypatch: Any, capsys: Any) -> None:
        told = run_command(
            monkeypatch, capsys, "evaluate", "--data", str(root), "--predictions", str(root / "masks")
        )
        assert told.code == 2
        assert "--colour: luma" in told.err
        words = ("evaluate", "--data", str(root), "--predictions", str(root / "masks"), "--colour", "jet")
        told = run_command(monkeypatch, capsys, *words)
        assert told.code == 0, told.err
        assert "0 and 2 more frames: read as levels of the colour map 'jet'" in told.out

    def test_the_choice_is_in_the_record_of_a_run(self) -> None:
        assert Reading.from_record(Reading(colour="jet").to_record()).colour == "jet"
        assert Reading.from_record({**Reading().to_record(), "colour": None}).colour is None
        with pytest.raises(ConfigError, match="--colour: 'rust' is none of luma"):
            Reading(colour="rust")

    @pytest.mark.parametrize(
        "command",
        [
            *("detect", "track", "watch", "label", "evaluate", "compare", "train", "pretrain", "benchmark"),
            *("data check", "data split", "data points", "data convert"),
        ],
    )
    def test_every_command_that_reads_frames_has_the_option(self, command: str) -> None:
        words = [*command.split(), "--help"]
        assert "--colour" in CliRunner().invoke(build_app(), words, env={"COLUMNS": "200"}).output


@pytest.mark.parametrize("quality", [None, 90])
@pytest.mark.parametrize(
    ("picture", "pale"),
    [
        ("twilight", True),
        ("twilight_shifted", True),
        ("warm", False),
        ("cool", False),
        ("grey", False),
    ],
)
def test_pale_colours_of_two_tints_are_told(picture: str, pale: bool, quality: int | None) -> None:
    """Never in silence: refused, or read with a note. A grey picture with one tint has no note."""
    ramp = np.linspace(60, 190, 128 * 128).reshape(128, 128)
    counts = (ramp + np.random.default_rng(0).normal(0, 3, ramp.shape)).clip(0, 255).astype(np.uint8)
    tints = {"warm": (0.93, 1, 1.05), "cool": (1.05, 1, 0.93), "grey": (1, 1, 1)}
    if picture in tints:
        colours = (counts[..., None] * np.array(tints[picture])).clip(0, 255).astype(np.uint8)
    else:
        colours = colour_maps()[picture][counts]
    if quality is not None:
        coded = cv2.imencode(".jpg", colours, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        colours = np.asarray(cv2.imdecode(coded, cv2.IMREAD_UNCHANGED))
    try:
        _, notes = one_channel(colours, "x")
    except FrameError:
        assert pale
        return
    assert bool(notes) == pale


def test_pale_colours_of_an_unknown_map_are_told() -> None:
    grey = np.random.default_rng(0).integers(90, 150, (64, 64), dtype=np.uint8)
    colours = np.dstack([grey] * 3)
    colours[:32, :, 0] += 12
    colours[32:, :, 2] += 12
    _, notes = one_channel(colours, "x")
    assert "pale colours of two tints" in notes[0]
    with pytest.raises(FrameError, match="unequal channels"):
        as_frame(colours, "x")
