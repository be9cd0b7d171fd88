"""frames_from, find_files and count_frames: what each source gives, in which order, under which name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from dimpoint.errors import DimpointError, FrameError
from dimpoint.sources import FRAME_SUFFIXES, Frame, count_frames, find_files, frames_from
from dimpoint.sources.files import natural_key

GREY = np.arange(35, dtype=np.uint8).reshape(5, 7)
STACK = np.arange(6 * 5 * 7, dtype=np.uint16).reshape(6, 5, 7)


def write(path: Path, value: int = 0) -> Path:
    """A small PNG whose pixels all hold `value`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(cv2.imencode(".png", np.full((3, 4), value, np.uint8))[1]))
    return path


def names(frames) -> list[str]:
    return [frame.file for frame in frames]


@pytest.fixture
def folder(tmp_path) -> Path:
    """img2, img10, img1 in this order of writing; notes; a hidden frame; a frame in a sub-folder."""
    for value in (2, 10, 1):
        write(tmp_path / f"img{value}.png", value)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "labels.json").write_text("{}")
    write(tmp_path / ".hidden.png")
    write(tmp_path / "night/img3.png", 3)
    write(tmp_path / ".cache/img4.png", 4)
    return tmp_path


class TestFolders:
    def test_natural_order(self, folder):
        frames = list(frames_from(folder))
        assert names(frames) == [str(folder / f"img{value}.png") for value in (1, 2, 10)]
        assert [int(frame.pixels[0, 0]) for frame in frames] == [1, 2, 10]
        assert all(frame.path == Path(frame.file) and frame.index is None for frame in frames)

    def test_sub_folders_are_entered_on_request_except_hidden_ones(self, folder):
        values = [int(frame.pixels[0, 0]) for frame in frames_from(folder, recursive=True)]
        assert values == [1, 2, 10, 3]

    def test_what_is_no_frame_is_passed_over_and_told(self, folder):
        told = {}
        frames_from(folder, on_passed=lambda source, found: told.update({source: found.summary()}))
        assert told == {
            str(folder): "2 hidden or thumbnail files and folders, 2 files of other kinds (.json 1, .txt 1), "
            "1 sub-folder (--recursive enters them)"
        }

    def test_a_sub_folder_named_like_a_frame_is_no_frame(self, tmp_path):
        write(tmp_path / "a.png")
        (tmp_path / "b.png").mkdir()
        assert names(frames_from(tmp_path)) == [str(tmp_path / "a.png")]

    def test_a_folder_named_like_a_frame_is_a_folder(self, tmp_path):
        write(tmp_path / "x.png/a.png")
        assert names(frames_from(tmp_path / "x.png")) == [str(tmp_path / "x.png/a.png")]

    @pytest.mark.parametrize("suffix", [".PNG", ".Tiff", ".NPY"])
    def test_case_of_the_suffix_does_not_matter(self, tmp_path, suffix):
        (tmp_path / f"x{suffix}").touch()
        assert find_files(tmp_path).files == [tmp_path / f"x{suffix}"]

    def test_names_stay_as_given(self, folder, monkeypatch):
        monkeypatch.chdir(folder.parent)
        assert names(frames_from(folder.name))[0] == f"{folder.name}{os.sep}img1.png"


class TestGlobs:
    def test_matches_in_natural_order(self, folder):
        assert names(frames_from(str(folder / "img*.png"))) == [
            str(folder / f"img{value}.png") for value in (1, 2, 10)
        ]

    def test_two_stars_enter_sub_folders(self, folder):
        assert find_files(f"{folder}/**/img[34].png").files == [folder / "night/img3.png"]

    def test_folders_and_other_files_are_passed_over(self, folder):
        found = find_files(f"{folder}/*")
        assert [path.name for path in found.files] == ["img1.png", "img2.png", "img10.png"]
        assert [path.name for path in found.skipped] == ["labels.json", "night", "notes.txt"]

    def test_a_file_may_hold_the_signs_of_a_pattern(self, tmp_path):
        path = write(tmp_path / "day[1]*.png")
        assert find_files(path).files == [path]


THREE_COLOURS = np.dstack([np.eye(4, 5), np.zeros((4, 5)), np.ones((4, 5))]).astype(np.uint8) * 255


class TestArrays:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    def test_two_axes_are_one_frame(self, dtype):
        (frame,) = frames_from(GREY.astype(dtype))
        assert (frame.file, frame.path, frame.index) == ("array", None, None)
        assert frame.pixels.dtype == dtype
        np.testing.assert_array_equal(frame.pixels, GREY)

    def test_three_axes_are_a_stack(self):
        frames = list(frames_from(STACK))
        assert names(frames) == [f"array#{index:06d}" for index in range(6)]
        assert [frame.index for frame in frames] == list(range(6))
        np.testing.assert_array_equal([frame.pixels for frame in frames], STACK)

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_a_short_last_axis_holds_the_equal_channels_of_one_picture(self, channels):
        (frame,) = frames_from(np.dstack([GREY] * channels))
        np.testing.assert_array_equal(frame.pixels, GREY)

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            # three colours that differ: neither a grey picture nor a stack
            (
                np.dstack([np.eye(4, 5), np.zeros((4, 5)), np.ones((4, 5))]).astype(np.uint8) * 255,
                "RGB or BGR cannot be told apart",
            ),
            (np.zeros((4, 5, 2), np.uint8), "got shape"),
            (np.zeros((2, 3, 40, 50), np.uint8), "got shape"),
            (np.zeros(50, np.uint8), "got shape"),
            (np.zeros((0, 0), np.uint8), "empty"),
            (np.full((4, 5), np.nan, np.float32), "no pixel of 20 is finite"),
            (np.full((4, 5), 2**40), "do not fit into 24 bits"),
        ],
    )
    def test_refused(self, array, message):
        with pytest.raises(FrameError, match=message) as caught:
            list(frames_from([GREY, array]))
        assert str(caught.value).startswith("array[1]")

    def test_a_bad_layer_is_named(self):
        stack = STACK.astype(np.float32)
        stack[4] = np.inf
        frames = frames_from([stack])
        assert names(next(frames) for _ in range(4))[-1] == "array[0]#000003"
        with pytest.raises(FrameError, match=r"array\[0\]#000004: no pixel of"):
            next(frames)

    def test_an_empty_stack_is_refused(self, tmp_path):
        empty = np.zeros((0, 5, 7), np.uint8)
        np.save(tmp_path / "x.npy", empty)
        np.savez(tmp_path / "x.npz", empty)
        for source in (empty, tmp_path / "x.npy", tmp_path / "x.npz"):
            with pytest.raises(FrameError, match="holds no frame"):
                list(frames_from(source))


class TestSequences:
    def test_all_kinds_together_in_order(self, folder, tmp_path):
        tifffile.imwrite(folder / "night/pages.tif", STACK, photometric="minisblack")
        sources = [folder / "img2.png", GREY, f"{folder}/night/*", STACK[:2]]
        expected = [
            str(folder / "img2.png"),
            "array[1]",
            str(folder / "night/img3.png"),
            *[f"{folder / 'night/pages.tif'}#{index:06d}" for index in range(6)],
            "array[3]#000000",
            "array[3]#000001",
        ]
        assert names(frames_from(sources)) == expected
        assert names(frames_from(tuple(sources))) == expected
        assert count_frames(sources) == len(expected)

    def test_nothing_gives_nothing(self):
        assert list(frames_from([])) == []
        assert count_frames([]) == 0

    def test_frames_are_read_one_by_one(self, tmp_path):
        write(tmp_path / "a.png")
        later = write(tmp_path / "b.png")
        frames = frames_from(tmp_path)
        next(frames)
        later.unlink()
        with pytest.raises(FrameError, match="no such file"):
            next(frames)

    @pytest.mark.parametrize("source", [3, None, {"a.png"}, [3], [["a.png"]], [None]])
    def test_what_is_no_source(self, source):
        with pytest.raises(FrameError, match="a source is a path, a folder, a glob or a numpy array"):
            frames_from(source)

    def test_a_frame_cannot_be_changed(self):
        with pytest.raises(AttributeError):
            Frame("x", GREY).file = "y"


class TestErrors:
    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("gone.png", "gone.png: no such file or folder"),
            ("gone", "gone: no such file or folder"),
            ("", "no such file or folder"),
            ("gone*.png", r"gone\*.png: nothing matches this pattern"),
            ("empty", "no frames in the folder empty; what is read: PNG, JPEG"),
            ("texts", "no frames in the folder texts; passed over: 2 files of other kinds .*; what is read"),
            ("nested", "no frames in the folder nested"),
            ("*", r"no frames in the pattern \*"),
        ],
    )
    def test_at_the_call(self, tmp_path, monkeypatch, source, message):
        monkeypatch.chdir(tmp_path)
        for name in ("empty", "texts", "nested/deep"):
            (tmp_path / name).mkdir(parents=True)
        (tmp_path / "texts/a.txt").touch()
        (tmp_path / "texts/b.csv").touch()
        write(tmp_path / "nested/deep/a.png")
        with pytest.raises(FrameError, match=message):
            frames_from(source)
        reported = []
        frames = frames_from([source, GREY], on_error=lambda name, error: reported.append((name, error)))
        assert names(frames) == ["array[1]"]
        assert [name for name, _ in reported] == [source]
        assert count_frames([source, GREY]) == 1

    def test_an_unreadable_folder(self, tmp_path, monkeypatch):
        def deny(path):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(os, "scandir", deny)  # access rights do not stop a superuser
        with pytest.raises(FrameError, match="the folder cannot be read: Permission denied"):
            frames_from(tmp_path)

    def test_damaged_files_are_reported_and_passed_over(self, folder):
        (folder / "img2.png").write_bytes((folder / "img2.png").read_bytes()[:40])
        (folder / "img5.tif").write_text("no picture")
        reported: list[tuple[str, DimpointError]] = []
        frames = frames_from(folder, on_error=lambda name, error: reported.append((name, error)))
        assert [int(frame.pixels[0, 0]) for frame in frames] == [1, 10]
        assert [name for name, _ in reported] == [str(folder / "img2.png"), str(folder / "img5.tif")]
        assert all(isinstance(error, FrameError) and name in str(error) for name, error in reported)

    def test_damaged_files_raise_without_a_callback(self, folder):
        (folder / "img2.png").write_bytes(b"no picture")
        frames = frames_from(folder)
        next(frames)
        with pytest.raises(FrameError, match=r"img2\.png: not a picture"):
            next(frames)

    def test_a_named_file_is_tried_whatever_its_suffix(self, tmp_path):
        write(tmp_path / "frame.dat")
        assert len(list(frames_from(tmp_path / "frame.dat"))) == 1
        (tmp_path / "notes.txt").write_text("x")
        with pytest.raises(FrameError, match=r"notes\.txt: not a picture"):
            list(frames_from(tmp_path / "notes.txt"))


class TestCounts:
    def test_files_pages_and_arrays(self, folder):
        assert count_frames(folder) == 3
        assert count_frames(folder, recursive=True) == 4
        assert count_frames(str(folder / "img1.png")) == 1
        assert count_frames(STACK) == 6
        assert count_frames(GREY) == 1

    def test_an_unreadable_tiff_counts_for_nothing(self, tmp_path):
        (tmp_path / "x.tif").write_bytes(b"II*\0" + bytes(4))
        assert count_frames(tmp_path / "x.tif") == 0

    def test_real_data(self, shared_data):
        assert count_frames(shared_data / "NUAA-SIRST/images") == 427


class TestNaturalOrder:
    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ("img2", "img10"),
            ("img", "img1"),
            ("a9b2", "a9b10"),
            ("2b", "10a"),
            ("A2", "a10"),  # case does not part numbers
            ("img01", "img2"),
            ("1", "a"),  # numbers before letters
            ("a/2.png", "a/10.png"),
            ("a2/9.png", "a10/1.png"),
            ("x²", "x³"),  # digits that are no numbers do not fail
        ],
    )
    def test_pairs(self, first, second):
        assert natural_key(Path(first)) < natural_key(Path(second))

    @settings(derandomize=True, deadline=None, max_examples=100)
    @given(st.lists(st.text("aB10²٣ /.-", min_size=1), unique=True))
    def test_any_names_have_one_order(self, texts):
        paths = list({Path(text) for text in texts})
        backwards = paths[::-1]
        assert sorted(paths, key=natural_key) == sorted(backwards, key=natural_key)


def test_every_suffix_is_lower_case_and_has_its_dot():
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in FRAME_SUFFIXES)


def test_neither_torch_nor_av_is_imported_before_it_is_needed():
    code = "import sys, dimpoint.sources; print(sorted({'torch', 'av'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
