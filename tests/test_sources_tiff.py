"""TIFF: bit depths, byte orders, compressions, colour kinds and pages come out as stored."""

from __future__ import annotations

import importlib
import struct
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from dimpoint.errors import FrameError
from dimpoint.sources import count_frames, frames_from, read_image

RNG = np.random.default_rng(0)
GREY8 = RNG.integers(0, 256, (37, 53), dtype=np.uint8)
GREY16 = RNG.integers(0, 65536, (37, 53)).astype(np.uint16)
FLOAT = RNG.normal(size=(37, 53)).astype(np.float32)
COLOUR8 = RNG.integers(96, 160, (37, 53, 3), dtype=np.uint8)  # pale: strong colours are refused
OPAQUE = np.full((37, 53, 1), 255, np.uint8)


def bt601(rgb: np.ndarray) -> np.ndarray:
    return rgb[..., :3].astype(np.float64) @ np.array([0.299, 0.587, 0.114])


def write_tiff(path: Path, data: bytes, **tags: int) -> Path:
    """A one-strip TIFF by hand, for what no library here writes. Tags by their number, as t256=width."""
    values = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(data)}
    values |= {int(name[1:]): value for name, value in tags.items()}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(values.items()))
    directory = struct.pack("<H", len(values)) + entries + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory)
    return path


@pytest.mark.parametrize("picture", [GREY8, GREY16, FLOAT], ids=["uint8", "uint16", "float32"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"bigtiff": True},
        {"rowsperstrip": 5},
        {"tile": (16, 16)},
        {"compression": "zlib"},
        {"compression": "zlib", "tile": (32, 32), "byteorder": ">"},
    ],
    ids=str,
)
def test_what_tifffile_writes_is_exact(tmp_path, picture, options):
    tifffile.imwrite(tmp_path / "x.tif", picture, **options)
    frame = read_image(tmp_path / "x.tif")
    assert frame.dtype == picture.dtype
    assert frame.dtype.isnative
    np.testing.assert_array_equal(frame, picture)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_become_float32(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "x.tif", FLOAT.astype(dtype))
    frame = read_image(tmp_path / "x.tif")
    assert frame.dtype == np.float32
    np.testing.assert_array_equal(frame, FLOAT.astype(dtype).astype(np.float32))


@pytest.fixture
def without_imagecodecs(monkeypatch):
    """A plain install: tifffile has its own few decoders only."""
    monkeypatch.setattr(tifffile.tifffile, "imagecodecs", importlib.import_module("tifffile._imagecodecs"))
    monkeypatch.setattr(tifffile.TIFF.DECOMPRESSORS, "_codecs", {1: lambda data: data})
    monkeypatch.setattr(tifffile.TIFF.UNPREDICTORS, "_codecs", {1: lambda data: data})


@pytest.mark.parametrize("codecs", [True, False], ids=["imagecodecs", "plain"])
class TestCompressions:
    """LZW, JPEG and CCITT are read without imagecodecs too; OpenCV writes LZW unless told otherwise."""

    @pytest.fixture(autouse=True)
    def _codecs(self, codecs, request):
        if codecs:
            pytest.importorskip("imagecodecs")
        else:
            request.getfixturevalue("without_imagecodecs")

    @pytest.mark.parametrize("picture", [GREY8, GREY16, FLOAT], ids=["uint8", "uint16", "float32"])
    def test_lzw_with_predictor(self, tmp_path, picture):
        cv2.imwrite(str(tmp_path / "x.tif"), picture, [cv2.IMWRITE_TIFF_COMPRESSION, 5])
        frame = read_image(tmp_path / "x.tif")
        assert frame.dtype == picture.dtype
        np.testing.assert_array_equal(frame, picture)

    @pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_deflate", "lzma"])
    @pytest.mark.parametrize("mode", ["L", "P", "RGB", "1", "RGBA", "LA"])
    def test_lossless_kinds_by_pillow(self, tmp_path, compression, mode):
        picture = Image.fromarray(COLOUR8).convert(mode)
        picture.save(tmp_path / "x.tif", compression=compression)
        expected = bt601(np.asarray(picture.convert("RGB")))
        np.testing.assert_allclose(read_image(tmp_path / "x.tif"), expected, atol=0.51)

    def test_group4(self, tmp_path):
        Image.fromarray(GREY8 > 127).save(tmp_path / "x.tif", compression="group4")
        np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), (GREY8 > 127) * np.uint8(255))

    @pytest.mark.parametrize("mode", ["L", "RGB"])
    def test_jpeg_equals_pillow(self, tmp_path, mode):
        Image.fromarray(cv2.GaussianBlur(COLOUR8, (0, 0), 4)).convert(mode).save(
            tmp_path / "x.tif", compression="jpeg"
        )
        with Image.open(tmp_path / "x.tif") as picture:
            expected = bt601(np.asarray(picture.convert("RGB")))
        np.testing.assert_allclose(read_image(tmp_path / "x.tif"), expected, atol=1.5)

    def test_every_page_of_an_lzw_stack(self, tmp_path):
        pages = [Image.fromarray(GREY16 // divisor) for divisor in (1, 2, 3)]
        pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw")
        for page, divisor in zip(frames_from(tmp_path / "x.tif"), (1, 2, 3), strict=True):
            np.testing.assert_array_equal(page.pixels, GREY16 // divisor)


class TestPlainInstall:
    def test_transparent_colours_that_opencv_would_darken_are_refused(self, tmp_path, without_imagecodecs):
        """OpenCV gives 8-bit colours multiplied by their alpha."""
        picture = np.concatenate([COLOUR8, OPAQUE // 2], axis=2)
        Image.fromarray(picture).save(tmp_path / "x.tif", compression="tiff_lzw")
        with pytest.raises(FrameError, match=r"alpha.*imagecodecs"):
            read_image(tmp_path / "x.tif")

    def test_a_codec_that_nothing_here_has(self, tmp_path, without_imagecodecs):
        path = write_tiff(tmp_path / "x.tif", b"abcd", t259=50001)  # WebP
        with pytest.raises(FrameError, match=r"WEBP.*install imagecodecs, or save it uncompressed"):
            read_image(path)


class TestColourKinds:
    @pytest.mark.parametrize("picture", [GREY8, GREY16], ids=["uint8", "uint16"])
    @pytest.mark.parametrize("compression", [None, "tiff_lzw"])
    def test_white_is_zero_is_inverted(self, tmp_path, picture, compression):
        """As Pillow and libtiff do for 8 bits; for 16 bits the same rule holds."""
        path = tmp_path / "x.tif"
        if compression is None:
            tifffile.imwrite(path, np.invert(picture), photometric="miniswhite")
        else:
            Image.fromarray(picture).save(path, compression=compression)
            with tifffile.TiffFile(path, mode="r+") as tif:
                tif.pages[0].tags["PhotometricInterpretation"].overwrite(0)
            picture = np.invert(picture)
        np.testing.assert_array_equal(read_image(path), picture)

    def test_white_is_zero_single_bits(self, tmp_path):
        tifffile.imwrite(tmp_path / "x.tif", GREY8 > 127, photometric="miniswhite")
        np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), (GREY8 <= 127) * np.uint8(255))

    @pytest.mark.parametrize("planar", ["contig", "separate"])
    def test_sixteen_bit_equal_rgb_is_exact(self, tmp_path, planar):
        axis = 2 if planar == "contig" else 0
        tifffile.imwrite(
            tmp_path / "x.tif", np.stack([GREY16] * 3, axis), photometric="rgb", planarconfig=planar
        )
        np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), GREY16)

    @pytest.mark.parametrize("planar", ["contig", "separate"])
    def test_colour_order_is_right(self, tmp_path, planar):
        picture = COLOUR8 if planar == "contig" else np.moveaxis(COLOUR8, 2, 0)
        tifffile.imwrite(tmp_path / "x.tif", picture, photometric="rgb", planarconfig=planar)
        np.testing.assert_allclose(read_image(tmp_path / "x.tif"), bt601(COLOUR8), atol=0.51)

    @pytest.mark.parametrize("scale", [257, 256, 1])
    def test_palette_entries_of_all_writers(self, tmp_path, scale):
        """Writers store a colour v as 257 v or 256 v; very old ones as v."""
        grey = np.arange(255, -1, -1, dtype=np.uint16)
        palette = np.stack([grey * scale] * 3)
        tifffile.imwrite(tmp_path / "x.tif", GREY8, photometric="palette", colormap=palette)
        np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), 255 - GREY8)

    def test_orientation_is_not_applied(self, tmp_path):
        tifffile.imwrite(tmp_path / "x.tif", GREY16, extratags=[(274, "H", 1, 6, True)])
        np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), GREY16)

    def test_orientation_that_opencv_would_apply_is_refused(self, tmp_path, without_imagecodecs):
        Image.fromarray(GREY8).save(tmp_path / "x.tif", compression="tiff_lzw", tiffinfo={274: 6})
        with pytest.raises(FrameError, match=r"orientation.*LZW"):
            read_image(tmp_path / "x.tif")


class TestPages:
    STACK = RNG.integers(0, 65536, (5, 20, 30)).astype(np.uint16)

    @pytest.mark.parametrize(
        "options",
        [
            {"photometric": "minisblack"},
            {"imagej": True},
            {"photometric": "minisblack", "metadata": None, "compression": "zlib"},
            # one page listed for all, as ImageJ does above 4 GB
            {"photometric": "minisblack", "truncate": True},
            {"photometric": "minisblack", "truncate": True, "byteorder": ">"},
        ],
        ids=str,
    )
    def test_every_page_is_a_frame(self, tmp_path, options):
        path = tmp_path / "x.tif"
        tifffile.imwrite(path, self.STACK, **options)
        frames = list(frames_from(path))
        assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
        assert frames[3].file == f"{path}#000003"
        assert frames[3].path == path
        np.testing.assert_array_equal([frame.pixels for frame in frames], self.STACK)
        assert all(frame.pixels.dtype.isnative for frame in frames)
        with pytest.raises(FrameError, match="holds 5 pictures, where one is expected"):
            read_image(path)
        assert count_frames(path) == 5

    def test_a_single_page_has_no_number(self, tmp_path):
        tifffile.imwrite(tmp_path / "x.tif", GREY16)
        (frame,) = frames_from(tmp_path / "x.tif")
        assert (frame.file, frame.index) == (str(tmp_path / "x.tif"), None)

    def test_pages_may_differ_in_size_and_type(self, tmp_path):
        with tifffile.TiffWriter(tmp_path / "x.tif") as writer:
            for picture in (GREY8, FLOAT[:5], GREY16[:, :7]):
                writer.write(picture, metadata=None)
        shapes = [(page.pixels.shape, page.pixels.dtype) for page in frames_from(tmp_path / "x.tif")]
        assert shapes == [((37, 53), np.uint8), ((5, 53), np.float32), ((37, 7), np.uint16)]

    def test_previews_are_left_out(self, tmp_path):
        with tifffile.TiffWriter(tmp_path / "x.tif") as writer:
            writer.write(GREY16, metadata=None)
            writer.write(GREY16[::4, ::4], subfiletype=1, metadata=None)
        (frame,) = frames_from(tmp_path / "x.tif")
        np.testing.assert_array_equal(frame.pixels, GREY16)
        assert frame.index is None
        assert count_frames(tmp_path / "x.tif") == 1

    def test_pages_are_streamed(self, tmp_path):
        """Forty pages of 0.5 MB take the memory of a few."""
        with tifffile.TiffWriter(tmp_path / "x.tif") as writer:
            for _ in range(40):
                writer.write(np.zeros((512, 512), np.uint16), contiguous=False, metadata=None)
        tracemalloc.start()
        tracemalloc.reset_peak()
        assert sum(1 for _ in frames_from(tmp_path / "x.tif")) == 40
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4e6

    @pytest.mark.parametrize("damaged", [0, 2, 4])
    def test_pages_beside_a_damaged_one_are_given(self, tmp_path, damaged):
        path = tmp_path / "x.tif"
        with tifffile.TiffWriter(path) as writer:
            for page in self.STACK:
                writer.write(page, compression="zlib", metadata=None, contiguous=False)
        with tifffile.TiffFile(path) as tif:
            start, count = tif.pages[damaged].dataoffsets[0], tif.pages[damaged].databytecounts[0]
        data = bytearray(path.read_bytes())
        data[start : start + count] = bytes(count)
        path.write_bytes(data)
        errors = []
        frames = list(frames_from(path, on_error=lambda name, error: errors.append((name, str(error)))))
        kept = [number for number in range(len(self.STACK)) if number != damaged]
        assert [frame.index for frame in frames] == kept
        np.testing.assert_array_equal([frame.pixels for frame in frames], self.STACK[kept])
        ((name, said),) = errors
        assert name == f"{path}#{damaged:06d}"
        assert said.startswith(f"{path}, page {damaged}: the TIFF is damaged")
        with pytest.raises(FrameError, match=rf"x\.tif, page {damaged}: the TIFF is damaged"):
            list(frames_from(path))


class TestRefused:
    @pytest.mark.parametrize(
        ("dtype", "message"),
        [
            (np.complex64, "complex64"),
        ],
    )
    def test_types_without_a_rule(self, tmp_path, dtype, message):
        tifffile.imwrite(tmp_path / "x.tif", np.zeros((4, 5), dtype))
        with pytest.raises(FrameError, match=message) as caught:
            read_image(tmp_path / "x.tif")
        assert str(tmp_path / "x.tif") in str(caught.value)

    @pytest.mark.parametrize(
        ("tags", "message"),
        [
            ({"t258": 4}, "4 bits per count; save 8 or 16 bits"),
            ({"t258": 11}, "11 bits per count; save 8 or 16 bits"),
            ({"t256": 0}, "empty: 0 x 1"),
            ({"t256": 200_000, "t257": 200_000}, "200000 x 200000 pixels: .* more than the limit"),
            ({"t262": 5, "t277": 4}, "kind SEPARATED; save it as grey or RGB"),
            ({"t277": 5}, "5 channels; a frame has one"),
            ({"t277": 2}, "2 channels; a frame has one"),
            ({"t273": 4000}, "truncated"),
            ({"t279": 0}, "1 of 1 parts of the picture are not in the file.*--accept-damaged"),
        ],
        ids=str,
    )
    def test_headers(self, tmp_path, tags, message):
        with pytest.raises(FrameError, match=message):
            read_image(write_tiff(tmp_path / "x.tif", bytes(64), **tags))

    @pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"rowsperstrip": 4}], ids=str)
    @pytest.mark.parametrize("part", [0.9, 0.5, 0.01])
    def test_truncated_files(self, tmp_path, options, part):
        path = tmp_path / "x.tif"
        tifffile.imwrite(path, GREY16, **options)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * part)])
        with pytest.raises(FrameError, match=r"x\.tif.*(truncated|damaged)"):
            read_image(path)

    def test_a_float_page_with_nan(self, tmp_path):
        picture = FLOAT.copy()
        picture[3, 4:6] = np.nan
        tifffile.imwrite(tmp_path / "x.tif", picture)
        frame = read_image(tmp_path / "x.tif")
        assert np.isfinite(frame).all()
        np.testing.assert_array_equal(frame[~np.isnan(picture)], picture[~np.isnan(picture)])

    def test_a_float_page_of_nan(self, tmp_path):
        tifffile.imwrite(tmp_path / "x.tif", np.full_like(FLOAT, np.nan))
        with pytest.raises(FrameError, match="no pixel of"):
            read_image(tmp_path / "x.tif")
