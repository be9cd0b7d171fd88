"""What is wrong with one frame and its labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dimpoint.data.coco import PointImage, is_inside
from dimpoint.data.hashing import hash_array
from dimpoint.data.layout import Layout
from dimpoint.data.masks import centroids, clean_mask, fit_mask, is_binary, read_mask_image
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

    mask: `keep` it as it is, `rewrite` it, `unusable`, or `none`.
    """

    name: str
    size: tuple[int, int] | None
    digest: str | None
    mask: MaskState
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class _Mask:
    """A mask as found. fitted: (H, W) bool at the frame's size, if the mask can be used."""

    fitted: npt.NDArray[np.bool_] | None
    state: MaskState
    findings: list[Finding] = field(default_factory=list)


def examine(layout: Layout, name: str, label: PointImage | None) -> Frame:
    """Read a frame and its mask and compare them with each other and with the frame's points."""
    from dimpoint.sources import read_image

    try:
        path = layout.frame(name)
    except DimpointError as error:
        return _unusable(name, "same-name", layout.frames[name][0], error)
    try:
        pixels = read_image(path)
    except DimpointError as error:
        return _unusable(name, "unreadable-frame", path, error)
    size = (pixels.shape[0], pixels.shape[1])
    mask = _examine_mask(layout, name, size)
    findings = list(mask.findings)
    if label is not None:
        findings += _examine_points(path, size, label)
    if label is not None and mask.fitted is not None:
        findings += _compare(path, label.points, centroids(mask.fitted))
    if mask.state == "none" and label is None and layout.masks:
        findings.append(_error("frame-without-mask", path, "no mask and no points"))
    return Frame(name, size, hash_array(pixels), mask.state, tuple(findings))


def _unusable(name: str, kind: str, path: Path, error: DimpointError) -> Frame:
    return Frame(name, None, None, "none", (_error(kind, path, _without(path, error)),))


def _error(kind: str, path: Path, message: str) -> Finding:
    return Finding(kind, "error", path, message)


def _examine_mask(layout: Layout, name: str, size: tuple[int, int]) -> _Mask:
    if name not in layout.masks:
        return _Mask(None, "none")
    path = layout.masks[name][0]
    if len(layout.masks[name]) > 1:
        other = layout.masks[name][1].name
        return _Mask(None, "unusable", [_error("same-name", path, f"{other} is a mask of the same frame")])
    try:
        values = read_mask_image(path)
    except DimpointError as error:
        return _Mask(None, "unusable", [_error("unreadable-mask", path, _without(path, error))])
    binary = is_binary(values)
    findings = [] if binary else [_error("non-binary-mask", path, _describe_values(values))]
    try:
        mask = clean_mask(values, path)
    except DimpointError:  # the values found above
        return _Mask(None, "unusable", findings)
    try:
        fitted = fit_mask(mask, size, path)
    except DimpointError as error:
        return _Mask(None, "unusable", [*findings, _error("mask-size", path, _without(path, error))])
    if mask.shape != size:
        findings.append(_error("mask-size", path, _describe_resize(mask, fitted)))
    if not mask.any():
        findings.append(Finding("empty-mask", "info", path, "no target in this frame"))
    return _Mask(fitted, "keep" if binary and mask.shape == size else "rewrite", findings)


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
