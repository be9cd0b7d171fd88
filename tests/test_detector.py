"""`Detector`: any frame in, positions in that frame out, tiled or not, one by one or in batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dimpoint.errors import ConfigError, FrameError, ModelFileError
from dimpoint.inference.detections import Detections
from dimpoint.inference.detector import Detector
from dimpoint.inference.maps import plan_tiles
from dimpoint.inference.stream import predict
from dimpoint.model.intensity import IntensityRule
from dimpoint.model.record import DecodeRule, ModelMeta
from dimpoint.sources.frames import Frame
from tiny_models import RADIUS, blob_meta, spots, write_model

SMALLEST_BUDGET = 1  # MB: the least tiles, 40 x 40 or little more


@pytest.fixture(scope="module")
def blob(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "blob.onnx")


@pytest.fixture(scope="module")
def magnified_blob(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "blob2.onnx", blob_meta(scale=2, multiple=2))


class Recorder:
    """A backend that keeps what it is given and answers with a constant."""

    def __init__(self, answer: float = 0.0, **meta: Any) -> None:
        self.meta: ModelMeta = blob_meta(**meta)
        self.inputs: list[npt.NDArray[np.float32]] = []
        self.answer = answer

    def run(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        self.inputs.append(frames)
        count, _, height, width = frames.shape
        shape = (count, 1, height // self.meta.stride, width // self.meta.stride)
        return np.full(shape, self.answer, np.float32)


def assert_found(found: Detections, xy: npt.ArrayLike, within: float) -> None:
    """Each of the true positions is found once, and nothing else."""
    truth = np.asarray(xy, float).reshape(-1, 2)
    apart = np.linalg.norm(found.xy[:, None] - truth[None], axis=2)
    assert (apart < within).sum(axis=0).tolist() == [1] * len(truth)
    assert len(found) == len(truth)


# Positions


@pytest.mark.parametrize(("scale", "native"), [(1, 0), (2, 0), (2, 0.5), (2, 0.8)])
def test_positions_are_those_of_the_original_frame(scale: int, native: float, tmp_path: Path) -> None:
    """A systematic shift, such as half a pixel forgotten in the magnification, would show in the mean."""
    record = blob_meta(scale=scale, native_share=native)
    detector = Detector(write_model(tmp_path / "model.onnx", record), threads=1)
    rng = np.random.default_rng(0)
    truth = np.array([(30 + 30 * i, 30 + 30 * j) for i in range(6) for j in range(5)], float)
    truth += rng.uniform(-1, 1, truth.shape)
    found = detector(spots((210, 240), truth))
    assert_found(found, truth, within=0.3)
    nearest = np.linalg.norm(found.xy[:, None] - truth[None], axis=2).argmin(axis=1)
    np.testing.assert_allclose((found.xy - truth[nearest]).mean(axis=0), 0, atol=0.05)


def test_only_small_frames_are_magnified(tmp_path: Path) -> None:
    record = blob_meta(scale=2, magnify_below=6401)
    detector = Detector(write_model(tmp_path / "model.onnx", record), threads=1)
    assert (record.input.scale_of((80, 80)), record.input.scale_of((80, 81))) == (2, 1)
    always = Detector(write_model(tmp_path / "always.onnx", blob_meta(scale=2)), threads=1)
    never = Detector(write_model(tmp_path / "never.onnx", blob_meta()), threads=1)
    small, large = spots((80, 80), [(20.4, 30.2)]), spots((80, 81), [(20.4, 30.2)])
    np.testing.assert_array_equal(detector(small).xy, always(small).xy)
    np.testing.assert_array_equal(detector(large).xy, never(large).xy)
    assert always(small).scores[0] != pytest.approx(never(small).scores[0], abs=1e-3)
    together = list(detector.detect_many([small, large, small], batch=3))
    for found, frame in zip(together, (small, large, small), strict=True):
        np.testing.assert_allclose(found.xy, detector(frame).xy, atol=1e-4)


def test_magnified_frames_are_also_seen_as_they_are(tmp_path: Path) -> None:
    """The response is that of the magnified frame averaged with that of the frame as it is."""
    small = np.random.default_rng(0).integers(0, 65536, (60, 81)).astype(np.uint16)
    plain = {
        scale: Detector(write_model(tmp_path / f"{scale}.onnx", blob_meta(scale=scale)), threads=1)
        for scale in (1, 2)
    }
    record = blob_meta(scale=2, magnify_below=5000, native_share=0.25)
    both = Detector(write_model(tmp_path / "both.onnx", record), threads=1)
    response, magnified = (d._response(d._measured(small)) for d in (both, plain[2]))
    native = (response - 0.75 * magnified) / 0.25
    # Pixel i of the magnified map lies at i - 1/4 of the frame, j of the other at 2 j.
    expected = plain[1]._response(plain[1]._measured(small))
    for row, column in [(9, 21), (20, 32), (41, 40)]:
        y, x = (row - 0.25) / 2, (column - 0.25) / 2
        i, j = int(y), int(x)
        around = expected[i : i + 2, j : j + 2]
        between = np.array([1 - y + i, y - i]) @ around @ np.array([1 - x + j, x - j])
        assert native[row, column] == pytest.approx(between, abs=2e-2)  # OpenCV takes 1/32 pixel steps
    large = np.vstack([small, small])
    np.testing.assert_array_equal(
        both._response(both._measured(large)), plain[1]._response(plain[1]._measured(large))
    )


def test_result_names_frame_size_and_model(blob: Path) -> None:
    found = Detector(blob, threads=1)(spots((50, 70), [(20, 30)]))
    assert (found.width, found.height, found.model, found.areas) == (70, 50, "blob", None)
    assert found.xy.dtype == found.scores.dtype == np.float32


@pytest.mark.parametrize(("dtype", "full"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1.0)])
def test_every_frame_type_is_mapped_to_the_same_range(dtype: Any, full: float, blob: Path) -> None:
    frame = spots((64, 64), [(20.3, 30.6), (45, 12)])
    found = Detector(blob, threads=1)((frame * full).round(0 if full > 1 else 7).astype(dtype))
    expected = Detector(blob, threads=1)(frame)
    np.testing.assert_allclose(found.xy, expected.xy, atol=0.02)
    np.testing.assert_allclose(found.scores, expected.scores, atol=0.01)


@pytest.mark.parametrize(
    "shape",
    [
        (1, 1),  # less than any multiple
        (1, 300),
        (300, 1),
        (5, 7),  # padding wider than the frame
        (63, 65),
        (64, 64),  # already a multiple
    ],
)
def test_frames_of_any_size(shape: tuple[int, int], blob: Path, magnified_blob: Path) -> None:
    y, x = (min(side // 2, 30) for side in shape)
    for path in (blob, magnified_blob):
        found = Detector(path, threads=1, threshold=0.2)(spots(shape, [(x, y)]))
        assert ((found.xy >= 0) & (found.xy <= [shape[1] - 1, shape[0] - 1])).all()
        if min(shape) > 60:
            assert_found(found, [(x, y)], within=0.3)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.integers(50, 90), st.integers(50, 90))
def test_the_frame_size_does_not_move_a_target(blob: Path, height: int, width: int) -> None:
    found = Detector(blob, threads=1)(spots((height, width), [(25.3, 31.8)]))
    expected = Detector(blob, threads=1)(spots((120, 120), [(25.3, 31.8)]))
    np.testing.assert_allclose(found.xy, expected.xy, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "padded"),
    [((5, 7), (8, 8)), ((8, 8), (8, 8)), ((9, 17), (16, 24)), ((1, 1), (8, 8))],
)
def test_padding_mirrors_the_frame_to_the_right_and_below(
    shape: tuple[int, int], padded: tuple[int, int]
) -> None:
    backend = Recorder()
    frame = np.random.default_rng(0).random(shape).astype(np.float32)
    Detector(backend)(frame)
    (given_frame,) = backend.inputs
    added = [(0, new - old) for old, new in zip(shape, padded, strict=True)]
    np.testing.assert_array_equal(given_frame[0, 0], np.pad(frame, added, mode="reflect"))


def test_padding_with_the_mean_is_zero_once_standardised() -> None:
    backend = Recorder(padding="mean", mean=[0.4], std=[0.2])
    frame = np.random.default_rng(0).random((9, 17)).astype(np.float32)
    Detector(backend)(frame)
    expected = np.pad(frame, [(0, 7), (0, 7)], constant_values=0.4)
    np.testing.assert_array_equal(backend.inputs[0][0, 0], expected)


def test_targets_in_the_padding_are_not_reported(blob: Path) -> None:
    """57 is padded to 64, where the mirror image of 52 lies at 60."""
    assert_found(Detector(blob, threads=1)(spots((57, 57), [(52, 30)])), [(52, 30)], within=0.3)


def test_padded_size_is_a_multiple_of_the_stride_too() -> None:
    backend = Recorder(stride=4, multiple=6)
    Detector(backend)(np.zeros((13, 5), np.uint8))
    assert backend.inputs[0].shape == (1, 1, 24, 12)


# Tiles


@pytest.mark.parametrize(("scale", "native"), [(1, 0), (2, 0), (2, 0.5)])
@pytest.mark.parametrize(
    "shape",
    [
        (200, 200),  # several tiles both ways
        (201, 333),  # odd, not square, padded
        (30, 500),  # one row of tiles
        (500, 9),  # one column
        (65, 64),  # the last tile is mostly padding
    ],
)
def test_tiled_responses_and_points_are_those_of_the_whole_frame(
    shape: tuple[int, int], scale: int, native: float, tmp_path: Path
) -> None:
    multiple = 8 if scale == 1 else 2
    record = blob_meta(scale=scale, multiple=multiple, native_share=native, replace_hot_pixels=True)
    path = write_model(tmp_path / "model.onnx", record)
    frame = np.random.default_rng(1).integers(0, 65536, shape).astype(np.uint16)
    whole = Detector(path, threads=1, threshold=0.1)
    tiled = Detector(path, threads=1, threshold=0.1, memory_mb=SMALLEST_BUDGET)
    np.testing.assert_allclose(
        tiled._response(tiled._measured(frame)), whole._response(whole._measured(frame)), atol=1e-4
    )
    np.testing.assert_allclose(tiled(frame).xy, whole(frame).xy, atol=1e-3)
    assert len(whole(frame)) > 10


def test_an_overlap_that_is_too_narrow_would_show(tmp_path: Path) -> None:
    """So the test above can fail: with a radius of 0 the tiles' edges are seen."""
    path = write_model(tmp_path / "blind.onnx", blob_meta(receptive_radius=0))
    frame = np.random.default_rng(1).random((200, 200)).astype(np.float32)
    whole, tiled = Detector(path, threads=1), Detector(path, threads=1, memory_mb=SMALLEST_BUDGET)
    assert (
        np.abs(tiled._response(tiled._measured(frame)) - whole._response(whole._measured(frame))).max() > 0.05
    )


def test_targets_on_seams_are_found_once(blob: Path) -> None:
    detector = Detector(blob, threads=1, memory_mb=SMALLEST_BUDGET)
    height, width = 248, 296
    tiles = plan_tiles(height, width, pixels=2**20 // 512, margin=RADIUS, multiple=8)
    seams = [
        sorted({span.core_stop for span in spans} - {height, width})
        for spans in ({tile.rows for tile in tiles}, {tile.columns for tile in tiles})
    ]
    assert len(seams[0]) > 2
    assert len(seams[1]) > 2
    rng = np.random.default_rng(2)
    targets = [(x + rng.uniform(-2, 2), y + rng.uniform(-2, 2)) for y in seams[0][::2] for x in seams[1][::2]]
    assert_found(detector(spots((height, width), targets)), targets, within=0.3)


def test_tiles_are_mapped_by_the_limits_of_the_whole_frame(tmp_path: Path) -> None:
    """A dark half must not be stretched on its own."""
    rule = IntensityRule(kind="percentile", low=0, high=100)
    path = write_model(tmp_path / "model.onnx", blob_meta(intensity=rule))
    frame = np.zeros((100, 400), np.uint16)
    frame[:, 200:] = np.random.default_rng(3).integers(30_000, 60_000, (100, 200))
    frame[50, 100] = 300  # a faint speck on the dark side
    whole, tiled = Detector(path, threads=1), Detector(path, threads=1, memory_mb=SMALLEST_BUDGET)
    np.testing.assert_allclose(tiled(frame).xy, whole(frame).xy, atol=1e-3)


def test_tiles_stay_within_the_budget() -> None:
    backend = Recorder()
    Detector(backend, memory_mb=4)(np.zeros((500, 700), np.uint8))
    assert len(backend.inputs) > 1
    assert max(part.size for part in backend.inputs) <= 4 * 2**20 // 512
    assert len({part.shape for part in backend.inputs}) == 1


# Many frames


def test_many_frames_give_what_each_gives_alone_in_order(blob: Path) -> None:
    detector = Detector(blob, threads=1)
    shapes = [(50, 60), (52, 62), (90, 40), (50, 60), (20, 20), (50, 60), (50, 60)]
    frames = [spots(shape, [(10 + i, 12)]) for i, shape in enumerate(shapes)]
    alone = [detector(frame) for frame in frames]
    for batch in (1, 2, 4):
        many = list(detector.detect_many(frames, batch=batch))
        assert [(one.width, one.height) for one in many] == [(w, h) for h, w in shapes]
        for one, expected in zip(many, alone, strict=True):
            np.testing.assert_allclose(one.xy, expected.xy, atol=1e-4)


@pytest.mark.parametrize(
    ("heights", "batch", "runs"),
    [
        ([], 4, []),  # no frames
        ([40], 4, [1]),
        ([40] * 5, 2, [2, 2, 1]),  # the rest is a smaller batch
        ([40, 37, 33, 50], 4, [3, 1]),  # 33..40 are padded to 40, 50 to 56
        ([40, 50, 40], 4, [1, 1, 1]),  # the order goes first
        ([40, 40], 1, [1, 1]),
    ],
)
def test_frames_of_one_padded_size_run_together(heights: list[int], batch: int, runs: list[int]) -> None:
    backend = Recorder()
    frames = [np.zeros((height, 64), np.uint8) for height in heights]
    assert len(list(Detector(backend).detect_many(frames, batch=batch))) == len(heights)
    assert [len(inputs) for inputs in backend.inputs] == runs


@pytest.mark.parametrize("native", [0, 0.5])
def test_batches_find_what_single_frames_do(native: float, tmp_path: Path) -> None:
    """Frames of one padded size, some of them magnified to it and some of it as they are."""
    record = blob_meta(scale=2, magnify_below=2000, native_share=native)
    detector = Detector(write_model(tmp_path / "model.onnx", record), threads=1)
    shapes = [(40, 40), (37, 38), (40, 40), (80, 80), (73, 77), (40, 40)]
    frames = [spots(shape, [(11.3, 14.8), (25.2, 30.6)]) for shape in shapes]
    for found, frame in zip(detector.detect_many(frames, batch=3), frames, strict=True):
        np.testing.assert_allclose(found.xy, detector(frame).xy, atol=1e-4)
        np.testing.assert_allclose(found.scores, detector(frame).scores, atol=1e-4)
        assert len(found) == 2


def test_a_batch_stays_within_the_budget() -> None:
    backend = Recorder()
    frames = [np.zeros((40, 40), np.uint8)] * 4  # 1,600 pixels each; the budget is 4,096
    list(Detector(backend, memory_mb=2).detect_many(frames, batch=4))
    assert [len(inputs) for inputs in backend.inputs] == [2, 2]


def test_frames_are_taken_one_batch_at_a_time() -> None:
    taken = []

    def endless() -> Iterator[npt.NDArray[np.uint8]]:
        while True:
            taken.append(1)
            yield np.zeros((16, 16), np.uint8)

    results = Detector(Recorder()).detect_many(endless(), batch=2)
    assert len(next(results)) == 0
    assert len(taken) <= 3


# What the model says of itself


def test_sigmoid_is_applied_where_it_is_due(tmp_path: Path) -> None:
    meta = blob_meta(activation="sigmoid", decode=DecodeRule(threshold=0.5))
    path = write_model(tmp_path / "logits.onnx", meta, bias=-0.4)
    found = Detector(path, threads=1)(spots((64, 64), [(20, 20), (40, 40)]))
    assert_found(found, [(20, 20), (40, 40)], within=0.3)
    assert ((found.scores > 0.5) & (found.scores < 0.75)).all()


@pytest.mark.parametrize("scale", [1, 2])
def test_probability_maps_give_areas_in_frame_pixels(scale: int, tmp_path: Path) -> None:
    meta = blob_meta(
        kind="probability",
        stride=1,
        scale=scale,
        decode=DecodeRule(kind="components", threshold=0.5),
    )
    path = write_model(tmp_path / "mask.onnx", meta, kernel=np.ones((1, 1), np.float32))
    frame = np.zeros((40, 50), np.uint8)
    frame[10:14, 20:26] = 255
    found = Detector(path, threads=1)(frame)
    assert_found(found, [(22.5, 11.5)], within=0.01)
    assert found.areas is not None
    assert float(found.areas[0]) == pytest.approx(24, abs=0 if scale == 1 else 3)


def test_scores_stay_within_0_and_1(tmp_path: Path) -> None:
    found = Detector(write_model(tmp_path / "m.onnx"), threads=1)(spots((64, 64), [(20, 20)], height=5))
    assert found.scores.tolist() == [1.0]


def test_threshold_replaces_the_models_own(blob: Path) -> None:
    frame = spots((64, 64), [(20, 20)], height=0.25)
    assert len(Detector(blob, threads=1)(frame)) == 0
    assert len(Detector(blob, threads=1, threshold=0.1)(frame)) == 1


# Bad input


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((0, 0), np.uint8), "empty"),
        (np.zeros((0, 5), np.uint16), "empty"),
        (np.zeros((5, 5, 7), np.uint8), "2-D"),  # no picture
        (np.zeros(5, np.uint8), "2-D"),
        (np.zeros((5, 5), np.complex64), "complex64"),
        (np.full((5, 5), np.nan, np.float32), "no pixel of 25 is finite"),
        (np.array([[-np.inf, np.inf]], np.float32), "no pixel of 2 is finite"),
    ],
)
def test_what_is_no_frame_is_refused(array: npt.NDArray[Any], message: str) -> None:
    detector = Detector(Recorder())
    with pytest.raises(FrameError, match=message):
        detector(array)
    with pytest.raises(FrameError, match="frame number 1"):
        list(detector.detect_many([np.zeros((5, 5), np.uint8), array]))


@pytest.mark.parametrize("batch", [1, 2])
def test_a_frame_that_is_refused_costs_no_other(batch: int) -> None:
    pixels = np.zeros((16, 16), np.uint16)
    frames = [Frame(f"{name}.png", pixels) for name in "abcd"]
    frames[1] = Frame("b.png", pixels, valid=np.zeros((16, 16), np.bool_))
    refused: list[tuple[str, str]] = []
    detector = Detector(Recorder())
    found = list(predict(detector, frames, batch, lambda name, error: refused.append((name, str(error)))))
    assert [each.file for each in found] == ["a.png", "c.png", "d.png"]
    assert refused == [("b.png", "b.png: no pixel is valid")]
    results = predict(detector, frames, batch, None)
    assert next(results).file == "a.png"
    with pytest.raises(FrameError, match=r"^b\.png: no pixel is valid$"):
        next(results)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "threshold"),
        ({"threshold": -0.1}, "threshold"),
        ({"threads": 0}, "threads"),
        ({"memory_mb": 0}, "memory_mb"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Detector(Recorder(), **options)


def test_batch_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch"):
        list(Detector(Recorder()).detect_many([], batch=0))


def test_output_of_another_size_than_the_metadata_says_is_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "lies.onnx", blob_meta(), metadata=blob_meta(stride=4).to_json())
    with pytest.raises(ModelFileError, match="stride 4"):
        Detector(path, threads=1)(np.zeros((64, 64), np.uint8))


def test_damaged_weights_are_told(tmp_path: Path) -> None:
    path = write_model(tmp_path / "nan.onnx", kernel=np.full((3, 3), np.nan, np.float32))
    with pytest.raises(ModelFileError, match="NaN"):
        Detector(path, threads=1)(np.zeros((64, 64), np.uint8))


def test_a_network_that_sees_far_is_tiled_all_the_same() -> None:
    """Its tiles overlap by 256 pixels at most, so that the memory is kept within bounds."""

    class Blind:
        meta = blob_meta(receptive_radius=3000)
        largest = 0

        def run(self, frames: np.ndarray) -> np.ndarray:
            self.largest = max(self.largest, frames.size)
            return np.zeros((len(frames), 1, frames.shape[2] // 2, frames.shape[3] // 2), np.float32)

    backend = Blind()
    Detector(backend, memory_mb=1)(np.zeros((1500, 4000), np.uint8))
    assert 0 < backend.largest <= (4 * 256 + 8) ** 2
