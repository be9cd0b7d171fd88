"""The one set of limits: small files that would fill the memory are refused before they are built."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dimpoint import limits
from dimpoint.datasets.coco import parse_points, read_points
from dimpoint.datasets.dataset import open_dataset
from dimpoint.datasets.lists import read_lines
from dimpoint.datasets.masks import read_mask_file
from dimpoint.errors import ConfigError, DataError, DimpointError, FrameError, ModelFileError
from dimpoint.inference.detection_files import read_detections
from dimpoint.model.record import parse_meta


def detections(**changes: Any) -> dict[str, Any]:
    found = {"x": 3.0, "y": 4.0, "score": 0.5} | changes
    return {"model": "m", "images": [{"file": "a.png", "width": 50, "height": 40, "detections": [found]}]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": 7.5}, "a score lies in 0..1, got 7.5"),
        ({"score": -0.1}, "a score lies in 0..1"),
        ({"score": None}, "image 1: "),
        ({"score": "high"}, "not an entry of a detections file"),
        ({"score": 10**400}, "not an entry of a detections file"),
        ({"x": -1e6}, r"a detection at \(-1e\+06, 4\) is far outside of 50x40"),
        ({"y": 1e300}, "finite"),
        ({"x": None}, "finite"),
        ({"x": [1]}, "not an entry of a detections file"),
    ],
)
def test_absurd_detections(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "detections.json"
    path.write_text(json.dumps(detections(**changes)))
    with pytest.raises(DataError, match=message):
        read_detections(path)


@pytest.mark.parametrize("key", ["file", "width", "height", "detections"])
@pytest.mark.parametrize("value", [None, -5, "x", 2**40, {}])
def test_absurd_images(tmp_path: Path, key: str, value: Any) -> None:
    content = detections()
    content["images"][0][key] = value
    path = tmp_path / "detections.json"
    path.write_text(json.dumps(content))
    if (key, value) in (("file", "x"), ("detections", {})):
        assert len(read_detections(path)) == 1
    else:
        with pytest.raises(DataError, match=r"detections\.json: image 1"):
            read_detections(path)


@pytest.mark.parametrize(
    "text",
    [b"", b"\xff\xfe\x00", b"[" * 100_000, b'{"images": ' + b"9" * 5000 + b"}", b"null", b'{"images": null}'],
    ids=["empty", "binary", "deep", "long number", "null", "null images"],
)
@pytest.mark.parametrize("read", [read_points, read_detections], ids=["coco", "detections"])
def test_json_that_is_none(tmp_path: Path, text: bytes, read: Callable[[Path], Any]) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text)
    with pytest.raises(DataError, match=r"x\.json"):
        read(path)


@pytest.mark.parametrize("value", [10**400, 1e308, float("nan"), "\ud800", None, [], {}])
@pytest.mark.parametrize("key", ["id", "file_name", "width", "height"])
def test_absurd_values_in_coco_files(tmp_path: Path, key: str, value: Any) -> None:
    image = {"id": 1, "file_name": "a.png", "width": 50, "height": 40, key: value}
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"images": [image], "annotations": []}))
    if key == "id" and value in (10**400, 1e308):  # whole numbers, however large
        assert len(read_points(path)) == 1
    else:
        with pytest.raises(DataError, match=r"x\.json: image "):
            read_points(path)


def test_many_points_in_one_annotation(tmp_path: Path) -> None:
    """All inside or all outside: neither is looked up in a list of the others."""
    for x in (5, 500):
        points = [value for number in range(20_000) for value in (x + number % 90 / 2, number / 300, 2)]
        image = {"id": 1, "file_name": "a.png", "width": 100, "height": 90}
        path = tmp_path / "x.json"
        path.write_text(
            json.dumps({"images": [image], "annotations": [{"image_id": 1, "keypoints": points}]})
        )
        file = parse_points(path)
        assert (len(file.images[0].points), len(file.problems)) == ((20_000, 0) if x == 5 else (0, 20_000))


def test_too_many_points_of_one_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = {"id": 1, "file_name": "a.png", "width": 100, "height": 90}
    path = tmp_path / "x.json"
    path.write_text(
        json.dumps({"images": [image], "annotations": [{"image_id": 1, "keypoints": [1, 1, 2] * 66_667}]})
    )
    with pytest.raises(DataError, match=r"66,667 is more .*DIMPOINT_MAX_POINTS_PER_FRAME=66667"):
        read_points(path)
    monkeypatch.setenv("DIMPOINT_MAX_POINTS_PER_FRAME", "100000")
    assert len(read_points(path)[0].points) == 66_667


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


class TestYaml:
    def test_aliases_that_unfold_to_gigabytes(self) -> None:
        with pytest.raises(ConfigError, match=r"entries with aliases written out: .* more than the limit"):
            limits.check_yaml(BOMB, "r.yaml", ConfigError)

    def test_levels(self) -> None:
        with pytest.raises(ConfigError, match="levels within each other"):
            limits.check_yaml("[" * 500 + "]" * 500, "r.yaml", ConfigError)

    @pytest.mark.parametrize("text", ["", "a: 1", "a: &x {b: 1}\nc: *x\nd: [*x, *x]"])
    def test_plain_texts_pass(self, text: str) -> None:
        limits.check_yaml(text, "r.yaml")


@pytest.mark.parametrize(
    "text", [b"\xff\xfe\x00", BOMB.encode(), b"a: " + b"[" * 5000, b"\x00", b"key: [1"], ids=range(5)
)
def test_recipes(tmp_path: Path, text: bytes) -> None:
    pytest.importorskip("torch")
    from dimpoint.training.recipe import load_recipe

    path = tmp_path / "r.yaml"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=r"r\.yaml"):
        load_recipe(str(path))


@pytest.mark.parametrize(
    "change",
    [
        {"options": {"width": 2**31}},
        {"options": {"deep": [[{"depth": 10**9}]]}},
        {"stride": 2**31},
        {"multiple": 2**31},
        {"receptive_radius": 10**9},
        {"channels": 2**31},
    ],
    ids=str,
)
def test_records_of_models(change: dict[str, Any]) -> None:
    record = json.dumps({"name": "m", "network": "spire"} | change)
    with pytest.raises(ModelFileError, match=r"m\.onnx: model metadata: .* more than the limit"):
        parse_meta(record, "m.onnx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": []}, "mean and std need a value for each of 1 channels, got 0 and 1"),
        ({"channels": 3}, "mean and std need a value for each of 3 channels, got 1 and 1"),
        ({"multiple": 65536}, "padded sides are multiples of 'multiple' and 'stride', 65,536; at most 1,024"),
        ({"multiple": 1023, "stride": 1024}, "at most 1,024"),
        ({"decode": {"response_sigma": 1e200}}, "at 'decode.response_sigma': .* less than or equal to 16"),
        ({"decode": {"score_sigma": 1e4}}, "at 'decode.score_sigma': .* less than or equal to 16"),
        ({"decode": {"max_height_gap": -5}}, "at 'decode.max_height_gap': .* greater than or equal to 0"),
        ({"input": {"fit": [10**7, 10**7]}}, "at 'input': fit: width and height must be .* at most 4096"),
        ({"input": {"intensity": {"kind": "display", "low": -1}}}, "percentiles lie in 0..100, got -1.0"),
        ({"input": {"intensity": {"kind": "display", "high": 150}}}, "percentiles lie in 0..100"),
    ],
    ids=str,
)
def test_records_that_no_detector_can_follow(change: dict[str, Any], message: str) -> None:
    record = {"name": "m", "network": "spire", "receptive_radius": 8}
    assert parse_meta(json.dumps(record), "m.onnx").name == "m"
    with pytest.raises(ModelFileError, match=rf"^m\.onnx: damaged model metadata.*{message}"):
        parse_meta(json.dumps(record | change), "m.onnx")


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, "{}", "null", "\ud800"])
def test_records_that_are_none(text: str) -> None:
    with pytest.raises(ModelFileError, match=r"m\.onnx"):
        parse_meta(text, "m.onnx")


def test_a_backbone_of_a_thousand_million_layers(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from dimpoint.fdep.encoder import load_backbone

    record = {"model_type": "dinov2", "num_hidden_layers": 10**9}
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=r"config\.json: num_hidden_layers: .* more than the limit"):
        load_backbone(str(tmp_path), 4, 0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\xff\xff{'descr'",
        b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4'",
        b"\x93NUMPY\x01\x00\x46\x00"
        + b"{'descr': '|u1', 'fortran_order': False, 'shape': (9999999, 9999999)}".ljust(70),
        b"\x93NUMPY\x01\x00\x10\x00(((((((((((((((((",
    ],
    ids=range(6),
)
def test_damaged_npy_masks(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.npy").write_bytes(data)
    with pytest.raises(FrameError, match=r"m\.npy"):
        read_mask_file(tmp_path / "m.npy")


def test_files_that_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "big.txt").open("wb") as file:
        file.truncate(2**33)
    with pytest.raises(DimpointError, match="more than the limit"):
        read_lines(tmp_path / "big.txt")
    with pytest.raises(DataError, match="more than the limit"):
        read_points(tmp_path / "big.txt")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "file.txt/inside", ""])
def test_roots_that_cannot_be(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.txt").touch()
    with pytest.raises(DataError):
        open_dataset(tmp_path / name)


def test_the_documentation_names_every_limit() -> None:
    text = (Path(__file__).parents[1] / "docs" / "reliability.md").read_text("utf-8")
    for name, value in limits.DEFAULTS.items():
        assert f"`{limits.variable_of(name)}` | {value:,} |" in text


def test_masks_and_points_of_a_normal_size_pass() -> None:
    assert limits.limit("frame_pixels") >= 10_000 * 10_000
    assert np.prod([16_384, 16_384]) == limits.limit("frame_pixels")
