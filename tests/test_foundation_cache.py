"""Cached features: a frame is encoded once, views read its grid, and no bad file stops a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from dimpoint.errors import FrameError
from dimpoint.fdep.cache import FeatureCache
from dimpoint.fdep.encoder import FoundationEncoder
from dimpoint.fdep.grids import (
    FrameGrids,
    mirrored,
    orientation,
    oriented,
    padding,
    sample,
    upright,
)
from tiny_backbones import saved

PATCH = 7
MARGIN = 14
GIGABYTE = 1 << 30


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> FoundationEncoder:
    return FoundationEncoder(saved(tmp_path_factory.mktemp("dinov2")), taps=2)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> FoundationEncoder:
    return FoundationEncoder(saved(tmp_path_factory.mktemp("other"), seed=1), taps=2)


@pytest.fixture
def told() -> list[str]:
    return []


def _frame(height: int = 42, width: int = 56, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random((height, width), np.float32)


def _cache(folder: Path, encoder: FoundationEncoder, told: list[str], **options: Any) -> FeatureCache:
    limit = options.pop("limit_bytes", GIGABYTE)
    return FeatureCache(folder, encoder, limit, **{"margin": MARGIN, "log": told.append} | options)


def _count_runs(cache: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The list grows with every frame that is encoded."""
    runs: list[int] = []
    encode = cache._encode
    monkeypatch.setattr(cache, "_encode", lambda pixels: runs.append(1) or encode(pixels))
    return runs


def _equal(a: FrameGrids, b: FrameGrids) -> bool:
    same = (a.before, a.covered) == (b.before, b.covered)
    return same and all(torch.equal(x, y) for x, y in zip(a.taps, b.taps, strict=True))


def test_a_worker_process_encodes_on_the_processor(
    tmp_path: Path, encoder: FoundationEncoder, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker cannot use the graphics card of its parent; here that card is a device without values."""
    here = _cache(tmp_path / "a", encoder, told).get(_frame())
    there = _cache(tmp_path / "b", encoder, told, device="meta")
    monkeypatch.setattr("dimpoint.fdep.cache.get_worker_info", lambda: "worker 0 of 2")
    assert _equal(there.get(_frame()), here)


class TestPadding:
    @pytest.mark.parametrize(
        ("side", "cell", "margin", "expected"),
        [
            (56, 7.0, 14, (14, 14)),  # whole patches
            (50, 7.0, 14, (14, 20)),  # up to the next patch
            (56, 7.0, 10, (14, 14)),  # the margin too is whole patches
            (56, 7.0, 0, (0, 0)),
            (1, 7.0, 0, (0, 6)),
            (64, 3.5, 7, (7, 10)),  # patch 7, magnification 2: up to a whole pixel
        ],
    )
    def test_whole_cells_cover_frame_and_margin(
        self, side: int, cell: float, margin: int, expected: tuple[int, int]
    ) -> None:
        before, after = padding(side, cell, margin)
        assert (before, after) == expected
        cells = (before + side + after) / cell
        assert abs(cells - round(cells)) * cell < 1

    def test_around_the_frame_lies_its_mirror_image(self) -> None:
        frame = _frame(20, 30)
        expected = cv2.copyMakeBorder(frame, 5, 6, 7, 8, cv2.BORDER_REFLECT_101)
        np.testing.assert_array_equal(mirrored(frame, (5, 7), (31, 45)), expected)

    @pytest.mark.parametrize("shape", [(1, 1), (2, 3), (1, 9)])
    def test_frames_smaller_than_the_margin(
        self, shape: tuple[int, int], encoder: Any, tmp_path: Path
    ) -> None:
        grids = _cache(tmp_path, encoder, []).get(_frame(*shape))
        assert all(grid.isfinite().all() for grid in grids.taps)


class TestGrids:
    def test_hold_what_the_encoder_gives_for_the_padded_frame(self, encoder: Any, tmp_path: Path) -> None:
        frame = _frame()
        grids = _cache(tmp_path, encoder, []).get(frame)
        padded = cv2.copyMakeBorder(frame, 14, 14, 14, 14, cv2.BORDER_REFLECT_101)
        direct = encoder(torch.from_numpy(padded)[None, None])
        assert (grids.before, grids.covered) == ((14, 14), (70, 84))
        for ours, theirs in zip(grids.taps, direct, strict=True):
            assert ours.dtype == torch.float16
            assert torch.equal(ours, theirs[0].permute(1, 2, 0).half())

    def test_do_not_depend_on_the_runs_precision(self, encoder: Any, tmp_path: Path) -> None:
        plain = _cache(tmp_path / "a", encoder, []).get(_frame())
        with torch.autocast("cpu", torch.bfloat16):
            mixed = _cache(tmp_path / "b", encoder, []).get(_frame())
        assert _equal(plain, mixed)

    def test_values_beyond_float16_are_cut_not_infinite(
        self, encoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache = _cache(tmp_path, encoder, [])
        monkeypatch.setattr(cache, "encoder", _Huge(encoder))
        assert cache.get(_frame()).taps[0].isfinite().all()

    @pytest.mark.parametrize("name", ["dinov3-vit", "dinov3-convnext"])
    def test_taps_of_different_strides(self, name: str, tmp_path: Path) -> None:
        encoder = FoundationEncoder(saved(tmp_path / name, name))
        grids = _cache(tmp_path, encoder, [], margin=32).get(_frame(64, 96))
        read = sample(grids, _shift(0, 0), 64, 2)
        assert [tuple(grid.shape) for grid in read] == [(depth, 2, 2) for depth in encoder.channels]
        per_tap = sample(grids, _shift(0, 0), 64, (16, 8, 4, 2))
        assert [grid.shape[-1] for grid in per_tap] == [16, 8, 4, 2]


class _Huge:
    def __init__(self, encoder: FoundationEncoder) -> None:
        self.patch, self.magnification, self.taps = encoder.patch, encoder.magnification, encoder.taps

    def __call__(self, frames: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.full((1, 4, 10, 12), 1e6) for _ in self.taps)


def _shift(left: float, top: float, linear: Any = ((1.0, 0.0), (0.0, 1.0))) -> Any:
    """Frame pixels -> view pixels for a crop whose corner lies at (left, top), then a linear map."""
    matrix = np.asarray(linear, float)
    return np.hstack([matrix, -(matrix @ np.array([[left], [top]], float))])


def _turned(turns: int, flip: bool, size: int) -> Any:
    """The map of a square view turned by quarters and flipped about its own middle."""
    cos, sin = round(math.cos(turns * math.pi / 2)), round(math.sin(turns * math.pi / 2))
    linear = np.array([[cos * (-1 if flip else 1), -sin], [sin * (-1 if flip else 1), cos]], float)
    middle = np.full(2, (size - 1) / 2)
    return np.hstack([linear, (middle - linear @ middle)[:, None]])


class TestOrientations:
    @pytest.mark.parametrize("turns", range(4))
    @pytest.mark.parametrize("flip", [False, True])
    @pytest.mark.parametrize("angle", [0, 40, -40])
    def test_views_read_the_frame_as_they_are_turned(
        self, turns: int, flip: bool, angle: float, encoder: Any, tmp_path: Path
    ) -> None:
        frame, size = _frame(), 28
        free = np.vstack([cv2.getRotationMatrix2D((13.5, 13.5), angle, 0.8), [0, 0, 1]])
        affine = free[:2] @ np.vstack([_turned(turns, flip, size), [0, 0, 1]])
        straight, rest = upright(frame, affine)
        assert np.array_equal(orientation(rest), np.eye(2))
        assert straight.shape == (frame.shape if turns % 2 == 0 else frame.shape[::-1])
        views = [
            cv2.warpAffine(pixels, matrix, (size, size), borderMode=cv2.BORDER_REFLECT_101)
            for pixels, matrix in ((frame, affine), (straight, rest))
        ]
        np.testing.assert_allclose(views[1], views[0], atol=0.05)  # OpenCV's places are 1/32 pixel apart

        cache = _cache(tmp_path, encoder, [])
        for read, wanted in zip(
            cache.view(frame, affine, size, 4), sample(cache.get(straight), rest, size, 4), strict=True
        ):
            assert torch.equal(read, wanted)
        assert cache.get(straight) is cache.get(oriented(frame, orientation(affine)))

    def test_one_grid_for_all_where_told(self, encoder: Any, tmp_path: Path) -> None:
        cache, affine = _cache(tmp_path, encoder, [], orientations=False), _turned(1, True, 28)
        wanted = sample(cache.get(_frame()), affine, 28, 4)
        assert all(map(torch.equal, cache.view(_frame(), affine, 28, 4), wanted))
        assert len(list(tmp_path.rglob("*.safetensors"))) == 1


class TestSample:
    def _grids(self, encoder: Any, folder: Path) -> FrameGrids:
        return _cache(folder, encoder, []).get(_frame())

    @pytest.mark.parametrize(("left", "top"), [(0, 0), (7, 14), (14, 7), (-7, -14), (28, 14)])
    def test_a_crop_along_the_cells_is_the_grids_crop(
        self, left: int, top: int, encoder: Any, tmp_path: Path
    ) -> None:
        grids = self._grids(encoder, tmp_path)
        row, column = (top + MARGIN) // PATCH, (left + MARGIN) // PATCH
        for read, grid in zip(sample(grids, _shift(left, top), 28, 4), grids.taps, strict=True):
            expected = grid[row : row + 4, column : column + 4].permute(2, 0, 1).float()
            assert read.dtype == torch.float32
            assert torch.equal(read, expected)

    @pytest.mark.parametrize("turns", range(4))
    @pytest.mark.parametrize("flip", [False, True])
    def test_flips_and_quarter_turns_move_cells_whole(
        self, turns: int, flip: bool, encoder: Any, tmp_path: Path
    ) -> None:
        # A numbered grid, turned by OpenCV's own map of pixels, says where each cell belongs.
        size, cells = 42, 6
        affine = _turned(turns, flip, size)
        numbers = np.arange(cells * cells, dtype=np.float32).reshape(cells, cells)
        pixels = np.kron(numbers, np.ones((PATCH, PATCH), np.float32))
        moved = cv2.warpAffine(pixels, affine, (size, size))[PATCH // 2 :: PATCH, PATCH // 2 :: PATCH]
        order = moved.round().astype(int).ravel()
        assert sorted(order) == list(range(cells * cells))

        grids = self._grids(encoder, tmp_path)
        for read, grid in zip(sample(grids, affine, size, cells), grids.taps, strict=True):
            frame_cells = grid[2:8, 2:8].reshape(cells * cells, -1).float()
            assert torch.equal(read, frame_cells[order].T.reshape(-1, cells, cells))

    def test_between_cells_it_blends_bilinearly(self, encoder: Any, tmp_path: Path) -> None:
        grids = self._grids(encoder, tmp_path)
        half = sample(grids, _shift(PATCH / 2, 0), 28, 4)[0]
        grid = grids.taps[0].float()
        expected = (grid[2:6, 2:6] + grid[2:6, 3:7]) / 2
        torch.testing.assert_close(half, expected.permute(2, 0, 1), rtol=1e-4, atol=1e-5)

    def test_a_magnified_view_reads_fewer_cells(self, encoder: Any, tmp_path: Path) -> None:
        grids = self._grids(encoder, tmp_path)
        # The view's pixel u lies at (u - 0.5) / 2 in the frame: edges on edges.
        doubled = np.array([[2.0, 0, 0.5], [0, 2.0, 0.5]])
        read = sample(grids, doubled, 56, 4)[0]
        torch.testing.assert_close(read, sample(grids, _shift(0, 0), 28, 4)[0])

    def test_beyond_the_margin_the_grid_is_mirrored(self, encoder: Any, tmp_path: Path) -> None:
        grids = self._grids(encoder, tmp_path)
        read = sample(grids, _shift(-MARGIN - 4 * PATCH, 0), 28, 4)[0]
        expected = grids.taps[0][2:6, [4, 3, 2, 1]].permute(2, 0, 1).float()
        assert torch.equal(read, expected)

    def test_far_outside_everything_stays_finite(self, encoder: Any, tmp_path: Path) -> None:
        grids = self._grids(encoder, tmp_path)
        for left in (-1e4, 1e4):
            assert all(grid.isfinite().all() for grid in sample(grids, _shift(left, left), 28, 4))

    def test_a_grid_of_one_cell(self) -> None:
        grids = FrameGrids((torch.full((1, 1, 3), 2.0, dtype=torch.float16),), (0, 0), (7, 7))
        assert torch.equal(sample(grids, _shift(-3, 9), 28, 4)[0], torch.full((3, 4, 4), 2.0))

    def test_follows_the_pixels_of_any_view(self, tmp_path: Path) -> None:
        """A smooth ramp as features: what is read is the ramp at the view's places, whatever the map."""
        rows, columns = np.mgrid[0:20, 0:24] * 4.0 + 1.5  # centres of 4-pixel cells
        ramp = torch.from_numpy(np.stack([columns - 8, rows - 8], -1)).half()
        grids = FrameGrids((ramp,), (8, 8), (80, 96))
        cos, sin = 1.2 * math.cos(0.4), 1.2 * math.sin(0.4)
        affine = np.array([[-cos, -sin, 60.0], [-sin, cos, 9.0]])
        read = sample(grids, affine, 32, 8)[0].numpy().reshape(2, -1)
        x, y = (axis.ravel() for axis in np.meshgrid(np.arange(8) * 4 + 1.5, np.arange(8) * 4 + 1.5))
        back = cv2.invertAffineTransform(affine)
        np.testing.assert_allclose(read, back @ np.stack([x, y, np.ones_like(x)]), atol=0.05)


class TestFiles:
    def test_computed_once_then_read(
        self, encoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
    ) -> None:
        first = _cache(tmp_path, encoder, told)
        runs = _count_runs(first, monkeypatch)
        grids = first.get(_frame())
        assert first.get(_frame()) is grids  # from memory
        assert len(runs) == 1
        assert len(list(tmp_path.rglob("*.safetensors"))) == 1
        later = _cache(tmp_path, encoder, told)
        runs = _count_runs(later, monkeypatch)
        assert _equal(later.get(_frame()), grids)
        assert not runs
        assert not told

    @pytest.mark.parametrize("change", ["frame", "encoder", "margin"])
    def test_another_frame_encoder_or_margin_is_computed(
        self,
        change: str,
        encoder: Any,
        other: Any,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        _cache(tmp_path, encoder, []).get(_frame())
        used = other if change == "encoder" else encoder
        cache = _cache(tmp_path, used, [], margin=7 if change == "margin" else MARGIN)
        runs = _count_runs(cache, monkeypatch)
        frame = _frame()
        if change == "frame":
            frame[3, 4] += 1e-3  # a new version of the same frame
        cache.get(frame)
        assert len(runs) == 1
        assert len(list(tmp_path.rglob("*.safetensors"))) == 2

    @pytest.mark.parametrize(
        "damage",
        [
            lambda content: b"",
            lambda content: b"\xff" * 8,
            lambda content: content[: len(content) // 2],
            lambda content: content[:-1] + bytes([content[-1] ^ 1]),  # one bit of one value
            lambda content: content.replace(b"before", b"beFore"),
        ],
    )
    def test_a_damaged_file_is_computed_and_written_again(
        self, damage: Any, encoder: Any, tmp_path: Path, told: list[str]
    ) -> None:
        grids = _cache(tmp_path, encoder, told).get(_frame())
        (file,) = tmp_path.rglob("*.safetensors")
        content = file.read_bytes()
        file.write_bytes(damage(content))
        assert _equal(_cache(tmp_path, encoder, told).get(_frame()), grids)
        assert file.read_bytes() == content
        assert not told

    def test_a_file_of_another_frame_or_encoder_under_this_name(
        self, encoder: Any, other: Any, tmp_path: Path
    ) -> None:
        expected = _cache(tmp_path / "a", encoder, []).get(_frame())
        _cache(tmp_path / "b", other, []).get(_frame())
        _cache(tmp_path / "c", encoder, []).get(_frame(seed=1))
        (file,) = (tmp_path / "a").rglob("*.safetensors")
        for folder in ("b", "c"):
            (foreign,) = (tmp_path / folder).rglob("*.safetensors")
            file.write_bytes(foreign.read_bytes())
            assert _equal(_cache(tmp_path / "a", encoder, []).get(_frame()), expected)

    def test_beyond_the_limit_nothing_is_written_and_it_is_said_once(
        self, encoder: Any, tmp_path: Path, told: list[str]
    ) -> None:
        probe = _cache(tmp_path / "probe", encoder, []).get(_frame())
        cache = _cache(tmp_path / "real", encoder, told, limit_bytes=int(2.5 * probe.nbytes))
        for seed in range(4):
            assert cache.get(_frame(seed=seed)).nbytes == probe.nbytes
        assert len(list((tmp_path / "real").rglob("*.safetensors"))) == 2
        assert len(told) == 1
        assert "limit" in told[0]

    def test_the_limit_counts_what_lies_there_already(
        self, encoder: Any, other: Any, tmp_path: Path, told: list[str]
    ) -> None:
        size = _cache(tmp_path, other, []).get(_frame()).nbytes
        _cache(tmp_path, encoder, told, limit_bytes=size + size // 2).get(_frame())
        assert len(list(tmp_path.rglob("*.safetensors"))) == 1
        assert len(told) == 1

    def test_a_full_disk_is_said_once_and_the_run_goes_on(
        self, encoder: Any, tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(self: Path, content: bytes) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        cache = _cache(tmp_path, encoder, told, memory_bytes=0)
        first = cache.get(_frame())
        assert _equal(cache.get(_frame()), first)
        cache.get(_frame(seed=1))
        assert len(told) == 1
        assert "No space left on device" in told[0]
        assert not [file for file in tmp_path.rglob("*") if file.is_file()]

    def test_a_folder_that_cannot_be_made(self, encoder: Any, tmp_path: Path, told: list[str]) -> None:
        (tmp_path / "file").write_text("")
        assert _cache(tmp_path / "file" / "cache", encoder, told).get(_frame()).nbytes
        assert len(told) == 1

    def test_memory_keeps_the_latest(
        self, encoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        size = _cache(tmp_path, encoder, []).get(_frame()).nbytes
        cache = _cache(tmp_path, encoder, [], memory_bytes=2 * size, limit_bytes=0)
        runs = _count_runs(cache, monkeypatch)
        for seed in (1, 2, 1, 3, 1):  # 3 drives 2 out, not 1
            cache.get(_frame(seed=seed))
        assert len(runs) == 3
        cache.get(_frame(seed=2))
        assert len(runs) == 4

    @pytest.mark.parametrize(
        "frame",
        [
            np.zeros((4, 4), np.uint8),
            np.zeros((0, 4), np.float32),
            np.zeros((1, 4, 4), np.float32),
        ],
    )
    def test_other_arrays_are_refused(self, frame: Any, encoder: Any, tmp_path: Path) -> None:
        with pytest.raises(FrameError, match="takes \\(H, W\\) float32"):
            _cache(tmp_path, encoder, []).get(frame)
