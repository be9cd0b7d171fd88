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
from dimpoint.inference.detection_files import read_detections
from dimpoint.inference.detections import Detections, csv_text, geojson_content, write_detections
from dimpoint.sources import Frame, ReadOptions, count_frames, frames_from, read_image

KEYS = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)
POINT = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 2, 3072, 0, 1, 32633)  # tags speak of pixel centres
SOUTH = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32756)
DEGREES = (1, 1, 0, 3, 1024, 0, 1, 2, 1025, 0, 1, 1, 2048, 0, 1, 4326)
MERCATOR = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 3857)
LAMBERT = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 2154)
PIXELS = [(0, 0), (10.25, 3.5), (39, 29)]
# Map coordinates and degrees of these pixels' centres, by rasterio 1.4.4 and pyproj 3.7.2 of files that
# rasterio wrote; the tags are those of its files.
GEO: dict[str, tuple[dict[int, tuple[float, ...]], tuple[int, ...], list[list[float]], list[list[float]]]] = {
    "utm": (
        {33550: (0.5, 0.5, 0), 33922: (0, 0, 0, 432100.25, 5412345.75, 0)},
        KEYS,
        [[432100.5, 5412345.5], [432105.625, 5412343.75], [432120.0, 5412331.0]],
        [[14.074262170, 48.860355728], [14.074332325, 48.860340549], [14.074530400, 48.860227440]],
    ),
    "pixel is point": (
        {33550: (0.5, 0.5, 0), 33922: (0, 0, 0, 432100.5, 5412345.5, 0)},
        POINT,
        [[432100.5, 5412345.5], [432105.625, 5412343.75], [432120.0, 5412331.0]],
        [[14.074262170, 48.860355728], [14.074332325, 48.860340549], [14.074530400, 48.860227440]],
    ),
    "turned, southern": (
        {34264: (2, 0.3, 0, 334000, 0.2, -2, 0, 6250000, 0, 0, 0, 0, 0, 0, 0, 1)},
        SOUTH,
        [[334001.15, 6249999.1], [334022.7, 6249994.15], [334087.85, 6249948.9]],
        [[151.205149543, -33.877299349], [151.205381517, -33.877347365], [151.206077106, -33.877765534]],
    ),
    "degrees": (
        {33550: (1e-4, 1e-4, 0), 33922: (0, 0, 0, 13.4, 52.5, 0)},
        DEGREES,
        [[13.40005, 52.49995], [13.401075, 52.4996], [13.40395, 52.49705]],
        [[13.40005, 52.49995], [13.401075, 52.4996], [13.40395, 52.49705]],
    ),
    "web mercator": (
        {33550: (1.2, 1.2, 0), 33922: (0, 0, 0, 1489200, 6892400, 0)},
        MERCATOR,
        [[1489200.6, 6892399.4], [1489212.9, 6892395.2], [1489247.4, 6892364.6]],
        [[13.377716601, 52.507423957], [13.377827094, 52.507400992], [13.378137013, 52.507233681]],
    ),
}
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

    @pytest.mark.parametrize("lzw", [False, True])
    def test_white_is_zero_keeps_its_no_data_value(self, tmp_path, lzw, request):
        stored = np.clip(GREY8, 1, None)
        stored[3, 4] = 0
        if lzw:  # OpenCV inverts it
            request.getfixturevalue("without_imagecodecs")
            tags = {42113: "0"}
            Image.fromarray(stored).save(tmp_path / "x.tif", compression="tiff_lzw", tiffinfo=tags)
            with tifffile.TiffFile(tmp_path / "x.tif", mode="r+") as tif:
                tif.pages[0].tags["PhotometricInterpretation"].overwrite(0)
        else:
            tags = [(42113, "s", 0, "0", True)]
            tifffile.imwrite(tmp_path / "x.tif", stored, photometric="miniswhite", extratags=tags)
        frame = only(tmp_path / "x.tif")
        np.testing.assert_array_equal(frame.pixels, 255 - stored)
        assert np.argwhere(~frame.valid).tolist() == [[3, 4]]

    def test_white_is_zero_of_twelve_bits(self, tmp_path):
        pytest.importorskip("imagecodecs")
        counts = GREY16 >> 4
        tifffile.imwrite(tmp_path / "x.tif", counts, photometric="miniswhite", bitspersample=12)
        np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), 4095 - counts)

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

    def test_white_is_zero_where_one_page_is_listed_for_all(self, tmp_path):
        tifffile.imwrite(tmp_path / "x.tif", self.STACK, photometric="miniswhite", truncate=True)
        pixels = [frame.pixels for frame in frames_from(tmp_path / "x.tif")]
        np.testing.assert_array_equal(pixels, 65535 - self.STACK)

    def test_the_mask_of_a_page_says_what_is_measured(self, tmp_path):
        mask = GREY8 > 40
        with tifffile.TiffWriter(tmp_path / "x.tif") as writer:
            writer.write(GREY16, metadata=None)
            writer.write(mask, subfiletype=4, photometric="mask", metadata=None)
            writer.write(GREY16[::2], subfiletype=1, metadata=None)
            writer.write(mask[::2], subfiletype=5, photometric="mask", metadata=None)
            writer.write(GREY8, metadata=None)
            writer.write(mask[::2], subfiletype=4, photometric="mask", metadata=None)
        masked, other = frames_from(tmp_path / "x.tif")
        np.testing.assert_array_equal(masked.valid, mask)
        np.testing.assert_array_equal(masked.pixels, GREY16)
        assert other.valid is None
        assert other.notes == ("its mask has another size, (19, 53), and is left out",)

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


def write_geotiff(path: Path, tags: dict[int, tuple[float, ...]], keys: tuple[int, ...]) -> Path:
    extra = [(code, "d", len(values), values, True) for code, values in tags.items()]
    extra += [(34735, "H", len(keys), keys, True)] if keys else []
    tifffile.imwrite(path, RNG.integers(3000, 3100, (30, 40)).astype(np.uint16), extratags=extra)
    return path


def only(path: Path) -> Frame:
    (frame,) = frames_from(path)
    return frame


class TestGeoTiff:
    @pytest.mark.parametrize("case", GEO)
    def test_golden(self, tmp_path: Path, case: str) -> None:
        tags, keys, places, degrees = GEO[case]
        frame = only(write_geotiff(tmp_path / "x.tif", tags, keys))
        assert frame.geo is not None
        assert frame.notes == ()
        np.testing.assert_allclose(frame.geo.map_xy(PIXELS), places, rtol=0, atol=1e-6)
        np.testing.assert_allclose(frame.geo.lonlat(PIXELS), degrees, rtol=0, atol=1e-8)  # a millimetre

    def test_a_page_turned_upright_has_no_position(self, tmp_path: Path) -> None:
        tags, keys, *_ = GEO["utm"]
        extra = [(code, "d", len(values), values, True) for code, values in tags.items()]
        extra += [(34735, "H", len(keys), keys, True), (274, "H", 1, 6, True), (42113, "s", 0, "0", True)]
        stored = np.arange(6, dtype=np.uint16).reshape(2, 3)
        tifffile.imwrite(tmp_path / "x.tif", stored, extratags=extra)
        (frame,) = frames_from(tmp_path / "x.tif", options=ReadOptions(orientation="upright"))
        np.testing.assert_array_equal(frame.pixels, np.rot90(stored, -1))
        np.testing.assert_array_equal(frame.valid, np.rot90(stored, -1) != 0)
        assert frame.geo is None
        assert frame.notes == ("it was turned upright: its detections have no positions on the map",)
        (kept,) = frames_from(tmp_path / "x.tif", options=ReadOptions(orientation="stored"))
        assert kept.geo is not None

    def test_a_system_that_needs_pyproj_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("dimpoint.sources.georeference.find_spec", lambda name: None)
        tags = {33550: (1.0, 1.0, 0.0), 33922: (0.0, 0.0, 0.0, 652000.0, 6862000.0, 0.0)}
        frame = only(write_geotiff(tmp_path / "x.tif", tags, LAMBERT))
        assert frame.geo is not None
        assert frame.geo.lonlat(PIXELS) is None
        assert "EPSG:2154: map_x and map_y without lon and lat: pip install 'dimpoint[geo]'" in frame.notes[0]

    def test_pyproj_where_it_is_installed(self, tmp_path: Path) -> None:
        pytest.importorskip("pyproj")
        tags = {33550: (1.0, 1.0, 0.0), 33922: (0.0, 0.0, 0.0, 652000.0, 6862000.0, 0.0)}
        frame = only(write_geotiff(tmp_path / "x.tif", tags, LAMBERT))
        assert frame.geo is not None
        np.testing.assert_allclose(frame.geo.lonlat([[0, 0]]), [[2.3458188293, 48.8562436818]], atol=1e-8)

    @pytest.mark.parametrize(
        ("tags", "keys", "note"),
        [
            ({}, (), ""),
            ({33922: tuple(range(24))}, KEYS, "ground control points, which are not read"),
            ({33550: (1, 1, 0), 33922: (0, 0, 0, 1e9, 1e9, 0)}, DEGREES, "outside the Earth"),
            ({33550: (0, 0, 0), 33922: (0, 0, 0, 1, 1, 0)}, DEGREES, ""),
            ({33550: (1, 1, 0), 33922: (0, 0, 0, float("nan"), 1, 0)}, DEGREES, ""),
        ],
        ids=["none", "control points", "outside", "no scale", "not a number"],
    )
    def test_without_a_usable_position(self, tmp_path: Path, tags: dict, keys: tuple, note: str) -> None:
        frame = only(write_geotiff(tmp_path / "x.tif", tags, keys))
        assert frame.geo is None
        assert [note in said for said in frame.notes] == [True] * bool(note)

    def test_results_have_them_and_are_read_back(self, tmp_path: Path) -> None:
        tags, keys, places, degrees = GEO["utm"]
        geo = only(write_geotiff(tmp_path / "x.tif", tags, keys)).geo
        found = Detections(np.float32(PIXELS), np.float32([0.9, 0.5, 0.4]), None, "x.tif", 40, 30, "m", geo)
        plain = Detections(np.float32([[1, 2]]), np.float32([0.3]), None, "y.png", 40, 30, "m")
        write_detections(tmp_path / "detections.json", "m", [found, plain])
        assert read_detections(tmp_path / "detections.json") == [found, plain]
        first = found.to_dict()["detections"][0]
        assert (first["map_x"], first["map_y"]) == tuple(places[0])
        assert (first["lon"], first["lat"]) == pytest.approx(degrees[0], abs=1e-8)
        head, line, *_, last = csv_text([found, plain]).splitlines()
        assert head == "file,x,y,score,map_x,map_y,lon,lat"
        assert line.startswith("x.tif,0.0,0.0,0.9,432100.5,5412345.5,14.0742621")
        assert last == "y.png,1.0,2.0,0.3,,,,"
        features = geojson_content([found, plain])["features"]
        assert len(features) == 3
        assert features[1]["geometry"]["coordinates"] == pytest.approx(degrees[1], abs=1e-8)
        assert features[1]["properties"]["file"] == "x.tif"
        assert found[:1].geo == geo


def test_three_planes_that_differ_may_be_a_stack(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(900, 1000, (3, 20, 30)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", stack, photometric="rgb", planarconfig="separate")
    (frame,) = frames_from(str(tmp_path / "x.tif"))
    assert any("frames of a stack" in note for note in frame.notes)
    tifffile.imwrite(tmp_path / "x.tif", np.stack([stack[0]] * 3), photometric="rgb", planarconfig="separate")
    assert next(iter(frames_from(str(tmp_path / "x.tif")))).notes == ()
    tifffile.imwrite(tmp_path / "x.tif", stack, photometric="minisblack")
    assert len(list(frames_from(str(tmp_path / "x.tif")))) == 3
