"""The panel: a model on frames that no training sees, figures with 95 % intervals, one JSON line for a part.

    python benchmarks/panel.py --data DATA [--model NAME_OR_FILE] [--save FILE] [--folder NAME]
    python benchmarks/panel.py --load FILE [--load FILE] --threshold 0.6

DATA holds the folders that `benchmarks/parts.py` lists; a part that is not there is named and left out.

- labelled: held-out scenes of four data sets, and (`-16bit`) the same frames with 16-bit counts.
- target-free: SIRST-v2, HIT-UAV-background (detections on cars do not count), aerial-16bit (people and cars
  may be there). `background` is all of them but aerial-16bit.
- clips: held-out clips, boxes of at most 25 px; a detection in a box, give or take 2 px, finds it.
- planted: targets of a known signal-to-clutter ratio in half of the held-out HIT-UAV-background frames.

`found_at_0.1`, `_0.5`, `_1`: recall at the threshold at which `background` holds that many false objects a
megapixel. `found`, `f1`, `false_frame`, `false_mpx`, `error` (px): at the model's own threshold. `ap`:
average precision. `found_at_0.05_frame`: recall at 0.05 false objects a frame of the part itself.
Intervals: bootstrap over scenes (clips, flights, frames of the labelled sets).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.datasets.boxes import Boxes, read_boxes
from dimpoint.datasets.dataset import open_dataset, training_split
from dimpoint.datasets.splits import hold_out_scenes, thumbnail
from dimpoint.inference.detector import Detector
from dimpoint.metrics.bootstrap import bootstrap
from dimpoint.metrics.points import match_points
from dimpoint.sources import read_image
from dimpoint.sources.video import read_video
from dimpoint.synthetic.planting import TargetConfig, plant
from parts import LABELLED, backgrounds, drone_clips, flight, sky_clips

LOWEST = 0.05  # a score before a calibration; lower ones are not looked at
SLACK = 2.0  # pixels around a box
LARGEST = 25.0  # pixels, the longest side of a box that counts
SCRS = (3.0, 6.0, 12.0)
NONE = np.empty((0, 4))

Frame = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Item:
    """A frame, its truth (points, or boxes that count) and regions in which detections do not count."""

    part: str
    unit: str
    frame: Frame
    points: npt.NDArray[Any] | None = None
    boxes: Boxes = field(default_factory=NONE.copy)
    ignore: Boxes = field(default_factory=NONE.copy)


@dataclass(frozen=True, eq=False)
class Outcome:
    """Scores of hits and of false objects in one frame; errors (pixels) of the hits."""

    part: str
    unit: str
    truths: int
    megapixels: float
    hits: npt.NDArray[Any]
    errors: npt.NDArray[Any]
    false: npt.NDArray[Any]


def labelled(root: Path) -> Iterator[Item]:
    part = open_dataset(root, training_split(root))
    frames = {sample: sample.read_frame() for sample in part}
    _, held = hold_out_scenes(part.samples, [thumbnail(f) for f in frames.values()], 0.15, 0)
    for sample in held:
        points, frame = sample.read_points(), frames[sample]
        name = root.name if len(points) else f"{root.name}-empty"
        yield Item(name, sample.name, frame, points)
        if len(points) and frame.dtype == np.uint8:
            yield Item(f"{name}-16bit", sample.name, frame.astype(np.uint16) * 64 + 2000, points)


def uav_background(root: Path) -> Iterator[Item]:
    cars = read_boxes(root / "boxes.csv", "file")
    for number, file in enumerate(backgrounds(root)[1]):
        frame, boxes = read_image(file), cars.get(file.name, NONE)
        yield Item("HIT-UAV", flight(file.name), frame, np.empty((0, 2)), ignore=boxes)
        if number % 2 == 0:
            for scr in SCRS:
                rng = np.random.default_rng(number)
                canvas = frame.astype(np.float32)
                target = TargetConfig(scr=(scr, scr), sigma=(0.6, 1.4), smear_share=0, blob_area=(4, 25))
                middles = (boxes[:, :2] + boxes[:, 2:]) / 2
                planted = plant(canvas, rng, 3, target, least_std=2.0, ceiling=255.0, avoid=middles)
                whole = np.round(canvas).clip(0, 255).astype(np.uint8)
                yield Item(f"planted-scr-{scr:g}", flight(file.name), whole, planted.points, ignore=boxes)


def aerial(root: Path) -> Iterator[Item]:
    for file in sorted((root / "images").glob("*.png")):
        yield Item("aerial-16bit", file.stem, read_image(file), np.empty((0, 2)))


def clips(name: str, held: list[Path], every: int) -> Iterator[Item]:
    for clip in held:
        boxes = read_boxes(clip.with_name(f"{clip.stem}_LABELS.csv"))
        for number, frame in islice(enumerate(read_video(clip)), 0, None, every):
            here = boxes.get(str(number), NONE)
            small = (here[:, 2:] - here[:, :2]).max(axis=1, initial=0) <= LARGEST
            yield Item(name, clip.stem, frame, None, here[small], here[~small])


def sources(data: Path) -> dict[str, Callable[[], Iterator[Item]]]:
    sky, drones = data / "IR-video", data / "AntiUAV-video"
    return {name: lambda name=name: labelled(data / name) for name in LABELLED} | {
        "HIT-UAV-background": lambda: uav_background(data / "HIT-UAV-background"),
        "aerial-16bit": lambda: aerial(data / "aerial-16bit"),
        "IR-video": lambda: clips("IR-video", sky_clips(sky)[1], 32),
        "AntiUAV-video": lambda: clips("AntiUAV-video", drone_clips(drones)[1], 10),
    }


def judge(detector: Detector, item: Item) -> Outcome:
    found = detector(item.frame)
    xy, scores = found.xy.astype(np.float64), found.scores
    if item.points is not None:
        match = match_points(xy, scores, item.points)
        hit, errors, truths = match.pairs[:, 0], match.distances, len(item.points)
    else:
        inside = _inside(xy, item.boxes)
        hit = np.array([int(np.flatnonzero(column)[0]) for column in inside.T if column.any()], np.int64)
        errors, truths = np.full(len(hit), np.nan), len(item.boxes)
    spared = _inside(xy, np.concatenate([item.ignore, item.boxes])).any(axis=1)
    spared[hit] = True
    size = item.frame.size / 1e6
    return Outcome(item.part, item.unit, truths, size, scores[hit], errors, scores[~spared])


def _inside(xy: npt.NDArray[Any], boxes: Boxes) -> npt.NDArray[np.bool_]:
    """Whether each detection, best first, lies in each box: (detections, boxes)."""
    here = xy[:, None]
    return ((here >= boxes[:, :2] - SLACK) & (here <= boxes[:, 2:] + SLACK)).all(axis=2)


def threshold_for(outcomes: list[Outcome], rate: float, per: Callable[[Outcome], float]) -> float:
    """The lowest threshold at which at most `rate` false objects for each unit of `per` lie above it."""
    false = np.sort(np.concatenate([np.empty(0), *(o.false for o in outcomes)]))[::-1]
    allowed = int(rate * sum(per(o) for o in outcomes) + 1e-9)
    return float(false[allowed]) if allowed < len(false) else 0.0


def describe(outcomes: list[Outcome], own: float, common: dict[str, float]) -> dict[str, Any]:
    truths = sum(o.truths for o in outcomes)
    size = sum(o.megapixels for o in outcomes)
    row: dict[str, Any] = {"frames": len(outcomes), "megapixels": round(size, 1), "targets": truths}
    row["false_frame"] = _interval(outcomes, own, lambda tp, fp, all_, n, mpx: fp / n)
    row["false_mpx"] = _interval(outcomes, own, lambda tp, fp, all_, n, mpx: fp / mpx)
    if not truths:
        return row
    row["found"] = _interval(outcomes, own, _recall)
    row["f1"] = _interval(outcomes, own, lambda tp, fp, all_, n, mpx: 2 * tp / (tp + fp + all_))
    for name, threshold in common.items():
        row[f"found_at_{name}"] = _interval(outcomes, threshold, _recall)
    at = threshold_for(outcomes, 0.05, lambda o: 1)
    row["found_at_0.05_frame"] = _interval(outcomes, at, _recall)
    row["ap"] = round(average_precision(outcomes), 4)
    errors = np.concatenate([o.errors[o.hits > own] for o in outcomes])
    row["error"] = round(float(errors.mean()), 3) if len(errors) and np.isfinite(errors).all() else None
    return row


def _recall(tp: Any, fp: Any, all_: Any, n: Any, mpx: Any) -> Any:
    return tp / all_


def _interval(outcomes: list[Outcome], at: float, number: Callable[..., Any]) -> list[float | None]:
    """[value, low, high], scenes drawn with replacement."""
    units: dict[str, npt.NDArray[Any]] = {}
    for o in outcomes:
        counts = np.array([(o.hits > at).sum(), (o.false > at).sum(), o.truths, 1, o.megapixels], np.float64)
        units[o.unit] = units.get(o.unit, np.zeros(5)) + counts
    table = np.stack(list(units.values()))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = bootstrap(len(table), lambda weights: number(*(weights @ table).T))
    return [None if value != value else round(value, 4) for value in (found.value, found.low, found.high)]


def average_precision(outcomes: list[Outcome]) -> float:
    """The area under precision over recall, every detection above 0.05 a step."""
    hits = np.concatenate([o.hits for o in outcomes])
    false = np.concatenate([o.false for o in outcomes])
    order = np.argsort(-np.concatenate([hits, false]), kind="stable")
    is_hit = (np.arange(len(order)) < len(hits))[order]
    precision = np.cumsum(is_hit) / np.arange(1, len(order) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best[is_hit].sum() / max(sum(o.truths for o in outcomes), 1))


def calibration(outcomes: list[Outcome]) -> list[list[float]]:
    """For ten bins of the score: mean score, part of the detections that are hits, detections."""
    scores = np.concatenate([*(o.hits for o in outcomes), *(o.false for o in outcomes)])
    right = np.arange(len(scores)) < sum(len(o.hits) for o in outcomes)
    bins = np.minimum((scores * 10).astype(int), 9)
    rows = [(scores[bins == b].mean(), right[bins == b].mean(), (bins == b).sum()) for b in set(bins)]
    return [[round(float(value), 3) for value in row] for row in sorted(rows)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument(
        "--load", type=Path, action="append", help="what --save wrote: report it anew, without a model"
    )
    parser.add_argument("--folder", action="append", help="only this folder of DATA; may be repeated")
    parser.add_argument("--model", help="shipped name or ONNX file; the default model if left out")
    parser.add_argument("--threshold", type=float, help="instead of the model's own")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save", type=Path, help="a JSON file for all scores")
    options = parser.parse_args()
    if options.load:
        together = [outcome for file in options.load for outcome in loaded(file)]
        report(together, options.threshold, str(options.load[0]))
        return
    model = Detector(options.model, threads=options.threads)
    own = model.rule.threshold if options.threshold is None else options.threshold
    detector = Detector(model.backend, threshold=float(model.rule.calibrated(LOWEST)))
    outcomes: list[Outcome] = []
    for name, items in sources(options.data).items():
        if options.folder and name not in options.folder:
            continue
        if not (options.data / name).is_dir():
            print(f"{options.data / name}: not there, left out", file=sys.stderr)
            continue
        outcomes += [judge(detector, item) for item in items()]
    if options.save:
        columns = ("part", "unit", "truths", "megapixels", "hits", "errors", "false")
        rows = [[np.asarray(getattr(o, c)).tolist() for c in columns] for o in outcomes]
        options.save.write_text(json.dumps({"columns": columns, "frames": rows}), encoding="utf-8")
    report(outcomes, own, options.model or "default")


def loaded(file: Path) -> list[Outcome]:
    content = json.loads(file.read_text(encoding="utf-8"))
    frames = [dict(zip(content["columns"], row, strict=True)) for row in content["frames"]]
    arrays = ("hits", "errors", "false")
    return [Outcome(**{**f, **{name: np.array(f[name], np.float64) for name in arrays}}) for f in frames]


def report(outcomes: list[Outcome], own: float, model: str) -> None:
    background = [o for o in outcomes if o.part in ("HIT-UAV", "SIRST-v2-empty")]
    rates = {str(rate): threshold_for(background, rate, lambda o: o.megapixels) for rate in (0.1, 0.5, 1)}
    thresholds = {name: round(value, 4) for name, value in rates.items()}
    print(json.dumps({"model": model, "threshold": own, "threshold_at": thresholds}), flush=True)
    parts = {
        name: [o for o in outcomes if o.part == name] for name in dict.fromkeys(o.part for o in outcomes)
    }
    eight = [o for o in outcomes if o.part in LABELLED]
    groups = {**parts, "labelled": eight, "background": background}
    groups["labelled-16bit"] = [o for o in outcomes if o.part.endswith("-16bit") and o.truths]
    for name, part in groups.items():
        if part:
            print(json.dumps({"part": name, **describe(part, own, rates)}), flush=True)
    every = [o for o in outcomes if not (o.part.endswith("16bit") or o.part.startswith("planted"))]
    if every:
        print(json.dumps({"part": "calibration", "bins": calibration(every)}), flush=True)


if __name__ == "__main__":
    main()
