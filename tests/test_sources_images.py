"""read_image: every kind of picture becomes one channel by the stated rule, with the counts as stored."""

from __future__ import annotations

import io
import struct
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from dimpoint.errors import FrameError
from dimpoint.sources import as_frame, frames_from, read_image

RNG = np.random.default_rng(0)
GREY8 = RNG.integers(0, 256, (37, 53), dtype=np.uint8)
GREY16 = RNG.integers(0, 65536, (37, 53)).astype(np.uint16)
COLOUR8 = RNG.integers(96, 160, (37, 53, 3), dtype=np.uint8)  # pale: strong colours are refused
COLOUR16 = RNG.integers(24000, 40000, (37, 53, 3)).astype(np.uint16)
PNG_GREY, PNG_RGB, PNG_GREY_ALPHA, PNG_RGBA = 0, 2, 4, 6


def bt601(rgb: np.ndarray) -> np.ndarray:
    return rgb[..., :3].astype(np.float64) @ np.array([0.299, 0.587, 0.114])


def with_alpha(picture: np.ndarray) -> np.ndarray:
    """A last channel that runs through all opacities, zero among them."""
    channels = picture if picture.ndim == 3 else picture[..., None]
    alpha = np.linspace(0, np.iinfo(picture.dtype).max, channels[..., 0].size).reshape(channels.shape[:2])
    return np.concatenate([channels, alpha[..., None].astype(picture.dtype)], axis=2)


def write_png(path: Path, rows: list[bytes], width: int, depth: int, colour_type: int) -> Path:
    """A PNG by hand, because no other library here writes all kinds."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
    return path


def write_png16(path: Path, picture: np.ndarray, colour_type: int) -> Path:
    rows = [row.astype(">u2").tobytes() for row in picture]
    return write_png(path, rows, picture.shape[1], 16, colour_type)


class TestRealFrames:
    """NUAA-SIRST mixes grey, colour, alpha and palette files; Pillow is the independent reader."""

    def test_every_mode_of_nuaa(self, shared_data):
        seen = Counter()
        for path in sorted((shared_data / "NUAA-SIRST/images").glob("*.png")):
            with Image.open(path) as picture:
                mode = picture.mode
                if mode == "RGB" and seen[mode] >= 40:
                    continue
                rgb = np.asarray(picture.convert("RGB"))
            seen[mode] += 1
            frame = read_image(path)
            assert frame.dtype == np.uint8
            if (np.ptp(rgb, axis=2) == 0).all():
                np.testing.assert_array_equal(frame, rgb[..., 0], err_msg=f"{path.name} {mode}")
            else:
                seen["unequal channels"] += 1
                np.testing.assert_allclose(frame, bt601(rgb), atol=0.51, err_msg=f"{path.name} {mode}")
        assert seen["L"] == 28
        assert seen["RGB"] == 40
        assert seen["RGBA"] == 15
        assert seen["P"] == 5
        assert seen["unequal channels"] > 0

    @pytest.mark.parametrize("folder", ["NUDT-SIRST", "IRSTD-1K", "SIRST-v2"])
    def test_other_sets(self, shared_data, folder):
        for path in sorted((shared_data / folder / "images").glob("*.png"))[:20]:
            with Image.open(path) as picture:
                rgb = np.asarray(picture.convert("RGB"))
            np.testing.assert_allclose(read_image(path), bt601(rgb), atol=0.51)


class TestEightBits:
    @pytest.mark.parametrize("suffix", [".png", ".bmp"])
    @pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
    def test_lossless_kinds_by_pillow(self, tmp_path, suffix, mode):
        picture = Image.fromarray(COLOUR8).convert(mode)
        picture.save(tmp_path / f"x{suffix}")
        expected = bt601(np.asarray(picture.convert("RGB")))
        frame = read_image(tmp_path / f"x{suffix}")
        assert frame.dtype == np.uint8
        np.testing.assert_allclose(frame, expected, atol=0.51)

    @pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
    def test_equal_channels_are_that_channel(self, tmp_path, suffix):
        Image.fromarray(np.dstack([GREY8] * 3)).save(tmp_path / f"x{suffix}")
        np.testing.assert_array_equal(read_image(tmp_path / f"x{suffix}"), GREY8)

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    @pytest.mark.parametrize("grey_channels", [1, 3])
    def test_alpha_is_ignored(self, tmp_path, suffix, grey_channels):
        """Even where a pixel is wholly transparent its grey value counts."""
        picture = with_alpha(np.dstack([GREY8] * grey_channels))
        Image.fromarray(picture).save(tmp_path / f"x{suffix}")
        np.testing.assert_array_equal(read_image(tmp_path / f"x{suffix}"), GREY8)

    def test_palette_with_transparency(self, tmp_path):
        picture = Image.fromarray(GREY8 // 16)
        palette = np.repeat(np.arange(255, -1, -1, dtype=np.uint8)[:, None], 3, axis=1)
        picture.putpalette(palette.tobytes())
        picture.save(tmp_path / "x.png", transparency=bytes(range(16)))
        np.testing.assert_array_equal(read_image(tmp_path / "x.png"), 255 - GREY8 // 16)

    def test_grey_jpeg_equals_pillow(self, tmp_path):
        smooth = cv2.GaussianBlur(GREY8, (0, 0), 3)
        Image.fromarray(smooth).save(tmp_path / "x.jpg", quality=95)
        with Image.open(tmp_path / "x.jpg") as picture:
            expected = np.asarray(picture).astype(int)
        np.testing.assert_allclose(read_image(tmp_path / "x.jpg"), expected, atol=1)

    def test_jpeg_with_a_thumbnail_and_bytes_after_its_end(self, tmp_path):
        """Thermal cameras put a second JPEG into the first one's header, and data after its end."""
        thumbnail = cv2.imencode(".jpg", GREY8)[1].tobytes()
        data = cv2.imencode(".jpg", GREY8)[1].tobytes()
        segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
        (tmp_path / "x.jpg").write_bytes(data[:2] + segment + data[2:] + b"counts follow")
        assert read_image(tmp_path / "x.jpg").shape == GREY8.shape

    @pytest.mark.parametrize("suffix", [".jpg", ".png"])
    def test_orientation_tags_are_not_applied(self, tmp_path, suffix):
        """Masks and labels refer to the pixels as stored."""
        picture = Image.fromarray(GREY8)
        exif = picture.getexif()
        exif[274] = 6  # "turn by 90 degrees"
        picture.save(tmp_path / f"x{suffix}", exif=exif)
        assert read_image(tmp_path / f"x{suffix}").shape == GREY8.shape

    @pytest.mark.parametrize(
        ("depth", "packed", "counts"),
        [
            (1, 0b10110000, [255, 0, 255, 255]),
            (2, 0b00011011, [0, 85, 170, 255]),
            (4, 0b00011111, [17, 255]),
        ],
    )
    def test_few_bits_are_spread_over_eight(self, tmp_path, depth, packed, counts):
        path = write_png(tmp_path / "x.png", [bytes([packed])], len(counts), depth, PNG_GREY)
        assert read_image(path).tolist() == [counts]


class TestSixteenBitPng:
    """Never silently cut to 8 bits, whatever comes along with them."""

    @pytest.mark.parametrize(
        ("picture", "colour_type"),
        [
            (GREY16, PNG_GREY),
            (with_alpha(GREY16), PNG_GREY_ALPHA),
            (np.dstack([GREY16] * 3), PNG_RGB),
            (with_alpha(np.dstack([GREY16] * 3)), PNG_RGBA),
        ],
        ids=["grey", "grey+alpha", "equal RGB", "equal RGBA"],
    )
    def test_grey_is_exact(self, tmp_path, picture, colour_type):
        frame = read_image(write_png16(tmp_path / "x.png", picture, colour_type))
        assert frame.dtype == np.uint16
        np.testing.assert_array_equal(frame, GREY16)

    def test_colour_is_the_bt601_grey(self, tmp_path):
        frame = read_image(write_png16(tmp_path / "x.png", COLOUR16, PNG_RGB))
        assert frame.dtype == np.uint16
        # OpenCV's weights have 15 bits, which is up to 2 counts of 65535
        np.testing.assert_allclose(frame, bt601(COLOUR16), atol=2)


class TestNpy:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize("byte_order", ["<", ">"])
    def test_frame_types_come_back_exactly(self, tmp_path, dtype, order, byte_order):
        array = np.asarray(GREY8 + dtype(0.5 if dtype is np.float32 else 0))
        np.save(tmp_path / "x.npy", np.asarray(array, np.dtype(dtype).newbyteorder(byte_order), order=order))
        frame = read_image(tmp_path / "x.npy")
        assert frame.dtype == np.dtype(dtype)
        assert frame.dtype.isnative
        np.testing.assert_array_equal(frame, array)

    @pytest.mark.parametrize("dtype", [np.float16, np.float64])
    def test_other_floats_are_rounded_to_the_nearest_float32(self, tmp_path, dtype):
        array = RNG.normal(size=(4, 5)).astype(dtype)
        np.save(tmp_path / "x.npy", array)
        frame = read_image(tmp_path / "x.npy")
        assert frame.dtype == np.float32
        np.testing.assert_array_equal(frame, array.astype(np.float32))

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_equal_channels_are_a_picture(self, tmp_path, channels):
        array = np.dstack([GREY16] * channels)
        if channels == 4:
            array[..., 3] = 9  # alpha
        np.save(tmp_path / "x.npy", array)
        np.testing.assert_array_equal(read_image(tmp_path / "x.npy"), GREY16)


class TestNamesAndSizes:
    @pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg", ".tif", ".npy"])
    def test_one_pixel(self, tmp_path, suffix):
        pixel = np.array([[200]], np.uint8)
        path = tmp_path / f"x{suffix}"
        np.save(path, pixel) if suffix == ".npy" else Image.fromarray(pixel).save(path)
        np.testing.assert_allclose(read_image(path), pixel, atol=1)

    def test_content_counts_not_the_name(self, tmp_path):
        """Data sets hold JPEG files that are named .png."""
        Image.fromarray(GREY8).save(tmp_path / "real.bmp")
        (tmp_path / "real.bmp").rename(tmp_path / "named.png")
        np.testing.assert_array_equal(read_image(tmp_path / "named.png"), GREY8)

    def test_a_path_may_be_text_and_hold_any_letters(self, tmp_path):
        path = tmp_path / "ночь 夜 #1.png"
        Image.fromarray(GREY8).save(path)
        np.testing.assert_array_equal(read_image(str(path)), GREY8)

    def test_the_frame_can_be_written_to_and_is_contiguous(self, tmp_path):
        Image.fromarray(with_alpha(np.dstack([GREY8] * 3))).save(tmp_path / "x.png")
        frame = read_image(tmp_path / "x.png")
        assert frame.flags.c_contiguous
        assert frame.flags.writeable


class TestAsFrame:
    """Arrays that users hand over: what is plain passes, what is ambiguous is refused."""

    def test_a_frame_passes_uncopied(self):
        assert np.shares_memory(as_frame(GREY16, "array"), GREY16)

    def test_what_opencv_reads_from_a_grey_file_passes(self):
        buffer = io.BytesIO()
        Image.fromarray(GREY8).save(buffer, "PNG")
        picture = cv2.imdecode(np.frombuffer(buffer.getvalue(), np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (37, 53, 3)
        np.testing.assert_array_equal(as_frame(picture, "array"), GREY8)

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (COLOUR8, "RGB or BGR cannot be told apart"),
            (np.zeros((2, 3, 5), np.uint8), r"got shape \(2, 3, 5\)"),
            (np.zeros((2, 3, 2), np.uint8), r"got shape \(2, 3, 2\)"),
            (np.zeros((1, 2, 3, 4), np.uint8), "got shape"),
            (np.zeros(3, np.uint8), "got shape"),
            (np.zeros((), np.uint8), "got shape"),
            (np.zeros((0, 4, 3), np.uint8), "empty"),
            (np.zeros((3, 3), complex), "complex128"),
        ],
    )
    def test_refused(self, array, message):
        with pytest.raises(FrameError, match=message) as caught:
            as_frame(array, "the array")
        assert str(caught.value).startswith("the array: ")


@pytest.mark.parametrize(("suffix", "options"), [(".png", {}), (".webp", {"lossless": True})])
def test_animated_pictures_say_that_one_frame_is_read(
    tmp_path: Path, suffix: str, options: dict[str, Any]
) -> None:
    pictures = [Image.fromarray(np.full((12, 16), 40 * n, np.uint8)) for n in (1, 2, 3)]
    path = tmp_path / f"x{suffix}"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], **options)
    (frame,) = frames_from(str(path))
    assert frame.pixels.mean() == pytest.approx(40, abs=2)
    assert "its first frame is read" in frame.notes[0]
    pictures[0].save(path, **options)
    assert next(iter(frames_from(str(path)))).notes == ()


@pytest.mark.parametrize("end", ["", "\n"])
def test_ascii_pgm_may_end_with_its_last_number(tmp_path: Path, end: str) -> None:
    (tmp_path / "x.pgm").write_text(f"P2\n# made by hand\n3 2\n255\n1 2 3 4 5 60{end}")
    (frame,) = frames_from(str(tmp_path / "x.pgm"))
    assert frame.pixels.tolist() == [[1, 2, 3], [4, 5, 60]]


@pytest.mark.parametrize("most", [1, 100, 254, 255, 1023])
def test_text_and_binary_pgm_hold_the_same_counts(tmp_path: Path, most: int) -> None:
    counts = np.array([[0, most // 3, most]], ">u2" if most > 255 else "u1")
    header = f"# made by hand\n3 1\n{most}\n"
    (tmp_path / "binary.pgm").write_bytes(f"P5\n{header}".encode() + counts.tobytes())
    (tmp_path / "text.pgm").write_text(f"P2\n{header}" + " ".join(map(str, counts[0])))
    for name in ("binary.pgm", "text.pgm"):
        assert read_image(tmp_path / name).tolist() == counts.tolist()
