"""F1 on frames nobody labelled, against the number of labelled frames: most doubtful first, and random order.

    python benchmarks/label_study.py --set clips --data IR-video --clips A B --work DIR --out study.jsonl
    python benchmarks/label_study.py --set NUAA-SIRST --data NUAA-SIRST --work DIR --out study.jsonl
    python benchmarks/label_study.py --out study.jsonl --picture study.png

A labeller is simulated on a project of `dimpoint label`: it clicks each true target with a normal error of 1
pixel in x and in y, the click snaps to the blob under it as on the page, and a frame without targets gets
that answer. At 10, 20, 40 and 80 labelled frames the project trains as from the page (recipe `finetune`, from
the shipped default); the new model proposes and judges doubt from then on. The length of a training is the
recipe's own 300 steps, whatever else the machine does; `processor_s` is the time of all cores that it took.

clips: the pool is the first 150 frames of each of two clips, the untouched rest every third later frame. True
points are the spots in the boxes; a box without a spot is an ignore region. NUAA-SIRST: the pool is the
training part (the shipped default has been trained on it), the rest the test part; nothing is chosen by it.

One JSON line a point; lines that are there already are not measured again. `f1` is at the model's own
threshold, with 5 pixels for a match. The last command prints the table and draws the picture.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.datasets.boxes import label_boxes, read_boxes
from dimpoint.datasets.dataset import open_dataset
from dimpoint.inference.detector import Detector
from dimpoint.labelling.frames import list_frames
from dimpoint.labelling.project import Project
from dimpoint.labelling.snap import snap
from dimpoint.labelling.store import Labels, LabelStore
from dimpoint.metrics.points import match_points, spared
from dimpoint.sources.video import read_video

ORDERS = {"doubt": "most doubtful first", "random": "random order"}
_POOLED = 150  # frames of each clip

Pixels = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Truth:
    """The true labels of a frame. ignore: regions that do not count."""

    points: npt.NDArray[Any]
    ignore: npt.NDArray[Any]


@dataclass(frozen=True)
class Material:
    """sources: of the project. pool: true labels by frame name. rest: frames that nobody labels.

    held_out: how a training holds frames out.
    """

    sources: list[Path]
    pool: dict[str, Truth]
    rest: Callable[[], Iterator[tuple[Pixels, Truth]]]
    held_out: str


def clips(folder: Path, names: list[str], every: int) -> Material:
    pool: dict[str, Truth] = {}
    for name in names:
        for number, pixels in enumerate(read_video(folder / f"{name}.mp4")):
            if number < _POOLED:
                pool[f"{name}_{number:06d}"] = _in_boxes(pixels, _boxes(folder, name).get(str(number)))

    def rest() -> Iterator[tuple[Pixels, Truth]]:
        for name in names:
            boxes = _boxes(folder, name)
            for number, pixels in enumerate(read_video(folder / f"{name}.mp4")):
                if number >= _POOLED and number % every == 0:
                    yield pixels, _in_boxes(pixels, boxes.get(str(number)))

    return Material([folder / f"{name}.mp4" for name in names], pool, rest, "time")


def _boxes(folder: Path, name: str) -> dict[str, npt.NDArray[Any]]:
    return read_boxes(folder / f"{name}_LABELS.csv")


def _in_boxes(pixels: Pixels, boxes: npt.NDArray[Any] | None) -> Truth:
    labels = label_boxes(pixels, np.empty((0, 4)) if boxes is None else boxes)
    return Truth(labels.points, labels.ignore)


def still_frames(folder: Path) -> Material:
    train, test = (open_dataset(folder, split=split).samples for split in ("train", "test"))
    none = np.empty((0, 4))
    pool = {sample.name: Truth(np.asarray(sample.read_points()), none) for sample in train}
    sources = [sample.frame_path for sample in train]

    def rest() -> Iterator[tuple[Pixels, Truth]]:
        for sample in test:
            yield sample.read_frame(), Truth(np.asarray(sample.read_points()), none)

    return Material(sources, pool, rest, "scene")


def judge(model: Path | None, frames: Iterable[tuple[Pixels, Truth]]) -> dict[str, Any]:
    """Counts and F1 at the model's own threshold."""
    detector = Detector(model, threads=1)
    found = false = missed = seen = 0
    for pixels, truth in frames:
        detections = detector(pixels)
        match = match_points(detections.xy, detections.scores, truth.points)
        left_out = spared(detections.xy, truth.points, truth.ignore)
        found += len(match.pairs)
        false += sum(not left_out[index] for index in match.false)
        missed += len(match.missed)
        seen += 1
    f1 = 2 * found / max(2 * found + false + missed, 1)
    return {"frames": seen, "found": found, "missed": missed, "false": int(false), "f1": round(f1, 4)}


class Study:
    """One project, labelled in one order."""

    def __init__(self, material: Material, folder: Path, order: str, seed: int) -> None:
        self.material, self.folder, self.order = material, folder, order
        self.rng = np.random.default_rng(seed)
        if not (folder / "labels.db").exists():
            folder.mkdir(parents=True, exist_ok=True)
            store = LabelStore(folder / "labels.db")
            listed = list_frames(material.sources)
            store.add_frames([frame for frame in listed if frame.name in material.pool])
            store.close()
        self.project = Project(folder)
        names = {name: self.project.store.find(name) for name in material.pool}
        lost = [name for name, key in names.items() if key is None]
        assert not lost, f"names that the project lacks: {lost[:3]}"
        self.truth = {key: material.pool[name] for name, key in names.items() if key is not None}
        self.queue = [int(key) for key in self.rng.permutation(sorted(self.truth))]

    def label(self, frame: int) -> None:
        """What the labeller does with a frame."""
        truth, pixels = self.truth[frame], self.project.pixels(frame)
        size = np.array(pixels.shape[::-1]) - 1
        points = []
        for point in truth.points:
            click = np.clip(point + self.rng.normal(0, 1, 2), 0, size)
            points.append(snap(pixels, *click) or tuple(click.tolist()))
        version = self.project.store.labels(frame).version
        near = (np.hypot(*(_middles(truth.ignore)[:, None] - truth.points[None]).T) < 8).any(axis=0)
        regions = tuple(tuple(box) for box, hit in zip(truth.ignore.tolist(), near, strict=True) if not hit)
        labels = Labels(version, "empty", tuple(points), regions, author="simulated")
        self.project.save(frame, labels)

    def label_until(self, count: int) -> None:
        done = self.project.store.count()
        after = None
        for _ in range(done["targets"] + done["empty"], count):
            if self.order == "doubt":
                self.project.scan(len(self.truth))
                after = self.project.store.most_doubtful(after)
                assert after is not None
                self.label(after)
            else:
                frame = next(key for key in self.queue if self.project.store.labels(key).version == 0)
                self.label(frame)

    def train(self) -> tuple[Path, float, float]:
        """A run of the recipe from the shipped default: its model, seconds, seconds of all processors."""
        self.project.export()
        recipe = self.folder / "study.yaml"
        recipe.write_text(
            f"base: finetune\nmost_minutes: 1000\nvalidation_by: {self.material.held_out}\n", "utf-8"
        )
        number = 1 + len(list(self.folder.glob("runs/[0-9]*/")))
        run = self.folder / "runs" / f"{number:03d}"
        command = [sys.executable, "-m", "dimpoint", "train", str(recipe), "--data", str(self.folder)]
        begin, spent = time.perf_counter(), _children()
        done = subprocess.run([*command, "--out", str(run)], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return run / "model.onnx", time.perf_counter() - begin, _children() - spent


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _middles(boxes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.stack([boxes[:, [0, 2]].mean(axis=1), boxes[:, [1, 3]].mean(axis=1)], axis=1)


def measure(options: argparse.Namespace) -> None:
    known = _lines(options.out)
    name = "+".join(options.clips) if options.set == "clips" else options.set
    material = (
        clips(options.data, options.clips, options.every)
        if options.set == "clips"
        else still_frames(options.data)
    )

    def add(line: dict[str, Any]) -> None:
        with options.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    if not any(line["set"] == name and line["labelled"] == 0 for line in known):
        add({"set": name, "order": None, "seed": None, "labelled": 0, **judge(None, material.rest())})
    for seed in options.seeds:
        for order in options.orders:
            study = Study(material, options.work / f"{name}-{order}-{seed}", order, seed)
            for count in options.counts:
                key = {"set": name, "order": order, "seed": seed, "labelled": count}
                there = [line for line in known if line.items() >= key.items()]
                if there:
                    study.project.use_model(study.folder / "runs" / there[0]["run"] / "model.onnx")
                    continue
                study.label_until(count)
                model, seconds, spent = study.train()
                study.project.use_model(model)
                found = judge(model, material.rest())
                cost = {"train_s": round(seconds), "processor_s": round(spent)}
                load = {"load": round(os.getloadavg()[0], 1)}
                add({**key, **found, **cost, **load, "run": model.parent.name})
            study.project.close()


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def show(lines: list[dict[str, Any]], picture: Path | None) -> None:
    """The table, F1 as mean over seeds (range where there are several), and the same as a picture."""
    sets = list(dict.fromkeys(line["set"] for line in lines))
    counts = sorted({line["labelled"] for line in lines if line["labelled"]})
    table: dict[tuple[str, str], dict[int, list[float]]] = {}
    for line in lines:
        for order in [line["order"]] if line["order"] else ORDERS:
            table.setdefault((line["set"], order), {}).setdefault(line["labelled"], []).append(line["f1"])
    print(f"| frames | order | default | {' | '.join(map(str, counts))} |")
    print("|---" * (3 + len(counts)) + "|")
    for (name, order), values in table.items():
        cells = [_cell(values.get(count, [])) for count in (0, *counts)]
        print(f"| {name} | {ORDERS[order]} | {' | '.join(cells)} |")
    if picture is None:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(sets), 3.4), layout="constrained")
    axes = figure.subplots(1, len(sets), squeeze=False)[0]
    for name, ax in zip(sets, axes, strict=True):
        for order, colour in zip(ORDERS, ("#1f77b4", "#d98c00"), strict=True):
            values = table.get((name, order), {})
            labelled = [count for count in counts if count in values]
            mean = [float(np.mean(values[count])) for count in labelled]
            ax.plot(labelled, mean, "o-", color=colour, label=ORDERS[order])
            for count in labelled:
                ax.plot([count] * len(values[count]), values[count], ".", color=colour, alpha=0.5)
            if 0 in values:
                ax.axhline(values[0][0], color="#777777", linestyle="--", linewidth=1)
        ax.set(title=name.replace("+", " and "), xlabel="labelled frames", ylabel="F1 on the untouched rest")
        ax.title.set_fontsize(10)
        ax.set_xticks(counts)
        ax.grid(alpha=0.3)
    axes[0].plot([], [], color="#777777", linestyle="--", label="shipped default")
    axes[0].legend(fontsize=8, loc="lower right", bbox_to_anchor=(1, 0.06))
    figure.savefig(picture, dpi=120)


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    text = f"{np.mean(values):.3f}"
    return text if len(values) == 1 else f"{text} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", choices=("clips", "NUAA-SIRST"), help="measure; only show if left out")
    parser.add_argument("--data", type=Path, help="the folder of the clips or of the data set")
    parser.add_argument("--clips", nargs=2, default=[], metavar="NAME")
    parser.add_argument("--work", type=Path, help="folder for the projects")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, read and added to")
    parser.add_argument("--every", type=int, default=3, help="of clips, every nth frame of the rest")
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 20, 40, 80])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--orders", nargs="+", choices=list(ORDERS), default=list(ORDERS))
    parser.add_argument("--picture", type=Path, help="PNG or SVG file")
    options = parser.parse_args()
    if options.set:
        if options.data is None or options.work is None or (options.set == "clips" and not options.clips):
            parser.error("--set takes --data, --work, and for clips --clips")
        measure(options)
    show(_lines(options.out), options.picture)


if __name__ == "__main__":
    main()
