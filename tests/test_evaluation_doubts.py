"""Predictions that mean something else than their format says: a note names what it probably is."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import dimpoint
from dimpoint.datasets.dataset import open_dataset
from dimpoint.errors import DataError
from dimpoint.evaluation.subject import Data, open_predictions


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of 240x240 with a target each, at places that no reading maps onto each other."""
    root = tmp_path_factory.mktemp("data") / "SET"
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(12):
        x, y = int(rng.integers(130, 220)), int(rng.integers(20, 100))
        mask = np.zeros((240, 240), np.uint8)
        mask[y - 1 : y + 2, x - 1 : x + 2] = 255
        frame = rng.integers(80, 120, mask.shape).astype(np.uint8) + mask // 3
        cv2.imwrite(str(root / "images" / f"{number:02}.png"), frame)
        cv2.imwrite(str(root / "masks" / f"{number:02}.png"), mask)
    return root


def points_file(scenes: Path, path: Path, change: object) -> Path:
    """COCO points at the true places, changed by `change(x, y, width, height)`."""
    images, annotations = [], []
    for number, sample in enumerate(open_dataset(scenes)):
        height, width = sample.read_frame().shape
        images.append({"id": number, "file_name": sample.frame_path.name, "width": width, "height": height})
        for x, y in sample.read_points():
            place = change(float(x), float(y), width, height)
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": number, "category_id": 1, "score": 0.9,
                    "num_keypoints": 1, "keypoints": [*place, 2],
                }
            )  # fmt: skip
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "target"}]}
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x, y, w, h: (x, y), None),
        (lambda x, y, w, h: (y, x), "with x and y swapped"),
        (lambda x, y, w, h: (100 * x / w, 100 * y / h), "in percent of the frame"),
        (lambda x, y, w, h: (x / w, y / h), "as fractions of the frame"),
        (lambda x, y, w, h: (x, h - 1 - y), "counted from the bottom left"),
    ],
)
def test_predicted_points(scenes: Path, tmp_path: Path, change: object, said: str | None) -> None:
    evaluation = dimpoint.evaluate(points_file(scenes, tmp_path / "p.json", change), scenes)
    found = [note for note in evaluation.results[0].notes if note.startswith("none of the")]
    assert len(found) == (said is not None)
    assert said is None or f"predictions are read {said}" in found[0]


def test_predictions_of_some_frames(scenes: Path, tmp_path: Path) -> None:
    """Every second row in percent: the frames in which none is found say so."""
    count = iter(range(99))
    path = points_file(
        scenes,
        tmp_path / "p.json",
        lambda x, y, w, h: (x, y) if next(count) % 2 else (100 * x / w, 100 * y / h),
    )
    (note,) = [note for note in dimpoint.evaluate(path, scenes).results[0].notes if "are read" in note]
    assert note.startswith(
        "6 targets are in frames in which none is found; 6 are, if predictions are read in p"
    )


def test_repeated_predictions(scenes: Path, tmp_path: Path) -> None:
    path = points_file(scenes, tmp_path / "p.json", lambda x, y, w, h: (x, y))
    content = json.loads(path.read_text())
    content["annotations"] += [one | {"id": one["id"] + 100} for one in content["annotations"][:3]]
    path.write_text(json.dumps(content))
    notes = dimpoint.evaluate(path, scenes).results[0].notes
    assert [note for note in notes if note.startswith("3 predictions lie exactly where another")]


def test_scores_belong_to_images_whose_ids_are_written_otherwise(scenes: Path, tmp_path: Path) -> None:
    path = points_file(scenes, tmp_path / "p.json", lambda x, y, w, h: (x, y))
    plain = dimpoint.evaluate(path, scenes).to_csv()
    content = json.loads(path.read_text())
    for one in content["annotations"]:
        one["image_id"] = str(one["image_id"])
    path.write_text(json.dumps(content))
    assert dimpoint.evaluate(path, scenes).to_csv() == plain


def test_a_csv_file_is_refused_with_what_is_read(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("file,x,y,score\n00.png,1,2,0.9\n")
    with pytest.raises(DataError, match=r"does not list the frames without detections.*detections\.json"):
        open_predictions(tmp_path / "p.csv", Data((scenes,)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m, None),
        (
            lambda m: m * 0.47,
            "no pixel of the 12 maps is above the threshold of 0.5; the highest value is 0.",
        ),
        (lambda m: 255 - m, "inverted (1 - p)"),
        (
            lambda m: cv2.normalize(
                cv2.GaussianBlur(m.astype(np.float32), (0, 0), 20), None, 0, 255, cv2.NORM_MINMAX
            ),
            "stretched",
        ),
    ],
)
def test_predicted_maps(scenes: Path, tmp_path: Path, change: object, said: str | None) -> None:
    for mask in sorted((scenes / "masks").glob("*.png")):
        soft = cv2.GaussianBlur(cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE), (0, 0), 0.7)
        cv2.imwrite(str(tmp_path / mask.name), change(soft).astype(np.uint8))
    notes = dimpoint.evaluate(tmp_path, scenes).results[0].notes
    found = [note for note in notes if "map" in note]
    assert len(found) == (said is not None), notes
    assert said is None or said in found[0]
