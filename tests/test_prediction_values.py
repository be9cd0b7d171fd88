"""How predicted maps are read: decided over all files, refused where several readings are possible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

import dimpoint
from data_sets import save
from dimpoint.errors import ConfigError, DataError
from evaluation_sets import SIZE

FRAMES = 30  # more than any sample would look at

Array = npt.NDArray[Any]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty frames with two targets each."""
    root = tmp_path_factory.mktemp("SET")
    for index in range(FRAMES):
        save(root / "images" / f"{index:02}.png", np.full(SIZE, index, np.uint8))
        save(root / "masks" / f"{index:02}.png", (targets() > 0).astype(np.uint8) * 255)
    return root


def targets() -> Array:
    """0 and, on two targets, 1 and 2."""
    values = np.zeros(SIZE, np.uint8)
    values[10:13, 10:13] = 1
    values[30:33, 40:43] = 2
    return values


def write(folder: Path, picture: Array, empty_first: int = 0, suffix: str = ".png") -> Path:
    """The same map for every frame; the first ones hold 0 alone."""
    for index in range(FRAMES):
        values = picture * (index >= empty_first)
        save(folder / f"{index:02}{suffix}", values.astype(picture.dtype))
    return folder


def jet(values: Array) -> Array:
    return np.asarray(cv2.applyColorMap(values, cv2.COLORMAP_JET))


def with_alpha(grey: Array, alpha: Array) -> Array:
    return np.dstack([grey, grey, grey, alpha])


GREY = ((targets() > 0) * 255).astype(np.uint8)
LABELS = targets()
ONES = (targets() > 0).astype(np.uint8)
CLEAR = np.full(SIZE, 255, np.uint8)

READINGS = [
    # what is in the files, how many of the first are empty, the rule that reads it, what is said without one
    ("labels", LABELS, 0, "labels", "--predictions-values labels"),
    ("labels, the first empty", LABELS, 25, "labels", "--predictions-values labels"),
    ("0 and 1", ONES, 0, "0-1", "only 0 and 1"),
    ("0 and 1, the first empty", ONES, 25, "0-1", "only 0 and 1"),
    ("0 and 1 in 16 bit", ONES.astype(np.uint16), 0, "0-1", "only 0 and 1"),
    ("0 and 100", ONES * np.uint8(100), 0, "labels", "below a half"),
    ("percent", ONES * np.uint8(90) + np.uint8(5), 0, "0-100", "percent .--predictions-values 0-100"),
    ("8 bit in 16", GREY.astype(np.uint16), 0, "0-255", "16 bit but reach only 255"),
    ("alpha", with_alpha(GREY * 0, GREY), 0, "alpha", "--predictions-values alpha"),
    ("alpha beside grey", with_alpha(GREY, GREY), 0, "0-255", "--predictions-values alpha"),
]


@pytest.mark.parametrize(
    ("picture", "empty", "rule", "said"), [r[1:] for r in READINGS], ids=[r[0] for r in READINGS]
)
def test_what_is_unclear_is_refused_and_read_as_told(
    data: Path, tmp_path: Path, picture: Array, empty: int, rule: str, said: str
) -> None:
    maps = write(tmp_path / "maps", picture, empty)
    with pytest.raises(DataError, match=said):
        dimpoint.evaluate(maps, data, protocol="basicirstd")
    numbers = dimpoint.evaluate(maps, data, protocol="basicirstd", predictions_values=rule).numbers
    assert (numbers["tp"], numbers["fp"]) == (2 * (FRAMES - empty), 0)


def test_another_scale_in_16_bit_is_refused(data: Path, tmp_path: Path) -> None:
    maps = write(tmp_path / "maps", GREY.astype(np.uint16) * 4, 0)
    with pytest.raises(DataError, match=r"16 bit but reach only 1020: .*--predictions-values 0-65535"):
        dimpoint.evaluate(maps, data, protocol="basicirstd")


PLAIN = [
    ("masks of 0 and 255", GREY, 0),
    ("masks, the first empty", GREY, 29),
    ("probabilities", (LABELS * 100).astype(np.uint8), 0),
    ("16 bit", GREY.astype(np.uint16) * 257, 0),
    ("grey as colour", np.dstack([GREY] * 3), 0),
    ("grey with an alpha that is the same everywhere", with_alpha(GREY, CLEAR), 0),
    ("nothing predicted", GREY * 0, 0),
]


@pytest.mark.parametrize(("picture", "empty"), [row[1:] for row in PLAIN], ids=[row[0] for row in PLAIN])
def test_what_is_plain_is_read(data: Path, tmp_path: Path, picture: Array, empty: int) -> None:
    numbers = dimpoint.evaluate(write(tmp_path / "maps", picture, empty), data, protocol="basicirstd").numbers
    whole = picture if picture.ndim == 2 else picture[..., 0]
    found = int(whole[11, 11] > np.iinfo(whole.dtype).max / 2) + int(
        whole[31, 41] > np.iinfo(whole.dtype).max / 2
    )
    assert (numbers["tp"], numbers["fp"]) == (found * (FRAMES - empty), 0)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_colour_maps_are_refused_whatever_is_asked(data: Path, tmp_path: Path, suffix: str) -> None:
    maps = write(tmp_path / "maps", jet(GREY), suffix=suffix)
    for rule in (None, "0-255", "labels"):
        with pytest.raises(DataError, match=r"30 of 30 files .* are colour pictures"):
            dimpoint.evaluate(maps, data, protocol="basicirstd", predictions_values=rule)


def test_one_colour_picture_among_many_is_found(data: Path, tmp_path: Path) -> None:
    maps = write(tmp_path / "maps", GREY)
    save(maps / "29.png", jet(GREY))
    with pytest.raises(DataError, match=r"1 of 30 files \(such as 29.png\) are colour pictures"):
        dimpoint.evaluate(maps, data, protocol="basicirstd")


def test_rules_that_do_not_fit(data: Path, tmp_path: Path) -> None:
    maps = write(tmp_path / "maps", GREY)
    with pytest.raises(DataError, match="values above 1, up to 255"):
        dimpoint.evaluate(maps, data, protocol="basicirstd", predictions_values="0-1")
    with pytest.raises(DataError, match="not a picture with an alpha channel"):
        dimpoint.evaluate(maps, data, protocol="basicirstd", predictions_values="alpha")
    with pytest.raises(ConfigError, match="'percent' is none of 0-1"):
        dimpoint.evaluate(maps, data, protocol="basicirstd", predictions_values="percent")


def test_frames_of_videos_and_pages_keep_their_names(tmp_path: Path) -> None:
    """Results named `clip.mp4#000001` are held against COCO points of the same names."""
    from data_sets import write_json

    names = [f"video/{file}#{index:06}" for file in ("a.mp4", "b.tif") for index in range(3)]
    truth = {
        "images": [{"id": i, "file_name": n, "width": 64, "height": 48} for i, n in enumerate(names)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "num_keypoints": 1, "keypoints": [10 + i, 20, 2]}
            for i in range(len(names))
        ],
        "categories": [{"id": 1, "name": "target", "keypoints": ["centre"], "skeleton": []}],
    }
    (tmp_path / "truth").mkdir()
    write_json(tmp_path / "truth" / "truth.json", truth)
    images = [
        {
            "file": name.removeprefix("video/"),
            "width": 64,
            "height": 48,
            "detections": [{"x": 10 + i, "y": 20, "score": 0.9}] if i != 4 else [],
        }
        for i, name in enumerate(names)
    ]
    write_json(tmp_path / "found.json", {"model": "m", "images": images})
    evaluation = dimpoint.evaluate(tmp_path / "found.json", tmp_path / "truth" / "truth.json")
    assert [evaluation.numbers[key] for key in ("frames", "tp", "fn", "fp")] == [6, 5, 1, 0]
    missed = [frame.frame.name for frame in evaluation.results[0].pooled.frames if len(frame.missed)]
    assert missed == ["video/b.tif#000001"]


LABELLED = [
    # where the frames lie, what the COCO file calls a, what comes of it
    (("a.png",), "results/today/a.png", "a"),
    (("seq/a.png",), "a.png", "seq/a"),
    (("seq/a.png", "other/a.png"), "a.png", "it may be other/a or seq/a"),
    (("a.png",), "b.png", "is not in"),
    (("a.png",), "results/a.txt", "is not in"),
]


@pytest.mark.parametrize(("frames", "called", "expected"), LABELLED)
def test_points_are_matched_by_the_frames_name(
    tmp_path: Path, frames: tuple[str, ...], called: str, expected: str
) -> None:
    from data_sets import coco, frame, write_json
    from dimpoint.datasets.dataset import open_dataset

    for index, name in enumerate(frames):
        save(tmp_path / "images" / name, frame(index))
    write_json(tmp_path / "points.json", coco((3, 4, 2), file_name=called))
    if expected in ("a", "seq/a"):
        labelled = [sample.name for sample in open_dataset(tmp_path) if sample.points is not None]
        assert labelled == [expected]
    else:
        with pytest.raises(DataError, match=expected):
            open_dataset(tmp_path)


class TestStretchedMaps:
    """Maps that matplotlib's imsave stretched one by one: colours with alpha, each from 0 to 255."""

    RAMP = np.linspace(0, 255, SIZE[0] * SIZE[1]).astype(np.uint8).reshape(SIZE)

    def test_they_are_refused_until_the_user_decides(self, data: Path, tmp_path: Path) -> None:
        folder = write(tmp_path / "maps", with_alpha(self.RAMP, CLEAR))
        with pytest.raises(DataError, match=r"30 of 30 files .* stretches each map by itself.*vmin=0"):
            dimpoint.evaluate(folder, data)
        assert dimpoint.evaluate(folder, data, predictions_values="0-255")

    @pytest.mark.parametrize(
        "picture",
        [RAMP, with_alpha(GREY, CLEAR), with_alpha(RAMP // 2, CLEAR)],
        ids=["one channel", "a mask", "not to the full value"],
    )
    def test_others_are_not(self, data: Path, tmp_path: Path, picture: Array) -> None:
        assert dimpoint.evaluate(write(tmp_path / "maps", picture), data)
