"""What a notebook does: loading, predicting, training, exporting, opening data sets."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

import dimpoint
from dimpoint.errors import ConfigError, DimpointError, FrameError
from dimpoint.inference.detector import Detector
from tiny_models import spots, write_model


@pytest.fixture
def detector(tmp_path: Path) -> Detector:
    write_model(tmp_path / "blob.onnx")
    return dimpoint.load(tmp_path / "blob.onnx", threads=2)


def picture(targets: list[tuple[float, float]]) -> np.ndarray:
    return (spots((60, 70), targets) * 255).round().astype(np.uint8)


FRAME = picture([(20, 30), (50, 12)])


def test_tab_completion_shows_public_names_alone() -> None:
    names = dir(dimpoint)
    assert {"load", "train", "evaluate", "compare", "export", "open_dataset", "Detections"} <= set(names)
    assert not {"Any", "import_module", "TYPE_CHECKING", "annotations"} & set(names)
    for name in dimpoint.__all__:
        assert getattr(dimpoint, name) is not None


def test_python_m_dimpoint_is_the_command_line() -> None:
    command = [sys.executable, "-m", "dimpoint", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == dimpoint.__version__


# What a detector takes


def tensor(array: np.ndarray) -> Any:
    torch = pytest.importorskip("torch")
    return torch.from_numpy(array)


def pil(array: np.ndarray) -> Any:
    return pytest.importorskip("PIL.Image").fromarray(array)


TAKEN = [
    pytest.param(lambda: FRAME, id="array"),
    pytest.param(lambda: FRAME.tolist(), id="list of integers"),
    pytest.param(lambda: tensor(FRAME), id="tensor"),
    pytest.param(lambda: tensor(FRAME[None]), id="tensor of one channel"),
    pytest.param(lambda: pil(FRAME), id="PIL picture"),
    pytest.param(lambda: pil(FRAME).convert("RGB"), id="grey PIL picture in colours"),
]


@pytest.mark.parametrize("make", TAKEN)
def test_other_kinds_of_frames_give_what_the_array_gives(make: Any, detector: Detector) -> None:
    assert detector(make()) == detector(FRAME)
    assert len(detector(FRAME)) == 2


def test_a_path_of_a_picture_is_read(detector: Detector, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), FRAME)
    assert detector(tmp_path / "a.png") == detector(str(tmp_path / "a.png")) == detector(FRAME)


def test_pixels_of_no_data_are_known_by_a_path_too(detector: Detector, tmp_path: Path) -> None:
    counts = FRAME.astype(np.float32)
    counts[5:55:7, 3:60:9] = -9999
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, counts, extratags=[(42113, "s", 0, "-9999", True)])
    (expected,) = detector.predict(path)
    assert len(expected) == 2
    assert replace(detector(path), file=expected.file) == expected


REFUSED = [
    (None, "the frame is None"),
    (5, "a int is no frame"),
    ("nowhere.png", "nowhere.png: no such file"),
    (".", "detector.predict('.')"),
    ([[1, 2], [3]], "rows of different lengths"),
    ([["a"]], "is no frame"),
    ({"a": 1}, "a dict is no frame"),
    ([], "2-D array"),
]


@pytest.mark.parametrize(("value", "message"), REFUSED)
def test_what_is_no_frame_is_explained(value: Any, message: str, detector: Detector) -> None:
    with pytest.raises(FrameError) as caught:
        detector(value)
    assert message in str(caught.value)


# Many frames


def test_predict_names_each_frame_of_any_source(detector: Detector, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(7):
        cv2.imwrite(str(folder / f"{number}.png"), picture([(10 + number, 20)] * (number % 2)))
    found = list(detector.predict(folder))
    assert [Path(each.file).name for each in found] == [f"{number}.png" for number in range(7)]
    assert [len(each) for each in found] == [0, 1, 0, 1, 0, 1, 0]
    assert list(detector.predict(folder, batch=3)) == found
    assert list(detector.predict(str(folder / "*.png"), progress=True)) == found
    assert [len(each) for each in detector.predict([FRAME, FRAME * 0])] == [2, 0]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_do_not_depend_on_the_number_of_threads(threads: int, tmp_path: Path) -> None:
    write_model(tmp_path / "blob.onnx")
    frames = np.stack([picture([(8 + number, 9 + number)]) for number in range(12)])
    one, several = (dimpoint.load(tmp_path / "blob.onnx", threads=count) for count in (1, threads))
    assert list(several.predict(frames)) == list(one.predict(frames))


def test_predict_goes_on_past_what_cannot_be_read(detector: Detector, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), FRAME)
    (tmp_path / "b.png").write_text("no picture")
    failed: list[str] = []
    found = list(detector.predict(tmp_path, on_error=lambda name, error: failed.append(name)))
    assert (len(found), [Path(name).name for name in failed]) == (1, ["b.png"])
    with pytest.raises(DimpointError, match=r"b\.png"):
        list(detector.predict(tmp_path))


# The detector itself


def test_a_detector_is_pickled_by_its_file_and_options(tmp_path: Path) -> None:
    write_model(tmp_path / "blob.onnx")
    detector = dimpoint.load(tmp_path / "blob.onnx", threshold=0.25, threads=1)
    copy = pickle.loads(pickle.dumps(detector))
    assert (copy.rule, copy.threads, copy(FRAME)) == (detector.rule, 1, detector(FRAME))


def test_the_repr_names_model_network_and_threshold(detector: Detector) -> None:
    assert repr(detector).startswith("Detector('blob', network ")
    assert "threshold" in repr(detector)


@pytest.mark.parametrize(
    ("device", "message"), [("gpu", "choose from auto, cpu"), ("cuda", "pip install onnxruntime-gpu")]
)
def test_a_device_that_is_not_there_is_told_with_the_remedy(
    device: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    write_model(tmp_path / "blob.onnx")
    with pytest.raises(ConfigError, match=message):
        dimpoint.load(tmp_path / "blob.onnx", device=device)
    assert len(dimpoint.load(tmp_path / "blob.onnx", device="auto")(FRAME)) == 2


# Data sets, export, training


def test_samples_are_found_by_number_and_name(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / "SET" / folder).mkdir(parents=True)
        for name in ("a", "b"):
            cv2.imwrite(str(tmp_path / "SET" / folder / f"{name}.png"), FRAME // 128 * 255)
    data = dimpoint.open_dataset(tmp_path / "SET")
    assert (data[0].name, data[-1].name, data["b"].name) == ("a", "b", "b")
    with pytest.raises(KeyError, match="no frame 'c'"):
        data["c"]
    with pytest.raises(IndexError):
        data[2]


def test_export_writes_what_load_takes(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    meta = dimpoint.export("spire-lite", tmp_path / "lite.safetensors", threshold=0.5)
    assert (meta.decode.threshold, meta.scores) == (0.5, {})
    assert repr(dimpoint.load(tmp_path / "lite.safetensors")).endswith("threshold 0.5)")
    with pytest.raises(ConfigError, match=r"write a \.onnx"):
        dimpoint.export("spire-lite", tmp_path / "lite.pt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "nonsense"}, "no recipe 'nonsense'"),
        ({"recipe": "spire", "epoch": 1}, "did you mean 'epochs'"),
        ({"recipe": "spire", "optimizer__lr": -1}, "lr"),
        ({"recipe": "spire", "foundation": "x"}, "fdep-spire"),
    ],
)
def test_training_tells_a_wrong_recipe_before_any_work(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    pytest.importorskip("lightning")
    with pytest.raises(ConfigError, match=message):
        dimpoint.train(options.pop("recipe"), data=tmp_path, out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
