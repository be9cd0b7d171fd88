"""A second look at a model's candidates: a small network that sees the surroundings of each.

    python benchmarks/second_look.py collect --data DATA --sets SETS --out candidates.npz
    python benchmarks/second_look.py train --candidates candidates.npz --out look.pt
    python benchmarks/second_look.py panel --data DATA --look look.pt --save scores.json

`collect` runs the model over the frames that train (`benchmarks/parts.py`; SETS from `prepare.py`) and keeps
up to 12 candidates of each, scores above 0.05: 64x64 pixels around it, and 256x256 reduced to 64x64. `train`
fits a network of two towers and 141,409 parameters to whether a candidate is a target; its output is added to
the logit of the model's score. `panel` runs the panel with the new scores; `panel.py --load` reports them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dimpoint.datasets.dataset import Sample, open_dataset, training_split
from dimpoint.datasets.splits import hold_out_scenes, thumbnail
from dimpoint.inference.detections import Detections
from dimpoint.inference.detector import Detector
from dimpoint.metrics.points import match_points
from panel import LOWEST, SLACK, judge, sources
from parts import LABELLED

SIDE, WIDE, MOST = 64, 256, 12

Array = npt.NDArray[Any]


def crops(frame: Array, xy: Array) -> npt.NDArray[np.float16]:
    """(N, 2, 64, 64): each place at its own scale and its surroundings, standardised by their quartiles."""
    counts = frame.astype(np.float32)
    padded = np.pad(counts, WIDE // 2, mode="reflect" if min(counts.shape) > WIDE // 2 else "edge")
    out = np.empty((len(xy), 2, SIDE, SIDE), np.float16)
    for number, (x, y) in enumerate(np.rint(xy).astype(int)):
        wide = padded[y : y + WIDE, x : x + WIDE]
        start = (WIDE - SIDE) // 2
        near = wide[start : start + SIDE, start : start + SIDE]
        far = cv2.resize(wide, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        for channel, tile in enumerate((near, far)):
            low, middle, high = np.percentile(tile, (25, 50, 75))
            out[number, channel] = (
                np.clip((tile - middle) / max(high - low, counts.std() / 10, 1e-3), -10, 20) / 5
            )
    return out


class Tower(nn.Sequential):
    def __init__(self) -> None:
        widths, layers = (1, 16, 32, 64, 64), []
        for number, (before, after) in enumerate(pairwise(widths)):
            stride = 2 if number < 3 else 1
            layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        super().__init__(*layers)


class SecondLook(nn.Module):
    """The correction of a score's logit, from (N, 2, 64, 64) crops."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = Tower(), Tower()
        self.last = nn.Sequential(nn.Linear(4 * 64 + 64, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 1))
        nn.init.zeros_(self.last[-1].weight)
        nn.init.zeros_(self.last[-1].bias)

    def forward(self, tiles: Tensor, logits: Tensor) -> Tensor:
        near, far = self.near(tiles[:, :1]), self.far(tiles[:, 1:])
        pooled = [
            f(part) for part in (near, far) for f in (lambda m: m.mean((2, 3)), lambda m: m.amax((2, 3)))
        ]
        middle = near[:, :, 3:5, 3:5].mean((2, 3))
        return logits + self.last(torch.cat([*pooled, middle], 1))[:, 0]


def logit(scores: Array) -> Array:
    safe = np.clip(scores, 1e-3, 1 - 1e-3)
    return np.log(safe / (1 - safe))


def training_samples(data: Path, sets: Path) -> Iterator[tuple[str, Sample]]:
    for name in LABELLED:
        part = open_dataset(data / name, training_split(data / name))
        kept, _ = hold_out_scenes(part.samples, [thumbnail(s.read_frame()) for s in part], 0.15, 0)
        yield from ((name, sample) for sample in kept)
    for folder in sorted(sets.iterdir()):
        yield from ((folder.name, sample) for sample in open_dataset(folder, "train"))


def collect(options: argparse.Namespace) -> None:
    detector = Detector(options.model, threshold=LOWEST, calibrated=False, threads=1)
    rows: dict[str, list[Array]] = {"tiles": [], "scores": [], "right": [], "group": []}
    for name, sample in training_samples(options.data, options.sets):
        frame, points = sample.read_frame(), sample.read_points()
        found = detector(frame)
        hit = np.zeros(len(found), bool)
        hit[match_points(found.xy.astype(np.float64), found.scores, points).pairs[:, 0]] = True
        boxes, here = sample.ignore, found.xy[:, None]
        inside = ((here >= boxes[:, :2] - SLACK) & (here <= boxes[:, 2:] + SLACK)).all(2).any(1)
        kept = np.flatnonzero(hit | ~inside)[:MOST]
        rows["tiles"].append(crops(frame, found.xy[kept]))
        rows["scores"].append(found.scores[kept])
        rows["right"].append(hit[kept])
        rows["group"].append(np.full(len(kept), name))
    together = {key: np.concatenate(parts) for key, parts in rows.items()}
    np.savez(options.out, **together)
    for name in dict.fromkeys(together["group"].tolist()):
        of = together["group"] == name
        right = int(together["right"][of].sum())
        print(json.dumps({"set": name, "candidates": int(of.sum()), "right": right}), flush=True)


def train(options: argparse.Namespace) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    file = np.load(options.candidates)
    tiles, right = torch.from_numpy(file["tiles"]), torch.from_numpy(file["right"].astype(np.float32))
    logits = torch.from_numpy(logit(file["scores"]).astype(np.float32))
    network = SecondLook().train()
    print(json.dumps({"parameters": sum(p.numel() for p in network.parameters())}))
    steps = options.epochs * (len(tiles) // 128)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for epoch in range(options.epochs):
        losses = []
        for batch in torch.randperm(len(tiles))[: len(tiles) // 128 * 128].view(-1, 128):
            views = tiles[batch].float()
            views = torch.rot90(views, int(torch.randint(4, ())), (2, 3))
            views = views.flip(3) if torch.rand(()) < 0.5 else views
            views = views * (0.7 + 0.6 * torch.rand(len(views), 1, 1, 1))
            loss = nn.functional.binary_cross_entropy_with_logits(network(views, logits[batch]), right[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(json.dumps({"epoch": epoch + 1, "loss": round(float(np.mean(losses)), 4)}), flush=True)
    torch.save(network.eval().state_dict(), options.out)


class Looking:
    """A detector whose scores get a second look."""

    def __init__(self, detector: Detector, weights: Path) -> None:
        self.detector, self.network = detector, SecondLook()
        self.network.load_state_dict(torch.load(weights))
        self.network.eval()

    @torch.inference_mode()
    def __call__(self, frame: Array) -> Detections:
        found = self.detector(frame)
        if not len(found):
            return found
        values = torch.from_numpy(logit(found.scores).astype(np.float32))
        tiles = torch.from_numpy(crops(frame, found.xy)).float()
        scores = self.network(tiles, values).sigmoid().numpy()
        order = np.argsort(-scores, kind="stable")
        return Detections(found.xy[order], scores[order], width=found.width, height=found.height)


def panel(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    detector = Detector(options.model, threshold=LOWEST, calibrated=False, threads=1)
    looking = Looking(detector, options.look)
    columns = ("part", "unit", "truths", "megapixels", "hits", "errors", "false")
    rows = []
    for items in sources(options.data).values():
        for item in items():
            outcome = judge(looking, item)  # type: ignore[arg-type]
            rows.append([np.asarray(getattr(outcome, c)).tolist() for c in columns])
    options.save.write_text(json.dumps({"columns": columns, "frames": rows}), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("collect", "train", "panel"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--sets", type=Path)
    parser.add_argument("--model", default="spire-lite")
    parser.add_argument("--candidates", type=Path)
    parser.add_argument("--look", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    {"collect": collect, "train": train, "panel": panel}[options.step](options)


if __name__ == "__main__":
    main()
