"""What is written as COCO scores in pycocotools as our own metric scores it."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from dimpoint.datasets.coco import PointImage, write_points
from dimpoint.inference.detections import Detections, coco_content
from dimpoint.metrics.points import PointCounts, match_points

pycocotools = pytest.importorskip("pycocotools.cocoeval")

SIZE = (256, 320)
# OKS = exp(-d^2 / (2 (2 sigma)^2 area)) is 0.5 at d = 5 px for the area of 25 that is written.
SIGMA = np.sqrt(25 / (2 * np.log(2) * 25)) / 2

Points = npt.NDArray[np.float32]


def scored(truth: list[Points], found: list[tuple[Points, Points]], folder: Path) -> tuple[int, int, float]:
    """Matched and false detections, and recall, by pycocotools, from the files that we write."""
    images = [PointImage(f"{i}.png", SIZE[1], SIZE[0], xy) for i, xy in enumerate(truth)]
    write_points(folder / "truth.json", images)
    items = [
        Detections(xy, scores, file=f"{i}.png", width=SIZE[1], height=SIZE[0])
        for i, (xy, scores) in enumerate(found)
    ]
    annotations = coco_content(items)["annotations"]
    (folder / "found.json").write_text(json.dumps(annotations))
    with contextlib.redirect_stdout(io.StringIO()):
        from pycocotools.coco import COCO

        ground = COCO(str(folder / "truth.json"))
        evaluation = pycocotools.COCOeval(ground, ground.loadRes(str(folder / "found.json")), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array([SIGMA])
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.params.maxDets = [1000]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    parts = [part for part in evaluation.evalImgs if part is not None]
    matched = sum(int((part["dtMatches"] > 0).sum()) for part in parts)
    every = sum(part["dtMatches"].size for part in parts)
    return matched, every - matched, float(evaluation.eval["recall"][0, 0, 0, 0])


@pytest.mark.parametrize("shift", [0.0, 2.0, 4.9, 5.2], ids=lambda value: f"{value} px off")
def test_matches_and_recall_are_ours(shift: float, tmp_path: Path) -> None:
    """Targets at least 40 px apart, some of them found, some spots false."""
    rng = np.random.default_rng(0)
    truth, found, counts = [], [], []
    for _ in range(6):
        grid = np.stack(np.meshgrid(np.arange(30, 300, 45), np.arange(30, 230, 45)), -1).reshape(-1, 2)
        places = rng.permutation(grid)[:8].astype(np.float32)
        targets, false = places[:5], places[5:]
        angle = rng.uniform(0, 2 * np.pi, 4)
        near = targets[:4] + shift * np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
        xy = np.concatenate([near, false]).astype(np.float32)
        scores = rng.uniform(0.1, 1, len(xy)).astype(np.float32)
        truth.append(targets)
        found.append((xy, scores))
        counts.append(PointCounts.of_frame(match_points(xy, scores, targets), SIZE))
    ours = PointCounts.total(counts)
    matched, false_count, recall = scored(truth, found, tmp_path)
    assert (matched, false_count) == (ours.tp, ours.fp)
    assert recall == pytest.approx(ours.recall)
    assert ours.tp == (24 if shift < 5 else 0)


def test_a_perfect_detector_scores_one(tmp_path: Path) -> None:
    xy = np.array([[10, 10], [100.5, 50.25]], np.float32)
    assert scored([xy], [(xy, np.array([0.9, 0.4], np.float32))], tmp_path) == (2, 0, 1.0)
