"""Labels that lie beside the spots of their frames: other coordinates are told, true ones are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_sets import save, write_json
from dimpoint.datasets.check import check_dataset
from dimpoint.datasets.convert import convert_labels
from dimpoint.datasets.dataset import open_dataset
from dimpoint.datasets.places import placement
from dimpoint.datasets.plausibility import demand_plausible
from dimpoint.datasets.reading import POINT_RULES, Reading
from dimpoint.errors import ConfigError, DataError
from dimpoint.evaluation.truth import open_truth

SIDE = 160
Change = Callable[[float, float], tuple[float, float]]


def scenes(root: Path, frames: int, change: Change, size: tuple[int, int] = (SIDE, SIDE)) -> Path:
    """Noise with one spot a frame, and COCO points at the places that `change` makes of the true ones."""
    rng = np.random.default_rng(7)
    height, width = size
    images, annotations = [], []
    for number in range(frames):
        x, y = int(rng.integers(15, width - 15)), int(rng.integers(15, height - 15))
        frame = cv2.GaussianBlur(rng.normal(90, 12, size), (0, 0), 1.5)
        frame[y - 1 : y + 2, x - 1 : x + 2] += 60
        save(root / "images" / f"{number:02}.png", frame.clip(0, 255).astype(np.uint8))
        images.append({"id": number, "file_name": f"{number:02}.png", "width": width, "height": height})
        annotations.append({"id": number, "image_id": number, "keypoints": [*change(x, y), 2]})
    write_json(root / "points.json", {"images": images, "annotations": annotations})
    return root


OTHER: dict[str, tuple[Change, str]] = {
    "swapped": (lambda x, y: (y, x), "with x and y swapped"),
    "percent": (lambda x, y: (100 * x / SIDE, 100 * y / SIDE), "in percent of the frame"),
    "bottom-left": (lambda x, y: (x, SIDE - 1 - y), "counted from the bottom left"),
    "": (lambda x, y: (SIDE - 1 - x, y), "counted from the top right"),
}


@pytest.mark.parametrize("option", OTHER)
def test_other_coordinates_stop_and_their_option_reads(tmp_path: Path, option: str) -> None:
    change, text = OTHER[option]
    root = scenes(tmp_path / "set", 12, change)
    remedy = f"--points {option}" if option else "write them in pixels from the top left"
    message = (
        rf"targets by points lie on spots .* if the points are read {text}: {remedy}, or --accept-labels"
    )
    with pytest.raises(DataError, match=message):
        demand_plausible([open_dataset(root)])
    with pytest.raises(DataError, match=message):
        open_truth([root], notes=[])
    assert [one.kind for one in check_dataset(root).findings if one.severity == "error"] == [
        "points-elsewhere"
    ]
    assert demand_plausible([open_dataset(root, reading=Reading(accept=True))]) == []
    if option:
        data = open_dataset(root, reading=Reading(points=frozenset({option})))
        assert demand_plausible([data]) == []
        true = scenes(tmp_path / "true", 12, lambda x, y: (x, y))
        for one, other in zip(data, open_dataset(true), strict=True):
            np.testing.assert_allclose(one.read_points(), other.read_points(), atol=1e-3)


def test_points_counted_from_one_are_told(tmp_path: Path) -> None:
    root = scenes(tmp_path / "set", 14, lambda x, y: (x + 1, y + 1))
    (note,) = demand_plausible([open_dataset(root)])
    assert "--points one-based" in note
    assert demand_plausible([open_dataset(root, reading=Reading(points=frozenset({"one-based"})))]) == []


@pytest.mark.parametrize("frames", [1, 4, 12, 40])
def test_true_labels_raise_no_doubt(tmp_path: Path, frames: int) -> None:
    assert demand_plausible([open_dataset(scenes(tmp_path, frames, lambda x, y: (x, y)))]) == []


def test_labels_of_targets_that_cannot_be_seen_raise_no_doubt(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    root = scenes(tmp_path, 14, lambda _x, _y: (rng.uniform(15, 145), rng.uniform(15, 145)))
    assert demand_plausible([open_dataset(root)]) == []


def test_clutter_that_stands_still_counts_once(tmp_path: Path) -> None:
    """A fixed camera and a faint target at one place, whose mirror image is a bright lamp."""
    rng = np.random.default_rng(2)
    root = scenes(tmp_path, 20, lambda x, y: (40.0, 100.0))
    for path in sorted((root / "images").glob("*.png")):
        frame = cv2.GaussianBlur(rng.normal(90, 12, (SIDE, SIDE)), (0, 0), 1.5)
        frame[39:42, 99:102] += 90
        save(path, frame.clip(0, 255).astype(np.uint8))
    assert demand_plausible([open_dataset(root)]) == []


@pytest.mark.parametrize("turn", [np.flipud, np.fliplr, np.transpose, np.rot90])
def test_masks_that_are_turned(tmp_path: Path, turn: Callable[..., np.ndarray]) -> None:
    root = scenes(tmp_path, 12, lambda x, y: (x, y))
    for sample in open_dataset(root):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        x, y = sample.read_points()[0].astype(int)
        mask[y - 1 : y + 2, x - 1 : x + 2] = 255
        save(root / "masks" / sample.frame_path.name, np.ascontiguousarray(turn(mask)))
    (root / "points.json").unlink()
    with pytest.raises(DataError, match=r"targets by masks .* save the masks as the frames are"):
        demand_plausible([open_dataset(root)])
    assert "masks-elsewhere" in [one.kind for one in check_dataset(root).findings]


def test_swapped_points_outside_their_frames_are_explained(tmp_path: Path) -> None:
    root = scenes(tmp_path, 8, lambda x, y: (y, x), (240, 120))
    with pytest.raises(
        DataError, match=r"outside the 120x240 frame; all points are inside if .*--points swapped"
    ):
        open_dataset(root)
    open_dataset(root, reading=Reading(points=frozenset({"swapped"})))


def test_converted_labels_are_looked_at(tmp_path: Path) -> None:
    root = scenes(tmp_path, 12, lambda x, y: (y, x))
    rows = [
        f"{sample.frame_path.name},{x:g},{y:g}"
        for sample in open_dataset(root)
        for x, y in sample.read_points()
    ]
    (root / "points.json").unlink()
    (root / "labels.csv").write_text("\n".join(["file,x,y", *rows]))
    assert "with x and y swapped: --points swapped" in convert_labels(root).notes[0]


def test_unreadable_frames_are_skipped(tmp_path: Path) -> None:
    root = scenes(tmp_path, 12, lambda x, y: (y, x))
    for number in (0, 5):
        (root / "images" / f"{number:02}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert placement(open_dataset(root).samples).rule is not None


def test_readings_that_exclude_each_other() -> None:
    assert {"swapped", "percent", "normalised", "bottom-left", "one-based"} < set(POINT_RULES)
    with pytest.raises(ConfigError, match="not both"):
        Reading(points=frozenset({"percent", "normalised"}))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["NUAA-SIRST", "NUDT-SIRST", "IRSTD-1K"])
def test_real_sets_raise_no_doubt(shared_data: Path, name: str) -> None:
    samples = open_dataset(shared_data / name).samples
    for part in (samples[:5], samples[100:112], samples[::40]):
        seen = placement(part)
        assert (seen.rule, seen.shift) == (None, None)
        assert seen.places > 0


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("one-based,bottom-left", (2, 36)),
        ("one-based,bottom-left,swapped", (3, 37)),
        ("one-based,swapped", (3, 2)),
        ("bottom-left", (3, 35)),
    ],
)
def test_several_readings_of_one_point(rules: str, expected: tuple[float, float]) -> None:
    """From the bottom, the lowest row is 1 where rows are counted from 1."""
    assert Reading(points=frozenset(rules.split(","))).to_pixels(3, 4, (40, 50)) == expected
