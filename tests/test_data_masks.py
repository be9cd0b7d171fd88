"""Mask files: reading, thresholds, and fitting them to their frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from data_sets import save
from dimpoint.datasets.masks import centroids, clean_mask, fit_mask, is_binary, read_mask_file
from dimpoint.errors import DataError, FrameError


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        ([], []),  # an empty mask has no target
        ([(0, 0)], [[0, 0]]),  # the centre of the top-left pixel is (0, 0)
        ([(2, 1), (3, 1)], [[2.5, 1]]),
        ([(2, 1), (3, 2)], [[2.5, 1.5]]),  # diagonal neighbours are one target
        ([(5, 0), (1, 3)], [[5, 0], [1, 3]]),  # in raster order
    ],
)
def test_centroids(pixels: list[tuple[int, int]], expected: list[list[float]]) -> None:
    mask = np.zeros((5, 7), bool)
    for x, y in pixels:
        mask[y, x] = True
    points = centroids(mask)
    assert points.dtype == np.float32
    assert points.shape == (len(expected), 2)
    assert points.tolist() == expected


@pytest.mark.parametrize(
    ("values", "binary"),
    [
        (np.uint8([[0, 255]]), True),
        (np.uint8([[0, 0]]), True),  # empty
        (np.uint8([[255, 255]]), True),
        (np.uint8([[0, 1]]), False),
        (np.uint8([[0, 254, 255]]), False),
        (np.array([[True, False]]), True),
        (np.uint16([[0, 65535]]), True),  # full scale of 16 bits
        (np.uint16([[0, 255]]), True),
        (np.uint16([[0, 256]]), False),
        (np.float32([[0, 1]]), False),
        (np.float32([[0, 255]]), True),
    ],
)
def test_is_binary(values: npt.NDArray[np.uint8], binary: bool) -> None:
    assert is_binary(values) is binary


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 127, 128, 255], [False, False, True, True]),  # the threshold is 127
        ([0, 0], [False, False]),
        ([0, 1], [False, True]),  # one small value can only mean target
        ([0, 38], [False, True]),
        ([0, 1, 255], [False, False, True]),  # beside full values a small one is below the threshold
    ],
)
def test_clean_mask(values: list[int], expected: list[bool]) -> None:
    assert clean_mask(np.uint8([values]), "m.png").tolist() == [expected]


def test_clean_mask_refuses_several_faint_values() -> None:
    with pytest.raises(DataError, match=r"m\.png: several mask values, none above 127"):
        clean_mask(np.uint8([[0, 3, 90]]), "m.png")


def test_reading_refuses_a_mask_that_would_lose_all_its_targets(tmp_path: Path) -> None:
    save(tmp_path / "m.png", np.uint8([[0, 1], [0, 0]]))
    with pytest.raises(DataError, match=r"m\.png: mask values reach only 1, but a target is above 127"):
        read_mask_file(tmp_path / "m.png")


@pytest.mark.parametrize("values", [np.array([[True, False]]), np.uint8([[255, 0]]), np.float32([[255, 0]])])
def test_npy_masks(tmp_path: Path, values: npt.NDArray[np.uint8]) -> None:
    np.save(tmp_path / "m.npy", values)
    assert read_mask_file(tmp_path / "m.npy").tolist() == [[True, False]]


def test_unreadable_masks(tmp_path: Path) -> None:
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2)))
    np.save(tmp_path / "empty.npy", np.zeros((0, 2)))
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "text.png").write_text("no picture")
    for name in ("cube.npy", "empty.npy", "pickle.npy", "text.npy", "text.png", "missing.png", "missing.npy"):
        with pytest.raises(FrameError, match=name):
            read_mask_file(tmp_path / name)


def test_a_mask_of_the_same_shape_is_resized_by_nearest_neighbour() -> None:
    mask = np.zeros((4, 6), bool)
    mask[1, 2] = True
    assert fit_mask(mask, (4, 6), "m.png") is mask
    doubled = fit_mask(mask, (8, 12), "m.png")
    assert np.array_equal(doubled, mask.repeat(2, 0).repeat(2, 1))
    assert np.array_equal(fit_mask(doubled, (4, 6), "m.png"), mask)


@pytest.mark.parametrize(
    ("size", "fits"),
    [
        ((400, 592), True),  # NUAA-SIRST Misc_111: 0.2 % off
        ((100, 100), True),
        ((100, 102), True),  # 2 %
        ((102, 100), True),
        ((100, 103), False),
        ((103, 100), False),
        ((200, 100), False),
    ],
)
def test_aspect_ratios_must_agree_within_two_per_cent(size: tuple[int, int], fits: bool) -> None:
    frame = (220, 325) if size == (400, 592) else (50, 50)
    mask = np.ones(size, bool)
    if fits:
        assert fit_mask(mask, frame, "m.png").shape == frame
    else:
        with pytest.raises(DataError, match=rf"m\.png: the mask is {size[1]}x{size[0]} .* frame is 50x50"):
            fit_mask(mask, frame, "m.png")
