"""The one walk over files: what counts as a frame file, what is passed over and how that is told."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from dimpoint.errors import FrameError
from dimpoint.sources import find_files, frames_from
from dimpoint.sources.files import plain_name, walk


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((6, 8), 50, np.uint8))
    return path


def below(root: Path, paths: list[Path]) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


@pytest.mark.parametrize(
    "folder",
    [
        ".ipynb_checkpoints",
        ".thumbnails",
        ".git",
        "thumbnails",
        "Thumbs",
        "__MACOSX",
        "@eaDir",
        "#recycle",
        "$RECYCLE.BIN",
        "lost+found",
    ],
)
def test_junk_folders_are_passed_over_and_counted(tmp_path: Path, folder: str) -> None:
    write(tmp_path / "a.png")
    write(tmp_path / folder / "a-checkpoint.png")
    found = find_files(tmp_path, recursive=True)
    assert below(tmp_path, found.files) == ["a.png"]
    assert found.summary() == "1 hidden or thumbnail file or folder"
    assert below(tmp_path, find_files(f"{tmp_path}/**/*.png").files) == ["a.png"]


def test_a_pattern_takes_files_of_any_name_and_names_the_folders_it_passes_over(tmp_path: Path) -> None:
    for name in ("#a.png", "$b.png", "@c.png", "thumbs/d.png", "#recycle/e.png", ".f.png", "g/h.png"):
        write(tmp_path / name)
    assert below(tmp_path, find_files(f"{tmp_path}/*.png").files) == ["#a.png", "$b.png", "@c.png"]
    for pattern, files in (("*/*.png", ["g/h.png"]), ("**/[h].png", ["g/h.png"])):
        found = find_files(f"{tmp_path}/{pattern}")
        assert below(tmp_path, found.files) == files
        assert below(tmp_path, found.skipped) == ["#recycle", "thumbs"]


def test_files_of_other_kinds_are_counted_by_suffix(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    for name in ("b.txt", "c.txt", "d.xyz", "README"):
        (tmp_path / name).write_text("x")
    (tmp_path / "._a.png").write_text("resource fork")
    write(tmp_path / "night" / "b.png")
    assert find_files(tmp_path).summary() == (
        "1 hidden or thumbnail file or folder, 4 files of other kinds (.txt 2, .xyz 1, no suffix 1), "
        "1 sub-folder (--recursive enters them)"
    )


def test_no_frame_at_all_is_an_error_with_the_counts(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("x")
    with pytest.raises(FrameError, match=r"no frames in the folder .*; passed over: 1 file .*\(\.txt 1\)"):
        find_files(tmp_path)


class TestLinks:
    def test_a_linked_folder_is_followed(self, tmp_path: Path) -> None:
        write(tmp_path / "elsewhere" / "a.png")
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / "link").symlink_to(tmp_path / "elsewhere")
        assert below(tmp_path / "set", find_files(tmp_path / "set", recursive=True).files) == ["link/a.png"]

    def test_loops_end_and_every_frame_is_found_once(self, tmp_path: Path) -> None:
        write(tmp_path / "a" / "1.png")
        for name in ("x", "y", "z"):  # unbounded, and three to the power of the depth, if followed blindly
            (tmp_path / name).symlink_to(tmp_path)
            (tmp_path / "a" / name).symlink_to(tmp_path / "a")
        found = find_files(tmp_path, recursive=True)
        assert below(tmp_path, found.files) == ["a/1.png"]
        assert found.summary() == "6 links to folders that were seen already"
        assert below(tmp_path, find_files(f"{tmp_path}/**/*.png").files) == ["a/1.png"]

    def test_a_broken_link_is_a_frame_that_is_missing(self, tmp_path: Path) -> None:
        write(tmp_path / "a.png")
        (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
        errors = []
        frames = list(frames_from(tmp_path, on_error=lambda name, error: errors.append(str(error))))
        assert len(frames) == 1
        assert errors == [f"{tmp_path / 'b.png'}: a link to {tmp_path / 'gone.png'}, which is not there"]

    def test_a_broken_link_of_another_kind_is_passed_over(self, tmp_path: Path) -> None:
        write(tmp_path / "a.png")
        (tmp_path / "b").symlink_to(tmp_path / "gone")
        assert find_files(tmp_path).summary() == "1 broken link"


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    errors = []
    assert len(list(frames_from(tmp_path, on_error=lambda name, error: errors.append(str(error))))) == 1
    assert errors == [f"{tmp_path / 'b.png'}: a pipe, socket or device, where a file is expected"]


@pytest.mark.parametrize("source", ["{}", "{}/**/*.png", "{}/*/*/*.png"])
def test_the_folder_of_results_is_left_out(tmp_path: Path, source: str) -> None:
    write(tmp_path / "n" / "m" / "a.png")
    write(tmp_path / "out" / "overlays" / "a.png")
    found = find_files(source.format(tmp_path), recursive=True, exclude=[tmp_path / "out"])
    assert below(tmp_path, found.files) == ["n/m/a.png"]
    assert found.summary() == "1 folder of results"


def test_a_folder_of_results_that_the_pattern_names_is_read(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "overlays/a.png"):
        write(tmp_path / "out" / name)
    exclude = [tmp_path / "out", tmp_path / "out" / "overlays"]
    assert below(tmp_path, find_files(f"{tmp_path}/out/*.png", exclude=exclude).files) == [
        "out/a.png",
        "out/b.png",
    ]
    found = find_files(f"{tmp_path}/out/**/*.png", exclude=exclude)
    assert below(tmp_path, found.files) == ["out/a.png", "out/b.png"]
    assert found.passed == [(exclude[1], "folders of results")]
    with pytest.raises(FrameError, match="passed over: 1 folder of results"):
        find_files(f"{tmp_path}/*/*.png", exclude=exclude)


@pytest.mark.parametrize("source", ["{}", "{}/*.png"])
def test_a_file_of_results_is_left_out(tmp_path: Path, source: str) -> None:
    for name in ("a.png", "tracks.png", "sub/tracks.png"):
        write(tmp_path / name)
    found = find_files(source.format(tmp_path), exclude=[tmp_path, tmp_path / "tracks.png"])
    assert below(tmp_path, found.files) == ["a.png"]
    assert (tmp_path / "tracks.png", "files of results") in found.passed


@pytest.mark.parametrize(
    ("folder", "pattern"),
    [
        ("run[1]", "run[1]/*.png"),  # the name as it stands
        ("run[1]", "run[[]1]/*.png"),  # escaped
        ("a: b", "a: b/*.png"),
        ("caf\u00e9", "caf?/*.png"),
        ("what?", "what?/*.png"),
    ],
)
def test_signs_of_patterns_in_a_folders_name(tmp_path: Path, folder: str, pattern: str) -> None:
    path = write(tmp_path / folder / "a.png")
    assert find_files(f"{tmp_path}/{pattern}").files == [path]
    assert find_files(tmp_path / folder).files == [path]


def test_a_pattern_without_match_has_the_bracket_hint(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match=r"nothing matches this pattern; \[ and \] stand for"):
        find_files(f"{tmp_path}/run[1]/*.png")


def test_two_spellings_of_a_name_are_one() -> None:
    assert plain_name("cafe\u0301") == plain_name("caf\u00e9")


def test_a_number_of_many_digits_sorts_in_time(tmp_path: Path) -> None:
    paths = [Path("9" * 200_000 + ".png"), Path("1.png")]
    from dimpoint.sources.files import natural_key

    assert sorted(paths, key=natural_key)[0] == Path("1.png")


def test_a_link_to_a_folder_above_is_no_folder_of_frames(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"")
    (tmp_path / "images" / "up").symlink_to("..")
    found = walk(tmp_path / "images", True)
    assert [path.name for path in found.files] == ["a.png"]
    assert found.summary() == "1 link to a folder that was seen already"
