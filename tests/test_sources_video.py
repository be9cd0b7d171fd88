"""Video through PyAV: which counts come out of which pixel format, and what damage gives."""

from __future__ import annotations

import builtins
import shutil
import struct
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange

from dimpoint.errors import FrameError, MissingExtraError
from dimpoint.sources import ReadOptions, as_frame, count_frames, frames_from
from dimpoint.sources.colours import grey_of_video
from dimpoint.sources.video import VideoReader, count_video_frames, read_video

RNG = np.random.default_rng(0)
CLIPS = {  # the number of labelled frames of each real clip
    "IR_AIRPLANE_027": 321,
    "IR_AIRPLANE_030": 320,
    "IR_BIRD_010": 305,
    "IR_DRONE_142": 302,
    "IR_DRONE_151": 301,
    "IR_HELICOPTER_010": 307,
}


def write_video(
    path: Path, frames: list[av.VideoFrame], codec: str = "ffv1", key_every: int | None = None
) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.options = {} if key_every is None else {"g": str(key_every)}
        stream.width, stream.height = frames[0].width, frames[0].height
        stream.pix_fmt = frames[0].format.name
        for number, frame in enumerate(frames):
            frame.pts = number
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def grey_video(path: Path, frames: np.ndarray, pixel_format: str = "gray", codec: str = "ffv1") -> Path:
    grey = [av.VideoFrame.from_ndarray(frame, format="gray") for frame in frames]
    return write_video(path, [frame.reformat(format=pixel_format) for frame in grey], codec)


def counts(frame: av.VideoFrame, values: np.ndarray) -> av.VideoFrame:
    """Put values into the first plane, whose rows may be padded."""
    plane = frame.planes[0]
    rows = np.zeros((frame.height, plane.line_size // values.itemsize), values.dtype)
    rows[:, : frame.width] = values
    plane.update(rows.tobytes())
    return frame


class TestCountsAsStored:
    # 53 columns: FFmpeg pads the rows of such frames
    @pytest.mark.parametrize("bits", [10, 12, 16])
    def test_grey_of_more_than_8_bits_is_exact(self, tmp_path, bits):
        frames = RNG.integers(0, 2**bits, (4, 37, 53)).astype(np.uint16)
        pixel_format = f"gray{bits}le"
        video = [counts(av.VideoFrame(53, 37, pixel_format), frame) for frame in frames]
        read = list(read_video(write_video(tmp_path / "x.mkv", video)))
        assert all(frame.dtype == np.uint16 for frame in read)
        np.testing.assert_array_equal(read, frames)

    @pytest.mark.parametrize("suffix", [".mkv", ".avi"])
    def test_grey_of_8_bits_is_exact(self, tmp_path, suffix):
        frames = RNG.integers(0, 256, (3, 37, 53), dtype=np.uint8)
        read = list(read_video(grey_video(tmp_path / f"x{suffix}", frames)))
        assert all(frame.dtype == np.uint8 for frame in read)
        np.testing.assert_array_equal(read, frames)

    def test_equal_rgb_is_exact(self, tmp_path):
        frames = RNG.integers(0, 256, (3, 37, 53), dtype=np.uint8)
        video = [
            av.VideoFrame.from_ndarray(np.dstack([frame] * 3), format="rgb24").reformat(format="bgr0")
            for frame in frames
        ]
        np.testing.assert_array_equal(list(read_video(write_video(tmp_path / "x.mkv", video))), frames)

    def test_rgb_is_the_bt601_grey(self, tmp_path):
        picture = RNG.integers(96, 160, (37, 53, 3), dtype=np.uint8)
        video = [av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")]
        (frame,) = read_video(write_video(tmp_path / "x.mkv", video))
        np.testing.assert_allclose(frame, picture @ np.array([0.299, 0.587, 0.114]), atol=0.51)

    def test_sixteen_bit_rgb_keeps_its_bits(self, tmp_path):
        grey = RNG.integers(0, 65536, (37, 53)).astype(np.uint16)
        picture = av.VideoFrame.from_ndarray(np.dstack([grey] * 3), format="rgb48le")
        (frame,) = read_video(write_video(tmp_path / "x.mkv", [picture.reformat(format="gbrp16le")]))
        assert frame.dtype == np.uint16
        np.testing.assert_array_equal(frame, grey)


class TestLuma:
    """Every luma value in a row, whatever range the values are marked as; colour differences are neutral."""

    @staticmethod
    def ramp(bits: int) -> av.VideoFrame:
        """Planar YUV, (16, 2**bits) pixels; of 16 bits every 16th value."""
        dtype = np.dtype(np.uint8 if bits == 8 else np.uint16)
        values = np.arange(0, 2**bits, 16 if bits == 16 else 1, dtype=dtype)
        frame = av.VideoFrame(len(values), 16, "yuv444p" if bits == 8 else f"yuv444p{bits}le")
        for plane in frame.planes[1:]:
            plane.update(np.full(plane.buffer_size // dtype.itemsize, 2 ** (bits - 1), dtype).tobytes())
        return counts(frame, np.tile(values, (16, 1)))

    @staticmethod
    def assert_counts(frame: np.ndarray, bits: int) -> None:
        assert frame.dtype == (np.uint8 if bits == 8 else np.uint16)
        values = np.arange(0, 2**bits, 16 if bits == 16 else 1)
        np.testing.assert_array_equal(frame, np.tile(values, (16, 1)))

    @pytest.mark.parametrize(
        ("pixel_format", "bits"),
        [
            # planar
            ("yuv410p", 8),
            ("yuv420p", 8),
            ("yuva420p", 8),
            ("yuv444p", 8),
            ("yuv420p10le", 10),
            ("yuv422p10be", 10),
            ("yuv444p12le", 12),
            ("yuv422p16le", 16),
            # planar, the counts in the high bits
            ("yuv444p10msble", 10),
            # the luma in a plane of its own, the differences in another
            ("nv12", 8),
            ("nv20le", 10),
            ("p010le", 10),  # the counts in the high bits
            ("p012le", 12),
            ("p016le", 16),
            # packed
            ("yuyv422", 8),
            ("uyvy422", 8),
            ("vuyx", 8),
            ("y210le", 10),
            ("xv30le", 10),
            ("y212le", 12),
            ("xv36le", 12),
            ("ayuv64le", 16),
        ],
    )
    @pytest.mark.parametrize("marked", [ColorRange.MPEG, ColorRange.JPEG])  # limited and full range
    def test_luma_is_given_as_stored(self, pixel_format, bits, marked):
        frame = self.ramp(bits)
        full = ColorRange.JPEG  # on both sides: nothing is scaled
        frame = frame.reformat(format=pixel_format, src_color_range=full, dst_color_range=full)
        frame.color_range = marked
        read = as_frame(grey_of_video(frame), "x")  # no file can hold all of these formats
        self.assert_counts(read, bits)

    @pytest.mark.parametrize(
        ("pixel_format", "bits", "codec"),
        [("yuv420p", 8, "ffv1"), ("yuv420p10le", 10, "ffv1"), ("yuyv422", 8, "rawvideo")],
    )
    def test_luma_of_a_file_is_given_as_stored(self, tmp_path, pixel_format, bits, codec):
        frame = self.ramp(bits).reformat(format=pixel_format)
        (read,) = read_video(write_video(tmp_path / "x.nut", [frame], codec))
        self.assert_counts(read, bits)

    def test_full_range_stays_as_it_is(self, tmp_path):
        ramp = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
        path = grey_video(tmp_path / "x.mov", np.stack([ramp]), "yuvj420p", "mjpeg")
        (frame,) = read_video(path)
        np.testing.assert_allclose(frame, ramp, atol=3)  # MJPEG is lossy

    @pytest.mark.parametrize(("pixel_format", "dtype"), [("ya8", np.uint8), ("ya16le", np.uint16)])
    def test_alpha_is_ignored(self, pixel_format, dtype):
        ramp = np.tile(np.arange(256, dtype=dtype), (16, 1))
        picture = av.VideoFrame(256, 16, pixel_format)
        picture.planes[0].update(np.dstack([ramp, ramp[:, ::-1]]).tobytes())
        frame = grey_of_video(picture)
        assert frame.dtype == dtype
        np.testing.assert_array_equal(frame, ramp)

    def test_black_and_white(self, tmp_path):
        bits = RNG.integers(0, 2, (16, 64), dtype=np.uint8)
        picture = av.VideoFrame(64, 16, "monob")
        packed = np.zeros((16, picture.planes[0].line_size), np.uint8)
        packed[:, :8] = np.packbits(bits, axis=1)
        picture.planes[0].update(packed.tobytes())
        (frame,) = read_video(write_video(tmp_path / "x.nut", [picture], "rawvideo"))
        np.testing.assert_array_equal(frame, bits * 255)


class TestRealClips:
    @pytest.mark.parametrize(("name", "number"), CLIPS.items())
    def test_every_frame(self, shared_data, name, number):
        path = shared_data / f"IR-video/{name}.mp4"
        frames = frames_from(path)
        first = next(frames)
        assert (first.file, first.index, first.path) == (f"{path}#000000", 0, path)
        assert first.pixels.shape == (256, 320)
        assert first.pixels.dtype == np.uint8
        assert 1 + sum(1 for _ in frames) == number
        assert count_frames(path) == number

    def test_equal_to_the_luma_that_pyav_decodes(self, shared_data):
        path = shared_data / "IR-video/IR_DRONE_142.mp4"
        with av.open(str(path)) as container:
            for frame, read in zip(container.decode(video=0), read_video(path), strict=True):
                assert frame.format.name == "yuv420p"
                # PyAV stacks luma above the two quarter-size colour differences
                np.testing.assert_array_equal(read, frame.to_ndarray()[: frame.height])

    def test_a_folder_of_clips_with_their_labels(self, shared_data, tmp_path):
        for name in CLIPS:
            for file in (f"{name}.mp4", f"{name}_LABELS.csv"):
                shutil.copy(shared_data / "IR-video" / file, tmp_path)
        assert count_frames(tmp_path) == sum(CLIPS.values())

    def test_frames_are_streamed(self, shared_data):
        """302 frames of 82 kB take the memory of a few, and no frame changes when the next is read."""
        path = shared_data / "IR-video/IR_DRONE_142.mp4"
        frames = frames_from(path)
        first = next(frames).pixels
        kept = first.copy()
        tracemalloc.start()
        assert sum(1 for _ in frames) == 301
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2e6
        np.testing.assert_array_equal(first, kept)


class TestDamage:
    FRAMES = RNG.integers(0, 256, (20, 48, 64), dtype=np.uint8)

    @staticmethod
    def read_to_the_end(path: Path) -> tuple[list[np.ndarray], str]:
        """The frames up to an error, and what it says."""
        given = []
        try:
            for frame in read_video(path):
                given.append(frame)
        except FrameError as error:
            return given, str(error)
        return given, ""

    @pytest.mark.parametrize("suffix", [".mkv", ".avi"])
    def test_frames_before_the_cut_are_given(self, tmp_path, suffix):
        path = grey_video(tmp_path / f"x{suffix}", self.FRAMES)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 6 // 10])
        given, message = self.read_to_the_end(path)
        assert 8 <= len(given) <= 12
        np.testing.assert_array_equal(given, self.FRAMES[: len(given)])
        of_the_frame = suffix == ".avi"
        assert message.startswith(
            f"{path}: frame {len(given)} cannot be read"
            if of_the_frame
            else f"{path}: the video ends after {len(given)} readable frames ("
        )

    @pytest.mark.parametrize("suffix", [".mkv", ".avi"])
    def test_a_cut_is_told(self, tmp_path, suffix):
        path = grey_video(tmp_path / f"x{suffix}", self.FRAMES)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 6 // 10])
        errors = []
        frames = list(frames_from(path, on_error=lambda name, error: errors.append(str(error))))
        missing = len(self.FRAMES) - len(frames) - (suffix == ".avi")
        assert f"{path}: the video ends after {len(frames)} readable frames" in errors[-1]
        assert f"{missing} frames are missing" in errors[-1]

    @pytest.mark.parametrize("kind", ["ffv1", "Y16"])
    def test_an_avi_cut_between_two_frames_is_told(self, tmp_path, kind):
        path = grey_video(tmp_path / "x.avi", self.FRAMES, codec="ffv1" if kind == "ffv1" else "rawvideo")
        data = path.read_bytes()
        if kind == "Y16":  # half as many columns, of two bytes
            data = bytearray(data)
            at = data.index(b"strf") + 8
            data[at + 4 : at + 8] = (32).to_bytes(4, "little")
            data[at + 16 : at + 20] = b"Y16 "
        packets = [at for at in range(data.index(b"idx1")) if data[at : at + 4] in (b"00dc", b"00db")]
        path.write_bytes(data[: packets[len(packets) - 9]])
        given, message = self.read_to_the_end(path)
        assert len(given) == 11
        assert message.startswith(
            f"{path}: the video ends after 11 readable frames (the file is cut, about 9 frames are missing)"
        )

    def test_frames_before_damaged_bytes_are_given(self, tmp_path, shared_data):
        whole = shared_data / "IR-video/IR_AIRPLANE_027.mp4"
        data = bytearray(whole.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 200] = bytes(200)
        path = tmp_path / "x.mp4"
        path.write_bytes(data)
        given, message = self.read_to_the_end(path)
        assert 100 < len(given) < 250
        np.testing.assert_array_equal(given, list(read_video(whole))[: len(given)])
        assert message.startswith(f"{path}: frames {len(given)} to ")

    @pytest.mark.parametrize("suffix", [".mkv", ".avi"])
    def test_damage_costs_its_own_frames_alone(self, tmp_path, suffix):
        """Of a codec without prediction, the one frame; all others keep their numbers."""
        path = grey_video(tmp_path / f"x{suffix}", self.FRAMES, "yuvj420p", "mjpeg")
        true = list(read_video(path))
        with av.open(str(path)) as container:
            packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
        data = path.read_bytes()
        path.write_bytes(data.replace(packets[7], packets[7][:40] + bytes(len(packets[7]) - 40)))
        errors = []
        frames = list(frames_from(path, on_error=lambda name, error: errors.append((name, str(error)))))
        assert [frame.index for frame in frames] == [n for n in range(20) if n != 7]
        np.testing.assert_array_equal([frame.pixels for frame in frames], np.delete(true, 7, 0))
        assert not any(frame.notes for frame in frames)
        ((name, said),) = errors
        assert name == f"{path}#000007"
        assert said.startswith(f"{path}: frame 7 cannot be read (")

    def test_damage_costs_the_frames_up_to_the_next_key_frame(self, tmp_path, shared_data):
        whole = shared_data / "IR-video/IR_AIRPLANE_027.mp4"
        true = list(read_video(whole))
        data = bytearray(whole.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 200] = bytes(200)
        path = tmp_path / "x.mp4"
        path.write_bytes(data)
        errors = []
        frames = list(frames_from(path, on_error=lambda name, error: errors.append(name)))
        assert 1 <= len(errors) <= 2
        assert len(true) > len(frames) > len(true) // 2
        for frame in frames:
            np.testing.assert_array_equal(frame.pixels, true[frame.index])

    def test_the_next_source_follows_a_damaged_one(self, tmp_path):
        path = grey_video(tmp_path / "a.avi", self.FRAMES)
        path.write_bytes(path.read_bytes()[:-20000])
        grey_video(tmp_path / "b.avi", self.FRAMES[:2])
        reported = []
        frames = frames_from(tmp_path, on_error=lambda name, error: reported.append(name))
        files = [frame.file for frame in frames]
        assert files[0] == f"{tmp_path / 'a.avi'}#000000"
        assert files[-2:] == [f"{tmp_path / 'b.avi'}#000000", f"{tmp_path / 'b.avi'}#000001"]
        assert reported == [f"{tmp_path / 'a.avi'}#{len(files) - 2:06d}", str(tmp_path / "a.avi")]

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"frame,label,x,y\n" * 20, "no video that can be read"),
            (b"", "no video that can be read .the file is empty"),
            (bytes(5000), "no video that can be read"),
        ],
        ids=["text", "empty", "zeros"],
    )
    def test_no_video(self, tmp_path, data, message):
        path = tmp_path / "x.mp4"
        path.write_bytes(data)
        with pytest.raises(FrameError, match=message) as caught:
            list(frames_from(path))
        assert str(caught.value).startswith(f"{path}: ")
        assert "what is read: PNG" in str(caught.value)
        assert count_frames(path) is None

    def test_a_clip_without_its_index(self, tmp_path, shared_data):
        """Recorders that lose power leave MP4 files like this one."""
        data = (shared_data / "IR-video/IR_BIRD_010.mp4").read_bytes()
        (tmp_path / "x.mp4").write_bytes(data[: len(data) // 2])
        with pytest.raises(FrameError, match=r"cut off: its index \(moov\) is missing"):
            list(frames_from(tmp_path / "x.mp4"))

    def test_sound_only(self, tmp_path):
        path = tmp_path / "x.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            sound.sample_rate = 8000
            for packet in [*stream.encode(sound), *stream.encode()]:
                container.mux(packet)
        with pytest.raises(FrameError, match="holds no video stream"):
            list(frames_from(path))
        assert count_frames(path) is None

    def test_missing_and_folder(self, tmp_path):
        with pytest.raises(FrameError, match="no such file"):
            list(read_video(tmp_path / "x.mp4"))
        (tmp_path / "y.mp4").mkdir()
        with pytest.raises(FrameError, match="a folder"):
            list(read_video(tmp_path / "y.mp4"))
        assert count_video_frames(tmp_path / "y.mp4") is None


def test_a_length_that_no_header_states_is_unknown(tmp_path):
    path = grey_video(tmp_path / "x.mkv", TestDamage.FRAMES)
    assert count_frames(path) is None
    assert count_frames([TestDamage.FRAMES, path]) is None


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    path = grey_video(tmp_path / "x.mkv", TestDamage.FRAMES)
    plain_import = builtins.__import__

    def refuse(name, *args, **options):
        if name == "av":
            raise ImportError(name)
        return plain_import(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"pip install 'dimpoint\[video\]'"):
        list(frames_from(path))
    assert count_frames(path) is None


class TestStreamsAndTimes:
    """Which stream is read is said; frames are numbered by presentation time."""

    @staticmethod
    def write(path: Path, sizes: list[tuple[int, int]], times: list[int]) -> Path:
        with av.open(str(path), "w") as container:
            streams = []
            for height, width in sizes:
                stream = container.add_stream("ffv1", rate=25)
                stream.width, stream.height, stream.pix_fmt = width, height, "gray"
                streams.append(stream)
            for time in times:
                for number, stream in enumerate(streams):
                    pixels = np.full((stream.height, stream.width), 10 * number + time, np.uint8)
                    frame = av.VideoFrame.from_ndarray(pixels, format="gray")
                    frame.pts, frame.time_base = time, Fraction(1, 25)
                    container.mux(stream.encode(frame))
            for stream in streams:
                container.mux(stream.encode(None))
        return path

    def test_of_two_streams_one_is_read_and_said(self, tmp_path):
        path = self.write(tmp_path / "x.mkv", [(24, 32), (16, 20)], [0, 1, 2])
        frames = list(frames_from(path))
        assert [frame.pixels.shape for frame in frames] == [(24, 32)] * 3
        assert frames[0].notes == (
            "video stream 0 is read of 0 (32x24 gray), 1 (20x16 gray); --stream chooses",
        )
        chosen = list(frames_from(path, options=ReadOptions(stream=1)))
        assert [int(frame.pixels[0, 0]) for frame in chosen] == [10, 11, 12]
        with pytest.raises(FrameError, match=r"--stream 2, but its video streams are 0 \(32x24 gray\), 1"):
            list(frames_from(path, options=ReadOptions(stream=2)))

    def test_a_turned_video_is_read_as_stored_and_said(self, tmp_path):
        true = np.random.default_rng(0).integers(0, 256, (3, 24, 32), np.uint8)
        path = grey_video(tmp_path / "x.mov", true, "gray", "png")
        upright = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
        turned = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
        data = path.read_bytes()
        place = data.index(upright, data.index(b"tkhd"))
        assert not any(frame.notes for frame in frames_from(path))
        path.write_bytes(data[:place] + turned + data[place + len(turned) :])
        frames = list(frames_from(path))
        np.testing.assert_array_equal([frame.pixels for frame in frames], true)
        note = "players turn this video by 90 degrees; positions are of the pixels as stored"
        assert {frame.notes for frame in frames} == {(note,)}

    @pytest.mark.parametrize("suffix", ["mkv", "avi"])
    def test_dropped_frames_keep_the_numbers_of_the_others(self, tmp_path, suffix):
        path = self.write(tmp_path / f"x.{suffix}", [(16, 20)], [0, 1, 2, 3, 6, 7, 8, 9, 10, 11])
        frames = list(frames_from(path))
        assert [frame.index for frame in frames] == [0, 1, 2, 3, 6, 7, 8, 9, 10, 11]
        assert [int(frame.pixels[0, 0]) for frame in frames] == [frame.index for frame in frames]
        notes = [note for frame in frames for note in frame.notes]
        assert notes == [
            "the video lacks frames 4 to 5 (dropped in recording); numbers follow presentation time"
        ]

    @pytest.mark.parametrize("suffix", ["mkv", "avi"])
    @pytest.mark.parametrize("order", [[3, 6, 7], [11, 0, 9, 6], [6, 6]], ids=str)
    def test_any_order_gives_the_frames_of_the_same_numbers(self, tmp_path, suffix, order):
        times = [0, 1, 2, 3, 6, 7, 8, 9, 10, 11]
        path = self.write(tmp_path / f"x.{suffix}", [(16, 20)], times)
        reader = VideoReader(path)
        assert reader.numbers == tuple(times) == tuple(frame.index for frame in frames_from(path))
        assert [int(reader.read(number).pixels[0, 0]) for number in order] == order
        with pytest.raises(FrameError, match=r"x\..*: has no frame 4, but 10 frames"):
            reader.read(4)
        reader.close()

    def test_any_order_of_a_predicted_clip(self, shared_data):
        path = shared_data / "IR-video/IR_DRONE_142.mp4"
        true = list(read_video(path))
        reader = VideoReader(path)
        assert reader.numbers == tuple(range(len(true)))
        for number in (0, 1, 2, 200, 201, 37, 301, 300):
            np.testing.assert_array_equal(reader.read(number).pixels, true[number])
        reader.close()

    # Seeks in .ts and .mpg miss the key frame; AVI and .mpg state no times of presentation of H.264
    @pytest.mark.parametrize(
        ("codec", "suffix"),
        [
            ("libx264", "ts"),
            ("mpeg2video", "ts"),
            ("mpeg4", "ts"),
            ("libx264", "mpg"),
            ("libx264", "avi"),
        ],
    )
    def test_any_order_in_any_container(self, tmp_path, codec, suffix):
        pictures = np.full((60, 48, 64), 60, np.uint8)
        for number, picture in enumerate(pictures):
            picture[8:40, number : number + 4] = 255
        video = [
            av.VideoFrame.from_ndarray(each, format="gray").reformat(format="yuv420p") for each in pictures
        ]
        path = write_video(tmp_path / f"x.{suffix}", video, codec, key_every=12)
        frames = list(frames_from(path))  # raises where a frame is missing
        assert [frame.index for frame in frames] == list(range(60))
        assert not any(frame.notes for frame in frames)
        true = [frame.pixels for frame in frames]
        assert [int(frame[24].argmax()) for frame in true] == pytest.approx(range(60), abs=3)
        reader = VideoReader(path)
        assert reader.numbers == tuple(range(60))
        for number in (40, 5, 6, 59, 20, 0):
            np.testing.assert_array_equal(reader.read(number).pixels, true[number])
        reader.close()

    def test_any_order_of_grey_with_a_palette(self, tmp_path):
        pictures = RNG.integers(0, 256, (9, 48, 64), dtype=np.uint8)
        reader = VideoReader(grey_video(tmp_path / "x.mov", pictures, codec="rawvideo"))
        for number in (5, 6, 2, 8):
            np.testing.assert_array_equal(reader.read(number).pixels, pictures[number])
        reader.close()

    def test_times_of_h264_in_avi_are_in_order(self, tmp_path):
        pictures = RNG.integers(0, 256, (20, 48, 64), dtype=np.uint8)
        frames = list(frames_from(grey_video(tmp_path / "x.avi", pictures, "yuv420p", "libx264")))
        assert [frame.time for frame in frames] == pytest.approx([number / 25 for number in range(20)])

    def test_a_clock_that_goes_back_gives_no_gaps(self, tmp_path):
        """Two recordings in one file, whose times both begin at zero."""
        parts = RNG.integers(0, 256, (2, 20, 48, 64), dtype=np.uint8)
        path = tmp_path / "x.ts"
        path.write_bytes(
            b"".join(
                grey_video(tmp_path / f"{number}.ts", part, "yuv420p", "mpeg2video").read_bytes()
                for number, part in enumerate(parts)
            )
        )
        frames = {frame.index: frame for frame in frames_from(path, on_error=lambda name, error: None)}
        assert len(frames) > 30
        assert max(frames) == 39
        assert not any(frame.notes for frame in frames.values())
        reader = VideoReader(path)
        assert reader.numbers == tuple(frames)
        for number in (39, 2, 25):
            np.testing.assert_array_equal(reader.read(number).pixels, frames[number].pixels)
        reader.close()

    def test_a_damaged_frame_is_told(self, tmp_path, shared_data):
        data = bytearray((shared_data / "IR-video/IR_AIRPLANE_027.mp4").read_bytes())
        middle = len(data) // 2
        data[middle : middle + 200] = bytes(200)
        (tmp_path / "x.mp4").write_bytes(data)
        frames = list(frames_from(tmp_path / "x.mp4", on_error=lambda name, error: None))
        lost = set(range(321)).difference(frame.index for frame in frames)
        reader = VideoReader(tmp_path / "x.mp4")
        for number in (min(lost), max(lost)):
            with pytest.raises(FrameError, match=rf"x\.mp4: frame {number} cannot be read \("):
                reader.read(number)
        np.testing.assert_array_equal(reader.read(frames[-1].index).pixels, frames[-1].pixels)
        reader.close()

    def test_a_colon_in_the_name_is_no_protocol(self, tmp_path):
        path = self.write(tmp_path / "a:b.mkv", [(16, 20)], [0, 1])
        assert len(list(frames_from(path))) == 2


@pytest.mark.parametrize("start", [0, 200])
def test_a_damaged_frame_of_a_png_avi_costs_that_frame_alone(tmp_path, start):
    """Damage to the signature of a picture, and to its data."""
    path = tmp_path / "x.avi"
    pictures = [RNG.integers(0, 256, (80, 100), dtype=np.uint8) for _ in range(9)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 100, 80, "gray"
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="gray")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    places = [at for at in range(len(data)) if data[at : at + 8] == b"\x89PNG\r\n\x1a\n"]
    assert len(places) == 9
    data[places[4] + start : places[4] + start + 8] = b"Z" * 8
    path.write_bytes(data)
    errors = []
    frames = list(frames_from(path, on_error=lambda name, error: errors.append(name)))
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 5, 6, 7, 8]
    for frame in frames:
        np.testing.assert_array_equal(frame.pixels, pictures[frame.index])
    assert errors == [f"{path}#000004"]
    data[places[4] - 8 : places[4]] = b"Z" * 8  # the head of the packet: it is not found any more
    path.write_bytes(data)
    errors.clear()
    assert len(list(frames_from(path, on_error=lambda name, error: errors.append(str(error))))) == 8
    assert "about 1 frame is missing" in errors[0]


FTYP = b"\0\0\0\x10ftypisom\0\0\0\0"
NO_INDEX = {
    "nothing behind its type": FTYP,
    "a box of 2**64 - 1 bytes": FTYP + b"\0\0\0\x01mdat" + b"\xff" * 8,
    "a box of 2**63 - 1 bytes": FTYP + b"\0\0\0\x01mdat\x7f" + b"\xff" * 7,
    "a box that is cut in its size": FTYP + b"\0\0\0\x01mdat\0\0",
    "a box smaller than its head": FTYP + b"\0\0\0\x04mdat" + bytes(40),
    "a box up to the end": FTYP + b"\0\0\0\0mdat" + bytes(40),
    "an index that is cut": FTYP + b"\0\0\x10\0moov" + bytes(40),
}


@pytest.mark.parametrize("case", NO_INDEX)
def test_mp4_files_that_were_cut_off(tmp_path: Path, case: str) -> None:
    """Sizes that no file can have used to end in a ValueError."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(NO_INDEX[case])
    with pytest.raises(
        FrameError, match=r"clip\.mp4: an MP4 or MOV file that was cut off: its index \(moov\)"
    ):
        list(frames_from(str(path)))
