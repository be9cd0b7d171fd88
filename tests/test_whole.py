"""`dimpoint export --whole`: one ONNX graph finds what `Detector` finds, with ONNX Runtime alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from typer.testing import CliRunner

from dimpoint.cli import build_app
from dimpoint.errors import ConfigError, MissingExtraError, ModelFileError
from dimpoint.inference.decode import PUBLISHED, decode
from dimpoint.inference.detector import Detector
from dimpoint.model.input_rule import replace_hot_pixels
from dimpoint.model.intensity import IntensityRule
from dimpoint.model.record import DecodeRule, ModelMeta
from dimpoint.whole import decoding, inputs
from dimpoint.whole.compose import DIFFERS
from dimpoint.whole.counts import unit_range
from dimpoint.whole.export import export_whole
from dimpoint.whole.graph import OPSET, Graph, Value
from tiny_models import blob_meta, write_model

SCENES = sorted((Path(__file__).parents[1] / "examples" / "scenes" / "images").glob("*.png"))
DISPLAY = IntensityRule(kind="display", low=1, high=99)
TYPES = {"u1": TensorProto.UINT8, "u2": TensorProto.UINT16, "f4": TensorProto.FLOAT}
Pixels = npt.NDArray[Any]


def session(content: Path | bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    model = content if isinstance(content, bytes) else str(content)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def whole(folder: Path, model: str | Path, **options: Any) -> Any:
    export_whole(model, folder / "whole.onnx", **options)
    return session(folder / "whole.onnx")


def targets(run: Any, frame: Pixels, **inputs: Any) -> Pixels:
    (found,) = run.run(None, {"frame": frame, **inputs})
    result: Pixels = found
    return result


def assert_same(found: Pixels, detector: Detector, frame: Pixels) -> None:
    """Within 0.02 pixels and 0.001 in score, in the same order."""
    expected = detector(frame)
    assert found.dtype == np.float32
    assert found.shape == (len(expected), 3)
    np.testing.assert_allclose(found[:, :2], expected.xy, atol=0.02)
    np.testing.assert_allclose(found[:, 2], expected.scores, atol=1e-3)


def spots(shape: tuple[int, int], places: list[tuple[float, float]], seed: int = 0) -> Pixels:
    """Noise with spots of sigma 1.5 on it, 8-bit counts as float64."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    frame = np.random.default_rng(seed).normal(60, 3, shape)
    for cx, cy in places:
        frame += 150 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 4.5)
    return frame.clip(0, 255)


PLACES = [(20.3, 15.8), (70.0, 40.4), (33.3, 50.0)]


class TestShippedModels:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["spire-lite", "sshdnet-small"])
    def test_the_example_scenes(self, tmp_path: Path, name: str) -> None:
        run, detector = whole(tmp_path, name), Detector(name, threads=1)
        assert len(SCENES) == 8
        for number, path in enumerate(SCENES[:: 2 if name == "spire-lite" else 7]):
            deep = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            # Sizes on both sides of the magnification's limit, none a multiple of anything.
            larger = cv2.resize(deep[: 200 - number, 7:], (531, 401), interpolation=cv2.INTER_CUBIC)
            for frame in (deep, larger):
                assert_same(targets(run, frame), detector, frame)
                eight = cv2.normalize(frame, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
                assert_same(targets(run, eight.astype(np.uint16)), detector, eight)

    def test_the_8_bit_file(self, tmp_path: Path) -> None:
        run, detector = whole(tmp_path, "spire-lite", counts="uint8"), Detector(threads=1)
        frame = spots((70, 91), PLACES).astype(np.uint8)
        assert len(detector(frame))
        assert_same(targets(run, frame), detector, frame)

    def test_the_threshold_is_an_input_that_may_be_left_out(self, tmp_path: Path) -> None:
        run = whole(tmp_path, "spire-lite")
        frame = cv2.imread(str(SCENES[0]), cv2.IMREAD_UNCHANGED)
        (frame_input,) = run.get_inputs()
        assert (frame_input.name, frame_input.type) == ("frame", "tensor(uint16)")
        for threshold in (0.2, 0.9):
            asked = targets(run, frame, threshold=np.array([threshold], np.float32))
            expected = Detector(threshold=threshold, threads=1)(frame)
            np.testing.assert_allclose(asked[:, :2], expected.xy, atol=0.02)
        other = whole(tmp_path, "spire-lite", threshold=0.9)
        np.testing.assert_array_equal(targets(other, frame), asked)

    def test_only_standard_operators(self, tmp_path: Path) -> None:
        export_whole("spire-lite", tmp_path / "whole.onnx")
        model = onnx.load(tmp_path / "whole.onnx")
        assert [(one.domain, one.version) for one in model.opset_import] == [("", OPSET)]
        assert not model.functions
        onnx.checker.check_model(model, full_check=True)


RULES = {
    "dtype": {"intensity": IntensityRule(kind="dtype")},
    "range, clipped": {"intensity": IntensityRule(kind="range", low=20, high=230, clip=True)},
    "percentile": {"intensity": IntensityRule(kind="percentile", low=1, high=99.9)},
    "display": {"intensity": DISPLAY},
    "magnified": {"intensity": DISPLAY, "scale": 2},
    "magnified and at its own scale": {"intensity": DISPLAY, "scale": 2, "native_share": 0.4},
    "magnified below a size": {"intensity": DISPLAY, "scale": 2, "magnify_below": 5000, "native_share": 0.4},
    "hot pixels": {"intensity": DISPLAY, "scale": 2, "replace_hot_pixels": True},
    "padding of the mean": {"intensity": DISPLAY, "padding": "mean"},
}
DECODES = {
    "height": DecodeRule(threshold=0.3),
    "mean": DecodeRule(threshold=0.2, score_sigma=1.2),
    "calibrated": DecodeRule(threshold=0.3, calibration=((0.1, 0.0), (0.4, 0.6), (0.9, 1.0))),
    "capped": DecodeRule(threshold=0.2, max_targets=2, min_distance=4),
    "published": PUBLISHED,
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("decode_rule", ["height", "mean"])
def test_every_input_rule(tmp_path: Path, rule: str, decode_rule: str) -> None:
    model = write_model(tmp_path / "m.onnx", blob_meta(**RULES[rule], decode=DECODES[decode_rule]))
    run, detector = whole(tmp_path, model), Detector(model, threads=1)
    found = 0
    for shape in ((61, 77), (80, 83)):
        eight = spots(shape, PLACES).astype(np.uint8)
        eight[5, 5] = 255  # a hot pixel
        for frame in (eight.astype(np.uint16) * 61 + 400, eight.astype(np.uint16) * 7):
            assert_same(targets(run, frame), detector, frame)
            found += len(detector(frame))
    assert found or rule == "dtype"


@pytest.mark.parametrize("rule", RULES)
def test_every_input_rule_of_8_bit_frames(tmp_path: Path, rule: str) -> None:
    model = write_model(tmp_path / "m.onnx", blob_meta(**RULES[rule]))
    run, detector = whole(tmp_path, model, counts="uint8"), Detector(model, threads=1)
    frame = spots((61, 77), PLACES).astype(np.uint8)
    assert len(detector(frame)) == 3
    assert_same(targets(run, frame), detector, frame)


@pytest.mark.parametrize("decode_rule", DECODES)
def test_every_decoding(tmp_path: Path, decode_rule: str) -> None:
    meta = blob_meta(intensity=DISPLAY, decode=DECODES[decode_rule])
    model = write_model(tmp_path / "m.onnx", meta)
    frame = (spots((64, 90), [*PLACES, (40, 52)], seed=3) * 50).astype(np.uint16)
    detector = Detector(model, threads=1)
    assert len(detector(frame))
    assert_same(targets(whole(tmp_path, model), frame), detector, frame)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Detector]:
    return whole(tmp_path_factory.mktemp("whole"), "spire-lite"), Detector(threads=1)


class TestHostileFrames:
    @pytest.mark.parametrize(
        "frame",
        [
            np.full((1, 1), 7, np.uint16),
            np.full((1, 1), 70, np.uint16),
            np.full((1, 50), 3000, np.uint16),
            np.arange(40, dtype=np.uint16)[:, None] * 100,
            np.zeros((33, 47), np.uint16),
            np.full((33, 47), 65535, np.uint16),
            np.full((500, 410), 12000, np.uint16),  # not magnified
        ],
        ids=["1x1", "1x1 dark", "one row", "one column", "zeros", "saturated", "large and constant"],
    )
    def test_tiny_and_constant_frames(self, pair: tuple[Any, Detector], frame: Pixels) -> None:
        assert_same(targets(pair[0], frame), pair[1], frame)

    def test_an_empty_frame_is_refused(self, pair: tuple[Any, Detector]) -> None:
        with pytest.raises(Exception, match=r".+"):
            targets(pair[0], np.zeros((0, 5), np.uint16))
        frame = cv2.imread(str(SCENES[0]), cv2.IMREAD_UNCHANGED)
        assert_same(targets(pair[0], frame), pair[1], frame)  # and the session goes on

    @pytest.mark.parametrize("value", [1.0, np.nan])
    def test_floats_are_refused(self, pair: tuple[Any, Detector], value: float) -> None:
        with pytest.raises(Exception, match=r"expected: .*uint16"):
            targets(pair[0], np.full((40, 40), value, np.float32))

    def test_colours_are_refused(self, pair: tuple[Any, Detector]) -> None:
        with pytest.raises(Exception, match="rank"):
            targets(pair[0], np.zeros((40, 40, 3), np.uint16))


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"fit": (64, 64)}, "fits frames into 64x64 by a warp that rounds counts"),
            (
                {"decode": DecodeRule(kind="components"), "kind": "probability", "stride": 1},
                "connected regions",
            ),
        ],
        ids=["fit", "components"],
    )
    def test_models_that_cannot_be_put_inside(self, tmp_path: Path, changes: Any, why: str) -> None:
        model = write_model(tmp_path / "m.onnx", blob_meta(**changes))
        with pytest.raises(ModelFileError, match=why):
            export_whole(model, tmp_path / "whole.onnx")
        assert not (tmp_path / "whole.onnx").exists()

    def test_the_model_is_not_overwritten(self, tmp_path: Path) -> None:
        model = write_model(tmp_path / "m.onnx")
        with pytest.raises(ConfigError, match="the model itself"):
            export_whole(model, model)

    def test_a_whole_model_is_no_model_file(self, tmp_path: Path) -> None:
        export_whole(write_model(tmp_path / "m.onnx"), tmp_path / "whole.onnx")
        with pytest.raises(ModelFileError, match="written by dimpoint export --whole"):
            Detector(tmp_path / "whole.onnx")

    def test_without_onnx(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("dimpoint.whole.export.find_spec", lambda name: None)
        with pytest.raises(MissingExtraError, match=r"dimpoint\[export\]"):
            export_whole("spire-lite", tmp_path / "whole.onnx")

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--whole", "--out", "w.txt"], "w.txt: --whole writes an .onnx file"),
            (["--whole", "--half", "--out", "w.onnx"], "--half cannot be combined with --whole"),
            (["--frames", "uint8", "--out", "w.onnx"], "--frames needs --whole"),
            (["--whole", "--threshold", "2", "--out", "w.onnx"], "threshold must lie in 0..1"),
        ],
        ids=["suffix", "half", "frames", "threshold"],
    )
    def test_the_command_line(self, options: list[str], said: str) -> None:
        done = CliRunner().invoke(build_app(), ["export", "spire-lite", *options])
        assert isinstance(done.exception, ConfigError)
        assert said in str(done.exception)


def run_graph(inputs: dict[str, tuple[str, Pixels]], build: Any) -> list[Pixels]:
    """What a graph gives: `build(graph, *values)` for inputs (type, array) by name."""
    graph = Graph()
    values = [Value(graph, name, dtype) for name, (dtype, _) in inputs.items()]
    results = build(graph, *values)
    infos = [
        helper.make_tensor_value_info(name, TYPES[dtype], [None] * array.ndim)
        for name, (dtype, array) in inputs.items()
    ]
    outputs = [
        helper.make_tensor_value_info(one.name, helper.np_dtype_to_tensor_dtype(np.dtype(one.dtype)), None)
        for one in results
    ]
    constants = list(graph.constants.values())
    body = helper.make_graph(graph.nodes, "test", infos, outputs, constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    found: list[Pixels] = session(model.SerializeToString()).run(None, {n: a for n, (_, a) in inputs.items()})
    return found


LEVELS = np.arange(0, 201)
DEEP = {
    "raw sensor": np.random.default_rng(1).normal(9000, 40, (40, 50)),
    "8-bit frame times 257": np.random.default_rng(2).choice(LEVELS, (40, 50)) * 257,
    "8-bit frame times 5.7, rounded": np.random.default_rng(3).choice(LEVELS, (40, 50)) * 5.7 + 300,
    "8-bit counts": np.random.default_rng(4).choice(LEVELS, (40, 50)),
    "four levels": np.random.default_rng(5).choice([100, 900, 5000, 60000], (40, 50)),
    "a saturated spot": np.where(
        np.mgrid[:40, :50][0] < 3, 65535, np.random.default_rng(6).normal(500, 9, (40, 50))
    ),
    "constant": np.full((40, 50), 900),
    "one pixel differs": np.where(np.arange(2000).reshape(40, 50) == 77, 5000, 900),
}


@pytest.mark.parametrize("name", DEEP)
def test_the_display_gain_is_that_of_the_rule(name: str) -> None:
    frame = DEEP[name].round().astype(np.uint16)
    expected = DISPLAY.apply(frame)
    (got,) = run_graph({"frame": ("u2", frame)}, lambda g, f: [unit_range(g, f, DISPLAY)])
    np.testing.assert_allclose(got, expected, atol=1e-5)


@given(seed=st.integers(0, 2**32 - 1), shape=st.tuples(st.integers(1, 9), st.integers(1, 9)))
@settings(max_examples=20, deadline=None)
def test_hot_pixels_are_replaced_alike(seed: int, shape: tuple[int, int]) -> None:
    frame = np.random.default_rng(seed).random(shape, np.float32) ** 4
    (got,) = run_graph({"frame": ("f4", frame)}, lambda g, f: [inputs.without_hot_pixels(g, f)])
    np.testing.assert_allclose(got, replace_hot_pixels(frame), atol=1e-6)


def decoded(response: Pixels, rule: DecodeRule) -> tuple[Pixels, Pixels]:
    threshold = np.array([rule.threshold], np.float32)
    inputs = {"response": ("f4", response), "threshold": ("f4", threshold)}
    xy, scores = run_graph(inputs, lambda g, r, t: list(decoding.peaks(g, r, rule, t)))
    return xy, scores


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    steps=st.integers(2, 30),
)
@settings(max_examples=12, deadline=None)
@pytest.mark.parametrize("rule", DECODES.values(), ids=DECODES)
def test_maps_with_plateaus_and_neighbours_are_decoded_alike(
    rule: DecodeRule, seed: int, shape: tuple[int, int], steps: int
) -> None:
    """Few levels make plateaus; small maps make every border."""
    response = (np.random.default_rng(seed).integers(0, steps, shape) / steps).astype(np.float32)
    xy, scores = decoded(response, rule)
    expected = decode(response, rule)
    assert len(scores) == len(expected.scores)
    np.testing.assert_allclose(scores, expected.scores, atol=1e-6)
    np.testing.assert_allclose(xy, expected.xy, atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_constant_map(value: float) -> None:
    response = np.full((37, 50), value, np.float32)
    xy, scores = decoded(response, DECODES["mean"])
    expected = decode(response, DECODES["mean"])
    np.testing.assert_allclose(xy, expected.xy, atol=1e-4)
    np.testing.assert_allclose(scores, expected.scores, atol=1e-6)


def test_the_record_goes_with_it(tmp_path: Path) -> None:
    run = whole(tmp_path, write_model(tmp_path / "m.onnx"))
    properties = run.get_modelmeta().custom_metadata_map
    assert ModelMeta.model_validate_json(properties["dimpoint-whole"]) == blob_meta()
    assert json.loads(properties["dimpoint-whole-differs"]) == list(DIFFERS)


def test_scores_of_another_threshold_do_not_go_with_it(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", blob_meta(scores={"NUDT": {"f1": 0.97}}))
    assert export_whole(model, tmp_path / "own.onnx").scores == {"NUDT": {"f1": 0.97}}
    assert export_whole(model, tmp_path / "other.onnx", threshold=0.5).scores == {}


def test_a_border_without_measurements_has_to_be_cropped_off(tmp_path: Path) -> None:
    """What the metadata says of deep frames."""
    frame = (spots((96, 128), PLACES) * 4 + 12000).astype(np.uint16)
    padded = cv2.copyMakeBorder(frame, 8, 8, 8, 8, cv2.BORDER_CONSTANT, value=0)
    run = whole(tmp_path, "spire-lite")
    assert len(Detector(threads=1)(padded)) == len(targets(run, frame)) == len(PLACES)
    assert len(targets(run, padded)) == 0
