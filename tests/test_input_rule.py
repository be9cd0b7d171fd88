"""What a network sees: one rule for recipe, views, record and detector, and models of earlier formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from dimpoint.errors import ConfigError, ModelFileError
from dimpoint.inference.detector import Detector
from dimpoint.inference.maps import Span, Tile
from dimpoint.model.input_rule import InputRule, fit_map
from dimpoint.model.record import FORMAT_VERSION, parse_meta
from dimpoint.training.recipe import Recipe, load_recipe
from dimpoint.training.views import training_view
from tiny_models import blob_meta, spots, write_model

NO_POINTS = np.zeros((0, 2), np.float32)
STILL = [
    f"augmentation.{change}"
    for change in ("scale_probability=0", "flips=false", "quarter_turns=false", "rotation_probability=0")
] + ["augmentation.contrast=0", "augmentation.offset=0", "augmentation.noise=0"]


@pytest.mark.parametrize(
    ("shape", "size"),
    [((160, 200), (512, 512)), ((480, 640), (512, 512)), ((300, 100), (64, 256)), ((1, 1), (16, 16))],
)
def test_corners_come_to_lie_where_spires_warp_puts_them(
    shape: tuple[int, int], size: tuple[int, int]
) -> None:
    (height, width), (across, down) = shape, size
    scale = min(across / width, down / height)
    left, top = (across - width * scale) / 2, (down - height * scale) / 2
    affine = fit_map(shape, size)
    if shape == (1, 1):
        np.testing.assert_allclose(affine[:, 2], [(across - 1) / 2, (down - 1) / 2])
        return
    corners = np.array([[0, 0], [width - 1, 0], [0, height - 1]], np.float64)
    places = [[left, top], [across - 1 - left, top], [left, down - 1 - top]]
    np.testing.assert_allclose(corners @ affine[:, :2].T + affine[:, 2], places, atol=1e-9)


@pytest.mark.parametrize(("scale", "fit"), [(2, None), (1, (64, 64))], ids=["magnified", "fitted"])
def test_what_is_trained_is_what_is_run(scale: int, fit: tuple[int, int] | None, tmp_path: Path) -> None:
    """The view of an unchanged frame is the detector's input, pixel for pixel."""
    frame = np.random.default_rng(0).integers(0, 65536, (40, 40)).astype(np.uint16)
    rule = InputRule(scale=scale, fit=fit, replace_hot_pixels=True)
    size = 64 if fit else 80
    recipe = load_recipe(
        "spire-sirst",
        [
            *STILL,
            f"input={json.dumps(rule.model_dump(mode='json'))}",
            f"view.kind={'letterbox' if fit else 'crop'}",
            f"view.size={size}",
            "view.near_target=1",
            "augmentation.hot_pixels=0",
        ],
    )
    detector = Detector(write_model(tmp_path / "m.onnx", blob_meta(input=recipe.input)), threads=1)
    measured = detector._measured(frame)
    whole = Tile(Span(0, size, 0, size), Span(0, size, 0, size))
    run = detector._input(measured, whole, scale)[0]
    pixels = recipe.input.unit_range(frame, recipe.input.intensity.limits(frame), frame.shape)
    rng = np.random.default_rng(1)
    view = training_view(pixels, np.array([[20, 20]], np.float32), recipe, rng)
    x, y = (0.5 - view.affine[:, 2]).round().astype(int) if fit is None else (0, 0)
    edge = 0 if fit else 2  # where views are continued by the mirror image
    rows, columns = (slice(max(at, 0) + edge, size + min(at, 0) - edge) for at in (y, x))
    seen = view.pixels[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
    assert seen.size > 500
    np.testing.assert_allclose(run[rows, columns], seen, atol=1e-5)  # fitted counts are rounded


@pytest.mark.parametrize("name", ["spire", "sshdnet"])
def test_recipes_of_whole_frames_run_as_they_train(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.view.kind == "letterbox"
    assert recipe.input.fit == (recipe.view.size, recipe.view.size) == (512, 512)


@pytest.mark.parametrize("shape", [(30, 50), (300, 200), (64, 64), (1, 90)])
def test_points_of_fitted_frames_are_in_frame_pixels(shape: tuple[int, int], tmp_path: Path) -> None:
    detector = Detector(write_model(tmp_path / "m.onnx", blob_meta(fit=(96, 80))), threads=1)
    x, y = shape[1] // 3, shape[0] // 2
    scale = min(96 / shape[1], 80 / shape[0])
    found = detector(spots(shape, [(x, y)], sigma=1.5 / scale))
    assert (found.width, found.height) == (shape[1], shape[0])
    if min(shape) > 1:
        np.testing.assert_allclose(found.xy, [[x, y]], atol=0.8 / scale)
    both = list(detector.detect_many([np.zeros(shape, np.uint8), np.zeros((20, 20), np.uint8)], batch=2))
    assert [len(one) for one in both] == [0, 0]


def test_probability_maps_of_fitted_frames_have_the_frames_size(tmp_path: Path) -> None:
    meta = blob_meta(kind="probability", stride=1, fit=(80, 80))
    detector = Detector(write_model(tmp_path / "m.onnx", meta, kernel=np.ones((1, 1), np.float32)), threads=1)
    frame = cv2.GaussianBlur(np.random.default_rng(0).random((30, 50)).astype(np.float32), (0, 0), 3)
    np.testing.assert_allclose(detector.probability_map(frame), frame, atol=0.02)


BAD = [
    # keys, part of the message
    ({"fit": (512, 512), "scale": 2}, "not magnified"),
    ({"fit": (8, 512)}, "at least 16"),
    ({"scale": 3}, "scale"),
    ({"native_share": 1.0}, "native_share"),
    ({"input_scale": 2}, "input_scale"),
]


@pytest.mark.parametrize(("keys", "message"), BAD)
def test_rules_that_contradict_themselves_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        InputRule(**keys)


class TestRecipes:
    @pytest.mark.parametrize(
        "override", ["input.scale=2", "input_scale=2"], ids=["as it is", "as earlier versions had it"]
    )
    def test_magnification(self, override: str) -> None:
        assert load_recipe("unet", [override]).input.scale == 2

    def test_a_recipe_of_an_earlier_version_is_read(self, tmp_path: Path) -> None:
        file = tmp_path / "old.yaml"
        file.write_text(
            "base: spire-sirst\nmagnify_below: 5\nnative_share: 0.1\n"
            "intensity: {kind: range, low: 1, high: 9}\n"
        )
        rule = load_recipe(str(file), ["intensity.high=7"]).input
        assert (rule.magnify_below, rule.native_share, rule.scale) == (5, 0.1, 2)
        assert (rule.intensity.kind, rule.intensity.high) == ("range", 7)

    def test_one_of_whole_frames_too(self, tmp_path: Path) -> None:
        content = load_recipe("spire").model_dump(mode="json")
        content.pop("input")
        file = tmp_path / "old.yaml"
        file.write_text(json.dumps({**content, "intensity": {"kind": "dtype"}, "input_scale": 1}))
        assert load_recipe(str(file)) == load_recipe("spire")

    @pytest.mark.parametrize(
        ("recipe", "override", "message"),
        [
            ("spire", "view.size=256", r"needs input.fit \[256, 256\]"),
            ("spire", "input.fit=null", "needs input.fit"),
            ("unet", "input.fit=[64, 64]", "needs view.kind 'letterbox'"),
            ("unet", "input.padding=mean", "input.padding"),
            ("unet", "input.sclae=2", "did you mean 'scale'"),
        ],
    )
    def test_recipes_that_would_run_otherwise_than_they_train(
        self, recipe: str, override: str, message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            load_recipe(recipe, [override])


class TestRecords:
    def former(self, version: int, **keys: Any) -> str:
        """A record as earlier versions wrote it."""
        content = json.loads(blob_meta().to_json())
        content.pop("input")
        rule = {"kind": "display", "low": 1.0, "high": 99.0, "min_span": 4.0, "clip": False}
        return json.dumps(
            {**content, "format_version": version, "intensity": rule, "padding": "mean", **keys}
        )

    @pytest.mark.parametrize(
        ("version", "keys"),
        [
            (1, {"input_scale": 2}),
            (2, {"input_scale": 2, "magnify_below": 9, "replace_hot_pixels": True}),
            (3, {"input_scale": 2, "magnify_below": 9, "replace_hot_pixels": True, "native_share": 0.3}),
        ],
    )
    def test_earlier_formats_are_read(self, version: int, keys: dict[str, Any]) -> None:
        meta = parse_meta(self.former(version, **keys), "old.onnx")
        assert meta.format_version == FORMAT_VERSION
        assert (meta.input.intensity.kind, meta.input.padding, meta.input.scale) == ("display", "mean", 2)
        assert meta.input.native_share == keys.get("native_share", 0)
        assert meta.input.magnify_below == keys.get("magnify_below")
        assert parse_meta(meta.to_json(), "new.onnx") == meta

    def test_the_present_format_has_no_former_keys(self) -> None:
        content = {**json.loads(blob_meta().to_json()), "input_scale": 2}
        with pytest.raises(ModelFileError, match="input_scale"):
            parse_meta(json.dumps(content), "m.onnx")

    def test_the_reach_of_a_network_has_no_default(self) -> None:
        content = json.loads(blob_meta().to_json())
        content.pop("receptive_radius")
        with pytest.raises(ModelFileError, match="receptive_radius"):
            parse_meta(json.dumps(content), "m.onnx")


def test_a_model_carries_the_rule_of_its_recipe() -> None:
    from dimpoint.networks import create
    from dimpoint.training.module import describe_model

    recipe: Recipe = load_recipe("spire")
    assert describe_model(create("spire"), recipe, []).input == recipe.input
