"""Check every file of a data set: frames, masks, points and split lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dimpoint.datasets.coco import PointFile, PointImage, parse_points
from dimpoint.datasets.coordinates import is_inside
from dimpoint.datasets.dataset import THREADS, Sample, hash_array
from dimpoint.datasets.layout import Layout, find_layout
from dimpoint.datasets.masks import (
    as_mask,
    centroids,
    fit_mask,
    instance_centroids,
    is_binary,
    read_levels,
)
from dimpoint.datasets.plausibility import (
    Doubt,
    MaskSummary,
    mask_doubts,
    other_labels,
    place_doubts,
    point_doubts,
    summarise_mask,
)
from dimpoint.datasets.reading import AS_WRITTEN, Reading, frame_options
from dimpoint.datasets.splits import Overlap, find_overlaps, split_groups
from dimpoint.errors import DimpointError

POINT_TOLERANCE = 3.0  # pixels; larger distances from every mask centroid are reported
MaskState = Literal["keep", "rewrite", "unusable", "none"]


@dataclass(frozen=True)
class Finding:
    """A finding about one file: an `error`, or an `info` such as a target-free frame."""

    kind: str
    severity: Literal["error", "info"]
    file: Path
    message: str


@dataclass(frozen=True)
class Frame:
    """A checked frame.

    Parameters
    ----------
    name : str
        Path below the frame folder without suffix.
    size : tuple of int, or None
        Height and width; None if the frame is unreadable.
    digest : str or None
        SHA-256 of the pixels; None if the frame is unreadable.
    mask : {"keep", "rewrite", "unusable", "none"}
        What a clean copy does with the mask.
    findings : tuple of Finding
        What is wrong or notable.
    mask_summary : MaskSummary, optional
        Statistics of the mask.
    """

    name: str
    size: tuple[int, int] | None
    digest: str | None
    mask: MaskState
    findings: tuple[Finding, ...]
    mask_summary: MaskSummary | None = None


@dataclass(frozen=True)
class _Mask:
    """A checked mask; fitted: (H, W) bool at the frame's size, if the mask can be used."""

    fitted: npt.NDArray[np.bool_] | None
    state: MaskState
    findings: list[Finding] = field(default_factory=list)
    mask_summary: MaskSummary | None = None


def examine(layout: Layout, name: str, label: PointImage | None, reading: Reading = AS_WRITTEN) -> Frame:
    """Read a frame and its mask, and compare them with each other and with the frame's points."""
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
    return Frame(name, size, hash_array(pixels), mask.state, tuple(findings), mask.mask_summary)


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
    summary = summarise_mask(path, levels, reading)
    binary = is_binary(levels.values) and not levels.coloured and levels.alpha is None
    findings = [] if is_binary(levels.values) else [_value_finding(path, levels.values, reading)]
    if reading.mask_values == "instances" and len(instance_centroids(levels)) > len(
        centroids(levels.values > 0)
    ):
        findings.append(
            _error("instances-touch", path, "objects touch and would be merged in a mask of 0 and 255")
        )
    try:
        mask = as_mask(levels, reading, path)
    except DimpointError:  # reported by _value_finding
        return _Mask(None, "unusable", findings, summary)
    try:
        fitted = fit_mask(mask, size, path)
    except DimpointError as error:
        findings.append(_error("mask-size", path, _without(path, error)))
        return _Mask(None, "unusable", findings, summary)
    if mask.shape != size:
        findings.append(_error("mask-size", path, _describe_resize(mask, fitted)))
    if not mask.any():
        findings.append(Finding("empty-mask", "info", path, "no target in this frame"))
    keep = binary and mask.shape == size and not reading.invert and reading.listed() is None
    return _Mask(fitted, "keep" if keep else "rewrite", findings, summary)


def _value_finding(path: Path, values: npt.NDArray[Any], reading: Reading) -> Finding:
    """Values other than 0 and 255 are an error, unless `reading` defines their meaning."""
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
    text = f"the point file gives {label.width}x{label.height}, the frame is {width}x{height}"
    outside = [f"({x:g}, {y:g})" for x, y in label.points if not is_inside(x, y, width, height)]
    findings = [_error("point-size", path, text)]
    if outside:
        findings.append(_error("point-outside", path, f"outside the frame: {', '.join(outside)}"))
    return findings


def _compare(path: Path, points: npt.NDArray[np.float32], centres: npt.NDArray[np.float32]) -> list[Finding]:
    messages = []
    if len(points) != len(centres):
        messages.append(f"points: {len(points)}, targets in the mask: {len(centres)}")
    for x, y in points:
        distance = min((float(np.hypot(cx - x, cy - y)) for cx, cy in centres), default=np.inf)
        if distance > POINT_TOLERANCE:
            where = f"{distance:.1f} px from the nearest target" if len(centres) else "but the mask is empty"
            messages.append(f"point ({x:g}, {y:g}) {where}")
    return [_error("points-disagree", path, message) for message in messages]


def _without(path: Path, error: DimpointError) -> str:  # the leading path
    return str(error).removeprefix(f"{path}: ")


@dataclass(frozen=True)
class Report:
    """The result of `check_dataset`.

    Parameters
    ----------
    layout : Layout
        The files of the data set.
    frames : tuple of Frame
        The checked frames.
    labels : dict of str to PointImage
        The usable points of each frame that a point file names.
    overlaps : tuple of Overlap
        Frames with equal pixels.
    findings : tuple of Finding
        Everything found, sorted by kind.
    doubts : tuple of Doubt
        Labels that probably mean something else.
    reading : Reading
        How masks and points were read.
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
        """The finding's file, relative to the data set's folder."""
        return finding.file.relative_to(self.layout.root).as_posix()

    def to_dict(self) -> dict[str, Any]:
        """The report as a JSON-compatible dict."""
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
    """Read every file of a data set and report what is wrong.

    `docs/data.md` lists the kinds of findings.

    Parameters
    ----------
    root : path
        Folder of the data set.
    progress : callable, optional
        Called with the number of frames done and the number of all frames.
    reading : Reading, optional
        How masks and points are read. Default: as they are written.

    Returns
    -------
    Report

    Raises
    ------
    DataError
        If `root` is not a folder with frames.

    Examples
    --------
    >>> from dimpoint.datasets.check import check_dataset
    >>> report = check_dataset("examples/scenes")
    >>> len(report.frames), report.errors
    (8, 0)
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
    summaries = [
        frame.mask_summary for frame in frames if frame.mask_summary is not None and frame.name not in labels
    ]
    doubts += mask_doubts(summaries, reading)
    doubts += place_doubts(_samples(layout, frames, labels, reading), reading)
    if not layout.point_files:
        doubts += other_labels(layout.root, unlabelled=not layout.masks)
    findings += [_doubted(layout, doubt, reading) for doubt in doubts if doubt.severe or not doubt.by_file]
    findings += [Finding("layout", "info", layout.root, note) for note in layout.notes]
    if passed := layout.passed_over():
        findings.append(Finding("passed-over", "info", layout.root, passed))
    findings.sort(key=lambda finding: (finding.severity, finding.kind))  # stable: by file within a kind
    return Report(layout, tuple(frames), labels, tuple(overlaps), tuple(findings), tuple(doubts), reading)


def _samples(
    layout: Layout, frames: Iterable[Frame], labels: dict[str, PointImage], reading: Reading
) -> list[Sample]:
    """The frames that can be used with their labels."""
    names = [frame.name for frame in frames if frame.size is not None and frame.mask != "unusable"]
    points = {name: label.points for name, label in labels.items()}
    return [Sample(n, layout.frame(n), layout.mask(n), points.get(n), reading=reading) for n in names]


def _doubted(layout: Layout, doubt: Doubt, reading: Reading) -> Finding:
    severe = doubt.severe and not doubt.by_file and not reading.accept
    return Finding(doubt.kind, "error" if severe else "info", layout.root, doubt.message)


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
    """Frames without labels in data sets that have no masks at all."""
    without = len(layout.frames) - len(labels)
    if not layout.masks and without:
        text = f"{without} of {len(layout.frames)} frames have no label"
        yield Finding("unlabelled", "info", layout.frame_folder, text)
