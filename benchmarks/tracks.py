"""Tracks beside single frames on clips with a box for every frame: one JSON line a clip and one for all.

    python benchmarks/tracks.py --clips IR-video --part untouched [--per-group 1] [--seconds 5]

The groups of `scene_groups.json` (clips that share a background), sorted, are permuted with seed 0: the
first half is `choose`, the rest `untouched`. Taken are clips whose boxes are all 25 pixels or smaller, the
first `--per-group` of each group by name.

`covered`: labelled boxes that hold a confirmed track's point, give or take two pixels. `single`: those that
hold a detection at the model's own threshold. `false_tracks`: confirmed tracks with fewer than half of their
points in boxes. `switches`: changes of the covering track's id. `confirmed_after`: seconds from the first box
to the first confirmation of a true track. ms: medians of one frame; `other`: camera motion and tracker.

`--candidates DIR` keeps what the network found, and reads it again in later runs with the same model: then
`network_ms` is that of the first run.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from dimpoint.inference.detections import Detections
from dimpoint.inference.detector import Detector
from dimpoint.sources import Frame, Picture
from dimpoint.sources.video import video_frames
from dimpoint.tracking.stream import CANDIDATE_SCORE, Clock, Run
from dimpoint.tracking.track import Track
from dimpoint.tracking.tracker import Tracker

SLACK = 2.0  # pixels
LARGEST = 25.0  # pixels, of a box's side

Boxes = dict[int, list[tuple[float, float, float, float]]]


def read_boxes(path: Path) -> Boxes:
    boxes: Boxes = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            x, y, width, height = (float(row[key]) for key in ("x", "y", "width", "height"))
            boxes.setdefault(int(row["frame"]), []).append((x, y, x + width, y + height))
    return boxes


def chosen_clips(folder: Path, part: str, per_group: int) -> list[Path]:
    groups = sorted(sorted(group) for group in json.loads((folder / "scene_groups.json").read_text("utf-8")))
    order = np.random.default_rng(0).permutation(len(groups))
    half = len(groups) // 2
    clips = []
    for number in order[:half] if part == "choose" else order[half:]:
        small = [name for name in groups[number] if _largest(folder / f"{name}_LABELS.csv") <= LARGEST]
        clips += [folder / f"{name}.mp4" for name in small[:per_group]]
    return clips


def _largest(labels: Path) -> float:
    boxes = read_boxes(labels)
    return max(max(box[2] - box[0], box[3] - box[1]) for row in boxes.values() for box in row)


def inside(boxes: Boxes, frame: int, x: float, y: float) -> set[tuple[int, int]]:
    """The boxes of a frame that hold a point."""
    held = set()
    for number, (left, top, right, bottom) in enumerate(boxes.get(frame, ())):
        if left - SLACK <= x <= right + SLACK and top - SLACK <= y <= bottom + SLACK:
            held.add((frame, number))
    return held


NOTHING = Detections(np.zeros((0, 2), np.float32), np.zeros(0, np.float32))


class Timed:
    """A detector that keeps what it found and how long it took, in memory and in a file."""

    def __init__(self, detector: Detector, file: Path | None) -> None:
        self.detector, self.file = detector, file
        self.found: list[Any] = []
        self.seconds: list[float] = []  # of the network
        self.spent: list[float] = []  # in this run
        self.kept: list[tuple[Detections, float]] = []
        if file is not None and file.exists():
            with np.load(file) as rows:
                ends = rows["ends"].tolist()
                for begin, end, seconds in zip([0, *ends], ends, rows["seconds"].tolist(), strict=False):
                    one = Detections(rows["xy"][begin:end], rows["scores"][begin:end])
                    self.kept.append((one, seconds))

    def __call__(self, frame: Any, /) -> Any:
        at = len(self.found)
        begin = time.perf_counter()
        found, seconds = self.kept[at] if at < len(self.kept) else (self.detector(frame), None)
        self.spent.append(time.perf_counter() - begin)
        self.pass_over(found, self.spent[-1] if seconds is None else seconds, spent=False)
        return found

    def pass_over(self, found: Any = NOTHING, seconds: float = 0.0, *, spent: bool = True) -> None:
        """Count a frame, or one (frozen, blank) that nobody asked for."""
        self.found.append(found)
        self.seconds.append(seconds)
        if spent:
            self.spent.append(0.0)

    def keep(self) -> None:
        """Write the file if there is anything new."""
        if self.file is None or len(self.kept) >= len(self.found):
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        ends = np.cumsum([len(one) for one in self.found])
        xy, scores = (np.concatenate([getattr(one, key) for one in self.found]) for key in ("xy", "scores"))
        np.savez(self.file, ends=ends, xy=xy, scores=scores, seconds=self.seconds)


def follow(
    clip: Path, detector: Detector, threshold: float, seconds: float | None, kept: Path | None
) -> dict[str, Any]:
    boxes = read_boxes(clip.with_name(f"{clip.stem}_LABELS.csv"))
    frames = (
        Frame(clip.name, picture.pixels, clip, number, time=picture.time)
        for number, picture in video_frames(clip)
        if isinstance(picture, Picture)
        if seconds is None or (picture.time or 0) < seconds
    )
    finder = Timed(detector, None if kept is None else kept / f"{clip.stem}.npz")
    run = Run(frames, finder, Tracker(), Clock())
    numbers, times, whole = [], [], []
    begin = time.perf_counter()
    single: set[tuple[int, int]] = set()
    false_objects = 0
    for frame, _ in run:
        whole.append(time.perf_counter() - begin)
        numbers.append(run.number)
        times.append(frame.time or 0.0)
        if len(finder.found) < run.count:
            finder.pass_over()
        found = finder.found[-1]
        for (x, y), score in zip(found.xy, found.scores, strict=True):
            if score > threshold:
                held = inside(boxes, run.number, x, y)
                single |= held
                false_objects += not held
        begin = time.perf_counter()
    finder.keep()
    labelled = {(number, one) for number in numbers for one in range(len(boxes.get(number, ())))}
    record = judged(run.result().of("confirmed"), boxes, times, numbers)
    covered = record.pop("held") & labelled
    other = np.array(whole) - np.array(finder.spent)
    return {
        "frames": len(numbers),
        "seconds": round(times[-1] - times[0], 2),
        "boxes": len(labelled),
        "covered": len(covered),
        "single": len(single),
        "false_objects": false_objects,
        **record,
        "static": len(run.result().of("static")),
        "network_ms": round(1000 * float(np.median(finder.seconds)), 1),
        "other_ms": round(1000 * float(np.median(other)), 2),
    }


def judged(tracks: list[Track], boxes: Boxes, times: list[float], numbers: list[int]) -> dict[str, Any]:
    held: set[tuple[int, int]] = set()
    by_frame: dict[int, set[int]] = {}
    false_tracks, first = [], None
    for one in tracks:
        points = one.trimmed()
        hits = [inside(boxes, point.frame, point.x, point.y) for point in points]
        held = held.union(*hits)
        if sum(map(bool, hits)) < len(points) / 2:
            middle = points[len(points) // 2]
            false_tracks.append([middle.frame, round(middle.x), round(middle.y), len(points)])
            continue
        assert one.confirmed_at is not None
        first = one.confirmed_at if first is None else min(first, one.confirmed_at)
        for point, hit in zip(points, hits, strict=True):
            if hit:
                by_frame.setdefault(point.frame, set()).add(one.id)
    switches = sum(
        not by_frame[now] & by_frame[then]
        for then, now in zip(sorted(by_frame), sorted(by_frame)[1:], strict=False)
    )
    begins = min((when for when, number in zip(times, numbers, strict=True) if number in boxes), default=0.0)
    after = None if first is None else round(first - begins, 3)
    return {"held": held, "false_tracks": false_tracks, "switches": switches, "confirmed_after": after}


def summary(parts: list[dict[str, Any]]) -> dict[str, Any]:
    def total(key: str) -> float:
        return sum(part[key] for part in parts)

    delays = np.array([part["confirmed_after"] or np.inf for part in parts], float)
    minutes = total("seconds") / 60
    return {
        "clips": len(parts),
        "minutes": round(minutes, 2),
        "covered": round(total("covered") / total("boxes"), 4),
        "single": round(total("single") / total("boxes"), 4),
        "false_tracks_per_minute": round(sum(len(part["false_tracks"]) for part in parts) / minutes, 2),
        "false_objects_per_minute": round(total("false_objects") / minutes, 1),
        "switches_per_clip": round(total("switches") / len(parts), 3),
        "confirmed_within_0.3_s": round(float((delays <= 0.3).mean()), 3),
        "confirmed_within_1_s": round(float((delays <= 1).mean()), 3),
        "network_ms": float(np.median([part["network_ms"] for part in parts])),
        "other_ms": float(np.median([part["other_ms"] for part in parts])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=Path, required=True, help="a folder of .mp4 and _LABELS.csv files")
    parser.add_argument("--part", choices=["choose", "untouched"], default="choose")
    parser.add_argument("--per-group", type=int, default=1, help="clips of each group")
    parser.add_argument("--seconds", type=float, help="of each clip; all if left out")
    parser.add_argument("--model", help="shipped name or ONNX file; the default model if left out")
    parser.add_argument("--candidates", type=Path, help="folder in which the network's results are kept")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    own = Detector(options.model, threads=options.threads, calibrated=False)
    detector = Detector(own.backend, threshold=CANDIDATE_SCORE, calibrated=False)
    parts = []
    for clip in chosen_clips(options.clips, options.part, options.per_group):
        parts.append(follow(clip, detector, own.rule.threshold, options.seconds, options.candidates))
        print(json.dumps({"clip": clip.stem, **parts[-1]}), flush=True)
    print(json.dumps({"clip": "all", "part": options.part, **summary(parts)}))


if __name__ == "__main__":
    main()
