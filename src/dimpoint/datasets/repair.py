"""Write a corrected copy of a data set, and a record of the changes."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from dimpoint.atomic import replacing_folder, write_text
from dimpoint.datasets.check import Frame, Report
from dimpoint.datasets.coco import PointImage, write_points
from dimpoint.datasets.coordinates import is_inside
from dimpoint.datasets.lists import SplitFile
from dimpoint.datasets.masks import as_mask, fit_mask, read_levels
from dimpoint.datasets.splits import Overlap, group_of
from dimpoint.errors import DataError

RECORD = "repair.json"


@dataclass(frozen=True)
class Change:
    """A difference between the copy and the original: file (below the folder), action and reason."""

    file: str
    action: str
    reason: str


@dataclass(frozen=True)
class Repair:
    """The changes that `repair` made, and the problems that need a decision (one line each)."""

    changes: tuple[Change, ...]
    unrepaired: tuple[str, ...]


def repair(report: Report, out: Path | str) -> Repair:
    """Write a corrected copy of a checked data set; see docs/data.md.

    The copy holds `images`, `masks`, `img_idx`, `points.json` and `repair.json`, as far as the original has
    them. It appears complete or not at all.

    Parameters
    ----------
    report : Report
        Result of `check_dataset`.
    out : path
        New or empty folder outside the data set.

    Returns
    -------
    Repair

    Raises
    ------
    DimpointError
        If `out` holds files, lies inside the data set or cannot be written, or no frame is left.
    """
    target = Path(out)
    _refuse(target, report)
    reasons = _why_left_out(report)
    usable = {frame.name: frame for frame in report.frames if frame.name not in reasons}
    if not usable:
        raise DataError(f"{report.layout.root}: no usable frame is left to copy")
    with replacing_folder(target) as folder:
        changes = [
            *_left_out(report, reasons),
            *_copy_frames(report, usable, folder),
            *_write_splits(report, usable, folder),
            *_write_labels(report, usable, folder),
        ]
        result = Repair(tuple(changes), _undecided(report))
        record = {"source": str(report.layout.root), **asdict(result)}
        write_text(folder / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return result


def _refuse(target: Path, report: Report) -> None:
    if target.resolve().is_relative_to(report.layout.root.resolve()):
        raise DataError(f"{target}: lies inside the data set; name a folder outside {report.layout.root}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target}: the clean copy needs a new or empty folder")
    undecided = [doubt.message for doubt in report.doubts if doubt.losing]
    if undecided and report.reading.mask_values is None and not report.reading.accept:
        raise DataError(
            f"{report.layout.root}: decide which pixels are targets before the repair: {undecided[0]}"
        )


def _why_left_out(report: Report) -> dict[str, str]:
    """The frames that the copy omits, and why."""
    # With splits a repeated frame is removed from its split, without splits from the copy.
    repeated = {} if report.layout.splits else {overlap.name: overlap.other for overlap in report.overlaps}
    reasons = {}
    for frame in report.frames:
        unmasked = frame.mask == "none" and report.layout.masks and frame.name not in report.labels
        if frame.digest is None or frame.mask == "unusable" or unmasked:
            errors = [finding.message for finding in frame.findings if finding.severity == "error"]
            reasons[frame.name] = "; ".join(errors)
        elif frame.name in repeated:
            reasons[frame.name] = f"same pixels as {repeated[frame.name]}"
    return reasons


def _left_out(report: Report, reasons: dict[str, str]) -> list[Change]:
    layout = report.layout
    changes = [
        Change(layout.frames[name][0].relative_to(layout.root).as_posix(), "left out", reason)
        for name, reason in reasons.items()
    ]
    changes += [
        Change(paths[0].relative_to(layout.root).as_posix(), "left out", "a mask without frame")
        for name, paths in layout.masks.items()
        if name not in layout.frames
    ]
    return changes


def _copy_frames(report: Report, usable: dict[str, Frame], folder: Path) -> list[Change]:
    changes = []
    for name, frame in usable.items():
        source = report.layout.frame(name)
        _copy(source, folder / "images" / source.relative_to(report.layout.frame_folder))
        if frame.mask == "keep":
            mask = report.layout.masks[name][0]
            _copy(mask, folder / "masks" / mask.relative_to(report.layout.mask_folder))
        elif frame.mask == "rewrite":
            changes.append(_rewrite_mask(report, frame, folder))
    return changes


def _rewrite_mask(report: Report, frame: Frame, folder: Path) -> Change:
    assert frame.size is not None  # unreadable frames have no mask to rewrite
    source = report.layout.masks[frame.name][0]
    mask = fit_mask(as_mask(read_levels(source), report.reading, source), frame.size, source)
    path = folder / "masks" / f"{frame.name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    _, png = cv2.imencode(".png", mask.astype(np.uint8) * 255)
    path.write_bytes(png.tobytes())
    reasons = [finding.message for finding in frame.findings if finding.file == source]
    file = source.relative_to(report.layout.root).as_posix()
    return Change(file, "rewritten as 0 and 255 at the frame's size", "; ".join(reasons))


def _write_splits(report: Report, usable: dict[str, Frame], folder: Path) -> list[Change]:
    changes = []
    overlaps = {(overlap.group, overlap.name): overlap for overlap in report.overlaps}
    written: dict[str, SplitFile] = {}
    for split in report.layout.splits:
        other = written.setdefault(_list_file(split), split)
        if [entry for _, entry in other.entries] != [entry for _, entry in split.entries]:
            raise DataError(
                f"{other.path} and {split.path} would both be {_list_file(split)} in the clean copy, and "
                "differ; rename or remove one of them"
            )
        kept, removed = _clean_split(report, split, usable, overlaps)
        changes += removed
        if kept:
            write_text(folder / _list_file(split), "".join(f"{name}\n" for name in kept))
        else:
            changes.append(Change(_list_file(split), "left out", "no usable frame is left in it"))
    return changes


def _list_file(split: SplitFile) -> str:
    """The path of a split list in the copy."""
    return f"img_idx/{split.name}.txt"


def _clean_split(
    report: Report,
    split: SplitFile,
    usable: dict[str, Frame],
    overlaps: dict[tuple[str, str], Overlap],
) -> tuple[list[str], list[Change]]:
    kept: dict[str, None] = {}
    changes = []
    for line, entry in split.entries:
        name = report.layout.listed(entry)
        overlap = overlaps.get((group_of(split), name)) if name is not None else None
        if name is None:
            reason = "no such frame"
        elif name not in usable:
            reason = "the frame is left out"
        elif overlap is not None:
            reason = f"same pixels as {overlap.other} in {overlap.other_group}"
        elif name in kept:
            reason = "listed twice"
        else:
            kept[name] = None
            continue
        changes.append(Change(_list_file(split), f"line {line} removed: {entry}", reason))
    return list(kept), changes


def _write_labels(report: Report, usable: dict[str, Frame], folder: Path) -> list[Change]:
    if not report.layout.point_files:
        return []
    images = []
    for name, frame in usable.items():
        if name in report.labels and frame.size is not None:
            path = report.layout.frame(name).relative_to(report.layout.frame_folder)
            images.append(_fit_label(report.labels[name], path.as_posix(), frame.size))
    write_points(folder / "points.json", images)
    return [
        Change(report.file_of(finding), "label left out or corrected", finding.message)
        for finding in report.findings
        if finding.kind in ("point-file", "point-outside", "point-size")
    ]


def _fit_label(label: PointImage, file_name: str, size: tuple[int, int]) -> PointImage:
    """The label with its frame's true name and size, and the points that lie on it."""
    height, width = size
    inside = [is_inside(float(x), float(y), width, height) for x, y in label.points]
    points = label.points[np.asarray(inside, np.bool_)]
    return replace(label, file_name=file_name, width=width, height=height, points=points)


def _undecided(report: Report) -> tuple[str, ...]:
    return tuple(
        f"{report.file_of(finding)}: {finding.message}"
        for finding in report.findings
        if finding.kind in ("points-disagree", "instances-touch")
    )


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
