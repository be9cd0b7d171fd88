"""Bad input: each is a FrameError that names the file and what would be right, never anything else."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dimpoint.errors import FrameError
from dimpoint.model.intensity import check_frame
from dimpoint.sources import read_image

GREY = np.random.default_rng(0).integers(0, 256, (120, 160), dtype=np.uint8)
PNG_END = 12  # bytes of the last chunk


def png_bytes(picture: np.ndarray = GREY) -> bytes:
    return bytes(cv2.imencode(".png", picture)[1])


def jpeg_bytes() -> bytes:
    return bytes(cv2.imencode(".jpg", GREY)[1])


def bmp_bytes() -> bytes:
    return bytes(cv2.imencode(".bmp", GREY)[1])


def tiff_bytes(**options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, GREY.astype(np.uint16) * 200, **options)
    return buffer.getvalue()


def npy_bytes(array: np.ndarray = GREY, **options) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def refusal(path: Path) -> str:
    with pytest.raises(FrameError) as caught:
        read_image(path)
    message = str(caught.value)
    assert str(path) in message
    return message


def refusal_of(tmp_path: Path, name: str, data: bytes) -> str:
    (tmp_path / name).write_bytes(data)
    return refusal(tmp_path / name)


class TestNoSuchPicture:
    def test_missing(self, tmp_path):
        assert refusal(tmp_path / "x.png").endswith("no such file")

    @pytest.mark.parametrize("name", ["x.png", "x.tif", "x.npy", "x"])
    def test_a_folder(self, tmp_path, name):
        (tmp_path / name).mkdir()
        assert "a folder, where a file is expected" in refusal(tmp_path / name)

    def test_a_file_within_a_file(self, tmp_path):
        (tmp_path / "a.png").write_bytes(png_bytes())
        assert "cannot be read: Not a directory" in refusal(tmp_path / "a.png" / "x.png")

    def test_a_link_to_nowhere(self, tmp_path):
        (tmp_path / "x.png").symlink_to(tmp_path / "gone.png")
        assert refusal(tmp_path / "x.png").endswith(f"a link to {tmp_path / 'gone.png'}, which is not there")

    def test_no_permission(self, tmp_path, monkeypatch):
        (tmp_path / "x.png").write_bytes(png_bytes())

        def deny(*_args, **_options):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", deny)  # access rights do not stop a superuser
        assert "no permission to read it; check" in refusal(tmp_path / "x.png")

    def test_an_empty_file(self, tmp_path):
        assert "the file is empty" in refusal_of(tmp_path, "x.png", b"")

    @pytest.mark.parametrize(
        "data",
        [b"frame,label,x,y\n0,DRONE,34,127\n", b"\0" * 400],
        ids=["text", "zeros"],
    )
    @pytest.mark.parametrize("name", ["x.png", "x.tif", "x.npy", "x.bmp"])
    def test_another_kind_of_file(self, tmp_path, name, data):
        assert "not a picture, whatever its name says; what is read: PNG" in refusal_of(tmp_path, name, data)

    @pytest.mark.parametrize(
        ("head", "remedy"),
        [
            (b"PK\3\4", "a ZIP archive; unpack it first"),
            (b"GIF89a", "save it as PNG"),
            (b"\x1f\x8b", "packed by gzip; unpack it first"),
            (b"\x89HDF", "save the frames as 16-bit TIFF or .npy"),
        ],
        ids=["zip", "gif", "gzip", "hdf5"],
    )
    @pytest.mark.parametrize("name", ["x.png", "x.tif", "x.npy", "x.bmp"])
    def test_a_known_kind_that_is_not_read_has_its_remedy(self, tmp_path, name, head, remedy):
        assert remedy in refusal_of(tmp_path, name, head + bytes(90))

    def test_a_video_of_another_kind_has_its_remedy(self, tmp_path):
        remedy = "a video of another kind than .mp4, .mkv"
        assert remedy in refusal_of(tmp_path, "x.FLV", b"FLV\1" + bytes(90))

    def test_a_text_that_begins_like_a_bmp(self, tmp_path):
        assert "save it as PNG" in refusal_of(tmp_path, "x.bmp", b"BMW M3, 1986\n" * 9)

    def test_a_video(self, shared_data):
        path = shared_data / "IR-video/IR_BIRD_010.mp4"
        assert "a video, where one picture is expected" in refusal(path)


class TestCutAndDamaged:
    @pytest.mark.parametrize("part", [0.99, 0.5, 0.1])
    @pytest.mark.parametrize(
        ("name", "data"),
        [
            ("x.png", png_bytes()),
            ("x.jpg", jpeg_bytes()),
            ("x.bmp", bmp_bytes()),
            ("x.tif", tiff_bytes()),
            ("x.npy", npy_bytes()),
        ],
    )
    def test_truncated(self, tmp_path, name, data, part):
        message = refusal_of(tmp_path, name, data[: int(len(data) * part)])
        assert any(word in message for word in ("truncated", "damaged", "not a readable .npy"))

    @pytest.mark.parametrize("kind", ["bmp", "pgm", "ppm", "text"])
    def test_pictures_cut_short_are_one_line(self, tmp_path, kind, capfd):
        picture = np.dstack([GREY] * 3) if kind == "ppm" else GREY
        data = bytes(cv2.imencode(".bmp" if kind == "bmp" else ".pnm", picture)[1])
        if kind == "text":
            data = b"P2 160 120 255\n" + b" ".join(b"%d" % count for count in GREY.ravel())
        cut = data[: -len(data) // 3].rpartition(b" ")[0] if kind == "text" else data[:-1]
        assert f"truncated: it ends after {len(cut)} bytes" in refusal_of(tmp_path, "x", cut)
        assert capfd.readouterr().err == ""
        (tmp_path / "x").write_bytes(data)
        np.testing.assert_array_equal(read_image(tmp_path / "x"), GREY)

    @pytest.mark.parametrize(
        "one", [b"P5 2 2 255\n" + bytes(4), b"P5 2 2 999\n" + bytes(8), b"P2 2 2 9\n1 2 3 4\n"]
    )
    def test_several_pictures_in_a_pgm(self, tmp_path, one):
        assert "holds several pictures" in refusal_of(tmp_path, "x.pgm", one + one)

    @pytest.mark.parametrize("keep", [8, 20, 33, 60, -1, -PNG_END, -PNG_END - 1])
    def test_a_png_cut_anywhere(self, tmp_path, keep):
        assert "the PNG is truncated: it ends after" in refusal_of(tmp_path, "x.png", png_bytes()[:keep])

    def test_a_truncated_real_frame(self, tmp_path, shared_data):
        data = (shared_data / "NUAA-SIRST/images/Misc_1.png").read_bytes()
        assert "the PNG is truncated" in refusal_of(tmp_path, "x.png", data[: len(data) // 2])

    def test_a_png_with_flipped_bits(self, tmp_path):
        data = bytearray(png_bytes())
        data[len(data) // 2] ^= 1
        assert "wrong checksum" in refusal_of(tmp_path, "x.png", bytes(data))

    def test_a_png_with_too_few_rows(self, tmp_path):
        """Every chunk is sound, but the picture in them is not whole."""
        data = png_bytes()
        header_end = 8 + 25
        short = zlib.compress(bytes(40 * (GREY.shape[1] + 1)))
        body = b"IDAT" + short
        chunk = struct.pack(">I", len(short)) + body + struct.pack(">I", zlib.crc32(body))
        assert "damaged" in refusal_of(tmp_path, "x.png", data[:header_end] + chunk + data[-PNG_END:])

    def test_a_jpeg_whose_thumbnail_is_whole(self, tmp_path):
        """The end marker of the thumbnail is not the end of the picture."""
        data = jpeg_bytes()
        thumbnail = bytes(cv2.imencode(".jpg", GREY[:20, :20])[1])
        segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
        cut = data[:2] + segment + data[2 : len(data) // 2]
        assert "the JPEG is truncated" in refusal_of(tmp_path, "x.jpg", cut)

    def test_a_png_of_no_size(self, tmp_path):
        header = b"IHDR" + struct.pack(">IIBBBBB", 0, 0, 8, 0, 0, 0, 0)
        data = png_bytes()
        data = data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
        assert "the picture is empty" in refusal_of(tmp_path, "x.png", data)

    def test_a_png_that_claims_to_be_huge(self, tmp_path):
        header = b"IHDR" + struct.pack(">IIBBBBB", 10**6, 10**6, 16, 6, 0, 0, 0)
        data = png_bytes()
        data = data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
        assert "more than the limit" in refusal_of(tmp_path, "x.png", data)


class TestNpy:
    @pytest.mark.parametrize(
        "value", [np.nan, np.inf, -np.inf, 1e300], ids=str
    )  # float32 cannot hold the last
    def test_a_pixel_that_is_not_finite_takes_the_value_of_its_surroundings(self, tmp_path, value):
        array = np.full((4, 5), 7.0)
        array[1, 2] = value
        (tmp_path / "x.npy").write_bytes(npy_bytes(array))
        np.testing.assert_array_equal(read_image(tmp_path / "x.npy"), np.full((4, 5), 7.0, np.float32))

    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
    def test_without_a_finite_pixel_there_is_no_frame(self, tmp_path, value):
        message = refusal_of(tmp_path, "x.npy", npy_bytes(np.full((4, 5), value)))
        assert "no pixel of 20 is finite as float32" in message

    def test_several_arrays(self, tmp_path):
        message = refusal_of(tmp_path, "x.npy", npy_bytes() + npy_bytes())
        assert "holds several arrays; save them as one stack" in message

    @pytest.mark.parametrize("shape", [(0, 0), (5, 0), (0, 5)])
    def test_no_pixels(self, tmp_path, shape):
        assert "the frame is empty" in refusal_of(tmp_path, "x.npy", npy_bytes(np.zeros(shape, np.uint8)))

    @pytest.mark.parametrize("shape", [(), (7,), (2, 8, 2), (1, 2, 3, 4)])
    def test_shapes_that_are_no_picture(self, tmp_path, shape):
        message = refusal_of(tmp_path, "x.npy", npy_bytes(np.zeros(shape, np.uint8)))
        assert f"a frame is a 2-D array (height, width), got shape {shape}" in message

    def test_a_stack_is_not_one_picture(self, tmp_path):
        message = refusal_of(tmp_path, "x.npy", npy_bytes(np.zeros((2, 8, 9), np.uint8)))
        assert "holds 2 pictures, where one is expected" in message

    @pytest.mark.parametrize("dtype", ["int8", "int16", ">i2", "int32", "int64", "uint32", "uint64"])
    def test_integers_of_other_types_become_float32_exactly(self, tmp_path, dtype):
        array = np.array([[0, 100, 7]], dtype)
        (tmp_path / "x.npy").write_bytes(npy_bytes(array))
        frame = read_image(tmp_path / "x.npy")
        assert frame.dtype == np.float32
        np.testing.assert_array_equal(frame, array)
        if np.dtype(dtype).itemsize > 2:
            message = refusal_of(tmp_path, "y.npy", npy_bytes(np.array([[2**24 + 1, 0]], dtype)))
            assert "counts from 0 to 16777217 do not fit into 24 bits" in message

    @pytest.mark.parametrize(
        ("dtype", "remedy"),
        [
            ("bool", "save it as uint8, 0 and 255"),
            ("complex64", "give its magnitude"),
            ("U3", "save the grey values as one of these"),
            ("datetime64[s]", "save the grey values as one of these"),
        ],
    )
    def test_types_without_a_rule(self, tmp_path, dtype, remedy):
        message = refusal_of(tmp_path, "x.npy", npy_bytes(np.zeros((2, 3), dtype)))
        assert (
            "a frame is uint8, uint16 or float32 (other integers and floats become float32), this" in message
        )
        assert remedy in message

    def test_objects_are_never_unpickled(self, tmp_path):
        trace = tmp_path / "trace"
        array = np.array([[_MakesFolder(str(trace))]], dtype=object)
        message = refusal_of(tmp_path, "x.npy", npy_bytes(array, allow_pickle=True))
        assert "Python objects in dtype" in message
        assert "save a 2-D uint8, uint16 or float32 array with numpy.save" in message
        assert not trace.exists()
        pickle.loads(pickle.dumps(_MakesFolder(str(trace))))  # the trap does work
        assert trace.exists()

    def test_a_header_that_claims_too_much(self, tmp_path):
        buffer = io.BytesIO()
        header = {"descr": "|u1", "fortran_order": False, "shape": (10**7, 10**7)}
        np.lib.format.write_array_header_1_0(buffer, header)
        assert "not a readable .npy file" in refusal_of(tmp_path, "x.npy", buffer.getvalue() + bytes(100))


class _MakesFolder:
    """Leaves a trace when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


WHOLE_FILES = [
    png_bytes(GREY[:20, :20]),
    bytes(cv2.imencode(".jpg", GREY[:20, :20])[1]),
    bytes(cv2.imencode(".bmp", GREY[:20, :20])[1]),
    tiff_bytes(),
    tiff_bytes(compression="zlib", tile=(32, 32)),
    npy_bytes(GREY[:20, :20]),
]


@settings(derandomize=True, deadline=None, max_examples=400)
@given(
    file=st.integers(0, len(WHOLE_FILES) - 1),
    changes=st.lists(st.tuples(st.integers(0, 2**32), st.integers(0, 255)), min_size=1, max_size=6),
    part=st.floats(0, 1),
)
def test_damaged_bytes_give_a_frame_or_a_frame_error(tmp_path_factory, file, changes, part):
    """Nothing else may come out of a file, wherever it is damaged or cut: no other exception, no crash."""
    data = bytearray(WHOLE_FILES[file])
    for place, value in changes:
        data[place % min(len(data), 500)] = value  # mostly headers
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(data if part > 0.3 else data[: int(len(data) * part * 3)])
    try:
        check_frame(read_image(path))
        return
    except FrameError as error:
        message = str(error)
    assert str(path) in message


def test_a_palette_picture_is_no_exception(tmp_path):
    """The refusals above are not won by refusing everything."""
    Image.fromarray(GREY).convert("P").save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), GREY)
