"""Probabilities in windows of large frames: those of the whole frame, at the cost of a few tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from dimpoint.errors import ConfigError
from dimpoint.inference.detector import Detector
from dimpoint.inference.windows import WHOLE, Window, plan_windows, probability_at
from dimpoint.model.intensity import IntensityRule
from dimpoint.model.record import DecodeRule, ModelMeta
from tiny_models import RADIUS, blob_kernel, blob_meta, write_model

SIDE = 64  # a quarter of it is the narrowest margin
SHAPE = (300, 413)
COMPONENTS = DecodeRule(kind="components", threshold=0.5)


def filter_meta(**changes: Any) -> ModelMeta:
    """The record of a blob filter that gives each pixel a probability."""
    return blob_meta(**({"kind": "probability", "stride": 1, "decode": COMPONENTS} | changes))


def window(x: int, y: int, shape: tuple[int, int] = SHAPE, reach: int = 5) -> Window:
    """The window around a point, cut at the frame's borders."""
    rows, columns = (
        slice(max(at - reach, 0), min(at + reach + 1, end)) for at, end in zip((y, x), shape, strict=True)
    )
    return rows, columns


class Counted:
    """A backend that keeps the shapes of what it runs."""

    def __init__(self, path: Path) -> None:
        self.inner = Detector(path, threads=1).backend
        self.meta = self.inner.meta
        self.shapes: list[tuple[int, ...]] = []

    def run(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        self.shapes.append(frames.shape)
        return self.inner.run(frames)

    @property
    def pixels(self) -> int:
        return sum(count * height * width for count, _, height, width in self.shapes)


def counted(tmp_path: Path, meta: ModelMeta | None = None) -> tuple[Detector, Counted]:
    path = write_model(tmp_path / "m.onnx", meta or filter_meta(), kernel=blob_kernel())
    backend = Counted(path)
    return Detector(backend), backend


@pytest.mark.parametrize(
    "places",
    [
        [(200, 150)],
        [(0, 0), (412, 299), (0, 299), (412, 0)],  # corners, where tiles end with the padded frame
        [(411, 160), (200, 298)],  # beside two borders
        [(200, 150), (204, 153), (213, 150)],  # in one tile
        [(100, 100), (140, 100)],  # too far apart for one tile
    ],
    ids=["middle", "corners", "borders", "close", "apart"],
)
def test_windows_hold_the_probabilities_of_the_whole_frame(
    places: list[tuple[int, int]], tmp_path: Path
) -> None:
    assert SIDE // 4 > RADIUS
    frame = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    detector, backend = counted(tmp_path)
    windows = [window(*place) for place in places]
    found = probability_at(detector, frame, windows, SIDE)
    assert 0 < backend.pixels <= len(places) * SIDE**2
    whole = detector.probability_map(frame)
    inside = np.zeros(SHAPE, np.bool_)
    for part in windows:
        inside[part] = True
        np.testing.assert_allclose(found[part], whole[part], atol=1e-6)
    assert found[inside].max() > 0.3
    assert not found[~inside].any()


def test_a_margin_that_is_narrower_than_the_receptive_field_shows(tmp_path: Path) -> None:
    """So the test above can fail."""
    wide = np.full((41, 41), 1 / 41**2, np.float32)
    detector = Detector(write_model(tmp_path / "m.onnx", filter_meta(receptive_radius=20), kernel=wide))
    frame = np.full(SHAPE, 255, np.uint8)
    part = window(200, 150)
    found = probability_at(detector, frame, [part], 32)[part]
    assert np.abs(found - detector.probability_map(frame)[part]).max() > 0.05


def test_close_windows_share_a_tile_and_distant_ones_do_not() -> None:
    close = plan_windows(SHAPE, [window(200, 150), window(210, 150)], SIDE, 8)
    apart = plan_windows(SHAPE, [window(100, 150), window(200, 150)], SIDE, 8)
    assert close is not None
    assert apart is not None
    assert [len(inside) for _, inside in close] == [2]
    assert [len(inside) for _, inside in apart] == [1, 1]


@pytest.mark.parametrize("multiple", [1, 8, 16])
@pytest.mark.parametrize("shape", [(257, 401), (1000, 64), (40, 2000)], ids=str)
def test_every_window_lies_in_its_tile_and_every_tile_in_the_padded_frame(
    shape: tuple[int, int], multiple: int
) -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        windows = [
            window(int(rng.integers(shape[1])), int(rng.integers(shape[0])), shape)
            for _ in range(int(rng.integers(1, 4)))
        ]
        planned = plan_windows(shape, windows, SIDE, multiple)
        if planned is None:
            continue
        assert sum(len(inside) for _, inside in planned) == len(windows)
        for tile, inside in planned:
            for span, end in zip((tile.rows, tile.columns), shape, strict=True):
                assert span.start >= 0
                assert span.start % multiple == (span.stop - span.start) % multiple == 0
                assert span.stop < end + multiple
            for rows, columns in inside:
                assert tile.rows.start <= rows.start < rows.stop <= tile.rows.stop
                assert tile.columns.start <= columns.start < columns.stop <= tile.columns.stop


def test_a_frame_of_few_tiles_is_predicted_whole() -> None:
    side = SIDE * WHOLE // 2
    assert plan_windows((side, side), [window(20, 20)], SIDE, 8) is None
    assert plan_windows((side, side + 8), [window(20, 20)], SIDE, 8) is not None


def test_many_windows_are_predicted_with_the_whole_frame() -> None:
    grid = [window(x, y) for x in range(5, 413, 40) for y in range(5, 300, 40)]
    assert plan_windows(SHAPE, grid, SIDE, 8) is None


def test_a_window_longer_than_a_tile_makes_the_tile_larger() -> None:
    planned = plan_windows((2000, 2000), [window(1000, 1000, (2000, 2000), reach=50)], SIDE, 8)
    assert planned is not None
    assert planned[0][0].rows.stop - planned[0][0].rows.start == 208  # twice 101, in eights


def test_the_intensity_range_is_that_of_the_whole_frame(tmp_path: Path) -> None:
    rule = IntensityRule(kind="percentile", low=1, high=99)
    detector, backend = counted(tmp_path, filter_meta(intensity=rule))
    rng = np.random.default_rng(0)
    frame = rng.normal(1000, 30, SHAPE)
    frame[:, 300:] += 5000  # bright ground far from the window
    frame[150, 100] = 3000
    frame = frame.astype(np.uint16)
    part = window(100, 150)
    found = probability_at(detector, frame, [part], SIDE)[part]
    assert backend.pixels == SIDE**2
    np.testing.assert_allclose(found, detector.probability_map(frame)[part], atol=1e-6)


def test_invalid_pixels_hold_no_probability(tmp_path: Path) -> None:
    detector, _ = counted(tmp_path)
    frame = np.zeros(SHAPE, np.float32)
    frame[150, 200], frame[150, 201] = 1, np.nan
    part = window(200, 150)
    found = probability_at(detector, frame, [part], SIDE)
    assert found[150, 200] > 0.2
    assert found[150, 201] == 0
    np.testing.assert_allclose(found[part], detector.probability_map(frame)[part], atol=1e-6)


def test_magnified_frames_are_predicted_whole(tmp_path: Path) -> None:
    detector, backend = counted(tmp_path, filter_meta(scale=2))
    frame = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    found = probability_at(detector, frame, [window(200, 150)], SIDE)
    assert backend.pixels >= 4 * frame.size
    assert np.array_equal(found, detector.probability_map(frame))


def test_models_of_points_are_refused(tmp_path: Path) -> None:
    detector = Detector(write_model(tmp_path / "blob.onnx"))
    with pytest.raises(ConfigError, match="'blob' gives responses to points"):
        probability_at(detector, np.zeros(SHAPE, np.uint8), [window(200, 150)], SIDE)
