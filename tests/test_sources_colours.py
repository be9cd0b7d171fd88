"""Pictures in colours: one rule for files, arrays and PIL pictures; video frames by the same colour maps."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from dimpoint.errors import ConfigError, FrameError
from dimpoint.sources import ReadOptions, as_array, as_frame, frames_from, read_image
from dimpoint.sources.colours import colour_map_of, colour_maps, one_channel

RNG = np.random.default_rng(3)
LEVELS = cv2.GaussianBlur(RNG.integers(0, 256, (80, 100), dtype=np.uint8), (0, 0), 4)
LEVELS = cv2.normalize(LEVELS, None, 0, 255, cv2.NORM_MINMAX)
KNOWN = [name for name in colour_maps() if name != "hsv"]


def coloured(name: str) -> np.ndarray:
    return colour_maps()[name][LEVELS]


def unknown_map() -> np.ndarray:
    """Black, purple, red, yellow, white, as of thermal cameras, but none of the known maps."""
    points = np.array([[0, 0, 0], [160, 0, 60], [60, 0, 220], [0, 120, 255], [0, 255, 220], [255, 255, 255]])
    table = np.stack([np.interp(np.arange(256), np.linspace(0, 255, 6), points[:, c]) for c in range(3)], 1)
    return table.astype(np.uint8)[LEVELS]


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
        # jet with its channels swapped is jet upside down: of an array it is not known which
        for array in (picture, picture[..., ::-1], with_alpha) if name != "jet" else ():
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

    @pytest.mark.parametrize("quality", [95])
    def test_compressed_colours_are_refused_where_they_leave_their_map(
        self, tmp_path: Path, quality: int
    ) -> None:
        noisy = (LEVELS + RNG.normal(0, 12, LEVELS.shape)).clip(0, 255).astype(np.uint8)
        picture = colour_maps()["jet"][noisy]
        cv2.imwrite(str(tmp_path / "x.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        with pytest.raises(FrameError, match="false colours as of the map 'jet'"):
            read_image(tmp_path / "x.jpg")
        levels = read_image(tmp_path / "x.jpg", ReadOptions(colour="jet"))
        assert np.corrcoef(levels.ravel(), LEVELS.ravel())[0, 1] > 0.8

    def test_an_array_in_jet_is_refused(self) -> None:
        with pytest.raises(FrameError, match="RGB or BGR"):
            as_frame(coloured("jet"), "x")


class TestOtherColours:
    def test_an_unknown_map_is_refused(self, tmp_path: Path) -> None:
        cv2.imwrite(str(tmp_path / "x.png"), unknown_map())
        with pytest.raises(FrameError, match="false colours of an unknown map"):
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


@pytest.mark.parametrize("codec", ["ffv1", "mjpeg"])
def test_a_video_in_false_colours_is_refused(tmp_path: Path, codec: str) -> None:
    with av.open(str(tmp_path / "x.mkv"), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = 100, 80
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuvj444p"
        for number in range(2):
            frame = av.VideoFrame.from_ndarray(coloured("inferno"), format="bgr24")
            frame = frame.reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(FrameError, match="a video in the false colours of 'inferno'; --colour inferno"):
        list(frames_from(tmp_path / "x.mkv"))
    frames = list(frames_from(tmp_path / "x.mkv", options=ReadOptions(colour="inferno")))
    assert len(frames) == 2
    assert np.corrcoef(frames[1].pixels.ravel(), LEVELS.ravel())[0, 1] > 0.98
