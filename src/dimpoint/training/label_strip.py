"""The picture of labels that grow from points: one row for each target, one column for each update."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

_SIDE, _MAGNIFIED = 24, 3  # side of the square around a target in pixels, and its magnification
_COLUMNS = 16  # most labels of a row
_FONT, _SIZE, _LINE, _LETTER = cv2.FONT_HERSHEY_SIMPLEX, 0.4, 16, 7  # height and width of text in pixels
_INK = 220

Mask = npt.NDArray[np.bool_]
Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class StripRow:
    """One target.

    Parameters
    ----------
    name : str
        Its frame and place, written above the row.
    at : tuple of int
        Row and column of its point in the window.
    counts : (h, w) array
        Counts of the window.
    truth : (h, w) bool array, optional
        Its true mask. Default: unknown.
    labels : sequence of (h, w) bool arrays
        The label at the start and after each update.
    """

    name: str
    at: tuple[int, int]
    counts: npt.NDArray[Any]
    truth: Mask | None
    labels: Sequence[Mask]


def label_picture(rows: Sequence[StripRow], epochs: Sequence[int]) -> Grey:
    """The picture, with a heading over each column, a name over each row and a note about the scale below.

    Parameters
    ----------
    rows : sequence of StripRow
        The targets; at least one.
    epochs : sequence of int
        Completed epochs at each label; 0 is the start. Of more than 16 labels, the first, the last and some
        between them are shown.

    Returns
    -------
    (H, W) uint8 array
    """
    shown = np.unique(np.linspace(0, len(epochs) - 1, min(len(epochs), _COLUMNS)).round().astype(int))
    known = any(row.truth is not None for row in rows)
    headings = ["frame", *(["true mask"] if known else [])]
    headings += [f"epoch {epochs[k]}" if epochs[k] else "start" for k in shown]
    lines = [np.hstack([_heading(text) for text in headings])]
    for row in rows:
        tiles = [_tile(row.counts, row.at, float(row.counts.min()), float(row.counts.max()))]
        if known:
            tiles.append(_tile(np.zeros(row.counts.shape) if row.truth is None else row.truth, row.at, 0, 1))
        lines.append(_text(row.name, lines[0].shape[1]))
        lines.append(np.hstack([*tiles, *(_tile(row.labels[k], row.at, 0, 1) for k in shown)]))
    note = (
        f"{_SIDE} x {_SIDE} pixels around each target, magnified {_MAGNIFIED} times. Frames: black is the "
        "darkest pixel near the target, white the brightest. Labels: at the start and after the epochs named."
    )
    width = lines[0].shape[1]
    lines += [_text(line, width) for line in textwrap.wrap(note, max(width // _LETTER, 12))]
    return np.vstack(lines)


def _heading(text: str) -> Grey:
    return _text(text, _SIDE * _MAGNIFIED + 2)


def _text(text: str, width: int) -> Grey:
    """A line of text, `width` pixels wide."""
    line = np.zeros((_LINE, width), np.uint8)
    cv2.putText(line, text, (2, _LINE - 5), _FONT, _SIZE, (_INK,), 1, cv2.LINE_AA)
    return line


def _tile(window: npt.NDArray[Any], at: tuple[int, int], low: float, high: float) -> Grey:
    """A magnified square around `at` (row, column) of a window, grey from `low` to `high`, with a border."""
    grey = np.clip((window.astype(np.float32) - low) / max(high - low, 1e-6), 0, 1) * 255
    half = _SIDE // 2
    padded = np.pad(grey.astype(np.uint8), half)
    square = padded[at[0] : at[0] + _SIDE, at[1] : at[1] + _SIDE]
    large = cv2.resize(square, None, fx=_MAGNIFIED, fy=_MAGNIFIED, interpolation=cv2.INTER_NEAREST)
    return np.pad(large, 1, constant_values=96)
