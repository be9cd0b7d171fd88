"""Training masks from points: labels that are refined by the network, and their quality.

RUN/labels.json     one entry for each update: frames in use, area of the labels, and, where the data have
                    masks, IoU with them by size and contrast; these masks are never trained on
RUN/labels.png      some targets, one row each (`dimpoint.training.label_strip`)
RUN/labels/         the final labels, one PNG for each frame
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import lightning
import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.callbacks import Callback

from dimpoint.atomic import replacing_folder, write_text
from dimpoint.errors import ConfigError, DataError
from dimpoint.inference.backends import TorchBackend
from dimpoint.inference.detector import Detector
from dimpoint.inference.overlay import write_picture
from dimpoint.inference.windows import probability_at
from dimpoint.metrics.components import Components
from dimpoint.targets.growth import (
    Region,
    difficulty,
    finds,
    first_regions,
    grow,
    mask_of,
    swallows,
    values_of,
)
from dimpoint.text import counted, printable
from dimpoint.training.frames import LabelledFrame, TrainingViews
from dimpoint.training.label_strip import StripRow, label_picture
from dimpoint.training.module import DetectionModule
from dimpoint.training.run_folder import RunFolder

ALL_FROM = 0.8  # fraction of the epochs after which all frames are used
_SIZES = (0, 9, 25, 81)  # lower limits of the groups by area, pixels
_SHOWN = 12  # targets in labels.png
_NAMED = 20  # frames named in a warning and in the record

Mask = npt.NDArray[np.bool_]


class GrowingLabels(Callback):
    """Callback that gives the frames of `views` masks which grow from their points.

    Its state is saved in checkpoints. Epochs are those of the views' recipe, which may be planned after this
    is made.

    Parameters
    ----------
    views : TrainingViews
        The views; their frames get masks, and their recipe's section `growth` is used.
    folder : RunFolder
        Where labels and their record are written.
    report : callable
        Called with one line for each update.

    Raises
    ------
    DataError
        If no frame has a point.
    """

    def __init__(self, views: TrainingViews, folder: RunFolder, report: Callable[[str], None]) -> None:
        recipe = views.recipe
        self.views, self.rule, self.folder = views, recipe.growth, folder
        self.report = report
        self.tile = 2 * recipe.view.size if recipe.view.kind == "crop" else None
        self.regions = [first_regions(f.counts(), f.points, self.rule) for f in views.frames]
        self.history: list[dict[str, Any]] = []
        self.updated = -1  # the epoch of the last update
        self.strips: list[list[Mask]] = []
        self._truth: dict[int, list[Mask]] | None = None
        hard = [difficulty(regions) for regions in self.regions]
        with_targets = [number for number, frame in enumerate(views.frames) if len(frame.points)]
        if not with_targets:
            sets = ", ".join(sorted({frame.group for frame in views.frames}))
            raise DataError(
                f"{sets}: no point in any of the {len(views.frames)} training frames; masks grow from "
                "points, so give at least one labelled target"
            )
        by_ease = sorted(with_targets, key=lambda number: hard[number])
        left_out = by_ease[max(1, round(self.rule.easy * len(by_ease))) :]
        self.active = set(range(len(views.frames))) - set(left_out)
        self._apply()

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        if trainer.world_size > 1:
            raise ConfigError("labels grow in one process only: train with --devices 1")

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        shutil.rmtree(self.folder.labels, ignore_errors=True)  # of a run that a time limit ended earlier
        if not self.history:
            self._record(0)
            epochs = self.views.recipe.epochs
            if not any(map(self.due, range(epochs))):
                planned = f"{counted(epochs, 'epoch')} between growth.first and growth.last"
                self.report(f"warning: no label grows in {planned}; train longer")

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        epoch = trainer.current_epoch
        if epoch >= ALL_FROM * self.views.recipe.epochs and len(self.active) < len(self.views.frames):
            self.active = set(range(len(self.views.frames)))
            self._apply()
        if epoch == self.updated or not self.due(epoch):
            return
        assert isinstance(pl_module, DetectionModule)
        detector = Detector(TorchBackend(pl_module.network, pl_module.meta))
        pl_module.network.eval()
        for number, frame in enumerate(self.views.frames):
            if len(frame.points):
                self._update(number, frame, self._predicted(detector, number))
        pl_module.network.train()
        self.updated = epoch
        self._apply()
        self._record(epoch)

    def state_dict(self) -> dict[str, Any]:
        values = [region.values.ravel() for regions in self.regions for region in regions]
        return {
            "seeds": self._seeds(),
            "values": torch.from_numpy(np.concatenate([np.empty(0, np.float32), *values])),
            "active": sorted(self.active),
            "updated": self.updated,
            "history": self.history,
            "strips": [[torch.from_numpy(label) for label in strip] for strip in self.strips],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict.get("seeds") != self._seeds():
            raise ConfigError(
                f"{self.folder.path}: its labels were begun by another version of dimpoint; finish the run "
                "with that one (named in run.json), or start a new run"
            )
        values, at = state_dict["values"].numpy(), 0
        for regions in self.regions:
            for number, region in enumerate(regions):
                here = values[at : at + region.values.size].reshape(region.values.shape).copy()
                regions[number], at = region.with_values(here), at + region.values.size
        self.active, self.updated = set(state_dict["active"]), state_dict["updated"]
        self.history = list(state_dict["history"])
        self.strips = [[label.numpy() for label in strip] for strip in state_dict["strips"]]
        self._apply()

    def _seeds(self) -> list[list[int]]:
        return [list(region.seed) for regions in self.regions for region in regions]

    def write(self) -> None:
        """Write the present labels, a PNG of 0 and 255 for each training frame, and warn about wrong ones."""
        shutil.rmtree(self.folder.labels, ignore_errors=True)
        with replacing_folder(self.folder.labels) as labels:
            for number, frame in enumerate(self.views.frames):
                mask = mask_of(self.regions[number], self._shape(number))
                file = labels / frame.group / f"{frame.sample.name}.png"
                write_picture(file, np.where(mask, 255, 0).astype(np.uint8))
        self._warn()

    def due(self, epoch: int) -> bool:
        """Whether labels are updated before this epoch, counted from 0."""
        epochs = self.views.recipe.epochs
        first = max(1, round(self.rule.first * epochs))
        return first <= epoch <= self.rule.last * epochs and (epoch - first) % self.rule.every == 0

    def _shape(self, number: int) -> tuple[int, ...]:
        mask = self.views.frames[number].mask  # a label, since this was made
        assert mask is not None
        return mask.shape

    def _predicted(self, detector: Detector, number: int) -> npt.NDArray[np.float32]:
        """The prediction of a frame; of a large one, squares of four training crops around its points."""
        counts = self.views.frames[number].counts()
        if self.tile is None:
            return detector.probability_map(counts)
        return probability_at(detector, counts, [region.window for region in self.regions[number]], self.tile)

    def _update(self, number: int, frame: LabelledFrame, prediction: npt.NDArray[np.float32]) -> None:
        regions = self.regions[number]
        if number not in self.active and finds(prediction, regions):
            self.active.add(number)
        if number in self.active:
            self.regions[number] = grow(frame.counts(), prediction, regions, self.rule)

    def _apply(self) -> None:
        for number, (frame, regions) in enumerate(zip(self.views.frames, self.regions, strict=True)):
            shape = frame.counts().shape if frame.mask is None else frame.mask.shape
            label = values_of(regions, shape) if self.rule.soft else mask_of(regions, shape)
            self.views.frames[number] = replace(frame, mask=label)
        self.views.draw_from(self.active)

    def _record(self, epoch: int) -> None:
        sizes = [int(region.pixels.sum()) for regions in self.regions for region in regions]
        with_targets = sum(bool(regions) for regions in self.regions)
        used = sum(bool(self.regions[number]) for number in self.active)
        row: dict[str, Any] = {
            "epoch": epoch,
            "frames": used,
            "of": with_targets,
            "area": round(float(np.mean(sizes)), 2) if sizes else 0.0,
        }
        if self._truth is None:
            self._truth = {n: t for n, f in enumerate(self.views.frames) if (t := _true_masks(f))}
        if self._truth:
            row |= quality(self.regions, self._truth)
        row |= self._swallowing()
        self.history.append(row)
        self._draw()
        write_text(self.folder.label_record, json.dumps(self.history, indent=1) + "\n")
        known = f", IoU with their masks {row['iou']:.3f}" if "iou" in row else ""
        frames = f"{used} of {with_targets} frames"
        self.report(f"labels at epoch {epoch}: {frames} in use, {row['area']:.1f} pixels a target{known}")
        if epoch == 0:
            self._warn()

    def _swallowing(self) -> dict[str, Any]:
        """Number of labels that cover bright ground, and the first frames that have one."""
        found = [
            (frame.sample.name, sum(swallows(region, self._shape(number), self.rule) for region in regions))
            for number, (frame, regions) in enumerate(zip(self.views.frames, self.regions, strict=True))
        ]
        return {
            "bright_ground": sum(count for _, count in found),
            "bright_ground_frames": [name for name, count in found if count][:_NAMED],
        }

    def _warn(self) -> None:
        """Report the labels that cover bright ground at present."""
        single = sum(int(region.pixels.sum()) == 1 for regions in self.regions for region in regions)
        if single:
            self.report(
                f"warning: {counted(single, 'label')} of {sum(map(len, self.regions))} of a single pixel: is "
                "the target there, and brighter than what surrounds it?"
            )
        count, names = self._swallowing().values()
        if count:
            more = ", ..." if len(names) == _NAMED else ""
            self.report(
                "warning: labels that cover bright ground around their target: "
                f"{count} of {sum(map(len, self.regions))}, in {', '.join(map(printable, names))}{more}; "
                "leave out frames whose targets cannot be told from the ground"
            )

    def _draw(self) -> None:
        chosen = [
            (number, which) for number, regions in enumerate(self.regions) for which in range(len(regions))
        ]
        chosen = chosen[:: max(1, len(chosen) // _SHOWN)][:_SHOWN]
        if not chosen:
            return
        self.strips.append([self.regions[number][which].pixels for number, which in chosen])
        rows = []
        for place, (number, which) in enumerate(chosen):
            region, true = self.regions[number][which], (self._truth or {}).get(number)
            counts, at = self.views.frames[number].counts(), region.seed
            name = printable(self.views.frames[number].sample.name)
            rows.append(
                StripRow(
                    f"x {at[1]}, y {at[0]} in {name}",
                    (at[0] - region.top, at[1] - region.left),
                    counts[region.window],
                    true[which][region.window] if true else None,
                    [labels[place] for labels in self.strips],
                )
            )
        epochs = [int(row["epoch"]) for row in self.history]
        write_picture(self.folder.label_strip, label_picture(rows, epochs))


def quality(regions: Sequence[Sequence[Region]], truth: dict[int, list[Mask]]) -> dict[str, Any]:
    """Agreement of labels with true masks.

    Parameters
    ----------
    regions : sequence of sequences of Region
        Labels of each frame.
    truth : dict
        By frame number, an (H, W) bool mask for each target, in the order of the points.

    Returns
    -------
    dict
        Mean IoU over targets, number of labels that miss their target, and mean IoU by the target's area and
        by its contrast (height over noise: lower, middle, upper third).
    """
    rows = []
    for number, targets in truth.items():
        for region, target in zip(regions[number], targets, strict=True):
            here = target[region.window]
            both = int((here & region.pixels).sum())
            union = int(target.sum() + region.pixels.sum()) - both
            rows.append((both / max(union, 1), int(target.sum()), region.contrast))
    ious, areas, contrasts = (np.array(column, np.float64) for column in zip(*rows, strict=True))
    thirds = np.digitize(contrasts, np.quantile(contrasts, (1 / 3, 2 / 3)))
    sizes = np.digitize(areas, _SIZES[1:], right=True)
    names = [f"{low + 1} to {high}" for low, high in pairwise(_SIZES)]
    names.append(f"more than {_SIZES[-1]}")
    return {
        "iou": round(float(ious.mean()), 4),
        "targets": len(ious),
        "missed": int((ious == 0).sum()),
        "iou_by_pixels": {
            names[k]: round(float(ious[sizes == k].mean()), 4) for k in sorted(set(sizes.tolist()))
        },
        "iou_by_contrast": {
            ("low", "middle", "high")[k]: round(float(ious[thirds == k].mean()), 4)
            for k in sorted(set(thirds.tolist()))
        },
    }


def _true_masks(frame: LabelledFrame) -> list[Mask]:
    """The true mask of each point: the object of the sample's mask whose centroid is nearest."""
    if frame.sample.mask_path is None or not len(frame.points):
        return []
    mask = frame.sample.read_mask()
    objects = Components.of(mask)
    if not len(objects):
        return []
    labels = np.full(mask.size, -1)
    labels[objects.pixels] = objects.labels
    apart = np.hypot(*np.moveaxis(frame.points[:, None] - objects.centroids, 2, 0))
    return [labels.reshape(mask.shape) == number for number in apart.argmin(axis=1)]
