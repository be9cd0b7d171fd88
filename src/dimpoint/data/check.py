"""Everything that is wrong with a data set, file by file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dimpoint.data.coco import PointImage, parse_points
from dimpoint.data.examine import Finding, Frame, examine
from dimpoint.data.hashing import THREADS
from dimpoint.data.layout import Layout, find_layout


@dataclass(frozen=True)
class Overlap:
    """Frame `name` of split group `group` has the pixels of frame `other` of `other_group`."""

    name: str
    group: str
    other: str
    other_group: str


@dataclass(frozen=True)
class Report:
    """What `check_dataset` found. labels: the usable points of each frame that a point file names."""

    layout: Layout
    frames: tuple[Frame, ...]
    labels: dict[str, PointImage]
    overlaps: tuple[Overlap, ...]
    findings: tuple[Finding, ...]

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
            "splits": {split.stem: len(split.entries) for split in self.layout.splits},
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


def check_dataset(root: Path | str, progress: Callable[[int, int], None] | None = None) -> Report:
    """Read every file of a data set and report what is wrong; `docs/data.md` lists the kinds of finding.

    progress is called with (frames done, frames in all). Raises DataError if `root` is no folder with
    frames.
    """
    layout = find_layout(Path(root))
    labels, findings = _read_labels(layout)
    frames: list[Frame] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for frame in pool.map(lambda name: examine(layout, name, labels.get(name)), layout.frames):
            frames.append(frame)
            findings += frame.findings
            if progress is not None:
                progress(len(frames), len(layout.frames))
    overlaps = find_overlaps(split_groups(layout), {frame.name: frame.digest for frame in frames})
    findings += [_describe(layout, overlap) for overlap in overlaps]
    findings += [*_masks_without_frame(layout), *_wrong_split_lines(layout), *_without_labels(layout, labels)]
    findings.sort(key=lambda finding: (finding.severity, finding.kind))  # stable: by file within a kind
    return Report(layout, tuple(frames), labels, tuple(overlaps), tuple(findings))


def split_groups(layout: Layout) -> dict[str, list[str]]:
    """The frames of `train`, `test`, …: of all split files whose stem begins so, up to a `_`.

    Without split files, all frames are one group. `test` comes first and `train` last, so that a frame
    in both counts as the test set's.
    """
    if not layout.splits:
        return {"frames": list(layout.frames)}
    groups: dict[str, dict[str, None]] = {}
    for split in layout.splits:
        found = (layout.name_of(entry) for _, entry in split.entries)
        groups.setdefault(group_of(split.stem), {}).update((name, None) for name in found if name is not None)
    order = sorted(groups, key=lambda group: (group == "train", group != "test", group))
    return {group: list(groups[group]) for group in order}


def group_of(stem: str) -> str:
    return stem.split("_")[0]


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


def _read_labels(layout: Layout) -> tuple[dict[str, PointImage], list[Finding]]:
    labels: dict[str, PointImage] = {}
    findings = []
    for path in layout.point_files:
        images, problems = parse_points(path)
        findings += [Finding(problem.kind, "error", path, problem.message) for problem in problems]
        for image in images:
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
            name = layout.name_of(entry)
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
