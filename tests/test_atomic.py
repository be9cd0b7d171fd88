"""Files that are written whole or not at all: names, links, permissions, what is left over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dimpoint.atomic import (
    TEMPORARY,
    _cleared,
    check_writable,
    remove_temporary,
    replacing,
    replacing_folder,
    write_text,
)
from dimpoint.errors import DimpointError


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_new_file_has_the_permissions_that_the_umask_leaves(umask: int, tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_an_existing_file_keeps_its_permissions(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(mode)
    write_text(path, "new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", mode)


def test_a_link_is_replaced_and_its_target_stays(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "a.txt").symlink_to("precious")
    write_text(tmp_path / "a.txt", "new")
    assert not (tmp_path / "a.txt").is_symlink()
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_planted_link_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where somebody guesses the random name."""
    monkeypatch.setattr("secrets.token_hex", lambda _: "0")
    (tmp_path / "precious").write_text("precious")
    (tmp_path / f"{TEMPORARY}0.txt").symlink_to("precious")
    with pytest.raises(DimpointError, match="cannot be written"):
        write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "a.txt").exists()


def test_temporary_names_differ_and_have_the_suffix(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.png") as one, replacing(tmp_path / "a.png") as two:
        assert one != two
        assert (one.suffix, two.suffix) == (".png", ".png")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_not_replaced(make: object, tmp_path: Path) -> None:
    path = tmp_path / "a"
    make(path)  # type: ignore[operator]
    with pytest.raises(DimpointError, match="where a file is expected"):
        write_text(path, "x")
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    check_writable(tmp_path / "a", None, tmp_path / "new" / "deep" / "b")
    for place in (tmp_path / "a" / "b", tmp_path):
        with pytest.raises(DimpointError, match=f"{place}: cannot be written"):
            check_writable(place)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a", "old")]


def test_a_failing_block_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with replacing(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not list(tmp_path.iterdir())


def test_a_name_as_long_as_names_may_be_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".txt")
    write_text(path, "x")
    assert path.read_text() == "x"


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY}abc.png").write_text("half")
    (tmp_path / "mine.png").write_text("mine")
    remove_temporary(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.png"]


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    """What another process still writes stays."""
    (tmp_path / f"{TEMPORARY}dead.txt").write_text("half")
    with replacing(tmp_path / "other.txt") as held:
        _cleared.discard(tmp_path)
        write_text(tmp_path / "a.txt", "x")
        assert held.exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.txt", "other.txt"]


class TestFolders:
    def test_it_appears_at_the_end(self, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()  # an empty one may be there
        with replacing_folder(tmp_path / "out") as folder:
            (folder / "a").write_text("x")
            assert not list((tmp_path / "out").iterdir())
        assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["out", "out/a"]

    def test_a_failing_block_leaves_nothing(self, tmp_path: Path) -> None:
        def fail() -> None:
            with replacing_folder(tmp_path / "out") as folder:
                (folder / "a").write_text("x")
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("name", ["file", "file/out", "full"])
    def test_where_the_system_refuses_the_folder_is_named(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "a").write_text("x")
        refused = pytest.raises(DimpointError, match=f"^{tmp_path / name}: cannot be written: ")
        with refused, replacing_folder(tmp_path / name):
            pass
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]

    def test_a_full_disk_is_named_too(self, tmp_path: Path) -> None:
        refused = pytest.raises(DimpointError, match="out: cannot be written: No space left")
        with refused, replacing_folder(tmp_path / "out"):
            raise OSError(28, "No space left on device")

    def test_what_a_killed_process_left_for_the_same_folder_is_removed(self, tmp_path: Path) -> None:
        names = []
        for name in ("out", "other"):
            with replacing_folder(tmp_path / name) as folder:
                names.append(folder.name)
            (tmp_path / name).rmdir()
        for name in names:
            (tmp_path / name).mkdir()
            (tmp_path / name / "half").write_text("x")
        with replacing_folder(tmp_path / "out"):
            pass
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([names[1], "out"])

    def test_what_another_process_writes_stays(self, tmp_path: Path) -> None:
        with replacing_folder(tmp_path / "out") as first:
            with replacing_folder(tmp_path / "out") as second:
                (second / "a").write_text("x")
            assert first.is_dir()
            with pytest.raises(OSError, match="not empty"):  # the other one was first
                (tmp_path / "out").rmdir()
            (tmp_path / "out" / "a").unlink()
