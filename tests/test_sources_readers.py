"""Readers: each kind of file gives sensor counts and a mask of measurements, or says what would help."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import scipy.io
import tifffile
from PIL import Image

from dimpoint import limits
from dimpoint.errors import ConfigError, FrameError
from dimpoint.sources import Frame, Picture, Reader, ReadOptions, find_files, frames_from, read_image, readers
from dimpoint.sources.picture import Pages, RawFormat

COUNTS = np.random.default_rng(5).integers(7000, 9000, (30, 40)).astype(np.uint16)
SMOOTH = cv2.GaussianBlur((COUNTS - 7000).astype(np.float32) / 8, (0, 0), 2).astype(np.uint8)


def only(path: Path, **options: Any) -> Frame:
    (frame,) = frames_from(path, options=ReadOptions(**options))
    return frame


def jpeg(picture: npt.NDArray[np.uint8] = SMOOTH, *segments: tuple[int, bytes]) -> bytes:
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    parts = b"".join(struct.pack(">BBH", 255, mark, len(part) + 2) + part for mark, part in segments)
    return data[:2] + parts + data[2:]


def fff(payload: bytes, shape: tuple[int, int] = COUNTS.shape) -> bytes:
    """A FLIR block of one record, the raw thermal image."""
    record = struct.pack("<HHH", 2, shape[1], shape[0]).ljust(32, b"\0") + payload
    header = b"FFF\0".ljust(0x14, b"\0") + struct.pack(">III", 101, 64, 1)
    entry = struct.pack(">HHIIII", 1, 1, 1, 1, 96, len(record)).ljust(32, b"\0")
    return header.ljust(64, b"\0") + entry + record


def swapped_png() -> bytes:
    return cv2.imencode(".png", COUNTS.byteswap())[1].tobytes()


def flir_jpeg(payload: bytes, piece: int = 900) -> bytes:
    block = fff(payload)
    pieces = [block[start : start + piece] for start in range(0, len(block), piece)]
    marks = [(0xE1, b"FLIR\0\1" + bytes([n, len(pieces) - 1]) + part) for n, part in enumerate(pieces)]
    return jpeg(SMOOTH, *marks)


class TestRadiometric:
    @pytest.mark.parametrize("payload", [COUNTS.tobytes(), swapped_png()], ids=["as they are", "png"])
    def test_a_flir_jpeg_gives_its_counts_and_says_so(self, tmp_path: Path, payload: bytes) -> None:
        (tmp_path / "x.jpg").write_bytes(flir_jpeg(payload))
        frame = only(tmp_path / "x.jpg")
        np.testing.assert_array_equal(frame.pixels, COUNTS)
        assert frame.notes == ("radiometric counts are read, not the 8-bit picture",)
        preview = only(tmp_path / "x.jpg", preview=True)
        assert preview.pixels.dtype == np.uint8

    @pytest.mark.parametrize(
        "payload", [b"", COUNTS.tobytes()[:-2], swapped_png()[:50], b"\x89PNG" * 9], ids=range(4)
    )
    def test_a_damaged_flir_block_is_never_the_preview_in_silence(
        self, tmp_path: Path, payload: bytes
    ) -> None:
        (tmp_path / "x.jpg").write_bytes(flir_jpeg(payload))
        with pytest.raises(FrameError, match="FLIR"):
            only(tmp_path / "x.jpg")

    def test_a_dji_jpeg(self, tmp_path: Path) -> None:
        data = COUNTS.astype("<u2").tobytes()
        (tmp_path / "x.jpg").write_bytes(jpeg(SMOOTH, (0xE3, data[:1000]), (0xE3, data[1000:])))
        np.testing.assert_array_equal(only(tmp_path / "x.jpg").pixels, COUNTS)

    def test_other_hidden_data_is_refused_with_the_remedy(self, tmp_path: Path) -> None:
        (tmp_path / "x.jpg").write_bytes(jpeg(SMOOTH, *[(0xE8, bytes(60_000))] * 2))
        with pytest.raises(FrameError, match=r"120,000 bytes beside its 8-bit picture.*--preview"):
            only(tmp_path / "x.jpg")

    def test_a_flir_sequence(self, tmp_path: Path) -> None:
        (tmp_path / "x.seq").write_bytes(fff(COUNTS.tobytes()) + fff((COUNTS + 1).tobytes()))
        frames = list(frames_from(tmp_path / "x.seq"))
        assert [frame.index for frame in frames] == [0, 1]
        np.testing.assert_array_equal(frames[1].pixels, COUNTS + 1)

    @pytest.mark.parametrize("damaged", [None, 1])
    def test_a_csq_sequence_of_jpeg_ls(self, tmp_path: Path, damaged: int | None) -> None:
        imagecodecs = pytest.importorskip("imagecodecs")
        frames = [COUNTS, COUNTS + 1, COUNTS + 2]
        parts = [fff(imagecodecs.jpegls_encode(counts)) for counts in frames]
        if damaged is not None:
            parts[damaged] = parts[damaged][:150] + bytes(len(parts[damaged]) - 150)
        (tmp_path / "x.csq").write_bytes(b"".join(parts))
        errors: list[str] = []
        found = list(frames_from(tmp_path / "x.csq", on_error=lambda name, error: errors.append(name)))
        assert errors == ([] if damaged is None else [f"{tmp_path / 'x.csq'}#{damaged:06d}"])
        for frame in found:
            np.testing.assert_array_equal(frame.pixels, frames[frame.index or 0])
        assert len(found) == 3 - len(errors)

    def test_a_file_that_only_begins_like_a_sequence(self, tmp_path: Path) -> None:
        (tmp_path / "x.seq").write_bytes(b"FFF\0CAM" + COUNTS.tobytes())
        with pytest.raises(FrameError, match=r"x\.seq.*FLIR"):
            only(tmp_path / "x.seq")


class TestDamagedJpeg:
    @staticmethod
    def cases() -> dict[str, bytes]:
        whole = jpeg(np.random.default_rng(3).integers(0, 255, SMOOTH.shape, dtype=np.uint8))
        middle = whole.index(b"\xff\xda") + 200
        return {
            "zeros inside": whole[:middle] + bytes(60) + whole[middle + 60 :],
            "garbage inside": whole[:middle] + b"\xff\xd7\xa9\x13" * 15 + whole[middle + 60 :],
            "cut, with an end": whole[:middle] + b"\xff\xd9",
        }

    @pytest.mark.parametrize("case", ["zeros inside", "garbage inside", "cut, with an end"])
    def test_what_the_decoder_complains_of_is_unreadable(self, tmp_path: Path, case: str) -> None:
        (tmp_path / "x.jpg").write_bytes(self.cases()[case])
        with pytest.raises(FrameError, match=r"x\.jpg: the JPEG is damaged .*--accept-damaged"):
            read_image(tmp_path / "x.jpg")
        frame = only(tmp_path / "x.jpg", accept_damaged=True)
        assert frame.pixels.shape == SMOOTH.shape
        assert "taken all the same" in frame.notes[0]

    @pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
    @pytest.mark.parametrize("progressive", [False, True])
    def test_whole_files_of_every_kind_are_whole(self, tmp_path: Path, mode: str, progressive: bool) -> None:
        Image.fromarray(SMOOTH).convert(mode).save(tmp_path / "x.jpg", progressive=progressive)
        assert read_image(tmp_path / "x.jpg").shape == SMOOTH.shape


class TestOrientation:
    @pytest.fixture(params=["jpg", "png", "webp", "tif", "radiometric"])
    def path(self, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
        exif = Image.Exif()
        exif[0x0112] = 6
        path = tmp_path / f"x.{request.param}"
        if request.param == "radiometric":
            path.write_bytes(jpeg(SMOOTH, (0xE1, exif.tobytes()), (0xE3, COUNTS.astype("<u2").tobytes())))
            return path
        Image.fromarray(SMOOTH).save(path, exif=exif, quality=95)
        return path

    def test_it_is_seen_said_and_chosen(self, path: Path) -> None:
        stored = only(path)
        assert stored.pixels.shape == (30, 40)
        assert "EXIF orientation 6; positions are of the pixels as stored" in stored.notes[-1]
        upright = only(path, orientation="upright")
        np.testing.assert_array_equal(upright.pixels, np.rot90(stored.pixels, -1))
        assert upright.notes == only(path, orientation="stored").notes == stored.notes[:-1]

    def test_with_labels_it_must_be_chosen(self, path: Path) -> None:
        with pytest.raises(FrameError, match="say --orientation stored or upright"):
            read_image(path, ReadOptions(refuse_turned=True))


class TestArrays:
    def test_npz(self, tmp_path: Path) -> None:
        np.savez_compressed(tmp_path / "x.npz", frame=COUNTS, time=1.5)
        np.testing.assert_array_equal(only(tmp_path / "x.npz").pixels, COUNTS)

    def test_npz_of_several_arrays_names_them(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", a=COUNTS, b=COUNTS)
        with pytest.raises(FrameError, match=r"it holds: a \(30, 40\), b \(30, 40\)"):
            only(tmp_path / "x.npz")

    def test_mat(self, tmp_path: Path) -> None:
        scipy.io.savemat(tmp_path / "x.mat", {"frame": COUNTS, "rate": 25.0})
        np.testing.assert_array_equal(only(tmp_path / "x.mat").pixels, COUNTS)
        scipy.io.savemat(tmp_path / "y.mat", {"stack": np.dstack([COUNTS + n for n in range(6)])})
        frames = list(frames_from(tmp_path / "y.mat"))
        np.testing.assert_array_equal(frames[5].pixels, COUNTS + 5)

    @pytest.mark.parametrize("name", ["x.npz", "x.mat"])
    def test_more_axes_than_three(self, tmp_path: Path, name: str) -> None:
        def save(**arrays: npt.NDArray[Any]) -> Path:
            if name == "x.npz":
                np.savez(tmp_path / name, **arrays)
            else:
                scipy.io.savemat(tmp_path / name, arrays)
            return tmp_path / name

        frame = only(save(frame=COUNTS, cube=np.zeros((2, 3, 4, 5))))
        assert frame.notes == ("left out, because it has more than three axes: cube (2, 3, 4, 5)",)
        np.testing.assert_array_equal(frame.pixels, COUNTS)
        np.testing.assert_array_equal(only(save(frame=COUNTS[None, None])).pixels, COUNTS)
        with pytest.raises(FrameError, match=r"it holds: cube \(2, 3, 4, 5\)"):
            only(save(cube=np.zeros((2, 3, 4, 5))))

    def test_a_logical_array_of_matlab_is_refused_like_a_bool_one(self, tmp_path: Path) -> None:
        scipy.io.savemat(tmp_path / "x.mat", {"mask": COUNTS > 8000})
        with pytest.raises(FrameError, match="this is bool; save it as uint8, 0 and 255"):
            only(tmp_path / "x.mat")

    def test_a_stack_in_a_npy_file(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", np.stack([COUNTS, COUNTS + 1]))
        assert [frame.index for frame in frames_from(tmp_path / "x.npy")] == [0, 1]

    @pytest.mark.parametrize("name", ["x.npz", "x.mat", "x.fits", "x.npy"])
    @pytest.mark.parametrize("keep", [0.3, 0.9])
    def test_cut_files(self, tmp_path: Path, name: str, keep: float) -> None:
        path = tmp_path / name
        if name == "x.fits":
            pytest.importorskip("astropy.io.fits").PrimaryHDU(COUNTS).writeto(path)
        elif name == "x.mat":
            scipy.io.savemat(path, {"frame": COUNTS})
        else:
            (np.save if name == "x.npy" else np.savez)(path, COUNTS)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])
        with pytest.raises(FrameError, match=r"x\."):
            only(path)


def test_fits_with_blank_pixels(tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    data = (COUNTS.astype(np.int32) - 8000).astype(np.int16)
    data[3, 4] = -32768
    unit = fits.PrimaryHDU(data)
    unit.header["BLANK"] = -32768
    unit.writeto(tmp_path / "x.fits")
    frame = only(tmp_path / "x.fits")
    assert frame.valid is not None
    assert np.argwhere(~frame.valid).tolist() == [[3, 4]]
    fits.PrimaryHDU(COUNTS).writeto(tmp_path / "y.fits")  # unsigned, as FITS writes it: with an offset
    np.testing.assert_array_equal(only(tmp_path / "y.fits").pixels, COUNTS)


def write_fits(path: Path, stored: npt.NDArray[Any], *cards: bytes) -> Path:
    """A FITS file of one image by hand: counts as stored, and header cards that astropy would not write."""
    pytest.importorskip("astropy")
    bits = 8 * stored.dtype.itemsize * (-1 if stored.dtype.kind == "f" else 1)
    size = [b"NAXIS%d  = %20d" % (axis, side) for axis, side in enumerate(stored.shape[::-1], 1)]
    start = [b"SIMPLE  = " + b"T".rjust(20), b"BITPIX  = %20d" % bits, b"NAXIS   = %20d" % stored.ndim]
    header = b"".join(card.ljust(80) for card in (*start, *size, *cards, b"END"))
    data = stored.astype(stored.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(header + b" " * (-len(header) % 2880) + data + bytes(-len(data) % 2880))
    return path


@pytest.mark.parametrize(
    ("dtype", "blank", "scaling", "values"),
    [
        ("u1", 0, (), np.uint8([[7, 0, 200]])),
        ("i2", -32768, (b"BZERO   =                32768",), np.uint16([[32775, 0, 32968]])),
        ("i4", -(2**31), (b"BZERO   =           2147483648",), None),
        ("i2", -1, (b"BSCALE  =                 0.01", b"BZERO   =                  5.0"), None),
    ],
)
def test_fits_with_blank_is_read_by_what_is_stored(
    tmp_path: Path, dtype: str, blank: int, scaling: tuple[bytes, ...], values: npt.NDArray[Any] | None
) -> None:
    stored = np.array([[7, blank, 200]], dtype)
    frame = only(write_fits(tmp_path / "x.fits", stored, b"BLANK   = %20d" % blank, *scaling))
    assert frame.valid is not None
    assert frame.valid.tolist() == [[True, False, True]]
    if values is None:
        scale, zero = (0.01, 5.0) if dtype == "i2" else (1, 2**31)
        values = np.float32([[scale * 7 + zero, frame.pixels[0, 1], scale * 200 + zero]])
    assert frame.pixels.dtype == values.dtype
    np.testing.assert_array_equal(frame.pixels, values)


@pytest.mark.parametrize(
    ("dtype", "card", "note"),
    [
        ("f4", b"BLANK   =               -32768", "Invalid 'BLANK' keyword"),
        ("i2", b"COMMENT 20 \xb0C", "non-ASCII characters"),
    ],
)
def test_an_odd_fits_header_is_a_note(tmp_path: Path, dtype: str, card: bytes, note: str) -> None:
    stored = np.arange(12, dtype=dtype).reshape(3, 4)
    frame = only(write_fits(tmp_path / "x.fits", stored, card))
    np.testing.assert_array_equal(frame.pixels, stored)
    assert [said.startswith(note) for said in frame.notes] == [True]


def test_fits_of_four_axes(tmp_path: Path) -> None:
    cube = np.arange(120, dtype=np.int16).reshape(1, 2, 6, 10)
    frames = list(frames_from(write_fits(tmp_path / "x.fits", cube)))
    np.testing.assert_array_equal([frame.pixels for frame in frames], cube[0])
    fits = pytest.importorskip("astropy.io.fits")
    units = [fits.PrimaryHDU(cube[0, 0]), fits.ImageHDU(cube.reshape(2, 3, 2, 10))]
    fits.HDUList(units).writeto(tmp_path / "y.fits")
    assert only(tmp_path / "y.fits").notes == (
        "left out, because it has more than three axes: image 1 (2, 3, 2, 10)",
    )
    with pytest.raises(FrameError, match=r"it holds: image 0 \(2, 3, 2, 10\)"):
        only(write_fits(tmp_path / "z.fits", cube.reshape(2, 3, 2, 10)))


@pytest.mark.parametrize("name", ["x.pgm", "x.webp", "x.ppm"])
def test_other_pictures(tmp_path: Path, name: str) -> None:
    picture = SMOOTH if name != "x.ppm" else np.dstack([SMOOTH] * 3)
    assert cv2.imwrite(str(tmp_path / name), picture, [cv2.IMWRITE_WEBP_QUALITY, 101])
    np.testing.assert_array_equal(only(tmp_path / name).pixels, SMOOTH)


class TestRaw:
    @pytest.mark.parametrize(
        ("kind", "data", "expected"),
        [
            ("u16", COUNTS.astype("<u2").tobytes(), COUNTS),
            ("u16be", COUNTS.astype(">u2").tobytes(), COUNTS),
            ("u8", SMOOTH.tobytes(), SMOOTH),
            ("f32", COUNTS.astype("<f4").tobytes(), COUNTS.astype(np.float32)),
            ("i16", (COUNTS - 8000).astype("<i2").tobytes(), (COUNTS.astype(np.float32) - 8000)),
        ],
    )
    def test_counts(self, tmp_path: Path, kind: str, data: bytes, expected: npt.NDArray[Any]) -> None:
        (tmp_path / "x.raw").write_bytes(data * 2)
        frames = list(frames_from(tmp_path / "x.raw", options=ReadOptions(raw=RawFormat(30, 40, kind))))
        assert len(frames) == 2
        np.testing.assert_array_equal(frames[1].pixels, expected)

    def test_twelve_bits_packed(self, tmp_path: Path) -> None:
        counts = COUNTS & 0xFFF
        a, b = counts.reshape(-1, 2).astype(np.uint32).T
        packed = np.stack([a & 255, (a >> 8) | ((b & 15) << 4), b >> 4], 1).astype(np.uint8)
        (tmp_path / "x.raw").write_bytes(packed.tobytes())
        np.testing.assert_array_equal(only(tmp_path / "x.raw", raw=RawFormat(30, 40, "u12p")).pixels, counts)

    def test_what_must_be_said(self, tmp_path: Path) -> None:
        (tmp_path / "x.raw").write_bytes(COUNTS.tobytes())
        with pytest.raises(FrameError, match=r"--raw-shape HEIGHTxWIDTH --raw-type u8\|u16"):
            only(tmp_path / "x.raw")
        with pytest.raises(FrameError, match="2400 bytes are no whole number of 31x40 frames"):
            only(tmp_path / "x.raw", raw=RawFormat(31, 40))

    @pytest.mark.parametrize("shape", ["", "30", "0x40", "30x40x2", "axb", "-3x4"])
    def test_no_shape(self, shape: str) -> None:
        with pytest.raises(ConfigError, match="--raw-shape"):
            RawFormat.of_options(shape, None)
        with pytest.raises(ConfigError, match="--raw-type"):
            RawFormat.of_options("3x4", "u11")
        with pytest.raises(ConfigError, match="needs --raw-shape"):
            RawFormat.of_options(None, "u16")


class TestTiff:
    @pytest.mark.parametrize("value", ["-9999", "-3.40282346638529e+38", "7", "nan"])
    def test_nodata_is_no_measurement(self, tmp_path: Path, value: str) -> None:
        picture = COUNTS.astype(np.float32)
        picture[5:9, 6] = np.float32(value)
        tifffile.imwrite(tmp_path / "x.tif", picture, extratags=[(42113, "s", 0, value, True)])
        frame = only(tmp_path / "x.tif")
        assert frame.valid is not None
        assert np.argwhere(~frame.valid).tolist() == [[5, 6], [6, 6], [7, 6], [8, 6]]

    @pytest.mark.parametrize("dtype", [np.int16, np.int32])
    def test_signed_counts(self, tmp_path: Path, dtype: type) -> None:
        picture = COUNTS.astype(dtype) - 8000
        tifffile.imwrite(tmp_path / "x.tif", picture)
        np.testing.assert_array_equal(only(tmp_path / "x.tif").pixels, picture)

    @pytest.mark.parametrize("compression", ["zstd", "lzw", "jpeg2000", "lzma", "zlib"])
    def test_compressions(self, tmp_path: Path, compression: str) -> None:
        pytest.importorskip("imagecodecs")
        options: dict[str, Any] = {"compression": compression}
        if compression == "jpeg2000":
            options["compressionargs"] = {"reversible": True}
        tifffile.imwrite(tmp_path / "x.tif", COUNTS, **options)
        np.testing.assert_array_equal(only(tmp_path / "x.tif").pixels, COUNTS)

    def test_twelve_bits_packed(self, tmp_path: Path) -> None:
        pytest.importorskip("imagecodecs")
        tifffile.imwrite(tmp_path / "x.tif", COUNTS & 0xFFF, bitspersample=12)
        np.testing.assert_array_equal(only(tmp_path / "x.tif").pixels, COUNTS & 0xFFF)

    @pytest.fixture(params=["strips", "tiles"])
    def sparse(self, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
        """A picture whose second part was left out."""
        picture = np.tile(COUNTS, (2, 2))
        parts: dict[str, Any] = {"rowsperstrip": 30} if request.param == "strips" else {"tile": (32, 32)}
        path = tmp_path / "x.tif"
        tifffile.imwrite(path, picture, **parts)
        with tifffile.TiffFile(path, mode="r+") as tif:
            page = tif.pages[0]
            for name, values in (("Offsets", page.dataoffsets), ("ByteCounts", page.databytecounts)):
                tag = page.tags["Tile" + name if request.param == "tiles" else "Strip" + name]
                tag.overwrite([0 if place == 1 else value for place, value in enumerate(values)])
        return path

    def test_parts_that_are_missing(self, sparse: Path) -> None:
        with pytest.raises(FrameError, match=r"1 of \d parts of the picture are not in the file"):
            only(sparse)
        frame = only(sparse, accept_damaged=True)
        assert frame.valid is not None
        rows, columns = np.nonzero(~frame.valid)
        corner = (rows.min(), rows.max(), columns.min(), columns.max())
        assert corner in ((30, 59, 0, 79), (0, 31, 32, 63))
        assert (~frame.valid).sum() in (30 * 80, 32 * 32)

    def test_several_pages_are_no_frame_of_a_data_set(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "x.tif", np.stack([COUNTS] * 3), photometric="minisblack")
        with pytest.raises(FrameError, match="holds 3 pictures, where one is expected"):
            read_image(tmp_path / "x.tif")


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    end = b"\0\0\0\0IEND\xaeB`\x82"
    return b"\x89PNG\r\n\x1a\n\0\0\0\r" + header + struct.pack(">I", zlib.crc32(header)) + end


class TestBombs:
    """Small files that would fill the memory are refused by their headers, before they are decoded."""

    @pytest.mark.parametrize("compression", ["zlib", "lzma"])
    def test_a_strip_that_unpacks_to_more_than_its_pixels(
        self, tmp_path: Path, compression: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "x.tif"
        tifffile.imwrite(path, np.zeros((2000, 2000), np.uint16), compression=compression, rowsperstrip=2000)
        with tifffile.TiffFile(path, mode="r+") as tif:
            tif.pages[0].tags["ImageLength"].overwrite(20)
            tif.pages[0].tags["RowsPerStrip"].overwrite(20)
        with pytest.raises(FrameError, match="unpacks to more than the 80,000 bytes of its pixels"):
            only(path)

    def test_a_header_of_many_pixels(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "x.png").write_bytes(png_header(30_000, 30_000))
        with pytest.raises(FrameError, match=r"more than the limit .* DIMPOINT_MAX_FRAME_PIXELS=900000000"):
            only(tmp_path / "x.png")

    def test_a_sparse_array_file(self, tmp_path: Path) -> None:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "|u1", "fortran_order": False, "shape": (2**17, 2**16)}
        )
        with (tmp_path / "x.npy").open("wb") as file:
            file.write(header.getvalue())
            file.truncate(len(header.getvalue()) + 2**33)
        with pytest.raises(FrameError, match="more than the limit"):
            only(tmp_path / "x.npy")

    def test_an_archive(self, tmp_path: Path) -> None:
        np.savez_compressed(tmp_path / "x.npz", np.zeros((12_000, 12_000), np.uint8))
        with pytest.raises(FrameError, match="archive ratio"):
            only(tmp_path / "x.npz")

    def test_a_limit_can_be_raised(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DIMPOINT_MAX_FRAME_PIXELS", "1e9")
        assert limits.limit("frame_pixels") == 10**9
        monkeypatch.setenv("DIMPOINT_MAX_FRAME_PIXELS", "many")
        with pytest.raises(ConfigError, match="DIMPOINT_MAX_FRAME_PIXELS: 'many' is no positive number"):
            limits.limit("frame_pixels")


class TestRegistry:
    @pytest.fixture(autouse=True)
    def _fresh(self) -> Iterator[None]:
        yield
        readers.registered.cache_clear()
        readers.frame_suffixes.cache_clear()

    def test_a_reader_of_another_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        mine = Reader(
            "mine",
            (".mine",),
            lambda path, head: head.startswith(b"MINE"),
            lambda file, options: Pages(1, lambda number: Picture(COUNTS, COUNTS > 0)),
        )
        entry = SimpleNamespace(name="mine", value="package:mine", load=lambda: mine)
        monkeypatch.setattr(readers, "entry_points", lambda group: [entry])
        readers.registered.cache_clear()
        readers.frame_suffixes.cache_clear()
        (tmp_path / "x.mine").write_bytes(b"MINE")
        (frame,) = frames_from(tmp_path)  # the folder is searched for its suffix, too
        np.testing.assert_array_equal(frame.pixels, COUNTS)
        assert frame.valid is not None

    @pytest.mark.parametrize("loaded", [42, ImportError("no such module")])
    def test_an_entry_that_is_none_names_the_package(
        self, monkeypatch: pytest.MonkeyPatch, loaded: Any
    ) -> None:
        def load() -> Any:
            if isinstance(loaded, Exception):
                raise loaded
            return loaded

        entry = SimpleNamespace(name="theirs", value="package:thing", load=load)
        monkeypatch.setattr(readers, "entry_points", lambda group: [entry])
        readers.registered.cache_clear()
        with pytest.raises(ConfigError, match=r"the reader 'theirs' \(package:thing\)"):
            readers.registered()

    def test_folders_hold_every_kind(self, tmp_path: Path) -> None:
        for suffix in (".fits", ".pgm", ".webp", ".npz", ".mat", ".seq", ".raw"):
            (tmp_path / f"x{suffix}").touch()
        found = find_files(tmp_path, suffixes=readers.frame_suffixes())
        assert len(found.files) == 7


class TestOneOpen:
    """A file is opened once, whatever of it is read: its kind, the number of its frames, the frames."""

    @pytest.fixture
    def opened(self, tmp_path: Path) -> Iterator[list[str]]:
        seen: list[str] = []
        watching = True

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            if watching and event == "open" and str(arguments[0]).startswith(str(tmp_path / "x.")):
                seen.append(str(arguments[0]))

        sys.addaudithook(watch)
        yield seen
        watching = False  # a hook cannot be removed

    @pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "stack.tif", "npz", "mat", "seq", "raw"])
    def test_in_a_stream_of_frames(self, tmp_path: Path, opened: list[str], suffix: str) -> None:
        path = tmp_path / f"x.{suffix}"
        raw = RawFormat(*COUNTS.shape) if suffix == "raw" else None
        match suffix:
            case "png" | "jpg" | "webp":
                path.write_bytes(cv2.imencode(f".{suffix}", SMOOTH)[1].tobytes())
            case "tif" | "stack.tif":
                tifffile.imwrite(
                    path, np.stack([COUNTS] * (5 if "stack" in suffix else 1)), compression="zlib"
                )
            case "npz":
                np.savez(path, COUNTS)
            case "mat":
                scipy.io.savemat(path, {"counts": COUNTS})
            case "seq":
                path.write_bytes(fff(COUNTS.tobytes()) * 2)
            case "raw":
                path.write_bytes(COUNTS.tobytes() * 2)
        opened.clear()
        assert list(frames_from(path, options=ReadOptions(raw=raw)))
        assert opened == [str(path)]
