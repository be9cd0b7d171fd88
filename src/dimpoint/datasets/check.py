"""Everything that is wrong with a data set, file by file.

What is wrong with one frame and its labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dimpoint.datasets.coco import PointFile, PointImage, is_inside, parse_points
from dimpoint.datasets.dataset import THREADS, hash_array
from dimpoint.datasets.layout import Layout, find_layout
from dimpoint.datasets.lists import SplitFile
from dimpoint.datasets.masks import (
    Levels,
    as_mask,
    centroids,
    fit_mask,
    instance_centroids,
    is_binary,
    read_levels,
)
from dimpoint.datasets.plausibility import (
    Doubt,
    MaskLook,
    look_at_mask,
    mask_doubts,
    other_labels,
    point_doubts,
)
from dimpoint.datasets.reading import AS_WRITTEN, Reading, frame_options
from dimpoint.errors import DimpointError

POINT_TOLERANCE = 3.0  # pixels; a point farther than this from every mask centroid disagrees with the mask
MaskState = Literal["keep", "rewrite", "unusable", "none"]


@dataclass(frozen=True)
class Finding:
    """Something found in a data set. `error` is wrong; `info` is worth knowing (a target-free frame)."""

    kind: str
    severity: Literal["error", "info"]
    file: Path
    message: str


@dataclass(frozen=True)
class Frame:
    """A frame as found. size: (height, width) and digest: hash of the pixels, or None if unreadable.

    mask: `keep` it as it is, `rewrite` it, `unusable`, or `none`. look: what its mask looks like.
    """

    name: str
    size: tuple[int, int] | None
    digest: str | None
    mask: MaskState
    findings: tuple[Finding, ...]
    look: MaskLook | None = None


@dataclass(frozen=True)
class _Mask:
    """A mask as found. fitted: (H, W) bool at the frame's size, if the mask can be used."""

    fitted: npt.NDArray[np.bool_] | None
    state: MaskState
    findings: list[Finding] = field(default_factory=list)
    look: MaskLook | None = None


def examine(layout: Layout, name: str, label: PointImage | None, reading: Reading = AS_WRITTEN) -> Frame:
    """Read a frame and its mask and compare them with each other and with the frame's points."""
    from dimpoint.sources.readers import read_picture

    try:
        path = layout.frame(name)
    except DimpointError as error:
        return _unusable(name, "same-name", layout.frames[name][0], error)
    try:
        picture = read_picture(path, frame_options(reading))
    except DimpointError as error:
        return _unusable(name, "unreadable-frame", path, error)
    pixels = picture.pixels
    size = (pixels.shape[0], pixels.shape[1])
    mask = _examine_mask(layout, name, size, reading)
    findings = [*(Finding("frame-read", "info", path, note) for note in picture.notes), *mask.findings]
    if label is not None:
        findings += _examine_points(path, size, label)
    if label is not None and mask.fitted is not None:
        findings += _compare(path, label.points, centroids(mask.fitted))
    if mask.state == "none" and label is None and layout.masks:
        findings.append(_error("frame-without-mask", path, "no mask and no points"))
    return Frame(name, size, hash_array(pixels), mask.state, tuple(findings), mask.look)


def _unusable(name: str, kind: str, path: Path, error: DimpointError) -> Frame:
    return Frame(name, None, None, "none", (_error(kind, path, _without(path, error)),))


def _error(kind: str, path: Path, message: str) -> Finding:
    return Finding(kind, "error", path, message)


def _examine_mask(layout: Layout, name: str, size: tuple[int, int], reading: Reading) -> _Mask:
    if name not in layout.masks:
        return _Mask(None, "none")
    path = layout.masks[name][0]
    if len(layout.masks[name]) > 1:
        other = layout.masks[name][1].name
        return _Mask(None, "unusable", [_error("same-name", path, f"{other} is a mask of the same frame")])
    try:
        levels = read_levels(path)
    except DimpointError as error:
        return _Mask(None, "unusable", [_error("unreadable-mask", path, _without(path, error))])
    look = look_at_mask(path, levels, reading)
    binary = is_binary(levels.values) and not levels.coloured and levels.alpha is None
    findings = [] if is_binary(levels.values) else [_value_finding(path, levels.values, reading)]
    if reading.mask_values == "instances" and len(instance_centroids(levels)) > len(
        centroids(levels.values > 0)
    ):
        findings.append(_error("instances-touch", path, "objects touch, and are one in a mask of 0 and 255"))
    try:
        mask = as_mask(levels, reading, path)
    except DimpointError:  # the values found above
        return _Mask(None, "unusable", findings, look)
    try:
        fitted = fit_mask(mask, size, path)
    except DimpointError as error:
        findings.append(_error("mask-size", path, _without(path, error)))
        return _Mask(None, "unusable", findings, look)
    if mask.shape != size:
        findings.append(_error("mask-size", path, _describe_resize(mask, fitted)))
    if not mask.any():
        findings.append(Finding("empty-mask", "info", path, "no target in this frame"))
    keep = binary and mask.shape == size and not reading.invert and reading.listed() is None
    return _Mask(fitted, "keep" if keep else "rewrite", findings, look)


def _touch(levels: Levels) -> bool:
    return len(instance_centroids(levels)) > len(centroids(levels.values > 0))


def _value_finding(path: Path, values: npt.NDArray[Any], reading: Reading) -> Finding:
    """Values besides 0 and 255 are wrong, unless the reading says what they mean."""
    chosen = reading.mask_values is not None
    return Finding("non-binary-mask", "info" if chosen else "error", path, _describe_values(values))


def _describe_values(values: npt.NDArray[Any]) -> str:
    levels = np.unique(values)
    others = levels[(levels != 0) & (levels != 255)]
    shown = ", ".join(f"{value:g}" for value in others[:5]) + (", …" if len(others) > 5 else "")
    marked, kept = len(centroids(values > 0)), len(centroids(values))
    lost = f"; {marked - kept} of {marked} marked spots are below the threshold" if kept < marked else ""
    return f"holds {len(others)} values other than 0 and 255: {shown}{lost}"


def _describe_resize(mask: npt.NDArray[np.bool_], fitted: npt.NDArray[np.bool_]) -> str:
    before, after = len(centroids(mask)), len(centroids(fitted))
    sizes = f"{mask.shape[1]}x{mask.shape[0]} for a frame of {fitted.shape[1]}x{fitted.shape[0]}"
    kept = f"resized it keeps {after} of {before} targets" if after != before else "resized on reading"
    return f"{sizes}; {kept}"


def _examine_points(path: Path, size: tuple[int, int], label: PointImage) -> list[Finding]:
    height, width = size
    if (label.height, label.width) == size:
        return []
    text = f"the point file says {label.width}x{label.height}, the frame is {width}x{height}"
    outside = [f"({x:g}, {y:g})" for x, y in label.points if not is_inside(x, y, width, height)]
    findings = [_error("point-size", path, text)]
    if outside:
        findings.append(_error("point-outside", path, f"outside the frame: {', '.join(outside)}"))
    return findings


def _compare(path: Path, points: npt.NDArray[np.float32], centres: npt.NDArray[np.float32]) -> list[Finding]:
    messages = []
    if len(points) != len(centres):
        messages.append(f"{len(points)} points, {len(centres)} targets in the mask")
    for x, y in points:
        distance = min((float(np.hypot(cx - x, cy - y)) for cx, cy in centres), default=np.inf)
        if distance > POINT_TOLERANCE:
            where = f"{distance:.1f} px from the nearest target" if len(centres) else "but the mask is empty"
            messages.append(f"point ({x:g}, {y:g}) {where}")
    return [_error("points-disagree", path, message) for message in messages]


def _without(path: Path, error: DimpointError) -> str:
    """The error's text without the path in front, which the finding names already."""
    return str(error).removeprefix(f"{path}: ")


@dataclass(frozen=True)
class Overlap:
    """Frame `name` of split group `group` has the pixels of frame `other` of `other_group`."""

    name: str
    group: str
    other: str
    other_group: str


@dataclass(frozen=True)
class Report:
    """What `check_dataset` found. labels: the usable points of each frame that a point file names.

    doubts: what is unlikely about the labels as they were read.
    """

    layout: Layout
    frames: tuple[Frame, ...]
    labels: dict[str, PointImage]
    overlaps: tuple[Overlap, ...]
    findings: tuple[Finding, ...]
    doubts: tuple[Doubt, ...] = ()
    reading: Reading = AS_WRITTEN

    @property
    def errors(self) -> int:
        return sum(finding.severity == "error" for finding in self.findings)

    def file_of(self, finding: Finding) -> str:
        """The finding's file as a path below the data set's folder."""
        return finding.file.relative_to(self.layout.root).as_posix()

    def to_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        return {
            "root": str(self.layout.root),
            "frames": len(self.frames),
            "masks": len(self.layout.masks),
            "splits": {split.name: len(split.entries) for split in self.layout.splits},
            "errors": self.errors,
            "findings": [
                {
                    "kind": finding.kind,
                    "severity": finding.severity,
                    "file": self.file_of(finding),
                    "message": finding.message,
                }
                for finding in self.findings
            ],
        }


def check_dataset(
    root: Path | str,
    progress: Callable[[int, int], None] | None = None,
    reading: Reading = AS_WRITTEN,
) -> Report:
    """Read every file of a data set and report what is wrong; `docs/data.md` lists the kinds of finding.

    reading: what masks and points mean where that is not plain. progress is called with (frames done,
    frames in all). Raises DataError if `root` is no folder with frames.
    """
    layout = find_layout(Path(root))
    size_of = partial(layout.size_of, reading=reading)
    files = [parse_points(path, reading, size_of=size_of) for path in layout.point_files]
    labels, findings = _read_labels(layout, files)
    frames: list[Frame] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for frame in pool.map(lambda name: examine(layout, name, labels.get(name), reading), layout.frames):
            frames.append(frame)
            findings += frame.findings
            if progress is not None:
                progress(len(frames), len(layout.frames))
    overlaps = find_overlaps(split_groups(layout), {frame.name: frame.digest for frame in frames})
    findings += [_describe(layout, overlap) for overlap in overlaps]
    findings += [*_masks_without_frame(layout), *_wrong_split_lines(layout), *_without_labels(layout, labels)]
    doubts = [doubt for file in files for doubt in point_doubts(file, reading)]
    looks = [frame.look for frame in frames if frame.look is not None and frame.name not in labels]
    doubts += mask_doubts(looks, reading)
    if not layout.point_files:
        doubts += other_labels(layout.root, unlabelled=not layout.masks)
    findings += [_doubted(layout, doubt, reading) for doubt in doubts if doubt.severe or not doubt.by_file]
    findings += [Finding("layout", "info", layout.root, note) for note in layout.notes]
    if passed := layout.passed_over():
        findings.append(Finding("passed-over", "info", layout.root, passed))
    findings.sort(key=lambda finding: (finding.severity, finding.kind))  # stable: by file within a kind
    return Report(layout, tuple(frames), labels, tuple(overlaps), tuple(findings), tuple(doubts), reading)


def _doubted(layout: Layout, doubt: Doubt, reading: Reading) -> Finding:
    severe = doubt.severe and not doubt.by_file and not reading.accept
    return Finding(doubt.kind, "error" if severe else "info", layout.root, doubt.message)


def split_groups(layout: Layout) -> dict[str, list[str]]:
    """The frames of `train`, `test`, …: of all split lists for that purpose.

    Without split files, all frames are one group. `test` comes first and `train` last, so that a frame
    in both counts as the test set's.
    """
    if not layout.splits:
        return {"frames": list(layout.frames)}
    groups: dict[str, dict[str, None]] = {}
    for split in layout.splits:
        found = (layout.listed(entry) for _, entry in split.entries)
        groups.setdefault(group_of(split), {}).update((name, None) for name in found if name is not None)
    order = sorted(groups, key=lambda group: (group == "train", group != "test", group))
    return {group: list(groups[group]) for group in order}


def group_of(split: SplitFile) -> str:
    """`train`, `val` or `test` by what the list is for, else its name up to a `_`."""
    return split.purpose or split.stem.split("_")[0]


def find_overlaps(groups: dict[str, list[str]], digests: dict[str, str | None]) -> list[Overlap]:
    """Every frame that repeats the pixels of one before it, in its own group or an earlier one."""
    first: dict[str, tuple[str, str]] = {}
    overlaps = []
    for group, names in groups.items():
        for name in names:
            digest = digests[name]
            if digest is None:
                continue
            if digest in first:
                overlaps.append(Overlap(name, group, *first[digest]))
            else:
                first[digest] = (name, group)
    return overlaps


def _read_labels(layout: Layout, files: Iterable[PointFile]) -> tuple[dict[str, PointImage], list[Finding]]:
    labels: dict[str, PointImage] = {}
    findings = []
    for file in files:
        path = file.path
        findings += [Finding(problem.kind, "error", path, problem.message) for problem in file.problems]
        for image in file.images:
            name = layout.name_of(image.file_name)
            if name is None or name in labels:
                what = "labelled twice" if name else "not in the frame folder"
                findings.append(Finding("point-file", "error", path, f"image '{image.file_name}' is {what}"))
            else:
                labels[name] = image
    return labels, findings


def _describe(layout: Layout, overlap: Overlap) -> Finding:
    file = layout.frames[overlap.name][0]
    if overlap.group == overlap.other_group:
        text = f"same pixels as {overlap.other}, both in {overlap.group}"
        return Finding("duplicate-frame", "error", file, text)
    if overlap.name == overlap.other:
        text = f"listed in both {overlap.group} and {overlap.other_group}"
    else:
        text = f"in {overlap.group}, same pixels as {overlap.other} in {overlap.other_group}"
    return Finding("in-both-splits", "error", file, text)


def _masks_without_frame(layout: Layout) -> Iterable[Finding]:
    for name, paths in layout.masks.items():
        if name not in layout.frames:
            yield Finding("mask-without-frame", "error", paths[0], "no frame of this name")


def _wrong_split_lines(layout: Layout) -> Iterable[Finding]:
    for split in layout.splits:
        seen: set[str] = set()
        for line, entry in split.entries:
            name = layout.listed(entry)
            if name is None:
                yield Finding("split-without-frame", "error", split.path, f"line {line}: no frame '{entry}'")
            elif name in seen:
                yield Finding("split-repeats", "error", split.path, f"line {line}: '{entry}' is listed twice")
            else:
                seen.add(name)


def _without_labels(layout: Layout, labels: dict[str, PointImage]) -> Iterable[Finding]:
    """With masks, a frame without label is found on its own; here the sets that have no masks at all."""
    without = len(layout.frames) - len(labels)
    if not layout.masks and without:
        yield Finding(
            "unlabelled",
            "info",
            layout.frame_folder,
            f"{without} of {len(layout.frames)} frames have no label",
        )
